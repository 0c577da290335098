//! What goes wrong at the Place.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use kairos_place::meeting_place::store::StoreError;
use kairos_place::meeting_place::{
    AttestError, AttestFault, BanError, BoardError, OtherRequest, RegisterError, SkillSetFault,
    StepError,
};
use thiserror::Error;

use crate::bounded_addr::AskError;

/// What went wrong at the Place.
#[derive(Debug, Clone, Error)]
pub enum PlaceError {
    /// The registration is refused.
    #[error(transparent)]
    Register(#[from] RegisterError),
    /// Something on the board is refused.
    #[error(transparent)]
    Board(#[from] BoardError),
    /// An attestation is refused.
    #[error(transparent)]
    Attest(#[from] AttestError),
    /// Something about a SkillSet is refused.
    #[error(transparent)]
    SkillSet(#[from] SkillSetFault),
    /// A key for repetitions was used for something else.
    #[error(transparent)]
    Once(#[from] OtherRequest),
    /// Nobody can be kept out so.
    #[error(transparent)]
    Ban(#[from] BanError),
    /// A step of an agreement with another Place is not taken.
    #[error(transparent)]
    Step(#[from] StepError),
    /// It could not be stored, so nothing was changed.
    #[error("it could not be stored, and nothing was changed: {0}")]
    Store(Arc<StoreError>),
    /// The directory of the database cannot be made.
    #[error("the directory of the Place cannot be made: {0}")]
    Directory(Arc<io::Error>),
    /// Another process hosts it.
    #[error("another process hosts the Place in {}; stop it first", .0.display())]
    Taken(PathBuf),
    /// The actor did not answer.
    #[error("the Place {0}")]
    Ask(#[from] AskError),
}

impl From<StoreError> for PlaceError {
    fn from(error: StoreError) -> Self {
        Self::Store(Arc::new(error))
    }
}

impl From<AttestFault> for PlaceError {
    fn from(error: AttestFault) -> Self {
        match error {
            AttestFault::Refused(error) => error.into(),
            AttestFault::Board(error) => error.into(),
        }
    }
}
