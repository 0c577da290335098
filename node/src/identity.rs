//! The node's key and id on disk.
//!
//! The key is made once, appears whole with mode 0600, and is never overwritten. The id is the start of the key's
//! hash; it is stored beside the key because it outlives it.

use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use fs_err as fs;
use kairos_protocol::crypto::{KeyError, Keypair};
use kairos_protocol::id::{AgentId, IdError};
use thiserror::Error;

/// Private key, where the reference keeps it.
const KEY_FILE: &str = "mmp_keypair.pem";
/// Public key, where the reference keeps it.
const PUBLIC_FILE: &str = "mmp_keypair.pem.pub";
/// The id of this agent.
const ID_FILE: &str = "instance_id";

/// Why there is no identity.
#[derive(Debug, Error)]
pub enum IdentityError {
    /// A file could not be read or written.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The key file holds no usable key.
    #[error("{} holds no usable RSA key: {source}; restore it from a backup, or move it away to get a new identity", .path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// Why.
        source: KeyError,
    },
    /// The id file holds no id.
    #[error("{} holds no agent id: {source}; delete it to derive the id from the key", .path.display())]
    Id {
        /// The file.
        path: PathBuf,
        /// Why.
        source: IdError,
    },
}

/// Loads the key and the id from the folder `keys`, or makes them.
pub fn load_or_create(keys: &Path) -> Result<(Keypair, AgentId), IdentityError> {
    let path = keys.join(KEY_FILE);
    let unusable = |source| IdentityError::Key {
        path: path.clone(),
        source,
    };
    let pem = match fs::read_to_string(&path) {
        Ok(pem) => pem,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            fs::create_dir_all(keys)?;
            let fresh = Keypair::generate().map_err(unusable)?;
            create(keys, KEY_FILE, fresh.to_pem().map_err(unusable)?.as_bytes())?;
            // Another process may have been first; what is on disk counts.
            fs::read_to_string(&path)?
        }
        Err(error) => return Err(error.into()),
    };
    let keypair = Keypair::from_pem(&pem).map_err(unusable)?;
    create(keys, PUBLIC_FILE, keypair.public().to_pem().as_bytes())?;
    create(
        keys,
        ID_FILE,
        keypair.public().agent_id().as_str().as_bytes(),
    )?;
    let path = keys.join(ID_FILE);
    let id = fs::read_to_string(&path)?.trim().parse();
    Ok((
        keypair,
        id.map_err(|source| IdentityError::Id { path, source })?,
    ))
}

/// Makes a file with mode 0600, whole or not at all; an existing one stays as it is.
fn create(folder: &Path, name: &str, content: &[u8]) -> io::Result<()> {
    if folder.join(name).try_exists()? {
        return Ok(());
    }
    // Temporary files are made with mode 0600.
    let mut file = tempfile::Builder::new()
        .prefix(".new")
        .tempfile_in(folder)?;
    file.write_all(content)?;
    file.as_file().sync_all()?;
    match file.persist_noclobber(folder.join(name)) {
        Ok(_) => fs::File::open(folder)?.sync_all(),
        Err(error) if error.error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error.error),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_identity_is_made_once_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let (first, id) = load_or_create(folder.path()).unwrap();
        let (second, again) = load_or_create(folder.path()).unwrap();
        assert_eq!((first.public(), &id), (second.public(), &again));
        assert_eq!(id, first.public().agent_id());
        let mode = fs::metadata(folder.path().join(KEY_FILE))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn the_id_outlives_the_key_and_a_damaged_key_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let (_, id) = load_or_create(folder.path()).unwrap();
        fs::write(
            folder.path().join(KEY_FILE),
            Keypair::generate().unwrap().to_pem().unwrap(),
        )
        .unwrap();
        assert_eq!(load_or_create(folder.path()).unwrap().1, id);
        fs::write(folder.path().join(KEY_FILE), "damaged").unwrap();
        let error = load_or_create(folder.path()).unwrap_err();
        assert!(
            error.to_string().contains("holds no usable RSA key"),
            "{error}"
        );
        assert_eq!(
            fs::read_to_string(folder.path().join(KEY_FILE)).unwrap(),
            "damaged"
        );
    }
}
