//! Public keys that were parsed lately, so that a peer that comes again costs one verification and no parsing.

use std::collections::HashMap;

use kairos_protocol::crypto::PublicKey;
use parking_lot::Mutex;

/// Most keys kept; past it all are forgotten at once, which costs each peer one parse.
const KEPT_MAX: usize = 1024;

/// Parsed keys by the text they came as. Only keys that verified something are kept.
#[derive(Default)]
pub struct Keys(Mutex<HashMap<String, PublicKey>>);

impl Keys {
    /// The key that `pem` was parsed to before.
    pub fn get(&self, pem: &str) -> Option<PublicKey> {
        self.0.lock().get(pem).cloned()
    }

    /// Keeps what `pem` was parsed to.
    pub fn keep(&self, pem: &str, key: &PublicKey) {
        let mut kept = self.0.lock();
        if kept.len() >= KEPT_MAX && !kept.contains_key(pem) {
            kept.clear();
        }
        kept.entry(pem.to_owned()).or_insert_with(|| key.clone());
    }
}

#[cfg(test)]
mod tests {
    use kairos_protocol::crypto::Keypair;

    use super::*;

    #[test]
    fn keeps_a_bounded_number_of_keys() {
        let key = Keypair::generate().unwrap().public().clone();
        let keys = Keys::default();
        for n in 0..KEPT_MAX + 1 {
            keys.keep(&n.to_string(), &key);
        }
        assert_eq!(keys.0.lock().len(), 1);
        assert_eq!(keys.get(&KEPT_MAX.to_string()), Some(key));
        assert_eq!(keys.get("0"), None);
    }
}
