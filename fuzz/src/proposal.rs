//! A proposal as it lies in the store, or as somebody changed it there.

use kairos_place::proposal::Proposal;

use crate::words;

/// Reads `data` as `proposal.json`; what can be read names no file but those of its change.
pub fn run(data: &[u8]) -> String {
    let proposal = match Proposal::parse(data) {
        Ok(proposal) => proposal,
        Err(error) => return words(error),
    };
    for file in &proposal.files {
        let inside = file.path.starts_with("knowledge/") || file.path.starts_with("skills/");
        let plain = file
            .path
            .split('/')
            .all(|part| !matches!(part, "" | "." | ".."));
        assert!(inside && plain, "{}", file.path);
    }
    let again = proposal.to_bytes().expect("what was read can be written");
    assert_eq!(Proposal::parse(&again).expect("and read"), proposal);
    proposal.change.kind().to_owned()
}
