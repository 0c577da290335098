//! What each message to the actor does.

use std::sync::Arc;

use actix::prelude::*;
use futures::future::join_all;
use kairos_p2p::{Address, Connection, NetworkError, PeerName, Protocol, Way};
use kairos_protocol::record::{Record, Scope, table_key};

use super::ask::RecordsAsked;
use super::message::{
    Bootstrap, Carry, Dial, Find, Found, Health, ListPeers, Listen, Neighbour, Publish, Published,
    RecordOf, Show, Shown, Shutdown,
};
use super::{ASKED_MAX, DiscoveryActor, DiscoveryError, node_of};
use crate::meeting::client::Carried;

impl Handler<Publish> for DiscoveryActor {
    type Result = ();

    fn handle(&mut self, _: Publish, ctx: &mut Self::Context) {
        self.is_due = false;
        if std::mem::replace(&mut self.is_publishing, true) {
            // What changed meanwhile is looked at afterwards.
            self.publish_soon(ctx);
            return;
        }
        let published = self.renewed().then(|ours, this, _| {
            let network = this.network.clone();
            let is_public = this.scope == Scope::World;
            async move {
                let Some(ours) = ours? else {
                    return Ok(Published::Nowhere);
                };
                if !is_public {
                    return Ok(Published::Nearby);
                }
                match network.put(table_key(ours.id()), ours.to_bytes()).await {
                    Ok(()) => Ok(Published::Table),
                    // Nobody is there yet; whoever joins makes us try again.
                    Err(NetworkError::NotStored(_)) => Ok(Published::Nowhere),
                    Err(error) => Err(DiscoveryError::from(error)),
                }
            }
            .into_actor(this)
        });
        ctx.spawn(published.map(|published, this, _| {
            this.is_publishing = false;
            match published {
                Ok(published) => this.published = published,
                Err(error) => {
                    this.published = Published::Nowhere;
                    tracing::warn!(%error, "this agent is not announced");
                }
            }
        }));
    }
}

impl Handler<Show> for DiscoveryActor {
    type Result = ResponseFuture<Result<Shown, DiscoveryError>>;

    fn handle(&mut self, _: Show, _ctx: &mut Self::Context) -> Self::Result {
        let status = self.network.status();
        let (ours, scope, published) = (self.ours.clone(), self.scope, self.published);
        Box::pin(async move {
            let status = status.await?;
            Ok(Shown {
                status,
                scope,
                published,
                sequence: ours.as_ref().map(Record::sequence),
                expires_at: ours.as_ref().map(Record::expires_at),
            })
        })
    }
}

impl Handler<ListPeers> for DiscoveryActor {
    type Result = ResponseActFuture<Self, Result<Vec<Neighbour>, DiscoveryError>>;

    fn handle(&mut self, _: ListPeers, _ctx: &mut Self::Context) -> Self::Result {
        let peers = self.network.peers();
        Box::pin(peers.into_actor(self).map(|peers, this, _| {
            let now = this.clock.now();
            let with_record = |connection: Connection| {
                let record = this.known.get(&connection.peer);
                let record = record.filter(|record| record.is_current(now).is_ok());
                let agent = record.map(|record| (record.id().clone(), record.name().to_owned()));
                Neighbour { connection, agent }
            };
            Ok(peers?.into_iter().map(with_record).collect())
        }))
    }
}

impl Handler<Find> for DiscoveryActor {
    type Result = ResponseActFuture<Self, Result<Option<Found>, DiscoveryError>>;

    /// Looks in the table of the network and asks who is connected, both at this moment. What was heard before only says
    /// whom to ask.
    fn handle(&mut self, Find { id }: Find, _ctx: &mut Self::Context) -> Self::Result {
        let (network, clock) = (self.network.clone(), Arc::clone(&self.clock));
        let in_table = self.network.get(table_key(&id));
        let wanted = id.clone();
        let in_table = async move {
            let found = in_table.await?;
            let read = found.and_then(|bytes| Record::read(&bytes, clock.now()).ok());
            Ok::<_, DiscoveryError>(read.filter(|record| *record.id() == wanted))
        };
        let nearby = async move { network.peers().await };
        let nearby = nearby.into_actor(self).then(move |peers, this, _| {
            let mut peers: Vec<PeerName> = peers
                .unwrap_or_default()
                .into_iter()
                .map(|connection| connection.peer)
                .collect();
            peers.dedup();
            // Who said that it is the one comes first.
            let is_it = |peer: &PeerName| this.known.get(peer).is_some_and(|r| *r.id() == id);
            peers.sort_by_key(|peer| !is_it(peer));
            let asked = RecordsAsked::Agent(id);
            let asks = peers.into_iter().take(ASKED_MAX);
            let asks: Vec<_> = asks.map(|peer| this.ask(peer, &asked)).collect();
            join_all(asks).into_actor(this)
        });
        let in_table = in_table.into_actor(self);
        let found =
            nearby.then(move |nearby, _, _| in_table.map(move |table, _, _| (table, nearby)));
        Box::pin(found.map(|(table, nearby), this, _| {
            let mut all: Vec<Record> = nearby.into_iter().flatten().map(|(r, _)| r).collect();
            let connected = all.clone();
            all.extend(table?);
            let best = all.into_iter().max_by_key(Record::sequence);
            let Some((record, peer)) = best.and_then(|r| node_of(&r).map(|peer| (r, peer))) else {
                return Ok(None);
            };
            this.remember(peer, record.clone());
            let is_connected = connected
                .iter()
                .any(|near| near.peer_key() == record.peer_key());
            Ok(Some(Found {
                record,
                peer,
                is_connected,
            }))
        }))
    }
}

impl Handler<Dial> for DiscoveryActor {
    type Result = ResponseFuture<Result<PeerName, DiscoveryError>>;

    fn handle(&mut self, Dial { address }: Dial, _ctx: &mut Self::Context) -> Self::Result {
        let dialled = self.network.dial(address);
        Box::pin(async move { Ok(dialled.await?) })
    }
}

impl Handler<Listen> for DiscoveryActor {
    type Result = ResponseFuture<Result<Address, DiscoveryError>>;

    fn handle(&mut self, Listen { address }: Listen, _ctx: &mut Self::Context) -> Self::Result {
        let listening = self.network.listen(address);
        Box::pin(async move { Ok(listening.await?) })
    }
}

impl Handler<Bootstrap> for DiscoveryActor {
    type Result = ResponseFuture<Result<usize, DiscoveryError>>;

    fn handle(&mut self, _: Bootstrap, _ctx: &mut Self::Context) -> Self::Result {
        let dials: Vec<_> = self
            .bootstrap
            .iter()
            .cloned()
            .map(|a| self.network.dial(a))
            .collect();
        let network = self.network.clone();
        Box::pin(async move {
            let looked = async { network.bootstrap().await };
            let dialled = join_all(dials).await;
            let reached = dialled.iter().filter(|dialled| dialled.is_ok()).count();
            // With nobody in the table there is nowhere to look, which is no fault if a peer was just reached.
            match (looked.await, reached) {
                (Err(error), 0) => Err(error.into()),
                _ => Ok(reached),
            }
        })
    }
}

impl Handler<RecordOf> for DiscoveryActor {
    type Result = ResponseActFuture<Self, Result<(Record, Way), DiscoveryError>>;

    fn handle(&mut self, RecordOf { peer }: RecordOf, _ctx: &mut Self::Context) -> Self::Result {
        let asked = self.ask(peer, &RecordsAsked::Own);
        Box::pin(asked.into_actor(self).map(move |told, this, _| {
            let (record, way) = told?;
            this.remember(peer, record.clone());
            Ok((record, way))
        }))
    }
}

impl Handler<Carry> for DiscoveryActor {
    type Result = ResponseFuture<Result<Carried, DiscoveryError>>;

    fn handle(&mut self, Carry { peer, message }: Carry, _ctx: &mut Self::Context) -> Self::Result {
        let addresses = self.addresses(peer);
        let asked = self
            .network
            .ask(Protocol::Meeting, peer, addresses, message);
        Box::pin(async move {
            let reply = asked.await?;
            Ok(Carried {
                message: reply.bytes,
                way: reply.way,
            })
        })
    }
}

impl Handler<Health> for DiscoveryActor {
    type Result = ResponseFuture<Result<(), DiscoveryError>>;

    /// The loop of the node has to answer, too.
    fn handle(&mut self, _: Health, _ctx: &mut Self::Context) -> Self::Result {
        let status = self.network.status();
        Box::pin(async move { Ok(status.await.map(drop)?) })
    }
}

impl Handler<Shutdown> for DiscoveryActor {
    type Result = Result<(), DiscoveryError>;

    fn handle(&mut self, _: Shutdown, ctx: &mut Self::Context) -> Self::Result {
        ctx.stop();
        Ok(())
    }
}
