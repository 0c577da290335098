//! Snapshots on disk: taken, found again, pruned; the file and its block are one unit.
//!
//! Blocking code. One process at a time works here, under the lock of the snapshots' directory. A snapshot is written
//! under a hidden name, then recorded, then given its name; whoever comes next settles what a crash left in between,
//! by what the ledger tells.

use std::collections::{BTreeSet, HashSet};
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fs_err::{self as fs, OpenOptions};
use kairos_protocol::block::entry::{CommitActor, CommitType, Entry, StateCommit, StateSummary};
use kairos_protocol::block::{Block, BlockRef};
use kairos_protocol::hash::ContentHash;
use kairos_protocol::state::{Diff, Manifest, Side, Snapshot, StateSettings, Tree};
use kairos_protocol::time::Clock;
use serde::Serialize;

use super::error::StateError;
use super::ledger::{LOOK_BACK_MAX, Ledger, Records};
use super::objects::Objects;
use super::pending::changes;
use super::scan::{self, scan};
use crate::file_lock;
use crate::passing::{INTENT, LOCK};
use crate::staging;
use crate::staging::sync_directory;

/// Longest settings file read, in bytes.
const SETTINGS_MAX: u64 = 1024 * 1024;
/// Looks at files that change meanwhile before giving up.
const LOOKS: u32 = 3;
/// Mode of directories made here.
const MODE: u32 = 0o755;

/// Keeps the snapshots of one data directory.
pub(super) struct StateStore {
    pub(super) data: PathBuf,
    pub(super) clock: Arc<dyn Clock>,
}

/// What a commit did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Committed {
    /// What names the state.
    pub snapshot_hash: ContentHash,
    /// The hash over every file.
    pub content_hash: ContentHash,
    /// `snapshots/FILE`.
    pub snapshot_ref: String,
    /// The block that tells of it.
    pub block: BlockRef,
    /// Whether somebody asked for it.
    pub commit_type: CommitType,
    /// Why.
    pub reason: String,
    /// How much changed.
    pub summary: StateSummary,
    /// What did not go well beside it, in words.
    pub problems: Vec<String>,
}

/// Why and by whom a commit is made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cause<'a> {
    pub(super) by: (CommitType, CommitActor),
    pub(super) reason: &'a str,
    /// A snapshot that is still needed, however old it is.
    pub(super) needs: Option<&'a str>,
}

/// A snapshot and the name of its file.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Kept {
    /// Name of the file.
    pub(super) file: String,
    /// What it holds.
    pub(super) snapshot: Snapshot,
}

/// The state as it is, against the last snapshot.
pub(super) struct Look {
    pub(super) manifest: Manifest,
    pub(super) last: Option<Kept>,
    pub(super) last_tree: Option<Tree>,
    pub(super) diff: Diff,
    pub(super) problems: Vec<String>,
}

/// The snapshots' directory, locked.
pub(super) struct Held<'a> {
    pub(super) store: &'a StateStore,
    pub(super) settings: StateSettings,
    pub(super) dir: PathBuf,
    pub(super) objects: Objects,
    _lock: std::fs::File,
}

impl StateStore {
    /// The settings in force now.
    pub(super) fn settings(&self) -> Result<StateSettings, StateError> {
        let bytes = match scan::read(&self.data.join("skills/config.yml"), SETTINGS_MAX) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error.into()),
        };
        Ok(match String::from_utf8(bytes) {
            Ok(text) => StateSettings::read(&text),
            Err(_) => StateSettings {
                problems: vec!["skills/config.yml is not UTF-8".to_owned()],
                ..StateSettings::default()
            },
        })
    }

    /// Locks the snapshots and settles what a crash left.
    pub(super) fn hold(&self, ledger: &dyn Ledger) -> Result<Held<'_>, StateError> {
        let settings = self.settings()?;
        let dir = self.data.join(&settings.snapshot_dir);
        let lock = file_lock::hold(&dir.join(LOCK))?;
        let held = Held {
            store: self,
            settings,
            objects: Objects::new(&dir),
            dir,
            _lock: lock,
        };
        held.settle(ledger)?;
        held.settle_restore(ledger)?;
        Ok(held)
    }
}

impl Held<'_> {
    /// Gives snapshots whose block is in the ledger their names, and removes those without one.
    fn settle(&self, ledger: &dyn Ledger) -> Result<(), StateError> {
        let mut left = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let name = entry?.file_name();
            left.extend(name.to_str().and_then(Staged::parse));
        }
        if left.is_empty() {
            return Ok(());
        }
        for staged in left {
            let path = self.dir.join(staged.name());
            let tells = |block: &Block| Records::tells(block, &staged.file);
            let keep = ledger.has(staged.after + 1, &tells)?;
            tracing::warn!(file = %staged.file, keep, "a commit of the state was interrupted; it is settled");
            match keep {
                true => fs::rename(path, self.dir.join(&staged.file))?,
                false => fs::remove_file(path)?,
            }
        }
        sync_directory(&self.dir)?;
        Ok(())
    }

    /// What the ledger tells. Without a snapshot no commit in it is of use, so it is not searched for one.
    pub(super) fn records(&self, ledger: &dyn Ledger) -> Result<Records, StateError> {
        let most = match self.names()?.is_empty() {
            true => 0,
            false => LOOK_BACK_MAX,
        };
        Ok(Records::read(ledger, most)?)
    }

    /// Compares the state with the last snapshot.
    pub(super) fn look(&self, records: &Records) -> Result<Look, StateError> {
        let mut problems = self.settings.problems.clone();
        let last = self.last(records, &mut problems)?;
        let last_tree = match last.as_ref().map(|kept| self.tree_like(kept, records)) {
            None => None,
            Some(Ok(tree)) => tree,
            Some(Err(error)) => {
                problems.push(error.to_string());
                None
            }
        };
        let manifest = scan(&self.store.data)?;
        let diff = Diff::between(
            last.as_ref().map(|kept| Side {
                layers: &kept.snapshot.layers,
                tree: last_tree.as_ref(),
            }),
            Side {
                layers: &manifest.layers,
                tree: Some(&manifest.tree),
            },
            &records.promoted,
        );
        Ok(Look {
            manifest,
            last,
            last_tree,
            diff,
            problems,
        })
    }

    /// Keeps others of ours from changing any layer. What a process that died left half changed is not ours to settle.
    pub(super) fn quiet(&self) -> Result<[staging::Held; 3], StateError> {
        let knowledge = self.store.data.join("knowledge");
        // Cleared only without an intent: one still needs what lies staged.
        let held = staging::Held::lock_as_left(&knowledge, MODE)?;
        match fs::symlink_metadata(knowledge.join(INTENT)) {
            Ok(_) => return Err(StateError::Unsettled),
            Err(error) if error.kind() == ErrorKind::NotFound => held.recover()?,
            Err(error) => return Err(error.into()),
        }
        // Whoever takes several takes them in this order.
        let [context, skills] = ["context", "skills"]
            .map(|layer| staging::Held::lock_as_left(&self.store.data.join(layer), MODE));
        Ok([held, context?, skills?])
    }

    /// Commits the state as `look` saw it: texts, snapshot and block, `entries` before it in the block.
    pub(super) fn commit(
        &self,
        ledger: &dyn Ledger,
        records: &Records,
        mut look: Look,
        cause: Cause<'_>,
        entries: Vec<String>,
    ) -> Result<Committed, StateError> {
        // Nobody of ours changes knowledge while it is read, or what is read is half of a change.
        let quiet = self.quiet()?;
        for attempt in 1.. {
            let seen = scan(&self.store.data)?;
            if self.keep(&seen, look.last_tree.as_ref())? {
                if seen.tree != look.manifest.tree {
                    look = self.look(records)?;
                }
                look.manifest = seen;
                break;
            }
            if attempt == LOOKS {
                return Err(StateError::Restless);
            }
        }
        drop(quiet);
        self.publish(ledger, records, look, cause, entries)
    }

    /// Keeps every text of the state; whether the files were still what was seen.
    fn keep(&self, seen: &Manifest, known: Option<&Tree>) -> Result<bool, StateError> {
        let known: HashSet<_> = known
            .into_iter()
            .flat_map(Tree::files)
            .map(|(_, file)| file.hash)
            .collect();
        for (path, file) in seen
            .tree
            .files()
            .filter(|(_, file)| !known.contains(&file.hash))
        {
            let bytes = match scan::read(&self.store.data.join(path), file.size) {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
                Err(error) => return Err(error.into()),
            };
            if ContentHash::of(&bytes) != file.hash {
                return Ok(false);
            }
            self.objects.put(file.hash, &bytes)?;
        }
        let tree = seen.tree.to_text();
        self.objects.put(ContentHash::of(&tree), tree.as_bytes())?;
        self.objects.sync()?;
        Ok(true)
    }

    fn publish(
        &self,
        ledger: &dyn Ledger,
        records: &Records,
        look: Look,
        cause: Cause<'_>,
        mut entries: Vec<String>,
    ) -> Result<Committed, StateError> {
        let now = self.store.clock.now();
        let changes = changes(records, &look, now);
        let snapshot = Snapshot::take(&look.manifest, cause.by, cause.reason, changes, now);
        let taken: BTreeSet<_> = self.names()?.into_iter().collect();
        let file = (0..)
            .map(|again| snapshot.file_name(now, again))
            .find(|name| !taken.contains(name));
        let file = file.unwrap_or_default();
        let staged = Staged {
            after: ledger.tip()?.map_or(0, |tip| tip.index),
            file: file.clone(),
        };
        let path = self.dir.join(staged.name());
        write(&path, snapshot.to_text().as_bytes())?;
        sync_directory(&self.dir)?;
        let newest = records.commits.first().and_then(|commit| commit.hash);
        let summary = look.diff.summary();
        let content_hash = look.manifest.tree.hash();
        let commit = StateCommit {
            commit_type: cause.by.0,
            actor: cause.by.1,
            prev_snapshot_hash: newest.or(look.last.as_ref().map(|kept| kept.snapshot.hash)),
            next_snapshot_hash: snapshot.hash,
            snapshot_ref: format!("snapshots/{file}"),
            summary: summary.clone(),
            reason: Some(cause.reason.to_owned()),
            timestamp: now,
            content_hash: Some(content_hash),
        };
        entries.push(Entry::StateCommit(commit).to_text());
        // If this fails the outcome may be unknown, so the file stays and the next command settles it.
        let block = ledger.append(entries)?;
        fs::rename(&path, self.dir.join(&file))?;
        sync_directory(&self.dir)?;
        let mut problems = look.problems;
        // The commit stands, whatever becomes of the old ones.
        let spared: Vec<_> = cause.needs.into_iter().chain([file.as_str()]).collect();
        if let Err(error) = self.prune(&spared, ledger) {
            problems.push(format!("old snapshots were not pruned: {error}"));
        }
        Ok(Committed {
            snapshot_hash: snapshot.hash,
            content_hash,
            snapshot_ref: format!("snapshots/{file}"),
            block,
            commit_type: cause.by.0,
            reason: cause.reason.to_owned(),
            summary,
            problems,
        })
    }
}

/// A snapshot on its way: the tip of the ledger before its block, and the name it will have.
#[derive(Debug, PartialEq, Eq)]
struct Staged {
    after: u64,
    file: String,
}

impl Staged {
    fn name(&self) -> String {
        format!(".{}.{}.new", self.file, self.after)
    }

    fn parse(name: &str) -> Option<Self> {
        let (file, after) = name
            .strip_prefix('.')?
            .strip_suffix(".new")?
            .rsplit_once('.')?;
        let after = after.parse().ok()?;
        is_snapshot(file).then(|| Self {
            after,
            file: file.to_owned(),
        })
    }
}

pub(super) fn is_snapshot(name: &str) -> bool {
    let body = name
        .strip_prefix("snapshot_")
        .and_then(|name| name.strip_suffix(".json"));
    body.is_some_and(|body| !body.contains(['/', '\0']))
}

/// Writes a new file, durably.
pub(super) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}
