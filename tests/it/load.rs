//! `kairos-load`: a good node passes, and what a bad one loses, alters or refuses is found.

use std::ffi::OsStr;
use std::fs;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use kairos_tests::{Asked, Home, Reply, Request, Stranger, TestNode, binary};
use serde_json::Value;

/// The exit code, the verdict if there is one, and what was said.
fn load<I: AsRef<OsStr>>(args: impl IntoIterator<Item = I>) -> (i32, Value, String) {
    let ended = Command::new(env!("CARGO_BIN_EXE_kairos-load"))
        .args(["--json", "--quiet", "--agents", "4", "--patience", "10s"])
        .args(args)
        .env("KAIROS_TEST_BINARY", binary())
        .output()
        .unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    let verdict = serde_json::from_slice(&ended.stdout).unwrap_or_default();
    (ended.status.code().unwrap(), verdict, said)
}

/// Has agents write to each other at `url` for two seconds.
fn mail(url: &str) -> (i32, Value, String) {
    load(
        "--duration 2s --rate 20 --mix relay=1 --url"
            .split(' ')
            .chain([url]),
    )
}

/// Whether a check passed, and what it says.
fn check<'v>(verdict: &'v Value, name: &str) -> (bool, &'v str) {
    let checks = verdict["checks"].as_array();
    let checks = checks.unwrap_or_else(|| panic!("no verdict: {verdict}"));
    let found = checks.iter().find(|check| check["name"] == name);
    let found = found.unwrap_or_else(|| panic!("no check of {name}: {verdict:#}"));
    (found["passed"] == true, found["detail"].as_str().unwrap())
}

/// The names of checks that did not pass.
fn failed(verdict: &Value) -> Vec<&str> {
    let checks = verdict["checks"].as_array().into_iter().flatten();
    let failed = checks.filter(|check| check["passed"] != true);
    failed.filter_map(|check| check["name"].as_str()).collect()
}

#[test]
fn a_good_node_passes_with_everything_that_agents_do() {
    let home = Home::new();
    let csv = home.path().join("soak.csv");
    let mix = "introduce=1,exchange=1,place=3,relay=2";
    let args = [
        "--duration",
        "4s",
        "--rate",
        "60",
        "--mix",
        mix,
        "--soak",
        "--every",
        "200ms",
    ];
    let (code, verdict, said) = load(
        args.map(OsStr::new)
            .into_iter()
            .chain(["--csv".as_ref(), csv.as_os_str()]),
    );
    assert_eq!((code, failed(&verdict)), (0, vec![]), "{verdict:#}{said}");
    assert_eq!(
        (&verdict["passed"], said.as_str()),
        (&Value::Bool(true), "")
    );
    assert_eq!(verdict["schedule"]["due"], 240);
    let operations = verdict["operations"].as_array().unwrap();
    assert_eq!(operations.len(), 11, "{verdict:#}");
    let done: u64 = operations
        .iter()
        .map(|one| one["done"].as_u64().unwrap())
        .sum();
    assert_eq!(done, 240);
    for one in operations {
        let times = (&one["latency_ms"], &one["service_ms"]);
        let of = |times: &Value, part: &str| times[part].as_f64().unwrap();
        assert!(
            of(times.0, "p50") > 0.0 && of(times.0, "p50") <= of(times.0, "max"),
            "{one}"
        );
        assert!(of(times.1, "max") <= of(times.0, "max"), "{one}");
    }
    assert!(
        !check(&verdict, "messages").1.starts_with("0 acknowledged"),
        "{verdict:#}"
    );
    assert!(
        !check(&verdict, "skills").1.starts_with("0 on"),
        "{verdict:#}"
    );
    for name in [
        "ledger",
        "memory",
        "descriptors",
        "threads",
        "disk",
        "figures",
    ] {
        assert!(check(&verdict, name).0, "{name}");
    }
    let seen = fs::read_to_string(csv).unwrap();
    let (head, lines) = seen.split_once('\n').unwrap();
    assert!(
        head.starts_with("seconds,resident_bytes,descriptors,threads,own_descriptors,disk_"),
        "{head}"
    );
    assert!(lines.lines().count() >= 10, "{seen}");
}

/// Stands between the load and a node, and does to requests what `meddle` does.
fn between(
    node: SocketAddr,
    meddle: impl Fn(&Asked, &dyn Fn(&Asked) -> Reply) -> Option<Reply> + Send + Sync + 'static,
) -> Stranger {
    Stranger::start(move |asked| {
        let pass_on = |asked: &Asked| {
            let (method, path) = asked.what.split_once(' ').unwrap();
            let mut request = Request::new(method, path);
            if let Some(token) = &asked.token {
                request = request.token(token);
            }
            if !asked.body.is_null() {
                request = request
                    .header("content-type", "application/json")
                    .json(&asked.body);
            }
            request.send_to(node).unwrap()
        };
        let reply = meddle(&asked, &pass_on).unwrap_or_else(|| pass_on(&asked));
        asked.answer(reply.status, reply.body);
    })
}

fn place() -> TestNode {
    TestNode::builder().unlimited().arg("--place").start()
}

#[test]
fn a_place_that_loses_what_it_acknowledged_fails() {
    let node = place();
    let sent = AtomicUsize::new(0);
    let bad = between(node.address(), move |asked, _| {
        let is_letter = asked.what == "POST /place/v1/relay/send";
        let lose = is_letter && sent.fetch_add(1, Ordering::Relaxed) % 5 == 3;
        lose.then(|| Reply {
            status: 201,
            headers: String::new(),
            body: br#"{"status":"queued","relay_id":"x"}"#.to_vec(),
        })
    });
    let (code, verdict, said) = mail(&bad.url());
    assert_eq!(
        (code, failed(&verdict)),
        (1, vec!["messages"]),
        "{verdict:#}{said}"
    );
    let (_, told) = check(&verdict, "messages");
    assert!(told.contains("was acknowledged and never came"), "{told}");
    assert_eq!(verdict["passed"], false);
}

#[test]
fn a_place_that_hands_a_message_out_again_fails() {
    let node = place();
    // Keeps mail: it answers that a message is gone, and does not let the Place know.
    let bad = between(node.address(), |asked, _| {
        (asked.what == "POST /place/v1/relay/ack").then(|| {
            let ids = asked.body["ids"].clone();
            let told = serde_json::json!({"status": "acknowledged", "removed": ids});
            Reply {
                status: 200,
                headers: String::new(),
                body: told.to_string().into_bytes(),
            }
        })
    });
    let (code, verdict, said) = mail(&bad.url());
    assert_eq!(code, 1, "{verdict:#}{said}");
    let (passed, told) = check(&verdict, "replies");
    assert!(
        !passed && told.contains("came again after its receipt was acknowledged"),
        "{told}"
    );
}

#[test]
fn a_place_that_alters_or_withholds_a_skill_fails() {
    let node = place();
    let bad = between(node.address(), |asked, pass_on| {
        asked
            .what
            .starts_with("GET /place/v1/skill_content/")
            .then(|| {
                let mut reply = pass_on(asked);
                let text = String::from_utf8(reply.body).unwrap();
                // One word, which the hash beside it does not cover.
                reply.body = text.replacen("ordinary", "uncommon", 1).into_bytes();
                reply
            })
    });
    let mix = "place.deposit=1,place.acquire=3";
    let (url, args) = (
        bad.url(),
        ["--duration", "2s", "--rate", "30", "--mix", mix, "--url"],
    );
    let (code, verdict, said) = load(args.into_iter().chain([url.as_str()]));
    assert_eq!(code, 1, "{verdict:#}{said}");
    for name in ["replies", "skills"] {
        let (passed, told) = check(&verdict, name);
        assert!(
            !passed && told.contains("does not have the hash that came with it"),
            "{told}"
        );
    }
    assert!(check(&verdict, "messages").0, "{verdict:#}");
}

#[test]
fn refusals_are_counted_by_reason_and_fail_beyond_what_is_allowed() {
    let set = "place.sends_per_key=3";
    let args = [
        "--duration",
        "2s",
        "--rate",
        "30",
        "--mix",
        "relay.send=1",
        "--set",
        set,
    ];
    let (code, verdict, said) = load(args);
    assert_eq!(
        (code, failed(&verdict)),
        (1, vec!["refusals"]),
        "{verdict:#}{said}"
    );
    let reasons = &verdict["operations"][0]["failed"];
    assert!(
        reasons["429 rate_limited"]
            .as_u64()
            .is_some_and(|count| count > 30),
        "{verdict:#}"
    );
    let (code, verdict, said) = load(args.into_iter().chain(["--allow", "90"]));
    assert_eq!((code, failed(&verdict)), (0, vec![]), "{verdict:#}{said}");
}

#[test]
fn where_no_such_node_is_there_is_no_verdict() {
    let (code, verdict, said) = load(["--url", "http://127.0.0.1:1"]);
    assert_eq!((code, verdict), (2, Value::Null));
    assert!(
        said.contains("there is no node of kairos-chain at http://127.0.0.1:1: no answer"),
        "{said}"
    );
    let other = Stranger::start(|asked| asked.json(&serde_json::json!({"hello": "world"})));
    let (code, _, said) = load(["--url", &other.url()]);
    assert!(
        code == 2 && said.contains("does not introduce itself as a node does"),
        "{said}"
    );
    let node = TestNode::start();
    let (code, _, said) = load(["--url", &node.url("")]);
    assert!(
        code == 2 && said.contains("hosts no Meeting Place; start it with `serve --place`"),
        "{said}"
    );
    let (code, _, said) = load(["--url", &place().url(""), "--soak"]);
    assert!(code == 2 && said.contains("name it with --pid"), "{said}");
}
