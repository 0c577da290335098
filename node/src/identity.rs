//! The node's key and id on disk.
//!
//! The key is made once, appears whole with mode 0600, and is never overwritten. The id is the start of the key's
//! hash; it is stored beside the key because it outlives it.

pub mod log_keys;
pub mod peer_key;

use std::fs::DirBuilder;
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use fs_err as fs;
use fs_err::PathExt as _;
use fs_err::os::unix::fs::OpenOptionsExt as _;
use kairos_actors::durable;
use kairos_actors::passing::{FRESH, LOCK};
use kairos_protocol::crypto::{KeyError, Keypair};
use kairos_protocol::id::{AgentId, IdError};
use kairos_protocol::time::Timestamp;
use kairos_protocol::wire::rotation::{ROTATIONS_MAX, Rotation, leads};
use thiserror::Error;

/// Private key, where the reference keeps it.
const KEY_FILE: &str = "mmp_keypair.pem";
/// Public key, where the reference keeps it.
const PUBLIC_FILE: &str = "mmp_keypair.pem.pub";
/// The id of this agent.
const ID_FILE: &str = "instance_id";

/// Statements that led from earlier keys to the current one.
const ROTATIONS_FILE: &str = "rotations.json";
/// The key that is about to take the place of the current one.
const NEXT_FILE: &str = "mmp_keypair.pem.next";

/// The key of this agent, its id, and how it came to the key.
#[derive(Debug)]
pub struct Loaded {
    /// The key.
    pub keypair: Keypair,
    /// The id.
    pub instance_id: AgentId,
    /// Oldest first.
    pub rotations: Vec<Rotation>,
}

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
    /// The file of statements cannot be read.
    #[error("{} is not readable: {source}; restore it from a backup, or delete it and tell your peers", .path.display())]
    Rotations {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
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

/// What is in a folder of keys, whether or not it belongs together.
#[derive(Debug)]
pub struct Findings {
    /// The key, and the id it is used with.
    pub loaded: Loaded,
    /// Whether the public key file is that of the private key, or absent.
    pub public_matches: bool,
    /// Whether the id comes from the key, or from one that led to it.
    pub id_is_derived: bool,
    /// Whether a rotation was cut short.
    pub interrupted: bool,
}

/// Looks at the folder `keys` without making or changing anything; nothing if there is no key.
pub fn inspect(keys: &Path) -> Result<Option<Findings>, IdentityError> {
    let Some(pem) = optional(&keys.join(KEY_FILE))? else {
        return Ok(None);
    };
    let path = keys.join(KEY_FILE);
    let keypair = Keypair::from_pem(&pem).map_err(|source| IdentityError::Key { path, source })?;
    let own = keypair.public().agent_id();
    let path = keys.join(ID_FILE);
    let instance_id = match optional(&path)? {
        Some(text) => match text.trim().parse() {
            Ok(id) => id,
            Err(source) => return Err(IdentityError::Id { path, source }),
        },
        None => own.clone(),
    };
    let rotations = rotations(keys)?;
    let public = optional(&keys.join(PUBLIC_FILE))?;
    // Once there are as many statements as are kept, those from the first key on are gone.
    let first = rotations.first().map(|first| &first.old_key);
    let id_is_derived = own == instance_id
        || rotations.len() >= ROTATIONS_MAX
        || first.is_some_and(|first| {
            first.agent_id() == instance_id
                && leads(&rotations, &instance_id, first, keypair.public())
        });
    Ok(Some(Findings {
        public_matches: public.is_none_or(|text| text == keypair.public().to_pem()),
        id_is_derived,
        interrupted: keys.join(NEXT_FILE).fs_err_try_exists()?,
        loaded: Loaded {
            keypair,
            instance_id,
            rotations,
        },
    }))
}

fn optional(path: &Path) -> io::Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Loads the key and the id from the folder `keys`, or makes them.
pub fn load_or_create(keys: &Path) -> Result<Loaded, IdentityError> {
    if keys.join(NEXT_FILE).fs_err_try_exists()? {
        let _lock = lock(keys)?;
        finish_rotation(keys)?;
    }
    load(keys)
}

/// Keeps others from taking a change under way for one that was cut short.
fn lock(keys: &Path) -> io::Result<fs::File> {
    let file = fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(keys.join(LOCK))?;
    file.file().lock()?;
    Ok(file)
}

/// Makes the folder for the owner alone, as `init` does: a directory of the Ruby system may have none before it is
/// opened here.
fn make_folder(keys: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(keys)
}

fn load(keys: &Path) -> Result<Loaded, IdentityError> {
    let path = keys.join(KEY_FILE);
    let unusable = |source| IdentityError::Key {
        path: path.clone(),
        source,
    };
    let pem = match fs::read_to_string(&path) {
        Ok(pem) => pem,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            make_folder(keys)?;
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
    Ok(Loaded {
        keypair,
        instance_id: id.map_err(|source| IdentityError::Id { path, source })?,
        rotations: rotations(keys)?,
    })
}

/// Makes a new key that the old one signs over, and returns the identity with it.
///
/// The statement is on disk before the key is replaced; a crash in between is finished by the next load. Peers that
/// know the old key follow the statement when they hear from this agent.
pub fn rotate(keys: &Path, now: Timestamp) -> Result<Loaded, IdentityError> {
    load_or_create(keys)?;
    let _lock = lock(keys)?;
    finish_rotation(keys)?;
    let current = load(keys)?;
    let unusable = |source| IdentityError::Key {
        path: keys.join(KEY_FILE),
        source,
    };
    let fresh = Keypair::generate().map_err(unusable)?;
    let statement = Rotation::sign(&current.keypair, fresh.public(), &current.instance_id, now);
    let mut rotations = current.rotations;
    rotations.push(statement.map_err(unusable)?);
    let surplus = rotations.len().saturating_sub(ROTATIONS_MAX);
    rotations.drain(..surplus);
    let pem = fresh.to_pem().map_err(unusable)?;
    durable::replace(&keys.join(NEXT_FILE), pem.as_bytes())?;
    let text = serde_json::to_vec_pretty(&rotations).map_err(io::Error::from)?;
    durable::replace(&keys.join(ROTATIONS_FILE), &text)?;
    finish_rotation(keys)?;
    load(keys)
}

fn rotations(keys: &Path) -> Result<Vec<Rotation>, IdentityError> {
    let path = keys.join(ROTATIONS_FILE);
    match fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map_err(|source| IdentityError::Rotations { path, source }),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

/// Puts the next key in its place if the last statement names it; else the rotation never happened. Only for the
/// holder of the lock.
fn finish_rotation(keys: &Path) -> Result<(), IdentityError> {
    let path = keys.join(NEXT_FILE);
    let pem = match fs::read_to_string(&path) {
        Ok(pem) => pem,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let next = Keypair::from_pem(&pem).ok();
    let named = rotations(keys)?.pop().map(|last| last.new_key);
    match next.filter(|next| Some(next.public()) == named.as_ref()) {
        Some(next) => {
            let pem = next.public().to_pem();
            durable::replace(&keys.join(PUBLIC_FILE), pem.as_bytes())?;
            fs::rename(&path, keys.join(KEY_FILE))?;
        }
        None => fs::remove_file(&path)?,
    }
    Ok(fs::File::open(keys)?.sync_all()?)
}

/// Makes a file with mode 0600, whole or not at all; an existing one stays as it is.
fn create(folder: &Path, name: &str, content: &[u8]) -> io::Result<()> {
    if folder.join(name).fs_err_try_exists()? {
        return Ok(());
    }
    // Temporary files are made with mode 0600.
    let mut file = tempfile::Builder::new().prefix(FRESH).tempfile_in(folder)?;
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
        let first = load_or_create(folder.path()).unwrap();
        let second = load_or_create(folder.path()).unwrap();
        assert_eq!(first.keypair.public(), second.keypair.public());
        assert_eq!(first.instance_id, second.instance_id);
        assert_eq!(first.instance_id, first.keypair.public().agent_id());
        let mode = fs::metadata(folder.path().join(KEY_FILE))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_folder_that_is_made_for_the_key_is_closed_to_others() {
        let folder = tempfile::tempdir().unwrap();
        let keys = folder.path().join("keys");
        load_or_create(&keys).unwrap();
        let mode = fs::metadata(&keys).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }

    #[test]
    fn a_damaged_key_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        load_or_create(folder.path()).unwrap();
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

    #[test]
    fn a_rotation_keeps_the_id_and_leads_from_the_old_key() {
        let folder = tempfile::tempdir().unwrap();
        let first = load_or_create(folder.path()).unwrap();
        let mut last = rotate(folder.path(), Timestamp::EPOCH).unwrap();
        for _ in 0..ROTATIONS_MAX {
            last = rotate(folder.path(), Timestamp::EPOCH).unwrap();
        }
        assert_eq!(last.instance_id, first.instance_id);
        assert_eq!(last.rotations.len(), ROTATIONS_MAX);
        let again = load_or_create(folder.path()).unwrap();
        let (old, new) = (&again.rotations[0].old_key, again.keypair.public());
        assert!(leads(&again.rotations, &again.instance_id, old, new));
        let public = fs::read_to_string(folder.path().join(PUBLIC_FILE)).unwrap();
        assert_eq!(public, new.to_pem());
    }

    #[test]
    fn rotations_and_loads_at_once_lose_no_key() {
        let folder = tempfile::tempdir().unwrap();
        let first = load_or_create(folder.path()).unwrap();
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            let loads = scope.spawn(|| {
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    load_or_create(folder.path()).unwrap();
                }
            });
            let rotations = [(), ()].map(|()| {
                scope.spawn(|| {
                    for _ in 0..3 {
                        rotate(folder.path(), Timestamp::EPOCH).unwrap();
                    }
                })
            });
            for thread in rotations {
                thread.join().unwrap();
            }
            done.store(true, std::sync::atomic::Ordering::Relaxed);
            loads.join().unwrap();
        });
        let last = load_or_create(folder.path()).unwrap();
        assert_eq!(last.rotations.len(), 6);
        let found = inspect(folder.path()).unwrap().unwrap();
        assert!(found.id_is_derived && found.public_matches && !found.interrupted);
        let (old, new) = (first.keypair.public(), last.keypair.public());
        assert!(leads(&last.rotations, &last.instance_id, old, new));
    }

    #[test]
    fn keys_that_do_not_belong_together_are_found_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        assert!(inspect(folder.path()).unwrap().is_none());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        load_or_create(folder.path()).unwrap();
        let other = Keypair::generate().unwrap();
        fs::write(folder.path().join(PUBLIC_FILE), other.public().to_pem()).unwrap();
        fs::write(folder.path().join(ID_FILE), "somebody-else").unwrap();
        fs::write(folder.path().join(NEXT_FILE), "").unwrap();
        let found = inspect(folder.path()).unwrap().unwrap();
        assert!(!found.id_is_derived && !found.public_matches && found.interrupted);
        assert!(folder.path().join(NEXT_FILE).exists());
    }

    #[test]
    fn a_rotation_cut_short_happened_or_did_not() {
        let folder = tempfile::tempdir().unwrap();
        let before = load_or_create(folder.path()).unwrap();
        let next = Keypair::generate().unwrap();
        let next_pem = next.to_pem().unwrap();
        fs::write(folder.path().join(NEXT_FILE), &next_pem).unwrap();
        let unstated = load_or_create(folder.path()).unwrap();
        assert_eq!(unstated.keypair.public(), before.keypair.public());
        assert!(!folder.path().join(NEXT_FILE).exists());

        let id = &before.instance_id;
        let statement =
            Rotation::sign(&before.keypair, next.public(), id, Timestamp::EPOCH).unwrap();
        fs::write(folder.path().join(NEXT_FILE), &next_pem).unwrap();
        fs::write(
            folder.path().join(ROTATIONS_FILE),
            serde_json::to_vec(&[statement]).unwrap(),
        )
        .unwrap();
        let stated = load_or_create(folder.path()).unwrap();
        assert_eq!(stated.keypair.public(), next.public());
    }
}
