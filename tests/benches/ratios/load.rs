//! A fixed number of requests over a fixed number of kept connections, from one thread.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::LocalSet;

use crate::process::cpu_time;

/// Connections kept open; few enough that no server refuses one.
const CONNECTIONS: usize = 32;
/// Longest a round may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// What one round came to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Round {
    /// Requests a second.
    pub(crate) rate: f64,
    /// CPU time of the server for one request, in microseconds.
    pub(crate) cpu_micros: f64,
}

/// Returns the bytes of a request.
pub(crate) fn request(method: &str, path: &str, token: Option<&str>, body: &str) -> Vec<u8> {
    let authorization = token.map(|token| format!("Authorization: Bearer {token}\r\n"));
    let content = match body.len() {
        0 => String::new(),
        length => format!("Content-Type: application/json\r\nContent-Length: {length}\r\n"),
    };
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{}{content}\r\n",
        authorization.unwrap_or_default()
    );
    [head.as_bytes(), body.as_bytes()].concat()
}

/// Sends `request` `count` times to the server with that process id, on each connection so many at a time. Panics at
/// an answer that is no success.
pub(crate) fn round(
    server: SocketAddr,
    pid: u32,
    request: &[u8],
    count: usize,
    at_a_time: usize,
) -> Round {
    let load = Rc::new(Load {
        requests: request.repeat(at_a_time),
        length: request.len(),
        left: Cell::new(count),
    });
    measured(server, pid, count, |stream| send(stream, Rc::clone(&load)))
}

/// Sends each of `requests` once, one at a time on each connection. Panics at an answer that is no success.
pub(crate) fn each(server: SocketAddr, pid: u32, requests: Vec<Vec<u8>>) -> Round {
    let count = requests.len();
    let left = Rc::new(RefCell::new(requests));
    measured(server, pid, count, |mut stream| {
        let left = Rc::clone(&left);
        async move {
            let mut buffer = Vec::new();
            loop {
                let next = left.borrow_mut().pop();
                let Some(request) = next else {
                    return;
                };
                let written = stream.write_all(&request).await;
                written.expect("the server takes requests");
                let end = answer(&mut stream, &mut buffer).await;
                buffer.drain(..end);
            }
        }
    })
}

/// Has `work` done on each connection at once.
fn measured<F: Future<Output = ()> + 'static>(
    server: SocketAddr,
    pid: u32,
    count: usize,
    work: impl Fn(TcpStream) -> F,
) -> Round {
    let runtime = runtime();
    let tasks = LocalSet::new();
    let all = async {
        let mut workers = Vec::new();
        for _ in 0..CONNECTIONS {
            let stream = TcpStream::connect(server)
                .await
                .expect("the server listens");
            stream.set_nodelay(true).expect("a socket");
            workers.push(work(stream));
        }
        let (began, cpu) = (Instant::now(), cpu_time(pid));
        let workers: Vec<_> = workers.into_iter().map(tokio::task::spawn_local).collect();
        for worker in workers {
            worker.await.expect("every request is answered");
        }
        (began.elapsed(), cpu_time(pid).saturating_sub(cpu))
    };
    let bounded = async {
        tokio::time::timeout(PATIENCE, all)
            .await
            .expect("a round ends in time")
    };
    let (took, cpu) = tasks.block_on(&runtime, bounded);
    let count = count as f64;
    Round {
        rate: count / took.as_secs_f64(),
        cpu_micros: cpu.as_secs_f64() * 1e6 / count,
    }
}

/// A runtime of one thread, so that the clients take no more than one core.
pub(crate) fn runtime() -> tokio::runtime::Runtime {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime")
}

/// Returns the body of the answer to one request.
pub(crate) fn once(server: SocketAddr, request: &[u8]) -> Vec<u8> {
    runtime().block_on(async {
        let mut stream = TcpStream::connect(server)
            .await
            .expect("the server listens");
        stream
            .write_all(request)
            .await
            .expect("the server takes a request");
        let mut buffer = Vec::new();
        let end = answer(&mut stream, &mut buffer).await;
        buffer.truncate(end);
        let head = find_head(&buffer).expect("a whole answer has a head");
        buffer.split_off(head)
    })
}

/// What the connections of a round share.
struct Load {
    /// As many requests as are sent at a time.
    requests: Vec<u8>,
    /// Bytes of one of them.
    length: usize,
    left: Cell<usize>,
}

async fn send(mut stream: TcpStream, load: Rc<Load>) {
    let mut buffer = Vec::with_capacity(64 * 1024);
    while load.left.get() > 0 {
        let most = load.left.get() * load.length;
        let requests = load.requests.get(..most).unwrap_or(&load.requests);
        let count = requests.len() / load.length;
        load.left.set(load.left.get() - count);
        stream
            .write_all(requests)
            .await
            .expect("the server takes requests");
        for _ in 0..count {
            let end = answer(&mut stream, &mut buffer).await;
            buffer.drain(..end);
        }
    }
}

/// Reads one answer and returns where it ends.
pub(crate) async fn answer(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> usize {
    let mut body = None;
    loop {
        if body.is_none()
            && let Some(head) = find_head(buffer)
        {
            assert!(
                buffer.starts_with(b"HTTP/1.1 20"),
                "{}",
                String::from_utf8_lossy(buffer)
            );
            body = Some(Body::of(buffer.get(..head).unwrap_or_default()));
        }
        if let Some(end) = body.as_mut().and_then(|body| body.end(buffer)) {
            return end;
        }
        let read = stream.read_buf(buffer).await.expect("the server answers");
        assert!(read > 0, "the server hung up");
    }
}

/// How the end of a body is found.
enum Body {
    /// It ends there.
    Until(usize),
    /// It comes in pieces; the next begins there.
    Chunks(usize),
}

impl Body {
    fn of(head: &[u8]) -> Self {
        match content_length(head) {
            Some(length) => Self::Until(head.len() + length),
            None => Self::Chunks(head.len()),
        }
    }

    /// Where it ends, once all of it is there.
    fn end(&mut self, buffer: &[u8]) -> Option<usize> {
        match self {
            Self::Until(end) => (*end <= buffer.len()).then_some(*end),
            Self::Chunks(next) => loop {
                let rest = buffer.get(*next..)?;
                let line = rest.windows(2).position(|two| two == b"\r\n")?;
                let size = std::str::from_utf8(rest.get(..line)?).expect("a size is text");
                let size = usize::from_str_radix(size, 16).expect("a size");
                let end = *next + line + 2 + size + 2;
                if end > buffer.len() {
                    return None;
                }
                if size == 0 {
                    return Some(end);
                }
                *next = end;
            },
        }
    }
}

pub(crate) fn find_head(buffer: &[u8]) -> Option<usize> {
    let end = buffer.windows(4).position(|four| four == b"\r\n\r\n")?;
    Some(end + 4)
}

fn content_length(head: &[u8]) -> Option<usize> {
    let head = std::str::from_utf8(head).expect("a head is text");
    let mut lines = head.lines();
    let length = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then_some(value.trim())
    });
    Some(length?.parse().expect("a number"))
}
