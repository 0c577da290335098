//! The text of a ledger, read by the scanner and by the parser alone: they must tell the same.

use kairos_protocol::block::{BlockRef, StoredBlock, file_text};
use kairos_protocol::ledger::text::{Elements, walk, walk_blocks};
use kairos_protocol::ledger::{Verifier, VerifyReport};

use crate::words;

/// Reads `data` as a ledger file: in the form it has, and in the usual one.
pub fn run(data: &[u8]) -> String {
    let (report, length) = agreed(data);
    if report.is_valid()
        && let Some(usual) = rewritten(data)
    {
        let (again, same) = agreed(usual.as_bytes());
        assert_eq!((same, again.tip), (length, report.tip), "{again:?}");
    }
    let problem = report.problem.map_or_else(String::new, words);
    format!("{:?} {} {problem}", report.state, length.min(4))
}

fn agreed(text: &[u8]) -> (VerifyReport, usize) {
    let (mut verifier, mut seen) = (Verifier::default(), Vec::<BlockRef>::new());
    walk(Elements::of_file(text), &mut verifier, |header, _| {
        seen.push(header.to_ref());
    });
    let report = verifier.finish();
    let (mut verifier, mut same) = (Verifier::default(), Vec::<BlockRef>::new());
    walk_blocks(Elements::of_file(text), &mut verifier, |block| {
        same.push(block.to_ref());
    });
    assert_eq!(report, verifier.finish());
    assert_eq!(seen, same);
    (report, seen.len())
}

/// The blocks as they would be written.
fn rewritten(data: &[u8]) -> Option<String> {
    let stored: Vec<StoredBlock> = serde_json::from_slice(data).ok()?;
    let mut verifier = Verifier::default();
    let blocks = stored
        .into_iter()
        .map_while(|block| verifier.push(block).ok());
    let blocks: Vec<_> = blocks.collect();
    (!blocks.is_empty()).then(|| file_text(&blocks))
}
