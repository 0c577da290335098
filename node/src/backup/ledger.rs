//! The ledger's part in a backup: its end is looked up while others wait, and all up to there is read when they go on.

use std::io::Read;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use kairos_actors::chain::store::file::{self, FileStore, Prefix};
use kairos_actors::chain::store::place::{Backend, Places};
use kairos_actors::chain::store::{BlockStore as _, StoreError, sqlite};
use kairos_protocol::backup::{Kind, LEDGER, LedgerPart, Manifest};
use kairos_protocol::hash::Hasher;

use super::Failure;
use super::copy::Copies;
use crate::data_dir::DataDir;
use crate::data_dir::survey::Entry;

/// Mode of a ledger that tells none.
const MODE: u32 = 0o600;
/// What stands beside the ledger while it is written to. Records that were set aside have longer names, and stay.
const JOURNAL: &str = "storage/blockchain.json.journal";

/// Where the ledger is taken from.
pub(super) enum Source {
    File(Box<FileStore>, PathBuf),
    /// A database, at this path below the data directory.
    Database(Places, String),
}

/// The ledger as it was when it was looked up.
pub(super) enum Moment {
    File(Option<Prefix>),
    Database(Option<sqlite::Snapshot>, String),
}

impl Source {
    /// Reads all of the ledger before anyone has to wait: later only what was added meanwhile is.
    pub(super) fn open(dir: &DataDir, places: &Places) -> Result<Self, Failure> {
        places.check()?;
        match places.backend {
            Backend::File => {
                let (store, _) = FileStore::open(&places.file, places.patience)?;
                store.prefix()?;
                Ok(Self::File(Box::new(store), places.file.clone()))
            }
            Backend::Sqlite => {
                let below = places.sqlite.strip_prefix(dir.path()).ok();
                let below = below.and_then(Path::to_str);
                let outside = || Failure::Outside(places.sqlite.clone());
                let below = below.ok_or_else(outside)?.to_owned();
                sqlite::SqliteStore::open(&places.sqlite, places.sqlite_options()).tip()?;
                Ok(Self::Database(places.clone(), below))
            }
        }
    }

    fn path(&self) -> &Path {
        match self {
            Self::File(_, path) => path,
            Self::Database(places, _) => &places.sqlite,
        }
    }

    /// Whether `entry` is the ledger, or holds what is part of it by the time it is looked up.
    pub(super) fn is_part(&self, entry: &Entry) -> bool {
        match self {
            Self::File(..) => entry.shown == LEDGER || entry.shown == JOURNAL,
            Self::Database(places, below) => {
                entry.shown == *below
                    || sqlite::beside_database(&places.sqlite).contains(&entry.path)
            }
        }
    }

    /// Bytes of what will be copied.
    pub(super) fn bytes(&self) -> u64 {
        let size = |path: &Path| path.metadata().map_or(0, |there| there.len());
        match self {
            Self::File(..) => 0,
            Self::Database(places, _) => {
                let beside = sqlite::beside_database(&places.sqlite);
                let beside = beside.iter().map(|path| size(path));
                beside.fold(size(&places.sqlite), u64::saturating_add)
            }
        }
    }

    pub(super) fn mode(&self) -> u32 {
        let there = self.path().metadata();
        there.map_or(MODE, |there| there.permissions().mode() & 0o777)
    }

    /// Looks up where the ledger ends.
    pub(super) fn now(&self) -> Result<Moment, Failure> {
        Ok(match self {
            Self::File(store, _) => Moment::File(store.prefix()?),
            Self::Database(places, below) => {
                let snapshot = sqlite::Snapshot::begin(&places.sqlite, places.sqlite_options())?;
                Moment::Database(snapshot, below.clone())
            }
        })
    }
}

impl Moment {
    /// Reads the ledger, checking every block of it, and writes down what it is. Returns its path and kind.
    pub(super) fn read(
        &self,
        copies: &mut Copies,
        manifest: &mut Manifest,
    ) -> Result<Option<(String, Kind)>, Failure> {
        match self {
            Self::File(None) | Self::Database(None, _) => Ok(None),
            Self::File(Some(ledger)) => {
                let (kind, part) = read_prefix(ledger)?;
                manifest.ledger = Some(part);
                Ok(Some((LEDGER.to_owned(), kind)))
            }
            Self::Database(Some(snapshot), below) => {
                let mut part = None;
                let kind = copies.make(below, |target| {
                    snapshot.copy(target)?;
                    let report = sqlite::inspect(target, None)?.report;
                    if !report.state.allows_append() {
                        return Err(StoreError::NotReadable(report.state).into());
                    }
                    let length = report.length;
                    part = report.tip.map(|tip| LedgerPart { length, tip });
                    Ok(())
                })?;
                // One without blocks yet may hold other tables.
                if let Some(part) = part {
                    manifest.set_database(below, part);
                }
                Ok(Some((below.clone(), kind)))
            }
        }
    }

    /// What is still to be read from the ledger itself when the archive is written.
    pub(super) fn into_prefix(self) -> Option<Prefix> {
        match self {
            Self::File(prefix) => prefix,
            Self::Database(..) => None,
        }
    }
}

/// Reads the ledger up to its last block, checking every block of it.
fn read_prefix(ledger: &Prefix) -> Result<(Kind, LedgerPart), Failure> {
    let path = || Path::new(LEDGER);
    let opened = ledger.open().map_err(Failure::io("read", path()))?;
    let mut hashed = Hashed {
        inner: opened,
        hasher: Hasher::default(),
        size: 0,
        error: None,
    };
    let report = file::verify(&mut hashed);
    if let Some(error) = hashed.error {
        return Err(Failure::io("read", path())(error));
    }
    if !ledger.is_confirmed_by(&report) || hashed.size != ledger.size() {
        return Err(Failure::LedgerRewritten);
    }
    let kind = Kind::File {
        size: hashed.size,
        sha256: hashed.hasher.finish(),
    };
    let part = LedgerPart {
        length: report.length,
        tip: ledger.tip,
    };
    Ok((kind, part))
}

struct Hashed<R> {
    inner: R,
    hasher: Hasher,
    size: u64,
    /// Kept, since a verifier makes a text of it.
    error: Option<std::io::Error>,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        match self.inner.read(out) {
            Ok(amount) => {
                self.hasher.update(out.get(..amount).unwrap_or_default());
                self.size += amount as u64;
                Ok(amount)
            }
            Err(error) => {
                let kind = error.kind();
                self.error = Some(error);
                Err(kind.into())
            }
        }
    }
}
