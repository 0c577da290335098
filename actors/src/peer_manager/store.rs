//! Peers on disk: a log of records, one JSON line each, the last line about an id wins.
//!
//! A new pin costs one appended line and one fsync, however many peers there are. Several processes may share the
//! file: each appends under a lock and reads what the others appended meanwhile. When superseded lines outnumber
//! the live ones the file is rewritten beside itself and renamed in.

use std::collections::HashMap;
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use fs_err::os::unix::fs::OpenOptionsExt as _;
use fs_err::{self as fs, File, OpenOptions};
use kairos_place::session::Strength;
use kairos_protocol::crypto::PublicKey;
use kairos_protocol::id::AgentId;
use kairos_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::table::{Peer, Trust};
use crate::{durable, file_lock};

/// Version of the line format.
const VERSION: u32 = 1;
/// Lines that may be superseded before a rewrite is worth it, beside as many as are live.
const SLACK: usize = 256;
/// Longest line read; a record has about 1,500 bytes.
const LINE_MAX: u64 = 64 * 1024;

/// One line.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Line {
    v: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    put: Option<Peer>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    forget: Option<AgentId>,
}

/// A change, made here or read from the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The record of a peer, new or changed.
    Put(Box<Peer>),
    /// A peer was forgotten.
    Forget(AgentId),
}

impl Change {
    /// Whom it is about.
    pub fn id(&self) -> &AgentId {
        match self {
            Self::Put(peer) => &peer.id,
            Self::Forget(id) => id,
        }
    }
}

/// What other processes wrote since the last look.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct News {
    /// Oldest first.
    pub changes: Vec<Change>,
    /// The log was rewritten: the changes are all there is, and whoever is not in them is forgotten.
    pub whole: bool,
}

/// How an append went.
#[derive(Debug, PartialEq, Eq)]
pub enum Appended {
    /// The change is on disk.
    Done(News),
    /// Nothing was written: another process changed the same peer since the last look.
    Stale(News),
}

impl From<Change> for Line {
    fn from(change: Change) -> Self {
        match change {
            Change::Put(peer) => Line {
                v: VERSION,
                put: Some(*peer),
                forget: None,
            },
            Change::Forget(id) => Line {
                v: VERSION,
                put: None,
                forget: Some(id),
            },
        }
    }
}

/// The open log of peers.
#[derive(Debug)]
pub struct PeerStore {
    path: PathBuf,
    file: File,
    /// Inode of `file`: another process may have renamed a rewritten log over it.
    inode: u64,
    /// Everything before this offset has been read.
    read_to: u64,
    lines: usize,
    /// What is read next begins with the first line.
    rewritten: bool,
}

impl PeerStore {
    /// Opens the log at `path`, making it (mode 0600) if absent, and returns it with every change in it, oldest
    /// first. Lines that cannot be read are skipped, counted and logged; a torn last line is cut off.
    pub fn open(path: &Path) -> io::Result<(Self, Vec<Change>)> {
        let file = open_log(path)?;
        let inode = file.metadata()?.ino();
        let mut store = Self {
            path: path.to_owned(),
            file,
            inode,
            read_to: 0,
            lines: 0,
            rewritten: false,
        };
        let lock = store.lock()?;
        let news = store.read_new()?;
        drop(lock);
        Ok((store, news.changes))
    }

    /// Appends `change` durably, unless another process changed the same peer since the last look: it was then
    /// decided on what is no longer true.
    pub fn append(&mut self, change: Change) -> io::Result<Appended> {
        let lock = self.lock()?;
        let news = self.read_new()?;
        if news.whole || news.changes.iter().any(|other| other.id() == change.id()) {
            return Ok(Appended::Stale(news));
        }
        let mut text = serde_json::to_vec(&Line::from(change))?;
        text.push(b'\n');
        let end = self.read_to;
        let written = self.file.seek(SeekFrom::Start(end)).and_then(|_| {
            self.file.write_all(&text)?;
            self.file.sync_data()
        });
        if let Err(error) = written {
            // Whatever part of the line arrived must not stay in front of the next one.
            self.file.set_len(end)?;
            return Err(error);
        }
        self.read_to = end + text.len() as u64;
        self.lines += 1;
        drop(lock);
        Ok(Appended::Done(news))
    }

    /// What other processes wrote since the last look. Cheap when nothing changed.
    pub fn refresh(&mut self) -> io::Result<News> {
        let now = fs::metadata(&self.path)?;
        if now.ino() == self.inode && now.len() == self.read_to {
            return Ok(News::default());
        }
        let lock = self.lock()?;
        let news = self.read_new()?;
        drop(lock);
        Ok(news)
    }

    /// Whether so much of the log is superseded that it is worth a rewrite with the `live` peers that are left.
    pub fn is_wasteful(&self, live: usize) -> bool {
        self.lines > live * 2 + SLACK
    }

    /// Rewrites the log with just `live`, if it is wasteful.
    pub fn compact(&mut self, live: &[Peer]) -> io::Result<bool> {
        if !self.is_wasteful(live.len()) {
            return Ok(false);
        }
        let lock = self.lock()?;
        if self.read_new()? != News::default() {
            // Somebody else wrote meanwhile; `live` is not the whole truth. Next time.
            self.start_over();
            return Ok(false);
        }
        durable::replace_with(&self.path, |fresh| {
            for peer in live {
                let put = Change::Put(Box::new(peer.clone()));
                serde_json::to_writer(&mut *fresh, &Line::from(put))?;
                fresh.write_all(b"\n")?;
            }
            Ok(())
        })?;
        self.file = open_log(&self.path)?;
        self.inode = self.file.metadata()?.ino();
        self.read_to = self.file.metadata()?.len();
        self.lines = live.len();
        drop(lock);
        Ok(true)
    }

    /// Takes the lock that every writer takes; reopens the log first if it was rewritten by another process.
    fn lock(&mut self) -> io::Result<File> {
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(self.path.with_extension("jsonl.lock"))?;
        file_lock::take(lock.file())?;
        let current = fs::metadata(&self.path).map(|m| m.ino());
        if current.as_ref().ok() != Some(&self.inode) {
            self.file = open_log(&self.path)?;
            self.inode = self.file.metadata()?.ino();
            self.start_over();
        }
        Ok(lock)
    }

    fn start_over(&mut self) {
        self.read_to = 0;
        self.lines = 0;
        self.rewritten = true;
    }

    /// Reads lines from `read_to` on and cuts off a torn last one, which only the holder of the lock may do.
    fn read_new(&mut self) -> io::Result<News> {
        if self.file.metadata()?.len() < self.read_to {
            self.start_over();
        }
        self.file.seek(SeekFrom::Start(self.read_to))?;
        let mut reader = BufReader::new(self.file.file());
        let mut changes = Vec::new();
        let mut skipped = 0_usize;
        loop {
            let mut line = Vec::new();
            let length = reader
                .by_ref()
                .take(LINE_MAX)
                .read_until(b'\n', &mut line)? as u64;
            if length == 0 {
                break;
            }
            if line.last() != Some(&b'\n') && length < LINE_MAX {
                tracing::warn!(bytes = length, "cut off a torn last line of the peer log");
                self.file.set_len(self.read_to)?;
                break;
            }
            self.read_to += length;
            self.lines += 1;
            match serde_json::from_slice(&line) {
                Ok(Line {
                    v: VERSION,
                    put: Some(peer),
                    forget: None,
                }) => {
                    changes.push(Change::Put(Box::new(peer)));
                }
                Ok(Line {
                    v: VERSION,
                    put: None,
                    forget: Some(id),
                }) => changes.push(Change::Forget(id)),
                _ => skipped += 1,
            }
        }
        if skipped > 0 {
            tracing::warn!(lines = skipped, "skipped unreadable lines of the peer log");
        }
        let whole = std::mem::take(&mut self.rewritten);
        Ok(News { changes, whole })
    }
}

fn open_log(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .mode(0o600)
        .open(path)
}

/// The peers the reference wrote to its own `peers.json`, as far as they can be read: an array of objects with
/// `id`, `name`, `url`, `public_key` and `verified`. Entries without a verified key give nothing to pin.
pub fn read_reference_file(path: &Path, now: Timestamp) -> Vec<Peer> {
    let Ok(bytes) = fs::read(path) else {
        return Vec::new();
    };
    let Ok(serde_json::Value::Array(entries)) = kairos_protocol::json::parse(&bytes) else {
        tracing::warn!("peers.json of the reference is not a list; it is left alone");
        return Vec::new();
    };
    let mut peers = HashMap::new();
    for entry in entries {
        let text = |name: &str| entry.get(name).and_then(serde_json::Value::as_str);
        let id: Option<AgentId> = text("id").and_then(|id| id.parse().ok());
        let key = text("public_key").and_then(|pem| PublicKey::from_pem(pem).ok());
        let verified = entry.get("verified") == Some(&serde_json::Value::Bool(true));
        if let (Some(id), Some(key), true) = (id, key, verified) {
            let peer = Peer {
                id: id.clone(),
                name: text("name").unwrap_or_default().chars().take(200).collect(),
                url: text("url").map(str::to_owned),
                key,
                trust: Trust::Met,
                strength: Strength::Introduced,
                first_seen: now,
                last_seen: now,
                conflict: None,
            };
            peers.insert(id, peer);
        }
    }
    peers.into_values().collect()
}

#[cfg(test)]
mod tests {
    use kairos_place::session::Strength;
    use kairos_protocol::crypto::{Keypair, PublicKey};
    use kairos_protocol::time::Timestamp;
    use std::sync::LazyLock;

    use super::super::table::Trust;
    use super::*;

    static KEY: LazyLock<PublicKey> =
        LazyLock::new(|| Keypair::generate().unwrap().public().clone());

    fn peer(id: &str, name: &str) -> Peer {
        Peer {
            id: id.parse().unwrap(),
            name: name.to_owned(),
            url: None,
            key: KEY.clone(),
            trust: Trust::Seen,
            strength: Strength::Introduced,
            first_seen: Timestamp::EPOCH,
            last_seen: Timestamp::EPOCH,
            conflict: None,
        }
    }

    fn put(id: &str, name: &str) -> Change {
        Change::Put(Box::new(peer(id, name)))
    }

    #[test]
    fn what_was_appended_is_there_after_reopening() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("peers.jsonl");
        let (mut store, none) = PeerStore::open(&path).unwrap();
        assert_eq!(none, []);
        store.append(put("a", "one")).unwrap();
        store.append(Change::Forget("a".parse().unwrap())).unwrap();
        let (_, changes) = PeerStore::open(&path).unwrap();
        assert_eq!(
            changes,
            [put("a", "one"), Change::Forget("a".parse().unwrap())]
        );
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_torn_or_foreign_line_hides_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("peers.jsonl");
        let (mut store, _) = PeerStore::open(&path).unwrap();
        store.append(put("a", "one")).unwrap();
        let mut bytes = fs::read(&path).unwrap();
        let whole = bytes.clone();
        bytes.extend_from_slice(b"{\"v\":9}\nnot json\n");
        bytes.extend_from_slice(&whole);
        for cut in 1..whole.len() {
            let mut torn = bytes.clone();
            torn.extend_from_slice(&whole[..cut]);
            fs::write(&path, &torn).unwrap();
            let (mut store, changes) = PeerStore::open(&path).unwrap();
            assert_eq!(changes.len(), 2, "cut at {cut}");
            store.append(put("b", "two")).unwrap();
            let (_, changes) = PeerStore::open(&path).unwrap();
            assert_eq!(changes.last(), Some(&put("b", "two")));
        }
    }

    fn news(changes: impl Into<Vec<Change>>) -> News {
        News {
            changes: changes.into(),
            whole: false,
        }
    }

    #[test]
    fn what_was_decided_on_an_outdated_record_is_not_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("peers.jsonl");
        let (mut ours, _) = PeerStore::open(&path).unwrap();
        let (mut theirs, _) = PeerStore::open(&path).unwrap();
        ours.append(put("a", "one")).unwrap();
        let stale = theirs.append(put("a", "two")).unwrap();
        assert_eq!(stale, Appended::Stale(news([put("a", "one")])));
        let done = theirs.append(put("a", "two")).unwrap();
        assert_eq!(done, Appended::Done(news([])));
    }

    #[test]
    fn two_writers_see_each_other_through_a_rewrite() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("peers.jsonl");
        let (mut ours, _) = PeerStore::open(&path).unwrap();
        let (mut theirs, _) = PeerStore::open(&path).unwrap();
        ours.append(put("a", "one")).unwrap();
        let done = theirs.append(put("b", "two")).unwrap();
        assert_eq!(done, Appended::Done(news([put("a", "one")])));
        assert_eq!(ours.refresh().unwrap(), news([put("b", "two")]));
        assert_eq!(ours.refresh().unwrap(), news([]));
        for _ in 0..(SLACK + 10) {
            ours.append(put("a", "again")).unwrap();
        }
        assert!(
            ours.compact(&[peer("a", "again"), peer("b", "two")])
                .unwrap()
        );
        let changes = vec![put("a", "again"), put("b", "two")];
        let rewritten = News {
            changes,
            whole: true,
        };
        assert_eq!(theirs.refresh().unwrap(), rewritten);
        theirs.append(put("c", "three")).unwrap();
        assert_eq!(ours.refresh().unwrap(), news([put("c", "three")]));
        let (_, all) = PeerStore::open(&path).unwrap();
        assert_eq!(all.len(), 3);
    }
}
