//! HTTP as a stranger may speak it: one request per connection, written byte for byte.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

use crate::TestNode;

/// Longer than any answer takes, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A request about to be sent: `Request::post(path).token(&token).json(&body).send(&node)`.
#[derive(Debug, Clone)]
pub struct Request {
    line: String,
    headers: String,
    body: Vec<u8>,
}

/// What came back.
#[derive(Debug, Clone)]
pub struct Reply {
    /// HTTP status; 0 where the connection was closed without an answer.
    pub status: u16,
    /// The header lines, lower case.
    pub headers: String,
    /// The body.
    pub body: Vec<u8>,
}

impl Request {
    /// Prepares any request.
    pub fn new(method: &str, path: &str) -> Self {
        Self {
            line: format!("{method} {path} HTTP/1.1\r\n"),
            headers: "host: localhost\r\nconnection: close\r\n".to_owned(),
            body: Vec::new(),
        }
    }

    /// Prepares a GET.
    pub fn get(path: &str) -> Self {
        Self::new("GET", path)
    }

    /// Prepares a POST.
    pub fn post(path: &str) -> Self {
        Self::new("POST", path)
    }

    /// Adds a header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push_str(&format!("{name}: {value}\r\n"));
        self
    }

    /// Speaks for a session.
    pub fn token(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    /// Sends `value` as the body.
    pub fn json(self, value: &Value) -> Self {
        self.body(value.to_string())
    }

    /// Sends `bytes` as the body.
    pub fn body(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.body = bytes.into();
        self
    }

    /// Sends it and waits for the whole answer.
    pub fn send(self, node: &TestNode) -> Reply {
        self.try_send(node).expect("the node accepts connections")
    }

    /// The same with a node that may be gone: nothing if it does not accept the connection.
    pub fn try_send(self, node: &TestNode) -> Option<Reply> {
        self.send_to(node.address())
    }

    /// The same with whoever is there.
    pub fn send_to(self, address: SocketAddr) -> Option<Reply> {
        let length = self.body.len().to_string();
        let mut stream = try_connect(address)?;
        self.header("content-length", &length).write(&mut stream);
        Some(finish(&mut stream))
    }

    /// Sends what there is, the body as well, and leaves the connection open.
    pub fn begin(self, node: &TestNode) -> TcpStream {
        let mut stream = connect(node.address());
        self.write(&mut stream);
        stream
    }

    fn write(&self, stream: &mut TcpStream) {
        let head = format!("{}{}\r\n", self.line, self.headers);
        // A server that has read enough answers and closes while we still write.
        let _ = stream
            .write_all(head.as_bytes())
            .and_then(|()| stream.write_all(&self.body));
    }
}

/// Opens a connection on which reads and writes do not wait for ever.
pub fn connect(address: SocketAddr) -> TcpStream {
    try_connect(address).expect("the node accepts connections")
}

fn try_connect(address: SocketAddr) -> Option<TcpStream> {
    let stream = TcpStream::connect(address).ok()?;
    stream
        .set_read_timeout(Some(PATIENCE))
        .and_then(|()| stream.set_write_timeout(Some(PATIENCE)))
        .expect("a socket takes timeouts");
    Some(stream)
}

/// Reads to the end what a server answers.
pub fn finish(stream: &mut TcpStream) -> Reply {
    let mut bytes = Vec::new();
    // A connection that is reset after the answer has still given the answer.
    let _ = stream.read_to_end(&mut bytes);
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
    let (head, body) = match end {
        Some(end) => (
            bytes.get(..end).unwrap_or_default(),
            bytes.get(end + 4..).unwrap_or_default(),
        ),
        None => (bytes.as_slice(), [].as_slice()),
    };
    let head = String::from_utf8_lossy(head).to_lowercase();
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok());
    Reply {
        status: status.unwrap_or(0),
        headers: head,
        body: body.to_vec(),
    }
}

impl Reply {
    /// Returns the body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Returns the body read as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        let text = self.text();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text:?}"))
    }

    /// Returns the body of a success.
    #[track_caller]
    pub fn ok(&self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text());
        self.json()
    }

    /// Returns the sentence of a refusal, which must have this status and code, the one shape of errors, and no
    /// path of the machine in it.
    #[track_caller]
    pub fn refused(&self, status: u16, code: &str) -> String {
        assert_eq!(self.status, status, "{}", self.text());
        assert!(
            self.headers.contains("content-type: application/json"),
            "{}",
            self.headers
        );
        let body = self.json();
        let members: Vec<_> = body
            .as_object()
            .into_iter()
            .flat_map(|o| o.keys())
            .collect();
        assert_eq!(members, ["error", "message"], "{body}");
        assert_eq!(body.get("error"), Some(&Value::from(code)), "{body}");
        let message = body.get("message").and_then(Value::as_str);
        let message = message.expect("a refusal has a sentence").to_owned();
        let leaks = ["kairos-test-", "/tmp", ".kairos", "storage/", ".rs:"];
        assert!(
            !leaks.iter().any(|leak| message.contains(leak)),
            "{message}"
        );
        message
    }
}
