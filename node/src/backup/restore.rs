//! Puts a backup in the place of a data directory.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use kairos_actors::chain::store::place::{OpenError, Places};
use kairos_actors::chain::store::{file, sqlite};
use kairos_protocol::backup::{
    self, BackupError, BackupLimits, Entry, Kind, LedgerPart, Manifest, Visitor,
};
use kairos_protocol::time::Timestamp;
use serde_json::json;

use super::{Failure, agent_of, check_agent, check_ledger, room, swap};
use crate::data_dir::tenancy::Occupied;
use crate::data_dir::{DataDir, Surroundings, Tenancy};
use crate::identity;

/// What follows the name of a directory while a backup is unpacked beside it.
pub const UNPACKING: &str = ".restoring-";
/// What follows the name of a directory that a restore replaced.
pub const REPLACED: &str = ".before-restore-";
/// The file in a restored directory that says where it came from.
pub const MARKER: &str = ".restored.json";

/// What a restore would do, or did, to a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The directory, links resolved.
    pub place: PathBuf,
    /// Whether there is something that would be replaced.
    pub replaces: bool,
    /// Blocks of the ledger in place that the backup does not have; they would be set aside with the directory.
    pub blocks_lost: u64,
    /// Whether the ledger in place has another block where that of the backup ends.
    pub other_history: bool,
    /// The agent in place, if it is another one than that of the backup.
    pub other_agent: Option<String>,
}

/// What a restore did.
#[derive(Debug)]
pub struct Restored {
    /// What the backup held.
    pub manifest: Manifest,
    /// What it was put in place of.
    pub plan: Plan,
    /// Where the replaced directory is now, if there was one and it was kept.
    pub kept: Option<PathBuf>,
    /// Leftovers of interrupted restores that were cleared away.
    pub cleared: Vec<PathBuf>,
}

/// Whether the directory at `path`, kept under a name that ends in `stamp`, is not the old one but the one that
/// should have taken its place: its restore was interrupted in between.
pub fn is_the_new_one(path: &Path, stamp: &str) -> bool {
    let marker = fs::read(path.join(MARKER)).ok();
    let marker: Option<serde_json::Value> =
        marker.and_then(|text| serde_json::from_slice(&text).ok());
    marker.is_some_and(|marker| marker.get("restore").and_then(|is| is.as_str()) == Some(stamp))
}

/// Looks at the directory that the backup of `manifest` would replace, whose ledger is in `places`. Changes nothing.
///
/// # Errors
///
/// [`Failure::Io`] and [`Failure::NotReplaceable`].
pub fn examine(dir: &DataDir, places: &Places, manifest: &Manifest) -> Result<Plan, Failure> {
    let place = real(dir.path())?;
    let replaces = match fs::read_dir(&place) {
        // The lock may be ours.
        Ok(entries) => entries.flatten().any(|entry| entry.file_name() != ".lock"),
        Err(error) if error.kind() == ErrorKind::NotFound => false,
        Err(error) => return Err(Failure::io("look at", &place)(error)),
    };
    let dir = at(&place);
    let (blocks_lost, other_history) = lost(places, manifest.ledger);
    let agent = identity::inspect(&dir.keys()).ok().flatten();
    let agent = agent.map(|found| found.loaded.instance_id);
    let other_agent = agent
        .filter(|agent| Some(agent) != manifest.instance_id.as_ref())
        .map(|agent| agent.to_string());
    Ok(Plan {
        place,
        replaces,
        blocks_lost,
        other_history,
        other_agent,
    })
}

/// Unpacks `archive` beside `dir`, checks all of it, and puts it in place. `told` hears the bytes of files so far.
/// The old directory is kept beside unless `discard`.
///
/// # Errors
///
/// Whatever is returned, the directory in place is the old one and whole. Only after [`Failure::Unfinished`] it is the
/// new one, and whole.
pub fn restore(
    dir: &DataDir,
    places: &Places,
    archive: impl Read,
    discard: bool,
    now: Timestamp,
    told: impl FnMut(u64),
) -> Result<Restored, Failure> {
    let place = real(dir.path())?;
    let dir = at(&place);
    let parent = place.parent().unwrap_or(Path::new("/"));
    let name = place
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let beside = |infix: &str, stamp: &str| parent.join(format!("{name}{infix}{stamp}"));
    fs::create_dir_all(parent).map_err(Failure::io("make", parent))?;
    let ours = match place.is_dir() {
        true => Some(reserve(&dir)?),
        false => None,
    };
    let cleared = clear(parent, &format!("{name}{UNPACKING}"))?;
    let stamp = format!("{}-{}", now.file_stamp(), std::process::id());
    let fresh = beside(UNPACKING, &stamp);
    let old = beside(REPLACED, &stamp);
    let mut unpacking = Unpacking::begin(fresh, told)?;
    let manifest = backup::read(archive, &BackupLimits::default(), &mut unpacking).map_err(
        |error| match (error, unpacking.failure.take()) {
            (BackupError::Sink(_), Some(failure)) => failure,
            (error, _) => Failure::Archive(error),
        },
    )?;
    unpacking.check(&manifest)?;
    unpacking.mark(&manifest, now, &stamp)?;
    let plan = examine(&dir, places, &manifest)?;
    swap::sync(&unpacking.folder).map_err(Failure::io("make durable", &unpacking.folder))?;
    let swapped = swap::swap(&unpacking.folder, &place, &old, swap::sync_names)?;
    unpacking.keep = true;
    let kept = match swapped.check(&place)? {
        Some(old) if discard || !plan.replaces => {
            if let Err(source) = fs::remove_dir_all(&old) {
                let (old, action) = (Some(old), "remove the old one");
                return Err(Failure::Unfinished {
                    place,
                    old,
                    action,
                    source,
                });
            }
            None
        }
        kept => kept,
    };
    drop((ours, unpacking));
    Ok(Restored {
        manifest,
        plan,
        kept,
        cleared,
    })
}

/// How many blocks of the ledger in place the backup does not have, and whether its history is another one. Whatever
/// cannot be looked at is kept with the directory.
fn lost(places: &Places, part: Option<LedgerPart>) -> (u64, bool) {
    let at = part.map(|part| part.tip.index);
    let looked = match places.inspect(at) {
        Err(OpenError::Elsewhere { found, .. }) => Places {
            backend: found,
            ..places.clone()
        }
        .inspect(at),
        looked => looked,
    };
    let Ok(there) = looked else {
        return (0, false);
    };
    let theirs = part.map_or(0, |part| part.length);
    let differs = there
        .at
        .is_some_and(|at| Some(at) != part.map(|part| part.tip));
    match differs {
        true => (there.report.length, true),
        false => (there.report.length.saturating_sub(theirs), false),
    }
}

fn at(path: &Path) -> DataDir {
    DataDir::resolve(Some(path), &Surroundings::default())
}

fn reserve(dir: &DataDir) -> Result<Tenancy, Failure> {
    dir.reserve().map_err(|occupied| match occupied {
        Occupied::InUse(by) => Failure::InUse {
            path: dir.path().to_owned(),
            by,
        },
        Occupied::Io(error) => Failure::io("lock", dir.path())(error),
    })
}

/// The directory itself, where `path` leads to it through links; it need not exist.
fn real(path: &Path) -> Result<PathBuf, Failure> {
    match path.canonicalize() {
        Ok(real) if real.is_dir() => Ok(real),
        Ok(real) => Err(Failure::NotReplaceable {
            path: real,
            reason: "it is not a directory".to_owned(),
        }),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            match (path.parent(), path.file_name()) {
                _ if path.is_symlink() => Err(Failure::NotReplaceable {
                    path: path.to_owned(),
                    reason: "it is a link to nowhere".to_owned(),
                }),
                (Some(parent), Some(name)) => Ok(real(parent)?.join(name)),
                _ => Ok(path.to_owned()),
            }
        }
        Err(error) => Err(Failure::io("find", path)(error)),
    }
}

/// Removes what restores left that were killed while they unpacked: those that nobody holds.
fn clear(parent: &Path, prefix: &str) -> Result<Vec<PathBuf>, Failure> {
    let mut cleared = Vec::new();
    for entry in fs::read_dir(parent).map_err(Failure::io("list", parent))? {
        let path = entry.map_err(Failure::io("list", parent))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if !name.starts_with(prefix) || !path.is_dir() || path.is_symlink() {
            continue;
        }
        let _ours = reserve(&at(&path))?;
        fs::remove_dir_all(&path).map_err(Failure::io("remove", &path))?;
        cleared.push(path);
    }
    Ok(cleared)
}

/// A backup on its way to the disk; removed when dropped, unless it is to be kept.
struct Unpacking<T> {
    folder: PathBuf,
    /// Tells other restores that this one lives.
    _ours: Tenancy,
    directories: Vec<(PathBuf, u32)>,
    written: u64,
    told: T,
    /// The visitor's errors pass through a type that knows less.
    failure: Option<Failure>,
    keep: bool,
}

impl<T: FnMut(u64)> Unpacking<T> {
    fn begin(folder: PathBuf, told: T) -> Result<Self, Failure> {
        DirBuilder::new()
            .mode(0o700)
            .create(&folder)
            .map_err(Failure::io("make", &folder))?;
        let ours = reserve(&at(&folder))?;
        Ok(Self {
            folder,
            _ours: ours,
            directories: Vec::new(),
            written: 0,
            told,
            failure: None,
            keep: false,
        })
    }

    fn begin_with(&self, manifest: &Manifest) -> Result<(), Failure> {
        check_agent(manifest)?;
        room(
            self.folder.parent().unwrap_or(&self.folder),
            manifest.total(),
        )
    }

    fn unpack(&mut self, entry: &Entry, bytes: &mut dyn Read) -> io::Result<()> {
        // The manifest was checked: a clean relative path, whose parents came before and are directories of ours.
        let path = self.folder.join(&entry.path);
        if entry.kind == Kind::Directory {
            DirBuilder::new().mode(0o700).create(&path)?;
            // Only at the end, since one that is read-only could not be filled.
            self.directories.push((path, entry.mode));
            return Ok(());
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?;
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let amount = bytes.read(&mut buffer)?;
            if amount == 0 {
                break;
            }
            file.write_all(buffer.get(..amount).unwrap_or_default())?;
            self.written += amount as u64;
            (self.told)(self.written);
        }
        file.set_permissions(Permissions::from_mode(entry.mode))
    }

    /// Checks what only the whole can tell: the ledger block by block, and the key with its id.
    fn check(&self, manifest: &Manifest) -> Result<(), Failure> {
        let unfit = |error: &dyn std::fmt::Display| Failure::Content(error.to_string());
        if let Some(part) = manifest.ledger {
            let path = self.folder.join(manifest.ledger_path());
            let report = match manifest.is_database() {
                true => sqlite::inspect(&path, None)?.report,
                false => {
                    let ledger = File::open(&path).map_err(Failure::io("read", &path))?;
                    file::verify(ledger)
                }
            };
            check_ledger(part, &report).map_err(|error| unfit(&error))?;
        }
        if manifest.keys {
            let id = agent_of(&self.folder.join("keys")).map_err(Failure::Content)?;
            if id != manifest.instance_id {
                return Err(unfit(&"its key is not that of the agent it names"));
            }
        }
        Ok(())
    }

    /// Writes down where the directory comes from, and gives directories their modes.
    fn mark(&self, manifest: &Manifest, now: Timestamp, stamp: &str) -> Result<(), Failure> {
        let path = self.folder.join(MARKER);
        let marker = json!({
            "restore": stamp, "restored_at": now.wire(), "backup_created_at": manifest.created_at.wire(), "program": manifest.program,
            "ledger": manifest.ledger,
        });
        fs::write(&path, format!("{marker:#}\n")).map_err(Failure::io("write", &path))?;
        for (path, mode) in self.directories.iter().rev() {
            fs::set_permissions(path, Permissions::from_mode(*mode))
                .map_err(Failure::io("set the mode of", path))?;
        }
        Ok(())
    }
}

impl<T: FnMut(u64)> Visitor for Unpacking<T> {
    fn manifest(&mut self, manifest: &Manifest) -> io::Result<()> {
        self.begin_with(manifest).map_err(|failure| {
            let told = io::Error::other(failure.to_string());
            self.failure = Some(failure);
            told
        })
    }

    fn entry(&mut self, entry: &Entry, bytes: &mut dyn Read) -> io::Result<()> {
        self.unpack(entry, bytes).map_err(|error| {
            let kind = error.kind();
            let path = self.folder.join(&entry.path);
            self.failure = Some(Failure::io("write", path)(error));
            kind.into()
        })
    }
}

impl<T> Drop for Unpacking<T> {
    fn drop(&mut self) {
        if self.keep {
            return;
        }
        // Whatever cannot be removed is found by the next restore, and by doctor.
        if let Err(error) = fs::remove_dir_all(&self.folder) {
            tracing::warn!(%error, "an unpacked backup stays behind");
        }
    }
}
