//! The recorder actor: makes anchors of what happens at the hosted Place.
//!
//! Owns: a queue in memory. Asks: the anchors. Told by: the HTTP door and the heartbeat actor, through
//! [`RecorderHandle`], which never waits.
//! Invariants: whoever records is never kept waiting and never fails for it; the queue has a bound, and what finds no
//! room in it, or none among the anchors, is counted and told in the log. What waits is lost with the process: an anchor
//! is evidence for others, and nothing here rests on it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use actix::{
    Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, Message, ResponseFuture,
    WrapFuture,
};
use kairos_protocol::anchor::meeting::{self, Exchanged, Relayed};
use kairos_protocol::anchor::observation::{ObservationMembers, fadeout_hash};
use kairos_protocol::anchor::{Anchor, AnchorError as Malformed};
use kairos_protocol::hash::ContentHash;
use kairos_protocol::id::AgentId;
use kairos_protocol::time::{Clock, Timestamp};
use parking_lot::Mutex;
use serde_json::{Map, json};

use crate::anchor::{AnchorError, AnchorHandle, Kept};
use crate::bounded_addr::{AskError, Asks, BoundedAddr, Health, Shutdown};

#[cfg(test)]
mod tests;

/// How often the queue is looked at.
const TICK: Duration = Duration::from_secs(1);
/// Anchors of one write.
const BATCH: usize = 500;
/// How often a batch is tried that cannot be kept.
const TRIES: u32 = 5;

/// What is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordPolicy {
    /// Agents that came with a key.
    pub registrations: bool,
    /// Skills and SkillSets that changed hands, and what was attested of them.
    pub exchanges: bool,
    /// Agents that faded.
    pub fadeouts: bool,
    /// Sealed messages.
    pub relays: bool,
    /// Records that may wait.
    pub queue: usize,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// An agent came, or came back.
    Registered {
        /// Who.
        agent: AgentId,
        /// By which key.
        key: ContentHash,
    },
    /// An agent gave no sign of life.
    Faded {
        /// Who.
        agent: AgentId,
        /// Its last one.
        last_seen: Timestamp,
        /// How long was waited.
        ttl: Duration,
    },
    /// A skill or a SkillSet changed hands.
    Exchanged {
        /// What happened, in the reference's words.
        event: &'static str,
        /// Its name.
        name: String,
        /// The hash of its content.
        hash: ContentHash,
        /// Who took part, the one who acted first.
        agents: Vec<AgentId>,
        /// Hashes that go with it, by name.
        hashes: Vec<(&'static str, ContentHash)>,
    },
    /// A sealed message was taken.
    Relayed {
        /// The relay's name for it.
        id: String,
        /// Who sent it.
        from: AgentId,
        /// For whom.
        to: AgentId,
        /// Of the sealed text, with `sha256:` or without.
        blob_hash: String,
        /// What it says it is about.
        message_type: String,
        /// Its length.
        bytes: u64,
    },
}

impl Record {
    fn is_wanted(&self, policy: &RecordPolicy) -> bool {
        match self {
            Self::Registered { .. } => policy.registrations,
            Self::Faded { .. } => policy.fadeouts,
            Self::Exchanged { .. } => policy.exchanges,
            Self::Relayed { .. } => policy.relays,
        }
    }

    /// The anchor of what happened at `now`, as the Place `me` saw it.
    fn anchor(&self, me: &AgentId, now: Timestamp) -> Result<Anchor, Malformed> {
        match self {
            Self::Registered { agent, key } => {
                let told = format!("registration:{agent}:{}", now.wire());
                let reason = [("reason", json!("registered")), ("key_hash", json!(key))];
                let hash = ContentHash::of(told);
                observed(me, agent, "initiated", hash, reason, now)
            }
            Self::Faded {
                agent,
                last_seen,
                ttl,
            } => {
                let last = last_seen.wire();
                let hash = fadeout_hash(agent.as_str(), &last, now);
                let reason = [
                    ("reason", json!("ttl_expired")),
                    ("last_heartbeat", json!(last)),
                    ("ttl_seconds", json!(ttl.as_secs())),
                ];
                observed(me, agent, "faded", hash, reason, now)
            }
            Self::Exchanged {
                event,
                name,
                hash,
                agents,
                hashes,
            } => {
                let peers: Vec<&str> = agents.iter().map(AgentId::as_str).collect();
                let exchanged = Exchanged {
                    skill_name: name,
                    skill_hash: *hash,
                    peers: &peers,
                    direction: event,
                    hashes,
                };
                meeting::exchange(exchanged, now)
            }
            Self::Relayed {
                id,
                from,
                to,
                blob_hash,
                message_type,
                bytes,
            } => {
                let relayed = Relayed {
                    relay_id: id,
                    from: from.as_str(),
                    to: to.as_str(),
                    blob_hash,
                    message_type: Some(message_type),
                    size_bytes: Some(*bytes),
                };
                meeting::relay(relayed, now)
            }
        }
    }
}

fn observed<const N: usize>(
    me: &AgentId,
    agent: &AgentId,
    kind: &str,
    interaction_hash: ContentHash,
    interpretation: [(&str, serde_json::Value); N],
    now: Timestamp,
) -> Result<Anchor, Malformed> {
    let interpretation = interpretation
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value));
    let members = ObservationMembers {
        observer_id: me.to_string(),
        observed_id: agent.to_string(),
        interaction_hash: interaction_hash.to_hex(),
        observation_type: kind.to_owned(),
        interpretation: interpretation.collect(),
        timestamp: Some(now.wire()),
        context_ref: None,
        metadata: Map::new(),
    };
    members.check(now)?.anchor(now)
}

/// What became of records since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures {
    /// Waiting.
    pub queued: usize,
    /// Anchored.
    pub kept: u64,
    /// Anchored before.
    pub known: u64,
    /// Lost: the queue was full, the anchors were, or they could not be written.
    pub dropped: u64,
}

struct Shared {
    policy: RecordPolicy,
    me: AgentId,
    clock: Arc<dyn Clock>,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<(Timestamp, Record)>,
    figures: Figures,
    /// Of the dropped ones, as many as the log told of.
    told: u64,
}

/// See the module.
pub struct RecorderActor {
    anchors: AnchorHandle,
    shared: Arc<Shared>,
    /// What is being kept, and how often it was tried.
    batch: Vec<Anchor>,
    tries: u32,
    writing: bool,
}

/// Reaches the recorder.
#[derive(Clone)]
pub struct RecorderHandle {
    addr: BoundedAddr<RecorderActor>,
    shared: Arc<Shared>,
}

#[derive(Message)]
#[rtype(result = "()")]
struct Tick;

#[derive(Message)]
#[rtype(result = "()")]
struct Stop;

impl RecorderHandle {
    /// Has something recorded, if it is wanted. Never waits.
    pub fn record(&self, record: Record) {
        if !record.is_wanted(&self.shared.policy) {
            return;
        }
        let now = self.shared.clock.now();
        let mut queue = self.shared.queue.lock();
        match queue.waiting.len() < self.shared.policy.queue {
            true => queue.waiting.push_back((now, record)),
            false => queue.figures.dropped += 1,
        }
    }

    /// Whether exchanges are recorded.
    pub fn records_exchanges(&self) -> bool {
        self.shared.policy.exchanges
    }

    /// What became of records since the start.
    pub fn figures(&self) -> Figures {
        let queue = self.shared.queue.lock();
        Figures {
            queued: queue.waiting.len(),
            ..queue.figures
        }
    }

    /// The bound of asks, and what was counted at it.
    pub fn asks(&self) -> &Arc<Asks> {
        self.addr.asks()
    }

    /// Whether the actor answers.
    pub async fn health(&self) -> Result<(), AskError> {
        self.addr.probe(Health).await
    }

    /// Tries to keep what waits, and ends the actor.
    pub async fn shutdown(&self) -> Result<(), AskError> {
        self.addr.ask(Shutdown).await
    }
}

impl RecorderActor {
    /// Starts the actor at the Place `me`.
    pub fn start(
        policy: RecordPolicy,
        me: AgentId,
        anchors: AnchorHandle,
        clock: Arc<dyn Clock>,
        permits: usize,
        patience: Duration,
    ) -> RecorderHandle {
        let shared = Arc::new(Shared {
            policy,
            me,
            clock,
            queue: Mutex::default(),
        });
        let actor = Self {
            anchors,
            shared: Arc::clone(&shared),
            batch: Vec::new(),
            tries: 0,
            writing: false,
        };
        RecorderHandle {
            addr: BoundedAddr::start(permits, patience, |_| actor),
            shared,
        }
    }

    /// Begins to keep the next records, unless some are being kept; `then` is told of the end.
    fn next_batch(&mut self) -> Option<Vec<Anchor>> {
        if self.writing {
            return None;
        }
        if self.batch.is_empty() {
            let records: Vec<_> = {
                let waiting = &mut self.shared.queue.lock().waiting;
                let count = waiting.len().min(BATCH);
                waiting.drain(..count).collect()
            };
            let made = records
                .iter()
                .map(|(now, record)| record.anchor(&self.shared.me, *now));
            for made in made {
                match made {
                    Ok(anchor) => self.batch.push(anchor),
                    Err(error) => {
                        tracing::error!(%error, "a record is no anchor");
                        self.shared.queue.lock().figures.dropped += 1;
                    }
                }
            }
            self.tries = 0;
        }
        if self.batch.is_empty() {
            return None;
        }
        self.writing = true;
        Some(self.batch.clone())
    }

    fn kept(&mut self, done: Result<Kept, AnchorError>) {
        self.writing = false;
        self.tries += 1;
        let count = self.batch.len() as u64;
        let mut queue = self.shared.queue.lock();
        match done {
            Ok(kept) => {
                queue.figures.kept += kept.kept;
                queue.figures.known += kept.known;
                queue.figures.dropped += kept.full;
                self.batch.clear();
            }
            // Trying again is safe: an anchor that is there already is not kept twice.
            Err(error) if self.tries < TRIES => {
                tracing::debug!(%error, "records wait for another try");
            }
            Err(error) => {
                tracing::error!(%error, records = count, "records could not be anchored");
                queue.figures.dropped += count;
                self.batch.clear();
            }
        }
        let dropped = queue.figures.dropped - queue.told;
        if dropped > 0 {
            queue.told = queue.figures.dropped;
            tracing::warn!(
                dropped,
                total = queue.told,
                "records of the Place were not anchored"
            );
        }
    }

    fn has_more(&self) -> bool {
        self.batch.is_empty() && !self.shared.queue.lock().waiting.is_empty()
    }
}

impl Actor for RecorderActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_interval(TICK, |_, ctx| ctx.notify(Tick));
    }
}

impl Handler<Tick> for RecorderActor {
    type Result = ();

    fn handle(&mut self, _: Tick, ctx: &mut Self::Context) {
        let Some(batch) = self.next_batch() else {
            return;
        };
        let anchors = self.anchors.clone();
        let kept = async move { anchors.submit_all(batch).await };
        ctx.spawn(kept.into_actor(self).map(|done, this, ctx| {
            this.kept(done);
            if this.has_more() {
                ctx.notify(Tick);
            }
        }));
    }
}

impl Handler<Health> for RecorderActor {
    type Result = ();

    fn handle(&mut self, _: Health, _ctx: &mut Self::Context) {}
}

impl Handler<Shutdown> for RecorderActor {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: Shutdown, ctx: &mut Self::Context) -> Self::Result {
        // What is being kept is tried again with the rest: it is not kept twice.
        let mut rest = std::mem::take(&mut self.batch);
        {
            let mut queue = self.shared.queue.lock();
            let waiting = queue.waiting.drain(..);
            let made = waiting.map(|(now, record)| record.anchor(&self.shared.me, now));
            rest.extend(made.filter_map(|made| match made {
                Ok(anchor) => Some(anchor),
                Err(error) => {
                    tracing::error!(%error, "a record is no anchor");
                    None
                }
            }));
        }
        let (anchors, end) = (self.anchors.clone(), ctx.address());
        Box::pin(async move {
            let count = rest.len();
            if count > 0
                && let Err(error) = anchors.submit_all(rest).await
            {
                tracing::warn!(%error, records = count, "the last records were not anchored");
            }
            // Fails only if the actor has ended already.
            let _ended = end.try_send(Stop);
        })
    }
}

impl Handler<Stop> for RecorderActor {
    type Result = ();

    fn handle(&mut self, _: Stop, ctx: &mut Self::Context) {
        ctx.stop();
    }
}
