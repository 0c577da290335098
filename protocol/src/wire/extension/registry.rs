//! What became of each extension that was proposed. Pure: times are arguments, and what it says can be stored.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::guard::{Guard, Rejection};
use super::{Extension, Word};
use crate::hash::ContentHash;
use crate::time::Timestamp;

/// Most extensions that are kept, in all states.
pub const ENTRIES_MAX: usize = 100;
/// Longest name of who proposed or consented.
const WHO_MAX: usize = 256;

/// Where an extension stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Somebody wants it; nobody looked at it.
    Proposed,
    /// The guard let it pass, and it waits for a person.
    Evaluating,
    /// A person consented: its actions are known and advertised.
    Adopted,
    /// It was adopted, and is not in effect.
    Disabled,
    /// The guard or a person refused it.
    Rejected,
}

/// What moves an extension from one state to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The guard let it pass.
    Pass,
    /// The guard or a person refused it.
    Reject,
    /// A person consented.
    Adopt,
    /// It is taken out of effect.
    Disable,
    /// It is put into effect again, with a person's consent.
    Enable,
}

impl State {
    /// Where `step` leads from here; nothing, if it does not lead anywhere.
    pub fn after(self, step: Step) -> Option<Self> {
        Some(match (self, step) {
            (Self::Proposed, Step::Pass) => Self::Evaluating,
            (Self::Proposed | Self::Evaluating, Step::Reject) => Self::Rejected,
            (Self::Evaluating, Step::Adopt) => Self::Adopted,
            (Self::Adopted, Step::Disable) => Self::Disabled,
            (Self::Disabled, Step::Enable) => Self::Adopted,
            _ => return None,
        })
    }
}

/// A person's word, bound to the text that was shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Consent {
    /// Who consented.
    pub by: String,
    /// When.
    pub at: Timestamp,
    /// The hash of the text that was shown.
    pub content_hash: ContentHash,
}

/// An extension, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// What it declares.
    pub extension: Extension,
    /// Where it stands.
    pub state: State,
    /// Who proposed it.
    pub from: String,
    /// When.
    pub proposed_at: Timestamp,
    /// The consent that put it into effect; none before that.
    pub consent: Option<Consent>,
    /// Why it was rejected.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<String>,
}

/// Why nothing changed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RegistryError {
    /// There is no such extension.
    #[error("no extension `{0}` was proposed")]
    Unknown(Word),
    /// It stands where this leads nowhere.
    #[error("the extension `{name}` is {state:?}, from where this leads nowhere")]
    NoStep {
        /// Which.
        name: Word,
        /// Where it stands.
        state: State,
    },
    /// The guard refuses it.
    #[error("the extension `{name}` is refused: {}", told(.rejections))]
    Refused {
        /// Which.
        name: Word,
        /// Why.
        rejections: Vec<Rejection>,
    },
    /// The consent is to another text.
    #[error("the consent is to another text of `{0}` than the one that was proposed; show it anew")]
    OtherText(Word),
    /// Others that are in effect need it.
    #[error("`{name}` is needed by `{by}`; disable that one first")]
    Needed {
        /// Which.
        name: Word,
        /// Who needs it.
        by: Word,
    },
    /// It is in effect, and stays so until it is disabled.
    #[error("`{0}` is in effect; disable it before another text of it is proposed")]
    InEffect(Word),
    /// There is no room.
    #[error("{ENTRIES_MAX} extensions are kept at most; forget one that is not in effect")]
    Full,
    /// Who proposed or consented is not said, or at length.
    #[error("say who it is, in {WHO_MAX} bytes at most")]
    Who,
}

fn told(rejections: &[Rejection]) -> String {
    let told: Vec<_> = rejections.iter().map(ToString::to_string).collect();
    told.join("; ")
}

/// Every extension that was proposed, by its name.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Registry {
    entries: BTreeMap<Word, Entry>,
}

impl Registry {
    /// All of them, by name.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    /// The one of this name.
    pub fn get(&self, name: &Word) -> Option<&Entry> {
        self.entries.get(name)
    }

    /// Those that are in effect.
    pub fn adopted(&self) -> Vec<&Extension> {
        let those = self.entries.values();
        let those = those.filter(|entry| entry.state == State::Adopted);
        those.map(|entry| &entry.extension).collect()
    }

    /// Notes that somebody wants an extension. A newer text takes the place of one that is not in effect.
    pub fn propose(
        &mut self,
        extension: Extension,
        from: &str,
        now: Timestamp,
    ) -> Result<&Entry, RegistryError> {
        let name = extension.name.clone();
        who(from)?;
        match self.entries.get(&name).map(|entry| entry.state) {
            Some(State::Adopted) => return Err(RegistryError::InEffect(name)),
            None if self.entries.len() >= ENTRIES_MAX => return Err(RegistryError::Full),
            _ => {}
        }
        let entry = Entry {
            extension,
            state: State::Proposed,
            from: from.to_owned(),
            proposed_at: now,
            consent: None,
            reasons: Vec::new(),
        };
        let slot = self.entries.entry(name).insert_entry(entry);
        Ok(slot.into_mut())
    }

    /// Lets the guard look at one that was proposed: it waits for a person then, or is rejected with every reason.
    pub fn evaluate(&mut self, name: &Word) -> Result<State, RegistryError> {
        let rejections = self.judged(name)?;
        let step = match rejections.is_empty() {
            true => Step::Pass,
            false => Step::Reject,
        };
        let entry = self.stepped(name, step)?;
        entry.reasons = rejections.iter().map(ToString::to_string).collect();
        Ok(entry.state)
    }

    /// Puts one into effect that was evaluated, or disabled. The guard looks again: others may be in effect by now.
    pub fn adopt(&mut self, name: &Word, consent: Consent) -> Result<(), RegistryError> {
        who(&consent.by)?;
        let entry = self.known(name)?;
        let step = match entry.state {
            State::Disabled => Step::Enable,
            _ => Step::Adopt,
        };
        if entry.state.after(step).is_none() {
            return Err(RegistryError::NoStep {
                name: name.clone(),
                state: entry.state,
            });
        }
        if entry.extension.content_hash != consent.content_hash {
            return Err(RegistryError::OtherText(name.clone()));
        }
        let rejections = self.judged(name)?;
        if !rejections.is_empty() {
            return Err(RegistryError::Refused {
                name: name.clone(),
                rejections,
            });
        }
        self.stepped(name, step)?.consent = Some(consent);
        Ok(())
    }

    /// Refuses one that is not in effect, for a person's reason.
    pub fn reject(&mut self, name: &Word, reason: &str) -> Result<(), RegistryError> {
        let reason = reason.chars().take(WHO_MAX).collect();
        self.stepped(name, Step::Reject)?.reasons = vec![reason];
        Ok(())
    }

    /// Takes one out of effect, unless another one that is in effect needs it.
    pub fn disable(&mut self, name: &Word) -> Result<(), RegistryError> {
        let others = self.adopted();
        let mut others = others.iter().filter(|other| other.name != *name);
        let by = others.find(|other| {
            let mut needed = other.requires.iter().chain(&other.extends);
            needed.any(|wanted| wanted == name)
        });
        if let Some(by) = by {
            let by = by.name.clone();
            let name = name.clone();
            return Err(RegistryError::Needed { name, by });
        }
        self.stepped(name, Step::Disable)?.consent = None;
        Ok(())
    }

    /// Forgets one that is not in effect.
    pub fn forget(&mut self, name: &Word) -> Result<Entry, RegistryError> {
        match self.known(name)?.state {
            State::Adopted => Err(RegistryError::InEffect(name.clone())),
            _ => self
                .entries
                .remove(name)
                .ok_or_else(|| RegistryError::Unknown(name.clone())),
        }
    }

    fn known(&self, name: &Word) -> Result<&Entry, RegistryError> {
        let entry = self.entries.get(name);
        entry.ok_or_else(|| RegistryError::Unknown(name.clone()))
    }

    fn judged(&self, name: &Word) -> Result<Vec<Rejection>, RegistryError> {
        let adopted = self.adopted();
        let guard = Guard { adopted: &adopted };
        Ok(guard.judge(&self.known(name)?.extension))
    }

    fn stepped(&mut self, name: &Word, step: Step) -> Result<&mut Entry, RegistryError> {
        let entry = self.entries.get_mut(name);
        let entry = entry.ok_or_else(|| RegistryError::Unknown(name.clone()))?;
        match entry.state.after(step) {
            Some(state) => entry.state = state,
            None => {
                return Err(RegistryError::NoStep {
                    name: name.clone(),
                    state: entry.state,
                });
            }
        }
        Ok(entry)
    }
}

fn who(who: &str) -> Result<(), RegistryError> {
    match who.trim().is_empty() || who.len() > WHO_MAX {
        true => Err(RegistryError::Who),
        false => Ok(()),
    }
}
