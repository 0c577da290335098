//! Upgrades that are killed.

use std::fs;
use std::thread;
use std::time::Instant;

use kairos_protocol::hash::ContentHash;
use kairos_tests::{Call, Home};
use serde_json::Value;

/// Rounds of the crash test; the moment of death moves with the round.
const ROUNDS: u32 = 12;
/// The law, which is replaced where it is named.
const LAW: &str = "skills/kairos.rb";
const APPLY: [&str; 4] = ["upgrade", "--apply", "--take", LAW];
/// Texts as an older version made them, which their owner left alone.
const OLD: [(&str, &str); 4] = [
    (LAW, "skill :of_old do\n  title \"Of old\"\nend\n"),
    ("skills/kairos_quickguide.md", "# How it was done of old\n"),
    (
        "knowledge/meeting_safely/meeting_safely.md",
        "---\nname: meeting_safely\ndescription: Of old\n---\n\nMeet by daylight.\n",
    ),
    (
        "knowledge/kairos_getting_started/kairos_getting_started.md",
        "---\nname: kairos_getting_started\ndescription: Of old\n---\n\nBegin.\n",
    ),
];

/// A directory of an older version, and the texts of this one.
fn aged() -> (Home, [String; 4]) {
    let home = Home::initialized();
    let meta_file = home.data_dir().join(".kairos_meta.yml");
    let mut meta = fs::read_to_string(&meta_file).unwrap();
    let new = OLD.map(|(path, old)| {
        let file = home.data_dir().join(path);
        let new = fs::read_to_string(&file).unwrap();
        let (before, after) = (ContentHash::of(&new), ContentHash::of(old));
        meta = meta.replace(&before.to_hex(), &after.to_hex());
        fs::write(file, old).unwrap();
        new
    });
    let version = format!("version: {}\n", env!("CARGO_PKG_VERSION"));
    assert!(meta.contains(&version), "{meta}");
    fs::write(meta_file, meta.replace(&version, "version: 0.0.9\n")).unwrap();
    (home, new)
}

fn read(home: &Home, path: &str) -> String {
    fs::read_to_string(home.data_dir().join(path)).unwrap()
}

/// What the copies of the file at `path` hold.
fn copies(home: &Home, path: &str) -> Vec<String> {
    let path = home.data_dir().join(path);
    let name = path.file_name().unwrap().to_str().unwrap();
    let beside = fs::read_dir(path.parent().unwrap()).unwrap();
    let beside = beside.map(|entry| entry.unwrap().path());
    let start = format!("{name}.bak.");
    beside
        .filter(|path| {
            path.file_name()
                .unwrap()
                .to_str()
                .unwrap()
                .starts_with(&start)
        })
        .map(|path| fs::read_to_string(path).unwrap())
        .collect()
}

#[test]
fn an_upgrade_killed_at_any_moment_loses_nothing_and_the_next_one_completes_it() {
    let (home, _) = aged();
    let begun = Instant::now();
    home.run(APPLY).done();
    let whole = begun.elapsed();
    let mut interrupted = 0;
    for round in 0..ROUNDS {
        let (home, new) = aged();
        let mut child = Call::new(APPLY).home(&home).spawn();
        thread::park_timeout(whole * round * 6 / (5 * ROUNDS));
        child.kill().unwrap();
        child.wait().unwrap();
        for ((path, old), new) in OLD.iter().zip(&new) {
            let there = read(&home, path);
            let kept = there == *old || (there == *new && copies(&home, path) == [*old]);
            assert!(kept, "round {round}: {path}: {there}");
        }
        interrupted += u32::from(home.run(["upgrade", "--check"]).code == 3);
        let examined = home.run(["--json", "--set", "http.port=0", "doctor"]);
        let examined: Value = serde_json::from_str(&examined.stdout).unwrap();
        assert_ne!(examined["level"], "fail", "round {round}: {examined}");

        home.run(APPLY).done();
        home.run(["upgrade", "--check"]).done();
        for ((path, old), new) in OLD.iter().zip(&new) {
            assert_eq!(read(&home, path), *new, "round {round}");
            let copies = copies(&home, path);
            let right = !copies.is_empty() && copies.iter().all(|copy| copy == old);
            assert!(right, "round {round}: {path}: {copies:?}");
        }
        let report = home.json(["chain", "verify"]);
        assert_eq!(report["valid"], true, "{report}");
        let blocks = home.json(["chain", "history"]).to_string();
        assert!(blocks.contains("system_upgrade"), "round {round}: {blocks}");
        let law = ContentHash::of(&new[0]).to_hex();
        let law = format!("next_ast_hash\\\":\\\"{law}");
        assert!(blocks.contains(&law), "round {round}: {blocks}");
        // What the dead one changed and did not record is told, and can be.
        let all = ["knowledge", "record", "--all", "--reason", "Of a test"];
        home.run(all).done();
        home.run(["knowledge", "status"]).done();
    }
    assert!(interrupted > 0, "some were killed before they were done");
}
