//! The secrets of the prekeys that an agent left at one Place: which to make, and which to erase.
//!
//! A one-time secret goes with the message it opened. A long-lived one is replaced while it is still good and erased
//! once nothing sealed to it can still be on its way.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::prekey::{PREKEY_LIFETIME_MAX, Prekey, PrekeyKind, PrekeySecret};
use super::replay;
use crate::crypto::{KeyError, Keypair};
use crate::id::{AgentId, PrekeyId};
use crate::time::Timestamp;
use crate::wire::place::Published;

/// For how long a long-lived prekey is sealed to.
pub const LONG_LIVED_LIFETIME: Duration = Duration::from_hours(24 * 14);
/// What of that is left when the next one takes its place.
const LONG_LIVED_LEFT: Duration = Duration::from_hours(24 * 7);
/// Most secrets kept of one Place: those that wait, and those that were handed out and never used.
pub const SECRETS_MAX: usize = 500;

/// See the module.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Keyring(BTreeMap<PrekeyId, PrekeySecret>);

/// Prekeys to publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fresh {
    /// Takes the place of the one before.
    pub long_lived: Prekey,
    /// Come to those that wait.
    pub one_time: Vec<Prekey>,
}

impl Keyring {
    /// The secret of a prekey, if it was not erased.
    pub fn secret(&self, id: &PrekeyId) -> Option<&PrekeySecret> {
        self.0.get(id)
    }

    /// How many secrets there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Makes what the Place lacks, if anything: a long-lived prekey if it has none of ours or that one soon ends, and
    /// one-time prekeys up to `wanted` once fewer than half of them wait.
    ///
    /// The secrets must be durable before the prekeys are published.
    ///
    /// # Errors
    ///
    /// What the cryptographic library says.
    pub fn replenish(
        &mut self,
        published: &Published,
        wanted: usize,
        owner: &AgentId,
        identity: &Keypair,
        now: Timestamp,
    ) -> Result<Option<Fresh>, KeyError> {
        let count = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
        let waiting = count(published.one_time);
        // More than a Place keeps it would refuse, and the long-lived one with them.
        let wanted = wanted.min(published.one_time_max.map_or(usize::MAX, count));
        let missing = match waiting < wanted.div_ceil(2) {
            true => wanted - waiting,
            false => 0,
        };
        let current = published
            .long_lived
            .as_deref()
            .and_then(|id| id.parse().ok());
        let current = current.and_then(|id: PrekeyId| self.0.get(&id));
        let current = current.filter(|secret| secret.expires() > now.plus(LONG_LIVED_LEFT));
        if current.is_some() && missing == 0 {
            return Ok(None);
        }
        let long_lived = match current {
            Some(secret) => secret.publish(owner, identity)?,
            None => {
                let kind = PrekeyKind::LongLived;
                self.add(
                    PrekeySecret::generate(kind, now, LONG_LIVED_LIFETIME)?,
                    owner,
                    identity,
                )?
            }
        };
        let mut one_time = Vec::with_capacity(missing);
        for _ in 0..missing {
            let secret = PrekeySecret::generate(PrekeyKind::OneTime, now, PREKEY_LIFETIME_MAX)?;
            one_time.push(self.add(secret, owner, identity)?);
        }
        Ok(Some(Fresh {
            long_lived,
            one_time,
        }))
    }

    /// Erases a one-time secret that did its work; a long-lived one stays.
    pub fn used(&mut self, id: &PrekeyId) -> bool {
        let once = self
            .0
            .get(id)
            .is_some_and(|secret| secret.kind() == PrekeyKind::OneTime);
        once && self.0.remove(id).is_some()
    }

    /// Erases what is of no use any more; whether there was anything.
    pub fn sweep(&mut self, now: Timestamp) -> bool {
        let before = self.0.len();
        self.0
            .retain(|_, secret| secret.expires().plus(replay::PAST) > now);
        self.0.len() < before
    }

    fn add(
        &mut self,
        secret: PrekeySecret,
        owner: &AgentId,
        identity: &Keypair,
    ) -> Result<Prekey, KeyError> {
        let prekey = secret.publish(owner, identity)?;
        while self.0.len() >= SECRETS_MAX {
            // Those that were made first were handed out long ago and never used.
            let one_time = self
                .0
                .iter()
                .filter(|(_, s)| s.kind() == PrekeyKind::OneTime);
            let oldest = one_time
                .min_by_key(|(_, s)| s.expires())
                .map(|(id, _)| id.clone());
            match oldest {
                Some(id) => self.0.remove(&id),
                None => break,
            };
        }
        self.0.insert(prekey.key_id.clone(), secret);
        Ok(prekey)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use super::*;

    static IDENTITY: LazyLock<Keypair> = LazyLock::new(|| Keypair::generate().unwrap());
    const DAY: Duration = Duration::from_hours(24);

    fn at(days: u32) -> Timestamp {
        Timestamp::from_secs(1_800_000_000).plus(DAY * days)
    }

    fn replenish(ring: &mut Keyring, published: &Published, days: u32) -> Option<Fresh> {
        let owner = IDENTITY.public().agent_id();
        ring.replenish(published, 10, &owner, &IDENTITY, at(days))
            .unwrap()
    }

    fn published(fresh: &Fresh, one_time: u64) -> Published {
        let long_lived = Some(fresh.long_lived.key_id.to_string());
        Published {
            long_lived,
            one_time,
            one_time_max: None,
        }
    }

    #[test]
    fn makes_what_the_place_lacks_and_nothing_else() {
        let mut ring = Keyring::default();
        let first = replenish(&mut ring, &Published::default(), 0).unwrap();
        assert_eq!((first.one_time.len(), ring.len()), (10, 11));
        assert_eq!(replenish(&mut ring, &published(&first, 5), 0), None);
        let few = Published {
            one_time_max: Some(3),
            ..Published::default()
        };
        let fitting = replenish(&mut Keyring::default(), &few, 0).unwrap();
        assert_eq!(fitting.one_time.len(), 3);
        let more = replenish(&mut ring, &published(&first, 4), 0).unwrap();
        assert_eq!(
            (more.one_time.len(), &more.long_lived),
            (6, &first.long_lived)
        );
        // A Place that began anew gets new ones, since those of before may have been handed out.
        let anew = replenish(&mut ring, &Published::default(), 0).unwrap();
        assert_ne!(anew.long_lived, first.long_lived);
        assert_eq!(anew.one_time.len(), 10);
    }

    #[test]
    fn replaces_the_long_lived_one_in_time_and_erases_it_much_later() {
        let mut ring = Keyring::default();
        let first = replenish(&mut ring, &Published::default(), 0).unwrap();
        assert_eq!(replenish(&mut ring, &published(&first, 10), 6), None);
        let second = replenish(&mut ring, &published(&first, 10), 7).unwrap();
        assert!(second.one_time.is_empty() && second.long_lived != first.long_lived);
        let first = &first.long_lived.key_id;
        assert!(!ring.sweep(at(20)) && ring.secret(first).is_some());
        assert!(ring.sweep(at(21)) && ring.secret(first).is_none());
        assert!(ring.secret(&second.long_lived.key_id).is_some());
    }

    #[test]
    fn a_one_time_secret_goes_with_its_use_and_a_long_lived_one_does_not() {
        let mut ring = Keyring::default();
        let fresh = replenish(&mut ring, &Published::default(), 0).unwrap();
        let once = &fresh.one_time[0].key_id;
        assert!(ring.used(once) && !ring.used(once) && ring.secret(once).is_none());
        assert!(!ring.used(&fresh.long_lived.key_id));
        assert!(ring.secret(&fresh.long_lived.key_id).is_some());
    }

    #[test]
    fn keeps_no_more_secrets_than_its_bound_and_never_gives_up_the_long_lived_one() {
        let mut ring = Keyring::default();
        let owner = IDENTITY.public().agent_id();
        let mut last = replenish(&mut ring, &Published::default(), 0).unwrap();
        for secs in 1..SECRETS_MAX as u64 / 10 + 3 {
            let (now, held) = (at(0).plus(Duration::from_secs(secs)), published(&last, 0));
            let made = ring.replenish(&held, 10, &owner, &IDENTITY, now);
            last = made.unwrap().unwrap();
        }
        assert_eq!(ring.len(), SECRETS_MAX);
        assert!(ring.secret(&last.long_lived.key_id).is_some());
        assert!(
            last.one_time
                .iter()
                .all(|key| ring.secret(&key.key_id).is_some())
        );
    }
}
