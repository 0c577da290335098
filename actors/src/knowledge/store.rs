//! Knowledge on disk: looked over, read, taken in and given out.
//!
//! Blocking code: call it from a blocking thread. The owner's editor and other processes may change files at any
//! time, so nothing read here is trusted to still be true a moment later.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use fs_err::{self as fs, File};
use kairos_protocol::id::SkillName;
use kairos_protocol::skill::agent_skill::{self, PROVENANCE};
use kairos_protocol::skill::{ReadOptions, Skill, SkillFault};
use serde_json::{Map, Value};

use super::KnowledgeError;
use super::catalogue::{Catalogue, Sharing, Unfit, entry_of, main_path, sidecar_path};

mod approved;
mod change;
mod context;
mod entry;
mod exchange;
mod resource;
pub(crate) mod unit;

pub use approved::Approved;
pub use change::{Archive, Changed, Create, Delete, Unarchive, Update};
pub use context::{ContextSession, SaveContext, SavedContext};
pub use entry::{Archived, Described, KnowledgeEntry};
pub use exchange::{Authorship, Imported, Origin, Stored, signed_provenance};
pub use resource::{RESOURCE_MAX, Resource, ResourceInfo};

/// Longest sidecar read, in bytes.
const SIDECAR_MAX: u64 = 1024 * 1024;
/// Mode of directories; knowledge is for people to read.
const MODE: u32 = 0o755;
/// Deepest directory looked into, counted from `knowledge/`.
const DEPTH_MAX: usize = 32;

/// Bounds of the knowledge of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnowledgePolicy {
    /// What is public when nothing is said, and how long a skill may be.
    pub read: ReadOptions,
    /// Most Markdown files looked at; the rest is left out and reported.
    pub files: usize,
    /// Most files of one entry that is imported or exported.
    pub entry_files: usize,
    /// Most bytes of one entry that is imported or exported.
    pub entry_bytes: u64,
}

impl Default for KnowledgePolicy {
    fn default() -> Self {
        Self {
            read: ReadOptions::default(),
            files: 10_000,
            entry_files: 2_000,
            entry_bytes: 50 * 1024 * 1024,
        }
    }
}

/// Who asks for a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// The owner sees everything.
    Owner,
    /// A peer sees what is public.
    Peer,
}

/// A text as it is at this moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Served {
    /// What is known of it, with the hash of this very text.
    pub skill: Skill,
    /// The text.
    pub text: String,
}

/// What tells one state of a file from another without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    modified: (i64, i64),
    changed: (i64, i64),
    size: u64,
    inode: u64,
}

/// One look at the directory.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// Texts and sidecars in walking order: the fingerprint.
    seen: Vec<(String, Stamp)>,
    /// What was passed over by name alone.
    unfit: Vec<Unfit>,
    /// The bound was reached.
    full: bool,
    parsed: HashMap<String, (Stamp, Result<Skill, SkillFault>)>,
}

/// The knowledge below a data directory.
pub struct KnowledgeStore {
    data: PathBuf,
    policy: KnowledgePolicy,
    #[cfg(test)]
    reach: Option<Reach>,
}

/// What a test does when a change has come so far.
#[cfg(test)]
pub(crate) type Reach = Box<dyn Fn(unit::Point) -> io::Result<()> + Send + Sync>;

impl KnowledgeStore {
    /// The knowledge of the data directory `data`.
    pub fn new(data: &Path, policy: KnowledgePolicy) -> Self {
        Self {
            data: data.to_owned(),
            policy,
            #[cfg(test)]
            reach: None,
        }
    }

    /// The same, with `reach` asked at each point of a change.
    #[cfg(test)]
    pub(crate) fn reaching(mut self, reach: Reach) -> Self {
        self.reach = Some(reach);
        self
    }

    pub(super) fn data(&self) -> &Path {
        &self.data
    }

    pub(super) fn read_options(&self) -> ReadOptions {
        self.policy.read
    }

    fn root(&self) -> PathBuf {
        self.data.join("knowledge")
    }

    /// Looks the directory over. `None` if nothing changed since `before`; only files that changed are read.
    pub fn look(&self, before: &Snapshot) -> io::Result<Option<(Snapshot, Catalogue)>> {
        let mut now = Snapshot::default();
        self.walk(&self.root(), "knowledge", 0, &mut now)?;
        if now.seen == before.seen && now.unfit == before.unfit {
            return Ok(None);
        }
        let mut sharing: HashMap<String, Sharing> = HashMap::new();
        let mut unfit = now.unfit.clone();
        let mut skills = Vec::new();
        for (path, stamp) in &now.seen {
            if let Some(entry) = entry_of(path).filter(|e| *path == sidecar_path(e)) {
                // An unreadable sidecar may have said `share: false`.
                let said = self
                    .sidecar(entry)
                    .map(|s| s.as_ref().map_or(Sharing::Unsaid, Sharing::of));
                if let Err(error) = &said {
                    unfit.push(Unfit {
                        path: path.clone(),
                        reason: error.to_string(),
                    });
                }
                sharing.insert(entry.to_owned(), said.unwrap_or(Sharing::Private));
                continue;
            }
            let known = before.parsed.get(path).filter(|(then, _)| then == stamp);
            let parsed = match known {
                Some((_, parsed)) => parsed.clone(),
                None => match self.read(path) {
                    Ok(read) => read.map(|(skill, _bytes)| skill),
                    Err(error) => {
                        let reason = error.kind().to_string();
                        unfit.push(Unfit {
                            path: path.clone(),
                            reason,
                        });
                        continue;
                    }
                },
            };
            match &parsed {
                Ok(skill) => skills.push(skill.clone()),
                Err(fault) => unfit.push(Unfit {
                    path: path.clone(),
                    reason: fault.to_string(),
                }),
            }
            now.parsed.insert(path.clone(), (*stamp, parsed));
        }
        for skill in &mut skills {
            let said = entry_of(&skill.path).and_then(|entry| sharing.get(entry));
            skill.public = said.copied().unwrap_or(Sharing::Unsaid).decide(skill);
        }
        Ok(Some((now, Catalogue::new(skills, unfit))))
    }

    /// Notes every text below `folder` in the order of lists; dot-files and links are passed over.
    fn walk(&self, folder: &Path, path: &str, depth: usize, seen: &mut Snapshot) -> io::Result<()> {
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        let mut names = Vec::new();
        for entry in entries {
            names.push(entry?.file_name());
        }
        names.sort();
        for name in names {
            let path = format!("{path}/{}", name.to_string_lossy());
            if seen.seen.len() + seen.unfit.len() >= self.policy.files {
                if !std::mem::replace(&mut seen.full, true) {
                    let reason =
                        format!("only the first {} files are looked at", self.policy.files);
                    seen.unfit.push(Unfit { path, reason });
                }
                return Ok(());
            }
            let Some(text) = name.to_str() else {
                let reason = "the name is not UTF-8".to_owned();
                seen.unfit.push(Unfit { path, reason });
                continue;
            };
            let is_sidecar = depth == 1 && text == PROVENANCE;
            if text.starts_with('.') && !is_sidecar {
                continue;
            }
            let target = folder.join(text);
            let Ok(found) = fs::symlink_metadata(&target) else {
                continue; // gone meanwhile
            };
            if found.is_dir() && depth < DEPTH_MAX {
                self.walk(&target, &path, depth + 1, seen)?;
            } else if found.is_file() && (text.ends_with(".md") || is_sidecar) {
                seen.seen.push((path, Stamp::of(&found)));
            }
        }
        Ok(())
    }

    /// The text of `known` as it is now, hashed afresh.
    ///
    /// Fails with [`KnowledgeError::Unavailable`] if it is gone, or if it is not for this audience any more.
    pub fn content(&self, known: &Skill, audience: Audience) -> Result<Served, KnowledgeError> {
        let (mut skill, bytes) = match self.read(&known.path) {
            Ok(read) => read?,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(KnowledgeError::Unavailable);
            }
            Err(error) => return Err(error.into()),
        };
        let sharing = match entry_of(&known.path).map(|entry| self.sidecar(entry)) {
            Some(Ok(Some(sidecar))) => Sharing::of(&sidecar),
            Some(Err(_)) => Sharing::Private,
            Some(Ok(None)) | None => Sharing::Unsaid,
        };
        skill.public = sharing.decide(&skill);
        if audience == Audience::Peer && !skill.public {
            return Err(KnowledgeError::Unavailable);
        }
        let text = String::from_utf8(bytes).map_err(|e| SkillFault::NotUtf8 {
            at: e.utf8_error().valid_up_to(),
        })?;
        Ok(Served { skill, text })
    }

    /// Where the entry `name` came from, as kept beside it; `None` if it was made here.
    pub fn provenance(&self, name: &str) -> Result<Option<Map<String, Value>>, KnowledgeError> {
        self.sidecar(self.require(name)?.as_str())
    }

    /// The name, if it is that of an entry with a main text.
    fn require(&self, name: &str) -> Result<SkillName, KnowledgeError> {
        let parsed = name.parse::<SkillName>().ok();
        let there = parsed.filter(|name| self.data.join(main_path(name.as_str())).is_file());
        there.ok_or_else(|| KnowledgeError::NotFound {
            name: name.to_owned(),
        })
    }

    fn sidecar(&self, entry: &str) -> Result<Option<Map<String, Value>>, KnowledgeError> {
        let unreadable = |reason: String| KnowledgeError::Sidecar {
            name: entry.to_owned(),
            reason,
        };
        match read_file(&self.data.join(sidecar_path(entry)), SIDECAR_MAX) {
            Ok(bytes) if bytes.len() as u64 > SIDECAR_MAX => {
                Err(unreadable("it is too large".to_owned()))
            }
            Ok(bytes) => match kairos_protocol::json::parse_object(&bytes) {
                Ok(sidecar) => Ok(Some(sidecar)),
                Err(error) => Err(unreadable(error.to_string())),
            },
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(unreadable(error.kind().to_string())),
        }
    }

    /// Reads and parses the skill at `path`. A file that is too large is not read.
    fn read(&self, path: &str) -> io::Result<Result<(Skill, Vec<u8>), SkillFault>> {
        let (file, max) = (self.data.join(path), self.policy.read.max_bytes);
        let size = fs::symlink_metadata(&file)?.size();
        if size > max as u64 {
            let size = usize::try_from(size).unwrap_or(usize::MAX);
            return Ok(Err(SkillFault::TooLarge { size, max }));
        }
        let bytes = read_file(&file, max as u64)?;
        Ok(Skill::parse(path, &bytes, &self.policy.read).map(|skill| (skill, bytes)))
    }

    /// All files of a directory, dot-files included; links and the like are refused.
    fn files(&self, folder: &Path) -> Result<Vec<agent_skill::File>, KnowledgeError> {
        let mut files = Vec::new();
        let mut bytes = 0;
        self.gather(folder, "", 0, &mut files, &mut bytes)?;
        Ok(files)
    }

    fn gather(
        &self,
        folder: &Path,
        below: &str,
        depth: usize,
        files: &mut Vec<agent_skill::File>,
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
                self.gather(&entry.path(), &format!("{path}/"), depth + 1, files, bytes)?;
                continue;
            }
            let left = self.policy.entry_bytes.saturating_sub(*bytes);
            let content = read_file(&entry.path(), left)?;
            *bytes += content.len() as u64;
            if *bytes > self.policy.entry_bytes {
                return too_much("bytes", self.policy.entry_bytes);
            }
            if files.len() == self.policy.entry_files {
                return too_much("files", self.policy.entry_files as u64);
            }
            let executable = found.mode() & 0o100 != 0;
            files.push(agent_skill::File {
                path,
                bytes: content,
                executable,
            });
        }
        Ok(())
    }
}

impl Stamp {
    pub(super) fn of(found: &std::fs::Metadata) -> Self {
        Self {
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
            size: found.size(),
            inode: found.ino(),
        }
    }
}

/// Reads a regular file: everything, or one byte more than `max`.
fn read_file(path: &Path, max: u64) -> io::Result<Vec<u8>> {
    if !fs::symlink_metadata(path)?.is_file() {
        return Err(ErrorKind::NotFound.into());
    }
    let mut bytes = Vec::new();
    File::open(path)?
        .take(max.saturating_add(1))
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
pub(super) mod tests;
