//! What is made of real traffic by chance: both doors answer it, or pass over it, and go on.
//!
//! `KAIROS_FUZZ_SECONDS` says for how long, instead of a fixed number of lines; `KAIROS_FUZZ_SEED` begins elsewhere.

use std::env;
use std::io::Read as _;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::{Map, Value, json};

use super::http::House;
use super::replay::{CLIENTS, answer};
use super::{Open, call, meta, request};
use kairos_tests::{Home, Request, TestNode};

/// Lines that are tried where no time is set.
const LINES: usize = 600;
/// Lines between two questions that must have an answer. What the server writes meanwhile fits into a pipe.
const BATCH: usize = 4;
/// Values that parsers stumble over.
const ODD: [&str; 16] = [
    "null",
    "-1",
    "1e400",
    "18446744073709551616",
    "\"\"",
    "\"\\ud800\"",
    "\"\\u0000\"",
    "[[[[[[]]]]]]",
    "{\"\":{}}",
    "{\"jsonrpc\":\"2.0\"}",
    "\"2026-07-28\"",
    "\"notifications/cancelled\"",
    "\"subscriptions/listen\"",
    "\"io.modelcontextprotocol/protocolVersion\"",
    "\"../../etc/passwd\"",
    "true",
];

fn number(name: &str) -> Option<u64> {
    let text = env::var(name).ok()?;
    Some(text.parse().expect("a whole number"))
}

/// Ends after the time that is set, or after a number of lines.
struct Budget {
    until: Option<Instant>,
    lines: usize,
}

impl Budget {
    fn new() -> Self {
        let seconds = number("KAIROS_FUZZ_SECONDS").map(Duration::from_secs);
        Self {
            until: seconds.map(|time| Instant::now() + time),
            lines: LINES,
        }
    }

    fn take(&mut self) -> bool {
        match self.until {
            Some(until) => Instant::now() < until,
            None => {
                let more = self.lines > 0;
                self.lines = self.lines.saturating_sub(BATCH);
                more
            }
        }
    }
}

/// Messages of real clients, and a call of each tool.
fn seeds(open: &mut Open) -> Vec<Value> {
    let recorded = CLIENTS
        .iter()
        .flat_map(|(_, lines)| lines.lines().skip(1))
        .map(|line| serde_json::from_str(line).expect("recorded lines are JSON"));
    let mut seeds: Vec<Value> = recorded.collect();
    let tools = open.ask("tools/list", &json!({"_meta": meta(&json!({}))}));
    let tools = tools["result"]["tools"].as_array().cloned();
    for tool in tools.expect("tools are listed") {
        let properties = tool["inputSchema"]["properties"].as_object().cloned();
        // Nothing is asked of other agents: there are none.
        let filled: Map<String, Value> = properties
            .unwrap_or_default()
            .into_iter()
            .map(|(name, _)| (name, json!("x")))
            .collect();
        let name = tool["name"].as_str().expect("a tool has a name");
        seeds.push(call(7, name, &json!({})));
        seeds.push(call(8, name, &Value::Object(filled)));
    }
    for uri in ["knowledge://x", "l0://kairos.rb", "skill://x/SKILL.md"] {
        seeds.push(request(9, "resources/read", &json!({"uri": uri})));
    }
    seeds
}

/// Another value somewhere in `value`.
fn swap(value: &mut Value, random: &mut StdRng) {
    let inner = match value {
        Value::Object(members) if !members.is_empty() && random.random_ratio(4, 5) => {
            let at = random.random_range(0..members.len());
            members.values_mut().nth(at)
        }
        Value::Array(items) if !items.is_empty() && random.random_ratio(4, 5) => {
            let at = random.random_range(0..items.len());
            items.get_mut(at)
        }
        _ => None,
    };
    match inner {
        Some(inner) => swap(inner, random),
        None => {
            let odd = ODD[random.random_range(0..ODD.len())];
            // Some of them are not values to this parser, which is what makes them odd.
            *value = serde_json::from_str(odd).unwrap_or_else(|_| json!(odd));
        }
    }
}

/// One line made of `seeds`.
fn line(seeds: &[Value], random: &mut StdRng) -> Vec<u8> {
    let mut message = seeds[random.random_range(0..seeds.len())].clone();
    for _ in 0..random.random_range(0..3) {
        swap(&mut message, random);
    }
    let mut line = message.to_string().into_bytes();
    for _ in 0..random.random_range(0..3) {
        if line.is_empty() {
            break;
        }
        let at = random.random_range(0..line.len());
        match random.random_range(0..4) {
            0 => line[at] = random.random(),
            1 => line.truncate(at),
            2 => {
                let odd = ODD[random.random_range(0..ODD.len())];
                line.splice(at..at, odd.bytes());
            }
            _ => {
                let end = random.random_range(at..line.len());
                let part: Vec<u8> = line[at..end].to_vec();
                line.splice(at..at, part);
            }
        }
    }
    line.retain(|byte| *byte != b'\n');
    line
}

fn random() -> StdRng {
    let seed = number("KAIROS_FUZZ_SEED").unwrap_or(20_260_728);
    StdRng::seed_from_u64(seed)
}

#[test]
fn one_message_a_line_ends_nothing_and_the_ledger_stays_whole() {
    let home = Home::initialized();
    let mut open = Open::on(&home);
    let (seeds, mut random, mut budget) = (seeds(&mut open), random(), Budget::new());
    for round in 0_u64.. {
        if !budget.take() {
            break;
        }
        for _ in 0..BATCH {
            open.send_bytes(&line(&seeds, &mut random));
        }
        let id = json!(format!("round {round}"));
        open.send(&json!({"jsonrpc": "2.0", "id": id, "method": "ping"}));
        let pong = answer(&mut open, &id);
        assert_eq!(pong["jsonrpc"], "2.0", "{pong}");
    }
    assert!(open.end());
    home.run(["chain", "verify"]).done();
}

#[test]
fn bodies_of_posts_end_nothing_and_no_answer_is_our_fault() {
    let house = House::running(
        TestNode::builder(),
        &[("limits.requests_per_address", "1000000")],
    );
    let mut open = Open::on(&house.home);
    let (seeds, mut random, mut budget) = (seeds(&mut open), random(), Budget::new());
    assert!(open.end());
    while budget.take() {
        for _ in 0..BATCH {
            let body = line(&seeds, &mut random);
            let told = String::from_utf8_lossy(&body).into_owned();
            let length = body.len().to_string();
            let mut stream = Request::post("/mcp")
                .token(&house.owner)
                .header("Accept", "application/json, text/event-stream")
                .header("Content-Type", "application/json")
                .header("Content-Length", &length)
                .body(body)
                .begin(&house.node);
            // Some of these open a stream of events that does not end, so only the first line is waited for.
            let mut status = [0; 12];
            stream.read_exact(&mut status).expect("the server answers");
            assert!(
                status.starts_with(b"HTTP/1.1 2") || status.starts_with(b"HTTP/1.1 4"),
                "{}: {told}",
                String::from_utf8_lossy(&status)
            );
        }
    }
    let greeting = house.stateless(&house.owner, call(1, "chain_verify", &json!({})));
    assert_eq!(greeting.status, 200, "{}", greeting.text());
}
