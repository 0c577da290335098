//! Names that strangers can send: parsing is validating, and what parsed can be used in a path or a log line.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// Longest [`AgentId`] in bytes.
pub const AGENT_ID_MAX: usize = 128;
/// Longest [`MessageType`] in bytes.
pub const MESSAGE_TYPE_MAX: usize = 64;
/// Longest [`SkillSetName`] in characters (they are ASCII), the bound of the reference.
pub const SKILL_SET_NAME_MAX: usize = 64;
/// Longest [`SkillName`] in bytes; with `.md` and a temporary suffix it still fits a file name.
pub const SKILL_NAME_MAX: usize = 128;

/// Why a text is not an id or a name.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum IdError {
    /// Nothing, or only white space.
    #[error("{kind} is blank")]
    Blank {
        /// What was being parsed.
        kind: &'static str,
    },
    /// More bytes than the type allows.
    #[error("{kind} is {len} bytes long, the limit is {max}")]
    TooLong {
        /// What was being parsed.
        kind: &'static str,
        /// The limit in bytes.
        max: usize,
        /// What was found.
        len: usize,
    },
    /// A character that has no place here.
    #[error("{kind} has {found:?} at byte {at}")]
    Character {
        /// What was being parsed.
        kind: &'static str,
        /// The first offending character.
        found: char,
        /// Its byte offset.
        at: usize,
    },
    /// Another number of hex digits than the 32 of 16 bytes.
    #[error("{kind} is not 32 lower-case hex digits")]
    NotHex {
        /// What was being parsed.
        kind: &'static str,
    },
    /// A name that the system keeps for itself.
    #[error("{kind} `{name}` is reserved")]
    Reserved {
        /// What was being parsed.
        kind: &'static str,
        /// The name.
        name: String,
    },
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $check:path) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The text as it was parsed.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                $check(text)?;
                Ok(Self(text.to_owned()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                $check(&text)?;
                Ok(Self(text))
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}

text_id! {
    /// The `instance_id` under which an agent is known.
    ///
    /// Opaque: foreign agents choose theirs freely. Ours is the start of the hash of its public key
    /// ([`PublicKey::agent_id`](crate::crypto::PublicKey::agent_id)). At most [`AGENT_ID_MAX`] bytes, no
    /// control characters, not blank.
    AgentId, check_agent_id
}

text_id! {
    /// The name of a SkillSet, and of the directory it is installed in.
    ///
    /// `[a-zA-Z0-9][a-zA-Z0-9_-]*`, at most [`SKILL_SET_NAME_MAX`] characters; not a device name of Windows.
    SkillSetName, check_skill_set_name
}

text_id! {
    /// The name of a local knowledge entry: one path segment that is safe on every file system we run on.
    ///
    /// No separator, no control character, no leading dot, not `.bak.`-like or `.new`, which upgrades leave, at most [`SKILL_NAME_MAX`] bytes.
    SkillName, check_skill_name
}

text_id! {
    /// The name that a sender gives one sealed message: 16 random bytes as 32 lower-case hex digits.
    MessageId, check_message_id
}

text_id! {
    /// The name of a prekey: the first 16 bytes of the SHA-256 over its 32 public bytes, as 32 lower-case hex digits.
    PrekeyId, check_prekey_id
}

text_id! {
    /// The name of an agreement between two Places: the first 16 bytes of the SHA-256 over what its proposer signs, as 32
    /// lower-case hex digits.
    AgreementId, check_agreement_id
}

text_id! {
    /// What a sealed message is about, which whoever carries it sees: `[A-Za-z0-9_.-]`, at most
    /// [`MESSAGE_TYPE_MAX`] bytes.
    MessageType, check_message_type
}

fn bounded(kind: &'static str, text: &str, max: usize) -> Result<(), IdError> {
    if text.trim().is_empty() {
        return Err(IdError::Blank { kind });
    }
    if text.len() > max {
        return Err(IdError::TooLong {
            kind,
            max,
            len: text.len(),
        });
    }
    Ok(())
}

fn check_agent_id(text: &str) -> Result<(), IdError> {
    let kind = "agent id";
    bounded(kind, text, AGENT_ID_MAX)?;
    match text.char_indices().find(|(_, c)| c.is_control()) {
        Some((at, found)) => Err(IdError::Character { kind, found, at }),
        None => Ok(()),
    }
}

fn check_hex(kind: &'static str, text: &str) -> Result<(), IdError> {
    let digit = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
    if text.len() == 32 && text.bytes().all(digit) {
        Ok(())
    } else {
        Err(IdError::NotHex { kind })
    }
}

fn check_message_id(text: &str) -> Result<(), IdError> {
    check_hex("message id", text)
}

fn check_prekey_id(text: &str) -> Result<(), IdError> {
    check_hex("prekey id", text)
}

fn check_agreement_id(text: &str) -> Result<(), IdError> {
    check_hex("agreement id", text)
}

fn check_message_type(text: &str) -> Result<(), IdError> {
    let kind = "message type";
    bounded(kind, text, MESSAGE_TYPE_MAX)?;
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    match text.char_indices().find(|&(_, c)| !allowed(c)) {
        Some((at, found)) => Err(IdError::Character { kind, found, at }),
        None => Ok(()),
    }
}

fn check_skill_set_name(text: &str) -> Result<(), IdError> {
    let kind = "SkillSet name";
    bounded(kind, text, SKILL_SET_NAME_MAX)?;
    let allowed =
        |at: usize, c: char| c.is_ascii_alphanumeric() || (at > 0 && matches!(c, '_' | '-'));
    match text.char_indices().find(|&(at, c)| !allowed(at, c)) {
        Some((at, found)) => Err(IdError::Character { kind, found, at }),
        None => refuse_device_name(kind, text),
    }
}

fn check_skill_name(text: &str) -> Result<(), IdError> {
    let kind = "skill name";
    bounded(kind, text, SKILL_NAME_MAX)?;
    let forbidden = |at: usize, c: char| {
        c.is_control()
            || matches!(
                c,
                '/' | '\\' | ':' | '*' | '?' | '"' | '<' | '>' | '|' | '\u{202e}'
            )
            || (at == 0 && matches!(c, '.' | '~' | ' '))
    };
    if let Some((at, found)) = text.char_indices().find(|&(at, c)| forbidden(at, c)) {
        return Err(IdError::Character { kind, found, at });
    }
    if text.contains(".bak.") || text.ends_with(".new") || text.ends_with(['.', ' ']) {
        return Err(IdError::Reserved {
            kind,
            name: text.to_owned(),
        });
    }
    refuse_device_name(kind, text)
}

/// `CON`, `nul.txt` and friends cannot be created on Windows, so nobody may ship them.
fn refuse_device_name(kind: &'static str, text: &str) -> Result<(), IdError> {
    let stem = text.split('.').next().unwrap_or(text).to_ascii_uppercase();
    let numbered = |prefix: &str| {
        stem.strip_prefix(prefix)
            .is_some_and(|n| n.len() == 1 && n.chars().all(|c| c.is_ascii_digit()))
    };
    if matches!(stem.as_str(), "CON" | "PRN" | "AUX" | "NUL") || numbered("COM") || numbered("LPT")
    {
        return Err(IdError::Reserved {
            kind,
            name: text.to_owned(),
        });
    }
    Ok(())
}

impl SkillName {
    /// Makes a name out of any text: what is not `[A-Za-z0-9_-]` becomes `_`, the rule by which the reference
    /// names the files of acquired skills. An empty or over-long text is cut or replaced.
    pub fn sanitized(text: &str) -> Self {
        let mut name: String = text
            .chars()
            .take(64)
            .map(|c| {
                if c.is_ascii_alphanumeric() || c == '-' {
                    c
                } else {
                    '_'
                }
            })
            .collect();
        if check_skill_name(&name).is_err() {
            name.insert_str(0, "skill_");
        }
        Self(name)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn accepts_what_the_reference_accepts_as_a_skill_set_name() {
        for good in ["kp", "A", "my_knowledge-pack", "0x", &"a".repeat(64)] {
            assert!(good.parse::<SkillSetName>().is_ok(), "{good}");
        }
    }

    #[test]
    fn refuses_names_that_are_not_one_safe_directory() {
        for bad in [
            "",
            " ",
            "-a",
            "_a",
            "a b",
            "a/b",
            "../x",
            ".",
            "é",
            "a\n",
            "a.b",
            "nul",
            "COM1",
            &"a".repeat(65),
        ] {
            assert!(bad.parse::<SkillSetName>().is_err(), "{bad}");
        }
        for bad in [
            "",
            ".hidden",
            "a/b",
            "a\\b",
            "a:b",
            "x.bak.2026",
            "x.new",
            "aux.md",
            "end.",
            "tab\t",
        ] {
            assert!(bad.parse::<SkillName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn refuses_names_of_messages_and_prekeys_in_any_other_form() {
        let id = "0123456789abcdef0123456789abcdef";
        assert!(id.parse::<MessageId>().is_ok() && id.parse::<PrekeyId>().is_ok());
        for bad in [
            "",
            &id[1..],
            &id.to_uppercase(),
            &format!("{id}0"),
            &"g".repeat(32),
        ] {
            assert!(bad.parse::<MessageId>().is_err(), "{bad}");
            assert!(bad.parse::<PrekeyId>().is_err(), "{bad}");
        }
        assert!("offer_skill.v2-x".parse::<MessageType>().is_ok());
        for bad in ["", " ", "a b", "a/b", "é", "a\n", &"a".repeat(65)] {
            assert!(bad.parse::<MessageType>().is_err(), "{bad}");
        }
    }

    #[test]
    fn tells_what_is_wrong_and_where() {
        let error = "my/set".parse::<SkillSetName>().unwrap_err();
        assert_eq!(error.to_string(), "SkillSet name has '/' at byte 2");
    }

    proptest! {
        #[test]
        fn every_id_prints_what_it_parsed(text in "\\PC{0,140}") {
            if let Ok(id) = text.parse::<AgentId>() { prop_assert_eq!(id.to_string(), text.clone()); }
            if let Ok(id) = text.parse::<SkillName>() { prop_assert_eq!(id.to_string(), text.clone()); }
            prop_assert!(SkillName::sanitized(&text).as_str().parse::<SkillName>().is_ok());
        }
    }
}
