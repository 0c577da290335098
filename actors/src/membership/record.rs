//! What is known of a Place that was joined. Pure.

use std::collections::{BTreeMap, BTreeSet};

use kairos_protocol::crypto::PublicKey;
use kairos_protocol::hash::ContentHash;
use kairos_protocol::id::AgentId;
use kairos_protocol::time::Timestamp;
use kairos_protocol::wire::place::BoardEntry;
use serde::{Deserialize, Serialize};

use crate::meeting::client::PeerUrl;

/// Most things remembered as acquired from one Place; the oldest is forgotten first.
pub const ACQUIRED_MAX: usize = 1_000;
/// Most agents remembered as having prekeys; see [`Membership::sealed_to`].
pub const SEALED_TO_MAX: usize = 1_000;
/// Most needs at one Place.
pub const NEEDS_MAX: usize = 20;
/// Longest text of a need, in bytes.
pub const NEED_MAX: usize = 500;

/// A Place that was joined.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Membership {
    /// Where it is.
    pub url: PeerUrl,
    /// The agent that hosts it, if it said so when it was joined.
    pub place_id: Option<AgentId>,
    /// The key of that agent. Another one is refused.
    pub key: Option<PublicKey>,
    /// Whether it ever proved to hold that key. One that did and no longer does is refused.
    pub proven: bool,
    /// What it calls itself.
    pub name: String,
    /// When it was joined.
    pub joined_at: Timestamp,
    /// Whether it relays messages.
    pub has_relay: bool,
    /// Whether what we left there is to be looked after: the Place took us in anew.
    pub restore: bool,
    /// What we left there, by its name.
    pub deposits: BTreeMap<String, DepositRecord>,
    /// What we look for there.
    pub needs: Vec<NeedRecord>,
    /// What came from there, the oldest first.
    pub acquired: Vec<AcquiredRecord>,
    /// Agents that had prekeys there. Nothing is sealed to them in the older envelope, or whoever keeps their prekeys
    /// back could bring that about.
    pub sealed_to: BTreeSet<AgentId>,
    /// The last thing that is known of the Place.
    pub contact: Option<Contact>,
}

/// Something we left at a Place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DepositRecord {
    /// Of its text.
    pub content_hash: ContentHash,
    /// When it was last left there.
    pub at: Timestamp,
}

/// Something we look for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NeedRecord {
    /// What.
    pub name: String,
    /// In a sentence.
    pub description: String,
}

/// Something that came from a Place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AcquiredRecord {
    /// By which it was asked for.
    pub skill_id: String,
    /// Who left it there.
    pub owner: AgentId,
    /// Of its text as it came.
    pub content_hash: ContentHash,
    /// When.
    pub at: Timestamp,
}

/// How the last step at a Place went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contact {
    /// When it began to go like this.
    pub at: Timestamp,
    /// What is wrong, if something is.
    pub trouble: Option<String>,
}

/// How something on a board compares with what we have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Freshness {
    /// It never came from there.
    New,
    /// What came from there is what is there now.
    Current,
    /// What is there now is another text than the one that came.
    Changed,
    /// We left it there.
    Ours,
}

impl Freshness {
    /// `new`, `current`, `changed` or `ours`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Current => "current",
            Self::Changed => "changed",
            Self::Ours => "ours",
        }
    }
}

impl Membership {
    /// How an entry of the board compares with what we have; nothing for what is no deposit.
    pub fn freshness(&self, entry: &BoardEntry, own: &AgentId) -> Option<Freshness> {
        let skill_id = entry.skill_id.as_deref()?;
        if &entry.agent_id == own {
            return Some(Freshness::Ours);
        }
        let came = self
            .acquired
            .iter()
            .rfind(|came| came.skill_id == skill_id && came.owner == entry.agent_id);
        Some(match came {
            None => Freshness::New,
            Some(came) if Some(came.content_hash) == entry.content_hash => Freshness::Current,
            Some(_) => Freshness::Changed,
        })
    }

    /// Notes what came; an older note of the same thing goes.
    pub fn acquired(&mut self, came: AcquiredRecord) {
        self.acquired
            .retain(|old| old.skill_id != came.skill_id || old.owner != came.owner);
        if self.acquired.len() >= ACQUIRED_MAX {
            self.acquired.remove(0);
        }
        self.acquired.push(came);
    }

    /// Notes that an agent has prekeys there.
    pub fn sealed_to(&mut self, agent: &AgentId) {
        if self.sealed_to.len() < SEALED_TO_MAX {
            self.sealed_to.insert(agent.clone());
        }
    }

    /// Adds a need, or gives it another description.
    ///
    /// # Errors
    ///
    /// Which bound does not hold.
    pub fn need(&mut self, need: NeedRecord) -> Result<(), &'static str> {
        let fits = |text: &str| text.len() <= NEED_MAX && !text.contains(char::is_control);
        if need.name.trim().is_empty() || !fits(&need.name) || !fits(&need.description) {
            return Err("a need has a name, and at most 500 bytes of one line in each text");
        }
        self.needs.retain(|old| old.name != need.name);
        if self.needs.len() >= NEEDS_MAX {
            return Err("there may be 20 needs at one Place; remove one first");
        }
        self.needs.push(need);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn membership() -> Membership {
        Membership {
            url: "http://localhost:1".parse().unwrap(),
            place_id: None,
            key: None,
            proven: false,
            name: "P".into(),
            joined_at: Timestamp::EPOCH,
            has_relay: true,
            restore: false,
            deposits: BTreeMap::new(),
            needs: Vec::new(),
            acquired: Vec::new(),
            sealed_to: BTreeSet::new(),
            contact: None,
        }
    }

    fn came(skill_id: &str, text: &str) -> AcquiredRecord {
        AcquiredRecord {
            skill_id: skill_id.into(),
            owner: "ada".parse().unwrap(),
            content_hash: ContentHash::of(text),
            at: Timestamp::EPOCH,
        }
    }

    #[test]
    fn tells_whether_what_came_is_still_what_is_there() {
        let own: AgentId = "me".parse().unwrap();
        let mut member = membership();
        let mut entry = BoardEntry {
            kind: "deposited_skill".into(),
            agent_id: "ada".parse().unwrap(),
            name: "Tea".into(),
            skill_id: Some("tea".into()),
            summary: String::new(),
            tags: Vec::new(),
            size_bytes: None,
            content_hash: Some(ContentHash::of("one")),
        };
        assert_eq!(member.freshness(&entry, &own), Some(Freshness::New));
        member.acquired(came("tea", "one"));
        assert_eq!(member.freshness(&entry, &own), Some(Freshness::Current));
        entry.content_hash = Some(ContentHash::of("two"));
        assert_eq!(member.freshness(&entry, &own), Some(Freshness::Changed));
        member.acquired(came("tea", "two"));
        assert_eq!(member.freshness(&entry, &own), Some(Freshness::Current));
        assert_eq!(member.acquired.len(), 1);
        entry.agent_id = own.clone();
        assert_eq!(member.freshness(&entry, &own), Some(Freshness::Ours));
        entry.skill_id = None;
        assert_eq!(member.freshness(&entry, &own), None);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut member = membership();
        for n in 0..=ACQUIRED_MAX {
            member.acquired(came(&n.to_string(), "x"));
        }
        assert_eq!(member.acquired.len(), ACQUIRED_MAX);
        assert_eq!(member.acquired[0].skill_id, "1");
        let need = |n: usize, description: &str| NeedRecord {
            name: format!("n{n}"),
            description: description.into(),
        };
        for n in 0..NEEDS_MAX {
            member.need(need(n, "d")).unwrap();
        }
        assert!(member.need(need(NEEDS_MAX, "d")).is_err());
        member.need(need(0, "other")).unwrap();
        assert!(member.need(need(1, "two\nlines")).is_err());
        assert_eq!(member.needs.len(), NEEDS_MAX);
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let mut member = membership();
        member.acquired(came("tea", "x"));
        let text = serde_json::to_string(&member).unwrap();
        assert_eq!(serde_json::from_str::<Membership>(&text).unwrap(), member);
    }
}
