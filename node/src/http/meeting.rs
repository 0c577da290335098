//! `/meeting/v1/*`: the twelve endpoints at which agents meet.

pub(super) mod introduce;
pub(super) mod messages;
pub(super) mod skill_sets;
pub(super) mod skills;
