use std::sync::LazyLock;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hpke::Kem as _;
use proptest::prelude::*;
use serde_json::Value;

use super::super::prekey::{PrekeyBundle, PrekeyKind};
use super::super::{BLOB_MAX, EnvelopeError};
use super::*;

mod vectors;

static SENDER: LazyLock<Keypair> = LazyLock::new(|| Keypair::generate().unwrap());
static OTHER: LazyLock<Keypair> = LazyLock::new(|| Keypair::generate().unwrap());

fn now() -> Timestamp {
    Timestamp::from_secs(1_800_000_000)
}

fn id(text: &str) -> AgentId {
    text.parse().unwrap()
}

/// A prekey of the agent `bo`, whose identity is [`OTHER`].
fn prekey() -> (PrekeySecret, Recipient) {
    let hour = Duration::from_hours(1);
    let secret = PrekeySecret::generate(PrekeyKind::LongLived, now(), hour).unwrap();
    let bundle = PrekeyBundle {
        long_lived: secret.publish(&id("bo"), &OTHER).unwrap(),
        one_time: None,
    };
    let recipient = bundle.choose(&id("bo"), OTHER.public(), now()).unwrap();
    (secret, recipient)
}

fn draft(body: &str) -> Draft {
    let kind = "offer_skill".parse().unwrap();
    Draft::new(id("al"), kind, body.to_owned(), now()).unwrap()
}

fn envelope(blob: &Blob) -> Envelope {
    match blob.envelope().unwrap() {
        super::super::Envelope::V2(envelope) => envelope,
        other => panic!("{other:?}"),
    }
}

fn sealed(body: &str) -> (Draft, Envelope, PrekeySecret) {
    let (secret, recipient) = prekey();
    let draft = draft(body);
    let blob = seal(&draft, &recipient, &SENDER).unwrap();
    (draft, envelope(&blob), secret)
}

/// Seals any `content` under the header of `envelope`, as whoever knows the prekey can.
fn reseal(envelope: &Envelope, content: &[u8], secret: &PrekeySecret) -> Envelope {
    let public = Kem::sk_to_pk(&secret.private().unwrap());
    let (enc, mut context) =
        hpke::setup_sender::<ChaCha20Poly1305, HkdfSha256, Kem>(&OpModeS::Base, &public, INFO)
            .unwrap();
    let mut changed = envelope.clone();
    changed.enc = enc.to_bytes().as_slice().try_into().unwrap();
    changed.key_id = secret.id().unwrap();
    changed.ciphertext = context.seal(content, changed.header().as_bytes()).unwrap();
    changed
}

#[test]
fn what_was_sealed_opens_for_its_recipient_alone() {
    let (draft, envelope, secret) = sealed("hello \u{1f375}");
    let bo = id("bo");
    assert_eq!(envelope.open(&bo, &secret, SENDER.public()).unwrap(), draft);
    assert_eq!(
        envelope.open(&id("cy"), &secret, SENDER.public()),
        Err(OpenError::Recipient(bo.clone()))
    );
    assert_eq!(
        envelope.open(&bo, &prekey().0, SENDER.public()),
        Err(OpenError::Prekey(envelope.key_id.clone()))
    );
    assert_eq!(
        envelope.open(&bo, &secret, OTHER.public()),
        Err(OpenError::Signature(SignatureError::Mismatch))
    );
}

#[test]
fn a_recipient_cannot_pass_a_message_on_as_if_written_to_somebody_else() {
    let (draft, first, secret) = sealed("between us");
    let content = first.decrypt(&secret).unwrap();
    let (next, recipient) = prekey();
    let blob = seal(&draft, &recipient, &OTHER).unwrap();
    let forged = reseal(&envelope(&blob), &content, &next);
    // Same sender, name, type and even the same agent: only the encryption is another.
    assert_eq!(
        forged.open(&id("bo"), &next, SENDER.public()),
        Err(OpenError::Signature(SignatureError::Mismatch))
    );
    let mut to_cy = forged.clone();
    to_cy.to = id("cy");
    let to_cy = reseal(&to_cy, &content, &next);
    assert_eq!(
        to_cy.open(&id("cy"), &next, SENDER.public()),
        Err(OpenError::Header("to"))
    );
}

#[test]
fn every_member_of_the_header_is_authenticated() {
    let (_, envelope, secret) = sealed("hello");
    let good = serde_json::to_value(&envelope).unwrap();
    for (member, to) in [
        ("from", json!("mallory")),
        ("message_id", json!("0".repeat(32))),
        ("type", json!("introduce")),
    ] {
        let mut changed = good.clone();
        changed[member] = to;
        let read = Envelope::deserialize(changed).unwrap();
        let opened = read.open(&id("bo"), &secret, SENDER.public());
        assert_eq!(opened, Err(OpenError::Unreadable), "{member}");
    }
    let mut readdressed = envelope.clone();
    readdressed.to = id("cy");
    assert_eq!(
        readdressed.open(&id("cy"), &secret, SENDER.public()),
        Err(OpenError::Unreadable)
    );
}

#[test]
fn what_is_inside_must_agree_with_the_header() {
    let (_, envelope, secret) = sealed("hello");
    let padded = envelope.decrypt(&secret).unwrap();
    let inner: Value = serde_json::from_slice(padding::unpad(&padded).unwrap()).unwrap();
    let open = |content: &[u8]| {
        reseal(&envelope, content, &secret).open(&id("bo"), &secret, SENDER.public())
    };
    let open_value = |inner: &Value| open(&padding::pad(inner.to_string().as_bytes()).unwrap());
    for (member, to) in [
        ("from", json!("mallory")),
        ("to", json!("cy")),
        ("message_id", json!("0".repeat(32))),
        ("type", json!("introduce")),
    ] {
        let mut changed = inner.clone();
        changed[member] = to;
        assert_eq!(open_value(&changed), Err(OpenError::Header(member)));
    }
    for (member, to) in [
        ("sent_at", json!("2027-01-15T08:00:00+00:00")),
        ("more", json!(1)),
        ("body", json!({})),
    ] {
        let mut changed = inner.clone();
        changed[member] = to;
        assert_eq!(open_value(&changed), Err(OpenError::Content), "{member}");
    }
    assert_eq!(open(b"hello"), Err(OpenError::Content));
    assert_eq!(open(&vec![0; CIPHERTEXT_MAX]), Err(OpenError::Content));
    // Sealed anew by the recipient: all members fit, but the signature is for the first encryption.
    assert!(matches!(open_value(&inner), Err(OpenError::Signature(_))));
}

#[test]
fn refuses_what_is_not_exactly_an_envelope() {
    let (_, envelope, _) = sealed("hello");
    let good = serde_json::to_value(&envelope).unwrap();
    let read = |value: &Value| Blob::of(value).unwrap().envelope();
    assert!(read(&good).is_ok());
    for (member, to) in [
        ("from", json!("")),
        ("to", json!("a\nb")),
        ("message_id", json!("0".repeat(31))),
        ("type", json!("a b")),
        ("key_id", json!("G".repeat(32))),
        ("enc", json!(STANDARD.encode([0; 31]))),
        ("ciphertext", json!("=")),
        ("sender", json!("me")),
        ("version", json!(2.0)),
        ("version", json!(-2)),
    ] {
        let mut changed = good.clone();
        changed[member] = to;
        let error = read(&changed).unwrap_err();
        assert!(matches!(error, EnvelopeError::Malformed(_)), "{member}");
    }
    for member in [
        "from",
        "to",
        "message_id",
        "type",
        "key_id",
        "enc",
        "ciphertext",
    ] {
        let mut members = good.as_object().unwrap().clone();
        members.remove(member);
        assert!(read(&Value::Object(members)).is_err(), "{member}");
    }
}

#[test]
fn a_key_that_agrees_on_no_secret_is_refused() {
    let (_, recipient) = prekey();
    let nobody = Recipient {
        public_key: [0; 32],
        ..recipient
    };
    assert_eq!(seal(&draft("x"), &nobody, &SENDER), Err(SealError::Prekey));
    let (_, mut envelope, secret) = sealed("x");
    envelope.enc = [0; 32];
    assert_eq!(
        envelope.open(&id("bo"), &secret, SENDER.public()),
        Err(OpenError::Unreadable)
    );
}

#[test]
fn the_length_is_hidden_and_bounded() {
    let (secret, recipient) = prekey();
    let lengths: Vec<_> = [0, 10, 200]
        .map(|len| seal(&draft(&"x".repeat(len)), &recipient, &SENDER))
        .map(|blob| blob.unwrap().as_str().len())
        .into();
    assert!(lengths.iter().all(|len| *len == lengths[0]), "{lengths:?}");
    let fits = draft(&"x".repeat(padding::CONTENT_MAX - 1_024));
    let blob = seal(&fits, &recipient, &SENDER).unwrap();
    assert!(blob.as_str().len() <= BLOB_MAX);
    let opened = envelope(&blob).open(&id("bo"), &secret, SENDER.public());
    assert_eq!(opened.unwrap(), fits);
    let longer = draft(&"x".repeat(padding::CONTENT_MAX));
    assert!(matches!(
        seal(&longer, &recipient, &SENDER),
        Err(SealError::TooLong { .. })
    ));
}

#[test]
fn what_is_shown_of_a_message_tells_no_content() {
    let (draft, envelope, _) = sealed("the treasure");
    let shown = format!("{draft:?} {envelope:?}");
    assert!(
        shown.contains("al") && !shown.contains("treasure"),
        "{shown}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_message_opens_and_no_flipped_bit_goes_unseen(
        body in "\\PC{0,400}", kind in "[A-Za-z0-9_.-]{1,64}", from in "[^\\pC\\s]{1,30}",
        at: prop::sample::Index, bit in 0..8_u8,
    ) {
        let (secret, recipient) = prekey();
        let draft = Draft::new(id(&from), kind.parse().unwrap(), body, now()).unwrap();
        let blob = seal(&draft, &recipient, &SENDER).unwrap();
        let bo = id("bo");
        let opened = envelope(&blob).open(&bo, &secret, SENDER.public());
        prop_assert_eq!(opened.unwrap(), draft);
        let mut json = STANDARD.decode(blob.as_str()).unwrap();
        let at = at.index(json.len());
        json[at] ^= 1 << bit;
        // A flipped bit in the JSON either breaks its form or is found by the encryption.
        let changed: Blob = STANDARD.encode(json).parse().unwrap();
        match changed.envelope() {
            Ok(super::super::Envelope::V2(changed)) => {
                prop_assert!(changed.open(&bo, &secret, SENDER.public()).is_err());
            }
            Ok(other) => prop_assert!(false, "{other:?}"),
            Err(_) => {}
        }
    }
}
