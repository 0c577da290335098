//! What a Place is bound to.

use std::time::Duration;

use kairos_protocol::package::PackageLimits;

use crate::relay::audit::Anonymiser;

/// Bounds of a Meeting Place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Most agents present at once, the Place included. Known agents are let in also when it is reached.
    pub agents_max: usize,
    /// Most of them that showed no key.
    pub unverified_max: usize,
    /// Most agents here that registered from one address; those the Place knows come on top.
    pub agents_per_address: usize,
    /// Most of them that showed no key.
    pub unverified_per_address: usize,
    /// Hides in the audit who registered.
    pub anonymiser: Option<Anonymiser>,
    /// Most agents remembered, beyond those present, for their keys.
    pub remembered_max: usize,
    /// Time without a sign of life after which an agent fades.
    pub ttl: Duration,
    /// Most needs of one agent.
    pub needs_max: usize,
    /// Bounds of deposits.
    pub deposits: DepositLimits,
    /// Bounds of SkillSets.
    pub skill_sets: SkillSetLimits,
    /// Most attestations of one deposit.
    pub attestations_per_deposit: usize,
    /// Most attestations of one agent.
    pub attestations_per_agent: usize,
    /// Most answers that are remembered for those who ask again.
    pub answers_max: usize,
    /// For how long bytes that were replaced do not come back by themselves: as long as a session lasts.
    pub repeat_window: Duration,
    /// What is accepted from other Places.
    pub federation: Federation,
}

/// Bounds of deposits, as `GET /place/v1/info` tells them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DepositLimits {
    /// Most of one agent.
    pub per_agent: usize,
    /// Most in all.
    pub total: usize,
    /// Longest content in bytes.
    pub content_bytes: usize,
    /// Attempts of one agent within an hour, refused ones included.
    pub per_hour: usize,
    /// Longest summary in bytes; longer ones are cut.
    pub summary_bytes: usize,
    /// Longest description in bytes.
    pub description_bytes: usize,
    /// Most lines of a preview.
    pub preview_lines: usize,
}

/// Bounds of the SkillSets that are left at a Place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SkillSetLimits {
    /// Most of one agent.
    pub per_agent: usize,
    /// Most in all.
    pub total: usize,
    /// Most bytes of all archives.
    pub bytes: u64,
    /// Bounds of one archive.
    pub package: PackageLimits,
}

/// What is accepted of deposits that come from other Places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Federation {
    /// Whether any is.
    pub accept: bool,
    /// Places a deposit has passed at which it is refused.
    pub hops_max: u32,
    /// Oldest first deposit. What is older is refused, and taken down.
    pub age_max: Duration,
    /// Most contents of which the origin is remembered when they are here no more; those that came first are forgotten.
    pub origins_max: usize,
    /// Most agreements with other Places that were proposed from here or are in effect, and as many that others propose.
    pub agreements_max: usize,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            agents_max: 100_000,
            unverified_max: 1_000,
            agents_per_address: 10_000,
            unverified_per_address: 100,
            anonymiser: None,
            remembered_max: 200_000,
            ttl: Duration::from_secs(3600),
            needs_max: 20,
            deposits: DepositLimits::default(),
            skill_sets: SkillSetLimits::default(),
            attestations_per_deposit: 50,
            attestations_per_agent: 200,
            answers_max: 20_000,
            repeat_window: Duration::from_secs(3600),
            federation: Federation::default(),
        }
    }
}

impl Default for DepositLimits {
    fn default() -> Self {
        Self {
            per_agent: 20,
            total: 10_000,
            content_bytes: 100_000,
            per_hour: 10,
            summary_bytes: 500,
            description_bytes: 500,
            preview_lines: 100,
        }
    }
}

impl Default for SkillSetLimits {
    fn default() -> Self {
        Self {
            per_agent: 10,
            total: 10_000,
            bytes: 100 * 1024 * 1024,
            package: PackageLimits::default(),
        }
    }
}

impl Default for Federation {
    fn default() -> Self {
        Self {
            accept: false,
            hops_max: 3,
            age_max: Duration::from_secs(168 * 3600),
            origins_max: 10_000,
            agreements_max: 32,
        }
    }
}
