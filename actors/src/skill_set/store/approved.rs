//! Changes that a person has seen and approved: prepared as they are now, with what they go from and to.

use std::path::Path;
use std::sync::Arc;

use kairos_place::proposal::{self, SetChange, SetState};
use kairos_protocol::block::entry::Entry;
use kairos_protocol::time::Timestamp;

use super::{Change, Options, SkillSetError, SkillSetStore};
use crate::staging::Held;

impl Change {
    /// Adds the decision, recorded in the same block as its own entry; without one both are recorded already. `lock`
    /// is held as long as the change is under way.
    pub(crate) fn approve(&mut self, decision: Option<Entry>, lock: Arc<Held>) {
        match decision {
            Some(decision) => self.entries.push(decision),
            None => self.entries.clear(),
        }
        self.approval = Some(lock);
    }
}

impl SkillSetStore {
    /// Prepares what `wanted` asks for, with the consent of a person where that is needed, and tells what becomes of
    /// the SkillSet. Dropping the change undoes it, so this is also how a proposal is looked at.
    ///
    /// Fails with [`SkillSetError::Unchanged`] if everything is that way already, and with
    /// [`SkillSetError::NotFound`] for what is no change of a SkillSet.
    pub fn prepare(
        &self,
        wanted: &proposal::Change,
        now: Timestamp,
    ) -> Result<(Change, SetChange), SkillSetError> {
        use proposal::Change as Wanted;
        let change = match wanted {
            Wanted::SkillsetInstall {
                source,
                force,
                layer,
                ..
            } => {
                let options = Options {
                    force: *force,
                    layer: *layer,
                    approved: true,
                };
                self.install(Path::new(source), options, now)?
            }
            Wanted::SkillsetEnable { name } => self.enable(name.as_str(), now)?,
            Wanted::SkillsetDisable { name } => self.switch_off(name.as_str(), true, now)?,
            Wanted::SkillsetRemove { name } => self.take_away(name.as_str(), true, now)?,
            Wanted::KnowledgeCreate { .. }
            | Wanted::KnowledgeUpdate { .. }
            | Wanted::KnowledgeDelete { .. }
            | Wanted::Law
            | Wanted::SkillEvolve { .. }
            | Wanted::SkillAdd { .. }
            | Wanted::SkillRemove { .. }
            | Wanted::LawRollback { .. }
            | Wanted::Instructions { .. }
            | Wanted::InstructionsDelete { .. }
            | Wanted::InstructionsMode { .. }
            | Wanted::ExtensionAdopt { .. }
            | Wanted::ExtensionDisable { .. } => {
                return Err(SkillSetError::NotFound(wanted.subject().to_owned()));
            }
        };
        let outcome = change.outcome();
        if outcome.action.is_none() {
            return Err(SkillSetError::Unchanged(outcome.set.metadata.name.clone()));
        }
        // The change holds the lock and is not made yet, so this is how it was.
        let before = self.state(outcome.set.metadata.name.as_str())?;
        let goes = matches!(wanted, Wanted::SkillsetRemove { .. });
        let hash = outcome.content_hash;
        let hash = hash.or(before.as_ref().map(|set| set.content_hash));
        let after = hash.filter(|_| !goes).map(|content_hash| SetState {
            version: outcome.set.metadata.version.clone(),
            layer: outcome.set.layer,
            enabled: outcome.set.enabled,
            content_hash,
        });
        Ok((change, SetChange { before, after }))
    }

    /// The SkillSet `name` as it is; nothing if it is not installed.
    pub fn state(&self, name: &str) -> Result<Option<SetState>, SkillSetError> {
        let set = match self.find(name) {
            Ok(set) => set,
            Err(SkillSetError::NotFound(_)) => return Ok(None),
            Err(error) => return Err(error),
        };
        Ok(Some(SetState {
            content_hash: self.content_hash(name)?,
            version: set.metadata.version,
            layer: set.layer,
            enabled: set.enabled,
        }))
    }
}
