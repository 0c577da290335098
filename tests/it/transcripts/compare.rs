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
    pub(super) seq: u32,
    pub(super) case: &'a str,
    pub(super) found: Vec<Finding>,
}

/// What stands for a member that is not there.
pub(super) const ABSENT: &str = "absent";

/// Members, and whether a text looks like one of them.
type Fresh = (&'static [&'static str], fn(&str) -> bool);

/// Members that are new in every answer, and what they must look like.
///
/// Ids of agents are not among them, because the agents of the replay are given the recorded ones.
const FRESH: [Fresh; 6] = [
    (
        &[
            "timestamp",
            "peer_identity.timestamp",
            "message.timestamp",
            "packaged_skill.packaged_at",
            "skillset_package.packaged_at",
            "stdout.packaged_at",
        ],
        is_time,
    ),
    (&["message.id"], |text| {
        is_hex(&text.replace('-', ""), 32) && text.len() == 36
    }),
    (&["session_token"], |text| is_hex(text, 64)),
    (&["public_key", "peer_identity.public_key"], |text| {
        text.starts_with("-----BEGIN PUBLIC KEY-----\n")
            && text.ends_with("\n-----END PUBLIC KEY-----\n")
    }),
    (
        &["key_fingerprint", "peer_identity.key_fingerprint"],
        |text| text.len() == 47 && is_hex(&text.replace(':', ""), 32),
    ),
    (
        &["identity_signature", "peer_identity.identity_signature"],
        |text| STANDARD.decode(text).is_ok_and(|bytes| bytes.len() == 256),
    ),
];

fn is_time(text: &str) -> bool {
    Timestamp::parse(text).is_ok_and(|time| time.wire() == text)
}

fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

impl<'a> Findings<'a> {
    pub(super) fn of(seq: u32, case: &'a str) -> Self {
        Self {
            seq,
            case,
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
        match (reference, ours) {
            (Value::Object(reference), Value::Object(ours)) => {
                self.objects(member, reference, ours)
            }
            (Value::Array(reference), Value::Array(ours)) => self.arrays(member, reference, ours),
            (Value::String(reference), Value::String(ours)) if reference != ours => {
                let fresh = FRESH.iter().find(|(members, _)| members.contains(&member));
                match fresh {
                    Some((_, looks_right)) if looks_right(ours) => {}
                    None if member.ends_with("archive_base64") => {
                        self.values(member, &entries(reference), &entries(ours));
                    }
                    _ => self.put(member, json!(reference), json!(ours)),
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
        let shared = |of: &[&str], other: &[&str]| {
            let keys: Vec<_> = of
                .iter()
                .filter(|key| other.contains(key))
                .copied()
                .collect();
            keys.join(",")
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
fn keys(list: &[Value]) -> Option<Vec<&str>> {
    let key = |value| Value::as_str(Value::get(value, "id").or_else(|| value.get("name"))?);
    let keys: Vec<&str> = list.iter().map(key).collect::<Option<_>>()?;
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
