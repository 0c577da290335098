//! SkillSets that agents leave at a Place: each an archive of knowledge, kept as it came.

mod shelf;

use std::io;
use std::sync::Arc;

use kairos_protocol::crypto::{PublicKey, SignatureError};
use kairos_protocol::gate::Reason;
use kairos_protocol::hash::ContentHash;
use kairos_protocol::id::{AgentId, SkillSetName};
use kairos_protocol::package::{self, Contents, Limit, PackageError};
use kairos_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::deposit::TAGS_MAX;
use super::policy::SkillSetLimits;

pub(super) use shelf::Shelf;
pub use shelf::{SkillSetSearch, SkillSetsShown};

/// Most entries of one look at the SkillSets.
pub const SKILL_SETS_SHOWN_MAX: usize = 50;
/// Longest description kept, in characters; a longer one is cut.
pub const DESCRIPTION_MAX: usize = 500;
/// Most labels for what a SkillSet provides, and the longest in bytes; what is beyond is left out.
pub const PROVIDES_MAX: (usize, usize) = (64, 128);
/// Longest text of a refusal in bytes: a refusal of an archive lists every entry at fault.
const FAULT_MAX: usize = 4 * 1024;

/// By what a SkillSet at a Place is known.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SkillSetKey {
    /// Who left it.
    pub owner: AgentId,
    /// Its name.
    pub name: SkillSetName,
}

/// A SkillSet at a Place, without its archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SkillSetDeposit {
    /// What it is known by.
    pub key: SkillSetKey,
    /// As its `skillset.json` says.
    pub version: String,
    /// For people.
    pub description: String,
    /// For searches.
    pub tags: Vec<String>,
    /// Labels for what it offers.
    pub provides: Vec<String>,
    /// Of all its files, as found in the archive.
    pub content_hash: ContentHash,
    /// The depositor's, over the text of the content hash.
    pub signature: String,
    /// Its files, sorted.
    pub file_list: Vec<String>,
    /// Length of the archive.
    pub archive_bytes: u64,
    /// When it came.
    pub deposited_at: Timestamp,
}

impl SkillSetDeposit {
    /// The entry that browsing shows.
    pub fn card(&self) -> Value {
        json!({
            "name": self.key.name, "version": self.version, "description": self.description,
            "tags": self.tags, "provides": self.provides, "file_count": self.file_list.len(),
            "depositor_id": self.key.owner, "content_hash": self.content_hash,
            "archive_size_bytes": self.archive_bytes, "deposited_at": self.deposited_at.wire(),
        })
    }

    /// What is said wherever it is taken or handed out.
    pub fn trust_notice(&self) -> Value {
        json!({
            "verified_by_place": false, "depositor_signed": true, "tar_header_scanned": true,
            "content_hash_verified": true, "depositor_id": self.key.owner,
            "disclaimer":
                "The Place verified that the archive holds knowledge only, its content hash and who signed it. It does \
                 not vouch for the content: read it before you use it.",
        })
    }

    /// What a search looks in.
    fn searched(&self) -> String {
        let labels = self.tags.iter().chain(&self.provides);
        let texts = [self.key.name.as_str(), &self.description].into_iter();
        let all: Vec<&str> = texts.chain(labels.map(String::as_str)).collect();
        all.join("\n").to_lowercase()
    }
}

/// Why something about a SkillSet is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SkillSetFault {
    /// The archive is larger than allowed, as it is or once expanded.
    #[error("The archive has {0}")]
    TooLarge(String),
    /// No gzip.
    #[error("Invalid gzip: {0}")]
    NotGzip(String),
    /// It holds something that can run.
    #[error("Archive contains executable content: {0}")]
    Executable(String),
    /// The archive is damaged.
    #[error("Tar header scan failed (archive rejected): {0}")]
    Scan(String),
    /// The declared hash is not that of the files.
    #[error(
        "Declared content_hash does not match file-tree hash (expected: {declared}, actual: {found})"
    )]
    HashMismatch {
        /// As declared, cut.
        declared: String,
        /// As computed.
        found: ContentHash,
    },
    /// It is not the archive of this SkillSet.
    #[error("{0}")]
    Structure(String),
    /// A path leads out of it.
    #[error("{0}")]
    Traversal(String),
    /// It cannot be read.
    #[error("Failed to verify archive: {0}")]
    Unreadable(String),
    /// There is no signature.
    #[error("Deposit requires a signature over the content_hash")]
    Unsigned,
    /// There is no key to verify it with.
    #[error(
        "Signature cannot be verified: the depositor has no key here; register with a signed identity"
    )]
    NoKey,
    /// It is not the depositor's.
    #[error("Signature verification failed")]
    SignatureInvalid,
    /// A tag or their number is beyond the bound.
    #[error("At most {} tags of {} bytes are accepted", TAGS_MAX.0, TAGS_MAX.1)]
    Tags,
    /// The agent has as many as it may.
    #[error("Per-agent deposit quota exceeded (max {max})")]
    AgentFull {
        /// The bound.
        max: usize,
    },
    /// The Place has as many as it takes.
    #[error("Total archive storage quota exceeded (max {bytes} bytes, {sets} SkillSets)")]
    Full {
        /// Bytes of all archives.
        bytes: u64,
        /// SkillSets.
        sets: usize,
    },
    /// There is no such SkillSet.
    #[error("No SkillSet deposited with name '{0}'")]
    NotFound(String),
    /// Several agents left one of this name.
    #[error("Multiple depositors for '{name}'. Specify depositor parameter.")]
    Ambiguous {
        /// The name.
        name: SkillSetName,
        /// Those agents.
        depositors: Vec<AgentId>,
    },
    /// Only agents that are present may deposit.
    #[error("agent {0} is not registered here; register first")]
    NotPresent(AgentId),
    /// Something else is there than the request says.
    #[error("{}", match there {
        Some(there) => format!("the SkillSet is {there} now, which is not what the request says"),
        None => "there is no such SkillSet any more, which is not what the request says".to_owned(),
    })]
    Changed {
        /// The content that is there.
        there: Option<ContentHash>,
    },
    /// It was here and was replaced of late, so it may be a late copy of an older request.
    #[error("Stale deposit: this archive was replaced at {}; to bring it back, say what is to be replaced (If-Match)", at.wire())]
    Stale {
        /// When it was replaced.
        at: Timestamp,
    },
    /// The agent tried too often.
    #[error("Deposit rate limit exceeded (max {max}/hour)")]
    TooOften {
        /// Attempts within an hour.
        max: usize,
    },
}

impl SkillSetFault {
    /// The word for programs; the reference's, where it has one.
    pub fn word(&self) -> &'static str {
        match self {
            Self::TooLarge(_) => "archive_too_large",
            Self::NotGzip(_) => "invalid_gzip",
            Self::Executable(_) => "executable_content",
            Self::Scan(_) => "tar_scan_failed",
            Self::HashMismatch { .. } => "content_hash_mismatch",
            Self::Structure(_) => "invalid_archive_structure",
            Self::Traversal(_) => "path_traversal_detected",
            Self::Unreadable(_) => "archive_extraction_failed",
            Self::Unsigned => "signature_required",
            Self::NoKey => "public_key_unavailable",
            Self::SignatureInvalid => "signature_invalid",
            Self::Tags => "invalid_param",
            Self::AgentFull { .. } => "quota_exceeded",
            Self::Full { .. } => "total_quota_exceeded",
            Self::NotFound(_) => "not_found",
            Self::Ambiguous { .. } => "ambiguous",
            Self::NotPresent(_) => "not_registered",
            Self::Changed { .. } => "precondition_failed",
            Self::Stale { .. } => "stale_deposit",
            Self::TooOften { .. } => "rate_limited",
        }
    }
}

/// A SkillSet as offered: nothing but its name is checked.
#[derive(Debug, Clone)]
pub struct SkillSetOffer {
    /// The name.
    pub name: SkillSetName,
    /// That of the archive, if it is said.
    pub version: String,
    /// For people; that of the archive, if it is not said.
    pub description: String,
    /// As declared.
    pub content_hash: String,
    /// RSA over the text of the content hash, base64.
    pub signature: Option<String>,
    /// As declared; none if it is not said.
    pub file_list: Vec<String>,
    /// For searches.
    pub tags: Vec<String>,
    /// Those of the archive, if it is not said.
    pub provides: Vec<String>,
    /// The archive.
    pub archive: Vec<u8>,
}

impl SkillSetOffer {
    /// Reads all of the archive and checks everything that needs no look at the board. `key` is the owner's pinned key.
    /// Takes as long as the archive is large.
    pub fn check(
        self,
        owner: &AgentId,
        key: Option<&PublicKey>,
        limits: &SkillSetLimits,
        now: Timestamp,
    ) -> Result<(SkillSetDeposit, Arc<[u8]>), SkillSetFault> {
        let (tags, bytes) = TAGS_MAX;
        if self.tags.len() > tags || self.tags.iter().any(|tag| tag.len() > bytes) {
            return Err(SkillSetFault::Tags);
        }
        let contents = self.contents(limits)?;
        let found = contents.content_hash();
        if self.content_hash != found.to_hex() {
            return Err(SkillSetFault::HashMismatch {
                declared: cut(&self.content_hash, 80),
                found,
            });
        }
        self.compare(&contents)?;
        let signature = self.signature.as_deref().filter(|text| !text.is_empty());
        let signature = signature.ok_or(SkillSetFault::Unsigned)?;
        let key = key.ok_or(SkillSetFault::NoKey)?;
        key.verify(found.to_hex().as_bytes(), signature)
            .map_err(|error| match error {
                SignatureError::Mismatch | SignatureError::NotBase64 => {
                    SkillSetFault::SignatureInvalid
                }
            })?;
        let metadata = &contents.metadata;
        let (labels, longest) = PROVIDES_MAX;
        let provides = match self.provides.is_empty() {
            true => &metadata.provides,
            false => &self.provides,
        };
        let description = match self.description.trim().is_empty() {
            true => &metadata.description,
            false => &self.description,
        };
        let deposit = SkillSetDeposit {
            version: metadata.version.clone(),
            description: description.chars().take(DESCRIPTION_MAX).collect(),
            provides: provides
                .iter()
                .filter(|label| label.len() <= longest)
                .take(labels)
                .cloned()
                .collect(),
            file_list: contents.file_list(),
            content_hash: found,
            signature: signature.to_owned(),
            archive_bytes: self.archive.len() as u64,
            deposited_at: now,
            tags: self.tags,
            key: SkillSetKey {
                owner: owner.clone(),
                name: self.name,
            },
        };
        Ok((deposit, self.archive.into()))
    }

    fn contents(&self, limits: &SkillSetLimits) -> Result<Contents, SkillSetFault> {
        let most = limits.package.compressed;
        if self.archive.len() as u64 > most {
            let limit = Limit::Compressed(most);
            return Err(SkillSetFault::TooLarge(limit.to_string()));
        }
        let discard = |_: &str, _: u32, _: &mut dyn io::Read| Ok(());
        let read = package::unpack(&self.archive[..], &self.name, &limits.package, discard);
        read.map_err(fault)
    }

    /// What is declared must be what is there.
    fn compare(&self, contents: &Contents) -> Result<(), SkillSetFault> {
        let version = &contents.metadata.version;
        if !self.version.is_empty() && self.version != *version {
            return Err(SkillSetFault::Structure(format!(
                "version is {}, but skillset.json says {}",
                cut(&self.version, 80),
                cut(version, 80)
            )));
        }
        let mut declared: Vec<&String> = self.file_list.iter().collect();
        declared.sort_unstable();
        let found = contents.files.iter().map(|file| &file.path);
        if !declared.is_empty() && !declared.into_iter().eq(found) {
            let told = "file_list names other files than the archive holds";
            return Err(SkillSetFault::Structure(told.to_owned()));
        }
        Ok(())
    }
}

fn fault(error: PackageError) -> SkillSetFault {
    let text = cut(&error.to_string(), FAULT_MAX);
    match error {
        PackageError::NotGzip => SkillSetFault::NotGzip(text),
        PackageError::Limit(Limit::Depth(_) | Limit::Path(_)) => SkillSetFault::Structure(text),
        PackageError::Limit(limit) => SkillSetFault::TooLarge(limit.to_string()),
        PackageError::Truncated
        | PackageError::Damaged(_)
        | PackageError::Header { .. }
        | PackageError::Trailing => SkillSetFault::Scan(text),
        PackageError::Refused(refusal) => {
            let reasons = || refusal.offences().iter().map(|offence| &offence.reason);
            let runs = |reason: &Reason| {
                reason.is_executable() || matches!(reason, Reason::ExecutingKey(_))
            };
            let leaves = |reason: &Reason| matches!(reason, Reason::Traversal | Reason::Absolute);
            if reasons().any(runs) {
                SkillSetFault::Executable(text)
            } else if reasons().any(leaves) {
                SkillSetFault::Traversal(text)
            } else {
                SkillSetFault::Structure(text)
            }
        }
        PackageError::MissingDirectory(_)
        | PackageError::MissingMetadata(_)
        | PackageError::Metadata(_)
        | PackageError::NameMismatch { .. }
        | PackageError::NameTooLong(_) => SkillSetFault::Structure(text),
        PackageError::Changed(_) | PackageError::Io(_) | PackageError::Sink(_) => {
            SkillSetFault::Unreadable(text)
        }
    }
}

/// The first `bytes` of a text, at most.
fn cut(text: &str, bytes: usize) -> String {
    let ends = text.char_indices().map(|(at, c)| at + c.len_utf8());
    let end = ends.take_while(|end| *end <= bytes).last().unwrap_or(0);
    text.get(..end).unwrap_or_default().to_owned()
}
