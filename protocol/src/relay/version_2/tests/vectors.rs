//! The vectors that `protocol/docs/relay-envelope-2.md` refers to hold.

use super::*;

const VECTORS: &str = include_str!("../../../../tests/fixtures/relay-envelope-2.json");
/// When the prekeys of the vectors are good.
const AT: &str = "2026-11-22T12:00:00Z";

struct Vectors {
    file: Value,
    recipient: AgentId,
    sender_key: PublicKey,
    secrets: Vec<PrekeySecret>,
}

impl Vectors {
    fn read() -> Self {
        let file: Value = serde_json::from_str(VECTORS).unwrap();
        Self {
            recipient: id(file["recipient"]["agent_id"].as_str().unwrap()),
            sender_key: PublicKey::from_pem(file["sender"]["identity_key"].as_str().unwrap())
                .unwrap(),
            secrets: Vec::deserialize(&file["recipient"]["prekey_secrets"]).unwrap(),
            file,
        }
    }

    fn list(&self, name: &str) -> &[Value] {
        self.file[name].as_array().unwrap()
    }

    fn secret(&self, envelope: &Envelope) -> &PrekeySecret {
        let fits = |secret: &&PrekeySecret| &secret.id().unwrap() == envelope.key_id();
        self.secrets.iter().find(fits).unwrap()
    }
}

fn text<'a>(of: &'a Value, member: &str) -> &'a str {
    of[member].as_str().unwrap()
}

#[test]
fn the_messages_open_step_by_step() {
    let vectors = Vectors::read();
    assert!(vectors.list("messages").len() >= 3);
    for message in vectors.list("messages") {
        let blob: Blob = text(message, "encrypted_blob").parse().unwrap();
        assert_eq!(blob.hash(), text(message, "blob_hash"));
        let envelope = envelope(&blob);
        assert_eq!(envelope.header(), text(message, "aad"));
        let secret = vectors.secret(&envelope);
        let padded = envelope.decrypt(secret).unwrap();
        assert_eq!(padded.len() as u64, message["padded_size"]);
        assert_eq!(
            padding::unpad(&padded).unwrap(),
            text(message, "content").as_bytes()
        );
        let draft = envelope.open(&vectors.recipient, secret, &vectors.sender_key);
        let draft = draft.unwrap();
        let signed = envelope.signed_text(draft.sent_at, &draft.body);
        assert_eq!(signed, text(message, "signed_text"));
        let opened = &message["opened"];
        assert_eq!(draft.from.as_str(), text(opened, "from"));
        assert_eq!(draft.message_id.as_str(), text(opened, "message_id"));
        assert_eq!(draft.message_type.as_str(), text(opened, "type"));
        assert_eq!(draft.sent_at.wire(), text(opened, "sent_at"));
        assert_eq!(draft.body, text(opened, "body"));
    }
}

#[test]
fn the_refused_ones_are_refused_for_the_reason_they_tell() {
    let vectors = Vectors::read();
    assert!(vectors.list("refused").len() >= 5);
    for message in vectors.list("refused") {
        let why = text(message, "why");
        let blob: Blob = text(message, "encrypted_blob").parse().unwrap();
        let error = match blob.envelope() {
            Ok(super::super::super::Envelope::V2(envelope)) => envelope
                .open(
                    &vectors.recipient,
                    vectors.secret(&envelope),
                    &vectors.sender_key,
                )
                .map_err(|error| error.to_string()),
            Ok(other) => panic!("{why}: {other:?}"),
            Err(error) => Err(error.to_string()),
        };
        let (error, told) = (error.unwrap_err(), text(message, "error"));
        assert!(error.starts_with(told), "{why}: {error}, not {told}");
    }
}

#[test]
fn the_bundle_is_good_and_its_signed_text_is_shown() {
    let vectors = Vectors::read();
    let recipient = &vectors.file["recipient"];
    let key = PublicKey::from_pem(text(recipient, "identity_key")).unwrap();
    let bundle = PrekeyBundle::deserialize(&recipient["bundle"]).unwrap();
    let at = Timestamp::parse(AT).unwrap();
    let chosen = bundle.choose(&vectors.recipient, &key, at).unwrap();
    let one_time = bundle.one_time.unwrap();
    assert_eq!(chosen.key_id(), &one_time.key_id);
    assert_eq!(one_time.text(), text(recipient, "one_time_signed_text"));
}
