//! Requests to a node with many public skills.

use std::fs;
use std::hint::black_box;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Instant;

use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256};
use aws_lc_rs::signature::{ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RsaKeyPair};
use aws_lc_rs::{rand::SystemRandom, rsa::KeySize};
use kairos_tests::{Builder, Home, TestNode, TestPeer};
use serde_json::{Value, json};

use crate::bare::Bare;
use crate::load::{Round, once, request, round};
use crate::table::{Aim, Row, median};

/// Worker threads of the node and of the bare server.
pub(crate) const WORKERS: usize = 2;
/// Public skills of the node.
const SKILLS: usize = 100;
/// What is asked of answers that are ready bytes.
const CACHED: Aim = Aim::AtLeast(0.6);
/// Measurements of each side.
pub(crate) const ROUNDS: usize = 5;
/// Requests that a client sends on a connection before it reads an answer, where it does not wait for each.
const PIPELINED: usize = 16;
/// Requests of one measurement, after a tenth as many to warm up.
const REQUESTS: usize = 20_000;

pub(crate) fn run() -> Vec<Row> {
    let home = Home::initialized();
    write_skills(&home.data_dir());
    let node = unlimited(&home).start();
    let server = Server::of(&node);
    let address = server.address;
    let introduction = TestPeer::new("bench").introduction().to_string();
    let introduce = request("POST", "/meeting/v1/introduce", None, &introduction);
    let reply: Value = serde_json::from_slice(&once(address, &introduce)).expect("JSON");
    let token = reply
        .get("session_token")
        .and_then(Value::as_str)
        .expect("a session");
    let wanted = json!({"skill_id": "note_7"}).to_string();
    let mut rows = vec![
        server.against_bare(
            "GET /introduce",
            &request("GET", "/meeting/v1/introduce", None, ""),
            CACHED,
        ),
        server.against_bare(
            "GET /skills",
            &request("GET", "/meeting/v1/skills", Some(token), ""),
            CACHED,
        ),
        server.against_bare(
            "POST /skill_content",
            &request("POST", "/meeting/v1/skill_content", Some(token), &wanted),
            // Reads and hashes the file for each request, so that nothing is served that has just been withdrawn.
            Aim::Open,
        ),
    ];
    let many = format!("POST /introduce, {SKILLS} skills, to RSA-2048 verify on one core");
    rows.extend(server.against_verifying(&many, &introduce, Aim::Open));
    node.stop();
    rows.extend(introducing_to_a_new_agent(&introduce));
    rows
}

/// The answer to an introduction is our own, so a long list of skills in it costs sending it; without one, what is
/// left is the work that an introduction takes.
fn introducing_to_a_new_agent(introduce: &[u8]) -> [Row; 4] {
    let home = Home::initialized();
    let node = unlimited(&home).start();
    let server = Server::of(&node);
    let what = "POST /introduce, new agent, to RSA-2048 verify on one core";
    let rows = server.against_verifying(what, introduce, Aim::AtLeast(0.7));
    node.stop();
    rows
}

pub(crate) fn unlimited(home: &Home) -> Builder {
    TestNode::builder()
        .home(home)
        .unlimited()
        .set("http.workers", &WORKERS.to_string())
        .set("log.level", "warn")
}

fn write_skills(data_dir: &Path) {
    for n in 0..SKILLS {
        let dir = data_dir.join(format!("knowledge/note_{n}"));
        fs::create_dir_all(&dir).expect("a directory");
        let text = format!(
            "---\nname: note_{n}\ndescription: What note {n} is about, in one line\ntags: [note, bench]\n\
             public: true\n---\n\n# Note {n}\n\n{}\n",
            "A sentence of ordinary length about nothing in particular. ".repeat(40)
        );
        fs::write(dir.join(format!("note_{n}.md")), text).expect("a file");
    }
}

/// The node.
#[derive(Clone, Copy)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) pid: u32,
}

impl Server {
    pub(crate) fn of(node: &TestNode) -> Self {
        Self {
            address: node.address(),
            pid: node.pid(),
        }
    }

    fn round(self, request: &[u8], at_a_time: usize) -> Round {
        round(self.address, self.pid, request, REQUESTS, at_a_time)
    }

    /// Compares with a server that answers every request with the bytes that the node answered this one with.
    pub(crate) fn against_bare(self, what: &str, request: &[u8], aim: Aim) -> Row {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let file = dir.path().join("body");
        fs::write(&file, once(self.address, request)).expect("a file");
        let bare = Bare::start(WORKERS, &file);
        let baseline = Server {
            address: bare.address,
            pid: bare.pid(),
        };
        for server in [self, baseline] {
            round(server.address, server.pid, request, REQUESTS / 10, 1);
        }
        let rounds: Vec<_> = (0..ROUNDS)
            .map(|_| (self.round(request, 1), baseline.round(request, 1)))
            .collect();
        let (ratio, least, most) = median(rounds.iter().map(|(ours, bare)| ours.rate / bare.rate));
        let (cpu, ..) = median(rounds.iter().map(|(ours, _)| ours.cpu_micros));
        let (bare_cpu, ..) = median(rounds.iter().map(|(_, bare)| bare.cpu_micros));
        Row {
            what: what.to_owned(),
            ours: rate(rounds.iter().map(|(ours, _)| ours.rate)),
            baseline: rate(rounds.iter().map(|(_, bare)| bare.rate)),
            ratio,
            aim,
            note: format!("{least:.2}..{most:.2}, CPU {cpu:.0} us a request against {bare_cpu:.0}"),
        }
    }

    /// Compares introductions, each of which has to be verified, with verifying alone: as they are served while the
    /// clients take their share of the same cores, with many in flight, and each by the server's own CPU time.
    pub(crate) fn against_verifying(self, what: &str, request: &[u8], aim: Aim) -> [Row; 4] {
        round(self.address, self.pid, request, REQUESTS / 10, 1);
        let verifier = Verifier::new();
        let measure = |at_a_time| -> Vec<(Round, f64)> {
            (0..ROUNDS)
                .map(|_| (self.round(request, at_a_time), verifier.rate()))
                .collect()
        };
        let (rounds, pipelined) = (measure(1), measure(PIPELINED));
        // What the cores of the server would do if nobody else wanted them.
        let by_cpu = |rounds: &[(Round, f64)]| -> Vec<(Round, f64)> {
            let alone = rounds.iter().map(|(ours, alone)| {
                let rate = WORKERS as f64 * 1e6 / ours.cpu_micros;
                (Round { rate, ..*ours }, *alone)
            });
            alone.collect()
        };
        let in_flight = format!("{what}, {PIPELINED} in flight");
        let own =
            |what: &str| format!("{what}, by CPU time, if {WORKERS} cores were the server's own");
        [
            against(what, &rounds, aim),
            against(&in_flight, &pipelined, aim),
            against(&own(what), &by_cpu(&rounds), aim),
            against(&own(&in_flight), &by_cpu(&pipelined), aim),
        ]
    }
}

/// Compares rounds with the rate of verifying alone that was measured beside each.
pub(crate) fn against(what: &str, rounds: &[(Round, f64)], aim: Aim) -> Row {
    let (ratio, least, most) = median(rounds.iter().map(|(ours, alone)| ours.rate / alone));
    let (cpu, ..) = median(rounds.iter().map(|(ours, _)| ours.cpu_micros));
    let (alone, ..) = median(rounds.iter().map(|(_, alone)| 1e6 / alone));
    Row {
        what: what.to_owned(),
        ours: rate(rounds.iter().map(|(ours, _)| ours.rate)),
        baseline: rate(rounds.iter().map(|(_, alone)| *alone)),
        ratio,
        aim,
        note: format!("{least:.2}..{most:.2}, CPU {cpu:.0} us a request against {alone:.0}"),
    }
}

fn rate(rates: impl Iterator<Item = f64>) -> String {
    format!("{:.0}/s", median(rates).0)
}

/// Nothing but verification: the key is parsed, the signature is bytes.
pub(crate) struct Verifier {
    key: ParsedPublicKey,
    text: Vec<u8>,
    signature: Vec<u8>,
}

impl Verifier {
    pub(crate) fn new() -> Self {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).expect("a key");
        let text = vec![b'x'; 256];
        let mut signature = vec![0; pair.public_modulus_len()];
        pair.sign(
            &RSA_PKCS1_SHA256,
            &SystemRandom::new(),
            &text,
            &mut signature,
        )
        .expect("a signature");
        let key = ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, pair.public_key().as_ref());
        Self {
            key: key.expect("the key just made"),
            text,
            signature,
        }
    }

    /// Verifications of one core a second.
    pub(crate) fn rate(&self) -> f64 {
        let began = Instant::now();
        for _ in 0..REQUESTS {
            let verified = self
                .key
                .verify_sig(black_box(&self.text), black_box(&self.signature));
            verified.expect("it verifies");
        }
        REQUESTS as f64 / began.elapsed().as_secs_f64()
    }
}
