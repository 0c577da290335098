//! The keys of the log on disk: one signs our checkpoints, one cosigns those of others.
//!
//! They are made once beside the identity key, appear whole with mode 0600, and are never overwritten. The statement
//! that they are ours is signed with the identity key, and signed anew when that one changes.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use fs_err as fs;
use fs_err::PathExt as _;
use kairos_actors::chain::tlog::LogKeys;
use kairos_actors::durable;
use kairos_protocol::crypto::{KeyError, Keypair};
use kairos_protocol::id::AgentId;
use kairos_protocol::time::Timestamp;
use kairos_protocol::tlog::note::{NoteKeyError, Purpose, SigningKey};
use kairos_protocol::tlog::statement::{LogStatement, log_name, witness_name};
use thiserror::Error;

use super::create;

/// The log's private key.
const LOG_FILE: &str = "log.key";
/// The witness's private key.
const WITNESS_FILE: &str = "witness.key";
/// The statement that both are ours.
const STATEMENT_FILE: &str = "log_statement.json";

/// Why there are no keys for the log.
#[derive(Debug, Error)]
pub enum LogKeysError {
    /// A file could not be read or written.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A key file holds no usable key of this agent.
    #[error("{} holds no usable key of this agent: {source}; restore it from a backup, or move it away to get a new one", .path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// Why.
        source: NoteKeyError,
    },
    /// The statement could not be signed.
    #[error(transparent)]
    Sign(#[from] KeyError),
}

/// Loads the keys from the folder `keys`, or makes them, for the agent `id` whose identity key is `identity`.
pub fn load_or_create(
    keys: &Path,
    identity: &Keypair,
    id: &AgentId,
    now: Timestamp,
) -> Result<LogKeys, LogKeysError> {
    let log = key(keys, LOG_FILE, &log_name(id), Purpose::Note)?;
    let witness = key(keys, WITNESS_FILE, &witness_name(id), Purpose::Cosignature)?;
    let (log_key, witness_key) = (log.verifier(), witness.verifier());
    let statement = match stated(keys)?.filter(|stated| {
        stated.identity_key == *identity.public()
            && (&stated.log_key, &stated.witness_key) == (log_key, witness_key)
            && stated.verify().is_ok()
    }) {
        Some(statement) => statement,
        None => {
            let statement = LogStatement::sign(identity, id, log_key, witness_key, now)?;
            let text = serde_json::to_vec_pretty(&statement).map_err(io::Error::from)?;
            durable::replace(&keys.join(STATEMENT_FILE), &text)?;
            statement
        }
    };
    Ok(LogKeys {
        log,
        witness,
        statement,
    })
}

fn key(keys: &Path, file: &str, name: &str, purpose: Purpose) -> Result<SigningKey, LogKeysError> {
    let path = keys.join(file);
    let unusable = |source| LogKeysError::Key {
        path: path.clone(),
        source,
    };
    if !path.fs_err_try_exists()? {
        let fresh = SigningKey::generate(name, purpose).map_err(unusable)?;
        create(keys, file, fresh.to_text().as_bytes())?;
    }
    // What is on disk counts: another process may have been first.
    let text = zeroize::Zeroizing::new(fs::read_to_string(&path)?);
    let key = SigningKey::from_text(text.trim()).map_err(unusable)?;
    match (key.verifier().name(), key.verifier().purpose()) == (name, purpose) {
        true => Ok(key),
        false => Err(unusable(NoteKeyError::Other)),
    }
}

/// The statement on disk. One that cannot be read is made anew, since the identity key is at hand.
fn stated(keys: &Path) -> Result<Option<LogStatement>, LogKeysError> {
    match fs::read(keys.join(STATEMENT_FILE)) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::sync::LazyLock;

    use super::*;

    static IDENTITY: LazyLock<Keypair> = LazyLock::new(|| Keypair::generate().unwrap());

    fn load(keys: &Path, identity: &Keypair, at: i64) -> Result<LogKeys, LogKeysError> {
        load_or_create(
            keys,
            identity,
            &"agent".parse().unwrap(),
            Timestamp::from_secs(at),
        )
    }

    #[test]
    fn keys_are_made_once_and_the_statement_follows_the_identity() {
        let folder = tempfile::tempdir().unwrap();
        let first = load(folder.path(), &IDENTITY, 1).unwrap();
        let second = load(folder.path(), &IDENTITY, 2).unwrap();
        assert_eq!(first.statement, second.statement);
        assert_eq!(first.log.verifier(), second.log.verifier());
        first.statement.verify().unwrap();
        for file in [LOG_FILE, WITNESS_FILE, STATEMENT_FILE] {
            let mode = fs::metadata(folder.path().join(file))
                .unwrap()
                .permissions()
                .mode();
            assert_eq!(mode & 0o777, 0o600, "{file}");
        }
        let rotated = load(folder.path(), &Keypair::generate().unwrap(), 3).unwrap();
        assert_eq!(rotated.log.verifier(), first.log.verifier());
        assert_ne!(rotated.statement, first.statement);
        rotated.statement.verify().unwrap();
        fs::write(folder.path().join(STATEMENT_FILE), "damaged").unwrap();
        load(folder.path(), &IDENTITY, 4)
            .unwrap()
            .statement
            .verify()
            .unwrap();
    }

    #[test]
    fn a_key_that_is_damaged_or_of_another_agent_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let other = SigningKey::generate("kairos-chain/other", Purpose::Note).unwrap();
        for text in ["damaged", other.to_text().as_str()] {
            fs::write(folder.path().join(LOG_FILE), text).unwrap();
            let error = load(folder.path(), &IDENTITY, 1).unwrap_err().to_string();
            assert!(
                error.contains("holds no usable key of this agent"),
                "{error}"
            );
            assert_eq!(
                fs::read_to_string(folder.path().join(LOG_FILE)).unwrap(),
                text
            );
        }
    }
}
