//! Everything of a transparency log that strangers send: notes, keys, checkpoints, proofs, requests, evidence.

use kairos_protocol::tlog::checkpoint::SignedCheckpoint;
use kairos_protocol::tlog::fork::ForkProof;
use kairos_protocol::tlog::inclusion::InclusionProof;
use kairos_protocol::tlog::note::{Note, SigningKey, VerifierKey, parse_signatures};
use kairos_protocol::tlog::statement::Attributed;
use kairos_protocol::tlog::tile::{parse_tile, tile_bytes};
use kairos_protocol::tlog::witness::CosignRequest;
use kairos_protocol::wire::history::Continued;

use crate::words;

/// Reads `data` as each of them. What is read is written as it was, and nothing verifies that was not signed.
pub fn run(data: &[u8]) -> String {
    if let Some(hashes) = parse_tile(data) {
        assert_eq!(tile_bytes(&hashes), data);
    }
    let fork = match ForkProof::from_json(data) {
        Ok(proof) => proof.verify().map_or_else(words, |_| "a fork".to_owned()),
        Err(error) => words(error),
    };
    let Ok(text) = std::str::from_utf8(data) else {
        return fork;
    };
    let key = key(text);
    let note = note(text);
    let request = match text.parse::<CosignRequest>() {
        Ok(request) => {
            let again = request.to_string();
            assert_eq!(again.parse().as_ref(), Ok(&request));
            format!("request of {}", request.proof.len().min(3))
        }
        Err(error) => words(error),
    };
    let proof = match text.parse::<InclusionProof>() {
        Ok(proof) => {
            assert_eq!(proof.to_string(), text, "a proof has one text");
            proof
                .verify(None)
                .map_or_else(words, |proven| format!("block {}", proven.index.min(3)))
        }
        Err(error) => words(error),
    };
    let wire = serde_json::from_str(text).map(|value| wire(&value));
    format!(
        "{fork} {key} {note} {request} {proof} {}",
        wire.unwrap_or_default()
    )
}

fn key(text: &str) -> String {
    if let Ok(key) = SigningKey::from_text(text) {
        assert_eq!(key.to_text().as_str(), text);
    }
    match text.parse::<VerifierKey>() {
        Ok(key) => {
            assert_eq!(key.to_string(), text, "a key has one text");
            "key".to_owned()
        }
        Err(error) => words(error),
    }
}

fn note(text: &str) -> String {
    let _ = parse_signatures(text);
    match text.parse::<Note>() {
        Ok(note) => {
            assert_eq!(note.to_string(), text, "a note has one text");
            match text.parse::<SignedCheckpoint>() {
                Ok(checkpoint) => {
                    assert_eq!(checkpoint.to_string(), text);
                    assert_eq!(checkpoint.checkpoint().to_text(), note.text());
                    format!("checkpoint {}", note.signatures().len().min(3))
                }
                Err(error) => words(error),
            }
        }
        Err(error) => words(error),
    }
}

fn wire(value: &serde_json::Value) -> &'static str {
    if let Some(continued) = Continued::from_value(value) {
        assert_eq!(
            Continued::from_value(&continued.to_value()),
            Some(continued)
        );
        return "continued";
    }
    match Attributed::from_value(value) {
        Some(shown) => {
            assert_eq!(Attributed::from_value(&shown.to_value()), Some(shown));
            "shown"
        }
        None => "nothing",
    }
}
