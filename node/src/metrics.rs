//! Figures about the running node, in the text format of Prometheus.
//!
//! Requests, asks of actors and the ledger's times are counted as they happen; everything else is looked up when
//! somebody asks, from handles, for a bounded time: a part that does not answer has no figures then, and
//! `kairos_scrape_missing` tells of it. Labels come from fixed sets: routes by their pattern, actors, parts, reasons.
//! `tests/docs/metrics.md` explains every name; a test compares it with what is served.

mod p2p;
mod process;
mod requests;
mod table;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::future::join4;
use kairos_actors::bounded_addr::Asks;
use kairos_actors::discovery::DiscoveryHandle;
use kairos_place::meeting_place::MeetingPlace;
use kairos_protocol::time::Timestamp;
use prometheus_client::encoding::prometheus_text;
use prometheus_client::registry::Registry;
use tokio::time::timeout;

pub use prometheus_text::CONTENT_TYPE;
pub use requests::{Counting, Requests};
use table::{Table, Values};

use crate::agent::Agent;
use crate::hosted::Hosted;
use crate::hosting::Hosting;
use crate::room::Room;
use crate::watchdog::{Part, Readiness};

/// How long a part may take to give its figures.
const PATIENCE: Duration = Duration::from_secs(2);

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    agent: Arc<Agent>,
    hosting: Hosting,
    readiness: Readiness,
    room: Room,
    requests: Requests,
    /// What is counted along.
    counted: Registry,
    /// Reaches the libp2p node, once there is one.
    discovery: OnceLock<DiscoveryHandle>,
}

impl Metrics {
    /// Figures of a node made of these.
    pub fn new(agent: Arc<Agent>, hosting: Hosting, readiness: Readiness, room: Room) -> Self {
        let requests = Requests::default();
        let mut counted = Registry::with_prefix("kairos");
        requests.register(&mut counted);
        Self(Arc::new(Inner {
            agent,
            hosting,
            readiness,
            room,
            requests,
            counted,
            discovery: OnceLock::new(),
        }))
    }

    /// Shows figures of the libp2p node, too. There is one at most; another changes nothing.
    pub fn show_node(&self, node: DiscoveryHandle) {
        self.0.discovery.get_or_init(|| node);
    }

    /// Where requests are counted.
    pub fn requests(&self) -> &Requests {
        &self.0.requests
    }

    /// All figures as they are now. Takes at most a few seconds, also where parts do not answer.
    pub async fn render(&self) -> String {
        let mut taken = Table::default();
        let missing = self.take(&mut taken).await;
        taken.gauge(
            "kairos_scrape_missing",
            "Parts that gave no figures this time",
            missing,
        );
        let system = tokio::task::spawn_blocking(|| {
            let mut table = Table::default();
            process::add(&mut table);
            table
        });
        let mut moment = Registry::default();
        moment.register_collector(Box::new(taken));
        if let Ok(system) = system.await {
            moment.register_collector(Box::new(system));
        }
        let mut text = String::new();
        for registry in [&self.0.counted, &moment] {
            if let Err(error) = prometheus_text::encode(&mut text, registry) {
                // Writing to memory does not fail, so a value of ours does.
                tracing::error!(%error, "figures could not be written");
            }
        }
        text
    }

    /// Adds what is looked up; returns how many parts gave nothing.
    async fn take(&self, table: &mut Table) -> usize {
        let Inner {
            agent,
            hosting,
            readiness,
            room,
            ..
        } = &*self.0;
        table.gauges(
            "kairos_build_info",
            "Always 1; the label tells the version",
            "version",
            vec![(env!("CARGO_PKG_VERSION"), 1_u64.into())],
        );
        add_disk(table, room);
        add_parts(table, readiness);
        let hosted = hosting.current();
        let mut gates = agent.handles.gates();
        gates.extend(hosted.iter().flat_map(|hosted| hosted.gates()));
        if let Some(node) = self.0.discovery.get() {
            gates.push(("discovery", Arc::clone(node.asks())));
            gates.push(("discovery_errands", Arc::clone(node.errand_asks())));
        }
        add_gates(table, &gates);
        let (peers, sessions) = agent.handles.peers.census();
        let by_trust = [
            ("seen", peers.seen),
            ("met", peers.met),
            ("trusted", peers.trusted),
        ];
        table.gauges(
            "kairos_peers",
            "Peers remembered, by how far they are trusted",
            "trust",
            by_trust.map(|(trust, count)| (trust, count.into())).into(),
        );
        table.gauge(
            "kairos_peer_conflicts",
            "Peers for whose id another key was shown, which waits for a person",
            peers.conflicts,
        );
        table.gauge("kairos_sessions", "Sessions that are open", sessions);
        add_traces(table, agent.tracer.figures());
        let figures = agent.handles.chain.figures();
        table.times(
            "kairos_ledger_append_seconds",
            "Time from asking for a block to its being durable",
            &figures.appends,
        );
        table.times(
            "kairos_ledger_commit_seconds",
            "Time of each commit, which writes all blocks that waited",
            &figures.commits,
        );
        table.times(
            "kairos_ledger_sync_seconds",
            "Time of each wait for the ledger's disk",
            &figures.syncs,
        );
        table.counter(
            "kairos_ledger_appended_blocks",
            "Blocks appended by this process",
            figures.appended.get(),
        );
        table.counter(
            "kairos_ledger_failed_blocks",
            "Blocks that were not appended, or of which that is unknown",
            figures.failed.get(),
        );
        let mut missing = self.take_slow(table).await;
        if let Some(node) = self.0.discovery.get() {
            match timeout(PATIENCE, node.show()).await {
                Ok(Ok(shown)) => p2p::add(table, &shown),
                Ok(Err(_)) | Err(_) => missing += 1,
            }
        }
        table.gauge(
            "kairos_place_hosted",
            "Whether a Meeting Place is hosted",
            hosted.is_some(),
        );
        match hosted {
            Some(hosted) => missing + add_place(table, &hosted, agent.clock.now()).await,
            None => missing,
        }
    }

    /// What actors have to be asked for.
    async fn take_slow(&self, table: &mut Table) -> usize {
        let handles = &self.0.agent.handles;
        let (tip, approvals, quarantine, places) = join4(
            timeout(PATIENCE, handles.chain.tip()),
            timeout(PATIENCE, handles.approvals.count()),
            timeout(PATIENCE, handles.quarantine.count()),
            timeout(PATIENCE, handles.membership.list()),
        )
        .await;
        let mut missing = 0;
        match tip {
            Ok(Ok(tip)) => table.gauge(
                "kairos_ledger_blocks",
                "Blocks of the ledger, the first one included",
                tip.map_or(0, |tip| tip.index.saturating_add(1)),
            ),
            Ok(Err(_)) | Err(_) => missing += 1,
        }
        match approvals {
            Ok(Ok(count)) => table.gauge(
                "kairos_approvals",
                "Proposed changes that are kept, most of which wait for a person",
                count,
            ),
            Ok(Err(_)) | Err(_) => missing += 1,
        }
        match quarantine {
            Ok(Ok(count)) => table.gauge(
                "kairos_quarantine_items",
                "Acquired things that wait for a person",
                count,
            ),
            Ok(Err(_)) | Err(_) => missing += 1,
        }
        match places {
            Ok(Ok(places)) => {
                let troubled = places
                    .iter()
                    .filter(|place| place.contact.as_ref().is_some_and(|c| c.trouble.is_some()))
                    .count();
                table.gauges(
                    "kairos_joined_places",
                    "Meeting Places that were joined, by how the last step there went",
                    "state",
                    vec![
                        ("ok", (places.len() - troubled).into()),
                        ("trouble", troubled.into()),
                    ],
                );
            }
            Ok(Err(_)) | Err(_) => missing += 1,
        }
        missing
    }
}

fn add_parts(table: &mut Table, readiness: &Readiness) {
    let parts = readiness.parts();
    table.gauges(
        "kairos_part_ready",
        "Whether a part answered when the watchdog last asked it",
        "part",
        parts
            .iter()
            .map(|part| (part.name, part.works.into()))
            .collect(),
    );
    let answered = |part: &Part| Some((part.name, part.answered_in?.as_secs_f64().into()));
    table.gauges(
        "kairos_part_answer_seconds",
        "Time that a part's last sign of life took, most of which is the wait in its queue",
        "part",
        parts.iter().filter_map(answered).collect(),
    );
}

fn add_disk(table: &mut Table, room: &Room) {
    let space = room.space();
    table.gauge(
        "kairos_disk_free_bytes",
        "What the data directory's disk has left for this user",
        space.free,
    );
    table.gauge(
        "kairos_disk_size_bytes",
        "The size of the data directory's disk",
        space.size,
    );
    table.gauge(
        "kairos_disk_full",
        "Whether so little is left that nothing is written",
        room.is_full(),
    );
}

fn add_traces(table: &mut Table, traces: kairos_actors::trace::Figures) {
    table.gauge(
        "kairos_trace_spans_waiting",
        "Spans that wait to be told to the collector",
        traces.waiting,
    );
    table.counter(
        "kairos_trace_spans_exported",
        "Spans that the collector took",
        traces.exported,
    );
    table.counter(
        "kairos_trace_spans_dropped",
        "Spans that were lost, since they found no room to wait or the collector took none",
        traces.dropped,
    );
}

fn add_gates(table: &mut Table, gates: &[(&'static str, Arc<Asks>)]) {
    let each = |value: &dyn Fn(&Asks) -> table::Value| -> Values {
        gates
            .iter()
            .map(|(actor, gate)| (*actor, value(gate)))
            .collect()
    };
    table.gauges(
        "kairos_actor_asks_in_flight",
        "Asks that an actor handles or that wait for it",
        "actor",
        each(&|gate| gate.under_way().into()),
    );
    table.gauges(
        "kairos_actor_asks_max",
        "Asks let through to an actor at a time",
        "actor",
        each(&|gate| gate.limit().into()),
    );
    table.counters(
        "kairos_actor_asks_refused",
        "Asks refused because as many as may be were under way",
        "actor",
        each(&|gate| gate.refused().get().into()),
    );
    table.counters(
        "kairos_actor_asks_unanswered",
        "Asks that got no answer in time, or none any more",
        "actor",
        each(&|gate| gate.unanswered().get().into()),
    );
    table.times_of(
        "kairos_actor_answer_seconds",
        "Time from ask to answer, the wait in the queue included",
        "actor",
        each(&|gate| gate.answers().into()),
    );
}

/// Adds what there is of the Place that is hosted; returns how many parts gave nothing.
async fn add_place(table: &mut Table, hosted: &Hosted, now: Timestamp) -> usize {
    let census = hosted.place.look(MeetingPlace::census);
    for (name, help, count) in [
        (
            "kairos_place_agents",
            "Agents present, the Place included",
            census.agents,
        ),
        ("kairos_place_deposits", "Skills deposited", census.deposits),
        (
            "kairos_place_skillsets",
            "SkillSets deposited",
            census.skill_sets,
        ),
        (
            "kairos_place_attestations",
            "Attestations of deposits",
            census.attestations,
        ),
        ("kairos_place_needs", "Needs published", census.needs),
        ("kairos_place_bans", "Bans in force", census.bans),
    ] {
        table.gauge(name, help, count);
    }
    table.counter(
        "kairos_place_exchanges",
        "Skills handed out since the Place began",
        census.exchanges,
    );
    let records = hosted.recorder.figures();
    table.gauge(
        "kairos_place_records_waiting",
        "What happened and waits to be anchored",
        records.queued,
    );
    table.counter(
        "kairos_place_records_lost",
        "What happened and could not be anchored",
        records.dropped,
    );
    let mut missing = 0;
    match timeout(PATIENCE, hosted.relay.stats()).await {
        Ok(Ok(stats)) => {
            let age = stats
                .oldest_at
                .map_or(0.0, |at| now.since(at).as_secs_f64());
            table.gauge(
                "kairos_relay_messages",
                "Sealed messages that wait",
                stats.waiting.count,
            );
            table.gauge(
                "kairos_relay_bytes",
                "Bytes of sealed messages that wait",
                stats.waiting.bytes,
            );
            table.gauge("kairos_relay_boxes", "Boxes with messages", stats.boxes);
            table.gauge(
                "kairos_relay_oldest_seconds",
                "Age of the oldest message that waits; 0 if none does",
                age,
            );
        }
        Ok(Err(_)) | Err(_) => missing += 1,
    }
    match timeout(PATIENCE, hosted.relay.health()).await {
        Ok(Ok(health)) => {
            table.gauge(
                "kairos_relay_listeners",
                "Agents that listen for mail",
                health.subscribers,
            );
            table.gauge(
                "kairos_relay_changes_waiting",
                "Changes of boxes that wait for the next commit",
                health.waiting,
            );
            table.counter(
                "kairos_relay_commits",
                "Commits of the relay's database",
                health.committed,
            );
            table.counter(
                "kairos_relay_failed_commits",
                "Commits of the relay's database that failed",
                health.failed,
            );
        }
        Ok(Err(_)) | Err(_) => missing += 1,
    }
    missing
}
