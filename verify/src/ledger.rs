//! A ledger, block by block: memory use is that of one block, however long the ledger is.

use std::cell::Cell;
use std::fmt;
use std::io::{self, Read};
use std::rc::Rc;

use kairos_protocol::block::StoredBlock;
use kairos_protocol::ledger::{Fault, Problem, Verifier, VerifyReport};
use kairos_protocol::tlog::block_leaf;
use kairos_protocol::tlog::proof::Head;
use kairos_protocol::tlog::tree::Frontier;
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize as _, Deserializer};

/// Most bytes of one stored block, the bound of the node.
const BLOCK_BYTES_MAX: usize = 64 * 1024 * 1024;

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
    let budget = Rc::new(Cell::new(BLOCK_BYTES_MAX));
    let metered = Metered {
        inner: reader,
        budget: Rc::clone(&budget),
    };
    let mut walk = Walk {
        verifier: Verifier::default(),
        frontier: Frontier::default(),
        at: None,
        size,
        begun: false,
        budget,
    };
    walk.reach();
    let mut json = serde_json::Deserializer::from_reader(io::BufReader::new(metered));
    let read = json.deserialize_seq(&mut walk).and_then(|()| json.end());
    if let Err(error) = read {
        walk.verifier
            .fail(problem(&error, walk.begun, walk.verifier.position()));
    }
    Checked {
        report: walk.verifier.finish(),
        head: head(&walk.frontier),
        at: walk.at,
    }
}

fn head(frontier: &Frontier) -> Head {
    Head {
        size: frontier.size(),
        root: frontier.root(),
    }
}

fn problem(error: &serde_json::Error, begun: bool, index: u64) -> Problem {
    match error.classify() {
        serde_json::error::Category::Data if begun => Problem::Block {
            index,
            fault: Fault::Malformed(error.to_string()),
        },
        _ => Problem::Io(format!("behind {index} blocks: {error}")),
    }
}

/// Lets as many bytes through as one block may have; each block that was read gives new ones.
struct Metered<R> {
    inner: R,
    budget: Rc<Cell<usize>>,
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        let left = self.budget.get().checked_sub(read);
        let left =
            left.ok_or_else(|| io::Error::other("a block is larger than any node writes"))?;
        self.budget.set(left);
        Ok(read)
    }
}

struct Walk {
    verifier: Verifier,
    frontier: Frontier,
    at: Option<Head>,
    size: Option<u64>,
    /// Whether it is a list at all.
    begun: bool,
    budget: Rc<Cell<usize>>,
}

impl Walk {
    fn reach(&mut self) {
        if self.size == Some(self.frontier.size()) {
            self.at = Some(head(&self.frontier));
        }
    }

    /// Takes a block and says whether it is worth to go on.
    fn take(&mut self, block: StoredBlock) -> bool {
        self.budget.set(BLOCK_BYTES_MAX);
        let Ok(block) = self.verifier.push(block) else {
            return false;
        };
        self.frontier.push(block_leaf(&block.hash()));
        self.reach();
        true
    }
}

/// One element of the array.
struct Element<'a>(&'a mut Walk);

impl<'de> DeserializeSeed<'de> for Element<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_map(self)
    }
}

/// A block is an object; the derived reader would take a list of its members as well.
impl<'de> Visitor<'de> for Element<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a block")
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<bool, A::Error> {
        let block = StoredBlock::deserialize(MapAccessDeserializer::new(members))?;
        Ok(self.0.take(block))
    }
}

impl<'de> Visitor<'de> for &mut Walk {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of blocks")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut blocks: A) -> Result<(), A::Error> {
        self.begun = true;
        let mut good = true;
        while good && let Some(taken) = blocks.next_element_seed(Element(&mut *self))? {
            good = taken;
        }
        // What follows a bad block is not looked at, only read to the end.
        while !good && blocks.next_element::<IgnoredAny>()?.is_some() {
            self.budget.set(BLOCK_BYTES_MAX);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use kairos_protocol::block::{Block, file_text};
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
            ("[".repeat(1000), LoadState::Corrupt, 0),
            (
                "[[0, \"\", [], \"\", \"\"]]".to_owned(),
                LoadState::Corrupt,
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
        assert!(told.contains("larger than any node writes"), "{told}");
    }
}
