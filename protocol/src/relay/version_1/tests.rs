use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use serde_json::json;

use super::super::EnvelopeError;
use super::*;

static OURS: LazyLock<Keypair> = LazyLock::new(|| Keypair::generate().unwrap());

/// Envelopes that the reference's code made, with a key that was made for them.
const REFERENCE: &str = include_str!("../../../tests/fixtures/relay-envelope-1.json");

fn envelope(blob: &Blob) -> Envelope {
    match blob.envelope().unwrap() {
        super::super::Envelope::V1(envelope) => envelope,
        other => panic!("{other:?}"),
    }
}

/// The blob's JSON with `member` replaced, or removed where `to` is null.
fn with(blob: &Blob, member: &str, to: Value) -> Blob {
    let json = STANDARD.decode(blob.as_str()).unwrap();
    let mut members = json::parse_object(&json).unwrap();
    match to {
        Value::Null => members.remove(member),
        to => members.insert(member.to_owned(), to),
    };
    Blob::of(&members).unwrap()
}

#[test]
fn opens_what_the_reference_sealed() {
    let vector = json::parse(REFERENCE.as_bytes()).unwrap();
    let key = Keypair::from_pem(vector["recipient_private_key"].as_str().unwrap()).unwrap();
    for message in vector["messages"].as_array().unwrap() {
        let blob: Blob = message["encrypted_blob"].as_str().unwrap().parse().unwrap();
        assert_eq!(blob.hash(), message["blob_hash"].as_str().unwrap());
        assert_eq!(blob.as_str().len() as u64, message["size_bytes"]);
        assert_eq!(envelope(&blob).open(&key).unwrap(), message["content"]);
        assert_eq!(envelope(&blob).open(&OURS), Err(OpenError::Unreadable));
        // The members are written as they came, in the same order.
        assert_eq!(Blob::of(&envelope(&blob)).unwrap(), blob);
    }
}

#[test]
fn hashes_the_text_of_a_blob() {
    let blob: Blob = "AAAA".parse().unwrap();
    assert_eq!(
        blob.hash(),
        "sha256:63c1dd951ffedf6f7fd968ad4efa39b8ed584f162f46e715114ee184f8de9201"
    );
}

#[test]
fn refuses_what_is_not_exactly_an_envelope() {
    let good = seal(OURS.public(), &json!("hello")).unwrap();
    for (member, to) in [
        ("iv", json!("AAAA")),
        ("iv", json!(" AAAAAAAAAAAAAAAA")),
        ("auth_tag", json!("")),
        ("auth_tag", Value::Null),
        ("ciphertext", json!(1)),
        ("ciphertext", json!("A")),
        ("encrypted_key", Value::Null),
        ("sender", json!("me")),
        ("version", json!("1")),
        ("version", json!(2)),
        ("version", Value::Null),
    ] {
        let error = with(&good, member, to.clone()).envelope().unwrap_err();
        assert!(
            matches!(error, EnvelopeError::Malformed(_)),
            "{member} {to}: {error}"
        );
    }
    assert_eq!(
        with(&good, "version", json!(3)).envelope(),
        Err(EnvelopeError::Version { found: 3 })
    );
    let other = with(&good, "algorithm", json!("RSA-2048+AES-128-GCM"));
    assert_eq!(envelope(&other).open(&OURS), Err(OpenError::Algorithm));
    for bad in ["{}", "AAA", "AAAA\n", "e30=\u{e9}"] {
        assert_eq!(
            bad.parse::<Blob>().unwrap().envelope(),
            Err(EnvelopeError::NotBase64)
        );
    }
    let twice = STANDARD.encode(r#"{"version":1,"version":1}"#);
    let twice = twice.parse::<Blob>().unwrap().envelope();
    assert!(matches!(twice, Err(EnvelopeError::Malformed(_))));
}

#[test]
fn an_error_shows_little_of_what_a_stranger_wrote() {
    let good = seal(OURS.public(), &json!("hello")).unwrap();
    let name = format!("\u{1b}[31m{}", "x".repeat(10_000));
    let error = with(&good, &name, json!(1)).envelope().unwrap_err();
    let text = error.to_string();
    assert!(text.len() < 250 && !text.contains('\u{1b}'), "{text}");
}

#[test]
fn the_longest_content_fits_a_blob_and_no_longer_one_is_sealed() {
    let longest = Value::from("x".repeat(CONTENT_MAX));
    let blob = seal(OURS.public(), &longest).unwrap();
    assert!(blob.as_str().len() <= BLOB_MAX);
    assert_eq!(envelope(&blob).open(&OURS).unwrap(), longest);
    let longer = Value::from("x".repeat(CONTENT_MAX + 1));
    assert!(matches!(
        seal(OURS.public(), &longer),
        Err(SealError::TooLong { .. })
    ));
    assert!("".parse::<Blob>().is_err());
    assert!("A".repeat(BLOB_MAX + 1).parse::<Blob>().is_err());
}

#[test]
fn content_that_is_no_text_is_refused() {
    let secret = [7; 32];
    let key = RandomizedNonceKey::new(&AES_256_GCM, &secret).unwrap();
    let mut ciphertext = vec![0xff, 0xfe];
    let (nonce, tag) = key
        .seal_in_place_separate_tag(Aad::empty(), &mut ciphertext)
        .unwrap();
    let sealed = Envelope {
        version: 1,
        algorithm: ALGORITHM.to_owned(),
        encrypted_key: OURS.public().encrypt_oaep_sha1(&secret).unwrap(),
        iv: *nonce.as_ref(),
        auth_tag: tag.as_ref().try_into().unwrap(),
        ciphertext,
    };
    assert_eq!(sealed.open(&OURS), Err(OpenError::NotText));
    let short = Envelope {
        encrypted_key: OURS.public().encrypt_oaep_sha1(&secret[..16]).unwrap(),
        ..sealed
    };
    assert_eq!(short.open(&OURS), Err(OpenError::Unreadable));
}

fn flip(bytes: &mut [u8], at: prop::sample::Index, bit: u8) {
    let at = at.index(bytes.len());
    bytes[at] ^= 1 << bit;
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn what_was_sealed_opens_and_no_flipped_bit_goes_unseen(
        text in "[a-z]{1,40}", which in 0..4_u8, at: prop::sample::Index, bit in 0..8_u8,
    ) {
        let content = json!({"text": text});
        let mut sealed = envelope(&seal(OURS.public(), &content).unwrap());
        prop_assert_eq!(sealed.open(&OURS).unwrap(), content);
        match which {
            0 => flip(&mut sealed.encrypted_key, at, bit),
            1 => flip(&mut sealed.iv, at, bit),
            2 => flip(&mut sealed.auth_tag, at, bit),
            _ => flip(&mut sealed.ciphertext, at, bit),
        }
        prop_assert_eq!(sealed.open(&OURS), Err(OpenError::Unreadable));
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in "\\PC{0,200}") {
        if let Ok(blob) = STANDARD.encode(text).parse::<Blob>() {
            let _ = blob.envelope();
        }
    }
}
