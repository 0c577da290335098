//! Where a server answers, and how commands get there: a port, or a socket that only the owner of the files can open.

use std::fmt;
use std::fs::{self, File, Permissions};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use serde::{Serialize, Serializer};

use super::{OWNER, folder};
use crate::data_dir::DataDir;

/// Longest path that the system takes for a socket, in bytes.
const PATH_MAX: usize = 107;

/// Where a server can be reached from this machine.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum ServerAt {
    /// Over HTTP.
    Port(SocketAddr),
    /// At a socket, for its owner only.
    Socket(PathBuf),
}

impl ServerAt {
    /// Its address as people write it.
    pub fn url(&self) -> String {
        match self {
            Self::Port(address) => format!("http://{address}"),
            Self::Socket(_) => self.to_string(),
        }
    }
}

impl fmt::Display for ServerAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port(address) => address.fmt(f),
            Self::Socket(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Serialize for ServerAt {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Where a node answers.
#[derive(Debug)]
pub enum Listener {
    /// Everybody who reaches a port, each behind their doors.
    Port(TcpListener),
    /// Nobody but the owner.
    Owner(OwnerSocket),
}

impl Listener {
    /// Where that is.
    pub fn at(&self) -> io::Result<ServerAt> {
        Ok(match self {
            Self::Port(listener) => ServerAt::Port(listener.local_addr()?),
            Self::Owner(socket) => ServerAt::Socket(socket.path.clone()),
        })
    }
}

impl From<TcpListener> for Listener {
    fn from(listener: TcpListener) -> Self {
        Self::Port(listener)
    }
}

/// A socket in a data directory, which whoever may not write there cannot open. It takes the place of one that was left
/// behind, so its server must be the only one of the directory.
#[derive(Debug)]
pub struct OwnerSocket {
    pub(crate) listener: UnixListener,
    path: PathBuf,
}

impl OwnerSocket {
    /// Begins to listen. Blocks on the disk.
    pub fn of(dir: &DataDir) -> io::Result<Self> {
        let folder = folder(dir);
        fs::create_dir_all(&folder)?;
        let path = folder.join(OWNER);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = by_short_path(&path, UnixListener::bind)?;
        // Whoever came in between has no token yet, and needs one.
        fs::set_permissions(&path, Permissions::from_mode(0o600))?;
        Ok(Self { listener, path })
    }
}

/// Opens a connection to the server behind the socket at `path`.
pub(crate) fn connect(path: &Path) -> io::Result<UnixStream> {
    by_short_path(path, UnixStream::connect)
}

/// Has `work` done with a path that is not too long for a socket: where it is, by way of its folder, held open.
fn by_short_path<T>(path: &Path, work: impl FnOnce(PathBuf) -> io::Result<T>) -> io::Result<T> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    if path.as_os_str().len() <= PATH_MAX {
        return work(path.to_owned());
    }
    let folder = File::open(folder)?;
    work(
        Path::new("/proc/self/fd")
            .join(folder.as_raw_fd().to_string())
            .join(name),
    )
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::*;
    use crate::data_dir::Surroundings;

    #[test]
    fn a_socket_is_reached_however_long_its_path_is_and_by_its_owner_only() {
        let root = tempfile::tempdir().unwrap();
        for long in [
            "",
            "a-name-of-forty-characters-for-a-folder/another-name-of-fifty-characters-for-a-folder-in-it",
        ] {
            let dir = DataDir::resolve(Some(&root.path().join(long)), &Surroundings::default());
            drop(OwnerSocket::of(&dir).unwrap());
            // One that was left behind is no hindrance.
            let socket = OwnerSocket::of(&dir).unwrap();
            let mode = fs::metadata(&socket.path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
            let mut client = connect(&socket.path).unwrap();
            client.write_all(b"x").unwrap();
            let mut told = [0];
            socket
                .listener
                .accept()
                .unwrap()
                .0
                .read_exact(&mut told)
                .unwrap();
            assert_eq!(&told, b"x");
        }
    }
}
