//! What peers told us, kept until the owner clears it: one JSON line a message, appended and synced before the
//! peer gets its answer.
//!
//! Bounded in all and per peer, so that one talkative peer cannot use up the room of the others. A message that
//! was already kept is acknowledged again without being kept twice.

use std::collections::{HashMap, HashSet};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};

use fs_err::os::unix::fs::OpenOptionsExt as _;
use fs_err::{self as fs, File, OpenOptions};
use kairos_place::session::Strength;
use kairos_protocol::id::AgentId;
use kairos_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

use crate::file_lock;

/// Version of the line format.
const VERSION: u32 = 1;
/// Most bytes of all kept messages together.
const BYTES_MAX: u64 = 64 << 20;

/// Bounds of the inbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InboxLimits {
    /// Most messages kept.
    pub total: usize,
    /// Most messages kept of one peer.
    pub per_peer: usize,
}

/// A message that was received.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InboxEntry {
    /// Version of the format.
    pub v: u32,
    /// When it came.
    pub at: Timestamp,
    /// Whom its session speaks for.
    pub from: AgentId,
    /// How strongly that was established.
    pub strength: Strength,
    /// What it asks for.
    pub action: String,
    /// Its content.
    pub payload: Value,
    /// The message it answers.
    pub in_reply_to: Option<String>,
    /// The sender's id for it.
    pub id: Option<String>,
    /// The Meeting Place through which it came, sealed. None if its sender came here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
}

impl InboxEntry {
    /// An entry of the current format.
    pub fn new(
        at: Timestamp,
        from: AgentId,
        strength: Strength,
        action: String,
        payload: Value,
    ) -> Self {
        Self {
            v: VERSION,
            at,
            from,
            strength,
            action,
            payload,
            in_reply_to: None,
            id: None,
            place: None,
        }
    }
}

/// Why a message was not kept.
#[derive(Debug, Error)]
pub enum InboxError {
    /// No room.
    #[error("the inbox is full; the owner can empty it with: kairos-chain inbox clear")]
    Full,
    /// No room for this peer.
    #[error("the inbox holds {limit} messages of this peer already")]
    PeerFull {
        /// The bound.
        limit: usize,
    },
    /// The disk refused.
    #[error("the inbox could not be written or read: {0}")]
    Io(#[from] io::Error),
}

/// The open inbox. Used from blocking threads.
#[derive(Debug)]
pub struct Inbox {
    path: PathBuf,
    limits: InboxLimits,
    /// Length of the file when the counts were made; another process may have cleared it.
    length: u64,
    total: usize,
    per_peer: HashMap<AgentId, usize>,
    ids: HashSet<(AgentId, String)>,
}

impl Inbox {
    /// Opens the inbox at `path`; it need not exist.
    pub fn open(path: &Path, limits: InboxLimits) -> io::Result<Self> {
        let mut inbox = Self {
            path: path.to_owned(),
            limits,
            length: 0,
            total: 0,
            per_peer: HashMap::new(),
            ids: HashSet::new(),
        };
        // Under the lock: half a line may be one that another process is about to complete.
        let _lock = inbox.lock_existing()?;
        inbox.recount()?;
        Ok(inbox)
    }

    /// Whether a message of `from` with this id is kept.
    pub fn holds(&mut self, from: &AgentId, id: &str) -> io::Result<bool> {
        let Some(file) = self.lock_existing()? else {
            return Ok(false);
        };
        if file.metadata()?.len() != self.length {
            self.recount()?;
        }
        Ok(self.ids.contains(&(from.clone(), id.to_owned())))
    }

    /// Keeps `entry` durably.
    pub fn keep(&mut self, entry: &InboxEntry) -> Result<(), InboxError> {
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&self.path)?;
        file_lock::take(file.file())?;
        if file.metadata()?.len() != self.length {
            self.recount()?;
        }
        let known = entry.id.clone().map(|id| (entry.from.clone(), id));
        if known.as_ref().is_some_and(|id| self.ids.contains(id)) {
            return Ok(());
        }
        let mut line = serde_json::to_vec(entry).map_err(io::Error::from)?;
        line.push(b'\n');
        if self.total >= self.limits.total || self.length + line.len() as u64 > BYTES_MAX {
            return Err(InboxError::Full);
        }
        if self.per_peer.get(&entry.from).copied().unwrap_or(0) >= self.limits.per_peer {
            return Err(InboxError::PeerFull {
                limit: self.limits.per_peer,
            });
        }
        if let Err(error) = file.write_all(&line).and_then(|()| file.sync_data()) {
            file.set_len(self.length)?;
            return Err(error.into());
        }
        self.length += line.len() as u64;
        self.count(entry.from.clone(), known);
        Ok(())
    }

    /// The kept messages, oldest first. Lines that cannot be read are skipped and logged.
    pub fn entries(&self) -> io::Result<Vec<InboxEntry>> {
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut entries = Vec::new();
        for line in BufReader::new(file).split(b'\n') {
            match serde_json::from_slice::<InboxEntry>(&line?) {
                Ok(entry) if entry.v == VERSION => entries.push(entry),
                _ => tracing::warn!("skipped an unreadable line of the inbox"),
            }
        }
        Ok(entries)
    }

    /// Drops every message; returns how many there were.
    pub fn clear(&mut self) -> io::Result<usize> {
        let Some(file) = self.lock_existing()? else {
            return Ok(0);
        };
        let count = self.entries()?.len();
        file.set_len(0)?;
        file.sync_all()?;
        self.recount()?;
        Ok(count)
    }

    /// Takes the lock that every writer takes, if there is an inbox.
    fn lock_existing(&self) -> io::Result<Option<File>> {
        match OpenOptions::new().write(true).open(&self.path) {
            Ok(file) => {
                file_lock::take(file.file())?;
                Ok(Some(file))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Counts what is there, cutting off a torn last line, which only the holder of the lock may do.
    fn recount(&mut self) -> io::Result<()> {
        self.total = 0;
        self.per_peer.clear();
        self.ids.clear();
        self.length = 0;
        let bytes = match fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        let whole = bytes
            .iter()
            .rposition(|b| *b == b'\n')
            .map_or(0, |at| at + 1);
        if whole < bytes.len() {
            tracing::warn!(
                bytes = bytes.len() - whole,
                "cut off a torn last line of the inbox"
            );
            OpenOptions::new()
                .write(true)
                .open(&self.path)?
                .set_len(whole as u64)?;
        }
        self.length = whole as u64;
        for entry in self.entries()? {
            let id = entry.id.map(|id| (entry.from.clone(), id));
            self.count(entry.from, id);
        }
        Ok(())
    }

    fn count(&mut self, from: AgentId, id: Option<(AgentId, String)>) {
        self.total += 1;
        *self.per_peer.entry(from).or_default() += 1;
        self.ids.extend(id);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn entry(from: &str, id: &str) -> InboxEntry {
        let from = from.parse().unwrap();
        let mut entry = InboxEntry::new(
            Timestamp::EPOCH,
            from,
            Strength::Introduced,
            "reflect".into(),
            json!({"a": 1}),
        );
        entry.id = Some(id.to_owned());
        entry
    }

    #[test]
    fn opening_waits_for_a_message_that_another_process_is_writing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("inbox.jsonl");
        let limits = InboxLimits {
            total: 3,
            per_peer: 2,
        };
        let line = serde_json::to_vec(&entry("a", "1")).unwrap();
        let (begin, end) = line.split_at(10);
        let mut writer = File::create(&path).unwrap();
        writer.file().lock().unwrap();
        writer.write_all(begin).unwrap();
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            scope.spawn(|| tell.send(Inbox::open(&path, limits)).unwrap());
            let early = told.recv_timeout(std::time::Duration::from_millis(50));
            assert!(early.is_err(), "opened while it was locked");
            writer.write_all(end).unwrap();
            writer.write_all(b"\n").unwrap();
            drop(writer);
            let inbox = told.recv().unwrap().unwrap();
            assert_eq!(inbox.entries().unwrap(), [entry("a", "1")]);
        });
    }

    #[test]
    fn keeps_within_its_bounds_and_each_message_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("inbox.jsonl");
        let mut inbox = Inbox::open(
            &path,
            InboxLimits {
                total: 3,
                per_peer: 2,
            },
        )
        .unwrap();
        for id in ["1", "1", "2"] {
            inbox.keep(&entry("a", id)).unwrap();
        }
        assert!(matches!(
            inbox.keep(&entry("a", "3")),
            Err(InboxError::PeerFull { limit: 2 })
        ));
        inbox.keep(&entry("b", "1")).unwrap();
        assert!(matches!(
            inbox.keep(&entry("c", "1")),
            Err(InboxError::Full)
        ));
        assert_eq!(
            inbox.entries().unwrap(),
            [entry("a", "1"), entry("a", "2"), entry("b", "1")]
        );
        let mut again = Inbox::open(
            &path,
            InboxLimits {
                total: 3,
                per_peer: 2,
            },
        )
        .unwrap();
        assert_eq!(again.clear().unwrap(), 3);
        inbox.keep(&entry("c", "1")).unwrap();
        assert_eq!(
            inbox.entries().unwrap().len(),
            1,
            "a clear by another process is noticed"
        );
    }

    #[test]
    fn a_torn_last_line_is_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("inbox.jsonl");
        let limits = InboxLimits {
            total: 9,
            per_peer: 9,
        };
        Inbox::open(&path, limits)
            .unwrap()
            .keep(&entry("a", "1"))
            .unwrap();
        let mut bytes = fs::read(&path).unwrap();
        bytes.extend_from_slice(b"{\"v\":1,\"at\"");
        fs::write(&path, bytes).unwrap();
        let mut inbox = Inbox::open(&path, limits).unwrap();
        inbox.keep(&entry("a", "2")).unwrap();
        assert_eq!(inbox.entries().unwrap().len(), 2);
    }
}
