//! How fast the node is, as ratios to what the machine can do at best.
//!
//! Run with `cargo bench -p kairos-tests`. Each figure stands beside a baseline measured in the same run on the same
//! machine: a bare actix-web handler that returns the same bytes, the raw RSA verify rate of one core, `tar`. The
//! node is the real binary; requests travel over loopback on a bounded number of kept connections.
#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a benchmark that cannot measure stops, and prints what it measured"
)]

use std::fs;
use std::hint::black_box;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use actix_web::{App, HttpResponse, HttpServer, web};
use kairos_actors::skill_set::{Options, Origin, SkillSetStore};
use kairos_protocol::crypto::PublicKey;
use kairos_protocol::hash::ContentHash;
use kairos_protocol::json;
use kairos_protocol::package::PackageLimits;
use kairos_protocol::time::Timestamp;
use kairos_tests::{Call, Home, TestNode, TestPeer};
use serde_json::{Value, json};

/// Connections kept open by the load generator.
const CONNECTIONS: usize = 16;
/// Requests of one measurement, after a tenth as many to warm up.
const REQUESTS: usize = 40_000;
/// Measurements of each; the best counts, since everything else on the machine only makes things slower.
const ROUNDS: usize = 3;
/// Worker threads of the node and of the bare server.
const WORKERS: usize = 2;
/// Public skills of the node.
const SKILLS: usize = 100;

fn main() {
    // `cargo bench` passes `--bench`; `cargo test --benches` must not measure.
    if !std::env::args().any(|arg| arg == "--bench") {
        return;
    }
    println!(
        "{:<34} {:>14} {:>14} {:>7}",
        "", "ours", "baseline", "ratio"
    );
    requests();
    packages();
    life();
}

fn row(name: &str, ours: String, baseline: String, ratio: f64) {
    println!("{name:<34} {ours:>14} {baseline:>14} {ratio:>7.2}");
}

/// The endpoints of a node with many skills.
fn requests() {
    let home = Home::initialized();
    for n in 0..SKILLS {
        let folder = home.data_dir().join(format!("knowledge/note_{n}"));
        fs::create_dir_all(&folder).expect("a folder");
        let text = format!(
            "---\nname: note_{n}\ndescription: What note {n} is about, in one line\ntags: [note, bench]\n\
             public: true\n---\n\n# Note {n}\n\n{}\n",
            "A sentence of ordinary length about nothing in particular. ".repeat(40)
        );
        fs::write(folder.join(format!("note_{n}.md")), text).expect("a file");
    }
    let node = TestNode::builder()
        .home(&home)
        .set("http.workers", &WORKERS.to_string())
        .set("limits.requests_per_address", "1000000")
        .set("limits.requests_per_session", "1000000")
        .set("limits.new_peers_per_address", "1000000")
        .set("log.level", "error")
        .start();
    let address: SocketAddr = node
        .url("")
        .trim_start_matches("http://")
        .parse()
        .expect("an address");
    let peer = TestPeer::new("bench");
    let introduction = peer.introduction();

    let introduce = post("/meeting/v1/introduce", &introduction, None);
    let reply: Value = serde_json::from_slice(&ask(address, &introduce)).expect("JSON");
    let token = reply["session_token"]
        .as_str()
        .expect("a session")
        .to_owned();
    for (name, request) in [
        ("GET /introduce", get("/meeting/v1/introduce", None)),
        ("GET /skills", get("/meeting/v1/skills", Some(&token))),
        (
            "POST /skill_content",
            post(
                "/meeting/v1/skill_content",
                &json!({"skill_id": "note_7"}),
                Some(&token),
            ),
        ),
    ] {
        let body = ask(address, &request);
        let bare = Bare::start(body);
        let (ours, baseline) = best_of(|| rate(address, &request), || rate(bare.address, &request));
        row(
            name,
            format!("{ours:.0}/s"),
            format!("{baseline:.0}/s"),
            ours / baseline,
        );
    }

    let key =
        PublicKey::from_pem(introduction["public_key"].as_str().expect("a key")).expect("a key");
    let text = json::canonical(&introduction["identity"]);
    let signature = introduction["identity_signature"]
        .as_str()
        .expect("a signature");
    let (ours, baseline) = best_of(
        || rate(address, &introduce),
        || verify_rate(&key, &text, signature),
    );
    row(
        "POST /introduce, RSA verify",
        format!("{ours:.0}/s"),
        format!("{baseline:.0}/s"),
        ours / baseline,
    );
    node.stop();
}

/// Measures both in turn and returns the best of each.
fn best_of(mut ours: impl FnMut() -> f64, mut baseline: impl FnMut() -> f64) -> (f64, f64) {
    (0..ROUNDS).fold((0.0, 0.0), |best, _| {
        (ours().max(best.0), baseline().max(best.1))
    })
}

/// Verifications of one core per second.
fn verify_rate(key: &PublicKey, text: &str, signature: &str) -> f64 {
    let started = Instant::now();
    let count = 20_000;
    for _ in 0..count {
        black_box(key.verify(black_box(text.as_bytes()), black_box(signature)))
            .expect("it verifies");
    }
    f64::from(count) / started.elapsed().as_secs_f64()
}

/// A server that answers everything with the same bytes.
struct Bare {
    address: SocketAddr,
    stop: Option<mpsc::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Bare {
    fn start(body: Vec<u8>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let body = web::Bytes::from(body);
        let (stop, stopped) = mpsc::channel();
        let thread = thread::spawn(move || {
            actix_web::rt::System::new().block_on(async move {
                let server = HttpServer::new(move || {
                    let body = body.clone();
                    App::new().default_service(web::to(move |_payload: web::Bytes| {
                        let body = body.clone();
                        async move {
                            HttpResponse::Ok()
                                .content_type("application/json")
                                .body(body)
                        }
                    }))
                })
                .workers(WORKERS)
                .disable_signals()
                .listen(listener)
                .expect("it listens")
                .run();
                let handle = server.handle();
                thread::spawn(move || {
                    // The sender is dropped when the measurement is over.
                    let _ = stopped.recv();
                    drop(handle.stop(false));
                });
                server.await.expect("it serves");
            });
        });
        Self {
            address,
            stop: Some(stop),
            thread: Some(thread),
        }
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the server ends");
        }
    }
}

fn get(path: &str, token: Option<&str>) -> Vec<u8> {
    let token = token
        .map(|t| format!("Authorization: Bearer {t}\r\n"))
        .unwrap_or_default();
    format!("GET {path} HTTP/1.1\r\nHost: bench\r\n{token}\r\n").into_bytes()
}

fn post(path: &str, body: &Value, token: Option<&str>) -> Vec<u8> {
    let token = token
        .map(|t| format!("Authorization: Bearer {t}\r\n"))
        .unwrap_or_default();
    let body = body.to_string();
    let length = body.len();
    format!("POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Length: {length}\r\n{token}\r\n{body}")
        .into_bytes()
}

/// One request on a connection of its own; returns the body.
fn ask(address: SocketAddr, request: &[u8]) -> Vec<u8> {
    let mut connection = Connection::open(address);
    let (status, body) = connection.exchange(request);
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
    body
}

/// Answers per second over all connections.
fn rate(address: SocketAddr, request: &[u8]) -> f64 {
    let run = |requests: usize| {
        let started = Instant::now();
        thread::scope(|scope| {
            for _ in 0..CONNECTIONS {
                scope.spawn(|| {
                    let mut connection = Connection::open(address);
                    for _ in 0..requests / CONNECTIONS {
                        assert_eq!(connection.exchange(request).0, 200);
                    }
                });
            }
        });
        requests as f64 / started.elapsed().as_secs_f64()
    };
    run(REQUESTS / 10);
    run(REQUESTS)
}

/// A kept connection that reads answers with a `Content-Length`.
struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("it accepts");
        stream.set_nodelay(true).expect("no delay");
        stream
            .set_read_timeout(Some(Duration::from_secs(30)))
            .expect("a timeout");
        Self {
            stream,
            buffer: vec![0; 256 * 1024],
        }
    }

    fn exchange(&mut self, request: &[u8]) -> (u16, Vec<u8>) {
        self.stream.write_all(request).expect("it reads");
        let mut filled = 0;
        loop {
            let read = self
                .stream
                .read(&mut self.buffer[filled..])
                .expect("it answers");
            assert!(read > 0, "the server closed the connection");
            filled += read;
            let got = &self.buffer[..filled];
            let Some(head) = got.windows(4).position(|w| w == b"\r\n\r\n") else {
                continue;
            };
            let text = String::from_utf8_lossy(&got[..head]).to_ascii_lowercase();
            let length: usize = text
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "))
                .and_then(|length| length.parse().ok())
                .expect("a length");
            if filled >= head + 4 + length {
                let status = text
                    .split(' ')
                    .nth(1)
                    .and_then(|s| s.parse().ok())
                    .expect("a status");
                return (status, got[head + 4..head + 4 + length].to_vec());
            }
        }
    }
}

/// Packaging and installing a large SkillSet, against `tar` and hashing.
fn packages() {
    const FILES: usize = 1000;
    const SIZE: usize = 10_000;
    let folder = tempfile::tempdir().expect("a folder");
    let set = folder.path().join("big");
    fs::create_dir_all(set.join("knowledge/big")).expect("a folder");
    fs::write(
        set.join("skillset.json"),
        r#"{"name":"big","version":"1.0.0","layer":"L2"}"#,
    )
    .expect("a file");
    let mut noise = 1_u64;
    for n in 0..FILES {
        let mut text = String::with_capacity(SIZE + 16);
        while text.len() < SIZE {
            // Words with some order in them, so that they compress as prose does.
            noise = noise
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            text.push_str(
                ["tea ", "house ", "guest ", "warm ", "pour ", "quiet "]
                    [(noise >> 33) as usize % 6],
            );
            if noise >> 61 == 0 {
                text.push_str(&format!("{:x}\n", noise >> 40));
            }
        }
        fs::write(set.join(format!("knowledge/big/{n:04}.md")), text).expect("a file");
    }
    let seconds = |work: &mut dyn FnMut()| {
        let started = Instant::now();
        work();
        started.elapsed().as_secs_f64()
    };
    let mut round = 0;
    let mut ours = || {
        round += 1;
        let sender = folder.path().join(format!("sender{round}"));
        let receiver = folder.path().join(format!("receiver{round}"));
        let from = SkillSetStore::open(&sender, PackageLimits::default()).expect("a store");
        let to = SkillSetStore::open(&receiver, PackageLimits::default()).expect("a store");
        let (options, now) = (Options::default(), Timestamp::EPOCH);
        from.install(&set, options, now)
            .and_then(|change| change.commit())
            .expect("installed");
        seconds(&mut || {
            let package = from.package("big", None, now).expect("packed");
            let change = to
                .install_archive(&package, &Origin::Local, options, now)
                .expect("checked");
            change.commit().expect("installed");
        })
    };
    let archive = folder.path().join("big.tar.gz");
    let unpacked = folder.path().join("unpacked");
    let baseline = || {
        let _ = fs::remove_dir_all(&unpacked);
        fs::create_dir(&unpacked).expect("a folder");
        let taken = seconds(&mut || {
            tar(&["czf", path(&archive), "-C", path(folder.path()), "big"]);
            tar(&["xzf", path(&archive), "-C", path(&unpacked)]);
            for file in fs::read_dir(unpacked.join("big/knowledge/big")).expect("files") {
                let bytes = fs::read(file.expect("a file").path()).expect("bytes");
                black_box(ContentHash::of(bytes));
            }
        });
        // What tar wrote is not on disk until it is flushed; an install is.
        Command::new("sync").status().expect("sync runs");
        taken
    };
    let best = (0..ROUNDS).fold((f64::MAX, f64::MAX), |best, _| {
        (ours().min(best.0), baseline().min(best.1))
    });
    row(
        "package + install 1,000 x 10 kB",
        format!("{:.0} ms", best.0 * 1e3),
        format!("{:.0} ms", best.1 * 1e3),
        best.0 / best.1,
    );
}

fn path(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

fn tar(args: &[&str]) {
    let done = Command::new("tar")
        .args(args)
        .stdout(Stdio::null())
        .status()
        .expect("tar runs");
    assert!(done.success());
}

/// From start to the first answer, and memory at rest.
fn life() {
    let home = Home::initialized();
    Call::new(["identity"]).home(&home).run().done();
    let mut fastest = Duration::MAX;
    let mut memory = 0;
    for _ in 0..ROUNDS {
        let started = Instant::now();
        let node = TestNode::builder()
            .home(&home)
            .set("http.workers", &WORKERS.to_string())
            .start();
        let address = node
            .url("")
            .trim_start_matches("http://")
            .parse()
            .expect("an address");
        ask(address, &get("/ready", None));
        fastest = fastest.min(started.elapsed());
        ask(address, &get("/meeting/v1/introduce", None));
        let status = fs::read_to_string(format!("/proc/{}/status", node.pid())).expect("Linux");
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .expect("a line");
        memory = line
            .trim()
            .trim_end_matches(" kB")
            .parse::<u64>()
            .expect("a number");
        node.stop();
    }
    println!(
        "{:<34} {:>14} {:>14}",
        "start to ready",
        format!("{:.0} ms", fastest.as_secs_f64() * 1e3),
        "< 100 ms"
    );
    println!(
        "{:<34} {:>14} {:>14}",
        "memory at rest",
        format!("{:.1} MB", memory as f64 / 1e3),
        "< 25 MB"
    );
}
