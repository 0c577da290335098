//! Every setting of the node: its type, default, bound and meaning, each said once.

use kairos_place::network::Network;
use kairos_place::role::Role;
use kairos_protocol::record::Scope;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::rule::{
    Rule, Shape, addresses, any, between, filter, host, line, networks, prose, web_address,
    web_address_or_none, words,
};
use super::value::{AnchorBackend, Backend, LogFormat, Period, ProxyHeader, Size, Strength};

/// A group of settings, for listings.
pub(super) struct Group {
    pub(super) name: &'static str,
    pub(super) doc: &'static [&'static str],
    pub(super) keys: &'static [Key],
}

/// One setting, seen from outside its type.
pub(super) struct Key {
    /// `group.field`.
    pub(super) name: &'static str,
    /// The field alone.
    pub(super) field: &'static str,
    pub(super) doc: &'static [&'static str],
    /// What is accepted, as it follows «must be».
    pub(super) wanted: fn() -> String,
    /// Fails with what is accepted.
    pub(super) check: fn(&Value) -> Result<(), String>,
    /// Reads the text of a variable or an argument.
    pub(super) from_text: fn(&str) -> Value,
}

/// Declares the structs, their defaults, and the table [`GROUPS`] from one list.
macro_rules! settings {
    ($($(#[doc = $group_doc:literal])+ $group:ident: $Group:ident {
        $($(#[doc = $doc:literal])+ $field:ident: $ty:ty = $default:expr, $rule:expr;)+
    })+) => {
        /// Every setting, resolved and within its bounds.
        #[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct Settings {
            $($(#[doc = $group_doc])+ pub $group: $Group,)+
        }

        $(
            $(#[doc = $group_doc])+
            #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
            #[serde(deny_unknown_fields, default)]
            pub struct $Group {
                $(
                    $(#[doc = $doc])+
                    #[doc = concat!("\n\nDefault `", stringify!($default), "`, bound `", stringify!($rule), "`.")]
                    pub $field: $ty,
                )+
            }

            impl Default for $Group {
                fn default() -> Self {
                    Self { $($field: $default,)+ }
                }
            }
        )+

        /// Every setting in the order of the example.
        pub(super) static GROUPS: &[Group] = &[$(Group {
            name: stringify!($group),
            doc: &[$($group_doc),+],
            keys: &[$(Key {
                name: concat!(stringify!($group), ".", stringify!($field)),
                field: stringify!($field),
                doc: &[$($doc),+],
                wanted: || { let rule: Rule<$ty> = $rule; rule.wanted() },
                check: |value| { let rule: Rule<$ty> = $rule; rule.check(value) },
                from_text: <$ty as Shape>::from_text,
            }),+],
        }),+];
    };
}

settings! {
    /// Who this agent says it is.
    identity: Identity {
        /// The name that peers see.
        name: String = "KairosChain Instance".to_owned(), line(128);
        /// One sentence about what this agent is for.
        description: String = "A memory-capable, evolvable agent framework".to_owned(), prose(4096);
        /// The field it works in, one word or a few.
        scope: String = "general".to_owned(), prose(128);
    }

    /// Where the ledger is kept; the same keys as in skills/config.yml, which the reference reads too.
    storage: Storage {
        /// One JSON file (storage/blockchain.json), or a SQLite database. `chain migrate` changes from one to the other.
        backend: Backend = Backend::File, any();
        /// The database, relative to the data directory.
        sqlite_path: String = "storage/kairos.db".to_owned(), line(4096);
        /// Whether the database keeps a write-ahead log, so that readers and a writer may work at once.
        sqlite_wal: bool = true, any();
        /// Whether `serve` refuses to start where the data directory would not outlive the container: on no mount of
        /// its own, or in memory. The container image sets it.
        must_persist: bool = false, any();
    }

    /// Anchors of HestiaChain: hashes of what happened. The reference has these keys below `chain` in hestia.yml.
    anchors: Anchors {
        /// Whether anything is anchored.
        enabled: bool = true, any();
        /// Stage 0, in a journal of this node's own, or the private file of stage 1, which the reference reads too.
        backend: AnchorBackend = AnchorBackend::InMemory, any();
        /// The private file, relative to the data directory.
        storage_path: String = "storage/hestia_anchors.json".to_owned(), line(4096);
        /// Anchors kept.
        max_anchors: usize = 100_000, between(1, 1_000_000);
        /// Whether anchors may wait for others and be kept together.
        batching: bool = false, any();
        /// How long the first of a batch waits at most.
        batch_interval: Period = Period::mins(60), between(Period::secs(1), Period::days(30));
        /// How many make a batch.
        batch_size: usize = 100, between(1, 10_000);
        /// Whether the hosted Place anchors which agents came with a key.
        record_registrations: bool = true, any();
        /// Whether it anchors deposits, what is taken of them, updates, withdrawals and attestations, each as a hash.
        record_exchanges: bool = true, any();
        /// Whether it anchors which agents faded.
        record_fadeouts: bool = true, any();
        /// Whether it anchors sealed messages: who sent one to whom, and when. Never where the audit hides that.
        record_relays: bool = false, any();
        /// What the Place recorded that may wait to be anchored; what is beyond is lost, and the log tells how much.
        record_queue: usize = 10_000, between(1, 1_000_000);
    }

    /// The HTTP server of `serve`.
    http: Http {
        /// Whether there is such a server. Without one peers come through a libp2p node, p2p.enabled, and commands of the
        /// owner through a socket in the data directory; a Meeting Place and models over HTTP need it.
        enabled: bool = true, any();
        /// The address to listen on. Anything but loopback is reachable by others; put TLS in front of it.
        host: String = "127.0.0.1".to_owned(), host();
        /// The port to listen on; 0 takes a free one.
        port: u16 = 8080, between(0, u16::MAX);
        /// Names by which this node is reached, as a proxy in front of it passes them on. Owners' routes below /api
        /// answer to these, to localhost and to addresses, and to no other name.
        names: Vec<String> = Vec::new(), words();
        /// Whether owners' routes below /api answer to others than this machine. Tokens then need TLS on their way.
        api_to_others: bool = false, any();
        /// Proxies in front of this node, which say for whom they ask. Whoever counts requests of an address counts those
        /// of their clients, not theirs. Nobody else is believed.
        trusted_proxies: Vec<Network> = Vec::new(), networks();
        /// The header in which they say so. It must be one that they write themselves: what a client sends in another
        /// one they pass on.
        proxy_header: ProxyHeader = ProxyHeader::XForwardedFor, any();
        /// Worker threads; 0 means one for each core.
        workers: usize = 0, between(0, 256);
        /// Connections open at once, over all workers.
        max_connections: usize = 1024, between(1, 1_000_000);
        /// How long the head of a request may take to arrive; then the connection is cut.
        head_timeout: Period = Period::secs(10), between(Period::secs(1), Period::mins(10));
        /// How long a connection may be idle between two requests.
        keep_alive: Period = Period::secs(75), between(Period::secs(1), Period::mins(60));
        /// How long requests under way may still take when the node stops.
        shutdown_timeout: Period = Period::secs(10), between(Period::secs(0), Period::mins(10));
    }

    /// What this agent offers to agents it meets.
    meeting: Meeting {
        /// Whether the meeting endpoints answer at all.
        enabled: bool = true, any();
        /// The protocol version that introductions state.
        protocol_version: String = "1.0.0".to_owned(), line(32);
        /// The formats in which skills are offered and taken.
        allowed_formats: Vec<String> = vec!["markdown".to_owned(), "yaml_frontmatter".to_owned()], words();
        /// Whether a skill that does not say so itself is public.
        public_by_default: bool = false, any();
        /// Whether whole SkillSets are offered, not only skills.
        skillset_exchange: bool = true, any();
        /// How long a listing may go on showing what was there before a change made by hand.
        rescan: Period = Period::secs(1), between(Period::secs(0), Period::mins(60));
    }

    /// Sessions of peers that introduced themselves.
    sessions: Sessions {
        /// How long a session lasts.
        ttl: Period = Period::mins(60), between(Period::secs(1), Period::days(30));
        /// Sessions open at once.
        max_total: usize = 10_000, between(1, 1_000_000);
        /// Sessions open at once for one public key.
        max_per_key: usize = 16, between(1, 10_000);
        /// How far the clock of a peer that proves itself may be from ours, either way.
        proof_window: Period = Period::secs(60), between(Period::secs(1), Period::mins(60));
        /// What a peer must have shown to read public skills and SkillSets.
        read: Strength = Strength::Introduced, any();
        /// What a peer must have shown to leave a message, an offer or a reflection.
        message: Strength = Strength::Introduced, any();
    }

    /// Bounds on what others can make this node hold or do.
    limits: Limits {
        /// Free space of the data directory's disk below which nothing more is written that others ask for. What is
        /// there is read as before, and writing goes on once there is a quarter more than this.
        disk_reserve: Size = Size::mib(32), between(Size::bytes(0), Size::mib(1024 * 1024));
        /// The largest request body.
        body: Size = Size::mib(1), between(Size::bytes(1024), Size::mib(1024));
        /// How long a request may take to send its body.
        body_timeout: Period = Period::secs(10), between(Period::secs(1), Period::mins(60));
        /// The largest skill offered or taken.
        skill: Size = Size::bytes(100_000), between(Size::bytes(1), Size::mib(64));
        /// The largest SkillSet archive as sent.
        archive_compressed: Size = Size::mib(5), between(Size::bytes(1024), Size::mib(1024));
        /// The largest SkillSet archive once expanded.
        archive_expanded: Size = Size::mib(50), between(Size::bytes(1024), Size::mib(16 * 1024));
        /// Files and directories in an archive.
        archive_entries: usize = 2000, between(1, 1_000_000);
        /// How many times larger than the archive its content may be.
        archive_ratio: u32 = 100, between(1, 10_000);
        /// Directories inside each other in an archive.
        archive_depth: usize = 16, between(1, 64);
        /// Requests a minute in one session.
        requests_per_session: u32 = 100, between(1, 1_000_000);
        /// Requests a minute from one address.
        requests_per_address: u32 = 300, between(1, 1_000_000);
        /// Peers not seen before, a minute, from one address.
        new_peers_per_address: u32 = 60, between(1, 1_000_000);
        /// Peers remembered.
        peers: usize = 10_000, between(1, 1_000_000);
        /// Peers remembered that came from one address since the node started. IPv6 addresses count by /64.
        peers_per_address: usize = 1000, between(1, 1_000_000);
        /// Messages kept, over all peers.
        inbox: usize = 1000, between(1, 1_000_000);
        /// Messages kept from one peer.
        inbox_per_peer: usize = 100, between(1, 1_000_000);
        /// Acquired things waiting for approval.
        quarantine: usize = 200, between(1, 100_000);
        /// Changes that were proposed and wait for a person.
        approvals: usize = 200, between(1, 10_000);
        /// Changes of one user among them.
        approvals_per_user: usize = 20, between(1, 10_000);
        /// How long a proposed change can be approved.
        approval_lifetime: Period = Period::days(7), between(Period::mins(1), Period::days(365));
        /// Tokens of no use that one address may present in a minute before it is told to wait.
        bad_tokens: u32 = 10, between(1, 1_000_000);
        /// Questions waiting for one part of the node at once; more are told that it is busy.
        asks_in_flight: usize = 256, between(1, 65_536);
        /// How long one part of the node waits for another.
        ask_patience: Period = Period::secs(10), between(Period::secs(1), Period::mins(10));
    }

    /// Calls this node makes to other agents.
    client: Client {
        /// How long to wait for a connection.
        connect_timeout: Period = Period::secs(5), between(Period::secs(1), Period::mins(10));
        /// How long a peer may send nothing in the middle of an answer.
        idle_timeout: Period = Period::secs(10), between(Period::secs(1), Period::mins(60));
        /// How long a whole call may take.
        total_timeout: Period = Period::mins(5), between(Period::secs(1), Period::days(1));
    }

    /// The Meeting Place that `serve` hosts.
    place: Place {
        /// Whether one is hosted.
        enabled: bool = false, any();
        /// The name that agents see.
        name: String = "KairosChain Meeting Place".to_owned(), line(128);
        /// Agents present at once, the Place included. Those it knows by their key may always come back.
        max_agents: usize = 100_000, between(2, 10_000_000);
        /// Agents among them that showed no key.
        max_unverified: usize = 1_000, between(0, 1_000_000);
        /// Agents here that registered from one address. IPv6 addresses count by /64.
        agents_per_address: usize = 10_000, between(1, 10_000_000);
        /// Agents among them that showed no key.
        unverified_per_address: usize = 100, between(0, 1_000_000);
        /// Registrations with one key in a minute.
        registrations_per_key: u32 = 60, between(1, 1_000_000);
        /// Registrations from one address in a minute.
        registrations_per_address: u32 = 600, between(1, 1_000_000);
        /// Registrations in a minute in all. Agents that the Place knows by their key do not count, and are let in when
        /// it is reached.
        registrations: u32 = 6_000, between(1, 100_000_000);
        /// How long after its last request an agent fades.
        session_timeout: Period = Period::mins(60), between(Period::secs(1), Period::days(365));
        /// What an agent must have shown to deposit, withdraw, publish needs or prekeys, unregister, and for the relay: to
        /// write and to read its own box. Agents of KairosChain 2.2 and 3.75 can show no more than `introduced`, which
        /// anybody can copy.
        write: Strength = Strength::Proven, any();
        /// Needs that one agent may publish.
        needs_per_agent: usize = 20, between(0, 1_000);
        /// Skills that one agent may deposit.
        deposits_per_agent: usize = 20, between(0, 100_000);
        /// Skills deposited in all.
        deposits: usize = 10_000, between(0, 10_000_000);
        /// Attempts of one agent to deposit within an hour, refused ones included.
        deposits_per_hour: usize = 10, between(1, 100_000);
        /// SkillSets that one agent may deposit. Attempts count as attempts to deposit; limits.archive_* bound each.
        skillsets_per_agent: usize = 10, between(0, 100_000);
        /// SkillSets deposited in all.
        skillsets: usize = 10_000, between(0, 1_000_000);
        /// The archives of all deposited SkillSets together.
        skillset_storage: Size = Size::mib(100), between(Size::bytes(0), Size::mib(1024 * 1024));
        /// Attestations kept of one deposit, by all agents.
        attestations_per_deposit: usize = 50, between(0, 1_000);
        /// Attestations kept of one agent, over all deposits. Attempts count as attempts to deposit.
        attestations_per_agent: usize = 200, between(0, 100_000);
        /// Answers remembered for agents that repeat a request with its Idempotency-Key, for a day; the oldest make room.
        remembered_answers: usize = 20_000, between(0, 10_000_000);
        /// Attempts to deposit with one key within an hour.
        deposit_attempts_per_key: u32 = 100, between(1, 1_000_000);
        /// Attempts to deposit from one address within an hour.
        deposit_attempts_per_address: u32 = 1_000, between(1, 1_000_000);
        /// Attempts to deposit within an hour in all.
        deposit_attempts: u32 = 100_000, between(1, 100_000_000);
        /// Sealed messages sent with one key in a minute.
        sends_per_key: u32 = 300, between(1, 1_000_000);
        /// Sealed messages sent from one address in a minute.
        sends_per_address: u32 = 1_000, between(1, 1_000_000);
        /// Sealed messages sent in a minute in all.
        sends: u32 = 100_000, between(1, 100_000_000);
        /// The longest sealed message, as text.
        message: Size = Size::mib(1), between(Size::bytes(1024), Size::mib(64));
        /// How long a message waits for its recipient.
        message_lifetime: Period = Period::mins(60), between(Period::secs(1), Period::days(365));
        /// Messages that may wait in one box.
        messages_per_box: usize = 100, between(1, 1_000_000);
        /// Messages of one sender that may wait in one box.
        messages_per_sender: usize = 20, between(1, 1_000_000);
        /// Messages of one sender that may wait in all boxes.
        sender_messages: usize = 1_000, between(1, 10_000_000);
        /// The messages of one sender that wait, together.
        sender_storage: Size = Size::mib(64), between(Size::bytes(1024), Size::mib(1024 * 1024));
        /// Messages that may wait in all boxes.
        messages: usize = 100_000, between(1, 100_000_000);
        /// All messages that wait, together.
        message_storage: Size = Size::mib(1024), between(Size::bytes(1024), Size::mib(1024 * 1024));
        /// Messages that may wait for agents that are not registered here. They take no more than an eighth of
        /// message_storage.
        stranger_messages: usize = 10_000, between(0, 100_000_000);
        /// Names of messages that are remembered of one sender for message_lifetime, so that a repeated message is none;
        /// who has used them up is told to wait. The default is enough for sends_per_key all the time.
        remembered_per_sender: usize = 20_000, between(1, 100_000_000);
        /// Names of messages that are remembered in all.
        remembered_messages: usize = 1_000_000, between(1, 1_000_000_000);
        /// One-time prekeys that one agent may leave, each for one message that nobody can open later.
        prekeys_per_agent: usize = 100, between(0, 10_000);
        /// One-time prekeys of one agent that another one gets in an hour; past it, it gets the long-lived one.
        prekeys_per_hour: usize = 5, between(1, 10_000);
        /// What happened to messages that the audit keeps, the newest.
        audit_entries: usize = 10_000, between(1, 100_000_000);
        /// Agents that listen for mail at once; never more than half of http.max_connections.
        listeners: usize = 10_000, between(0, 1_000_000);
        /// Whether the audit of the relay hides who took part behind names that change with each start.
        anonymise_audit: bool = false, any();
        /// Whether skills are taken that came from other Places.
        accept_federated: bool = false, any();
        /// Places that such a skill has passed at which it is refused.
        federated_hops: u32 = 3, between(1, 100);
        /// How long after it was first left anywhere such a skill is refused, and taken down.
        federated_age: Period = Period::days(7), between(Period::secs(1), Period::days(365));
        /// Such contents of which the origin is remembered when they are here no more, so that they cannot come back as
        /// somebody's own; those that came first are forgotten.
        federated_origins: usize = 10_000, between(0, 10_000_000);
        /// Questions to other Places, or from them, with one key in a minute.
        questions_per_key: u32 = 120, between(1, 1_000_000);
        /// Such questions from one address in a minute.
        questions_per_address: u32 = 600, between(1, 1_000_000);
        /// Such questions in a minute in all.
        questions: u32 = 6_000, between(1, 100_000_000);
        /// Where other Places reach this one, an HTTP URL; needed to propose an agreement to one.
        url: String = String::new(), web_address_or_none();
        /// Agreements with other Places that this one proposed or that are in effect; as many may wait that others propose.
        agreements: usize = 32, between(0, 1_000);
        /// How often the ledgers of the Places with which there is one are looked at, and what others saw of them.
        watch: Period = Period::mins(10), between(Period::secs(1), Period::days(1));
    }

    /// How this agent lives at the Meeting Places that it joined.
    membership: Membership {
        /// Whether `serve` lives there: stays registered, and fetches mail. Without it only commands go there.
        background: bool = true, any();
        /// The longest time without a sign of life. A Place that forgets its agents earlier gets more.
        heartbeat: Period = Period::mins(10), between(Period::secs(1), Period::days(1));
        /// How often mail is asked for where a Place does not tell of it.
        poll: Period = Period::secs(60), between(Period::secs(1), Period::days(1));
        /// Whether to listen for mail where a Place tells of it.
        listen: bool = true, any();
        /// The longest pause after failures, which begin with a second and double each time.
        pause: Period = Period::mins(15), between(Period::secs(1), Period::days(1));
        /// Whether skills that were left at a Place are left again when the Place lost them, if they are still the same.
        redeposit: bool = true, any();
        /// Whether messages to agents without prekeys are sealed in the older envelope, which does not say who wrote
        /// them and opens to whoever gets the recipient's key later. Never to agents that once had prekeys there.
        downgrade: bool = true, any();
        /// One-time prekeys left at each Place, each for one message that stays closed to whoever gets our key later.
        prekeys: usize = 50, between(1, 100);
        /// Places joined at once.
        places: usize = 16, between(1, 256);
    }

    /// What happens to things acquired from others.
    acquire: Acquire {
        /// Whether what passes every check, with none left unknown and nothing suspicious in it, is installed without
        /// asking its owner.
        auto_install: bool = false, any();
    }

    /// How language models reach this agent: over stdio, which their program starts, and at `/mcp` of the server.
    mcp: Mcp {
        /// What a model may do over stdio. Whoever can start it can write to the data directory; what needs a person waits
        /// for one all the same.
        stdio_role: Role = Role::Owner, any();
        /// Whether a program that can show a form to its user may ask them there to approve a change. Else changes wait for
        /// `approve`. Switch it off if you do not trust that program to ask you.
        ask: bool = true, any();
        /// Whether the server answers models at `/mcp`. Each needs a token; http.api_to_others lets other machines in.
        http: bool = true, any();
        /// Sessions open at once there. Newer programs need none.
        sessions: usize = 64, between(1, 10_000);
        /// How long a session is kept that nobody uses.
        session_idle: Period = Period::mins(10), between(Period::secs(1), Period::days(7));
    }

    /// Finding others and being found without a server: a libp2p node beside the HTTP server of `serve`.
    p2p: P2p {
        /// Whether the server has such a node; `serve --p2p` turns it on for once.
        enabled: bool = false, any();
        /// Where the node listens, as multiaddresses; port 0 takes a free one.
        listen: Vec<String> = vec![
            "/ip4/0.0.0.0/tcp/4001".to_owned(),
            "/ip4/0.0.0.0/udp/4001/quic-v1".to_owned(),
        ], addresses();
        /// Where others reach it, if that is known; without it other nodes tell.
        external: Vec<String> = Vec::new(), addresses();
        /// Nodes to begin with, each with its name: /ip4/192.0.2.1/tcp/4001/p2p/12D3Koo…
        bootstrap: Vec<String> = Vec::new(), addresses();
        /// Who may learn of this agent: nobody who does not have its address already, who asks from the same network, or
        /// everybody, through the table that all nodes keep together.
        announce: Scope = Scope::Private, any();
        /// Whether the announcement names what this agent hands out: its exchangeable SkillSets and public skills with their
        /// hashes and tags, as far as there is room. Without it whoever asks this agent is told all the same.
        tell_offers: bool = false, any();
        /// Whether nodes on the local network are looked for by multicast, and told of this one. Never where
        /// announce is private.
        mdns: bool = true, any();
        /// Whether the node passes on what other nodes send each other that cannot reach each other directly. Needs
        /// to be reached itself, at external or where others found it.
        relay: bool = false, any();
        /// Whether the node keeps a register, in which others are found as Places, by tags and by hashes, also where there
        /// are more of them than a node remembers. Only those are in it that can be reached, if through a relay.
        register: bool = false, any();
        /// Connections of others that it passes on at once.
        relay_connections: usize = 16, between(1, 1_000);
        /// Bytes that it passes on for one of them, in each direction.
        relay_bytes: Size = Size::mib(16), between(Size::bytes(65_536), Size::mib(1024));
        /// Connections from others at once.
        connections: u32 = 128, between(1, 10_000);
        /// Connections to others at once.
        connections_out: u32 = 64, between(1, 10_000);
        /// Connections that are being opened at once, in each direction.
        pending: u32 = 32, between(1, 10_000);
        /// Connections of one node at once.
        connections_per_peer: u32 = 4, between(1, 1_000);
        /// Connections from one address at once. Behind a relay all have the relay's.
        connections_per_address: u32 = 32, between(1, 10_000);
        /// Memory of the whole process up to which connections are opened and taken; 0 means without a bound.
        memory: Size = Size::mib(1024), between(Size::bytes(0), Size::mib(1024 * 1024));
    }

    /// Figures for Prometheus, see /metrics in the handbook. Token holders find them at /api/v1/metrics in any case.
    metrics: Metrics {
        /// Whether GET /metrics answers, without a token, on a port of its own.
        enabled: bool = false, any();
        /// The address to listen on. Anything but loopback shows the figures to whoever reaches it.
        host: String = "127.0.0.1".to_owned(), host();
        /// The port to listen on; 0 takes a free one.
        port: u16 = 9464, between(0, u16::MAX);
    }

    /// Traces for OpenTelemetry: which requests belong together, also from this node to the next.
    traces: Traces {
        /// Whether `serve` tells them to a collector, and others which trace a request belongs to.
        enabled: bool = false, any();
        /// Where the collector takes spans as JSON: OTLP over HTTP.
        endpoint: String = "http://127.0.0.1:4318/v1/traces".to_owned(), web_address();
        /// How many of a hundred traces are told. What others say about a trace does not count; nodes with the same
        /// number tell the same ones.
        percent: u32 = 10, between(0, 100);
        /// Spans that may wait to be told; what is beyond is lost, and the figures say how much.
        queue: usize = 2_048, between(16, 65_536);
        /// How often they are told.
        interval: Period = Period::secs(5), between(Period::secs(1), Period::secs(60));
        /// How long the collector may take to answer. Nothing of the node waits for it.
        timeout: Period = Period::secs(5), between(Period::secs(1), Period::secs(60));
    }

    /// What the node says about itself while it runs.
    log: Log {
        /// The least severe level shown, or a filter for single parts of the program.
        level: String = "info".to_owned(), filter();
        /// Lines for people, or one JSON object a line.
        format: LogFormat = LogFormat::Human, any();
        /// A file to append to, whole or below storage/log; nothing means standard error. SIGHUP opens it anew, so that
        /// it can be moved away before.
        file: String = String::new(), prose(4096);
    }
}

/// Bounds that span two settings: the key at fault and what it must be.
const PAIRS: [Pair; 5] = [
    Pair::new("limits.approvals_per_user", "limits.approvals", |s| {
        s.limits.approvals_per_user <= s.limits.approvals
    }),
    Pair::new("sessions.max_per_key", "sessions.max_total", |s| {
        s.sessions.max_per_key <= s.sessions.max_total
    }),
    Pair::new("limits.inbox_per_peer", "limits.inbox", |s| {
        s.limits.inbox_per_peer <= s.limits.inbox
    }),
    Pair::new(
        "limits.archive_compressed",
        "limits.archive_expanded",
        |s| s.limits.archive_compressed <= s.limits.archive_expanded,
    ),
    Pair::new("client.connect_timeout", "client.total_timeout", |s| {
        s.client.connect_timeout <= s.client.total_timeout
    }),
];

struct Pair {
    small: &'static str,
    large: &'static str,
    holds: fn(&Settings) -> bool,
}

impl Pair {
    const fn new(small: &'static str, large: &'static str, holds: fn(&Settings) -> bool) -> Self {
        Self {
            small,
            large,
            holds,
        }
    }
}

impl Settings {
    /// The pairs of keys of which the first must not exceed the second but does.
    pub(super) fn contradictions(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        PAIRS
            .iter()
            .filter(|pair| !(pair.holds)(self))
            .map(|pair| (pair.small, pair.large))
    }

    /// The keys of which `other` has another value.
    pub fn differences(&self, other: &Self) -> Vec<&'static str> {
        let pairs = self.values().zip(other.values());
        let other = pairs.filter(|((_, ours), (_, theirs))| ours != theirs);
        other.map(|((key, _), _)| key.name).collect()
    }

    /// Each key with its value as JSON, in the order of the example.
    pub(super) fn values(&self) -> impl Iterator<Item = (&'static Key, Value)> {
        let tree = serde_json::to_value(self).unwrap_or_default();
        GROUPS
            .iter()
            .flat_map(|group| group.keys.iter().map(move |key| (group.name, key)))
            .map(move |(group, key)| {
                let value = tree.get(group).and_then(|fields| fields.get(key.field));
                (key, value.cloned().unwrap_or_default())
            })
    }
}

/// Every key in the order of the example.
pub(super) fn keys() -> impl Iterator<Item = &'static Key> {
    GROUPS.iter().flat_map(|group| group.keys)
}

#[cfg(test)]
mod tests;
