//! Seeing a change through: prepared, intended, recorded, done. See [`super::store::unit`] for why in this order.

use std::sync::Arc;

use kairos_protocol::block::Block;
use kairos_protocol::id::SkillName;
use kairos_protocol::time::Timestamp;

use super::recorded::{self, Ledger, Standing};
use super::store::unit::{Intent, Locked, Point, Prepared};
use super::store::{Changed, Described, KnowledgeStore};
use super::{KnowledgeError, Shared, blocking};
use crate::chain::queue::IdempotencyKey;
use crate::chain::{ChainError, ChainHandle};
use crate::staging::Held;

/// Makes the change that `prepare` prepares under the lock, once what a crash left is settled.
pub(super) async fn change<T: Send + 'static>(
    shared: Arc<Shared>,
    chain: ChainHandle,
    prepare: impl FnOnce(&KnowledgeStore, Held, Timestamp) -> Result<Prepared<T>, KnowledgeError>
    + Send
    + 'static,
) -> Result<T, KnowledgeError> {
    let held = lock(&shared, &chain).await?;
    let prepared = on_disk(&shared, move |shared| {
        prepare(&shared.store, held, shared.clock.now())
    })
    .await?;
    // Before the intent, so that it says where to look; nobody else records knowledge while we hold the lock.
    let tip = match chain.tip().await {
        Ok(tip) => tip,
        Err(error) => {
            on_disk(&shared, move |shared| Ok(shared.store.abandon(prepared)?)).await?;
            return Err(KnowledgeError::Ledger(error));
        }
    };
    let (held, intent, done) =
        on_disk(&shared, move |shared| shared.store.intend(prepared, tip)).await?;
    record(&shared, &chain, held, intent, 0).await?;
    Ok(done)
}

/// Takes the lock and settles what a crash left.
pub(super) async fn lock(
    shared: &Arc<Shared>,
    chain: &ChainHandle,
) -> Result<Held, KnowledgeError> {
    loop {
        let Locked { held, left } = on_disk(shared, |shared| shared.store.lock()).await?;
        match left {
            None => return Ok(held),
            Some(intent) => settle(shared, chain, held, intent).await?,
        }
    }
}

/// Settles what a crash left, if anything, unless somebody is at work.
pub(super) async fn tidy(shared: &Arc<Shared>, chain: &ChainHandle) -> Result<(), KnowledgeError> {
    match on_disk(shared, |shared| shared.store.lock_if_left()).await? {
        Some(Locked {
            held,
            left: Some(intent),
        }) => settle(shared, chain, held, intent).await,
        _ => Ok(()),
    }
}

/// Goes forward or back with a change that somebody left half done.
async fn settle(
    shared: &Arc<Shared>,
    chain: &ChainHandle,
    held: Held,
    intent: Intent,
) -> Result<(), KnowledgeError> {
    let recorded = recorded(chain, &intent).await.map_err(unsettled)?;
    tracing::warn!(
        knowledge.name = %intent.name, recorded, of = intent.blocks.len(), "an interrupted change was found"
    );
    if recorded == 0 {
        return back(shared, held).await;
    }
    match record(shared, chain, held, intent, recorded).await {
        // Whoever changed the files meanwhile is told by `status`; it is not the failure of who comes next.
        Err(error @ KnowledgeError::Overtaken { .. }) => {
            tracing::warn!(%error, "the files of an interrupted change were left alone");
            Ok(())
        }
        other => other,
    }
}

/// Appends the blocks of the intent but the first `recorded`, then does its steps.
async fn record(
    shared: &Arc<Shared>,
    chain: &ChainHandle,
    held: Held,
    intent: Intent,
    mut recorded: usize,
) -> Result<(), KnowledgeError> {
    while let Some(entries) = intent.blocks.get(recorded) {
        let key = IdempotencyKey::part(intent.id, recorded);
        if let Err(error) = chain.record(key, entries.clone()).await {
            return failed(shared, chain, held, &intent, recorded, error).await;
        }
        recorded += 1;
        on_disk(shared, move |shared| {
            Ok(shared.store.reached(Point::Recorded(recorded))?)
        })
        .await
        .map_err(unsettled)?;
    }
    let forward = on_disk(shared, move |shared| {
        shared.store.roll_forward(&held, &intent)
    })
    .await;
    forward.map_err(|error| match error {
        overtaken @ KnowledgeError::Overtaken { .. } => overtaken,
        other => unsettled(other),
    })
}

/// Decides what becomes of an intent whose entry the ledger did not take.
async fn failed(
    shared: &Arc<Shared>,
    chain: &ChainHandle,
    held: Held,
    intent: &Intent,
    before: usize,
    error: ChainError,
) -> Result<(), KnowledgeError> {
    // What was refused leaves nothing to look for. Anything else is looked up.
    let found = match before == 0 && !error.may_be_recorded() {
        true => 0,
        false => match recorded(chain, intent).await {
            Ok(found) => found,
            Err(_) => return Err(unsettled(error)),
        },
    };
    if found == 0 {
        back(shared, held).await?;
        return Err(KnowledgeError::Ledger(error));
    }
    Err(unsettled(error))
}

/// Records what was changed past the ledger: all of it, or what is named. Returns what was recorded.
///
/// Each record is its own block. Where one fails, those before it stand.
pub(super) async fn catch_up(
    shared: Arc<Shared>,
    chain: ChainHandle,
    names: Option<Vec<SkillName>>,
    reason: Option<String>,
) -> Result<Vec<Changed>, KnowledgeError> {
    let held = lock(&shared, &chain).await?;
    let mut ledger = Ledger::new();
    recorded::read(&chain, |record| {
        ledger.insert(record.knowledge_id.clone(), record);
    })
    .await?;
    let (entries, archived) = on_disk(&shared, |shared| {
        Ok((
            shared.store.entries(&mut Described::default())?,
            shared.store.archived()?,
        ))
    })
    .await?;
    let standings = recorded::compare(&entries, &archived, &ledger);
    for name in names.iter().flatten() {
        if !standings
            .iter()
            .any(|standing| standing.name == name.as_str())
        {
            let name = name.to_string();
            return Err(KnowledgeError::NotFound { name });
        }
    }
    let wanted = |standing: &&Standing| {
        names
            .as_ref()
            .is_none_or(|names| names.iter().any(|name| name.as_str() == standing.name))
    };
    let changes = standings.iter().filter(wanted);
    let changes: Vec<_> = changes
        .filter_map(|s| recorded::missing_record(s, &ledger))
        .collect();
    for change in &changes {
        let hashes = (change.previous_hash, change.content_hash);
        let record = change.record(hashes, reason.clone(), shared.clock.now());
        chain
            .append(vec![record])
            .await
            .map_err(KnowledgeError::Ledger)?;
    }
    // Until here nobody else of ours changed anything.
    drop(held);
    Ok(changes)
}

async fn back(shared: &Arc<Shared>, held: Held) -> Result<(), KnowledgeError> {
    on_disk(shared, move |shared| Ok(shared.store.roll_back(&held)?)).await
}

/// How many blocks of the intent the ledger has, behind the place where it ended.
async fn recorded(chain: &ChainHandle, intent: &Intent) -> Result<usize, ChainError> {
    let first = chain.behind(intent.tip).await?;
    let (mut found, all) = (0, intent.blocks.len());
    let count = |block: &Block| {
        let wanted = intent.blocks.get(found);
        found += usize::from(wanted.is_some_and(|entries| block.data() == *entries));
        (found == all).then_some(())
    };
    chain.find(first, count).await?;
    Ok(found)
}

fn unsettled(reason: impl std::fmt::Display) -> KnowledgeError {
    let reason = reason.to_string();
    KnowledgeError::Unsettled { reason }
}

async fn on_disk<T: Send + 'static>(
    shared: &Arc<Shared>,
    work: impl FnOnce(&Shared) -> Result<T, KnowledgeError> + Send + 'static,
) -> Result<T, KnowledgeError> {
    let shared = Arc::clone(shared);
    blocking(move || work(&shared)).await
}
