//! Peers that are reached without HTTP: by the name of their node in the libp2p network.
//!
//! Only the server has a node. A command beside it has its requests carried by the server's.

use std::sync::{Arc, OnceLock};

use futures::future::BoxFuture;
use kairos_p2p::{PeerName, Way};
use kairos_protocol::record::Record;
use kairos_protocol::wire::carried::{AskHead, ToldHead, Verb, message};
use serde_json::{Map, Value};

use super::{Answer, ClientError, PeerClient, PeerUrl};

/// What was carried back.
#[derive(Debug)]
pub struct Carried {
    /// As [`ToldHead`] reads it.
    pub message: Vec<u8>,
    /// How it came.
    pub way: Way,
}

/// Carries requests to nodes.
pub trait Carrier: Send + Sync {
    /// Takes `message` to `peer` and brings its answer. What goes wrong is told in words.
    fn carry(
        &self,
        peer: PeerName,
        message: Vec<u8>,
    ) -> BoxFuture<'static, Result<Carried, String>>;

    /// The record in which `peer` says whose node it is, its signatures checked, and that it is the one of `peer`; and how
    /// it came.
    fn record(&self, peer: PeerName) -> BoxFuture<'static, Result<(Record, Way), String>>;
}

/// Who carries, once there is somebody. Cheap to clone; all clones know the same one.
#[derive(Clone, Default)]
pub struct Carriage(Arc<OnceLock<Arc<dyn Carrier>>>);

impl std::fmt::Debug for Carriage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Carriage")
            .field("is_there", &self.0.get().is_some())
            .finish()
    }
}

impl Carriage {
    /// Says who carries. The first one does, for as long as the process lives.
    pub fn begin(&self, carrier: Arc<dyn Carrier>) {
        if self.0.set(carrier).is_err() {
            tracing::warn!("there is a libp2p node already");
        }
    }

    fn carrier(&self) -> Result<&Arc<dyn Carrier>, ClientError> {
        self.0.get().ok_or(ClientError::NoNode)
    }

    /// See [`Carrier::record`].
    pub(crate) async fn record(&self, peer: PeerName) -> Result<(Record, Way), ClientError> {
        let record = self.carrier()?.record(peer).await;
        record.map_err(|reason| unreachable(peer, reason))
    }
}

fn unreachable(peer: PeerName, reason: String) -> ClientError {
    ClientError::Unreachable {
        url: PeerUrl::of_node(peer).to_string(),
        reason,
    }
}

/// A request that is carried.
pub(super) struct Parcel<'a> {
    pub(super) verb: Verb,
    pub(super) path: &'a str,
    pub(super) query: &'a [(&'a str, &'a str)],
    pub(super) token: Option<&'a str>,
    pub(super) body: Option<&'a Value>,
}

impl PeerClient {
    /// Has a request carried to `peer`, within the same bounds as over HTTP.
    pub(super) async fn carried(
        &self,
        peer: PeerName,
        parcel: Parcel<'_>,
        answer: Answer,
    ) -> Result<Map<String, Value>, ClientError> {
        let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let head = AskHead {
            verb: parcel.verb,
            path: parcel.path.to_owned(),
            query: parcel.query.iter().map(pair).collect(),
            session: parcel.token.map(str::to_owned),
        };
        let body = parcel.body.map(Value::to_string).unwrap_or_default();
        let sent = message(&head, body.as_bytes());
        let sent = sent.map_err(|error| unreachable(peer, error.to_string()))?;
        let carried = self.carriage.carrier()?.carry(peer, sent);
        let after = self.limits.total_timeout;
        let carried = tokio::time::timeout(after, carried).await;
        let carried = carried.map_err(|_| ClientError::Timeout { after })?;
        let carried = carried.map_err(|reason| unreachable(peer, reason))?;
        let (head, body) = ToldHead::read(&carried.message).map_err(|error| {
            let (status, detail) = (0, error.to_string());
            ClientError::NotJson { status, detail }
        })?;
        let limit = self.limit(answer, (200..300).contains(&head.status));
        if body.len() > limit {
            return Err(ClientError::TooLarge { limit });
        }
        let wait = head.retry_after.map(std::time::Duration::from_secs);
        let status = reqwest::StatusCode::from_u16(head.status).map_err(|error| {
            let (status, detail) = (head.status, error.to_string());
            ClientError::NotJson { status, detail }
        })?;
        super::understand(status, body, wait)
    }
}
