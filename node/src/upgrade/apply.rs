//! Carrying out an upgrade: all of it or nothing, with a copy of whatever is replaced.
//!
//! Each file is written beside its place and renamed in. If one fails, those before it are put back. The version is
//! noted last, once the ledger has the record; a process that dies before that leaves every file as it was or as it
//! will be, with its copy, and the next upgrade goes on from there.

use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use kairos_actors::chain::ChainError;
use kairos_actors::file_lock;
use kairos_actors::passing::{INTENT, LOCK, WHOLE};
use kairos_protocol::block::BlockRef;
use kairos_protocol::block::entry::{
    Entry, KnowledgeAction, KnowledgeUpdate, SkillTransition, SystemUpgrade, UpgradeActions,
};
use kairos_protocol::hash::ContentHash;
use kairos_protocol::time::Timestamp;
use serde::Serialize;

use super::{Item, Plan, Status, Step, UpgradeError, What, law, plan, read_text};
use crate::data_dir::DataDir;
use crate::data_dir::meta;

/// An upgrade whose files are in place, and which is neither recorded nor noted yet.
#[derive(Debug)]
pub struct Applied {
    /// What was done, in order.
    pub done: Vec<Done>,
    /// What the ledger is to be told of the law, by a process that died before it and by this one.
    left: Option<SkillTransition>,
    law: Option<SkillTransition>,
    dir: DataDir,
    /// What the tracking is to say.
    meta: String,
    meta_file: PathBuf,
    /// Keep other upgrades, changes of knowledge and of the law, and backups waiting.
    _locks: [File; 2],
}

/// A file that was made or replaced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Done {
    /// The file that was written.
    pub path: PathBuf,
    /// What was there before; absent if nothing was.
    pub copy: Option<PathBuf>,
}

/// Looks again at every text and does what [`plan`] says; blocks on the disk and on whoever changes knowledge.
///
/// # Errors
///
/// Nothing was changed, but for [`UpgradeError::HalfDone`].
pub fn apply(
    dir: &DataDir,
    takes: &[String],
    now: Timestamp,
) -> Result<(Plan, Applied), UpgradeError> {
    // Whoever takes several takes them in this order.
    let locks = [hold(&dir.knowledge())?, hold(&dir.skills())?];
    let intent = dir.knowledge().join(INTENT);
    if intent
        .try_exists()
        .map_err(UpgradeError::io("look at", &intent))?
    {
        return Err(UpgradeError::Unsettled);
    }
    let plan = plan(dir, takes)?;
    let meta_file = dir.meta_file();
    let before = match read_text(&meta_file) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(UpgradeError::io("read", &meta_file)(error)),
    };
    let mut applied = Applied {
        done: Vec::new(),
        left: law::noted(dir, &plan.items).map_err(UpgradeError::io("read", &dir.skills()))?,
        law: None,
        dir: dir.clone(),
        meta: meta::upgraded(before.as_deref(), &plan.from_version, now)?,
        meta_file,
        _locks: locks,
    };
    let stamp: String = now.wire().chars().filter(char::is_ascii_digit).collect();
    for item in &plan.items {
        if law::is_changed(item) {
            let kept = item
                .before
                .is_some()
                .then(|| format!("kairos.rb{}", copied(&stamp)));
            match law::note(dir, item, kept, now) {
                Ok(told) => applied.law = Some(told),
                Err(error) => {
                    return Err(
                        applied.put_back(UpgradeError::io("write to", &dir.skills())(error))
                    );
                }
            }
        }
        match carry_out(dir, item, &stamp) {
            Ok(None) => {}
            Ok(Some(done)) => applied.done.push(done),
            Err(failed) => return Err(applied.put_back(failed)),
        }
    }
    Ok((plan, applied))
}

fn hold(folder: &Path) -> Result<File, UpgradeError> {
    let path = folder.join(LOCK);
    file_lock::hold(&path).map_err(UpgradeError::io("lock", &path))
}

impl Applied {
    /// Ends the upgrade by what became of its record: notes the version, or puts everything back where there is none
    /// for certain.
    ///
    /// # Errors
    ///
    /// [`UpgradeError::Refused`], [`UpgradeError::MaybeRecorded`], [`UpgradeError::HalfDone`], and what the disk says.
    pub fn end(
        self,
        recorded: Result<BlockRef, ChainError>,
    ) -> Result<(BlockRef, Vec<Done>), UpgradeError> {
        match recorded {
            Ok(block) => Ok((block, self.finish()?)),
            Err(error) if error.may_be_recorded() => Err(UpgradeError::MaybeRecorded(error)),
            Err(error) => Err(self.put_back(UpgradeError::Refused(error))),
        }
    }

    /// What the ledger is to be told of the law, where the last that it tells is that it became `told`.
    pub fn law(&self, told: Option<ContentHash>) -> Vec<Entry> {
        let left = self.left.iter();
        let left = left.filter(|left| told.is_none() || left.next_ast_hash != told);
        let all = left.chain(&self.law).cloned();
        all.map(Entry::SkillTransition).collect()
    }

    /// Whether it is to be told of the law at all.
    pub fn tells_of_law(&self) -> bool {
        self.left.is_some() || self.law.is_some()
    }

    /// Puts everything back that was replaced, since `failed` happened, which is returned.
    fn put_back(self, failed: UpgradeError) -> UpgradeError {
        for done in self.done.iter().rev() {
            let undone = match &done.copy {
                Some(copy) => fs::rename(copy, &done.path),
                None => fs::remove_file(&done.path),
            };
            if undone.is_err() {
                return UpgradeError::HalfDone {
                    failed: Box::new(failed),
                    undone: done.path.display().to_string(),
                };
            }
        }
        if self.law.is_some() {
            let noted = match &self.left {
                Some(left) => law::write(&self.dir, left),
                None => law::forget(&self.dir),
            };
            if let Err(error) = noted {
                // It tells of a law that is not there, so nobody goes by it.
                tracing::warn!(%error, "the note of an upgrade that was taken back is left");
            }
        }
        failed
    }

    /// Notes the version and the hashes of its texts. Comes after the record; the next upgrade does it where it fails.
    fn finish(self) -> Result<Vec<Done>, UpgradeError> {
        let mode = law::forget(&self.dir).and_then(|()| mode_of(&self.meta_file));
        let noted = mode.and_then(|mode| write(&self.meta_file, &self.meta, mode, true));
        match noted {
            Ok(()) => Ok(self.done),
            Err(source) => Err(UpgradeError::Unnoted {
                path: self.meta_file,
                source,
            }),
        }
    }
}

fn carry_out(dir: &DataDir, item: &Item, stamp: &str) -> Result<Option<Done>, UpgradeError> {
    let path = dir.path().join(&item.path);
    let Some(text) = item.after.as_deref() else {
        return Ok(None);
    };
    match item.step {
        Step::Keep | Step::Propose => Ok(None),
        Step::Create => {
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent).map_err(UpgradeError::io("make", parent))?;
            }
            write(&path, text, None, false).map_err(UpgradeError::io("write", &path))?;
            Ok(Some(Done { path, copy: None }))
        }
        Step::Beside => {
            let mode = mode_of(&path).map_err(UpgradeError::io("look at", &path))?;
            let beside = self::beside(&path, ".new");
            // The owner may have worked on the one of an earlier upgrade.
            match read_text(&beside) {
                Ok(there) if there == text => Ok(None),
                Ok(there) => replace(beside, &there, text, stamp).map(Some),
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    write(&beside, text, mode, false)
                        .map_err(UpgradeError::io("write", &beside))?;
                    let copy = None;
                    Ok(Some(Done { path: beside, copy }))
                }
                Err(error) => Err(UpgradeError::io("read", &beside)(error)),
            }
        }
        Step::Replace | Step::Merge => {
            // The owner's editor takes no lock.
            let there = read_text(&path).map_err(UpgradeError::io("read", &path))?;
            if Some(&there) != item.before.as_ref() {
                return Err(UpgradeError::Changed(item.path.clone()));
            }
            replace(path, &there, text, stamp).map(Some)
        }
    }
}

/// Keeps a copy of the file at `path`, in which `there` stands, and writes `text` in its place, both with its mode.
fn replace(path: PathBuf, there: &str, text: &str, stamp: &str) -> Result<Done, UpgradeError> {
    let mode = mode_of(&path).map_err(UpgradeError::io("look at", &path))?;
    let copy = beside(&path, &copied(stamp));
    // One that was killed in this very second may have left it.
    if read_text(&copy).is_ok_and(|kept| kept == there) {
        tracing::debug!(copy = %copy.display(), "the copy is there already");
    } else {
        write(&copy, there, mode.clone(), false).map_err(UpgradeError::io("write", &copy))?;
    }
    if let Err(error) = write(&path, text, mode, true) {
        let shown = path.display().to_string();
        let failed = UpgradeError::io("write", &path)(error);
        return Err(match fs::rename(&copy, &path) {
            Ok(()) => failed,
            Err(_) => UpgradeError::HalfDone {
                failed: Box::new(failed),
                undone: shown,
            },
        });
    }
    let copy = Some(copy);
    Ok(Done { path, copy })
}

/// What follows the name of a copy that is made at `stamp`.
fn copied(stamp: &str) -> String {
    format!(".bak.{stamp}")
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.to_owned().into_os_string();
    name.push(suffix);
    PathBuf::from(name)
}

/// The mode of the file at `path`; nothing if there is none.
fn mode_of(path: &Path) -> io::Result<Option<Permissions>> {
    match fs::metadata(path) {
        Ok(there) => Ok(Some(there.permissions())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Writes a file, whole or not at all and durably, with `mode` or that of any new file.
fn write(path: &Path, text: &str, mode: Option<Permissions>, replace: bool) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new()
        .prefix(WHOLE.0)
        .suffix(WHOLE.1)
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(folder)?;
    if let Some(mode) = mode {
        file.as_file().set_permissions(mode)?;
    }
    file.write_all(text.as_bytes())?;
    file.as_file().sync_all()?;
    let persisted = match replace {
        true => file.persist(path),
        false => file.persist_noclobber(path),
    };
    persisted.map_err(|error| error.error)?;
    File::open(folder)?.sync_all()
}

/// The ledger's entries on an upgrade: those of the `law`, one for each piece of knowledge that it made or replaced, and
/// one on all of it.
pub fn record(plan: &Plan, law: Vec<Entry>, now: Timestamp) -> Vec<Entry> {
    let changed = |item: &&Item| {
        item.what == What::Knowledge && matches!(item.step, Step::Create | Step::Replace)
    };
    let knowledge = plan.items.iter().filter(changed);
    let mut entries = law;
    entries.extend(knowledge.map(|item| update(item, now)));
    entries.push(summary(plan, now));
    entries
}

fn update(item: &Item, now: Timestamp) -> Entry {
    let hash = |text: &Option<String>| text.as_ref().map(ContentHash::of);
    let hashes = (hash(&item.before), hash(&item.after));
    let action = match item.before {
        None => KnowledgeAction::Create,
        Some(_) => KnowledgeAction::Update,
    };
    let reason = Some("system_upgrade".to_owned());
    Entry::KnowledgeUpdate(KnowledgeUpdate::new(
        name(item),
        action,
        hashes,
        reason,
        now,
    ))
}

/// What the ledger calls an item: knowledge goes by its name.
fn name(item: &Item) -> &str {
    match item.what {
        What::Knowledge => item.path.split('/').nth(1).unwrap_or(&item.path),
        _ => &item.path,
    }
}

fn summary(plan: &Plan, now: Timestamp) -> Entry {
    let mut actions = UpgradeActions::default();
    for item in &plan.items {
        let list = match (item.what, item.step, item.status) {
            (What::Knowledge, Step::Create, _) => &mut actions.knowledge_installed,
            (What::Knowledge, Step::Replace | Step::Merge, _) => &mut actions.knowledge_updated,
            (What::Knowledge, Step::Beside | Step::Propose, _) => &mut actions.knowledge_conflict,
            (What::Knowledge, Step::Keep, _) => &mut actions.knowledge_kept,
            (_, Step::Create | Step::Replace, _) => &mut actions.auto_updated,
            (_, Step::Merge, _) => &mut actions.merged,
            (What::Law, Step::Propose, _) => &mut actions.l0_proposed,
            (_, Step::Keep, Status::Unchanged) => &mut actions.unchanged,
            (_, Step::Keep | Step::Beside | Step::Propose, _) => &mut actions.skipped,
        };
        list.push(name(item).to_owned());
    }
    Entry::SystemUpgrade(SystemUpgrade {
        from_version: plan.from_version.clone(),
        to_version: plan.to_version.to_owned(),
        actions,
        timestamp: now,
    })
}
