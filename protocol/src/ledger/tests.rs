use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::block::file_text;
use crate::hash::ContentHash;

/// Verifies a ledger file that is held as JSON values, as a store does.
fn verify(blocks: &[Value]) -> VerifyReport {
    let mut verifier = Verifier::default();
    for value in blocks {
        let index = verifier.position();
        match serde_json::from_value(value.clone()) {
            Ok(stored) => drop(verifier.push(stored)),
            Err(error) => verifier.fail(Problem::Block {
                index,
                fault: Fault::Malformed(error.to_string()),
            }),
        }
    }
    verifier.finish()
}

fn sample() -> Vec<Value> {
    serde_json::from_str(include_str!(
        "../../tests/fixtures/vectors/blockchain-3.json"
    ))
    .unwrap()
}

/// `blocks` written by the rules, `secs` being the time of each.
fn chain(blocks: &[(Vec<String>, i64)]) -> Vec<Block> {
    let mut ledger = Ledger::default();
    let mut chain = vec![Block::genesis().clone()];
    for (entries, secs) in blocks {
        let block = ledger.propose(entries.clone(), Timestamp::from_secs(*secs));
        ledger.adopt(&block).unwrap();
        chain.push(block);
    }
    chain
}

fn values(chain: &[Block]) -> Vec<Value> {
    serde_json::from_str(&file_text(chain)).unwrap()
}

fn check(change: impl FnOnce(&mut Vec<Value>), state: LoadState, problem: Option<&str>) {
    let mut blocks = sample();
    change(&mut blocks);
    let report = verify(&blocks);
    assert_eq!(report.state, state, "{report:?}");
    assert_eq!(
        report.problem.map(|problem| problem.to_string()).as_deref(),
        problem
    );
}

#[test]
fn reads_what_the_reference_wrote() {
    let report = verify(&sample());
    assert!(report.is_valid() && report.warnings.is_empty());
    assert_eq!(report.length, 3);
    assert_eq!(
        report.tip.unwrap().hash.to_hex(),
        "bfd2f6cf908663ec8792d7880a6a252971fcd83885aa067d3de80cac7a795d1b"
    );
}

#[test]
fn finds_every_kind_of_tampering_and_says_where() {
    use LoadState::{Corrupt, Empty, Readable};
    let x = ContentHash::of("x").to_hex();
    let stale = "stored hash does not match the content, whose hash is";
    check(Vec::clear, Empty, None);
    check(|b| drop(b.pop()), Readable, None);
    check(
        |b| b[2]["index"] = json!(77),
        Corrupt,
        Some("block 2: index is 77"),
    );
    check(|b| drop(b.remove(0)), Corrupt, Some("block 0: index is 1"));
    check(|b| drop(b.remove(1)), Corrupt, Some("block 1: index is 2"));
    check(
        |b| b[1]["data"] = json!(["x"]),
        Corrupt,
        Some("block 1: merkle_root does not match data"),
    );
    check(
        |b| {
            b[1]["data"] = json!(["x"]);
            b[1]["merkle_root"] = json!(x);
            b[1].as_object_mut().unwrap().remove("hash");
        },
        Corrupt,
        Some("block 2: previous_hash is not the hash of the block before"),
    );
    check(
        |b| {
            b[0]["data"] = json!(["Other Block"]);
            b[0].as_object_mut().unwrap().remove("hash");
        },
        Corrupt,
        Some("block 0: merkle_root does not match data"),
    );
    check(
        |b| {
            b.truncate(1);
            b[0]["timestamp"] = json!("1970-01-01T00:00:00.000000+00:00");
            b[0]["data"] = json!([]);
            b[0]["merkle_root"] = json!("");
            b[0].as_object_mut().unwrap().remove("hash");
        },
        Corrupt,
        Some("block 0: not the genesis block"),
    );
    check(
        |b| b[2]["timestamp"] = json!("soon"),
        Corrupt,
        Some("block 2: timestamp `soon` is not a time with an offset"),
    );
    for (field, value) in [
        ("timestamp", json!("2026-01-20T10:31:06.000000Z")),
        ("timestamp", json!("2026-01-20T10:31:05.000000+00:00")),
        ("hash", json!(x)),
    ] {
        let mut blocks = sample();
        blocks[2][field] = value;
        let problem = verify(&blocks).problem.unwrap().to_string();
        assert!(problem.contains(stale), "{problem}");
    }
    for (field, value) in [
        ("data", json!([1])),
        ("data", json!("x")),
        ("index", json!(-1)),
        ("hash", json!("abc")),
        ("merkle_root", json!(null)),
    ] {
        let mut blocks = sample();
        blocks[1][field] = value;
        let problem = verify(&blocks).problem.unwrap().to_string();
        assert!(problem.starts_with("block 1: not a block: "), "{problem}");
    }
}

#[test]
fn warns_of_absent_hashes_and_of_time_that_runs_backwards() {
    let mut blocks = values(&chain(&[(vec!["a".into()], 20), (vec!["b".into()], 10)]));
    blocks[1].as_object_mut().unwrap().remove("hash");
    let report = verify(&blocks);
    assert!(report.is_valid());
    let lines: Vec<_> = report.warnings.iter().map(Warning::to_string).collect();
    assert_eq!(
        lines,
        [
            "block 1 has no stored hash",
            "block 2 is older than the block before it"
        ]
    );
}

#[test]
fn counts_warnings_beyond_those_it_spells_out() {
    let ones: Vec<_> = (1..=150).map(|n| (vec!["x".into()], -n)).collect();
    let report = verify(&values(&chain(&ones)));
    assert_eq!(report.warnings.len(), WARNINGS_MAX);
    assert_eq!(report.warning_count, 150);
}

#[test]
fn stays_at_the_first_problem() {
    let mut verifier = Verifier::default();
    let genesis = StoredBlock::from(Block::genesis().clone());
    let mut second = genesis.clone();
    second.index = 9;
    verifier.push(genesis.clone()).unwrap();
    let first = verifier.push(second).unwrap_err();
    assert_eq!(verifier.push(genesis).unwrap_err(), first);
    assert_eq!(verifier.finish().length, 1);
}

#[test]
fn adopts_only_what_follows() {
    let mut ledger = Ledger::default();
    let block = ledger.propose(vec!["a".into()], Timestamp::EPOCH);
    let fork = ledger.propose(vec!["b".into()], Timestamp::EPOCH);
    ledger.adopt(&block).unwrap();
    assert_eq!(ledger.adopt(&block), Err(Fault::Index { found: 1 }));
    let on_fork = Block::seal(2, Timestamp::EPOCH, vec![], fork.hash());
    assert_eq!(ledger.adopt(&on_fork), Err(Fault::Link));
    assert_eq!((ledger.tip(), ledger.length()), (block.to_ref(), 2));
}

#[test]
fn an_absent_ledger_may_begin() {
    let report = VerifyReport::absent();
    assert!(report.is_valid() && report.length == 0 && report.tip.is_none());
}

fn any_blocks() -> impl Strategy<Value = Vec<(Vec<String>, i64)>> {
    let entries = prop::collection::vec(any::<String>(), 0..4);
    prop::collection::vec((entries, 0..4_000_000_000_i64), 1..6)
}

proptest! {
    #[test]
    fn a_ledger_verifies_after_any_valid_sequence(blocks in any_blocks()) {
        let chain = chain(&blocks);
        let report = verify(&values(&chain));
        prop_assert!(report.is_valid(), "{:?}", report);
        prop_assert_eq!(report.length as usize, blocks.len() + 1);
        prop_assert_eq!(report.tip, chain.last().map(Block::to_ref));
    }

    #[test]
    fn verification_can_be_resumed_anywhere(blocks in any_blocks(), cut in any::<prop::sample::Index>()) {
        let chain = chain(&blocks);
        let mut whole = Verifier::default();
        let at = cut.index(chain.len() - 1) + 1;
        for block in &chain[..at] {
            whole.push(block.clone().into()).unwrap();
        }
        let mut rest = Verifier::resume(*whole.ledger().unwrap());
        for block in &chain[at..] {
            rest.push(block.clone().into()).unwrap();
        }
        prop_assert_eq!(rest.finish().tip, chain.last().map(Block::to_ref));
    }

    #[test]
    fn a_changed_byte_of_a_field_never_verifies(
        blocks in any_blocks(),
        which in any::<prop::sample::Index>(),
        field in 0..6_usize,
        at in any::<prop::sample::Index>(),
        byte in any::<prop::sample::Index>(),
    ) {
        let mut values = values(&chain(&blocks));
        let block = which.index(values.len());
        let name = ["index", "timestamp", "data", "previous_hash", "merkle_root", "hash"][field];
        let value = &mut values[block][name];
        let text = match value {
            Value::Array(entries) if entries.is_empty() => return Ok(()),
            Value::Array(entries) => {
                let entry = at.index(entries.len());
                &mut entries[entry]
            }
            other => other,
        };
        // A byte of the JSON text: whatever still parses is another value.
        let mut json = text.to_string().into_bytes();
        let spot = at.index(json.len());
        json[spot] = byte.index(256) as u8;
        match serde_json::from_slice::<Value>(&json) {
            Ok(changed) if changed != *text => *text = changed,
            _ => return Ok(()),
        }
        let report = verify(&values);
        prop_assert!(!report.is_valid(), "{:?}", values[block]);
        prop_assert!(report.length <= block as u64);
    }

    #[test]
    fn blocks_taken_out_or_swapped_never_verify(blocks in any_blocks(), from in any::<prop::sample::Index>()) {
        let whole = values(&chain(&blocks));
        let at = from.index(whole.len() - 1);
        let mut without = whole.clone();
        without.remove(at);
        prop_assert!(!verify(&without).is_valid());
        let mut swapped = whole.clone();
        swapped.swap(at, at + 1);
        prop_assert!(!verify(&swapped).is_valid());
        let mut twice = whole;
        twice.insert(at, twice[at].clone());
        prop_assert!(!verify(&twice).is_valid());
    }
}
