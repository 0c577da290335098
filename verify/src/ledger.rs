//! A ledger, block by block: memory use is that of one block and a buffer, however long the ledger is.

use std::io::{BufReader, Read};

use kairos_protocol::ledger::text::{BUFFER, Elements, walk};
use kairos_protocol::ledger::{Verifier, VerifyReport};
use kairos_protocol::tlog::block_leaf;
use kairos_protocol::tlog::proof::Head;
use kairos_protocol::tlog::tree::Frontier;

/// What became of a ledger.
#[derive(Debug)]
pub(crate) struct Checked {
    /// About its blocks.
    pub(crate) report: VerifyReport,
    /// The root over all blocks that are right.
    pub(crate) head: Head,
    /// The root over as many blocks as was asked for, if there are so many.
    pub(crate) at: Option<Head>,
}

/// Checks the ledger in `reader`, and takes the root over its first `size` blocks on the way.
pub(crate) fn check(reader: impl Read, size: Option<u64>) -> Checked {
    let mut verifier = Verifier::default();
    let mut frontier = Frontier::default();
    let reached = |frontier: &Frontier| (size == Some(frontier.size())).then(|| head(frontier));
    let mut at = reached(&frontier);
    let text = Elements::of_file(BufReader::with_capacity(BUFFER, reader));
    walk(text, &mut verifier, |header, _| {
        frontier.push(block_leaf(&header.hash()));
        at = at.or_else(|| reached(&frontier));
    });
    Checked {
        report: verifier.finish(),
        head: head(&frontier),
        at,
    }
}

fn head(frontier: &Frontier) -> Head {
    Head {
        size: frontier.size(),
        root: frontier.root(),
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use kairos_protocol::block::{Block, file_text};
    use kairos_protocol::ledger::text::BLOCK_BYTES_MAX;
    use kairos_protocol::ledger::{Ledger, LoadState};
    use kairos_protocol::time::Timestamp;

    use super::*;

    fn ledger(length: u64) -> String {
        let mut ledger = Ledger::default();
        let mut blocks = vec![Block::genesis().clone()];
        for n in 1..length {
            let block = ledger.propose(vec![n.to_string()], Timestamp::EPOCH);
            ledger.adopt(&block).unwrap();
            blocks.push(block);
        }
        file_text(&blocks)
    }

    #[test]
    fn a_good_ledger_is_good_and_its_roots_are_those_of_the_log() {
        let checked = check(ledger(9).as_bytes(), Some(5));
        assert!(checked.report.is_valid());
        assert_eq!((checked.report.length, checked.head.size), (9, 9));
        assert_eq!(checked.at, Some(check(ledger(5).as_bytes(), None).head));
        assert_eq!(check(ledger(4).as_bytes(), Some(5)).at, None);
        assert_eq!(
            check("[]".as_bytes(), Some(0)).at.map(|head| head.size),
            Some(0)
        );
    }

    #[test]
    fn what_is_wrong_is_named() {
        let good = ledger(9);
        for (bad, state, length) in [
            (good.replace("\"5\"", "\"five\""), LoadState::Corrupt, 5),
            (
                good.replace("\"index\": 3", "\"index\": 4"),
                LoadState::Corrupt,
                3,
            ),
            (good[..good.len() - 1].to_owned(), LoadState::Unreadable, 9),
            (format!("{good} x"), LoadState::Unreadable, 9),
            (good.replace("\"5\"", "5"), LoadState::Corrupt, 5),
            ("{}".to_owned(), LoadState::Unreadable, 0),
            (String::new(), LoadState::Unreadable, 0),
            ("[]".to_owned(), LoadState::Empty, 0),
            ("[".repeat(1000), LoadState::Unreadable, 0),
            (
                "[[0, \"\", [], \"\", \"\"]]".to_owned(),
                LoadState::Unreadable,
                0,
            ),
        ] {
            let checked = check(bad.as_bytes(), None);
            assert_eq!(
                (checked.report.state, checked.report.length),
                (state, length),
                "{checked:?}"
            );
            assert!(!checked.report.is_valid());
            assert_eq!(checked.head.size, length);
        }
    }

    #[test]
    fn a_block_without_an_end_takes_no_more_memory_than_a_block_may() {
        let endless = io::repeat(b'x').take(BLOCK_BYTES_MAX as u64 * 2);
        let begun = "[{\"index\": 0, \"timestamp\": \"".as_bytes();
        let checked = check(begun.chain(endless), None);
        let told = checked.report.problem.unwrap().to_string();
        assert!(
            told.contains(&format!("a block of more than {BLOCK_BYTES_MAX} bytes")),
            "{told}"
        );
    }
}
