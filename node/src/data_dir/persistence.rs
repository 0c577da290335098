//! Whether a data directory outlives the container that the program runs in.
//!
//! A container's own file system goes away with it, and what lies in memory goes away with the machine. Both look like
//! any other directory, so that a missing volume is noticed when the agent is gone. `/proc/self/mountinfo` tells.

use std::io;
use std::path::{Path, PathBuf};

use super::DataDir;

/// What is mounted where, as this process sees it.
const MOUNTS: &str = "/proc/self/mountinfo";
/// File systems that keep their files in memory.
const IN_MEMORY: [&str; 2] = ["tmpfs", "ramfs"];

/// Why the data directory would be lost.
#[derive(Debug, thiserror::Error)]
pub enum Fleeting {
    /// Nothing is mounted there.
    #[error(
        "{} is part of the container's own file system ({kind}) and would be lost with the container; \
         mount a volume there or above, such as -v kairos-data:{}, or set storage.must_persist to false", .path.display(), above(.path).display()
    )]
    Root {
        /// The data directory.
        path: PathBuf,
        /// The kind of file system.
        kind: String,
    },
    /// It is in memory.
    #[error(
        "{} is in memory ({kind} at {mount}) and would be lost when the machine stops; \
         mount a volume there that is on a disk, or set storage.must_persist to false", .path.display()
    )]
    Memory {
        /// The data directory.
        path: PathBuf,
        /// The kind of file system.
        kind: String,
        /// Where it is mounted.
        mount: String,
    },
    /// It cannot be found out.
    #[error(
        "cannot tell whether {} would be kept: {error}; set storage.must_persist to false if you know that it is", .path.display()
    )]
    Unknown {
        /// The data directory.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// Where a volume is best mounted: above the directory, so that a restore can put another one in its place.
fn above(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("/") => parent,
        _ => path,
    }
}

/// One line of the table of mounts.
#[derive(Debug, PartialEq, Eq)]
struct Mount {
    at: PathBuf,
    kind: String,
}

impl DataDir {
    /// Checks that the directory lies on a mount of its own that is on a disk.
    ///
    /// # Errors
    ///
    /// Tells what it lies on instead.
    pub fn must_persist(&self) -> Result<(), Fleeting> {
        let unknown = |error| Fleeting::Unknown {
            path: self.path().to_owned(),
            error,
        };
        let table = std::fs::read_to_string(MOUNTS).map_err(unknown)?;
        judge(&real(self.path()), &table, self.path())
            .unwrap_or_else(|| Err(unknown(io::Error::other(format!("{MOUNTS} does not say")))))
    }
}

/// `path` with its links followed, as far as it exists.
fn real(path: &Path) -> PathBuf {
    let known = path.ancestors().find_map(|above| {
        let rest = path.strip_prefix(above).ok()?;
        Some(above.canonicalize().ok()?.join(rest))
    });
    known.unwrap_or_else(|| path.to_owned())
}

/// What `table` says of `path`, which errors call `shown`; nothing if it has no line for it.
fn judge(path: &Path, table: &str, shown: &Path) -> Option<Result<(), Fleeting>> {
    // Of two mounts at one place the later one is seen.
    let mount = table
        .lines()
        .filter_map(mount)
        .filter(|mount| path.starts_with(&mount.at))
        .reduce(|found, next| {
            let (one, other) = (found.at.components().count(), next.at.components().count());
            if other >= one { next } else { found }
        })?;
    let (path, kind) = (shown.to_owned(), mount.kind);
    Some(if IN_MEMORY.contains(&kind.as_str()) {
        let mount = mount.at.display().to_string();
        Err(Fleeting::Memory { path, kind, mount })
    } else if mount.at == Path::new("/") {
        Err(Fleeting::Root { path, kind })
    } else {
        Ok(())
    })
}

/// Reads `36 35 98:0 /root /mount/point options optional - kind source options`.
fn mount(line: &str) -> Option<Mount> {
    let (before, after) = line.split_once(" - ")?;
    Some(Mount {
        at: unescaped(before.split(' ').nth(4)?).into(),
        kind: after.split(' ').next()?.to_owned(),
    })
}

/// The kernel writes spaces and the like as a backslash with three octal digits.
fn unescaped(text: &str) -> String {
    let mut parts = text.split('\\');
    let mut whole = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let code = part
            .get(..3)
            .and_then(|code| u8::from_str_radix(code, 8).ok());
        match (code, part.get(3..)) {
            (Some(code), Some(rest)) if code.is_ascii() => {
                whole.push(char::from(code));
                whole.push_str(rest);
            }
            _ => {
                whole.push('\\');
                whole.push_str(part);
            }
        }
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
576 463 0:52 / / ro,relatime - overlay overlay rw,lowerdir=/l,upperdir=/u
577 576 0:55 / /proc rw,nosuid - proc proc rw
578 576 254:0 /docker/volumes/x/_data /data rw,relatime master:1 - ext4 /dev/vda rw
579 576 0:60 / /run rw - tmpfs tmpfs rw
580 576 254:0 /v /my\\040agent rw - ext4 /dev/vda rw
581 578 0:61 / /data/fast rw - tmpfs tmpfs rw
";

    fn told(path: &str) -> String {
        let path = Path::new(path);
        match judge(path, TABLE, path) {
            Some(Ok(())) => "kept".to_owned(),
            Some(Err(error)) => error.to_string(),
            None => "unknown".to_owned(),
        }
    }

    #[test]
    fn only_a_mount_on_a_disk_keeps_a_directory() {
        assert_eq!(told("/data"), "kept");
        assert_eq!(told("/data/agent"), "kept");
        assert_eq!(told("/my agent/.kairos"), "kept");
        for lost in ["/home/.kairos", "/database", "/"] {
            assert!(
                told(lost).starts_with(&format!("{lost} is part of the container's own")),
                "{}",
                told(lost)
            );
        }
        for lost in ["/run/agent", "/data/fast/agent"] {
            assert!(
                told(lost).contains("is in memory (tmpfs at /"),
                "{}",
                told(lost)
            );
        }
    }

    #[test]
    fn a_table_that_says_nothing_is_not_taken_for_good_news() {
        for table in [
            "",
            "nonsense",
            "1 2 3 - ext4",
            "576 463 0:52 / /else rw - ext4 d rw",
        ] {
            assert!(judge(Path::new("/data"), table, Path::new("/data")).is_none());
        }
    }

    #[test]
    fn escapes_of_the_kernel_are_undone_and_others_left() {
        assert_eq!(unescaped("/a\\040b\\134c"), "/a b\\c");
        assert_eq!(unescaped("/a\\9z"), "/a\\9z");
        assert_eq!(unescaped("/a\\"), "/a\\");
    }
}
