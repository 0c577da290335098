//! A server that answers as a test tells it to.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::Value;

/// A scripted HTTP server on a free loopback port, until it is dropped.
#[derive(Debug)]
pub struct Stranger {
    address: SocketAddr,
    stopped: Arc<AtomicBool>,
}

/// A request it got, and the way to answer.
#[derive(Debug)]
pub struct Asked {
    /// `GET /meeting/v1/introduce`.
    pub what: String,
    /// The session it speaks for, if it has one.
    pub token: Option<String>,
    /// The body, if it is JSON.
    pub body: Value,
    /// The connection; it is closed once the script returns.
    pub stream: TcpStream,
}

impl Stranger {
    /// Starts one; each request is answered by `script` on a thread of its own.
    pub fn start(script: impl Fn(Asked) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("a listener has an address");
        let stopped = Arc::new(AtomicBool::new(false));
        let (stop, script) = (Arc::clone(&stopped), Arc::new(script));
        thread::spawn(move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                let (script, Ok(stream)) = (Arc::clone(&script), stream) else {
                    continue;
                };
                thread::spawn(move || {
                    if let Some(asked) = Asked::read(stream) {
                        script(asked);
                    }
                });
            }
        });
        Self { address, stopped }
    }

    /// Returns where it is.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
    }
}

impl Asked {
    fn read(stream: TcpStream) -> Option<Self> {
        let mut reader = BufReader::new(stream.try_clone().ok()?);
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let what = line.rsplit_once(' ')?.0.to_owned();
        let (mut length, mut token) = (0, None);
        loop {
            line.clear();
            reader.read_line(&mut line).ok()?;
            let Some((name, value)) = line.split_once(':') else {
                break;
            };
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse().ok()?;
            }
            if name.eq_ignore_ascii_case("authorization") {
                token = value.trim().strip_prefix("Bearer ").map(str::to_owned);
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        let body = serde_json::from_slice(&body).unwrap_or_default();
        Some(Self {
            what,
            token,
            body,
            stream,
        })
    }

    /// Sends bytes as they are; whether the other side still takes them.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).is_ok()
    }

    /// Answers with a status and a body.
    pub fn answer(mut self, status: u16, body: impl AsRef<[u8]>) {
        let body = body.as_ref();
        self.send(format!(
            "HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            body.len()
        ));
        self.send(body);
    }

    /// Answers with a JSON value.
    pub fn json(self, value: &Value) {
        self.answer(200, value.to_string());
    }

    /// Says nothing more until the other side gives up.
    pub fn wait(mut self) {
        let _ = self.stream.read(&mut [0]);
    }
}
