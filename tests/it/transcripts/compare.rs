//! What differs between a recorded answer and ours, member by member.

use std::collections::HashSet;
use std::fmt;
use std::io::Read as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::read::GzDecoder;
use kairos_protocol::time::Timestamp;
use serde_json::{Map, Value, json};

use super::recording::sha256;

/// One difference, as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) seq: u32,
    pub(super) case: String,
    /// Where, such as `status`, `header cache-control`, `peer_identity.skills[].path`, `exit`, `stdout`, `tree`.
    pub(super) member: String,
    /// What the reference said: compact JSON, or a word.
    pub(super) reference: String,
    /// What we say.
    pub(super) ours: String,
}

/// The differences of one row.
pub(super) struct Findings<'a> {
    seq: u32,
    case: &'a str,
    /// What is new in every answer.
    fresh: &'static [Fresh],
    pub(super) found: Vec<Finding>,
}

/// What stands for a member that is not there.
pub(super) const ABSENT: &str = "absent";

/// Members that are new in every answer, and whether a value looks like one of them.
pub(super) type Fresh = (&'static [&'static str], fn(&Value) -> bool);

pub(super) fn is_time(value: &Value) -> bool {
    let text = text(value);
    Timestamp::parse(text).is_ok_and(|time| time.wire() == text)
}

pub(super) fn is_token(value: &Value) -> bool {
    is_hex(text(value), 64)
}

pub(super) fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// The text that a value is, or an empty one.
pub(super) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

impl<'a> Findings<'a> {
    pub(super) fn of(seq: u32, case: &'a str, fresh: &'static [Fresh]) -> Self {
        Self {
            seq,
            case,
            fresh,
            found: Vec::new(),
        }
    }

    pub(super) fn put(
        &mut self,
        member: &str,
        reference: impl fmt::Display,
        ours: impl fmt::Display,
    ) {
        let (reference, ours) = (reference.to_string(), ours.to_string());
        if reference != ours {
            self.found.push(Finding {
                seq: self.seq,
                case: self.case.to_owned(),
                member: member.to_owned(),
                reference,
                ours,
            });
        }
    }

    /// Compares texts as JSON where both are, below the member `name`.
    pub(super) fn texts(&mut self, name: &str, reference: &str, ours: &str) {
        match (serde_json::from_str(reference), serde_json::from_str(ours)) {
            (Ok(reference), Ok(ours)) => self.values(name, &reference, &ours),
            _ => match (listed(reference), listed(ours)) {
                (Some(reference), Some(ours)) => self.values(name, &reference, &ours),
                _ => self.put(name, reference, ours),
            },
        }
    }

    pub(super) fn values(&mut self, member: &str, reference: &Value, ours: &Value) {
        let mut fresh = self.fresh.iter();
        let fresh = fresh.find(|(members, _)| members.contains(&member));
        if fresh.is_some_and(|(_, looks_right)| looks_right(reference) && looks_right(ours)) {
            return;
        }
        match (reference, ours) {
            (Value::Object(reference), Value::Object(ours)) => {
                self.objects(member, reference, ours)
            }
            (Value::Array(reference), Value::Array(ours)) => self.arrays(member, reference, ours),
            (Value::String(reference), Value::String(ours)) if reference != ours => {
                match member.ends_with("archive_base64") {
                    true => self.values(member, &entries(reference), &entries(ours)),
                    false => self.put(member, json!(reference), json!(ours)),
                }
            }
            _ => self.put(member, reference, ours),
        }
    }

    fn objects(&mut self, member: &str, reference: &Map<String, Value>, ours: &Map<String, Value>) {
        let common = |of: &Map<String, Value>, other: &Map<String, Value>| {
            let keys: Vec<_> = of
                .keys()
                .filter(|key| other.contains_key(*key))
                .cloned()
                .collect();
            keys.join(",")
        };
        let order = format!("{member} (order)");
        self.put(
            order.trim_start(),
            common(reference, ours),
            common(ours, reference),
        );
        for (key, value) in reference {
            let member = below(member, key);
            match ours.get(key) {
                Some(ours) => self.values(&member, value, ours),
                None => self.put(&member, value, ABSENT),
            }
        }
        for (key, value) in ours.iter().filter(|(key, _)| !reference.contains_key(*key)) {
            self.put(&below(member, key), ABSENT, value);
        }
    }

    /// Matches the elements of lists by id or name where they have one, else by position.
    fn arrays(&mut self, member: &str, reference: &[Value], ours: &[Value]) {
        let (Some(reference_keys), Some(our_keys)) = (keys(reference), keys(ours)) else {
            if reference.len() == ours.len() {
                for (reference, ours) in reference.iter().zip(ours) {
                    self.values(&format!("{member}[]"), reference, ours);
                }
            } else {
                self.put(member, json!(reference), json!(ours));
            }
            return;
        };
        let element = format!("{member}[]");
        let shared = |of: &[String], other: &[String]| {
            let keys = of.iter().filter(|key| other.contains(key));
            keys.map(String::as_str).collect::<Vec<_>>().join(",")
        };
        let order = format!("{member} (order)");
        self.put(
            &order,
            shared(&reference_keys, &our_keys),
            shared(&our_keys, &reference_keys),
        );
        for (key, value) in reference_keys.iter().zip(reference) {
            match our_keys.iter().position(|ours| ours == key) {
                Some(at) => self.values(&element, value, &ours[at]),
                None => self.put(&element, name(value), ABSENT),
            }
        }
        for (key, value) in our_keys.iter().zip(ours) {
            if !reference_keys.contains(key) {
                self.put(&element, ABSENT, name(value));
            }
        }
    }
}

fn below(member: &str, key: &str) -> String {
    if member.is_empty() {
        key.to_owned()
    } else {
        format!("{member}.{key}")
    }
}

/// Reads what tells the elements of a list apart, if it does.
fn keys(list: &[Value]) -> Option<Vec<String>> {
    let key = |value: &Value| {
        let key = value.get("id").or_else(|| value.get("name"))?;
        // A text, as it should be, or whatever the reference took for one.
        Some(key.as_str().map_or_else(|| key.to_string(), str::to_owned))
    };
    let keys: Vec<String> = list.iter().map(key).collect::<Option<_>>()?;
    let distinct: HashSet<_> = keys.iter().collect();
    (distinct.len() == keys.len()).then_some(keys)
}

fn name(value: &Value) -> &str {
    value["name"].as_str().unwrap_or_default()
}

/// Reads the listing of SkillSets that people see: the first line, then one block a SkillSet.
fn listed(text: &str) -> Option<Value> {
    let mut blocks = text.strip_prefix("Installed SkillSets:\n\n")?.split("\n\n");
    let mut listed = Map::new();
    blocks
        .by_ref()
        .filter(|block| !block.is_empty())
        .for_each(|block| {
            let name = block.split_whitespace().next().unwrap_or_default();
            listed.insert(name.to_owned(), json!(block));
        });
    Some(Value::Object(listed))
}

/// Reads what is in an archive, which no two packings give the same bytes for.
fn entries(archive: &str) -> Value {
    let compressed = STANDARD.decode(archive).unwrap();
    let mut tar = tar::Archive::new(GzDecoder::new(compressed.as_slice()));
    let mut listed = Map::new();
    for entry in tar.entries().unwrap() {
        let mut entry = entry.unwrap();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        let header = entry.header();
        let path = entry.path().unwrap().to_string_lossy().into_owned();
        let about = json!({
            "type": format!("{:?}", header.entry_type()), "mode": format!("{:o}", header.mode().unwrap()),
            "sha256": sha256(content),
        });
        assert!(listed.insert(path, about).is_none());
    }
    Value::Object(listed)
}
