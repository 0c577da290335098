//! An agreement between two Places: one proposes, the other accepts or refuses, and either ends it.
//!
//! Each step is a text that the Place signs with the key of its identity. The proposal names both Places, both keys and
//! the moment; every later step names the proposal by its hash. So no step can be moved to another agreement, another
//! partner, another key or another time, and each can be checked by whoever has the proposal.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use thiserror::Error;

use crate::crypto::{KeyError, Keypair, PublicKey, SignatureError};
use crate::hash::ContentHash;
use crate::id::{AgentId, AgreementId};
use crate::json;
use crate::time::Timestamp;
use crate::wire_time;

/// The version of the format.
const VERSION: u32 = 1;
/// Longest address of a Place in bytes.
pub const URL_MAX: usize = 512;
/// How long a proposal can be accepted.
pub const OPEN_FOR: Duration = Duration::from_secs(7 * 86_400);
/// How far the clock of another Place may be ahead.
pub const AHEAD_MAX: Duration = Duration::from_secs(300);
/// Keeps the signature of a proposal from being taken for one over anything else.
const PROPOSES: &str = "kairos-federation-proposal-v1";
/// The same for later steps.
const STATES: &str = "kairos-federation-statement-v1";

/// Why a step of an agreement does not hold.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AgreementError {
    /// Written in a later version.
    #[error("the proposal is of an unknown version")]
    Version,
    /// An address that is none.
    #[error("the address of a Place is an HTTP URL of at most {URL_MAX} bytes")]
    Url,
    /// A Place does not agree with itself.
    #[error("both sides are the same Place")]
    OneSide,
    /// The signature does not fit.
    #[error("what was signed: {0}")]
    Signature(#[from] SignatureError),
    /// It is about another proposal.
    #[error("it is about another agreement")]
    OtherAgreement,
    /// Only some may say this.
    #[error("`{0}` is not the Place that can say this")]
    NotAParty(AgentId),
    /// The times do not fit.
    #[error("it was signed at another time than it can have been; check both clocks")]
    Time,
}

/// One side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Party {
    /// The agent that hosts the Place.
    pub place_id: AgentId,
    /// Its key.
    pub public_key: PublicKey,
    /// Where the other side reaches it.
    pub url: String,
}

impl Party {
    fn check(&self) -> Result<(), AgreementError> {
        let web = self.url.starts_with("http://") || self.url.starts_with("https://");
        let odd = |c: char| c.is_control() || c.is_whitespace();
        match web && self.url.len() <= URL_MAX && !self.url.contains(odd) {
            true => Ok(()),
            false => Err(AgreementError::Url),
        }
    }

    fn text(&self) -> Value {
        json!({"place_id": self.place_id, "public_key": self.public_key.hash(), "url": self.url})
    }
}

/// What one Place offers another, signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proposal {
    version: u32,
    /// Who offers it.
    pub proposer: Party,
    /// Who may accept it.
    pub acceptor: Party,
    /// When it was offered, to the second.
    #[serde(with = "wire_time")]
    pub at: Timestamp,
    signature: String,
}

impl Proposal {
    /// Offers `acceptor` an agreement in the name of the Place `place_id`, which is reached at `url`.
    pub fn sign(
        keypair: &Keypair,
        place_id: AgentId,
        url: String,
        acceptor: Party,
        at: Timestamp,
    ) -> Result<Self, KeyError> {
        let mut proposal = Self {
            version: VERSION,
            proposer: Party {
                place_id,
                public_key: keypair.public().clone(),
                url,
            },
            acceptor,
            at: whole(at),
            signature: String::new(),
        };
        proposal.signature = keypair.sign(proposal.text().as_bytes())?;
        Ok(proposal)
    }

    fn text(&self) -> String {
        json::canonical(&json!({
            "purpose": PROPOSES, "version": self.version, "proposer": self.proposer.text(),
            "acceptor": self.acceptor.text(), "at": self.at.wire(),
        }))
    }

    /// Its name, which follows from all that it says.
    pub fn id(&self) -> AgreementId {
        let hex: String = ContentHash::of(self.text())
            .to_hex()
            .chars()
            .take(32)
            .collect();
        #[expect(
            clippy::expect_used,
            reason = "32 lower-case hex digits name an agreement"
        )]
        hex.parse().expect("hex names an agreement")
    }

    /// Checks the form and the signature. Whether the keys are those of the Places is for the caller to know.
    pub fn verify(&self) -> Result<(), AgreementError> {
        if self.version != VERSION {
            return Err(AgreementError::Version);
        }
        let (proposer, acceptor) = (&self.proposer, &self.acceptor);
        proposer.check()?;
        acceptor.check()?;
        if proposer.place_id == acceptor.place_id || proposer.public_key == acceptor.public_key {
            return Err(AgreementError::OneSide);
        }
        Ok(proposer
            .public_key
            .verify(self.text().as_bytes(), &self.signature)?)
    }

    /// Whether it can be accepted at `now`.
    pub fn is_open(&self, now: Timestamp) -> bool {
        self.at <= now.plus(AHEAD_MAX) && now.since(self.at) <= OPEN_FOR
    }

    /// The side of the Place `id`.
    pub fn side(&self, id: &AgentId) -> Option<&Party> {
        let mut sides = [&self.proposer, &self.acceptor].into_iter();
        sides.find(|party| &party.place_id == id)
    }

    /// The side that is not the Place `id`, if that is one of both.
    pub fn other(&self, id: &AgentId) -> Option<&Party> {
        match (&self.proposer.place_id == id, &self.acceptor.place_id == id) {
            (true, _) => Some(&self.acceptor),
            (_, true) => Some(&self.proposer),
            (false, false) => None,
        }
    }
}

/// What is said about a proposal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Word {
    /// The other side agrees: from now on it is in effect.
    Accepted,
    /// The other side does not.
    Refused,
    /// One of both ends it, or takes the proposal back.
    Ended,
}

impl Word {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Refused => "refused",
            Self::Ended => "ended",
        }
    }
}

/// A step after the proposal, signed by the Place that takes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statement {
    /// About which proposal.
    pub agreement: AgreementId,
    /// What.
    pub word: Word,
    /// Who says it.
    pub by: AgentId,
    /// When, to the second.
    #[serde(with = "wire_time")]
    pub at: Timestamp,
    signature: String,
}

impl Statement {
    /// Says `word` about `proposal` in the name of the Place `by`.
    pub fn sign(
        keypair: &Keypair,
        proposal: &Proposal,
        word: Word,
        by: AgentId,
        at: Timestamp,
    ) -> Result<Self, KeyError> {
        let mut statement = Self {
            agreement: proposal.id(),
            word,
            by,
            at: whole(at),
            signature: String::new(),
        };
        statement.signature = keypair.sign(statement.text().as_bytes())?;
        Ok(statement)
    }

    fn text(&self) -> String {
        json::canonical(&json!({
            "purpose": STATES, "agreement": self.agreement, "word": self.word, "by": self.by,
            "at": self.at.wire(),
        }))
    }

    /// Checks that it is about `proposal`, and that a Place that may say so signed it with the key in the proposal.
    pub fn verify(&self, proposal: &Proposal) -> Result<(), AgreementError> {
        if self.agreement != proposal.id() {
            return Err(AgreementError::OtherAgreement);
        }
        let stranger = || AgreementError::NotAParty(self.by.clone());
        let party = proposal.side(&self.by).ok_or_else(stranger)?;
        if self.word != Word::Ended && self.by != proposal.acceptor.place_id {
            return Err(stranger());
        }
        let early = self.at.plus(AHEAD_MAX) < proposal.at;
        let late = self.word != Word::Ended && self.at.since(proposal.at) > OPEN_FOR;
        if early || late {
            return Err(AgreementError::Time);
        }
        Ok(party
            .public_key
            .verify(self.text().as_bytes(), &self.signature)?)
    }
}

fn whole(at: Timestamp) -> Timestamp {
    Timestamp::from_secs(at.as_secs())
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use proptest::prelude::*;

    use super::*;

    static KEYS: LazyLock<[Keypair; 3]> =
        LazyLock::new(|| [(); 3].map(|()| Keypair::generate().unwrap()));

    fn now() -> Timestamp {
        Timestamp::from_secs(1_800_000_000)
    }

    fn party(which: usize) -> Party {
        Party {
            place_id: KEYS[which].public().agent_id(),
            public_key: KEYS[which].public().clone(),
            url: format!("http://127.0.0.1:{which}"),
        }
    }

    fn proposal() -> Proposal {
        let Party { place_id, url, .. } = party(0);
        Proposal::sign(&KEYS[0], place_id, url, party(1), now()).unwrap()
    }

    fn said(word: Word, by: usize, at: Timestamp) -> Statement {
        let id = party(by).place_id;
        Statement::sign(&KEYS[by], &proposal(), word, id, at).unwrap()
    }

    #[test]
    fn each_step_holds_for_those_who_may_take_it() {
        let proposal = proposal();
        proposal.verify().unwrap();
        for (word, by, holds) in [
            (Word::Accepted, 1, true),
            (Word::Accepted, 0, false),
            (Word::Refused, 1, true),
            (Word::Refused, 0, false),
            (Word::Ended, 0, true),
            (Word::Ended, 1, true),
            (Word::Ended, 2, false),
        ] {
            let verified = said(word, by, now()).verify(&proposal);
            assert_eq!(verified.is_ok(), holds, "{word:?} {by} {verified:?}");
        }
        assert_eq!(proposal.other(&party(0).place_id), Some(&party(1)));
        assert_eq!(proposal.other(&party(1).place_id), Some(&party(0)));
        assert_eq!(proposal.other(&party(2).place_id), None);
    }

    #[test]
    fn any_change_of_a_proposal_breaks_it() {
        let value = serde_json::to_value(proposal()).unwrap();
        for (pointer, changed) in [
            ("/proposer/url", json!("http://127.0.0.1:9")),
            ("/acceptor/url", json!("http://127.0.0.1:9")),
            ("/acceptor/url", json!("ftp://127.0.0.1:9")),
            ("/proposer/place_id", json!("other")),
            ("/acceptor/place_id", json!("other")),
            ("/acceptor/place_id", json!(party(0).place_id)),
            ("/proposer/public_key", json!(party(2).public_key)),
            ("/acceptor/public_key", json!(party(2).public_key)),
            ("/at", json!("2027-01-15T08:00:01Z")),
            ("/signature", json!("AAAA")),
            ("/version", json!(2)),
        ] {
            let mut value = value.clone();
            *value.pointer_mut(pointer).unwrap() = changed;
            let read: Proposal = serde_json::from_value(value).unwrap();
            assert!(read.verify().is_err(), "{pointer}");
        }
        let mut more = value;
        more["extra"] = json!(1);
        assert!(serde_json::from_value::<Proposal>(more).is_err());
    }

    #[test]
    fn a_statement_is_moved_to_no_other_agreement_and_no_other_time() {
        let Party { place_id, url, .. } = party(0);
        let later = now().plus(Duration::from_secs(1));
        let other = Proposal::sign(&KEYS[0], place_id, url, party(1), later).unwrap();
        let accepted = said(Word::Accepted, 1, now());
        assert_eq!(accepted.verify(&other), Err(AgreementError::OtherAgreement));
        let mut moved = accepted;
        moved.agreement = other.id();
        assert!(
            moved.verify(&other).is_err(),
            "the signature names the first"
        );
        let late = now().plus(OPEN_FOR).plus(Duration::from_secs(1));
        let early = now().minus(AHEAD_MAX).minus(Duration::from_secs(1));
        for at in [late, early] {
            let statement = said(Word::Accepted, 1, at);
            assert_eq!(statement.verify(&proposal()), Err(AgreementError::Time));
        }
        assert_eq!(said(Word::Ended, 1, late).verify(&proposal()), Ok(()));
        assert!(proposal().is_open(now()) && !proposal().is_open(late));
        assert!(!proposal().is_open(early));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parsers_panic(text in "\\PC{0,120}") {
            let _ = serde_json::from_str::<Proposal>(&text);
            let _ = serde_json::from_str::<Statement>(&text);
        }
    }
}
