//! Moves anchors to the next stage: copies, and checks every copy against what it is a copy of. The source stays.

use kairos_protocol::anchor::Anchor;
use kairos_protocol::anchor::stage::Stage;
use kairos_protocol::time::Timestamp;
use serde::Serialize;

use super::backend::AnchorBackend;
use super::store::StoreError;

/// How many anchors are made durable together.
const BATCH: usize = 50;
/// Most missing anchors that are named.
const NAMED_MAX: usize = 10;

/// What a dry run found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DryRun {
    /// `dry_run`.
    pub status: &'static str,
    /// From where.
    pub source_backend: &'static str,
    /// To where.
    pub destination_backend: &'static str,
    /// Anchors in the source.
    pub total_in_source: usize,
    /// Those that are in the destination already.
    pub already_in_destination: usize,
    /// Those that would be copied.
    pub would_migrate: usize,
}

/// An anchor that was not copied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unmoved {
    /// Which.
    pub anchor_hash: String,
    /// Why.
    pub error: String,
}

/// What a look at the destination showed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Verification {
    /// `verified`, or `incomplete`.
    pub status: &'static str,
    /// How many were looked at: all.
    pub sample_size: usize,
    /// How many are there with the same content.
    pub verified: usize,
    /// How many are not.
    pub missing: usize,
    /// The first of those.
    pub missing_hashes: Vec<String>,
    /// In percent; 100 if there was nothing to look at.
    pub verification_rate: f64,
}

/// What a migration did.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Migrated {
    /// `completed`, or `completed_with_errors`.
    pub status: &'static str,
    /// From where.
    pub source_backend: &'static str,
    /// To where.
    pub destination_backend: &'static str,
    /// Anchors in the source.
    pub total: usize,
    /// Those that were copied.
    pub migrated: usize,
    /// Those that were there already.
    pub skipped: usize,
    /// Those that could not be copied.
    pub failed: usize,
    /// Why.
    pub errors: Vec<Unmoved>,
    /// When it began.
    pub started_at: String,
    /// When it ended.
    pub completed_at: String,
    /// How long it took.
    pub duration_seconds: f64,
    /// Whether everything arrived.
    pub verification: Verification,
}

/// Copies `anchors` from `source` into `to`, which is the stage `target`.
pub(super) fn copy(
    (source, target): (Stage, Stage),
    anchors: &[Anchor],
    to: &mut dyn AnchorBackend,
    clock: &dyn Fn() -> Timestamp,
) -> Result<Migrated, StoreError> {
    let begun = clock();
    let mut new = Vec::new();
    for anchor in anchors {
        if to.find(&anchor.hash())?.is_none() {
            new.push(anchor.clone());
        }
    }
    let mut errors = Vec::new();
    for batch in new.chunks(BATCH) {
        if let Err(error) = to.submit(batch, clock()) {
            let failed = batch.iter().map(|anchor| Unmoved {
                anchor_hash: anchor.hash().to_hex(),
                error: error.to_string(),
            });
            errors.extend(failed);
        }
    }
    let verification = verify(anchors, to)?;
    let is_complete = errors.is_empty() && verification.missing == 0;
    let ended = clock();
    Ok(Migrated {
        status: match is_complete {
            true => "completed",
            false => "completed_with_errors",
        },
        source_backend: source.name(),
        destination_backend: target.name(),
        total: anchors.len(),
        migrated: new.len() - errors.len(),
        skipped: anchors.len() - new.len(),
        failed: errors.len(),
        errors,
        started_at: begun.wire(),
        completed_at: ended.wire(),
        duration_seconds: ended.since(begun).as_secs_f64(),
        verification,
    })
}

/// Compares what arrived with what was sent, text by text.
fn verify(anchors: &[Anchor], to: &mut dyn AnchorBackend) -> Result<Verification, StoreError> {
    let mut missing = Vec::new();
    for anchor in anchors {
        let arrived = to.find(&anchor.hash())?;
        if arrived.is_none_or(|arrived| arrived.preimage() != anchor.preimage()) {
            missing.push(anchor.hash().to_hex());
        }
    }
    let (all, absent) = (anchors.len(), missing.len());
    let verified = all - absent;
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let rate = match all {
        0 => 100.0,
        all => verified as f64 * 100.0 / all as f64,
    };
    Ok(Verification {
        status: match absent {
            0 => "verified",
            _ => "incomplete",
        },
        sample_size: all,
        verified,
        missing: absent,
        missing_hashes: missing.into_iter().take(NAMED_MAX).collect(),
        verification_rate: rate,
    })
}
