//! Whether somebody who is served for long may stay: their session may end, and the operator may keep them out.

use std::net::IpAddr;

use actix_web::{HttpRequest, web};
use kairos_actors::place::PlaceHandle;
use kairos_place::meeting_place::Visitor;
use tokio::sync::watch;

use crate::hosted::Hosted;
use crate::http::{Doors, guard};

/// See the module.
pub(super) struct Stay {
    doors: web::Data<Doors>,
    place: PlaceHandle,
    expelled: watch::Receiver<u64>,
    token: String,
    address: IpAddr,
}

impl Stay {
    /// Of whoever makes `request`.
    pub(super) fn new(doors: &web::Data<Doors>, hosted: &Hosted, request: &HttpRequest) -> Self {
        Self {
            doors: doors.clone(),
            place: hosted.place.clone(),
            expelled: hosted.expelled.subscribe(),
            token: guard::bearer(request).unwrap_or_default().to_owned(),
            address: doors.proxies.address(request),
        }
    }

    /// Ends once they may not stay any more. Dropping the future loses nothing.
    pub(super) async fn over(&mut self) {
        // Somebody may have been made to leave before this one began to look.
        while self.may_stay() {
            if self.expelled.changed().await.is_err() {
                return;
            }
        }
    }

    /// Whether they may at this moment.
    pub(super) fn may_stay(&self) -> bool {
        let Some(caller) = self.doors.peers.peek(&self.token) else {
            return false;
        };
        let now = self.doors.clock.now();
        let visitor = Visitor {
            agent: Some(&caller.agent_id),
            key: Some(caller.key),
            address: Some(self.address),
        };
        self.place
            .look(|place| place.banned(visitor, now).is_none())
    }
}
