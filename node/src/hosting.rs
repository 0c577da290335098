//! The switch of the Meeting Place: it is begun and ended while the node runs, for every door at once.
//!
//! Owns: the Place that is hosted, if one is. Its actors live where the node's other actors do, whoever throws the switch,
//! since the threads that serve requests end before them.

use std::sync::Arc;
use std::time::Duration;

use actix::ArbiterHandle;
use arc_swap::ArcSwapOption;
use thiserror::Error;
use tokio::sync::{Mutex, oneshot, watch};

use crate::agent::Agent;
use crate::hosted::{Hosted, Opened};

/// Why the switch did not work.
#[derive(Debug, Error)]
pub enum HostingError {
    /// The Place cannot be opened. Tells of local paths, so it is for the owner only.
    #[error("{0:#}")]
    Open(#[from] anyhow::Error),
    /// The node is ending.
    #[error("the node is ending")]
    Ending,
}

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct Hosting(Arc<Shared>);

struct Shared {
    agent: Arc<Agent>,
    /// Where the actors live.
    arbiter: ArbiterHandle,
    /// How long requests under way are waited for.
    patience: Duration,
    current: ArcSwapOption<Hosted>,
    /// Held while the switch is thrown.
    switching: Mutex<()>,
    /// Requests under way at the Place.
    visits: watch::Sender<usize>,
}

/// A request under way at the Place; counts until it is dropped.
pub struct Visit {
    hosted: Arc<Hosted>,
    shared: Arc<Shared>,
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.shared
            .visits
            .send_modify(|count| *count = count.saturating_sub(1));
    }
}

impl Visit {
    /// The Place that is visited.
    pub fn hosted(&self) -> &Arc<Hosted> {
        &self.hosted
    }
}

impl Hosting {
    /// Hosts nothing yet. Actors will live on the arbiter that this is called on.
    pub fn new(agent: Arc<Agent>) -> Self {
        Self(Arc::new(Shared {
            arbiter: actix::Arbiter::current(),
            patience: agent.settings.http.shutdown_timeout.get(),
            agent,
            current: ArcSwapOption::empty(),
            switching: Mutex::new(()),
            visits: watch::Sender::new(0),
        }))
    }

    /// The Place that is hosted at this moment.
    pub fn current(&self) -> Option<Arc<Hosted>> {
        self.0.current.load_full()
    }

    /// The same for the time of a request, which is waited for when the Place ends.
    pub fn visit(&self) -> Option<Visit> {
        // Counted first: whoever ends the Place takes it away before it looks at the count.
        self.0.visits.send_modify(|count| *count += 1);
        let hosted = self.current();
        let visit = hosted.map(|hosted| Visit {
            hosted,
            shared: Arc::clone(&self.0),
        });
        if visit.is_none() {
            self.0.visits.send_modify(|count| *count -= 1);
        }
        visit
    }

    /// Begins to host the Place on this thread, which may block; for a node that serves nobody yet.
    pub fn begin(&self) -> anyhow::Result<()> {
        let opened = Opened::open(&self.0.agent)?;
        let hosted = opened.start(&self.0.agent);
        self.0.current.store(Some(Arc::new(hosted)));
        Ok(())
    }

    /// Begins to host the Place; false if it is hosted already.
    ///
    /// # Errors
    ///
    /// [`HostingError::Open`], also where another process hosts it.
    pub async fn start(&self) -> Result<bool, HostingError> {
        let _switching = self.0.switching.lock().await;
        if self.current().is_some() {
            return Ok(false);
        }
        let agent = Arc::clone(&self.0.agent);
        let opened = tokio::task::spawn_blocking(move || Opened::open(&agent)).await;
        let opened = opened.map_err(anyhow::Error::from)??;
        let (tell, started) = oneshot::channel();
        let agent = Arc::clone(&self.0.agent);
        let sent = self.0.arbiter.spawn(async move {
            // Whoever asked may have gone; then nobody is to host it, and its actors end with their handles.
            let _gone = tell.send(opened.start(&agent));
        });
        let hosted = match sent {
            true => started.await.map_err(|_| HostingError::Ending)?,
            false => return Err(HostingError::Ending),
        };
        self.0.current.store(Some(Arc::new(hosted)));
        tracing::info!("the Meeting Place is open");
        Ok(true)
    }

    /// Ends the Place once all that was asked of it is done: newcomers find it closed at once, listeners are let go,
    /// and requests under way are waited for as long as when the node stops. False if none is hosted.
    pub async fn stop(&self) -> bool {
        let _switching = self.0.switching.lock().await;
        let Some(hosted) = self.0.current.swap(None) else {
            return false;
        };
        hosted.hang_up();
        let mut visits = self.0.visits.subscribe();
        let none = visits.wait_for(|count| *count == 0);
        if tokio::time::timeout(self.0.patience, none).await.is_err() {
            tracing::warn!("requests at the Meeting Place took too long and are not waited for");
        }
        hosted.shutdown().await;
        tracing::info!("the Meeting Place is closed");
        true
    }

    /// Lets go of those who listen, who would hold up the end of the node.
    pub fn hang_up(&self) {
        if let Some(hosted) = self.current() {
            hosted.hang_up();
        }
    }

    /// Whether the Place works, which it does too if none is hosted.
    pub async fn is_well(&self) -> bool {
        match self.current() {
            // One that was closed meanwhile owes no answer.
            Some(hosted) => hosted.is_well().await || self.is_another(&hosted),
            None => true,
        }
    }

    fn is_another(&self, hosted: &Arc<Hosted>) -> bool {
        let current = self.current();
        current.is_none_or(|current| !Arc::ptr_eq(&current, hosted))
    }
}
