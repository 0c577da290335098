//! The hosted Meeting Place: registrations, signs of life, the board, sealed messages, and very many agents.

mod many;
mod relay;

use std::fs;
use std::time::Duration;

use kairos_node::clock::SystemClock;
use kairos_place::meeting_place::store::sqlite::SqliteStore;
use kairos_place::meeting_place::store::{Change, Store as _};
use kairos_place::meeting_place::{Agent, Deposit, DepositKey, Facts, PinnedKey, Presence};
use kairos_place::session::Strength;
use kairos_protocol::crypto::Keypair;
use kairos_protocol::hash::ContentHash;
use kairos_protocol::time::{Clock as _, Timestamp};
use kairos_tests::{Builder, Home, TestPeer};
use serde_json::Value;

use crate::http::{ROUNDS, Server, Verifier, WORKERS, against, unlimited};
use crate::load::{Round, each, request};
use crate::table::{Aim, Row};

pub(crate) use many::run as many;
pub(crate) use relay::run as relay;

/// Agents at the Place where it is looked at, and deposits on its board.
const AGENTS: usize = 10_000;
const DEPOSITS: usize = 100;
/// What is asked of answers that are made for each request.
const MADE: Aim = Aim::AtLeast(0.5);
/// New agents of one measurement.
const NEWCOMERS: usize = 3_000;
/// Agents that are stored in one transaction.
const BATCH: usize = 10_000;

pub(crate) fn run() -> Vec<Row> {
    let mut rows = registering();
    rows.extend(looking());
    rows
}

/// A node with a Place that is bound by nothing but the machine.
fn hosting(home: &Home) -> Builder {
    unlimited(home).arg("--place")
}

fn registering() -> Vec<Row> {
    let home = Home::initialized();
    let node = hosting(&home).start();
    let server = Server::of(&node);
    let keypair = Keypair::generate().expect("a key");
    let register = |id: &str| {
        let peer = TestPeer::sharing(id, &keypair);
        let body = peer.registration(&Value::Null).to_string();
        request("POST", "/place/v1/register", None, &body)
    };
    let what = "POST /register, known agent, to RSA-2048 verify on one core";
    let known = server.against_verifying(what, &register("known"), Aim::Open);
    let mut rows = Vec::from(known);
    let verifier = Verifier::new();
    let rounds: Vec<(Round, f64)> = (0..ROUNDS)
        .map(|round| {
            let new = (0..NEWCOMERS).map(|n| register(&format!("new-{round}-{n}")));
            let done = each(server.address, server.pid, new.collect());
            (done, verifier.rate())
        })
        .collect();
    let what = "POST /register, new agent, durable, to RSA-2048 verify on one core";
    rows.push(against(what, &rounds, Aim::Open));
    let by_cpu: Vec<_> = rounds
        .iter()
        .map(|(ours, alone)| {
            let rate = WORKERS as f64 * 1e6 / ours.cpu_micros;
            (Round { rate, ..*ours }, *alone)
        })
        .collect();
    let what = format!("{what}, by CPU time, if {WORKERS} cores were the server's own");
    rows.push(against(&what, &by_cpu, Aim::Open));
    node.stop();
    rows
}

fn looking() -> Vec<Row> {
    let home = Home::initialized();
    populate(&home, AGENTS, DEPOSITS);
    let node = hosting(&home).start();
    let server = Server::of(&node);
    let token = TestPeer::new("looks").register(&node);
    let get = |path: &str| request("GET", path, Some(&token), "");
    let rows = vec![
        server.against_bare(
            "POST /heartbeat",
            &request("POST", "/place/v1/heartbeat", Some(&token), "{}"),
            MADE,
        ),
        server.against_bare(
            &format!("GET /board/browse, {AGENTS} agents, {DEPOSITS} deposits"),
            &get("/place/v1/board/browse"),
            MADE,
        ),
        server.against_bare(
            "GET /board/browse?limit=10",
            &get("/place/v1/board/browse?limit=10"),
            MADE,
        ),
        // Looks through all of the board for each request.
        server.against_bare(
            "GET /board/browse?type=deposited_skill&tags=t7",
            &get("/place/v1/board/browse?type=deposited_skill&tags=t7"),
            Aim::Open,
        ),
    ];
    node.stop();
    rows
}

/// Fills the database of a Place that does not run: with agents that all have one key, for want of time to make others,
/// and with deposits of the first of them.
fn populate(home: &Home, agents: usize, deposits: usize) {
    let dir = home.data_dir().join("storage/place");
    fs::create_dir_all(&dir).expect("a directory");
    let mut store = SqliteStore::open(&dir.join("place.db")).expect("a database");
    let keypair = Keypair::generate().expect("a key");
    let now = SystemClock.now();
    let all: Vec<Change> = (0..agents)
        .map(|n| Change::Agent(Box::new(agent(n, &keypair, now))))
        .chain((0..deposits).map(|n| {
            let (deposit, content) = deposit(n, now);
            Change::Deposit(Box::new(deposit), content.into())
        }))
        .collect();
    for some in all.chunks(BATCH) {
        store.commit(some).expect("a commit");
    }
}

fn id(n: usize) -> String {
    format!("{n:016x}")
}

fn agent(n: usize, keypair: &Keypair, now: Timestamp) -> Agent {
    Agent {
        id: id(n).parse().expect("an id"),
        name: format!("Agent number {n}"),
        description: Some("An agent of ordinary length about nothing in particular".to_owned()),
        scope: Some("benchmarks".to_owned()),
        capabilities:
            "{\"supported_actions\":[\"meeting_protocol\",\"skill_exchange\",\"reflect\"],\
            \"skill_formats\":[\"markdown\",\"yaml_frontmatter\"],\"protocol_version\":\"1.0.0\"}"
                .into(),
        key: Some(PinnedKey::from(keypair.public())),
        strength: Some(Strength::Proven),
        is_self: false,
        registered_at: now,
        last_seen: now,
        visited_places: Vec::new(),
        presence: Presence::Here,
    }
}

fn deposit(n: usize, now: Timestamp) -> (Deposit, String) {
    let content = format!("# Skill {n}\n\n{}\n", "A sentence of a skill. ".repeat(60));
    let deposit = Deposit {
        key: DepositKey {
            owner: id(n).parse().expect("an id"),
            skill_id: format!("skill_{n}"),
        },
        facts: Facts {
            name: format!("Skill {n}"),
            description: Some("What the skill is about, in one line".to_owned()),
            tags: vec![format!("t{}", n % 10), "bench".to_owned()],
            format: "markdown".to_owned(),
            summary: Some("A sentence of a skill. ".repeat(10)),
            sections: vec![format!("Skill {n}")],
            input_output: None,
            version: None,
            license: None,
            bytes: content.len(),
            lines: 3,
        },
        content_hash: ContentHash::of(&content),
        signature: "c2ln".repeat(86),
        provenance: None,
        deposited_at: now,
        first_deposited: now,
    };
    (deposit, content)
}

/// A row about one number that has a bound.
fn bounded(what: &str, number: f64, unit: &str, most: f64, note: String) -> Row {
    Row {
        what: what.to_owned(),
        ours: format!("{number:.1} {unit}"),
        baseline: format!("{most:.0} {unit}"),
        ratio: number / most,
        aim: Aim::AtMost(1.0),
        note,
    }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
