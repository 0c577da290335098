//! Envelopes of sealed messages, prekeys and what a replay window keeps, as anyone may send or leave them.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kairos_protocol::crypto::{Keypair, PublicKey};
use kairos_protocol::relay::prekey::{PrekeyBundle, PrekeySecret};
use kairos_protocol::relay::replay::{ReplayWindow, Seen};
use kairos_protocol::relay::{Blob, Envelope, EnvelopeError, version_1, version_2};
use kairos_protocol::time::Timestamp;
use serde_json::Value;

use crate::words;

static VECTORS: LazyLock<Value> = LazyLock::new(|| {
    let text = include_str!("../../protocol/tests/fixtures/relay-envelope-2.json");
    serde_json::from_str(text).expect("the vectors are JSON")
});
static SECRETS: LazyLock<Vec<PrekeySecret>> = LazyLock::new(|| {
    let secrets = VECTORS["recipient"]["prekey_secrets"].clone();
    serde_json::from_value(secrets).expect("the vectors have secrets")
});
static SENDER: LazyLock<PublicKey> = LazyLock::new(|| key(&VECTORS["sender"]));
static RECIPIENT: LazyLock<PublicKey> = LazyLock::new(|| key(&VECTORS["recipient"]));
static OURS: LazyLock<Keypair> = LazyLock::new(|| Keypair::generate().expect("a key"));

fn key(of: &Value) -> PublicKey {
    let pem = of["identity_key"].as_str().expect("a key");
    PublicKey::from_pem(pem).expect("a key")
}

/// Reads `data` as the text of a blob, as the JSON in one, and as what stands on disk.
pub fn run(data: &[u8]) -> String {
    let text = String::from_utf8_lossy(data);
    let mut outcome = match text.parse::<Blob>() {
        Ok(blob) => read(blob.envelope()),
        Err(error) => words(error),
    };
    if let Ok(blob) = STANDARD.encode(data).parse::<Blob>() {
        outcome += &read(blob.envelope());
    }
    outcome + &stored(data)
}

fn read(envelope: Result<Envelope, EnvelopeError>) -> String {
    match envelope {
        Ok(Envelope::V1(envelope)) => first(&envelope),
        Ok(Envelope::V2(envelope)) => second(&envelope),
        Err(error) => {
            assert!(error.to_string().len() < 1_000);
            words(error)
        }
    }
}

fn first(envelope: &version_1::Envelope) -> String {
    let text = serde_json::to_vec(envelope).expect("it came as JSON");
    let again: version_1::Envelope = serde_json::from_slice(&text).expect("it was just written");
    assert_eq!(&again, envelope);
    words(envelope.open(&OURS).expect_err("nobody has this key"))
}

fn second(envelope: &version_2::Envelope) -> String {
    let text = serde_json::to_vec(envelope).expect("it came as JSON");
    let again: version_2::Envelope = serde_json::from_slice(&text).expect("it was just written");
    assert_eq!(&again, envelope);
    let mut outcome = String::new();
    for secret in SECRETS.iter() {
        outcome += &match envelope.open(envelope.to(), secret, &SENDER) {
            Ok(draft) => {
                let vectors = VECTORS["messages"].as_array().expect("a list");
                let known = |message: &Value| message["opened"]["body"] == draft.body;
                assert!(vectors.iter().any(known), "a message nobody wrote");
                format!("opened {}", draft.body.len())
            }
            Err(error) => words(error),
        };
    }
    outcome
}

fn stored(data: &[u8]) -> String {
    let now = Timestamp::parse("2026-11-22T12:00:00Z").expect("a time");
    if let Ok(bundle) = serde_json::from_slice::<PrekeyBundle>(data) {
        let owner = bundle.long_lived.agent_id.clone();
        return match bundle.choose(&owner, &RECIPIENT, now) {
            Ok(recipient) => {
                let vectors = VECTORS["recipient"]["bundle"].to_string();
                assert!(
                    vectors.contains(recipient.key_id().as_str()),
                    "a forged key"
                );
                "chosen".to_owned()
            }
            Err(error) => words(error),
        };
    }
    if let Ok(secret) = serde_json::from_slice::<PrekeySecret>(data) {
        let id = secret.id().expect("32 bytes are a key");
        return format!("secret {:?} {}", secret.kind(), id.as_str().len());
    }
    let Ok(seen) = serde_json::from_slice::<Vec<Seen>>(data) else {
        return String::new();
    };
    let mut window = ReplayWindow::default();
    let taken = seen.iter().filter(|seen| window.admit(seen, now).is_ok());
    let taken = taken.count();
    assert_eq!(window.seen().count(), taken);
    let mut restored = ReplayWindow::default().restore(seen.clone(), now);
    for seen in &seen {
        assert!(restored.admit(seen, now).is_err(), "taken twice");
    }
    format!("taken {}", taken.min(3))
}
