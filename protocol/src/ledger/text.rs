//! Reads the text of a ledger block by block, telling where each one begins and ends.
//!
//! Only the frame is parsed here: the array, its commas, and where an object closes. What is inside an object is
//! for the JSON parser and the [`Verifier`]. Memory use is one block at a time.

use std::io::{self, BufRead};

use super::{Fault, Problem, Verifier};
use crate::block::{Block, StoredBlock};

/// Most bytes of one stored block. Larger ones make a ledger unreadable.
pub const BLOCK_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Most white space in one place, which is also the most that an append must remember to undo itself.
const WHITE_SPACE_MAX: u64 = 64 * 1024;

/// The bytes of the file that one block takes: from its `{` to behind its `}`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Span {
    /// Where its `{` is.
    pub start: u64,
    /// The byte behind its `}`.
    pub end: u64,
}

/// The objects of a JSON array, one after the other.
pub struct Elements<R> {
    reader: R,
    at: u64,
    expected: Expected,
    element: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    Array,
    ElementOrEnd,
    Element,
    CommaOrEnd,
    Nothing,
}

impl<R: BufRead> Elements<R> {
    /// Reads a whole file.
    pub fn of_file(reader: R) -> Self {
        Self::new(reader, 0, Expected::Array)
    }

    /// Reads on from byte `at` of a file, where an element begins.
    pub fn from_element(reader: R, at: u64) -> Self {
        Self::new(reader, at, Expected::Element)
    }

    fn new(reader: R, at: u64, expected: Expected) -> Self {
        Self {
            reader,
            at,
            expected,
            element: Vec::new(),
        }
    }

    /// The bytes of the next element and where they are; nothing behind the end of the array.
    ///
    /// # Errors
    ///
    /// [`Problem::Text`] and [`Problem::Io`].
    #[expect(
        clippy::should_implement_trait,
        reason = "each element lives until the next call only"
    )]
    pub fn next(&mut self) -> Result<Option<(&[u8], Span)>, Problem> {
        use Expected::{Array, CommaOrEnd, Element, ElementOrEnd, Nothing};
        loop {
            let found = self.skip_white_space()?;
            self.expected = match (self.expected, found) {
                (Array, Some(b'[')) => ElementOrEnd,
                (ElementOrEnd | CommaOrEnd, Some(b']')) => Nothing,
                (CommaOrEnd, Some(b',')) => Element,
                (ElementOrEnd | Element, Some(b'{')) => {
                    let start = self.at;
                    self.read_object()?;
                    self.expected = CommaOrEnd;
                    let end = self.at;
                    return Ok(Some((&self.element, Span { start, end })));
                }
                (Nothing, None) => return Ok(None),
                (_, Some(byte)) => {
                    return Err(self.problem(format!("unexpected {:?}", char::from(byte))));
                }
                (_, None) => return Err(self.problem("the text ends too early")),
            };
            self.consume(1);
        }
    }

    /// The next byte that is not white space, which stays unread.
    fn skip_white_space(&mut self) -> Result<Option<u8>, Problem> {
        let from = self.at;
        loop {
            let chunk = self.reader.fill_buf().map_err(unreadable)?;
            let white = chunk
                .iter()
                .take_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r'))
                .count();
            let found = chunk.get(white).copied();
            let ends = chunk.is_empty();
            self.consume(white);
            if self.at - from > WHITE_SPACE_MAX {
                return Err(self.problem("too much white space"));
            }
            if found.is_some() || ends {
                return Ok(found);
            }
        }
    }

    /// Reads from `{` to the `}` that closes it into `self.element`.
    fn read_object(&mut self) -> Result<(), Problem> {
        self.element.clear();
        let mut nesting = Nesting::default();
        loop {
            let chunk = self.reader.fill_buf().map_err(unreadable)?;
            if chunk.is_empty() {
                return Err(self.problem("the text ends too early"));
            }
            let close = chunk.iter().position(|byte| nesting.closes(*byte));
            let used = close.map_or(chunk.len(), |at| at + 1);
            self.element
                .extend_from_slice(chunk.get(..used).unwrap_or(chunk));
            self.consume(used);
            if self.element.len() > BLOCK_BYTES_MAX {
                return Err(self.problem(format!("a block of more than {BLOCK_BYTES_MAX} bytes")));
            }
            if close.is_some() {
                return Ok(());
            }
        }
    }

    fn consume(&mut self, bytes: usize) {
        self.reader.consume(bytes);
        self.at += bytes as u64;
    }

    fn problem(&self, reason: impl Into<String>) -> Problem {
        Problem::Text {
            at: self.at,
            reason: reason.into(),
        }
    }
}

/// How deep in brackets the reader is, leaving those in strings aside.
#[derive(Default)]
struct Nesting {
    depth: u32,
    in_string: bool,
    escaped: bool,
}

impl Nesting {
    /// Takes the next byte and says whether it closes the outermost bracket.
    fn closes(&mut self, byte: u8) -> bool {
        match byte {
            _ if self.escaped => self.escaped = false,
            b'\\' if self.in_string => self.escaped = true,
            b'"' => self.in_string = !self.in_string,
            _ if self.in_string => {}
            b'{' | b'[' => self.depth = self.depth.saturating_add(1),
            b'}' | b']' => {
                self.depth = self.depth.saturating_sub(1);
                return self.depth == 0;
            }
            _ => {}
        }
        false
    }
}

/// Feeds the rest of `elements` to `verifier`, and each good block to `seen`. Problems end up in the verifier.
pub fn walk<R: BufRead>(
    mut elements: Elements<R>,
    verifier: &mut Verifier,
    mut seen: impl FnMut(&Block, Span),
) {
    loop {
        let index = verifier.position();
        let step = match elements.next() {
            Ok(None) => return,
            Ok(Some((bytes, span))) => parse(bytes, index, span)
                .and_then(|stored| verifier.push(stored))
                .map(|block| seen(&block, span)),
            Err(problem) => Err(problem),
        };
        if let Err(problem) = step {
            return verifier.fail(problem);
        }
    }
}

/// The block at position `index`, as it is stored at `span`.
///
/// # Errors
///
/// [`Fault::Malformed`] for JSON that is no block, [`Problem::Text`] for what is no JSON.
pub fn parse(bytes: &[u8], index: u64, span: Span) -> Result<StoredBlock, Problem> {
    serde_json::from_slice(bytes).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => Problem::Block {
            index,
            fault: Fault::Malformed(error.to_string()),
        },
        _ => Problem::Text {
            at: span.start,
            reason: error.to_string(),
        },
    })
}

/// What a failed read means for the ledger. The text names no path.
pub fn unreadable(error: io::Error) -> Problem {
    Problem::Io(error.to_string())
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use proptest::prelude::*;

    use super::*;

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
}
