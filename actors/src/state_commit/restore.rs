//! Bringing the layers back to a snapshot: every text is checked first, each file is replaced whole, and an intent
//! on disk lets whoever comes after a crash complete it, or take it back.

use std::collections::{BTreeSet, HashSet};
use std::fs::Permissions;
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use fs_err as fs;
use kairos_protocol::block::ENTRIES_MAX;
use kairos_protocol::block::entry::{
    CommitActor, CommitType, Entry, KnowledgeAction, KnowledgeUpdate,
};
use kairos_protocol::hash::ContentHash;
use kairos_protocol::state::{Tree, TreeFile};
use kairos_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::error::StateError;
use super::ledger::{Ledger, recorded};
use super::objects::OBJECT_MAX;
use super::scan;
use super::store::{Cause, Committed, Held, StateStore, write};
use crate::passing::RESTORED;
use crate::skills::{SkillsError, transition};
use crate::staging::sync_directory;

/// The law, which changes by its own rules also here.
const LAW: &str = "skills/kairos.rb";
/// The intent, beside the snapshots.
const INTENT: &str = ".restore.json";
/// The intent before it has its name: of a restore that has not begun.
const UNBEGUN: &str = ".restore.new";
/// Longest intent read, in bytes: two hashes and a path for each of the most files.
const INTENT_MAX: u64 = 256 * 1024 * 1024;

/// Whether this may be the law, in the place of the one that is.
pub(super) type MayChange<'a> = &'a dyn Fn(Vec<u8>) -> Result<(), SkillsError>;

/// A file that differs between the state and a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Path below the data directory.
    pub path: String,
    /// What is there now; nothing where there is no file.
    pub from: Option<TreeFile>,
    /// What the snapshot holds; nothing where it has no such file.
    pub to: Option<TreeFile>,
}

/// What a restore did, or would do.
#[derive(Debug, Clone, Serialize)]
pub struct Restored {
    /// The snapshot's file.
    pub file: String,
    /// Whether the ledger tells of this snapshot and its content; false if its commit is too far back to be seen.
    pub confirmed: bool,
    /// The files that differ, by path.
    pub steps: Vec<Step>,
    /// The commit that kept what was there before, if it was not kept already.
    pub safety: Option<Committed>,
    /// The commit of the restored state; nothing where only asked what would be done, or nothing differs.
    pub commit: Option<Committed>,
}

/// What has to be done, written down before it is begun.
#[derive(Debug, Serialize, Deserialize)]
struct Intent {
    /// The snapshot's file.
    file: String,
    /// The reason of the commit at the end, by which it is found again.
    reason: String,
    /// The tip of the ledger before.
    after: u64,
    steps: Vec<Step>,
    /// Entries for the ledger, as text.
    updates: Vec<String>,
}

impl StateStore {
    /// Brings the layers back to the snapshot that `wanted` means, or tells what that would do.
    pub(super) fn restore(
        &self,
        ledger: &dyn Ledger,
        wanted: &str,
        dry_run: bool,
        may: MayChange<'_>,
    ) -> Result<Restored, StateError> {
        let held = self.hold(ledger)?;
        if !held.settings.enabled {
            return Err(StateError::Disabled);
        }
        let records = held.records(ledger)?;
        let kept = held.find(wanted, &records)?;
        let file = kept.file.clone();
        let Some(target) = held.tree(&kept)? else {
            return Err(StateError::NoTexts { file });
        };
        let content = target.hash();
        let recorded = records.commit_of(&file);
        if let Some(recorded) = recorded {
            let other = |what| StateError::NotAsRecorded {
                file: file.clone(),
                block: recorded.block,
                what,
            };
            if recorded.hash != Some(kept.snapshot.hash) {
                return Err(other("state"));
            }
            if recorded.content != Some(content) {
                return Err(other("content"));
            }
        }
        let look = held.look(&records)?;
        let mut restored = Restored {
            confirmed: recorded.is_some(),
            steps: steps(&look.manifest.tree, &target),
            safety: None,
            commit: None,
            file,
        };
        for step in &restored.steps {
            held.check(step)?;
        }
        if dry_run || restored.steps.is_empty() {
            return Ok(restored);
        }
        if let Some(step) = restored.steps.iter().find(|step| step.path == LAW) {
            let law = match step.to {
                Some(to) => held.objects.get(to.hash, OBJECT_MAX)?,
                None => Vec::new(),
            };
            may(law).map_err(|error| StateError::Law(Box::new(error)))?;
        }
        let before = look.manifest.tree.clone();
        let is_kept = look.last_tree.as_ref() == Some(&before);
        let last = look.last.as_ref().map(|last| reference(&last.file));
        if !is_kept {
            let reason = format!("Before restoring {}", restored.file);
            let cause = Cause {
                needs: Some(&restored.file),
                ..human(&reason)
            };
            restored.safety = Some(held.commit(ledger, &records, look, cause, Vec::new())?);
        }
        let records = held.records(ledger)?;
        let now = held.look(&records)?;
        if now.manifest.tree != before {
            return Err(StateError::Restless);
        }
        let after = ledger.tip()?.map_or(0, |tip| tip.index);
        let reason = format!("Restore {} ({after})", restored.file);
        let safety = restored.safety.as_ref();
        let kept = safety.map(|safety| safety.snapshot_ref.clone()).or(last);
        let law = restored.steps.iter().find(|step| step.path == LAW);
        let mut updates = updates(&before, &target, &reason, self.clock.now());
        if let Some(step) = law {
            updates.push(held.law(step, kept)?);
        }
        let intent = Intent {
            updates,
            file: restored.file.clone(),
            steps: restored.steps.clone(),
            reason,
            after,
        };
        held.begin(&intent)?;
        let stay = match held.apply(&intent.steps) {
            Ok(stay) => stay,
            Err(error) => return Err(held.take_back(&intent, error)),
        };
        restored.steps.retain(|step| !stay.contains(&step.path));
        restored.commit = held.record(ledger, &intent, &stay)?;
        Ok(restored)
    }
}

impl Held<'_> {
    /// Completes a restore that was interrupted, or takes it back if it cannot be completed.
    pub(super) fn settle_restore(&self, ledger: &dyn Ledger) -> Result<(), StateError> {
        let bytes = match scan::read(&self.dir.join(INTENT), INTENT_MAX) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return self.forget_unbegun(),
            Err(error) => return Err(error.into()),
        };
        let intent: Intent = serde_json::from_slice(&bytes).map_err(io::Error::from)?;
        tracing::warn!(file = %intent.file, "a restore was interrupted; it is completed");
        // Written by us, yet believed no further than any file: a path must be one of a layer.
        for step in &intent.steps {
            let file = step
                .to
                .or(step.from)
                .ok_or_else(|| io::Error::from(ErrorKind::InvalidData))?;
            Tree::default().add(&step.path, file)?;
        }
        match self.apply(&intent.steps) {
            Ok(stay) => self.record(ledger, &intent, &stay).map(drop),
            Err(error) => match self.take_back(&intent, error) {
                error @ StateError::HalfRestored(_) => Err(error),
                error => {
                    tracing::warn!(%error, "an interrupted restore was taken back");
                    Ok(())
                }
            },
        }
    }

    fn forget_unbegun(&self) -> Result<(), StateError> {
        match fs::remove_file(self.dir.join(UNBEGUN)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Checks that the step can be taken: its text is kept and whole, and nothing is in its way.
    fn check(&self, step: &Step) -> Result<(), StateError> {
        if let Some(to) = step.to {
            self.objects.get(to.hash, OBJECT_MAX)?;
        }
        self.folder(&step.path, false).map(drop)
    }

    /// What the ledger is told of the law; `kept` is the snapshot that holds the former one.
    fn law(&self, step: &Step, kept: Option<String>) -> Result<String, StateError> {
        let before = match step.from {
            None => None,
            Some(from) => {
                let bytes = scan::read(&self.store.data.join(LAW), OBJECT_MAX)?;
                match ContentHash::of(&bytes) == from.hash {
                    true => Some(bytes),
                    false => return Err(StateError::Restless),
                }
            }
        };
        let after = step.to.map(|to| self.objects.get(to.hash, OBJECT_MAX));
        let (after, now) = (after.transpose()?, self.store.clock.now());
        let told = transition(before.as_deref(), after.as_deref(), kept, now)?;
        Ok(Entry::SkillTransition(told).to_text())
    }

    fn begin(&self, intent: &Intent) -> Result<(), StateError> {
        let text = serde_json::to_vec(intent).map_err(io::Error::from)?;
        let staged = self.dir.join(UNBEGUN);
        write(&staged, &text)?;
        fs::rename(staged, self.dir.join(INTENT))?;
        sync_directory(&self.dir)?;
        Ok(())
    }

    fn end(&self) -> Result<(), StateError> {
        fs::remove_file(self.dir.join(INTENT))?;
        sync_directory(&self.dir)?;
        Ok(())
    }

    /// Undoes what was done of a restore that failed with `cause`, and returns that.
    fn take_back(&self, intent: &Intent, cause: StateError) -> StateError {
        let back: Vec<_> = intent
            .steps
            .iter()
            .rev()
            .map(|step| Step {
                path: step.path.clone(),
                from: step.to,
                to: step.from,
            })
            .collect();
        match self.apply(&back).and_then(|_| self.end()) {
            Ok(()) => cause,
            Err(_) => StateError::HalfRestored(Box::new(cause)),
        }
    }

    /// Takes each step that is not taken yet. A file that is neither what was nor what shall be was changed by
    /// somebody meanwhile, and stays; returns the paths of those.
    fn apply(&self, steps: &[Step]) -> Result<BTreeSet<String>, StateError> {
        let quiet = self.quiet()?;
        let mut stay = BTreeSet::new();
        // Files go first, since a directory may take the place of one.
        let (gone, come): (Vec<_>, Vec<_>) = steps.iter().partition(|step| step.to.is_none());
        for step in gone.into_iter().chain(come) {
            let target = self.store.data.join(&step.path);
            let now = state(&target)?;
            if now == step.to.map(|to| (to.hash, to.executable)) {
                continue;
            }
            if now != step.from.map(|from| (from.hash, from.executable)) {
                tracing::warn!(path = %step.path, "changed by somebody else during a restore; it stays");
                stay.insert(step.path.clone());
                continue;
            }
            match step.to {
                None => self.remove(&target)?,
                Some(to) => self.replace(step, to)?,
            }
        }
        drop(quiet);
        Ok(stay)
    }

    /// The directory of `path`, made if `make`; nothing on the way may be a link.
    fn folder(&self, path: &str, make: bool) -> Result<PathBuf, StateError> {
        let mut folder = self.store.data.clone();
        let parents = path.rsplit_once('/').map_or("", |(parents, _)| parents);
        for part in parents.split('/').filter(|part| !part.is_empty()) {
            folder.push(part);
            match fs::symlink_metadata(&folder) {
                Ok(found) if found.is_dir() => {}
                Ok(found) if found.is_file() && !make => return Ok(folder),
                Ok(_) => {
                    return Err(StateError::InTheWay {
                        path: path.to_owned(),
                    });
                }
                Err(error) if error.kind() == ErrorKind::NotFound && make => {
                    fs::create_dir(&folder)?
                }
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(folder),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(folder)
    }

    fn replace(&self, step: &Step, to: TreeFile) -> Result<(), StateError> {
        let bytes = self.objects.get(to.hash, OBJECT_MAX)?;
        let folder = self.folder(&step.path, true)?;
        clear_staged(&folder)?;
        let mut file = tempfile::Builder::new()
            .prefix(RESTORED)
            .tempfile_in(&folder)?;
        file.write_all(&bytes)?;
        let mode = if to.executable { 0o755 } else { 0o644 };
        file.as_file()
            .set_permissions(Permissions::from_mode(mode))?;
        file.as_file().sync_all()?;
        file.persist(self.store.data.join(&step.path))
            .map_err(|error| error.error)?;
        sync_directory(&folder)?;
        Ok(())
    }

    /// Removes a file, and the directories that are empty without it, but no layer itself.
    fn remove(&self, target: &Path) -> Result<(), StateError> {
        fs::remove_file(target)?;
        let layers = ["knowledge", "context", "skills"].map(|layer| self.store.data.join(layer));
        let mut folder = target.parent();
        while let Some(empty) = folder.filter(|folder| !layers.iter().any(|layer| layer == folder))
        {
            clear_staged(empty)?;
            if std::fs::remove_dir(empty).is_err() {
                break;
            }
            folder = empty.parent();
        }
        if let Some(folder) = folder {
            sync_directory(folder)?;
        }
        Ok(())
    }

    /// Tells the ledger of a restore that is done; nothing if it knows already. It is not told of entries with files
    /// that `stay`: those are not what the snapshot holds.
    fn record(
        &self,
        ledger: &dyn Ledger,
        intent: &Intent,
        stay: &BTreeSet<String>,
    ) -> Result<Option<Committed>, StateError> {
        let records = self.records(ledger)?;
        let is_its = |reason: &str, block| reason == intent.reason && block > intent.after;
        if records
            .commits
            .iter()
            .any(|commit| is_its(&commit.reason, commit.block))
        {
            self.end()?;
            return Ok(None);
        }
        let stays: BTreeSet<_> = stay.iter().filter_map(|path| entry_of(path)).collect();
        let is_so = |update: &&String| match Entry::read(update) {
            Ok(Entry::KnowledgeUpdate(update)) => !stays.contains(update.knowledge_id.as_str()),
            Ok(Entry::SkillTransition(_)) => !stay.contains(LAW),
            _ => true,
        };
        let updates: Vec<_> = intent.updates.iter().filter(is_so).cloned().collect();
        // A restore that was interrupted has told of some.
        let known = match updates.len() < ENTRIES_MAX {
            true => HashSet::new(),
            false => recorded(ledger, intent.after, &updates)?,
        };
        let mut chunks = updates.chunks(ENTRIES_MAX - 1);
        // The last ones share the block of the commit.
        let last = chunks.next_back().unwrap_or_default();
        for chunk in chunks {
            if !chunk.iter().all(|text| known.contains(text.as_str())) {
                ledger.append(chunk.to_vec())?;
            }
        }
        let records = self.records(ledger)?;
        let look = self.look(&records)?;
        let mut commit =
            self.commit(ledger, &records, look, human(&intent.reason), last.to_vec())?;
        let changed = |path| format!("{path} was changed by somebody else meanwhile; it stays");
        commit.problems.extend(stay.iter().map(changed));
        self.end()?;
        Ok(Some(commit))
    }
}

/// The entry of L1 that the file at `path` belongs to, archived or not.
fn entry_of(path: &str) -> Option<&str> {
    let below = path
        .strip_prefix("knowledge/.archived/")
        .or_else(|| path.strip_prefix("knowledge/"))?;
    let (entry, _) = below.split_once('/')?;
    (!entry.starts_with('.')).then_some(entry)
}

/// How the ledger names a snapshot.
fn reference(file: &str) -> String {
    format!("snapshots/{file}")
}

fn human(reason: &str) -> Cause<'_> {
    Cause {
        by: (CommitType::Explicit, CommitActor::Human),
        reason,
        needs: None,
    }
}

/// What differs between two trees, by path.
pub(super) fn steps(from: &Tree, to: &Tree) -> Vec<Step> {
    let mut paths: Vec<&str> = from
        .files()
        .chain(to.files())
        .map(|(path, _)| path)
        .collect();
    paths.sort_unstable();
    paths.dedup();
    let step = |path: &str| Step {
        path: path.to_owned(),
        from: from.get(path).copied(),
        to: to.get(path).copied(),
    };
    paths
        .into_iter()
        .map(step)
        .filter(|step| step.from != step.to)
        .collect()
}

/// Where an entry of L1 is, and the hash of its main text.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Active(ContentHash),
    Archived(ContentHash),
}

/// What becomes of each entry of L1 whose place or main text changes, as entries of the ledger.
fn updates(from: &Tree, to: &Tree, reason: &str, now: Timestamp) -> Vec<String> {
    let names = |tree: &Tree| {
        tree.files()
            .filter_map(|(path, _)| entry_of(path).map(str::to_owned))
            .collect::<BTreeSet<_>>()
    };
    let mut all = names(from);
    all.extend(names(to));
    let mut entries = Vec::new();
    for name in all {
        let (before, after) = (place(from, &name), place(to, &name));
        let hash = |place| match place {
            Place::Active(hash) | Place::Archived(hash) => hash,
        };
        let action = match (before, after) {
            (before, after) if before == after => continue,
            (Some(Place::Active(_)), Some(Place::Active(_))) => KnowledgeAction::Update,
            (_, Some(Place::Archived(_))) => KnowledgeAction::Archive,
            (Some(Place::Archived(_)), Some(Place::Active(_))) => KnowledgeAction::Unarchive,
            (None, Some(Place::Active(_))) => KnowledgeAction::Create,
            (_, None) => KnowledgeAction::Delete,
        };
        let hashes = (before.map(hash), after.map(hash));
        let update = KnowledgeUpdate::new(name, action, hashes, Some(reason.to_owned()), now);
        entries.push(Entry::KnowledgeUpdate(update).to_text());
    }
    entries
}

fn place(tree: &Tree, name: &str) -> Option<Place> {
    let main = |folder: String| {
        let own = tree.get(&format!("{folder}{name}.md"));
        let first = || {
            let mut files = tree
                .files()
                .filter_map(|(path, file)| Some((path.strip_prefix(&folder)?, file)));
            let main = files.find(|(below, _)| {
                below.ends_with(".md") && !below.contains('/') && !below.starts_with('.')
            });
            main.map(|(_, file)| file)
        };
        own.or_else(first).map(|file| file.hash)
    };
    let active = main(format!("knowledge/{name}/")).map(Place::Active);
    active.or_else(|| main(format!("knowledge/.archived/{name}/")).map(Place::Archived))
}

/// What is at `target`: hash and whether it may be executed; nothing where there is no file.
fn state(target: &Path) -> Result<Option<(ContentHash, bool)>, StateError> {
    let found = match fs::symlink_metadata(target) {
        Ok(found) => found,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(error.into()),
    };
    if !found.is_file() {
        return Ok(None);
    }
    let bytes = scan::read(target, OBJECT_MAX)?;
    Ok(Some((
        ContentHash::of(bytes),
        found.permissions().mode() & 0o100 != 0,
    )))
}

/// Removes what a crash left of a file on its way.
fn clear_staged(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(RESTORED) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}
