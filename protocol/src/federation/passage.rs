//! By which hands an answer came: every Place on the way signed it for the next.
//!
//! The first signature is that of the Place that answers, over the question and the answer; each further one is over the
//! one before as well, and each names for whom it is. So no Place can be left out, added or exchanged, and no answer can
//! be shown again to another question or to somebody else.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;
use thiserror::Error;

use super::journey::PLACES_MAX;
use crate::crypto::{KeyError, Keypair, PublicKey, SignatureError};
use crate::hash::ContentHash;
use crate::id::AgentId;
use crate::json;
use crate::time::Timestamp;
use crate::wire_time;

/// How far the clocks of Places may differ from ours.
pub const SKEW_MAX: Duration = Duration::from_secs(600);
/// Keeps a signature over a station from being taken for one over anything else.
const PURPOSE: &str = "kairos-passage-v1";

/// A Place that handed the answer on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Station {
    /// Which.
    pub place_id: AgentId,
    /// The key that verifies the signature.
    pub public_key: PublicKey,
    /// For whom.
    pub to: AgentId,
    /// When, to the second, by its clock.
    #[serde(with = "wire_time")]
    pub at: Timestamp,
    signature: String,
}

/// The stations of one answer, the one that answered first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Passage(Vec<Station>);

/// Why a passage does not hold.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PassageError {
    /// Other Places signed than were asked.
    #[error("the answer did not come the way that the question went")]
    OtherWay,
    /// It is for somebody else.
    #[error("what `{0}` signed is for somebody else")]
    OtherRecipient(AgentId),
    /// A signature does not fit.
    #[error("what `{place}` signed: {source}")]
    Signature {
        /// Which Place.
        place: AgentId,
        /// Why.
        source: SignatureError,
    },
    /// It was not signed now.
    #[error("what `{0}` signed is of another time than now; check the clocks")]
    Time(AgentId),
}

impl Passage {
    /// The passage with `by` as the next station, which hands the answer to `to`.
    pub fn signed(
        mut self,
        keypair: &Keypair,
        by: AgentId,
        to: AgentId,
        question: &ContentHash,
        answer: &ContentHash,
        at: Timestamp,
    ) -> Result<Self, KeyError> {
        let mut station = Station {
            place_id: by,
            public_key: keypair.public().clone(),
            to,
            at: Timestamp::from_secs(at.as_secs()),
            signature: String::new(),
        };
        let text = station.text(question, answer, self.0.last());
        station.signature = keypair.sign(text.as_bytes())?;
        self.0.push(station);
        Ok(self)
    }

    /// Checks that the answer came through the Places of `way`, the one that answered first, to `to`.
    pub fn verify(
        &self,
        question: &ContentHash,
        answer: &ContentHash,
        way: &[AgentId],
        to: &AgentId,
    ) -> Result<(), PassageError> {
        let stations = &self.0;
        let ids = stations.iter().map(|station| &station.place_id);
        if stations.len() > PLACES_MAX || stations.is_empty() || !ids.eq(way) {
            return Err(PassageError::OtherWay);
        }
        let recipients = way.iter().skip(1).chain([to]);
        let mut previous = None;
        for (station, recipient) in stations.iter().zip(recipients) {
            let place = station.place_id.clone();
            if &station.to != recipient {
                return Err(PassageError::OtherRecipient(place));
            }
            let text = station.text(question, answer, previous);
            let held = station
                .public_key
                .verify(text.as_bytes(), &station.signature);
            held.map_err(|source| PassageError::Signature { place, source })?;
            previous = Some(station);
        }
        Ok(())
    }

    /// Checks that every station signed about now.
    pub fn is_of(&self, now: Timestamp) -> Result<(), PassageError> {
        let off = |at: Timestamp| at.since(now).max(now.since(at)) > SKEW_MAX;
        match self.0.iter().find(|station| off(station.at)) {
            None => Ok(()),
            Some(station) => Err(PassageError::Time(station.place_id.clone())),
        }
    }

    /// The Places, the one that answered first.
    pub fn stations(&self) -> &[Station] {
        &self.0
    }
}

impl Station {
    fn text(&self, question: &ContentHash, answer: &ContentHash, before: Option<&Self>) -> String {
        json::canonical(&json!({
            "purpose": PURPOSE, "question": question, "answer": answer, "place_id": self.place_id,
            "to": self.to, "at": self.at.wire(),
            "previous": before.map(|before| ContentHash::of(&before.signature).to_hex()),
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use serde_json::Value;

    use super::*;

    static KEYS: LazyLock<[Keypair; 4]> =
        LazyLock::new(|| [(); 4].map(|()| Keypair::generate().unwrap()));

    fn id(which: usize) -> AgentId {
        KEYS[which].public().agent_id()
    }

    fn hashes() -> (ContentHash, ContentHash) {
        (ContentHash::of("question"), ContentHash::of("answer"))
    }

    fn now() -> Timestamp {
        Timestamp::from_secs(1_800_000_000)
    }

    /// From the Place 0 through 1 and 2 to the agent 3.
    fn passage() -> Passage {
        let (question, answer) = hashes();
        (0..3).fold(Passage::default(), |passage, n| {
            let to = id(n + 1);
            let signed = passage.signed(&KEYS[n], id(n), to, &question, &answer, now());
            signed.unwrap()
        })
    }

    fn check(passage: &Passage) -> Result<(), PassageError> {
        let (question, answer) = hashes();
        passage.verify(&question, &answer, &[id(0), id(1), id(2)], &id(3))
    }

    fn changed(change: impl FnOnce(&mut Vec<Value>)) -> Passage {
        let mut value = serde_json::to_value(passage()).unwrap();
        change(value.as_array_mut().unwrap());
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn holds_for_its_question_its_answer_its_way_and_its_recipient() {
        let (question, answer) = hashes();
        let (passage, other) = (passage(), ContentHash::of("other"));
        let way = [id(0), id(1), id(2)];
        passage.verify(&question, &answer, &way, &id(3)).unwrap();
        assert!(passage.verify(&other, &answer, &way, &id(3)).is_err());
        assert!(passage.verify(&question, &other, &way, &id(3)).is_err());
        let turned = [id(1), id(0), id(2)];
        let refused = passage.verify(&question, &answer, &turned, &id(3));
        assert_eq!(refused, Err(PassageError::OtherWay));
        let refused = passage.verify(&question, &answer, &way, &id(0));
        assert_eq!(refused, Err(PassageError::OtherRecipient(id(2))));
        assert_eq!(passage.is_of(now()), Ok(()));
        let late = now().plus(SKEW_MAX + Duration::from_secs(1));
        assert_eq!(passage.is_of(late), Err(PassageError::Time(id(0))));
        let empty = Passage::default().verify(&question, &answer, &[], &id(3));
        assert_eq!(empty, Err(PassageError::OtherWay));
    }

    #[test]
    fn no_station_is_left_out_added_exchanged_or_changed() {
        let broken = [
            changed(|stations| drop(stations.remove(1))),
            changed(|stations| stations.swap(0, 1)),
            changed(|stations| stations.push(stations[2].clone())),
            changed(|stations| stations[1]["at"] = json!("2027-01-15T08:00:01Z")),
            changed(|stations| stations[0]["to"] = json!(id(3))),
            changed(|stations| stations[1]["public_key"] = json!(KEYS[3].public())),
            changed(|stations| stations[1]["place_id"] = json!(id(3))),
            changed(|stations| stations[1]["signature"] = json!("AAAA")),
        ];
        for passage in broken {
            assert!(check(&passage).is_err(), "{passage:?}");
        }
        // One in the middle cannot say that it answered itself.
        let (question, answer) = hashes();
        let forged = Passage::default()
            .signed(&KEYS[1], id(1), id(2), &question, &answer, now())
            .and_then(|p| p.signed(&KEYS[2], id(2), id(3), &question, &answer, now()));
        assert_eq!(check(&forged.unwrap()), Err(PassageError::OtherWay));
    }
}
