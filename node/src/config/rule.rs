//! What a setting accepts: its type, its bound, and the words that say so.

use std::fmt::Display;

use kairos_actors::discovery::Address;
use kairos_place::network::Network;
use kairos_place::role::Role;
use kairos_protocol::record::Scope;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tracing_subscriber::filter::{LevelFilter, Targets};
use url::Url;

use super::value::{AnchorBackend, Backend, LogFormat, Period, ProxyHeader, Size, Strength};

/// The most entries a list may have.
const MAX_LIST: usize = 16;
/// The most characters a list entry may have.
const MAX_WORD: usize = 64;

/// A type that settings have, and how it is written outside YAML.
pub(super) trait Shape: DeserializeOwned {
    /// What a value is called in errors and in the example.
    const NOUN: &'static str;

    /// Reads the text of an environment variable or an argument; what does not fit stays text and fails later.
    fn from_text(text: &str) -> Value {
        Value::from(text)
    }
}

/// A bound on a setting of type `T`, with the words for it.
pub(super) struct Rule<T> {
    wanted: String,
    accepts: Box<dyn Fn(&T) -> bool>,
}

impl<T: Shape> Rule<T> {
    /// What is accepted, as it follows «must be».
    pub(super) fn wanted(self) -> String {
        self.wanted
    }

    /// Reads `value` as a `T` within the bound, or says what it must be.
    pub(super) fn check(self, value: &Value) -> Result<(), String> {
        match T::deserialize(value) {
            Ok(typed) if (self.accepts)(&typed) => Ok(()),
            _ => Err(self.wanted),
        }
    }
}

/// Everything of the type.
pub(super) fn any<T: Shape>() -> Rule<T> {
    Rule {
        wanted: T::NOUN.to_owned(),
        accepts: Box::new(|_| true),
    }
}

/// Everything from `low` to `high`, both included.
pub(super) fn between<T: Shape + PartialOrd + Display + 'static>(low: T, high: T) -> Rule<T> {
    Rule {
        wanted: format!("{} from {low} to {high}", T::NOUN),
        accepts: Box::new(move |value| (&low..=&high).contains(&value)),
    }
}

/// A text of one line with something in it, of at most `most` characters.
pub(super) fn line(most: usize) -> Rule<String> {
    Rule {
        wanted: format!("a text of one line with 1 to {most} characters"),
        accepts: Box::new(move |text: &String| is_line(text, most)),
    }
}

/// A text of at most `most` characters, perhaps none, perhaps over several lines.
pub(super) fn prose(most: usize) -> Rule<String> {
    Rule {
        wanted: format!("a text of at most {most} characters"),
        accepts: Box::new(move |text: &String| {
            text.chars().count() <= most && !text.contains(|c: char| c.is_control() && c != '\n')
        }),
    }
}

/// A host name or an address: a line without spaces.
pub(super) fn host() -> Rule<String> {
    Rule {
        wanted: "a host name or an IP address".to_owned(),
        accepts: Box::new(|text: &String| is_line(text, 253) && !text.contains([' ', '/', '\\'])),
    }
}

/// A URL of HTTP, without a password in it: settings are shown.
pub(super) fn web_address() -> Rule<String> {
    Rule {
        wanted: "a URL such as http://127.0.0.1:4318/v1/traces, without a user in it".to_owned(),
        accepts: Box::new(|text: &String| {
            is_line(text, 2_048)
                && Url::parse(text).is_ok_and(|url| {
                    matches!(url.scheme(), "http" | "https")
                        && url.has_host()
                        && url.username().is_empty()
                        && url.password().is_none()
                })
        }),
    }
}

/// The same, or nothing.
pub(super) fn web_address_or_none() -> Rule<String> {
    let address = web_address();
    Rule {
        wanted: "a URL such as https://place.example, without a user in it".to_owned(),
        accepts: Box::new(move |text: &String| text.is_empty() || (address.accepts)(text)),
    }
}

/// A short list of short words.
pub(super) fn words() -> Rule<Vec<String>> {
    Rule {
        wanted: format!("a list of at most {MAX_LIST} words"),
        accepts: Box::new(|list: &Vec<String>| {
            list.len() <= MAX_LIST
                && list
                    .iter()
                    .all(|word| is_line(word, MAX_WORD) && !word.contains([' ', ',']))
        }),
    }
}

/// A short list of multiaddresses.
pub(super) fn addresses() -> Rule<Vec<String>> {
    Rule {
        wanted: format!(
            "a list of at most {MAX_LIST} multiaddresses, such as /ip4/192.0.2.1/tcp/4001"
        ),
        accepts: Box::new(|list: &Vec<String>| {
            list.len() <= MAX_LIST && list.iter().all(|text| text.parse::<Address>().is_ok())
        }),
    }
}

/// A short list of networks.
pub(super) fn networks() -> Rule<Vec<Network>> {
    Rule {
        wanted: format!(
            "a list of at most {MAX_LIST} addresses and networks, such as 192.0.2.1 or 10.0.0.0/8"
        ),
        accepts: Box::new(|list: &Vec<Network>| list.len() <= MAX_LIST),
    }
}

/// A level such as `info`, or levels by part of the program: `info,kairos_actors=debug`.
pub(super) fn filter() -> Rule<String> {
    let has_level = |part: &str| {
        let level = part.rsplit('=').next().unwrap_or_default();
        level.trim().parse::<LevelFilter>().is_ok()
    };
    Rule {
        wanted: "a log level such as info, or several such as info,kairos_actors=debug".to_owned(),
        accepts: Box::new(move |text: &String| {
            is_line(text, 1024) && text.split(',').all(has_level) && text.parse::<Targets>().is_ok()
        }),
    }
}

fn is_line(text: &str, most: usize) -> bool {
    !text.trim().is_empty() && text.chars().count() <= most && !text.contains(char::is_control)
}

impl Shape for bool {
    const NOUN: &'static str = "true or false";

    fn from_text(text: &str) -> Value {
        text.trim()
            .to_lowercase()
            .parse::<bool>()
            .map_or(Value::from(text), Value::from)
    }
}

impl Shape for String {
    const NOUN: &'static str = "a text";
}

impl Shape for Vec<String> {
    const NOUN: &'static str = "a list of words";

    /// Words separated by commas.
    fn from_text(text: &str) -> Value {
        separated(text)
    }
}

impl Shape for Vec<Network> {
    const NOUN: &'static str = "a list of networks";

    /// Networks separated by commas.
    fn from_text(text: &str) -> Value {
        separated(text)
    }
}

fn separated(text: &str) -> Value {
    text.split(',')
        .map(str::trim)
        .filter(|word| !word.is_empty())
        .collect()
}

impl Shape for ProxyHeader {
    const NOUN: &'static str = "x_forwarded_for, forwarded or x_real_ip";
}

impl Shape for Period {
    const NOUN: &'static str = "a duration";
}

impl Shape for Size {
    const NOUN: &'static str = "a size";
}

impl Shape for Strength {
    const NOUN: &'static str = "introduced or proven";
}

impl Shape for Role {
    const NOUN: &'static str = "owner, member or guest";
}

impl Shape for Scope {
    const NOUN: &'static str = "private, lan or world";
}

impl Shape for Backend {
    const NOUN: &'static str = "file or sqlite";
}

impl Shape for AnchorBackend {
    const NOUN: &'static str = "in_memory or private";
}

impl Shape for LogFormat {
    const NOUN: &'static str = "human or json";
}

macro_rules! whole_numbers {
    ($($int:ty),+) => {$(
        impl Shape for $int {
            const NOUN: &'static str = "a whole number";

            fn from_text(text: &str) -> Value {
                text.trim().parse::<u64>().map_or(Value::from(text), Value::from)
            }
        }
    )+};
}
whole_numbers!(u16, u32, usize);
