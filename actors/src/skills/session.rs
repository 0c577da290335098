//! How many changes of the law a session has had. The ledger counts them, so no crash and no other process loses one.

use std::sync::Arc;
use std::time::Duration;

use kairos_protocol::block::entry::{Entry, Kind};
use kairos_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Parts, SkillsError, blocking};

/// How long a session lasts unless the owner begins another one.
pub(super) const LENGTH: Duration = Duration::from_secs(24 * 60 * 60);

/// Where a session begins, as it is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Mark {
    /// The first block that counts.
    pub(super) from: u64,
    /// When it began.
    pub(super) since: Timestamp,
}

/// A session of changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Session {
    /// When it began; nothing if the next change begins one.
    pub since: Option<Timestamp>,
    /// Changes that it has had.
    pub used: u32,
    /// Most changes that it may have.
    pub limit: u32,
}

/// The session that is open. Where none is, the next change begins one, and this does if it `begins`.
pub(super) async fn now(parts: &Arc<Parts>, begins: bool) -> Result<Session, SkillsError> {
    let mark = {
        let parts = Arc::clone(parts);
        blocking(move || parts.store.mark()).await?
    };
    let open = mark.filter(|mark| parts.clock.now().since(mark.since) < LENGTH);
    match open {
        None if begins => begin(parts).await,
        None => told(parts, None, 0).await,
        Some(mark) => {
            let mut used = 0_u32;
            let count = |block: &kairos_protocol::block::Block| {
                let entries = block.data().iter();
                let changes = entries.filter(|text| {
                    Entry::read(text).is_ok_and(|entry| entry.kind() == Kind::SkillTransition)
                });
                used = used.saturating_add(u32::try_from(changes.count()).unwrap_or(u32::MAX));
                None::<()>
            };
            parts.chain.find(mark.from, count).await?;
            told(parts, Some(mark.since), used).await
        }
    }
}

/// Begins a session behind the last block.
pub(super) async fn begin(parts: &Arc<Parts>) -> Result<Session, SkillsError> {
    let tip = parts.chain.tip().await?;
    let since = parts.clock.now();
    let from = tip.map_or(0, |tip| tip.index.saturating_add(1));
    {
        let parts = Arc::clone(parts);
        blocking(move || parts.store.set_mark(Mark { from, since })).await?;
    }
    told(parts, Some(since), 0).await
}

async fn told(
    parts: &Arc<Parts>,
    since: Option<Timestamp>,
    used: u32,
) -> Result<Session, SkillsError> {
    let parts = Arc::clone(parts);
    let settings = blocking(move || parts.store.settings()).await?;
    let limit = settings.per_session;
    Ok(Session { since, used, limit })
}
