//! Snapshots of all layers: commits and restores that die at any moment, and those that nobody asked for.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use kairos_tests::{Call, Home, TestNode};
use serde_json::Value;

/// Rounds of each crash test; the moment of death moves with the round.
const ROUNDS: u32 = 16;

/// How long a process of this round lives, where one that is left alone needs `whole`.
fn lifetime(whole: Duration, round: u32) -> Duration {
    whole * round * 5 / (4 * ROUNDS)
}

/// The names of snapshots on disk, and those that blocks tell of.
fn both(home: &Home) -> (Vec<String>, Vec<String>) {
    let listed = home.json(["state", "history", "--limit", "1000"]);
    assert_eq!(listed["problems"], serde_json::json!([]), "{listed}");
    let commits = listed["commits"].as_array().unwrap();
    let mut on_disk: Vec<_> = commits
        .iter()
        .map(|c| c["file"].as_str().unwrap().to_owned())
        .collect();
    let blocks = home.json(["chain", "history", "--limit", "1000"]);
    let texts = blocks
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|block| block["data"].as_array().unwrap());
    let entries =
        texts.filter_map(|text| serde_json::from_str::<Value>(text.as_str().unwrap()).ok());
    let told = entries.filter_map(|entry| {
        Some(
            entry["snapshot_ref"]
                .as_str()?
                .strip_prefix("snapshots/")?
                .to_owned(),
        )
    });
    let mut told: Vec<_> = told.collect();
    on_disk.sort();
    told.sort();
    (on_disk, told)
}

/// Names of files on their way, and of intents.
fn leftovers(home: &Home) -> Vec<String> {
    let folder = fs::read_dir(home.data_dir().join("storage/snapshots")).unwrap();
    let names = folder.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names
        .filter(|name| name.starts_with('.') && name != ".lock")
        .collect()
}

#[test]
fn a_commit_killed_at_any_moment_is_whole_or_absent() {
    let home = Home::initialized();
    let begun = Instant::now();
    home.json(["state", "commit", "-m", "first"]);
    let whole = begun.elapsed();
    let mut acknowledged = 1;
    for round in 0..ROUNDS {
        home.skill("changing", &format!("round {round}\n"));
        let mut child = Call::new(["state", "commit", "-m", "round"])
            .home(&home)
            .spawn();
        thread::park_timeout(lifetime(whole, round));
        child.kill().unwrap();
        acknowledged += usize::from(child.wait().unwrap().success());
        let (on_disk, told) = both(&home);
        assert_eq!(on_disk, told, "round {round}");
        assert!(on_disk.len() >= acknowledged, "round {round}");
        assert_eq!(leftovers(&home), [""; 0], "round {round}");
    }
    // Whatever is told of can be restored.
    let (on_disk, _) = both(&home);
    for file in &on_disk {
        home.json(["state", "restore", file, "--dry-run"]);
    }
    assert_eq!(home.json(["chain", "verify"])["valid"], true);
}

#[test]
fn a_restore_killed_at_any_moment_is_completed_or_never_began() {
    let home = Home::initialized();
    let entry = |n: usize, text: &str| home.skill(&format!("entry{n}"), text);
    (0..40).for_each(|n| entry(n, "one\n"));
    let one = home.json(["state", "commit", "-m", "one"])["content_hash"].clone();
    (0..40).for_each(|n| entry(n, "two\n"));
    let two = home.json(["state", "commit", "-m", "two"])["content_hash"].clone();
    let file_of = |content: &Value| {
        let listed = home.json(["state", "history", "--limit", "1000"]);
        let commits = listed["commits"].as_array().unwrap().clone();
        let found = commits
            .into_iter()
            .find(|commit| commit["content_hash"] == *content);
        found.unwrap()["file"].as_str().unwrap().to_owned()
    };
    let begun = Instant::now();
    home.json(["state", "restore", &file_of(&one), "--yes"]);
    let whole = begun.elapsed();
    let mut now = one.clone();
    for round in 0..ROUNDS {
        let target = if now == one { &two } else { &one };
        let file = file_of(target);
        let mut child = Call::new(["state", "restore", &file, "--yes"])
            .home(&home)
            .spawn();
        thread::park_timeout(lifetime(whole, round));
        child.kill().unwrap();
        let done = child.wait().unwrap().success();
        let status = home.json(["state", "status"]);
        let content = &status["content_hash"];
        assert!(
            content == &one || content == &two,
            "round {round}: half of each"
        );
        assert!(!done || content == target, "round {round}: done and undone");
        assert_eq!(status["has_changes"], false, "round {round}: {status}");
        assert_eq!(leftovers(&home), [""; 0], "round {round}");
        now = content.clone();
    }
    let (on_disk, told) = both(&home);
    assert_eq!(on_disk, told);
    assert_eq!(home.json(["chain", "verify"])["valid"], true);
}

#[test]
fn the_end_of_a_session_commits_what_is_pending() {
    let home = Home::initialized();
    home.json(["state", "commit", "-m", "first"]);
    let node = TestNode::builder().home(&home).start();
    home.skill("written", "while the node runs\n");
    node.stop();
    let status = home.json(["state", "status"]);
    assert_eq!(status["has_changes"], false, "{status}");
    let last = &status["last_commit"];
    assert_eq!(
        (&last["commit_type"], &last["created_by"]),
        (&"auto".into(), &"system".into())
    );
    assert_eq!(last["reason"], "Auto-commit (session_end): L1: 1 changes");
}

#[test]
fn many_processes_commit_one_directory_and_lose_nothing() {
    let home = Home::initialized();
    home.json(["state", "commit", "-m", "first"]);
    thread::scope(|scope| {
        for n in 0..6 {
            let home = &home;
            scope.spawn(move || {
                home.run(["state", "commit", "--force", "-m", &n.to_string()])
                    .done()
            });
        }
    });
    let (on_disk, told) = both(&home);
    assert_eq!((on_disk.len(), on_disk), (7, told));
}
