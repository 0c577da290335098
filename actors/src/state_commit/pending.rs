//! What is pending, why it is due, and what a snapshot tells of it.

use std::collections::BTreeSet;

use kairos_protocol::state::{Change, Pending, StateSettings, Trigger};
use kairos_protocol::time::Timestamp;

use super::ledger::{Records, from};
use super::store::Look;

/// What is pending: how much differs, and no less than the ledger tells. Before the first commit only the ledger
/// counts, or a fresh directory would be full of changes.
pub(super) fn pending(records: &Records, look: &Look) -> Pending {
    let told = |layer| {
        records
            .since
            .iter()
            .filter(|change| change.layer == layer)
            .count() as u64
    };
    let away = records
        .since
        .iter()
        .filter(|change| change.action == "archive")
        .count() as u64;
    let mut pending = Pending {
        l0: told("L0"),
        l1: told("L1"),
        l2: 0,
        promotions: records.promoted.len() as u64,
        demotions: away,
        total: 0,
    };
    if look.last.is_some() {
        let diff = &look.diff;
        pending.l0 = pending.l0.max(u64::from(diff.l0_changed));
        pending.l1 = pending.l1.max(diff.l1.len() as u64);
        pending.l2 = diff.l2.len() as u64;
        pending.promotions = pending.promotions.max(diff.promotions.len() as u64);
        pending.demotions = pending.demotions.max(diff.demotions.len() as u64);
    }
    pending.total = pending.l0 + pending.l1 + pending.l2;
    pending
}

/// Why the state is to be committed now, without being asked for.
pub(super) fn due(
    settings: &StateSettings,
    pending: &Pending,
    look: &Look,
    ends: bool,
) -> Option<Trigger> {
    let auto = settings.auto.filter(|_| settings.enabled)?;
    if auto.skip_if_no_changes && !look.diff.changed {
        return None;
    }
    let end = ends && auto.session_end && pending.total > 0;
    auto.trigger(pending).or(end.then_some(Trigger::SessionEnd))
}

/// What happened since the last commit: what the ledger tells, then what only the files tell.
pub(super) fn changes(records: &Records, look: &Look, now: Timestamp) -> Vec<Change> {
    let mut all = records.since.clone();
    if look.last.is_none() {
        return all;
    }
    let told: BTreeSet<(&str, String)> = records
        .since
        .iter()
        .map(|c| (c.layer, c.skill_id.clone()))
        .collect();
    for (layer, diff) in [
        ("L0", &look.diff.l0),
        ("L1", &look.diff.l1),
        ("L2", &look.diff.l2),
    ] {
        for (action, names) in [
            ("create", &diff.added),
            ("update", &diff.modified),
            ("delete", &diff.deleted),
        ] {
            for name in names
                .iter()
                .filter(|name| !told.contains(&(layer, (*name).clone())))
            {
                all.push(Change {
                    layer,
                    action: action.to_owned(),
                    skill_id: name.clone(),
                    reason: None,
                    metadata: from("files"),
                    timestamp: now.entry(),
                });
            }
        }
    }
    all
}
