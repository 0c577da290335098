//! Changes of knowledge, prepared: what the ledger shall say and what then happens to files.

use std::os::unix::fs::PermissionsExt as _;

use fs_err as fs;
use kairos_protocol::block::entry::{Entry, KnowledgeAction, KnowledgeUpdate};
use kairos_protocol::hash::ContentHash;
use kairos_protocol::id::SkillName;
use kairos_protocol::skill::Skill;
use kairos_protocol::skill::archive_meta::{self, ArchiveMeta};
use kairos_protocol::time::Timestamp;
use serde::Serialize;

use super::entry::{ARCHIVED, SUBDIRECTORIES, is_folder, main_text};
use super::unit::{Guard, Prepared, Step};
use super::{KnowledgeError, KnowledgeStore};
use crate::beneath;
use crate::staging::{Held, exists};

/// A new entry.
#[derive(Debug, Clone)]
pub struct Create {
    /// Its name.
    pub name: SkillName,
    /// Its main text, frontmatter included.
    pub text: String,
    /// Why, for the ledger.
    pub reason: Option<String>,
    /// Whether it gets the directories `scripts`, `assets` and `references`.
    pub subdirectories: bool,
}

/// Another main text for an entry.
#[derive(Debug, Clone)]
pub struct Update {
    /// Its name.
    pub name: SkillName,
    /// The text, frontmatter included.
    pub text: String,
    /// Why, for the ledger.
    pub reason: Option<String>,
    /// The hash of the text that it takes the place of; any if nothing is said.
    pub expect: Option<ContentHash>,
}

/// The removal of an entry with all its files.
#[derive(Debug, Clone)]
pub struct Delete {
    /// Its name.
    pub name: SkillName,
    /// Why, for the ledger.
    pub reason: Option<String>,
    /// The hash of its main text; any if nothing is said.
    pub expect: Option<ContentHash>,
}

/// An entry is put away.
#[derive(Debug, Clone)]
pub struct Archive {
    /// Its name.
    pub name: SkillName,
    /// Why.
    pub reason: Option<String>,
    /// What takes its place.
    pub superseded_by: Option<SkillName>,
}

/// An entry comes back from the archive.
#[derive(Debug, Clone)]
pub struct Unarchive {
    /// Its name.
    pub name: SkillName,
    /// Why, for the ledger.
    pub reason: Option<String>,
}

/// What was changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Changed {
    /// The name of the entry.
    pub name: SkillName,
    /// What happened.
    pub action: KnowledgeAction,
    /// Its main text below the data directory, where it is now; nothing once it is deleted.
    pub path: Option<String>,
    /// Hash of the main text before.
    pub previous_hash: Option<ContentHash>,
    /// Hash of the main text now; nothing where it is not active.
    pub content_hash: Option<ContentHash>,
}

/// The main text of an entry as it is.
struct Found {
    file: String,
    hash: ContentHash,
}

impl KnowledgeStore {
    /// Prepares a new entry. Fails with [`KnowledgeError::Exists`] if anything of that name is there.
    pub(in crate::knowledge) fn create(
        &self,
        held: Held,
        create: Create,
        now: Timestamp,
    ) -> Result<Prepared<Changed>, KnowledgeError> {
        let Create {
            name,
            text,
            reason,
            subdirectories,
        } = create;
        if exists(&held.path().join(name.as_str()))? {
            let name = name.to_string();
            return Err(KnowledgeError::Exists { name });
        }
        let file = format!("{name}.md");
        self.fit(&name, &file, &text)?;
        let staging = held.stage()?;
        staging.write(&file, text.as_bytes(), false)?;
        if subdirectories {
            for folder in SUBDIRECTORIES {
                staging.folder(folder)?;
            }
        }
        let (held, staged) = staging.seal()?;
        let guard = Guard {
            path: name.to_string(),
            hash: None,
        };
        let steps = vec![Step::rename(staged, name.as_str())];
        let hash = ContentHash::of(&text);
        let action = KnowledgeAction::Create;
        let done = Changed {
            path: Some(format!("knowledge/{name}/{file}")),
            name,
            action,
            previous_hash: None,
            content_hash: Some(hash),
        };
        Ok(done.prepared(held, Some(guard), steps, (None, Some(hash)), reason, now))
    }

    /// Prepares another main text. Fails with [`KnowledgeError::NoChanges`] if it is the one that is there.
    pub(in crate::knowledge) fn update(
        &self,
        held: Held,
        update: Update,
        now: Timestamp,
    ) -> Result<Prepared<Changed>, KnowledgeError> {
        let Update {
            name,
            text,
            reason,
            expect,
        } = update;
        let found = self.find(&held, &name)?;
        found.expect(&name, expect)?;
        let hash = ContentHash::of(&text);
        if found.hash == hash {
            return Err(KnowledgeError::NoChanges);
        }
        self.fit(&name, &found.file, &text)?;
        let target = format!("{name}/{}", found.file);
        let mode = fs::metadata(held.path().join(&target))?
            .permissions()
            .mode();
        let staging = held.stage()?;
        staging.write(&found.file, text.as_bytes(), mode & 0o100 != 0)?;
        let (held, staged) = staging.seal()?;
        let steps = vec![
            Step::rename(format!("{staged}/{}", found.file), target.as_str()),
            Step::remove(staged),
        ];
        let guard = found.guard(&name);
        let done = Changed {
            path: Some(format!("knowledge/{target}")),
            name,
            action: KnowledgeAction::Update,
            previous_hash: Some(found.hash),
            content_hash: Some(hash),
        };
        let hashes = (Some(found.hash), Some(hash));
        Ok(done.prepared(held, Some(guard), steps, hashes, reason, now))
    }

    /// Prepares the removal of an entry with all its files.
    pub(in crate::knowledge) fn delete(
        &self,
        held: Held,
        delete: Delete,
        now: Timestamp,
    ) -> Result<Prepared<Changed>, KnowledgeError> {
        let Delete {
            name,
            reason,
            expect,
        } = delete;
        let found = self.find(&held, &name)?;
        found.expect(&name, expect)?;
        let gone = Step::aside();
        let steps = vec![
            Step::rename(name.as_str(), gone.as_str()),
            Step::remove(gone),
        ];
        let guard = found.guard(&name);
        let done = Changed {
            name,
            action: KnowledgeAction::Delete,
            path: None,
            previous_hash: Some(found.hash),
            content_hash: None,
        };
        let hashes = (Some(found.hash), None);
        Ok(done.prepared(held, Some(guard), steps, hashes, reason, now))
    }

    /// Prepares putting an entry away, with the file that the reference keeps beside it.
    pub(in crate::knowledge) fn archive(
        &self,
        held: Held,
        archive: Archive,
        now: Timestamp,
    ) -> Result<Prepared<Changed>, KnowledgeError> {
        let Archive {
            name,
            reason,
            superseded_by,
        } = archive;
        let found = self.find(&held, &name)?;
        let root = held.path().join(ARCHIVED);
        if exists(&root)? && !is_folder(&root)? {
            let path = format!("knowledge/{ARCHIVED}");
            return Err(KnowledgeError::NotPlain { path });
        }
        let target = format!("{ARCHIVED}/{name}");
        if exists(&held.path().join(&target))? {
            let name = name.to_string();
            return Err(KnowledgeError::AlreadyArchived { name });
        }
        fs::create_dir_all(&root)?;
        let reason = reason.unwrap_or_else(|| format!("Archive knowledge: {name}"));
        let original = std::path::absolute(held.path().join(name.as_str()))?;
        let meta = ArchiveMeta {
            archived_at: Some(now.entry()),
            archived_reason: Some(reason.clone()),
            superseded_by: superseded_by.map(String::from),
            original_path: Some(original.to_string_lossy().into_owned()),
            content_hash: Some(found.hash),
        };
        let staging = held.stage()?;
        staging.write(archive_meta::FILE, meta.to_yaml().as_bytes(), false)?;
        let (held, staged) = staging.seal()?;
        let meta_in = |folder: &str| format!("{folder}/{}", archive_meta::FILE);
        let steps = vec![
            Step::rename(name.as_str(), target.as_str()),
            Step::rename(meta_in(&staged), meta_in(&target)),
            Step::remove(staged),
        ];
        let guard = found.guard(&name);
        let done = Changed {
            path: Some(format!("knowledge/{target}/{}", found.file)),
            name,
            action: KnowledgeAction::Archive,
            previous_hash: Some(found.hash),
            content_hash: None,
        };
        let hashes = (Some(found.hash), None);
        Ok(done.prepared(held, Some(guard), steps, hashes, Some(reason), now))
    }

    /// Prepares the return of an entry from the archive. The ledger is told the hash that was kept with it, and
    /// the hash it has.
    pub(in crate::knowledge) fn unarchive(
        &self,
        held: Held,
        unarchive: Unarchive,
        now: Timestamp,
    ) -> Result<Prepared<Changed>, KnowledgeError> {
        let Unarchive { name, reason } = unarchive;
        let archived = format!("{ARCHIVED}/{name}");
        let absent = || KnowledgeError::NotArchived {
            name: name.to_string(),
        };
        if !is_folder(&held.path().join(ARCHIVED))? {
            return Err(absent());
        }
        let found = self
            .find_in(&held, &archived, name.as_str())?
            .ok_or_else(absent)?;
        if exists(&held.path().join(name.as_str()))? {
            let name = name.to_string();
            return Err(KnowledgeError::Active { name });
        }
        // What cannot be read about it does not keep it in the archive.
        let meta = self.archive_meta(name.as_str()).unwrap_or_default();
        let steps = vec![
            Step::rename(archived.as_str(), name.as_str()),
            Step::remove(format!("{name}/{}", archive_meta::FILE)),
        ];
        let guard = Guard {
            path: format!("{archived}/{}", found.file),
            hash: Some(found.hash),
        };
        let done = Changed {
            path: Some(format!("knowledge/{name}/{}", found.file)),
            name,
            action: KnowledgeAction::Unarchive,
            previous_hash: meta.content_hash,
            content_hash: Some(found.hash),
        };
        let hashes = (meta.content_hash, Some(found.hash));
        Ok(done.prepared(held, Some(guard), steps, hashes, reason, now))
    }

    /// Whether a text can be the main text of `name`: UTF-8, within bounds, with a frontmatter that can be read.
    pub(super) fn fit(
        &self,
        name: &SkillName,
        file: &str,
        text: &str,
    ) -> Result<(), KnowledgeError> {
        let path = format!("knowledge/{name}/{file}");
        let skill = Skill::parse(&path, text.as_bytes(), &self.policy.read)?;
        match skill.frontmatter_unreadable {
            true => Err(KnowledgeError::Frontmatter),
            false => Ok(()),
        }
    }

    fn find(&self, held: &Held, name: &SkillName) -> Result<Found, KnowledgeError> {
        let found = self.find_in(held, name.as_str(), name.as_str())?;
        found.ok_or_else(|| KnowledgeError::NotFound {
            name: name.to_string(),
        })
    }

    /// The main text in the directory `folder` below the knowledge directory.
    fn find_in(
        &self,
        held: &Held,
        folder: &str,
        name: &str,
    ) -> Result<Option<Found>, KnowledgeError> {
        let Some(file) = main_text(&held.path().join(folder), name)? else {
            return Ok(None);
        };
        let path = format!("{folder}/{file}");
        match beneath::read(held.path(), &path, self.policy.entry_bytes) {
            Ok(bytes) => {
                let hash = ContentHash::of(bytes);
                Ok(Some(Found { file, hash }))
            }
            Err(error) if beneath::is_link(&error) => {
                let path = format!("knowledge/{path}");
                Err(KnowledgeError::NotPlain { path })
            }
            Err(error) => Err(error.into()),
        }
    }
}

impl Found {
    fn guard(&self, name: &SkillName) -> Guard {
        Guard {
            path: format!("{name}/{}", self.file),
            hash: Some(self.hash),
        }
    }

    fn expect(
        &self,
        name: &SkillName,
        expected: Option<ContentHash>,
    ) -> Result<(), KnowledgeError> {
        match expected.is_none_or(|hash| hash == self.hash) {
            true => Ok(()),
            false => Err(KnowledgeError::Moved {
                name: name.to_string(),
                found: Some(self.hash),
            }),
        }
    }
}

impl Changed {
    /// The record that says so.
    pub(in crate::knowledge) fn record(
        &self,
        hashes: (Option<ContentHash>, Option<ContentHash>),
        reason: Option<String>,
        now: Timestamp,
    ) -> String {
        let update = KnowledgeUpdate::new(self.name.as_str(), self.action, hashes, reason, now);
        Entry::KnowledgeUpdate(update).to_text()
    }

    fn prepared(
        self,
        held: Held,
        guard: Option<Guard>,
        steps: Vec<Step>,
        hashes: (Option<ContentHash>, Option<ContentHash>),
        reason: Option<String>,
        now: Timestamp,
    ) -> Prepared<Self> {
        Prepared {
            held,
            name: self.name.to_string(),
            blocks: vec![vec![self.record(hashes, reason, now)]],
            guards: guard.into(),
            steps,
            approval: None,
            done: self,
        }
    }
}
