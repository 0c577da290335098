//! Agents meet, and what one knows crosses to the other.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use kairos_tests::{Call, Home, Request, TestNode, TestPeer, binary, without_settings};
use serde_json::{Value, json};

const TEA: &str = "---\ndescription: How to serve tea\npublic: true\n---\n\nWarm the pot.\n";

/// An agent that offers the skill `tea` and the SkillSet `house`, and serves.
fn host() -> (Home, TestNode) {
    let home = Home::initialized();
    home.skill("tea", TEA);
    home.run([
        "skillset".as_ref(),
        "install".as_ref(),
        home.skill_set("house").as_os_str(),
    ])
    .done();
    let node = TestNode::builder()
        .home(&home)
        .set("identity.name", "Ada")
        .start();
    (home, node)
}

fn named<'v>(list: &'v Value, name: &str) -> &'v Value {
    let found = list.as_array().unwrap().iter().find(|v| v["name"] == name);
    found.unwrap_or_else(|| panic!("no {name} in {list}"))
}

/// Acquires a skill and returns its id in the quarantine.
fn acquire(home: &Home, kind: &str, node: &TestNode, name: &str) -> String {
    let told = home.json([kind, "acquire", &node.url(""), name]);
    told["quarantined"]["id"].as_str().unwrap().to_owned()
}

#[test]
fn two_agents_meet_and_prove_their_keys_to_each_other() {
    let (ada, node) = host();
    let ben = Home::initialized();
    let shown = ben.run(["meet", &node.url("")]).done();
    for line in [
        "Ada  ",
        "identity signature  passed",
        "our proof           passed",
        "tea   How to serve tea",
        "house",
    ] {
        assert!(shown.contains(line), "no `{line}` in\n{shown}");
    }

    let met = ben.json(["meet", &node.url("")]);
    let checks = met["checks"].as_array().unwrap();
    let names: Vec<_> = checks
        .iter()
        .map(|check| check["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "identity signature",
            "key pin",
            "our introduction",
            "key possession",
            "our proof",
            "ledger history"
        ]
    );
    assert!(
        checks.iter().all(|check| check["outcome"] == "passed"),
        "{met}"
    );
    assert_eq!(
        (&met["our_session"], &met["agent"]["key_possession"]),
        (&json!("proven"), &json!("proven"))
    );
    let hash = &named(&met["skills"], "tea")["content_hash"];
    assert_eq!(hash.as_str().unwrap().len(), 64);
    assert_eq!(named(&met["skillsets"], "house")["version"], "1.0.0");

    // Each knows the other by its key.
    let known = ben.json(["peers", "list"]);
    assert_eq!(
        (&known[0]["name"], &known[0]["key_possession"]),
        (&json!("Ada"), &json!("proven"))
    );
    let known = ada.json(["peers", "list"]);
    assert_eq!(
        (known.as_array().unwrap().len(), &known[0]["key_possession"]),
        (1, &json!("proven"))
    );
}

#[test]
fn a_skill_crosses_and_waits_until_its_new_owner_decides() {
    let (_ada, node) = host();
    let ben = Home::initialized();
    let url = node.url("");
    assert_eq!(ben.json(["skill", "list", &url])[0]["name"], "tea");
    assert_eq!(ben.run(["skill", "get", &url, "tea"]).done(), TEA);
    assert_eq!(ben.json(["skill", "get", &url, "tea"])["content"], TEA);
    assert_eq!(ben.json(["quarantine", "list"])["waiting"], json!([]));

    let id = acquire(&ben, "skill", &node, "tea");
    assert_eq!(
        acquire(&ben, "skill", &node, "tea"),
        id,
        "the same thing waits once"
    );
    assert!(!ben.data_dir().join("knowledge/tea").exists());
    let waiting = ben.json(["quarantine", "list"]);
    assert_eq!(waiting["waiting"][0]["id"], id.as_str());
    let shown = ben.run(["quarantine", "show", &id, "--content"]).done();
    assert!(
        shown.contains("Warm the pot.") && shown.contains("Seal: "),
        "{shown}"
    );
    assert_eq!(
        ben.json(["quarantine", "show", &id])["evidence"]["session"],
        "proven"
    );

    // Nobody can be asked on a pipe, and an approval of something else is void.
    ben.run(["approve", &id]).failed(1);
    let other = "0".repeat(64);
    ben.run(["approve", "--yes", &id, "--seal", &other])
        .failed(1);
    assert!(!ben.data_dir().join("knowledge/tea").exists());

    let approved = ben.json(["approve", "--yes", &id]);
    assert_eq!(approved["name"], "tea");
    let path = ben.data_dir().join(approved["path"].as_str().unwrap());
    assert_eq!(fs::read_to_string(path).unwrap(), TEA);
    ben.run(["approve", "--yes", &id]).failed(1);
    ben.run(["quarantine", "show", &id]).failed(1);

    let provenance = ben.json(["provenance", "tea"]);
    assert_eq!(
        provenance["provenance"]["hops"].as_array().unwrap().len(),
        1,
        "{provenance}"
    );
    assert!(ben.run(["provenance", "tea"]).done().contains("authored"));

    let id = {
        let told = ben.json(["skill", "acquire", &url, "tea"]);
        told["quarantined"]["id"].as_str().unwrap().to_owned()
    };
    ben.run(["approve", "--yes", &id]).failed(1); // it exists
    ben.json(["reject", &id]);
    ben.run(["reject", &id]).failed(1);
    assert_eq!(ben.json(["quarantine", "list"])["waiting"], json!([]));

    let report = ben.json(["chain", "verify"]);
    assert_eq!(
        (&report["valid"], &report["length"]),
        (&json!(true), &json!(3))
    );
    let history = ben.json(["chain", "history", "--limit", "2"]).to_string();
    assert!(
        history.contains("knowledge_update") && history.contains("skill_provenance"),
        "{history}"
    );
}

#[test]
fn a_skill_set_crosses_switched_off() {
    let (_ada, node) = host();
    let ben = Home::initialized();
    let id = acquire(&ben, "skillset", &node, "house");
    assert_eq!(ben.json(["skillset", "list"])["skillsets"], json!([]));
    ben.json(["approve", "--yes", &id]);
    let info = ben.json(["skillset", "info", "house"]);
    assert_eq!(info["enabled"], false);
    let from = info["received_from"].as_str().unwrap().to_owned();
    assert_eq!(ben.json(["skillset", "enable", "house"])["enabled"], true);
    let provenance = ben.json(["provenance", "house"]);
    assert_eq!(provenance["received_from"], from.as_str());
    assert_eq!(
        provenance["provenance"]["hops"][0]["instance_id"],
        from.as_str()
    );
    ben.json(["skillset", "disable", "house"]);
    ben.json(["skillset", "remove", "house"]);
    ben.run(["skillset", "info", "house"]).failed(1);
    assert_eq!(ben.json(["chain", "verify"])["valid"], true);
}

#[test]
fn peers_are_shown_trusted_and_forgotten() {
    let (_ada, node) = host();
    let ben = Home::initialized();
    let met = ben.json(["meet", &node.url("")]);
    let id = met["agent"]["id"].as_str().unwrap();
    assert_eq!(ben.json(["peers", "show", id])["trust"], "met");
    assert_eq!(ben.json(["peers", "trust", id])["trust"], "trusted");
    assert!(
        ben.run(["peers", "show", id])
            .done()
            .contains("Trust: trusted")
    );
    assert!(ben.run(["peers", "list"]).done().contains(id));
    ben.run(["peers", "resolve", id, "--keep"]).failed(1);
    ben.run(["peers", "resolve", id]).failed(2);
    ben.json(["peers", "forget", id]);
    ben.run(["peers", "show", id]).failed(1);
    ben.run(["peers", "forget", id]).failed(1);
    assert_eq!(ben.json(["peers", "list"]), json!([]));
}

#[test]
fn what_agents_say_to_each_other_lands_in_the_inbox() {
    let (ada, node) = host();
    let ben = Home::initialized();
    let url = node.url("");
    assert_eq!(ben.json(["reflect", &url, "thank you"])["accepted"], true);
    ben.run([
        "message",
        &url,
        "request_skill",
        r#"{"description":"coffee"}"#,
    ])
    .done();
    ben.run(["message", &url, "dance"]).failed(1);
    ben.run(["message", &url, "reflect", "[]"]).failed(2);
    let inbox = ada.json(["inbox"]);
    let actions: Vec<_> = inbox
        .as_array()
        .unwrap()
        .iter()
        .map(|m| m["action"].as_str().unwrap())
        .collect();
    assert_eq!(actions, ["reflect", "request_skill"]);
    assert_eq!(
        (&inbox[0]["strength"], &inbox[0]["payload"]["reflection"]),
        (&json!("proven"), &json!("thank you"))
    );
    assert!(ada.run(["inbox", "list"]).done().contains("coffee"));
    assert_eq!(ada.json(["inbox", "clear"])["cleared"], 2);
    assert_eq!(ada.json(["inbox"]), json!([]));
    assert_eq!(
        ben.json(["reflect", &url, "still there?"])["accepted"],
        true
    );
    assert_eq!(ada.json(["inbox"]).as_array().unwrap().len(), 1);
}

#[test]
fn a_package_goes_through_a_pipe_or_a_saved_reply() {
    let (ada, node) = host();
    let ben = Home::initialized();
    let pipe = r#""$0" --data-dir "$1" skillset package house | "$0" --data-dir "$2" skillset install-archive"#;
    let through = |into: &Path| {
        let mut shell = without_settings("sh");
        let shell = shell
            .args(["-c", pipe])
            .arg(binary())
            .arg(ada.data_dir())
            .arg(into);
        shell.stdin(Stdio::null()).output().unwrap()
    };
    let done = through(&ben.data_dir());
    let said = String::from_utf8(done.stdout).unwrap();
    assert!(
        done.status.success()
            && said.contains("Installed SkillSet 'house' v1.0.0 [L1] from archive"),
        "{said}"
    );
    let again = through(&ben.data_dir());
    assert_eq!(again.status.code(), Some(1));

    let cleo = Home::initialized();
    let token = TestPeer::new("curl").session(&node);
    let body = json!({"name": "house"});
    let reply = Request::post("/meeting/v1/skillset_content")
        .token(&token)
        .json(&body)
        .send(&node);
    reply.ok();
    let saved = cleo.path().join("reply.json");
    fs::write(&saved, &reply.body).unwrap();
    let told = cleo.json([
        "skillset".as_ref(),
        "install-archive".as_ref(),
        saved.as_os_str(),
    ]);
    assert_eq!(told["success"], true);
    let hash = |home: &Home| home.json(["skillset", "info", "house"])["content_hash"].clone();
    assert_eq!((hash(&ben), hash(&cleo)), (hash(&ada), hash(&ada)));
    Call::new(["skillset", "install-archive"])
        .home(&cleo)
        .stdin("{")
        .run()
        .failed(1);
}

#[test]
fn what_is_shared_on_carries_the_path_it_came_and_stops_at_the_limit() {
    let (first, node) = host();
    let mut nodes = vec![node];
    let mut homes = vec![first];
    for hops in 1..=3 {
        let next = Home::initialized();
        for (kind, name) in [("skill", "tea"), ("skillset", "house")] {
            let id = acquire(&next, kind, nodes.last().unwrap(), name);
            next.json(["approve", "--yes", &id]);
            let told = next.json(["provenance", name]);
            let path = told["provenance"]["hops"].as_array().unwrap();
            let agents: Vec<_> = path
                .iter()
                .map(|hop| hop["instance_id"].as_str().unwrap())
                .collect();
            let expected: Vec<_> = homes.iter().map(instance_id).collect();
            assert_eq!(
                (hops, agents),
                (
                    expected.len(),
                    expected.iter().map(String::as_str).collect()
                ),
                "{name}"
            );
        }
        // Not offered before its owner says so.
        let node = TestNode::builder().home(&next).start();
        let offered = next_offers(&node);
        assert!(
            !offered.contains("tea") && !offered.contains("house"),
            "{offered}"
        );
        next.json(["skill", "share", "tea"]);
        next.json(["skillset", "enable", "house"]);
        kairos_tests::eventually("skill and SkillSet are offered", || {
            let offered = next_offers(&node);
            (offered.contains("tea") && offered.contains("house")).then_some(())
        });
        nodes.push(node);
        homes.push(next);
    }
    let last = Home::initialized();
    let url = nodes.last().unwrap().url("");
    for kind in ["skill", "skillset"] {
        let name = if kind == "skill" { "tea" } else { "house" };
        let said = last.run([kind, "acquire", &url, name]).failed(1);
        assert!(said.contains("handed on as often as it may be"), "{said}");
    }
    assert_eq!(last.json(["quarantine", "list"])["waiting"], json!([]));
    homes[1].json(["skill", "unshare", "tea"]);
    kairos_tests::eventually("the skill is not offered", || {
        (!next_offers(&nodes[1]).contains("tea")).then_some(())
    });
}

#[test]
fn what_gives_no_reason_to_ask_is_installed_at_once_if_the_owner_allows_it() {
    let (_ada, node) = host();
    let ben = Home::initialized();
    let at_once = |home: &Home, node: &TestNode, kind: &str, name: &str| {
        let url = node.url("");
        home.json([
            kind,
            "acquire",
            &url,
            name,
            "--set",
            "acquire.auto_install=true",
        ])
    };
    for (kind, name) in [("skill", "tea"), ("skillset", "house")] {
        let told = at_once(&ben, &node, kind, name);
        assert_eq!(told["name"], name, "{told}");
    }
    assert_eq!(ben.json(["quarantine", "list"])["waiting"], json!([]));
    let house = ben.json(["skillset", "info", "house"]);
    assert_eq!(house["enabled"], false, "never switched on by itself");
}

/// What anyone sees in the introduction of `node`.
fn next_offers(node: &TestNode) -> String {
    let told = Request::get("/meeting/v1/introduce").send(node).ok();
    format!("{}{}", told["skills"], told["exchangeable_skillsets"])
}

fn instance_id(home: &Home) -> String {
    let id = fs::read_to_string(home.data_dir().join("keys/instance_id")).unwrap();
    id.trim().to_owned()
}
