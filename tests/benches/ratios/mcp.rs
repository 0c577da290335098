//! What language models ask, over standard input and output and over HTTP, against the SDK's own server with one tool
//! that answers what it was given.

use std::cell::RefCell;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout};
use std::rc::Rc;
use std::time::{Duration, Instant};

use kairos_tests::{Call, Home};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::task::LocalSet;

use crate::echo::{self, OverHttp};
use crate::http::{ROUNDS, WORKERS, unlimited};
use crate::load::{answer, runtime};
use crate::table::{Aim, Row, median};

/// Entries of knowledge of the agent.
const ENTRIES: usize = 20;
/// Starts of each program.
const STARTS: usize = 10;
/// Requests of one measurement, after a tenth as many to warm up.
const REQUESTS: usize = 2_000;
/// Connections over HTTP, each with one request at a time.
const CONNECTIONS: usize = 8;
/// What tools that only read are held to, against a tool that does nothing.
const READING: Aim = Aim::AtLeast(0.5);

pub(crate) fn run() -> Vec<Row> {
    let home = Home::initialized();
    for n in 0..ENTRIES {
        let text = format!(
            "---\nname: note_{n}\ndescription: What note {n} is about, in one line\ntags: [note, bench]\n---\n\n{}\n",
            "A sentence of ordinary length about nothing in particular. ".repeat(40)
        );
        home.skill(&format!("note_{n}"), &text);
    }
    let mut rows = vec![starting(&home)];
    rows.extend(over_stdio(&home));
    rows.extend(over_http(&home));
    rows
}

/// What is asked, by name, and what is hoped of it.
fn asked() -> [(&'static str, Value, Aim); 5] {
    let tool = |name: &str, arguments: Value| json!({"name": name, "arguments": arguments});
    [
        ("tools/list", json!({}), Aim::Open),
        ("chain_status", tool("chain_status", json!({})), READING),
        ("knowledge_list", tool("knowledge_list", json!({})), READING),
        (
            "search",
            tool("search", json!({"query": "ordinary length"})),
            READING,
        ),
        (
            "chain_record",
            tool("chain_record", json!({"logs": ["a line of a benchmark"]})),
            // It is on disk before it is answered.
            Aim::Open,
        ),
    ]
}

fn echo() -> Value {
    json!({"name": "echo", "arguments": {"text": "a line of a benchmark"}})
}

fn method(name: &str) -> &str {
    match name.contains('/') {
        true => name,
        false => "tools/call",
    }
}

/// One measurement.
#[derive(Debug, Clone, Copy)]
struct Pace {
    /// Requests a second.
    rate: f64,
    /// The time that 99 of 100 took at most, in microseconds.
    p99: f64,
}

impl Pace {
    fn of(mut times: Vec<Duration>, took: Duration) -> Self {
        times.sort_unstable();
        let at = times.len() * 99 / 100;
        let p99 = times.get(at).or(times.last()).copied().unwrap_or_default();
        Self {
            rate: times.len() as f64 / took.as_secs_f64(),
            p99: p99.as_secs_f64() * 1e6,
        }
    }
}

fn row(what: String, aim: Aim, rounds: &[(Pace, Pace)]) -> Row {
    let (ratio, least, most) = median(rounds.iter().map(|(ours, echo)| ours.rate / echo.rate));
    let middle = |of: fn(&(Pace, Pace)) -> f64| median(rounds.iter().map(of)).0;
    Row {
        what,
        ours: format!("{:.0}/s", middle(|(ours, _)| ours.rate)),
        baseline: format!("{:.0}/s", middle(|(_, echo)| echo.rate)),
        ratio,
        aim,
        note: format!(
            "{least:.2}..{most:.2}, p99 {:.0} us against {:.0}",
            middle(|(ours, _)| ours.p99),
            middle(|(_, echo)| echo.p99)
        ),
    }
}

/// From the start of the program to the answer to its first request.
fn starting(home: &Home) -> Row {
    let time = |start: &dyn Fn() -> Child| {
        let began = Instant::now();
        let client = Client::of(start());
        let took = began.elapsed();
        client.end();
        took.as_secs_f64() * 1e3
    };
    let pairs: Vec<_> = (0..STARTS)
        .map(|_| (time(&|| ours(home)), time(&echo::over_stdio)))
        .collect();
    let (middle, least, most) = median(pairs.iter().map(|(ours, _)| *ours));
    let (bare, ..) = median(pairs.iter().map(|(_, echo)| *echo));
    Row {
        what: "mcp stdio: start to first answer".to_owned(),
        ours: format!("{middle:.1} ms"),
        baseline: "60 ms".to_owned(),
        ratio: middle / 60.0,
        aim: Aim::AtMost(1.0),
        note: format!("{least:.1}..{most:.1}, the SDK alone {bare:.1} ms"),
    }
}

fn ours(home: &Home) -> Child {
    Call::new(["mcp", "serve"]).home(home).converse()
}

fn over_stdio(home: &Home) -> Vec<Row> {
    let (mut node, mut bare) = (Client::of(ours(home)), Client::of(echo::over_stdio()));
    let mut measure = |name: &str, params: &Value| {
        node.pace(method(name), params, REQUESTS / 10);
        bare.pace("tools/call", &echo(), REQUESTS / 10);
        let round = |_| {
            (
                node.pace(method(name), params, REQUESTS),
                bare.pace("tools/call", &echo(), REQUESTS),
            )
        };
        (0..ROUNDS).map(round).collect::<Vec<_>>()
    };
    let rows = asked()
        .into_iter()
        .map(|(name, params, aim)| row(format!("mcp stdio: {name}"), aim, &measure(name, &params)))
        .collect();
    node.end();
    bare.end();
    rows
}

/// A program that serves over standard input and output, with whom hands were shaken.
struct Client {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    line: String,
}

impl Client {
    fn of(mut child: Child) -> Self {
        let input = child.stdin.take().expect("standard input is a pipe");
        let output = child.stdout.take().expect("standard output is a pipe");
        let mut client = Self {
            child,
            input,
            output: BufReader::new(output),
            line: String::new(),
        };
        let hello = json!({
            "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "bench", "version": "1"},
        });
        client.ask(&message("initialize", &hello));
        let told = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
        client
            .input
            .write_all(format!("{told}\n").as_bytes())
            .expect("it reads");
        client
    }

    fn ask(&mut self, line: &str) {
        self.input.write_all(line.as_bytes()).expect("it reads");
        self.line.clear();
        self.output.read_line(&mut self.line).expect("it answers");
        succeeded(&self.line);
    }

    fn pace(&mut self, method: &str, params: &Value, count: usize) -> Pace {
        let line = message(method, params);
        let began = Instant::now();
        let times = (0..count).map(|_| {
            let began = Instant::now();
            self.ask(&line);
            began.elapsed()
        });
        let times = times.collect();
        Pace::of(times, began.elapsed())
    }

    fn end(self) {
        let Self {
            mut child, input, ..
        } = self;
        drop(input);
        child.wait().expect("it ends with its input");
    }
}

/// A request as a line.
fn message(method: &str, params: &Value) -> String {
    let request = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
    format!("{request}\n")
}

/// Stops a benchmark that measures failures.
fn succeeded(answer: &str) {
    let good = answer.contains("\"result\":") && !answer.contains("\"isError\":true");
    assert!(good, "{answer}");
}

fn over_http(home: &Home) -> Vec<Row> {
    let args = ["token", "create", "--user", "bench", "--role", "owner"];
    let token = home.run(args).done().trim().to_owned();
    let node = unlimited(home).start();
    let bare = OverHttp::start(WORKERS);
    let echo = post(None, "tools/call", &echo());
    let measure = |(name, params, aim): (&str, Value, Aim)| {
        let request = post(Some(&token), method(name), &params);
        let round = |count| {
            (
                pace(node.address(), &request, count),
                pace(bare.address, &echo, count),
            )
        };
        round(REQUESTS / 10);
        let rounds: Vec<_> = (0..ROUNDS).map(|_| round(REQUESTS)).collect();
        row(format!("mcp http: {name}"), aim, &rounds)
    };
    let rows = asked().into_iter().map(measure).collect();
    node.stop();
    rows
}

/// A request of the stateless era.
fn post(token: Option<&str>, method: &str, params: &Value) -> Vec<u8> {
    let mut params = params.clone();
    let name = params.get("name").and_then(Value::as_str);
    let name = name.map(|name| format!("Mcp-Name: {name}\r\n"));
    if let Some(members) = params.as_object_mut() {
        let meta = json!({
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientInfo": {"name": "bench", "version": "1"},
            "io.modelcontextprotocol/clientCapabilities": {},
        });
        members.insert("_meta".to_owned(), meta);
    }
    let body = message(method, &params);
    let token = token.map(|token| format!("Authorization: Bearer {token}\r\n"));
    let head = format!(
        "POST /mcp HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n\
         Accept: application/json, text/event-stream\r\nMCP-Protocol-Version: 2026-07-28\r\nMcp-Method: {method}\r\n\
         {}{}Content-Length: {}\r\n\r\n",
        name.unwrap_or_default(),
        token.unwrap_or_default(),
        body.len()
    );
    [head.as_bytes(), body.as_bytes()].concat()
}

/// Sends `request` `count` times, one at a time on each connection, from one thread.
fn pace(server: SocketAddr, request: &[u8], count: usize) -> Pace {
    let times = Rc::new(RefCell::new(Vec::with_capacity(count)));
    let tasks = LocalSet::new();
    let all = async {
        let mut workers = Vec::new();
        for _ in 0..CONNECTIONS {
            let stream = TcpStream::connect(server).await.expect("it listens");
            stream.set_nodelay(true).expect("a socket");
            workers.push(stream);
        }
        let began = Instant::now();
        let workers: Vec<_> = workers
            .into_iter()
            .map(|stream| {
                let work = send(
                    stream,
                    request.to_vec(),
                    count / CONNECTIONS,
                    Rc::clone(&times),
                );
                tokio::task::spawn_local(work)
            })
            .collect();
        for worker in workers {
            worker.await.expect("every request is answered");
        }
        began.elapsed()
    };
    let took = tasks.block_on(&runtime(), all);
    Pace::of(times.take(), took)
}

async fn send(
    mut stream: TcpStream,
    request: Vec<u8>,
    count: usize,
    times: Rc<RefCell<Vec<Duration>>>,
) {
    let mut buffer = Vec::with_capacity(64 * 1024);
    for n in 0..count {
        let began = Instant::now();
        stream.write_all(&request).await.expect("it takes requests");
        let end = answer(&mut stream, &mut buffer).await;
        times.borrow_mut().push(began.elapsed());
        if n == 0 {
            let text = buffer.get(..end).unwrap_or_default();
            succeeded(&String::from_utf8_lossy(text));
        }
        buffer.drain(..end);
    }
}
