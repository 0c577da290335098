//! What is kept of the state: snapshots of any program, lists of files, and the settings.

use kairos_protocol::state::{Snapshot, StateSettings, Tree};

use crate::words;

/// Reads `data` as each of them. A list of files has one text only, and a snapshot that was read is read again.
pub fn run(data: &[u8]) -> String {
    let text = String::from_utf8_lossy(data);
    let settings = StateSettings::read(&text);
    assert!(settings.max_snapshots > 0);
    let tree = Tree::parse(&text);
    if let Ok(tree) = &tree {
        assert_eq!(tree.to_text(), text);
    }
    let snapshot = Snapshot::parse(data);
    if let Ok(snapshot) = &snapshot {
        let again =
            Snapshot::parse(snapshot.to_text().as_bytes()).expect("what was read can be read");
        assert_eq!((again.hash, again.tree), (snapshot.hash, snapshot.tree));
    }
    match (tree, snapshot) {
        (Ok(tree), _) => format!("{} files", tree.len()),
        (_, Ok(_)) => "a snapshot".to_owned(),
        (Err(tree), Err(snapshot)) => {
            format!(
                "{}; {}; {}",
                words(tree),
                words(snapshot),
                settings.problems.len()
            )
        }
    }
}
