//! From which addresses those come who are here, so that one of them cannot fill the registry.
//!
//! In memory only: a Place that starts anew knows nobody's address, and writes none down.

use std::collections::HashMap;
use std::net::IpAddr;

use kairos_protocol::id::AgentId;

use super::walk::walked;
use crate::network::Network;

/// How many agents of one block of addresses are here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Share {
    pub(super) agents: usize,
    /// Those of them without a key.
    pub(super) unverified: usize,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Origins {
    agents: HashMap<AgentId, (IpAddr, bool)>,
    shares: HashMap<Network, Share>,
}

impl Origins {
    /// Notes from where an agent registered that is here, and whether it has no key.
    pub(super) fn note(&mut self, id: &AgentId, address: IpAddr, unverified: bool) {
        self.forget(id);
        self.agents.insert(id.clone(), (address, unverified));
        let share = self.shares.entry(Network::block_of(address)).or_default();
        share.agents += 1;
        share.unverified += usize::from(unverified);
    }

    /// Forgets an agent that is not here any more.
    pub(super) fn forget(&mut self, id: &AgentId) {
        let Some((address, unverified)) = self.agents.remove(id) else {
            return;
        };
        let block = Network::block_of(address);
        if let Some(share) = self.shares.get_mut(&block) {
            share.agents -= 1;
            share.unverified -= usize::from(unverified);
            if share.agents == 0 {
                self.shares.remove(&block);
            }
        }
    }

    /// How many are here from the block of `address`.
    pub(super) fn share(&self, address: IpAddr) -> Share {
        let share = self.shares.get(&Network::block_of(address));
        share.copied().unwrap_or_default()
    }

    /// From where an agent registered.
    pub(super) fn of(&self, id: &AgentId) -> Option<IpAddr> {
        self.agents.get(id).map(|(address, _)| *address)
    }

    /// Those who registered from `network`.
    pub(super) fn from(&self, network: &Network) -> Vec<AgentId> {
        let there = walked(self.agents.iter());
        let there = there.filter(|(_, (address, _))| network.contains(*address));
        there.map(|(id, _)| id.clone()).collect()
    }
}
