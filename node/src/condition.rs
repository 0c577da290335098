//! Whether a node can do its work: every part of it, its disk, and itself.

use serde::Serialize;
use serde_json::{Map, Value};

use crate::hosting::Hosting;
use crate::node::PLACE;
use crate::room::Room;
use crate::watchdog::Readiness;

/// The disk, as it is called among the parts.
const DISK: &str = "disk";
/// All of it, where it is about to end.
const NODE: &str = "node";

/// How a node is.
#[derive(Debug, Default, Serialize)]
pub struct Condition {
    /// A word for each part: `ok`, or what it is instead.
    pub parts: Map<String, Value>,
    /// Those that are not, with the reason.
    pub not_ready: Vec<Unready>,
}

/// A part that does not work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unready {
    /// Its name.
    pub part: &'static str,
    /// The word for how it is.
    pub state: &'static str,
    /// For a person.
    pub reason: String,
}

impl Condition {
    /// How a node is now, by what its watchdog and its disk say.
    pub fn of(hosting: &Hosting, readiness: &Readiness, room: &Room) -> Self {
        let mut condition = Self::default();
        let hosted = hosting.current().is_some();
        let parts = readiness.parts().into_iter();
        for part in parts.filter(|part| hosted || part.name != PLACE) {
            condition.add(part.name, part.state(), part.trouble());
        }
        let trouble = room.trouble();
        condition.add(DISK, if trouble.is_some() { "full" } else { "ok" }, trouble);
        if readiness.is_stopping() {
            let reason = "it was told to stop, and ends what is under way";
            condition.add(NODE, "stopping", Some(reason.to_owned()));
        }
        condition
    }

    /// Whether every part works.
    pub fn is_ready(&self) -> bool {
        self.not_ready.is_empty()
    }

    fn add(&mut self, part: &'static str, state: &'static str, trouble: Option<String>) {
        self.parts.insert(part.to_owned(), state.into());
        self.not_ready.extend(trouble.map(|reason| Unready {
            part,
            state,
            reason,
        }));
    }
}
