//! An agent in a test's hands: it introduces itself correctly and then does what the test wants.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use kairos_protocol::hash::ContentHash;
use kairos_tests::{Asked, Call, Ended, Home, Stranger, TestPeer};
use serde_json::{Value, json};

pub(crate) const TEA: &str = "---\npublic: true\n---\n\nWarm the pot.\n";

/// Answers a request, or gives it back to be answered honestly.
pub(crate) type Trick = Box<dyn Fn(&TestPeer, Asked) -> Option<Asked> + Send + Sync>;

/// One agent whose trick changes from case to case.
pub(crate) struct Persona {
    pub(crate) peer: Arc<TestPeer>,
    trick: Arc<Mutex<Arc<Trick>>>,
    stranger: Stranger,
}

impl Persona {
    pub(crate) fn start() -> Self {
        Self::with(TestPeer::new("Mallory"))
    }

    pub(crate) fn with(peer: TestPeer) -> Self {
        let peer = Arc::new(peer);
        let honest: Trick = Box::new(|_, asked| Some(asked));
        let trick = Arc::new(Mutex::new(Arc::new(honest)));
        let (current, who) = (Arc::clone(&trick), Arc::clone(&peer));
        let stranger = Stranger::start(move |asked| {
            let trick = Arc::clone(&current.lock().unwrap_or_else(PoisonError::into_inner));
            if let Some(asked) = trick(&who, asked) {
                honestly(&who, asked);
            }
        });
        Self {
            peer,
            trick,
            stranger,
        }
    }

    pub(crate) fn url(&self) -> String {
        self.stranger.url()
    }

    pub(crate) fn plays(&self, trick: Trick) {
        *self.trick.lock().unwrap() = Arc::new(trick);
    }

    /// Lets `home` run a command against it, with short patience.
    pub(crate) fn is_called(&self, home: &Home, command: &[&str], rest: &[&str]) -> Ended {
        let patience = ["connect_timeout=1s", "idle_timeout=1s", "total_timeout=2s"];
        let call = patience.iter().fold(Call::new(command), |call, limit| {
            call.args(["--set", &format!("client.{limit}")])
        });
        call.arg(self.url()).args(rest).home(home).run()
    }
}

/// A trick on one endpoint: another value in place of the honest answer.
pub(crate) fn instead(what: &'static str, body: Value) -> Trick {
    Box::new(move |_, asked| match asked.what == what {
        true => {
            asked.json(&body);
            None
        }
        false => Some(asked),
    })
}

/// A trick on one endpoint, in whatever way.
pub(crate) fn on(
    what: &'static str,
    act: impl Fn(&TestPeer, Asked) + Send + Sync + 'static,
) -> Trick {
    Box::new(move |peer, asked| match asked.what == what {
        true => {
            act(peer, asked);
            None
        }
        false => Some(asked),
    })
}

pub(crate) const HELLO: &str = "GET /meeting/v1/introduce";
pub(crate) const WELCOME: &str = "POST /meeting/v1/introduce";
pub(crate) const SKILLS: &str = "GET /meeting/v1/skills";
pub(crate) const SETS: &str = "GET /meeting/v1/skillsets";
pub(crate) const SKILL: &str = "POST /meeting/v1/skill_content";
pub(crate) const SET: &str = "POST /meeting/v1/skillset_content";

/// What software of the reference answers: correct, and without a proof.
pub(crate) fn honestly(peer: &TestPeer, asked: Asked) {
    let body = match asked.what.as_str() {
        HELLO => peer.introduction(),
        WELCOME => welcome(),
        SKILLS => {
            json!({"skills": [{"id": "0123456789abcdef", "name": "tea", "content_hash": hash(TEA)}], "count": 1})
        }
        SETS => json!({"skillsets": [], "count": 0}),
        SKILL => tea(),
        _ => json!({}),
    };
    asked.json(&body);
}

pub(crate) fn welcome() -> Value {
    json!({"status": "received", "identity_verified": true, "session_token": "a".repeat(64)})
}

/// The honest answer to a request for the skill.
pub(crate) fn tea() -> Value {
    json!({"message": {"action": "skill_content", "payload": {
        "skill_id": "0123456789abcdef", "skill_name": "tea", "format": "markdown", "content": TEA, "content_hash": hash(TEA),
    }}})
}

pub(crate) fn hash(text: &str) -> String {
    ContentHash::of(text).to_hex()
}

/// Everything that an acquisition must not touch: all but whom we know.
pub(crate) fn state(home: &Home) -> BTreeMap<PathBuf, String> {
    let mut state = home.state();
    state.remove(Path::new("storage/peers.jsonl"));
    state
}
