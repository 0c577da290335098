//! Asking something of a Place in the name of the Place that this agent hosts.

use std::time::Duration;

use actix::prelude::*;
use kairos_protocol::wire::place::Members;
use reqwest::Method;
use serde_json::Value;

use super::Member;
use super::error::MembershipError;
use super::session::Ask;
use crate::meeting::client::PeerUrl;

/// Longest time for a whole answer: somebody waits for it, who waits for somebody in turn.
pub const CARRY_MAX: Duration = Duration::from_secs(20);
/// Questions carried at once, over all Places.
pub(super) const CARRIES: usize = 32;

/// Posts `body` below `/place/v1/` of a Place that is joined, within our session there.
#[derive(Debug, Message)]
#[rtype(result = "Result<Members, MembershipError>")]
pub struct Carry {
    /// Which Place.
    pub url: PeerUrl,
    /// Where, such as `federation`, `browse`.
    pub path: Vec<&'static str>,
    /// What.
    pub body: Value,
}

impl Member {
    pub(super) async fn carry(&self, carry: Carry) -> Result<Members, MembershipError> {
        let Carry { url, path, body } = carry;
        let ask = Ask::send(Method::POST, &path, &body);
        let answer = tokio::time::timeout(CARRY_MAX, self.ask(&url, &ask)).await;
        answer.map_err(|_| MembershipError::TooSlow { after: CARRY_MAX })?
    }
}
