//! Bearer tokens of people and programs that act for this agent's owner, as the file `tokens.json` keeps them.
//!
//! Only hashes are kept, so the file opens no door. The format is the reference's, version 1; members that are not
//! known here are kept as they are, and an entry that cannot be read is kept too and opens nothing. Time is an
//! argument.

use std::collections::HashMap;
use std::fmt;

use kairos_protocol::hash::ContentHash;
use kairos_protocol::json;
use kairos_protocol::time::Timestamp;
use serde_json::{Map, Value};
use subtle::ConstantTimeEq as _;
use thiserror::Error;

use crate::role::Role;

mod text;

pub use text::{
    HASH_SHOWN, HashPrefix, HashPrefixError, LIFETIME_MAX, Lifetime, LifetimeError, RawToken,
    USER_NAME_MAX, UserName, UserNameError,
};

/// Most entries, revoked and expired ones included, that a token can be added to.
pub const TOKENS_MAX: usize = 10_000;
/// Largest file that is read, in bytes. An entry has about 300.
pub const FILE_MAX: usize = 16 * 1024 * 1024;
/// Version of the format.
const VERSION: u64 = 1;

/// Why the file cannot be used. It is then left as it is, and opens nothing.
#[derive(Debug, Error)]
pub enum TokenFileError {
    /// Not JSON, or not an object.
    #[error(transparent)]
    Json(#[from] json::JsonError),
    /// Another version of the format.
    #[error("it has version {0}, only version 1 is known")]
    Version(String),
    /// No list of tokens.
    #[error("its `tokens` is not a list")]
    NoList,
    /// Larger than [`FILE_MAX`].
    #[error("it is larger than {FILE_MAX} bytes")]
    TooLarge,
}

/// Why a token was not issued, rotated or revoked.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TokenError {
    /// As many as can be.
    #[error(
        "there are {max} tokens already; remove those that are over with: kairos-chain token prune"
    )]
    Full {
        /// The bound.
        max: usize,
    },
    /// The user has no token that is active.
    #[error("no active tokens found for user '{0}'")]
    UnknownUser(UserName),
    /// No active token has a hash that starts so.
    #[error("no active token has a hash that starts with {0}")]
    UnknownHash(HashPrefix),
    /// Several tokens have a hash that starts so.
    #[error("several active tokens have a hash that starts with {0}; give more digits")]
    Ambiguous(HashPrefix),
    /// The user has active tokens of several roles or lifetimes.
    #[error(
        "user '{0}' has several active tokens that differ; rotate one of them with --token HASH"
    )]
    Several(UserName),
    /// The end of the token's life lies outside the calendar.
    #[error("the token would outlive the calendar")]
    Lifetime,
}

/// Whether a token still opens something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It does.
    Active,
    /// Its time is over.
    Expired,
    /// It was taken back.
    Revoked,
}

impl Standing {
    /// `active`, `expired` or `revoked`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }
}

/// What is known of a token; not the token itself, which only its holder knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// SHA-256 of the raw text.
    pub hash: ContentHash,
    /// Whose it is.
    pub user: UserName,
    /// What its holder may do.
    pub role: Role,
    /// When it was made.
    pub issued_at: Timestamp,
    /// When its time is over; never if absent.
    pub expires_at: Option<Timestamp>,
    /// Who made it.
    pub issued_by: String,
    /// Whether it was taken back.
    pub revoked: bool,
}

impl Token {
    /// Whether it opens something at `now`.
    pub fn standing(&self, now: Timestamp) -> Standing {
        if self.revoked {
            Standing::Revoked
        } else if self.expires_at.is_some_and(|end| end < now) {
            Standing::Expired
        } else {
            Standing::Active
        }
    }

    /// The first digits of its hash, by which it is told from others in lists and logs.
    pub fn shown(&self) -> String {
        let mut hex = self.hash.to_hex();
        hex.truncate(HASH_SHOWN);
        hex
    }

    /// Exactly as long as it was to live when it was made.
    fn lifetime(&self) -> Lifetime {
        self.expires_at.map_or(Lifetime::Never, |end| {
            Lifetime::For(end.since(self.issued_at))
        })
    }

    fn read(members: &Map<String, Value>) -> Result<Self, String> {
        let text = |name: &str| {
            let value = members.get(name).and_then(Value::as_str);
            value.ok_or_else(|| format!("`{name}` is not a text"))
        };
        let at = |text: &str| Timestamp::parse(text).map_err(|e| e.to_string());
        let expires_at = match members.get("expires_at") {
            None | Some(Value::Null) => None,
            Some(_) => Some(at(text("expires_at")?)?),
        };
        Ok(Self {
            hash: text("token_hash")?
                .parse()
                .map_err(|_| "`token_hash` is not a hash".to_owned())?,
            user: text("user")?
                .parse()
                .map_err(|e: UserNameError| e.to_string())?,
            role: text("role")?
                .parse()
                .map_err(|e: crate::role::RoleError| e.to_string())?,
            issued_at: at(text("issued_at")?)?,
            expires_at,
            issued_by: text("issued_by").unwrap_or_default().to_owned(),
            // Whatever it says but `active` opens nothing.
            revoked: text("status")? != "active",
        })
    }

    fn members(&self) -> Map<String, Value> {
        let status = if self.revoked { "revoked" } else { "active" };
        Map::from_iter([
            ("token_hash".to_owned(), Value::from(self.hash.to_hex())),
            ("user".to_owned(), Value::from(self.user.as_str())),
            ("role".to_owned(), Value::from(self.role.as_str())),
            ("issued_at".to_owned(), Value::from(self.issued_at.entry())),
            (
                "expires_at".to_owned(),
                Value::from(self.expires_at.map(|end| end.entry())),
            ),
            ("issued_by".to_owned(), Value::from(self.issued_by.as_str())),
            ("status".to_owned(), Value::from(status)),
        ])
    }
}

/// An entry as it lies in the file, and what it says if it can be read.
#[derive(Debug, Clone)]
struct Entry {
    raw: Value,
    token: Result<Token, String>,
}

/// An entry that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// Its place in the list, from 0.
    pub place: usize,
    /// Why.
    pub reason: String,
}

/// Which tokens are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// All active ones of a user.
    Of(UserName),
    /// The active one whose hash starts so.
    Hash(HashPrefix),
}

/// All tokens of an agent.
#[derive(Debug, Clone, Default)]
pub struct TokenBook {
    /// Members of the file that are not known here.
    others: Map<String, Value>,
    entries: Vec<Entry>,
    /// The place of each hash; none where several entries claim it, which then open nothing.
    places: HashMap<ContentHash, Option<usize>>,
}

impl TokenBook {
    /// Reads a file. Fails as a whole only where it cannot be told what it is.
    pub fn parse(bytes: &[u8]) -> Result<Self, TokenFileError> {
        if bytes.len() > FILE_MAX {
            return Err(TokenFileError::TooLarge);
        }
        let mut others = json::parse_object(bytes)?;
        // The first files of the reference have no version.
        let version = others.shift_remove("version").unwrap_or(VERSION.into());
        if version.as_u64() != Some(VERSION) {
            let shown = version.to_string().chars().take(64).collect();
            return Err(TokenFileError::Version(shown));
        }
        others.shift_remove("updated_at");
        let listed = match others.shift_remove("tokens") {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Array(listed)) => listed,
            Some(_) => return Err(TokenFileError::NoList),
        };
        let mut book = Self {
            others,
            ..Self::default()
        };
        for raw in listed {
            let token = match &raw {
                Value::Object(members) => Token::read(members),
                other => Err(format!("it is {}", json::kind(other))),
            };
            book.push(Entry { raw, token });
        }
        Ok(book)
    }

    /// The file, as the reference writes it: pretty, without a line end.
    pub fn to_bytes(&self, now: Timestamp) -> Vec<u8> {
        let tokens = self.entries.iter().map(|entry| entry.raw.clone()).collect();
        let mut file = Map::from_iter([
            ("version".to_owned(), Value::from(VERSION)),
            ("updated_at".to_owned(), Value::from(now.entry())),
            ("tokens".to_owned(), Value::Array(tokens)),
        ]);
        file.extend(self.others.clone());
        format!("{:#}", Value::Object(file)).into_bytes()
    }

    fn push(&mut self, entry: Entry) {
        if let Ok(token) = &entry.token {
            let place = self.entries.len();
            self.places
                .entry(token.hash)
                .and_modify(|known| *known = None)
                .or_insert(Some(place));
        }
        self.entries.push(entry);
    }

    /// Every token that can be read, in the order of the file.
    pub fn tokens(&self) -> impl Iterator<Item = &Token> {
        self.entries
            .iter()
            .filter_map(|entry| entry.token.as_ref().ok())
    }

    /// Every entry that opens nothing because it cannot be read, or because another has the same hash.
    pub fn unreadable(&self) -> impl Iterator<Item = Unreadable> {
        let entries = self.entries.iter().enumerate();
        entries.filter_map(|(place, entry)| {
            let reason = match &entry.token {
                Err(reason) => reason.clone(),
                Ok(token) if self.places.get(&token.hash) == Some(&None) => {
                    "another entry has the same hash".to_owned()
                }
                Ok(_) => return None,
            };
            Some(Unreadable { place, reason })
        })
    }

    /// Whether no token opens anything at `now`.
    pub fn opens_nothing(&self, now: Timestamp) -> bool {
        self.active(now).next().is_none()
    }

    /// The token behind `raw`, if it opens something at `now`.
    ///
    /// What is looked up is the hash of what was presented: how long it takes tells nothing about the tokens there
    /// are.
    pub fn authenticate(&self, raw: &str, now: Timestamp) -> Option<&Token> {
        let presented = ContentHash::of(raw);
        let place = self.places.get(&presented).copied().flatten()?;
        let token = self.entries.get(place)?.token.as_ref().ok()?;
        let same = token.hash.as_bytes().ct_eq(presented.as_bytes());
        (bool::from(same) && token.standing(now) == Standing::Active).then_some(token)
    }

    /// Adds `raw`, which must be fresh and random, for `user`.
    pub fn issue(
        &mut self,
        raw: &RawToken,
        user: UserName,
        role: Role,
        lifetime: Lifetime,
        issued_by: &str,
        now: Timestamp,
    ) -> Result<Token, TokenError> {
        if self.entries.len() >= TOKENS_MAX {
            return Err(TokenError::Full { max: TOKENS_MAX });
        }
        // The file has whole seconds; what is kept here is what a reader of the file will see.
        let issued_at = Timestamp::from_secs(now.as_secs());
        let token = Token {
            hash: raw.hash(),
            user,
            role,
            issued_at,
            expires_at: lifetime.end(issued_at).ok_or(TokenError::Lifetime)?,
            issued_by: issued_by.to_owned(),
            revoked: false,
        };
        self.push(Entry {
            raw: Value::Object(token.members()),
            token: Ok(token.clone()),
        });
        Ok(token)
    }

    /// Takes tokens back and returns them. Of a user also those whose time is over, as the reference does.
    pub fn revoke(&mut self, which: &Which) -> Result<Vec<Token>, TokenError> {
        let hash = match which {
            Which::Of(_) => None,
            Which::Hash(prefix) => Some(self.by_hash(prefix)?.hash),
        };
        let mut revoked = Vec::new();
        for entry in &mut self.entries {
            let (Ok(token), Value::Object(members)) = (&mut entry.token, &mut entry.raw) else {
                continue;
            };
            let meant = match (which, hash) {
                (Which::Of(user), _) => token.user == *user,
                (Which::Hash(_), hash) => Some(token.hash) == hash,
            };
            if meant && !token.revoked {
                token.revoked = true;
                members.insert("status".to_owned(), Value::from("revoked"));
                revoked.push(token.clone());
            }
        }
        match which {
            Which::Of(user) if revoked.is_empty() => Err(TokenError::UnknownUser(user.clone())),
            _ => Ok(revoked),
        }
    }

    /// Takes tokens back and adds `raw` in their place, with the same role and exactly the same lifetime.
    ///
    /// Where a user has tokens that are still good, one that is not has no say in what the new one is. Fails with
    /// [`TokenError::Several`] where those that are good differ.
    pub fn rotate(
        &mut self,
        which: &Which,
        raw: &RawToken,
        issued_by: &str,
        now: Timestamp,
    ) -> Result<(Token, Vec<Token>), TokenError> {
        if self.entries.len() >= TOKENS_MAX {
            return Err(TokenError::Full { max: TOKENS_MAX });
        }
        let old = match which {
            Which::Hash(prefix) => self.by_hash(prefix)?.clone(),
            Which::Of(user) => {
                let of_user = |token: &&Token| token.user == *user && !token.revoked;
                let mut candidates: Vec<_> = self.active(now).filter(of_user).collect();
                if candidates.is_empty() {
                    candidates = self.tokens().filter(of_user).collect();
                }
                let Some(first) = candidates.first() else {
                    return Err(TokenError::UnknownUser(user.clone()));
                };
                let alike = |t: &&Token| t.role == first.role && t.lifetime() == first.lifetime();
                if !candidates.iter().all(alike) {
                    return Err(TokenError::Several(user.clone()));
                }
                Token::clone(first)
            }
        };
        let revoked = self.revoke(which)?;
        let lifetime = old.lifetime();
        let fresh = self.issue(raw, old.user, old.role, lifetime, issued_by, now)?;
        Ok((fresh, revoked))
    }

    /// Forgets a token, good or not, so that it opens nothing from now on. Nothing if there is none of this hash, or
    /// several.
    pub fn discard(&mut self, hash: &ContentHash) -> Option<Token> {
        let place = self.places.get(hash).copied().flatten()?;
        let token = self.entries.get(place)?.token.clone().ok()?;
        let entries = std::mem::take(&mut self.entries);
        self.places.clear();
        for (at, entry) in entries.into_iter().enumerate() {
            if at != place {
                self.push(entry);
            }
        }
        Some(token)
    }

    /// Forgets tokens that open nothing any more; returns how many. What cannot be read stays.
    pub fn prune(&mut self, now: Timestamp) -> usize {
        let before = self.entries.len();
        let entries = std::mem::take(&mut self.entries);
        let places = std::mem::take(&mut self.places);
        for entry in entries {
            // Of several with one hash none goes: the one that is left would begin to open something.
            let over = |token: &Token| {
                token.standing(now) != Standing::Active
                    && places.get(&token.hash).copied().flatten().is_some()
            };
            if !entry.token.as_ref().is_ok_and(over) {
                self.push(entry);
            }
        }
        before - self.entries.len()
    }

    fn active(&self, now: Timestamp) -> impl Iterator<Item = &Token> {
        self.tokens().filter(move |token| {
            token.standing(now) == Standing::Active
                && self.places.get(&token.hash).copied().flatten().is_some()
        })
    }

    fn by_hash(&self, prefix: &HashPrefix) -> Result<&Token, TokenError> {
        let meant = |token: &&Token| !token.revoked && prefix.starts(&token.hash);
        let mut found = self.tokens().filter(meant);
        let Some(first) = found.next() else {
            return Err(TokenError::UnknownHash(prefix.clone()));
        };
        match found.any(|other| other.hash != first.hash) {
            true => Err(TokenError::Ambiguous(prefix.clone())),
            false => Ok(first),
        }
    }
}

impl fmt::Display for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Of(user) => write!(f, "{user}"),
            Self::Hash(prefix) => write!(f, "{prefix}"),
        }
    }
}

#[cfg(test)]
mod tests;
