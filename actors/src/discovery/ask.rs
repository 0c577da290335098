//! What nodes ask each other for records, `/kairos/records/1`: `{"own":true}` or `{"agent":ID}`, answered by
//! `{"record":…}` or `{"record":null}`.

use kairos_protocol::id::AgentId;
use kairos_protocol::json;
use kairos_protocol::record::Record;
use kairos_protocol::time::Timestamp;
use serde_json::{Value, json};

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RecordsAsked {
    /// Whose node it is.
    Own,
    /// The record of this agent.
    Agent(AgentId),
}

impl RecordsAsked {
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let value = match self {
            Self::Own => json!({"own": true}),
            Self::Agent(id) => json!({"agent": id}),
        };
        json::canonical(&value).into_bytes()
    }

    /// Nothing if it is not understood.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let members = json::parse_object(bytes).ok()?;
        if members.get("own") == Some(&Value::Bool(true)) {
            return Some(Self::Own);
        }
        let id = members.get("agent")?.as_str()?;
        Some(Self::Agent(id.parse().ok()?))
    }
}

/// What is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RecordsTold(Vec<u8>);

impl RecordsTold {
    pub(super) fn of(record: Option<&Record>) -> Self {
        let record = record.map_or_else(|| b"null".to_vec(), Record::to_bytes);
        Self([b"{\"record\":".as_slice(), &record, b"}"].concat())
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        self.0.clone()
    }

    /// The record in what a peer told, if it holds at `now`.
    pub(super) fn read(bytes: &[u8], now: Timestamp) -> Result<Record, String> {
        let members = json::parse_object(bytes).map_err(|error| error.to_string())?;
        match members.get("record") {
            None | Some(Value::Null) => Err("it has no record for us".to_owned()),
            Some(record) => {
                let record = Record::read(json::canonical(record).as_bytes(), now);
                record.map_err(|error| error.to_string())
            }
        }
    }
}
