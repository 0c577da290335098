//! What agents may hold open at once, in all and each: archives on their way, which are megabytes while a slow peer sends
//! or reads them, and streams of changes.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use kairos_actors::bounded_addr::AskError;
use kairos_protocol::id::AgentId;
use parking_lot::Mutex;

use crate::http::error::ApiError;

/// Archives on their way at once.
pub const TRANSFERS_MAX: usize = 32;
/// Of these, to and from one agent.
pub const TRANSFERS_PER_AGENT_MAX: usize = 2;
/// Streams of changes of one agent.
pub const LISTENERS_PER_AGENT_MAX: usize = 4;

/// See the module.
#[derive(Debug)]
pub struct Transfers {
    total: usize,
    per_agent: usize,
    agents: Mutex<HashMap<AgentId, usize>>,
}

/// One of them, until this is dropped.
#[derive(Debug)]
pub(super) struct Transfer {
    agent: AgentId,
    all: Arc<Transfers>,
}

impl Transfers {
    /// Bounds for all, and for one agent.
    pub fn new(total: usize, per_agent: usize) -> Self {
        Self {
            total,
            per_agent,
            agents: Mutex::default(),
        }
    }

    /// Begins one, if there is room.
    pub(super) fn begin(self: &Arc<Self>, agent: &AgentId) -> Result<Transfer, ApiError> {
        let mut agents = self.agents.lock();
        if agents.values().sum::<usize>() >= self.total {
            return Err(AskError::Busy.into());
        }
        let count = agents.entry(agent.clone()).or_default();
        if *count >= self.per_agent {
            return Err(ApiError::rate_limited(Duration::from_secs(1)));
        }
        *count += 1;
        Ok(Transfer {
            agent: agent.clone(),
            all: Arc::clone(self),
        })
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        let mut agents = self.all.agents.lock();
        if let Some(count) = agents.get_mut(&self.agent) {
            *count -= 1;
            if *count == 0 {
                agents.remove(&self.agent);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_agent_cannot_take_all_the_room_and_what_ends_makes_room() {
        let all = Arc::new(Transfers::new(TRANSFERS_MAX, TRANSFERS_PER_AGENT_MAX));
        let agent = |n: usize| format!("a{n}").parse::<AgentId>().unwrap();
        let begun = [all.begin(&agent(0)).unwrap(), all.begin(&agent(0)).unwrap()];
        assert!(all.begin(&agent(0)).is_err());
        let others: Vec<_> = (1..=TRANSFERS_MAX - 2)
            .map(|n| all.begin(&agent(n)).unwrap())
            .collect();
        assert!(all.begin(&agent(99)).is_err());
        drop(begun);
        assert!(all.begin(&agent(99)).is_ok());
        drop(others);
        assert!(all.agents.lock().is_empty());
    }
}
