//! What tools there are, what they take, and what they say.

use std::collections::BTreeMap;

use kairos_tests::Home;
use serde_json::{Value, json};

use super::{Open, data, refused, text, tool};

pub(super) fn listed(home: &Home) -> Vec<Value> {
    let mut open = Open::on(home);
    open.shake_hands("2025-11-25", &json!({}));
    let (mut tools, mut cursor) = (Vec::new(), None::<Value>);
    loop {
        let params = cursor
            .take()
            .map_or(json!({}), |cursor| json!({"cursor": cursor}));
        let page = open.ask("tools/list", &params)["result"].clone();
        tools.extend(page["tools"].as_array().unwrap().iter().cloned());
        match page.get("nextCursor") {
            Some(next) => cursor = Some(next.clone()),
            None => return tools,
        }
    }
}

#[test]
fn the_list_is_as_it_was_shown() {
    let tools = listed(&Home::initialized());
    insta::assert_json_snapshot!(tools);
}

/// What a tool takes beyond what the reference takes; optional.
const MORE: [(&str, &str); 1] = [("definition_verify", "context")];

#[test]
fn tools_of_the_reference_keep_their_names_and_parameters() {
    let text = include_str!("../../fixtures/vectors/mcp-tools-list-v2.2.0.json");
    let reference: Value = serde_json::from_str(text).unwrap();
    let ours = listed(&Home::initialized());
    let ours: BTreeMap<_, _> = ours
        .iter()
        .map(|tool| (tool["name"].as_str().unwrap(), &tool["inputSchema"]))
        .collect();
    let mut absent = Vec::new();
    for theirs in reference["tools"].as_array().unwrap() {
        let name = theirs["name"].as_str().unwrap();
        let Some(schema) = ours.get(name) else {
            absent.push(name);
            continue;
        };
        let none = serde_json::Map::new();
        let theirs = &theirs["inputSchema"];
        let wanted = theirs["properties"].as_object().unwrap_or(&none);
        for (member, of) in wanted {
            let here = &schema["properties"][member];
            assert_eq!(here["type"], of["type"], "{name}.{member}: {here}");
            if let Some(words) = of["enum"].as_array() {
                for word in words {
                    assert!(
                        here["enum"].as_array().unwrap().contains(word),
                        "{name}.{member}: {word}"
                    );
                }
            }
        }
        let members = schema["properties"].as_object().unwrap();
        let known = |member: &String| {
            wanted.contains_key(member) || MORE.contains(&(name, member.as_str()))
        };
        assert!(members.keys().all(known), "{name} takes more: {members:?}");
        let sorted = |list: &Value| {
            let mut names: Vec<_> = list
                .as_array()
                .into_iter()
                .flatten()
                .map(ToString::to_string)
                .collect();
            names.sort();
            names
        };
        assert_eq!(
            sorted(&schema["required"]),
            sorted(&theirs["required"]),
            "{name}"
        );
    }
    assert!(absent.is_empty(), "{absent:?}");
}

#[test]
fn every_tool_says_what_it_is_and_refuses_what_it_does_not_take() {
    let home = Home::initialized();
    let mut open = Open::on(&home);
    open.shake_hands("2025-11-25", &json!({}));
    for tool in listed(&home) {
        let name = tool["name"].as_str().unwrap();
        let hints = &tool["annotations"];
        for hint in [
            "readOnlyHint",
            "destructiveHint",
            "idempotentHint",
            "openWorldHint",
        ] {
            assert!(hints[hint].is_boolean(), "{name}: {hint}");
        }
        assert!(tool["description"].as_str().unwrap().len() > 30, "{name}");
        assert_eq!(tool["inputSchema"]["additionalProperties"], false, "{name}");
        assert_eq!(tool["outputSchema"]["type"], "object", "{name}");
        let result = open.call(name, &json!({"no_such_argument": 1}));
        assert_eq!(result["isError"], true, "{name}: {result}");
        assert!(
            text(&result).contains("no_such_argument"),
            "{name}: {result}"
        );
        // Wrong types for what it does take.
        for (member, of) in tool["inputSchema"]["properties"].as_object().unwrap() {
            let wrong = if of["type"] == "object" {
                json!("text")
            } else {
                json!({"a": 1})
            };
            if of.get("type").is_none() {
                continue;
            }
            let result = open.call(name, &json!({ member: wrong }));
            assert_eq!(result["isError"], true, "{name}.{member}: {result}");
        }
    }
}

#[test]
fn what_a_tool_gives_fits_what_it_promised() {
    let home = Home::initialized();
    let mut open = Open::on(&home);
    open.shake_hands("2025-11-25", &json!({}));
    let schemas: BTreeMap<_, _> = listed(&home)
        .into_iter()
        .map(|tool| {
            (
                tool["name"].as_str().unwrap().to_owned(),
                tool["outputSchema"].clone(),
            )
        })
        .collect();
    let tea = "---\nname: tea\ndescription: How to serve tea\ntags: [tea]\n---\n\nWarm the pot.\n";
    for (name, arguments) in [
        ("hello_world", json!({"name": "Ada"})),
        (
            "knowledge_update",
            json!({"command": "create", "name": "tea", "content": tea, "create_subdirs": true}),
        ),
        (
            "knowledge_update",
            json!({"command": "update", "name": "tea", "content": format!("{tea}Wait.\n")}),
        ),
        ("knowledge_list", json!({})),
        (
            "knowledge_get",
            json!({"name": "tea", "include_assets": true}),
        ),
        (
            "context_save",
            json!({"name": "notes", "content": "# Notes\n", "session_id": "s1"}),
        ),
        (
            "context_create_subdir",
            json!({"name": "notes", "session_id": "s1", "subdir": "assets"}),
        ),
        (
            "skills_promote",
            json!({
                "command": "promote", "source_name": "notes", "from_layer": "L2", "to_layer": "L1", "session_id": "s1",
            }),
        ),
        ("skills_promote", json!({"command": "status"})),
        (
            "skills_audit",
            json!({"command": "check", "include_archived": true, "with_assembly": true}),
        ),
        ("skills_audit", json!({"command": "recommend"})),
        ("resource_list", json!({})),
        ("resource_read", json!({"uri": "knowledge://tea"})),
        ("resource_read", json!({"uri": "l0://kairos.md"})),
        ("search", json!({"query": "pot"})),
        ("skills_list", json!({})),
        ("skills_get", json!({"section_id": "philosophy-001"})),
        ("skills_dsl_list", json!({})),
        ("skills_dsl_get", json!({"skill_id": "core_safety"})),
        ("definition_verify", json!({"skill_id": "core_safety"})),
        ("definition_decompile", json!({"skill_id": "core_safety"})),
        ("definition_drift", json!({"skill_id": "core_safety"})),
        ("tool_guide", json!({"command": "catalog"})),
        (
            "tool_guide",
            json!({"command": "validate", "metadata": {"category": "x"}}),
        ),
        ("system_upgrade", json!({"command": "preview"})),
        ("instructions_update", json!({"command": "status"})),
        (
            "chain_record",
            json!({"logs": ["a", "{\"type\":\"state_commit\"}"]}),
        ),
        ("chain_status", json!({})),
        ("chain_verify", json!({})),
        ("chain_history", json!({})),
        (
            "chain_history",
            json!({"format": "json", "type": "knowledge_update"}),
        ),
        ("chain_prove", json!({"index": 1})),
        ("chain_export", json!({"output_dir": "spring"})),
        (
            "formalization_record",
            json!({
                "skill_id": "x", "skill_version": "1", "source_text": "t", "result": "formalized", "rationale": "r",
                "formalization_category": "rule", "confidence": 0.5,
            }),
        ),
        ("formalization_history", json!({"skill_id": "x"})),
        ("state_status", json!({})),
        ("state_commit", json!({"reason": "test"})),
        ("state_history", json!({})),
        ("state_status", json!({})),
        ("token_manage", json!({"command": "list"})),
        ("approvals_list", json!({})),
        ("peer_list", json!({})),
        ("inbox_read", json!({})),
        ("place_list", json!({})),
        ("meeting_disconnect", json!({})),
        ("meeting_place_status", json!({"include_agents": true})),
        ("chain_migrate_status", json!({})),
        (
            "chain_migrate_execute",
            json!({"target_stage": 1, "dry_run": true}),
        ),
        (
            "philosophy_anchor",
            json!({"philosophy_type": "exchange", "content": "we share"}),
        ),
        (
            "record_observation",
            json!({
                "observed_id": "ben", "observation_type": "completed", "interaction_data": "we met",
            }),
        ),
        ("place_mail", json!({})),
        (
            "knowledge_update",
            json!({"command": "delete", "name": "tea"}),
        ),
    ] {
        let result = open.call(name, &arguments);
        assert_ne!(
            result["isError"],
            json!(true),
            "{name} {arguments}: {result}"
        );
        fits(&schemas[name], &result["structuredContent"])
            .unwrap_or_else(|why| panic!("{name}: {why}: {result}"));
        assert!(!text(&result).is_empty(), "{name}");
    }
    assert!(open.end());
}

/// Whether a value is as a schema says, for the few words that our schemas are made of. Fails at words it does not
/// know.
fn fits(schema: &Value, value: &Value) -> Result<(), String> {
    let schema = schema.as_object().ok_or("a schema is an object")?;
    for (word, of) in schema {
        match word.as_str() {
            "description" | "title" => {}
            "minimum" => {
                if value
                    .as_f64()
                    .is_some_and(|number| number < of.as_f64().unwrap_or(f64::MIN))
                {
                    return Err(format!("{value} is below {of}"));
                }
            }
            "enum" | "const" => {
                let all = of.as_array().cloned().unwrap_or_else(|| vec![of.clone()]);
                if !all.contains(value) {
                    return Err(format!("{value} is not among {all:?}"));
                }
            }
            "type" => {
                let all = of.as_array().cloned().unwrap_or_else(|| vec![of.clone()]);
                if !all
                    .iter()
                    .any(|one| is(one.as_str().unwrap_or_default(), value))
                {
                    return Err(format!("{value} is not {of}"));
                }
            }
            "properties" => {
                for (name, of) in of.as_object().ok_or("properties are an object")? {
                    if let Some(member) = value.get(name) {
                        fits(of, member).map_err(|why| format!("{name}: {why}"))?;
                    }
                }
                let unknown = value.as_object().and_then(|members| {
                    members.keys().find(|name| of.get(name.as_str()).is_none())
                });
                let open = schema.get("additionalProperties") == Some(&json!(true));
                if let Some(unknown) = unknown.filter(|_| !open) {
                    return Err(format!("`{unknown}` was not promised"));
                }
            }
            "required" => {
                for name in of
                    .as_array()
                    .into_iter()
                    .flatten()
                    .filter_map(Value::as_str)
                {
                    if value.is_object() && value.get(name).is_none() {
                        return Err(format!("`{name}` is missing"));
                    }
                }
            }
            "items" => {
                for item in value.as_array().into_iter().flatten() {
                    fits(of, item)?;
                }
            }
            "anyOf" => {
                let fits_one = of
                    .as_array()
                    .into_iter()
                    .flatten()
                    .any(|of| fits(of, value).is_ok());
                if !fits_one {
                    return Err(format!("{value} fits none of {of}"));
                }
            }
            "additionalProperties" => {}
            other => return Err(format!("this test does not know `{other}`")),
        }
    }
    Ok(())
}

fn is(kind: &str, value: &Value) -> bool {
    match kind {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => false,
    }
}

#[test]
fn texts_that_programs_parse_are_those_of_the_reference() {
    let home = Home::initialized();
    let said = tool(&home, "chain_record", &json!({"logs": ["hello"]}));
    assert!(
        text(&said).starts_with("Block #1 recorded successfully.\nHash: "),
        "{said}"
    );
    let said = tool(&home, "chain_history", &json!({}));
    let lines: Vec<_> = text(&said).lines().collect();
    assert_eq!(lines[..3], ["Blockchain History", &"=".repeat(50), ""]);
    assert_eq!(lines[3], "Block #1 (unknown)");
    assert!(lines[4].starts_with("  Hash: ") && lines[4].ends_with("..."));
    assert!(lines[5].starts_with("  Time: ") && lines[5].ends_with(" UTC"));
    assert_eq!(*lines.last().unwrap(), "Total: 2 blocks shown");
    assert!(lines.contains(&"Block #0 (genesis)") && lines.contains(&"  Data: Genesis Block"));
    let status: Value =
        serde_json::from_str(text(&tool(&home, "chain_status", &json!({})))).unwrap();
    assert_eq!(
        (&status["valid"], &status["length"]),
        (&json!(true), &json!(2))
    );
    assert_eq!(status["storage"]["backend"], "file");
    let said = tool(&home, "state_commit", &json!({"reason": "first"}));
    let said = text(&said);
    assert!(
        said.starts_with("SUCCESS: State commit created\n\nCommit Details:\n  Hash: "),
        "{said}"
    );
    assert!(
        said.lines()
            .last()
            .unwrap()
            .starts_with("  Snapshot: snapshots/"),
        "{said}"
    );
    assert!(
        refused(&home, "state_commit", &json!({"reason": "again"}))
            .starts_with("FAILED: No changes since last commit")
    );
    let said = tool(&home, "state_status", &json!({}));
    for line in [
        "State Commit Status",
        "Enabled: Yes",
        "  Has Changes: No",
        "  (No pending changes)",
        "    L1 changes: 0/5",
        "Snapshots: 1 stored",
    ] {
        assert!(
            text(&said).lines().any(|found| found == line),
            "{line}: {said}"
        );
    }
    let said = tool(
        &home,
        "knowledge_update",
        &json!({"command": "create", "name": "tea", "content": "# Tea\n"}),
    );
    for part in [
        "SUCCESS: Knowledge created",
        "**Hash:** ",
        "Change recorded to blockchain (hash reference only).",
    ] {
        assert!(text(&said).contains(part), "{said}");
    }
    let said = tool(&home, "context_save", &json!({"name": "n", "content": "x"}));
    assert!(
        text(&said).starts_with("SUCCESS: Context created\n"),
        "{said}"
    );
    assert!(
        text(&said).ends_with("No blockchain recording (L2 is free modification)."),
        "{said}"
    );
    let said = tool(&home, "resource_list", &json!({"layer": "l1"}));
    assert!(
        text(&said).contains("| URI | Name | Type | Size |") && text(&said).contains("(layer: l1)"),
        "{said}"
    );
}

#[test]
fn what_is_said_is_what_was_done() {
    let home = Home::initialized();
    let before = data(&home, "chain_status", &json!({}))["length"]
        .as_u64()
        .unwrap();
    let made = data(&home, "chain_record", &json!({"logs": ["one", "two"]}));
    assert_eq!(made["index"], before.max(1));
    let blocks = data(&home, "chain_history", &json!({"limit": 1}))["blocks"].clone();
    assert_eq!(blocks[0]["data"], json!(["one", "two"]));
    assert_eq!(blocks[0]["hash"], made["hash"]);
    // A record cannot pass for one of the program's own.
    let forged = json!({"type": "knowledge_update", "layer": "L1"}).to_string();
    data(&home, "chain_record", &json!({"logs": [forged]}));
    assert_eq!(
        data(&home, "chain_history", &json!({"type": "knowledge_update"}))["blocks"],
        json!([])
    );
    assert!(
        refused(&home, "chain_record", &json!({"logs": []})).contains("logs array is required")
    );
    assert!(refused(&home, "knowledge_get", &json!({"name": "../../etc/passwd"})).contains("name"));
    assert!(refused(&home, "knowledge_get", &json!({"name": "nothing"})).contains("not found"));
    assert!(
        refused(
            &home,
            "resource_read",
            &json!({"uri": "file:///etc/passwd"})
        )
        .contains("Resource Not Found")
    );
    assert!(refused(&home, "chain_history", &json!({"limit": 0})).contains("from 1 to"));
    assert!(refused(&home, "chain_prove", &json!({"index": 99})).contains("Error"));
}

#[test]
fn a_proof_that_a_model_made_is_good_for_others() {
    let home = Home::initialized();
    data(&home, "chain_record", &json!({"logs": ["proven"]}));
    let proof = data(&home, "chain_prove", &json!({"index": 1}))["proof"]
        .as_str()
        .unwrap()
        .to_owned();
    let file = home.path().join("proof");
    std::fs::write(&file, proof).unwrap();
    let said = home.json(["chain", "verify-proof", file.to_str().unwrap()]);
    assert_eq!(said["valid"], true, "{said}");
}
