//! The Meeting Place that a running node hosts. Commands beside the server never open it: it is in one process only.

use std::sync::Arc;

use kairos_actors::bounded_addr::Asks;
use kairos_actors::federation::{FederationActor, FederationHandle, FederationParts};
use kairos_actors::heartbeat::{HeartbeatActor, HeartbeatHandle};
use kairos_actors::place::{OpenPlace, PlaceHandle};
use kairos_actors::recorder::{RecordPolicy, RecorderActor, RecorderHandle};
use kairos_actors::relay::{self, RelayActor, RelayHandle, RelaySettings};
use kairos_place::meeting_place::{
    Claim, DepositLimits, Federation, Policy, Registration, SkillSetLimits,
};
use kairos_place::relay::audit::Anonymiser;
use kairos_place::relay::policy::RelayPolicy;
use kairos_place::relay::store::RelayStore;
use kairos_place::session::Strength;
use kairos_protocol::crypto;
use kairos_protocol::wire::introduction;
use serde_json::Value;
use tokio::sync::watch;

use crate::agent::Agent;
use crate::config::Settings;

/// One part in so many of all sealed messages may be for agents that are not registered.
const STRANGERS_PART: u64 = 8;

/// See the module.
pub struct Hosted {
    /// For people.
    pub name: Arc<str>,
    /// Reaches the Place.
    pub place: PlaceHandle,
    /// Reaches the boxes of sealed messages.
    pub relay: RelayHandle,
    /// Reaches who anchors what happens here.
    pub recorder: RecorderHandle,
    /// Reaches who lets agents fade.
    pub heartbeat: HeartbeatHandle,
    /// Reaches who deals with other Places.
    pub federation: FederationHandle,
    /// Changes when somebody was made to leave: whoever serves somebody for long looks then whether they may stay.
    pub expelled: watch::Sender<u64>,
}

/// A Place that is read from the disk and not at work yet.
pub struct Opened {
    place: OpenPlace,
    boxes: Arc<dyn RelayStore>,
    relay: RelaySettings,
}

impl Opened {
    /// Opens what the Place of `agent` is kept in. Blocks on the disk.
    pub fn open(agent: &Agent) -> anyhow::Result<Self> {
        let settings = &agent.settings;
        let anonymiser = match settings.place.anonymise_audit {
            true => Some(Anonymiser::new(hex::encode(crypto::random_bytes()?))),
            false => None,
        };
        let policy = policy(agent, anonymiser.clone());
        let folder = agent.data_dir.storage().join("place");
        Ok(Self {
            place: OpenPlace::open(&folder, myself(agent), policy, agent.clock.clone())?,
            boxes: relay::open(agent.data_dir.path())?,
            relay: relay_settings(settings, anonymiser),
        })
    }

    /// Starts the actors. Must run inside an actix system, where they stay; never blocks.
    pub fn start(self, agent: &Agent) -> Hosted {
        let settings = &agent.settings;
        let (permits, patience) = (
            settings.limits.asks_in_flight,
            settings.limits.ask_patience.get(),
        );
        let place = self.place.start(permits, patience);
        let recorder = RecorderActor::start(
            records(settings),
            agent.signed.instance_id.clone(),
            agent.handles.anchors.clone(),
            agent.clock.clone(),
            permits,
            patience,
        );
        let heartbeat = HeartbeatActor::start(place.clone(), recorder.clone(), permits, patience);
        let clock = agent.clock.clone();
        let relay = RelaySettings {
            withholding: Some(place.withholding()),
            ..self.relay
        };
        let relay = RelayActor::start(self.boxes, relay, clock, permits, patience);
        let federation = FederationActor::start(FederationParts {
            id: agent.signed.instance_id.clone(),
            keypair: Arc::clone(&agent.keypair),
            clock: agent.clock.clone(),
            place: place.clone(),
            membership: agent.handles.membership.clone(),
            peers: agent.handles.peers.clone(),
            relay: relay.clone(),
            meeting: agent.handles.meeting.clone(),
            witness: agent.handles.witness.clone(),
            watch_every: settings.place.watch.get(),
        });
        Hosted {
            name: settings.place.name.as_str().into(),
            place,
            relay,
            recorder,
            heartbeat,
            federation,
            expelled: watch::Sender::new(0),
        }
    }
}

impl Hosted {
    /// Whether every actor answers.
    pub async fn is_well(&self) -> bool {
        self.place.health().await.is_ok()
            && self.relay.health().await.is_ok()
            && self.heartbeat.health().await.is_ok()
            && self.recorder.health().await.is_ok()
            && self.federation.health().await.is_ok()
    }

    /// The bounds of each actor's asks, by its name.
    pub fn gates(&self) -> [(&'static str, Arc<Asks>); 5] {
        [
            ("place", Arc::clone(self.place.asks())),
            ("relay", Arc::clone(self.relay.asks())),
            ("recorder", Arc::clone(self.recorder.asks())),
            ("heartbeat", Arc::clone(self.heartbeat.asks())),
            ("federation", Arc::clone(self.federation.asks())),
        ]
    }

    /// Lets go of all who listen.
    pub fn hang_up(&self) {
        self.relay.hang_up();
        self.place.hang_up();
    }

    /// Stops the actors, the Place last.
    pub async fn shutdown(&self) {
        if let Err(error) = self.federation.shutdown().await {
            tracing::warn!(%error, "the federation actor did not stop in order");
        }
        if let Err(error) = self.heartbeat.shutdown().await {
            tracing::warn!(%error, "the heartbeat actor did not stop in order");
        }
        if let Err(error) = self.relay.shutdown().await {
            tracing::warn!(%error, "the relay did not stop in order");
        }
        if let Err(error) = self.recorder.shutdown().await {
            tracing::warn!(%error, "the recorder did not stop in order");
        }
        if let Err(error) = self.place.shutdown().await {
            tracing::warn!(%error, "the Place did not stop in order");
        }
    }
}

/// The Place is one of its agents (rule D4 of DEE).
fn myself(agent: &Agent) -> Registration {
    let shown = introduction::introduction(&agent.signed, &agent.policy(), &[], &[], "", None);
    let identity = &agent.settings.identity;
    Registration {
        id: agent.signed.instance_id.clone(),
        name: Some(identity.name.clone()),
        description: Some(identity.description.clone()),
        scope: Some(identity.scope.clone()),
        capabilities: shown.get("capabilities").cloned().filter(Value::is_object),
        claim: Claim::Signed(agent.keypair.public().clone(), Strength::Proven),
    }
}

fn relay_settings(settings: &Settings, anonymiser: Option<Anonymiser>) -> RelaySettings {
    let place = &settings.place;
    let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    // Connections must be left for those who come with a request.
    let subscribers = place.listeners.min(settings.http.max_connections / 2);
    RelaySettings {
        policy: RelayPolicy {
            anonymiser,
            // One that is known may always publish.
            prekey_agents: count(place.max_agents.saturating_mul(3)),
            blob_bytes: place.message.get(),
            ttl: place.message_lifetime.get(),
            box_messages: count(place.messages_per_box),
            sender_in_box_messages: count(place.messages_per_sender),
            sender_messages: count(place.sender_messages),
            sender_bytes: place.sender_storage.get(),
            place_messages: count(place.messages),
            place_bytes: place.message_storage.get(),
            stranger_messages: count(place.stranger_messages),
            stranger_bytes: place.message_storage.get() / STRANGERS_PART,
            sender_remembered: count(place.remembered_per_sender),
            place_remembered: count(place.remembered_messages),
            one_time_prekeys: count(place.prekeys_per_agent),
            prekeys_per_hour: count(place.prekeys_per_hour),
            audit_entries: count(place.audit_entries),
            // Sizes of one answer, which clients page through, and of a table in memory: nobody gains by others.
            ..RelayPolicy::default()
        },
        subscribers,
        ..RelaySettings::default()
    }
}

fn records(settings: &Settings) -> RecordPolicy {
    let anchors = &settings.anchors;
    RecordPolicy {
        registrations: anchors.enabled && anchors.record_registrations,
        exchanges: anchors.enabled && anchors.record_exchanges,
        fadeouts: anchors.enabled && anchors.record_fadeouts,
        // The audit hides who wrote to whom; an anchor would tell.
        relays: anchors.enabled && anchors.record_relays && !settings.place.anonymise_audit,
        queue: anchors.record_queue,
    }
}

fn policy(agent: &Agent, anonymiser: Option<Anonymiser>) -> Policy {
    let settings = &agent.settings;
    let place = &settings.place;
    Policy {
        agents_max: place.max_agents,
        unverified_max: place.max_unverified,
        agents_per_address: place.agents_per_address,
        unverified_per_address: place.unverified_per_address,
        anonymiser,
        remembered_max: place.max_agents.saturating_mul(2),
        ttl: place.session_timeout.get(),
        needs_max: place.needs_per_agent,
        deposits: DepositLimits {
            per_agent: place.deposits_per_agent,
            total: place.deposits,
            content_bytes: settings.limits.skill.as_usize(),
            per_hour: place.deposits_per_hour,
            // The reference's, which its clients count on: how long summaries, descriptions and previews are.
            ..DepositLimits::default()
        },
        skill_sets: SkillSetLimits {
            per_agent: place.skillsets_per_agent,
            total: place.skillsets,
            bytes: place.skillset_storage.get(),
            package: agent.package_limits(),
        },
        attestations_per_deposit: place.attestations_per_deposit,
        attestations_per_agent: place.attestations_per_agent,
        answers_max: place.remembered_answers,
        repeat_window: settings.sessions.ttl.get(),
        federation: Federation {
            accept: place.accept_federated,
            hops_max: place.federated_hops,
            age_max: place.federated_age.get(),
            origins_max: place.federated_origins,
            agreements_max: place.agreements,
        },
    }
}
