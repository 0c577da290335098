//! Why something about approvals failed.

use std::io;

use kairos_place::proposal::{ProposalError, ProposalId};
use kairos_protocol::instructions::ModeError;
use kairos_protocol::skill::SkillFault;
use thiserror::Error;

use crate::bounded_addr::AskError;
use crate::chain::ChainError;
use crate::extensions::ExtensionFault;
use crate::knowledge::KnowledgeError;
use crate::skill_set::SkillSetError;
use crate::skills::SkillsError;

/// Why something about approvals failed. [`ApprovalError::Io`], [`ApprovalError::SkillSet`] and
/// [`ApprovalError::Knowledge`] may name local paths:
/// their texts are for the owner only.
#[derive(Debug, Error)]
pub enum ApprovalError {
    /// No such proposal.
    #[error("no proposal waits under {0}; see: kairos-chain approvals")]
    Unknown(ProposalId),
    /// It was decided already; an approval is good once.
    #[error("proposal {id} was {how} already; an approval is good once")]
    Decided {
        /// Which.
        id: ProposalId,
        /// `approved`, `rejected` or `void`.
        how: &'static str,
    },
    /// It was decided, and whether that is recorded and made is not settled yet.
    #[error(
        "proposal {id} was decided, and that is not settled yet: {reason}; the next decision or start tries again"
    )]
    Unfinished {
        /// Which.
        id: ProposalId,
        /// Why, without local paths.
        reason: String,
    },
    /// The role is not enough.
    #[error(transparent)]
    Forbidden(#[from] kairos_place::role::Forbidden),
    /// Its time is over.
    #[error("proposal {0} has expired; propose it again")]
    Expired(ProposalId),
    /// It is not what was shown.
    #[error("proposal {0} is not what was shown any more; look at it again")]
    NotAsShown(ProposalId),
    /// What it was based on has changed. It is void from then on.
    #[error("proposal {id} is void: `{what}` has changed since it was made; propose it again")]
    BasisChanged {
        /// Which.
        id: ProposalId,
        /// The file or SkillSet.
        what: String,
    },
    /// Its files cannot be trusted.
    #[error("proposal {id} is damaged: {reason}; reject it and propose it again")]
    Damaged {
        /// Which.
        id: ProposalId,
        /// What is wrong.
        reason: String,
    },
    /// As many as can wait.
    #[error("{max} proposals {whose} already; some have to be decided first")]
    Full {
        /// The bound.
        max: usize,
        /// `wait` or `of yours wait`.
        whose: &'static str,
    },
    /// There is nothing there to change.
    #[error("there is no `{0}` to change")]
    NothingThere(String),
    /// Something is there already.
    #[error("there is a `{0}` already")]
    Exists(String),
    /// It would change nothing.
    #[error("this would change nothing about `{0}`")]
    Unchanged(String),
    /// What lies there is no plain file or directory.
    #[error("`{0}` is no plain file or directory with a UTF-8 name")]
    NotAFile(String),
    /// A text or directory is larger than can be proposed.
    #[error("{what} is larger than {max}")]
    TooLarge {
        /// What.
        what: String,
        /// The bound, with its unit.
        max: String,
    },
    /// The text is needed and is not there, or the other way round.
    #[error("this change {0} a text")]
    Content(&'static str),
    /// The text is not UTF-8.
    #[error("the text is not UTF-8 at byte {0}")]
    NotUtf8(usize),
    /// The name of the mode is not one that has a file.
    #[error("the mode `{0}` has no file of its own")]
    Mode(String),
    /// The text is no knowledge that could be listed.
    #[error(transparent)]
    Unfit(#[from] SkillFault),
    /// It cannot be written down.
    #[error(transparent)]
    Proposal(#[from] ProposalError),
    /// The law may not change so.
    #[error(transparent)]
    Law(SkillsError),
    /// The extension of the meeting protocol may not change so.
    #[error(transparent)]
    Extension(#[from] ExtensionFault),
    /// The settings cannot be changed so.
    #[error(transparent)]
    Settings(#[from] ModeError),
    /// The mode is in force.
    #[error("the mode `{0}` is in force; set another one first")]
    InForce(String),
    /// The SkillSet cannot change so.
    #[error(transparent)]
    SkillSet(SkillSetError),
    /// The knowledge cannot change so.
    #[error(transparent)]
    Knowledge(KnowledgeError),
    /// The ledger did not take the decision, so nothing was changed, for certain.
    #[error("cannot record the decision, so nothing was changed: {0}")]
    Unrecorded(#[source] ChainError),
    /// There was no randomness.
    #[error("no id could be made: {0}")]
    Random(#[from] kairos_protocol::crypto::KeyError),
    /// The disk failed.
    #[error("the approvals could not be used: {0}")]
    Io(#[from] io::Error),
    /// The actor did not answer.
    #[error("the approvals: {0}")]
    Ask(#[from] AskError),
}

impl ApprovalError {
    /// Why, for everyone: without what may name local paths.
    pub(super) fn reason(&self) -> String {
        match self {
            Self::Unfinished { reason, .. } => reason.clone(),
            Self::Io(error) => error.kind().to_string(),
            Self::Law(SkillsError::Io(error)) | Self::Extension(ExtensionFault::Io(error)) => {
                error.kind().to_string()
            }
            Self::SkillSet(_) => "the SkillSet cannot be changed; see the node's log".to_owned(),
            Self::Knowledge(_) => "the knowledge cannot be changed; see the node's log".to_owned(),
            other => other.to_string(),
        }
    }
}

impl From<KnowledgeError> for ApprovalError {
    fn from(error: KnowledgeError) -> Self {
        match error {
            KnowledgeError::NotFound { name } => Self::NothingThere(format!("knowledge/{name}")),
            KnowledgeError::Exists { name } => Self::Exists(format!("knowledge/{name}")),
            KnowledgeError::Unfit(fault) => Self::Unfit(fault),
            KnowledgeError::NotAFile { path } | KnowledgeError::NotPlain { path } => {
                Self::NotAFile(path)
            }
            KnowledgeError::TooMuch { what, max } => Self::TooLarge {
                what: "the entry".to_owned(),
                max: format!("{max} {what}"),
            },
            KnowledgeError::Io(error) => Self::Io(error),
            KnowledgeError::Ask(error) => Self::Ask(error),
            other => Self::Knowledge(other),
        }
    }
}
