//! The bounds of a node in the network.

use std::time::Duration;

/// See the fields.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections from others.
    pub incoming: u32,
    /// Connections to others.
    pub outgoing: u32,
    /// Connections that are being opened, in each direction.
    pub pending: u32,
    /// Connections of one peer.
    pub per_peer: u32,
    /// Connections from one address of a machine. Through a relay all come from the relay's.
    pub per_address: u32,
    /// Bytes of memory the whole process may use and still open or take connections, if there is such a bound.
    pub memory: Option<usize>,
    /// Streams of one connection.
    pub streams: usize,
    /// A connection on which nothing happens is closed after this.
    pub idle: Duration,
    /// Opening a connection, in either direction, may take so long.
    pub connect: Duration,
    /// Connections of others that are passed on at once.
    pub circuits: usize,
    /// Bytes that are passed on for one of them, in each direction.
    pub circuit_bytes: u64,
    /// Records of others that are kept.
    pub records: usize,
    /// Bytes of one record.
    pub record: usize,
    /// Records that one peer may leave in a minute.
    pub records_per_minute: u32,
    /// Requests of peers that are answered at once, of each protocol and on each connection.
    pub requests: usize,
    /// Bytes of a request.
    pub request: usize,
    /// Bytes of an answer, where that is a meeting's; see [`record`](Self::record) for the others.
    pub answer: usize,
    /// Time of one exchange of messages.
    pub exchange: Duration,
    /// Time of one lookup.
    pub lookup: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            incoming: 128,
            outgoing: 64,
            pending: 32,
            per_peer: 4,
            per_address: 32,
            memory: None,
            streams: 64,
            idle: Duration::from_secs(120),
            connect: Duration::from_secs(10),
            circuits: 16,
            circuit_bytes: 16 << 20,
            records: 2_048,
            record: 12 * 1024,
            records_per_minute: 60,
            requests: 8,
            request: 256 * 1024,
            answer: 9 << 20,
            exchange: Duration::from_secs(60),
            lookup: Duration::from_secs(10),
        }
    }
}
