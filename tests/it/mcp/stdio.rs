//! One message a line, whoever sends them.

use kairos_tests::{Call, Home};
use serde_json::{Value, json};

use super::{Open, answers, call, meta, pipe, request};

#[test]
fn a_single_request_without_a_handshake_is_answered() {
    let home = Home::initialized();
    home.run(["chain", "record", "one"]).done();
    let line = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"chain_verify","arguments":{}}}"#;
    let answers = answers(&home, &format!("{line}\n"));
    assert_eq!(answers.len(), 1, "{answers:?}");
    let text = answers[0]["result"]["content"][0]["text"].as_str().unwrap();
    assert_eq!(text, "Blockchain Integrity Verified: OK (Length: 2)");
    // The last line needs no end.
    assert_eq!(super::answers(&home, line), answers);
}

#[test]
fn garbage_is_answered_and_ends_nothing() {
    let home = Home::initialized();
    let lines = [
        "garbage".to_owned(),
        String::new(),
        "[1,2".to_owned(),
        "{}".to_owned(),
        r#"{"jsonrpc":"2.0","method":"notifications/nonsense"}"#.to_owned(),
        "\u{0}\u{1}".to_owned(),
        r#"{"jsonrpc":"2.0","id":"x","result":{}}"#.to_owned(),
        request(1, "no/such/method", &json!({})).to_string(),
        request(2, "tools/call", &json!({"name": 5})).to_string(),
        request(3, "tools/call", &json!({"name": "no_such_tool"})).to_string(),
        "x".repeat(17 * 1024 * 1024),
        call(4, "hello_world", &json!({})).to_string(),
    ];
    let answers = answers(&home, &(lines.join("\n") + "\n"));
    let codes: Vec<_> = answers
        .iter()
        .filter(|a| a["id"].is_null())
        .map(|a| a["error"]["code"].clone())
        .collect();
    assert_eq!(
        codes,
        [-32700, -32700, -32600, -32700, -32600],
        "{answers:?}"
    );
    let of = |id: u64| answers.iter().find(|answer| answer["id"] == id).unwrap();
    assert_eq!(of(1)["error"]["code"], -32601);
    assert_eq!(of(2)["error"]["code"], -32602);
    assert_eq!(of(3)["error"]["code"], -32602);
    assert!(
        of(3)["error"]["message"]
            .as_str()
            .unwrap()
            .contains("Tool not found: no_such_tool")
    );
    let greeting = of(4)["result"]["content"][0]["text"].as_str().unwrap();
    assert_eq!(greeting, "Hello, World! This is KairosChain MCP Server.");
}

#[test]
fn it_ends_with_its_input_and_says_nothing_beside_the_protocol() {
    let home = Home::initialized();
    let ended = pipe(&home, "");
    assert_eq!(ended.stdout, "");
    ended.done();
    let ended = pipe(&home, &format!("{}\n", request(1, "ping", &json!({}))));
    assert_eq!(ended.stdout.lines().count(), 1);
    assert_eq!(ended.stderr, "");
}

#[test]
fn a_missing_data_directory_is_made() {
    let home = Home::new();
    let ended = pipe(&home, &format!("{}\n", call(1, "chain_status", &json!({}))));
    assert!(ended.stderr.contains("not initialized"), "{}", ended.stderr);
    assert!(home.data_dir().join("skills/kairos.rb").exists());
    ended.done();
}

#[test]
fn every_revision_with_a_handshake_is_agreed_on() {
    let home = Home::initialized();
    for version in ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"] {
        let mut open = Open::on(&home);
        let hello = open.shake_hands(version, &json!({}));
        assert_eq!(hello["protocolVersion"], version);
        assert_eq!(hello["serverInfo"]["name"], "kairos-chain");
        assert!(
            hello["instructions"].as_str().unwrap().len() > 100,
            "{hello}"
        );
        assert!(open.ask("ping", &json!({}))["result"].is_object());
        assert!(open.end());
    }
    // One that nobody knows gets one that we do.
    let mut open = Open::on(&home);
    assert_eq!(
        open.shake_hands("1999-01-01", &json!({}))["protocolVersion"],
        "2025-11-25"
    );
    assert!(open.end());
}

#[test]
fn the_stateless_revision_needs_no_handshake() {
    let home = Home::initialized();
    let mut open = Open::on(&home);
    let found = open.ask("server/discover", &json!({"_meta": meta(&json!({}))}))["result"].clone();
    let versions = found["supportedVersions"].as_array().unwrap();
    assert!(
        versions.contains(&json!("2026-07-28")) && versions.contains(&json!("2025-11-25")),
        "{found}"
    );
    let params = json!({"_meta": meta(&json!({})), "name": "chain_verify", "arguments": {}});
    let done = open.ask("tools/call", &params);
    assert_eq!(done["result"]["resultType"], "complete", "{done}");
    // What it must carry is asked for, and what is gone is gone.
    let bare = json!({"_meta": {"io.modelcontextprotocol/protocolVersion": "2026-07-28"}});
    assert_eq!(open.ask("tools/list", &bare)["error"]["code"], -32602);
    assert_eq!(
        open.ask("ping", &json!({"_meta": meta(&json!({}))}))["error"]["code"],
        -32601
    );
    for gone in ["initialize", "logging/setLevel", "resources/subscribe"] {
        let params = json!({"_meta": meta(&json!({}))});
        assert_eq!(open.ask(gone, &params)["error"]["code"], -32601, "{gone}");
    }
    let mut unknown = meta(&json!({}));
    unknown["io.modelcontextprotocol/protocolVersion"] = json!("2199-01-01");
    assert!(open.ask("tools/list", &json!({"_meta": unknown}))["error"].is_object());
    assert!(open.end());
}

#[test]
fn two_programs_and_a_node_share_one_directory() {
    let home = Home::initialized();
    let node = kairos_tests::TestNode::builder()
        .data_dir(home.data_dir())
        .start();
    let (mut one, mut two) = (Open::on(&home), Open::on(&home));
    for round in 0..5 {
        for (open, who) in [(&mut one, "one"), (&mut two, "two")] {
            let name = format!("{who}_{round}");
            let content =
                format!("---\nname: {name}\ndescription: of {who}\n---\n\nText {round}.\n");
            let made = open.call(
                "knowledge_update",
                &json!({"command": "create", "name": name, "content": content}),
            );
            assert_eq!(made["structuredContent"]["action"], "create", "{made}");
        }
    }
    for open in [&mut one, &mut two] {
        let verified = open.call("chain_verify", &json!({}));
        assert_eq!(verified["structuredContent"]["length"], 11, "{verified}");
        let list = open.call("knowledge_list", &json!({"search": "of two"}));
        assert_eq!(
            list["structuredContent"]["knowledge"]
                .as_array()
                .unwrap()
                .len(),
            5,
            "{list}"
        );
    }
    assert!(one.end() && two.end());
    assert!(node.stop().success());
}

#[test]
fn a_terminal_gets_help_where_a_pipe_is_served() {
    // The tests have no terminal; the words for one are those of `--help`.
    let home = Home::initialized();
    let help = home.run(["--help"]).done();
    assert!(
        help.contains("Let a language model use this agent (MCP)"),
        "{help}"
    );
}

#[test]
fn the_role_over_stdio_is_the_owners_to_say() {
    let home = Home::initialized();
    let names = |role: &str| -> Vec<String> {
        let mut open = Open::with(
            Call::new(["--set", &format!("mcp.stdio_role={role}"), "mcp", "serve"]).home(&home),
        );
        open.shake_hands("2025-11-25", &json!({}));
        let list = open.ask("tools/list", &json!({}));
        let tools = list["result"]["tools"].as_array().unwrap();
        let names = tools
            .iter()
            .map(|tool| tool["name"].as_str().unwrap().to_owned());
        names.collect()
    };
    let (guest, member, owner) = (names("guest"), names("member"), names("owner"));
    assert!(
        guest.iter().all(|name| member.contains(name))
            && member.iter().all(|name| owner.contains(name))
    );
    assert!(
        !guest.contains(&"chain_record".to_owned()) && member.contains(&"chain_record".to_owned())
    );
    assert!(
        !member.contains(&"token_manage".to_owned()) && owner.contains(&"token_manage".to_owned())
    );
    // What is not listed is not done either.
    let mut open =
        Open::with(Call::new(["--set", "mcp.stdio_role=guest", "mcp", "serve"]).home(&home));
    let refused = open.call("chain_record", &json!({"logs": ["x"]}));
    assert_eq!(refused["isError"], true);
    assert!(
        refused["content"][0]["text"]
            .as_str()
            .unwrap()
            .contains("record needs the role member"),
        "{refused}"
    );
    let refused: Value = open.call(
        "knowledge_update",
        &json!({"command": "delete", "name": "tea"}),
    );
    assert_eq!(refused["isError"], true);
}
