//! Who wants to hear that there is mail.
//!
//! A tick says no more than that a message came, so a subscriber that is slow hears of many with one. An idle one
//! costs an entry of a map.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kairos_protocol::id::AgentId;
use tokio::sync::watch;

use super::RelayError;

/// See the module. Its lock is held for a look into the map.
pub(super) struct Subscribers {
    total: usize,
    per_agent: usize,
    boxes: Mutex<Boxes>,
}

#[derive(Default)]
struct Boxes {
    count: usize,
    by_agent: HashMap<AgentId, Watched>,
    ended: bool,
}

struct Watched {
    /// The number of the newest message heard of.
    tell: watch::Sender<u64>,
    count: usize,
}

impl Subscribers {
    /// Bounds for all subscribers, and for those of one box.
    pub(super) fn new(total: usize, per_agent: usize) -> Self {
        Self {
            total,
            per_agent,
            boxes: Mutex::default(),
        }
    }

    fn boxes(&self) -> MutexGuard<'_, Boxes> {
        self.boxes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn subscribe(self: &Arc<Self>, agent: AgentId) -> Result<Subscription, RelayError> {
        let mut boxes = self.boxes();
        let held = boxes
            .by_agent
            .get(&agent)
            .map_or(0, |watched| watched.count);
        let full = |limit| Err(RelayError::Subscribers { limit });
        if boxes.count >= self.total {
            return full(self.total);
        }
        if held >= self.per_agent {
            return full(self.per_agent);
        }
        if boxes.ended {
            return Err(crate::bounded_addr::AskError::Stopped.into());
        }
        boxes.count += 1;
        let watched = boxes.by_agent.entry(agent.clone());
        let watched = watched.or_insert_with(|| Watched {
            tell: watch::Sender::new(0),
            count: 0,
        });
        watched.count += 1;
        let told = watched.tell.subscribe();
        Ok(Subscription {
            agent,
            told,
            subscribers: Arc::clone(self),
        })
    }

    /// Tells those who wait for mail in these boxes.
    pub(super) fn arrived(&self, mail: Vec<(AgentId, u64)>) {
        let boxes = self.boxes();
        for (agent, number) in mail {
            if let Some(watched) = boxes.by_agent.get(&agent) {
                watched.tell.send_replace(number);
            }
        }
    }

    /// Lets go of all subscribers; each is told.
    pub(super) fn end(&self) {
        let mut boxes = self.boxes();
        boxes.ended = true;
        boxes.by_agent.clear();
    }

    pub(super) fn len(&self) -> usize {
        self.boxes().count
    }

    fn leave(&self, agent: &AgentId) {
        let mut boxes = self.boxes();
        boxes.count = boxes.count.saturating_sub(1);
        if let Some(watched) = boxes.by_agent.get_mut(agent) {
            watched.count -= 1;
            if watched.count == 0 {
                boxes.by_agent.remove(agent);
            }
        }
    }
}

/// Hears of mail in one box until it is dropped.
pub struct Subscription {
    agent: AgentId,
    told: watch::Receiver<u64>,
    subscribers: Arc<Subscribers>,
}

impl Subscription {
    /// Waits until a message came since the subscription began, or since the last call; returns the number of the
    /// newest. Nothing once the relay has ended. What came before the subscription is for its owner to look for.
    ///
    /// Dropping the future loses nothing.
    pub async fn mail(&mut self) -> Option<u64> {
        self.told.changed().await.ok()?;
        Some(*self.told.borrow_and_update())
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.subscribers.leave(&self.agent);
    }
}
