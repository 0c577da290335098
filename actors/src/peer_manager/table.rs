//! Who we know, and by which key: trust on first use, decided without I/O.
//!
//! The first key seen for an id is pinned. Another key for the same id is taken only if the pinned one signed it over;
//! else it becomes a [`Conflict`] that stays until a person resolves it.

use std::collections::HashMap;
use std::time::Duration;

use kairos_place::session::Strength;
use kairos_protocol::crypto::PublicKey;
use kairos_protocol::id::AgentId;
use kairos_protocol::time::Timestamp;
use kairos_protocol::wire::introduction::VerifiedIdentity;
use kairos_protocol::wire::rotation;
use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use super::census::Census;

/// A peer that only ever came to us, never proved its key, and stayed away this long gives way when the table is full.
///
/// Short, because ids cost nothing: whoever fills the table with them keeps newcomers out for this long.
pub const IDLE: Duration = Duration::from_secs(24 * 3600);

/// How often a peer's `last_seen` is worth writing down.
const LAST_SEEN_STEP: Duration = Duration::from_secs(3600);

/// How far a peer is trusted; the later the further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Trust {
    /// It introduced itself to us.
    Seen,
    /// We went to meet it.
    Met,
    /// A person said so.
    Trusted,
}

impl Trust {
    /// `seen`, `met` or `trusted`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Seen => "seen",
            Self::Met => "met",
            Self::Trusted => "trusted",
        }
    }
}

/// Another key that was shown for a pinned id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conflict {
    /// The other key.
    pub key: PublicKey,
    /// Where it was met, if we went there.
    pub url: Option<String>,
    /// When it was first shown.
    pub first_seen: Timestamp,
    /// When it was last shown.
    pub last_seen: Timestamp,
    /// How often it was shown.
    pub count: u32,
}

/// A known agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Its id.
    pub id: AgentId,
    /// What it calls itself.
    pub name: String,
    /// Where we met it last, if we went there.
    pub url: Option<String>,
    /// The pinned key.
    pub key: PublicKey,
    /// How far it is trusted.
    pub trust: Trust,
    /// The strongest way in which it ever showed that the pinned key is its own.
    pub strength: Strength,
    /// When the key was pinned.
    pub first_seen: Timestamp,
    /// When it was last heard of.
    pub last_seen: Timestamp,
    /// Another key that was shown for this id and is refused.
    pub conflict: Option<Conflict>,
}

/// What an observation changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observed {
    /// The id was unknown; its key is now pinned.
    Pinned(Peer),
    /// The id is known by this key. The record is there if it is worth writing down.
    Known(Option<Peer>),
}

/// Why an identity was not taken.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PeerTableError {
    /// The id is pinned to another key.
    #[error(
        "agent `{id}` is known by the key {pinned}, this one has {offered}; \
         if its owner changed the key, run: kairos-chain peers resolve {id} --accept {offered}"
    )]
    Conflict {
        /// The id.
        id: AgentId,
        /// Fingerprint of the pinned key.
        pinned: String,
        /// Fingerprint of the other key.
        offered: String,
        /// The record with the conflict noted, if that is worth writing down.
        record: Option<Box<Peer>>,
    },
    /// No room.
    #[error("the table of peers is full ({limit}); forget some with: kairos-chain peers forget ID")]
    Full {
        /// The bound.
        limit: usize,
    },
    /// Nobody by this id.
    #[error("no peer `{0}` is known")]
    Unknown(String),
    /// Nothing to resolve.
    #[error("peer `{0}` has no conflict to resolve")]
    NoConflict(AgentId),
    /// The conflict is about another key than the one that was approved.
    #[error(
        "the conflicting key of `{id}` is {offered}, not {given}; look again before accepting it"
    )]
    OtherConflict {
        /// The id.
        id: AgentId,
        /// Fingerprint on record.
        offered: String,
        /// Fingerprint given.
        given: String,
    },
}

/// The known peers.
#[derive(Debug)]
pub struct PeerTable {
    limit: usize,
    peers: HashMap<AgentId, Peer>,
    /// Kept along, so that counting costs the same however many there are.
    census: Census,
}

impl PeerTable {
    /// An empty table for at most `limit` peers.
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            peers: HashMap::new(),
            census: Census::default(),
        }
    }

    /// Takes a record from storage as it is.
    pub fn restore(&mut self, peer: Peer) {
        self.census = self.census.plus(Census::of(&peer));
        if let Some(before) = self.peers.insert(peer.id.clone(), peer) {
            self.census = self.census.minus(Census::of(&before));
        }
    }

    fn remove(&mut self, id: &AgentId) -> Option<Peer> {
        let gone = self.peers.remove(id)?;
        self.census = self.census.minus(Census::of(&gone));
        Some(gone)
    }

    /// Lets `change` change the record of `id`.
    fn change<T>(
        &mut self,
        id: &str,
        change: impl FnOnce(&mut Peer) -> Result<T, PeerTableError>,
    ) -> Result<T, PeerTableError> {
        let unknown = || PeerTableError::Unknown(id.to_owned());
        let id: AgentId = id.parse().map_err(|_| unknown())?;
        let peer = self.peers.get_mut(&id).ok_or_else(unknown)?;
        let before = Census::of(peer);
        let changed = change(peer);
        self.census = self.census.plus(Census::of(peer)).minus(before);
        changed
    }

    /// How many there are of each kind.
    pub fn census(&self) -> Census {
        self.census
    }

    /// The record of `id`.
    pub fn get(&self, id: &str) -> Option<&Peer> {
        let id: AgentId = id.parse().ok()?;
        self.peers.get(&id)
    }

    /// All records, by id.
    pub fn all(&self) -> Vec<Peer> {
        let mut all: Vec<Peer> = self.peers.values().cloned().collect();
        all.sort_by(|a, b| a.id.cmp(&b.id));
        all
    }

    /// Number of peers.
    pub fn len(&self) -> usize {
        self.peers.len()
    }

    /// Whether nobody is known.
    pub fn is_empty(&self) -> bool {
        self.peers.is_empty()
    }

    /// Whether there is a record of `id`.
    pub fn knows(&self, id: &AgentId) -> bool {
        self.peers.contains_key(id)
    }

    /// Whether an introduction from `identity` would change nothing that is written down: the pinned key, nothing
    /// new about its holder, and seen within the last [`LAST_SEEN_STEP`].
    pub fn is_settled(
        &self,
        identity: &VerifiedIdentity,
        strength: Strength,
        now: Timestamp,
    ) -> bool {
        self.peers.get(&identity.agent_id).is_some_and(|peer| {
            peer.key == identity.key
                && strength <= peer.strength
                && (strength < Strength::Proven || peer.name == identity.name)
                && now.since(peer.last_seen) < LAST_SEEN_STEP
        })
    }

    /// Takes note of a correctly signed identity. `url` is where we went to meet it, if we did.
    pub fn observe(
        &mut self,
        identity: &VerifiedIdentity,
        url: Option<&str>,
        strength: Strength,
        now: Timestamp,
    ) -> Result<Observed, PeerTableError> {
        let trust = if url.is_some() {
            Trust::Met
        } else {
            Trust::Seen
        };
        if !self.knows(&identity.agent_id) {
            return self.pin(identity, url, trust, strength, now);
        }
        self.change(identity.agent_id.as_str(), |peer| {
            observe_known(peer, identity, url, trust, strength, now)
        })
    }

    fn pin(
        &mut self,
        identity: &VerifiedIdentity,
        url: Option<&str>,
        trust: Trust,
        strength: Strength,
        now: Timestamp,
    ) -> Result<Observed, PeerTableError> {
        if self.peers.len() >= self.limit && !self.evict_idle(now) {
            return Err(PeerTableError::Full { limit: self.limit });
        }
        let peer = Peer {
            id: identity.agent_id.clone(),
            name: identity.name.clone(),
            url: url.map(str::to_owned),
            key: identity.key.clone(),
            trust,
            strength,
            first_seen: now,
            last_seen: now,
            conflict: None,
        };
        self.restore(peer.clone());
        Ok(Observed::Pinned(peer))
    }

    /// Forgets the peer that stayed away longest, if one may be forgotten.
    fn evict_idle(&mut self, now: Timestamp) -> bool {
        let idle = self
            .peers
            .values()
            .filter(|p| p.trust == Trust::Seen && p.strength == Strength::Introduced)
            .filter(|p| p.conflict.is_none() && now.since(p.last_seen) >= IDLE)
            .min_by_key(|p| p.last_seen)
            .map(|p| p.id.clone());
        idle.is_some_and(|id| self.remove(&id).is_some())
    }

    /// Marks a peer as trusted by a person; returns the record to be written down.
    pub fn trust(&mut self, id: &str) -> Result<Peer, PeerTableError> {
        self.change(id, |peer| {
            peer.trust = Trust::Trusted;
            Ok(peer.clone())
        })
    }

    /// Forgets a peer and its pin; returns the record that was.
    pub fn forget(&mut self, id: &str) -> Result<Peer, PeerTableError> {
        let known = self.get(id).map(|p| p.id.clone());
        known
            .and_then(|id| self.remove(&id))
            .ok_or_else(|| PeerTableError::Unknown(id.to_owned()))
    }

    /// Drops the conflict and keeps the pinned key.
    pub fn keep(&mut self, id: &str) -> Result<Peer, PeerTableError> {
        self.change(id, |peer| match peer.conflict.take() {
            Some(_) => Ok(peer.clone()),
            None => Err(PeerTableError::NoConflict(peer.id.clone())),
        })
    }

    /// Pins the conflicting key in place of the old one, if its fingerprint is the one a person looked at. Trust
    /// in the old key does not carry over.
    pub fn accept(&mut self, id: &str, fingerprint: &str) -> Result<Peer, PeerTableError> {
        self.change(id, |peer| {
            let Some(conflict) = &peer.conflict else {
                return Err(PeerTableError::NoConflict(peer.id.clone()));
            };
            let offered = conflict.key.fingerprint();
            if offered != fingerprint {
                return Err(PeerTableError::OtherConflict {
                    id: peer.id.clone(),
                    offered,
                    given: fingerprint.to_owned(),
                });
            }
            peer.key = conflict.key.clone();
            peer.first_seen = conflict.first_seen;
            peer.trust = Trust::Met;
            peer.strength = Strength::Introduced;
            peer.conflict = None;
            Ok(peer.clone())
        })
    }
}

/// Takes note of a correctly signed identity of a known peer.
fn observe_known(
    peer: &mut Peer,
    identity: &VerifiedIdentity,
    url: Option<&str>,
    trust: Trust,
    strength: Strength,
    now: Timestamp,
) -> Result<Observed, PeerTableError> {
    let rotated = peer.key != identity.key
        && rotation::leads(&identity.rotations, &peer.id, &peer.key, &identity.key);
    let before = peer.clone();
    if rotated {
        peer.key = identity.key.clone();
        peer.strength = Strength::Introduced;
        peer.conflict = peer.conflict.take().filter(|c| c.key != identity.key);
    }
    if peer.key != identity.key {
        let conflict = peer
            .conflict
            .take()
            .filter(|c| c.key == identity.key)
            .unwrap_or_else(|| Conflict {
                key: identity.key.clone(),
                url: None,
                first_seen: now,
                last_seen: now,
                count: 0,
            });
        let worth_it = conflict.count == 0 || now.since(conflict.last_seen) >= LAST_SEEN_STEP;
        peer.conflict = Some(Conflict {
            last_seen: now,
            count: conflict.count.saturating_add(1),
            url: url.map(str::to_owned).or(conflict.url.clone()),
            ..conflict
        });
        return Err(PeerTableError::Conflict {
            id: peer.id.clone(),
            pinned: peer.key.fingerprint(),
            offered: identity.key.fingerprint(),
            record: worth_it.then(|| Box::new(peer.clone())),
        });
    }
    peer.trust = peer.trust.max(trust);
    peer.strength = peer.strength.max(strength);
    // What an introduction says about its sender may be a replay; what we went for, or what is proven, is not.
    if url.is_some() || strength == Strength::Proven {
        peer.name.clone_from(&identity.name);
    }
    if let Some(url) = url {
        peer.url = Some(url.to_owned());
    }
    let changed = *peer != before;
    if !changed && now.since(peer.last_seen) < LAST_SEEN_STEP {
        return Ok(Observed::Known(None));
    }
    peer.last_seen = peer.last_seen.max(now);
    Ok(Observed::Known(Some(peer.clone())))
}

#[cfg(test)]
mod tests;
