//! How others reach the actor.

use std::sync::Arc;

use futures::future::BoxFuture;
use kairos_p2p::{Address, PeerName, Way};
use kairos_protocol::id::AgentId;
use kairos_protocol::record::Record;
use kairos_protocol::record::ask::Query;

use super::message::{
    Bootstrap, Carry, Dial, Find, Found, Health, ListPeers, Listen, Neighbour, RecordOf, Search,
    Show, Shown, Shutdown,
};
use super::{DiscoveryActor, DiscoveryError};
use crate::bounded_addr::{Asks, BoundedAddr};
use crate::meeting::client::{Carried, Carrier};

/// Reaches the actor. Errands, which wait for others, have permits and patience of their own.
#[derive(Clone)]
pub struct DiscoveryHandle {
    pub(super) arriving: BoundedAddr<DiscoveryActor>,
    pub(super) begun: BoundedAddr<DiscoveryActor>,
}

impl DiscoveryHandle {
    /// See [`Show`].
    pub async fn show(&self) -> Result<Shown, DiscoveryError> {
        self.arriving.ask(Show).await?
    }

    /// See [`ListPeers`].
    pub async fn peers(&self) -> Result<Vec<Neighbour>, DiscoveryError> {
        self.arriving.ask(ListPeers).await?
    }

    /// See [`Find`].
    pub async fn find(&self, id: AgentId) -> Result<Option<Found>, DiscoveryError> {
        self.begun.ask(Find { id }).await?
    }

    /// See [`Search`].
    pub async fn search(&self, query: Query) -> Result<Vec<Found>, DiscoveryError> {
        self.begun.ask(Search { query }).await?
    }

    /// See [`Dial`].
    pub async fn dial(&self, address: Address) -> Result<PeerName, DiscoveryError> {
        self.begun.ask(Dial { address }).await?
    }

    /// See [`Listen`].
    pub async fn listen(&self, address: Address) -> Result<Address, DiscoveryError> {
        self.begun.ask(Listen { address }).await?
    }

    /// See [`Bootstrap`].
    pub async fn bootstrap(&self) -> Result<usize, DiscoveryError> {
        self.begun.ask(Bootstrap).await?
    }

    /// See [`RecordOf`].
    pub async fn record_of(&self, peer: PeerName) -> Result<(Record, Way), DiscoveryError> {
        self.begun.ask(RecordOf { peer }).await?
    }

    /// See [`Carry`].
    pub async fn carry(&self, peer: PeerName, message: Vec<u8>) -> Result<Carried, DiscoveryError> {
        self.begun.ask(Carry { peer, message }).await?
    }

    /// The bound of asks, and what was counted at it.
    pub fn asks(&self) -> &Arc<Asks> {
        self.arriving.asks()
    }

    /// The same for errands.
    pub fn errand_asks(&self) -> &Arc<Asks> {
        self.begun.asks()
    }

    /// See [`Health`].
    pub async fn health(&self) -> Result<(), DiscoveryError> {
        self.arriving.probe(Health).await?
    }

    /// See [`Shutdown`].
    pub async fn shutdown(&self) -> Result<(), DiscoveryError> {
        self.arriving.ask(Shutdown).await?
    }
}

impl Carrier for DiscoveryHandle {
    fn carry(
        &self,
        peer: PeerName,
        message: Vec<u8>,
    ) -> BoxFuture<'static, Result<Carried, String>> {
        let handle = self.clone();
        let carried = async move { DiscoveryHandle::carry(&handle, peer, message).await };
        Box::pin(async move { carried.await.map_err(|error| error.to_string()) })
    }

    fn record(&self, peer: PeerName) -> BoxFuture<'static, Result<(Record, Way), String>> {
        let handle = self.clone();
        Box::pin(async move {
            handle
                .record_of(peer)
                .await
                .map_err(|error| error.to_string())
        })
    }
}
