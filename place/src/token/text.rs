//! The texts around tokens: the raw token, a user's name, a lifetime, the start of a hash.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use kairos_protocol::hash::ContentHash;
use kairos_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Start of every token, by which secret scanners know it.
const PREFIX: &str = "kc_";
/// Longest name of a user in bytes.
pub const USER_NAME_MAX: usize = 128;
/// Longest life of a token that ends at all: a hundred years.
pub const LIFETIME_MAX: Duration = Duration::from_secs(36_500 * 86_400);
/// Digits of a hash that lists and logs show.
pub const HASH_SHOWN: usize = 8;

/// A token as its holder presents it: `kc_` and 64 hex digits. Whoever has the text has the role.
#[derive(Clone, PartialEq, Eq)]
pub struct RawToken(String);

impl RawToken {
    /// A token made of `random`, which must come from a source that nobody can guess.
    pub fn from_random(random: [u8; 32]) -> Self {
        Self(format!("{PREFIX}{}", hex::encode(random)))
    }

    /// The text, to be shown to its holder once.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// What is kept of it.
    pub fn hash(&self) -> ContentHash {
        ContentHash::of(&self.0)
    }
}

impl fmt::Debug for RawToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RawToken(…)")
    }
}

/// Who holds a token: letters, digits, `_`, `-` and `.`, at most [`USER_NAME_MAX`] of them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct UserName(String);

/// Why a text is not a user's name. The words are the reference's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum UserNameError {
    /// Nothing, or only white space.
    #[error("User cannot be blank")]
    Blank,
    /// Something else than the characters allowed.
    #[error("User must contain only alphanumeric characters, underscores, hyphens, and dots")]
    Character,
    /// Longer than [`USER_NAME_MAX`].
    #[error("User must have at most {USER_NAME_MAX} characters")]
    TooLong,
}

impl UserName {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for UserName {
    type Err = UserNameError;

    fn from_str(text: &str) -> Result<Self, UserNameError> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        if text.trim().is_empty() {
            Err(UserNameError::Blank)
        } else if !text.chars().all(allowed) {
            Err(UserNameError::Character)
        } else if text.len() > USER_NAME_MAX {
            Err(UserNameError::TooLong)
        } else {
            Ok(Self(text.to_owned()))
        }
    }
}

impl TryFrom<String> for UserName {
    type Error = UserNameError;
    fn try_from(text: String) -> Result<Self, UserNameError> {
        text.parse()
    }
}

impl From<UserName> for String {
    fn from(name: UserName) -> String {
        name.0
    }
}

impl fmt::Display for UserName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How long a token is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    /// Until it is revoked.
    Never,
    /// For so long from its making.
    For(Duration),
}

/// The text is no lifetime.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{}` is no lifetime; write 90d, 24h, 30m or never, from 1m to 36500d", .0.chars().take(32).collect::<String>())]
pub struct LifetimeError(String);

impl Lifetime {
    /// When a token made at `start` is over: `None` outside the calendar, `Some(None)` never.
    pub fn end(self, start: Timestamp) -> Option<Option<Timestamp>> {
        match self {
            Self::Never => Some(None),
            Self::For(life) => {
                let end = start.plus(life);
                // An end outside the calendar would be the start: over at once, or never.
                (end.since(start) == life).then_some(Some(end))
            }
        }
    }
}

impl FromStr for Lifetime {
    type Err = LifetimeError;

    /// Reads `<n>d`, `<n>h`, `<n>m` or `never`. Anything else is an error, where the reference takes 90 days.
    fn from_str(text: &str) -> Result<Self, LifetimeError> {
        let error = || LifetimeError(text.to_owned());
        if text == "never" {
            return Ok(Self::Never);
        }
        let unit = match text.chars().last() {
            Some('d') => 86_400,
            Some('h') => 3_600,
            Some('m') => 60,
            _ => return Err(error()),
        };
        let digits = text.get(..text.len() - 1).unwrap_or_default();
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(error());
        }
        let count: u64 = digits.parse().map_err(|_| error())?;
        let life = count.checked_mul(unit).map(Duration::from_secs);
        life.filter(|life| !life.is_zero() && *life <= LIFETIME_MAX)
            .map(Self::For)
            .ok_or_else(error)
    }
}

impl fmt::Display for Lifetime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secs = match self {
            Self::Never => return f.write_str("never"),
            Self::For(life) => life.as_secs(),
        };
        match (secs % 86_400, secs % 3_600) {
            (0, _) => write!(f, "{}d", secs / 86_400),
            (_, 0) => write!(f, "{}h", secs / 3_600),
            _ => write!(f, "{}m", secs.div_ceil(60)),
        }
    }
}

/// The first digits of the hash of a token, [`HASH_SHOWN`] or more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HashPrefix(String);

/// The text is not the start of a hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("give {HASH_SHOWN} to 64 hex digits of the token's hash, as `token list` shows them")]
pub struct HashPrefixError;

impl HashPrefix {
    /// Whether `hash` starts so.
    pub fn starts(&self, hash: &ContentHash) -> bool {
        hash.to_hex().starts_with(&self.0)
    }
}

impl FromStr for HashPrefix {
    type Err = HashPrefixError;

    fn from_str(text: &str) -> Result<Self, HashPrefixError> {
        let digits = text.bytes().all(|b| b.is_ascii_hexdigit());
        if !digits || !(HASH_SHOWN..=64).contains(&text.len()) {
            return Err(HashPrefixError);
        }
        Ok(Self(text.to_ascii_lowercase()))
    }
}

impl fmt::Display for HashPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_lifetimes_and_nothing_like_them() {
        for (text, secs) in [
            ("90d", 7_776_000),
            ("24h", 86_400),
            ("90m", 5_400),
            ("007m", 420),
        ] {
            let life = Duration::from_secs(secs);
            assert_eq!(text.parse(), Ok(Lifetime::For(life)), "{text}");
        }
        assert_eq!("never".parse(), Ok(Lifetime::Never));
        for bad in [
            "",
            "d",
            "0d",
            "00m",
            "-1d",
            "+1d",
            "1.5h",
            "1 d",
            " 1d",
            "1d ",
            "1D",
            "90",
            "1w",
            "Never",
            "1d1h",
            "é",
            "1é",
            "36501d",
            "99999999999999999999999d",
            "18446744073709551615d",
            "٣d",
        ] {
            let error = bad.parse::<Lifetime>().unwrap_err().to_string();
            assert!(error.contains("is no lifetime"), "{error}");
        }
    }

    #[test]
    fn names_of_users_are_refused_in_the_words_of_the_reference() {
        assert!("ada.l-1_x".parse::<UserName>().is_ok());
        for (bad, words) in [
            ("", "User cannot be blank"),
            (" \t", "User cannot be blank"),
            ("a b", "User must contain only"),
            ("../x", "User must contain only"),
            ("ä", "User must contain only"),
            ("a\n", "User must contain only"),
        ] {
            let error = bad.parse::<UserName>().unwrap_err().to_string();
            assert!(error.starts_with(words), "{bad:?}: {error}");
        }
        assert_eq!(
            "x".repeat(129).parse::<UserName>(),
            Err(UserNameError::TooLong)
        );
    }

    #[test]
    fn a_raw_token_is_not_told_by_accident() {
        let raw = RawToken::from_random([0xab; 32]);
        assert_eq!(raw.reveal(), format!("kc_{}", "ab".repeat(32)));
        assert_eq!(format!("{raw:?}"), "RawToken(…)");
    }

    proptest! {
        #[test]
        fn a_lifetime_is_written_as_it_is_read(minutes in 1u64..52_560_000) {
            let life = Lifetime::For(Duration::from_secs(minutes * 60));
            prop_assert_eq!(life.to_string().parse(), Ok(life));
        }

        #[test]
        fn no_text_makes_the_readers_panic(text in "\\PC{0,12}") {
            let _ = (text.parse::<Lifetime>(), text.parse::<HashPrefix>(), text.parse::<UserName>());
        }
    }
}
