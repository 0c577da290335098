//! What can be read by name, completed, served as skills, and asked for as a guide.

use kairos_tests::Home;
use serde_json::{Value, json};

use super::Open;

const TEA: &str = "---\nname: tea\ndescription: How to serve tea\nversion: 1.0.0\ntags: [tea]\n---\n\nWarm the pot.\n";

fn open(home: &Home) -> Open {
    let mut open = Open::on(home);
    open.shake_hands("2025-11-25", &json!({}));
    open
}

fn with_tea() -> (Home, Open) {
    let home = Home::initialized();
    let mut open = open(&home);
    let made = open.call(
        "knowledge_update",
        &json!({"command": "create", "name": "tea", "content": TEA, "create_subdirs": true}),
    );
    assert_ne!(made["isError"], true, "{made}");
    std::fs::write(
        home.data_dir().join("knowledge/tea/assets/pot.bin"),
        [0_u8, 159, 146, 150],
    )
    .unwrap();
    (home, open)
}

fn read(open: &mut Open, uri: &str) -> Value {
    let answer = open.ask("resources/read", &json!({"uri": uri}));
    assert!(answer["error"].is_null(), "{uri}: {answer}");
    answer["result"]["contents"][0].clone()
}

#[test]
fn everything_that_is_listed_can_be_read() {
    let (_home, mut open) = with_tea();
    open.call(
        "context_save",
        &json!({"session_id": "s1", "name": "notes", "content": "# Notes\n"}),
    );
    let listed = open.ask("resources/list", &json!({}))["result"]["resources"].clone();
    let uris: Vec<_> = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|r| r["uri"].as_str().unwrap().to_owned())
        .collect();
    for uri in [
        "l0://kairos.md",
        "l0://kairos.rb",
        "knowledge://tea",
        "knowledge://tea/assets/pot.bin",
        "context://s1/notes",
    ] {
        assert!(uris.iter().any(|found| found == uri), "{uri}: {uris:?}");
    }
    for uri in &uris {
        assert_eq!(read(&mut open, uri)["uri"], json!(uri));
    }
    let tea = read(&mut open, "knowledge://tea");
    assert_eq!(tea["text"], TEA);
    assert_eq!(
        tea["_meta"]["io.github.kairos-chain"]["tier"], "own",
        "{tea}"
    );
    assert_eq!(
        read(&mut open, "knowledge://tea/assets/pot.bin")["blob"],
        "AJ+Slg=="
    );
    let block: Value = serde_json::from_str(
        read(&mut open, "ledger://block/1")["text"]
            .as_str()
            .unwrap(),
    )
    .unwrap();
    assert_eq!(block["index"], 1);
    assert!(
        read(&mut open, "ledger://proof/1")["text"]
            .as_str()
            .unwrap()
            .contains("c2sp.org"),
        "a proof"
    );
    for uri in [
        "file:///etc/passwd",
        "knowledge://../x",
        "ledger://block/99",
        "ledger://x",
        "skillset://none",
        "skill://tea/x/SKILL.md",
        "",
        "skill://tea/tea/../SKILL.md",
    ] {
        let answer = open.ask("resources/read", &json!({"uri": uri}));
        assert_eq!(answer["error"]["code"], -32002, "{uri}: {answer}");
    }
}

#[test]
fn names_are_completed() {
    let (_home, mut open) = with_tea();
    let mut complete = |reference: Value, name: &str, value: &str| {
        let params = json!({"ref": reference, "argument": {"name": name, "value": value}});
        open.ask("completion/complete", &params)
    };
    let template = json!({"type": "ref/resource", "uri": "knowledge://{name}"});
    assert_eq!(
        complete(template, "name", "te")["result"]["completion"]["values"],
        json!(["tea"])
    );
    let prompt = json!({"type": "ref/prompt", "name": "explain_history"});
    assert_eq!(
        complete(prompt.clone(), "name", "x")["result"]["completion"]["values"],
        json!([])
    );
    assert_eq!(complete(prompt, "nothing", "")["error"]["code"], -32602);
    let unknown = json!({"type": "ref/prompt", "name": "nothing"});
    assert_eq!(complete(unknown, "name", "")["error"]["code"], -32602);
}

#[test]
fn skills_come_with_the_digests_of_their_files() {
    let (home, mut open) = with_tea();
    let listed = open.ask("skills/list", &json!({}));
    let skills = listed["result"]["skills"]
        .as_array()
        .unwrap_or_else(|| panic!("{listed}"));
    let tea = skills
        .iter()
        .find(|skill| skill["frontmatter"]["name"] == "tea")
        .unwrap();
    assert_eq!(tea["uri"], "skill://tea/tea/SKILL.md");
    let got = open.ask("skills/get", &json!({"uri": tea["uri"]}))["result"]["skill"].clone();
    assert_eq!(got["resources"], tea["resources"]);
    for file in got["resources"].as_array().unwrap() {
        let contents = read(&mut open, file["uri"].as_str().unwrap());
        let bytes = match contents["text"].as_str() {
            Some(text) => text.as_bytes().to_vec(),
            None => base64(contents["blob"].as_str().unwrap()),
        };
        assert_eq!(file["size"], bytes.len(), "{file}");
        let digest = kairos_protocol::hash::ContentHash::of(&bytes).to_hex();
        assert_eq!(file["digest"], format!("sha256:{digest}"), "{file}");
    }
    // It leaves with who signed for it, and with the proof that the ledger has its hash.
    let said = &got["_meta"]["io.github.kairos-chain"];
    assert_eq!(said["tier"], "own", "{got}");
    assert!(said["provenance"].is_object(), "{said}");
    let proof = home.path().join("proof");
    std::fs::write(&proof, said["ledger"]["proof"].as_str().unwrap()).unwrap();
    assert_eq!(
        home.json(["chain", "verify-proof", proof.to_str().unwrap()])["valid"],
        true
    );
    for uri in [
        "skill://nothing/nothing/SKILL.md",
        "skill://tea/tea/README.md",
        "file:///SKILL.md",
    ] {
        let answer = open.ask("skills/get", &json!({"uri": uri}));
        assert_eq!(answer["error"]["code"], -32602, "{uri}: {answer}");
    }
}

#[test]
fn directories_of_skills_are_listed() {
    let (home, mut open) = with_tea();
    let folder = home.data_dir().join("knowledge/tea/references");
    std::fs::create_dir_all(folder.join("deep")).unwrap();
    std::fs::write(folder.join("pots.md"), "# Pots\n").unwrap();
    std::fs::write(folder.join("deep/lid.md"), "# Lids\n").unwrap();
    let mut list = |uri: &str| {
        let answer = open.ask("resources/directory/read", &json!({"uri": uri}));
        let found = answer["result"]["resources"].as_array().map(|found| {
            let told = |one: &Value| format!("{} {}", one["uri"], one["mimeType"]).replace('"', "");
            found.iter().map(told).collect::<Vec<_>>()
        });
        found.ok_or(answer["error"]["code"].clone())
    };
    assert_eq!(
        list("skill://tea/tea").unwrap(),
        [
            "skill://tea/tea/.agent-skill.json application/json",
            "skill://tea/tea/SKILL.md text/markdown",
            "skill://tea/tea/assets inode/directory",
            "skill://tea/tea/references inode/directory"
        ]
    );
    assert_eq!(list("skill://tea/tea"), list("skill://tea/tea/"));
    assert_eq!(
        list("skill://tea/tea/references").unwrap(),
        [
            "skill://tea/tea/references/deep inode/directory",
            "skill://tea/tea/references/pots.md text/markdown"
        ]
    );
    for uri in [
        "skill://tea/tea/SKILL.md",
        "skill://tea/tea/ref",
        "skill://tea/te",
        "skill://tea/tea/..",
        "skill://tea",
        "skill://none/none",
        "knowledge://tea",
        "",
    ] {
        assert_eq!(list(uri), Err(json!(-32602)), "{uri}");
    }
}

fn base64(text: &str) -> Vec<u8> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD
        .decode(text)
        .unwrap()
}

#[test]
fn guides_take_their_arguments_and_no_others() {
    let home = Home::initialized();
    let mut open = open(&home);
    let listed = open.ask("prompts/list", &json!({}))["result"]["prompts"].clone();
    insta::assert_json_snapshot!(listed);
    let got = open.ask(
        "prompts/get",
        &json!({"name": "start_session", "arguments": {"topic": "tea {x}"}}),
    );
    assert!(
        got["result"]["messages"][0]["content"]["text"]
            .as_str()
            .unwrap()
            .contains("about: tea {x}"),
        "{got}"
    );
    for params in [
        json!({"name": "start_session"}),
        json!({"name": "start_session", "arguments": {"topic": 1}}),
        json!({"name": "start_session", "arguments": {"topic": "x", "more": "y"}}),
        json!({"name": "nothing"}),
    ] {
        assert_eq!(
            open.ask("prompts/get", &params)["error"]["code"],
            -32602,
            "{params}"
        );
    }
}

#[test]
fn long_lists_come_page_by_page() {
    let home = Home::initialized();
    for n in 0..150 {
        home.skill(&format!("entry_{n:03}"), "# Entry\n");
    }
    let mut open = open(&home);
    let first = open.ask("resources/list", &json!({}))["result"].clone();
    assert_eq!(first["resources"].as_array().unwrap().len(), 100);
    let second =
        open.ask("resources/list", &json!({"cursor": first["nextCursor"]}))["result"].clone();
    assert!(
        second["nextCursor"].is_null() && second["resources"].as_array().unwrap().len() > 50,
        "{second}"
    );
    assert_eq!(
        open.ask("resources/list", &json!({"cursor": "nowhere"}))["error"]["code"],
        -32602
    );
}
