//! Checkpoints and proofs, made by the node and checked by the independent verifier.

use std::fs;

use kairos_tests::{Call, Ended, Home, Request, TestNode, TestPeer, eventually};
use serde_json::Value;

pub(crate) fn verify(args: &[&str], home: &Home) -> Ended {
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
    assert_eq!(told["id_from_key"], true);
    let named_inside = |told: &Value| told["notes"].to_string().contains("named inside");
    assert!(named_inside(&told), "{told}");
    let agent = told["agent_key"].as_str().unwrap();
    let told = verify(&["--json", "proof", "hidden", "--agent-key", agent], &home).json();
    assert!(!named_inside(&told), "{told}");
    let told = verify(&["proof", "hidden", "--agent-key", "00:11"], &home);
    assert!(told.stdout.contains("not 00:11"), "{}", told.stdout);
    told.code_is(1);

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

/// Makes the agent of `home` begin its ledger anew, as one that wants to hide its past, with `blocks` blocks.
pub(crate) fn rewrite(home: &Home, blocks: usize) {
    let storage = home.data_dir().join("storage");
    fs::remove_file(storage.join("blockchain.json")).unwrap();
    fs::remove_dir_all(storage.join("tlog")).unwrap();
    for n in 1..blocks {
        home.run(["chain", "record", &format!("another entry {n}")])
            .done();
    }
}

fn serve(home: &Home) -> TestNode {
    TestNode::builder().home(home).start()
}

/// The detail of the check of the ledger in what `meet` printed.
fn history(met: &Value) -> String {
    let checks = met["checks"].as_array().unwrap();
    let check = checks
        .iter()
        .find(|check| check["name"] == "ledger history");
    check.map_or_else(String::new, |check| {
        check["detail"].as_str().unwrap().to_owned()
    })
}

#[test]
fn an_agent_that_shows_two_histories_is_convicted_by_its_own_answer() {
    let (us, peer) = (Home::initialized(), recorded(3));
    let node = serve(&peer);
    let met = us.json(["meet", &node.url("")]);
    assert_eq!(history(&met), "3 blocks, remembered from now on");
    let id = met["agent"]["id"].as_str().unwrap().to_owned();
    peer.run(["chain", "record", "one more"]).done();
    // The server looks for what other processes recorded once a second or so.
    let grown = eventually("the node shows its new block", || {
        let told = history(&us.json(["meet", &node.url("")]));
        (told != "the 3 blocks we know").then_some(told)
    });
    assert_eq!(grown, "4 blocks, which continue the 3 we know");
    assert!(node.stop().success());

    rewrite(&peer, 2);
    let node = serve(&peer);
    let told = us.run(["meet", &node.url("")]).failed(1);
    assert!(
        told.contains("had 4 blocks when we saw it last and has 2 now"),
        "{told}"
    );
    assert!(node.stop().success());

    for blocks in [4, 7] {
        let witness = Home::initialized();
        let honest = recorded(4);
        let node = serve(&honest);
        witness.json(["meet", &node.url("")]);
        assert!(node.stop().success());
        rewrite(&honest, blocks);
        let node = serve(&honest);
        for _ in 0..2 {
            let told = witness.run(["meet", &node.url("")]).failed(1);
            assert!(told.contains("showed two histories"), "{told}");
        }
        let known = witness.json(["peers", "list"]);
        let id = known[0]["id"].as_str().unwrap();
        let shown = witness.json(["peers", "show", id]);
        let file = shown["ledger"]["fork"].as_str().unwrap();
        let proven = verify(&["--json", "fork", file], &witness).json();
        assert_eq!(proven["agent"], id);
        assert_eq!(proven["agent_key"], known[0]["key_fingerprint"]);
        assert_eq!(proven["id_from_key"], true);
        let key = known[0]["key_fingerprint"].as_str().unwrap();
        verify(&["fork", file, "--agent-key", key], &witness).done();
        verify(&["fork", file, "--agent-key", "00:11"], &witness).code_is(1);
        assert_eq!(
            (&proven["first_blocks"], &proven["second_blocks"]),
            (&4.into(), &blocks.into())
        );
        let text = fs::read_to_string(file).unwrap();
        fs::write(
            witness.path().join("forged"),
            text.replace("\"root\": \"", "\"root\": \"0"),
        )
        .unwrap();
        verify(&["fork", "forged"], &witness).code_is(1);
        // A person may decide to deal with it all the same; the evidence stays.
        witness.run(["peers", "forget", id]).done();
        let met = witness.json(["meet", &node.url("")]);
        assert_eq!(
            history(&met),
            format!("{blocks} blocks, remembered from now on")
        );
        verify(&["fork", file], &witness).done();
    }
    assert_eq!(us.json(["peers", "show", &id])["ledger"]["size"], 4);
}

#[test]
fn a_visitor_that_shows_two_histories_is_turned_away() {
    let (us, peer) = (Home::initialized(), recorded(3));
    let node = serve(&us);
    let url = node.url("");
    peer.json(["meet", &url]);
    let id = eventually("its ledger is remembered", || {
        let known = us.json(["peers", "list"]);
        let id = known[0]["id"].as_str()?.to_owned();
        (us.json(["peers", "show", &id])["ledger"]["size"] == 3).then_some(id)
    });
    rewrite(&peer, 3);
    let told = eventually("it is turned away", || {
        let ended = peer.run(["meet", &url]);
        (ended.code == 1).then_some(ended.stderr)
    });
    assert!(told.contains("two histories"), "{told}");
    let shown = us.json(["peers", "show", &id]);
    let file = shown["ledger"]["fork"].as_str().unwrap();
    let key = shown["key_fingerprint"].as_str().unwrap();
    verify(&["fork", file, "--agent-key", key], &us).done();
    us.run(["peers", "forget", &id]).done();
    eventually("it may come again", || {
        (peer.run(["meet", &url]).code == 0).then_some(())
    });
}

#[test]
fn a_ledger_in_sqlite_is_told_to_be_exported() {
    let home = Home::new();
    fs::write(home.path().join("kairos.db"), b"SQLite format 3\0\x10\0").unwrap();
    let told = verify(&["ledger", "kairos.db"], &home).failed(2);
    assert!(told.contains("chain export --stream json"), "{told}");
}

#[test]
fn agents_cosign_each_others_checkpoints() {
    let (ours, theirs) = (recorded(3), Home::initialized());
    let checkpoint = ours.json(["chain", "checkpoint", "--out", "request"]);
    let request = ours.path().join("request");
    let request = request.to_str().unwrap();
    let key = checkpoint["log_key"].as_str().unwrap();
    let told = theirs.run(["chain", "cosign", request]).failed(1);
    assert!(told.contains("name its key with --key"), "{told}");
    let signed = theirs.json(["chain", "cosign", request, "--key", key]);
    let witness = signed["witness_key"].as_str().unwrap();
    let note = signed["text"].as_str().unwrap();

    let add = |keys: &[&str]| {
        let args = ["chain", "add-cosignature", "-"].iter().chain(keys);
        Call::new(args).home(&ours).stdin(note).run()
    };
    assert!(add(&[]).failed(1).contains("name its key with --key"));
    add(&["--key", witness]).done();
    ours.run(["chain", "prove", "1", "--cosigned", "--out", "proof"])
        .done();
    let args = ["proof", "proof", "--key", key, "--witness", witness];
    verify(&args, &ours).done();
    verify(&["proof", "proof", "--key", key, "--witness", key], &ours).code_is(1);

    // Grown, it is cosigned again only with a proof that it continues.
    ours.run(["chain", "record", "more"]).done();
    ours.run(["chain", "checkpoint", "--out", "request"]).done();
    let told = theirs.run(["chain", "cosign", request]).failed(1);
    assert!(told.contains("--from 3"), "{told}");
    ours.run(["chain", "checkpoint", "--from", "3", "--out", "request"])
        .done();
    let line = theirs.run(["chain", "cosign", request, "--line"]).done();
    assert!(
        line.starts_with('\u{2014}') && line.lines().count() == 1,
        "{line}"
    );
    let args = ["chain", "add-cosignature", "-", "--key", witness];
    Call::new(args).home(&ours).stdin(line).run().done();

    // They never met, but what was seen of the log can be forgotten.
    let log = signed["log"].as_str().unwrap();
    let id = log.strip_prefix("kairos-chain/").unwrap();
    let told = theirs.run(["peers", "forget", id]).done();
    assert!(told.contains("Forgot the ledger"), "{told}");
    theirs.run(["peers", "forget", id]).failed(1);
}

/// The outcome and the detail of the check whether the other agent cosigned.
fn our_ledger(met: &Value) -> String {
    let checks = met["checks"].as_array().unwrap();
    let check = checks.iter().find(|check| check["name"] == "our ledger");
    check.map_or_else(String::new, |check| {
        let word = |member: &str| check[member].as_str().unwrap().to_owned();
        format!("{} {}", word("outcome"), word("detail"))
    })
}

#[test]
fn whoever_is_met_cosigns_the_ledger_and_follows_it() {
    let (host, guest) = (Home::initialized(), recorded(3));
    let node = serve(&host);
    let url = node.url("");
    let meet = || our_ledger(&guest.json(["meet", &url]));
    assert_eq!(meet(), "passed the peer cosigned its 3 blocks");
    assert_eq!(meet(), "passed the peer cosigned its 3 blocks");

    // Anybody can check that.
    guest
        .run(["chain", "prove", "1", "--cosigned", "--out", "proof"])
        .done();
    let witness = host.json(["chain", "status"])["witness_key"].clone();
    let args = ["proof", "proof", "--witness", witness.as_str().unwrap()];
    verify(&args, &guest).done();

    guest.run(["chain", "record", "one more"]).done();
    assert_eq!(meet(), "passed the peer cosigned its 4 blocks");
    let id = host.json(["peers", "list"])[0]["id"].clone();
    let id = id.as_str().unwrap();
    let known = || host.json(["peers", "show", id])["ledger"].clone();
    assert_eq!(known()["size"], 4);

    // A shorter history is told to its owner, who may have restored an old backup.
    rewrite(&guest, 2);
    let told = meet();
    assert!(
        told.starts_with("unknown") && told.contains("4 blocks"),
        "{told}"
    );
    // A longer one is evidence.
    rewrite(&guest, 7);
    let told = guest.run(["meet", &url]).failed(1);
    assert!(told.contains("two histories"), "{told}");
    let file = known()["fork"].as_str().unwrap().to_owned();
    verify(&["fork", &file], &host).done();
    let told = guest.run(["meet", &url]).failed(1);
    assert!(told.contains("two histories"), "{told}");
}

#[test]
fn a_checkpoint_is_taken_from_its_owner_alone_and_nonsense_is_refused() {
    const PATH: &str = "/meeting/v1/checkpoint";
    let (host, other) = (recorded(2), recorded(3));
    let (node, peer) = (serve(&host), TestPeer::new("visitor"));
    let shown = {
        let other = serve(&other);
        let token = TestPeer::new("reader").session(&other);
        Request::get(PATH).token(&token).send(&other).ok()
    };
    Request::post(PATH)
        .json(&shown)
        .send(&node)
        .refused(401, "authentication_required");
    let introduced = peer.session(&node);
    let post = |token: &str, body: &Value| Request::post(PATH).token(token).json(body).send(&node);
    post(&introduced, &shown).refused(403, "proof_required");
    let token = peer.proven_session(&node);
    let before = host.state();
    // It is a good checkpoint, but of somebody else.
    post(&token, &shown).refused(400, "invalid_param");
    let mut stolen = shown.clone();
    stolen["log"]["instance_id"] = peer.id().into();
    stolen["log"]["identity_key"] = peer.keypair.public().to_pem().into();
    post(&token, &stolen).refused(400, "invalid_param");
    let mut long = shown.clone();
    long["consistency"] = vec![long["root"].clone(); 1000].into();
    let root = shown["root"].clone();
    for body in [
        serde_json::json!({}),
        serde_json::json!({"checkpoint": 1, "log": [], "from": -1, "root": root, "consistency": []}),
        serde_json::json!({"checkpoint": shown["checkpoint"], "log": shown["log"]}),
        long,
    ] {
        let reply = post(&token, &body);
        assert!(!reply.text().contains(host.path().to_str().unwrap()));
        reply.refused(400, "invalid_param");
    }
    assert_eq!(host.state(), before);
}

#[test]
fn strangers_get_no_checkpoint_and_nonsense_is_refused() {
    let home = recorded(3);
    let node = serve(&home);
    Request::get("/meeting/v1/checkpoint")
        .send(&node)
        .refused(401, "authentication_required");
    let token = TestPeer::new("stranger").session(&node);
    let ask = |query: &str| {
        let path = format!("/meeting/v1/checkpoint{query}");
        Request::get(&path).token(&token).send(&node)
    };
    let answer = ask("").ok();
    assert_eq!(answer["from"], 0);
    assert_eq!(ask("?from=2").ok()["checkpoint"], answer["checkpoint"]);
    for from in ["4", "18446744073709551615"] {
        ask(&format!("?from={from}")).refused(404, "not_found");
    }
    for from in ["-1", "x", "", "18446744073709551616", "1e3"] {
        ask(&format!("?from={from}")).refused(400, "invalid_param");
    }
}
