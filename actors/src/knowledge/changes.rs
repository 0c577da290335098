//! The changes of layer L1 that its owner asks for, each one message.

use actix::prelude::*;
use kairos_protocol::id::SkillName;

use super::recorded::{self, Ledger, Record, Standing};
use super::store::{Archive, Changed, Create, Delete, Described, Unarchive, Update};
use super::{KnowledgeActor, KnowledgeError, KnowledgeHandle, commit};

macro_rules! changes {
    ($($(#[$doc:meta])* $message:ident, $method:ident;)+) => {
        $(
            impl Message for $message {
                type Result = Result<Changed, KnowledgeError>;
            }

            impl Handler<$message> for KnowledgeActor {
                type Result = AtomicResponse<Self, Result<Changed, KnowledgeError>>;

                fn handle(&mut self, message: $message, _ctx: &mut Self::Context) -> Self::Result {
                    let (shared, chain) = (self.shared.clone(), self.chain.clone());
                    AtomicResponse::new(Box::pin(self.change(commit::change(
                        shared,
                        chain,
                        move |store, held, now| store.$method(held, message, now),
                    ))))
                }
            }
        )+

        impl KnowledgeHandle {
            $(
                $(#[$doc])*
                pub async fn $method(&self, message: $message) -> Result<Changed, KnowledgeError> {
                    self.addr.ask(message).await?
                }
            )+
        }
    };
}

changes! {
    /// Makes an entry and records it, both or neither.
    ///
    /// Fails with [`KnowledgeError::Exists`], and with [`KnowledgeError::Unfit`] or [`KnowledgeError::Frontmatter`]
    /// for a text that could not be listed.
    Create, create;
    /// Gives an entry another main text and records it, both or neither.
    ///
    /// Fails with [`KnowledgeError::NotFound`], [`KnowledgeError::NoChanges`], with [`KnowledgeError::Moved`] where
    /// the text is not the expected one, and as [`KnowledgeHandle::create`] does.
    Update, update;
    /// Removes an entry with all its files and records it, both or neither.
    ///
    /// Fails with [`KnowledgeError::NotFound`] and [`KnowledgeError::Moved`].
    Delete, delete;
    /// Puts an entry into `.archived` and records it, both or neither.
    ///
    /// Fails with [`KnowledgeError::NotFound`] and [`KnowledgeError::AlreadyArchived`].
    Archive, archive;
    /// Brings an entry back from `.archived` and records it, both or neither.
    ///
    /// Fails with [`KnowledgeError::NotArchived`] and [`KnowledgeError::Active`].
    Unarchive, unarchive;
}

/// Records what was changed past the ledger, by an editor or another program.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Vec<Changed>, KnowledgeError>")]
pub struct CatchUp {
    /// Which entries; all if nothing is said.
    pub names: Option<Vec<SkillName>>,
    /// Why, for the ledger.
    pub reason: Option<String>,
}

impl Handler<CatchUp> for KnowledgeActor {
    type Result = AtomicResponse<Self, Result<Vec<Changed>, KnowledgeError>>;

    fn handle(&mut self, message: CatchUp, _ctx: &mut Self::Context) -> Self::Result {
        let CatchUp { names, reason } = message;
        let (shared, chain) = (self.shared.clone(), self.chain.clone());
        let record = commit::catch_up(shared, chain, names, reason);
        AtomicResponse::new(Box::pin(self.change(record)))
    }
}

impl KnowledgeHandle {
    /// See [`CatchUp`]; returns what was recorded. Fails with [`KnowledgeError::NotFound`] for a name that neither
    /// the disk nor the ledger knows.
    pub async fn catch_up(&self, message: CatchUp) -> Result<Vec<Changed>, KnowledgeError> {
        self.addr.ask(message).await?
    }

    /// Compares what is on disk with the ledger, all of which is read. What is gone as recorded is left out.
    pub async fn status(&self) -> Result<Vec<Standing>, KnowledgeError> {
        let mut ledger = Ledger::new();
        recorded::read(&self.chain, |record| {
            ledger.insert(record.knowledge_id.clone(), record);
        })
        .await?;
        let on_disk =
            self.read(|store| Ok((store.entries(&mut Described::default())?, store.archived()?)));
        let (entries, archived) = on_disk.await?;
        Ok(recorded::compare(&entries, &archived, &ledger))
    }

    /// The last `limit` records of the knowledge `name`, newest first.
    pub async fn history(&self, name: &str, limit: usize) -> Result<Vec<Record>, KnowledgeError> {
        recorded::last(&self.chain, name, limit).await
    }
}
