//! The Model Meeting Protocol: what two agents say to each other.
//!
//! Twelve messages travel under `/meeting/v1/`. Two carry identities ([`introduction`]), nine answer about skills
//! and SkillSets ([`listing`] and [`envelope`]), one says goodbye. [`possession`] is this implementation's
//! addition: proof that a peer holds its key now, and [`rotation`] changes a key under the old one's signature; both in
//! members that other implementations ignore. [`history`] is another: how a ledger continues what was seen of it. What a
//! Meeting Place answers its members is [`place`]. [`extension`] is what agents may add to all this: names, never code.

pub mod carried;
pub mod envelope;
pub mod extension;
pub mod history;
pub mod introduction;
pub mod listing;
pub mod place;
pub mod possession;
pub mod rotation;

/// The version of the protocol spoken here.
pub const PROTOCOL_VERSION: &str = "1.0.0";

/// The version of this implementation's message set, sent as `identity.version`; receivers take any value.
pub const MESSAGE_SET_VERSION: &str = "1.1.0";
