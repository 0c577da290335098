//! Where anchors are kept, from a place that proves nothing to others to public chains, and which step comes next.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;
use thiserror::Error;

/// A place for anchors, in the order in which they are moved on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Stage 0: for trying things out.
    InMemory,
    /// Stage 1: a file of the owner's.
    Private,
    /// Stage 2: a public chain whose coins are worth nothing.
    PublicTestnet,
    /// Stage 3: a public chain.
    PublicMainnet,
}

/// Every stage, in order.
pub const STAGES: [Stage; 4] = [
    Stage::InMemory,
    Stage::Private,
    Stage::PublicTestnet,
    Stage::PublicMainnet,
];

/// Why anchors are not moved there, in the words of the reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum StageError {
    /// There is no such stage.
    #[error("Invalid target stage: {0}. Valid: 0, 1, 2, 3")]
    Unknown(i64),
    /// Not ahead.
    #[error("Cannot migrate backwards. Current stage: {current}, target: {target}")]
    Backwards {
        /// Where the anchors are.
        current: u8,
        /// Where they were to go.
        target: u8,
    },
    /// More than one step ahead.
    #[error("Cannot skip stages. Current: {current}, target: {target}. Next available: {}", .current + 1)]
    Skipped {
        /// Where the anchors are.
        current: u8,
        /// Where they were to go.
        target: u8,
    },
    /// A public chain, to which nothing here can write yet.
    #[error("Stage {0} ({1}) requires external dependencies not yet available")]
    Unavailable(u8, Stage),
}

/// A step that could be taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step {
    /// From which stage.
    pub from: u8,
    /// To which.
    pub to: u8,
    /// The name of the first.
    pub from_name: &'static str,
    /// The name of the second.
    pub to_name: &'static str,
    /// Whether nothing outside is needed.
    pub self_contained: bool,
    /// What is needed.
    pub prerequisites: &'static [&'static str],
}

impl Stage {
    /// 0 to 3.
    pub fn number(self) -> u8 {
        match self {
            Self::InMemory => 0,
            Self::Private => 1,
            Self::PublicTestnet => 2,
            Self::PublicMainnet => 3,
        }
    }

    /// The name in settings and replies.
    pub fn name(self) -> &'static str {
        match self {
            Self::InMemory => "in_memory",
            Self::Private => "private",
            Self::PublicTestnet => "public_testnet",
            Self::PublicMainnet => "public_mainnet",
        }
    }

    /// What it is, in the reference's words.
    pub fn description(self) -> &'static str {
        match self {
            Self::InMemory => "In-memory (development/testing)",
            Self::Private => "Private JSON file storage",
            Self::PublicTestnet => "Public testnet (Base Sepolia)",
            Self::PublicMainnet => "Public mainnet (Base/Ethereum)",
        }
    }

    fn prerequisites(self) -> &'static [&'static str] {
        match self {
            Self::InMemory | Self::Private => &[],
            Self::PublicTestnet => &[
                "eth gem installed",
                "RPC URL configured",
                "Contract deployed on testnet",
            ],
            Self::PublicMainnet => &[
                "Testnet validation complete",
                "Mainnet RPC URL",
                "Mainnet contract deployed",
            ],
        }
    }

    /// The stage after this one.
    pub fn next(self) -> Option<Step> {
        let to = STAGES.into_iter().find(|stage| *stage > self)?;
        Some(Step {
            from: self.number(),
            to: to.number(),
            from_name: self.name(),
            to_name: to.name(),
            self_contained: to.prerequisites().is_empty(),
            prerequisites: to.prerequisites(),
        })
    }

    /// The stage `target`, if anchors can be moved there from here.
    pub fn to(self, target: i64) -> Result<Self, StageError> {
        let number = u8::try_from(target).ok();
        let stage = STAGES.into_iter().find(|s| Some(s.number()) == number);
        let stage = stage.ok_or(StageError::Unknown(target))?;
        let (current, target) = (self.number(), stage.number());
        match target {
            _ if target <= current => Err(StageError::Backwards { current, target }),
            _ if target > current + 1 => Err(StageError::Skipped { current, target }),
            2.. => Err(StageError::Unavailable(target, stage)),
            _ => Ok(stage),
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Stage {
    type Err = UnknownBackend;

    fn from_str(text: &str) -> Result<Self, UnknownBackend> {
        match text {
            "in_memory" => Ok(Self::InMemory),
            "private" => Ok(Self::Private),
            other => Err(UnknownBackend(other.chars().take(64).collect())),
        }
    }
}

/// No place that anchors can be kept in.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("Unknown backend type: {0}. Valid types: in_memory, private")]
pub struct UnknownBackend(String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allows_one_step_ahead_and_answers_the_rest_as_the_reference_does() {
        assert_eq!(Stage::InMemory.to(1), Ok(Stage::Private));
        for (from, target, text) in [
            (
                Stage::InMemory,
                4,
                "Invalid target stage: 4. Valid: 0, 1, 2, 3",
            ),
            (
                Stage::InMemory,
                -1,
                "Invalid target stage: -1. Valid: 0, 1, 2, 3",
            ),
            (
                Stage::Private,
                1,
                "Cannot migrate backwards. Current stage: 1, target: 1",
            ),
            (
                Stage::Private,
                0,
                "Cannot migrate backwards. Current stage: 1, target: 0",
            ),
            (
                Stage::InMemory,
                2,
                "Cannot skip stages. Current: 0, target: 2. Next available: 1",
            ),
            (
                Stage::Private,
                2,
                "Stage 2 (public_testnet) requires external dependencies not yet available",
            ),
            (
                Stage::PublicTestnet,
                3,
                "Stage 3 (public_mainnet) requires external dependencies not yet available",
            ),
        ] {
            assert_eq!(from.to(target).unwrap_err().to_string(), text);
        }
    }

    #[test]
    fn tells_what_the_next_step_needs() {
        let step = Stage::InMemory.next().unwrap();
        assert!(step.self_contained && step.to_name == "private");
        let step = Stage::Private.next().unwrap();
        assert!(!step.self_contained && step.prerequisites.len() == 3);
        assert_eq!(Stage::PublicMainnet.next(), None);
        assert_eq!(
            "ethereum".parse::<Stage>().unwrap_err().to_string(),
            "Unknown backend type: ethereum. Valid types: in_memory, private"
        );
    }
}
