//! What nodes ask each other for records, `/kairos/records/1`: one JSON object, answered by one.
//!
//! | asked | told |
//! |---|---|
//! | `{"own":true}`: whose node is this? | `{"record":…}` |
//! | `{"agent":ID}`: is it this agent's? | `{"record":…}`, or `{"record":null}` |
//! | `{"sets":[[PREFIX,FINGERPRINT],…]}`: what is in these parts of your records? | `{"sets":[…]}`: for each `null` if it is the same, `{"list":[[ID,SEQUENCE],…]}` or `{"parts":[FINGERPRINT,…]}` |
//! | `{"agents":[ID,…]}`: the records of these agents | `{"records":[…]}` |
//! | `{"find":QUERY}`: records that are of this kind | `{"records":[…]}` |

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use thiserror::Error;

use super::book::{Fingerprint, PARTS, Prefix, Summary};
use super::{NAME_MAX, RECORD_MAX, Record};
use crate::hash::ContentHash;
use crate::id::AgentId;
use crate::json::{self, JsonError};
use crate::time::Timestamp;

/// Most parts, and most agents, of one question.
pub const ASKED_MAX: usize = 16;
/// Most records of one answer.
pub const TOLD_MAX: usize = 24;
/// Longest answer, in bytes.
pub const ANSWER_MAX: usize = (TOLD_MAX + 1) * RECORD_MAX;

/// What somebody looks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Query {
    /// Meeting Places, all of them or those whose name contains this, in any case.
    Place(String),
    /// Whoever hands out content with this hash.
    Content(ContentHash),
    /// Whoever hands out something of this name.
    Offer(String),
    /// Whoever hands out something with this tag.
    Tag(String),
}

impl Query {
    /// Whether `record` is what is looked for.
    pub fn matches(&self, record: &Record) -> bool {
        let same = |one: &str, other: &str| one.to_lowercase() == other.to_lowercase();
        let mut offers = record.offers().iter();
        match self {
            Self::Place(part) => record
                .place()
                .is_some_and(|name| name.to_lowercase().contains(&part.to_lowercase())),
            Self::Content(hash) => offers.any(|offer| offer.content_hash == *hash),
            Self::Offer(name) => offers.any(|offer| same(&offer.name, name)),
            Self::Tag(tag) => offers.any(|offer| offer.tags.iter().any(|has| same(has, tag))),
        }
    }

    /// Whether it is short enough to be asked: nothing that is announced has a longer name or tag than [`NAME_MAX`] bytes.
    pub fn is_bounded(&self) -> bool {
        match self {
            Self::Content(_) => true,
            Self::Place(text) | Self::Offer(text) | Self::Tag(text) => text.len() <= NAME_MAX,
        }
    }
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordsAsked {
    /// Whose node it is; always `true`.
    Own(bool),
    /// The record of this agent, if the node is its.
    Agent(AgentId),
    /// What is in these parts of the records, unless it is what these stand for.
    Sets(Vec<(Prefix, Fingerprint)>),
    /// The records of these agents.
    Agents(Vec<AgentId>),
    /// Records that match.
    Find(Query),
}

impl RecordsAsked {
    /// As it is sent.
    pub fn to_bytes(&self) -> Vec<u8> {
        json::canonical(&json!(self)).into_bytes()
    }

    /// Nothing if it is not understood, or asks for too much at once.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let members = json::parse_object(bytes).ok()?;
        let asked: Self = serde_json::from_value(Value::Object(members)).ok()?;
        let is_bounded = match &asked {
            Self::Own(own) => *own,
            Self::Agent(_) => true,
            Self::Sets(sets) => sets.len() <= ASKED_MAX,
            Self::Agents(agents) => agents.len() <= ASKED_MAX,
            Self::Find(query) => query.is_bounded(),
        };
        is_bounded.then_some(asked)
    }
}

/// Why an answer says nothing.
#[derive(Debug, Error)]
pub enum ToldError {
    /// Longer than [`ANSWER_MAX`].
    #[error("it is longer than {ANSWER_MAX} bytes")]
    TooLong,
    /// Not JSON.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// Not the answer to this question.
    #[error("it does not answer what was asked")]
    Other,
}

/// What is told. Records in it are not checked yet, see [`Record::read`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordsTold {
    /// One record, or that there is none.
    Record(Option<Value>),
    /// What is in each part that was asked for, in order.
    Sets(Vec<Option<Summary>>),
    /// Records.
    Records(Vec<Value>),
}

impl RecordsTold {
    /// One record, or that there is none.
    pub fn one(record: Option<&Record>) -> Self {
        Self::Record(record.map(Record::to_value))
    }

    /// As many records as an answer holds.
    pub fn several<'r>(records: impl Iterator<Item = &'r Record>) -> Self {
        Self::Records(records.take(TOLD_MAX).map(Record::to_value).collect())
    }

    /// As it is sent.
    pub fn to_bytes(&self) -> Vec<u8> {
        json::canonical(&json!(self)).into_bytes()
    }

    /// What a peer told.
    ///
    /// # Errors
    ///
    /// Tells why that is nothing of use.
    pub fn read(bytes: &[u8]) -> Result<Self, ToldError> {
        if bytes.len() > ANSWER_MAX {
            return Err(ToldError::TooLong);
        }
        let members = json::parse_object(bytes)?;
        let told: Self =
            serde_json::from_value(Value::Object(members)).map_err(|_| ToldError::Other)?;
        let is_bounded = match &told {
            Self::Record(_) => true,
            Self::Sets(sets) => {
                let is_whole = |summary: &Summary| match summary {
                    Summary::List(_) => true,
                    Summary::Parts(parts) => parts.len() == PARTS,
                };
                sets.len() <= ASKED_MAX && sets.iter().flatten().all(is_whole)
            }
            Self::Records(records) => records.len() <= TOLD_MAX,
        };
        match is_bounded {
            true => Ok(told),
            false => Err(ToldError::Other),
        }
    }

    /// The records in it that hold at `now`, and how many do not.
    pub fn records(self, now: Timestamp) -> (Vec<Record>, usize) {
        let values = match self {
            Self::Record(record) => record.into_iter().collect(),
            Self::Records(records) => records,
            Self::Sets(_) => Vec::new(),
        };
        let all = values.len();
        let read = values
            .into_iter()
            .filter_map(|value| Record::from_value(value, now).ok());
        let records: Vec<Record> = read.collect();
        let bad = all - records.len();
        (records, bad)
    }
}
