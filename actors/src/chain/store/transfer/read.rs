//! Blocks from a text: one JSON array, as in the ledger file, or one JSON object a line.

use std::io::{self, BufRead, Read as _};

use kairos_protocol::block::{Block, StoredBlock};
use kairos_protocol::ledger::text::{BLOCK_BYTES_MAX, Elements, walk_blocks};
use kairos_protocol::ledger::{Fault, Problem, Verifier, VerifyReport};

/// Checks the blocks of `text` and hands each good one to `seen`, which may stop the reading.
///
/// # Errors
///
/// Those of `seen`. What is wrong with the text is in the report.
pub fn read<E>(
    mut text: impl BufRead,
    mut seen: impl FnMut(&Block) -> Result<(), E>,
) -> Result<VerifyReport, E> {
    let mut verifier = Verifier::default();
    let mut failed = Ok(());
    let mut keep = |block: &Block| {
        if failed.is_ok() {
            failed = seen(block);
        }
    };
    match first_byte(&mut text) {
        Ok(Some(b'{')) => lines(text, &mut verifier, &mut keep),
        Ok(_) => walk_blocks(Elements::of_file(text), &mut verifier, keep),
        Err(error) => verifier.fail(Problem::Io(error.to_string())),
    }
    failed.map(|()| verifier.finish())
}

/// The first byte that is not white space, which stays unread.
fn first_byte(text: &mut impl BufRead) -> io::Result<Option<u8>> {
    loop {
        let chunk = text.fill_buf()?;
        let white = chunk
            .iter()
            .take_while(|byte| byte.is_ascii_whitespace())
            .count();
        let (found, ends) = (chunk.get(white).copied(), chunk.is_empty());
        text.consume(white);
        if found.is_some() || ends {
            return Ok(found);
        }
    }
}

fn lines(mut text: impl BufRead, verifier: &mut Verifier, seen: &mut dyn FnMut(&Block)) {
    let mut line = Vec::new();
    let mut at = 0_u64;
    loop {
        line.clear();
        let longest = BLOCK_BYTES_MAX as u64 + 1;
        let read = match text.by_ref().take(longest).read_until(b'\n', &mut line) {
            Ok(0) => return,
            Ok(read) => read as u64,
            Err(error) => return verifier.fail(Problem::Io(error.to_string())),
        };
        if read == longest {
            let reason = format!("a block of more than {BLOCK_BYTES_MAX} bytes");
            return verifier.fail(Problem::Text { at, reason });
        }
        if !line.trim_ascii().is_empty() {
            let index = verifier.position();
            let stored =
                serde_json::from_slice::<StoredBlock>(&line).map_err(|error| Problem::Block {
                    index,
                    fault: Fault::Malformed(error.to_string()),
                });
            match stored.and_then(|stored| verifier.push(stored)) {
                Ok(block) => seen(&block),
                Err(problem) => return verifier.fail(problem),
            }
        }
        at += read;
    }
}
