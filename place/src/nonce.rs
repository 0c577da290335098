//! Challenges that are good for one peer, one time window and one use, kept without memory until they are used.
//!
//! A nonce is 16 random bytes and a MAC over them, the peer's key and the window. Whoever asks for nonces and
//! never answers costs nothing; only answered ones are remembered, until their window has passed.

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use kairos_protocol::crypto;
use kairos_protocol::hash::ContentHash;
use kairos_protocol::time::Timestamp;
use kairos_protocol::wire::possession::is_nonce;
use subtle::ConstantTimeEq as _;

/// Most used nonces remembered; past it proofs are refused until older ones expire.
pub const MAX_USED: usize = 65_536;

/// Issues nonces and accepts each once.
pub struct NonceBook {
    secret: [u8; 32],
    window: Duration,
    used: HashSet<String>,
    expiries: BTreeSet<(i64, String)>,
}

impl NonceBook {
    /// A book whose nonces are good for `window`, at most twice that. `secret` must be random.
    pub fn new(secret: [u8; 32], window: Duration) -> Self {
        let window = window.max(Duration::from_secs(1));
        Self {
            secret,
            window,
            used: HashSet::new(),
            expiries: BTreeSet::new(),
        }
    }

    /// A fresh nonce for the holder of `key`; `random` must be fresh random bytes.
    pub fn issue(&self, key: &ContentHash, random: [u8; 16], now: Timestamp) -> String {
        let mac = self.mac(key, &random, self.slot(now));
        let mut nonce = hex::encode(random);
        nonce.push_str(&hex::encode(mac));
        nonce
    }

    /// Whether `nonce` is ours, for this key, still good and unused; afterwards it is used.
    pub fn redeem(&mut self, nonce: &str, key: &ContentHash, now: Timestamp) -> bool {
        self.forget_expired(now);
        if !is_nonce(nonce) || self.used.contains(nonce) || self.used.len() >= MAX_USED {
            return false;
        }
        let mut bytes = [0; 32];
        if hex::decode_to_slice(nonce, &mut bytes).is_err() {
            return false;
        }
        let (random, told) = bytes.split_at(16);
        let Ok(random) = <[u8; 16]>::try_from(random) else {
            return false;
        };
        let slot = self.slot(now);
        let ours = [slot, slot - 1]
            .iter()
            .any(|slot| self.mac(key, &random, *slot).ct_eq(told).into());
        if ours {
            let expires = now.plus(self.window * 2).as_secs();
            self.used.insert(nonce.to_owned());
            self.expiries.insert((expires, nonce.to_owned()));
        }
        ours
    }

    fn slot(&self, now: Timestamp) -> i64 {
        now.as_secs() / i64::try_from(self.window.as_secs()).unwrap_or(i64::MAX)
    }

    fn mac(&self, key: &ContentHash, random: &[u8; 16], slot: i64) -> [u8; 16] {
        let full = crypto::mac(&self.secret, &[key.as_bytes(), random, &slot.to_be_bytes()]);
        let mut half = [0; 16];
        for (to, from) in half.iter_mut().zip(full) {
            *to = from;
        }
        half
    }

    fn forget_expired(&mut self, now: Timestamp) {
        while let Some((expires, _)) = self.expiries.first() {
            if *expires > now.as_secs() {
                return;
            }
            if let Some((_, nonce)) = self.expiries.pop_first() {
                self.used.remove(&nonce);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(60);

    #[test]
    fn a_nonce_is_good_once_for_its_key_within_its_window() {
        let mut book = NonceBook::new([7; 32], WINDOW);
        let [key, other] = [ContentHash::of("a"), ContentHash::of("b")];
        let now = Timestamp::from_secs(1_800_000_000);
        let nonce = book.issue(&key, [1; 16], now);
        assert!(!book.redeem(&nonce, &other, now), "another key");
        assert!(!book.redeem("xyz", &key, now), "no nonce");
        assert!(!book.redeem(&"0".repeat(64), &key, now), "not ours");
        assert!(book.redeem(&nonce, &key, now.plus(WINDOW)));
        assert!(!book.redeem(&nonce, &key, now.plus(WINDOW)), "twice");
        let late = book.issue(&key, [2; 16], now);
        assert!(!book.redeem(&late, &key, now.plus(WINDOW * 2)), "expired");
    }

    #[test]
    fn used_nonces_are_forgotten_only_after_they_expired() {
        let mut book = NonceBook::new([7; 32], WINDOW);
        let key = ContentHash::of("a");
        let now = Timestamp::from_secs(1_800_000_000);
        let nonce = book.issue(&key, [1; 16], now);
        assert!(book.redeem(&nonce, &key, now));
        for secs in 0..300 {
            assert!(
                !book.redeem(&nonce, &key, now.plus(Duration::from_secs(secs))),
                "after {secs} s"
            );
        }
        assert!(book.used.is_empty() && book.expiries.is_empty());
    }
}
