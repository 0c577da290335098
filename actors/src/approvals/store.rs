//! Proposals on disk: one directory each, `proposal.json`, the text beside it, and what was decided.
//!
//! Blocking code: call it from a blocking thread. Several processes share the directory; whoever changes something
//! there holds its lock.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};

use fs_err::{self as fs, File};
use kairos_place::proposal::{CONTENT_MAX, PROPOSAL_MAX, Person, Proposal, ProposalId};
use kairos_protocol::block::entry::Decided;
use kairos_protocol::hash::{ContentHash, Hasher};
use kairos_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::ApprovalError;
use crate::passing::FRESH;
use crate::staging::Held;

const PROPOSAL: &str = "proposal.json";
const CONTENT: &str = "content";
const DECISION: &str = "decision.json";
/// Mode of the directories: nobody else reads what was not approved.
const MODE: u32 = 0o700;
/// Most decided proposals kept, to tell what became of them.
pub const DECIDED_KEPT: usize = 1_000;
/// Longest decision read, in bytes.
const DECISION_MAX: usize = 64 * 1024;

/// Bounds of what waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ApprovalPolicy {
    /// Most proposals that wait at once.
    pub waiting: usize,
    /// Most of one user.
    pub per_user: usize,
    /// How long one can be approved.
    pub lifetime: std::time::Duration,
    /// Most bytes of files that one list compares with what its proposals say.
    pub looked: u64,
}

impl Default for ApprovalPolicy {
    fn default() -> Self {
        Self {
            waiting: 200,
            per_user: 20,
            lifetime: std::time::Duration::from_secs(7 * 86_400),
            looked: 64 * 1024 * 1024,
        }
    }
}

/// What was decided about a proposal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// What.
    pub decided: Decided,
    /// By whom.
    pub by: Person,
    /// When.
    pub at: Timestamp,
    /// What was shown.
    pub seal: ContentHash,
    /// How far it has come.
    pub stage: Stage,
}

/// How far a decision has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Stage {
    /// It is about to be recorded and carried out; after a crash that is finished.
    Begun {
        /// The last block before; nothing without a ledger.
        tip: Option<u64>,
    },
    /// All of it is done.
    Done {
        /// The block that tells of it, where that is known.
        block: Option<u64>,
    },
}

/// A proposal as it lies there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// Its name.
    pub id: ProposalId,
    /// What would change.
    pub proposal: Proposal,
    /// The text it comes with, until it is decided.
    pub content: Option<Vec<u8>>,
    /// A hash over all of it. An approval names the seal it saw.
    pub seal: ContentHash,
    /// What was decided.
    pub decision: Option<Decision>,
}

/// A proposal that cannot be read. It can be rejected like any other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// Its name.
    pub id: ProposalId,
    /// Why.
    pub reason: String,
}

/// Every proposal, the oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// Those that can be read, the decided ones among them.
    pub proposals: Vec<Waiting>,
    /// The rest, which hides nobody.
    pub broken: Vec<Broken>,
}

/// The directory of proposals. Holds nothing in memory.
#[derive(Debug, Clone)]
pub struct ApprovalStore {
    root: PathBuf,
    policy: ApprovalPolicy,
}

impl ApprovalStore {
    /// The proposals in `root`, which is made when one comes.
    pub fn new(root: &Path, policy: ApprovalPolicy) -> Self {
        let root = root.to_owned();
        Self { root, policy }
    }

    /// The bounds.
    pub fn policy(&self) -> &ApprovalPolicy {
        &self.policy
    }

    /// Whether anything ever waited here.
    pub fn is_made(&self) -> bool {
        self.root.is_dir()
    }

    /// Keeps everyone else from changing anything until the lock is dropped.
    pub(super) fn lock(&self) -> io::Result<Held> {
        Held::lock(&self.root, MODE)
    }

    /// Stores a proposal. One that asks for the same as one that waits is that one.
    pub fn park(
        &self,
        id: ProposalId,
        proposal: Proposal,
        content: Option<Vec<u8>>,
        now: Timestamp,
    ) -> Result<Waiting, ApprovalError> {
        let text = proposal.to_bytes()?;
        let lock = self.lock()?;
        let waiting: Vec<_> = self.list()?.proposals;
        let waiting = waiting.into_iter().filter(|w| w.decision.is_none());
        let mut live = Vec::new();
        for known in waiting {
            match known.proposal.is_expired(now) {
                true => drop(lock.remove(known.id.as_str())?),
                false => live.push(known),
            }
        }
        if let Some(known) = live.iter().find(|w| w.proposal.is_same_request(&proposal)) {
            return Ok(known.clone());
        }
        let user = &proposal.by.user;
        let own = live.iter().filter(|w| w.proposal.by.user == *user).count();
        for (count, max, whose) in [
            (live.len(), self.policy.waiting, "wait"),
            (own, self.policy.per_user, "of yours wait"),
        ] {
            if count >= max {
                return Err(ApprovalError::Full { max, whose });
            }
        }
        let staging = lock.stage()?;
        staging.write(PROPOSAL, &text, false)?;
        if let Some(content) = &content {
            staging.write(CONTENT, content, false)?;
        }
        staging.commit(id.as_str(), false)?;
        Ok(Waiting {
            seal: seal(&text, content.as_deref()),
            id,
            proposal,
            content,
            decision: None,
        })
    }

    /// How many there are, readable or not. Cheaper than [`list`](Self::list), which reads all of them.
    pub fn count(&self) -> Result<usize, ApprovalError> {
        Ok(self.ids()?.len())
    }

    /// Every proposal. One that cannot be read hides no other.
    pub fn list(&self) -> Result<Listing, ApprovalError> {
        let mut listing = Listing::default();
        for id in self.ids()? {
            match self.show(&id) {
                Ok(waiting) => listing.proposals.push(waiting),
                Err(ApprovalError::Unknown(_)) => {} // removed meanwhile
                Err(ApprovalError::Damaged { reason, .. }) => {
                    listing.broken.push(Broken { id, reason });
                }
                Err(error) => {
                    let reason = error.to_string();
                    listing.broken.push(Broken { id, reason });
                }
            }
        }
        let age = |w: &Waiting| (w.proposal.proposed_at, w.id.clone());
        listing.proposals.sort_by_key(age);
        listing.broken.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(listing)
    }

    /// One proposal, its text compared with the hash it is bound to.
    pub fn show(&self, id: &ProposalId) -> Result<Waiting, ApprovalError> {
        let folder = self.root.join(id.as_str());
        let damaged = |reason: String| ApprovalError::Damaged {
            id: id.clone(),
            reason,
        };
        match fs::symlink_metadata(&folder) {
            Ok(found) if found.is_dir() => {}
            Ok(_) => return Err(damaged("it is not a directory".to_owned())),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(ApprovalError::Unknown(id.clone()));
            }
            Err(error) => return Err(error.into()),
        }
        let read = |name: &str, max| read(&folder.join(name), max);
        let text = read(PROPOSAL, PROPOSAL_MAX)
            .map_err(|error| damaged(format!("{PROPOSAL}: {}", error.kind())))?;
        let proposal = Proposal::parse(&text).map_err(|error| damaged(error.to_string()))?;
        let decision = match read(DECISION, DECISION_MAX) {
            Ok(bytes) => {
                let decision: Decision = serde_json::from_slice(&bytes)
                    .map_err(|error| damaged(format!("the decision: {error}")))?;
                Some(decision)
            }
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(damaged(format!("{DECISION}: {}", error.kind()))),
        };
        let content = match proposal.content_hash() {
            None => None,
            Some(_) if decision.as_ref().is_some_and(Decision::is_done) => None,
            Some(hash) => {
                let content = read(CONTENT, CONTENT_MAX)
                    .map_err(|error| damaged(format!("{CONTENT}: {}", error.kind())))?;
                if ContentHash::of(&content) != hash {
                    return Err(damaged(
                        "the text is not the one that was proposed".to_owned(),
                    ));
                }
                Some(content)
            }
        };
        let seal = match &decision {
            Some(decision) => decision.seal,
            None => seal(&text, content.as_deref()),
        };
        Ok(Waiting {
            id: id.clone(),
            proposal,
            content,
            seal,
            decision,
        })
    }

    /// Writes what was decided, durably. Only for the holder of the lock.
    pub(super) fn decide(&self, id: &ProposalId, decision: &Decision) -> io::Result<()> {
        let folder = self.root.join(id.as_str());
        let mut fresh = tempfile::Builder::new()
            .prefix(FRESH)
            .tempfile_in(&folder)?;
        fresh.write_all(&serde_json::to_vec_pretty(decision)?)?;
        fresh.as_file().sync_all()?;
        fresh.persist(folder.join(DECISION)).map_err(|e| e.error)?;
        if decision.is_done() {
            // Nothing needs the text any more.
            match fs::remove_file(folder.join(CONTENT)) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        File::open(&folder)?.sync_all()
    }

    /// Takes back a decision that came to nothing. Only for the holder of the lock.
    pub(super) fn undecide(&self, id: &ProposalId) -> io::Result<()> {
        let folder = self.root.join(id.as_str());
        fs::remove_file(folder.join(DECISION))?;
        File::open(&folder)?.sync_all()
    }

    /// Deletes one that cannot be read.
    pub(super) fn discard(&self, lock: &Held, id: &ProposalId) -> Result<(), ApprovalError> {
        match lock.remove(id.as_str())? {
            true => Ok(()),
            false => Err(ApprovalError::Unknown(id.clone())),
        }
    }

    /// Forgets the oldest decided ones beyond [`DECIDED_KEPT`].
    pub(super) fn forget_old(&self, lock: &Held) -> Result<(), ApprovalError> {
        let listing = self.list()?.proposals.into_iter();
        let mut done: Vec<_> = listing
            .filter_map(|w| Some((w.decision.filter(Decision::is_done)?.at, w.id)))
            .collect();
        done.sort();
        let surplus = done.len().saturating_sub(DECIDED_KEPT);
        for (_, id) in done.into_iter().take(surplus) {
            lock.remove(id.as_str())?;
        }
        Ok(())
    }

    /// Those whose decision is begun and not done.
    pub(super) fn unfinished(&self) -> Result<Vec<ProposalId>, ApprovalError> {
        let begun = |id: &ProposalId| {
            let path = self.root.join(id.as_str()).join(DECISION);
            let bytes = read(&path, DECISION_MAX).ok();
            let decision = bytes.and_then(|bytes| serde_json::from_slice::<Decision>(&bytes).ok());
            decision.is_some_and(|decision| !decision.is_done())
        };
        let mut ids = self.ids()?;
        ids.retain(begun);
        Ok(ids)
    }

    fn ids(&self) -> io::Result<Vec<ProposalId>> {
        let entries = match fs::read_dir(&self.root) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut ids = Vec::new();
        for entry in entries {
            let name = entry?.file_name().into_string();
            ids.extend(name.ok().and_then(|name| name.parse().ok()));
        }
        Ok(ids)
    }
}

impl Decision {
    /// Whether nothing of it is left to do.
    pub fn is_done(&self) -> bool {
        matches!(self.stage, Stage::Done { .. })
    }

    /// `approved`, `rejected` or `void`.
    pub fn word(&self) -> &'static str {
        match self.decided {
            Decided::Approved => "approved",
            Decided::Rejected => "rejected",
            Decided::Void => "void",
        }
    }
}

/// A hash over a proposal and its text as they lie on disk; with its length in front neither passes for the other.
fn seal(proposal: &[u8], content: Option<&[u8]>) -> ContentHash {
    let mut hasher = Hasher::default();
    for part in [Some(proposal), content].into_iter().flatten() {
        hasher.update(&(part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    hasher.finish()
}

/// Reads a regular file of at most `max` bytes.
pub(super) fn read(path: &Path, max: usize) -> io::Result<Vec<u8>> {
    if !fs::symlink_metadata(path)?.is_file() {
        return Err(io::Error::other("not a file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?
        .take(max as u64 + 1)
        .read_to_end(&mut bytes)?;
    match bytes.len() > max {
        true => Err(ErrorKind::FileTooLarge.into()),
        false => Ok(bytes),
    }
}

#[cfg(test)]
mod tests;
