//! Layer L2: what sessions are about. Free to change, never in the ledger.
//!
//! `context/<session>/<name>/<name>.md`, as the reference has it. Changes take the lock of `context/`, and each is
//! whole or absent: files are made beside their target and renamed in.

use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::time::UNIX_EPOCH;

use fs_err as fs;
use kairos_protocol::hash::ContentHash;
use kairos_protocol::id::SkillName;
use kairos_protocol::resource::Subdirectory;
use kairos_protocol::skill::Skill;
use kairos_protocol::time::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use super::entry::{SUBDIRECTORIES, folders, is_folder, main_text};
use super::{KnowledgeEntry, KnowledgeError, KnowledgeStore, MODE};
use crate::staging::{Held, exists, sync_directory};

/// A text of a session.
#[derive(Debug, Clone)]
pub struct SaveContext {
    /// The session; a new one if nothing is said.
    pub session: Option<SkillName>,
    /// The name of the text.
    pub name: SkillName,
    /// The text, frontmatter included.
    pub text: String,
    /// Whether a new entry gets the directories `scripts`, `assets` and `references`.
    pub subdirectories: bool,
}

/// What was saved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SavedContext {
    /// The session.
    pub session: SkillName,
    /// The name of the text.
    pub name: SkillName,
    /// Whether it is new.
    pub created: bool,
    /// The text below the data directory.
    pub path: String,
    /// Its hash.
    pub content_hash: ContentHash,
}

/// A session with texts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ContextSession {
    /// Its name.
    pub session: String,
    /// How many texts it has.
    pub contexts: usize,
    /// When it last got or lost one.
    pub modified: Option<Timestamp>,
}

impl KnowledgeStore {
    pub(super) fn contexts_root(&self) -> PathBuf {
        self.data.join("context")
    }

    /// Saves a text, new or in place of the one that is there.
    ///
    /// Fails with [`KnowledgeError::Unfit`] and [`KnowledgeError::Frontmatter`] for a text that could not be listed,
    /// and with [`KnowledgeError::NotPlain`] where a link is in the way.
    pub fn save_context(
        &self,
        save: SaveContext,
        now: Timestamp,
    ) -> Result<SavedContext, KnowledgeError> {
        let SaveContext {
            session,
            name,
            text,
            subdirectories,
        } = save;
        let session = match session {
            Some(session) => session,
            None => new_session(now)?,
        };
        let held = Held::lock(&self.contexts_root(), MODE)?;
        let (folder, below) = (
            held.path().join(session.as_str()),
            format!("{session}/{name}"),
        );
        for path in [session.as_str(), &below] {
            let target = held.path().join(path);
            if exists(&target)? && !is_folder(&target)? {
                let path = format!("context/{path}");
                return Err(KnowledgeError::NotPlain { path });
            }
        }
        let present = main_text(&held.path().join(&below), name.as_str())?;
        let file = present.clone().unwrap_or_else(|| format!("{name}.md"));
        let path = format!("context/{below}/{file}");
        let skill = Skill::parse(&path, text.as_bytes(), &self.policy.read)?;
        if skill.frontmatter_unreadable {
            return Err(KnowledgeError::Frontmatter);
        }
        // A directory without a text gets one; its other files stay.
        let created = present.is_none();
        let fresh = !is_folder(&held.path().join(&below))?;
        let staging = held.stage()?;
        staging.write(&file, text.as_bytes(), false)?;
        if fresh && subdirectories {
            for folder in SUBDIRECTORIES {
                staging.folder(folder)?;
            }
        }
        let (held, staged) = staging.seal()?;
        let staged = held.path().join(staged);
        let begins = !folder.is_dir();
        fs::create_dir_all(&folder)?;
        let target = held.path().join(&below);
        let put = match fresh {
            true => fs::rename(&staged, &target).and_then(|()| sync_directory(&folder)),
            false => fs::rename(staged.join(&file), target.join(&file))
                .and_then(|()| sync_directory(&target)),
        };
        if put.is_err() && begins {
            // Not empty if somebody else uses it by now.
            let _ = fs::remove_dir(&folder);
        }
        held.recover()?;
        put?;
        sync_directory(held.path())?;
        Ok(SavedContext {
            session,
            name,
            created,
            path,
            content_hash: skill.content_hash,
        })
    }

    /// Makes a directory beside a text of a session, and returns its path below the data directory. One that is there
    /// is left as it is.
    pub fn make_context_directory(
        &self,
        session: &SkillName,
        name: &SkillName,
        which: Subdirectory,
    ) -> Result<String, KnowledgeError> {
        let folder = self.session(session)?.join(name.as_str());
        let _held = Held::lock(&self.contexts_root(), MODE)?;
        if !is_folder(&folder)? {
            return Err(absent(session, name));
        }
        let path = format!("context/{session}/{name}/{}", which.as_str());
        let target = folder.join(which.as_str());
        match fs::create_dir(&target) {
            Ok(()) => sync_directory(&folder)?,
            Err(error) if error.kind() == ErrorKind::AlreadyExists && is_folder(&target)? => {}
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                return Err(KnowledgeError::NotPlain { path });
            }
            Err(error) => return Err(error.into()),
        }
        Ok(path)
    }

    /// Every session, the newest first.
    pub fn sessions(&self) -> io::Result<Vec<ContextSession>> {
        let root = self.contexts_root();
        let mut sessions = Vec::new();
        for session in folders(&root, self.policy.files)? {
            let folder = root.join(&session);
            let modified = fs::metadata(&folder)
                .and_then(|found| found.modified())
                .ok();
            let since = modified.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
            sessions.push(ContextSession {
                contexts: folders(&folder, self.policy.files)?.len(),
                modified: since.map(|since| Timestamp::EPOCH.plus(since)),
                session,
            });
        }
        sessions.sort_by(|a, b| {
            b.modified
                .cmp(&a.modified)
                .then_with(|| b.session.cmp(&a.session))
        });
        Ok(sessions)
    }

    /// Every text of a session, in the byte order of names. One that cannot be read is there with its fault.
    pub fn contexts(&self, session: &SkillName) -> Result<Vec<KnowledgeEntry>, KnowledgeError> {
        let folder = self.session(session)?;
        let path = format!("context/{session}");
        let names = folders(&folder, self.policy.files)?;
        Ok(names
            .iter()
            .map(|name| self.describe(&folder, &path, name).0)
            .collect())
    }

    /// One text of a session.
    pub fn context(
        &self,
        session: &SkillName,
        name: &SkillName,
    ) -> Result<(KnowledgeEntry, String), KnowledgeError> {
        let folder = self.session(session)?;
        let path = format!("context/{session}");
        let (entry, bytes) = self.describe(&folder, &path, name.as_str());
        let bytes = bytes.ok_or_else(|| absent(session, name))?;
        Ok((entry, String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// Removes a text of a session with all its files, or the whole session. Returns how many texts went.
    pub fn delete_context(
        &self,
        session: &SkillName,
        name: Option<&SkillName>,
    ) -> Result<usize, KnowledgeError> {
        let folder = self.session(session)?;
        let held = Held::lock(&self.contexts_root(), MODE)?;
        let Some(name) = name else {
            let gone = folders(&folder, self.policy.files)?.len();
            return match held.remove(session.as_str())? {
                true => Ok(gone),
                false => Err(no_session(session)),
            };
        };
        if !is_folder(&folder.join(name.as_str()))? || !held.remove(&format!("{session}/{name}"))? {
            return Err(absent(session, name));
        }
        sync_directory(&folder)?;
        Ok(1)
    }

    /// Every text of every session: its path below the data directory, and its name.
    pub(in crate::knowledge) fn context_paths(&self) -> io::Result<Vec<(String, String)>> {
        let root = self.contexts_root();
        let mut found = Vec::new();
        for session in folders(&root, self.policy.files)? {
            for name in folders(&root.join(&session), self.policy.files)? {
                if found.len() == self.policy.files {
                    return Ok(found);
                }
                if let Some(file) = main_text(&root.join(&session).join(&name), &name)? {
                    found.push((format!("context/{session}/{name}/{file}"), name));
                }
            }
        }
        Ok(found)
    }

    /// The newest session that has a text of this name.
    pub(super) fn newest_session_with(
        &self,
        name: &SkillName,
    ) -> Result<SkillName, KnowledgeError> {
        let root = self.contexts_root();
        for found in self.sessions()? {
            if let Ok(session) = found.session.parse::<SkillName>()
                && is_folder(&root.join(session.as_str()).join(name.as_str()))?
            {
                return Ok(session);
            }
        }
        Err(KnowledgeError::NotFound {
            name: name.to_string(),
        })
    }

    fn session(&self, session: &SkillName) -> Result<PathBuf, KnowledgeError> {
        let folder = self.contexts_root().join(session.as_str());
        match is_folder(&folder) {
            Ok(true) => Ok(folder),
            Ok(false) => Err(no_session(session)),
            Err(error) if error.kind() == ErrorKind::NotADirectory => Err(no_session(session)),
            Err(error) => Err(error.into()),
        }
    }
}

/// A name for a session, as the reference makes them: `session_20260213_162640_1f0c9a2e`.
fn new_session(now: Timestamp) -> Result<SkillName, KnowledgeError> {
    let mut unique = Uuid::new_v4().simple().to_string();
    unique.truncate(8);
    let name = format!("session_{}_{unique}", now.file_stamp());
    name.parse()
        .map_err(|reason| KnowledgeError::Name { name, reason })
}

fn no_session(session: &SkillName) -> KnowledgeError {
    KnowledgeError::NoSession {
        session: session.to_string(),
    }
}

fn absent(session: &SkillName, name: &SkillName) -> KnowledgeError {
    KnowledgeError::NoContext {
        session: session.to_string(),
        name: name.to_string(),
    }
}
