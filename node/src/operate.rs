//! What the operator of a Meeting Place may see and do: the same orders at the running server and, where none runs, on
//! the Place as it is stored.
//!
//! Whoever gives an order was found to be allowed to: this module does not ask.

use std::time::Duration;

use kairos_actors::federation::FederationError;
use kairos_actors::peer_manager::PeerManagerHandle;
use kairos_actors::place::PlaceError;
use kairos_actors::relay::RelayError;
use kairos_place::meeting_place::audit::{AUDIT_PAGE_MAX, Logged};
use kairos_place::meeting_place::ban::KeyPrint;
use kairos_place::meeting_place::{Agent, AgentCursor, Ban, BanError, MeetingPlace, Target};
use kairos_place::relay::audit::{AuditEntry, AuditFilter};
use kairos_place::session::Session;
use kairos_protocol::id::AgentId;
use kairos_protocol::time::Timestamp;
use serde_json::{Value, json};
use thiserror::Error;

use crate::federation;
use crate::hosted::Hosted;

pub mod door;
pub mod switch;

/// Most agents or bans of one page.
pub const PAGE_MAX: usize = 1_000;
/// Entries of a page if nothing is said.
pub const PAGE: usize = 100;

/// What is ordered.
#[derive(Debug, Clone)]
pub enum Order {
    /// What the Place is.
    Status,
    /// Who is here.
    Agents {
        /// Behind this one.
        after: Option<AgentCursor>,
        /// At most so many.
        limit: usize,
    },
    /// Makes an agent leave.
    Kick {
        /// Which.
        agent: AgentId,
        /// Why.
        reason: Option<String>,
    },
    /// Keeps somebody out.
    Ban {
        /// Whom.
        target: Target,
        /// Why.
        reason: Option<String>,
        /// For how long; until it is taken back if absent.
        time: Option<Duration>,
    },
    /// Takes a ban back.
    Unban {
        /// Whose.
        target: Target,
    },
    /// Who is kept out.
    Bans {
        /// Behind this one.
        after: Option<Target>,
        /// At most so many.
        limit: usize,
    },
    /// What happened, the newest first.
    Audit {
        /// As `next` of the page before.
        before: Option<Cursor>,
        /// At most so many.
        limit: usize,
        /// Only this kind.
        kind: Option<String>,
        /// Not older than this.
        since: Option<Timestamp>,
    },
    /// Figures.
    Stats,
    /// What concerns other Places.
    Federation(federation::Order),
}

/// Where a page of the audit ends: in the audit of the Place, and in that of its relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    place: u64,
    relay: u64,
}

/// Why an order was not carried out.
#[derive(Debug, Error)]
pub enum OrderError {
    /// The Place says so.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// The relay does.
    #[error(transparent)]
    Relay(#[from] RelayError),
    /// What concerns other Places does.
    #[error(transparent)]
    Federation(#[from] FederationError),
}

impl From<BanError> for OrderError {
    fn from(error: BanError) -> Self {
        Self::Place(error.into())
    }
}

/// Carries out `order` for `by`. `sessions` are those that may have to end; there are none where no server runs.
pub async fn carry_out(
    order: Order,
    hosted: &Hosted,
    sessions: Option<&PeerManagerHandle>,
    by: &str,
    now: Timestamp,
) -> Result<Value, OrderError> {
    let close = |unwanted: &dyn Fn(&Session) -> bool| {
        let closed = sessions.map_or(0, |sessions| sessions.close_where(unwanted));
        hosted
            .expelled
            .send_modify(|count| *count = count.wrapping_add(1));
        closed
    };
    Ok(match order {
        Order::Status => hosted.place.look(|place| status(hosted, place)),
        Order::Agents { after, limit } => {
            let limit = limit.clamp(1, PAGE_MAX);
            hosted.place.look(|place| {
                let page = place.agents(true, after.as_ref(), limit);
                let agents = page.agents.into_iter().map(|agent| shown(place, agent));
                let agents: Vec<Value> = agents.collect();
                json!({"agents": agents, "next": page.next.map(|next| next.to_string())})
            })
        }
        Order::Kick { agent, reason } => {
            let done = hosted
                .place
                .kick(agent.clone(), by.to_owned(), reason)
                .await;
            let closed = close(&|session| session.agent_id == agent);
            match done {
                // It left and still had a token.
                Err(PlaceError::Ban(BanError::NotPresent(_))) if closed > 0 => {}
                done => done?,
            }
            json!({"agent": agent, "sessions_ended": closed})
        }
        Order::Ban {
            target,
            reason,
            time,
        } => {
            let ban = Ban {
                target: target.clone(),
                reason,
                by: by.to_owned(),
                since: now,
                until: time.map(|time| now.plus(time)),
            };
            let banned = hosted.place.ban(ban).await?;
            let closed = close(&|session| {
                banned.left.contains(&session.agent_id)
                    || match &target {
                        Target::Agent(id) => session.agent_id == *id,
                        Target::Key(print) => KeyPrint::of(&session.key) == *print,
                        Target::Network(network) => network.contains(session.address),
                    }
            });
            let mail = hosted.relay.waiting_of(banned.barred).await?;
            if mail.count > 0 {
                let (messages, bytes) = (mail.count, mail.bytes);
                hosted.place.note_withheld(target, messages, bytes).await?;
            }
            json!({
                "ban": banned.ban, "left": banned.left, "sessions_ended": closed,
                "mail_withheld": mail.count,
            })
        }
        Order::Unban { target } => {
            json!({"unbanned": hosted.place.unban(target, by.to_owned()).await?})
        }
        Order::Bans { after, limit } => {
            let limit = limit.clamp(1, PAGE_MAX);
            let page = hosted.place.look(|place| place.bans(after.as_ref(), limit));
            json!({"bans": page.bans, "next": page.next})
        }
        Order::Audit {
            before,
            limit,
            kind,
            since,
        } => audit(hosted, before, limit, kind.as_deref(), since).await?,
        Order::Federation(order) => federation::carry_out(order, hosted, by).await?,
        Order::Stats => {
            let stats = hosted.relay.stats().await?;
            let relayed = hosted.relay.relayed().await?;
            let health = hosted.relay.health().await.map_err(RelayError::from)?;
            let census = hosted.place.look(MeetingPlace::census);
            json!({
                "place": census,
                "relay": {
                    "messages_waiting": stats.waiting.count, "bytes_waiting": stats.waiting.bytes,
                    "boxes": stats.boxes, "oldest": stats.oldest_at.map(|at| at.wire()),
                    "largest_bytes": stats.largest, "messages_relayed": relayed.count,
                    "bytes_relayed": relayed.bytes, "listeners": health.subscribers,
                },
            })
        }
    })
}

fn status(hosted: &Hosted, place: &MeetingPlace) -> Value {
    let census = place.census();
    json!({
        "place_id": place.id(), "name": &*hosted.name, "started_at": place.started().wire(),
        "agents": census.agents, "max_agents": place.policy().agents_max, "bans": census.bans,
    })
}

fn shown(place: &MeetingPlace, agent: &Agent) -> Value {
    json!({
        "id": agent.id, "name": agent.name, "is_self": agent.is_self,
        "key": agent.key.as_ref().map(|key| key.hash().fingerprint()),
        "strength": agent.strength.map(|strength| strength.as_str()),
        "address": place.origin(&agent.id), "deposits": place.deposits_of(&agent.id).count(),
        "registered_at": agent.registered_at.wire(), "last_seen": agent.last_seen.wire(),
    })
}

/// Both audits as one, the newest first.
async fn audit(
    hosted: &Hosted,
    before: Option<Cursor>,
    limit: usize,
    kind: Option<&str>,
    since: Option<Timestamp>,
) -> Result<Value, OrderError> {
    let limit = limit.clamp(1, AUDIT_PAGE_MAX);
    let before = before.unwrap_or(Cursor {
        place: u64::MAX,
        relay: u64::MAX,
    });
    let wanted = AuditFilter {
        since,
        participant: None,
    };
    let relayed = match kind.is_none_or(|kind| kind == "relay") && before.relay > 0 {
        true => {
            let page = hosted
                .relay
                .audit(Some(before.relay), wanted.clone(), limit);
            Some(page.await?)
        }
        false => None,
    };
    let (logged, read_to) = match kind {
        Some("relay") => (Vec::new(), 0),
        kind => logged(hosted, before.place, limit, kind, since).await?,
    };
    let relay_entries = relayed.as_ref().map_or(&[][..], |page| &page.entries);
    let mut merged: Vec<Entry<'_>> = relay_entries.iter().map(Entry::Relay).collect();
    merged.extend(logged.iter().map(Entry::Place));
    // Stable, and both parts are the newest first already.
    merged.sort_by_key(|entry| std::cmp::Reverse(entry.at()));
    merged.truncate(limit);
    let of_relay = merged
        .iter()
        .filter(|e| matches!(e, Entry::Relay(_)))
        .count();
    let of_place = merged.len() - of_relay;
    let relay = match relayed.as_ref() {
        None => 0,
        Some(page) if of_relay == page.entries.len() => page.next.unwrap_or(0),
        Some(_) if of_relay == 0 => before.relay,
        // The number of the last one that is shown.
        Some(_) => {
            let shown = hosted.relay.audit(Some(before.relay), wanted, of_relay);
            shown.await?.next.unwrap_or(0)
        }
    };
    let place = match logged.get(of_place.wrapping_sub(1)) {
        _ if of_place == logged.len() => read_to,
        Some(last) => last.number,
        None => before.place,
    };
    let next = (relay > 0 || place > 0).then(|| Cursor { place, relay }.to_string());
    let entries: Vec<Value> = merged.iter().map(Entry::shown).collect();
    Ok(json!({"entries": entries, "next": next}))
}

/// Up to `limit` entries of the Place's own audit, and the number up to which it was read: 0 if there is no more.
async fn logged(
    hosted: &Hosted,
    mut before: u64,
    limit: usize,
    kind: Option<&str>,
    since: Option<Timestamp>,
) -> Result<(Vec<Logged>, u64), OrderError> {
    let mut found = Vec::new();
    while before > 0 {
        let page = hosted.place.audit(before, AUDIT_PAGE_MAX).await?;
        let all = page.len() < AUDIT_PAGE_MAX;
        for entry in page {
            before = entry.number;
            if since.is_some_and(|since| entry.at < since) {
                return Ok((found, 0));
            }
            if kind.is_none_or(|kind| kind == entry.event.kind()) {
                found.push(entry);
            }
            if found.len() == limit {
                return Ok((found, before));
            }
        }
        if all {
            break;
        }
    }
    Ok((found, 0))
}

enum Entry<'a> {
    Relay(&'a AuditEntry),
    Place(&'a Logged),
}

impl Entry<'_> {
    fn at(&self) -> Timestamp {
        match self {
            Self::Relay(entry) => entry.at,
            Self::Place(logged) => logged.at,
        }
    }

    fn shown(&self) -> Value {
        match self {
            Self::Relay(entry) => relay_entry(entry),
            Self::Place(logged) => {
                let mut shown = json!({"timestamp": logged.at.wire()});
                let event = serde_json::to_value(&logged.event).unwrap_or_default();
                if let (Value::Object(members), Value::Object(event)) = (&mut shown, event) {
                    members.extend(event);
                }
                shown
            }
        }
    }
}

/// An entry of the relay's audit, in the reference's form.
pub fn relay_entry(entry: &AuditEntry) -> Value {
    let [from, to] = &entry.participants;
    json!({
        "timestamp": entry.at.wire(), "event_type": "relay", "action": entry.action.as_str(),
        "relay_id": entry.relay_id.as_str(), "participants": [from.as_str(), to.as_str()],
        "message_type": entry.message_type.as_str(), "size_bytes": entry.size,
        "content_hash": entry.hash.to_string(),
    })
}

impl std::fmt::Display for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.place, self.relay)
    }
}

impl std::str::FromStr for Cursor {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WRONG: &str = "before is what `next` of a page says";
        let (place, relay) = text.split_once('-').ok_or(WRONG)?;
        Ok(Self {
            place: place.parse().map_err(|_| WRONG)?,
            relay: relay.parse().map_err(|_| WRONG)?,
        })
    }
}
