//! Checkpoints and proofs, made by the node and checked by the independent verifier.

use std::fs;

use kairos_tests::{Call, Ended, Home};
use serde_json::Value;

fn verify(args: &[&str], home: &Home) -> Ended {
    Call::verify(args).current_dir(home.path()).run()
}

/// A home with a ledger of `blocks` blocks, genesis included.
fn recorded(blocks: usize) -> Home {
    let home = Home::initialized();
    for n in 1..blocks {
        home.run(["chain", "record", &format!("entry {n}")]).done();
    }
    home
}

#[test]
fn the_help_of_the_verifier() {
    let mut all = String::new();
    for command in ["", "ledger", "checkpoint", "proof", "package", "fork"] {
        let words = command.split_whitespace().chain(["--help"]);
        let help = Call::verify(words).env("COLUMNS", "100").run().done();
        all.push_str(&format!(
            "=== kairos-verify {command}\n{}\n",
            help.trim_end()
        ));
    }
    insta::assert_snapshot!(all);
}

#[test]
fn what_cannot_be_checked_ends_with_2() {
    let home = Home::new();
    for args in [
        &[][..],
        &["dance"],
        &["ledger", "nothing"],
        &["ledger", "."],
        &["checkpoint", "nothing"],
        &["proof", "nothing", "--key", "no key"],
    ] {
        let told = verify(args, &home).failed(2);
        assert!(!told.is_empty(), "{args:?}");
    }
    for (command, file) in [
        ("ledger", "x"),
        ("proof", "x"),
        ("package", "x"),
        ("fork", "x"),
    ] {
        fs::write(home.path().join(file), b"\xff\x00nonsense").unwrap();
        let told = verify(&["--json", command, file], &home);
        assert_eq!(told.code, 1, "{command}: {}", told.stderr);
        let told: Value = serde_json::from_str(&told.stdout).unwrap();
        assert_eq!(told["valid"], false);
        assert!(told["problem"].is_string(), "{told}");
    }
}

#[test]
fn a_stranger_checks_what_a_node_proves() {
    let home = recorded(4);
    let checkpoint = home.json(["chain", "checkpoint", "--out", "first"]);
    let key = checkpoint["log_key"].as_str().unwrap().to_owned();
    let other = recorded(2);
    let foreign = other.json(["chain", "checkpoint"]);
    let foreign = foreign["log_key"].as_str().unwrap();

    for index in 0..4 {
        let index = index.to_string();
        home.run(["chain", "prove", &index, "--out", "proof"])
            .done();
        let told = verify(&["--json", "proof", "proof", "--key", &key], &home).json();
        assert_eq!(told["block"].to_string(), index);
        // The node of somebody else finds the same.
        let proof = fs::read(home.path().join("proof")).unwrap();
        let asked = Call::new(["--json", "chain", "verify-proof", "-"])
            .home(&other)
            .stdin(proof);
        assert_eq!(asked.run().json()["block_hash"], told["block_hash"]);
        verify(&["proof", "proof", "--key", foreign], &home).code_is(1);
    }
    let hidden = home.json(["chain", "prove", "2", "--hash-only"]);
    fs::write(
        home.path().join("hidden"),
        hidden["proof"].as_str().unwrap(),
    )
    .unwrap();
    let told = verify(&["--json", "proof", "hidden"], &home).json();
    assert_eq!(told.get("data"), None);

    home.run(["chain", "record", "later"]).done();
    let ledger = ".kairos/storage/blockchain.json";
    let against = [
        "--json",
        "ledger",
        ledger,
        "--checkpoint",
        "first",
        "--key",
        &key,
    ];
    assert_eq!(verify(&against, &home).json()["blocks"], 5);
    let text = fs::read_to_string(home.path().join(ledger)).unwrap();
    fs::write(home.path().join(ledger), text.replace("entry 3", "entry 4")).unwrap();
    verify(&against, &home).code_is(1);
}

#[test]
fn a_package_is_checked_to_its_last_byte() {
    let home = Home::initialized();
    let set = home.skill_set("pack");
    home.json(["skillset".as_ref(), "install".as_ref(), set.as_os_str()]);
    let package = home.run(["skillset", "package", "pack"]).done();
    fs::write(home.path().join("package"), &package).unwrap();
    let told = verify(&["--json", "package", "package"], &home).json();
    assert_eq!(told["name"], "pack");
    assert!(told["packer_key"].is_string(), "{told}");
    let mut value: Value = serde_json::from_str(&package).unwrap();
    value["manifest"]["files"][0]["size"] = 1.into();
    fs::write(home.path().join("package"), value.to_string()).unwrap();
    verify(&["package", "package"], &home).code_is(1);
}

/// Whoever steals a data directory cannot make the node sign another history.
#[test]
fn a_rewritten_ledger_is_refused_by_every_command_that_signs() {
    let home = recorded(3);
    home.run(["chain", "checkpoint"]).done();
    let ledger = home.data_dir().join("storage/blockchain.json");
    fs::remove_file(&ledger).unwrap();
    home.run(["chain", "record", "a new beginning"]).done();
    for args in [
        &["chain", "checkpoint"][..],
        &["chain", "prove", "0"],
        &["chain", "verify"],
        &["chain", "status"],
    ] {
        let ended = home.run(args);
        let told = format!("{}{}", ended.stdout, ended.stderr);
        assert_eq!(ended.code, 1, "{args:?}: {told}");
        assert!(told.to_lowercase().contains("cut"), "{args:?}: {told}");
    }
}
