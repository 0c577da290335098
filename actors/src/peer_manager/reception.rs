//! What every request needs at once: pins, sessions and challenges, behind one lock that is held for a few lookups.
//!
//! The actor and its handles share it. A handle answers from it whatever changes nothing on disk; it never sees a
//! pin that is not on disk yet, since the id under decision is marked.

use std::net::IpAddr;

use kairos_place::allowance::AddressAllowance;
use kairos_place::nonce::NonceBook;
use kairos_place::session::{SessionTable, Strength};
use kairos_protocol::crypto::{self, KeyError};
use kairos_protocol::time::Timestamp;
use kairos_protocol::wire::possession::{ProofError, Side};
use parking_lot::{Mutex, MutexGuard};

use super::message::{Admission, Caller, Introduce};
use super::share::Shares;
use super::store::{Change, News};
use super::table::{Peer, PeerTable, PeerTableError};
use super::{Own, PeerError, PeerPolicy};

/// See the module.
pub(super) struct Reception {
    own: Own,
    policy: PeerPolicy,
    desk: Mutex<Desk>,
}

/// What the lock guards.
pub(super) struct Desk {
    pub(super) table: PeerTable,
    pub(super) sessions: SessionTable,
    /// The id whose record in the table is being written down and may still be taken back.
    pub(super) undecided: Option<String>,
    peers_max: usize,
    nonces: NonceBook,
    newcomers: AddressAllowance,
    shares: Shares,
}

impl Reception {
    /// Nobody has a session yet; `table` holds what is on disk.
    pub(super) fn new(own: Own, policy: PeerPolicy, table: PeerTable) -> Result<Self, KeyError> {
        let desk = Desk {
            table,
            sessions: SessionTable::new(policy.sessions.clone()),
            undecided: None,
            peers_max: policy.peers,
            nonces: NonceBook::new(crypto::random_bytes()?, policy.proof_window),
            newcomers: AddressAllowance::new(policy.new_peers_per_address),
            shares: Shares::new(policy.peers_per_address, policy.peers),
        };
        Ok(Self {
            own,
            policy,
            desk: Mutex::new(desk),
        })
    }

    /// Locks. Never across an await.
    pub(super) fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock()
    }

    /// Checks all of an introduction that takes no memory: it is not ours, and its proof is signed.
    pub(super) fn check(&self, message: &Introduce, now: Timestamp) -> Result<(), PeerError> {
        let identity = &message.identity;
        if identity.agent_id == self.own.agent_id || identity.key.hash() == self.own.key {
            return Err(PeerError::Own);
        }
        if let Some(proof) = &message.proof {
            let (key, id, audience) = (&identity.key, &identity.agent_id, &self.own.agent_id);
            let window = self.policy.proof_window;
            proof.verify(Side::Guest, key, id, audience, now, window)?;
        }
        Ok(())
    }

    /// Opens a session if that changes no record; nothing if the actor has to decide. Call [`check`](Self::check)
    /// before.
    pub(super) fn welcome(
        &self,
        message: &Introduce,
        now: Timestamp,
    ) -> Option<Result<Admission, PeerError>> {
        let mut desk = self.desk();
        let identity = &message.identity;
        let claimed = claimed_strength(message);
        if desk.undecided.as_deref() == Some(identity.agent_id.as_str())
            || !desk.table.is_settled(identity, claimed, now)
        {
            return None;
        }
        let strength = match desk.receive(message, now) {
            Ok(strength) => strength,
            Err(error) => return Some(Err(error)),
        };
        Some(desk.open_session(message, strength, now))
    }

    /// Counts a request of the session behind `token`.
    pub(super) fn admit(&self, token: &str, now: Timestamp) -> Result<Caller, PeerError> {
        let mut desk = self.desk();
        let session = desk.sessions.admit(token, now)?;
        Ok(Caller {
            agent_id: session.agent_id.clone(),
            strength: session.strength,
            key: session.key,
        })
    }
}

fn claimed_strength(message: &Introduce) -> Strength {
    match message.proof {
        Some(_) => Strength::Proven,
        None => Strength::Introduced,
    }
}

impl Desk {
    /// Redeems the challenge behind a proof, and counts ids that are new.
    pub(super) fn receive(
        &mut self,
        message: &Introduce,
        now: Timestamp,
    ) -> Result<Strength, PeerError> {
        let identity = &message.identity;
        if let Some(proof) = &message.proof
            && !self.nonces.redeem(&proof.nonce, &identity.key.hash(), now)
        {
            return Err(ProofError::Nonce.into());
        }
        if !self.table.knows(&identity.agent_id) {
            self.count_newcomer(message.address, now)?;
            let room = self
                .shares
                .admit(message.address, |id| self.table.knows(id));
            room.map_err(|most| PeerError::AddressShare { most })?;
        }
        Ok(claimed_strength(message))
    }

    /// Notes from where a peer came that is in the table now.
    pub(super) fn note_share(&mut self, message: &Introduce) {
        let table = &self.table;
        self.shares
            .note(&message.identity.agent_id, message.address, |id| {
                table.knows(id)
            });
    }

    /// Like [`receive`](Self::receive), for an agent of the Place, whose keys are pinned there.
    pub(super) fn receive_guest(
        &mut self,
        message: &Introduce,
        known: bool,
        now: Timestamp,
    ) -> Result<Strength, PeerError> {
        let identity = &message.identity;
        let pinned = self.table.get(identity.agent_id.as_str());
        if let Some(pinned) = pinned.filter(|pinned| pinned.key != identity.key) {
            return Err(PeerTableError::Conflict {
                id: identity.agent_id.clone(),
                pinned: pinned.key.fingerprint(),
                offered: identity.key.fingerprint(),
                record: None,
            }
            .into());
        }
        if let Some(proof) = &message.proof
            && !self.nonces.redeem(&proof.nonce, &identity.key.hash(), now)
        {
            return Err(ProofError::Nonce.into());
        }
        if !known {
            self.count_newcomer(message.address, now)?;
        }
        Ok(claimed_strength(message))
    }

    pub(super) fn count_newcomer(
        &mut self,
        address: IpAddr,
        now: Timestamp,
    ) -> Result<(), PeerError> {
        let counted = self.newcomers.admit(address, now);
        counted.map_err(|wait| PeerError::TooManyNew { wait })
    }

    pub(super) fn open_session(
        &mut self,
        message: &Introduce,
        strength: Strength,
        now: Timestamp,
    ) -> Result<Admission, PeerError> {
        let key = message.identity.key.hash();
        let token = hex::encode(crypto::random_bytes()?);
        if let Some(old) = &message.replaces {
            self.sessions.close(old);
        }
        let agent_id = message.identity.agent_id.clone();
        let address = message.address;
        self.sessions
            .open(&token, agent_id, key, strength, address, now)?;
        let nonce = match message.wants_challenge {
            true => Some(self.nonces.issue(&key, half(crypto::random_bytes()?), now)),
            false => None,
        };
        Ok(Admission {
            token,
            strength,
            ttl: self.sessions.ttl(),
            nonce,
        })
    }

    /// What is not on disk was not decided.
    pub(super) fn put_back(&mut self, id: &str, before: Option<Peer>) {
        self.undecided = None;
        match before {
            Some(known) => self.table.restore(known),
            None => drop(self.table.forget(id)),
        }
    }

    /// Takes over what other processes wrote. Their decisions end the same sessions as those made here.
    pub(super) fn absorb(&mut self, news: News) {
        let before = if news.whole {
            let fresh = PeerTable::new(self.peers_max);
            std::mem::replace(&mut self.table, fresh).all()
        } else {
            let ids = news.changes.iter().map(|change| change.id().as_str());
            ids.filter_map(|id| self.table.get(id).cloned()).collect()
        };
        apply(&mut self.table, news.changes);
        self.end_sessions_of_lost_pins(before);
    }

    pub(super) fn end_sessions_of_lost_pins(&mut self, before: impl IntoIterator<Item = Peer>) {
        for old in before {
            let now = self.table.get(old.id.as_str());
            if now.is_none_or(|peer| peer.key != old.key) {
                self.sessions.close_all_of(&old.key.hash());
            }
        }
    }
}

pub(super) fn apply(table: &mut PeerTable, changes: Vec<Change>) {
    for change in changes {
        match change {
            Change::Put(peer) => table.restore(*peer),
            Change::Forget(id) => {
                let _ = table.forget(id.as_str());
            }
        }
    }
}

fn half(bytes: [u8; 32]) -> [u8; 16] {
    let mut half = [0; 16];
    for (to, from) in half.iter_mut().zip(bytes) {
        *to = from;
    }
    half
}
