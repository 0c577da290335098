//! Knowledge entries as the reference lays them out: a directory with a main text, and what lies beside it.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, ErrorKind, Read as _};
use std::path::Path;
use std::time::UNIX_EPOCH;

use fs_err as fs;
use kairos_protocol::hash::ContentHash;
use kairos_protocol::id::SkillName;
use kairos_protocol::skill::archive_meta::{self, ArchiveMeta};
use kairos_protocol::skill::{Skill, agent_skill};
use kairos_protocol::time::Timestamp;
use serde::Serialize;
use serde_json::Value;

use super::{KnowledgeError, KnowledgeStore, Stamp};
use crate::beneath;

/// Where archived entries are, below the knowledge directory.
pub(super) const ARCHIVED: &str = ".archived";
/// The directories beside a main text, as the reference names them.
pub(crate) const SUBDIRECTORIES: [&str; 3] = ["scripts", "assets", "references"];
/// Most files counted in one of them.
const COUNT_MAX: usize = 10_000;

/// An entry of layer L1 or L2, as its owner sees it.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct KnowledgeEntry {
    /// The name of its directory, under which it is found.
    pub name: String,
    /// The name in its frontmatter, where that is another one.
    pub title: Option<String>,
    /// One line for people.
    pub description: String,
    /// As the frontmatter has it: a text or a number.
    pub version: Option<Value>,
    /// Tags.
    pub tags: Vec<Value>,
    /// Path of the main text below the data directory; nothing if there is none.
    pub path: Option<String>,
    /// Hash of the main text.
    pub content_hash: Option<ContentHash>,
    /// Bytes of the main text.
    pub size: u64,
    /// When the main text was changed.
    pub modified: Option<Timestamp>,
    /// Files in `scripts/`.
    pub scripts: usize,
    /// Files in `assets/`.
    pub assets: usize,
    /// Files in `references/`.
    pub references: usize,
    /// What is wrong with it; such an entry is listed all the same.
    pub fault: Option<String>,
}

/// An archived entry.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Archived {
    /// The entry as it was.
    pub entry: KnowledgeEntry,
    /// When it was archived, as an ISO 8601 text.
    pub archived_at: Option<String>,
    /// Why.
    pub archived_reason: Option<String>,
    /// What takes its place.
    pub superseded_by: Option<String>,
}

/// What was told of entries with a main text, by name, and of which file.
#[derive(Debug, Default)]
pub struct Described(HashMap<String, (Stamp, KnowledgeEntry)>);

/// An entry whose main text was found.
struct Located {
    /// All that is known without reading it.
    entry: KnowledgeEntry,
    file: File,
    stamp: Stamp,
}

impl KnowledgeStore {
    /// Every entry, in the byte order of names. One that cannot be read is there with its fault.
    ///
    /// A main text that is the one that was `known` is not read again.
    pub fn entries(&self, known: &mut Described) -> io::Result<Vec<KnowledgeEntry>> {
        let root = self.root();
        let mut now = HashMap::new();
        let mut entries = Vec::new();
        for name in folders(&root, self.policy.files)? {
            let located = match locate(&root, "knowledge", &name) {
                Ok(located) => located,
                Err(entry) => {
                    entries.push(*entry);
                    continue;
                }
            };
            let stamp = located.stamp;
            let known = known
                .0
                .remove(&name)
                .filter(|(then, text)| *then == stamp && text.path == located.entry.path);
            let entry = match known {
                Some((_, text)) => KnowledgeEntry {
                    scripts: located.entry.scripts,
                    assets: located.entry.assets,
                    references: located.entry.references,
                    ..text
                },
                None => self.describe_located(&name, located).0,
            };
            if entry.content_hash.is_some() {
                now.insert(name, (stamp, entry.clone()));
            }
            entries.push(entry);
        }
        known.0 = now;
        Ok(entries)
    }

    /// Every archived entry, in the byte order of names.
    pub fn archived(&self) -> io::Result<Vec<Archived>> {
        let root = self.root().join(ARCHIVED);
        if !is_folder(&root)? {
            return Ok(Vec::new());
        }
        let names = folders(&root, self.policy.files)?;
        Ok(names
            .iter()
            .map(|name| self.describe_archived(name))
            .collect())
    }

    fn describe_archived(&self, name: &str) -> Archived {
        let root = self.root().join(ARCHIVED);
        let path = format!("knowledge/{ARCHIVED}");
        let (mut entry, _) = self.describe(&root, &path, name);
        let meta = match self.archive_meta(name) {
            Ok(meta) => meta,
            Err(reason) => {
                entry.fault.get_or_insert(reason);
                ArchiveMeta::default()
            }
        };
        Archived {
            entry,
            archived_at: meta.archived_at,
            archived_reason: meta.archived_reason,
            superseded_by: meta.superseded_by,
        }
    }

    /// What is kept about the archived entry `name`; an absent file says nothing.
    pub(super) fn archive_meta(&self, name: &str) -> Result<ArchiveMeta, String> {
        let path = format!("{name}/{}", archive_meta::FILE);
        let root = self.root().join(ARCHIVED);
        match beneath::read(&root, &path, archive_meta::BYTES_MAX as u64) {
            Ok(bytes) => ArchiveMeta::parse(&bytes)
                .map_err(|error| format!("{} cannot be read: {error}", archive_meta::FILE)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(ArchiveMeta::default()),
            Err(error) => Err(format!(
                "{} cannot be read: {}",
                archive_meta::FILE,
                error.kind()
            )),
        }
    }

    /// The entry `name` with its main text, which must be UTF-8.
    pub fn entry(&self, name: &SkillName) -> Result<(KnowledgeEntry, String), KnowledgeError> {
        let root = self.root();
        self.entry_at(&root, "knowledge", name)
            .ok_or_else(|| KnowledgeError::NotFound {
                name: name.to_string(),
            })
    }

    /// The archived entry `name` with its main text.
    pub fn archived_entry(&self, name: &SkillName) -> Result<(Archived, String), KnowledgeError> {
        let root = self.root().join(ARCHIVED);
        let path = format!("knowledge/{ARCHIVED}");
        let found = self.entry_at(&root, &path, name);
        let (_, text) = found.ok_or_else(|| KnowledgeError::NotArchived {
            name: name.to_string(),
        })?;
        Ok((self.describe_archived(name.as_str()), text))
    }

    fn entry_at(
        &self,
        root: &Path,
        path: &str,
        name: &SkillName,
    ) -> Option<(KnowledgeEntry, String)> {
        let (entry, bytes) = self.describe(root, path, name.as_str());
        let text = String::from_utf8_lossy(&bytes?).into_owned();
        Some((entry, text))
    }

    /// What is known of the entry `name` below `root`, which is `path` below the data directory, and the bytes of
    /// its main text.
    pub(crate) fn describe(
        &self,
        root: &Path,
        path: &str,
        name: &str,
    ) -> (KnowledgeEntry, Option<Vec<u8>>) {
        match locate(root, path, name) {
            Ok(located) => self.describe_located(name, located),
            Err(entry) => (*entry, None),
        }
    }

    fn describe_located(&self, name: &str, located: Located) -> (KnowledgeEntry, Option<Vec<u8>>) {
        let Located {
            mut entry, file, ..
        } = located;
        let mut bytes = Vec::new();
        let limit = self.policy.entry_bytes.saturating_add(1);
        if let Err(error) = file.take(limit).read_to_end(&mut bytes) {
            entry.fault = Some(error.kind().to_string());
            return (entry, None);
        }
        entry.content_hash = Some(ContentHash::of(&bytes));
        let path = entry.path.as_deref().unwrap_or_default();
        match Skill::parse(path, &bytes, &self.policy.read) {
            Ok(skill) => {
                let members = skill.frontmatter.unwrap_or_default();
                let title = members.get("name").and_then(Value::as_str);
                entry.title = title.filter(|title| *title != name).map(str::to_owned);
                entry.version = members.get("version").cloned();
                entry.description = skill.summary;
                entry.tags = skill.tags;
                if skill.frontmatter_unreadable {
                    entry.fault = Some(KnowledgeError::Frontmatter.to_string());
                }
            }
            Err(fault) => entry.fault = Some(fault.to_string()),
        }
        (entry, Some(bytes))
    }
}

/// The main text of the entry `name` below `root`, which is `path` below the data directory, open and not yet read, or
/// what there is to say of the entry without one.
fn locate(root: &Path, path: &str, name: &str) -> Result<Located, Box<KnowledgeEntry>> {
    let mut entry = KnowledgeEntry {
        name: name.to_owned(),
        ..KnowledgeEntry::default()
    };
    let faulty = |mut entry: KnowledgeEntry, fault: String| {
        entry.fault = Some(fault);
        Err(Box::new(entry))
    };
    if let Err(error) = name.parse::<SkillName>() {
        return faulty(entry, error.to_string());
    }
    let folder = root.join(name);
    let main = match main_text(&folder, name) {
        Ok(Some(main)) => main,
        Ok(None) => return faulty(entry, "there is no Markdown file".to_owned()),
        Err(error) => return faulty(entry, error.kind().to_string()),
    };
    let [scripts, assets, references] = SUBDIRECTORIES.map(|sub| count(&folder.join(sub)));
    (entry.scripts, entry.assets, entry.references) = (scripts, assets, references);
    let below = format!("{name}/{main}");
    entry.path = Some(format!("{path}/{below}"));
    let found = beneath::file(root, &below).and_then(|file| {
        let found = file.metadata()?;
        let changed = found
            .modified()?
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        entry.modified = Some(Timestamp::EPOCH.plus(changed));
        entry.size = found.len();
        Ok((file, Stamp::of(&found)))
    });
    match found {
        Ok((file, stamp)) => Ok(Located { entry, file, stamp }),
        Err(error) if beneath::is_link(&error) => faulty(
            entry,
            "the main text is a link; links are not followed".to_owned(),
        ),
        Err(error) => faulty(entry, error.kind().to_string()),
    }
}

/// The main text in the directory `folder` of the entry `name`: `<name>.md`, else `SKILL.md`, else the first
/// Markdown file in byte order, as the reference has it.
pub(crate) fn main_text(folder: &Path, name: &str) -> io::Result<Option<String>> {
    if !is_folder(folder)? {
        return Ok(None);
    }
    let mut names: Vec<_> = fs::read_dir(folder)?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|file| file.ends_with(".md") && !file.starts_with('.'))
        .collect();
    names.sort();
    let own = format!("{name}.md");
    let found = [own.as_str(), agent_skill::MAIN]
        .into_iter()
        .find(|wanted| names.iter().any(|file| file == wanted));
    Ok(found
        .map(str::to_owned)
        .or_else(|| names.into_iter().next()))
}

/// Whether a directory is there, and not a link to one.
pub(crate) fn is_folder(path: &Path) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(found) => Ok(found.is_dir()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// The names of the directories in `root`, sorted, without hidden ones; at most `max`.
pub(crate) fn folders(root: &Path, max: usize) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(root) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') && entry.file_type()?.is_dir() {
            names.push(name);
        }
    }
    names.sort();
    names.truncate(max);
    Ok(names)
}

/// How many files are in `folder`, at any depth; links are passed over.
fn count(folder: &Path) -> usize {
    if !matches!(is_folder(folder), Ok(true)) {
        return 0;
    }
    let files = walkdir::WalkDir::new(folder).into_iter().flatten();
    files
        .filter(|entry| entry.file_type().is_file())
        .take(COUNT_MAX)
        .count()
}
