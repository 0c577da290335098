//! The snapshots that are there: listed, read, found again, pruned.

use std::cmp::Reverse;
use std::collections::HashSet;
use std::io::{self, ErrorKind};

use fs_err as fs;
use kairos_protocol::state::{SNAPSHOT_MAX, Snapshot, Tree};
use kairos_protocol::time::Timestamp;

use super::error::StateError;
use super::ledger::{Ledger, Records};
use super::objects::TREE_MAX;
use super::scan;
use super::store::{Held, Kept, is_snapshot};
use crate::staging::sync_directory;

/// Snapshots beyond the setting that wait to be pruned together, as a part of the setting.
const SLACK: usize = 10;
/// Most snapshot files looked at.
const FILES_MAX: usize = 20_000;

impl Held<'_> {
    /// The names of all snapshots, oldest first by the time in them.
    pub(super) fn names(&self) -> Result<Vec<String>, StateError> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let name = entry?.file_name();
            let name = name.to_str().filter(|name| is_snapshot(name));
            names.extend(name.map(str::to_owned));
            if names.len() > FILES_MAX {
                let (what, max) = ("snapshots", FILES_MAX as u64);
                return Err(StateError::TooMuch { what, max });
            }
        }
        names.sort();
        Ok(names)
    }

    /// Reads one snapshot.
    pub(super) fn load(&self, file: &str) -> Result<Kept, StateError> {
        let path = self.dir.join(file);
        let unreadable = |source| StateError::Unreadable {
            file: file.to_owned(),
            source,
        };
        if !fs::symlink_metadata(&path)?.is_file() {
            return Err(io::Error::from(ErrorKind::NotFound).into());
        }
        let bytes = scan::read(&path, SNAPSHOT_MAX)?;
        if bytes.len() as u64 > SNAPSHOT_MAX {
            let (what, max) = ("bytes in a snapshot", SNAPSHOT_MAX);
            return Err(StateError::TooMuch { what, max });
        }
        let snapshot = Snapshot::parse(&bytes).map_err(unreadable)?;
        let file = file.to_owned();
        Ok(Kept { file, snapshot })
    }

    /// The last snapshot: the one that the newest commit in the ledger names. Without a commit there, the one with
    /// the newest time in it. What cannot be used is told and never taken for «none».
    pub(super) fn last(
        &self,
        records: &Records,
        problems: &mut Vec<String>,
    ) -> Result<Option<Kept>, StateError> {
        for commit in &records.commits {
            let kept = match is_snapshot(&commit.file) {
                true => self.load(&commit.file),
                false => Err(StateError::NotFound {
                    wanted: commit.file.clone(),
                    several: false,
                }),
            };
            match kept {
                Ok(kept) if commit.hash == Some(kept.snapshot.hash) => return Ok(Some(kept)),
                Ok(kept) => problems.push(format!(
                    "{} is not the snapshot that block {} tells of",
                    kept.file, commit.block
                )),
                Err(StateError::Io(error)) if error.kind() == ErrorKind::NotFound => {
                    problems.push(format!(
                        "{}, told of by block {}, is gone",
                        commit.file, commit.block
                    ));
                }
                Err(error) => problems.push(error.to_string()),
            }
        }
        let (kept, unusable) = self.all(records)?;
        problems.extend(unusable);
        problems.dedup();
        Ok(kept.into_iter().next())
    }

    /// Every snapshot, newest first, and what is wrong with files that are none.
    pub(super) fn all(&self, records: &Records) -> Result<(Vec<Kept>, Vec<String>), StateError> {
        let (mut kept, mut problems) = (Vec::new(), Vec::new());
        for name in self.names()? {
            match self.load(&name) {
                Ok(snapshot) => kept.push(snapshot),
                Err(StateError::Io(error)) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => problems.push(error.to_string()),
            }
        }
        // Snapshots of one second are in the order of their blocks, as far as those are known.
        kept.sort_by_cached_key(|kept| {
            let time = Timestamp::parse(&kept.snapshot.created_at).ok();
            let block = records.commit_of(&kept.file).map(|commit| commit.block);
            Reverse((time, block, kept.file.len(), kept.file.clone()))
        });
        Ok((kept, problems))
    }

    /// The list of files of a snapshot; nothing for one of the reference.
    pub(super) fn tree(&self, kept: &Kept) -> Result<Option<Tree>, StateError> {
        let Some(tree) = kept.snapshot.tree else {
            return Ok(None);
        };
        let bytes = self.objects.get(tree.hash, TREE_MAX)?;
        let damaged = StateError::Object {
            hash: tree.hash,
            what: "damaged",
        };
        let text = String::from_utf8(bytes).map_err(|_| damaged)?;
        Ok(Some(Tree::parse(&text)?))
    }

    /// The list of files of a snapshot, or, for one of the reference, of the newest one of ours with the same hash:
    /// what changed since then is kept nowhere.
    pub(super) fn tree_like(
        &self,
        kept: &Kept,
        records: &Records,
    ) -> Result<Option<Tree>, StateError> {
        if kept.snapshot.tree.is_some() {
            return self.tree(kept);
        }
        let alike = |other: &Kept| {
            other.snapshot.tree.is_some() && other.snapshot.hash == kept.snapshot.hash
        };
        match self.all(records)?.0.into_iter().find(alike) {
            Some(other) => self.tree(&other),
            None => Ok(None),
        }
    }

    /// Once there are a tenth more snapshots than the setting allows, removes the oldest ones beyond it but the `spared` ones, and the texts that no snapshot needs any
    /// more. A clock that went back makes the newest snapshot look old, so it has to be spared too.
    pub(super) fn prune(&self, spared: &[&str], ledger: &dyn Ledger) -> Result<(), StateError> {
        // All snapshots are read to prune one, so several are pruned at once.
        let slack = self.settings.max_snapshots / SLACK;
        if self.names()?.len() <= self.settings.max_snapshots + slack {
            return Ok(());
        }
        let (mut stay, problems) = self.all(&self.records(ledger)?)?;
        let gone = stay.split_off(self.settings.max_snapshots.min(stay.len()));
        let (needed, gone): (Vec<_>, Vec<_>) = gone
            .into_iter()
            .partition(|old| spared.contains(&old.file.as_str()));
        stay.extend(needed);
        for old in &gone {
            fs::remove_file(self.dir.join(&old.file))?;
        }
        sync_directory(&self.dir)?;
        // What an unreadable snapshot needs is unknown, so nothing is swept while there is one.
        if !problems.is_empty() {
            return Ok(());
        }
        let mut needed = HashSet::new();
        for kept in &stay {
            if let (Some(of), Some(tree)) = (kept.snapshot.tree, self.tree(kept)?) {
                needed.insert(of.hash);
                needed.extend(tree.files().map(|(_, file)| file.hash));
            }
        }
        self.objects.sweep(&needed)?;
        Ok(())
    }

    /// The snapshot that `wanted` means: `last`, the name of a file, or the start of a hash or of a time.
    pub(super) fn find(&self, wanted: &str, records: &Records) -> Result<Kept, StateError> {
        let not_found = |several| StateError::NotFound {
            wanted: wanted.to_owned(),
            several,
        };
        if wanted == "last" {
            return self
                .last(records, &mut Vec::new())?
                .ok_or_else(|| not_found(false));
        }
        let name = wanted.strip_prefix("snapshots/").unwrap_or(wanted);
        let names = self.names()?;
        if names.iter().any(|known| known == name) {
            return self.load(name);
        }
        // Too short a start would mean anything.
        if wanted.len() < 4 {
            return Err(not_found(false));
        }
        let (kept, _) = self.all(records)?;
        let meant = |kept: &Kept| {
            let stamp = kept.file.strip_prefix("snapshot_").unwrap_or_default();
            kept.snapshot.hash.to_hex().starts_with(wanted) || stamp.starts_with(wanted)
        };
        let mut found = kept.into_iter().filter(meant);
        let first = found.next().ok_or_else(|| not_found(false))?;
        // Several of one state are the same to restore.
        match found.all(|other| {
            other.snapshot.hash == first.snapshot.hash && other.snapshot.tree == first.snapshot.tree
        }) {
            true => Ok(first),
            false => Err(not_found(true)),
        }
    }
}
