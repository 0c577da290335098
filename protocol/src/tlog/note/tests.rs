use proptest::prelude::*;

use super::*;

/// The key and the note of the Go module `golang.org/x/mod/sumdb/note`.
const SKEY: &str = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz";
const VKEY: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
const NOTE: &str = "If you think cryptography is the answer to your problem,\n\
    then you don't know what your problem is.\n\n\
    \u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";

/// The example of the specification.
const SPEC_VKEY: &str = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";
const SPEC_NOTE: &str = "This is an example message.\n\n\
    \u{2014} example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n";

#[test]
fn signs_and_checks_the_notes_that_were_published() {
    let key = SigningKey::from_text(SKEY).unwrap();
    assert_eq!(key.to_text().as_str(), SKEY);
    assert_eq!(key.verifier().to_string(), VKEY);
    let note: Note = NOTE.parse().unwrap();
    note.verify(&VKEY.parse().unwrap()).unwrap();
    let again = Note::sign(note.text().to_owned(), &key).unwrap();
    assert_eq!(again.to_string(), NOTE);

    let spec: Note = SPEC_NOTE.parse().unwrap();
    spec.verify(&SPEC_VKEY.parse().unwrap()).unwrap();
    assert_eq!(spec.to_string(), SPEC_NOTE);
    let foreign = spec.verify(&VKEY.parse().unwrap());
    assert_eq!(foreign, Err(NoteError::Unsigned("PeterNeumann".into())));
}

#[test]
fn keys_are_read_back_and_nothing_else_is_a_key() {
    for purpose in [Purpose::Note, Purpose::Cosignature] {
        let key = SigningKey::generate("example.com/log", purpose).unwrap();
        let text = key.verifier().to_string();
        assert_eq!(text.parse::<VerifierKey>().as_ref(), Ok(key.verifier()));
        let again = SigningKey::from_text(&key.to_text()).unwrap();
        assert_eq!(again.verifier(), key.verifier());
        assert!(!format!("{key:?}").contains("PRIVATE"));
    }
    for (bad, error) in [
        ("", NoteKeyError::Form),
        ("name", NoteKeyError::Form),
        ("a+b+c", NoteKeyError::Form),
        (SKEY, NoteKeyError::Private),
        (&VKEY.replace("c74f20a3", "c74f20a4"), NoteKeyError::Id),
        (&VKEY.replace("c74f20a3", "C74F20A3"), NoteKeyError::Form),
        (&VKEY.replace("PeterNeumann", ""), NoteKeyError::Name),
        (&VKEY.replace("PeterNeumann", "a b"), NoteKeyError::Name),
        (&VKEY.replace("ARpc", "Ahpc"), NoteKeyError::Kind),
        (&VKEY[..VKEY.len() - 4], NoteKeyError::Kind),
        (&"x".repeat(KEY_TEXT_MAX + 1), NoteKeyError::Form),
    ] {
        assert_eq!(bad.parse::<VerifierKey>(), Err(error), "{bad}");
    }
    assert!(SigningKey::from_text(VKEY).is_err());
    let long = "x".repeat(KEY_NAME_MAX + 1);
    assert!(SigningKey::generate(&long, Purpose::Note).is_err());
}

#[test]
fn what_is_not_a_note_is_refused() {
    for bad in [
        "",
        "\n",
        "text\n",
        "text\n\n",
        "text\n\n\n",
        "text\nmore\n\nno dash\n",
        "text\n\n- name AAAAAAAA\n",
        "text\n\n\u{2014} name\n",
        "text\n\n\u{2014} na+me AAAAAAAA\n",
        "text\n\n\u{2014} name AAAA\n",
        "text\n\n\u{2014} name AAAAAA==\n",
        "text\n\n\u{2014} name AAAAAAAB=\n",
        "text\n\n\u{2014} name AAAAAAA=",
        "text\n\n\u{2014} name AAAAAAA=\n\n",
        "text\r\n\n\u{2014} name AAAAAAA=\n",
    ] {
        assert!(bad.parse::<Note>().is_err(), "{bad:?}");
    }
    let line = "\u{2014} name AAAAAAA=\n";
    let many = |n| format!("text\n\n{}", line.repeat(n));
    assert!(many(SIGNATURES_MAX).parse::<Note>().is_ok());
    assert_eq!(
        many(SIGNATURES_MAX + 1).parse::<Note>(),
        Err(NoteError::TooMany)
    );
    let long = "x".repeat(NOTE_MAX);
    assert_eq!(
        format!("{long}\n\n{line}").parse::<Note>(),
        Err(NoteError::TooLong)
    );
    // A text may have blank lines: the last one ends it.
    let inner: Note = format!("a\n\nb\n\n{line}").parse().unwrap();
    assert_eq!(inner.text(), "a\n\nb\n");
}

#[test]
fn one_signature_that_is_forged_spoils_the_note() {
    let key = SigningKey::from_text(SKEY).unwrap();
    let mut note: Note = NOTE.parse().unwrap();
    let other = key.sign(b"another text", &[]);
    let mut forged = note.clone();
    forged.signatures.push(other.clone());
    let told = forged.verify(key.verifier());
    assert_eq!(told, Err(NoteError::Forged("PeterNeumann".into())));
    // By the same key, so it replaces the good one.
    note.add(other).unwrap();
    assert_eq!(note.signatures().len(), 1);
    assert!(note.verify(key.verifier()).is_err());
}

proptest! {
    #[test]
    fn no_text_makes_the_parsers_panic(text in any::<String>(), key in "[a-z+0-9A-Z=/]{0,80}") {
        let _ = text.parse::<Note>();
        let _ = key.parse::<VerifierKey>();
        let _ = SigningKey::from_text(&key);
    }

    #[test]
    fn a_changed_byte_is_refused(at in 0..NOTE.len(), bit in 0_u8..8) {
        let mut bytes = NOTE.as_bytes().to_vec();
        bytes[at] ^= 1 << bit;
        let held = String::from_utf8(bytes).ok().and_then(|text| text.parse::<Note>().ok());
        if let Some(note) = held {
            prop_assert!(note.verify(&VKEY.parse().unwrap()).is_err());
        }
    }
}
