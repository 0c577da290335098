//! The law, its versions and the mark of a session on disk.
//!
//! Blocking code: call it from a blocking thread. Several processes share the files; whoever adds a version holds the
//! lock of `skills/`.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use fs_err as fs;
use kairos_place::proposal::{CONTENT_MAX, VersionName};
use kairos_protocol::dsl::gate::Settings;
use kairos_protocol::hash::ContentHash;
use kairos_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::SkillsError;
use super::session::Mark;
use crate::beneath;
use crate::durable;
use crate::staging::Held;

/// Most versions that are kept.
pub const VERSIONS_MAX: usize = 10_000;
/// Longest settings file and longest note beside a version, in bytes.
const SETTINGS_MAX: usize = 1024 * 1024;
const NOTE_MAX: usize = 64 * 1024;
const LAW: &str = "skills/kairos.rb";
const CONFIG: &str = "skills/config.yml";
const SKILLS: &str = "skills";
const VERSIONS: &str = "skills/versions";
const MARK: &str = "storage/evolution.json";
/// Mode of the directory; it is for people to read.
const MODE: u32 = 0o755;

/// A law that was kept when another took its place, or because somebody asked for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Version {
    /// Its name.
    pub name: VersionName,
    /// The hash of its text, which the ledger tells of; nothing if it cannot be read.
    pub hash: Option<ContentHash>,
    /// When it was kept, as it was written down then.
    pub created_at: Option<String>,
    /// Why.
    pub reason: Option<String>,
}

/// What lies beside a version; the reference writes the same.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Note {
    created_at: Option<String>,
    reason: Option<String>,
}

/// The files of the law below a data directory.
#[derive(Debug)]
pub(super) struct SkillsStore {
    data: PathBuf,
}

impl SkillsStore {
    pub(super) fn new(data: &Path) -> Self {
        let data = data.to_owned();
        Self { data }
    }

    /// Reads a plain file of at most `max` bytes below the data directory; nothing where there is none.
    fn read(&self, path: &str, max: usize) -> Result<Option<Vec<u8>>, SkillsError> {
        match beneath::read(&self.data, path, max as u64) {
            Ok(bytes) if bytes.len() > max => Err(SkillsError::TooLarge(path.to_owned())),
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) if beneath::is_link(&error) => Err(SkillsError::NotAFile(path.to_owned())),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) fn law(&self) -> Result<Vec<u8>, SkillsError> {
        let law = self.read(LAW, CONTENT_MAX)?;
        law.ok_or(SkillsError::NothingThere(LAW))
    }

    /// The settings as they are written; nothing of them where they are no text, so that they allow nothing.
    pub(super) fn config(&self) -> Result<String, SkillsError> {
        let bytes = self.read(CONFIG, SETTINGS_MAX)?.unwrap_or_default();
        Ok(String::from_utf8(bytes).unwrap_or_default())
    }

    /// Whether former laws can be kept.
    pub(super) fn keeps_versions(&self) -> bool {
        self.data.join(VERSIONS).is_dir()
    }

    pub(super) fn settings(&self) -> Result<Settings, SkillsError> {
        let bytes = self.read(CONFIG, SETTINGS_MAX)?.unwrap_or_default();
        Ok(match std::str::from_utf8(&bytes) {
            Ok(text) => Settings::read(text),
            Err(_) => Settings {
                enabled: false,
                tools: false,
                problem: Some("skills/config.yml is not UTF-8".to_owned()),
                ..Settings::read("")
            },
        })
    }

    pub(super) fn version(&self, name: &VersionName) -> Result<Vec<u8>, SkillsError> {
        let law = self.read(&format!("{VERSIONS}/{name}"), CONTENT_MAX)?;
        law.ok_or_else(|| SkillsError::NoVersion(name.clone()))
    }

    fn names(&self) -> io::Result<Vec<VersionName>> {
        let entries = match fs::read_dir(self.data.join(VERSIONS)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut names = Vec::new();
        for entry in entries {
            let name = entry?.file_name().into_string().ok();
            names.extend(name.and_then(|name| name.parse().ok()));
        }
        Ok(names)
    }

    /// The versions, the newest first: their names begin with when they were kept, and notes tell the rest.
    pub(super) fn versions(&self) -> Result<Vec<Version>, SkillsError> {
        let mut versions = Vec::new();
        for name in self.names()? {
            let hash = match self.version(&name) {
                Ok(bytes) => Some(ContentHash::of(bytes)),
                Err(SkillsError::Io(error)) => return Err(error.into()),
                Err(_) => None,
            };
            let note = self.read(&format!("{VERSIONS}/{name}.meta.json"), NOTE_MAX);
            let note = note.ok().flatten().unwrap_or_default();
            // One that somebody else wrote otherwise says nothing, and hides nothing.
            let note: Note = serde_json::from_slice(&note).unwrap_or_default();
            versions.push(Version {
                name,
                hash,
                created_at: note.created_at,
                reason: note.reason,
            });
        }
        versions.sort_by(|a, b| b.name.cmp(&a.name));
        Ok(versions)
    }

    pub(super) fn snapshot(
        &self,
        reason: Option<&str>,
        now: Timestamp,
    ) -> Result<VersionName, SkillsError> {
        let _held = Held::lock(&self.data.join(SKILLS), MODE)?;
        let law = self.law()?;
        let taken = self.names()?;
        if taken.len() >= VERSIONS_MAX {
            return Err(SkillsError::Full { max: VERSIONS_MAX });
        }
        let stamp = now.file_stamp();
        let names = std::iter::once(format!("kairos_{stamp}.rb"));
        let mut names = names.chain((2..).map(|n| format!("kairos_{stamp}_{n}.rb")));
        let name = names
            .find_map(|name| name.parse().ok().filter(|name| !taken.contains(name)))
            .ok_or(SkillsError::Full { max: VERSIONS_MAX })?;
        let folder = self.data.join(VERSIONS);
        fs::create_dir_all(&folder)?;
        let note = json!({
            "timestamp": stamp, "reason": reason.unwrap_or("manual snapshot"), "filename": name,
            "created_at": now.entry(),
        });
        durable::replace(&folder.join(name.as_str()), &law)?;
        let note_name = format!("{name}.meta.json");
        durable::replace(&folder.join(note_name), format!("{note:#}").as_bytes())?;
        Ok(name)
    }

    /// Where the session begins; nothing if none was begun. What cannot be read is an error, so that damage lifts no limit.
    pub(super) fn mark(&self) -> Result<Option<Mark>, SkillsError> {
        let Some(bytes) = self.read(MARK, NOTE_MAX)? else {
            return Ok(None);
        };
        let mark = serde_json::from_slice(&bytes);
        mark.map(Some).map_err(|error| {
            io::Error::new(ErrorKind::InvalidData, format!("{MARK}: {error}")).into()
        })
    }

    pub(super) fn set_mark(&self, mark: Mark) -> Result<(), SkillsError> {
        let path = self.data.join(MARK);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let text = serde_json::to_vec(&mark).map_err(io::Error::from)?;
        Ok(durable::replace(&path, &text)?)
    }
}
