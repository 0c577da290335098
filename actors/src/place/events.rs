//! Who hears of changes of the board.
//!
//! Whoever is slow loses the oldest and is told how many; nobody waits for anybody.

use kairos_place::meeting_place::Event;
use parking_lot::Mutex;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

/// Changes that a listener may be behind.
const BEHIND_MAX: usize = 256;

/// See the module.
pub(super) struct EventChannel(Mutex<Option<broadcast::Sender<Event>>>);

impl Default for EventChannel {
    fn default() -> Self {
        let (sender, _) = broadcast::channel(BEHIND_MAX);
        Self(Mutex::new(Some(sender)))
    }
}

impl EventChannel {
    pub(super) fn tell(&self, events: Vec<Event>) {
        if events.is_empty() {
            return;
        }
        if let Some(sender) = &*self.0.lock() {
            for event in events {
                // Fails where nobody listens.
                let _nobody = sender.send(event);
            }
        }
    }

    pub(super) fn listen(&self) -> Option<Listener> {
        let sender = self.0.lock();
        Some(Listener(sender.as_ref()?.subscribe()))
    }

    pub(super) fn end(&self) {
        self.0.lock().take();
    }
}

/// What a listener hears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// A change.
    Event(Event),
    /// So many changes were missed.
    Missed(u64),
}

/// Hears of changes of the board.
#[derive(Debug)]
pub struct Listener(broadcast::Receiver<Event>);

impl Listener {
    /// The next change; nothing once the Place ends.
    pub async fn next(&mut self) -> Option<Heard> {
        match self.0.recv().await {
            Ok(event) => Some(Heard::Event(event)),
            Err(RecvError::Lagged(missed)) => Some(Heard::Missed(missed)),
            Err(RecvError::Closed) => None,
        }
    }
}
