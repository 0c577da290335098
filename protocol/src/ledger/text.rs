//! Reads the text of a ledger block by block, telling where each one begins and ends.
//!
//! Only the frame is parsed here: the array, its commas, and where an object closes. What is inside an object is
//! for the [`Scanner`] where it is written as usual, else for the JSON parser and the [`Verifier`]. Memory use is that
//! of one block, and of what the reader buffers.

mod run;

use std::io::{self, BufRead};

use super::{Fault, Problem, Verifier};
use crate::block::canonical::{Header, Scanner};
use crate::block::{Block, StoredBlock};
use run::Runs;

/// How much of a ledger should be read at once, so that two threads can share the work.
pub const BUFFER: usize = 1024 * 1024;
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
    runs: Runs,
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
            runs: Runs::default(),
        }
    }

    /// The blocks that come next in what is buffered, as far as they are written as usual and right in themselves.
    fn run(&mut self) -> Result<Vec<(Header, Span)>, Problem> {
        let chunk = self.reader.fill_buf().map_err(unreadable)?;
        let before: &[u8] = match self.expected {
            Expected::CommaOrEnd => run::BETWEEN,
            Expected::Element => b"",
            _ => return Ok(Vec::new()),
        };
        let Some(text) = chunk.strip_prefix(before) else {
            return Ok(Vec::new());
        };
        let start = self.at + before.len() as u64;
        let blocks = self.runs.next(text, start);
        if let Some((_, last)) = blocks.last() {
            let used = last.end - self.at;
            self.expected = Expected::CommaOrEnd;
            self.at = last.end;
            self.reader.consume(usize::try_from(used).unwrap_or(0));
        }
        Ok(blocks)
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

/// Feeds the rest of `elements` to `verifier`, and tells `seen` of each good block. Problems end up in the verifier.
pub fn walk<R: BufRead>(
    mut elements: Elements<R>,
    verifier: &mut Verifier,
    mut seen: impl FnMut(&Header, Span),
) {
    let mut scanner = Scanner::default();
    let mut walk = || {
        loop {
            for (header, span) in elements.run()? {
                verifier.push_header(&header)?;
                seen(&header, span);
            }
            let Some((bytes, span)) = elements.next()? else {
                return Ok(());
            };
            let header = match scanner.scan(bytes) {
                Some((header, _)) => verifier.push_header(&header).map(|()| header),
                None => parse(bytes, verifier.position(), span)
                    .and_then(|stored| verifier.push(stored))
                    .map(|block| block.header()),
            };
            seen(&header?, span);
        }
    };
    let walked: Result<(), Problem> = walk();
    if let Err(problem) = walked {
        verifier.fail(problem);
    }
}

/// As [`walk`], for who wants to see the blocks themselves.
pub fn walk_blocks<R: BufRead>(
    mut elements: Elements<R>,
    verifier: &mut Verifier,
    mut seen: impl FnMut(&Block),
) {
    loop {
        let index = verifier.position();
        let step = match elements.next() {
            Ok(None) => return,
            Ok(Some((bytes, span))) => parse(bytes, index, span)
                .and_then(|stored| verifier.push(stored))
                .map(|block| seen(&block)),
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
mod tests;
