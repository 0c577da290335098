//! What was seen of other logs, on disk: one file for each, and one for each piece of evidence.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use fs_err as fs;
use fs_err::PathExt as _;
use kairos_protocol::hash::ContentHash;
use kairos_protocol::id::AgentId;
use kairos_protocol::time::Timestamp;
use kairos_protocol::tlog::checkpoint::SignedCheckpoint;
use kairos_protocol::tlog::fork::ForkProof;
use kairos_protocol::tlog::note::VerifierKey;
use kairos_protocol::tlog::proof::{Head, ProofError, beginning, verify_consistency};
use kairos_protocol::tlog::statement::{Attributed, LogStatement, log_name};
use kairos_protocol::tlog::witness::CosignRequest;
use kairos_protocol::wire::history::Continued;
use kairos_protocol::wire::rotation::Rotation;
use serde::{Deserialize, Serialize};

use super::{Observe, Observed, Seen, WitnessError};
use crate::passing::LOCK;
use crate::{durable, file_lock};

/// What the name of evidence has behind the hash of its log.
const EVIDENCE: &str = ".fork-";
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

impl Record {
    fn new(shown: &Attributed, at: Timestamp) -> Self {
        Self {
            v: VERSION,
            key: shown.statement.log_key.clone(),
            statement: Some(shown.statement.clone()),
            checkpoint: shown.checkpoint.to_string(),
            at,
            fork: None,
        }
    }
}

impl Seen {
    /// The checkpoint with whose it is, if its owner said so.
    pub fn attributed(&self) -> Option<Attributed> {
        Some(Attributed {
            checkpoint: self.checkpoint.clone(),
            statement: self.statement.clone()?,
        })
    }

    /// Fails if the log showed two histories.
    fn unless_convicted(&self, agent: String) -> Result<&Self, WitnessError> {
        match self.fork.clone() {
            Some(file) => Err(WitnessError::Fork { agent, file }),
            None => Ok(self),
        }
    }
}

/// What stands for a log in the names of its files.
pub(super) fn log_hash(origin: &str) -> String {
    ContentHash::of(origin).to_hex()
}

/// Whether a file of this name is what is known of a log.
fn is_record(name: &str) -> bool {
    let hash = name.strip_suffix(".json");
    hash.is_some_and(|hash| hash.parse::<ContentHash>().is_ok())
}

/// Two checkpoints of one log, and what its owner says about the beginning of the later one.
struct Shown {
    before: Attributed,
    now: Attributed,
    /// The root over as many blocks as `before` has, in the tree of `now`.
    root: ContentHash,
    /// Shows that.
    proof: Vec<ContentHash>,
    rotations: Vec<Rotation>,
}

/// The directory of what was seen: for each log a record, named by the hash of its origin, and beside it, as
/// `<hash>.fork-<...>.json`, the evidence that it showed two histories.
pub(super) struct WitnessStore {
    dir: PathBuf,
}

impl WitnessStore {
    pub(super) fn new(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
        }
    }

    /// Takes the lock that every change needs; released when the file is closed.
    pub(super) fn lock(&self) -> io::Result<File> {
        file_lock::hold(&self.dir.join(LOCK))
    }

    /// What is known of the log `origin`.
    pub(super) fn find(&self, origin: &str) -> Result<Option<Seen>, WitnessError> {
        self.read(&log_hash(origin))
    }

    /// The logs that showed two histories and were not forgotten since, as [`log_hash`] names them.
    pub(super) fn convicted(&self) -> Result<HashSet<String>, WitnessError> {
        let mut convicted = HashSet::new();
        for name in self.names()? {
            if let Some((hash, _)) = name.split_once(EVIDENCE)
                && self.read(hash)?.is_some_and(|seen| seen.fork.is_some())
            {
                convicted.insert(hash.to_owned());
            }
        }
        Ok(convicted)
    }

    fn names(&self) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(&self.dir) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        names.collect()
    }

    fn path(&self, hash: &str) -> PathBuf {
        self.dir.join(format!("{hash}.json"))
    }

    fn read(&self, hash: &str) -> Result<Option<Seen>, WitnessError> {
        let path = self.path(hash);
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

    /// Compares what is shown with what is known, and keeps it if it continues that. The first of a log is kept if fewer
    /// than `limit` logs are known.
    pub(super) fn observe(
        &self,
        observe: Observe,
        now: Timestamp,
        limit: usize,
    ) -> Result<Observed, WitnessError> {
        let Observe {
            shown,
            continued,
            rotations,
        } = observe;
        shown.verify()?;
        let origin = &shown.checkpoint.checkpoint().origin;
        let Some(seen) = self.find(origin)? else {
            self.put(origin, &Record::new(&shown, now), limit)?;
            return Ok(Observed::First);
        };
        let agent = shown.statement.instance_id.to_string();
        let known = seen.unless_convicted(agent)?.checkpoint.head();
        let head = shown.checkpoint.head();
        not_shorter(known, head)?;
        // Where both have as many blocks, the roots say it all.
        let (root, proof) = match continued {
            _ if head.size == known.size => (head.root, Vec::new()),
            Some(continued) if continued.before.size == known.size => {
                (continued.before.root, continued.proof)
            }
            _ => (known.root, Vec::new()),
        };
        let Err(source) = verify_consistency(known, head, &proof) else {
            if head == known {
                return Ok(Observed::Same);
            }
            self.put(origin, &Record::new(&shown, now), limit)?;
            return Ok(Observed::Grown { from: known.size });
        };
        let shown = seen.attributed().map(|before| Shown {
            before,
            now: shown,
            root,
            proof,
            rotations,
        });
        Err(self.refuse(known, source, shown))
    }

    /// Checks that a log continues `shown` as its owner says. Something is known of the log already.
    pub(super) fn compare(
        &self,
        shown: Attributed,
        continued: Continued,
        rotations: Vec<Rotation>,
    ) -> Result<(), WitnessError> {
        shown.verify()?;
        continued.now.verify()?;
        let (known, head) = (shown.checkpoint.head(), continued.now.checkpoint.head());
        not_shorter(known, head)?;
        let Err(source) = verify_consistency(known, head, &continued.proof) else {
            return Ok(());
        };
        let shown = Shown {
            before: shown,
            now: continued.now,
            root: continued.before.root,
            proof: continued.proof,
            rotations,
        };
        Err(self.refuse(known, source, Some(shown)))
    }

    /// Keeps the checkpoint of a request, if it is the first of its log or continues the one that is known.
    pub(super) fn record(
        &self,
        request: &CosignRequest,
        key: Option<VerifierKey>,
        now: Timestamp,
        limit: usize,
    ) -> Result<(), WitnessError> {
        let checkpoint = &request.checkpoint;
        let origin = &checkpoint.checkpoint().origin;
        let seen = self.find(origin)?;
        let known = seen.as_ref().map(|seen| seen.key.clone());
        let key = known
            .or(key)
            .ok_or_else(|| WitnessError::UnknownLog(origin.clone()))?;
        checkpoint.verify(&key)?;
        match &seen {
            Some(seen) => self.continues(seen, request)?,
            None if request.old > 0 => return Err(WitnessError::From { known: 0 }),
            None => {}
        }
        let record = Record {
            v: VERSION,
            key,
            statement: seen.and_then(|seen| seen.statement),
            checkpoint: checkpoint.to_string(),
            at: now,
            fork: None,
        };
        self.put(origin, &record, limit)
    }

    /// Checks that a request continues what was seen of its log.
    fn continues(&self, seen: &Seen, request: &CosignRequest) -> Result<(), WitnessError> {
        let checkpoint = &request.checkpoint;
        let agent = checkpoint.checkpoint().origin.clone();
        let known = seen.unless_convicted(agent)?.checkpoint.head();
        let head = checkpoint.head();
        not_shorter(known, head)?;
        if head.size > known.size && request.old != known.size {
            return Err(WitnessError::From { known: known.size });
        }
        let Err(source) = request.continues(known) else {
            return Ok(());
        };
        // Of two checkpoints over as many blocks the roots say it all, whatever the request proves.
        let proof = match head.size == known.size {
            true => Vec::new(),
            false => request.proof.clone(),
        };
        let root = beginning(known, head, &proof).ok();
        let shown = seen.attributed().zip(root).map(|(before, root)| Shown {
            now: Attributed {
                checkpoint: checkpoint.clone(),
                statement: before.statement.clone(),
            },
            before,
            root,
            proof,
            rotations: Vec::new(),
        });
        Err(self.refuse(known, source, shown))
    }

    /// Why a checkpoint is not taken that is not shown to continue `known`. If what was shown is evidence, the agent is
    /// convicted.
    fn refuse(&self, known: Head, source: ProofError, shown: Option<Shown>) -> WitnessError {
        match shown.map(|shown| self.accuse(shown)) {
            Some(Ok(Some(fork))) => fork,
            Some(Err(error)) => error,
            Some(Ok(None)) | None => WitnessError::Unproven {
                known: known.size,
                source,
            },
        }
    }

    /// Keeps the evidence and marks the log, if its two checkpoints contradict each other; nothing if they do not.
    fn accuse(&self, shown: Shown) -> Result<Option<WitnessError>, WitnessError> {
        let origin = shown.before.checkpoint.checkpoint().origin.clone();
        let agent = shown.before.statement.instance_id.to_string();
        let Some(seen) = self.find(&origin)? else {
            return Ok(None);
        };
        let Shown {
            before,
            now,
            root,
            proof,
            rotations,
        } = shown;
        let Ok(evidence) = ForkProof::new(before, now, root, proof, rotations) else {
            return Ok(None);
        };
        let text = evidence.to_json()?;
        let (log, evidence) = (log_hash(&origin), ContentHash::of(&text).to_hex());
        let name = format!("{log}{EVIDENCE}{evidence:.16}.json");
        let file = self.dir.join(&name);
        durable::replace(&file, text.as_bytes())?;
        let record = Record {
            v: VERSION,
            key: seen.key,
            statement: seen.statement,
            checkpoint: seen.checkpoint.to_string(),
            at: seen.at,
            fork: Some(name),
        };
        self.put(&origin, &record, usize::MAX)?;
        tracing::error!(peer.id = agent, file = %file.display(), "an agent showed two histories");
        Ok(Some(WitnessError::Fork { agent, file }))
    }

    /// Removes what is known of the log of `id`, and says whether there was anything. Evidence stays: it is still true.
    pub(super) fn forget(&self, id: &AgentId) -> Result<bool, WitnessError> {
        match fs::remove_file(self.path(&log_hash(&log_name(id)))) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            removed => removed?,
        }
        fs::File::open(&self.dir)?.sync_all()?;
        Ok(true)
    }

    fn put(&self, origin: &str, record: &Record, limit: usize) -> Result<(), WitnessError> {
        let path = self.path(&log_hash(origin));
        if !path.fs_err_try_exists()?
            && self.names()?.iter().filter(|name| is_record(name)).count() >= limit
        {
            return Err(WitnessError::Full { limit });
        }
        let text = serde_json::to_vec_pretty(record).map_err(io::Error::from)?;
        Ok(durable::replace(&path, &text)?)
    }
}

fn not_shorter(known: Head, shown: Head) -> Result<(), WitnessError> {
    match shown.size < known.size {
        true => Err(WitnessError::Shorter {
            known: known.size,
            shown: shown.size,
        }),
        false => Ok(()),
    }
}
