//! What goes wrong between us and a peer.

use std::time::Duration;

use thiserror::Error;

/// What went wrong between us and a peer.
#[derive(Debug, Error)]
pub enum ClientError {
    /// Nobody answered.
    #[error("no connection to {url}: {reason}")]
    Unreachable {
        /// The peer.
        url: String,
        /// The cause, in words.
        reason: String,
    },
    /// It stopped answering.
    #[error("the peer did not answer within {} seconds", .after.as_secs())]
    Timeout {
        /// The bound that ran out.
        after: Duration,
    },
    /// The answer is larger than we take.
    #[error("the peer's answer is larger than {limit} bytes")]
    TooLarge {
        /// The bound.
        limit: usize,
    },
    /// It wants us elsewhere.
    #[error(
        "the peer redirects to {location}; redirects are not followed, use that URL if you trust it"
    )]
    Redirect {
        /// Where to.
        location: String,
    },
    /// Not the protocol.
    #[error("the peer answered {status} with something that is not a JSON object: {detail}")]
    NotJson {
        /// HTTP status.
        status: u16,
        /// What is wrong with it.
        detail: String,
    },
    /// A well-formed refusal.
    #[error("the peer refused ({status} {code}): {message}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// Its code.
        code: String,
        /// Its sentence.
        message: String,
        /// From its header `Retry-After`, if that is a number of seconds.
        retry_after: Option<Duration>,
    },
    /// It is named by its node, and there is nobody to reach nodes.
    #[error("this agent has no libp2p node; start a server with one: kairos-chain serve --p2p")]
    NoNode,
    /// A Place that is named by its node.
    #[error("Meeting Places are reached by their URL, such as http://host:8080")]
    NotOverNodes,
    /// The HTTP library could not be set up.
    #[error("the HTTP client could not be set up: {0}")]
    Setup(String),
}

impl ClientError {
    /// Whether the peer's answer has this error code.
    pub fn has_code(&self, expected: &str) -> bool {
        matches!(self, Self::Refused { code, .. } if code == expected)
    }

    /// Whether the peer answered with this HTTP status, and not with a success.
    pub fn has_status(&self, expected: u16) -> bool {
        matches!(self, Self::Refused { status, .. } if *status == expected)
    }

    /// How long the peer asks us to wait.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// Whether the request may have taken effect: it was sent, and what became of it is not known.
    pub fn is_unknown(&self) -> bool {
        match self {
            Self::Unreachable { .. }
            | Self::Timeout { .. }
            | Self::NotJson { .. }
            | Self::TooLarge { .. } => true,
            Self::Refused { status, .. } => *status >= 500,
            Self::Redirect { .. } | Self::Setup(_) | Self::NoNode | Self::NotOverNodes => false,
        }
    }
}
