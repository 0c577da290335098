//! The quarantine on disk: one directory per acquisition, `payload` beside `evidence.json`.
//!
//! Blocking code: call it from a blocking thread. Several processes may share the directory.

use std::fmt;
use std::io::{self, ErrorKind, Read as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use fs_err::{self as fs, File};
use kairos_place::session::Strength;
use kairos_protocol::federation::answer::Carried;
use kairos_protocol::hash::{ContentHash, Hasher};
use kairos_protocol::id::AgentId;
use kairos_protocol::provenance::Provenance;
use kairos_protocol::skill::findings::Finding;
use kairos_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::check::Checks;
use crate::staging::Held as Locked;

const PAYLOAD: &str = "payload";
const EVIDENCE: &str = "evidence.json";
/// Mode of the directories: nobody else reads what was not approved.
const MODE: u32 = 0o700;
/// Version of the evidence.
const VERSION: u32 = 1;
/// Longest evidence in bytes, as it is written.
const EVIDENCE_MAX: u64 = 256 * 1024;
/// Digits of a [`HoldId`].
const ID_DIGITS: usize = 12;

/// Bounds of the quarantine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuarantinePolicy {
    /// Most acquisitions held at once, unreadable ones included.
    pub entries: usize,
    /// Largest payload in bytes.
    pub payload_bytes: usize,
}

impl Default for QuarantinePolicy {
    fn default() -> Self {
        Self {
            entries: 100,
            payload_bytes: 8 * 1024 * 1024,
        }
    }
}

/// What kind of thing waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HeldKind {
    /// The text of a skill.
    Skill,
    /// The JSON package of a SkillSet.
    SkillSet,
}

impl HeldKind {
    /// `skill` or `SkillSet`, for people.
    pub fn title(self) -> &'static str {
        match self {
            Self::Skill => "skill",
            Self::SkillSet => "SkillSet",
        }
    }

    /// `skill` or `skillset`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Skill => "skill",
            Self::SkillSet => "skillset",
        }
    }
}

/// Names an acquisition: 12 hex digits over its kind, name, content hash and sender, so that acquiring the same
/// thing twice gives the same id.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HoldId(String);

/// The text is not a [`HoldId`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("an id in quarantine has {ID_DIGITS} hex digits")]
pub struct HoldIdError;

impl HoldId {
    fn of(evidence: &Evidence) -> Self {
        let mut hasher = Hasher::default();
        let hash = evidence.content_hash.to_hex();
        for part in [
            evidence.kind.as_str(),
            &evidence.name,
            &hash,
            evidence.from.as_str(),
        ] {
            // With its length in front no part can pass for the end of another.
            hasher.update(&(part.len() as u64).to_be_bytes());
            hasher.update(part.as_bytes());
        }
        let mut id = hasher.finish().to_hex();
        id.truncate(ID_DIGITS);
        Self(id)
    }

    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for HoldId {
    type Err = HoldIdError;

    fn from_str(text: &str) -> Result<Self, HoldIdError> {
        let digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        match text.len() == ID_DIGITS && text.bytes().all(digit) {
            true => Ok(Self(text.to_owned())),
            false => Err(HoldIdError),
        }
    }
}

impl TryFrom<String> for HoldId {
    type Error = HoldIdError;
    fn try_from(text: String) -> Result<Self, HoldIdError> {
        text.parse()
    }
}

impl From<HoldId> for String {
    fn from(id: HoldId) -> String {
        id.0
    }
}

impl fmt::Display for HoldId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Everything known about an acquisition: what a person reads before deciding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// What it is.
    pub kind: HeldKind,
    /// The name its sender gave it.
    pub name: String,
    /// Its version, if it has one.
    #[serde(default)]
    pub version: Option<String>,
    /// The hash it was offered under: of the text of a skill, or over the files of a SkillSet.
    pub content_hash: ContentHash,
    /// Who sent it.
    pub from: AgentId,
    /// Where it was fetched.
    pub url: String,
    /// Fingerprint of the sender's key.
    pub key_fingerprint: String,
    /// How strongly it was established that the sender holds that key.
    pub session: Strength,
    /// What was checked.
    pub checks: Checks,
    /// Who authored it and through whose hands it came, if that was told and verified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provenance: Option<Provenance>,
    /// Through which Places it came, if it came through some: verified, and to be verified again at any time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub carried: Option<Carried>,
    /// What the heuristics point at.
    pub findings: Vec<Finding>,
    /// When it came.
    pub acquired_at: Timestamp,
}

/// The evidence as it is stored.
#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    quarantine_version: u32,
    /// Bytes of the payload.
    size: u64,
    /// Hash of the payload.
    payload_hash: ContentHash,
    /// What is known.
    evidence: Evidence,
}

/// An acquisition that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Its name in the quarantine.
    pub id: HoldId,
    /// What is known about it.
    pub evidence: Evidence,
    /// Bytes of the payload.
    pub size: u64,
    /// A hash over evidence and payload as they lie on disk. An approval names the seal it saw.
    pub seal: ContentHash,
}

/// An entry that cannot be read. It can be discarded like any other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// Its name in the quarantine.
    pub id: HoldId,
    /// Why.
    pub reason: String,
}

/// All that waits, the oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// What can be decided about.
    pub held: Vec<Held>,
    /// What can only be discarded.
    pub broken: Vec<Broken>,
}

/// Why the quarantine refused. [`QuarantineError::Io`] may name local paths: its text is for the owner only.
#[derive(Debug, Error)]
pub enum QuarantineError {
    /// The bound is reached.
    #[error("the quarantine holds {max} acquisitions already; approve or reject one of them first")]
    Full {
        /// The bound.
        max: usize,
    },
    /// Payload or evidence is too large.
    #[error("the {what} has {size} bytes, the quarantine takes {max}")]
    TooLarge {
        /// Which of the two.
        what: &'static str,
        /// What was offered.
        size: u64,
        /// The bound.
        max: u64,
    },
    /// No such entry.
    #[error("nothing waits in quarantine under {0}")]
    Unknown(HoldId),
    /// The entry is there and cannot be trusted.
    #[error("{id} in quarantine is damaged: {reason}; reject it and acquire it again")]
    Damaged {
        /// Which.
        id: HoldId,
        /// What is wrong.
        reason: String,
    },
    /// Something changed between being shown and being approved.
    #[error("{0} in quarantine is not what was shown any more; look at it again")]
    Changed(HoldId),
    /// The disk failed.
    #[error("the quarantine could not be used: {0}")]
    Io(#[from] io::Error),
    /// The actor did not answer.
    #[error("the quarantine: {0}")]
    Ask(#[from] crate::bounded_addr::AskError),
}

/// The directory of the quarantine. Holds nothing in memory.
#[derive(Debug, Clone)]
pub struct QuarantineStore {
    root: PathBuf,
    policy: QuarantinePolicy,
}

impl QuarantineStore {
    /// A quarantine in `root`, which is made when something comes.
    pub fn new(root: &Path, policy: QuarantinePolicy) -> Self {
        let root = root.to_owned();
        Self { root, policy }
    }

    /// Stores an acquisition. The same payload under the same id is stored once, with the evidence it first had.
    pub fn hold(&self, evidence: Evidence, payload: &[u8]) -> Result<Held, QuarantineError> {
        let id = HoldId::of(&evidence);
        let too_large = |what, size, max| Err(QuarantineError::TooLarge { what, size, max });
        let (size, max) = (payload.len() as u64, self.policy.payload_bytes as u64);
        if size > max {
            return too_large("payload", size, max);
        }
        let payload_hash = ContentHash::of(payload);
        let stored = Stored {
            quarantine_version: VERSION,
            size,
            payload_hash,
            evidence,
        };
        let text = serde_json::to_vec_pretty(&stored).map_err(io::Error::other)?;
        if text.len() as u64 > EVIDENCE_MAX {
            return too_large("evidence", text.len() as u64, EVIDENCE_MAX);
        }
        let lock = Locked::lock(&self.root, MODE)?;
        let mut replaces = false;
        match self.show(&id) {
            Ok((held, there)) if ContentHash::of(&there) == payload_hash => return Ok(held),
            Ok(_) | Err(QuarantineError::Damaged { .. }) => replaces = true,
            Err(QuarantineError::Unknown(_)) if self.ids()?.len() >= self.policy.entries => {
                return Err(QuarantineError::Full {
                    max: self.policy.entries,
                });
            }
            Err(QuarantineError::Unknown(_)) => {}
            Err(error) => return Err(error),
        }
        let staging = lock.stage()?;
        staging.write(PAYLOAD, payload, false)?;
        staging.write(EVIDENCE, &text, false)?;
        staging.commit(id.as_str(), replaces)?;
        let seal = seal(&text, payload);
        Ok(Held {
            id,
            evidence: stored.evidence,
            size,
            seal,
        })
    }

    /// How many there are, readable or not. Cheaper than [`list`](Self::list), which reads all of them.
    pub fn count(&self) -> Result<usize, QuarantineError> {
        Ok(self.ids()?.len())
    }

    /// Everything that waits. An entry that cannot be read is listed as broken and hides no other.
    pub fn list(&self) -> Result<Listing, QuarantineError> {
        let mut listing = Listing::default();
        for id in self.ids()? {
            match self.show(&id) {
                Ok((held, _payload)) => listing.held.push(held),
                Err(QuarantineError::Unknown(_)) => {} // decided about meanwhile
                Err(QuarantineError::Damaged { reason, .. }) => {
                    listing.broken.push(Broken { id, reason })
                }
                Err(error) => {
                    let reason = error.to_string();
                    listing.broken.push(Broken { id, reason });
                }
            }
        }
        listing
            .held
            .sort_by(|a, b| (a.evidence.acquired_at, &a.id).cmp(&(b.evidence.acquired_at, &b.id)));
        listing.broken.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(listing)
    }

    /// One entry with its payload, checked against its evidence.
    pub fn show(&self, id: &HoldId) -> Result<(Held, Vec<u8>), QuarantineError> {
        let folder = self.root.join(id.as_str());
        match fs::symlink_metadata(&folder) {
            Ok(found) if found.is_dir() => {}
            Ok(_) => return Err(damaged(id, "it is not a directory")),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(QuarantineError::Unknown(id.clone()));
            }
            Err(error) => return Err(error.into()),
        }
        let text = read(id, &folder.join(EVIDENCE), EVIDENCE_MAX)?;
        let payload = read(id, &folder.join(PAYLOAD), self.policy.payload_bytes as u64)?;
        let stored: Stored = serde_json::from_slice(&text)
            .map_err(|e| damaged(id, format!("the evidence cannot be read: {e}")))?;
        if stored.quarantine_version != VERSION {
            return Err(damaged(id, "the evidence is of another version"));
        }
        if HoldId::of(&stored.evidence) != *id {
            return Err(damaged(id, "the evidence is about something else"));
        }
        let is_skill = stored.evidence.kind == HeldKind::Skill;
        let hash = ContentHash::of(&payload);
        if hash != stored.payload_hash || (is_skill && hash != stored.evidence.content_hash) {
            return Err(damaged(id, "the payload is not what the evidence is about"));
        }
        let (size, seal) = (payload.len() as u64, seal(&text, &payload));
        let held = Held {
            id: id.clone(),
            evidence: stored.evidence,
            size,
            seal,
        };
        Ok((held, payload))
    }

    /// One entry with its payload, if it still is what bears `seal`: the approval of what was shown.
    ///
    /// The entry stays until it is discarded, so that nothing is lost if what follows fails.
    pub fn take(
        &self,
        id: &HoldId,
        seal: &ContentHash,
    ) -> Result<(Held, Vec<u8>), QuarantineError> {
        let (held, payload) = self.show(id)?;
        match held.seal == *seal {
            true => Ok((held, payload)),
            false => Err(QuarantineError::Changed(id.clone())),
        }
    }

    /// Deletes one entry, whatever its state.
    pub fn discard(&self, id: &HoldId) -> Result<(), QuarantineError> {
        let unknown = || QuarantineError::Unknown(id.clone());
        if !self.root.is_dir() {
            return Err(unknown());
        }
        let lock = Locked::lock(&self.root, MODE)?;
        lock.remove(id.as_str())?.then_some(()).ok_or_else(unknown)
    }

    fn ids(&self) -> Result<Vec<HoldId>, QuarantineError> {
        let entries = match fs::read_dir(&self.root) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        };
        let mut ids = Vec::new();
        for entry in entries {
            let name = entry?.file_name().into_string();
            ids.extend(name.ok().and_then(|name| name.parse().ok()));
        }
        Ok(ids)
    }
}

fn damaged(id: &HoldId, reason: impl Into<String>) -> QuarantineError {
    let (id, reason) = (id.clone(), reason.into());
    QuarantineError::Damaged { id, reason }
}

/// Reads a regular file of at most `max` bytes.
fn read(id: &HoldId, path: &Path, max: u64) -> Result<Vec<u8>, QuarantineError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(damaged(id, format!("`{name}` is missing")));
        }
        Err(error) => return Err(error.into()),
    };
    if !found.is_file() {
        return Err(damaged(id, format!("`{name}` is not a file")));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(max + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > max {
        true => Err(damaged(id, format!("`{name}` is larger than {max} bytes"))),
        false => Ok(bytes),
    }
}

fn seal(evidence: &[u8], payload: &[u8]) -> ContentHash {
    let mut hasher = Hasher::default();
    hasher.update(&(evidence.len() as u64).to_be_bytes());
    hasher.update(evidence);
    hasher.update(payload);
    hasher.finish()
}

#[cfg(test)]
pub(super) mod tests;
