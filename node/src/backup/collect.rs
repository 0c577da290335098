//! Makes the copy of a data directory in use.

use std::collections::{BTreeMap, HashSet};
use std::io::Read;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use kairos_actors::chain::store::file::{self, FileStore, LOCK_PATIENCE, Prefix};
use kairos_actors::chain::store::place::{Backend, Places};
use kairos_protocol::backup::{Entry, Kind, LEDGER, LedgerPart, LeftOut, Manifest};
use kairos_protocol::hash::Hasher;
use kairos_protocol::time::Timestamp;

use super::copy::Copies;
use super::locks::{self, Locks};
use super::{Failure, Prepared, Wanted, agent_of};
use crate::data_dir::DataDir;
use crate::data_dir::survey::{self, Survey, survey};

/// Mode of a ledger that tells none.
const LEDGER_MODE: u32 = 0o600;
/// What stands beside the ledger while it is written to. Records that were set aside have longer names, and stay.
const JOURNAL: &str = "storage/blockchain.json.journal";
/// The folder of private keys.
const KEYS: &str = "keys";
/// Private keys outside of it.
const TLS: &str = "storage/tls";

/// Copies what must be copied while others wait, and looks up the rest; `places` says where the ledger is. Blocks on
/// the disk.
///
/// # Errors
///
/// All of [`Failure`] but those of restoring.
pub fn prepare(
    dir: &DataDir,
    places: &Places,
    wanted: Wanted,
    now: Timestamp,
) -> Result<Prepared, Failure> {
    let tenancy = dir.enter()?;
    if places.backend == Backend::Sqlite || places.sqlite.exists() {
        return Err(Failure::Database(places.sqlite.clone()));
    }
    // Before anyone has to wait: later only what was added meanwhile is read.
    let (store, _) = FileStore::open(&dir.ledger(), LOCK_PATIENCE)?;
    store.prefix()?;
    let mut copies = Copies::new(dir)?;
    // What nobody locks comes first: checkpoints and the like speak of a ledger that is then copied at least as far.
    let at_leisure = survey(dir);
    let guarded = locks::paths(&at_leisure);
    let mut files = BTreeMap::new();
    for file in sort(&at_leisure, wanted).files {
        if !locks::protect(&guarded, &file.shown) {
            add(&mut copies, &mut files, file)?;
        }
    }
    let locks = Locks::take(dir, &survey(dir))?;
    // Only now nobody makes or removes what the locks protect.
    let survey = survey(dir);
    if !survey.unreadable.is_empty() {
        return Err(Failure::Unreadable(survey.unreadable.join(", ")));
    }
    if survey.cut_short {
        return Err(Failure::TooMany);
    }
    let sorted = sort(&survey, wanted);
    if !wanted.skip_unsupported && !sorted.left_out.is_empty() {
        return Err(Failure::Unsupported(sorted.left_out));
    }
    let there: HashSet<&str> = sorted
        .files
        .iter()
        .map(|file| file.shown.as_str())
        .collect();
    files.retain(|path, _| there.contains(path.as_str()));
    for file in &sorted.files {
        if !files.contains_key(&file.shown) {
            add(&mut copies, &mut files, file)?;
        }
    }
    let ledger = store.prefix()?;
    drop(locks);
    let mut entries = sorted.entries;
    entries.extend(files);
    let left_out = sorted.left_out;

    let mut manifest = Manifest::new(concat!("kairos-chain ", env!("CARGO_PKG_VERSION")), now);
    if let Some(ledger) = &ledger {
        let (kind, part) = read_ledger(ledger)?;
        manifest.ledger = Some(part);
        let there = dir.ledger().metadata();
        let mode = there.map_or(LEDGER_MODE, |there| there.permissions().mode() & 0o777);
        entries.insert(LEDGER.to_owned(), (mode, kind));
    }
    manifest.instance_id = match agent_of(&dir.keys()) {
        Ok(id) => id,
        Err(_) if !wanted.keys => None,
        Err(reason) => return Err(Failure::Keys(reason)),
    };
    manifest.keys = wanted.keys;
    manifest.left_out = left_out;
    let entries = entries.into_iter();
    manifest.entries = entries
        .map(|(path, (mode, kind))| Entry { path, mode, kind })
        .collect();
    Ok(Prepared {
        manifest,
        ledger,
        copies,
        _tenancy: tenancy,
    })
}

/// Copies one file, unless it is gone.
fn add(
    copies: &mut Copies,
    files: &mut BTreeMap<String, (u32, Kind)>,
    file: &survey::Entry,
) -> Result<(), Failure> {
    if let Some(kind) = copies.add(&file.shown, &file.path)? {
        files.insert(file.shown.clone(), (mode(file), kind));
    }
    Ok(())
}

/// What of a directory goes where.
struct Sorted<'a> {
    /// Directories so far, by path.
    entries: BTreeMap<String, (u32, Kind)>,
    files: Vec<&'a survey::Entry>,
    left_out: Vec<LeftOut>,
}

fn sort(survey: &Survey, wanted: Wanted) -> Sorted<'_> {
    let mut sorted = Sorted {
        entries: BTreeMap::new(),
        files: Vec::new(),
        left_out: Vec::new(),
    };
    let mut passed_over: Vec<&str> = Vec::new();
    for entry in &survey.entries {
        let path = entry.shown.as_str();
        let is_below = |folder: &str| {
            path.strip_prefix(folder)
                .is_some_and(|below| below.starts_with('/'))
        };
        if passed_over.iter().any(|folder| is_below(folder)) {
            continue;
        }
        // Their folders stay, with their modes.
        let secret = [KEYS, TLS].iter().any(|folder| is_below(folder));
        let is_ledger = path == LEDGER || path == JOURNAL;
        let left_out = |reason: &str| LeftOut {
            path: path.to_owned(),
            reason: reason.to_owned(),
        };
        // The ledger is taken up to a block, and what its journal promised is in it by then.
        if is_ledger || entry.is_lock() || entry.is_temporary() || secret && !wanted.keys {
            passed_over.push(path);
        } else if entry.path.to_str().is_none() {
            sorted.left_out.push(left_out("its name is not UTF-8"));
            passed_over.push(path);
        } else if entry.metadata.is_symlink() {
            sorted.left_out.push(left_out("a symbolic link"));
        } else if entry.metadata.is_dir() {
            let directory = (mode(entry), Kind::Directory);
            sorted.entries.insert(path.to_owned(), directory);
        } else if entry.metadata.is_file() {
            sorted.files.push(entry);
        } else {
            sorted
                .left_out
                .push(left_out("neither a file nor a directory"));
        }
    }
    sorted
}

fn mode(entry: &survey::Entry) -> u32 {
    entry.metadata.permissions().mode() & 0o777
}

/// Reads the ledger up to its last block, checking every block of it.
fn read_ledger(ledger: &Prefix) -> Result<(Kind, LedgerPart), Failure> {
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
