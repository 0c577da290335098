//! What changed on the board, for those who would otherwise ask again and again: by kind and name only.

use kairos_protocol::id::AgentId;
use serde_json::{Value, json};

/// Most changes that one decision tells of; who takes more down at once is told of by their absence.
pub(super) const EVENTS_MAX: usize = 1_000;

/// Kinds of changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Changed {
    /// A new deposit.
    Deposit,
    /// A deposit with other content.
    Update,
    /// A deposit that was taken down.
    Withdrawal,
    /// Needs of an agent, instead of those before.
    Needs,
    /// Needs that were taken down.
    NeedsGone,
    /// A SkillSet, new or instead of the one before.
    SkillSet,
    /// A SkillSet that was taken off.
    SkillSetGone,
}

impl Changed {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Deposit => "deposit",
            Self::Update => "update",
            Self::Withdrawal => "withdrawal",
            Self::Needs => "needs",
            Self::NeedsGone => "needs_removed",
            Self::SkillSet => "skillset_deposit",
            Self::SkillSetGone => "skillset_withdrawal",
        }
    }
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// What happened.
    pub kind: Changed,
    /// Whose it is.
    pub agent: AgentId,
    /// The id of the skill or the name of the SkillSet; needs have none.
    pub id: Option<String>,
}

impl Event {
    /// As it is sent.
    pub fn shown(&self) -> Value {
        json!({"kind": self.kind.as_str(), "agent_id": self.agent, "id": self.id})
    }
}
