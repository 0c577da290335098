//! The directory itself: there, whole, ours, closed to others, on a disk that can be relied on.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::time::{Duration, Instant};

use bytesize::ByteSize;
use kairos_actors::passing::INBOX;

use super::{Findings, some};
use crate::data_dir::survey::Survey;
use crate::data_dir::{DataDir, DataDirError};

/// Free space below which appends may soon fail.
const SPACE_LOW: u64 = 1024 * 1024 * 1024;
/// Free space below which an install does not fit.
const SPACE_OUT: u64 = 64 * 1024 * 1024;
/// Small writes made durable to time the disk.
const SYNCS: usize = 5;
/// Bytes of each of them, about one ledger entry.
const SYNC_BYTES: usize = 1024;
/// A disk on which one takes longer makes every append wait.
const SYNC_SLOW: Duration = Duration::from_millis(50);

/// Whether there is a directory to examine.
pub(super) fn presence(dir: &DataDir, found: &mut Findings) -> bool {
    const CHECK: &str = "directory";
    match dir.clone().existing() {
        Ok(_) => {
            found.ok(CHECK, format!("{} is set up", dir.path().display()));
            true
        }
        Err(error @ DataDirError::NotADirectory(_)) => {
            found.fail(CHECK, error.to_string(), "name a directory with --data-dir");
            false
        }
        Err(_) => {
            let path = dir.path().display();
            if dir.path().is_dir() {
                let fix = "if it is yours, complete it with kairos-chain init, which changes no file that exists";
                found.fail(
                    CHECK,
                    format!("{path} lacks skills/kairos.rb or skills/config.yml"),
                    fix,
                );
                return true;
            }
            let fix =
                "make one with kairos-chain init, or name it with --data-dir or KAIROS_DATA_DIR";
            found.fail(CHECK, format!("there is nothing at {path}"), fix);
            false
        }
    }
}

/// Whether the expected directories are there and everything can be read.
pub(super) fn shape(dir: &DataDir, survey: &Survey, found: &mut Findings) {
    const CHECK: &str = "directory.shape";
    let parts = ["skills", "knowledge", "storage", "keys", "config"];
    let absent: Vec<_> = parts
        .iter()
        .filter(|part| !dir.path().join(part).is_dir())
        .map(|part| format!("{part}/"))
        .collect();
    if !survey.unreadable.is_empty() {
        let fix = "give this user the right to read everything in the data directory";
        found.fail(
            CHECK,
            format!("cannot look at {}", some(&survey.unreadable)),
            fix,
        );
    } else if survey.cut_short {
        let fix = "look for directories that do not belong here; the other checks saw only a part";
        found.warn(CHECK, "there are more files than are examined", fix);
    } else if !absent.is_empty() {
        // Nothing fails for want of them: whoever needs one makes it.
        let fix = "kairos-chain init makes what is missing and changes no file";
        found.warn(CHECK, format!("absent: {}", some(&absent)), fix);
    } else {
        found.ok(
            CHECK,
            format!("{} files and directories", survey.entries.len()),
        );
    }
}

/// Who may read secrets, and whose the files are.
pub(super) fn permissions(survey: &Survey, found: &mut Findings) {
    const CHECK: &str = "permissions";
    let open: Vec<_> = survey
        .entries
        .iter()
        .filter(|entry| is_secret(&entry.shown) && !entry.metadata.is_symlink())
        .filter(|entry| entry.metadata.permissions().mode() & 0o077 != 0)
        .map(|entry| {
            format!(
                "{} ({:04o})",
                entry.shown,
                entry.metadata.permissions().mode() & 0o7777
            )
        })
        .collect();
    if open.is_empty() {
        found.ok(CHECK, "keys and tokens are closed to other users");
    } else {
        let fix = "kairos-chain doctor --fix takes other users' rights away; make a new key with \
                   kairos-chain identity rotate if somebody may have read it";
        found.fail(CHECK, format!("other users may open {}", some(&open)), fix);
    }

    const OWNER: &str = "permissions.owner";
    // Root may write everything, so it is asked about the files it makes for itself.
    let Ok(us) = fs::metadata("/proc/self").map(|process| process.uid()) else {
        return;
    };
    let foreign: Vec<_> = survey
        .entries
        .iter()
        .filter(|entry| entry.metadata.uid() != us)
        .map(|entry| entry.shown.clone())
        .collect();
    if foreign.is_empty() {
        found.ok(OWNER, "everything belongs to this user");
    } else {
        let fix = format!(
            "give them to one user, as with chown -R {us} DIR, and run every command as that user"
        );
        found.warn(OWNER, format!("other users own {}", some(&foreign)), fix);
    }
}

/// Whether what is at `shown`, a path below the data directory, is nobody else's business.
pub(super) fn is_secret(shown: &str) -> bool {
    let public = shown.ends_with(".pub");
    let private =
        shown == "keys" || shown.starts_with("keys/") || shown.starts_with("storage/tls/");
    let mail = shown.starts_with("storage/membership/mail/");
    (private && !public) || mail || shown == "storage/tokens.json" || shown == INBOX
}

/// Whether the disk takes writes, how long they take, how much room there is, and whether its locks mean anything.
pub(super) fn disk(dir: &DataDir, found: &mut Findings) {
    let folder = match dir.storage() {
        storage if storage.is_dir() => storage,
        _ => dir.path().to_owned(),
    };
    match time_syncs(&folder) {
        Ok(longest) if longest > SYNC_SLOW => {
            let fix = "every change waits for the disk; keep the data directory on a local SSD, not on a network or USB disk";
            found.warn(
                "disk.sync",
                format!("a small durable write took {longest:.1?}"),
                fix,
            );
        }
        Ok(longest) => found.ok(
            "disk.sync",
            format!("a small durable write takes {longest:.1?} at most"),
        ),
        Err(error) => {
            let fix =
                "mount the disk writable, free space on it, or give this user the right to write";
            found.fail(
                "disk.sync",
                format!("cannot write to {}: {error}", folder.display()),
                fix,
            );
        }
    }
    if let Ok(space) = rustix::fs::statvfs(&folder) {
        let free = space.f_bavail.saturating_mul(space.f_frsize);
        let told = format!("{} free", ByteSize(free));
        let fix = "free space on the disk; a full one refuses every change, but loses nothing";
        match free {
            free if free < SPACE_OUT => found.fail("disk.space", told, fix),
            free if free < SPACE_LOW => found.warn("disk.space", told, fix),
            _ if space.f_files > 0 && space.f_favail == 0 => {
                found.fail("disk.space", "no inodes free, so no file can be made", fix);
            }
            _ => found.ok("disk.space", told),
        }
    }
    #[cfg(target_os = "linux")]
    if let Ok(disk) = rustix::fs::statfs(&folder) {
        kind(disk.f_type as u64 & 0xffff_ffff, found);
    }
}

/// The longest of a few small durable writes, to a file that has no name and is gone when this returns.
fn time_syncs(folder: &std::path::Path) -> std::io::Result<Duration> {
    let mut file = tempfile::tempfile_in(folder)?;
    let mut longest = Duration::ZERO;
    for _ in 0..SYNCS {
        let begun = Instant::now();
        file.write_all(&[0; SYNC_BYTES])?;
        file.sync_data()?;
        longest = longest.max(begun.elapsed());
    }
    Ok(longest)
}

/// What is known of a file system by its magic number, from `statfs(2)`.
#[cfg(target_os = "linux")]
fn kind(magic: u64, found: &mut Findings) {
    const CHECK: &str = "disk.kind";
    let network = match magic {
        0x6969 => Some("NFS"),
        0x517b => Some("SMB"),
        0xff53_4d42 => Some("CIFS"),
        0xfe53_4d42 => Some("SMB2"),
        0x0102_1997 => Some("9P"),
        0x5346_414f | 0x6b41_4653 => Some("AFS"),
        0x6573_5546 => Some("FUSE"),
        _ => None,
    };
    match (network, magic) {
        (Some(name), _) => {
            let fix = "let only one machine, and one process at a time, use the directory, or move it to a local disk";
            found.warn(
                CHECK,
                format!("on {name}, where locks and durable writes may not mean what they say"),
                fix,
            );
        }
        (None, 0x0102_1994 | 0x8584_58f6) => {
            let fix = "move the data directory to a disk";
            found.warn(
                CHECK,
                "in memory: everything is lost when the machine restarts",
                fix,
            );
        }
        (None, 0x794c_7630) => {
            let fix = "in a container, mount a volume for the data directory";
            found.warn(
                CHECK,
                "on an overlay: what a container writes there goes away with it",
                fix,
            );
        }
        (None, _) => found.ok(CHECK, "on a local disk"),
    }
}
