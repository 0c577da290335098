//! Anchors on disk: the reference's JSON file, and a journal before it.
//!
//! The journal is what acknowledges. The file is written whole, in the reference's form, when the journal has grown with
//! it or the process ends, so that an anchor costs a line and the Ruby system reads the rest. A file that cannot be read
//! is never replaced. A stored anchor whose hash is not that of its members is kept, told of, and counts as none.
//!
//! Blocking code: call it from a blocking thread. Several processes share the files; each change holds the locks.

mod journal;
mod records;

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use fs_err::{self as fs, File};
use kairos_protocol::anchor::{Anchor, AnchorMembers};
use kairos_protocol::hash::ContentHash;
use kairos_protocol::time::Timestamp;
use serde::Deserialize as _;
use serde_json::{Map, Value, json};
use thiserror::Error;

use crate::file_lock;
use journal::{Change, Journal};
use records::Records;

/// Largest file of anchors read, in bytes.
pub const FILE_MAX: u64 = 512 << 20;
/// The journal is folded into the file when it is longer than this, in bytes, and than half of the file.
const FOLD_MIN: u64 = 1 << 20;
/// Version in the metadata of the file.
const VERSION: &str = "1.0";

/// Why anchors cannot be kept or read.
#[derive(Debug, Error)]
pub enum StoreError {
    /// A file is not what it should be. It is left as it is.
    #[error("{} is not readable as anchors: {reason}; restore it from a backup or move it away", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The disk refused.
    #[error("the anchors cannot be read or written: {0}")]
    Io(#[from] io::Error),
}

/// A stored record whose hash is not that of its members.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct DamagedAnchor {
    /// Under which name it is stored.
    pub anchor_hash: String,
    /// What is wrong.
    pub reason: String,
}

/// Where the files of a store are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Files {
    /// A journal alone, at this path.
    Journal(PathBuf),
    /// The reference's file at this path, and `NAME.journal` beside it.
    Json(PathBuf),
}

/// An open store.
#[derive(Debug)]
pub struct AnchorStore {
    file: Option<PathBuf>,
    journal: Journal,
    state: State,
    /// What the file looked like when it was read.
    stamp: Option<(u64, SystemTime)>,
    repair: bool,
    was_used: bool,
}

/// What was read.
#[derive(Debug, Default)]
struct State {
    metadata: Map<String, Value>,
    anchors: Records,
    damaged: BTreeMap<String, String>,
    queue: Vec<Map<String, Value>>,
    /// Members of the file that the reference does not know.
    rest: Map<String, Value>,
    /// Whether the journal holds what the file lacks.
    is_ahead: bool,
}

impl AnchorStore {
    /// A store with these files, which need not exist. Nothing is read before it is asked.
    pub fn new(files: Files) -> Self {
        let (file, journal) = match files {
            Files::Journal(path) => (None, path),
            Files::Json(path) => {
                let journal = with_suffix(&path, ".journal");
                (Some(path), journal)
            }
        };
        Self {
            file,
            journal: Journal::new(journal),
            state: State::default(),
            stamp: None,
            repair: true,
            was_used: false,
        }
    }

    /// Whether anybody asked for something since the store was opened.
    pub fn was_used(&self) -> bool {
        self.was_used
    }

    /// The reference's file, if the store has one.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// Reads what is there and changes nothing, not even a lock file.
    pub fn look(files: Files) -> Result<Self, StoreError> {
        let mut store = Self::new(files);
        store.repair = false;
        store.refresh()?;
        Ok(store)
    }

    /// Takes the locks that every use needs, and reads what others wrote. Held until the locks are dropped.
    pub fn enter(&mut self) -> Result<Locks, StoreError> {
        self.was_used = true;
        // The journal's first, always: whoever replaces the file holds both.
        let journal = file_lock::hold(&with_suffix(self.journal.path(), ".lock"))?;
        let file = match &self.file {
            Some(path) => Some(file_lock::hold(&with_suffix(path, ".lock"))?),
            None => None,
        };
        self.refresh()?;
        Ok(Locks {
            _journal: journal,
            _file: file,
        })
    }

    fn refresh(&mut self) -> Result<(), StoreError> {
        let stamp = self.look_at_file()?;
        if stamp != self.stamp || self.journal.was_begun_anew()? {
            self.journal = Journal::new(self.journal.path().to_owned());
            self.state = self.read_file()?;
            self.stamp = stamp;
        }
        for change in self.journal.read_on(self.repair)? {
            self.state.apply(change);
        }
        Ok(())
    }

    fn look_at_file(&self) -> io::Result<Option<(u64, SystemTime)>> {
        let Some(path) = &self.file else {
            return Ok(None);
        };
        match fs::metadata(path) {
            Ok(there) => Ok(Some((there.len(), there.modified()?))),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn read_file(&self) -> Result<State, StoreError> {
        let Some(path) = &self.file else {
            return Ok(State::default());
        };
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(State::default()),
            Err(error) => return Err(error.into()),
        };
        let damaged = |reason: String| StoreError::Damaged {
            path: path.clone(),
            reason,
        };
        let mut bytes = Vec::new();
        if file.take(FILE_MAX + 1).read_to_end(&mut bytes)? as u64 > FILE_MAX {
            return Err(damaged(format!("it has more than {FILE_MAX} bytes")));
        }
        let rest: Map<String, Value> =
            serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
        State::parse(rest).map_err(|reason| damaged(reason.to_owned()))
    }

    /// How many anchors there are, damaged ones not counted.
    pub fn len(&self) -> usize {
        self.state.anchors.len() - self.state.damaged.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many wait for a batch.
    pub fn queued(&self) -> usize {
        self.state.queue.len()
    }

    /// Since when the first of them waits.
    pub fn queued_since(&self) -> Option<Timestamp> {
        let stored = self.state.queue.first()?.get("stored_at")?.as_str()?;
        Timestamp::parse(stored).ok()
    }

    /// When the store was begun, as its file tells.
    pub fn created_at(&self) -> Option<&str> {
        self.state.metadata.get("created_at")?.as_str()
    }

    /// The records that are no anchors.
    pub fn damaged(&self) -> impl Iterator<Item = DamagedAnchor> {
        let all = self.state.damaged.iter();
        all.map(|(hash, reason)| DamagedAnchor {
            anchor_hash: hash.clone(),
            reason: reason.clone(),
        })
    }

    /// The anchor with this hash.
    pub fn get(&self, hash: &ContentHash) -> Option<Anchor> {
        let key = hash.to_hex();
        let is_damaged = self.state.damaged.contains_key(&key);
        let record = self.state.anchors.get(&key).filter(|_| !is_damaged)?;
        read(&record).ok()
    }

    /// Whether the anchor with this hash waits for a batch.
    pub fn is_queued(&self, hash: &ContentHash) -> bool {
        let key = hash.to_hex();
        let mut queue = self.state.queue.iter();
        queue.any(|record| name(record) == Some(key.as_str()))
    }

    /// Every anchor, in the order in which they came.
    pub fn anchors(&self) -> impl Iterator<Item = Anchor> {
        let kept = self.state.anchors.iter();
        kept.filter(|(key, _)| !self.state.damaged.contains_key(*key))
            .filter_map(|(_, record)| read(&record).ok())
    }

    /// Keeps `anchors` durably. Those that are there are passed over.
    pub fn submit(&mut self, anchors: &[Anchor], now: Timestamp) -> Result<(), StoreError> {
        let new = anchors
            .iter()
            .filter(|anchor| self.get(&anchor.hash()).is_none());
        let changes: Vec<_> = new
            .map(|anchor| Change::anchor(record(anchor, now)))
            .collect();
        self.change(changes)
    }

    /// Has `anchor` wait for a batch, durably.
    pub fn enqueue(&mut self, anchor: &Anchor, now: Timestamp) -> Result<(), StoreError> {
        self.change(vec![Change::enqueue(record(anchor, now))])
    }

    /// Makes anchors of all that wait, durably; returns their hashes.
    pub fn flush(&mut self, now: Timestamp) -> Result<Vec<String>, StoreError> {
        let names = self.state.queue.iter().filter_map(name).map(str::to_owned);
        let names: Vec<_> = names.collect();
        if !names.is_empty() {
            self.change(vec![Change::flush(now.wire())])?;
        }
        Ok(names)
    }

    fn change(&mut self, changes: Vec<Change>) -> Result<(), StoreError> {
        if changes.is_empty() {
            return Ok(());
        }
        self.journal.append(&changes)?;
        for change in changes {
            self.state.apply(change);
        }
        Ok(())
    }

    /// Folds the journal into the file if it has grown with it.
    pub fn fold_if_due(&mut self, now: Timestamp) -> Result<(), StoreError> {
        let file = self.stamp.map_or(0, |(len, _)| len);
        if self.journal.length() > FOLD_MIN.max(file / 2) {
            self.fold(now)?;
        }
        Ok(())
    }

    /// Writes the file whole, if the journal holds what it lacks, and begins the journal anew. A crash in between costs
    /// nothing: what is in both is the same.
    pub fn fold(&mut self, now: Timestamp) -> Result<(), StoreError> {
        let Some(path) = self.file.clone() else {
            return Ok(());
        };
        if !self.state.is_ahead {
            return Ok(());
        }
        let text = serde_json::to_vec_pretty(&self.state.document(now)).map_err(io::Error::from)?;
        replace(&path, &text)?;
        self.stamp = self.look_at_file()?;
        let waiting = self.state.queue.iter().cloned().map(Change::enqueue);
        let waiting: Vec<_> = waiting.collect();
        self.journal.replace(&waiting)?;
        self.state.is_ahead = false;
        Ok(())
    }
}

/// Keeps others out while they are held.
#[derive(Debug)]
pub struct Locks {
    _journal: std::fs::File,
    _file: Option<std::fs::File>,
}

impl State {
    fn parse(mut rest: Map<String, Value>) -> Result<Self, &'static str> {
        let Some(Value::Object(metadata)) = rest.shift_remove("metadata") else {
            return Err("it has no object `metadata`");
        };
        let Some(Value::Object(anchors)) = rest.shift_remove("anchors") else {
            return Err("it has no object `anchors`");
        };
        let mut state = Self {
            metadata,
            rest,
            ..Self::default()
        };
        for (key, record) in anchors {
            if let Err(reason) = check(&key, &record) {
                tracing::error!(anchor.hash = %key, %reason, "a stored anchor does not hold");
                state.damaged.insert(key.clone(), reason);
            }
            state.anchors.insert(key, &record);
        }
        Ok(state)
    }

    fn apply(&mut self, change: Change) {
        match change {
            Change::Anchor { record, .. } => self.keep(record),
            Change::Enqueue { record, .. } => {
                let waits = self.queue.iter().any(|other| name(other) == name(&record));
                if !waits {
                    self.queue.push(record);
                }
            }
            Change::Flush { at, .. } => {
                for mut record in std::mem::take(&mut self.queue) {
                    record.insert("stored_at".to_owned(), json!(at));
                    self.keep(record);
                }
            }
        }
    }

    fn keep(&mut self, record: Map<String, Value>) {
        let Some(key) = name(&record).map(str::to_owned) else {
            return;
        };
        let record = Value::Object(record);
        match check(&key, &record) {
            Ok(()) => {
                let known = self.anchors.contains(&key);
                // A damaged record gives way to the one that its name tells of.
                if self.damaged.remove(&key).is_some() || !known {
                    self.anchors.insert(key, &record);
                    self.is_ahead = true;
                }
            }
            Err(reason) if !self.anchors.contains(&key) => {
                self.damaged.insert(key.clone(), reason);
                self.anchors.insert(key, &record);
                self.is_ahead = true;
            }
            Err(_) => {}
        }
    }

    /// The file in the reference's form.
    fn document(&self, now: Timestamp) -> Value {
        let mut metadata = self.metadata.clone();
        let fresh = |metadata: &mut Map<String, Value>, name: &str, value: Value| {
            metadata.entry(name.to_owned()).or_insert(value);
        };
        fresh(&mut metadata, "version", json!(VERSION));
        fresh(&mut metadata, "created_at", json!(now.wire()));
        metadata.insert("updated_at".to_owned(), json!(now.wire()));
        metadata.insert("anchor_count".to_owned(), json!(self.anchors.len()));
        let mut document = Map::new();
        document.insert("metadata".to_owned(), Value::Object(metadata));
        document.insert("anchors".to_owned(), Value::Object(self.anchors.to_map()));
        document.extend(self.rest.clone());
        Value::Object(document)
    }
}

fn name(record: &Map<String, Value>) -> Option<&str> {
    record.get("anchor_hash")?.as_str()
}

/// A record as it is stored.
fn record(anchor: &Anchor, now: Timestamp) -> Map<String, Value> {
    let mut record = match anchor.record() {
        Value::Object(members) => members,
        _ => Map::new(),
    };
    record.insert("stored_at".to_owned(), json!(now.wire()));
    record
}

fn read(record: &Value) -> Result<Anchor, String> {
    let members = AnchorMembers::deserialize(record).map_err(|error| error.to_string())?;
    if members.timestamp.is_none() {
        return Err("it has no time".to_owned());
    }
    members
        .check(Timestamp::EPOCH)
        .map_err(|error| error.to_string())
}

fn check(key: &str, record: &Value) -> Result<(), String> {
    let anchor = read(record)?;
    let told = record.get("anchor_hash").and_then(Value::as_str);
    let hash = anchor.hash().to_hex();
    if key != hash || told != Some(key) {
        return Err(format!("its members have the hash {hash}"));
    }
    Ok(())
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn folder(path: &Path) -> &Path {
    path.parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(folder(path))?.sync_all()
}

/// Replaces the file at `path` whole, durably.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = tempfile::Builder::new()
        .prefix(".new-")
        .tempfile_in(folder(path))?;
    file.write_all(bytes)?;
    if let Ok(there) = fs::metadata(path) {
        file.as_file().set_permissions(there.permissions())?;
    }
    file.as_file().sync_all()?;
    file.persist(path).map_err(|failed| failed.error)?;
    sync_folder(path)
}

#[cfg(test)]
mod tests;
