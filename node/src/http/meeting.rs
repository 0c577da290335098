//! `/meeting/v1/*`: the endpoints at which agents meet: the twelve of the protocol, and one of ours.

pub(super) mod checkpoint;
pub(super) mod introduce;
pub(super) mod messages;
pub(super) mod skill_sets;
pub(super) mod skills;
