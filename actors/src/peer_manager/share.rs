//! How many peers of the table introduced themselves from one address, so that one address cannot fill it.
//!
//! In memory only, so it begins anew with the process; IPv6 addresses count by /64.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use kairos_place::network::Network;
use kairos_protocol::id::AgentId;

/// See the module. Holds at most so many ids as the table and as many that are gone from it.
pub(super) struct Shares {
    most: usize,
    noted_max: usize,
    noted: usize,
    blocks: HashMap<Network, HashSet<AgentId>>,
}

impl Shares {
    /// At most `most` of one address, in a table of at most `peers`.
    pub(super) fn new(most: usize, peers: usize) -> Self {
        Self {
            most,
            noted_max: peers.saturating_mul(2),
            noted: 0,
            blocks: HashMap::new(),
        }
    }

    /// Whether one more peer from `address` is within its share; fails with the bound. `knows` tells who is still in the
    /// table.
    pub(super) fn admit(
        &mut self,
        address: IpAddr,
        knows: impl Fn(&AgentId) -> bool,
    ) -> Result<(), usize> {
        let Some(ids) = self.blocks.get_mut(&Network::block_of(address)) else {
            return Ok(());
        };
        if ids.len() < self.most {
            return Ok(());
        }
        let before = ids.len();
        ids.retain(knows);
        self.noted -= before - ids.len();
        if ids.len() < self.most {
            Ok(())
        } else {
            Err(self.most)
        }
    }

    /// Notes that `id` is in the table now and came from `address`.
    pub(super) fn note(&mut self, id: &AgentId, address: IpAddr, knows: impl Fn(&AgentId) -> bool) {
        if self.noted >= self.noted_max {
            self.blocks.retain(|_, ids| {
                ids.retain(&knows);
                !ids.is_empty()
            });
            self.noted = self.blocks.values().map(HashSet::len).sum();
        }
        let ids = self.blocks.entry(Network::block_of(address)).or_default();
        self.noted += usize::from(ids.insert(id.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> AgentId {
        name.parse().unwrap()
    }

    #[test]
    fn whoever_is_gone_from_the_table_makes_room() {
        let mut shares = Shares::new(2, 100);
        let (here, there): (IpAddr, IpAddr) = (
            "2001:db8::1".parse().unwrap(),
            "2001:db8::2".parse().unwrap(),
        );
        for (name, address) in [("a", here), ("b", there)] {
            assert_eq!(shares.admit(address, |_| true), Ok(()));
            shares.note(&id(name), address, |_| true);
        }
        shares.note(&id("b"), here, |_| true);
        assert_eq!(shares.admit(here, |_| true), Err(2));
        assert_eq!(shares.admit("192.0.2.1".parse().unwrap(), |_| true), Ok(()));
        assert_eq!(shares.admit(here, |known| *known != id("a")), Ok(()));
        assert_eq!(shares.noted, 1);
    }

    #[test]
    fn what_is_noted_is_bounded() {
        let mut shares = Shares::new(5, 4);
        for n in 0..100_u32 {
            let name = id(&n.to_string());
            let still = |known: &AgentId| known.as_str().parse::<u32>().unwrap() + 4 > n;
            shares.note(&name, IpAddr::V4(n.into()), still);
            assert!(shares.noted <= 8, "{}", shares.noted);
        }
    }
}
