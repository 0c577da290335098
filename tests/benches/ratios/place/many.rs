//! What very many agents cost: those that are registered, those that fade, and those that listen.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use kairos_protocol::crypto::Keypair;
use kairos_tests::{Home, TestPeer};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::relay::listen;
use super::{bounded, hosting, millis, populate};
use crate::http::Server;
use crate::load::{answer, once, request, runtime};
use crate::process::resident;
use crate::table::{Aim, Row};

const AGENTS: usize = 100_000;
const DEPOSITS: usize = 10_000;
const AGENTS_MEGABYTES: f64 = 400.0;
/// Requests whose latency is taken, one after the other.
const LOOKS: usize = 2_000;
/// How long an agent may be silent where all but one fade.
const SILENCE: &str = "20s";
/// Longest until they have faded.
const FADE_PATIENCE: Duration = Duration::from_secs(120);

const LISTENERS: usize = 10_000;
/// Listeners to one box, the most that a Place takes.
const PER_BOX: usize = 8;
const LISTENERS_MEGABYTES: f64 = 200.0;
/// Files that this program and the node may have open.
const FILES: u64 = 32_768;

pub(crate) fn run() -> Vec<Row> {
    let mut rows = registered();
    rows.push(fading());
    rows.push(listening());
    rows
}

fn registered() -> Vec<Row> {
    let home = Home::initialized();
    populate(&home, AGENTS, DEPOSITS);
    let began = Instant::now();
    let node = hosting(&home).set("place.max_agents", "200000").start();
    let started = began.elapsed();
    let token = TestPeer::new("looks").register(&node);
    let get = |path: &str| request("GET", path, Some(&token), "");
    let browse = get("/place/v1/board/browse");
    let memory = resident(node.pid());
    let (p50, p99) = latencies(node.address(), &browse);
    let filtered = get("/place/v1/board/browse?search=number%2077");
    let (filtered_p50, filtered_p99) = latencies(node.address(), &filtered);
    let after = resident(node.pid());
    let latency = |what: &str, p50, p99| Row {
        what: format!("{what}, {AGENTS} agents, one at a time, p50"),
        ours: format!("{:.2} ms", millis(p50)),
        baseline: String::new(),
        ratio: f64::NAN,
        aim: Aim::Open,
        note: format!("p99 {:.2} ms", millis(p99)),
    };
    let rows = vec![
        bounded(
            &format!("memory, {AGENTS} agents and {DEPOSITS} deposits"),
            memory,
            "MB",
            AGENTS_MEGABYTES,
            format!(
                "started in {:.1} s; {after:.1} MB later",
                started.as_secs_f64()
            ),
        ),
        latency("GET /board/browse", p50, p99),
        latency("GET /board/browse?search=", filtered_p50, filtered_p99),
        Server::of(&node).against_bare(
            &format!("GET /board/browse, {AGENTS} agents, {DEPOSITS} deposits"),
            &browse,
            Aim::AtLeast(0.5),
        ),
    ];
    node.stop();
    rows
}

/// The middle and the 99th of a hundred latencies.
fn latencies(server: SocketAddr, request: &[u8]) -> (Duration, Duration) {
    let mut times = runtime().block_on(async {
        let mut stream = TcpStream::connect(server)
            .await
            .expect("the server listens");
        stream.set_nodelay(true).expect("a socket");
        let (mut buffer, mut times) = (Vec::new(), Vec::with_capacity(LOOKS));
        for _ in 0..LOOKS {
            let began = Instant::now();
            let written = stream.write_all(request).await;
            written.expect("the server takes requests");
            let end = answer(&mut stream, &mut buffer).await;
            times.push(began.elapsed());
            buffer.drain(..end);
        }
        times
    });
    times.sort_unstable();
    let at = |part: usize| times.get(times.len() * part / 100).copied();
    (at(50).expect("times"), at(99).expect("times"))
}

/// All agents but one fade at once.
fn fading() -> Row {
    let home = Home::initialized();
    populate(&home, AGENTS, 0);
    let node = hosting(&home)
        .set("place.max_agents", "200000")
        .set("place.session_timeout", SILENCE)
        .start();
    let token = TestPeer::new("stays").register(&node);
    let beat = request("POST", "/place/v1/heartbeat", Some(&token), "{}");
    let info = request("GET", "/place/v1/info", None, "");
    let count = || {
        let told: Value = serde_json::from_slice(&once(node.address(), &info)).expect("JSON");
        let count = told.get("registered_agents").and_then(Value::as_u64);
        usize::try_from(count.expect("a count")).expect("a count")
    };
    let (mut began, mut slowest) = (None, Duration::ZERO);
    let waited = Instant::now();
    let took = loop {
        let asked = Instant::now();
        once(node.address(), &beat);
        let answered = asked.elapsed();
        let left = count();
        if left < AGENTS {
            let began: &mut Instant = began.get_or_insert(asked);
            slowest = slowest.max(answered);
            if left <= 2 {
                break began.elapsed();
            }
        }
        assert!(
            waited.elapsed() < FADE_PATIENCE,
            "{left} agents do not fade"
        );
    };
    node.stop();
    Row {
        what: format!("{AGENTS} agents fade"),
        ours: format!("{:.0} ms", millis(took)),
        baseline: String::new(),
        ratio: f64::NAN,
        aim: Aim::Open,
        note: format!(
            "slowest POST /heartbeat meanwhile {:.1} ms",
            millis(slowest)
        ),
    }
}

fn listening() -> Row {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < FILES) {
        let current = Some(limit.maximum.map_or(FILES, |most| most.min(FILES)));
        let raised = Rlimit { current, ..limit };
        setrlimit(Resource::Nofile, raised).expect("a soft limit up to the hard one");
    }
    let home = Home::initialized();
    let node = hosting(&home)
        .set("http.max_connections", &(2 * LISTENERS + 100).to_string())
        .start();
    let keypair = Keypair::generate().expect("a key");
    let tokens: Vec<String> = (0..LISTENERS.div_ceil(PER_BOX))
        .map(|n| TestPeer::sharing(&format!("listener-{n}"), &keypair).register(&node))
        .collect();
    let before = resident(node.pid());
    let (address, pid) = (node.address(), node.pid());
    let after = runtime().block_on(async {
        let mut open = Vec::with_capacity(LISTENERS);
        for token in tokens.iter().cycle().take(LISTENERS) {
            open.push(listen(address, token).await);
        }
        resident(pid)
    });
    node.kill();
    bounded(
        &format!("memory, {LISTENERS} idle listeners"),
        after,
        "MB",
        LISTENERS_MEGABYTES,
        format!(
            "{before:.1} MB before, {:.1} kB each",
            (after - before) * 1e3 / LISTENERS as f64
        ),
    )
}
