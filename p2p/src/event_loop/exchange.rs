//! The part of the loop that exchanges requests and answers with peers.

use futures::FutureExt as _;
use libp2p::PeerId;
use libp2p::request_response::{self, ResponseChannel};
use libp2p::swarm::ConnectionId;

use super::{EventLoop, ip, tell};
use crate::codec::Frames;
use crate::key::PeerName;
use crate::network::{Counts, Event, NetworkError, Protocol, Reply, Request};

/// An answer for a peer, or none.
pub(super) struct Made {
    protocol: Protocol,
    channel: ResponseChannel<Vec<u8>>,
    bytes: Option<Vec<u8>>,
}

impl EventLoop {
    pub(super) fn exchange(
        &mut self,
        protocol: Protocol,
    ) -> &mut request_response::Behaviour<Frames> {
        match protocol {
            Protocol::Meeting => &mut self.swarm.behaviour_mut().meetings,
            Protocol::Records => &mut self.swarm.behaviour_mut().records,
        }
    }

    pub(super) fn exchanged(
        &mut self,
        protocol: Protocol,
        event: request_response::Event<Vec<u8>, Vec<u8>>,
    ) {
        use request_response::{Event as Exchange, Message};
        match event {
            Exchange::Message {
                peer,
                connection_id,
                message:
                    Message::Request {
                        request, channel, ..
                    },
            } => self.hand_over(protocol, peer, connection_id, request, channel),
            Exchange::Message {
                connection_id,
                message:
                    Message::Response {
                        request_id,
                        response,
                    },
                ..
            } => {
                let way = self.way(connection_id);
                if let Some(answer) = self.asks.remove(&(protocol, request_id)) {
                    let bytes = response;
                    tell(answer, Ok(Reply { bytes, way }));
                }
            }
            Exchange::OutboundFailure {
                peer,
                request_id,
                error,
                ..
            } => {
                if let Some(answer) = self.asks.remove(&(protocol, request_id)) {
                    let (peer, reason) = (PeerName(peer), error.to_string());
                    tell(answer, Err(NetworkError::NoAnswer { peer, reason }));
                }
            }
            Exchange::InboundFailure { peer, error, .. } => {
                tracing::debug!(peer.id = %peer, %error, "a peer got no answer");
            }
            Exchange::ResponseSent { .. } => {}
        }
    }

    /// Hands a peer's request to whoever reads the events, and waits for the answer beside everything else.
    fn hand_over(
        &mut self,
        protocol: Protocol,
        peer: PeerId,
        connection: ConnectionId,
        bytes: Vec<u8>,
        channel: ResponseChannel<Vec<u8>>,
    ) {
        let (answer, told) = tokio::sync::oneshot::channel();
        let open = self.open.get(&connection);
        let request = Request {
            peer: PeerName(peer),
            address: open.and_then(|open| ip(open.endpoint.get_remote_address())),
            way: self.way(connection),
            protocol,
            bytes,
            answer,
        };
        if self.events.try_send(Event::Request(request)).is_err() {
            // Dropping the channel ends the peer's stream.
            Counts::add(&self.counts.lost);
            return;
        }
        let made = told.map(move |told| Made {
            protocol,
            channel,
            bytes: told.ok(),
        });
        self.answering.push(made.boxed());
    }

    pub(super) fn answer(&mut self, made: Made) {
        let Made {
            protocol,
            channel,
            bytes,
        } = made;
        let Some(bytes) = bytes else { return };
        if self
            .exchange(protocol)
            .send_response(channel, bytes)
            .is_err()
        {
            tracing::debug!("a peer went before it had its answer");
        }
    }
}
