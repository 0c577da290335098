//! Requests and answers of the Model Meeting Protocol where no HTTP carries them: `/kairos/mmp/1`.
//!
//! One message each way: a line of JSON that says what is asked, or what came of it, a line feed, and the body that would
//! have been that of the request or the answer over HTTP.

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use thiserror::Error;

/// Longest head of a message, in bytes.
pub const HEAD_MAX: usize = 8 * 1024;
/// Most pairs of a query.
const QUERY_MAX: usize = 8;
/// Longest name of what is asked, in bytes.
const PATH_MAX: usize = 64;

/// Why bytes are no message.
#[derive(Debug, Error)]
pub enum CarriedError {
    /// No line feed within [`HEAD_MAX`].
    #[error("the message has no head of at most {HEAD_MAX} bytes")]
    NoHead,
    /// The head is not what it should be.
    #[error("the head of the message cannot be read: {0}")]
    Head(#[from] serde_json::Error),
    /// Something else than the name of an endpoint.
    #[error("the message asks for something else than an endpoint of meetings")]
    Path,
}

/// How something is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Verb {
    /// To see something.
    Get,
    /// To say something.
    Post,
}

/// What a peer asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AskHead {
    /// How.
    pub verb: Verb,
    /// For what: the name below `/meeting/v1/`.
    pub path: String,
    /// The pairs of the query.
    #[serde(default)]
    pub query: Vec<(String, String)>,
    /// The session, if there is one.
    #[serde(default)]
    pub session: Option<String>,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToldHead {
    /// The status that it would have over HTTP.
    pub status: u16,
    /// In how many seconds to try again.
    #[serde(default)]
    pub retry_after: Option<u64>,
}

impl AskHead {
    /// Reads a request, whose path is then a name: nothing leads from meetings to anything else.
    pub fn read(message: &[u8]) -> Result<(Self, &[u8]), CarriedError> {
        let (head, body): (Self, _) = read(message)?;
        let letter = |b: u8| b.is_ascii_lowercase() || b == b'_';
        let path = &head.path;
        let is_name = !path.is_empty() && path.len() <= PATH_MAX && path.bytes().all(letter);
        match is_name && head.query.len() <= QUERY_MAX {
            true => Ok((head, body)),
            false => Err(CarriedError::Path),
        }
    }
}

impl ToldHead {
    /// Reads an answer.
    pub fn read(message: &[u8]) -> Result<(Self, &[u8]), CarriedError> {
        read(message)
    }
}

fn read<T: DeserializeOwned>(message: &[u8]) -> Result<(T, &[u8]), CarriedError> {
    let at = message
        .iter()
        .take(HEAD_MAX)
        .position(|byte| *byte == b'\n');
    let (head, body) = at
        .and_then(|at| message.split_at_checked(at))
        .ok_or(CarriedError::NoHead)?;
    Ok((
        serde_json::from_slice(head)?,
        body.get(1..).unwrap_or_default(),
    ))
}

/// The message of a head and a body.
pub fn message(head: &impl Serialize, body: &[u8]) -> Result<Vec<u8>, CarriedError> {
    let mut message = serde_json::to_vec(head)?;
    if message.len() >= HEAD_MAX {
        return Err(CarriedError::NoHead);
    }
    message.reserve_exact(body.len() + 1);
    message.push(b'\n');
    message.extend_from_slice(body);
    Ok(message)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ask() -> AskHead {
        AskHead {
            verb: Verb::Post,
            path: "skill_content".to_owned(),
            query: vec![("from".to_owned(), "3\n".to_owned())],
            session: Some("s".to_owned()),
        }
    }

    #[test]
    fn what_was_written_is_read() {
        let sent = message(&ask(), b"{\n}").unwrap();
        assert_eq!(AskHead::read(&sent).unwrap(), (ask(), &b"{\n}"[..]));
        let told = ToldHead {
            status: 429,
            retry_after: Some(3),
        };
        let sent = message(&told, b"").unwrap();
        assert_eq!(ToldHead::read(&sent).unwrap(), (told, &b""[..]));
        let bare = br#"{"verb":"GET","path":"introduce"}
"#;
        assert!(AskHead::read(bare).is_ok());
    }

    #[test]
    fn nothing_but_meetings_is_asked_for() {
        for path in ["", "../place", "a/b", "A", "a?b", "a%2f", &"x".repeat(65)] {
            let path = path.to_owned();
            let sent = message(&AskHead { path, ..ask() }, b"").unwrap();
            assert!(matches!(AskHead::read(&sent), Err(CarriedError::Path)));
        }
        let query = vec![(String::new(), String::new()); QUERY_MAX + 1];
        let sent = message(&AskHead { query, ..ask() }, b"").unwrap();
        assert!(matches!(AskHead::read(&sent), Err(CarriedError::Path)));
        let long = Some("x".repeat(HEAD_MAX));
        let long = message(
            &AskHead {
                session: long,
                ..ask()
            },
            b"",
        );
        assert!(matches!(long, Err(CarriedError::NoHead)));
        for wrong in [&b""[..], b"{}", b"{}\n", &[b' '; HEAD_MAX + 9]] {
            assert!(AskHead::read(wrong).is_err());
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let read = AskHead::read(&bytes).is_ok() || ToldHead::read(&bytes).is_ok();
            prop_assert!(!read || bytes.contains(&b'\n'));
        }
    }
}
