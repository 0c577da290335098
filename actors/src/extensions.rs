//! Extensions of the meeting protocol: which are in effect here, and which actions they name.
//!
//! Nothing in an extension is ever run: its actions are advertised, and who sends one is told that it has no handler. No
//! actor, since nothing is owned but files, which [`crate::approvals`] writes with a person's consent: a text is in
//! effect only while the note beside it tells of the consent to exactly its bytes, and the guard still lets it pass.
//! Readers share one look at them.

use std::convert::Infallible;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kairos_protocol::wire::extension::{Extension, Word};

use crate::recent::Recent;

mod store;

pub use store::{ExtensionFault, Listed, Standing};
pub(crate) use store::{ExtensionStore, disabled_file, note_file};

/// How long a look at the files is good for.
const FRESH: Duration = Duration::from_secs(1);

/// What is in effect.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Offer {
    /// What is needed first, otherwise by name.
    pub extensions: Vec<Extension>,
}

impl Offer {
    /// Whether one of them names this action.
    pub fn knows(&self, action: &str) -> bool {
        let mut actions = self.extensions.iter().flat_map(|known| &known.actions);
        actions.any(|known| known.as_str() == action)
    }
}

/// Reads the extensions of one data directory. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Extensions {
    store: Arc<ExtensionStore>,
    /// Readers of a fresh one wait for nobody: they come with each request.
    offer: Arc<Recent<Offer>>,
}

impl Extensions {
    /// Those of the data directory `data`; touches no file before it is asked.
    pub fn new(data: &Path) -> Self {
        Self {
            store: Arc::new(ExtensionStore::new(data)),
            offer: Arc::default(),
        }
    }

    /// What is in effect, a second ago at most. The same value as long as nothing changed. What cannot be looked at is
    /// not in effect.
    pub async fn current(&self) -> Arc<Offer> {
        let look = || async {
            let offer = self.blocking(ExtensionStore::offer).await;
            Ok::<_, Infallible>(offer.unwrap_or_else(|error| {
                tracing::error!(%error, "no extensions are offered, since they cannot be looked at");
                Offer::default()
            }))
        };
        // A change with consent shows within the second, like one by hand.
        let changes = || 0;
        let Ok(offer) = self.offer.get(FRESH, changes, look).await;
        offer
    }

    /// All that are here, in effect or not, and why not.
    ///
    /// # Errors
    ///
    /// The directory cannot be read, or has too many of them.
    pub async fn list(&self) -> io::Result<Vec<Listed>> {
        self.blocking(ExtensionStore::list).await
    }

    /// The text of one that is here, in effect or not; nothing if there is none.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    pub async fn text(&self, name: Word) -> io::Result<Option<String>> {
        self.blocking(move |store| store.text(&name)).await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&ExtensionStore) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let store = Arc::clone(&self.store);
        match tokio::task::spawn_blocking(move || work(&store)).await {
            Ok(done) => done,
            Err(panic) => Err(io::Error::other(panic)),
        }
    }
}
