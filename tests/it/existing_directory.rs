//! A data directory that the Ruby system made is opened as it is.

use std::fs;
use std::path::Path;

use kairos_tests::{Home, Request, TestNode, TestPeer};
use serde_json::json;

const LEDGER: &str = include_str!("../../protocol/tests/fixtures/vectors/blockchain-3.json");
const MEETING: &str = "---\nenabled: true\nidentity:\n  name: Ruby Agent\n  description: An older agent\n  scope: tea\n\
    skill_exchange:\n  public_by_default: true\n  allowed_formats:\n  - markdown\n  - yaml_frontmatter\n\
    skillset_exchange:\n  enabled: true\n  knowledge_only: true\n  auto_install: false\nconstraints:\n  rate_limit_per_minute: 10\n\
    http_server:\n  enabled: true\n  port: 8080\nencryption:\n  enabled: true\n";

/// What the Ruby system leaves behind, as far as meeting needs it. Its key has the mode it gives it.
fn made_by_the_reference(owner: &TestPeer, friend: &TestPeer) -> Home {
    let home = Home::new();
    let key = owner.keypair.to_pem().unwrap().to_string();
    let peers = json!([{
        "id": "89ce3daa396ae8f8", "name": "Friend", "url": "http://192.0.2.7:8080", "last_seen": "2026-02-20T12:00:00Z",
        "extensions": ["introduce"], "added_at": "2026-02-20T12:00:00Z", "public_key": friend.signed.public_key, "verified": true,
    }]);
    let tool_set = r#"{"name":"mmp","version":"1.0.0","layer":"L1","description":"Meeting","author":"Ruby","tool_classes":["X"]}"#;
    for (path, text) in [
        (
            "skills/kairos.rb",
            "skill :core do\n  version \"1.0\"\nend\n",
        ),
        ("skills/kairos.md", "# Kairos\n"),
        (
            "skills/config.yml",
            "---\nevolution_enabled: false\nhttp:\n  host: 0.0.0.0\n  port: 8080\n",
        ),
        ("config/safety.yml", "---\n{}\n"),
        (
            "knowledge/my_protocol/my_protocol.md",
            "---\nname: my_protocol\ndescription: A custom protocol\n---\n\nHello.\n",
        ),
        ("knowledge/diary/diary.md", "---\npublic: false\n---\n"),
        ("storage/blockchain.json", LEDGER),
        (
            "skillsets/config.yml",
            "---\nskillsets:\n  mmp:\n    enabled: true\n    layer: L1\n",
        ),
        ("skillsets/mmp/skillset.json", tool_set),
        ("skillsets/mmp/tools/x.rb", "class X; end\n"),
        ("skillsets/mmp/config/meeting.yml", MEETING),
        ("keys/mmp_keypair.pem", &key),
        ("keys/mmp_keypair.pem.pub", &owner.signed.public_key),
        ("peers.json", &serde_json::to_string_pretty(&peers).unwrap()),
        ("context/session_1/note/note.md", "# A note\n"),
    ] {
        let path = home.data_dir().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    home
}

#[test]
fn opens_unchanged_and_goes_on_from_there() {
    let (owner, friend) = (TestPeer::new("owner"), TestPeer::new("friend"));
    let home = made_by_the_reference(&owner, &friend);
    let before = home.files();
    let node = TestNode::builder()
        .home(&home)
        .arg("--host")
        .arg("127.0.0.1")
        .start();
    let introduced = Request::get("/meeting/v1/introduce").send(&node).ok();
    assert_eq!(introduced["identity"]["name"], "Ruby Agent");
    assert_eq!(
        introduced["public_key"],
        owner.signed.public_key.as_str(),
        "it keeps its key"
    );
    let skills = introduced["skills"].as_array().unwrap();
    assert_eq!(skills.len(), 1, "{introduced}");
    assert_eq!(
        (&skills[0]["name"], &skills[0]["id"]),
        (&json!("my_protocol"), &json!("5d11fd8f426316f5"))
    );
    assert_eq!(introduced["exchangeable_skillsets"], json!([]));

    let verified = home.json(["chain", "verify"]);
    assert_eq!(
        (&verified["valid"], &verified["length"]),
        (&json!(true), &json!(3))
    );
    assert_eq!(
        home.json(["skillset", "list"])["skillsets"][0]["name"],
        "mmp"
    );
    let known = home.json(["peers", "show", "89ce3daa396ae8f8"]);
    assert_eq!(known["public_key"], friend.signed.public_key.as_str());
    let newcomer = Home::initialized();
    newcomer.json(["meet", &node.url("")]);
    home.json(["config", "check"]);
    node.stop();
    let after = home.files();
    for (path, bytes) in &before {
        assert_eq!(after.get(path), Some(bytes), "{}", path.display());
    }

    // What is added to the ledger leaves what was there.
    home.run([
        "skillset".as_ref(),
        "install".as_ref(),
        home.skill_set("house").as_os_str(),
    ])
    .done();
    let ledger = fs::read_to_string(home.data_dir().join("storage/blockchain.json")).unwrap();
    let old = LEDGER.trim_end().trim_end_matches(']').trim_end();
    assert!(ledger.starts_with(old) && ledger.len() > LEDGER.len());
    assert_eq!(home.json(["chain", "verify"])["length"], 4);
    let registry = fs::read_to_string(home.data_dir().join("skillsets/config.yml")).unwrap();
    assert!(
        registry.contains("mmp") && registry.contains("house"),
        "{registry}"
    );
    let init = home.json(["init"]);
    assert_eq!(init["was_initialized"], true, "{init}");
    for (path, bytes) in &before {
        let grew = [
            Path::new("storage/blockchain.json"),
            Path::new("skillsets/config.yml"),
        ];
        if !grew.contains(&path.as_path()) {
            assert_eq!(home.files().get(path), Some(bytes), "{}", path.display());
        }
    }
}

#[test]
fn a_ledger_that_cannot_be_read_is_never_replaced() {
    let home = Home::initialized();
    let set = home.skill_set("house");
    let ledger = home.data_dir().join("storage/blockchain.json");
    for damaged in ["", "{", "[]", "[{\"index\":0}]", "{}", "\u{0}\u{0}"] {
        fs::write(&ledger, damaged).unwrap();
        let install = ["skillset".as_ref(), "install".as_ref(), set.as_os_str()];
        let error = home.run(install).failed(1);
        assert!(
            error.contains("ledger") || error.contains("chain"),
            "{damaged:?}: {error}"
        );
        assert_eq!(fs::read_to_string(&ledger).unwrap(), damaged);
        assert!(
            !home.data_dir().join("skillsets/house").exists(),
            "{damaged:?}"
        );
        home.run(["chain", "verify"]).failed(1);
    }
    // A block that was changed by hand is found.
    let tampered = LEDGER.replace("plain log line", "plain lag line");
    fs::write(&ledger, &tampered).unwrap();
    let told = home.run(["--json", "chain", "verify"]);
    assert_eq!(told.code, 1);
    assert!(told.stdout.contains("\"valid\": false"), "{}", told.stdout);
    assert_eq!(fs::read_to_string(&ledger).unwrap(), tampered);
}
