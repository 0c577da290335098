//! Tokens on disk: `tokens.json`, replaced whole under a lock, and told from what was read before by its stamp.
//!
//! Blocking code: call it from a blocking thread, but for [`TokenStore::is_current`], which waits for no disk.

use std::fs::Metadata;
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use fs_err::{self as fs, File};
use kairos_place::token::{FILE_MAX, TokenBook, TokenError, TokenFileError};
use kairos_protocol::time::Timestamp;

use super::AuthError;
use crate::{durable, file_lock};

/// The file.
const FILE: &str = "tokens.json";
/// Its lock, which is never deleted: whoever came late would lock another one.
const LOCK: &str = "tokens.json.lock";
/// How long after a change another one may bear the same time: a file system counts in ticks.
const TICK: Duration = Duration::from_millis(50);

/// What tells one state of the file from another without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(found: &Metadata) -> Self {
        Self {
            device: found.dev(),
            inode: found.ino(),
            size: found.size(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        }
    }
}

/// The tokens as they were read, and what they were read from.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// What was read.
    pub book: Arc<TokenBook>,
    /// Nothing where there was no file.
    stamp: Option<Stamp>,
    /// Held open, so that no other file can get its inode.
    _file: Option<File>,
    /// Whether it was read so soon after its last change that another change might not show.
    unsettled: bool,
}

/// The file of tokens in a directory.
#[derive(Debug, Clone)]
pub struct TokenStore {
    folder: PathBuf,
}

impl TokenStore {
    /// The tokens in `folder`, which is made with the first token.
    pub fn new(folder: &Path) -> Self {
        let folder = folder.to_owned();
        Self { folder }
    }

    /// Whether the file still is the one that `known` was read from. One call of the system, which reads nothing.
    pub fn is_current(&self, known: &Snapshot) -> io::Result<bool> {
        let stamp = match fs::metadata(self.folder.join(FILE)) {
            Ok(found) => Some(Stamp::of(&found)),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        Ok(stamp == known.stamp && !known.unsettled)
    }

    /// Reads the file; where there is none there are no tokens.
    pub fn read(&self, now: Timestamp) -> Result<Snapshot, AuthError> {
        let path = self.folder.join(FILE);
        match fs::metadata(&path) {
            // Opening something else, such as a pipe, might wait for ever.
            Ok(found) if !found.is_file() => {
                return Err(io::Error::other("storage/tokens.json is not a file").into());
            }
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Snapshot::default()),
            Err(error) => return Err(error.into()),
        }
        let mut file = File::open(&path)?;
        let before = file.metadata()?;
        if before.size() > FILE_MAX as u64 {
            return Err(TokenFileError::TooLarge.into());
        }
        let mut bytes = Vec::new();
        let limit = FILE_MAX as u64 + 1;
        (&mut file).take(limit).read_to_end(&mut bytes)?;
        let book = Arc::new(TokenBook::parse(&bytes)?);
        let stamp = Stamp::of(&before);
        let changed_at = Timestamp::from_secs(stamp.changed.0)
            .plus(Duration::from_nanos(stamp.changed.1.unsigned_abs()));
        Ok(Snapshot {
            book,
            // One that changed while it was read is another one at the next look.
            unsettled: now.since(changed_at) < TICK,
            stamp: Some(stamp),
            _file: Some(file),
        })
    }

    /// Reads the file under its lock, changes what was read, and puts that in its place: durably, whole, and for the
    /// owner's eyes only. If `work` fails nothing is written. A file that cannot be read is never replaced.
    pub fn change<T>(
        &self,
        now: Timestamp,
        work: impl FnOnce(&mut TokenBook) -> Result<T, TokenError>,
    ) -> Result<(T, Snapshot), AuthError> {
        let lock = file_lock::hold(&self.folder.join(LOCK))?;
        let mut book = TokenBook::clone(&self.read(now)?.book);
        let done = work(&mut book)?;
        let bytes = book.to_bytes(now);
        if bytes.len() > FILE_MAX {
            // A file of another hand that has just enough room grows when it is written here.
            return Err(TokenFileError::TooLarge.into());
        }
        durable::replace(&self.folder.join(FILE), &bytes)?;
        let snapshot = self.read(now)?;
        drop(lock);
        Ok((done, snapshot))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use kairos_place::role::Role;
    use kairos_place::token::{Lifetime, RawToken, Which};

    use super::*;

    fn now() -> Timestamp {
        Timestamp::from_secs(1_771_000_000)
    }

    fn issue(store: &TokenStore, n: u8) -> Snapshot {
        let raw = RawToken::from_random([n; 32]);
        let user = format!("u{n}").parse().unwrap();
        let issued = store.change(now(), |book| {
            book.issue(&raw, user, Role::Owner, Lifetime::Never, "x", now())
        });
        issued.unwrap().1
    }

    fn opens(snapshot: &Snapshot, n: u8) -> bool {
        let raw = RawToken::from_random([n; 32]);
        snapshot.book.authenticate(raw.reveal(), now()).is_some()
    }

    #[test]
    fn what_one_wrote_another_reads_and_nobody_else_may() {
        let folder = tempfile::tempdir().unwrap();
        let (ours, theirs) = (
            TokenStore::new(folder.path()),
            TokenStore::new(folder.path()),
        );
        let nothing = ours.read(now()).unwrap();
        assert!(ours.is_current(&nothing).unwrap());
        let first = issue(&theirs, 1);
        assert!(!ours.is_current(&nothing).unwrap());
        assert!(opens(&ours.read(now()).unwrap(), 1));
        issue(&ours, 2);
        assert!(!theirs.is_current(&first).unwrap());
        let both = theirs.read(now()).unwrap();
        assert!(opens(&both, 1) && opens(&both, 2));
        let mode = |name| {
            let found = fs::metadata(folder.path().join(name)).unwrap();
            found.permissions().mode() & 0o777
        };
        assert_eq!((mode(FILE), mode(LOCK)), (0o600, 0o600));
    }

    #[test]
    fn a_file_that_cannot_be_read_opens_nothing_and_stays() {
        let folder = tempfile::tempdir().unwrap();
        let (store, path) = (TokenStore::new(folder.path()), folder.path().join(FILE));
        let known = issue(&store, 1);
        let whole = fs::read(&path).unwrap();
        for cut in [0, 1, whole.len() / 2, whole.len() - 1] {
            fs::write(&path, &whole[..cut]).unwrap();
            assert!(!store.is_current(&known).unwrap());
            assert!(matches!(store.read(now()), Err(AuthError::File(_))));
            let changed =
                store.change(now(), |book| book.revoke(&Which::Of("u1".parse().unwrap())));
            assert!(matches!(changed, Err(AuthError::File(_))));
            assert_eq!(fs::read(&path).unwrap(), &whole[..cut]);
        }
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(matches!(store.read(now()), Err(AuthError::Io(_))));
    }

    #[test]
    fn a_change_in_place_within_one_tick_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let (store, path) = (TokenStore::new(folder.path()), folder.path().join(FILE));
        issue(&store, 1);
        let found = fs::metadata(&path).unwrap();
        let changed = Timestamp::from_secs(found.ctime());
        // Read so soon after its change that a second one might bear the same stamp.
        let soon = store.read(changed.plus(Duration::from_millis(10))).unwrap();
        assert!(!store.is_current(&soon).unwrap());
        let later = store.read(changed.plus(Duration::from_secs(5))).unwrap();
        assert!(store.is_current(&later).unwrap());
    }

    #[test]
    fn what_is_refused_is_not_written() {
        let folder = tempfile::tempdir().unwrap();
        let store = TokenStore::new(folder.path());
        issue(&store, 1);
        let before = fs::read(folder.path().join(FILE)).unwrap();
        let which = Which::Of("nobody".parse().unwrap());
        assert!(store.change(now(), |book| book.revoke(&which)).is_err());
        assert_eq!(fs::read(folder.path().join(FILE)).unwrap(), before);
        let names = fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(names, 2, "the file and its lock");
    }
}
