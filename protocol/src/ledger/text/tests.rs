use std::io::BufReader;

use proptest::prelude::*;

use super::*;
use crate::block::merkle::MerkleRoot;
use crate::block::{BlockRef, file_text};
use crate::ledger::VerifyReport;

/// The elements of `text` through a buffer of `buffer` bytes, or the problem's text.
fn split(text: &str, buffer: usize) -> Result<Vec<String>, String> {
    let reader = BufReader::with_capacity(buffer, text.as_bytes());
    let mut elements = Elements::of_file(reader);
    let mut found = Vec::new();
    loop {
        match elements.next() {
            Ok(Some((bytes, span))) => {
                let element = String::from_utf8(bytes.to_vec()).unwrap();
                assert_eq!(text[span.start as usize..span.end as usize], element);
                found.push(element);
            }
            Ok(None) => return Ok(found),
            Err(problem) => return Err(problem.to_string()),
        }
    }
}

#[test]
fn finds_elements_however_they_are_spaced() {
    for text in [
        r#"[{"a":"}]\"{"},{"b":[{}]}]"#,
        "[{\"a\":\"}]\\\"{\"},{\"b\":[{}]}]\n",
        "\n\t[ \r\n {\"a\":\"}]\\\"{\"}\n,\n{\"b\":[{}]} ] \n\n",
    ] {
        for buffer in [1, 2, 3, 7, 1024] {
            let found = split(text, buffer).unwrap();
            assert_eq!(found, [r#"{"a":"}]\"{"}"#, r#"{"b":[{}]}"#]);
        }
    }
    assert_eq!(split(" [ ] ", 1), Ok(vec![]));
}

#[test]
fn refuses_what_is_not_an_array_of_objects() {
    for (text, reason) in [
        ("", "byte 0: the text ends too early"),
        ("  ", "byte 2: the text ends too early"),
        ("{}", "byte 0: unexpected '{'"),
        ("\u{feff}[]", "byte 0: unexpected 'ï'"),
        ("[", "byte 1: the text ends too early"),
        ("[{}", "byte 3: the text ends too early"),
        ("[{}{}]", "byte 3: unexpected '{'"),
        ("[{},]", "byte 4: unexpected ']'"),
        ("[,{}]", "byte 1: unexpected ','"),
        ("[1]", "byte 1: unexpected '1'"),
        ("[[]]", "byte 1: unexpected '['"),
        ("[{}]x", "byte 4: unexpected 'x'"),
        ("[{\"a\":\"]", "byte 8: the text ends too early"),
    ] {
        let error = split(text, 3).unwrap_err();
        assert_eq!(error, format!("not a list of blocks at {reason}"));
    }
    let spaced = format!("[{}", " ".repeat(WHITE_SPACE_MAX as usize + 1));
    assert!(
        split(&spaced, 1024)
            .unwrap_err()
            .ends_with("too much white space")
    );
}

proptest! {
    #[test]
    fn splits_what_a_json_parser_splits(texts in prop::collection::vec(any::<String>(), 0..5), buffer in 1..64_usize) {
        let objects: Vec<_> = texts.iter().map(|t| serde_json::json!({ t: [t, {"x": t}] })).collect();
        let pretty = serde_json::to_string_pretty(&objects).unwrap();
        let found = split(&pretty, buffer).unwrap();
        let parsed: Vec<serde_json::Value> = found.iter().map(|t| serde_json::from_str(t).unwrap()).collect();
        prop_assert_eq!(parsed, objects);
    }

    #[test]
    fn never_fails_otherwise_than_with_a_problem(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let mut elements = Elements::of_file(&bytes[..]);
        while let Ok(Some((element, span))) = elements.next() {
            prop_assert_eq!(element, &bytes[span.start as usize..span.end as usize]);
        }
    }
}

/// What walking over `text` comes to: the report, and what was told of each block.
type Walked = (VerifyReport, Vec<BlockRef>);

/// By the scanner, two threads, and the parser where they do not go on.
fn fast(text: &[u8], buffer: usize) -> Walked {
    let reader = BufReader::with_capacity(buffer, text);
    let (mut verifier, mut seen) = (Verifier::default(), Vec::new());
    walk(Elements::of_file(reader), &mut verifier, |header, span| {
        let element = &text[span.start as usize..span.end as usize];
        assert!(element.starts_with(b"{") && element.ends_with(b"}"));
        seen.push(header.to_ref());
    });
    (verifier.finish(), seen)
}

/// By the parser alone.
fn slow(text: &[u8]) -> Walked {
    let (mut verifier, mut seen) = (Verifier::default(), Vec::new());
    walk_blocks(Elements::of_file(text), &mut verifier, |block| {
        seen.push(block.to_ref());
    });
    (verifier.finish(), seen)
}

/// A chain of blocks with these entries, each with the time that its number picks.
fn chain(blocks: &[(Vec<String>, usize)]) -> String {
    let mut chain = vec![Block::genesis().clone()];
    for (data, time) in blocks {
        let before = chain.last().unwrap();
        let stored = StoredBlock {
            index: before.index() + 1,
            timestamp: TIMES[time % TIMES.len()].to_owned(),
            data: data.clone(),
            previous_hash: before.hash(),
            merkle_root: MerkleRoot::of(data),
            hash: None,
        };
        chain.push(stored.seal().unwrap());
    }
    file_text(&chain)
}

/// Mostly the usual form.
const TIMES: [&str; 6] = [
    "2026-01-20T10:30:00.000001Z",
    "2026-01-20T10:30:00.000002Z",
    "2026-01-20T10:30:00.000003Z",
    "2026-01-20T10:30:00Z",
    "2026-01-20T10:30:00.123456+09:00",
    "2026-01-20T10:30:00.1234567Z",
];

/// What is put into a ledger to break it, or to write it in another way.
const WORDS: [&str; 26] = [
    " ",
    "\n",
    "\t",
    "\r\n",
    "\0",
    "\"",
    "\\",
    "{",
    "}",
    ",\n  ",
    "\n  },\n  {",
    "\\u0041",
    "\\/",
    "\\u0009",
    "\\u001F",
    "\\ud83d\\ude00",
    "\\ud800",
    "ü😀\u{2028}\u{7f}",
    "0",
    "-1",
    "1.0",
    "1e3",
    "18446744073709551616",
    "\"index\": 1,\n    ",
    "\"hash\": null,\n    ",
    "\"more\": [{\"hash\": 1}],\n    ",
];

/// One change to the text of a ledger.
#[derive(Debug, Clone)]
enum Change {
    Flip(prop::sample::Index, u8),
    Insert(prop::sample::Index, prop::sample::Index),
    Cut(prop::sample::Index, usize),
    Truncate(prop::sample::Index),
    Swap(prop::sample::Index, prop::sample::Index),
    Repeat(prop::sample::Index),
    Replace(&'static str, &'static str),
}

impl Change {
    fn apply(&self, text: &mut Vec<u8>) {
        let blocks = |text: &[u8]| -> Vec<String> {
            let text = String::from_utf8_lossy(text).into_owned();
            text.split(",\n  {").map(str::to_owned).collect()
        };
        match self {
            _ if text.is_empty() => {}
            Self::Flip(at, bit) => {
                let at = at.index(text.len());
                text[at] ^= 1 << bit;
            }
            Self::Insert(at, word) => {
                let at = at.index(text.len());
                text.splice(at..at, word.get(&WORDS).bytes());
            }
            Self::Cut(at, len) => {
                let at = at.index(text.len());
                let end = (at + len).min(text.len());
                text.drain(at..end);
            }
            Self::Truncate(at) => text.truncate(at.index(text.len())),
            Self::Swap(a, b) => {
                let mut blocks = blocks(text);
                let (a, b) = (a.index(blocks.len()), b.index(blocks.len()));
                blocks.swap(a, b);
                *text = blocks.join(",\n  {").into_bytes();
            }
            Self::Repeat(at) => {
                let mut blocks = blocks(text);
                let at = at.index(blocks.len());
                blocks.insert(at, blocks[at].clone());
                *text = blocks.join(",\n  {").into_bytes();
            }
            Self::Replace(from, to) => {
                *text = String::from_utf8_lossy(text).replace(from, to).into_bytes();
            }
        }
    }
}

fn any_change() -> impl Strategy<Value = Change> {
    use prop::sample::Index;
    prop_oneof![
        (any::<Index>(), 0..8_u8).prop_map(|(at, bit)| Change::Flip(at, bit)),
        (any::<Index>(), any::<Index>()).prop_map(|(at, word)| Change::Insert(at, word)),
        (any::<Index>(), 1..40_usize).prop_map(|(at, len)| Change::Cut(at, len)),
        any::<Index>().prop_map(Change::Truncate),
        (any::<Index>(), any::<Index>()).prop_map(|(a, b)| Change::Swap(a, b)),
        any::<Index>().prop_map(Change::Repeat),
        prop::sample::select(vec![
            ("\n", "\r\n"),
            (": ", ":"),
            (",\n  {", ", {"),
            ("\n      ", " "),
            ("a", "\\u0061"),
            ("Z\"", "+00:00\""),
            ("\"hash\"", "\"hush\""),
        ])
        .prop_map(|(from, to)| Change::Replace(from, to)),
    ]
}

fn any_blocks() -> impl Strategy<Value = Vec<(Vec<String>, usize)>> {
    let entry = prop_oneof![
        3 => "[a-z \"\\\\{}:,\n]{0,20}",
        1 => any::<String>(),
    ];
    let data = prop::collection::vec(entry, 0..4);
    let time = prop_oneof![5 => 0..3_usize, 1 => 0..TIMES.len()];
    prop::collection::vec((data, time), 0..24)
}

#[test]
fn a_usual_ledger_is_walked_the_same_by_two_threads() {
    let blocks = vec![(vec!["an entry".to_owned()], 0); 500];
    let text = chain(&blocks);
    for buffer in [100, 4096, BUFFER] {
        assert_eq!(fast(text.as_bytes(), buffer), slow(text.as_bytes()));
    }
    let (report, seen) = fast(text.as_bytes(), BUFFER);
    assert!(report.is_valid() && seen.len() == 501, "{report:?}");
}

#[test]
fn usual_blocks_are_found_in_runs() {
    let text = chain(&vec![(vec!["an entry".to_owned()], 0); 20]);
    let mut elements = Elements::of_file(text.as_bytes());
    assert_eq!(elements.run(), Ok(vec![]));
    elements.next().unwrap();
    let run = elements.run().unwrap();
    assert_eq!(run.len(), 20);
    assert_eq!(run[19].0.index(), 20);
    assert_eq!(elements.next(), Ok(None));
}

#[test]
fn halves_that_do_not_meet_are_given_up_after_a_while() {
    // An odd block in the first half of each buffer, behind the usual one with which a run begins.
    let odd = |n: usize| if n % 8 == 3 { 3 } else { 0 };
    let blocks: Vec<_> = (0..400).map(|n| (vec![n.to_string()], odd(n))).collect();
    let text = chain(&blocks);
    assert_eq!(fast(text.as_bytes(), 8192), slow(text.as_bytes()));
}

proptest! {
    #[test]
    fn the_scanner_changes_no_verdict(
        blocks in any_blocks(),
        changes in prop::collection::vec(any_change(), 0..4),
        buffer in prop_oneof![1..2000_usize, Just(BUFFER)],
    ) {
        let mut text = chain(&blocks).into_bytes();
        for change in &changes {
            change.apply(&mut text);
        }
        let (report, seen) = fast(&text, buffer);
        prop_assert_eq!((&report, &seen), (&slow(&text).0, &slow(&text).1));
        prop_assert!(!changes.is_empty() || report.is_valid());
    }
}
