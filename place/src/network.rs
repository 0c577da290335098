//! Addresses of networks: what is meant by one address, and by the block it is counted in.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Bits of an IPv4 address.
const V4_BITS: u8 = 32;
/// Bits of an IPv6 address.
const V6_BITS: u8 = 128;
/// The smallest block of IPv6 addresses that a subscriber gets; within it addresses cost nothing.
const V6_BLOCK: u8 = 64;

/// A network, or a single address: `192.0.2.0/24`, `2001:db8::/64`. Parsing is validating; a mapped IPv4 address
/// (`::ffff:192.0.2.1`) becomes the IPv4 address it stands for.
///
/// An IPv6 address without a length is the /64 that it is in, since whoever has one of its addresses has all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Network {
    /// All bits behind the prefix are zero.
    address: IpAddr,
    prefix: u8,
}

/// Why a text is no [`Network`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NetworkError {
    /// No address.
    #[error("a network is an IP address, or one with a length such as 192.0.2.0/24")]
    Address,
    /// The length is no number of bits of such an address.
    #[error("the length of a network is a number from 0 to {most}")]
    Prefix {
        /// Bits of the address.
        most: u8,
    },
    /// Bits behind the prefix are set, so that it is not clear what is meant.
    #[error("the network has bits set behind its length; write {0}")]
    Host(Network),
}

impl Network {
    /// The block that `address` counts in: an IPv4 address alone, an IPv6 address with its whole /64.
    pub fn block_of(address: IpAddr) -> Self {
        match address.to_canonical() {
            v4 @ IpAddr::V4(_) => Self::cut(v4, V4_BITS),
            v6 @ IpAddr::V6(_) => Self::cut(v6, V6_BLOCK),
        }
    }

    /// Whether `address` is in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.address.is_ipv4() && Self::cut(address, self.prefix) == *self
    }

    /// `address` with all bits behind the first `prefix` cleared.
    fn cut(address: IpAddr, prefix: u8) -> Self {
        let address = match address {
            IpAddr::V4(v4) => {
                let mask = u32::MAX.checked_shl(u32::from(V4_BITS.saturating_sub(prefix)));
                IpAddr::V4((u32::from(v4) & mask.unwrap_or(0)).into())
            }
            IpAddr::V6(v6) => {
                let mask = u128::MAX.checked_shl(u32::from(V6_BITS.saturating_sub(prefix)));
                IpAddr::V6((u128::from(v6) & mask.unwrap_or(0)).into())
            }
        };
        Self { address, prefix }
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let written: IpAddr = address.parse().map_err(|_| NetworkError::Address)?;
        let Some(prefix) = prefix else {
            return Ok(Self::block_of(written));
        };
        // The length of a mapped address counts from the beginning of the IPv6 address.
        let most = if written.is_ipv4() { V4_BITS } else { V6_BITS };
        let is_number = !prefix.is_empty() && prefix.bytes().all(|byte| byte.is_ascii_digit());
        let prefix = prefix.parse().ok().filter(|bits| *bits <= most);
        let prefix: u8 = prefix
            .filter(|_| is_number)
            .ok_or(NetworkError::Prefix { most })?;
        let address = written.to_canonical();
        let prefix = match written.is_ipv6() && address.is_ipv4() {
            true => prefix
                .checked_sub(V6_BITS - V4_BITS)
                .ok_or(NetworkError::Prefix { most })?,
            false => prefix,
        };
        let network = Self::cut(address, prefix);
        match network.address == address {
            true => Ok(network),
            false => Err(NetworkError::Host(network)),
        }
    }
}

impl TryFrom<String> for Network {
    type Error = NetworkError;
    fn try_from(text: String) -> Result<Self, NetworkError> {
        text.parse()
    }
}

impl From<Network> for String {
    fn from(network: Network) -> Self {
        network.to_string()
    }
}

impl fmt::Display for Network {
    /// A single IPv4 address stands alone, everything else with its length.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address.is_ipv4() && self.prefix == V4_BITS {
            true => self.address.fmt(f),
            false => write!(f, "{}/{}", self.address, self.prefix),
        }
    }
}

/// Networks, each with something about it, in which an address is found at a cost that grows with the number of
/// different lengths only.
#[derive(Debug, Clone)]
pub struct NetworkMap<T> {
    networks: BTreeMap<Network, T>,
    /// How many there are of each length, by whether they are IPv4.
    lengths: BTreeMap<(bool, u8), usize>,
}

impl<T> Default for NetworkMap<T> {
    fn default() -> Self {
        Self {
            networks: BTreeMap::new(),
            lengths: BTreeMap::new(),
        }
    }
}

impl<T> NetworkMap<T> {
    /// Adds a network, or replaces what is said of it.
    pub fn insert(&mut self, network: Network, about: T) {
        if self.networks.insert(network, about).is_none() {
            *self.lengths.entry(length(network)).or_default() += 1;
        }
    }

    /// Takes a network out.
    pub fn remove(&mut self, network: &Network) -> Option<T> {
        let removed = self.networks.remove(network)?;
        if let Some(count) = self.lengths.get_mut(&length(*network)) {
            *count -= 1;
            if *count == 0 {
                self.lengths.remove(&length(*network));
            }
        }
        Some(removed)
    }

    /// Whatever is said of networks that `address` is in, the widest first.
    pub fn of(&self, address: IpAddr) -> impl Iterator<Item = &T> {
        let address = address.to_canonical();
        let lengths = self.lengths.keys();
        let fitting = lengths.filter(move |(is_v4, _)| *is_v4 == address.is_ipv4());
        fitting.filter_map(move |(_, prefix)| self.networks.get(&Network::cut(address, *prefix)))
    }
}

fn length(network: Network) -> (bool, u8) {
    (network.address.is_ipv4(), network.prefix)
}

/// Who asks if nobody knows: it counts like any other address.
pub const UNKNOWN_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_and_writes_networks() {
        for (text, written) in [
            ("192.0.2.1", "192.0.2.1"),
            ("192.0.2.1/32", "192.0.2.1"),
            ("192.0.2.0/24", "192.0.2.0/24"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("2001:db8::1", "2001:db8::/64"),
            ("2001:db8::1/128", "2001:db8::1/128"),
            ("::/0", "::/0"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("::ffff:192.0.2.0/120", "192.0.2.0/24"),
        ] {
            assert_eq!(text.parse::<Network>().unwrap().to_string(), written);
        }
        for text in [
            "",
            "localhost",
            "192.0.2.1/",
            "192.0.2.1/33",
            "192.0.2.1/-1",
            "192.0.2.1/+8",
            "::/129",
            "192.0.2",
            "192.0.2.1/24",
            "2001:db8::1/32",
            "::ffff:0.0.0.0/8",
            "1.2.3.4/8/8",
            " 1.2.3.4",
        ] {
            assert!(text.parse::<Network>().is_err(), "{text}");
        }
        let error = "192.0.2.1/24".parse::<Network>().unwrap_err();
        assert!(error.to_string().ends_with("write 192.0.2.0/24"), "{error}");
    }

    #[test]
    fn an_address_is_in_the_networks_that_it_is_in() {
        let network: Network = "192.0.2.0/24".parse().unwrap();
        for (address, inside) in [
            ("192.0.2.7", true),
            ("::ffff:192.0.2.7", true),
            ("192.0.3.7", false),
            ("2001:db8::1", false),
        ] {
            assert_eq!(network.contains(address.parse().unwrap()), inside);
        }
        let all: Network = "::/0".parse().unwrap();
        assert!(all.contains("2001:db8::1".parse().unwrap()));
        assert!(!all.contains("192.0.2.7".parse().unwrap()));
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(bits: u128, prefix in 0_u8..=128) {
            let network = Network::cut(IpAddr::V6(bits.into()).to_canonical(), prefix);
            let prefix = if network.address.is_ipv4() { prefix.min(32) } else { prefix };
            let network = Network::cut(network.address, prefix);
            prop_assert_eq!(network.to_string().parse(), Ok(network));
        }

        #[test]
        fn a_map_finds_what_a_walk_finds(
            networks in proptest::collection::vec((0_u32..8, 0_u8..=32), 0..20),
            removed in proptest::collection::vec(0_usize..20, 0..10),
            address in 0_u32..8,
        ) {
            let spread = |small: u32| IpAddr::V4((small << 29 | small).into());
            let mut map = NetworkMap::default();
            let mut all = BTreeMap::new();
            for (at, prefix) in networks {
                let network = Network::cut(spread(at), prefix);
                map.insert(network, network);
                all.insert(network, ());
            }
            for at in removed {
                if let Some(network) = all.keys().nth(at).copied() {
                    prop_assert!(map.remove(&network).is_some());
                    all.remove(&network);
                }
            }
            let address = spread(address);
            let mut found: Vec<Network> = map.of(address).copied().collect();
            found.sort();
            let walked: Vec<Network> = all.keys().copied().filter(|n| n.contains(address)).collect();
            prop_assert_eq!(found, walked);
        }
    }
}
