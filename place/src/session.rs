//! Sessions: who holds which token, how strongly that was established, and how often they may ask.
//!
//! Tokens are kept as hashes only, so looking one up tells nothing about the others, and a dump of this table
//! opens no door. A session ends by age, by goodbye, or because its key opened too many.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use kairos_protocol::hash::ContentHash;
use kairos_protocol::id::AgentId;
use kairos_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::allowance::Window;

/// How strongly it is established who a session belongs to; the later the stronger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Strength {
    /// A signed introduction was shown. It may have been copied from elsewhere.
    Introduced,
    /// The peer signed a fresh challenge: it holds the key.
    Proven,
}

impl Strength {
    /// `introduced` or `proven`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Introduced => "introduced",
            Self::Proven => "proven",
        }
    }
}

/// Bounds of a [`SessionTable`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionPolicy {
    /// Lifetime from opening; use does not extend it.
    pub ttl: Duration,
    /// Most sessions at once.
    pub max_total: usize,
    /// Most sessions of one key; the oldest gives way.
    pub max_per_key: usize,
    /// Requests per session and minute.
    pub requests_per_minute: u32,
}

impl Default for SessionPolicy {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(3600),
            max_total: 10_000,
            max_per_key: 16,
            requests_per_minute: 100,
        }
    }
}

/// An open session.
#[derive(Debug, Clone)]
pub struct Session {
    /// Whom the token speaks for.
    pub agent_id: AgentId,
    /// Hash of the key that opened it.
    pub key: ContentHash,
    /// How strongly that is established.
    pub strength: Strength,
    /// From where it was opened.
    pub address: IpAddr,
    opened: Timestamp,
    window: Window,
}

/// Why a request was not admitted.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refusal {
    /// The token is not known, was revoked, or has expired.
    #[error("the session token is invalid or has expired")]
    Unknown,
    /// Too many requests in this minute.
    #[error("too many requests; wait {} seconds", .wait.as_secs())]
    RateLimited {
        /// Until the window ends.
        wait: Duration,
    },
}

/// All sessions are taken.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("all {limit} sessions are in use; try again later")]
pub struct Full {
    /// The bound.
    pub limit: usize,
}

/// The sessions of one node.
#[derive(Debug)]
pub struct SessionTable {
    policy: SessionPolicy,
    sessions: HashMap<ContentHash, Session>,
    by_key: HashMap<ContentHash, VecDeque<ContentHash>>,
}

impl SessionTable {
    /// An empty table.
    pub fn new(policy: SessionPolicy) -> Self {
        Self {
            policy,
            sessions: HashMap::new(),
            by_key: HashMap::new(),
        }
    }

    /// Opens a session for whoever will present `token`, which must be fresh and random.
    pub fn open(
        &mut self,
        token: &str,
        agent_id: AgentId,
        key: ContentHash,
        strength: Strength,
        address: IpAddr,
        now: Timestamp,
    ) -> Result<(), Full> {
        let held = self.by_key.get(&key).map_or(0, VecDeque::len);
        if held >= self.policy.max_per_key {
            let oldest = self.by_key.get_mut(&key).and_then(VecDeque::pop_front);
            if let Some(oldest) = oldest {
                self.sessions.remove(&oldest);
            }
        } else if self.sessions.len() >= self.policy.max_total {
            self.sweep(now);
            if self.sessions.len() >= self.policy.max_total {
                return Err(Full {
                    limit: self.policy.max_total,
                });
            }
        }
        let hash = ContentHash::of(token);
        let session = Session {
            agent_id,
            key,
            strength,
            address,
            opened: now,
            window: Window::new(now),
        };
        self.sessions.insert(hash, session);
        self.by_key.entry(key).or_default().push_back(hash);
        Ok(())
    }

    /// Counts a request of the session behind `token` and returns the session.
    pub fn admit(&mut self, token: &str, now: Timestamp) -> Result<&Session, Refusal> {
        let hash = ContentHash::of(token);
        let expired = |s: &Session, ttl| now.since(s.opened) > ttl;
        if self
            .sessions
            .get(&hash)
            .is_none_or(|s| expired(s, self.policy.ttl))
        {
            self.remove(&hash);
            return Err(Refusal::Unknown);
        }
        let session = self.sessions.get_mut(&hash).ok_or(Refusal::Unknown)?;
        match session.window.count(self.policy.requests_per_minute, now) {
            Ok(()) => Ok(session),
            Err(wait) => Err(Refusal::RateLimited { wait }),
        }
    }

    /// Ends the session behind `token`; unknown ones are already over.
    pub fn close(&mut self, token: &str) {
        self.remove(&ContentHash::of(token));
    }

    /// Ends every session that `key` opened; returns how many.
    pub fn close_all_of(&mut self, key: &ContentHash) -> usize {
        let hashes = self.by_key.remove(key).unwrap_or_default();
        hashes
            .iter()
            .filter(|hash| self.sessions.remove(*hash).is_some())
            .count()
    }

    /// Whose session is behind `token`, without counting a request.
    pub fn peek(&self, token: &str, now: Timestamp) -> Option<&Session> {
        let session = self.sessions.get(&ContentHash::of(token))?;
        (now.since(session.opened) <= self.policy.ttl).then_some(session)
    }

    /// Ends every session that is `unwanted`; returns how many. Looks at all of them.
    pub fn close_where(&mut self, unwanted: impl Fn(&Session) -> bool) -> usize {
        let all = self.sessions.iter();
        let found: Vec<ContentHash> = all
            .filter(|(_, session)| unwanted(session))
            .map(|(hash, _)| *hash)
            .collect();
        for hash in &found {
            self.remove(hash);
        }
        found.len()
    }

    /// Drops expired sessions.
    pub fn sweep(&mut self, now: Timestamp) {
        let ttl = self.policy.ttl;
        self.sessions
            .retain(|_, session| now.since(session.opened) <= ttl);
        let sessions = &self.sessions;
        self.by_key.retain(|_, hashes| {
            hashes.retain(|hash| sessions.contains_key(hash));
            !hashes.is_empty()
        });
    }

    /// Number of open sessions, expired ones included until they are swept.
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Whether nobody has a session.
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// How long a new session lives.
    pub fn ttl(&self) -> Duration {
        self.policy.ttl
    }

    fn remove(&mut self, hash: &ContentHash) {
        let Some(session) = self.sessions.remove(hash) else {
            return;
        };
        if let Some(hashes) = self.by_key.get_mut(&session.key) {
            hashes.retain(|other| other != hash);
            if hashes.is_empty() {
                self.by_key.remove(&session.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_secs(1_000_000 + secs)
    }

    fn table(max_total: usize, max_per_key: usize) -> SessionTable {
        SessionTable::new(SessionPolicy {
            max_total,
            max_per_key,
            ..SessionPolicy::default()
        })
    }

    fn open(table: &mut SessionTable, token: &str, key: &str, now: Timestamp) -> Result<(), Full> {
        table.open(
            token,
            "a".parse().unwrap(),
            ContentHash::of(key),
            Strength::Introduced,
            "192.0.2.1".parse().unwrap(),
            now,
        )
    }

    #[test]
    fn sessions_that_are_not_wanted_end_and_no_other() {
        let mut table = table(10, 10);
        open(&mut table, "t", "k", at(0)).unwrap();
        open(&mut table, "other", "k2", at(0)).unwrap();
        let key = ContentHash::of("k");
        assert!(table.peek("t", at(1)).is_some());
        assert_eq!(table.close_where(|session| session.key == key), 1);
        assert!(table.peek("t", at(1)).is_none());
        assert!(table.peek("other", at(3600)).is_some());
        assert!(table.peek("other", at(3601)).is_none());
        assert_eq!(table.close_where(|session| session.key == key), 0);
        assert!(!table.by_key.contains_key(&key));
    }

    #[test]
    fn a_session_lives_an_hour_whether_used_or_not() {
        let mut table = table(10, 10);
        open(&mut table, "t", "k", at(0)).unwrap();
        assert_eq!(table.admit("t", at(3600)).unwrap().agent_id.as_str(), "a");
        assert_eq!(table.admit("t", at(3601)).unwrap_err(), Refusal::Unknown);
        assert!(table.is_empty() && table.by_key.is_empty());
    }

    #[test]
    fn request_101_of_a_minute_is_refused_and_the_next_minute_is_open() {
        let mut table = table(10, 10);
        open(&mut table, "t", "k", at(0)).unwrap();
        for _ in 0..100 {
            table.admit("t", at(1)).unwrap();
        }
        let refused = table.admit("t", at(1)).unwrap_err();
        assert_eq!(
            refused,
            Refusal::RateLimited {
                wait: Duration::from_secs(59)
            }
        );
        assert!(table.admit("t", at(60)).is_err());
        assert!(table.admit("t", at(61)).is_ok());
    }

    #[test]
    fn a_key_with_too_many_sessions_loses_its_oldest_and_nobody_elses() {
        let mut table = table(10, 2);
        open(&mut table, "other", "k2", at(0)).unwrap();
        for token in ["t1", "t2", "t3"] {
            open(&mut table, token, "k", at(1)).unwrap();
        }
        assert!(table.admit("t1", at(2)).is_err());
        assert!(
            ["t2", "t3", "other"]
                .iter()
                .all(|t| table.admit(t, at(2)).is_ok())
        );
        assert_eq!(table.close_all_of(&ContentHash::of("k")), 2);
        assert!(table.admit("t3", at(2)).is_err());
    }

    #[test]
    fn a_full_table_makes_room_from_expired_sessions_only() {
        let mut table = table(2, 2);
        open(&mut table, "t1", "k1", at(0)).unwrap();
        open(&mut table, "t2", "k2", at(10)).unwrap();
        assert_eq!(open(&mut table, "t3", "k3", at(20)), Err(Full { limit: 2 }));
        assert_eq!(open(&mut table, "t3", "k3", at(3605)), Ok(()));
    }

    proptest! {
        #[test]
        fn both_indices_agree_after_any_sequence(steps in prop::collection::vec((0u8..4, 0u8..8, 0u8..4), 0..80)) {
            let mut table = table(6, 2);
            for (n, (what, token, key)) in steps.into_iter().enumerate() {
                let now = at(n as i64 * 300);
                let token = format!("t{token}-{n}");
                match what {
                    0 | 1 => { let _ = open(&mut table, &token, &key.to_string(), now); }
                    2 => table.sweep(now),
                    _ => { table.close_all_of(&ContentHash::of(key.to_string())); }
                }
                let indexed: usize = table.by_key.values().map(VecDeque::len).sum();
                prop_assert_eq!(indexed, table.sessions.len());
                prop_assert!(table.len() <= 6 && table.by_key.values().all(|h| !h.is_empty() && h.len() <= 2));
            }
        }
    }
}
