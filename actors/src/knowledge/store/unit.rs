//! A change of files and its record in the ledger, as one unit.
//!
//! Everything new is made durable beside its target first. Then the *intent* is written: the entries for the ledger,
//! where the ledger ended, and the renames to come. Then the ledger gets the entries, which decides: before that the
//! knowledge is as it was, after it the renames are only a matter of time. Whoever next takes the lock finds the
//! intent of a process that died, looks for its entries in the ledger behind the place it names, and goes forward or
//! back. While an intent is there nobody else can record knowledge, so an entry is never taken for another one, and
//! none is written twice.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind, Write as _};
use std::path::{Component, Path};

use fs_err::{self as fs, File, OpenOptions};
use kairos_place::proposal::ProposalId;
use kairos_protocol::block::BlockRef;
use kairos_protocol::hash::ContentHash;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{KnowledgeError, KnowledgeStore, MODE};
use crate::beneath;
use crate::passing::{INTENT, INTENT_NEW, STAGED};
use crate::staging::{Held, exists, sync_directory};

/// Longest intent read, in bytes: entries have reasons, and those are bounded with them.
const INTENT_MAX: u64 = 4 * 1024 * 1024;
/// Version of the intent. Version 1 had one entry in each block and at most one guard; it is read too.
const VERSION: u32 = 2;
/// Start of the name that the intent of an approved change gets where its files were left alone.
const OVERTAKEN: &str = ".overtaken-";

/// What is about to happen, as written to disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::knowledge) struct Intent {
    version: u32,
    /// Tells one intent from another.
    pub(in crate::knowledge) id: Uuid,
    /// The knowledge it is about.
    pub(in crate::knowledge) name: String,
    /// Where the ledger ended; nothing if there was none.
    pub(in crate::knowledge) tip: Option<BlockRef>,
    /// What the ledger gets, block by block.
    pub(in crate::knowledge) blocks: Vec<Vec<String>>,
    /// What must be true of the files before the first step.
    guards: Guards,
    steps: Vec<Step>,
    /// The approval that it carries out.
    approval: Option<ProposalId>,
}

/// An intent as version 1 had it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct IntentOne {
    version: u32,
    id: Uuid,
    name: String,
    tip: Option<BlockRef>,
    entries: Vec<String>,
    guard: Option<Guard>,
    steps: Vec<Step>,
}

impl From<IntentOne> for Intent {
    fn from(one: IntentOne) -> Self {
        Self {
            version: one.version,
            id: one.id,
            name: one.name,
            tip: one.tip,
            blocks: one.entries.into_iter().map(|entry| vec![entry]).collect(),
            guards: Guards::from(one.guard),
            steps: one.steps,
            approval: None,
        }
    }
}

/// What must be true of the files before the first step.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Guards {
    /// Files as they must be.
    pub(super) files: Vec<Guard>,
    /// A directory in which nothing else may be.
    pub(super) alone: Option<String>,
}

impl From<Option<Guard>> for Guards {
    fn from(guard: Option<Guard>) -> Self {
        Self {
            files: guard.into_iter().collect(),
            alone: None,
        }
    }
}

/// A file as it must be, or a path that must be free.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Guard {
    /// Below the knowledge directory.
    pub(super) path: String,
    /// The hash of the file; nothing where nothing may be.
    pub(super) hash: Option<ContentHash>,
}

/// One rename or removal, with paths below the knowledge directory. Done twice it is as if done once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Step {
    /// Renames, over a file if one is there.
    Move { from: String, to: String },
    /// Removes a file, or a directory with all in it.
    Remove { path: String },
}

/// A change that is staged and not yet intended.
#[derive(Debug)]
pub(in crate::knowledge) struct Prepared<T> {
    pub(super) held: Held,
    pub(super) name: String,
    pub(super) blocks: Vec<Vec<String>>,
    pub(super) guards: Guards,
    pub(super) steps: Vec<Step>,
    pub(super) approval: Option<ProposalId>,
    /// What will have been done.
    pub(super) done: T,
}

impl<T> Prepared<T> {
    pub(super) fn map<U>(self, map: impl FnOnce(T) -> U) -> Prepared<U> {
        let Self {
            held,
            name,
            blocks,
            guards,
            steps,
            approval,
            done,
        } = self;
        Prepared {
            held,
            name,
            blocks,
            guards,
            steps,
            approval,
            done: map(done),
        }
    }
}

/// The knowledge directory, locked, and what a crash left in it.
#[derive(Debug)]
pub(in crate::knowledge) struct Locked {
    pub(in crate::knowledge) held: Held,
    pub(in crate::knowledge) left: Option<Intent>,
}

/// A point that a change reaches, where tests make it fail or die.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Point {
    /// Everything new lies beside its target.
    Staged,
    /// The intent is durable.
    Intended,
    /// The ledger has so many of its entries.
    Recorded(usize),
    /// So many steps are done.
    Stepped(usize),
    /// All is done but the removal of the intent.
    Done,
}

impl KnowledgeStore {
    /// Takes the lock, waiting for others, and reads what a crash left. Nothing is cleared away.
    pub(in crate::knowledge) fn lock(&self) -> Result<Locked, KnowledgeError> {
        let held = Held::lock_as_left(&self.root(), MODE)?;
        self.locked(held)
    }

    /// As [`Self::lock`], but nothing if no intent is there or somebody is at work on it.
    pub(in crate::knowledge) fn lock_if_left(&self) -> Result<Option<Locked>, KnowledgeError> {
        if !self.has_intent() {
            return Ok(None);
        }
        let held = Held::try_lock_as_left(&self.root(), MODE)?;
        held.map(|held| self.locked(held)).transpose()
    }

    /// Whether somebody is at work, or was until a crash.
    pub(in crate::knowledge) fn has_intent(&self) -> bool {
        self.root().join(INTENT).is_file()
    }

    fn locked(&self, held: Held) -> Result<Locked, KnowledgeError> {
        let left = match beneath::read(&self.root(), INTENT, INTENT_MAX) {
            Ok(bytes) => Some(
                Intent::parse(&bytes).map_err(|reason| KnowledgeError::Intent {
                    path: format!("knowledge/{INTENT}"),
                    reason,
                })?,
            ),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                held.recover()?;
                None
            }
            Err(error) => return Err(error.into()),
        };
        Ok(Locked { held, left })
    }

    /// Writes the intent of `prepared`, where the ledger ends at `tip`. From here on the lock's holder must see it
    /// through or take it back.
    ///
    /// Fails with [`KnowledgeError::Moved`] if the files are not what was decided on.
    pub(in crate::knowledge) fn intend<T>(
        &self,
        prepared: Prepared<T>,
        tip: Option<BlockRef>,
    ) -> Result<(Held, Intent, T), KnowledgeError> {
        let Prepared {
            held,
            name,
            blocks,
            guards,
            steps,
            approval,
            done,
        } = prepared;
        let intent = Intent {
            version: VERSION,
            id: Uuid::new_v4(),
            name,
            tip,
            blocks,
            guards,
            steps,
            approval,
        };
        let written = self.check(&held, &intent).and_then(|()| {
            self.reached(Point::Staged)?;
            write(&held, &intent)?;
            self.reached(Point::Intended)?;
            Ok(())
        });
        match written {
            Ok(()) => Ok((held, intent, done)),
            Err(error) => {
                self.roll_back(&held)?;
                Err(error)
            }
        }
    }

    /// Clears away what was staged for a change that does not come about.
    pub(in crate::knowledge) fn abandon<T>(&self, prepared: Prepared<T>) -> io::Result<()> {
        prepared.held.recover()
    }

    /// Tells tests that a change has come this far; they may make it fail here.
    #[cfg_attr(
        not(test),
        expect(
            clippy::unused_self,
            clippy::unnecessary_wraps,
            reason = "tests make it fail"
        )
    )]
    pub(in crate::knowledge) fn reached(&self, point: Point) -> io::Result<()> {
        #[cfg(test)]
        if let Some(reach) = &self.reach {
            return reach(point);
        }
        let _ = point;
        Ok(())
    }

    fn check(&self, held: &Held, intent: &Intent) -> Result<(), KnowledgeError> {
        let moved = |found| KnowledgeError::Moved {
            name: intent.name.clone(),
            found,
        };
        for guard in &intent.guards.files {
            let found = self.found(held, guard)?;
            if found != guard.hash {
                return Err(moved(found));
            }
        }
        let Some(folder) = &intent.guards.alone else {
            return Ok(());
        };
        let guarded: BTreeSet<_> = intent
            .guards
            .files
            .iter()
            .map(|g| g.path.as_str())
            .collect();
        let known = |path: &String| guarded.contains(format!("{folder}/{path}").as_str());
        match self.paths(&held.path().join(folder)) {
            Ok(there) if there.iter().all(known) => Ok(()),
            // What was shown had neither links nor so many files.
            Ok(_) | Err(KnowledgeError::NotAFile { .. } | KnowledgeError::TooMuch { .. }) => {
                Err(moved(None))
            }
            Err(error) => Err(error),
        }
    }

    /// The hash of what lies where the guard stands; a directory is no file, but nothing either.
    fn found(&self, held: &Held, guard: &Guard) -> io::Result<Option<ContentHash>> {
        match beneath::read(held.path(), &guard.path, self.policy.entry_bytes) {
            Ok(bytes) => Ok(Some(ContentHash::of(bytes))),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let taken = exists(&held.path().join(&guard.path))?;
                Ok(taken.then(|| ContentHash::of([])))
            }
            // Nothing of ours is a link.
            Err(error) if beneath::is_link(&error) => Ok(Some(ContentHash::of([]))),
            Err(error) => Err(error),
        }
    }

    /// Does what the intent says, from where it was left, and removes it.
    ///
    /// Files that somebody else changed before the first step are left alone: [`KnowledgeError::Overtaken`].
    pub(in crate::knowledge) fn roll_forward(
        &self,
        held: &Held,
        intent: &Intent,
    ) -> Result<(), KnowledgeError> {
        let begun = intent
            .steps
            .iter()
            .rposition(|step| step.is_done(held.path()));
        let first = begun.map_or(0, |last| last + 1);
        if first == 0 {
            match self.check(held, intent) {
                Ok(()) => {}
                Err(KnowledgeError::Moved { name, .. }) => {
                    // In one step: whoever approved it can tell ever after that it was not made.
                    if let Some(id) = &intent.approval {
                        let kept = held.path().join(format!("{OVERTAKEN}{id}"));
                        fs::rename(held.path().join(INTENT), kept)?;
                    }
                    self.roll_back(held)?;
                    return Err(KnowledgeError::Overtaken { name });
                }
                // What cannot be read now tells nothing: the intent stays for the next one.
                Err(error) => return Err(error),
            }
        }
        for (n, step) in intent.steps.iter().enumerate().skip(first) {
            step.run(held.path())?;
            self.reached(Point::Stepped(n + 1))?;
        }
        self.reached(Point::Done)?;
        self.roll_back(held)?;
        Ok(())
    }

    /// Which of the approvals `begun` are recorded, but were overtaken by somebody who changed the files. Forgets all
    /// others.
    pub(in crate::knowledge) fn overtaken(
        &self,
        held: &Held,
        begun: &[ProposalId],
    ) -> io::Result<Vec<ProposalId>> {
        let mut overtaken = Vec::new();
        for entry in fs::read_dir(held.path())? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(id) = name.to_str().and_then(|name| name.strip_prefix(OVERTAKEN)) else {
                continue;
            };
            match begun.iter().find(|begun| begun.as_str() == id) {
                Some(id) => overtaken.push(id.clone()),
                None => fs::remove_file(entry.path())?,
            }
        }
        Ok(overtaken)
    }

    /// Removes the intent and what was staged; before the first step that is all there is to undo.
    pub(in crate::knowledge) fn roll_back(&self, held: &Held) -> io::Result<()> {
        for name in [INTENT, INTENT_NEW] {
            match fs::remove_file(held.path().join(name)) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        sync_directory(held.path())?;
        held.recover()
    }
}

impl Intent {
    fn parse(bytes: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let text = |error: serde_json::Error| error.to_string();
        let Versioned { version } = serde_json::from_slice(bytes).map_err(text)?;
        let intent: Self = match version {
            1 => serde_json::from_slice::<IntentOne>(bytes)
                .map_err(text)?
                .into(),
            VERSION => serde_json::from_slice(bytes).map_err(text)?,
            other => return Err(format!("version {other} is not known")),
        };
        let paths = intent.steps.iter().flat_map(|step| match step {
            Step::Move { from, to } => vec![from, to],
            Step::Remove { path } => vec![path],
        });
        let guards = intent.guards.files.iter().map(|guard| &guard.path);
        let mut paths = paths.chain(guards).chain(&intent.guards.alone);
        let plain = |path: &String| {
            let mut names = Path::new(path).components();
            !path.is_empty() && names.all(|name| matches!(name, Component::Normal(_)))
        };
        match paths.find(|path| !plain(path)) {
            Some(path) => Err(format!("it names `{}`", path.escape_debug())),
            None => Ok(intent),
        }
    }
}

impl Step {
    pub(super) fn rename(from: impl Into<String>, to: impl Into<String>) -> Self {
        let (from, to) = (from.into(), to.into());
        Self::Move { from, to }
    }

    pub(super) fn remove(path: impl Into<String>) -> Self {
        Self::Remove { path: path.into() }
    }

    /// A name beside the entries that no entry has, for what is on its way out.
    pub(super) fn aside() -> String {
        format!("{STAGED}{}", Uuid::new_v4().simple())
    }

    /// Whether a rename has happened. A removal tells nothing: what it removes may not be there yet. Nor does an entry
    /// that is gone from its place without being where it was to go: somebody else removed it.
    fn is_done(&self, root: &Path) -> bool {
        let there = |path: &str| !matches!(exists(&root.join(path)), Ok(false));
        let is_staged = |path: &str| path.starts_with(STAGED);
        match self {
            Self::Move { from, to } if there(from) => is_staged(to) && there(to),
            Self::Move { from, to } => is_staged(from) || is_staged(to) || there(to),
            Self::Remove { .. } => false,
        }
    }

    fn run(&self, root: &Path) -> io::Result<()> {
        match self {
            Self::Move { from, to } => {
                fs::rename(root.join(from), root.join(to))?;
                for path in [to, from] {
                    let parent = root.join(path);
                    // A directory that itself was moved away has nothing left to sync.
                    if let Some(parent) = parent.parent().filter(|parent| parent.is_dir()) {
                        sync_directory(parent)?;
                    }
                }
                Ok(())
            }
            Self::Remove { path } => {
                let path = root.join(path);
                let removed = match fs::symlink_metadata(&path) {
                    Ok(found) if found.is_dir() => fs::remove_dir_all(&path),
                    Ok(_) => fs::remove_file(&path),
                    Err(error) => Err(error),
                };
                match removed {
                    Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
                    _ => Ok(()),
                }
            }
        }
    }
}

fn write(held: &Held, intent: &Intent) -> io::Result<()> {
    let (new, target) = (held.path().join(INTENT_NEW), held.path().join(INTENT));
    let mut file: File = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .open(&new)?;
    let text = serde_json::to_vec_pretty(intent)?;
    if text.len() as u64 > INTENT_MAX {
        return Err(io::Error::new(
            ErrorKind::InvalidInput,
            "the reason is too long",
        ));
    }
    file.write_all(&text)?;
    file.sync_all()?;
    fs::rename(new, target)?;
    sync_directory(held.path())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn intent(path: &str) -> Intent {
        Intent {
            version: VERSION,
            id: Uuid::nil(),
            name: "tea".to_owned(),
            tip: None,
            blocks: vec![vec!["{}".to_owned()]],
            guards: Guards::default(),
            steps: vec![Step::rename("a", path), Step::remove("b")],
            approval: None,
        }
    }

    #[test]
    fn an_intent_that_leads_elsewhere_is_refused() {
        let text = |path: &str| serde_json::to_vec(&intent(path)).unwrap();
        assert_eq!(Intent::parse(&text("a/b")), Ok(intent("a/b")));
        for path in ["", "/etc", "../x", "a/../b", "a/./../.."] {
            assert!(Intent::parse(&text(path)).is_err(), "{path}");
        }
        let mut newer = intent("a");
        newer.version = VERSION + 1;
        let refused = Intent::parse(&serde_json::to_vec(&newer).unwrap());
        assert_eq!(refused, Err("version 3 is not known".to_owned()));
    }

    #[test]
    fn an_intent_of_version_1_is_read() {
        let text = r#"{"version": 1, "id": "00000000-0000-0000-0000-000000000000", "name": "tea", "tip": null,
            "entries": ["a", "b"], "guard": {"path": "tea", "hash": null},
            "steps": [{"do": "move", "from": "a", "to": "tea"}]}"#;
        let read = Intent::parse(text.as_bytes()).unwrap();
        assert_eq!(read.blocks, [["a"], ["b"]]);
        assert_eq!(read.guards.files[0].path, "tea");
        assert_eq!((read.guards.alone, read.approval), (None, None));
        let forged = text.replace(r#""path": "tea""#, r#""path": "../x""#);
        assert!(Intent::parse(forged.as_bytes()).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Intent::parse(&bytes);
        }
    }
}
