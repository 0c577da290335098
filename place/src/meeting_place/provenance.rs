//! Where a deposit comes from, if not from its depositor: an agent that took it at another Place brought it.
//!
//! What came from elsewhere stays so. Leaving the origin unsaid, saying another one, replacing the deposit, or withdrawing
//! it and bringing it anew makes nothing local: the Place remembers the origin of the bytes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use kairos_protocol::crypto::PublicKey;
use kairos_protocol::hash::ContentHash;
use kairos_protocol::id::AgentId;
use kairos_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::deposit::{Deposit, DepositKey};
use super::policy::Federation;
use super::{Change, MeetingPlace};

/// Longest name of a Place or an agent in bytes.
const NAME_MAX: usize = 512;
/// How far the clock of another Place may be ahead.
const AHEAD_MAX: Duration = Duration::from_secs(60);

const LOOP: &str = "Loop detected: this Place is already in the provenance chain";

/// Through which Places a deposit came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provenance {
    /// The Place it was first left at.
    pub origin_place_id: String,
    /// Who left it there.
    pub origin_agent_id: String,
    /// The Places it passed, the last one in front of this one.
    pub via: Vec<String>,
    /// How many.
    pub hop_count: u32,
    /// When it was first left.
    pub deposited_at_origin: String,
    /// The first depositor's signature over the content, if it came along.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin_signature: Option<String>,
    /// The key it holds under, PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin_public_key: Option<String>,
    /// Hash of the content as it came, which is what the first depositor signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin_content_hash: Option<ContentHash>,
}

impl Provenance {
    /// Reads and checks what is told of the origin of `content`. Nothing, if it says that there was no other Place; else
    /// all reasons against it, in the reference's words.
    pub(super) fn read(
        told: &Map<String, Value>,
        content: &str,
        hash: ContentHash,
        federation: &Federation,
        now: Timestamp,
    ) -> Result<Option<Self>, Vec<String>> {
        let none = |name: &str| match told.get(name) {
            None | Some(Value::Null) => true,
            Some(Value::Array(list)) => list.is_empty(),
            Some(value) => value.as_u64() == Some(0),
        };
        // As the reference gives it to what was left here first.
        if none("hop_count") && none("via") {
            return Ok(None);
        }
        if !federation.accept {
            return Err(vec![NOT_ACCEPTED.to_owned()]);
        }
        let Ok(mut provenance) = Self::deserialize(Value::Object(told.clone())) else {
            let reason = "Provenance needs origin_place_id, origin_agent_id, via, hop_count and deposited_at_origin";
            return Err(vec![reason.to_owned()]);
        };
        // The reference names each Place in between twice: once as it leaves, once as it arrives.
        provenance.via.dedup();
        let places = u32::try_from(provenance.via.len()).unwrap_or(u32::MAX);
        provenance.hop_count = provenance.hop_count.max(places);
        provenance.origin_content_hash = Some(hash);
        let mut reasons = provenance.against(federation, now);
        let names = [&provenance.origin_place_id, &provenance.origin_agent_id];
        let unfit = |text: &String| {
            text.is_empty() || text.len() > NAME_MAX || text.chars().any(char::is_control)
        };
        if names.into_iter().chain(&provenance.via).any(unfit) {
            reasons.push("Provenance has an empty or overlong name".to_owned());
        }
        reasons.extend(provenance.signature_problem(content).map(str::to_owned));
        match reasons.is_empty() {
            true => Ok(Some(provenance)),
            false => Err(reasons),
        }
    }

    /// What speaks against taking something of this origin now.
    fn against(&self, federation: &Federation, now: Timestamp) -> Vec<String> {
        let mut reasons = Vec::new();
        if !federation.accept {
            reasons.push(NOT_ACCEPTED.to_owned());
        }
        if self.hop_count >= federation.hops_max {
            let most = federation.hops_max;
            reasons.push(format!("Hop count exceeds limit (max {most})"));
        }
        match Timestamp::parse(&self.deposited_at_origin) {
            Err(_) => reasons.push("Invalid deposited_at_origin timestamp".to_owned()),
            Ok(at) if at > now.plus(AHEAD_MAX) => {
                reasons.push("Federated deposit has future timestamp".to_owned());
            }
            Ok(at) if now.since(at) > federation.age_max => reasons.push(format!(
                "Federated deposit too old (max {} hours)",
                federation.age_max.as_secs() / 3600
            )),
            Ok(_) => {}
        }
        reasons
    }

    /// The first depositor's signature is checked if it came along. Older Places leave it out.
    fn signature_problem(&self, content: &str) -> Option<&'static str> {
        let (signature, key) = match (&self.origin_signature, &self.origin_public_key) {
            (Some(signature), Some(key)) => (signature, key),
            (None, None) => return None,
            _ => return Some("Origin signature and origin key come together or not at all"),
        };
        let Ok(key) = PublicKey::from_pem(key) else {
            return Some("Origin key cannot be read");
        };
        match key.verify(content.as_bytes(), signature) {
            Ok(()) => None,
            Err(_) => Some("Origin signature verification failed"),
        }
    }

    /// Whether `content` is not what came: the first depositor's signature does not cover it.
    pub fn is_altered(&self, content: ContentHash) -> bool {
        self.origin_content_hash
            .is_some_and(|origin| origin != content)
    }

    fn key(&self) -> Option<PublicKey> {
        PublicKey::from_pem(self.origin_public_key.as_ref()?).ok()
    }

    fn at_origin(&self) -> Option<Timestamp> {
        Timestamp::parse(&self.deposited_at_origin).ok()
    }

    /// Takes over from `known`, an origin of the same bytes, what makes this one older or better proven.
    fn complete(&mut self, known: &Self) {
        if self.origin_signature.is_none() && self.origin_agent_id == known.origin_agent_id {
            self.origin_signature.clone_from(&known.origin_signature);
            self.origin_public_key.clone_from(&known.origin_public_key);
        }
        if known.at_origin() < self.at_origin() {
            self.deposited_at_origin
                .clone_from(&known.deposited_at_origin);
        }
    }
}

const NOT_ACCEPTED: &str = "This Place does not accept federated deposits";

/// The origins of bytes that came from elsewhere, also of those that are here no more.
#[derive(Debug, Default)]
pub(super) struct Origins {
    of: HashMap<ContentHash, (u64, Provenance)>,
    order: BTreeMap<u64, ContentHash>,
    next: u64,
}

impl Origins {
    pub(super) fn get(&self, hash: &ContentHash) -> Option<&Provenance> {
        self.of.get(hash).map(|(_, provenance)| provenance)
    }

    /// Remembers an origin, the newest; returns what is forgotten for it.
    pub(super) fn put(
        &mut self,
        hash: ContentHash,
        provenance: Provenance,
        most: usize,
    ) -> Vec<ContentHash> {
        let number = self.next;
        self.next += 1;
        if let Some((old, _)) = self.of.insert(hash, (number, provenance)) {
            self.order.remove(&old);
        }
        self.order.insert(number, hash);
        let mut forgotten = Vec::new();
        while self.order.len() > most {
            let Some((_, oldest)) = self.order.pop_first() else {
                break;
            };
            self.of.remove(&oldest);
            forgotten.push(oldest);
        }
        forgotten
    }
}

/// How many deposits of some bytes there are that were left here first.
#[derive(Debug, Default)]
pub(super) struct Locals(HashMap<ContentHash, usize>);

impl Locals {
    pub(super) fn insert(&mut self, deposit: &Deposit) {
        if deposit.provenance.is_none() {
            *self.0.entry(deposit.content_hash).or_default() += 1;
        }
    }

    pub(super) fn remove(&mut self, deposit: &Deposit) {
        if deposit.provenance.is_some() {
            return;
        }
        if let Some(count) = self.0.get_mut(&deposit.content_hash) {
            *count -= 1;
            if *count == 0 {
                self.0.remove(&deposit.content_hash);
            }
        }
    }

    fn has(&self, hash: &ContentHash) -> bool {
        self.0.contains_key(hash)
    }
}

/// Deposits from elsewhere, by when their time is over.
#[derive(Debug, Default)]
pub(super) struct Expiring(BTreeSet<(Timestamp, DepositKey)>);

impl Expiring {
    pub(super) fn insert(&mut self, deposit: &Deposit) {
        if let Some(at) = deposit.provenance.as_ref().and_then(Provenance::at_origin) {
            self.0.insert((at, deposit.key.clone()));
        }
    }

    pub(super) fn remove(&mut self, deposit: &Deposit) {
        if let Some(at) = deposit.provenance.as_ref().and_then(Provenance::at_origin) {
            self.0.remove(&(at, deposit.key.clone()));
        }
    }

    fn over(&self, now: Timestamp, age_max: Duration, most: usize) -> Vec<DepositKey> {
        let over = self.0.iter().take_while(|(at, _)| now.since(*at) > age_max);
        over.take(most).map(|(_, key)| key.clone()).collect()
    }
}

impl MeetingPlace {
    /// Finds out where `deposit` comes from, whatever it says of it.
    pub(super) fn settle_origin(
        &mut self,
        deposit: &mut Deposit,
        before: Option<&Deposit>,
    ) -> Result<(), Vec<String>> {
        let known = self.board.origins.get(&deposit.content_hash).cloned();
        let federation = &self.policy.federation;
        let now = deposit.deposited_at;
        let told = match deposit.provenance.take() {
            Some(told) => self.told_origin(told, known.as_ref(), now)?,
            None => {
                let of_before = before.and_then(|old| old.provenance.clone());
                let foreign = known.filter(|origin| !self.is_origin(origin, &deposit.key.owner));
                let Some(inherited) = of_before.or(foreign) else {
                    return Ok(());
                };
                let reasons = inherited.against(federation, now);
                if !reasons.is_empty() {
                    return Err(reasons);
                }
                inherited
            }
        };
        if !told.is_altered(deposit.content_hash) {
            let most = federation.origins_max;
            let hash = deposit.content_hash;
            let forgotten = self.board.origins.put(hash, told.clone(), most);
            let change = Change::Origin(hash, Box::new(told.clone()));
            self.changes.push(change);
            let gone = forgotten.into_iter().map(Change::OriginGone);
            self.changes.extend(gone);
        }
        deposit.provenance = Some(told);
        Ok(())
    }

    fn told_origin(
        &self,
        mut told: Provenance,
        known: Option<&Provenance>,
        now: Timestamp,
    ) -> Result<Provenance, Vec<String>> {
        let me = self.me.as_str();
        if told.origin_place_id == me || told.via.iter().any(|place| place == me) {
            return Err(vec![LOOP.to_owned()]);
        }
        let mut reasons = Vec::new();
        if let Some(known) = known {
            let proven = known.origin_signature.is_some() && told.origin_signature.is_none();
            if proven && known.origin_agent_id != told.origin_agent_id {
                let reason =
                    "Provenance contradicts the signed origin that is known of this content";
                reasons.push(reason.to_owned());
            }
            told.complete(known);
            reasons.extend(told.against(&self.policy.federation, now));
        }
        let pinned = told.origin_agent_id.parse::<AgentId>().ok();
        let pinned = pinned.and_then(|id| self.key(&id));
        if let (Some(pinned), Some(key)) = (pinned, told.key())
            && pinned.hash() != key.hash()
        {
            let agent = &told.origin_agent_id;
            reasons.push(format!(
                "Origin key is not the one that agent {agent} is known by here"
            ));
        }
        if !reasons.is_empty() {
            return Err(reasons);
        }
        told.via.push(me.to_owned());
        Ok(told)
    }

    /// Whether there is nothing to be learnt about where these bytes come from: it is known, or they were left here first.
    pub fn knows_origin(&self, hash: &ContentHash) -> bool {
        self.board.origins.get(hash).is_some() || self.board.locals.has(hash)
    }

    /// Remembers where bytes come from that passed through this Place on their way to somebody, so that nobody who took them
    /// leaves them here as its own. What is known already stays.
    pub fn note_origin(&mut self, hash: ContentHash, origin: Provenance) {
        if self.knows_origin(&hash) {
            return;
        }
        let most = self.policy.federation.origins_max;
        let forgotten = self.board.origins.put(hash, origin.clone(), most);
        self.changes.push(Change::Origin(hash, Box::new(origin)));
        let gone = forgotten.into_iter().map(Change::OriginGone);
        self.changes.extend(gone);
    }

    /// Whether an agent of this Place is the one that first left it elsewhere.
    fn is_origin(&self, origin: &Provenance, agent: &AgentId) -> bool {
        let by_key = match (origin.key(), self.key(agent)) {
            (Some(key), Some(pinned)) => key.hash() == pinned.hash(),
            (Some(_), None) => false,
            (None, _) => true,
        };
        origin.origin_agent_id == agent.as_str() && by_key
    }

    /// Takes deposits from elsewhere down that were first left too long ago, at most `most`; returns them.
    pub fn expire(&mut self, now: Timestamp, most: usize) -> Vec<Deposit> {
        let age_max = self.policy.federation.age_max;
        let over = self.board.expiring.over(now, age_max, most);
        let gone = over
            .iter()
            .filter_map(|key| self.remove_deposit(&key.owner, &key.skill_id));
        gone.collect()
    }

    /// Remembers the origins that a store of an earlier version did not.
    pub(super) fn restore_origin(&mut self, deposit: &Deposit) {
        let Some(origin) = &deposit.provenance else {
            return;
        };
        let hash = deposit.content_hash;
        if origin.is_altered(hash) || self.board.origins.get(&hash).is_some() {
            return;
        }
        let most = self.policy.federation.origins_max;
        if self
            .board
            .origins
            .put(hash, origin.clone(), most)
            .is_empty()
        {
            let change = Change::Origin(hash, Box::new(origin.clone()));
            self.changes.push(change);
        }
    }
}
