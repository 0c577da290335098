//! Changes of layer L1 that wait for a person, and those that a person approved.

use std::sync::Arc;

use actix::prelude::*;
use kairos_place::proposal::{Change, ProposalId};
use kairos_protocol::block::entry::FileChange;

use super::store::{Approved, Changed};
use super::{KnowledgeActor, KnowledgeError, KnowledgeHandle, blocking, commit};
use crate::staging::Held;

/// Makes a change that a person approved.
#[derive(Message)]
#[rtype(result = "Result<Changed, KnowledgeError>")]
struct Make {
    approved: Approved,
    /// Stays locked until this has ended, whoever still waits for it.
    lock: Arc<Held>,
}

/// Settles what a crash left, and tells which approvals came to nothing.
#[derive(Message)]
#[rtype(result = "Result<Vec<ProposalId>, KnowledgeError>")]
struct Settle {
    begun: Vec<ProposalId>,
}

impl Handler<Make> for KnowledgeActor {
    type Result = AtomicResponse<Self, Result<Changed, KnowledgeError>>;

    fn handle(&mut self, Make { approved, lock }: Make, _ctx: &mut Self::Context) -> Self::Result {
        let (shared, chain) = (self.shared.clone(), self.chain.clone());
        let change = commit::change(shared, chain, move |store, held, now| {
            store.approved(held, approved, now)
        });
        AtomicResponse::new(Box::pin(self.change(async move {
            let done = change.await;
            drop(lock);
            done
        })))
    }
}

impl Handler<Settle> for KnowledgeActor {
    type Result = AtomicResponse<Self, Result<Vec<ProposalId>, KnowledgeError>>;

    fn handle(&mut self, Settle { begun }: Settle, _ctx: &mut Self::Context) -> Self::Result {
        let (shared, chain) = (self.shared.clone(), self.chain.clone());
        AtomicResponse::new(Box::pin(self.change(async move {
            let held = commit::lock(&shared, &chain).await?;
            blocking(move || Ok(shared.store.overtaken(&held, &begun)?)).await
        })))
    }
}

impl KnowledgeHandle {
    /// What `change` would do to which files as they are now, the main text first.
    ///
    /// Fails as [`KnowledgeHandle::create`] and its like do, and with [`KnowledgeError::TooMuch`] for an entry with
    /// more than a person can be shown.
    pub async fn preview(
        &self,
        change: Change,
        content: Option<Vec<u8>>,
    ) -> Result<Vec<FileChange>, KnowledgeError> {
        self.read(move |store| store.preview(&change, content.as_deref()))
            .await
    }

    /// The first file that is not as `files` say it is before `change`.
    pub async fn differs(
        &self,
        change: Change,
        files: Vec<FileChange>,
    ) -> Result<Option<String>, KnowledgeError> {
        self.read(move |store| store.differs(&change, &files)).await
    }

    /// Makes a change that a person approved and records it in one block with the decision, both or neither, also
    /// over a crash. `lock` is let go of when that is over, which may be after whoever asked has given up.
    ///
    /// Fails with [`KnowledgeError::Moved`] if anything is not as it was shown, and with
    /// [`KnowledgeError::Overtaken`] if somebody changed the files once it was recorded.
    pub(crate) async fn approved(
        &self,
        approved: Approved,
        lock: Arc<Held>,
    ) -> Result<Changed, KnowledgeError> {
        self.addr.ask(Make { approved, lock }).await?
    }

    /// Settles what a crash left. Those of the approvals `begun` that the ledger tells of are made then, but for
    /// those returned: they were overtaken. What is known about others is forgotten.
    pub(crate) async fn settle(
        &self,
        begun: Vec<ProposalId>,
    ) -> Result<Vec<ProposalId>, KnowledgeError> {
        self.addr.ask(Settle { begun }).await?
    }
}
