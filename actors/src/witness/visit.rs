//! What agents that come to us show of their ledgers, and whom we turn away.
//!
//! A visitor cannot be asked how its ledger grew. Until it shows that by itself, to have its checkpoint cosigned, only
//! what needs no answer is found: the first checkpoint of a log is remembered, and another one over as many blocks is
//! evidence. Nobody waits for any of it.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use actix::{Handler, Message, ResponseFuture};
use arc_swap::ArcSwap;
use kairos_protocol::hash::ContentHash;
use kairos_protocol::id::AgentId;
use kairos_protocol::tlog::statement::{Attributed, log_name};
use kairos_protocol::wire::introduction::VerifiedIdentity;
use serde_json::Value;

use super::store::log_hash;
use super::{Observe, Witness, WitnessActor, WitnessError, WitnessHandle};

/// Most shown checkpoints that are remembered as looked at.
const SETTLED_MAX: usize = 4_096;

/// What requests may look at without asking the actor.
#[derive(Default)]
pub(super) struct Gate {
    /// Logs that showed two histories, by the hash of their origin.
    convicted: ArcSwap<HashSet<String>>,
    /// What was shown and need not be looked at again. Locked for one look, never across an await.
    settled: Mutex<HashSet<ContentHash>>,
}

impl Gate {
    pub(super) fn convict(&self, logs: HashSet<String>) {
        self.convicted.store(Arc::new(logs));
    }

    fn is_settled(&self, shown: &ContentHash) -> bool {
        let settled = self.settled.lock().unwrap_or_else(PoisonError::into_inner);
        settled.contains(shown)
    }

    fn settle(&self, shown: ContentHash) {
        let mut settled = self.settled.lock().unwrap_or_else(PoisonError::into_inner);
        if settled.len() >= SETTLED_MAX {
            settled.clear();
        }
        settled.insert(shown);
    }
}

impl Observe {
    /// What `identity` shows; nothing if that is the ledger of somebody else, or signed under another key.
    pub(crate) fn of(identity: &VerifiedIdentity, shown: Attributed) -> Option<Self> {
        let statement = &shown.statement;
        let is_its_own =
            statement.instance_id == identity.agent_id && statement.identity_key == identity.key;
        is_its_own.then(|| Self {
            shown,
            continued: None,
            rotations: identity.rotations.clone(),
        })
    }
}

#[derive(Message)]
#[rtype(result = "Result<bool, WitnessError>")]
pub(super) struct Visit {
    pub(super) identity: VerifiedIdentity,
    pub(super) ledger: Value,
}

impl WitnessHandle {
    /// Whether the agent `id` showed two histories, and nobody forgot that. Costs a look at memory. What another process
    /// found is known within seconds.
    pub fn is_convicted(&self, id: &AgentId) -> bool {
        let convicted = self.gate.convicted.load();
        !convicted.is_empty() && convicted.contains(&log_hash(&log_name(id)))
    }

    /// Takes note of the member `ledger` of a visitor's introduction, some time later, unless too much is to be noted
    /// already. Must be called inside an actix system.
    pub fn visited(&self, identity: &VerifiedIdentity, ledger: &Value) {
        let (id, key) = (&identity.agent_id, identity.key.hash());
        let shown = ContentHash::of(format!("{id}\n{key}\n{ledger}"));
        if self.gate.is_settled(&shown) {
            return;
        }
        let visit = Visit {
            identity: identity.clone(),
            ledger: ledger.clone(),
        };
        let handle = self.clone();
        actix_rt::spawn(async move {
            match handle
                .addr
                .ask(visit)
                .await
                .map_err(WitnessError::Ask)
                .flatten()
            {
                Ok(true) => handle.gate.settle(shown),
                // Its evidence was logged when it was written.
                Ok(false) | Err(WitnessError::Fork { .. }) => {}
                Err(error) => tracing::warn!(%error, "a visitor's ledger could not be noted"),
            }
        });
    }
}

impl Witness {
    /// Says whether there is nothing to learn from the same again.
    fn receive(&self, visit: &Visit) -> Result<bool, WitnessError> {
        let shown = Attributed::from_value(&visit.ledger);
        let Some(observe) = shown.and_then(|shown| Observe::of(&visit.identity, shown)) else {
            return Ok(true);
        };
        // Agents we go to meet ourselves find room, however many strangers come.
        match self
            .store
            .observe(observe, self.clock.now(), self.limit / 2)
        {
            Ok(_) | Err(WitnessError::Statement(_)) => Ok(true),
            Err(
                WitnessError::Shorter { .. }
                | WitnessError::Unproven { .. }
                | WitnessError::Full { .. },
            ) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

impl Handler<Visit> for WitnessActor {
    type Result = ResponseFuture<Result<bool, WitnessError>>;

    fn handle(&mut self, visit: Visit, _ctx: &mut Self::Context) -> Self::Result {
        self.change(move |witness| witness.receive(&visit))
    }
}
