//! What was seen of other logs, on disk: one file for each, and one for each piece of evidence.

use std::fs::File;
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use fs_err as fs;
use kairos_protocol::hash::ContentHash;
use kairos_protocol::id::AgentId;
use kairos_protocol::time::Timestamp;
use kairos_protocol::tlog::checkpoint::SignedCheckpoint;
use kairos_protocol::tlog::fork::ForkProof;
use kairos_protocol::tlog::note::VerifierKey;
use kairos_protocol::tlog::proof::verify_consistency;
use kairos_protocol::tlog::statement::{Attributed, LogStatement, log_name};
use kairos_protocol::tlog::witness::CosignRequest;
use serde::{Deserialize, Serialize};

use super::{Observe, Observed, Seen, WitnessError};
use crate::file_lock;
use crate::passing::{FRESH, LOCK};

/// Version of the records.
const VERSION: u32 = 1;

/// A log as it is kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Record {
    v: u32,
    key: VerifierKey,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    statement: Option<LogStatement>,
    /// The whole note.
    checkpoint: String,
    at: Timestamp,
    /// The name of the file with evidence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fork: Option<String>,
}

/// The directory of what was seen.
pub(super) struct WitnessStore {
    dir: PathBuf,
    limit: usize,
}

impl WitnessStore {
    pub(super) fn new(dir: &Path, limit: usize) -> Self {
        Self {
            dir: dir.to_owned(),
            limit,
        }
    }

    /// Takes the lock that every change needs; released when the file is closed.
    pub(super) fn lock(&self) -> io::Result<File> {
        file_lock::hold(&self.dir.join(LOCK))
    }

    /// What is known of the log `origin`.
    pub(super) fn find(&self, origin: &str) -> Result<Option<Seen>, WitnessError> {
        let path = self.path(origin);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let damaged = |reason: String| WitnessError::Damaged {
            path: path.clone(),
            reason,
        };
        let record: Record = serde_json::from_slice(&bytes).map_err(|e| damaged(e.to_string()))?;
        if record.v != VERSION {
            return Err(damaged(format!("version {} is not known", record.v)));
        }
        let checkpoint: SignedCheckpoint = record
            .checkpoint
            .parse()
            .map_err(|e| damaged(format!("{e}")))?;
        Ok(Some(Seen {
            checkpoint,
            key: record.key,
            statement: record.statement,
            at: record.at,
            fork: record.fork.map(|name| self.dir.join(name)),
        }))
    }

    /// Compares what is shown with what is known, and keeps it if it continues that.
    pub(super) fn observe(
        &self,
        observe: Observe,
        now: Timestamp,
    ) -> Result<Observed, WitnessError> {
        let Observe {
            shown,
            continued,
            rotations,
        } = observe;
        shown.verify()?;
        let origin = &shown.checkpoint.checkpoint().origin;
        let agent = shown.statement.instance_id.to_string();
        let keep = |fork| self.keep(origin, &shown, fork, now);
        let Some(seen) = self.find(origin)? else {
            keep(None)?;
            return Ok(Observed::First);
        };
        if let Some(file) = seen.fork {
            return Err(WitnessError::Fork { agent, file });
        }
        let (known, head) = (seen.checkpoint.head(), shown.checkpoint.head());
        if head.size < known.size {
            return Err(WitnessError::Shorter {
                known: known.size,
                shown: head.size,
            });
        }
        // Where both have as many blocks, the roots say it all.
        let (root, proof) = match continued {
            _ if head.size == known.size => (head.root, Vec::new()),
            Some(continued) if continued.before.size == known.size => {
                (continued.before.root, continued.proof)
            }
            _ => (known.root, Vec::new()),
        };
        let told = verify_consistency(known, head, &proof);
        let Err(source) = told else {
            if head != known {
                keep(None)?;
                return Ok(Observed::Grown { from: known.size });
            }
            return Ok(Observed::Same);
        };
        let unproven = WitnessError::Unproven {
            known: known.size,
            source,
        };
        let Some(statement) = seen.statement.clone() else {
            return Err(unproven);
        };
        let before = Attributed {
            checkpoint: seen.checkpoint.clone(),
            statement,
        };
        let Ok(evidence) = ForkProof::new(before.clone(), shown.clone(), root, proof, rotations)
        else {
            return Err(unproven);
        };
        let text = evidence.to_json()?;
        let name = format!("fork-{:.16}.json", ContentHash::of(&text).to_hex());
        self.write(&name, text.as_bytes())?;
        self.keep(origin, &before, Some(name.clone()), seen.at)?;
        let file = self.dir.join(name);
        tracing::error!(peer.id = agent, file = %file.display(), "an agent showed two histories");
        Err(WitnessError::Fork { agent, file })
    }

    /// Keeps the checkpoint of a request, if it is the first of its log or continues the one that is known.
    pub(super) fn record(
        &self,
        request: &CosignRequest,
        key: Option<VerifierKey>,
        now: Timestamp,
    ) -> Result<(), WitnessError> {
        let checkpoint = &request.checkpoint;
        let origin = &checkpoint.checkpoint().origin;
        let seen = self.find(origin)?;
        let known = seen.as_ref().map(|seen| seen.key.clone());
        let key = known
            .or(key)
            .ok_or_else(|| WitnessError::UnknownLog(origin.clone()))?;
        checkpoint.verify(&key)?;
        let mut statement = None;
        if let Some(seen) = seen {
            let (known, head) = (seen.checkpoint.head(), checkpoint.head());
            if let Some(file) = seen.fork {
                let agent = origin.clone();
                return Err(WitnessError::Fork { agent, file });
            }
            if head.size < known.size {
                return Err(WitnessError::Shorter {
                    known: known.size,
                    shown: head.size,
                });
            }
            if head.size > known.size && request.old != known.size {
                return Err(WitnessError::From { known: known.size });
            }
            let told = request.continues(known);
            told.map_err(|source| WitnessError::Unproven {
                known: known.size,
                source,
            })?;
            statement = seen.statement;
        } else if request.old > 0 {
            return Err(WitnessError::From { known: 0 });
        }
        let record = Record {
            v: VERSION,
            key,
            statement,
            checkpoint: checkpoint.to_string(),
            at: now,
            fork: None,
        };
        self.put(origin, &record)
    }

    /// Removes what is known of the log of `id`. Evidence stays: it is still true.
    pub(super) fn forget(&self, id: &AgentId) -> Result<(), WitnessError> {
        match fs::remove_file(self.path(&log_name(id))) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    fn keep(
        &self,
        origin: &str,
        shown: &Attributed,
        fork: Option<String>,
        at: Timestamp,
    ) -> Result<(), WitnessError> {
        let record = Record {
            v: VERSION,
            key: shown.statement.log_key.clone(),
            statement: Some(shown.statement.clone()),
            checkpoint: shown.checkpoint.to_string(),
            at,
            fork,
        };
        self.put(origin, &record)
    }

    fn put(&self, origin: &str, record: &Record) -> Result<(), WitnessError> {
        let path = self.path(origin);
        if !path.try_exists()? && fs::read_dir(&self.dir)?.count() > self.limit {
            return Err(WitnessError::Full { limit: self.limit });
        }
        let text = serde_json::to_vec_pretty(record).map_err(io::Error::from)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        Ok(self.write(&name, &text)?)
    }

    /// Any origin has a file name of its own.
    fn path(&self, origin: &str) -> PathBuf {
        self.dir.join(format!("{}.json", ContentHash::of(origin)))
    }

    /// Writes a file whole or not at all, durably.
    fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let mut file = tempfile::Builder::new()
            .prefix(FRESH)
            .tempfile_in(&self.dir)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(self.dir.join(name))
            .map_err(|failed| failed.error)?;
        fs::File::open(&self.dir)?.sync_all()
    }
}
