//! Which kind an entry of a ledger is, whoever wrote it.

use std::fmt;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::governance::INSTRUCTIONS;
use super::{Entry, Unread};

/// The kinds of entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// See [`Entry::KnowledgeUpdate`].
    KnowledgeUpdate,
    /// See [`Entry::SkillTransition`].
    SkillTransition,
    /// See [`Entry::InstructionsUpdate`].
    InstructionsUpdate,
    /// See [`Entry::StateCommit`].
    StateCommit,
    /// See [`Entry::FormalizationDecision`].
    FormalizationDecision,
    /// See [`Entry::SkillSetEvent`].
    SkillSetEvent,
    /// See [`Entry::SystemUpgrade`].
    SystemUpgrade,
    /// See [`Entry::SkillProvenance`].
    SkillProvenance,
    /// See [`Entry::SkillSetProvenance`].
    SkillSetProvenance,
    /// See [`Entry::ApprovalDecision`].
    ApprovalDecision,
    /// See [`Entry::Interaction`].
    Interaction,
    /// See [`Entry::InteractionSession`].
    InteractionSession,
    /// See [`Entry::Text`].
    Text,
}

impl Kind {
    const ALL: [Self; 13] = [
        Self::KnowledgeUpdate,
        Self::SkillTransition,
        Self::InstructionsUpdate,
        Self::StateCommit,
        Self::FormalizationDecision,
        Self::SkillSetEvent,
        Self::SystemUpgrade,
        Self::SkillProvenance,
        Self::SkillSetProvenance,
        Self::ApprovalDecision,
        Self::Interaction,
        Self::InteractionSession,
        Self::Text,
    ];

    /// Its name: the `type` or `_type` of those that have one.
    pub fn name(self) -> &'static str {
        match self {
            Self::KnowledgeUpdate => "knowledge_update",
            Self::SkillTransition => "skill_transition",
            Self::InstructionsUpdate => "instructions_update",
            Self::StateCommit => "state_commit",
            Self::FormalizationDecision => "formalization_decision",
            Self::SkillSetEvent => "skillset_event",
            Self::SystemUpgrade => "system_upgrade",
            Self::SkillProvenance => "skill_provenance",
            Self::SkillSetProvenance => "skillset_provenance",
            Self::ApprovalDecision => "approval_decision",
            Self::Interaction => "interaction",
            Self::InteractionSession => "interaction_session",
            Self::Text => "chain_record",
        }
    }

    /// The kind of an object. Transitions have no type and are known by their members.
    pub fn of(object: &Map<String, Value>) -> Option<Self> {
        let text = |member: &str| object.get(member).and_then(Value::as_str);
        match text("_type").or_else(|| text("type")) {
            // Two names that the reference never writes.
            Some("skill_transition" | "instructions_update") => None,
            Some(name) => Self::ALL.into_iter().find(|kind| kind.name() == name),
            None => {
                let skill = text("skill_id")?;
                object.get("next_ast_hash")?;
                Some(match skill.starts_with(INSTRUCTIONS) {
                    true => Self::InstructionsUpdate,
                    false => Self::SkillTransition,
                })
            }
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Entry {
    /// Its kind.
    pub fn kind(&self) -> Kind {
        match self {
            Self::KnowledgeUpdate(_) => Kind::KnowledgeUpdate,
            Self::SkillTransition(_) => Kind::SkillTransition,
            Self::InstructionsUpdate(_) => Kind::InstructionsUpdate,
            Self::StateCommit(_) => Kind::StateCommit,
            Self::FormalizationDecision(_) => Kind::FormalizationDecision,
            Self::SkillSetEvent(_) => Kind::SkillSetEvent,
            Self::SystemUpgrade(_) => Kind::SystemUpgrade,
            Self::SkillProvenance(_) => Kind::SkillProvenance,
            Self::SkillSetProvenance(_) => Kind::SkillSetProvenance,
            Self::ApprovalDecision(_) => Kind::ApprovalDecision,
            Self::Interaction(_) => Kind::Interaction,
            Self::InteractionSession(_) => Kind::InteractionSession,
            Self::Text(_) => Kind::Text,
        }
    }

    /// Reads an entry as any version of the reference, this program or another one wrote it.
    ///
    /// Text that is no JSON object is [`Entry::Text`]. Members that are not known are ignored.
    ///
    /// # Errors
    ///
    /// [`Unread`] for an object of an unknown kind, or one that lacks what its kind needs.
    pub fn read(text: &str) -> Result<Self, Unread> {
        let Ok(Value::Object(object)) = serde_json::from_str(text) else {
            return Ok(Self::Text(text.to_owned()));
        };
        let label = |member: &str| Some(object.get(member)?.as_str()?.to_owned());
        let named = label("_type").or_else(|| label("type"));
        let kind = Kind::of(&object);
        let unread = Unread {
            kind,
            name: named.unwrap_or_else(|| kind.map_or_else(String::new, |kind| kind.to_string())),
        };
        let read = match kind {
            None => None,
            Some(Kind::KnowledgeUpdate) => typed(object, Self::KnowledgeUpdate),
            Some(Kind::SkillTransition) => typed(object, Self::SkillTransition),
            Some(Kind::InstructionsUpdate) => typed(object, Self::InstructionsUpdate),
            Some(Kind::StateCommit) => typed(object, Self::StateCommit),
            Some(Kind::FormalizationDecision) => typed(object, Self::FormalizationDecision),
            Some(Kind::SkillSetEvent) => typed(object, Self::SkillSetEvent),
            Some(Kind::SystemUpgrade) => typed(object, Self::SystemUpgrade),
            Some(Kind::SkillProvenance) => typed(object, Self::SkillProvenance),
            Some(Kind::SkillSetProvenance) => typed(object, Self::SkillSetProvenance),
            Some(Kind::ApprovalDecision) => typed(object, Self::ApprovalDecision),
            Some(Kind::Interaction) => typed(object, Self::Interaction),
            Some(Kind::InteractionSession) => typed(object, Self::InteractionSession),
            Some(Kind::Text) => label("text").map(Self::Text),
        };
        read.ok_or(unread)
    }
}

fn typed<T: DeserializeOwned>(
    object: Map<String, Value>,
    into: impl FnOnce(T) -> Entry,
) -> Option<Entry> {
    serde_json::from_value(Value::Object(object)).ok().map(into)
}
