//! JSON from strangers, and everything read out of the bodies of meeting requests and replies.

use kairos_protocol::json;
use kairos_protocol::manifest::SignedManifest;
use kairos_protocol::provenance::Provenance;
use kairos_protocol::time::Timestamp;
use kairos_protocol::wire::envelope::Envelope;
use kairos_protocol::wire::introduction::ReceivedIntroduction;
use kairos_protocol::wire::listing::{offered_skill_sets, offered_skills};
use serde_json::{Map, Value};

use crate::words;

/// Most entries read from a list.
const LISTED_MAX: usize = 100;

/// Reads `data` as JSON and as each message.
pub fn run(data: &[u8]) -> String {
    match json::parse(data) {
        Ok(value) => {
            canonical_text_is_stable(&value);
            match value {
                Value::Object(members) => message(members),
                other => json::kind(&other).to_owned(),
            }
        }
        Err(error) => words(error),
    }
}

fn canonical_text_is_stable(value: &Value) {
    let canonical = json::canonical(value);
    let again = json::parse(canonical.as_bytes()).expect("canonical JSON is JSON");
    assert_eq!(json::canonical(&again), canonical);
    let texts: Vec<_> = json::signing_texts(value).collect();
    assert!(texts.contains(&canonical) && texts.len() <= 4);
    for text in texts {
        let again = json::parse(text.as_bytes()).expect("what is signed is JSON");
        assert_eq!(json::canonical(&again), canonical, "from {text}");
    }
}

fn message(members: Map<String, Value>) -> String {
    let mut outcome = match Envelope::from_members(&members) {
        Ok(envelope) => {
            for accepts in [true, false] {
                let answer = envelope.answer(|_| accepts);
                assert!(answer["status"].is_string());
            }
            envelope.action.name().unwrap_or("?").to_owned()
        }
        Err(error) => words(error),
    };
    outcome += &evidence(&members);
    let skills = offered_skills(members.get("skills"), LISTED_MAX);
    let skill_sets = offered_skill_sets(members.get("skillsets"), LISTED_MAX);
    assert!(skills.len() <= LISTED_MAX && skill_sets.len() <= LISTED_MAX);
    let texts =
        (skills.iter().map(|skill| &skill.name)).chain(skill_sets.iter().map(|set| &set.name));
    for text in texts {
        assert!(!text.chars().any(char::is_control));
    }
    outcome += &introduction(members);
    outcome
}

fn introduction(members: Map<String, Value>) -> String {
    let received = ReceivedIntroduction::new(members);
    let shown = received.shown("name");
    assert!(shown.chars().count() <= 200 && !shown.chars().any(char::is_control));
    let possession = received.possession();
    if let Some(nonce) = &possession.nonce {
        assert_eq!(nonce.len(), 64);
    }
    match received.verify(None) {
        Ok(verified) => {
            assert_eq!(Ok(&verified.agent_id), received.claimed_id().as_ref());
            assert!(received.verify(Some(&verified.key)).is_ok());
            format!(
                "verified {} {}",
                verified.rotations.len(),
                possession.proof.is_some()
            )
        }
        Err(error) => words(error),
    }
}

fn evidence(members: &Map<String, Value>) -> String {
    let mut outcome = String::new();
    if let Some(value) = members.get("provenance") {
        match Provenance::from_value(value) {
            Ok(provenance) => {
                let known = provenance.verify(&provenance.content_hash).is_ok();
                outcome += if known { "provenance" } else { "bad hop" };
            }
            Err(error) => outcome += &words(error),
        }
    }
    if let (Some(manifest), Some(Value::String(signature))) =
        (members.get("manifest"), members.get("manifest_signature"))
    {
        match SignedManifest::parse(manifest.clone(), signature) {
            Ok(signed) => {
                let value = signed.to_value().expect("it came as JSON");
                let again = SignedManifest::parse(value, signed.signature());
                assert_eq!(again.expect("it was good before"), signed);
                outcome += "manifest";
            }
            Err(error) => outcome += &words(error),
        }
    }
    if let Some(Value::String(time)) = members.get("timestamp")
        && let Ok(time) = Timestamp::parse(time)
        && time >= Timestamp::EPOCH
    {
        let wire = Timestamp::parse(&time.wire()).expect("what is written can be read");
        assert_eq!(wire.as_secs(), time.as_secs());
    }
    outcome
}
