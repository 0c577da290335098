//! What we say of ourselves: our record, signed anew when something in it changed or its time is half over.

use std::rc::Rc;
use std::time::Duration;

use actix::prelude::*;
use futures::future::LocalBoxFuture;
use kairos_p2p::Address;
use kairos_protocol::json;
use kairos_protocol::record::{Announcement, OFFERS_MAX, Offer, Record, RecordError, Scope};
use kairos_protocol::time::Timestamp;
use serde_json::{Value, json};

use super::records::Listed;
use super::{DiscoveryActor, DiscoveryError};

/// How long our record holds; it is signed anew when half of that is over.
pub(super) const LIFETIME: Duration = Duration::from_secs(6 * 60 * 60);
/// Addresses of ours that are announced.
const ADDRESSES: usize = 8;
/// Bytes of what we hand out that are announced; with all else a record has room for them.
const OFFERS_BYTES: usize = 3 * 1024;
/// How often is looked whether there is something else to say of us.
pub(super) const SAID_EVERY: Duration = Duration::from_secs(60);
/// That our ledger grew is said no more often than this.
pub(super) const LEDGER_EVERY: Duration = Duration::from_secs(10 * 60);
/// Neighbours that are shown at once that our record is another one.
const SHOWN_TO: usize = 4;

/// What our record says beside who and where we are.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Said {
    /// The name of the Meeting Place that is hosted here.
    pub place: Option<String>,
    /// Where it is reached over HTTP.
    pub url: Option<String>,
    /// What is handed out; as many are announced as a record has room for.
    pub offers: Vec<Offer>,
    /// The checkpoint of our ledger, as introductions have it.
    pub ledger: Option<Value>,
}

/// Finds out what there is to say at the moment.
pub type Say = Rc<dyn Fn() -> LocalBoxFuture<'static, Said>>;

impl DiscoveryActor {
    /// Our record, signed anew if it has to be, with the addresses at which the node is now, and what there is to say.
    pub(super) fn renewed(
        &self,
    ) -> ResponseActFuture<Self, Result<Option<Record>, DiscoveryError>> {
        let (network, said) = (self.network.clone(), (self.say)());
        let looked = async move { (network.status().await, said.await) };
        Box::pin(looked.into_actor(self).map(|(status, said), this, ctx| {
            let status = status?;
            let before = this.ours.as_ref().map(Record::sequence);
            this.renew(status.listen, status.external, said)?;
            if let Some(ours) = this.ours.clone()
                && Some(ours.sequence()) != before
            {
                this.list_ours(ours, ctx);
            }
            Ok(this.ours.clone())
        }))
    }

    /// Signs our record if something in it changed or its time is half over.
    fn renew(
        &mut self,
        listen: Vec<Address>,
        external: Vec<Address>,
        said: Said,
    ) -> Result<(), RecordError> {
        let now = self.clock.now();
        let all = self.external.iter().chain(&external).chain(&listen);
        let mut addresses: Vec<String> = Vec::new();
        for address in all {
            let is_useless = address.ip().is_some_and(|ip| ip.is_unspecified());
            let text = address.to_string();
            if !is_useless && !addresses.contains(&text) && addresses.len() < ADDRESSES {
                addresses.push(text);
            }
        }
        if let Some(ours) = &self.ours
            && ours.addresses() == addresses
            && self.is_said(ours, &said)
            && now < self.fresh_until
        {
            return Ok(());
        }
        // Milliseconds, so that a restarted node goes on where it was.
        let by_time = now.since(Timestamp::EPOCH).as_millis();
        let by_time = u64::try_from(by_time).unwrap_or(u64::MAX);
        let last = self.ours.as_ref().map_or(0, Record::sequence);
        let announcement = Announcement {
            name: self.name.clone(),
            sequence: by_time.max(last.saturating_add(1)),
            issued_at: now,
            expires_at: now.plus(LIFETIME),
            scope: self.scope,
            addresses,
            url: said.url,
            offers: announced(&said.offers),
            place: said.place,
            ledger: said.ledger,
        };
        self.ours = Some(Record::sign(announcement, &self.keypair, &self.peer_key)?);
        self.fresh_until = now.plus(LIFETIME / 2);
        self.ledger_due = now.plus(LEDGER_EVERY);
        Ok(())
    }

    /// Whether our record says all of that, the ledger's growth in the last minutes aside.
    fn is_said(&self, ours: &Record, said: &Said) -> bool {
        ours.offers() == announced(&said.offers)
            && (ours.place(), ours.url()) == (said.place.as_deref(), said.url.as_deref())
            && (ours.ledger() == said.ledger.as_ref() || self.clock.now() < self.ledger_due)
    }

    /// Finds out whether there is something else to say, and if so says it soon.
    pub(super) fn look_what_to_say(&self, ctx: &mut Context<Self>) {
        let said = (self.say)();
        ctx.spawn(said.into_actor(self).map(|said, this, ctx| {
            let is_said = |ours| this.is_said(ours, &said);
            if !this.ours.as_ref().is_some_and(is_said) {
                this.publish_soon(ctx);
            }
        }));
    }

    /// Has our record be one of those that neighbours compare with theirs, if it is for everybody. Some of them are asked for
    /// theirs, and see from that that there is something new here.
    fn list_ours(&mut self, record: Record, ctx: &mut Context<Self>) {
        if record.scope() != Scope::World {
            return;
        }
        let own = self.network.name();
        let listed = Listed { record, peer: own };
        self.book.keep(listed, own, self.clock.now());
        let connected = self.connected();
        ctx.spawn(connected.into_actor(self).map(|peers, this, ctx| {
            for peer in peers.into_iter().flatten().take(SHOWN_TO) {
                this.pull_from(peer, ctx);
            }
        }));
    }
}

/// As many of `offers` as a record has room for.
fn announced(offers: &[Offer]) -> Vec<Offer> {
    let mut left = OFFERS_BYTES;
    let fits = |offer: &&Offer| {
        let size = json::canonical(&json!(offer)).len();
        left.checked_sub(size).is_some_and(|rest| {
            left = rest;
            true
        })
    };
    let some = offers.iter().take(OFFERS_MAX).take_while(fits);
    some.cloned().collect()
}
