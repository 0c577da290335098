//! Makes the copy of a data directory in use.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;

use kairos_actors::chain::store::place::Places;
use kairos_actors::chain::store::sqlite::{Snapshot, SqliteOptions};
use kairos_protocol::backup::{Entry, Kind, LeftOut, Manifest};
use kairos_protocol::time::Timestamp;

use super::copy::Copies;
use super::ledger::Source;
use super::locks::Locks;
use super::{Failure, Prepared, Wanted, agent_of, is_with_keys};
use crate::data_dir::DataDir;
use crate::data_dir::survey::{self, Survey, survey};
use crate::{crash, serving, telemetry};

/// The databases of a hosted Meeting Place, below the data directory.
const DATABASES: [&str; 2] = ["storage/place/place.db", "storage/place/relay.db"];
/// Their mode in a backup: sealed messages are nobody's business.
const DATABASE_MODE: u32 = 0o600;

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
    let source = Source::open(dir, places)?;
    // Most of what is there stays as it is: while others wait, only what changed is copied again.
    let at_leisure = survey(dir);
    let files = sort(&at_leisure, wanted, &source).files;
    let bytes = files.iter().map(|file| file.metadata.len());
    let mut copies = Copies::new(dir, bytes.fold(source.bytes(), u64::saturating_add))?;
    for file in files {
        match copies.add(file) {
            // Its turn comes when nobody writes to it.
            Ok(()) | Err(Failure::Restless(_)) => {}
            Err(error) => return Err(error),
        }
    }
    let (locks, survey) = Locks::take(dir)?;
    if !survey.unreadable.is_empty() {
        return Err(Failure::Unreadable(survey.unreadable.join(", ")));
    }
    if survey.cut_short {
        return Err(Failure::TooMany);
    }
    let sorted = sort(&survey, wanted, &source);
    if !wanted.skip_unsupported && !sorted.left_out.is_empty() {
        return Err(Failure::Unsupported(sorted.left_out));
    }
    let mut entries = sorted.entries;
    for file in &sorted.files {
        copies.add(file)?;
        if let Some(kind) = copies.kind(&file.shown) {
            entries.insert(file.shown.clone(), (mode(file), kind));
        }
    }
    for database in DATABASES {
        if let Some(kind) = copy_database(dir, places, database, &mut copies)? {
            entries.insert(database.to_owned(), (DATABASE_MODE, kind));
        }
    }
    // Last, since checkpoints and the like speak of a ledger that goes at least as far.
    let moment = source.now()?;
    drop(locks);
    let left_out = sorted.left_out;

    let mut manifest = Manifest::new(concat!("kairos-chain ", env!("CARGO_PKG_VERSION")), now);
    let part = moment.read(&mut copies, &mut manifest)?;
    entries.extend(part.map(|(path, kind)| (path, (source.mode(), kind))));
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
        ledger: moment.into_prefix(),
        copies,
        _tenancy: tenancy,
    })
}

/// Copies a database as it is at one moment, which the bytes of its files are not while somebody writes to it.
fn copy_database(
    dir: &DataDir,
    places: &Places,
    path: &str,
    copies: &mut Copies,
) -> Result<Option<Kind>, Failure> {
    let options = SqliteOptions {
        wal: true,
        ..places.sqlite_options()
    };
    let Some(snapshot) = Snapshot::begin(&dir.path().join(path), options)? else {
        return Ok(None);
    };
    let kind = copies.make(path, |target| Ok(snapshot.copy(target)?))?;
    Ok(Some(kind))
}

/// Whether a path is one of [`DATABASES`], or a file that SQLite keeps beside one.
fn is_of_database(path: &str) -> bool {
    DATABASES.iter().any(|database| {
        let rest = path.strip_prefix(database);
        matches!(rest, Some("" | "-wal" | "-shm" | "-journal"))
    })
}

/// What of a directory goes where.
struct Sorted<'a> {
    /// Directories so far, by path.
    entries: BTreeMap<String, (u32, Kind)>,
    files: Vec<&'a survey::Entry>,
    left_out: Vec<LeftOut>,
}

fn sort<'a>(survey: &'a Survey, wanted: Wanted, source: &Source) -> Sorted<'a> {
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
        let secret = is_with_keys(path);
        let left_out = |reason: &str| LeftOut {
            path: path.to_owned(),
            reason: reason.to_owned(),
        };
        // The ledger is taken up to a block, and what its journal promised is in it by then.
        if source.is_part(entry)
            || is_of_database(path)
            || entry.is_lock()
            || !entry.lasts()
            || path == serving::FOLDER
            || path == crash::FOLDER
            || path == telemetry::FOLDER
            || secret && !wanted.keys
        {
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
