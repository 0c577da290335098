//! The one loop that owns the libp2p swarm: bounded commands in, bounded typed events out.
//!
//! [`start`] gives the loop a thread with a small runtime of its own, so that nothing else of the process can keep it
//! from answering in time. [`Network`] is the way in: each of its methods sends one command and waits for one answer.
//! [`Event`]s tell that something changed, and hand over what peers ask; whoever reads them slowly loses requests of
//! peers, which are told so by the end of their stream, and nothing else: what changed is looked up, never remembered.
//!
//! Nothing here knows what a record or a message means. Whether a record may be stored is decided by the [`Judge`] that
//! the loop is started with, before anything is stored.
//!
//! This is the only crate that compiles libp2p's generic types; what it exports are plain types and boxed futures.
#![warn(missing_docs)]

mod address;
mod behaviour;
mod codec;
mod event_loop;
mod figures;
mod key;
mod limits;
mod network;
mod share;
#[cfg(test)]
mod tests;
mod transport;

pub use address::{Address, AddressError, is_near};
pub use behaviour::TOPICS_MAX;
pub use figures::{ConnectionsRefused, Figures, RecordsRefused};
pub use key::{KeyFault, NodeKey, PeerName, PeerNameError};
pub use limits::Limits;
pub use network::{
    Connection, Event, Judge, Kept, Network, NetworkError, Protocol, Reach, Registered, Reply,
    Request, Settings, StartError, Status, Way, start,
};
