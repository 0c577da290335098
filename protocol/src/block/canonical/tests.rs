use proptest::prelude::*;

use super::super::{Block, StoredBlock};
use super::*;

/// What the scanner finds, which must be what the strict reader finds.
fn scan(bytes: &[u8]) -> Option<(Header, usize)> {
    let found = Scanner::default().scan(bytes);
    if let Some((header, len)) = found {
        let stored: StoredBlock = serde_json::from_slice(&bytes[..len]).unwrap();
        assert!(stored.hash.is_some());
        assert_eq!(stored.seal().unwrap().header(), header);
    }
    found
}

fn block(entries: &[&str]) -> Block {
    let entries = entries.iter().map(|entry| (*entry).to_owned()).collect();
    let at = Timestamp::parse("2026-01-20T10:30:00.123456Z").unwrap();
    Block::seal(7, at, entries, ContentHash::of("before"))
}

#[test]
fn takes_what_is_written_and_nothing_behind_it() {
    let block = block(&["a", "{\"b\":\"\\n\"}", "", "\u{7f}ü😀\u{2028}/"]);
    let text = block.file_form();
    let taken = Some((block.header(), text.len()));
    assert_eq!(scan(text.as_bytes()), taken);
    assert_eq!(scan(format!("{text},\n  {{").as_bytes()), taken);
    for end in 0..text.len() {
        assert_eq!(scan(&text.as_bytes()[..end]), None);
    }
}

#[test]
fn takes_the_escapes_that_are_written_and_no_others() {
    let controls: String = (0..0x20).map(char::from).chain(['"', '\\']).collect();
    let block = block(&[&controls]);
    let text = block.file_form();
    assert_eq!(scan(text.as_bytes()), Some((block.header(), text.len())));
    for (usual, odd) in [
        (r"\u0001", r"\u0001 "),
        (r"\u001f", r"\u001F"),
        (r"\b", r"\u0008"),
        (r"\n", r"\u000a"),
        (r"\u0000", "\0"),
        (r"\t", "\t"),
        (r"\\", r"\u005c"),
    ] {
        let text = text.replace(usual, odd);
        assert_eq!(scan(text.as_bytes()), None, "{odd}");
    }
    let slash = super::tests::block(&["a/b"]).file_form();
    assert_eq!(scan(slash.replace('/', r"\/").as_bytes()), None);
}

#[test]
fn leaves_every_other_form_to_the_strict_reader() {
    let usual = block(&["a", "b"]).file_form();
    assert!(scan(usual.as_bytes()).is_some());
    for (part, odd) in [
        ("\"index\": 7", "\"index\":7"),
        ("\"index\": 7", "\"index\": 07"),
        ("\"index\": 7", "\"index\": 7.0"),
        ("\"index\": 7", "\"index\": 7e0"),
        ("\"index\": 7", "\"index\": -7"),
        ("\"index\": 7", "\"index\": 18446744073709551616"),
        ("\"index\": 7", "\"index\": 7,\n    \"index\": 7"),
        ("\"index\"", "\"inde\\u0078\""),
        (".123456Z", ".123456+00:00"),
        (".123456Z", ".1234567Z"),
        (".123456Z", "Z"),
        ("10:30:00.", "10:30:60."),
        ("\n      \"b\"", " \"b\""),
        ("\"a\"", "\"c\""),
        ("\"a\"", "\"a\u{0}\""),
        ("\n  }", ",\n    \"more\": 1\n  }"),
        ("\n  }", "\r\n  }"),
        ("\n", "\r\n"),
    ] {
        let text = usual.replacen(part, odd, 1);
        assert_ne!(text, usual, "{part}");
        assert_eq!(scan(text.as_bytes()), None, "{text}");
    }
    for part in ["previous_hash", "merkle_root", "hash"] {
        let at = usual.find(&format!("\"{part}\"")).unwrap() + part.len() + 5;
        let mut text = usual.clone().into_bytes();
        text[at] = if text[at] == b'0' { b'1' } else { b'0' };
        assert_eq!(scan(&text), None, "{part}");
    }
    let genesis = Block::genesis().file_form();
    assert_eq!(scan(genesis.as_bytes()), None);
    assert_eq!(scan(block(&[]).file_form().as_bytes()), None);
}

#[test]
fn refuses_hashes_in_capitals_and_text_that_is_not_utf_8() {
    // So that the text is what is hashed, and only its form is wrong.
    let text = block(&["a"]).file_form();
    let capital = text.replace(
        &ContentHash::of("before").to_hex(),
        &ContentHash::of("before").to_hex().to_uppercase(),
    );
    assert_ne!(capital, text);
    assert_eq!(scan(capital.as_bytes()), None);
    let mut bytes = text.into_bytes();
    let at = bytes
        .windows(3)
        .position(|three| three == b"\"a\"")
        .unwrap()
        + 1;
    bytes[at] = 0xff;
    assert_eq!(scan(&bytes), None);
}

proptest! {
    #[test]
    fn takes_every_block_with_entries(
        entries in prop::collection::vec(any::<String>(), 1..9),
        index in any::<u64>(),
        secs in 0..4_000_000_000_i64,
    ) {
        let at = Timestamp::from_secs(secs);
        let block = Block::seal(index, at, entries, ContentHash::of("before"));
        let text = block.file_form();
        // The same scanner twice, so that nothing stays of what it saw before.
        let mut scanner = Scanner::default();
        for _ in 0..2 {
            prop_assert_eq!(scanner.scan(text.as_bytes()), Some((block.header(), text.len())));
        }
    }

    #[test]
    fn no_changed_byte_is_taken(
        entries in prop::collection::vec("[a-z\"\\\\\n]{0,9}", 1..5),
        pick in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let block = Block::seal(7, Timestamp::EPOCH, entries, ContentHash::of("before"));
        let mut text = block.file_form().into_bytes();
        let at = pick.index(text.len());
        let same = text[at] == byte;
        text[at] = byte;
        prop_assert_eq!(scan(&text).is_some(), same);
    }
}

proptest! {
    #[test]
    fn the_first_special_byte_of_a_word_is_found(
        word in proptest::array::uniform8(prop_oneof![any::<u8>(), 0x1e..0x24_u8, 0x5a..0x5e_u8, 0xa0..0xa4_u8]),
    ) {
        let naive = word.iter().position(|byte| is_special(*byte));
        prop_assert_eq!(find_special(u64::from_le_bytes(word)), naive);
    }
}
