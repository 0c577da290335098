//! What is asked of another Place, and what it answers. Nothing of an answer is believed before [`Told::check`].

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use thiserror::Error;

use super::journey::Journey;
use super::letter::Letter;
use super::passage::{Passage, PassageError};
use crate::crypto::{PublicKey, SignatureError};
use crate::hash::ContentHash;
use crate::id::{AgentId, MessageId};
use crate::json;
use crate::relay::prekey::Prekey;
use crate::time::Timestamp;
use crate::tlog::statement::Attributed;
use crate::wire::place::BoardEntry;
use crate::wire_time;

/// Largest answer in bytes of JSON.
pub const ANSWER_MAX: usize = 1024 * 1024;
/// Most entries of an answer.
pub const ENTRIES_MAX: usize = 100;
/// Longest word that is searched, name or id, in bytes.
pub const WORD_MAX: usize = 256;
/// Longest text for people, in bytes.
const TEXT_MAX: usize = 2_000;
/// Most tags of a question.
const TAGS_MAX: usize = 32;
/// Most Places that an origin may have passed, and most that one names as its partners.
const PLACES_MAX: usize = 1_000;
/// Digits of a nonce.
const NONCE_LEN: usize = 64;

/// Why a question or an answer is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ToldError {
    /// More than [`ANSWER_MAX`].
    #[error("the answer has more than {ANSWER_MAX} bytes")]
    TooLong,
    /// A member out of its bounds.
    #[error("`{0}` is malformed or too long")]
    Member(&'static str),
    /// It answers another question.
    #[error("it answers another question")]
    OtherQuestion,
    /// The text is not the one that its hash is of.
    #[error("the text is not the one that was left")]
    OtherContent,
    /// Whoever is said to have left or authored it did not sign it.
    #[error("the signature of {who} does not fit: {source}")]
    Signature {
        /// `the depositor` or `the first depositor`.
        who: &'static str,
        /// Why.
        source: SignatureError,
    },
    /// It did not come as it should.
    #[error(transparent)]
    Passage(#[from] PassageError),
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case", deny_unknown_fields)]
pub enum Ask {
    /// With which Places the Place is federated.
    Places {},
    /// A random choice of its board.
    Board {
        /// `agent`, `need` or `deposited_skill`; all if none.
        kind: Option<String>,
        /// Words that a name contains.
        search: Option<String>,
        /// Tags of which an entry has one.
        tags: Vec<String>,
        /// Most entries, at most [`ENTRIES_MAX`].
        limit: usize,
    },
    /// What an agent says of itself and left there.
    Profile {
        /// Which.
        agent: AgentId,
    },
    /// The key of an agent.
    Key {
        /// Whose.
        agent: AgentId,
    },
    /// What the Place saw of the ledgers of those it is federated with.
    Checkpoints {},
    /// Keys to seal a message to an agent with.
    Prekeys {
        /// To whom.
        agent: AgentId,
    },
    /// Has a sealed message kept for an agent.
    Deliver {
        /// Which.
        letter: Box<Letter>,
    },
    /// A skill.
    Skill {
        /// By its name there.
        skill_id: String,
        /// Who left it, where several did.
        owner: Option<AgentId>,
    },
}

/// A question on its way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// Where it was and where it goes.
    pub journey: Journey,
    /// Tells it from every other: 64 hex digits of the first that asks.
    pub nonce: String,
    /// What is asked.
    pub ask: Ask,
}

impl Question {
    /// Checks the bounds of every member.
    pub fn check(&self) -> Result<(), ToldError> {
        let hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if self.nonce.len() != NONCE_LEN || !self.nonce.bytes().all(hex) {
            return Err(ToldError::Member("nonce"));
        }
        match &self.ask {
            Ask::Board {
                kind,
                search,
                tags,
                limit,
            } => {
                let words = kind.iter().chain(search).chain(tags);
                let fit = words.into_iter().all(|word| is_word(word));
                let few = tags.len() <= TAGS_MAX && *limit <= ENTRIES_MAX;
                if fit && few {
                    Ok(())
                } else {
                    Err(ToldError::Member("ask"))
                }
            }
            Ask::Skill { skill_id, .. } if !is_word(skill_id) => Err(ToldError::Member("skill_id")),
            Ask::Places {}
            | Ask::Profile { .. }
            | Ask::Key { .. }
            | Ask::Checkpoints {}
            | Ask::Prekeys { .. }
            | Ask::Deliver { .. }
            | Ask::Skill { .. } => Ok(()),
        }
    }

    /// What every Place on the way signs of it. The way itself is told by the signatures.
    pub fn hash(&self) -> ContentHash {
        let text = json!({"nonce": self.nonce, "ask": self.ask});
        ContentHash::of(json::canonical(&text))
    }
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case", deny_unknown_fields)]
pub enum Answer {
    /// To [`Ask::Places`].
    Places {
        /// In no order.
        places: Vec<Partner>,
    },
    /// To [`Ask::Board`].
    Board {
        /// A random choice in random order.
        entries: Vec<BoardEntry>,
        /// How many there are in all.
        total: u64,
    },
    /// To [`Ask::Profile`].
    Profile {
        /// Whose.
        agent: AgentId,
        /// What it calls itself.
        name: String,
        /// What it says of itself.
        description: Option<String>,
        /// Field of work.
        scope: Option<String>,
        /// What it left there, at most [`ENTRIES_MAX`].
        entries: Vec<BoardEntry>,
    },
    /// To [`Ask::Key`].
    Key {
        /// Whose.
        agent: AgentId,
        /// The key it is known by there.
        public_key: PublicKey,
    },
    /// To [`Ask::Checkpoints`].
    Checkpoints {
        /// Each as its agent signed it.
        seen: Vec<Attributed>,
    },
    /// To [`Ask::Prekeys`].
    Prekeys {
        /// The one that is used again and again.
        long_lived: Box<Prekey>,
        /// One that nobody else gets.
        one_time: Option<Box<Prekey>>,
    },
    /// To [`Ask::Deliver`]: it is in the recipient's box, on disk.
    Delivered {
        /// Which.
        id: MessageId,
        /// Until when it waits there, at the latest.
        #[serde(with = "wire_time")]
        until: Timestamp,
        /// Whether it was there before.
        repeated: bool,
    },
    /// To [`Ask::Skill`].
    Skill {
        /// All but the text.
        facts: Box<Facts>,
    },
}

/// A Place that another one is federated with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Partner {
    /// Which.
    pub place_id: AgentId,
    /// Of its key.
    pub key: ContentHash,
}

/// What a Place knows of a skill that was left there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Facts {
    /// By its name there.
    pub skill_id: String,
    /// For people.
    pub name: String,
    /// `markdown` or `yaml_frontmatter`.
    pub format: String,
    /// Of the text.
    pub content_hash: ContentHash,
    /// Who left it there.
    pub depositor: AgentId,
    /// By which key it is known there.
    pub depositor_key: PublicKey,
    /// Over the text.
    pub depositor_signature: String,
    /// When it was first left there, to the second.
    #[serde(with = "wire_time")]
    pub deposited_at: Timestamp,
    /// Where it comes from, if its depositor brought it from another Place.
    pub origin: Option<Origin>,
}

/// Where a skill was first left, as the Place knows that it was brought from there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// At which Place.
    pub place: String,
    /// By whom.
    pub agent: String,
    /// Through which Places it came.
    pub via: Vec<String>,
    /// When.
    pub deposited_at: String,
    /// The first depositor's signature over the text, if it came along.
    pub signature: Option<String>,
    /// The key it holds under.
    pub public_key: Option<PublicKey>,
    /// Of the text that came, which is what was signed.
    pub content_hash: Option<ContentHash>,
}

/// An answer on its way back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Told {
    /// What is answered.
    pub answer: Answer,
    /// The text of a skill.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// By which hands it came.
    pub passage: Passage,
}

/// A skill that came through Places, without its text: what is kept beside it, and can be checked with it at any time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Carried {
    /// Of the question.
    pub question: ContentHash,
    /// What the Place that it was left at knows of it.
    pub facts: Facts,
    /// By which hands it came.
    pub passage: Passage,
}

impl Carried {
    /// Checks that `content` is the text that was left, by its depositor's signature, and that it came by these hands.
    pub fn verify(&self, content: &str) -> Result<(), ToldError> {
        self.facts.check(content)?;
        let facts = Box::new(self.facts.clone());
        let answer = Answer::Skill { facts }.hash();
        let stations = self.passage.stations();
        let way: Vec<AgentId> = stations.iter().map(|at| at.place_id.clone()).collect();
        let to = stations.last().map(|at| &at.to);
        let to = to.ok_or(PassageError::OtherWay)?;
        Ok(self.passage.verify(&self.question, &answer, &way, to)?)
    }
}

impl Told {
    /// Reads the members of an answer. Nothing is checked but the form.
    pub fn read(members: serde_json::Map<String, Value>) -> Result<Self, ToldError> {
        let value = Value::Object(members);
        if value.to_string().len() > ANSWER_MAX {
            return Err(ToldError::TooLong);
        }
        serde_json::from_value(value).map_err(|_| ToldError::Member("answer"))
    }

    /// Checks all that can be known of it: that it fits the question and its bounds, that the text is whose it is said to
    /// be, and that it came to `to` through the Places of `way`, the one that answered first, about now. Whether their keys
    /// are those of the Places is for the caller to know.
    pub fn check(
        &self,
        question: &Question,
        way: &[AgentId],
        to: &AgentId,
        now: Timestamp,
    ) -> Result<(), ToldError> {
        self.answer.fits(&question.ask)?;
        match (&self.answer, &self.content) {
            (Answer::Skill { facts }, Some(content)) => facts.check(content)?,
            (Answer::Skill { .. }, None) | (_, Some(_)) => {
                return Err(ToldError::Member("content"));
            }
            (_, None) => {}
        }
        let (question, answer) = (question.hash(), self.answer.hash());
        self.passage.verify(&question, &answer, way, to)?;
        Ok(self.passage.is_of(now)?)
    }
}

impl Answer {
    /// What every Place on the way signs of it. A text counts by its hash.
    pub fn hash(&self) -> ContentHash {
        ContentHash::of(json::canonical(&json!(self)))
    }

    /// Checks that it answers `ask`, within its bounds.
    fn fits(&self, ask: &Ask) -> Result<(), ToldError> {
        let entries_fit = |entries: &[BoardEntry], most: usize| match entries.len() <= most
            && entries.iter().all(BoardEntry::is_clean)
        {
            true => Ok(()),
            false => Err(ToldError::Member("entries")),
        };
        match (self, ask) {
            (Self::Places { places }, Ask::Places {}) => match places.len() <= PLACES_MAX {
                true => Ok(()),
                false => Err(ToldError::Member("places")),
            },
            (Self::Board { entries, .. }, Ask::Board { limit, .. }) => entries_fit(entries, *limit),
            (
                Self::Profile {
                    agent,
                    name,
                    description,
                    scope,
                    entries,
                },
                Ask::Profile { agent: asked },
            ) => {
                let texts = [Some(name), description.as_ref(), scope.as_ref()];
                let fit = |text: &String| text.len() <= TEXT_MAX;
                let theirs = entries.iter().all(|entry| &entry.agent_id == agent);
                if agent != asked || !theirs {
                    return Err(ToldError::OtherQuestion);
                }
                if !texts.into_iter().flatten().all(fit) {
                    return Err(ToldError::Member("name"));
                }
                entries_fit(entries, ENTRIES_MAX)
            }
            (Self::Checkpoints { seen }, Ask::Checkpoints {}) => match seen.len() <= ENTRIES_MAX {
                true => Ok(()),
                false => Err(ToldError::Member("seen")),
            },
            (
                Self::Prekeys {
                    long_lived,
                    one_time,
                },
                Ask::Prekeys { agent },
            ) => {
                let mut keys = [Some(long_lived), one_time.as_ref()].into_iter().flatten();
                match keys.all(|key| &key.agent_id == agent) {
                    true => Ok(()),
                    false => Err(ToldError::OtherQuestion),
                }
            }
            (Self::Delivered { id, .. }, Ask::Deliver { letter }) if id == &letter.id => Ok(()),
            (Self::Key { agent, .. }, Ask::Key { agent: asked }) if agent == asked => Ok(()),
            (Self::Skill { facts }, Ask::Skill { skill_id, owner }) => {
                let theirs = owner.as_ref().is_none_or(|owner| owner == &facts.depositor);
                match &facts.skill_id == skill_id && theirs {
                    true => Ok(()),
                    false => Err(ToldError::OtherQuestion),
                }
            }
            _ => Err(ToldError::OtherQuestion),
        }
    }
}

impl Facts {
    /// Checks that `content` is what was left, and that whoever left it signed it.
    fn check(&self, content: &str) -> Result<(), ToldError> {
        if !is_word(&self.name) || !is_word(&self.format) || !is_word(&self.skill_id) {
            return Err(ToldError::Member("name"));
        }
        if ContentHash::of(content) != self.content_hash {
            return Err(ToldError::OtherContent);
        }
        let signed = self
            .depositor_key
            .verify(content.as_bytes(), &self.depositor_signature);
        signed.map_err(|source| ToldError::Signature {
            who: "the depositor",
            source,
        })?;
        match &self.origin {
            Some(origin) => origin.check(content, self.content_hash),
            None => Ok(()),
        }
    }
}

impl Origin {
    fn check(&self, content: &str, hash: ContentHash) -> Result<(), ToldError> {
        let words = [&self.place, &self.agent, &self.deposited_at];
        let fit = words.into_iter().chain(&self.via).all(|word| {
            (1..=2 * WORD_MAX).contains(&word.len()) && !word.contains(char::is_control)
        });
        if !fit || self.via.len() > PLACES_MAX || Timestamp::parse(&self.deposited_at).is_err() {
            return Err(ToldError::Member("origin"));
        }
        // Of a text that was changed since, the first signature says nothing.
        if self.content_hash.is_some_and(|of| of != hash) {
            return Ok(());
        }
        match (&self.public_key, &self.signature) {
            (None, None) => Ok(()),
            (Some(key), Some(signature)) => {
                let signed = key.verify(content.as_bytes(), signature);
                signed.map_err(|source| ToldError::Signature {
                    who: "the first depositor",
                    source,
                })
            }
            _ => Err(ToldError::Member("origin")),
        }
    }
}

fn is_word(text: &str) -> bool {
    (1..=WORD_MAX).contains(&text.len()) && !text.contains(char::is_control)
}

#[cfg(test)]
mod tests;
