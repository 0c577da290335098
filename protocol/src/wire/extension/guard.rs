//! Whether an extension may be adopted at all, whoever wants it.

use serde::Serialize;
use thiserror::Error;

use super::{CORE, Extension, Kind, Word};
use crate::wire::envelope::{SKILLSET_ACTIONS, SUPPORTED_ACTIONS};

/// The actions of the protocol itself.
pub const CORE_ACTIONS: [&str; 9] = [
    "introduce",
    "goodbye",
    "error",
    "offer_skill",
    "request_skill",
    "accept",
    "decline",
    "reflect",
    "skill_content",
];
/// Actions that no agent may have.
const BLOCKED_ACTIONS: [&str; 5] = [
    "execute_code",
    "system_command",
    "file_write",
    "shell_exec",
    "eval",
];
/// Parts of names that say that something would be executed.
const SUSPICIOUS: [&str; 5] = ["exec", "eval", "system", "shell", "command"];
/// What extensions may need that is never adopted, since it is always there.
const BUILT_IN: [&str; 2] = [CORE, "meeting_protocol_skillset_exchange"];

/// Why an extension may not be adopted.
#[derive(Debug, Clone, PartialEq, Eq, Error, Serialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum Rejection {
    /// It is no extension, or claims to be more.
    #[error("an extension may not claim `{claim}`; leave it out")]
    ClaimsCore {
        /// What it claims.
        claim: &'static str,
    },
    /// It has the name of what is built in.
    #[error("`{name}` is built in; give the extension its own name")]
    BuiltInName {
        /// The name.
        name: Word,
    },
    /// It names actions of the protocol itself.
    #[error("the actions {} are the protocol's own; give the extension's their own names", list(.actions))]
    CoreActionOverride {
        /// Which.
        actions: Vec<Word>,
    },
    /// It names actions that no agent may have.
    #[error("no agent may have the actions {}", list(.actions))]
    BlockedActions {
        /// Which.
        actions: Vec<Word>,
    },
    /// It names actions that look like execution.
    #[error("the actions {} look as if they would execute something, which nothing from outside does", list(.actions))]
    SuspiciousActions {
        /// Which.
        actions: Vec<Word>,
    },
    /// An adopted extension names the action already.
    #[error("`{action}` is an action of the extension `{of}`; disable that one first")]
    ActionCollision {
        /// Which.
        action: Word,
        /// Whose it is.
        of: Word,
    },
    /// It needs what is not adopted.
    #[error("it needs {}, which must be adopted first", list(.missing))]
    Incompatible {
        /// What is missing.
        missing: Vec<Word>,
    },
}

fn list(words: &[Word]) -> String {
    let words: Vec<_> = words.iter().map(|word| format!("`{word}`")).collect();
    words.join(", ")
}

/// What judges extensions: the rules, and those that are adopted.
#[derive(Debug, Clone, Copy)]
pub struct Guard<'a> {
    /// Those that are adopted.
    pub adopted: &'a [&'a Extension],
}

impl Guard<'_> {
    /// Everything that keeps an extension from being adopted; nothing, if it may be.
    ///
    /// The reference tells the first reason only. A change of an extension that is adopted collides with its own
    /// actions no more.
    pub fn judge(&self, extension: &Extension) -> Vec<Rejection> {
        let mut found = Vec::new();
        let claims = [
            (
                "type: protocol_definition",
                extension.kind == Kind::Definition,
            ),
            ("bootstrap", extension.bootstrap),
            ("immutable", extension.immutable),
            ("layer", extension.layer != "L2"),
        ];
        let claims = claims.iter().filter(|(_, made)| *made);
        found.extend(claims.map(|(claim, _)| Rejection::ClaimsCore { claim }));
        if BUILT_IN.contains(&extension.name.as_str()) {
            let name = extension.name.clone();
            found.push(Rejection::BuiltInName { name });
        }
        let those = |wanted: &dyn Fn(&str) -> bool| -> Vec<Word> {
            let actions = extension.actions.iter();
            actions
                .filter(|action| wanted(action.as_str()))
                .cloned()
                .collect()
        };
        let own = those(&|action| {
            CORE_ACTIONS.contains(&action)
                || SKILLSET_ACTIONS.contains(&action)
                || SUPPORTED_ACTIONS.contains(&action)
        });
        if !own.is_empty() {
            found.push(Rejection::CoreActionOverride { actions: own });
        }
        let blocked = those(&|action| BLOCKED_ACTIONS.contains(&action));
        if !blocked.is_empty() {
            found.push(Rejection::BlockedActions { actions: blocked });
        }
        let suspicious = those(&|action| {
            !BLOCKED_ACTIONS.contains(&action)
                && SUSPICIOUS.iter().any(|part| action.contains(part))
        });
        if !suspicious.is_empty() {
            found.push(Rejection::SuspiciousActions {
                actions: suspicious,
            });
        }
        let others = self
            .adopted
            .iter()
            .filter(|other| other.name != extension.name);
        for other in others {
            let taken = other
                .actions
                .iter()
                .filter(|action| extension.actions.contains(action));
            found.extend(taken.map(|action| Rejection::ActionCollision {
                action: action.clone(),
                of: other.name.clone(),
            }));
        }
        let there = |wanted: &Word| {
            BUILT_IN.contains(&wanted.as_str())
                || self.adopted.iter().any(|other| other.name == *wanted)
        };
        let needed = extension.requires.iter().chain(&extension.extends);
        let mut missing: Vec<Word> = needed.filter(|wanted| !there(wanted)).cloned().collect();
        missing.sort();
        missing.dedup();
        if !missing.is_empty() {
            found.push(Rejection::Incompatible { missing });
        }
        found
    }
}
