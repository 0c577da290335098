//! What the anchor actor answers, in the members of the reference's replies.

use std::collections::BTreeMap;
use std::path::Path;

use kairos_protocol::anchor::stage::{Stage, Step};
use kairos_protocol::hash::ContentHash;
use kairos_protocol::time::Timestamp;
use serde::Serialize;

use super::AnchorPolicy;
use super::store::{AnchorStore, DamagedAnchor};

/// What came of an anchor.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Submitted {
    /// `submitted`, `enqueued`, `exists`, `disabled`, or `error` where no more are taken.
    pub status: &'static str,
    /// Which.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub anchor_hash: Option<ContentHash>,
    /// Where it is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend: Option<&'static str>,
    /// In which file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage_path: Option<String>,
    /// How many wait after this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue_size: Option<usize>,
    /// At which place it waits, or waited until it made the batch full.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue_position: Option<usize>,
    /// What there is to say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

impl Submitted {
    pub(super) fn kept(hash: ContentHash, stage: Stage, file: Option<&Path>) -> Self {
        Self {
            status: "submitted",
            anchor_hash: Some(hash),
            backend: Some(stage.name()),
            storage_path: file.map(|path| path.display().to_string()),
            ..Self::default()
        }
    }

    pub(super) fn enqueued(hash: ContentHash, size: usize, position: usize) -> Self {
        Self {
            status: "enqueued",
            anchor_hash: Some(hash),
            queue_size: Some(size),
            queue_position: Some(position),
            ..Self::default()
        }
    }

    pub(super) fn exists(hash: ContentHash) -> Self {
        Self {
            status: "exists",
            anchor_hash: Some(hash),
            message: Some("Anchor already exists".to_owned()),
            ..Self::default()
        }
    }

    pub(super) fn disabled() -> Self {
        Self {
            status: "disabled",
            message: Some("HestiaChain is disabled".to_owned()),
            ..Self::default()
        }
    }

    pub(super) fn full(hash: ContentHash, limit: usize) -> Self {
        Self {
            status: "error",
            anchor_hash: Some(hash),
            message: Some(format!("Maximum anchor limit reached ({limit})")),
            ..Self::default()
        }
    }

    /// Whether the anchor is kept now.
    pub fn is_kept(&self) -> bool {
        matches!(self.status, "submitted" | "enqueued" | "exists")
    }
}

/// What came of a batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Flushed {
    /// `submitted`, or `empty`.
    pub status: &'static str,
    /// How many waited.
    pub count: usize,
    /// Which.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub anchor_hashes: Vec<String>,
    /// Where they are kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend: Option<&'static str>,
    /// When.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flushed_at: Option<String>,
}

impl Flushed {
    pub(super) fn new(anchor_hashes: Vec<String>, stage: Stage, now: Timestamp) -> Self {
        let some = !anchor_hashes.is_empty();
        Self {
            status: if some { "submitted" } else { "empty" },
            count: anchor_hashes.len(),
            anchor_hashes,
            backend: some.then(|| stage.name()),
            flushed_at: some.then(|| now.wire()),
        }
    }
}

/// The name of a stage, and what it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BackendName {
    /// The name.
    pub name: &'static str,
    /// What it is.
    pub description: &'static str,
}

/// The client's own state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ClientStatus {
    /// Whether anything is anchored.
    pub enabled: bool,
    /// Where.
    pub backend: &'static str,
    /// Whether that can be used.
    pub backend_ready: bool,
    /// Whether anchors may wait for others.
    pub batching_enabled: bool,
    /// How many do.
    pub batch_queue_size: usize,
}

/// What is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BackendStats {
    /// Where.
    pub backend_type: &'static str,
    /// Whether it can be used.
    pub ready: bool,
    /// How many.
    pub total_anchors: usize,
    /// How many of each type.
    pub anchors_by_type: BTreeMap<String, usize>,
    /// Since when, where the file tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_at: Option<String>,
    /// At most so many.
    pub max_anchors: usize,
    /// In which file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage_path: Option<String>,
    /// Records whose hash is not that of their members; they count as none.
    pub damaged: Vec<DamagedAnchor>,
}

/// What there is, and where it could go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Overview {
    /// 0 to 3.
    pub current_stage: u8,
    /// What that is.
    pub current_backend: BackendName,
    /// The step that could come next.
    pub available_migrations: Vec<Step>,
    /// How many anchors there are.
    pub total_anchors: usize,
    /// The client.
    pub client_status: ClientStatus,
    /// What is kept.
    pub backend_stats: BackendStats,
}

impl Overview {
    pub(super) fn of(policy: &AnchorPolicy, store: &AnchorStore) -> Self {
        let stage = policy.stage;
        let mut anchors_by_type = BTreeMap::new();
        for anchor in store.anchors() {
            *anchors_by_type
                .entry(anchor.anchor_type().to_string())
                .or_insert(0) += 1;
        }
        Self {
            current_stage: stage.number(),
            current_backend: BackendName {
                name: stage.name(),
                description: stage.description(),
            },
            available_migrations: stage.next().into_iter().collect(),
            total_anchors: store.len(),
            client_status: ClientStatus {
                enabled: policy.enabled,
                backend: stage.name(),
                backend_ready: true,
                batching_enabled: policy.batching.is_some(),
                batch_queue_size: store.queued(),
            },
            backend_stats: BackendStats {
                backend_type: stage.name(),
                ready: true,
                total_anchors: store.len(),
                anchors_by_type,
                created_at: store.created_at().map(str::to_owned),
                max_anchors: policy.max_anchors,
                storage_path: store.file().map(|path| path.display().to_string()),
                damaged: store.damaged().collect(),
            },
        }
    }
}
