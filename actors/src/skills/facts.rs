//! What the agent tells about itself to definitions and to code of the law: settings, session and ledger, as they are.

use std::sync::Arc;

use kairos_protocol::block::Block;
use kairos_protocol::dsl::eval::{BlockFacts, Facts, LedgerFacts};
use kairos_protocol::dsl::facts::Known;

use super::{Parts, Session, SkillsError, blocking, session};
use crate::chain::{ChainError, ChainHandle};

/// The facts of the agent with what is known of its session. Where the ledger does not load, nobody can count.
pub(super) async fn now(parts: &Arc<Parts>) -> Result<Facts, SkillsError> {
    match session::now(parts, false).await {
        Ok(session) => of(parts, Some(session)).await,
        Err(SkillsError::Ledger(ChainError::Ask(error))) => Err(ChainError::Ask(error).into()),
        Err(SkillsError::Ledger(_)) => of(parts, None).await,
        Err(error) => Err(error),
    }
}

/// The facts of the agent; `session` is the one that is open.
pub(super) async fn of(parts: &Arc<Parts>, session: Option<Session>) -> Result<Facts, SkillsError> {
    let ledger = ledger(&parts.chain).await?;
    let parts = Arc::clone(parts);
    blocking(move || {
        let (settings, keeps_versions) = (parts.store.config()?, parts.store.keeps_versions());
        Ok(Facts::of_agent(Known {
            settings: &settings,
            used: session.map(|session| session.used),
            keeps_versions,
            ledger: Some(ledger),
        }))
    })
    .await
}

/// What the ledger is like. It is valid where it loads; to check all of it takes as long as it is, and is asked for by
/// itself.
async fn ledger(chain: &ChainHandle) -> Result<LedgerFacts, SkillsError> {
    let facts =
        |state: &str, valid, length, first: Option<&Block>, last: Option<&Block>| LedgerFacts {
            state: state.to_owned(),
            valid,
            length,
            first: first.map(block),
            last: last.map(block),
        };
    let ends = async {
        let Some(last) = chain.history(1).await?.pop() else {
            return Ok(None);
        };
        let first = chain.blocks(0, 1).await?.pop();
        Ok::<_, ChainError>(Some((first, last)))
    };
    match ends.await {
        Ok(None) => Ok(facts("absent", true, 0, None, None)),
        Ok(Some((first, last))) => {
            let length = last.index().saturating_add(1);
            Ok(facts("readable", true, length, first.as_ref(), Some(&last)))
        }
        // Nobody knows what it is like while it does not answer.
        Err(error @ ChainError::Ask(_)) => Err(error.into()),
        Err(_) => Ok(facts("unreadable", false, 0, None, None)),
    }
}

fn block(block: &Block) -> BlockFacts {
    BlockFacts {
        index: block.index(),
        hash: block.hash().to_hex(),
        previous_hash: block.previous_hash().to_hex(),
        timestamp: block.timestamp().to_owned(),
    }
}
