//! What a node counts from its start on.

/// See the fields.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures {
    /// Connections that others opened.
    pub opened_in: u64,
    /// Connections that we opened.
    pub opened_out: u64,
    /// Dials of ours that led to no connection.
    pub dials_failed: u64,
    /// Connections of others that were not taken, or closed at once.
    pub connections_refused: ConnectionsRefused,
    /// Records of others that were stored, each time one was newer.
    pub records_stored: u64,
    /// Records of others that were not.
    pub records_refused: RecordsRefused,
    /// Requests of peers for meetings.
    pub meetings: u64,
    /// Requests of peers for records.
    pub records_asked: u64,
    /// Requests of peers that nobody took in time.
    pub requests_lost: u64,
    /// Connections of others that this node passes on.
    pub circuits: u64,
    /// Those that it did not, and places for them.
    pub circuits_refused: u64,
    /// Connections through relays that became direct ones.
    pub punched: u64,
    /// Those that did not.
    pub punches_failed: u64,
    /// Bytes of requests and answers that came.
    pub bytes_in: u64,
    /// Bytes of requests and answers that went.
    pub bytes_out: u64,
}

/// By reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ConnectionsRefused {
    /// There are as many as may be, of all or of one peer.
    pub bound: u64,
    /// The process uses as much memory as it may.
    pub memory: u64,
    /// There are as many as may be from one address.
    pub address: u64,
}

/// By reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RecordsRefused {
    /// A peer left as many in this minute as it may.
    pub share: u64,
    /// They are not what may be stored.
    pub unfit: u64,
    /// There is no room for more.
    pub room: u64,
}

impl RecordsRefused {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.share + self.unfit + self.room
    }
}

impl Figures {
    pub(crate) fn came(&mut self, bytes: &[u8]) {
        self.bytes_in += bytes.len() as u64;
    }

    pub(crate) fn sent(&mut self, bytes: &[u8]) {
        self.bytes_out += bytes.len() as u64;
    }
}
