//! Extensions of the protocol, as a peer proposes them.

use kairos_protocol::time::Timestamp;
use kairos_protocol::wire::extension::{
    ACTIONS_MAX, Consent, Extension, Guard, REQUIRES_MAX, Registry, State, load,
};

use crate::words;

/// Reads `data` as one extension, or as several between lines of `===`: whatever they claim, what is in effect passes
/// the guard, has a person's consent, and collides with nothing.
pub fn run(data: &[u8]) -> String {
    let Ok(text) = std::str::from_utf8(data) else {
        return "no text".to_owned();
    };
    let mut registry = Registry::default();
    let mut outcome = String::new();
    let now = Timestamp::from_secs(0);
    for part in text.split("\n===\n").take(8) {
        let extension = match Extension::read(part) {
            Ok(extension) => extension,
            Err(error) => {
                outcome = words(error);
                continue;
            }
        };
        assert!(extension.actions.len() <= ACTIONS_MAX && extension.requires.len() <= REQUIRES_MAX);
        let name = extension.name.clone();
        let consent = Consent {
            by: "owner".to_owned(),
            at: now,
            content_hash: extension.content_hash,
        };
        let done = registry
            .propose(extension, "peer", now)
            .map(drop)
            .and_then(|()| registry.evaluate(&name))
            .and_then(|_| registry.adopt(&name, consent));
        outcome = done.map_or_else(words, |()| "adopted".to_owned());
    }
    let adopted = registry.adopted();
    let loaded = load(&adopted);
    assert_eq!(loaded.collisions, []);
    assert_eq!(loaded.order.len(), adopted.len());
    for entry in registry.entries() {
        assert_eq!(entry.consent.is_some(), entry.state == State::Adopted);
    }
    for extension in &adopted {
        assert_eq!(Guard { adopted: &adopted }.judge(extension), []);
    }
    let stored = serde_json::to_string(&registry).expect("it can be stored");
    assert_eq!(
        serde_json::from_str::<Registry>(&stored).ok(),
        Some(registry)
    );
    outcome
}
