//! What can be asked of the state, and the answers.

use std::collections::BTreeSet;

use kairos_protocol::block::entry::{CommitActor, CommitType};
use kairos_protocol::hash::ContentHash;
use kairos_protocol::state::{Diff, Pending, Side, Trigger, Unread};
use serde::Serialize;

use super::ledger::{Ledger, Records};
use super::pending::{due, pending};
use super::restore::{Step, steps};
use super::store::{Cause, Committed, Kept, StateStore};
use super::{Commit, Compare, HISTORY_MAX, StateError};

/// How the state stands against the last snapshot.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    /// Whether commits are made at all.
    pub enabled: bool,
    /// The last snapshot.
    pub last_commit: Option<Summary>,
    /// What names the state as it is.
    pub current_hash: ContentHash,
    /// Whether `current_hash` is the one the Ruby system computes; else it is the hash of the content.
    pub is_reference_hash: bool,
    /// The hash over every file.
    pub content_hash: ContentHash,
    /// Whether anything differs.
    pub has_changes: bool,
    /// How much.
    pub pending_changes: Pending,
    /// What.
    pub changes: Diff,
    /// Whether commits are made without being asked for.
    pub auto_commit: bool,
    /// Why one would be made now.
    pub trigger: Option<Trigger>,
    /// From how many pending changes on one is made.
    pub thresholds: Thresholds,
    /// Snapshots on disk.
    pub snapshot_count: usize,
    /// What the reference's hash leaves out.
    pub unread: Vec<Unread>,
    /// What is wrong, in words.
    pub problems: Vec<String>,
}

/// From how many pending changes on a commit is made by itself; nothing where their number does not matter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Thresholds {
    /// Changes of L1.
    pub l1_changes: Option<u64>,
    /// Changes of any layer.
    pub total_changes: Option<u64>,
}

/// A snapshot in a list.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    /// Name of the file.
    pub file: String,
    /// What names the state.
    pub snapshot_hash: ContentHash,
    /// The hash over every file; nothing for snapshots of the Ruby system.
    pub content_hash: Option<ContentHash>,
    /// When, as written.
    pub created_at: String,
    /// Who.
    pub created_by: String,
    /// `explicit` or `auto`.
    pub commit_type: String,
    /// Why.
    pub reason: String,
    /// Changes told in it.
    pub change_count: usize,
    /// The block that tells of it; nothing if that is too far back.
    pub block: Option<u64>,
}

/// Snapshots, newest first.
#[derive(Debug, Clone, Serialize)]
pub struct History {
    /// The snapshots.
    pub commits: Vec<Summary>,
    /// Files that are none, and why.
    pub problems: Vec<String>,
}

/// Two states side by side.
#[derive(Debug, Clone, Serialize)]
pub struct Comparison {
    /// File of the older one; nothing where there is no snapshot.
    pub before: Option<String>,
    /// File of the newer one; nothing for the state as it is.
    pub after: Option<String>,
    /// What changed.
    pub changes: Diff,
    /// The files that differ, by path; nothing where one side has no list of them.
    pub files: Option<Vec<Step>>,
    /// What is wrong, in words.
    pub problems: Vec<String>,
}

impl StateStore {
    pub(super) fn commit_now(
        &self,
        ledger: &dyn Ledger,
        message: &Commit,
    ) -> Result<Committed, StateError> {
        let reason = message.reason.trim();
        if reason.is_empty() {
            return Err(StateError::NoReason);
        }
        let held = self.hold(ledger)?;
        if !held.settings.enabled {
            return Err(StateError::Disabled);
        }
        let records = held.records(ledger)?;
        let look = held.look(&records)?;
        // What the reference committed is committed again, to keep its texts.
        let is_kept = !look.diff.changed && look.last_tree.is_some();
        if let Some(last) = look.last.as_ref().filter(|_| !message.force && is_kept) {
            return Err(StateError::NoChanges {
                last: last.snapshot.hash,
            });
        }
        let by = (CommitType::Explicit, CommitActor::Human);
        held.commit(
            ledger,
            &records,
            look,
            Cause {
                by,
                reason,
                needs: None,
            },
            Vec::new(),
        )
    }

    pub(super) fn review(
        &self,
        ledger: &dyn Ledger,
        ends: bool,
    ) -> Result<Option<(Trigger, Committed)>, StateError> {
        let settings = self.settings()?;
        if !settings.enabled || settings.auto.is_none() {
            return Ok(None);
        }
        let held = self.hold(ledger)?;
        let records = held.records(ledger)?;
        let look = held.look(&records)?;
        let pending = pending(&records, &look);
        let Some(trigger) = due(&held.settings, &pending, &look, ends) else {
            return Ok(None);
        };
        let reason = pending.reason(trigger);
        let cause = Cause {
            by: (CommitType::Auto, CommitActor::System),
            reason: &reason,
            needs: None,
        };
        let commit = held.commit(ledger, &records, look, cause, Vec::new())?;
        Ok(Some((trigger, commit)))
    }

    pub(super) fn status(&self, ledger: &dyn Ledger) -> Result<Status, StateError> {
        let held = self.hold(ledger)?;
        let records = held.records(ledger)?;
        let look = held.look(&records)?;
        let pending = pending(&records, &look);
        Ok(Status {
            enabled: held.settings.enabled,
            current_hash: look.manifest.snapshot_hash(),
            is_reference_hash: look.manifest.combined.is_some(),
            content_hash: look.manifest.tree.hash(),
            has_changes: look.diff.changed,
            auto_commit: held.settings.enabled && held.settings.auto.is_some(),
            trigger: due(&held.settings, &pending, &look, false),
            thresholds: held
                .settings
                .auto
                .map_or_else(Thresholds::default, |auto| Thresholds {
                    l1_changes: auto.l1_changes,
                    total_changes: auto.total_changes,
                }),
            snapshot_count: held.names()?.len(),
            last_commit: look.last.as_ref().map(|kept| summary(kept, &records)),
            pending_changes: pending,
            changes: look.diff,
            unread: look.manifest.unread,
            problems: look.problems,
        })
    }

    pub(super) fn history(&self, ledger: &dyn Ledger, limit: usize) -> Result<History, StateError> {
        let held = self.hold(ledger)?;
        let records = held.records(ledger)?;
        let (kept, problems) = held.all(&records)?;
        let shown = kept.iter().take(limit.min(HISTORY_MAX));
        let commits = shown.map(|kept| summary(kept, &records)).collect();
        Ok(History { commits, problems })
    }

    pub(super) fn compare(
        &self,
        ledger: &dyn Ledger,
        message: &Compare,
    ) -> Result<Comparison, StateError> {
        let held = self.hold(ledger)?;
        let records = held.records(ledger)?;
        let look = held.look(&records)?;
        let (before, old_tree) = match &message.before {
            None => (look.last, look.last_tree),
            Some(wanted) => {
                let kept = held.find(wanted, &records)?;
                let tree = held.tree(&kept)?;
                (Some(kept), tree)
            }
        };
        let (after, layers, new_tree) = match &message.after {
            None => (None, look.manifest.layers, Some(look.manifest.tree)),
            Some(wanted) => {
                let kept = held.find(wanted, &records)?;
                let tree = held.tree(&kept)?;
                (Some(kept.file), kept.snapshot.layers, tree)
            }
        };
        let side = before.as_ref().map(|kept| Side {
            layers: &kept.snapshot.layers,
            tree: old_tree.as_ref(),
        });
        let now = Side {
            layers: &layers,
            tree: new_tree.as_ref(),
        };
        let trees = old_tree.as_ref().zip(new_tree.as_ref());
        Ok(Comparison {
            changes: Diff::between(side, now, &BTreeSet::new()),
            files: trees.map(|(old, new)| steps(old, new)),
            before: before.map(|kept| kept.file),
            after,
            problems: look.problems,
        })
    }
}

fn summary(kept: &Kept, records: &Records) -> Summary {
    let Kept { file, snapshot } = kept;
    Summary {
        file: file.clone(),
        snapshot_hash: snapshot.hash,
        content_hash: snapshot.tree.map(|tree| tree.hash),
        created_at: snapshot.created_at.clone(),
        created_by: snapshot.created_by.clone(),
        commit_type: snapshot.commit_type.clone(),
        reason: snapshot.reason.clone(),
        change_count: snapshot.changes.len(),
        block: records.commit_of(file).map(|commit| commit.block),
    }
}
