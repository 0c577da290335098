//! How a command ended, for scripts.

use std::process::ExitCode;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It did what was asked: 0.
    Done,
    /// It was refused or did not succeed: 1.
    Failed,
    /// What was asked, or the configuration, makes no sense: 2.
    Invalid,
    /// It found nothing broken, but something a person should look at: 3.
    Warned,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Invalid => 2,
            Exit::Warned => 3,
        })
    }
}
