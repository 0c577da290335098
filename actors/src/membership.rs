//! The membership actor: this agent at the Meeting Places it joined.
//!
//! Owns: the record of joined Places, the sessions there, the prekeys and what is remembered of sealed messages. Talks
//! to: the peer manager (pins), the quarantine (what was fetched), knowledge (what is left at Places); sealed messages
//! go into the inbox, which it shares with the meeting actor through the inbox's own lock. Asked by: the command line,
//! and the server, which has it live there, through [`MembershipHandle`].
//! Invariants: a Place is believed nothing, not even which Place it is; a message is in the inbox before the Place may
//! forget it, and no message is there twice; a secret that opened its one message is erased.

use std::sync::Arc;
use std::time::Duration;

use kairos_place::member::Pace;
use kairos_place::session::Strength;
use kairos_protocol::crypto::Keypair;
use kairos_protocol::time::Clock;
use kairos_protocol::wire::introduction::{ExchangePolicy, SignedIdentity};
use kairos_protocol::wire::place::{Members, PlaceInfo};
use serde_json::json;

use crate::bounded_addr::{Asks, BoundedAddr};
use crate::knowledge::KnowledgeHandle;
use crate::meeting::client::{PeerClient, PeerUrl};
use crate::meeting::inbox::InboxLimits;
use crate::peer_manager::PeerManagerHandle;
use crate::quarantine::{Held, QuarantineHandle};

mod acquire;
mod actor;
mod again;
mod board;
mod carry;
mod error;
mod hand_over;
mod life;
pub mod mail;
mod message;
pub mod record;
mod session;
mod store;
mod through;

pub use actor::MembershipActor;
pub use carry::{CARRY_MAX, Carry};
pub use error::MembershipError;
pub use hand_over::PostThrough;
use mail::store::MailStore;
pub use mail::{Collect, Collected, Letters, Post, Read, Sent};
pub use message::{
    Acquire, Browse, ChangeNeeds, Deposit, Deposited, Health, Join, Joined, Leave, Left, List,
    Live, NeedChange, Seen, Shutdown, Steps, Withdraw,
};
use record::{Membership, NeedRecord};
use session::{Ask, Sessions};
use store::Records;
pub use through::{AcquireThrough, Look, Looked};

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
    /// Speaks to Places.
    pub client: PeerClient,
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

/// Reaches the membership actor. Errands, and what is carried for others, have permits and patience of their own, so that they cannot hold up questions
/// that are answered at once.
#[derive(Clone)]
pub struct MembershipHandle {
    errands: BoundedAddr<MembershipActor>,
    questions: BoundedAddr<MembershipActor>,
    carries: BoundedAddr<MembershipActor>,
}

impl MembershipHandle {
    /// See [`Carry`].
    pub async fn carry(&self, message: Carry) -> Result<Members, MembershipError> {
        self.carries.ask(message).await?
    }

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

    /// See [`Look`].
    pub async fn look(&self, message: Look) -> Result<Looked, MembershipError> {
        self.errands.ask(message).await?
    }

    /// See [`AcquireThrough`].
    pub async fn acquire_through(&self, message: AcquireThrough) -> Result<Held, MembershipError> {
        self.errands.ask(message).await?
    }

    /// See [`PostThrough`].
    pub async fn post_through(&self, message: PostThrough) -> Result<Sent, MembershipError> {
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

    /// The bound of asks, and what was counted at it.
    pub fn asks(&self) -> &Arc<Asks> {
        self.questions.asks()
    }

    /// The same for errands to Places, which wait for others.
    pub fn errand_asks(&self) -> &Arc<Asks> {
        self.errands.asks()
    }

    /// The same for what is asked in the name of our Place.
    pub fn carry_asks(&self) -> &Arc<Asks> {
        self.carries.asks()
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
