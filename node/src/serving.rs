//! Where servers of a data directory listen, for commands on the same machine.
//!
//! Each server has a file below `storage/serving/`, named after its port, and holds a lock on it for as long as it
//! runs: a file without a lock was left behind by one that was killed, and whoever comes by removes it. So nothing is
//! ever asked of another program that took the port since. A server without a port listens at a socket there instead.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::data_dir::DataDir;
use crate::data_dir::holders::{self, Holding};

pub(crate) mod at;

pub use at::{Listener, OwnerSocket, ServerAt};

/// Where the files are, below the data directory. Nothing there is part of the agent.
pub(crate) const FOLDER: &str = "storage/serving";
/// Longest file that is read; ours have a few dozen bytes.
const FILE_MAX: u64 = 4 * 1024;
/// How often a file that somebody removes at the same moment is made anew.
const ATTEMPTS: usize = 16;
/// Most files that are looked at.
const SERVERS_MAX: usize = 1_000;

/// The lock of the one server that a data directory may have, in [`FOLDER`].
const SOLE: &str = "server";
/// The socket of a server without a port, in [`FOLDER`].
const OWNER: &str = "owner.sock";
/// The file that tells of a server without a port.
const WITHOUT_PORT: &str = "owner";

/// The right to be the server of a data directory; ends when dropped.
#[derive(Debug)]
pub struct Sole {
    _lock: File,
}

/// Why there is no other server.
#[derive(Debug, thiserror::Error)]
pub enum NotSole {
    /// There is one.
    #[error(
        "{} is served by {by}; stop that server first, or serve another data directory with --data-dir", path.display()
    )]
    Taken {
        /// The data directory.
        path: PathBuf,
        /// Who serves it.
        by: Holding,
    },
    /// The lock cannot be taken.
    #[error("the lock of the server cannot be taken: {0}")]
    Io(#[from] io::Error),
}

impl Sole {
    /// Becomes the one server of `dir`, at once or not at all: two of them would live at the same Places and keep
    /// sessions and limits that know nothing of each other. Blocks on the disk.
    ///
    /// # Errors
    ///
    /// [`NotSole::Taken`] names the process that serves it.
    pub fn of(dir: &DataDir) -> Result<Self, NotSole> {
        let folder = folder(dir);
        fs::create_dir_all(&folder)?;
        let path = folder.join(SOLE);
        let mut options = OpenOptions::new();
        let options = options.create(true).truncate(false).write(true);
        // Never deleted: whoever came late would lock another file than those before.
        let lock = options.mode(0o600).open(&path)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(NotSole::Taken {
                path: dir.path().to_owned(),
                by: holders::of(&path),
            }),
            Err(TryLockError::Error(error)) => Err(error.into()),
        }
    }

    /// Who serves `dir` at this moment.
    pub fn holder(dir: &DataDir) -> Holding {
        holders::of(&folder(dir).join(SOLE))
    }
}

/// What a server says of itself.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Told {
    /// Where it listens.
    Address(SocketAddr),
    /// That it listens at its socket.
    Socket {},
}

/// Says where this server listens until it is dropped.
#[derive(Debug)]
pub struct Serving {
    path: PathBuf,
    file: File,
    /// Where it listens, if that is no port.
    socket: Option<PathBuf>,
}

impl Serving {
    /// Says that a server of `dir` listens at `at`. Blocks on the disk.
    pub fn announce(dir: &DataDir, at: &ServerAt) -> io::Result<Self> {
        let folder = folder(dir);
        fs::create_dir_all(&folder)?;
        let (name, told) = match at {
            ServerAt::Port(address) => (address.port().to_string(), Told::Address(*address)),
            ServerAt::Socket(_) => (WITHOUT_PORT.to_owned(), Told::Socket {}),
        };
        let path = folder.join(name);
        for _ in 0..ATTEMPTS {
            let mut options = OpenOptions::new();
            let options = options.create(true).truncate(false).write(true);
            let mut file = options.mode(0o600).open(&path)?;
            match file.try_lock() {
                Ok(()) => {}
                // Somebody looks whether it was left behind, or another address has a server on this port.
                Err(TryLockError::WouldBlock) => {
                    std::thread::park_timeout(std::time::Duration::from_millis(20));
                    continue;
                }
                Err(TryLockError::Error(error)) => return Err(error),
            }
            if !is_at(&file, &path)? {
                continue;
            }
            file.set_len(0)?;
            file.write_all(serde_json::to_string(&told)?.as_bytes())?;
            let socket = match at {
                ServerAt::Port(_) => None,
                ServerAt::Socket(path) => Some(path.clone()),
            };
            return Ok(Self { path, file, socket });
        }
        Err(io::ErrorKind::WouldBlock.into())
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // While it is locked nobody else takes it for theirs. What stays is removed by whoever comes by.
        if !is_at(&self.file, &self.path).unwrap_or(false) {
            return;
        }
        let socket = self.socket.iter();
        for path in socket.chain([&self.path]) {
            if let Err(error) = fs::remove_file(path) {
                tracing::debug!(%error, "what tells of this server stays");
            }
        }
    }
}

/// Where servers of `dir` that run at this moment can be reached from this machine. Blocks on the disk.
pub fn servers(dir: &DataDir) -> io::Result<Vec<ServerAt>> {
    let folder = folder(dir);
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for entry in entries.take(SERVERS_MAX) {
        let entry = entry?;
        if ![SOLE, OWNER]
            .iter()
            .any(|other| entry.file_name() == *other)
            && let Some(told) = look(&entry.path())?
        {
            found.push(match told {
                Told::Address(address) => ServerAt::Port(reachable(address)),
                Told::Socket {} => ServerAt::Socket(folder.join(OWNER)),
            });
        }
    }
    found.sort();
    Ok(found)
}

fn folder(dir: &DataDir) -> PathBuf {
    dir.path().join(FOLDER)
}

/// What the server behind this file says; nothing, and no file any more, if there is none.
fn look(path: &Path) -> io::Result<Option<Told>> {
    let file = match OpenOptions::new().read(true).write(true).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    match file.try_lock() {
        Ok(()) => {
            if is_at(&file, path)? {
                fs::remove_file(path)?;
            }
            Ok(None)
        }
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            file.take(FILE_MAX).read_to_string(&mut text)?;
            // One that is being written belongs to a server that does not answer yet.
            Ok(serde_json::from_str(&text).ok())
        }
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Whether `path` still leads to `file`.
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    match fs::metadata(path) {
        Ok(there) => {
            let held = file.metadata()?;
            Ok((held.dev(), held.ino()) == (there.dev(), there.ino()))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Who listens everywhere is asked at home.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(v4) if v4.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(v6) if v6.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data_dir::Surroundings;

    fn dir() -> (tempfile::TempDir, DataDir) {
        let root = tempfile::tempdir().unwrap();
        let dir = DataDir::resolve(Some(root.path()), &Surroundings::default());
        (root, dir)
    }

    fn port(address: &str) -> ServerAt {
        ServerAt::Port(address.parse().unwrap())
    }

    #[test]
    fn a_server_is_found_while_it_runs_and_leaves_nothing_behind() {
        let (_root, dir) = dir();
        assert_eq!(servers(&dir).unwrap(), []);
        let first = Serving::announce(&dir, &port("0.0.0.0:4001")).unwrap();
        let second = Serving::announce(&dir, &port("[::1]:4002")).unwrap();
        let found = servers(&dir).unwrap();
        assert_eq!(found, [port("127.0.0.1:4001"), port("[::1]:4002")]);
        drop(first);
        assert_eq!(servers(&dir).unwrap(), [port("[::1]:4002")]);
        drop(second);
        assert_eq!(fs::read_dir(folder(&dir)).unwrap().count(), 0);
    }

    #[test]
    fn a_server_without_a_port_is_found_at_its_socket() {
        let (_root, dir) = dir();
        let socket = Listener::Owner(OwnerSocket::of(&dir).unwrap());
        let at = socket.at().unwrap();
        assert_eq!(servers(&dir).unwrap(), []);
        let serving = Serving::announce(&dir, &at).unwrap();
        assert_eq!(servers(&dir).unwrap(), [at]);
        drop(serving);
        assert_eq!(fs::read_dir(folder(&dir)).unwrap().count(), 0);
    }

    #[test]
    fn a_directory_has_one_server_and_another_one_is_told_which() {
        let (_root, dir) = dir();
        assert_eq!(Sole::holder(&dir), Holding::Free);
        let sole = Sole::of(&dir).unwrap();
        let refused = Sole::of(&dir).unwrap_err().to_string();
        let ours = format!("is served by process {} (", std::process::id());
        assert!(refused.contains(&ours), "{refused}");
        assert_eq!(servers(&dir).unwrap(), []);
        drop(sole);
        Sole::of(&dir).unwrap();
    }

    #[test]
    fn what_a_killed_server_left_is_not_believed() {
        let (_root, dir) = dir();
        fs::create_dir_all(folder(&dir)).unwrap();
        let left = folder(&dir).join("4001");
        fs::write(&left, "{\"address\":\"127.0.0.1:4001\"}").unwrap();
        assert_eq!(servers(&dir).unwrap(), []);
        assert!(!left.exists());
        fs::write(&left, "junk").unwrap();
        let serving = Serving::announce(&dir, &port("127.0.0.1:4001")).unwrap();
        assert_eq!(servers(&dir).unwrap(), [port("127.0.0.1:4001")]);
        drop(serving);
        assert!(!left.exists());
    }
}
