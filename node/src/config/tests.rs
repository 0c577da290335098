//! Whole loads from real directories.

use std::fs;

use tempfile::TempDir;

use super::file::{HESTIA, MEETING, OWN, SERVER};
use super::settings::Place;
use super::*;

/// A directory with these files, loaded with these variables and arguments.
#[derive(Default)]
struct Case<'a> {
    files: &'a [(&'a str, &'a str)],
    env: &'a [(&'a str, &'a str)],
    args: &'a [(&'a str, &'a str)],
}

impl Case<'_> {
    fn load(&self) -> (TempDir, Result<Loaded, ConfigError>) {
        let dir = TempDir::new().unwrap();
        for (name, text) in self.files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let pairs = |pairs: &[(&str, &str)]| {
            pairs
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect::<Vec<_>>()
        };
        let loaded = load(dir.path(), pairs(self.env).into_iter(), &pairs(self.args));
        (dir, loaded)
    }

    fn accepted(&self) -> Loaded {
        self.load().1.unwrap()
    }

    /// The lines of the error, with the directory's own path removed.
    fn refused(&self) -> Vec<String> {
        let (dir, loaded) = self.load();
        let prefix = format!("{}/", dir.path().display());
        let error = loaded.unwrap_err();
        assert_eq!(
            error.problems().len() + 1,
            error.to_string().lines().count()
        );
        error
            .to_string()
            .lines()
            .skip(1)
            .map(|line| line.trim().replace(&prefix, ""))
            .collect()
    }
}

/// The meeting file that the reference ships, as far as its keys go.
const SHIPPED_MEETING: &str = r#"
enabled: false
identity:
  name: "KairosChain Instance"
  description: "A memory-capable, evolvable agent framework"
  scope: "general"
capabilities:
  meeting_protocol_version: "1.0.0"
  supported_actions: [introduce, offer_skill, request_skill, accept, decline, reflect]
skill_exchange:
  allowed_formats:
    - markdown
    - yaml_frontmatter
  allow_executable: false
  public_by_default: false
skillset_exchange:
  enabled: true
  knowledge_only: true
constraints:
  max_skill_size_bytes: 100000
  rate_limit_per_minute: 10
http_server:
  host: "127.0.0.1"
"#;

#[test]
fn an_empty_directory_gives_the_built_in_values() {
    let loaded = Case::default().accepted();
    assert_eq!(loaded.settings, Settings::default());
    assert!(loaded.sources.is_empty());
    assert!(
        loaded
            .rows()
            .iter()
            .all(|row| row.source.layer == Layer::BuiltIn)
    );
}

#[test]
fn the_defaults_are_those_that_are_promised() {
    let rows = Loaded {
        settings: Settings::default(),
        sources: BTreeMap::new(),
    }
    .rows();
    let listed: Vec<String> = rows
        .iter()
        .map(|row| format!("{} {}", row.key, row.value_text()))
        .collect();
    let promised = r#"
identity.name "KairosChain Instance"
identity.description "A memory-capable, evolvable agent framework"
identity.scope general
storage.backend file
storage.sqlite_path "storage/kairos.db"
storage.sqlite_wal true
storage.must_persist false
anchors.enabled true
anchors.backend in_memory
anchors.storage_path "storage/hestia_anchors.json"
anchors.max_anchors 100000
anchors.batching false
anchors.batch_interval 1h
anchors.batch_size 100
anchors.record_registrations true
anchors.record_exchanges true
anchors.record_fadeouts true
anchors.record_relays false
anchors.record_queue 10000
http.enabled true
http.host 127.0.0.1
http.port 8080
http.names []
http.api_to_others false
http.trusted_proxies []
http.proxy_header x_forwarded_for
http.workers 0
http.max_connections 1024
http.head_timeout 10s
http.keep_alive "1m 15s"
http.shutdown_timeout 10s
meeting.enabled true
meeting.protocol_version 1.0.0
meeting.allowed_formats [markdown, yaml_frontmatter]
meeting.public_by_default false
meeting.skillset_exchange true
meeting.rescan 1s
sessions.ttl 1h
sessions.max_total 10000
sessions.max_per_key 16
sessions.proof_window 1m
sessions.read introduced
sessions.message introduced
limits.disk_reserve 32MiB
limits.body 1MiB
limits.body_timeout 10s
limits.skill 100kB
limits.archive_compressed 5MiB
limits.archive_expanded 50MiB
limits.archive_entries 2000
limits.archive_ratio 100
limits.archive_depth 16
limits.requests_per_session 100
limits.requests_per_address 300
limits.new_peers_per_address 60
limits.peers 10000
limits.peers_per_address 1000
limits.inbox 1000
limits.inbox_per_peer 100
limits.quarantine 200
limits.approvals 200
limits.approvals_per_user 20
limits.approval_lifetime 7days
limits.bad_tokens 10
limits.asks_in_flight 256
limits.ask_patience 10s
client.connect_timeout 5s
client.idle_timeout 10s
client.total_timeout 5m
place.enabled false
place.name "KairosChain Meeting Place"
place.max_agents 100000
place.max_unverified 1000
place.agents_per_address 10000
place.unverified_per_address 100
place.registrations_per_key 60
place.registrations_per_address 600
place.registrations 6000
place.session_timeout 1h
place.write proven
place.needs_per_agent 20
place.deposits_per_agent 20
place.deposits 10000
place.deposits_per_hour 10
place.skillsets_per_agent 10
place.skillsets 10000
place.skillset_storage 100MiB
place.attestations_per_deposit 50
place.attestations_per_agent 200
place.remembered_answers 20000
place.deposit_attempts_per_key 100
place.deposit_attempts_per_address 1000
place.deposit_attempts 100000
place.sends_per_key 300
place.sends_per_address 1000
place.sends 100000
place.message 1MiB
place.message_lifetime 1h
place.messages_per_box 100
place.messages_per_sender 20
place.sender_messages 1000
place.sender_storage 64MiB
place.messages 100000
place.message_storage 1GiB
place.stranger_messages 10000
place.remembered_per_sender 20000
place.remembered_messages 1000000
place.prekeys_per_agent 100
place.prekeys_per_hour 5
place.audit_entries 10000
place.listeners 10000
place.anonymise_audit false
place.accept_federated false
place.federated_hops 3
place.federated_age 7days
place.federated_origins 10000
place.questions_per_key 120
place.questions_per_address 600
place.questions 6000
place.url ""
place.agreements 32
place.watch 10m
membership.background true
membership.heartbeat 10m
membership.poll 1m
membership.listen true
membership.pause 15m
membership.redeposit true
membership.downgrade true
membership.prekeys 50
membership.places 16
acquire.auto_install false
mcp.stdio_role owner
mcp.ask true
mcp.http true
mcp.sessions 64
mcp.session_idle 10m
p2p.enabled false
p2p.listen ["/ip4/0.0.0.0/tcp/4001", "/ip4/0.0.0.0/udp/4001/quic-v1"]
p2p.external []
p2p.bootstrap []
p2p.announce private
p2p.tell_offers false
p2p.mdns true
p2p.relay false
p2p.register false
p2p.relay_connections 16
p2p.relay_bytes 16MiB
p2p.connections 128
p2p.connections_out 64
p2p.pending 32
p2p.connections_per_peer 4
p2p.connections_per_address 32
p2p.memory 1GiB
metrics.enabled false
metrics.host 127.0.0.1
metrics.port 9464
traces.enabled false
traces.endpoint "http://127.0.0.1:4318/v1/traces"
traces.percent 10
traces.queue 2048
traces.interval 5s
traces.timeout 5s
log.level info
log.format human
log.file """#;
    assert_eq!(listed, promised.trim().lines().collect::<Vec<_>>());
}

#[test]
fn the_ledger_is_where_the_file_of_the_reference_says_and_nowhere_else() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(SERVER);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let load = |text: &str| {
        std::fs::write(&path, text).unwrap();
        load(dir.path(), std::iter::empty(), &[]).map(|loaded| loaded.settings.storage)
    };
    let found = load("storage:\n  backend: sqlite\n  sqlite: {path: a.db, wal_mode: false}\n");
    let expected = Storage {
        backend: Backend::Sqlite,
        sqlite_path: "a.db".to_owned(),
        sqlite_wal: false,
        must_persist: false,
    };
    assert_eq!(found.unwrap(), expected);
    for bad in [
        "storage: {backend: sqlit}",
        "storage: {backend: [}",
        "storage: 7",
        "storage: {backend: 1}",
    ] {
        assert!(load(bad).is_err(), "{bad}");
    }
    assert_eq!(
        load("storage: {backend: file}").unwrap(),
        Storage::default()
    );
}

#[test]
fn each_layer_wins_over_the_one_before() {
    let files = [(SERVER, "http: {port: 1}"), (OWN, "http:\n  port: 2\n")];
    let layers: [(Case<'_>, u16, &str); 4] = [
        (
            Case {
                files: &files[..1],
                ..Case::default()
            },
            1,
            "skills/config.yml:1",
        ),
        (
            Case {
                files: &files,
                ..Case::default()
            },
            2,
            "config/kairos.yml:2",
        ),
        (
            Case {
                files: &files,
                env: &[("KAIROS_HTTP__PORT", "3")],
                ..Case::default()
            },
            3,
            "variable KAIROS_HTTP__PORT",
        ),
        (
            Case {
                files: &files,
                env: &[("KAIROS_HTTP__PORT", "3")],
                args: &[("http.port", "9"), ("http.port", "4")],
            },
            4,
            "argument",
        ),
    ];
    for (case, port, source) in layers {
        let loaded = case.accepted();
        assert_eq!(loaded.settings.http.port, port);
        assert_eq!(loaded.sources.len(), 1);
        let told = loaded.sources["http.port"].to_string();
        assert!(told.ends_with(source), "{told}");
    }
}

#[test]
fn the_reference_meeting_file_says_what_is_offered() {
    let files = [(MEETING, SHIPPED_MEETING)];
    let loaded = Case {
        files: &files,
        ..Case::default()
    }
    .accepted();
    assert!(
        !loaded.settings.meeting.enabled,
        "a meeting file that says so switches meeting off"
    );
    assert_eq!(loaded.sources.len(), 8);
    let rest = Settings {
        meeting: Meeting {
            enabled: true,
            ..loaded.settings.meeting
        },
        ..loaded.settings
    };
    assert_eq!(rest, Settings::default());

    let other = "identity: {name: 2024, scope: null}\nenabled: yes\nskill_exchange:\n  max_skill_size_bytes: 5000\n  \
                 allowed_formats: []\n  public_by_default: on\nskillset_exchange: {enabled: no}\n\
                 capabilities: {meeting_protocol_version: 1.10}\n";
    let settings = Case {
        files: &[(MEETING, other)],
        ..Case::default()
    }
    .accepted()
    .settings;
    assert_eq!(settings.identity.name, "2024");
    assert_eq!(settings.identity.scope, "general");
    assert_eq!(settings.meeting.protocol_version, "1.10");
    assert_eq!(settings.limits.skill, Size::bytes(5000));
    assert!(settings.meeting.enabled && settings.meeting.public_by_default);
    assert!(!settings.meeting.skillset_exchange && settings.meeting.allowed_formats.is_empty());
}

#[test]
fn the_reference_hestia_file_says_what_a_place_takes_and_where_anchors_go() {
    let text = "enabled: false\nmeeting_place:\n  name: x\n  max_agents: 100\n  enabled: true\n  \
                session_timeout: 60\n  deposit_policy: {max_total_deposits: 500, max_skills_per_agent: 5, \
                deposit_rate_limit: 3, require_license: false}\n  federation: {enabled: true, max_hop_count: 2, \
                max_deposit_age_hours: 48}\ntrust_anchor: {record_exchanges: false}\nchain:\n  enabled: false\n  \
                backend: private\n  private:\n    storage_path: a.json\n    max_anchors: 7\n  \
                batching: {enabled: true, interval_seconds: 60, max_batch_size: 3}\n";
    let settings = Case {
        files: &[(HESTIA, text)],
        ..Case::default()
    }
    .accepted()
    .settings;
    let anchors = Anchors {
        enabled: false,
        backend: AnchorBackend::Private,
        storage_path: "a.json".to_owned(),
        max_anchors: 7,
        batching: true,
        batch_interval: Period::mins(1),
        batch_size: 3,
        record_exchanges: false,
        ..Anchors::default()
    };
    let place = Place {
        name: "x".to_owned(),
        max_agents: 100,
        enabled: true,
        session_timeout: Period::secs(60),
        deposits: 500,
        deposits_per_agent: 5,
        deposits_per_hour: 3,
        accept_federated: true,
        federated_hops: 2,
        federated_age: Period::days(2),
        ..Place::default()
    };
    let expected = Settings {
        anchors,
        place,
        ..Settings::default()
    };
    assert_eq!(settings, expected);
    let defaults = "chain: {enabled: true, backend: in_memory, private: {storage_path: \
                    storage/hestia_anchors.json, max_anchors: 100000}, batching: {enabled: false, \
                    interval_seconds: 3600, max_batch_size: 100}}\n";
    let loaded = Case {
        files: &[(HESTIA, defaults)],
        ..Case::default()
    }
    .accepted();
    assert_eq!(loaded.settings, Settings::default());
    assert_eq!(loaded.sources.len(), 7);
}

#[test]
fn a_reference_file_may_hold_keys_that_are_not_ours_and_one_key_twice() {
    let text = "enabled: true\nkairos_meta_skills: [a]\nhttp:\n  enabled: false\n  host: 0.0.0.0\n  port: 9000\n\
                layers: {L1: {enabled: true}}\nkairos_meta_skills: [b]\n";
    let loaded = Case {
        files: &[(SERVER, text)],
        ..Case::default()
    }
    .accepted();
    assert_eq!(
        (
            loaded.settings.http.host.as_str(),
            loaded.settings.http.port
        ),
        ("0.0.0.0", 9000)
    );
    assert_eq!(loaded.sources.len(), 2);
}

#[test]
fn a_file_of_comments_says_nothing() {
    for text in ["", "# nothing\n", "---\n", "http:\n  # port: 1\nlog:\n"] {
        let files = [(OWN, text), (SERVER, text), (MEETING, text)];
        assert_eq!(
            Case {
                files: &files,
                ..Case::default()
            }
            .accepted()
            .sources
            .len(),
            0,
            "{text:?}"
        );
    }
}

#[test]
fn unknown_keys_name_the_nearest_known_one() {
    let case = Case {
        files: &[(
            OWN,
            "htpp:\n  port: 1\nhttp:\n  host: ::1\n  prot: 2\nlimits:\n  zzzzzzzzzz: 3\n",
        )],
        env: &[
            ("KAIROS_PORT", "1"),
            ("KAIROS_HTTP__HOTS", "x"),
            ("KAIROS_http__port", "1"),
            ("PATH", "/"),
        ],
        args: &[("inbox_per_per", "1")],
    };
    assert_eq!(
        case.refused(),
        [
            "unknown setting `htpp.port` in config/kairos.yml:2, the nearest is `http.port`",
            "unknown setting `http.prot` in config/kairos.yml:5, the nearest is `http.port`",
            "unknown setting `limits.zzzzzzzzzz` in config/kairos.yml:7",
            "unknown setting `KAIROS_PORT` in variable KAIROS_PORT, the nearest is `KAIROS_HTTP__PORT`",
            "unknown setting `KAIROS_HTTP__HOTS` in variable KAIROS_HTTP__HOTS, the nearest is `KAIROS_HTTP__HOST`",
            "unknown setting `KAIROS_http__port` in variable KAIROS_http__port, the nearest is `KAIROS_HTTP__PORT`",
            "unknown setting `inbox_per_per` in argument, the nearest is `limits.inbox_per_peer`",
        ]
    );
}

#[test]
fn variables_that_are_not_settings_are_left_alone() {
    let mut env: Vec<_> = NOT_SETTINGS.iter().map(|name| (*name, "x")).collect();
    env.extend([
        ("KAIROS_SKILLSET_PIN_MMP", "1.0"),
        ("KAIROS_HTTP__PORT", ""),
        ("kairos_http__port", "1"),
    ]);
    assert_eq!(
        Case {
            env: &env,
            ..Case::default()
        }
        .accepted()
        .sources
        .len(),
        0
    );
}

#[test]
fn wrong_values_say_where_they_stand_and_what_is_wanted() {
    let case = Case {
        files: &[
            (
                OWN,
                "http:\n  port: \"8080\"\n  host:\nsessions:\n  ttl: {minutes: 5}\n",
            ),
            (SERVER, "http:\n  port: 99999\n"),
        ],
        env: &[("KAIROS_LIMITS__PEERS", "0")],
        args: &[("log.format", "xml")],
    };
    assert_eq!(
        case.refused(),
        [
            "`http.port` must be a whole number from 0 to 65535, but skills/config.yml:2 says 99999",
            "`http.host` must be a host name or an IP address, but config/kairos.yml:3 says null",
            "`http.port` must be a whole number from 0 to 65535, but config/kairos.yml:2 says \"8080\"",
            "`sessions.ttl` must be a duration from 1s to 30days, but config/kairos.yml:5 says {\"minutes\":5}",
            "`limits.peers` must be a whole number from 1 to 1000000, but variable KAIROS_LIMITS__PEERS says 0",
            "`log.format` must be human or json, but argument says \"xml\"",
        ]
    );
}

#[test]
fn text_from_outside_yaml_is_read_by_the_type_of_the_setting() {
    let case = Case {
        env: &[
            ("KAIROS_MEETING__ALLOWED_FORMATS", "markdown, text"),
            ("KAIROS_IDENTITY__NAME", "42"),
            ("KAIROS_ACQUIRE__AUTO_INSTALL", "True"),
            ("KAIROS_SESSIONS__TTL", "90"),
            ("KAIROS_LIMITS__BODY", "2MiB"),
        ],
        args: &[("sessions.read", "proven")],
        ..Case::default()
    };
    let settings = case.accepted().settings;
    assert_eq!(settings.meeting.allowed_formats, ["markdown", "text"]);
    assert_eq!(settings.identity.name, "42");
    assert!(settings.acquire.auto_install);
    assert_eq!(settings.sessions.ttl, Period::secs(90));
    assert_eq!(settings.limits.body, Size::mib(2));
    assert_eq!(settings.sessions.read, Strength::Proven);
}

#[test]
fn a_file_that_is_not_yaml_is_an_error_with_file_and_line() {
    for name in [OWN, SERVER, MEETING] {
        for text in [
            "http:\n  port: [1\n",
            "http:\n\t- x: 1\n",
            "- a\n- b\n",
            "http: 5\nidentity: 5\n",
            "a: 1\n---\nb: 2\n",
        ] {
            let problems = Case {
                files: &[(name, text)],
                ..Case::default()
            }
            .refused();
            assert_eq!(problems.len(), 1, "{problems:?}");
            let place: Vec<&str> = problems[0].splitn(4, ':').collect();
            assert_eq!(place[0], name);
            assert!(
                (1..=3).contains(&place[1].parse::<u64>().unwrap()),
                "{problems:?}"
            );
        }
    }
    let twice = Case {
        files: &[(OWN, "http:\n  port: 1\n  port: 2\n")],
        ..Case::default()
    }
    .refused();
    assert!(twice[0].starts_with("config/kairos.yml:3:"), "{twice:?}");
}

#[test]
fn a_file_that_cannot_be_read_is_never_passed_over() {
    let (dir, loaded) = Case::default().load();
    assert!(loaded.is_ok());
    for name in [OWN, SERVER, MEETING] {
        fs::create_dir_all(dir.path().join(name)).unwrap();
    }
    let error = load(dir.path(), std::iter::empty(), &[]).unwrap_err();
    assert_eq!(error.problems().len(), 3);
    assert!(
        error
            .problems()
            .iter()
            .all(|problem| matches!(problem, Problem::Unreadable { .. }))
    );

    let huge = "#".repeat(2 << 20);
    let problems = Case {
        files: &[(OWN, &huge)],
        ..Case::default()
    }
    .refused();
    assert_eq!(
        problems,
        ["cannot read config/kairos.yml: larger than 1048576 bytes"]
    );
}

#[test]
fn limits_must_not_contradict_each_other_across_layers() {
    let case = Case {
        files: &[(OWN, "limits:\n  inbox: 50\n")],
        args: &[("client.connect_timeout", "10m")],
        ..Case::default()
    };
    assert_eq!(
        case.refused(),
        [
            "`limits.inbox_per_peer` (100) must not be more than `limits.inbox` (50)",
            "`client.connect_timeout` (10m) must not be more than `client.total_timeout` (5m)",
        ]
    );
}

#[test]
fn the_example_changes_nothing_until_a_line_is_used() {
    let text = example();
    let quiet = Case {
        files: &[(OWN, &text)],
        ..Case::default()
    }
    .accepted();
    assert_eq!(
        (quiet.settings, quiet.sources.len()),
        (Settings::default(), 0)
    );

    let keys: Vec<_> = settings::keys().collect();
    let used: String = text
        .lines()
        .map(|line| {
            let key = keys
                .iter()
                .find(|key| line.starts_with(&format!("  # {}: ", key.field)));
            key.map_or(line.to_owned(), |_| line.replacen("# ", "", 1)) + "\n"
        })
        .collect();
    let loud = Case {
        files: &[(OWN, &used)],
        ..Case::default()
    }
    .accepted();
    assert_eq!(loud.settings, Settings::default());
    assert_eq!(loud.sources.len(), keys.len());
}

#[test]
fn the_deployed_example_is_the_generated_one() {
    let deployed = include_str!("../../../deploy/example.config.yml");
    assert_eq!(
        deployed,
        example(),
        "write it anew with `kairos-chain config example`"
    );
}
