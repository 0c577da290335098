//! What can go wrong with knowledge.

use std::io;

use kairos_protocol::hash::ContentHash;
use kairos_protocol::id::IdError;
use kairos_protocol::skill::SkillFault;
use kairos_protocol::skill::agent_skill::AgentSkillError;
use thiserror::Error;

use crate::chain::ChainError;

/// What went wrong with knowledge. [`KnowledgeError::Io`] may name local paths: its text is for the owner only.
#[derive(Debug, Error)]
pub enum KnowledgeError {
    /// Something of that name is there.
    #[error("Knowledge '{name}' already exists")]
    Exists {
        /// Which.
        name: String,
    },
    /// Nothing of that name is there.
    #[error("Knowledge '{name}' not found")]
    NotFound {
        /// Which.
        name: String,
    },
    /// It was listed, and is no longer there or no longer public.
    #[error("Skill content unavailable")]
    Unavailable,
    /// The file is not a skill that can be offered.
    #[error(transparent)]
    Unfit(#[from] SkillFault),
    /// It carries scripts, so it stays here.
    #[error("'{name}' carries scripts and is never offered to peers: {}", .files.join(", "))]
    CarriesScripts {
        /// Which.
        name: String,
        /// What can run.
        files: Vec<String>,
    },
    /// It has no directory of its own to keep the decision in.
    #[error(
        "'{name}' is not the main text of a knowledge directory; set `public` in its frontmatter"
    )]
    NotAnEntry {
        /// Which.
        name: String,
    },
    /// The sidecar cannot be read.
    #[error("the provenance of '{name}' cannot be read: {reason}")]
    Sidecar {
        /// Whose.
        name: String,
        /// Why.
        reason: String,
    },
    /// Not an Agent Skill that can be taken over.
    #[error(transparent)]
    AgentSkill(#[from] AgentSkillError),
    /// A directory holds something that is not a file, or a name that is not UTF-8.
    #[error("`{path}` is not a plain file with a UTF-8 name")]
    NotAFile {
        /// Path below the directory.
        path: String,
    },
    /// A directory is larger than the policy allows.
    #[error("the directory has more than {max} {what}")]
    TooMuch {
        /// `files`, `bytes` or `levels`.
        what: &'static str,
        /// The bound.
        max: u64,
    },
    /// Something lies where the export would go.
    #[error("`{name}` already exists there")]
    TargetExists {
        /// The name of the directory.
        name: String,
    },
    /// The disk failed.
    #[error("the knowledge could not be used: {0}")]
    Io(#[from] io::Error),
    /// The actor did not answer.
    #[error("the knowledge: {0}")]
    Ask(#[from] crate::bounded_addr::AskError),
    /// Not a name that knowledge can have.
    #[error("Invalid knowledge name '{name}': {reason}")]
    Name {
        /// What was given.
        name: String,
        /// What is wrong with it.
        reason: IdError,
    },
    /// The text is the one that is there.
    #[error("No changes detected")]
    NoChanges,
    /// Something of that name is in the archive.
    #[error("Knowledge '{name}' is already archived")]
    AlreadyArchived {
        /// Which.
        name: String,
    },
    /// Nothing of that name is in the archive.
    #[error("Archived knowledge '{name}' not found")]
    NotArchived {
        /// Which.
        name: String,
    },
    /// It cannot come back from the archive, since something took its place.
    #[error("Active knowledge '{name}' already exists. Rename or delete it first.")]
    Active {
        /// Which.
        name: String,
    },
    /// There is no such session.
    #[error("Session '{session}' not found")]
    NoSession {
        /// Which.
        session: String,
    },
    /// The session has no such text.
    #[error("Context '{name}' not found in session '{session}'")]
    NoContext {
        /// Where it was looked for.
        session: String,
        /// Which.
        name: String,
    },
    /// Nothing is there under this name.
    #[error("Resource '{uri}' not found")]
    NoResource {
        /// Which.
        uri: String,
    },
    /// Somebody changed it meanwhile; nothing was done.
    #[error("'{name}' was changed by somebody else: it is {}, not what was expected", found.map_or("gone".to_owned(), |hash| hash.to_hex()))]
    Moved {
        /// Which.
        name: String,
        /// The hash of what is there now.
        found: Option<ContentHash>,
    },
    /// The frontmatter of a text that is to be stored cannot be read.
    #[error("the frontmatter is not YAML that can be read")]
    Frontmatter,
    /// Something in the way is a link or a device.
    #[error("`{path}` is not a plain file or directory; links are not followed")]
    NotPlain {
        /// Path below the data directory.
        path: String,
    },
    /// The ledger did not take the record, and nothing was changed.
    #[error("nothing was changed, since it could not be recorded: {0}")]
    Ledger(#[source] ChainError),
    /// The ledger cannot be read.
    #[error("what is recorded cannot be told: {0}")]
    Unreadable(#[source] ChainError),
    /// The change is half done. What is missing is done, or what is there undone, when the knowledge is next changed.
    #[error(
        "the change was interrupted, and is completed or undone when the knowledge is next used: {reason}"
    )]
    Unsettled {
        /// What interrupted it.
        reason: String,
    },
    /// It is recorded, but somebody changed the files at the same moment, so those were left alone.
    #[error(
        "the change of '{name}' is recorded, but somebody changed its files at the same moment; see kairos-chain knowledge status"
    )]
    Overtaken {
        /// Which.
        name: String,
    },
    /// What an interrupted change left cannot be read, and blocks further changes.
    #[error("{path} of an interrupted change cannot be used: {reason}")]
    Intent {
        /// Path below the data directory.
        path: String,
        /// Why.
        reason: String,
    },
}
