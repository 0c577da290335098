//! How real clients open and use a server, replayed against the binary. The first line of each file in `clients` says
//! whether it was recorded, or composed by what is public of that client's requests.

use kairos_tests::Home;
use serde_json::{Value, json};

use super::{Open, text};

pub(super) const CLIENTS: [(&str, &str); 9] = [
    ("claude-code", include_str!("clients/claude-code.jsonl")),
    ("codex", include_str!("clients/codex.jsonl")),
    ("cursor", include_str!("clients/cursor.jsonl")),
    ("cursor-old", include_str!("clients/cursor-old.jsonl")),
    ("inspector", include_str!("clients/inspector.jsonl")),
    (
        "python-sdk-auto",
        include_str!("clients/python-sdk-auto.jsonl"),
    ),
    (
        "python-sdk-legacy",
        include_str!("clients/python-sdk-legacy.jsonl"),
    ),
    (
        "python-sdk-stateless",
        include_str!("clients/python-sdk-stateless.jsonl"),
    ),
    ("vscode", include_str!("clients/vscode.jsonl")),
];

/// The answer to a request, whatever is told before it.
pub(super) fn answer(open: &mut Open, id: &Value) -> Value {
    loop {
        let said = open.receive();
        if said["id"] == *id && said.get("method").is_none() {
            return said;
        }
    }
}

#[test]
fn real_clients_are_understood() {
    for (name, lines) in CLIENTS {
        let (head, lines) = lines.split_once('\n').unwrap();
        assert!(
            head.starts_with("# Recorded: ") || head.starts_with("# Composed by "),
            "{name}: {head}"
        );
        let home = Home::initialized();
        let mut open = Open::on(&home);
        let mut verified = false;
        for line in lines.lines() {
            let message: Value = serde_json::from_str(line).unwrap();
            open.send(&message);
            let Some(id) = message.get("id") else {
                continue;
            };
            let said = answer(&mut open, id);
            assert!(said["error"].is_null(), "{name}: {line}: {said}");
            let result = &said["result"];
            let (method, params) = (&message["method"], &message["params"]);
            if method == "initialize" {
                assert_eq!(
                    result["protocolVersion"], params["protocolVersion"],
                    "{name}"
                );
            }
            if method == "tools/list" {
                assert!(
                    result["tools"].as_array().is_some_and(|all| all.len() > 50),
                    "{name}"
                );
            }
            if params["name"] == "chain_verify" {
                assert_ne!(result["isError"], json!(true), "{name}: {result}");
                assert!(
                    text(result).starts_with("Blockchain Integrity Verified"),
                    "{name}"
                );
                verified = true;
            }
        }
        assert!(verified, "{name}");
        assert!(open.end(), "{name}");
    }
}
