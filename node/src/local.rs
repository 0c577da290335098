//! Asking a server on this machine, for commands that run beside it.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

use crate::serving::ServerAt;
use crate::serving::at::connect;

/// Most bytes of an answer.
const ANSWER_MAX: u64 = 16 * 1024 * 1024;

/// What is asked.
#[derive(Debug, Clone)]
pub struct Ask {
    /// `GET` or `POST`.
    pub method: &'static str,
    /// With its query.
    pub path: String,
    /// A bearer token, if one is needed.
    pub token: Option<String>,
    /// What is posted.
    pub body: Option<Value>,
    /// How long to wait for each part of the answer.
    pub patience: Duration,
}

impl Ask {
    /// A question that needs no token.
    pub fn get(path: impl Into<String>, patience: Duration) -> Self {
        Self {
            method: "GET",
            path: path.into(),
            token: None,
            body: None,
            patience,
        }
    }

    /// The status and the JSON that the server at `at` answers. Blocks.
    pub fn send(&self, at: &ServerAt) -> io::Result<(u16, Value)> {
        let patience = Some(self.patience);
        match at {
            ServerAt::Port(address) => {
                let stream = TcpStream::connect_timeout(address, self.patience)?;
                stream.set_read_timeout(patience)?;
                stream.set_write_timeout(patience)?;
                self.exchange(stream, &address.to_string())
            }
            ServerAt::Socket(path) => {
                let stream = connect(path)?;
                stream.set_read_timeout(patience)?;
                stream.set_write_timeout(patience)?;
                self.exchange(stream, "localhost")
            }
        }
    }

    fn exchange(&self, mut stream: impl Read + Write, host: &str) -> io::Result<(u16, Value)> {
        // Version 1.0, so that the answer ends with the connection and comes in one piece.
        let mut head = format!(
            "{} {} HTTP/1.0\r\nHost: {host}\r\nConnection: close\r\n",
            self.method, self.path
        );
        if let Some(token) = &self.token {
            head.push_str(&format!("Authorization: Bearer {token}\r\n"));
        }
        let body = self.body.as_ref().map(Value::to_string);
        let body = body.unwrap_or_default();
        // In this version a body without a length ends with the connection, which waits for the answer.
        head.push_str(&format!("Content-Length: {}\r\n\r\n{body}", body.len()));
        stream.write_all(head.as_bytes())?;
        let mut answer = Vec::new();
        stream.take(ANSWER_MAX).read_to_end(&mut answer)?;
        let split = answer.windows(4).position(|window| window == b"\r\n\r\n");
        let split = split.ok_or(ErrorKind::InvalidData)?;
        let head = String::from_utf8_lossy(answer.get(..split).unwrap_or_default());
        let status = head
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok());
        let body = answer.get(split + 4..).unwrap_or_default();
        Ok((
            status.ok_or(ErrorKind::InvalidData)?,
            serde_json::from_slice(body)?,
        ))
    }
}
