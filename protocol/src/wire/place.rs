//! What a Meeting Place answers its members, read into types: nothing of it is believed, all of it is bounded.
//!
//! Members that a Place of another version does not send are absent here, and the caller decides what that means. Texts
//! for people are cut and cleaned.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use thiserror::Error;

use super::possession::Possession;
use crate::hash::ContentHash;
use crate::id::AgentId;
use crate::relay::Blob;
use crate::relay::prekey::{Prekey, PrekeyBundle};

/// Most entries of a board that are looked at.
pub const ENTRIES_MAX: usize = 1_000;
/// Most messages of one answer that are looked at.
pub const MAIL_MAX: usize = 100;
/// Longest text for people, in characters.
const SHOWN_MAX: usize = 300;
/// Longest name by which something is asked for again, in bytes.
const NAME_MAX: usize = 256;
/// Most tags of an entry that are looked at.
const TAGS_MAX: usize = 32;
/// How long a session lasts if the Place does not say: that of the reference.
const SESSION: Duration = Duration::from_secs(3600);

/// The members of an answer.
pub type Members = Map<String, Value>;

/// Why an answer is none.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AnswerError {
    /// Nothing that a Place says about itself.
    #[error("this does not describe a Meeting Place")]
    NotAPlace,
    /// A member that has to be there is not, or is of another type.
    #[error("the member `{0}` is missing or malformed")]
    Member(&'static str),
}

/// `GET info`: what a Place says about itself to anybody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlaceInfo {
    /// The agent that hosts it. KairosChain 2.2 does not say.
    pub place_id: Option<AgentId>,
    /// For people.
    pub name: String,
    /// Of its library.
    pub version: String,
    /// Agents present.
    pub agents: Option<u64>,
    /// After how long without a sign of life it takes an agent for gone.
    pub fades_after: Option<Duration>,
    /// Whether changes need a proven session.
    pub wants_proof: bool,
    /// The largest skill it takes, in bytes.
    pub skill_bytes: Option<u64>,
}

impl PlaceInfo {
    /// Reads an answer.
    ///
    /// # Errors
    ///
    /// [`AnswerError::NotAPlace`] without a name and a number of agents, which every version sends.
    pub fn read(answer: &Members) -> Result<Self, AnswerError> {
        let number = |name: &str| answer.get(name).and_then(Value::as_u64);
        let (name, agents) = (shown(answer, "name"), number("registered_agents"));
        if name.is_empty() || agents.is_none() {
            return Err(AnswerError::NotAPlace);
        }
        let limits = answer.get("deposit_limits");
        let skill_bytes = limits.and_then(|limits| limits.get("max_skill_size_bytes"));
        Ok(Self {
            place_id: id(answer, "place_id"),
            name,
            version: shown(answer, "version"),
            agents,
            fades_after: number("fades_after_seconds").map(Duration::from_secs),
            wants_proof: text(answer, "write_strength") == Some("proven"),
            skill_bytes: skill_bytes.and_then(Value::as_u64),
        })
    }
}

/// `POST register`: the session a Place gives us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registered {
    /// The token, if it verified our signature.
    pub token: Option<String>,
    /// Whether it holds our proof of possession.
    pub proven: bool,
    /// How long the session lasts.
    pub lasts: Duration,
    /// Whether the Place did not know us before.
    pub is_new: bool,
    /// Why there is no token.
    pub reason: String,
    /// Its challenge, and its answer to ours.
    pub possession: Possession,
}

impl Registered {
    /// Reads an answer.
    pub fn read(answer: &Members) -> Self {
        let lasts = answer.get("session_expires_in").and_then(Value::as_u64);
        let token = text(answer, "session_token").filter(|token| is_token(token));
        Self {
            token: token.map(str::to_owned),
            proven: text(answer, "session_strength") == Some("proven"),
            lasts: lasts.map_or(SESSION, Duration::from_secs),
            is_new: text(answer, "status") == Some("registered"),
            reason: shown(answer, "reason"),
            possession: Possession::from_member(answer.get("possession")),
        }
    }
}

/// Whether a text can stand in a header: visible ASCII, of a sane length.
fn is_token(text: &str) -> bool {
    (1..=NAME_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// One entry of a board.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BoardEntry {
    /// `agent`, `need`, `deposited_skill`, or what a newer Place has.
    #[serde(rename = "type")]
    pub kind: String,
    /// Whose it is.
    pub agent_id: AgentId,
    /// For people.
    pub name: String,
    /// By which a deposit is asked for.
    pub skill_id: Option<String>,
    /// For people.
    pub summary: String,
    /// For filters.
    pub tags: Vec<String>,
    /// Of a deposit.
    pub size_bytes: Option<u64>,
    /// Of a deposit.
    pub content_hash: Option<ContentHash>,
}

/// What a look at a board gives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Board {
    /// A random choice in random order, as the rules of DEE ask for.
    pub entries: Vec<BoardEntry>,
    /// How many there are in all.
    pub total: u64,
    /// Entries that could not be read, and those beyond [`ENTRIES_MAX`].
    pub left_out: usize,
}

impl Board {
    /// Reads an answer.
    ///
    /// # Errors
    ///
    /// [`AnswerError::Member`] if there is no list of entries.
    pub fn read(answer: &Members) -> Result<Self, AnswerError> {
        let list = list(answer, "entries")?;
        let read = list.iter().take(ENTRIES_MAX).filter_map(Value::as_object);
        let entries: Vec<BoardEntry> = read.filter_map(BoardEntry::read).collect();
        let total = answer.get("total_available").and_then(Value::as_u64);
        Ok(Self {
            total: total.unwrap_or(entries.len() as u64),
            left_out: list.len() - entries.len(),
            entries,
        })
    }
}

impl BoardEntry {
    /// Whether it is what [`read`](Self::read) would make of it: nothing too long, nothing that does not show.
    pub fn is_clean(&self) -> bool {
        let told = json!(self);
        told.as_object().and_then(Self::read).as_ref() == Some(self)
    }

    /// Reads one; what is malformed of it is left out. Nothing if that is what an entry needs.
    pub fn read(entry: &Members) -> Option<Self> {
        let kind = text(entry, "type").or_else(|| text(entry, "format"))?;
        let words = ["summary", "description"].map(|member| shown(entry, member));
        let tags = entry.get("tags").and_then(Value::as_array);
        let tags = tags.into_iter().flatten().filter_map(Value::as_str);
        Some(Self {
            kind: cut(kind),
            agent_id: id(entry, "agent_id")?,
            name: shown(entry, "name"),
            skill_id: text(entry, "skill_id")
                .filter(|id| is_name(id))
                .map(str::to_owned),
            summary: words
                .into_iter()
                .find(|words| !words.is_empty())
                .unwrap_or_default(),
            tags: tags.take(TAGS_MAX).map(cut).collect(),
            size_bytes: entry.get("size_bytes").and_then(Value::as_u64),
            content_hash: text(entry, "content_hash").and_then(|hash| hash.parse().ok()),
        })
    }
}

fn is_name(text: &str) -> bool {
    (1..=NAME_MAX).contains(&text.len()) && !text.contains(char::is_control)
}

/// A sealed message that waits for us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    /// Its name at the relay, by which it is acknowledged.
    pub id: String,
    /// Who sent it, as the relay says.
    pub from: AgentId,
    /// What it is said to be about.
    pub kind: String,
    /// What is sealed.
    pub blob: Blob,
}

/// What waits for us, as far as it can be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mail {
    /// A message.
    Letter(Letter),
    /// Something else under a name by which it can be acknowledged, and what is wrong with it.
    Broken {
        /// Its name at the relay.
        id: String,
        /// Who sent it, if that can be read.
        from: Option<AgentId>,
        /// What is wrong.
        reason: String,
    },
}

/// One page of a mailbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailPage {
    /// The oldest first.
    pub mail: Vec<Mail>,
    /// Where the next page begins, if there is one.
    pub next: Option<u64>,
}

impl MailPage {
    /// Reads an answer of `receive` or `peek`.
    ///
    /// # Errors
    ///
    /// [`AnswerError::Member`] if there is no list of messages.
    pub fn read(answer: &Members) -> Result<Self, AnswerError> {
        let list = list(answer, "messages")?.iter().take(MAIL_MAX);
        Ok(Self {
            mail: list
                .filter_map(Value::as_object)
                .filter_map(Mail::read)
                .collect(),
            next: answer.get("next").and_then(Value::as_u64),
        })
    }
}

impl Mail {
    /// Nothing without a name: what cannot be acknowledged cannot be told apart either.
    fn read(message: &Members) -> Option<Self> {
        let id = text(message, "id").filter(|id| is_token(id))?.to_owned();
        let from = self::id(message, "from");
        let read = || {
            let from = from.clone().ok_or("its sender is no agent id")?;
            let blob = text(message, "encrypted_blob").ok_or("it has no sealed text")?;
            let blob: Blob = blob
                .parse()
                .map_err(|_| "its sealed text is empty or too long")?;
            if text(message, "blob_hash") != Some(blob.hash().as_str()) {
                return Err("its sealed text does not have the hash that came with it");
            }
            Ok((from, blob))
        };
        Some(match read() {
            Ok((from, blob)) => Self::Letter(Letter {
                id,
                from,
                kind: text(message, "message_type").map_or_else(|| "unknown".to_owned(), cut),
                blob,
            }),
            Err(reason) => Self::Broken {
                id,
                from,
                reason: reason.to_owned(),
            },
        })
    }
}

/// What a Place holds of our prekeys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Published {
    /// The id of the long-lived one.
    pub long_lived: Option<String>,
    /// One-time ones that wait.
    pub one_time: u64,
    /// Most one-time ones that the Place keeps of an agent, if it says so.
    pub one_time_max: Option<u64>,
}

impl Published {
    /// Reads an answer of `GET prekeys`.
    pub fn read(answer: &Members) -> Self {
        let waiting = answer.get("one_time_waiting").and_then(Value::as_u64);
        Self {
            long_lived: text(answer, "signed").map(str::to_owned),
            one_time: waiting.unwrap_or(0),
            one_time_max: answer.get("one_time_max").and_then(Value::as_u64),
        }
    }
}

/// The body that publishes prekeys.
pub fn prekeys_to_publish(long_lived: &Prekey, one_time: &[Prekey]) -> Value {
    let one = |prekey: &Prekey| {
        let record = serde_json::to_vec(prekey).unwrap_or_default();
        json!({"id": prekey.key_id, "record": STANDARD.encode(record)})
    };
    json!({"signed": one(long_lived), "one_time": one_time.iter().map(one).collect::<Vec<_>>()})
}

/// Reads the prekeys that a Place hands out; whose they are and whether they hold is for
/// [`PrekeyBundle::choose`] to say.
///
/// # Errors
///
/// [`AnswerError::Member`] for a record that is none.
pub fn prekeys_taken(answer: &Members) -> Result<PrekeyBundle, AnswerError> {
    let one = |member: &'static str| {
        let wrong = || AnswerError::Member(member);
        let record = answer.get(member).and_then(|key| key.get("record"));
        let record = record.and_then(Value::as_str).ok_or_else(wrong)?;
        let record = STANDARD.decode(record).map_err(|_| wrong())?;
        serde_json::from_slice(&record).map_err(|_| wrong())
    };
    let has_one_time = answer.get("one_time").is_some_and(|key| !key.is_null());
    Ok(PrekeyBundle {
        long_lived: one("signed")?,
        one_time: has_one_time.then(|| one("one_time")).transpose()?,
    })
}

fn text<'m>(members: &'m Members, name: &str) -> Option<&'m str> {
    members.get(name).and_then(Value::as_str)
}

fn id(members: &Members, name: &str) -> Option<AgentId> {
    text(members, name)?.parse().ok()
}

fn list<'m>(members: &'m Members, name: &'static str) -> Result<&'m [Value], AnswerError> {
    let list = members.get(name).and_then(Value::as_array);
    list.map(Vec::as_slice).ok_or(AnswerError::Member(name))
}

fn shown(members: &Members, name: &str) -> String {
    text(members, name).map(cut).unwrap_or_default()
}

/// One line for people.
fn cut(text: &str) -> String {
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    let text: String = text.trim().chars().take(SHOWN_MAX).map(clean).collect();
    text.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::Keypair;
    use crate::relay::prekey::{PrekeyKind, PrekeySecret};
    use crate::time::Timestamp;

    fn members(value: Value) -> Members {
        value.as_object().cloned().unwrap()
    }

    #[test]
    fn reads_what_places_of_every_version_say_about_themselves() {
        let oldest = members(json!({
            "name": "Lab Place", "version": "0.1.0", "registered_agents": 3, "max_agents": 100,
            "started_at": "2026-02-23T10:00:00Z",
        }));
        let info = PlaceInfo::read(&oldest).unwrap();
        assert_eq!(
            (info.place_id, info.fades_after, info.wants_proof),
            (None, None, false)
        );
        let ours = members(json!({
            "name": "Tea", "version": "0.2.0", "registered_agents": 1, "place_id": "ab",
            "fades_after_seconds": 60, "write_strength": "proven",
            "deposit_limits": {"max_skill_size_bytes": 7},
        }));
        let info = PlaceInfo::read(&ours).unwrap();
        assert_eq!(info.fades_after, Some(Duration::from_secs(60)));
        assert_eq!((info.wants_proof, info.skill_bytes), (true, Some(7)));
        for other in [
            json!({}),
            json!({"name": "x"}),
            json!({"registered_agents": 1}),
        ] {
            assert_eq!(
                PlaceInfo::read(&members(other)),
                Err(AnswerError::NotAPlace)
            );
        }
    }

    #[test]
    fn a_token_that_could_break_a_header_is_none() {
        for (token, taken) in [
            ("ab12", true),
            ("", false),
            ("a b", false),
            ("a\r\nb", false),
        ] {
            let answer = members(json!({"session_token": token}));
            assert_eq!(
                Registered::read(&answer).token.is_some(),
                taken,
                "{token:?}"
            );
        }
    }

    #[test]
    fn entries_that_cannot_be_read_are_counted_and_left_out() {
        let answer = members(json!({"total_available": 9, "entries": [
            {"type": "deposited_skill", "agent_id": "a", "name": "te\u{7}a", "skill_id": "tea", "tags": ["t", 1],
             "content_hash": "00".repeat(32)},
            {"agent_id": "a", "format": "agent", "name": "A"}, {"agent_id": ""}, 7,
        ]}));
        let board = Board::read(&answer).unwrap();
        assert_eq!(
            (board.entries.len(), board.left_out, board.total),
            (2, 2, 9)
        );
        let tea = &board.entries[0];
        assert_eq!((tea.name.as_str(), tea.tags.len()), ("te a", 1));
        assert!(tea.content_hash.is_some());
        assert_eq!(board.entries[1].kind, "agent");
    }

    #[test]
    fn mail_is_a_letter_or_says_what_is_wrong_with_it() {
        let blob: Blob = "c2VhbGVk".parse().unwrap();
        let good = json!({
            "id": "relay_1", "from": "a", "message_type": "message", "encrypted_blob": blob.as_str(),
            "blob_hash": blob.hash(),
        });
        let with = |member: &str, value: Value| {
            let mut changed = good.clone();
            changed[member] = value;
            changed
        };
        let page = members(json!({"next": 4, "messages": [
            good, with("blob_hash", json!("sha256:0")), with("encrypted_blob", json!("")),
            with("from", json!(" ")), with("id", json!("")), "x",
        ]}));
        let page = MailPage::read(&page).unwrap();
        assert_eq!((page.mail.len(), page.next), (4, Some(4)));
        assert!(matches!(&page.mail[0], Mail::Letter(letter) if letter.blob == blob));
        for broken in &page.mail[1..] {
            assert!(matches!(broken, Mail::Broken { .. }), "{broken:?}");
        }
    }

    #[test]
    fn prekeys_come_back_as_they_were_published() {
        let identity = Keypair::generate().unwrap();
        let (owner, now) = (
            identity.public().agent_id(),
            Timestamp::from_secs(1_800_000_000),
        );
        let make = |kind| {
            let secret = PrekeySecret::generate(kind, now, Duration::from_secs(3600)).unwrap();
            secret.publish(&owner, &identity).unwrap()
        };
        let (long_lived, one_time) = (make(PrekeyKind::LongLived), make(PrekeyKind::OneTime));
        let body = prekeys_to_publish(&long_lived, std::slice::from_ref(&one_time));
        let record = body["signed"]["record"].as_str().unwrap();
        // The bound of a Place, with room for the longest id and a key of 4096 bits.
        assert!(STANDARD.decode(record).unwrap().len() + 112 + 340 <= 1_536);
        let taken = members(json!({"signed": body["signed"], "one_time": body["one_time"][0]}));
        let bundle = prekeys_taken(&taken).unwrap();
        assert!(bundle.choose(&owner, identity.public(), now).is_ok());
        assert_eq!(
            (bundle.long_lived, bundle.one_time),
            (long_lived, Some(one_time))
        );
        let bad = members(json!({"signed": {"record": "e30="}}));
        assert_eq!(prekeys_taken(&bad), Err(AnswerError::Member("signed")));
    }
}
