//! The words of the language: those that begin a member of a skill, and those that make a node of a definition.

use serde::{Deserialize, Serialize};

/// The word that begins a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "each is the word of the language")]
pub enum Keyword {
    Version,
    Title,
    UseWhen,
    Inputs,
    Requires,
    DependsOn,
    Content,
    FormalizationNotes,
    Guarantees,
    Evolve,
    Definition,
    Behavior,
    Tool,
    Effect,
}

impl Keyword {
    /// Every one of them.
    pub const ALL: [Self; 14] = [
        Self::Version,
        Self::Title,
        Self::UseWhen,
        Self::Inputs,
        Self::Requires,
        Self::DependsOn,
        Self::Content,
        Self::FormalizationNotes,
        Self::Guarantees,
        Self::Evolve,
        Self::Definition,
        Self::Behavior,
        Self::Tool,
        Self::Effect,
    ];

    /// The word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Version => "version",
            Self::Title => "title",
            Self::UseWhen => "use_when",
            Self::Inputs => "inputs",
            Self::Requires => "requires",
            Self::DependsOn => "depends_on",
            Self::Content => "content",
            Self::FormalizationNotes => "formalization_notes",
            Self::Guarantees => "guarantees",
            Self::Evolve => "evolve",
            Self::Definition => "definition",
            Self::Behavior => "behavior",
            Self::Tool => "tool",
            Self::Effect => "effect",
        }
    }

    /// Whether the reference's hash of a skill covers it.
    pub(super) const fn is_hashed(self) -> bool {
        matches!(
            self,
            Self::Version | Self::Title | Self::Content | Self::Guarantees | Self::Evolve
        )
    }
}

/// The word that makes a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Maker {
    /// What must hold.
    Constraint,
    /// What can be looked up.
    Check,
    /// Steps in order.
    Plan,
    /// A command.
    ToolCall,
    /// Any kind, said by its `type:`; mostly what a person must judge.
    Node,
}

impl Maker {
    /// Every one of them.
    pub const ALL: [Self; 5] = [
        Self::Constraint,
        Self::Check,
        Self::Plan,
        Self::ToolCall,
        Self::Node,
    ];

    /// The word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Constraint => "constraint",
            Self::Check => "check",
            Self::Plan => "plan",
            Self::ToolCall => "tool_call",
            Self::Node => "node",
        }
    }

    /// The options that it asks for.
    pub const fn required(self) -> &'static [&'static str] {
        match self {
            Self::Constraint => &[],
            Self::Check => &["condition"],
            Self::Plan => &["steps"],
            Self::ToolCall => &["command"],
            Self::Node => &["type", "prompt"],
        }
    }

    /// The only other options that it takes; nothing if it takes any.
    pub const fn optional(self) -> Option<&'static [&'static str]> {
        match self {
            Self::Plan => Some(&[]),
            Self::Node => Some(&["source_span"]),
            Self::Constraint | Self::Check | Self::ToolCall => None,
        }
    }
}
