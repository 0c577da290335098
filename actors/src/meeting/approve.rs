//! From the quarantine into the agent: what a person decides about something acquired.
//!
//! An approval names the seal of the evidence that was shown; if a byte changed since, it is void. The item leaves
//! the quarantine only after it was installed and recorded.

use actix::Message;
use kairos_protocol::hash::ContentHash;
use kairos_protocol::id::{AgentId, SkillName};
use kairos_protocol::package::SkillSetPackage;
use kairos_protocol::provenance::Kind;

use super::acquire::Acquisition;
use super::encounter::Encounter;
use super::{MeetingError, Outbound};
use crate::check::{Check, Checks, Outcome};
use crate::knowledge::{Origin, Receive};
use crate::quarantine::{Evidence, Held, HeldKind, HoldId};
use crate::skill_set::{Options, Origin as SkillSetOrigin, PeerEvidence};

/// Installs what waits in the quarantine.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Approved, MeetingError>")]
pub struct Approval {
    /// Which.
    pub id: HoldId,
    /// The seal of what was shown.
    pub seal: ContentHash,
    /// Another name for a skill; a SkillSet keeps its own.
    pub name: Option<SkillName>,
    /// Replace what is there by the same name.
    pub replace: bool,
    /// Offer it to peers in turn.
    pub share: bool,
}

impl Approval {
    /// Approves `held` as it is, under its own name.
    pub fn of(held: &Held) -> Self {
        Self {
            id: held.id.clone(),
            seal: held.seal,
            name: None,
            replace: false,
            share: false,
        }
    }
}

/// Whether nothing about an item is for a person to weigh: every check passed and nothing looks suspicious.
pub(super) fn needs_nobody(evidence: &Evidence) -> bool {
    let passed = |check: &Check| check.outcome == Outcome::Passed;
    evidence.findings.is_empty() && evidence.checks.0.iter().all(passed)
}

/// What was installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approved {
    /// What it is.
    pub kind: HeldKind,
    /// Its name here.
    pub name: String,
    /// Hash of what was installed.
    pub content_hash: ContentHash,
    /// Where, relative to the data directory.
    pub path: String,
}

/// Puts an acquisition into the quarantine.
pub(super) async fn hold(
    out: &Outbound,
    met: &Encounter,
    acquisition: &Acquisition,
) -> Result<Held, MeetingError> {
    let mut checks = met.checks.clone();
    checks.0.extend(acquisition.checks.0.iter().cloned());
    let evidence = Evidence {
        kind: match acquisition.kind {
            Kind::Skill => HeldKind::Skill,
            Kind::SkillSet => HeldKind::SkillSet,
        },
        name: acquisition.name.clone(),
        version: acquisition.version.clone(),
        content_hash: acquisition.content_hash,
        from: met.peer.id.clone(),
        url: met.url.to_string(),
        key_fingerprint: met.peer.key.fingerprint(),
        session: met.proved,
        checks,
        provenance: acquisition.provenance.clone(),
        carried: None,
        findings: acquisition.findings.clone(),
        acquired_at: out.clock.now(),
    };
    Ok(out
        .quarantine
        .hold(evidence, acquisition.payload.clone())
        .await?)
}

/// Installs an approved item, then takes it out of the quarantine.
pub(super) async fn approve(out: &Outbound, approval: Approval) -> Result<Approved, MeetingError> {
    let (held, payload) = out
        .quarantine
        .take(approval.id.clone(), approval.seal)
        .await?;
    let approved = match held.evidence.kind {
        HeldKind::Skill => install_skill(out, &approval, &held.evidence, payload).await?,
        HeldKind::SkillSet => install_skill_set(out, &approval, &held.evidence, &payload).await?,
    };
    out.quarantine.discard(approval.id).await?;
    tracing::info!(
        name = %approved.name, content.hash = %approved.content_hash, peer.id = %held.evidence.from,
        "installed what was approved"
    );
    Ok(approved)
}

async fn install_skill(
    out: &Outbound,
    approval: &Approval,
    evidence: &Evidence,
    payload: Vec<u8>,
) -> Result<Approved, MeetingError> {
    let name = match &approval.name {
        Some(name) => name.clone(),
        None => SkillName::sanitized(&evidence.name),
    };
    let mut origin = Origin::from(evidence);
    origin.earlier_holders = earlier_holders(evidence);
    let received = out
        .knowledge
        .receive(Receive {
            name: name.to_string(),
            bytes: payload,
            origin,
            replace: approval.replace,
        })
        .await?;
    if approval.share {
        out.knowledge
            .set_share(received.name.to_string(), true)
            .await?;
    }
    Ok(Approved {
        kind: HeldKind::Skill,
        name: received.name.to_string(),
        content_hash: evidence.content_hash,
        path: received.path,
    })
}

/// Everyone a skill went through before its sender; the sender's own hop is not told twice.
fn earlier_holders(evidence: &Evidence) -> Vec<AgentId> {
    let hops = evidence.provenance.iter().flat_map(|p| p.hops());
    hops.map(|hop| hop.instance_id.clone())
        .filter(|id| *id != evidence.from)
        .collect()
}

async fn install_skill_set(
    out: &Outbound,
    approval: &Approval,
    evidence: &Evidence,
    payload: &[u8],
) -> Result<Approved, MeetingError> {
    let package = SkillSetPackage::from_json(payload, &out.package_limits).map_err(|e| {
        MeetingError::Refused {
            check: "package".to_owned(),
            detail: e.to_string(),
            checks: Checks::default(),
        }
    })?;
    let peer = out.peers.find(evidence.from.as_str()).await?;
    let from = SkillSetOrigin::Peer(PeerEvidence {
        peer: evidence.from.clone(),
        key: peer.map(|peer| peer.key),
        received_at: evidence.acquired_at,
    });
    let options = Options {
        force: approval.replace,
        layer: None,
        ..Options::default()
    };
    let installed = out
        .skill_sets
        .install_archive(package, from, options)
        .await?;
    Ok(Approved {
        kind: HeldKind::SkillSet,
        name: installed.set.metadata.name.to_string(),
        content_hash: evidence.content_hash,
        path: format!("skillsets/{}", installed.set.metadata.name),
    })
}
