//! The data directory: where it is, where things are in it, and how a new one comes to be.
//!
//! Owns the paths that every part of the node uses, and the texts of a fresh directory. [`DataDir::init`] never
//! changes a file that exists, and whatever it writes is whole or absent.

pub mod holders;
mod init;
pub mod meta;
pub mod persistence;
pub mod survey;
pub(crate) mod templates;
pub mod tenancy;

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use kairos_actors::passing::LOCK;
use thiserror::Error;

pub use self::init::{InitReport, Item, Outcome};
pub use self::tenancy::Tenancy;

/// The variable that names the data directory.
pub const VARIABLE: &str = "KAIROS_DATA_DIR";
/// The data directory where nothing names one, below the working directory.
const DEFAULT: &str = ".kairos";

/// The root of everything this agent keeps; an absolute path, which need not exist yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataDir(PathBuf);

/// What a process knows that decides where its data directory is.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// The value of [`VARIABLE`]; an empty one counts as none.
    pub variable: Option<OsString>,
    /// The working directory; an absolute path.
    pub current_dir: PathBuf,
    /// What a leading `~/` stands for.
    pub home: Option<PathBuf>,
}

/// Why a data directory cannot be used.
#[derive(Debug, Error)]
pub enum DataDirError {
    /// There is nothing at the path, or not what `init` makes.
    #[error("no data directory at {}; run kairos-chain init", .0.display())]
    Absent(PathBuf),
    /// The path, or one above it, is not a directory.
    #[error("{} is not a directory", .0.display())]
    NotADirectory(PathBuf),
    /// The directory may not be written by this user.
    #[error("cannot write to {}: {error}", path.display())]
    NotWritable {
        /// What could not be written.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Somebody is about to replace the directory.
    #[error("{} is being restored from a backup by {by}; try again when that is done", path.display())]
    BeingReplaced {
        /// The directory.
        path: PathBuf,
        /// Who does it.
        by: String,
    },
    /// Anything else that reading or writing ran into.
    #[error("cannot set up {}: {error}", path.display())]
    Io {
        /// What was read or written.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

impl DataDirError {
    fn from_io(path: &Path, error: io::Error) -> Self {
        let path = path.to_owned();
        match error.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                Self::NotWritable { path, error }
            }
            io::ErrorKind::NotADirectory => Self::NotADirectory(path),
            _ => Self::Io { path, error },
        }
    }
}

impl Surroundings {
    /// Asks the running process.
    ///
    /// # Errors
    ///
    /// Fails where the working directory no longer exists.
    pub fn of_process() -> io::Result<Self> {
        Ok(Self {
            variable: std::env::var_os(VARIABLE),
            current_dir: std::env::current_dir()?,
            home: std::env::home_dir(),
        })
    }
}

impl DataDir {
    /// Returns where the data directory is: `flag`, else [`VARIABLE`], else `./.kairos`.
    ///
    /// A leading `~/` is the home directory also where no shell has replaced it, as in a client's JSON.
    pub fn resolve(flag: Option<&Path>, around: &Surroundings) -> Self {
        let variable = around.variable.as_ref().filter(|value| !value.is_empty());
        let named = flag
            .or(variable.map(Path::new))
            .unwrap_or(Path::new(DEFAULT));
        let path = match (named.strip_prefix("~"), &around.home) {
            (Ok(rest), Some(home)) => home.join(rest),
            _ => around.current_dir.join(named),
        };
        Self(path.components().collect())
    }

    /// Returns an existing data directory, for commands that do not make one.
    ///
    /// # Errors
    ///
    /// [`DataDirError::Absent`] and [`DataDirError::NotADirectory`].
    pub fn existing(self) -> Result<Self, DataDirError> {
        let is_file = match self.0.metadata() {
            Ok(found) => !found.is_dir(),
            Err(error) => error.kind() == io::ErrorKind::NotADirectory,
        };
        if is_file {
            return Err(DataDirError::NotADirectory(self.0));
        }
        if !self.is_initialized() {
            return Err(DataDirError::Absent(self.0));
        }
        Ok(self)
    }

    /// Whether `init` has been here: the settings of skills are present, and the law or what was recorded under it.
    pub fn is_initialized(&self) -> bool {
        self.skills_config().is_file() && (self.law().is_file() || self.has_ledger())
    }

    /// Whether something was recorded here, in either form, at the place where it is unless settings say otherwise.
    pub fn has_ledger(&self) -> bool {
        self.ledger().is_file() || self.storage().join("kairos.db").is_file()
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Locked by everyone who uses the directory, see [`tenancy`].
    pub fn tenancy_file(&self) -> PathBuf {
        self.0.join(LOCK)
    }

    /// Private keys; only the owner may open it.
    pub fn keys(&self) -> PathBuf {
        self.0.join("keys")
    }

    /// Installed SkillSets and their registry.
    pub fn skillsets(&self) -> PathBuf {
        self.0.join("skillsets")
    }

    /// L1: what the project knows.
    pub fn knowledge(&self) -> PathBuf {
        self.0.join("knowledge")
    }

    /// L2: what sessions are about.
    pub fn context(&self) -> PathBuf {
        self.0.join("context")
    }

    /// L0 and its versions.
    pub fn skills(&self) -> PathBuf {
        self.0.join("skills")
    }

    /// The law: the file of the skills language.
    pub fn law(&self) -> PathBuf {
        self.skills().join("kairos.rb")
    }

    /// The settings of skills and layers that the reference reads too.
    pub fn skills_config(&self) -> PathBuf {
        self.skills().join("config.yml")
    }

    /// What the node itself writes: ledger, tokens, snapshots.
    pub fn storage(&self) -> PathBuf {
        self.0.join("storage")
    }

    /// The ledger as one JSON file.
    pub fn ledger(&self) -> PathBuf {
        self.storage().join("blockchain.json")
    }

    /// Known peers and their pinned keys.
    pub fn peers(&self) -> PathBuf {
        self.0.join("peers.json")
    }

    /// Acquired things that wait for approval.
    pub fn quarantine(&self) -> PathBuf {
        self.storage().join("quarantine")
    }

    /// Messages that peers left.
    pub fn inbox(&self) -> PathBuf {
        self.storage().join("inbox")
    }

    /// The settings of this program.
    pub fn config_file(&self) -> PathBuf {
        self.0.join(crate::config::OWN_FILE)
    }

    /// Upgrade tracking in the reference's form.
    pub fn meta_file(&self) -> PathBuf {
        self.0.join(".kairos_meta.yml")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn around(variable: Option<&str>) -> Surroundings {
        Surroundings {
            variable: variable.map(OsString::from),
            current_dir: "/work".into(),
            home: Some("/home/me".into()),
        }
    }

    #[test]
    fn the_flag_wins_over_the_variable_and_both_over_the_default() {
        for (flag, variable, path) in [
            (Some("/flag"), Some("/variable"), "/flag"),
            (Some("flag/"), None, "/work/flag"),
            (None, Some("variable"), "/work/variable"),
            (None, Some(""), "/work/.kairos"),
            (None, None, "/work/.kairos"),
            (Some("./a/./b"), None, "/work/a/b"),
            (Some("~/agent"), None, "/home/me/agent"),
            (Some("~agent"), None, "/work/~agent"),
            (Some("."), None, "/work"),
        ] {
            let dir = DataDir::resolve(flag.map(Path::new), &around(variable));
            assert_eq!(dir.path().to_str(), Some(path), "{flag:?} {variable:?}");
        }
    }

    #[test]
    fn a_directory_that_nobody_initialised_is_absent() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("nothing");
        let absent = |path: &Path| DataDir(path.to_owned()).existing().unwrap_err().to_string();
        let told = format!(
            "no data directory at {}; run kairos-chain init",
            path.display()
        );
        assert_eq!(absent(&path), told);
        std::fs::create_dir(&path).unwrap();
        assert_eq!(absent(&path), told);
        std::fs::write(path.join("file"), "").unwrap();
        let file = path.join("file");
        assert_eq!(
            absent(&file),
            format!("{} is not a directory", file.display())
        );
    }

    #[test]
    fn refusals_of_the_system_are_told_apart() {
        let told =
            |kind: io::ErrorKind| DataDirError::from_io(Path::new("/d"), kind.into()).to_string();
        for kind in [
            io::ErrorKind::PermissionDenied,
            io::ErrorKind::ReadOnlyFilesystem,
        ] {
            assert!(told(kind).starts_with("cannot write to /d: "));
        }
        assert_eq!(told(io::ErrorKind::NotADirectory), "/d is not a directory");
        assert!(told(io::ErrorKind::StorageFull).starts_with("cannot set up /d: "));
    }
}
