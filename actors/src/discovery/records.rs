//! Records of others: which are kept, what is told of them, and how those that are missing are fetched.

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use futures::future::join_all;
use kairos_p2p::{PeerName, Request, TOPICS_MAX, is_near};
use kairos_protocol::id::AgentId;
use kairos_protocol::record::ask::{Query, RecordsAsked, RecordsTold};
use kairos_protocol::record::book::{Entry, Fingerprint, Prefix};
use kairos_protocol::record::pull::Pull;
use kairos_protocol::record::{Record, Scope};
use kairos_protocol::time::Timestamp;
use rand::Rng as _;
use tokio::time::Instant;

use super::{ASKED_MAX, DiscoveryActor, ask_at, ask_records, node_of, within};

/// Records of others, for everybody, that are kept and passed on.
pub(super) const BOOK_MAX: usize = 2_048;
/// How often a peer is asked for what we have not; [`ROUND`] but for tests.
pub const ROUND: Duration = Duration::from_secs(60);
/// So many times in a round one peer may be asked for all that it has.
const PAUSES: u32 = 6;
/// Peers that are asked for all they have at once.
const PULLS_MAX: usize = 8;
/// How long one of them is asked. What it did not tell by then is asked for in a later round.
const PULL_MAX: Duration = Duration::from_secs(120);

/// A record, and the node that it names.
#[derive(Debug, Clone)]
pub(super) struct Listed {
    pub(super) record: Record,
    pub(super) peer: PeerName,
}

impl Entry for Listed {
    fn id(&self) -> &AgentId {
        self.record.id()
    }

    fn sequence(&self) -> u64 {
        self.record.sequence()
    }

    fn expires_at(&self) -> Timestamp {
        self.record.expires_at()
    }
}

/// Under what whoever matches is in registers; nothing where only records tell.
fn topic_of(query: &Query) -> Option<String> {
    match query {
        Query::Place(_) => Some("kairos/place".to_owned()),
        Query::Content(hash) => Some(format!("kairos/content/{hash}")),
        Query::Tag(tag) => Some(format!("kairos/tag/{}", tag.to_lowercase())),
        Query::Offer(_) => None,
    }
}

/// Under what an agent that announces this is to be in registers.
pub(super) fn topics(record: &Record) -> Vec<String> {
    let place = record.place().map(|_| Query::Place(String::new()));
    let contents = record
        .offers()
        .iter()
        .map(|offer| Query::Content(offer.content_hash));
    let tags = record
        .offers()
        .iter()
        .flat_map(|offer| offer.tags.iter().cloned());
    let all = place
        .into_iter()
        .chain(contents)
        .chain(tags.map(Query::Tag));
    let mut topics: Vec<String> = Vec::new();
    for topic in all.filter_map(|query| topic_of(&query)) {
        if topics.len() < TOPICS_MAX && !topics.contains(&topic) {
            topics.push(topic);
        }
    }
    topics
}

impl DiscoveryActor {
    /// Takes note of a record that `from` told, whose signatures hold.
    pub(super) fn learn(&mut self, record: Record, from: PeerName) {
        let Some(peer) = node_of(&record) else { return };
        let is_ours = *record.id() == self.keypair.public().agent_id();
        if is_ours || record.scope() != Scope::World {
            return;
        }
        let now = self.clock.now();
        let listed = Listed {
            record: record.clone(),
            peer,
        };
        if self.book.keep(listed, from, now).is_news() {
            (self.noted)(&record);
        }
    }

    /// Asks whoever is in registers under what is looked for who they are, and learns that.
    pub(super) fn ask_registered(&self, query: &Query) -> ResponseActFuture<Self, ()> {
        let topic = topic_of(query);
        let (network, clock) = (self.network.clone(), Arc::clone(&self.clock));
        let asked = async move {
            let Some(topic) = topic else {
                return Vec::new();
            };
            let found = within(network.look_up(topic)).await.and_then(Result::ok);
            let own = RecordsAsked::Own(true);
            let asks = found.into_iter().flatten().take(ASKED_MAX).map(|entry| {
                let clock = Arc::clone(&clock);
                let told = ask_at(&network, clock, entry.peer, entry.addresses, &own);
                async move { Some((entry.peer, within(told).await?.ok()?.0)) }
            });
            let told: Vec<_> = join_all(asks).await;
            told.into_iter().flatten().collect()
        };
        Box::pin(asked.into_actor(self).map(|records, this, _| {
            for (peer, record) in records {
                this.remember(peer, record);
            }
        }))
    }

    /// How many records of others there are.
    pub(super) fn listed(&self) -> usize {
        let own = self.keypair.public().agent_id();
        let is_own = self.book.get(&own, self.clock.now()).is_some();
        self.book.len() - usize::from(is_own)
    }

    /// What is known of the node of `peer`, by itself or by others.
    pub(super) fn record_at(&self, peer: PeerName) -> Option<&Record> {
        let listed = self.book.records().find(|listed| listed.peer == peer);
        let listed = listed.map(|listed| &listed.record);
        let both = self.known.get(&peer).into_iter().chain(listed);
        both.max_by_key(|record| record.sequence())
    }

    /// Records that match, of those that hold, ours not among them.
    pub(super) fn matching(&self, query: &Query) -> Vec<Record> {
        let now = self.clock.now();
        let listed = self.book.records().map(|listed| &listed.record);
        let all = listed.chain(self.known.values());
        let own = self.keypair.public().agent_id();
        let all = all.filter(|record| *record.id() != own && record.is_current(now).is_ok());
        all.filter(|record| query.matches(record))
            .cloned()
            .collect()
    }

    /// What we tell a peer at `from` that asks for records.
    fn told(&self, asked: &RecordsAsked, from: Option<std::net::IpAddr>) -> RecordsTold {
        let now = self.clock.now();
        let may_know = match self.scope {
            Scope::Private => false,
            Scope::Lan => from.is_some_and(is_near),
            Scope::World => true,
        };
        let ours = self.ours.as_ref();
        match asked {
            // Whoever is connected knows where we are already; this says who we are, as an introduction does.
            RecordsAsked::Own(_) => RecordsTold::one(ours),
            RecordsAsked::Agent(id) => {
                RecordsTold::one(ours.filter(|ours| may_know && ours.id() == id))
            }
            RecordsAsked::Sets(sets) => {
                let told = sets.iter();
                RecordsTold::Sets(told.map(|(p, f)| self.book.summary(p, *f)).collect())
            }
            RecordsAsked::Agents(agents) => {
                let listed = agents.iter().filter_map(|id| self.book.get(id, now));
                RecordsTold::several(listed.map(|listed| &listed.record))
            }
            RecordsAsked::Find(query) => {
                let nearby = ours.filter(|ours| may_know && ours.scope() != Scope::World);
                let listed = self.book.records().map(|listed| &listed.record);
                let all = nearby.into_iter().chain(listed);
                RecordsTold::several(all.filter(|r| r.is_current(now).is_ok() && query.matches(r)))
            }
        }
    }

    /// Answers a peer that asks for records.
    pub(super) fn tell(&mut self, asked: &RecordsAsked, request: Request, ctx: &mut Context<Self>) {
        let told = self.told(asked, request.address);
        let peer = request.peer;
        if request.answer.send(told.to_bytes()).is_err() {
            tracing::debug!(peer.id = %peer, "a peer went before it had its answer");
        }
        // It shows what it has by what it asks.
        let all = Prefix::default();
        let is_other = |(part, theirs): &(Prefix, Fingerprint)| {
            *part == all
                && *theirs != Fingerprint::empty()
                && *theirs != self.book.fingerprint(&all)
        };
        if let RecordsAsked::Sets(sets) = asked
            && sets.iter().any(is_other)
        {
            self.pull_from(peer, ctx);
        }
    }

    /// Fetches from `peer` what we have not, unless that was done a moment ago or is under way.
    pub(super) fn pull_from(&mut self, peer: PeerName, ctx: &mut Context<Self>) {
        let now = Instant::now();
        let pause = self.round / PAUSES;
        self.pulled.retain(|_, at| now.duration_since(*at) < pause);
        if self.pulling.len() >= PULLS_MAX
            || self.pulling.contains(&peer)
            || self.pulled.contains_key(&peer)
        {
            return;
        }
        self.pulled.insert(peer, now);
        self.pulling.insert(peer);
        self.pull(peer, Pull::default(), now + PULL_MAX, ctx);
    }

    fn pull(&mut self, peer: PeerName, mut pull: Pull, until: Instant, ctx: &mut Context<Self>) {
        let asked = pull.next(&self.book).filter(|_| Instant::now() < until);
        let Some(asked) = asked else {
            self.pulling.remove(&peer);
            return;
        };
        let told = ask_records(&self.network, peer, self.addresses(peer), &asked);
        ctx.spawn(told.into_actor(self).map(move |told, this, ctx| {
            match told.map(|(told, _)| told) {
                Ok(RecordsTold::Sets(sets)) => pull.told(&asked, &sets, &this.book, &peer),
                Ok(told) => {
                    let (records, bad) = told.records(this.clock.now());
                    if bad > 0 {
                        tracing::debug!(peer.id = %peer, bad, "a peer told records that do not hold");
                    }
                    for record in records {
                        this.learn(record, peer);
                    }
                }
                Err(error) => {
                    tracing::debug!(peer.id = %peer, %error, "a peer does not tell what it knows");
                    this.pulling.remove(&peer);
                    return;
                }
            }
            this.pull(peer, pull, until, ctx);
        }));
    }

    /// Asks somebody what we have not, and lets go of what is over.
    pub(super) fn next_round(&mut self, ctx: &mut Context<Self>) {
        self.book.expire(self.clock.now());
        let connected = self.connected();
        ctx.spawn(connected.into_actor(self).map(|connected, this, ctx| {
            // A node that has ended is told of by the health of this actor.
            let Ok(connected) = connected else { return };
            // Whoever is asked learns who asks, so those who are not announced keep to those they know.
            let is_public = this.scope == Scope::World;
            let listed = this.book.records().map(|listed| listed.peer);
            let listed = listed.filter(|_| is_public);
            let known = listed.chain(this.beginnings.keys().copied());
            // Our own record is in the book, too, for others.
            let own = this.network.name();
            let known: Vec<_> = known
                .filter(|peer| *peer != own && connected.binary_search(peer).is_err())
                .collect();
            let draw = rand::rng().random();
            if let Some(peer) = this.rounds.next(&connected, &known, draw) {
                this.pull_from(peer, ctx);
            }
        }));
    }
}
