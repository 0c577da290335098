//! Where a node can be reached.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use thiserror::Error;

use crate::PeerName;

/// Longest text of an address, in bytes; one through a relay has about 250.
const TEXT_MAX: usize = 512;

/// A multiaddress, such as `/ip4/192.0.2.7/tcp/4001/p2p/12D3Koo…`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address(pub(crate) Multiaddr);

/// The text is no address.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AddressError {
    /// Too long.
    #[error("the address is longer than {TEXT_MAX} bytes")]
    TooLong,
    /// Malformed.
    #[error("`{0}` is not an address; write it like /ip4/192.0.2.7/tcp/4001")]
    Form(String),
}

impl Address {
    /// The node at its end, if it names one.
    pub fn peer(&self) -> Option<PeerName> {
        match self.0.iter().last() {
            Some(Protocol::P2p(peer)) => Some(PeerName(peer)),
            _ => None,
        }
    }

    /// The same with the node at its end.
    pub fn with_peer(self, peer: PeerName) -> Self {
        match self.0.with_p2p(peer.0) {
            Ok(address) | Err(address) => Self(address),
        }
    }

    /// The machine it leads to first, where it names one by number.
    pub fn ip(&self) -> Option<IpAddr> {
        self.0.iter().find_map(|part| match part {
            Protocol::Ip4(ip) => Some(ip.into()),
            Protocol::Ip6(ip) => Some(ip.into()),
            _ => None,
        })
    }

    /// Whether it leads through another node.
    pub fn is_relayed(&self) -> bool {
        self.0.iter().any(|part| part == Protocol::P2pCircuit)
    }
}

/// Whether somebody at `ip` is on this machine or in the same network, as far as an address can tell: it says something there
/// alone.
pub fn is_near(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_private() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if text.len() > TEXT_MAX {
            return Err(AddressError::TooLong);
        }
        let shown = || AddressError::Form(text.chars().take(120).collect());
        let address: Multiaddr = text.parse().map_err(|_| shown())?;
        match address.is_empty() {
            true => Err(shown()),
            false => Ok(Self(address)),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({self})")
    }
}
