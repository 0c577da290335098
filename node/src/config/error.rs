//! What can be wrong with the configuration, told so that the person who wrote it finds the place.

use std::fmt;
use std::io;
use std::path::PathBuf;

use thiserror::Error;

use super::layer::Source;

/// The configuration cannot be used; every reason found, not only the first.
#[derive(Debug, Error)]
pub struct ConfigError {
    problems: Vec<Problem>,
}

/// One reason why the configuration cannot be used.
#[derive(Debug, Error)]
pub enum Problem {
    /// A key that no setting has.
    #[error("unknown setting `{key}` in {at}{}", hint(.nearest))]
    UnknownKey {
        /// As it was written.
        key: String,
        /// The known key most like it, written the same way.
        nearest: Option<String>,
        /// Where it stands.
        at: Source,
    },
    /// A value of the wrong type or out of its bound.
    #[error("`{key}` must be {wanted}, but {at} says {found}")]
    BadValue {
        /// The setting.
        key: &'static str,
        /// What is accepted.
        wanted: String,
        /// The value as written, shortened.
        found: String,
        /// Where it stands.
        at: Source,
    },
    /// Two settings that are each within their bounds but not together.
    #[error("`{small}` ({small_is}) must not be more than `{large}` ({large_is})")]
    Contradiction {
        /// The setting that is too large.
        small: &'static str,
        /// Its value.
        small_is: String,
        /// The setting that bounds it.
        large: &'static str,
        /// Its value.
        large_is: String,
    },
    /// A file that is not the YAML it should be.
    #[error("{}:{line}:{column}: {message}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// From 1; 0 where the parser does not know.
        line: u64,
        /// From 1; 0 where the parser does not know.
        column: u64,
        /// What the parser says.
        message: String,
    },
    /// A file that is there but cannot be read.
    #[error("cannot read {}: {error}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The layers do not merge, although each was checked.
    #[error("cannot merge the layers: {0}")]
    Merge(#[from] config::ConfigError),
}

impl ConfigError {
    pub(super) fn new(problems: Vec<Problem>) -> Self {
        Self { problems }
    }

    /// Every reason found.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the configuration cannot be used")?;
        self.problems
            .iter()
            .try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}

fn hint(nearest: &Option<String>) -> String {
    match nearest {
        Some(key) => format!(", the nearest is `{key}`"),
        None => String::new(),
    }
}
