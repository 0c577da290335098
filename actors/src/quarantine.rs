//! The quarantine: what came from other agents waits here until a person has decided.
//!
//! Owns: `storage/quarantine` below the data directory. Talks to: nobody. Asked by: the meeting actor when
//! something was acquired, the command line, MCP and the dashboard when someone decides, through
//! [`QuarantineHandle`].
//! Invariant: what is given out after an approval is, to the byte, what was shown.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use kairos_protocol::hash::ContentHash;

use crate::bounded_addr::{Asks, BoundedAddr};

pub mod store;

use store::QuarantineStore;
pub use store::{
    Broken, Evidence, Held, HeldKind, HoldId, HoldIdError, Listing, QuarantineError,
    QuarantinePolicy,
};

/// Stores an acquisition; the same one is stored once.
///
/// Fails with [`QuarantineError::Full`] and [`QuarantineError::TooLarge`] at the bounds.
#[derive(Debug, Message)]
#[rtype(result = "Result<Held, QuarantineError>")]
pub struct Hold {
    /// What is known about it.
    pub evidence: Evidence,
    /// The text of a skill, or the JSON package of a SkillSet.
    pub payload: Vec<u8>,
}

/// Everything that waits.
#[derive(Debug, Message)]
#[rtype(result = "Result<Listing, QuarantineError>")]
pub struct List;

/// How many wait, readable or not.
#[derive(Debug, Message)]
#[rtype(result = "Result<usize, QuarantineError>")]
pub struct Count;

/// One acquisition with its payload.
///
/// Fails with [`QuarantineError::Unknown`], or with [`QuarantineError::Damaged`] if it is not what came.
#[derive(Debug, Message)]
#[rtype(result = "Result<(Held, Vec<u8>), QuarantineError>")]
pub struct Show {
    /// Which.
    pub id: HoldId,
}

/// One acquisition with its payload, approved under the seal that was shown.
///
/// It stays until it is discarded, so that nothing is lost if what follows fails. Fails with
/// [`QuarantineError::Changed`] if a byte of evidence or payload is not what bears the seal.
#[derive(Debug, Message)]
#[rtype(result = "Result<(Held, Vec<u8>), QuarantineError>")]
pub struct Take {
    /// Which.
    pub id: HoldId,
    /// [`Held::seal`] of what was shown.
    pub seal: ContentHash,
}

/// Deletes one acquisition, readable or not.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), QuarantineError>")]
pub struct Discard {
    /// Which.
    pub id: HoldId,
}

/// Whether the actor answers.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), QuarantineError>")]
pub struct Health;

/// Stops; everything acknowledged is on disk.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), QuarantineError>")]
pub struct Shutdown;

/// See the module.
#[derive(Debug)]
pub struct QuarantineActor {
    store: QuarantineStore,
}

/// Reaches the quarantine.
#[derive(Debug, Clone)]
pub struct QuarantineHandle(BoundedAddr<QuarantineActor>);

impl QuarantineHandle {
    /// See [`Hold`].
    pub async fn hold(
        &self,
        evidence: Evidence,
        payload: Vec<u8>,
    ) -> Result<Held, QuarantineError> {
        self.0.ask(Hold { evidence, payload }).await?
    }

    /// See [`List`].
    pub async fn list(&self) -> Result<Listing, QuarantineError> {
        self.0.ask(List).await?
    }

    /// See [`Count`].
    pub async fn count(&self) -> Result<usize, QuarantineError> {
        self.0.ask(Count).await?
    }

    /// See [`Show`].
    pub async fn show(&self, id: HoldId) -> Result<(Held, Vec<u8>), QuarantineError> {
        self.0.ask(Show { id }).await?
    }

    /// See [`Take`].
    pub async fn take(
        &self,
        id: HoldId,
        seal: ContentHash,
    ) -> Result<(Held, Vec<u8>), QuarantineError> {
        self.0.ask(Take { id, seal }).await?
    }

    /// See [`Discard`].
    pub async fn discard(&self, id: HoldId) -> Result<(), QuarantineError> {
        self.0.ask(Discard { id }).await?
    }

    /// The bound of asks, and what was counted at it.
    pub fn asks(&self) -> &Arc<Asks> {
        self.0.asks()
    }

    /// See [`Health`].
    pub async fn health(&self) -> Result<(), QuarantineError> {
        self.0.probe(Health).await?
    }

    /// See [`Shutdown`].
    pub async fn shutdown(&self) -> Result<(), QuarantineError> {
        self.0.ask(Shutdown).await?
    }
}

impl QuarantineActor {
    /// Starts the quarantine of the data directory; touches no file before it is asked.
    pub fn start(
        data: &Path,
        policy: QuarantinePolicy,
        permits: usize,
        patience: Duration,
    ) -> QuarantineHandle {
        let store = QuarantineStore::new(&data.join("storage").join("quarantine"), policy);
        QuarantineHandle(BoundedAddr::start(permits, patience, |_| Self { store }))
    }

    /// Runs `work` on a blocking thread; no other message is handled meanwhile.
    fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&QuarantineStore) -> Result<T, QuarantineError> + Send + 'static,
    ) -> AtomicResponse<Self, Result<T, QuarantineError>> {
        let store = self.store.clone();
        let run = async move {
            match tokio::task::spawn_blocking(move || work(&store)).await {
                Ok(done) => done,
                Err(panic) => Err(io::Error::other(panic).into()),
            }
        };
        AtomicResponse::new(Box::pin(run.into_actor(self)))
    }
}

impl Actor for QuarantineActor {
    type Context = Context<Self>;
}

impl Handler<Hold> for QuarantineActor {
    type Result = AtomicResponse<Self, Result<Held, QuarantineError>>;

    fn handle(
        &mut self,
        Hold { evidence, payload }: Hold,
        _ctx: &mut Self::Context,
    ) -> Self::Result {
        self.blocking(move |store| {
            let held = store.hold(evidence, &payload)?;
            tracing::info!(quarantine.id = %held.id, kind = held.evidence.kind.as_str(), "holds an acquisition");
            Ok(held)
        })
    }
}

impl Handler<List> for QuarantineActor {
    type Result = AtomicResponse<Self, Result<Listing, QuarantineError>>;

    fn handle(&mut self, _list: List, _ctx: &mut Self::Context) -> Self::Result {
        self.blocking(QuarantineStore::list)
    }
}

impl Handler<Count> for QuarantineActor {
    type Result = AtomicResponse<Self, Result<usize, QuarantineError>>;

    fn handle(&mut self, _: Count, _ctx: &mut Self::Context) -> Self::Result {
        self.blocking(QuarantineStore::count)
    }
}

impl Handler<Show> for QuarantineActor {
    type Result = AtomicResponse<Self, Result<(Held, Vec<u8>), QuarantineError>>;

    fn handle(&mut self, Show { id }: Show, _ctx: &mut Self::Context) -> Self::Result {
        self.blocking(move |store| store.show(&id))
    }
}

impl Handler<Take> for QuarantineActor {
    type Result = AtomicResponse<Self, Result<(Held, Vec<u8>), QuarantineError>>;

    fn handle(&mut self, Take { id, seal }: Take, _ctx: &mut Self::Context) -> Self::Result {
        self.blocking(move |store| store.take(&id, &seal))
    }
}

impl Handler<Discard> for QuarantineActor {
    type Result = AtomicResponse<Self, Result<(), QuarantineError>>;

    fn handle(&mut self, Discard { id }: Discard, _ctx: &mut Self::Context) -> Self::Result {
        self.blocking(move |store| store.discard(&id))
    }
}

impl Handler<Health> for QuarantineActor {
    type Result = Result<(), QuarantineError>;

    fn handle(&mut self, _health: Health, _ctx: &mut Self::Context) -> Self::Result {
        Ok(())
    }
}

impl Handler<Shutdown> for QuarantineActor {
    type Result = Result<(), QuarantineError>;

    fn handle(&mut self, _shutdown: Shutdown, ctx: &mut Self::Context) -> Self::Result {
        ctx.stop();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bounded_addr::AskError;

    #[actix::test]
    async fn holds_until_a_decision_and_stops_when_told() {
        let temp = tempfile::tempdir().unwrap();
        let quarantine = QuarantineActor::start(
            temp.path(),
            QuarantinePolicy::default(),
            8,
            Duration::from_secs(60),
        );
        let evidence = store::tests::evidence(HeldKind::Skill, "note", b"text");
        let held = quarantine.hold(evidence, b"text".to_vec()).await.unwrap();
        assert_eq!(
            quarantine.list().await.unwrap().held,
            std::slice::from_ref(&held)
        );
        let (shown, _) = quarantine.show(held.id.clone()).await.unwrap();
        assert!(
            temp.path()
                .join("storage/quarantine")
                .join(held.id.as_str())
                .is_dir()
        );
        assert_eq!(
            quarantine
                .take(held.id.clone(), shown.seal)
                .await
                .unwrap()
                .1,
            b"text"
        );
        let other = ContentHash::of("another seal");
        let refused = quarantine.take(held.id.clone(), other).await.unwrap_err();
        assert!(matches!(refused, QuarantineError::Changed(_)));
        quarantine.discard(held.id).await.unwrap();
        assert_eq!(quarantine.list().await.unwrap(), Listing::default());
        quarantine.health().await.unwrap();
        quarantine.shutdown().await.unwrap();
        let stopped = quarantine.health().await.unwrap_err();
        assert!(matches!(stopped, QuarantineError::Ask(AskError::Stopped)));
    }
}
