//! Who holds the lock on a file, as far as this system tells.
//!
//! Linux lists locks by process in `/proc/locks`; elsewhere, and for locks held from another machine or container,
//! all that can be said is that somebody does.

use std::fmt;
use std::fs::{self, File, TryLockError};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use serde::Serialize;

/// Most bytes read of the list of locks.
const LIST_MAX: u64 = 4 * 1024 * 1024;
/// Most characters of a command that are shown.
const COMMAND_MAX: usize = 120;

/// A process that holds a lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Holder {
    /// Its id.
    pub pid: u32,
    /// Its command line, shortened; absent where the system does not show it.
    pub command: Option<String>,
    /// What it is doing.
    pub condition: Condition,
    /// Whether it keeps everyone else out, or only those who want that too.
    pub exclusive: bool,
}

/// Whether a process can let go of its locks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Condition {
    /// It runs.
    Running,
    /// It was stopped by a signal or a debugger.
    Stopped,
    /// It has ended; a child of it still has the file open.
    Gone,
}

/// The state of a lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase", tag = "state", content = "holders")]
pub enum Holding {
    /// Nobody holds it.
    Free,
    /// These do.
    By(Vec<Holder>),
    /// Somebody does whom this system does not show.
    Unseen,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {}", self.pid)?;
        if let Some(command) = &self.command {
            write!(f, " ({command})")?;
        }
        match self.condition {
            Condition::Running => Ok(()),
            Condition::Stopped => f.write_str(", which is stopped"),
            Condition::Gone => f.write_str(", which has ended and left a child behind"),
        }
    }
}

impl fmt::Display for Holding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Free => f.write_str("nobody"),
            Self::Unseen => {
                f.write_str("a process that cannot be seen from here, as in another container")
            }
            Self::By(holders) => {
                let names: Vec<_> = holders.iter().map(ToString::to_string).collect();
                f.write_str(&names.join(" and "))
            }
        }
    }
}

/// Who holds the lock on the file at `path`. Nobody, if there is no such file.
pub fn of(path: &Path) -> Holding {
    let Ok(file) = File::open(path) else {
        return Holding::Free;
    };
    let listed = file
        .metadata()
        .map(|file| listed(&list(), file.dev(), file.ino()));
    match listed {
        Ok(holders) if !holders.is_empty() => Holding::By(holders),
        // File systems over others list a different device, and other machines and containers are not listed.
        _ => match file.try_lock() {
            Err(TryLockError::WouldBlock) => Holding::Unseen,
            Ok(()) | Err(TryLockError::Error(_)) => Holding::Free,
        },
    }
}

fn list() -> String {
    let mut text = String::new();
    if let Ok(file) = File::open("/proc/locks") {
        // What was read until an error still counts.
        let _ = file.take(LIST_MAX).read_to_string(&mut text);
    }
    text
}

/// The holders among the lines of `/proc/locks`, such as `7: FLOCK  ADVISORY  WRITE 812 08:01:1835 0 EOF`.
fn listed(text: &str, dev: u64, inode: u64) -> Vec<Holder> {
    let device = (rustix::fs::major(dev), rustix::fs::minor(dev));
    let holders = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        // Those who wait are marked with an arrow.
        let kind = words.next().filter(|kind| *kind != "->")?;
        let exclusive = words.nth(1)? == "WRITE";
        let pid = words.next()?.parse().ok()?;
        let mut place = words.next()?.split(':');
        let major = u32::from_str_radix(place.next()?, 16).ok()?;
        let minor = u32::from_str_radix(place.next()?, 16).ok()?;
        let ours = (major, minor) == device && place.next()?.parse() == Ok(inode);
        (ours && kind == "FLOCK").then(|| holder(pid, exclusive))
    });
    let mut holders: Vec<_> = holders.collect();
    holders.sort_by_key(|holder| holder.pid);
    holders.dedup_by_key(|holder| holder.pid);
    holders
}

fn holder(pid: u32, exclusive: bool) -> Holder {
    let folder = Path::new("/proc").join(pid.to_string());
    let command = fs::read(folder.join("cmdline")).ok().map(|line| {
        let line = String::from_utf8_lossy(&line);
        let words: Vec<_> = line.split('\0').filter(|word| !word.is_empty()).collect();
        words.join(" ").chars().take(COMMAND_MAX).collect()
    });
    let condition = match fs::read_to_string(folder.join("stat")) {
        // The state follows the name, which stands in parentheses and may hold any others.
        Ok(stat) => match stat.rsplit_once(") ").map(|(_, rest)| rest.chars().next()) {
            Some(Some('T' | 't')) => Condition::Stopped,
            Some(Some('Z' | 'X')) => Condition::Gone,
            _ => Condition::Running,
        },
        Err(_) => Condition::Gone,
    };
    Holder {
        pid,
        command,
        condition,
        exclusive,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_of_a_lock_is_named_until_it_lets_go() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        assert_eq!(of(&path), Holding::Free);
        let file = File::create(&path).unwrap();
        assert_eq!(of(&path), Holding::Free);
        file.lock().unwrap();
        let Holding::By(holders) = of(&path) else {
            panic!("somebody holds it");
        };
        assert_eq!(holders.len(), 1);
        assert_eq!(holders[0].pid, std::process::id());
        assert_eq!(holders[0].condition, Condition::Running);
        assert!(holders[0].exclusive && holders[0].command.is_some());
        file.unlock().unwrap();
        assert_eq!(of(&path), Holding::Free);
    }

    #[test]
    fn only_flocks_on_the_same_file_count_and_nobody_who_waits() {
        let me = std::process::id();
        let text = format!(
            "1: FLOCK  ADVISORY  READ {me} 08:01:77 0 EOF\n1: -> FLOCK  ADVISORY  WRITE 2 08:01:77 0 EOF\n\
             2: POSIX  ADVISORY  WRITE 3 08:01:77 0 EOF\n3: FLOCK  ADVISORY  WRITE 4 08:01:78 0 EOF\nnonsense\n"
        );
        let found = listed(&text, rustix::fs::makedev(8, 1), 77);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].pid, found[0].exclusive), (me, false));
        assert_eq!(listed(&text, rustix::fs::makedev(8, 2), 77), []);
    }
}
