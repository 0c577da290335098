//! Changes of layer L1 that a person has seen and approved: looked at, compared, and prepared exactly as shown.

use std::io::ErrorKind;
use std::path::Path;

use fs_err as fs;
use kairos_place::proposal::{self, FILES_MAX, ProposalId};
use kairos_protocol::block::entry::{Entry, FileChange};
use kairos_protocol::hash::{ContentHash, Hasher};
use kairos_protocol::id::SkillName;
use kairos_protocol::skill::SkillFault;
use kairos_protocol::time::Timestamp;

use super::change::{Changed, Create, Delete, Update};
use super::entry::main_text;
use super::unit::{Guard, Prepared};
use super::{DEPTH_MAX, KnowledgeError, KnowledgeStore};
use crate::beneath;
use crate::staging::{Held, exists};

/// A change that a person approved.
#[derive(Debug, Clone)]
pub struct Approved {
    /// The proposal.
    pub id: ProposalId,
    /// What is to change.
    pub change: proposal::Change,
    /// The files as they were shown, the main text first.
    pub files: Vec<FileChange>,
    /// The new main text.
    pub content: Option<Vec<u8>>,
    /// Why, for the ledger.
    pub reason: Option<String>,
    /// The record of the decision, for the same block.
    pub decision: Entry,
}

impl KnowledgeStore {
    /// What `change` would do to which files as they are now, the main text first.
    ///
    /// Fails with what the change itself would fail with, and with [`KnowledgeError::TooMuch`] for an entry whose
    /// files are more than a person can be shown or than can be compared in reasonable time.
    pub fn preview(
        &self,
        change: &proposal::Change,
        content: Option<&[u8]>,
    ) -> Result<Vec<FileChange>, KnowledgeError> {
        let name = name_of(change)?;
        let after = content.map(ContentHash::of);
        if let proposal::Change::KnowledgeCreate { .. } = change {
            if exists(&self.root().join(name.as_str()))? {
                let name = name.to_string();
                return Err(KnowledgeError::Exists { name });
            }
            let file = format!("{name}.md");
            self.fit(name, &file, text(content)?)?;
            let path = format!("knowledge/{name}/{file}");
            let before = None;
            return Ok(vec![FileChange {
                path,
                before,
                after,
            }]);
        }
        let absent = || KnowledgeError::NotFound {
            name: name.to_string(),
        };
        let main = main_text(&self.root().join(name.as_str()), name.as_str())?;
        let main = main.ok_or_else(absent)?;
        let path = format!("{name}/{main}");
        let before = self.hash(&path)?.ok_or_else(absent)?;
        let first = FileChange {
            path: format!("knowledge/{path}"),
            before: Some(before),
            after,
        };
        if let proposal::Change::KnowledgeUpdate { .. } = change {
            if after == Some(before) {
                return Err(KnowledgeError::NoChanges);
            }
            self.fit(name, &main, text(content)?)?;
            return Ok(vec![first]);
        }
        let mut files = vec![first];
        for other in self.paths(&self.root().join(name.as_str()))? {
            if other != main {
                let path = format!("{name}/{other}");
                files.push(FileChange {
                    before: self.hash(&path)?,
                    path: format!("knowledge/{path}"),
                    after: None,
                });
            }
        }
        Ok(files)
    }

    /// The first file that is not as `files` say it is before `change`.
    pub fn differs(
        &self,
        change: &proposal::Change,
        files: &[FileChange],
    ) -> Result<Option<String>, KnowledgeError> {
        let name = name_of(change)?;
        let folder = self.root().join(name.as_str());
        if let proposal::Change::KnowledgeCreate { .. } = change {
            return Ok(exists(&folder)?.then(|| format!("knowledge/{name}")));
        }
        for file in files {
            match self.hash(below(&file.path)) {
                Ok(hash) if hash == file.before => {}
                Ok(_) | Err(KnowledgeError::NotPlain { .. } | KnowledgeError::TooMuch { .. }) => {
                    return Ok(Some(file.path.clone()));
                }
                Err(error) => return Err(error),
            }
        }
        let shown = |path: &str| files.iter().position(|file| file.path == path);
        let main = main_text(&folder, name.as_str())?;
        let main = main.map(|main| format!("knowledge/{name}/{main}"));
        if main.as_deref().and_then(shown) != Some(0) {
            return Ok(main.or_else(|| Some(format!("knowledge/{name}"))));
        }
        let proposal::Change::KnowledgeDelete { .. } = change else {
            return Ok(None);
        };
        // A file that came to the entry since would go with it unseen.
        let there = match self.paths(&folder) {
            Ok(there) => there,
            Err(KnowledgeError::NotAFile { path }) => vec![path],
            Err(KnowledgeError::TooMuch { .. }) => return Ok(Some(format!("knowledge/{name}"))),
            Err(error) => return Err(error),
        };
        let mut there = there
            .into_iter()
            .map(|path| format!("knowledge/{name}/{path}"));
        Ok(there.find(|path| shown(path).is_none()))
    }

    /// Prepares a change that a person approved, recorded in one block with the decision.
    ///
    /// Fails with [`KnowledgeError::Moved`] if anything is not as it was shown.
    pub(in crate::knowledge) fn approved(
        &self,
        held: Held,
        approved: Approved,
        now: Timestamp,
    ) -> Result<Prepared<Changed>, KnowledgeError> {
        let Approved {
            change,
            files,
            content,
            reason,
            ..
        } = approved;
        let name = name_of(&change)?.clone();
        if self.differs(&change, &files)?.is_some() {
            let name = name.to_string();
            return Err(KnowledgeError::Moved { name, found: None });
        }
        let deletes = matches!(change, proposal::Change::KnowledgeDelete { .. });
        let alone = deletes.then(|| name.to_string());
        let text = match deletes {
            true => String::new(),
            false => text(content.as_deref())?.to_owned(),
        };
        let expect = files.first().and_then(|file| file.before);
        let mut prepared = match change {
            proposal::Change::KnowledgeCreate { .. } => {
                let subdirectories = false;
                let create = Create {
                    name,
                    text,
                    reason,
                    subdirectories,
                };
                self.create(held, create, now)?
            }
            proposal::Change::KnowledgeUpdate { .. } => {
                let update = Update {
                    name,
                    text,
                    reason,
                    expect,
                };
                self.update(held, update, now)?
            }
            _ => {
                let delete = Delete {
                    name,
                    reason,
                    expect,
                };
                self.delete(held, delete, now)?
            }
        };
        if deletes {
            let guard = |file: FileChange| Guard {
                path: below(&file.path).to_owned(),
                hash: file.before,
            };
            prepared.guards.files = files.into_iter().map(guard).collect();
            prepared.guards.alone = alone;
        }
        prepared.approval = Some(approved.id);
        let decision = approved.decision.to_text();
        if let Some(block) = prepared.blocks.last_mut() {
            block.push(decision);
        }
        Ok(prepared)
    }

    /// The paths of all files below `folder`, sorted; anything but plain files and directories is refused.
    pub(super) fn paths(&self, folder: &Path) -> Result<Vec<String>, KnowledgeError> {
        let mut paths = Vec::new();
        let mut bytes = 0;
        self.gather_paths(folder, "", 0, &mut paths, &mut bytes)?;
        paths.sort();
        Ok(paths)
    }

    fn gather_paths(
        &self,
        folder: &Path,
        below: &str,
        depth: usize,
        paths: &mut Vec<String>,
        bytes: &mut u64,
    ) -> Result<(), KnowledgeError> {
        let too_much = |what, max| Err(KnowledgeError::TooMuch { what, max });
        if depth > DEPTH_MAX {
            return too_much("levels", DEPTH_MAX as u64);
        }
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let path = format!("{below}{}", name.to_string_lossy());
            let found = fs::symlink_metadata(entry.path())?;
            if name.to_str().is_none() || !(found.is_dir() || found.is_file()) {
                return Err(KnowledgeError::NotAFile { path });
            }
            if found.is_dir() {
                let below = format!("{path}/");
                self.gather_paths(&entry.path(), &below, depth + 1, paths, bytes)?;
                continue;
            }
            *bytes = bytes.saturating_add(found.len());
            if *bytes > self.policy.entry_bytes {
                return too_much("bytes", self.policy.entry_bytes);
            }
            if paths.len() == FILES_MAX {
                return too_much("files", FILES_MAX as u64);
            }
            paths.push(path);
        }
        Ok(())
    }

    /// The hash of the file at `path` below the knowledge directory, if one is there.
    fn hash(&self, path: &str) -> Result<Option<ContentHash>, KnowledgeError> {
        let max = self.policy.entry_bytes;
        let mut file = match beneath::file(&self.root(), path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) if beneath::is_link(&error) => {
                let path = format!("knowledge/{path}");
                return Err(KnowledgeError::NotPlain { path });
            }
            Err(error) => return Err(error.into()),
        };
        if file.metadata()?.len() > max {
            return Err(KnowledgeError::TooMuch { what: "bytes", max });
        }
        let mut hasher = Hasher::default();
        std::io::copy(&mut file, &mut hasher)?;
        Ok(Some(hasher.finish()))
    }
}

fn name_of(change: &proposal::Change) -> Result<&SkillName, KnowledgeError> {
    match change {
        proposal::Change::KnowledgeCreate { name }
        | proposal::Change::KnowledgeUpdate { name }
        | proposal::Change::KnowledgeDelete { name } => Ok(name),
        other => Err(KnowledgeError::NotFound {
            name: other.subject().to_owned(),
        }),
    }
}

/// A path below the data directory as one below the knowledge directory.
fn below(path: &str) -> &str {
    path.strip_prefix("knowledge/").unwrap_or_default()
}

fn text(content: Option<&[u8]>) -> Result<&str, KnowledgeError> {
    let content = content.unwrap_or_default();
    let at = |error: std::str::Utf8Error| SkillFault::NotUtf8 {
        at: error.valid_up_to(),
    };
    Ok(std::str::from_utf8(content).map_err(at)?)
}
