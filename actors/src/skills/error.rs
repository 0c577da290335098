//! Why something about the law failed.

use std::io;

use kairos_place::proposal::VersionName;
use kairos_protocol::dsl::edit::EditError;
use kairos_protocol::dsl::gate::Check;
use thiserror::Error;

use crate::bounded_addr::AskError;
use crate::chain::ChainError;

/// Why something about the law failed. [`SkillsError::Io`] may name local paths: its text is for the owner only.
#[derive(Debug, Error)]
pub enum SkillsError {
    /// Gates do not let it pass.
    #[error("the law may not change so: {}", told(.0))]
    Refused(Vec<Check>),
    /// The text cannot be changed so.
    #[error(transparent)]
    Edit(#[from] EditError),
    /// It is no change of the law.
    #[error("`{0}` is no part of the law")]
    NoLaw(String),
    /// There is no law.
    #[error(
        "there is no `{0}`; bring the former law back with `kairos-chain state restore last`, or that of this version with \
         `kairos-chain upgrade --apply`"
    )]
    NothingThere(&'static str),
    /// There is no such version.
    #[error("Version not found: {0}; see: kairos-chain skills versions")]
    NoVersion(VersionName),
    /// What is to be the law again is another text than the version.
    #[error("this is not the text of {0}; propose it again")]
    NotThatVersion(VersionName),
    /// It is no plain file, or a link is in the way.
    #[error("`{0}` is no plain file")]
    NotAFile(String),
    /// It is larger than any law.
    #[error("`{0}` is larger than a law can be")]
    TooLarge(String),
    /// As many as are kept.
    #[error("{max} versions are kept already; put some of skills/versions elsewhere first")]
    Full {
        /// The bound.
        max: usize,
    },
    /// The role is not enough.
    #[error(transparent)]
    Forbidden(#[from] kairos_place::role::Forbidden),
    /// The ledger does not tell how many changes there were.
    #[error("the ledger: {0}")]
    Ledger(#[from] ChainError),
    /// The disk failed.
    #[error("the law could not be used: {0}")]
    Io(#[from] io::Error),
    /// The actor did not answer.
    #[error("the skills: {0}")]
    Ask(#[from] AskError),
}

/// The gates that refuse, in words.
fn told(checks: &[Check]) -> String {
    let refused = checks.iter().filter(|check| !check.passed);
    let told = refused.map(|check| check.detail.trim_end_matches('.'));
    told.collect::<Vec<_>>().join("; ")
}
