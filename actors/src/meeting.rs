//! The meeting actor: conversations with other agents.
//!
//! Owns: the inbox, and the HTTP client towards peers. Talks to: the peer manager (pins), the quarantine (what was
//! fetched), knowledge and SkillSets (what we offer, and where approved things go). Asked by: the HTTP door for
//! messages that arrive, the command line for meetings, through [`MeetingHandle`].
//! Invariants: a message is in the inbox before its sender is answered; what a peer sends goes to the quarantine and
//! no further without a decision.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actix::prelude::*;
use kairos_protocol::crypto::{KeyError, Keypair};
use kairos_protocol::package::PackageLimits;
use kairos_protocol::time::Clock;
use kairos_protocol::tlog::statement::Attributed;
use kairos_protocol::wire::envelope::{self, Action, Envelope};
use kairos_protocol::wire::introduction::{ExchangePolicy, SignedIdentity, introduction_with};
use serde_json::{Map, Value};
use thiserror::Error;

use crate::bounded_addr::{AskError, Asks, BoundedAddr};
use crate::chain::tlog::TlogHandle;
use crate::check::Checks;
use crate::extensions::Extensions;
use crate::knowledge::{KnowledgeError, KnowledgeHandle};
use crate::peer_manager::{Caller, PeerError, PeerManagerHandle};
use crate::quarantine::{QuarantineError, QuarantineHandle};
use crate::skill_set::{SkillSetError, SkillSetHandle};
use crate::witness::{WitnessError, WitnessHandle};

pub mod acquire;
pub mod approve;
pub mod client;
pub mod encounter;
mod history;
pub mod inbox;
mod message;
pub(crate) mod outside;
mod witnessed;

use client::{Answer, ClientError, PeerClient, PeerUrl};
use encounter::Encounter;
use inbox::{Inbox, InboxEntry, InboxError, InboxLimits};

pub use approve::{Approval, Approved};
pub use message::{
    Acquire, ClearInbox, Confront, Fetched, Health, Keep, Meet, Peek, Progress, ReadInbox, Receive,
    SendMessage, Shutdown, Wanted,
};

/// Conversations with peers that may run at once.
const CONVERSATIONS: usize = 8;
/// Longest conversation: several requests, each within the client's own limits.
const CONVERSATION_MAX: Duration = Duration::from_secs(20 * 60);

/// What went wrong in a conversation.
#[derive(Debug, Error)]
pub enum MeetingError {
    /// The peer could not be reached or refused.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A check failed; nothing was kept.
    #[error("{check}: {detail}")]
    Refused {
        /// Which.
        check: String,
        /// Why.
        detail: String,
        /// Every check up to and with the failed one.
        checks: Checks,
    },
    /// See there.
    #[error(transparent)]
    Peer(#[from] PeerError),
    /// See there.
    #[error(transparent)]
    Quarantine(#[from] QuarantineError),
    /// See there.
    #[error(transparent)]
    Knowledge(#[from] KnowledgeError),
    /// See there.
    #[error(transparent)]
    SkillSet(#[from] SkillSetError),
    /// See there.
    #[error(transparent)]
    Inbox(#[from] InboxError),
    /// See there.
    #[error(transparent)]
    Witness(#[from] WitnessError),
    /// The cryptographic library failed.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A blocking step panicked; it was logged.
    #[error("a step of the conversation failed inside")]
    Panicked,
    /// The actor did not answer.
    #[error("the meeting actor {0}")]
    Ask(#[from] AskError),
}

/// What the meeting actor works with.
pub struct MeetingParts {
    /// Who we are.
    pub signed: Arc<SignedIdentity>,
    /// Our key.
    pub keypair: Arc<Keypair>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// What we accept.
    pub policy: ExchangePolicy,
    /// What more is advertised and known.
    pub extensions: Extensions,
    /// Bounds of packages.
    pub package_limits: PackageLimits,
    /// Speaks to peers.
    pub client: PeerClient,
    /// How far clocks may differ.
    pub proof_window: Duration,
    /// Bounds of the inbox.
    pub inbox_limits: InboxLimits,
    /// Whether what gives no reason to ask is installed at once; see [`Fetched::installed`].
    pub auto_install: bool,
    /// Neighbour.
    pub peers: PeerManagerHandle,
    /// Neighbour.
    pub quarantine: QuarantineHandle,
    /// Neighbour.
    pub knowledge: KnowledgeHandle,
    /// Neighbour.
    pub skill_sets: SkillSetHandle,
    /// Neighbour.
    pub tlog: TlogHandle,
    /// Neighbour.
    pub witness: WitnessHandle,
}

/// Everything a conversation that we begin needs; shared by all of them.
pub(crate) struct Outbound {
    client: PeerClient,
    signed: Arc<SignedIdentity>,
    keypair: Arc<Keypair>,
    clock: Arc<dyn Clock>,
    policy: ExchangePolicy,
    extensions: Extensions,
    package_limits: PackageLimits,
    proof_window: Duration,
    auto_install: bool,
    peers: PeerManagerHandle,
    quarantine: QuarantineHandle,
    knowledge: KnowledgeHandle,
    skill_sets: SkillSetHandle,
    tlog: TlogHandle,
    witness: WitnessHandle,
}

impl Outbound {
    /// Our introduction, with what we offer right now.
    async fn introduction(&self) -> Result<Value, MeetingError> {
        let catalogue = self.knowledge.fresh(Duration::ZERO).await;
        let skill_sets = self.skill_sets.fresh(Duration::ZERO).await?;
        let checkpoint = self.tlog.fresh(Duration::ZERO).await;
        let extensions = self.extensions.current().await;
        let now = self.clock.now().wire();
        Ok(introduction_with(
            &self.signed,
            &self.policy,
            catalogue.entries(),
            &skill_sets.entries(),
            &now,
            checkpoint.as_deref(),
            &extensions.extensions,
        ))
    }
}

/// See the module.
pub struct MeetingActor {
    out: Arc<Outbound>,
    /// Used from blocking threads only, one at a time; never locked across an await.
    inbox: Arc<Mutex<Inbox>>,
}

/// Reaches the meeting actor. Conversations that we begin have permits and patience of their own, so that they
/// cannot hold up messages that arrive.
#[derive(Clone)]
pub struct MeetingHandle {
    arriving: BoundedAddr<MeetingActor>,
    begun: BoundedAddr<MeetingActor>,
}

impl MeetingHandle {
    /// See [`Receive`].
    pub async fn receive(&self, caller: Caller, envelope: Envelope) -> Result<Value, MeetingError> {
        self.arriving.ask(Receive { caller, envelope }).await?
    }

    /// See [`Keep`].
    pub async fn keep(&self, message: Keep) -> Result<(), MeetingError> {
        self.arriving.ask(message).await?
    }

    /// See [`ReadInbox`].
    pub async fn inbox(&self) -> Result<Vec<InboxEntry>, MeetingError> {
        self.arriving.ask(ReadInbox).await?
    }

    /// See [`ClearInbox`].
    pub async fn clear_inbox(&self) -> Result<usize, MeetingError> {
        self.arriving.ask(ClearInbox).await?
    }

    /// See [`Meet`].
    pub async fn meet(&self, url: PeerUrl) -> Result<Encounter, MeetingError> {
        self.begun.ask(Meet { url }).await?
    }

    /// See [`Confront`].
    pub async fn confront(
        &self,
        url: PeerUrl,
        seen: Vec<Attributed>,
    ) -> Result<Encounter, MeetingError> {
        self.begun.ask(Confront { url, seen }).await?
    }

    /// See [`Acquire`].
    pub async fn acquire(
        &self,
        url: PeerUrl,
        wanted: Wanted,
        progress: Progress,
    ) -> Result<(Encounter, Fetched), MeetingError> {
        self.begun
            .ask(Acquire {
                url,
                wanted,
                progress,
            })
            .await?
    }

    /// See [`Peek`].
    pub async fn peek(
        &self,
        url: PeerUrl,
        skill: String,
    ) -> Result<(Encounter, acquire::Acquisition), MeetingError> {
        self.begun.ask(Peek { url, skill }).await?
    }

    /// See [`SendMessage`].
    pub async fn send(
        &self,
        message: SendMessage,
    ) -> Result<(Encounter, Map<String, Value>), MeetingError> {
        self.begun.ask(message).await?
    }

    /// See [`Approval`].
    pub async fn approve(&self, approval: Approval) -> Result<Approved, MeetingError> {
        self.begun.ask(approval).await?
    }

    /// The bound of asks, and what was counted at it.
    pub fn asks(&self) -> &Arc<Asks> {
        self.arriving.asks()
    }

    /// The same for conversations that this agent begins, which wait for others.
    pub fn errand_asks(&self) -> &Arc<Asks> {
        self.begun.asks()
    }

    /// See [`Health`].
    pub async fn health(&self) -> Result<(), MeetingError> {
        self.arriving.probe(Health).await?
    }

    /// See [`Shutdown`].
    pub async fn shutdown(&self) -> Result<(), MeetingError> {
        self.arriving.ask(Shutdown).await?
    }
}

impl MeetingActor {
    /// Opens the inbox at `inbox` and starts the actor. Blocks on the disk, so it belongs before anything is served.
    pub fn start(
        inbox: &Path,
        parts: MeetingParts,
        permits: usize,
        patience: Duration,
    ) -> Result<MeetingHandle, MeetingError> {
        let inbox = Inbox::open(inbox, parts.inbox_limits).map_err(InboxError::from)?;
        let out = Outbound {
            client: parts.client,
            signed: parts.signed,
            keypair: parts.keypair,
            clock: parts.clock,
            policy: parts.policy,
            extensions: parts.extensions,
            package_limits: parts.package_limits,
            proof_window: parts.proof_window,
            auto_install: parts.auto_install,
            peers: parts.peers,
            quarantine: parts.quarantine,
            knowledge: parts.knowledge,
            skill_sets: parts.skill_sets,
            tlog: parts.tlog,
            witness: parts.witness,
        };
        let actor = Self {
            out: Arc::new(out),
            inbox: Arc::new(Mutex::new(inbox)),
        };
        let addr = Self::create(|ctx| {
            ctx.set_mailbox_capacity(permits.saturating_add(CONVERSATIONS));
            actor
        });
        Ok(MeetingHandle {
            arriving: BoundedAddr::new(addr.clone(), permits, patience),
            begun: BoundedAddr::new(addr, CONVERSATIONS, CONVERSATION_MAX),
        })
    }

    /// Runs `work` on the inbox in a blocking thread.
    fn with_inbox<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Inbox) -> Result<T, InboxError> + Send + 'static,
    ) -> impl Future<Output = Result<T, MeetingError>> + 'static {
        let inbox = Arc::clone(&self.inbox);
        let done = tokio::task::spawn_blocking(move || {
            work(&mut inbox.lock().unwrap_or_else(PoisonError::into_inner))
        });
        async move {
            let done = done
                .await
                .map_err(|panic| InboxError::Io(io::Error::other(panic)))?;
            Ok(done?)
        }
    }

    fn entry(&self, caller: Caller, action: String, payload: Value) -> InboxEntry {
        InboxEntry::new(
            self.out.clock.now(),
            caller.agent_id,
            caller.strength,
            action,
            payload,
        )
    }
}

impl Actor for MeetingActor {
    type Context = Context<Self>;
}

impl Handler<Receive> for MeetingActor {
    type Result = ResponseFuture<Result<Value, MeetingError>>;

    fn handle(&mut self, message: Receive, _ctx: &mut Self::Context) -> Self::Result {
        let Receive { caller, envelope } = message;
        if let Action::Unknown(action) = &envelope.action {
            // Kept nowhere, whether it is known or not: nobody here has a use for it.
            let (action, extensions) = (action.clone(), self.out.extensions.clone());
            return Box::pin(async move {
                let known = extensions.current().await.knows(&action);
                Ok(envelope.knowing(|_| known).answer(|_| false))
            });
        }
        let answer = envelope.answer(|format| {
            self.out
                .policy
                .allowed_formats
                .iter()
                .any(|allowed| allowed == format)
        });
        let Some(action) = envelope.action.name() else {
            return Box::pin(async move { Ok(answer) });
        };
        let entry = InboxEntry {
            in_reply_to: envelope.in_reply_to,
            id: envelope.id,
            ..self.entry(caller, action.to_owned(), Value::Object(envelope.payload))
        };
        let kept = self.with_inbox(move |inbox| inbox.keep(&entry));
        Box::pin(async move { kept.await.map(|()| answer) })
    }
}

impl Handler<Keep> for MeetingActor {
    type Result = ResponseFuture<Result<(), MeetingError>>;

    fn handle(&mut self, message: Keep, _ctx: &mut Self::Context) -> Self::Result {
        let Keep {
            caller,
            action,
            payload,
            in_reply_to,
        } = message;
        let entry = InboxEntry {
            in_reply_to,
            ..self.entry(caller, action, payload)
        };
        Box::pin(self.with_inbox(move |inbox| inbox.keep(&entry)))
    }
}

impl Handler<ReadInbox> for MeetingActor {
    type Result = ResponseFuture<Result<Vec<InboxEntry>, MeetingError>>;

    fn handle(&mut self, _message: ReadInbox, _ctx: &mut Self::Context) -> Self::Result {
        Box::pin(self.with_inbox(|inbox| Ok(inbox.entries()?)))
    }
}

impl Handler<ClearInbox> for MeetingActor {
    type Result = ResponseFuture<Result<usize, MeetingError>>;

    fn handle(&mut self, _message: ClearInbox, _ctx: &mut Self::Context) -> Self::Result {
        Box::pin(self.with_inbox(|inbox| Ok(inbox.clear()?)))
    }
}

impl Handler<Confront> for MeetingActor {
    type Result = ResponseFuture<Result<Encounter, MeetingError>>;

    fn handle(&mut self, message: Confront, _ctx: &mut Self::Context) -> Self::Result {
        let out = Arc::clone(&self.out);
        Box::pin(async move {
            let mut met = encounter::meet(&out, &message.url).await?;
            let held = history::confront(&out, &mut met, message.seen).await;
            encounter::say_goodbye(&out, &met).await;
            held.map(|()| met)
        })
    }
}

impl Handler<Meet> for MeetingActor {
    type Result = ResponseFuture<Result<Encounter, MeetingError>>;

    fn handle(&mut self, message: Meet, _ctx: &mut Self::Context) -> Self::Result {
        let out = Arc::clone(&self.out);
        Box::pin(async move {
            let met = encounter::meet(&out, &message.url).await?;
            encounter::say_goodbye(&out, &met).await;
            Ok(met)
        })
    }
}

impl Handler<Acquire> for MeetingActor {
    type Result = ResponseFuture<Result<(Encounter, Fetched), MeetingError>>;

    fn handle(&mut self, message: Acquire, _ctx: &mut Self::Context) -> Self::Result {
        let out = Arc::clone(&self.out);
        Box::pin(async move {
            let met = encounter::meet(&out, &message.url).await?;
            let progress = &*message.progress;
            let fetched = match &message.wanted {
                Wanted::Skill(id) => acquire::skill(&out, &met, id, progress).await,
                Wanted::SkillSet(name) => acquire::skill_set(&out, &met, name, progress).await,
            };
            encounter::say_goodbye(&out, &met).await;
            let acquisition = fetched?;
            let held = approve::hold(&out, &met, &acquisition).await?;
            let installed = match out.auto_install && approve::needs_nobody(&held.evidence) {
                true => Some(approve::approve(&out, Approval::of(&held)).await?),
                false => None,
            };
            Ok((
                met,
                Fetched {
                    held,
                    acquisition,
                    installed,
                },
            ))
        })
    }
}

impl Handler<Peek> for MeetingActor {
    type Result = ResponseFuture<Result<(Encounter, acquire::Acquisition), MeetingError>>;

    fn handle(&mut self, message: Peek, _ctx: &mut Self::Context) -> Self::Result {
        let out = Arc::clone(&self.out);
        Box::pin(async move {
            let met = encounter::meet(&out, &message.url).await?;
            let fetched = acquire::skill(&out, &met, &message.skill, &|_, _| ()).await;
            encounter::say_goodbye(&out, &met).await;
            Ok((met, fetched?))
        })
    }
}

impl Handler<SendMessage> for MeetingActor {
    type Result = ResponseFuture<Result<(Encounter, Map<String, Value>), MeetingError>>;

    fn handle(&mut self, message: SendMessage, _ctx: &mut Self::Context) -> Self::Result {
        let out = Arc::clone(&self.out);
        Box::pin(async move {
            let met = encounter::meet(&out, &message.url).await?;
            let body = envelope::message(
                &message.action,
                &out.signed.instance_id,
                Some(met.peer.id.as_str()),
                message.payload,
                message.in_reply_to.as_deref(),
                out.clock.now(),
            );
            let token = Some(met.token.as_str());
            let sent = out
                .client
                .post(
                    &met.url,
                    "message",
                    &body,
                    token,
                    Answer::Ordinary,
                    &|_, _| (),
                )
                .await;
            encounter::say_goodbye(&out, &met).await;
            Ok((met, sent?))
        })
    }
}

impl Handler<Approval> for MeetingActor {
    type Result = ResponseFuture<Result<Approved, MeetingError>>;

    fn handle(&mut self, approval: Approval, _ctx: &mut Self::Context) -> Self::Result {
        let out = Arc::clone(&self.out);
        Box::pin(async move { approve::approve(&out, approval).await })
    }
}

impl Handler<Health> for MeetingActor {
    type Result = Result<(), MeetingError>;

    fn handle(&mut self, _message: Health, _ctx: &mut Self::Context) -> Self::Result {
        Ok(())
    }
}

impl Handler<Shutdown> for MeetingActor {
    type Result = Result<(), MeetingError>;

    fn handle(&mut self, _message: Shutdown, ctx: &mut Self::Context) -> Self::Result {
        ctx.stop();
        Ok(())
    }
}
