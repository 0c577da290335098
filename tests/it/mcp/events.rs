//! A stream of events, read as it comes.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::TcpStream;

use serde_json::Value;

/// One event; what a server sends first has no message.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Event {
    pub(super) id: Option<String>,
    pub(super) retry: Option<u64>,
    pub(super) message: Option<Value>,
}

/// The events of one answer.
pub(super) struct Events {
    stream: BufReader<TcpStream>,
    /// What there is of the next one.
    begun: String,
}

impl Events {
    /// Reads the head of an answer that must be a stream of events.
    pub(super) fn of(stream: TcpStream) -> Self {
        let mut stream = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert_ne!(stream.read_line(&mut head).unwrap(), 0, "{head}");
        }
        let head = head.to_lowercase();
        assert!(head.starts_with("http/1.1 200"), "{head}");
        assert!(head.contains("content-type: text/event-stream"), "{head}");
        assert!(head.contains("transfer-encoding: chunked"), "{head}");
        Self {
            stream,
            begun: String::new(),
        }
    }

    /// The next event, comments left out; nothing where the stream has ended.
    pub(super) fn next(&mut self) -> Option<Event> {
        loop {
            if let Some((event, rest)) = self.begun.split_once("\n\n") {
                let event = parse(event);
                self.begun = rest.to_owned();
                if event.id.is_some() || event.message.is_some() {
                    return Some(event);
                }
                continue;
            }
            let mut size = String::new();
            if self.stream.read_line(&mut size).unwrap() == 0 {
                return None;
            }
            let size = usize::from_str_radix(size.trim(), 16).unwrap();
            let mut chunk = vec![0; size + 2];
            self.stream.read_exact(&mut chunk).unwrap();
            chunk.truncate(size);
            if size == 0 {
                return None;
            }
            self.begun.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    /// The next event that has a message.
    pub(super) fn message(&mut self) -> Value {
        loop {
            let event = self.next().expect("there is one more message");
            if let Some(message) = event.message {
                return message;
            }
        }
    }
}

fn parse(event: &str) -> Event {
    let field = |name: &str| {
        let line = event.lines().find_map(|line| line.strip_prefix(name))?;
        Some(line.strip_prefix(' ').unwrap_or(line).to_owned())
    };
    let data = field("data:").filter(|data| !data.is_empty());
    Event {
        id: field("id:"),
        retry: field("retry:").map(|retry| retry.parse().unwrap()),
        message: data.map(|data| serde_json::from_str(&data).unwrap()),
    }
}
