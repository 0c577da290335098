//! The membership actor: this agent at the Meeting Places it joined.
//!
//! Owns: the record of joined Places, the sessions there, the prekeys and what is remembered of sealed messages. Talks
//! to: the peer manager (pins), the quarantine (what was fetched), knowledge (what is left at Places); sealed messages
//! go into the inbox, which it shares with the meeting actor through the inbox's own lock. Asked by: the command line,
//! and the server, which has it live there, through [`MembershipHandle`].
//! Invariants: a Place is believed nothing, not even which Place it is; a message is in the inbox before the Place may
//! forget it, and no message is there twice; a secret that opened its one message is erased.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use kairos_place::member::Pace;
use kairos_place::session::Strength;
use kairos_protocol::crypto::Keypair;
use kairos_protocol::time::Clock;
use kairos_protocol::wire::introduction::{ExchangePolicy, SignedIdentity};
use kairos_protocol::wire::place::PlaceInfo;
use serde_json::json;

use crate::bounded_addr::BoundedAddr;
use crate::knowledge::KnowledgeHandle;
use crate::meeting::client::{ClientLimits, PeerClient, PeerUrl};
use crate::meeting::inbox::InboxLimits;
use crate::passing::INBOX;
use crate::peer_manager::PeerManagerHandle;
use crate::quarantine::{Held, QuarantineHandle};

mod acquire;
mod board;
mod error;
mod life;
pub mod mail;
mod message;
pub mod record;
mod session;
mod store;

pub use error::MembershipError;
use mail::store::MailStore;
pub use mail::{Collect, Collected, Letters, Post, Read, Sent};
use message::Tick;
pub use message::{
    Acquire, Browse, ChangeNeeds, Deposit, Deposited, Health, Join, Joined, Leave, Left, List,
    Live, NeedChange, Seen, Shutdown, Steps, Withdraw,
};
use record::{Membership, NeedRecord};
use session::{Ask, Sessions};
use store::{Records, Stamp};

/// Things that may be done at Places at once, beside living there.
const ERRANDS: usize = 8;
/// Longest errand: several requests, each within the client's own limits.
const ERRAND_MAX: Duration = Duration::from_secs(20 * 60);
/// How often is looked whether another process joined or left a Place.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The folder of this actor below `storage/`.
pub const FOLDER: &str = "membership";
/// The folder of what concerns sealed messages, in that one.
const MAIL: &str = "mail";

/// How the owner wants this agent to live at Places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MembershipPolicy {
    /// How fast.
    pub pace: Pace,
    /// Whether to listen for mail where a Place tells of it.
    pub listen: bool,
    /// Whether what was left at a Place is left again when the Place lost it.
    pub redeposit: bool,
    /// Whether messages to agents without prekeys are sealed in the older envelope.
    pub downgrade: bool,
    /// One-time prekeys at each Place.
    pub prekeys: usize,
    /// Most Places.
    pub places: usize,
}

/// What the actor works with.
pub struct MembershipParts {
    /// Who we are.
    pub signed: Arc<SignedIdentity>,
    /// Our key.
    pub keypair: Arc<Keypair>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// What we accept.
    pub policy: ExchangePolicy,
    /// How to live.
    pub settings: MembershipPolicy,
    /// Bounds towards Places.
    pub client_limits: ClientLimits,
    /// How far clocks may differ.
    pub proof_window: Duration,
    /// Bounds of the inbox.
    pub inbox_limits: InboxLimits,
    /// Neighbour.
    pub peers: PeerManagerHandle,
    /// Neighbour.
    pub quarantine: QuarantineHandle,
    /// Neighbour.
    pub knowledge: KnowledgeHandle,
}

/// Everything that is needed at a Place; shared by all errands and lives.
pub(crate) struct Member {
    client: PeerClient,
    signed: Arc<SignedIdentity>,
    keypair: Arc<Keypair>,
    clock: Arc<dyn Clock>,
    policy: ExchangePolicy,
    settings: MembershipPolicy,
    proof_window: Duration,
    peers: PeerManagerHandle,
    quarantine: QuarantineHandle,
    knowledge: KnowledgeHandle,
    records: Records,
    mail: MailStore,
    sessions: Sessions,
}

/// Runs `work` where it may block.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, MembershipError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| MembershipError::Panicked)
}

impl Member {
    async fn records(&self) -> Result<Vec<Membership>, MembershipError> {
        let records = self.records.clone();
        blocking(move || records.read())
            .await?
            .map_err(MembershipError::Store)
    }

    /// What is known of a Place that is joined.
    async fn record(&self, url: &PeerUrl) -> Result<Membership, MembershipError> {
        let found = self
            .records()
            .await?
            .into_iter()
            .find(|place| &place.url == url);
        found.ok_or_else(|| MembershipError::NotJoined(url.clone()))
    }

    /// Changes the record of a Place that is joined.
    async fn change(
        &self,
        url: &PeerUrl,
        change: impl FnOnce(&mut Membership) + Send + 'static,
    ) -> Result<(), MembershipError> {
        let (records, wanted) = (self.records.clone(), url.clone());
        let changed = blocking(move || records.change_one(&wanted, change)).await?;
        match changed.map_err(MembershipError::Store)? {
            true => Ok(()),
            false => Err(MembershipError::NotJoined(url.clone())),
        }
    }

    /// Sees that there is a session, and that the Place has what we left there if it took us in anew.
    async fn enter(&self, url: &PeerUrl) -> Result<Membership, MembershipError> {
        self.session(url).await?;
        let record = self.record(url).await?;
        if record.restore {
            // What was asked for does not depend on it, and the next one tries again.
            if let Err(error) = self.tend(url).await {
                tracing::warn!(place.url = %url, %error, "what was left at the Place could not be left again");
            }
        }
        self.record(url).await
    }

    /// Looks after what we left at a Place.
    async fn tend(&self, url: &PeerUrl) -> Result<(), MembershipError> {
        let record = self.record(url).await?;
        if record.has_relay {
            self.publish_prekeys(url).await?;
        }
        if record.restore {
            self.restore(url, &record).await?;
        }
        Ok(())
    }

    async fn join(&self, join: Join) -> Result<Joined, MembershipError> {
        let Join { url, steps } = join;
        let known = self.records().await?;
        let before = known.iter().find(|place| place.url == url);
        let limit = self.settings.places;
        if before.is_none() && known.len() >= limit {
            return Err(MembershipError::TooMany { limit });
        }
        steps("registering");
        let opened = self.register(&url, before).await?;
        let has_relay = self.has_relay(&url).await?;
        let fresh = self.fresh_record(&url, &opened.info, has_relay);
        let (records, wanted) = (self.records.clone(), url.clone());
        let first = blocking(move || {
            records.change(|places| {
                let joined = places.iter().any(|place| place.url == wanted);
                if !joined {
                    places.push(fresh);
                }
                Ok::<_, std::io::Error>(!joined)
            })
        })
        .await?
        .map_err(MembershipError::Store)?;
        self.note_registration(&url, &opened).await?;
        self.change(&url, move |record| record.has_relay = has_relay)
            .await?;
        steps("looking after what is left there");
        let untended = self.tend(&url).await.err();
        Ok(Joined {
            untended: untended.map(|error| error.to_string()),
            place: self.record(&url).await?,
            first,
            proven: opened.strength == Strength::Proven,
            checks: opened.checks,
            info: opened.info,
        })
    }

    fn fresh_record(&self, url: &PeerUrl, info: &PlaceInfo, has_relay: bool) -> Membership {
        Membership {
            url: url.clone(),
            place_id: info.place_id.clone(),
            key: None,
            proven: false,
            name: info.name.clone(),
            joined_at: self.clock.now(),
            has_relay,
            restore: false,
            deposits: std::collections::BTreeMap::new(),
            needs: Vec::new(),
            acquired: Vec::new(),
            sealed_to: std::collections::BTreeSet::new(),
            contact: None,
        }
    }

    /// Whether a Place has the endpoints of the relay. One that has them and lets us not use them has them.
    async fn has_relay(&self, url: &PeerUrl) -> Result<bool, MembershipError> {
        match self.ask_once(url, &Ask::get(&["prekeys"])).await {
            Ok(_) => Ok(true),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) if error.client().is_some_and(|error| error.has_status(403)) => Ok(true),
            Err(error) => Err(error),
        }
    }

    async fn leave(&self, leave: Leave) -> Result<Left, MembershipError> {
        let url = leave.url;
        let place = self.record(&url).await?;
        let untold = match self.part(&place).await {
            Ok(()) => None,
            Err(error) if leave.force => Some(error.to_string()),
            Err(error) => return Err(error),
        };
        let (records, wanted) = (self.records.clone(), url.clone());
        let gone = blocking(move || {
            records.change(|places| {
                places.retain(|place| place.url != wanted);
                Ok::<_, std::io::Error>(())
            })
        });
        gone.await?.map_err(MembershipError::Store)?;
        let (mail, left) = (self.mail.clone(), url.clone());
        let erased = blocking(move || mail.forget(&left)).await?;
        erased.map_err(MembershipError::Store)?;
        Ok(Left { place, untold })
    }

    /// Fetches what waits at a Place and takes us off its registry.
    async fn part(&self, place: &Membership) -> Result<(), MembershipError> {
        if place.has_relay {
            let left = self.collect(&place.url).await?.left;
            if left > 0 {
                return Err(MembershipError::MailLeft { left });
            }
        }
        let body = json!({"agent_id": self.signed.instance_id});
        let ask = Ask::send(reqwest::Method::POST, &["unregister"], &body);
        self.ask(&place.url, &ask).await?;
        Ok(())
    }
}

/// See the module.
pub struct MembershipActor {
    member: Arc<Member>,
    /// What lives at each Place, once it is told to.
    lives: Option<HashMap<PeerUrl, SpawnHandle>>,
    stamp: Stamp,
    looking: bool,
}

/// Reaches the membership actor. Errands have permits and patience of their own, so that they cannot hold up questions
/// that are answered at once.
#[derive(Clone)]
pub struct MembershipHandle {
    errands: BoundedAddr<MembershipActor>,
    questions: BoundedAddr<MembershipActor>,
}

impl MembershipHandle {
    /// See [`Join`].
    pub async fn join(&self, url: PeerUrl, steps: Steps) -> Result<Joined, MembershipError> {
        self.errands.ask(Join { url, steps }).await?
    }

    /// See [`Leave`].
    pub async fn leave(&self, url: PeerUrl, force: bool) -> Result<Left, MembershipError> {
        self.errands.ask(Leave { url, force }).await?
    }

    /// See [`List`].
    pub async fn list(&self) -> Result<Vec<Membership>, MembershipError> {
        self.questions.ask(List).await?
    }

    /// See [`Browse`].
    pub async fn browse(&self, message: Browse) -> Result<Seen, MembershipError> {
        self.errands.ask(message).await?
    }

    /// See [`Deposit`].
    pub async fn deposit(&self, message: Deposit) -> Result<Deposited, MembershipError> {
        self.errands.ask(message).await?
    }

    /// See [`Withdraw`].
    pub async fn withdraw(&self, message: Withdraw) -> Result<(), MembershipError> {
        self.errands.ask(message).await?
    }

    /// See [`Acquire`].
    pub async fn acquire(&self, message: Acquire) -> Result<Held, MembershipError> {
        self.errands.ask(message).await?
    }

    /// See [`ChangeNeeds`].
    pub async fn change_needs(
        &self,
        message: ChangeNeeds,
    ) -> Result<Vec<NeedRecord>, MembershipError> {
        self.errands.ask(message).await?
    }

    /// See [`Post`].
    pub async fn post(&self, message: Post) -> Result<Sent, MembershipError> {
        self.errands.ask(message).await?
    }

    /// See [`Collect`].
    pub async fn collect(&self, url: PeerUrl) -> Result<Collected, MembershipError> {
        self.errands.ask(Collect { url }).await?
    }

    /// See [`Read`].
    pub async fn read(&self, url: Option<PeerUrl>, all: bool) -> Result<Letters, MembershipError> {
        self.questions.ask(Read { url, all }).await?
    }

    /// See [`Live`].
    pub async fn live(&self) -> Result<(), MembershipError> {
        self.questions.ask(Live).await?
    }

    /// See [`Health`].
    pub async fn health(&self) -> Result<(), MembershipError> {
        self.questions.probe(Health).await?
    }

    /// See [`Shutdown`].
    pub async fn shutdown(&self) -> Result<(), MembershipError> {
        self.questions.ask(Shutdown).await?
    }
}

impl MembershipActor {
    /// Finishes what was cut off and starts the actor of the data directory `data`. Blocks on the disk, so it belongs
    /// before anything is served.
    pub fn start(
        data: &Path,
        parts: MembershipParts,
        permits: usize,
        patience: Duration,
    ) -> Result<MembershipHandle, MembershipError> {
        let folder = data.join("storage").join(FOLDER);
        let mail = MailStore::new(&folder.join(MAIL), &data.join(INBOX), parts.inbox_limits);
        mail.recover().map_err(MembershipError::Store)?;
        let member = Member {
            client: PeerClient::new(parts.client_limits),
            signed: parts.signed,
            keypair: parts.keypair,
            clock: parts.clock,
            policy: parts.policy,
            settings: parts.settings,
            proof_window: parts.proof_window,
            peers: parts.peers,
            quarantine: parts.quarantine,
            knowledge: parts.knowledge,
            records: Records::new(&folder),
            mail,
            sessions: Sessions::default(),
        };
        let actor = Self {
            member: Arc::new(member),
            lives: None,
            stamp: None,
            looking: false,
        };
        let addr = Self::create(|ctx| {
            ctx.set_mailbox_capacity(permits.saturating_add(ERRANDS));
            actor
        });
        Ok(MembershipHandle {
            errands: BoundedAddr::new(addr.clone(), ERRANDS, ERRAND_MAX),
            questions: BoundedAddr::new(addr, permits, patience),
        })
    }

    /// Runs an errand; several may run at once.
    fn errand<T: 'static, F>(
        &self,
        work: impl FnOnce(Arc<Member>) -> F,
    ) -> ResponseFuture<Result<T, MembershipError>>
    where
        F: Future<Output = Result<T, MembershipError>> + 'static,
    {
        Box::pin(work(Arc::clone(&self.member)))
    }

    /// Begins to live at Places that were joined, and ends that where they were left.
    fn adapt(&mut self, places: Vec<Membership>, ctx: &mut Context<Self>) {
        let Some(lives) = &mut self.lives else {
            return;
        };
        lives.retain(|url, life| {
            let stays = places.iter().any(|place| &place.url == url);
            if !stays {
                ctx.cancel_future(*life);
            }
            stays
        });
        for place in places {
            lives.entry(place.url).or_insert_with_key(|url| {
                let life = life::live(Arc::clone(&self.member), url.clone());
                ctx.spawn(fut::wrap_future::<_, Self>(life))
            });
        }
    }
}

impl Actor for MembershipActor {
    type Context = Context<Self>;
}

impl Handler<Join> for MembershipActor {
    type Result = ResponseFuture<Result<Joined, MembershipError>>;

    fn handle(&mut self, message: Join, _ctx: &mut Self::Context) -> Self::Result {
        self.errand(|member| async move { member.join(message).await })
    }
}

impl Handler<Leave> for MembershipActor {
    type Result = ResponseFuture<Result<Left, MembershipError>>;

    fn handle(&mut self, message: Leave, _ctx: &mut Self::Context) -> Self::Result {
        self.errand(|member| async move { member.leave(message).await })
    }
}

impl Handler<List> for MembershipActor {
    type Result = ResponseFuture<Result<Vec<Membership>, MembershipError>>;

    fn handle(&mut self, _message: List, _ctx: &mut Self::Context) -> Self::Result {
        self.errand(|member| async move { member.records().await })
    }
}

impl Handler<Browse> for MembershipActor {
    type Result = ResponseFuture<Result<Seen, MembershipError>>;

    fn handle(&mut self, message: Browse, _ctx: &mut Self::Context) -> Self::Result {
        self.errand(|member| async move { member.browse(message).await })
    }
}

impl Handler<Deposit> for MembershipActor {
    type Result = ResponseFuture<Result<Deposited, MembershipError>>;

    fn handle(&mut self, message: Deposit, _ctx: &mut Self::Context) -> Self::Result {
        self.errand(|member| async move { member.deposit(message).await })
    }
}

impl Handler<Withdraw> for MembershipActor {
    type Result = ResponseFuture<Result<(), MembershipError>>;

    fn handle(&mut self, message: Withdraw, _ctx: &mut Self::Context) -> Self::Result {
        self.errand(|member| async move { member.withdraw(message).await })
    }
}

impl Handler<Acquire> for MembershipActor {
    type Result = ResponseFuture<Result<Held, MembershipError>>;

    fn handle(&mut self, message: Acquire, _ctx: &mut Self::Context) -> Self::Result {
        self.errand(|member| async move { member.acquire(message).await })
    }
}

impl Handler<ChangeNeeds> for MembershipActor {
    type Result = ResponseFuture<Result<Vec<NeedRecord>, MembershipError>>;

    fn handle(&mut self, message: ChangeNeeds, _ctx: &mut Self::Context) -> Self::Result {
        let ChangeNeeds { url, change } = message;
        self.errand(|member| async move { member.change_needs(url, change).await })
    }
}

impl Handler<Post> for MembershipActor {
    type Result = ResponseFuture<Result<Sent, MembershipError>>;

    fn handle(&mut self, message: Post, _ctx: &mut Self::Context) -> Self::Result {
        self.errand(|member| async move { member.post(message).await })
    }
}

impl Handler<Collect> for MembershipActor {
    type Result = ResponseFuture<Result<Collected, MembershipError>>;

    fn handle(&mut self, message: Collect, _ctx: &mut Self::Context) -> Self::Result {
        self.errand(|member| async move {
            let place = member.enter(&message.url).await?;
            match place.has_relay {
                true => member.collect(&message.url).await,
                false => Err(MembershipError::NoRelay(message.url)),
            }
        })
    }
}

impl Handler<Read> for MembershipActor {
    type Result = ResponseFuture<Result<Letters, MembershipError>>;

    fn handle(&mut self, message: Read, _ctx: &mut Self::Context) -> Self::Result {
        self.errand(|member| async move { member.read(message).await })
    }
}

impl Handler<Live> for MembershipActor {
    type Result = Result<(), MembershipError>;

    fn handle(&mut self, _message: Live, ctx: &mut Self::Context) -> Self::Result {
        if self.lives.is_none() {
            self.lives = Some(HashMap::new());
            ctx.notify(Tick);
            ctx.run_interval(LOOK_EVERY, |_, ctx| ctx.notify(Tick));
        }
        Ok(())
    }
}

impl Handler<Tick> for MembershipActor {
    type Result = ();

    fn handle(&mut self, _tick: Tick, ctx: &mut Self::Context) {
        if std::mem::replace(&mut self.looking, true) {
            return;
        }
        let (records, known) = (self.member.records.clone(), self.stamp);
        let look = blocking(move || {
            let stamp = records.stamp();
            let places = match stamp == known {
                true => None,
                false => Some(records.read()),
            };
            (stamp, places)
        });
        ctx.spawn(look.into_actor(self).map(|looked, this, ctx| {
            this.looking = false;
            match looked {
                Ok((_, None)) | Err(_) => {}
                Ok((stamp, Some(Ok(places)))) => {
                    this.stamp = stamp;
                    this.adapt(places, ctx);
                }
                Ok((stamp, Some(Err(error)))) => {
                    // Said once for each state of the file.
                    this.stamp = stamp;
                    tracing::error!(%error, "the record of joined Places could not be read");
                }
            }
        }));
    }
}

impl Handler<Health> for MembershipActor {
    type Result = Result<(), MembershipError>;

    fn handle(&mut self, _message: Health, _ctx: &mut Self::Context) -> Self::Result {
        Ok(())
    }
}

impl Handler<Shutdown> for MembershipActor {
    type Result = AtomicResponse<Self, Result<(), MembershipError>>;

    fn handle(&mut self, _message: Shutdown, ctx: &mut Self::Context) -> Self::Result {
        for (_, life) in self.lives.take().into_iter().flatten() {
            ctx.cancel_future(life);
        }
        let member = Arc::clone(&self.member);
        let bye = async move { member.say_goodbye().await };
        AtomicResponse::new(Box::pin(bye.into_actor(self).map(|(), _this, ctx| {
            ctx.stop();
            Ok(())
        })))
    }
}
