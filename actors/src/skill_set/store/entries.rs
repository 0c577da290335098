//! The ledger entries that belong to changes of SkillSets.

use kairos_protocol::block::entry::{Entry, SkillSetAction, SkillSetEvent, SkillSetProvenance};
use kairos_protocol::hash::ContentHash;
use kairos_protocol::package::FileRecord;
use kairos_protocol::skill_set::Layer;
use kairos_protocol::time::Timestamp;

use super::{Installed, OriginRecord, tree};

/// The entry that the reference writes: every file for L0, the hash for L1, nothing for L2.
pub(super) fn event(
    set: &Installed,
    action: SkillSetAction,
    files: &[FileRecord],
    now: Timestamp,
) -> Option<Entry> {
    let hashes = || {
        files
            .iter()
            .map(|file| (file.path.clone(), file.sha256))
            .collect()
    };
    let file_hashes = match set.layer {
        Layer::L2 => return None,
        Layer::L1 => None,
        Layer::L0 => Some(hashes()),
    };
    Some(Entry::SkillSetEvent(SkillSetEvent {
        layer: set.layer.to_string(),
        skillset_name: set.metadata.name.to_string(),
        skillset_version: set.metadata.version.clone(),
        action,
        content_hash: tree::content_hash(files),
        reason: None,
        timestamp: now,
        file_hashes,
    }))
}

/// The entry that tells where a SkillSet came from, on every layer.
pub(super) fn arrival(
    set: &Installed,
    content_hash: ContentHash,
    peer: &OriginRecord,
    now: Timestamp,
) -> Entry {
    let hops = peer
        .provenance
        .iter()
        .flat_map(|provenance| provenance.hops());
    let provenance_chain: Vec<String> = hops.map(|hop| hop.instance_id.to_string()).collect();
    Entry::SkillSetProvenance(SkillSetProvenance {
        skillset_name: set.metadata.name.to_string(),
        version: set.metadata.version.clone(),
        content_hash,
        received_from: peer.received_from.to_string(),
        received_at: peer.received_at,
        origin: provenance_chain.first().cloned(),
        provenance_chain,
        hop_count: peer.provenance.as_ref().map_or(0, |p| p.hop_count() as u64),
        recorded_at: now,
    })
}
