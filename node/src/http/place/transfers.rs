//! How many archives are on their way at once: each holds megabytes while a slow peer sends or reads it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use kairos_actors::bounded_addr::AskError;
use kairos_protocol::id::AgentId;
use parking_lot::Mutex;

use crate::http::error::ApiError;

/// Archives on their way at once.
const TRANSFERS_MAX: usize = 32;
/// Of these, to and from one agent.
const PER_AGENT_MAX: usize = 2;

/// See the module.
#[derive(Debug, Default)]
pub struct Transfers(Mutex<HashMap<AgentId, usize>>);

/// One archive on its way, until this is dropped.
#[derive(Debug)]
pub(super) struct Transfer {
    agent: AgentId,
    all: Arc<Transfers>,
}

impl Transfers {
    /// Begins one, if there is room.
    pub(super) fn begin(self: &Arc<Self>, agent: &AgentId) -> Result<Transfer, ApiError> {
        let mut agents = self.0.lock();
        if agents.values().sum::<usize>() >= TRANSFERS_MAX {
            return Err(AskError::Busy.into());
        }
        let count = agents.entry(agent.clone()).or_default();
        if *count >= PER_AGENT_MAX {
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
        let mut agents = self.all.0.lock();
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
        let all = Arc::new(Transfers::default());
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
        assert!(all.0.lock().is_empty());
    }
}
