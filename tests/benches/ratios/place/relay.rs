//! Sealed messages through the relay, each of them durable, from the moment of sending until its recipient has it.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use kairos_protocol::crypto::Keypair;
use kairos_protocol::hash::ContentHash;
use kairos_tests::{Home, TestPeer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::LocalSet;

use super::{bounded, hosting, millis};
use crate::http::ROUNDS;
use crate::load::{answer, find_head, request, runtime};
use crate::process::cpu_time;
use crate::table::{Aim, Row, median};

/// Agents that send, each on a connection on which it waits for every answer.
const SENDERS: usize = 64;
/// Agents that get the messages in turn. Each hears of mail on one connection and fetches it on another one.
const RECIPIENTS: usize = 8;
/// Messages of one measurement.
const MESSAGES: usize = 20_000;
/// Bytes of a sealed message: the shortest there is of version 2.
const SEALED: usize = 2_400;
/// Messages that a recipient fetches at a time.
const FETCHED: usize = 100;
/// What is hoped for.
const RATE: f64 = 5_000.0;
const P99_MILLIS: f64 = 50.0;
/// Longest a measurement may take.
const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) fn run() -> Vec<Row> {
    let home = Home::initialized();
    let node = hosting(&home).start();
    let keypair = Keypair::generate().expect("a key");
    let register = |kind: &str, count: usize| -> Vec<(String, String)> {
        let ids = (0..count).map(|n| format!("{kind}-{n}"));
        ids.map(|id| {
            let token = TestPeer::sharing(&id, &keypair).register(&node);
            (id, token)
        })
        .collect()
    };
    let (senders, recipients) = (
        register("sender", SENDERS),
        register("recipient", RECIPIENTS),
    );
    let rounds: Vec<Measured> = (0..=ROUNDS)
        .map(|round| {
            let post = Rc::new(Post {
                server: node.address(),
                round,
                recipients: recipients.clone(),
                next: Cell::new(0),
                sent: RefCell::new(vec![None; MESSAGES]),
                late: RefCell::new(Vec::with_capacity(MESSAGES)),
                all: Notify::new(),
            });
            measure(&post, &senders, node.pid())
        })
        // The first one warms up.
        .skip(1)
        .collect();
    let (rate, least, most) = median(rounds.iter().map(|round| round.rate));
    let (cpu, ..) = median(rounds.iter().map(|round| round.cpu_micros));
    let (p50, ..) = median(rounds.iter().map(|round| millis(round.p50)));
    let (p99, best, worst) = median(rounds.iter().map(|round| millis(round.p99)));
    node.stop();
    vec![
        Row {
            what: format!("relay, durable messages, {SENDERS} senders"),
            ours: format!("{rate:.0}/s"),
            baseline: format!("{RATE:.0}/s"),
            ratio: rate / RATE,
            aim: Aim::AtLeast(1.0),
            note: format!("{least:.0}..{most:.0}, CPU {cpu:.0} us a message, fetched as well"),
        },
        bounded(
            "relay, from sending to receipt, p99",
            p99,
            "ms",
            P99_MILLIS,
            format!("{best:.1}..{worst:.1}, p50 {p50:.1}"),
        ),
    ]
}

struct Measured {
    rate: f64,
    cpu_micros: f64,
    p50: Duration,
    p99: Duration,
}

/// What senders and recipients of one measurement share.
struct Post {
    server: SocketAddr,
    round: usize,
    recipients: Vec<(String, String)>,
    next: Cell<usize>,
    /// When which message was sent, until it is received.
    sent: RefCell<Vec<Option<Instant>>>,
    /// How long each took.
    late: RefCell<Vec<Duration>>,
    all: Notify,
}

fn measure(post: &Rc<Post>, senders: &[(String, String)], pid: u32) -> Measured {
    let runtime = runtime();
    let tasks = LocalSet::new();
    let all = async {
        for (_, token) in &post.recipients {
            let mail = Rc::new(Notify::new());
            let events = listen(post.server, token).await;
            tokio::task::spawn_local(hear(events, Rc::clone(&mail)));
            tokio::task::spawn_local(fetch(Rc::clone(post), token.clone(), mail));
        }
        let (began, cpu) = (Instant::now(), cpu_time(pid));
        let senders: Vec<_> = senders
            .iter()
            .map(|(_, token)| tokio::task::spawn_local(send(Rc::clone(post), token.clone())))
            .collect();
        for sender in senders {
            sender.await.expect("every message is taken");
        }
        let took = began.elapsed();
        post.all.notified().await;
        (took, cpu_time(pid).saturating_sub(cpu))
    };
    let bounded = async {
        let all = tokio::time::timeout(PATIENCE, all).await;
        all.expect("every message arrives in time")
    };
    let (took, cpu) = tasks.block_on(&runtime, bounded);
    let mut late = post.late.borrow_mut();
    late.sort_unstable();
    let at = |part: usize| late.get(late.len() * part / 100).copied();
    Measured {
        rate: MESSAGES as f64 / took.as_secs_f64(),
        cpu_micros: cpu.as_secs_f64() * 1e6 / MESSAGES as f64,
        p50: at(50).expect("messages"),
        p99: at(99).expect("messages"),
    }
}

async fn connect(server: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(server).await;
    let stream = stream.expect("the server listens");
    stream.set_nodelay(true).expect("a socket");
    stream
}

async fn write(stream: &mut TcpStream, bytes: &[u8]) {
    let written = stream.write_all(bytes).await;
    written.expect("the server takes requests");
}

async fn send(post: Rc<Post>, token: String) {
    let blob = "A".repeat(SEALED);
    let hash = ContentHash::of(&blob);
    let mut stream = connect(post.server).await;
    let mut buffer = Vec::new();
    while post.next.get() < MESSAGES {
        let n = post.next.replace(post.next.get() + 1);
        let (to, _) = post
            .recipients
            .get(n % RECIPIENTS)
            .expect("it is below their number");
        let body = format!(
            "{{\"id\":\"m-{}-{n}\",\"to\":\"{to}\",\"message_type\":\"message\",\"encrypted_blob\":\"{blob}\",\
             \"blob_hash\":\"sha256:{hash}\"}}",
            post.round
        );
        let request = request("POST", "/place/v1/relay/send", Some(&token), &body);
        if let Some(sent) = post.sent.borrow_mut().get_mut(n) {
            *sent = Some(Instant::now());
        }
        write(&mut stream, &request).await;
        let end = answer(&mut stream, &mut buffer).await;
        buffer.drain(..end);
    }
}

/// A stream of events that has begun.
pub(super) async fn listen(server: SocketAddr, token: &str) -> TcpStream {
    let mut stream = connect(server).await;
    let events = request("GET", "/place/v1/relay/events", Some(token), "");
    write(&mut stream, &events).await;
    let mut heard = Vec::new();
    while !contains(&heard, b": listening") {
        let read = stream.read_buf(&mut heard).await;
        assert!(read.is_ok_and(|read| read > 0), "no events");
    }
    stream
}

async fn hear(mut events: TcpStream, mail: Rc<Notify>) {
    let mut heard = [0; 4096];
    while let Ok(1..) = events.read(&mut heard).await {
        mail.notify_one();
    }
}

async fn fetch(post: Rc<Post>, token: String, mail: Rc<Notify>) {
    let path = format!("/place/v1/relay/receive?limit={FETCHED}");
    let request = request("GET", &path, Some(&token), "");
    let mut stream = connect(post.server).await;
    let mut buffer = Vec::new();
    let prefix = format!("\"id\":\"m-{}-", post.round);
    loop {
        mail.notified().await;
        loop {
            write(&mut stream, &request).await;
            let end = answer(&mut stream, &mut buffer).await;
            let now = Instant::now();
            let head = find_head(&buffer).expect("a head");
            let body = buffer.get(head..end).unwrap_or_default();
            let text = std::str::from_utf8(body).expect("JSON is text");
            let mut count = 0;
            for (at, _) in text.match_indices(&prefix) {
                let number = text.get(at + prefix.len()..).unwrap_or_default();
                let number = number.split('"').next().expect("a number");
                post.received(number.parse().expect("a number"), now);
                count += 1;
            }
            buffer.drain(..end);
            if count < FETCHED {
                break;
            }
        }
    }
}

impl Post {
    fn received(&self, n: usize, now: Instant) {
        let sent = self.sent.borrow_mut().get_mut(n).and_then(Option::take);
        let sent = sent.expect("each message is received once");
        let mut late = self.late.borrow_mut();
        late.push(now.duration_since(sent));
        if late.len() == MESSAGES {
            self.all.notify_one();
        }
    }
}

fn contains(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len()).any(|part| part == word)
}
