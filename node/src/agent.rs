//! An agent opened: its data directory, settings, key, and the actors at work on them.
//!
//! What every command and the server share. Several agents may be open on one directory at once, in as many
//! processes; the stores take locks where that matters.

use std::path::Path;
use std::sync::Arc;

use kairos_actors::anchor::{AnchorPolicy, Batching};
use kairos_actors::approvals::ApprovalPolicy;
use kairos_actors::chain::store::file::LOCK_PATIENCE;
use kairos_actors::chain::store::place::{Backend, Places};
use kairos_actors::meeting::client::ClientLimits;
use kairos_actors::meeting::inbox::InboxLimits;
use kairos_actors::membership::MembershipPolicy;
use kairos_actors::peer_manager::PeerPolicy;
use kairos_actors::trace::Tracer;
use kairos_actors::{Config, Handles, Identity as Who};
use kairos_place::member::Pace;
use kairos_place::session::SessionPolicy;
use kairos_protocol::anchor::stage::Stage;
use kairos_protocol::crypto::Keypair;
use kairos_protocol::package::{PackageLimits, SkillSetPackage};
use kairos_protocol::time::Clock;
use kairos_protocol::wire::introduction::{ExchangePolicy, Identity, SignedIdentity};

use crate::clock::SystemClock;
use crate::config::{self, Settings};
use crate::data_dir::{DataDir, Tenancy};
use crate::identity::{self, log_keys};

/// An open agent.
pub struct Agent {
    /// Where it lives.
    pub data_dir: DataDir,
    /// Its settings.
    pub settings: Settings,
    /// Who it is.
    pub signed: Arc<SignedIdentity>,
    /// Its key.
    pub keypair: Arc<Keypair>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Follows its requests, once a server begins that.
    pub tracer: Tracer,
    /// Its actors.
    pub handles: Handles,
    /// Keeps others from replacing the directory underneath.
    _tenancy: Tenancy,
}

impl Agent {
    /// Loads or makes the key and starts the actors. Must run inside an actix system.
    pub async fn open(data_dir: DataDir, settings: Settings) -> anyhow::Result<Self> {
        let dir = data_dir.clone();
        let tenancy = tokio::task::spawn_blocking(move || dir.enter()).await??;
        let keys = data_dir.keys();
        let loaded = tokio::task::spawn_blocking(move || identity::load_or_create(&keys)).await??;
        let identity::Loaded {
            keypair,
            instance_id,
            rotations,
        } = loaded;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let (keypair, keys) = (Arc::new(keypair), data_dir.keys());
        let log = {
            let (keypair, id, now) = (keypair.clone(), instance_id.clone(), clock.now());
            let load = move || log_keys::load_or_create(&keys, &keypair, &id, now);
            Arc::new(tokio::task::spawn_blocking(load).await??)
        };
        let identity = Identity {
            name: settings.identity.name.clone(),
            description: settings.identity.description.clone(),
            scope: settings.identity.scope.clone(),
            instance_id,
        };
        let signed = SignedIdentity::new(&identity, &keypair)?.with_rotations(rotations);
        let signed = Arc::new(signed);
        let who = Who {
            signed: signed.clone(),
            keypair: keypair.clone(),
            log,
        };
        let tracer = Tracer::default();
        let config = actor_config(&data_dir, &settings, tracer.clone());
        warn_of_another_database(&config.ledger, &settings);
        let handles = kairos_actors::start(config, who, clock.clone()).await?;
        Ok(Self {
            data_dir,
            settings,
            signed,
            keypair,
            clock,
            tracer,
            handles,
            _tenancy: tenancy,
        })
    }

    /// What it advertises and accepts.
    pub fn policy(&self) -> ExchangePolicy {
        policy(&self.settings)
    }

    /// Bounds of the packages it takes.
    pub fn package_limits(&self) -> PackageLimits {
        package_limits(&self.settings)
    }

    /// Stops the actors from the edge inward.
    pub async fn close(&self) {
        self.handles.shutdown().await;
    }
}

fn policy(settings: &Settings) -> ExchangePolicy {
    ExchangePolicy {
        protocol_version: settings.meeting.protocol_version.clone(),
        allowed_formats: settings.meeting.allowed_formats.clone(),
        public_by_default: settings.meeting.public_by_default,
        max_skill_bytes: settings.limits.skill.get(),
        requests_per_minute: settings.limits.requests_per_session,
    }
}

fn package_limits(settings: &Settings) -> PackageLimits {
    let limits = &settings.limits;
    PackageLimits {
        compressed: limits.archive_compressed.get(),
        expanded: limits.archive_expanded.get(),
        entries: limits.archive_entries,
        ratio: u64::from(limits.archive_ratio),
        depth: limits.archive_depth,
        ..PackageLimits::default()
    }
}

/// Where the ledger of an agent may be, and which form of it counts.
pub fn ledger(data_dir: &DataDir, settings: &Settings) -> Places {
    Places {
        backend: match settings.storage.backend {
            config::Backend::File => Backend::File,
            config::Backend::Sqlite => Backend::Sqlite,
        },
        file: data_dir.ledger(),
        sqlite: data_dir.path().join(&settings.storage.sqlite_path),
        wal: settings.storage.sqlite_wal,
        patience: LOCK_PATIENCE,
    }
}

/// The reference looks for a relative path below the working directory, so a ledger of its may be there.
fn warn_of_another_database(ledger: &Places, settings: &Settings) {
    let (ours, theirs) = (&ledger.sqlite, Path::new(&settings.storage.sqlite_path));
    if ledger.backend == Backend::Sqlite
        && theirs.is_relative()
        && let Ok(theirs) = theirs.canonicalize()
        && ours.canonicalize().ok().as_ref() != Some(&theirs)
    {
        tracing::warn!(
            used = %ours.display(), unused = %theirs.display(),
            "there is a second ledger database below the working directory, which KairosChain 2.2 may have written"
        );
    }
}

/// Where anchors are kept. Unlike the reference's, a relative path is below the data directory, wherever the process
/// was started.
fn anchor_policy(data_dir: &DataDir, settings: &Settings) -> AnchorPolicy {
    let anchors = &settings.anchors;
    AnchorPolicy {
        enabled: anchors.enabled,
        stage: match anchors.backend {
            config::AnchorBackend::InMemory => Stage::InMemory,
            config::AnchorBackend::Private => Stage::Private,
        },
        file: data_dir.path().join(&anchors.storage_path),
        unfiled: data_dir.storage().join("anchors.jsonl"),
        max_anchors: anchors.max_anchors,
        batching: anchors.batching.then_some(Batching {
            interval: anchors.batch_interval.get(),
            max: anchors.batch_size,
        }),
    }
}

fn actor_config(data_dir: &DataDir, settings: &Settings, tracer: Tracer) -> Config {
    let limits = &settings.limits;
    let package_max = SkillSetPackage::json_max(&package_limits(settings));
    Config {
        data: data_dir.path().to_owned(),
        ledger: ledger(data_dir, settings),
        permits: limits.asks_in_flight,
        patience: limits.ask_patience.get(),
        policy: policy(settings),
        peers: PeerPolicy {
            sessions: SessionPolicy {
                ttl: settings.sessions.ttl.get(),
                max_total: settings.sessions.max_total,
                max_per_key: settings.sessions.max_per_key,
                requests_per_minute: limits.requests_per_session,
            },
            peers: limits.peers,
            proof_window: settings.sessions.proof_window.get(),
            new_peers_per_address: limits.new_peers_per_address,
            peers_per_address: limits.peers_per_address,
        },
        packages: package_limits(settings),
        client: ClientLimits {
            connect_timeout: settings.client.connect_timeout.get(),
            idle_timeout: settings.client.idle_timeout.get(),
            total_timeout: settings.client.total_timeout.get(),
            package_max: usize::try_from(package_max).unwrap_or(usize::MAX),
            ..ClientLimits::default()
        },
        inbox: InboxLimits {
            total: limits.inbox,
            per_peer: limits.inbox_per_peer,
        },
        quarantine: limits.quarantine,
        anchors: anchor_policy(data_dir, settings),
        approvals: ApprovalPolicy {
            waiting: limits.approvals,
            per_user: limits.approvals_per_user,
            lifetime: limits.approval_lifetime.get(),
            ..ApprovalPolicy::default()
        },
        auto_install: settings.acquire.auto_install,
        membership: MembershipPolicy {
            pace: Pace {
                beat: settings.membership.heartbeat.get(),
                poll: settings.membership.poll.get(),
                pause_max: settings.membership.pause.get(),
            },
            listen: settings.membership.listen,
            redeposit: settings.membership.redeposit,
            downgrade: settings.membership.downgrade,
            prekeys: settings.membership.prekeys,
            places: settings.membership.places,
        },
        tracer,
    }
}
