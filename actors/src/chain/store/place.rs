//! Where the ledger of an agent is, and in which form.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use super::file::{self, FileStore, Inspection};
use super::sqlite::{self, SqliteOptions, SqliteStore};
use super::{BlockStore, StoreError};

/// The forms in which a ledger is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Backend {
    /// One JSON file, see [`mod@file`].
    File,
    /// A database, see [`sqlite`].
    Sqlite,
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Backend::File => "file",
            Backend::Sqlite => "sqlite",
        })
    }
}

/// Both places at which an agent's ledger may be, and which of them counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// The form in use.
    pub backend: Backend,
    /// The JSON file.
    pub file: PathBuf,
    /// The database.
    pub sqlite: PathBuf,
    /// Whether the database keeps a write-ahead log.
    pub wal: bool,
    /// How long to wait for other writers.
    pub patience: Duration,
}

/// Why the ledger is not opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The ledger is in the other form. Beginning a new one would hide it.
    #[error(
        "storage.backend is {chosen}, but the ledger is in {}; run kairos-chain chain migrate --to {chosen}, \
         or set storage.backend to {found}",
        path.display()
    )]
    Elsewhere {
        /// The form that the settings name.
        chosen: Backend,
        /// The form that there is.
        found: Backend,
        /// Where.
        path: PathBuf,
    },
    /// The file system cannot tell what is there.
    #[error("cannot look at {}", path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Places {
    /// Where the ledger is in the form `backend`.
    pub fn path(&self, backend: Backend) -> &Path {
        match backend {
            Backend::File => &self.file,
            Backend::Sqlite => &self.sqlite,
        }
    }

    /// Opens the ledger that counts, and finishes what a crash interrupted there.
    ///
    /// # Errors
    ///
    /// All of [`OpenError`].
    pub fn open(&self) -> Result<Arc<dyn BlockStore>, OpenError> {
        let existed = self.stands()?;
        let rival = self.path(self.other());
        Ok(match self.backend {
            Backend::File => {
                let (store, _) = FileStore::open(&self.file, self.patience)?;
                Arc::new(store.beside(rival, existed))
            }
            Backend::Sqlite => {
                let store = SqliteStore::open(&self.sqlite, self.sqlite_options());
                Arc::new(store.beside(rival, existed))
            }
        })
    }

    /// Looks at the ledger that counts, and at its block at position `at`. Creates nothing and repairs nothing.
    ///
    /// # Errors
    ///
    /// All of [`OpenError`]. A bad ledger is a report, not an error.
    pub fn inspect(&self, at: Option<u64>) -> Result<Inspection, OpenError> {
        self.check()?;
        let look = |source| OpenError::Io {
            path: self.file.clone(),
            source,
        };
        Ok(match self.backend {
            Backend::File => file::inspect(&self.file, at).map_err(look)?,
            Backend::Sqlite => sqlite::inspect(&self.sqlite, at)?,
        })
    }

    /// Fails unless the ledger is where the settings say, or nowhere yet.
    ///
    /// # Errors
    ///
    /// [`OpenError::Elsewhere`] and [`OpenError::Io`].
    pub fn check(&self) -> Result<(), OpenError> {
        self.stands().map(|_| ())
    }

    /// Whether there is a ledger where the settings say.
    fn stands(&self) -> Result<bool, OpenError> {
        let found = self.other();
        let (existed, rival) = (exists(self.path(self.backend))?, self.path(found));
        if !existed && exists(rival)? {
            return Err(OpenError::Elsewhere {
                chosen: self.backend,
                found,
                path: rival.to_owned(),
            });
        }
        Ok(existed)
    }

    /// The form that does not count.
    fn other(&self) -> Backend {
        match self.backend {
            Backend::File => Backend::Sqlite,
            Backend::Sqlite => Backend::File,
        }
    }

    /// How a database is used.
    pub fn sqlite_options(&self) -> SqliteOptions {
        SqliteOptions {
            wal: self.wal,
            patience: self.patience,
        }
    }
}

fn exists(path: &Path) -> Result<bool, OpenError> {
    path.try_exists().map_err(|source| OpenError::Io {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::chain::store::conformance::{clock, one};

    /// The places of an agent that keeps its ledger in the form `backend`.
    fn places(folder: &Path, backend: Backend) -> Places {
        Places {
            backend,
            file: folder.join("chain.json"),
            sqlite: folder.join("chain.db"),
            wal: true,
            patience: Duration::from_secs(60),
        }
    }

    #[test]
    fn no_ledger_is_begun_where_one_in_the_other_form_came_first() {
        for (chosen, other) in [
            (Backend::Sqlite, Backend::File),
            (Backend::File, Backend::Sqlite),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let late = places(folder.path(), chosen).open().unwrap();
            let first = places(folder.path(), other).open().unwrap();
            first.append(one("a"), &clock()).unwrap();
            let refused = late.append(one("b"), &clock());
            assert!(matches!(refused, Err(StoreError::Elsewhere(_))));
            assert!(!places(folder.path(), chosen).path(chosen).exists());
        }
    }

    #[test]
    fn no_ledger_is_begun_where_one_was_taken_away_before_the_first_look() {
        for backend in [Backend::Sqlite, Backend::File] {
            let folder = tempfile::tempdir().unwrap();
            let places = places(folder.path(), backend);
            let store = places.open().unwrap();
            store.append(one("a"), &clock()).unwrap();
            store.settle().unwrap();
            drop(store);
            let late: Arc<dyn BlockStore> = match backend {
                Backend::File => {
                    fs::remove_file(&places.file).unwrap();
                    let (store, _) = FileStore::open(&places.file, places.patience).unwrap();
                    Arc::new(store.beside(&places.sqlite, true))
                }
                Backend::Sqlite => {
                    let late = places.open().unwrap();
                    fs::remove_file(&places.sqlite).unwrap();
                    late
                }
            };
            let gone = late.append(one("b"), &clock());
            assert!(matches!(gone, Err(StoreError::Gone)));
            assert!(!places.path(backend).exists());
        }
    }

    #[test]
    fn no_ledger_is_begun_while_there_is_one_in_the_other_form() {
        for (chosen, found) in [
            (Backend::Sqlite, Backend::File),
            (Backend::File, Backend::Sqlite),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let mut places = places(folder.path(), found);
            places.open().unwrap().append(one("a"), &clock()).unwrap();
            places.backend = chosen;
            let Err(error) = places.open() else {
                panic!("opened");
            };
            assert!(matches!(error, OpenError::Elsewhere { .. }), "{error}");
            assert!(!places.path(chosen).exists());
            places.backend = found;
            assert!(places.open().unwrap().tip().unwrap().is_some());
        }
    }
}
