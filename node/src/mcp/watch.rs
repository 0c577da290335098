//! What changed among the resources that a client wants to hear of: looked at now and then, never reported by whoever
//! changes it, so that what an editor or another process does is seen too.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rmcp::model::ResourceUpdatedNotificationParam;
use rmcp::service::{Peer, SubscriptionContext};
use rmcp::{ErrorData, RoleServer};

use super::call::Caller;
use super::failure;
use super::server::Door;

/// How often it is looked.
const PAUSE: Duration = Duration::from_secs(2);
/// Most resources that one client hears of.
pub(super) const URIS_MAX: usize = 100;

/// What tells one state of a resource, or of the list of them, from another.
pub type Stamp = u64;

/// The state of the list of resources, and of each that was asked for; nothing for one that is not there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stamps {
    /// The list.
    pub list: Stamp,
    /// Each resource.
    pub of: BTreeMap<String, Option<Stamp>>,
}

/// What one client of the handshake era hears of.
#[derive(Default)]
pub(super) struct Watched {
    uris: BTreeMap<String, Option<Stamp>>,
    list: Option<Stamp>,
    runs: bool,
}

/// Has a client hear of one more resource.
pub(super) async fn subscribe<D: Door>(
    door: &Arc<D>,
    caller: &Caller,
    watched: &Arc<Mutex<Watched>>,
    peer: &Peer<RoleServer>,
    uri: &str,
) -> Result<(), ErrorData> {
    let stamps = door.stamps(caller, &[uri.to_owned()]).await?;
    let stamp = stamps
        .of
        .get(uri)
        .copied()
        .flatten()
        .ok_or_else(|| failure::no_resource(uri))?;
    {
        let mut watched = watched.lock();
        if watched.uris.len() >= URIS_MAX && !watched.uris.contains_key(uri) {
            let told = format!(
                "at most {URIS_MAX} resources can be subscribed to; unsubscribe from some first"
            );
            return Err(ErrorData::invalid_params(told, None));
        }
        watched.uris.insert(uri.to_owned(), Some(stamp));
    }
    begin(door, caller, watched, peer);
    Ok(())
}

/// Has a client no longer hear of a resource.
pub(super) fn unsubscribe(watched: &Mutex<Watched>, uri: &str) {
    watched.lock().uris.remove(uri);
}

/// Has a client that looked at the list hear when it is another.
pub(super) fn list_was_told<D: Door>(
    door: &Arc<D>,
    caller: &Caller,
    watched: &Arc<Mutex<Watched>>,
    peer: &Peer<RoleServer>,
    stamp: Stamp,
) {
    watched.lock().list = Some(stamp);
    begin(door, caller, watched, peer);
}

fn begin<D: Door>(
    door: &Arc<D>,
    caller: &Caller,
    watched: &Arc<Mutex<Watched>>,
    peer: &Peer<RoleServer>,
) {
    if std::mem::replace(&mut watched.lock().runs, true) {
        return;
    }
    let (door, caller, peer) = (Arc::clone(door), caller.clone(), peer.clone());
    let watched = Arc::clone(watched);
    tokio::spawn(async move {
        while !peer.is_transport_closed() {
            tokio::time::sleep(PAUSE).await;
            if let Err(error) = tell(&*door, &caller, &watched, &peer).await {
                tracing::debug!(%error, "a client cannot be told of changes any more");
                return;
            }
        }
    });
}

/// Looks once, and tells what changed.
async fn tell<D: Door>(
    door: &D,
    caller: &Caller,
    watched: &Mutex<Watched>,
    peer: &Peer<RoleServer>,
) -> Result<(), rmcp::ServiceError> {
    let uris: Vec<_> = watched.lock().uris.keys().cloned().collect();
    let Ok(now) = door.stamps(caller, &uris).await else {
        return Ok(());
    };
    let (list_changed, updated) = watched.lock().take(&now);
    for uri in updated {
        peer.notify_resource_updated(ResourceUpdatedNotificationParam::new(uri))
            .await?;
    }
    if list_changed {
        peer.notify_resource_list_changed().await?;
    }
    Ok(())
}

impl Watched {
    /// Takes over what is now, and returns what changed.
    fn take(&mut self, now: &Stamps) -> (bool, Vec<String>) {
        let mut updated = Vec::new();
        for (uri, before) in &mut self.uris {
            if let Some(stamp) = now.of.get(uri)
                && *stamp != *before
            {
                *before = *stamp;
                updated.push(uri.clone());
            }
        }
        let list_changed = self.list.is_some_and(|before| before != now.list);
        self.list = self.list.map(|_| now.list);
        (list_changed, updated)
    }
}

/// Tells one client of the stateless era of changes, until it has heard enough.
pub(super) async fn listen<D: Door>(
    door: &D,
    caller: &Caller,
    context: &SubscriptionContext,
) -> Result<(), ErrorData> {
    let accepted = context.accepted();
    let uris = accepted.resource_subscriptions.clone().unwrap_or_default();
    let begun = door.stamps(caller, &uris).await?;
    let mut watched = Watched {
        uris: begun.of,
        list: accepted
            .resources_list_changed
            .unwrap_or(false)
            .then_some(begun.list),
        runs: true,
    };
    loop {
        tokio::select! {
            () = context.cancelled() => return Ok(()),
            () = tokio::time::sleep(PAUSE) => {}
        }
        let (list_changed, updated) = watched.take(&door.stamps(caller, &uris).await?);
        let sink = context.sink();
        let mut told = Ok(());
        for uri in updated {
            told = told.and(sink.notify_resource_updated(uri).await);
        }
        if list_changed {
            told = told.and(sink.notify_resource_list_changed().await);
        }
        if told.is_err() {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamps(list: Stamp, of: &[(&str, Option<Stamp>)]) -> Stamps {
        Stamps {
            list,
            of: of
                .iter()
                .map(|(uri, stamp)| ((*uri).to_owned(), *stamp))
                .collect(),
        }
    }

    #[test]
    fn each_change_is_told_once() {
        let mut watched = Watched {
            uris: stamps(0, &[("a", Some(1)), ("b", Some(1))]).of,
            list: Some(1),
            runs: false,
        };
        let same = stamps(1, &[("a", Some(1)), ("b", Some(1))]);
        assert_eq!(watched.take(&same), (false, Vec::new()));
        let other = stamps(2, &[("a", Some(2)), ("b", None)]);
        assert_eq!(
            watched.take(&other),
            (true, vec!["a".to_owned(), "b".to_owned()])
        );
        assert_eq!(watched.take(&other), (false, Vec::new()));
        watched.list = None;
        assert_eq!(
            watched.take(&same),
            (false, vec!["a".to_owned(), "b".to_owned()])
        );
    }
}
