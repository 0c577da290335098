//! Records by which agents are found: who somebody is, by which key it is known in the network, and where it can be
//! reached.
//!
//! A record binds two keys: the RSA key of the identity and the Ed25519 key of the node. Both sign the same text, which
//! names both, so neither can be claimed without the other. The id must be the one that follows from the identity key:
//! anybody can check that, and nobody else can put a record under it.

pub mod ask;
pub mod book;
pub mod pull;
pub mod rounds;

use std::fmt;
use std::time::Duration;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::crypto::{KeyError, Keypair, PublicKey, SignatureError, random_bytes};
use crate::hash::ContentHash;
use crate::id::AgentId;
use crate::json::{self, JsonError};
use crate::time::Timestamp;

/// Longest text of a record, in bytes.
pub const RECORD_MAX: usize = 8 * 1024;
/// Most addresses of a record.
pub const ADDRESSES_MAX: usize = 16;
/// Longest address, in bytes.
pub const ADDRESS_MAX: usize = 512;
/// Most offers of a record.
pub const OFFERS_MAX: usize = 24;
/// Most tags of an offer.
pub const TAGS_MAX: usize = 8;
/// Longest name, and longest tag, in bytes.
pub const NAME_MAX: usize = 128;
/// Longest time for which a record holds.
pub const LIFETIME_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// By how much clocks may differ.
pub const SKEW: Duration = Duration::from_secs(5 * 60);

/// Separates these signatures from everything else the keys sign.
const PURPOSE: &str = "kairos-record-v1";

/// Why something is no record that holds.
#[derive(Debug, Error)]
pub enum RecordError {
    /// Longer than [`RECORD_MAX`].
    #[error("the record is longer than {RECORD_MAX} bytes")]
    TooLong,
    /// Not JSON.
    #[error("the record cannot be read: {0}")]
    Json(#[from] JsonError),
    /// Not the members of a record.
    #[error("the record cannot be read: {0}")]
    Form(#[source] serde_json::Error),
    /// More of something than there may be.
    #[error("the record has too many or too long {0}")]
    Bound(&'static str),
    /// The id of another key.
    #[error("the record of `{id}` is signed by the key of `{key}`")]
    Id {
        /// Which it names.
        id: AgentId,
        /// Whose the key is.
        key: AgentId,
    },
    /// The identity key did not sign it.
    #[error("the record's identity signature: {0}")]
    Identity(#[source] SignatureError),
    /// The key of the node did not sign it.
    #[error("the record's node signature does not match")]
    Peer,
    /// It is over.
    #[error("the record was good until {until}")]
    Over {
        /// When.
        until: Timestamp,
    },
    /// It is not yet to be.
    #[error("the record is of {at}, which is still to come; clocks may differ by {} minutes", SKEW.as_secs() / 60)]
    Future {
        /// When.
        at: Timestamp,
    },
    /// It would hold for too long.
    #[error("the record would be good for more than {} hours", LIFETIME_MAX.as_secs() / 3600)]
    TooLasting,
    /// The cryptographic library failed.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// The private Ed25519 key of a node. It leaves this type only as its seed.
pub struct PeerKey {
    pair: Ed25519KeyPair,
    seed: Zeroizing<[u8; 32]>,
    public: PeerPublicKey,
}

impl PeerKey {
    /// Makes a new key.
    pub fn generate() -> Result<Self, KeyError> {
        Self::from_seed(random_bytes()?)
    }

    /// The key of a seed.
    pub fn from_seed(seed: [u8; 32]) -> Result<Self, KeyError> {
        let seed = Zeroizing::new(seed);
        let pair = Ed25519KeyPair::from_seed_unchecked(&*seed).map_err(|_| KeyError::Library)?;
        let public = pair.public_key().as_ref().try_into();
        let public = PeerPublicKey(public.map_err(|_| KeyError::Library)?);
        Ok(Self { pair, seed, public })
    }

    /// What it is made of.
    pub fn seed(&self) -> &[u8; 32] {
        &self.seed
    }

    /// The public half.
    pub fn public(&self) -> PeerPublicKey {
        self.public
    }
}

impl fmt::Debug for PeerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PeerKey({:?})", self.public)
    }
}

/// The public Ed25519 key of a node, in base64 outside.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PeerPublicKey([u8; 32]);

impl PeerPublicKey {
    /// Its 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl TryFrom<String> for PeerPublicKey {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        const WRONG: &str = "a node's key is 32 bytes in base64";
        let bytes = STANDARD.decode(text).map_err(|_| WRONG)?;
        Ok(Self(bytes.try_into().map_err(|_| WRONG)?))
    }
}

impl From<PeerPublicKey> for String {
    fn from(key: PeerPublicKey) -> String {
        STANDARD.encode(key.0)
    }
}

impl fmt::Debug for PeerPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PeerPublicKey({})", STANDARD.encode(self.0))
    }
}

/// Who may learn of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Whoever is connected already.
    Private,
    /// Who asks from the same network.
    Lan,
    /// Everybody, through nodes that keep it.
    World,
}

/// What kind of thing is offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OfferKind {
    /// A skill.
    Skill,
    /// A SkillSet.
    SkillSet,
}

/// Something that an agent hands out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Offer {
    /// What it is.
    pub kind: OfferKind,
    /// Its name, or its id.
    pub name: String,
    /// Of its content.
    pub content_hash: ContentHash,
    /// Its tags.
    pub tags: Vec<String>,
}

/// What a record says; signed and checked as [`Record`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announcement {
    /// For people.
    pub name: String,
    /// Of two records the one with the higher number counts.
    pub sequence: u64,
    /// When it was signed, by the signer's clock.
    pub issued_at: Timestamp,
    /// Until when it holds.
    pub expires_at: Timestamp,
    /// Who may learn of it.
    pub scope: Scope,
    /// Where the node is, as multiaddresses.
    pub addresses: Vec<String>,
    /// Where it answers over HTTP, if it does.
    pub url: Option<String>,
    /// What it hands out.
    pub offers: Vec<Offer>,
    /// The name of the Meeting Place that it hosts, if it hosts one.
    pub place: Option<String>,
    /// The checkpoint of its ledger, with the statement whose it is, as introductions have it; see
    /// [`Attributed::to_value`](crate::tlog::statement::Attributed::to_value). Whoever sees two records can tell whether
    /// the ledger was rewritten in between.
    pub ledger: Option<Value>,
}

/// A record whose signatures, form and time were checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record(Signed);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Signed {
    purpose: String,
    id: AgentId,
    name: String,
    identity_key: PublicKey,
    peer_key: PeerPublicKey,
    sequence: u64,
    #[serde(with = "crate::wire_time")]
    issued_at: Timestamp,
    #[serde(with = "crate::wire_time")]
    expires_at: Timestamp,
    scope: Scope,
    addresses: Vec<String>,
    url: Option<String>,
    offers: Vec<Offer>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    place: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ledger: Option<Value>,
    #[serde(default)]
    identity_signature: String,
    #[serde(default)]
    peer_signature: String,
}

impl Signed {
    /// What both keys sign.
    fn text(&self) -> String {
        let mut value = json!(self);
        if let Value::Object(members) = &mut value {
            members.remove("identity_signature");
            members.remove("peer_signature");
        }
        json::canonical(&value)
    }

    fn bounded(&self) -> Result<(), RecordError> {
        let long = |text: &str, most| text.len() > most || text.chars().any(char::is_control);
        let bad = |list: &[String], count, most| {
            list.len() > count || list.iter().any(|text| long(text, most))
        };
        let offer =
            |offer: &Offer| long(&offer.name, NAME_MAX) || bad(&offer.tags, TAGS_MAX, NAME_MAX);
        let is_long = |text: &Option<String>, most| text.as_deref().is_some_and(|t| long(t, most));
        let wrong = if self.purpose != PURPOSE {
            "purposes"
        } else if long(&self.name, NAME_MAX) || is_long(&self.place, NAME_MAX) {
            "names"
        } else if bad(&self.addresses, ADDRESSES_MAX, ADDRESS_MAX) {
            "addresses"
        } else if is_long(&self.url, ADDRESS_MAX) {
            "URLs"
        } else if self.offers.len() > OFFERS_MAX || self.offers.iter().any(offer) {
            "offers"
        } else {
            return Ok(());
        };
        Err(RecordError::Bound(wrong))
    }
}

impl Record {
    /// Signs `announcement` with both keys.
    ///
    /// # Errors
    ///
    /// What would not be accepted is not signed.
    pub fn sign(
        announcement: Announcement,
        identity: &Keypair,
        peer: &PeerKey,
    ) -> Result<Self, RecordError> {
        let mut signed = Signed {
            purpose: PURPOSE.to_owned(),
            id: identity.public().agent_id(),
            name: announcement.name,
            identity_key: identity.public().clone(),
            peer_key: peer.public(),
            sequence: announcement.sequence,
            issued_at: announcement.issued_at,
            expires_at: announcement.expires_at,
            scope: announcement.scope,
            addresses: announcement.addresses,
            url: announcement.url,
            offers: announcement.offers,
            place: announcement.place,
            ledger: announcement.ledger,
            identity_signature: String::new(),
            peer_signature: String::new(),
        };
        signed.bounded()?;
        let text = signed.text();
        signed.identity_signature = identity.sign(text.as_bytes())?;
        signed.peer_signature = STANDARD.encode(peer.pair.sign(text.as_bytes()));
        let record = Self(signed);
        match record.to_bytes().len() > RECORD_MAX {
            true => Err(RecordError::TooLong),
            false => Ok(record),
        }
    }

    /// Reads a record and checks everything about it that can be checked at `now`.
    pub fn read(bytes: &[u8], now: Timestamp) -> Result<Self, RecordError> {
        if bytes.len() > RECORD_MAX {
            return Err(RecordError::TooLong);
        }
        Self::checked(Value::Object(json::parse_object(bytes)?), now)
    }

    /// As [`read`](Self::read), of what was parsed already.
    pub fn from_value(value: Value, now: Timestamp) -> Result<Self, RecordError> {
        match json::canonical(&value).len() > RECORD_MAX {
            true => Err(RecordError::TooLong),
            false => Self::checked(value, now),
        }
    }

    fn checked(value: Value, now: Timestamp) -> Result<Self, RecordError> {
        let signed: Signed = serde_json::from_value(value).map_err(RecordError::Form)?;
        signed.bounded()?;
        let key = signed.identity_key.agent_id();
        if key != signed.id {
            let id = signed.id;
            return Err(RecordError::Id { id, key });
        }
        let record = Self(signed);
        record.is_current(now)?;
        let text = record.0.text();
        let peer = STANDARD.decode(&record.0.peer_signature);
        let peer = peer.map_err(|_| RecordError::Peer)?;
        UnparsedPublicKey::new(&ED25519, record.0.peer_key.0)
            .verify(text.as_bytes(), &peer)
            .map_err(|_| RecordError::Peer)?;
        let identity = &record.0.identity_key;
        let held = identity.verify(text.as_bytes(), &record.0.identity_signature);
        held.map_err(RecordError::Identity)?;
        Ok(record)
    }

    /// Checks that it holds at `now`.
    pub fn is_current(&self, now: Timestamp) -> Result<(), RecordError> {
        let (at, until) = (self.0.issued_at, self.0.expires_at);
        if until <= now {
            return Err(RecordError::Over { until });
        }
        if at > now.plus(SKEW) {
            return Err(RecordError::Future { at });
        }
        match until.since(at) > LIFETIME_MAX {
            true => Err(RecordError::TooLasting),
            false => Ok(()),
        }
    }

    /// The text that is sent and stored.
    pub fn to_bytes(&self) -> Vec<u8> {
        json::canonical(&self.to_value()).into_bytes()
    }

    /// The same as JSON.
    pub fn to_value(&self) -> Value {
        json!(self.0)
    }

    /// Whose it is.
    pub fn id(&self) -> &AgentId {
        &self.0.id
    }

    /// For people.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Its identity key.
    pub fn identity_key(&self) -> &PublicKey {
        &self.0.identity_key
    }

    /// The key of its node.
    pub fn peer_key(&self) -> PeerPublicKey {
        self.0.peer_key
    }

    /// Of two records the one with the higher number counts.
    pub fn sequence(&self) -> u64 {
        self.0.sequence
    }

    /// Until when it holds.
    pub fn expires_at(&self) -> Timestamp {
        self.0.expires_at
    }

    /// Who may learn of it.
    pub fn scope(&self) -> Scope {
        self.0.scope
    }

    /// Where the node is.
    pub fn addresses(&self) -> &[String] {
        &self.0.addresses
    }

    /// Where it answers over HTTP, if it does.
    pub fn url(&self) -> Option<&str> {
        self.0.url.as_deref()
    }

    /// The name of the Meeting Place that it hosts, if it hosts one.
    pub fn place(&self) -> Option<&str> {
        self.0.place.as_deref()
    }

    /// The checkpoint of its ledger, as introductions have it.
    pub fn ledger(&self) -> Option<&Value> {
        self.0.ledger.as_ref()
    }

    /// What it hands out.
    pub fn offers(&self) -> &[Offer] {
        &self.0.offers
    }
}

/// Where the record of an agent is kept in the table of the network.
pub fn table_key(id: &AgentId) -> Vec<u8> {
    format!("/kairos/agent/{id}").into_bytes()
}

#[cfg(test)]
mod tests;
