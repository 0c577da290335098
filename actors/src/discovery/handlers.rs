//! What each message to the actor does.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;

use actix::prelude::*;
use futures::future::{BoxFuture, Either, join_all, select, select_ok};
use kairos_p2p::{Address, Connection, NetworkError, PeerName, Protocol, Way};
use kairos_protocol::id::AgentId;
use kairos_protocol::record::ask::{Query, RecordsAsked};
use kairos_protocol::record::{Record, Scope, table_key};

use super::message::{
    Bootstrap, Carry, Dial, Find, Found, Health, ListPeers, Listen, Neighbour, Publish, Published,
    RecordOf, Search, Show, Shown, Shutdown,
};
use super::records::topics;
use super::{
    ASKED_MAX, Asked, DiscoveryActor, DiscoveryError, FOUND_MAX, addresses_in, ask_at, ask_records,
    node_of, within,
};
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
                // This renews what is in registers already, too.
                network.register(topics(&ours)).await?;
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
        let listed = self.listed();
        Box::pin(async move {
            let status = status.await?;
            Ok(Shown {
                status,
                scope,
                published,
                sequence: ours.as_ref().map(Record::sequence),
                expires_at: ours.as_ref().map(Record::expires_at),
                listed,
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

    /// Asks whoever is said to be the one, and who is connected, and looks in the table of the network, all at this moment.
    /// What was heard before only says whom to ask. The first answer of the agent's own node ends it.
    fn handle(&mut self, Find { id }: Find, _ctx: &mut Self::Context) -> Self::Result {
        let clock = Arc::clone(&self.clock);
        let in_table = self.network.get(table_key(&id));
        let wanted = id.clone();
        let in_table = async move {
            let found = in_table.await?;
            let read = found.and_then(|bytes| Record::read(&bytes, clock.now()).ok());
            Ok::<_, DiscoveryError>(read.filter(|record| *record.id() == wanted))
        };
        let found = self
            .connected()
            .into_actor(self)
            .then(move |near, this, _| {
                let now = this.clock.now();
                let listed = this.book.get(&id, now).map(|listed| listed.peer);
                let said = this.known.iter().filter(|(_, record)| *record.id() == id);
                let said = said.map(|(peer, _)| *peer).chain(listed);
                let mut peers: Vec<PeerName> = Vec::new();
                for peer in said.chain(near.into_iter().flatten()) {
                    if peers.len() < ASKED_MAX && !peers.contains(&peer) {
                        peers.push(peer);
                    }
                }
                let asked = RecordsAsked::Agent(id);
                let asks = peers.into_iter().map(|peer| this.ask(peer, &asked));
                let asks: Vec<_> = asks.collect();
                let (network, clock) = (this.network.clone(), Arc::clone(&this.clock));
                // It may have moved since it was heard of.
                let there = move |record: &Record| {
                    let at = addresses_in(record);
                    node_of(record).map(|peer| ask_at(&network, clock, peer, at, &asked))
                };
                first_of(asks, in_table, there).into_actor(this)
            });
        Box::pin(found.map(|found, this, _| {
            let Some((record, has_answered)) = found? else {
                return Ok(None);
            };
            Ok(this.found(record, has_answered))
        }))
    }
}

/// The record that the agent's own node tells, as soon as one does, also `there` where the table has it; else the one of the
/// table, if there is one.
async fn first_of(
    asks: Vec<Asked>,
    in_table: impl Future<Output = Result<Option<Record>, DiscoveryError>>,
    there: impl FnOnce(&Record) -> Option<Asked>,
) -> Result<Option<(Record, bool)>, DiscoveryError> {
    let live = async {
        match asks.is_empty() {
            true => None,
            false => select_ok(asks).await.ok().map(|((record, _), _)| record),
        }
    };
    let table = async {
        let listed = in_table.await?;
        let now = match listed.as_ref().and_then(there) {
            Some(asked) => within(asked).await.and_then(Result::ok),
            None => None,
        };
        let now = now.map(|(record, _)| (record, true));
        Ok(now.or_else(|| listed.map(|record| (record, false))))
    };
    match select(pin!(live), pin!(table)).await {
        Either::Left((Some(record), _)) => Ok(Some((record, true))),
        Either::Left((None, table)) => table.await,
        Either::Right((Ok(Some((record, true))), _)) => Ok(Some((record, true))),
        Either::Right((listed, live)) => match within(live).await.flatten() {
            Some(record) => Ok(Some((record, true))),
            None => listed,
        },
    }
}

impl Handler<Search> for DiscoveryActor {
    type Result = ResponseActFuture<Self, Result<Vec<Found>, DiscoveryError>>;

    fn handle(&mut self, Search { query }: Search, _ctx: &mut Self::Context) -> Self::Result {
        let registered = self.ask_registered(&query);
        let connected = registered.then(|(), this, _| this.connected().into_actor(this));
        let all = connected.then({
            let query = query.clone();
            move |peers, this: &mut Self, _| {
                let asks = peers.into_iter().flatten().take(ASKED_MAX);
                let asks = asks.map(|peer| this.search_at(peer, &query));
                join_all(asks.collect::<Vec<_>>()).into_actor(this)
            }
        });
        let asked = all.then(move |told, this, _| {
            for (peer, records) in told {
                for record in records {
                    this.learn(record, peer);
                }
            }
            let mut newest: BTreeMap<AgentId, Record> = BTreeMap::new();
            for record in this.matching(&query) {
                let held = newest.get(record.id()).map(Record::sequence);
                if held.is_none_or(|held| held < record.sequence()) {
                    newest.insert(record.id().clone(), record);
                }
            }
            let some = newest.into_values().take(FOUND_MAX);
            let asks = some.map(|record| {
                let live = node_of(&record).map(|peer| this.ask(peer, &RecordsAsked::Own(true)));
                still(record, live, query.clone())
            });
            join_all(asks.collect::<Vec<_>>()).into_actor(this)
        });
        Box::pin(asked.map(|found, this, _| {
            let found = found.into_iter().flatten();
            let found = found.filter_map(|(record, answered)| this.found(record, answered));
            let mut found: Vec<Found> = found.collect();
            found.sort_by_key(|found| !found.has_answered);
            Ok(found)
        }))
    }
}

/// What the node of `record` says now, if that still matches; the record itself where it does not answer.
async fn still(record: Record, live: Option<Asked>, query: Query) -> Option<(Record, bool)> {
    let Some(live) = live else {
        return Some((record, false));
    };
    match within(live).await {
        Some(Ok((now, _))) => query.matches(&now).then_some((now, true)),
        _ => Some((record, false)),
    }
}

impl DiscoveryActor {
    fn found(&mut self, record: Record, has_answered: bool) -> Option<Found> {
        let peer = node_of(&record)?;
        self.remember(peer, record.clone());
        Some(Found {
            record,
            peer,
            has_answered,
        })
    }

    /// Asks `peer` for records that match.
    fn search_at(
        &self,
        peer: PeerName,
        query: &Query,
    ) -> BoxFuture<'static, (PeerName, Vec<Record>)> {
        let asked = RecordsAsked::Find(query.clone());
        let told = ask_records(&self.network, peer, self.addresses(peer), &asked);
        let clock = Arc::clone(&self.clock);
        Box::pin(async move {
            let told = within(told).await.and_then(Result::ok);
            let records = told.map(|(told, _)| told.records(clock.now()).0);
            (peer, records.unwrap_or_default())
        })
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
        let asked = self.ask(peer, &RecordsAsked::Own(true));
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
    type Result = AtomicResponse<Self, Result<(), DiscoveryError>>;

    fn handle(&mut self, _: Shutdown, _ctx: &mut Self::Context) -> Self::Result {
        let left = self.network.leave();
        AtomicResponse::new(Box::pin(left.into_actor(self).map(|left, _, ctx| {
            ctx.stop();
            Ok(left?)
        })))
    }
}
