//! Layer L2 and the resources of all layers, asked of the handle: nothing that the actor owns is involved.

use kairos_protocol::id::SkillName;
use kairos_protocol::resource::{ResourceUri, Subdirectory};

use super::store::{
    ContextSession, KnowledgeEntry, Resource, ResourceInfo, SaveContext, SavedContext,
};
use super::{KnowledgeError, KnowledgeHandle};

impl KnowledgeHandle {
    /// Saves a text of a session, new or in place of the one that is there. The ledger is not told.
    pub async fn save_context(&self, save: SaveContext) -> Result<SavedContext, KnowledgeError> {
        let now = self.shared.clock.now();
        self.read(move |store| store.save_context(save, now)).await
    }

    /// Makes the directory `scripts`, `assets` or `references` beside a text of a session; returns its path below the
    /// data directory.
    pub async fn make_context_directory(
        &self,
        session: SkillName,
        name: SkillName,
        which: Subdirectory,
    ) -> Result<String, KnowledgeError> {
        self.read(move |store| store.make_context_directory(&session, &name, which))
            .await
    }

    /// Every session, the newest first.
    pub async fn sessions(&self) -> Result<Vec<ContextSession>, KnowledgeError> {
        self.read(|store| Ok(store.sessions()?)).await
    }

    /// Every text of a session, also those with something wrong.
    pub async fn contexts(
        &self,
        session: SkillName,
    ) -> Result<Vec<KnowledgeEntry>, KnowledgeError> {
        self.read(move |store| store.contexts(&session)).await
    }

    /// One text of a session.
    pub async fn context(
        &self,
        session: SkillName,
        name: SkillName,
    ) -> Result<(KnowledgeEntry, String), KnowledgeError> {
        self.read(move |store| store.context(&session, &name)).await
    }

    /// Removes a text of a session, or the whole session. Returns how many texts went.
    pub async fn delete_context(
        &self,
        session: SkillName,
        name: Option<SkillName>,
    ) -> Result<usize, KnowledgeError> {
        self.read(move |store| store.delete_context(&session, name.as_ref()))
            .await
    }

    /// Reads a text or file of any layer.
    pub async fn resource(&self, uri: ResourceUri) -> Result<Resource, KnowledgeError> {
        self.read(move |store| store.resource(&uri)).await
    }

    /// Every text and file of all layers.
    pub async fn resources(&self) -> Result<Vec<ResourceInfo>, KnowledgeError> {
        self.read(|store| store.resources()).await
    }
}
