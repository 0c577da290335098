//! What changed among the resources and tools that a client wants to hear of: looked at now and then, never reported by whoever
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
const PAUSE: Duration = Duration::from_secs(1);
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
    tools: Option<Stamp>,
    runs: bool,
}

/// A list that a client looked at, in that state.
#[derive(Debug, Clone, Copy)]
pub(super) enum List {
    Resources(Stamp),
    Tools(Stamp),
}

/// What a client is to be told.
#[derive(Debug, Default, PartialEq, Eq)]
struct News {
    /// The list of resources is another.
    list: bool,
    /// The list of tools is another.
    tools: bool,
    /// These resources are others.
    updated: Vec<String>,
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
    list: List,
) {
    match list {
        List::Resources(stamp) => watched.lock().list = Some(stamp),
        List::Tools(stamp) => watched.lock().tools = Some(stamp),
    }
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
    let (uris, list, tools) = watched.lock().wanted();
    let tools = match tools {
        true => Some(door.stamp_of_tools().await),
        false => None,
    };
    // To look at all resources takes longer, and most clients hear of tools alone.
    let now = match list || !uris.is_empty() {
        true => door.stamps(caller, &uris).await.ok(),
        false => None,
    };
    let news = watched.lock().take(now.as_ref(), tools);
    for uri in news.updated {
        peer.notify_resource_updated(ResourceUpdatedNotificationParam::new(uri))
            .await?;
    }
    if news.list {
        peer.notify_resource_list_changed().await?;
    }
    if news.tools {
        peer.notify_tool_list_changed().await?;
    }
    Ok(())
}

impl Watched {
    /// What has to be looked at: these resources, the list of resources, the list of tools.
    fn wanted(&self) -> (Vec<String>, bool, bool) {
        let uris = self.uris.keys().cloned().collect();
        (uris, self.list.is_some(), self.tools.is_some())
    }

    /// Takes over what is now, and returns what changed.
    fn take(&mut self, now: Option<&Stamps>, tools: Option<Stamp>) -> News {
        let mut updated = Vec::new();
        for (uri, before) in &mut self.uris {
            if let Some(stamp) = now.and_then(|now| now.of.get(uri))
                && *stamp != *before
            {
                *before = *stamp;
                updated.push(uri.clone());
            }
        }
        let differs = |before: &mut Option<Stamp>, now: Option<Stamp>| match (before, now) {
            (Some(before), Some(now)) => std::mem::replace(before, now) != now,
            _ => false,
        };
        News {
            list: differs(&mut self.list, now.map(|now| now.list)),
            tools: differs(&mut self.tools, tools),
            updated,
        }
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
    let tools = match accepted.tools_list_changed.unwrap_or(false) {
        true => Some(door.stamp_of_tools().await),
        false => None,
    };
    let mut watched = Watched {
        uris: begun.of,
        list: accepted
            .resources_list_changed
            .unwrap_or(false)
            .then_some(begun.list),
        tools,
        runs: true,
    };
    loop {
        tokio::select! {
            () = context.cancelled() => return Ok(()),
            () = tokio::time::sleep(PAUSE) => {}
        }
        let now = door.stamps(caller, &uris).await?;
        let tools = match watched.tools {
            Some(_) => Some(door.stamp_of_tools().await),
            None => None,
        };
        let news = watched.take(Some(&now), tools);
        let sink = context.sink();
        let mut told = Ok(());
        for uri in news.updated {
            told = told.and(sink.notify_resource_updated(uri).await);
        }
        if news.list {
            told = told.and(sink.notify_resource_list_changed().await);
        }
        if news.tools {
            told = told.and(sink.notify_tool_list_changed().await);
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
            tools: Some(1),
            runs: false,
        };
        let news = |changed, updated: &[&str]| News {
            list: changed,
            tools: changed,
            updated: updated.iter().map(|uri| (*uri).to_owned()).collect(),
        };
        let same = stamps(1, &[("a", Some(1)), ("b", Some(1))]);
        assert_eq!(watched.take(Some(&same), Some(1)), news(false, &[]));
        let other = stamps(2, &[("a", Some(2)), ("b", None)]);
        assert_eq!(watched.take(Some(&other), Some(2)), news(true, &["a", "b"]));
        assert_eq!(watched.take(Some(&other), Some(2)), news(false, &[]));
        (watched.list, watched.tools) = (None, None);
        assert_eq!(watched.take(Some(&same), Some(1)), news(false, &["a", "b"]));
    }
}
