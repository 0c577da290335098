//! The key of a node in the network, and the name that follows from it.

use std::fmt;
use std::str::FromStr;

use libp2p::PeerId;
use libp2p::identity::{Keypair, PublicKey, ed25519};
use thiserror::Error;
use zeroize::Zeroizing;

/// The Ed25519 key of a node.
#[derive(Clone)]
pub struct NodeKey(pub(crate) Keypair);

/// The seed makes no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the seed makes no Ed25519 key")]
pub struct KeyFault;

impl NodeKey {
    /// The key that follows from 32 random bytes.
    pub fn from_seed(seed: &[u8; 32]) -> Result<Self, KeyFault> {
        let mut copy = Zeroizing::new(*seed);
        let pair = Keypair::ed25519_from_bytes(&mut *copy).map_err(|_| KeyFault)?;
        Ok(Self(pair))
    }

    /// The name of this node.
    pub fn name(&self) -> PeerName {
        PeerName(self.0.public().to_peer_id())
    }
}

impl fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeKey({})", self.name())
    }
}

/// The name of a node in the network, which libp2p calls its peer id: the multihash of its public key.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerName(pub(crate) PeerId);

/// The text is no name of a node.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{0}` is not the id of a peer, which begins with 12D3Koo")]
pub struct PeerNameError(String);

impl PeerName {
    /// The name that belongs to an Ed25519 public key.
    pub fn of_ed25519(public: &[u8; 32]) -> Result<Self, KeyFault> {
        let key = ed25519::PublicKey::try_from_bytes(public).map_err(|_| KeyFault)?;
        Ok(Self(PublicKey::from(key).to_peer_id()))
    }
}

impl FromStr for PeerName {
    type Err = PeerNameError;

    fn from_str(text: &str) -> Result<Self, PeerNameError> {
        let name = text.parse().map(Self);
        name.map_err(|_| PeerNameError(text.chars().take(80).collect()))
    }
}

impl fmt::Display for PeerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for PeerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PeerName({self})")
    }
}
