//! The key of the libp2p node on disk: a seed in hex beside the identity key, made once, when a node is first wanted.

use std::io;
use std::path::{Path, PathBuf};

use fs_err as fs;
use fs_err::PathExt as _;
use kairos_protocol::crypto::KeyError;
use kairos_protocol::record::PeerKey;
use thiserror::Error;
use zeroize::Zeroizing;

use super::create;

/// The file, with mode 0600.
const FILE: &str = "p2p.key";

/// Why there is no key for the node.
#[derive(Debug, Error)]
pub enum PeerKeyError {
    /// The file could not be read or written.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The file holds something else.
    #[error("{} holds no key; restore it from a backup, or move it away to get a new one", .0.display())]
    Damaged(PathBuf),
    /// The cryptographic library failed.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// Loads the key from the folder `keys`, or makes it. One that is damaged is never replaced.
pub fn load_or_create(keys: &Path) -> Result<PeerKey, PeerKeyError> {
    let path = keys.join(FILE);
    if !path.fs_err_try_exists()? {
        let fresh = Zeroizing::new(hex::encode(PeerKey::generate()?.seed()));
        create(keys, FILE, fresh.as_bytes())?;
    }
    // What is on disk counts: another process may have been first.
    let text = Zeroizing::new(fs::read(&path)?);
    let mut seed = Zeroizing::new([0; 32]);
    let read = hex::decode_to_slice(text.trim_ascii(), &mut *seed);
    read.map_err(|_| PeerKeyError::Damaged(path))?;
    Ok(PeerKey::from_seed(*seed)?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_key_is_made_once_and_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let first = load_or_create(folder.path()).unwrap();
        let second = load_or_create(folder.path()).unwrap();
        assert_eq!(first.public(), second.public());
        let path = folder.path().join(FILE);
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::write(&path, "damaged").unwrap();
        let refused = load_or_create(folder.path());
        assert!(matches!(refused, Err(PeerKeyError::Damaged(_))));
        assert_eq!(fs::read_to_string(&path).unwrap(), "damaged");
    }
}
