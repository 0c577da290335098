//! Whom a ban means, as it is written and as a person writes it.

use std::fmt;
use std::str::FromStr;

use kairos_protocol::hash::ContentHash;
use kairos_protocol::id::AgentId;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::network::{Network, NetworkError};

/// A key as bans name it: by the first 16 bytes of its hash, which is what fingerprints show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyPrint([u8; 16]);

/// Who is meant. Written with what it is in front: `agent:ID`, `key:aa:bb:…`, `address:192.0.2.0/24`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Target {
    /// An agent, whatever key it has.
    Agent(AgentId),
    /// Whoever has this key.
    Key(KeyPrint),
    /// Whoever asks from there.
    Network(Network),
}

/// The text is no [`Target`].
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{}` is no agent id, key fingerprint, address or network: {reason}", text.chars().take(64).collect::<String>())]
pub struct TargetError {
    text: String,
    reason: String,
}

impl KeyPrint {
    /// That of a key with this hash.
    pub fn of(hash: &ContentHash) -> Self {
        let mut print = [0; 16];
        for (to, from) in print.iter_mut().zip(hash.as_bytes()) {
            *to = *from;
        }
        Self(print)
    }
}

impl FromStr for KeyPrint {
    type Err = &'static str;

    /// A fingerprint as it is shown, or all of a hash: 64 hex digits, perhaps with `sha256:` in front.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WANTED: &str =
            "a key is named by its fingerprint, 16 pairs of hex digits with colons between them";
        let whole = text.strip_prefix("sha256:").unwrap_or(text);
        if let Ok(hash) = whole.parse::<ContentHash>() {
            return Ok(Self::of(&hash));
        }
        let pairs: Vec<&str> = text.split(':').collect();
        if pairs.len() != 16 || pairs.iter().any(|pair| pair.len() != 2) {
            return Err(WANTED);
        }
        let mut print = [0; 16];
        hex::decode_to_slice(pairs.concat(), &mut print).map_err(|_| WANTED)?;
        Ok(Self(print))
    }
}

impl fmt::Display for KeyPrint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pairs = self.0.map(|byte| format!("{byte:02x}"));
        f.write_str(&pairs.join(":"))
    }
}

impl Target {
    /// Reads what a person wrote: with what it is in front, or else an address or network, a fingerprint, and if it is
    /// neither the id of an agent.
    pub fn guess(text: &str) -> Result<Self, TargetError> {
        if ["agent:", "key:", "address:"]
            .iter()
            .any(|word| text.starts_with(word))
        {
            return text.parse();
        }
        let wrong = |reason: String| TargetError {
            text: text.to_owned(),
            reason,
        };
        match text.parse::<Network>() {
            Ok(network) => return Ok(Self::Network(network)),
            Err(NetworkError::Address) => {}
            Err(error) => return Err(wrong(error.to_string())),
        }
        if let Ok(key) = text.parse() {
            return Ok(Self::Key(key));
        }
        let id = text.parse::<AgentId>();
        id.map(Self::Agent)
            .map_err(|error| wrong(error.to_string()))
    }

    /// `agent`, `key` or `address`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Agent(_) => "agent",
            Self::Key(_) => "key",
            Self::Network(_) => "address",
        }
    }
}

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        let wrong = |reason: String| TargetError {
            text: text.to_owned(),
            reason,
        };
        let parsed = match text.split_once(':') {
            Some(("agent", id)) => id.parse().map(Self::Agent).map_err(|e| format!("{e}")),
            Some(("key", key)) => key.parse().map(Self::Key).map_err(str::to_owned),
            Some(("address", network)) => {
                let network = network.parse::<Network>();
                network.map(Self::Network).map_err(|e| e.to_string())
            }
            _ => Err("it does not begin with agent:, key: or address:".to_owned()),
        };
        parsed.map_err(wrong)
    }
}

impl TryFrom<String> for Target {
    type Error = TargetError;
    fn try_from(text: String) -> Result<Self, TargetError> {
        text.parse()
    }
}

impl From<Target> for String {
    fn from(target: Target) -> Self {
        target.to_string()
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Agent(id) => write!(f, "agent:{id}"),
            Self::Key(key) => write!(f, "key:{key}"),
            Self::Network(network) => write!(f, "address:{network}"),
        }
    }
}
