//! The running parts of kairos-chain: one actor per subsystem, each behind a bounded, typed handle.
#![warn(missing_docs)]

pub mod action_log;
pub mod anchor;
pub mod approvals;
pub mod auth;
mod beneath;
pub mod bounded_addr;
pub mod chain;
pub mod check;
pub mod discovery;
pub mod durable;
pub mod extensions;
pub mod federation;
pub mod file_lock;
pub mod heartbeat;
pub mod knowledge;
pub mod meeting;
pub mod membership;
pub mod passing;
pub mod peer_manager;
pub mod place;
pub mod quarantine;
pub mod recent;
pub mod recorder;
pub mod relay;
pub mod skill_set;
pub mod skills;
mod staging;
pub mod state_commit;
pub mod trace;
pub mod witness;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::future::LocalBoxFuture;
use kairos_protocol::crypto::Keypair;
use kairos_protocol::package::PackageLimits;
use kairos_protocol::skill::ReadOptions;
use kairos_protocol::time::Clock;
use kairos_protocol::wire::introduction::{ExchangePolicy, SignedIdentity};
use thiserror::Error;

use action_log::ActionLog;
use anchor::{AnchorActor, AnchorHandle, AnchorPolicy};
use approvals::{ApprovalActor, ApprovalHandle, ApprovalParts, ApprovalPolicy};
use auth::{AuthActor, AuthHandle};
use bounded_addr::Asks;
use chain::store::place::{OpenError, Places};
use chain::tlog::{LogKeys, TlogActor, TlogHandle};
use chain::{ChainActor, ChainHandle};
use extensions::Extensions;
use knowledge::{KnowledgeActor, KnowledgeHandle, KnowledgePolicy};
use meeting::client::{Carriage, ClientLimits, PeerClient};
use meeting::inbox::InboxLimits;
use meeting::{MeetingActor, MeetingHandle, MeetingParts};
use membership::{MembershipActor, MembershipHandle, MembershipParts, MembershipPolicy};
use peer_manager::{Own, PeerManagerActor, PeerManagerHandle, PeerPolicy};
use quarantine::{QuarantineActor, QuarantineHandle, QuarantinePolicy};
use skill_set::{Signer, SkillSetActor, SkillSetHandle, SkillSetStore};
use skills::{SkillsActor, SkillsHandle};
use state_commit::{StateCommitActor, StateCommitHandle};
use trace::Tracer;
use witness::{WitnessActor, WitnessHandle};

/// What the actors are started with.
#[derive(Debug, Clone)]
pub struct Config {
    /// The data directory.
    pub data: PathBuf,
    /// Where the ledger is.
    pub ledger: Places,
    /// Asks in flight per actor.
    pub permits: usize,
    /// Longest wait for an actor.
    pub patience: Duration,
    /// What is accepted and advertised.
    pub policy: ExchangePolicy,
    /// Bounds of peers and sessions.
    pub peers: PeerPolicy,
    /// Bounds of packages.
    pub packages: PackageLimits,
    /// Bounds towards peers.
    pub client: ClientLimits,
    /// Bounds of the inbox.
    pub inbox: InboxLimits,
    /// Most items in the quarantine.
    pub quarantine: usize,
    /// Where anchors are kept.
    pub anchors: AnchorPolicy,
    /// Bounds of what waits for a person.
    pub approvals: ApprovalPolicy,
    /// Whether what gives no reason to ask is installed at once.
    pub auto_install: bool,
    /// How this agent lives at Places.
    pub membership: MembershipPolicy,
    /// Follows requests to others.
    pub tracer: Tracer,
}

/// Who the node is.
#[derive(Debug, Clone)]
pub struct Identity {
    /// As introduced.
    pub signed: Arc<SignedIdentity>,
    /// Its key.
    pub keypair: Arc<Keypair>,
    /// The keys of its log.
    pub log: Arc<LogKeys>,
}

/// Reaches every actor. Cheap to clone.
#[derive(Clone)]
pub struct Handles {
    /// The ledger.
    pub chain: ChainHandle,
    /// Checkpoints and proofs of the ledger.
    pub tlog: TlogHandle,
    /// What the logs of others showed.
    pub witness: WitnessHandle,
    /// Skills.
    pub knowledge: KnowledgeHandle,
    /// Skills of the law.
    pub skills: SkillsHandle,
    /// SkillSets.
    pub skill_sets: SkillSetHandle,
    /// Snapshots of all layers.
    pub state: StateCommitHandle,
    /// Peers and sessions.
    pub peers: PeerManagerHandle,
    /// What waits for a decision.
    pub quarantine: QuarantineHandle,
    /// Conversations.
    pub meeting: MeetingHandle,
    /// Places that were joined.
    pub membership: MembershipHandle,
    /// Anchors of HestiaChain.
    pub anchors: AnchorHandle,
    /// Changes that wait for a person.
    pub approvals: ApprovalHandle,
    /// Tokens of those who act for the owner.
    pub auth: AuthHandle,
    /// Who did what.
    pub log: ActionLog,
    /// Who reaches peers by the names of their nodes, where somebody does.
    pub carriage: Carriage,
    /// Extensions of the meeting protocol.
    pub extensions: Extensions,
}

/// Why the actors were not started.
#[derive(Debug, Error)]
pub enum StartError {
    /// The ledger.
    #[error("the ledger cannot be used: {0}")]
    Ledger(#[from] OpenError),
    /// Skills.
    #[error("the knowledge cannot be used: {0}")]
    Knowledge(#[from] knowledge::KnowledgeError),
    /// SkillSets.
    #[error("the SkillSets cannot be used: {0}")]
    SkillSets(#[from] skill_set::SkillSetError),
    /// Peers.
    #[error("the peers cannot be used: {0}")]
    Peers(#[from] peer_manager::PeerError),
    /// Conversations.
    #[error("meetings are not possible: {0}")]
    Meeting(#[from] meeting::MeetingError),
    /// Places.
    #[error("Places cannot be joined: {0}")]
    Membership(#[from] membership::MembershipError),
}

/// Starts the actors, leaves first: an actor asks only those started before it. Blocks on the disk, so it belongs
/// before anything is served. Must run inside an actix system.
pub async fn start(
    config: Config,
    who: Identity,
    clock: Arc<dyn Clock>,
) -> Result<Handles, StartError> {
    let Config {
        data,
        permits,
        patience,
        ..
    } = config;
    let storage = data.join("storage");

    let ledger = config.ledger.open()?;
    let chain = ChainActor::start(Arc::clone(&ledger), clock.clone(), permits, patience);
    let tlog = TlogActor::start(
        &storage.join("tlog"),
        ledger,
        who.log.clone(),
        clock.clone(),
        permits,
        patience,
    );
    let witness = WitnessActor::start(
        &storage.join("witness"),
        who.log,
        clock.clone(),
        config.peers.peers,
        permits,
        patience,
    );

    let anchors = AnchorActor::start(config.anchors, clock.clone(), permits, patience);

    let read = ReadOptions {
        public_by_default: config.policy.public_by_default,
        max_bytes: usize::try_from(config.policy.max_skill_bytes).unwrap_or(usize::MAX),
    };
    let knowledge = KnowledgeActor::start(
        &data,
        KnowledgePolicy {
            read,
            ..KnowledgePolicy::default()
        },
        chain.clone(),
        clock.clone(),
        permits,
        patience,
    )?;

    let signer = Signer {
        id: who.signed.instance_id.clone(),
        key: Arc::clone(&who.keypair),
    };
    let store = SkillSetStore::open(&data, config.packages)?;
    let skill_sets = SkillSetActor::start(
        store,
        chain.clone(),
        clock.clone(),
        Some(signer),
        permits,
        patience,
    )
    .await?;

    let log = ActionLog::new(&data);
    let skills = SkillsActor::start(
        &data,
        chain.clone(),
        log.clone(),
        clock.clone(),
        permits,
        patience,
    );
    let state = StateCommitActor::start(
        &data,
        chain.clone(),
        skills.clone(),
        clock.clone(),
        permits,
        patience,
    )
    .await;

    let quarantine = QuarantineActor::start(
        &data,
        QuarantinePolicy {
            entries: config.quarantine,
            payload_bytes: config.client.package_max,
        },
        permits,
        patience,
    );

    let auth = AuthActor::start(&data, log.clone(), clock.clone(), permits, patience);

    let parts = ApprovalParts {
        policy: config.approvals,
        chain: chain.clone(),
        knowledge: knowledge.clone(),
        skills: skills.clone(),
        skill_sets: skill_sets.clone(),
        log: log.clone(),
        clock: clock.clone(),
    };
    let approvals = ApprovalActor::start(&data, parts, permits, patience);
    if let Err(error) = approvals.recover().await {
        // The next decision tries again; everything else works.
        tracing::error!(%error, "whether a decision was begun could not be found out");
    }

    let own = Own {
        agent_id: who.signed.instance_id.clone(),
        key: who.keypair.public().hash(),
    };
    let proof_window = config.peers.proof_window;
    let peers = PeerManagerActor::start(
        &storage.join("peers.jsonl"),
        &data.join("peers.json"),
        own,
        config.peers,
        clock.clone(),
        permits,
        patience,
    )?;

    let client = PeerClient::new(config.client, config.tracer);
    let parts = MembershipParts {
        signed: Arc::clone(&who.signed),
        keypair: Arc::clone(&who.keypair),
        clock: Arc::clone(&clock),
        policy: config.policy.clone(),
        settings: config.membership,
        client: client.clone(),
        proof_window,
        inbox_limits: config.inbox,
        peers: peers.clone(),
        quarantine: quarantine.clone(),
        knowledge: knowledge.clone(),
    };
    let membership = MembershipActor::start(&data, parts, permits, patience)?;

    let carriage = Carriage::default();
    let extensions = Extensions::new(&data);
    let parts = MeetingParts {
        extensions: extensions.clone(),
        signed: who.signed,
        keypair: who.keypair,
        clock,
        policy: config.policy,
        package_limits: config.packages,
        client: client.with_carriage(carriage.clone()),
        proof_window,
        inbox_limits: config.inbox,
        auto_install: config.auto_install,
        peers: peers.clone(),
        quarantine: quarantine.clone(),
        knowledge: knowledge.clone(),
        skill_sets: skill_sets.clone(),
        tlog: tlog.clone(),
        witness: witness.clone(),
    };
    let meeting = MeetingActor::start(&data.join(passing::INBOX), parts, permits, patience)?;

    Ok(Handles {
        chain,
        tlog,
        witness,
        knowledge,
        skills,
        skill_sets,
        state,
        peers,
        quarantine,
        meeting,
        membership,
        anchors,
        approvals,
        auth,
        log,
        carriage,
        extensions,
    })
}

/// Asks one actor for a sign of life.
pub type HealthCheck = Box<dyn Fn() -> LocalBoxFuture<'static, bool>>;

/// A [`HealthCheck`] of the actor behind a handle.
#[macro_export]
macro_rules! health_check {
    ($handle:expr) => {{
        let handle = $handle.clone();
        let check: $crate::HealthCheck = Box::new(move || {
            let handle = handle.clone();
            Box::pin(async move { handle.health().await.is_ok() })
        });
        check
    }};
}

/// Runs a macro over the handle of each actor, from the edge inward, the ledger last. The pattern has no `..`: an actor
/// that is missing here does not compile.
macro_rules! each_actor {
    ($handles:expr, $run:ident) => {
        each_actor!(
            $handles, $run, approvals, membership, meeting, anchors, auth, peers, quarantine, state, skills, skill_sets,
            knowledge, witness, tlog, chain
        )
    };
    ($handles:expr, $run:ident, $($actor:ident),+) => {{
        let Handles { $($actor: _,)+ log: _, carriage: _, extensions: _ } = $handles;
        $run![$($actor: $handles.$actor),+]
    }};
}

impl Handles {
    /// A health check for each actor, by name.
    pub fn health(&self) -> Vec<(&'static str, HealthCheck)> {
        macro_rules! checks {
            ($($actor:ident: $handle:expr),+) => {
                vec![$((stringify!($actor), health_check!($handle))),+]
            };
        }
        each_actor!(self, checks)
    }

    /// The bounds of each actor's asks by its name. Those that run errands to others have a second one for these.
    pub fn gates(&self) -> Vec<(&'static str, Arc<Asks>)> {
        macro_rules! gates {
            ($($actor:ident: $handle:expr),+) => {
                vec![$((stringify!($actor), Arc::clone($handle.asks()))),+]
            };
        }
        let mut gates = each_actor!(self, gates);
        gates.extend([
            (
                "membership_errands",
                Arc::clone(self.membership.errand_asks()),
            ),
            (
                "membership_carries",
                Arc::clone(self.membership.carry_asks()),
            ),
            ("meeting_errands", Arc::clone(self.meeting.errand_asks())),
            ("state_errands", Arc::clone(self.state.errand_asks())),
        ]);
        gates
    }

    /// Stops the actors from the edge inward, the ledger last. Everything acknowledged is on disk already, so one
    /// that does not answer costs nothing but its patience.
    pub async fn shutdown(&self) {
        macro_rules! stop {
            ($($actor:ident: $handle:expr),+) => {{ $(
                if let Err(error) = $handle.shutdown().await {
                    tracing::warn!(part = stringify!($actor), %error, "a part of the node did not stop in order");
                }
            )+ }};
        }
        each_actor!(self, stop)
    }
}
