//! Changes that only a person may make, waiting for one: what would change, who asks, and for how long.
//!
//! A proposal is bound to hashes. It names what is there now and what would be there; when either is not so any more
//! it is void. Where its files lie follows from what it changes and never from what its text says.

use std::fmt;
use std::str::FromStr;

use kairos_protocol::block::entry::FileChange;
use kairos_protocol::hash::ContentHash;
use kairos_protocol::id::{SkillName, SkillSetName};
use kairos_protocol::json;
use kairos_protocol::skill_set::Layer;
use kairos_protocol::time::Timestamp;
use kairos_protocol::wire::extension::Word;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::role::Role;
use crate::token::UserName;

/// Longest reason in characters.
pub const REASON_MAX: usize = 1_000;
/// Largest text that can be proposed, in bytes.
pub const CONTENT_MAX: usize = 1024 * 1024;
/// Longest written proposal in bytes.
pub const PROPOSAL_MAX: usize = 1024 * 1024;
/// Most files that one proposal changes.
pub const FILES_MAX: usize = 2_000;
/// Where the texts of extensions that are in effect lie, below the data directory.
pub const EXTENSIONS: &str = "skills/extensions";
/// Digits of a [`ProposalId`] behind its letter.
const ID_DIGITS: usize = 12;
/// Longest middle of a [`VersionName`], in bytes.
const VERSION_NAME_MAX: usize = 100;
/// Version of the written form.
const VERSION: u32 = 1;

/// Names a proposal: `p` and 12 hex digits. What waits in the quarantine has 12 hex digits alone, so no name of the
/// one is a name of the other.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ProposalId(String);

/// The text is not a [`ProposalId`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the id of a proposal is `p` and {ID_DIGITS} hex digits")]
pub struct ProposalIdError;

impl ProposalId {
    /// A name made of `random`, so that it is never used twice.
    pub fn from_random(random: [u8; 32]) -> Self {
        let mut digits = hex::encode(random);
        digits.truncate(ID_DIGITS);
        Self(format!("p{digits}"))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ProposalId {
    type Err = ProposalIdError;

    fn from_str(text: &str) -> Result<Self, ProposalIdError> {
        let digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        let digits = text.strip_prefix('p').unwrap_or_default();
        match digits.len() == ID_DIGITS && digits.bytes().all(digit) {
            true => Ok(Self(text.to_owned())),
            false => Err(ProposalIdError),
        }
    }
}

impl TryFrom<String> for ProposalId {
    type Error = ProposalIdError;
    fn try_from(text: String) -> Result<Self, ProposalIdError> {
        text.parse()
    }
}

impl From<ProposalId> for String {
    fn from(id: ProposalId) -> String {
        id.0
    }
}

impl fmt::Display for ProposalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Names a law that was kept when another took its place: `kairos_` and letters, digits or `_`, then `.rb`. So it
/// is one file of one directory.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VersionName(String);

/// The text is not a [`VersionName`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error(
    "a version is named `kairos_….rb`, with letters, digits and `_`; see: kairos-chain skills versions"
)]
pub struct VersionNameError;

impl VersionName {
    /// The text, which is the name of its file.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for VersionName {
    type Err = VersionNameError;

    fn from_str(text: &str) -> Result<Self, VersionNameError> {
        let middle = text
            .strip_prefix("kairos_")
            .and_then(|rest| rest.strip_suffix(".rb"))
            .unwrap_or_default();
        let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        match (1..=VERSION_NAME_MAX).contains(&middle.len()) && middle.bytes().all(fits) {
            true => Ok(Self(text.to_owned())),
            false => Err(VersionNameError),
        }
    }
}

impl TryFrom<String> for VersionName {
    type Error = VersionNameError;
    fn try_from(text: String) -> Result<Self, VersionNameError> {
        text.parse()
    }
}

impl From<VersionName> for String {
    fn from(name: VersionName) -> String {
        name.0
    }
}

impl fmt::Display for VersionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What would change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Change {
    /// A new entry of knowledge (L1).
    KnowledgeCreate {
        /// Its name.
        name: SkillName,
    },
    /// Another main text of an entry of knowledge.
    KnowledgeUpdate {
        /// Its name.
        name: SkillName,
    },
    /// An entry of knowledge goes, with everything in it.
    KnowledgeDelete {
        /// Its name.
        name: SkillName,
    },
    /// Another law of the agent (L0), the whole file.
    Law,
    /// Another text of one skill of the law; the whole file comes with it.
    SkillEvolve {
        /// The id of the skill.
        id: SkillName,
    },
    /// A new skill of the law; the whole file comes with it.
    SkillAdd {
        /// The id of the skill.
        id: SkillName,
    },
    /// A skill of the law goes; the whole file comes with it.
    SkillRemove {
        /// The id of the skill.
        id: SkillName,
    },
    /// A former law again.
    LawRollback {
        /// The version that was kept.
        version: VersionName,
    },
    /// Another text of an instructions mode, the whole file; `developer` is the agent's constitution.
    Instructions {
        /// Which mode.
        mode: SkillName,
    },
    /// The text of an instructions mode goes.
    InstructionsDelete {
        /// Which mode.
        mode: SkillName,
    },
    /// Another instructions mode is in force; the settings come with it, whole.
    InstructionsMode {
        /// Which mode.
        mode: SkillName,
    },
    /// An extension of the meeting protocol is in effect; its text comes with it.
    ExtensionAdopt {
        /// What it is called.
        name: Word,
    },
    /// An extension of the meeting protocol goes out of effect; its text is kept aside.
    ExtensionDisable {
        /// What it is called.
        name: Word,
    },
    /// A SkillSet is installed from a directory.
    SkillsetInstall {
        /// Its name.
        name: SkillSetName,
        /// The directory.
        source: String,
        /// Whether it replaces the one that is there.
        force: bool,
        /// The layer to install on, instead of its own.
        layer: Option<Layer>,
    },
    /// A SkillSet is switched on.
    SkillsetEnable {
        /// Its name.
        name: SkillSetName,
    },
    /// A SkillSet is switched off.
    SkillsetDisable {
        /// Its name.
        name: SkillSetName,
    },
    /// A SkillSet goes.
    SkillsetRemove {
        /// Its name.
        name: SkillSetName,
    },
}

/// The modes that have a file of another name.
const NAMED_MODES: [(&str, &str); 2] = [("developer", "kairos"), ("user", "kairos_quickguide")];

impl Change {
    /// The kind of change: `knowledge_update` and the like.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::KnowledgeCreate { .. } => "knowledge_create",
            Self::KnowledgeUpdate { .. } => "knowledge_update",
            Self::KnowledgeDelete { .. } => "knowledge_delete",
            Self::Law => "law",
            Self::SkillEvolve { .. } => "skill_evolve",
            Self::SkillAdd { .. } => "skill_add",
            Self::SkillRemove { .. } => "skill_remove",
            Self::LawRollback { .. } => "law_rollback",
            Self::Instructions { .. } => "instructions",
            Self::InstructionsDelete { .. } => "instructions_delete",
            Self::InstructionsMode { .. } => "instructions_mode",
            Self::ExtensionAdopt { .. } => "extension_adopt",
            Self::ExtensionDisable { .. } => "extension_disable",
            Self::SkillsetInstall { .. } => "skillset_install",
            Self::SkillsetEnable { .. } => "skillset_enable",
            Self::SkillsetDisable { .. } => "skillset_disable",
            Self::SkillsetRemove { .. } => "skillset_remove",
        }
    }

    /// What is changed.
    pub fn subject(&self) -> &str {
        match self {
            Self::KnowledgeCreate { name }
            | Self::KnowledgeUpdate { name }
            | Self::KnowledgeDelete { name }
            | Self::SkillEvolve { id: name }
            | Self::SkillAdd { id: name }
            | Self::SkillRemove { id: name }
            | Self::Instructions { mode: name }
            | Self::InstructionsDelete { mode: name }
            | Self::InstructionsMode { mode: name } => name.as_str(),
            Self::Law => "kairos.rb",
            Self::ExtensionAdopt { name } | Self::ExtensionDisable { name } => name.as_str(),
            Self::LawRollback { version } => version.as_str(),
            Self::SkillsetInstall { name, .. }
            | Self::SkillsetEnable { name }
            | Self::SkillsetDisable { name }
            | Self::SkillsetRemove { name } => name.as_str(),
        }
    }

    /// The one text it writes or takes away, relative to the data directory; nothing for SkillSets. An entry of
    /// knowledge that is there may have a main text of another name: [`Proposal::main_file`].
    pub fn main_file(&self) -> Option<String> {
        match self {
            Self::KnowledgeCreate { name }
            | Self::KnowledgeUpdate { name }
            | Self::KnowledgeDelete { name } => Some(format!("knowledge/{name}/{name}.md")),
            Self::Law
            | Self::SkillEvolve { .. }
            | Self::SkillAdd { .. }
            | Self::SkillRemove { .. }
            | Self::LawRollback { .. } => Some("skills/kairos.rb".to_owned()),
            Self::InstructionsMode { .. } => Some("skills/config.yml".to_owned()),
            Self::ExtensionAdopt { name } | Self::ExtensionDisable { name } => {
                Some(format!("{EXTENSIONS}/{name}.md"))
            }
            Self::Instructions { mode } | Self::InstructionsDelete { mode } => {
                let mode = mode.as_str();
                let named = NAMED_MODES.iter().find(|(name, _)| *name == mode);
                Some(format!(
                    "skills/{}.md",
                    named.map_or(mode, |(_, file)| file)
                ))
            }
            Self::SkillsetInstall { .. }
            | Self::SkillsetEnable { .. }
            | Self::SkillsetDisable { .. }
            | Self::SkillsetRemove { .. } => None,
        }
    }

    /// Whether it comes with a text.
    pub fn has_content(&self) -> bool {
        matches!(
            self,
            Self::KnowledgeCreate { .. }
                | Self::KnowledgeUpdate { .. }
                | Self::Instructions { .. }
                | Self::InstructionsMode { .. }
                | Self::ExtensionAdopt { .. }
        ) || self.is_law()
    }

    /// Whether it is one of the law.
    pub fn is_law(&self) -> bool {
        matches!(
            self,
            Self::Law
                | Self::SkillEvolve { .. }
                | Self::SkillAdd { .. }
                | Self::SkillRemove { .. }
                | Self::LawRollback { .. }
        )
    }

    /// Whether it is one of an extension of the meeting protocol.
    pub fn is_extension(&self) -> bool {
        matches!(
            self,
            Self::ExtensionAdopt { .. } | Self::ExtensionDisable { .. }
        )
    }

    /// Whether it is one of knowledge.
    pub fn is_knowledge(&self) -> bool {
        matches!(
            self,
            Self::KnowledgeCreate { .. }
                | Self::KnowledgeUpdate { .. }
                | Self::KnowledgeDelete { .. }
        )
    }

    /// Whether `path` may be among the files it changes.
    fn covers(&self, path: &str) -> bool {
        match self {
            Self::KnowledgeDelete { name } => {
                let inside = path.strip_prefix(&format!("knowledge/{name}/"));
                inside.is_some_and(|rest| {
                    rest.split('/').all(|part| !matches!(part, "" | "." | ".."))
                })
            }
            _ => self.is_main(path),
        }
    }

    /// Whether `path` may be that of the one text. The main text of an entry is a Markdown file in its directory.
    fn is_main(&self, path: &str) -> bool {
        let main = |name: &SkillName| {
            let file = path.strip_prefix(&format!("knowledge/{name}/"));
            file.is_some_and(|file| {
                file.ends_with(".md") && !file.starts_with('.') && !file.contains('/')
            })
        };
        match self {
            Self::KnowledgeUpdate { name } | Self::KnowledgeDelete { name } => main(name),
            _ => self.main_file().as_deref() == Some(path),
        }
    }
}

/// A SkillSet as it is installed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetState {
    /// Its version.
    pub version: String,
    /// The layer it is on.
    pub layer: Layer,
    /// Whether it is switched on.
    pub enabled: bool,
    /// The hash over its files.
    pub content_hash: ContentHash,
}

/// What would become of a SkillSet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetChange {
    /// As it is; nothing if it is not installed.
    pub before: Option<SetState>,
    /// As it would be; nothing if it goes.
    pub after: Option<SetState>,
}

/// Who asks or decides, and through which door.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Person {
    /// The name on their token; `local` for whoever is at the keyboard.
    pub user: UserName,
    /// Their role.
    pub role: Role,
    /// `cli`, `http` or `mcp`.
    pub door: String,
}

/// A change that waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposal {
    /// What would change.
    pub change: Change,
    /// The files it writes or takes away, before and after, the main text first.
    pub files: Vec<FileChange>,
    /// The SkillSet, before and after.
    pub skillset: Option<SetChange>,
    /// Why.
    pub reason: Option<String>,
    /// Who asks.
    pub by: Person,
    /// Since when.
    pub proposed_at: Timestamp,
    /// Until when it can be approved.
    pub expires_at: Timestamp,
}

#[derive(Serialize, Deserialize)]
struct Written {
    proposal_version: u32,
    proposal: Proposal,
}

/// Why a text is not a proposal, or not one that can be.
#[derive(Debug, Error)]
pub enum ProposalError {
    /// Not JSON, or not the members of a proposal.
    #[error("it cannot be read: {0}")]
    Json(#[from] serde_json::Error),
    /// Nested too deep and the like.
    #[error("it cannot be read: {0}")]
    Unclean(#[from] json::JsonError),
    /// Another version.
    #[error("it has version {0}, only version 1 is known")]
    Version(u32),
    /// Its files are not those of its change.
    #[error("it names files that its change has nothing to do with")]
    Files,
    /// It does not say what becomes of the SkillSet.
    #[error("it does not say what becomes of the SkillSet")]
    SkillSet,
    /// The reason is too long.
    #[error("the reason is longer than {REASON_MAX} characters")]
    Reason,
    /// Too long as a whole.
    #[error("it is longer than {PROPOSAL_MAX} bytes")]
    TooLong,
}

impl Proposal {
    /// Reads what [`Self::to_bytes`] wrote, and believes none of it that does not follow from the change.
    pub fn parse(bytes: &[u8]) -> Result<Self, ProposalError> {
        if bytes.len() > PROPOSAL_MAX {
            return Err(ProposalError::TooLong);
        }
        let written: Written = serde_json::from_value(json::parse(bytes)?)?;
        if written.proposal_version != VERSION {
            return Err(ProposalError::Version(written.proposal_version));
        }
        written.proposal.check()?;
        Ok(written.proposal)
    }

    /// The written form.
    pub fn to_bytes(&self) -> Result<Vec<u8>, ProposalError> {
        self.check()?;
        let written = Written {
            proposal_version: VERSION,
            proposal: self.clone(),
        };
        let bytes = serde_json::to_vec_pretty(&written)?;
        match bytes.len() > PROPOSAL_MAX {
            true => Err(ProposalError::TooLong),
            false => Ok(bytes),
        }
    }

    fn check(&self) -> Result<(), ProposalError> {
        let long = |reason: &String| reason.chars().count() > REASON_MAX;
        if self.reason.as_ref().is_some_and(long) {
            return Err(ProposalError::Reason);
        }
        let main = self.change.main_file();
        if main.is_some() == self.skillset.is_some() {
            return Err(ProposalError::SkillSet);
        }
        let fits = |file: &FileChange| {
            self.change.covers(&file.path)
                && file.after.is_some() == self.change.has_content()
                && (file.before.is_some() || file.after.is_some())
        };
        let first = self.files.first();
        let names_main = first.is_some_and(|file| self.change.is_main(&file.path));
        let alone = !self.change.has_content() || self.files.len() == 1;
        let right = match main {
            None => self.files.is_empty(),
            Some(_) => names_main && alone && self.files.iter().all(fits),
        };
        match right && self.files.len() <= FILES_MAX {
            true => Ok(()),
            false => Err(ProposalError::Files),
        }
    }

    /// The one text it writes or takes away, relative to the data directory; nothing for SkillSets.
    pub fn main_file(&self) -> Option<&str> {
        self.files.first().map(|file| file.path.as_str())
    }

    /// The hash of the text it comes with.
    pub fn content_hash(&self) -> Option<ContentHash> {
        let wanted = self.change.has_content();
        let file = self.files.first().filter(|_| wanted)?;
        file.after
    }

    /// Whether its time is over at `now`.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires_at < now
    }

    /// Whether both ask the same for the same reason of being: the same change on the same basis by the same user.
    pub fn is_same_request(&self, other: &Self) -> bool {
        (&self.change, &self.files, &self.skillset, &self.by.user)
            == (&other.change, &other.files, &other.skillset, &other.by.user)
    }
}

#[cfg(test)]
mod tests;
