//! Blocks as a ledger file states them, and chains made of any entries.

use std::time::Duration;

use kairos_protocol::block::{Block, StoredBlock, check_entries, file_text, merkle};
use kairos_protocol::ledger::{Ledger, Verifier, VerifyReport};
use kairos_protocol::time::Timestamp;

use crate::words;

/// Reads `data` as a ledger file; what is not one, as entries, one a line and one block for each empty line.
pub fn run(data: &[u8]) -> String {
    match serde_json::from_slice::<Vec<StoredBlock>>(data) {
        Ok(stored) => {
            let (report, blocks) = verify(stored);
            assert_eq!(report.length, blocks.len() as u64);
            assert_eq!(report.tip, blocks.last().map(Block::to_ref));
            if !blocks.is_empty() {
                reads_back(&blocks, &report);
            }
            format!(
                "{:?} {:?} {}",
                report.state,
                report.problem,
                report.warning_count.min(3)
            )
        }
        Err(error) => match std::str::from_utf8(data) {
            Ok(text) => chain_of(text),
            Err(_) => words(error),
        },
    }
}

fn verify(stored: Vec<StoredBlock>) -> (VerifyReport, Vec<Block>) {
    let mut verifier = Verifier::default();
    let blocks = stored
        .into_iter()
        .map_while(|block| verifier.push(block).ok());
    let blocks = blocks.collect();
    (verifier.finish(), blocks)
}

/// What was verified is verified again in the form in which it is written.
fn reads_back(blocks: &[Block], report: &VerifyReport) {
    let text = file_text(blocks);
    let stored: Vec<StoredBlock> = serde_json::from_str(&text).expect("a written ledger is JSON");
    let (again, same) = verify(stored);
    assert_eq!(same, blocks);
    assert!(again.is_valid() && again.tip == report.tip, "{again:?}");
}

fn chain_of(text: &str) -> String {
    let mut ledger = Ledger::default();
    let mut blocks = vec![Block::genesis().clone()];
    for (n, lines) in text.split("\n\n").enumerate() {
        let entries: Vec<String> = lines.split('\n').map(str::to_owned).collect();
        if check_entries(&entries).is_err() {
            continue;
        }
        let now = Timestamp::EPOCH.plus(Duration::from_micros(n as u64 * 1_234_567));
        let block = ledger.propose(entries, now);
        proves_its_entries(&block);
        ledger.adopt(&block).expect("it was proposed here");
        blocks.push(block);
    }
    let stored = blocks.iter().cloned().map(StoredBlock::from).collect();
    let (report, same) = verify(stored);
    assert_eq!(same, blocks);
    assert_eq!(report.tip, Some(ledger.tip()));
    assert!(report.is_valid() && report.warning_count == 0, "{report:?}");
    reads_back(&blocks, &report);
    format!("{} blocks", blocks.len().min(4))
}

fn proves_its_entries(block: &Block) {
    for (n, entry) in block.data().iter().enumerate() {
        let proof = merkle::prove(block.data(), n).expect("there is such an entry");
        assert!(merkle::verify(&block.merkle_root(), entry, &proof));
        let other = format!("{entry}.");
        assert!(!merkle::verify(&block.merkle_root(), &other, &proof));
    }
}
