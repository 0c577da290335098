//! What agents look for.

use kairos_protocol::id::AgentId;
use kairos_protocol::time::Timestamp;
use serde_json::Value;

use super::Subject;
use crate::meeting_place::{BoardError, Changed, MeetingPlace};

/// Longest name of a need in bytes.
pub const NEED_NAME_MAX: usize = 256;
/// Longest description of a need in bytes.
pub const NEED_DESCRIPTION_MAX: usize = 1_000;
/// Longest name of a mode in bytes.
pub const AGENT_MODE_MAX: usize = 64;

/// Something an agent looks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    /// At most [`NEED_NAME_MAX`] bytes.
    pub name: String,
    /// At most [`NEED_DESCRIPTION_MAX`] bytes.
    pub description: Option<String>,
}

/// What an agent says with its needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NeedEntry {
    /// As it calls itself here.
    pub agent_name: String,
    /// Its mode of work, `unknown` in the reference if it does not say.
    pub agent_mode: String,
    /// What it looks for.
    pub needs: Vec<Need>,
}

impl MeetingPlace {
    /// Puts up what an agent looks for, instead of what it looked for before. Needs live in memory only.
    pub fn publish_needs(
        &mut self,
        id: &AgentId,
        entry: &NeedEntry,
        now: Timestamp,
    ) -> Result<usize, BoardError> {
        if self.agent(id).is_none() {
            return Err(BoardError::NotPresent(id.clone()));
        }
        let most = self.policy.needs_max;
        let too_long = |need: &&Need| {
            need.name.len() > NEED_NAME_MAX
                || need
                    .description
                    .as_ref()
                    .is_some_and(|text| text.len() > NEED_DESCRIPTION_MAX)
        };
        let mut reasons = Vec::new();
        if entry.needs.len() > most {
            reasons.push(format!("more than {most} needs"));
        }
        if let Some(need) = entry.needs.iter().find(too_long) {
            let start: String = need.name.chars().take(40).collect();
            reasons.push(format!(
                "need `{start}`: at most {NEED_NAME_MAX} bytes of name and {NEED_DESCRIPTION_MAX} of description"
            ));
        }
        if entry.agent_mode.len() > AGENT_MODE_MAX || entry.agent_name.len() > NEED_NAME_MAX {
            reasons.push(format!(
                "at most {NEED_NAME_MAX} bytes of agent_name and {AGENT_MODE_MAX} of agent_mode"
            ));
        }
        if !reasons.is_empty() {
            return Err(BoardError::Rejected(reasons));
        }
        self.board.put_needs(id, entry, now);
        self.tell(Changed::Needs, id, None);
        Ok(entry.needs.len())
    }

    /// The needs of an agent as the board shows them.
    pub fn needs_of(&self, id: &AgentId) -> Vec<Value> {
        let count = self.board.needs.get(id).copied().unwrap_or_default();
        let subjects = (0..count).map(|at| Subject::Need(id.clone(), at));
        let cards = subjects.filter_map(|subject| self.board.cards.get(&subject));
        cards
            .filter_map(|card| serde_json::from_str(&card.text).ok())
            .collect()
    }

    /// Takes the needs of an agent down. Tells whether there were any.
    pub fn remove_needs(&mut self, id: &AgentId) -> bool {
        let were = self.board.remove_needs(id);
        if were {
            self.tell(Changed::NeedsGone, id, None);
        }
        were
    }
}
