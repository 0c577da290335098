//! How a running node is, on one page, for its owner.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join4;
use kairos_actors::membership::record::Membership;
use kairos_place::meeting_place::MeetingPlace;
use kairos_protocol::time::Timestamp;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::agent::Agent;
use crate::condition::Condition;
use crate::hosted::Hosted;
use crate::hosting::Hosting;
use crate::room::Room;
use crate::serving::ServerAt;
use crate::telemetry::Logs;
use crate::watchdog::Readiness;

/// How long a part may take to say how it is; what it would have said is then `null`.
const PATIENCE: Duration = Duration::from_secs(3);

/// Knows whom to ask. Cheap to clone.
#[derive(Clone)]
pub struct Status(Arc<Inner>);

struct Inner {
    agent: Arc<Agent>,
    hosting: Hosting,
    readiness: Readiness,
    room: Room,
    logs: Logs,
    address: ServerAt,
    started: Timestamp,
}

impl Status {
    /// The status of a node that starts now, made of these, and listens at `address`.
    pub fn new(
        agent: Arc<Agent>,
        hosting: Hosting,
        readiness: Readiness,
        room: Room,
        logs: Logs,
        address: ServerAt,
    ) -> Self {
        let started = agent.clock.now();
        Self(Arc::new(Inner {
            agent,
            hosting,
            readiness,
            room,
            logs,
            address,
            started,
        }))
    }

    /// The page, as it is now. Takes at most a few seconds, also where parts do not answer.
    pub async fn look(&self) -> Value {
        let Inner {
            agent,
            hosting,
            readiness,
            room,
            logs,
            address,
            started,
        } = &*self.0;
        let handles = &agent.handles;
        let now = agent.clock.now();
        let (tip, approvals, quarantine, places) = join4(
            timeout(PATIENCE, handles.chain.tip()),
            timeout(PATIENCE, handles.approvals.count()),
            timeout(PATIENCE, handles.quarantine.count()),
            timeout(PATIENCE, handles.membership.list()),
        )
        .await;
        let tip = tip.ok().and_then(Result::ok);
        let ledger = tip.map(|tip| {
            json!({
                "blocks": tip.map_or(0, |tip| tip.index.saturating_add(1)),
                "tip": tip.map(|tip| tip.hash.to_hex()),
            })
        });
        let places = places.ok().and_then(Result::ok);
        let places = places.map(|places| places.iter().map(joined).collect::<Vec<_>>());
        let place = match hosting.current() {
            Some(hosted) => Some(self.place(&hosted, now).await),
            None => None,
        };
        let (peers, sessions) = handles.peers.census();
        let space = room.space();
        let error = logs.last_error();
        let Condition { not_ready, .. } = Condition::of(hosting, readiness, room);
        json!({
            "pid": std::process::id(), "version": env!("CARGO_PKG_VERSION"), "agent": agent.signed.instance_id,
            "name": agent.settings.identity.name, "address": address.to_string(),
            "started_at": started.wire(), "uptime_secs": now.since(*started).as_secs(),
            "ready": not_ready.is_empty(), "not_ready": not_ready, "ledger": ledger,
            "peers": {
                "seen": peers.seen, "met": peers.met, "trusted": peers.trusted, "conflicts": peers.conflicts,
            },
            "sessions": sessions, "approvals": approvals.ok().and_then(Result::ok),
            "quarantine": quarantine.ok().and_then(Result::ok), "joined_places": places, "place": place,
            "disk": {"free": space.free, "size": space.size, "full": room.is_full()},
            "last_error": error.map(|(at, message)| json!({"at": at.wire(), "message": message})),
        })
    }

    async fn place(&self, hosted: &Hosted, now: Timestamp) -> Value {
        let census = hosted.place.look(MeetingPlace::census);
        let stats = timeout(PATIENCE, hosted.relay.stats()).await;
        let relay = stats.ok().and_then(Result::ok).map(|stats| {
            json!({
                "messages": stats.waiting.count, "bytes": stats.waiting.bytes,
                "oldest_secs": stats.oldest_at.map(|at| now.since(at).as_secs()),
            })
        });
        json!({
            "name": &*hosted.name, "agents": census.agents, "deposits": census.deposits,
            "skillsets": census.skill_sets, "bans": census.bans, "relay": relay,
        })
    }
}

fn joined(place: &Membership) -> Value {
    let trouble = place
        .contact
        .as_ref()
        .and_then(|contact| contact.trouble.as_ref());
    json!({"name": place.name, "url": place.url.to_string(), "trouble": trouble})
}
