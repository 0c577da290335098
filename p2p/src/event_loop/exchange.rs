//! The part of the loop that exchanges requests and answers with peers.

use std::time::{Duration, Instant};

use futures::FutureExt as _;
use libp2p::PeerId;
use libp2p::request_response::{self, ResponseChannel};
use libp2p::swarm::ConnectionId;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};

use super::connections::unreachable;
use super::{ADDRESSES_MAX, EventLoop, WAITING_MAX, ip, tell};
use crate::address::Address;
use crate::codec::Frames;
use crate::key::PeerName;
use crate::network::{Answer, Event, NetworkError, Protocol, Reply, Request};

/// A request for a peer.
pub(super) struct Errand {
    pub(super) protocol: Protocol,
    pub(super) peer: PeerName,
    pub(super) bytes: Vec<u8>,
    pub(super) answer: Answer<Reply>,
}

/// How old a dial may be that a further request waits for. An older one may be stuck, as one that began while the network
/// was cut.
const YOUNG: Duration = Duration::from_millis(250);

/// A dial of ours, and the requests that wait for it.
pub(super) struct Dial {
    began: Instant,
    peer: PeerName,
    addresses: Vec<Address>,
    pub(super) errands: Vec<Errand>,
}

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

    /// Asks a peer, after it was dialled at `addresses` and where it is known to be, unless it is connected.
    ///
    /// That is not left to libp2p: it would wait for a dial that is under way already, wherever that leads, as to an address
    /// of the peer's that the table has and nobody reaches, and the request would fail with that. Only a dial of ours that
    /// leads to all of `addresses`, and has just begun, is waited for.
    pub(super) fn ask(&mut self, errand: Errand, mut addresses: Vec<Address>) {
        let waiting: usize = self.errands.values().map(|dial| dial.errands.len()).sum();
        if self.asks.len() + waiting >= WAITING_MAX {
            return tell(errand.answer, Err(NetworkError::Busy));
        }
        let peer = errand.peer;
        if self.swarm.is_connected(&peer.0) {
            return self.send_errand(errand);
        }
        addresses.truncate(ADDRESSES_MAX);
        let mut under_way = self.errands.values_mut();
        let same = under_way.find(|dial| {
            dial.peer == peer
                && dial.began.elapsed() < YOUNG
                && addresses.iter().all(|at| dial.addresses.contains(at))
        });
        if let Some(dial) = same {
            return dial.errands.push(errand);
        }
        let options = DialOpts::peer_id(peer.0)
            .condition(PeerCondition::Disconnected)
            .addresses(addresses.iter().map(|address| address.0.clone()).collect())
            .extend_addresses_through_behaviour()
            .build();
        let id = options.connection_id();
        match self.swarm.dial(options) {
            Ok(()) => {
                let dial = Dial {
                    began: Instant::now(),
                    peer,
                    addresses,
                    errands: vec![errand],
                };
                self.errands.insert(id, dial);
            }
            Err(error) => {
                self.figures.dials_failed += 1;
                tell(errand.answer, Err(unreachable(peer.to_string(), &error)));
            }
        }
    }

    /// Sends what waits for dials of a peer that is connected now, whichever of them, or of the peer's, came to something.
    pub(super) fn send_errands(&mut self, peer: PeerId) {
        let waiting = self.errands.extract_if(|_, dial| dial.peer.0 == peer);
        let waiting: Vec<_> = waiting.flat_map(|(_, dial)| dial.errands).collect();
        for errand in waiting {
            self.send_errand(errand);
        }
    }

    /// Sends a request to a peer that is connected.
    pub(super) fn send_errand(&mut self, errand: Errand) {
        let Errand {
            protocol,
            peer,
            bytes,
            answer,
        } = errand;
        self.figures.sent(&bytes);
        let id = self.exchange(protocol).send_request(&peer.0, bytes);
        self.asks.insert((protocol, id), answer);
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
                self.figures.came(&response);
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
        self.figures.came(&bytes);
        match protocol {
            Protocol::Meeting => self.figures.meetings += 1,
            Protocol::Records => self.figures.records_asked += 1,
        }
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
            self.figures.requests_lost += 1;
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
        self.figures.sent(&bytes);
        if self
            .exchange(protocol)
            .send_response(channel, bytes)
            .is_err()
        {
            tracing::debug!("a peer went before it had its answer");
        }
    }
}
