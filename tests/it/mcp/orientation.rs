//! Tools that tell of the law, of the tools, and of the agent's own texts.

use kairos_tests::Home;
use serde_json::{Value, json};

use super::tools::listed;
use super::{data, refused, text, tool};

#[test]
fn definitions_are_told_as_the_reference_tells_them() {
    let home = Home::initialized();
    let law = |text: &str| std::fs::write(home.data_dir().join("skills/kairos.rb"), text).unwrap();
    let vectors = |text: &str| serde_json::from_str::<Value>(text).unwrap()["tool_text"].clone();
    law(include_str!(
        "../../../protocol/tests/fixtures/vectors/dsl/01_node_kinds.rb"
    ));
    let theirs = vectors(include_str!(
        "../../../protocol/tests/fixtures/vectors/dsl/01_node_kinds.json"
    ));
    let arguments = json!({"skill_id": "greenhouse_watering"});
    for name in ["definition_decompile", "definition_drift"] {
        let said = tool(&home, name, &arguments);
        assert_eq!(text(&said), theirs["greenhouse_watering"][name], "{name}");
    }
    let said = tool(&home, "definition_verify", &arguments);
    let head = "## Verification Report: greenhouse_watering\n\n**Summary**: 3 passed, 0 failed, ";
    assert!(text(&said).starts_with(head), "{said}");
    assert_eq!(said["structuredContent"]["passed"], 3, "{said}");
    assert!(
        refused(
            &home,
            "definition_verify",
            &json!({"skill_id": "missing_one"})
        )
        .starts_with("Skill 'missing_one' not found. Available: greenhouse_watering")
    );
    law(include_str!(
        "../../../protocol/tests/fixtures/vectors/dsl/04_degenerate.rb"
    ));
    let theirs = vectors(include_str!(
        "../../../protocol/tests/fixtures/vectors/dsl/04_degenerate.json"
    ));
    for name in [
        "definition_verify",
        "definition_decompile",
        "definition_drift",
    ] {
        let said = tool(&home, name, &json!({"skill_id": "no_definition"}));
        assert_eq!(text(&said), theirs["no_definition"][name], "{name}");
    }
}

/// What a command tells programs, whatever its code says.
fn told_of(home: &Home, args: &[&str]) -> Value {
    let said = home.run([&["--json"], args].concat());
    serde_json::from_str(&said.stdout).unwrap()
}

#[test]
fn conditions_are_decided_by_what_the_agent_knows_and_by_what_is_given() {
    let home = Home::initialized();
    let law = "skill :a do\n  definition do\n    check :on, condition: \"evolution_enabled == true\"\n    \
               check :short, condition: \"block_count < 5\"\n    check :warm, condition: \"celsius > 90\"\n    \
               check :kind, condition: \"leaf == :green\"\n  end\nend\n";
    std::fs::write(home.data_dir().join("skills/kairos.rb"), law).unwrap();
    let verdicts = |context: Value| {
        let arguments = json!({"skill_id": "a", "context": context});
        let nodes = data(&home, "definition_verify", &arguments)["nodes"].clone();
        let verdicts = nodes
            .as_array()
            .unwrap()
            .iter()
            .map(|node| node["verdict"].clone());
        Value::Array(verdicts.collect())
    };
    let (holds, fails, open) = ("holds", "fails", "needs_value");
    assert_eq!(verdicts(json!({})), json!([fails, holds, open, open]));
    let given = json!({"celsius": 95, "leaf": ":green", "evolution_enabled": true});
    assert_eq!(verdicts(given), json!([holds, holds, holds, holds]));
    let many: serde_json::Map<_, _> = (0..65).map(|n| (format!("n{n}"), json!(n))).collect();
    let arguments = json!({"skill_id": "a", "context": many});
    assert_eq!(
        refused(&home, "definition_verify", &arguments),
        "`context` has 64 values at most."
    );
    // The same from the command line, of the agent's own law; of another file nothing is known but what is given.
    let told = told_of(
        &home,
        &[
            "skills",
            "verify",
            "a",
            "--with",
            "celsius=95",
            "--with",
            "leaf=:green",
        ],
    );
    assert_eq!(told["summary"]["failed"], 1, "{told}");
    let file = home.data_dir().join("skills/kairos.rb");
    let told = told_of(
        &home,
        &["skills", "verify", "a", "--file", file.to_str().unwrap()],
    );
    assert_eq!(told["summary"]["unknown"], 4, "{told}");
}

#[test]
fn the_guide_tells_of_every_tool_and_of_no_other() {
    let home = Home::initialized();
    let names: Vec<_> = listed(&home)
        .iter()
        .map(|tool| tool["name"].as_str().unwrap().to_owned())
        .collect();
    let said = tool(&home, "tool_guide", &json!({"command": "catalog"}));
    let head = format!(
        "# KairosChain Tool Catalog\n\nTotal: {} tools\n",
        names.len()
    );
    assert!(text(&said).starts_with(&head), "{said}");
    assert!(text(&said).contains("\n## Blockchain ("), "{said}");
    let mut told: Vec<_> = said["structuredContent"]["tools"]
        .as_array()
        .unwrap()
        .iter()
        .map(|tool| tool["name"].as_str().unwrap().to_owned())
        .collect();
    told.sort_unstable();
    let mut sorted = names.clone();
    sorted.sort_unstable();
    assert_eq!(told, sorted);
    for (arguments, first) in [
        (
            json!({"command": "search", "query": "verify the ledger"}),
            "chain_verify",
        ),
        (
            json!({"command": "recommend", "goal": "join a meeting place"}),
            "place_join",
        ),
    ] {
        let found = data(&home, "tool_guide", &arguments);
        assert_eq!(found["tools"][0]["name"], first, "{found}");
    }
    let said = tool(
        &home,
        "tool_guide",
        &json!({"command": "detail", "tool_name": "chain_record"}),
    );
    assert!(
        text(&said).contains("- `logs` (array, required): "),
        "{said}"
    );
    // Every step of a workflow names tools that there are.
    for workflow in [
        "knowledge_lifecycle",
        "health_check",
        "skill_evolution",
        "tool_onboarding",
    ] {
        let arguments = json!({"command": "workflow", "workflow_name": workflow});
        let steps = data(&home, "tool_guide", &arguments)["steps"].clone();
        for step in steps.as_array().unwrap() {
            let (tools, _) = step.as_str().unwrap().split_once(':').unwrap();
            for tool in tools.split(", ") {
                assert!(names.contains(&tool.to_owned()), "{workflow}: {tool}");
            }
        }
    }
    for arguments in [
        json!({"command": "search"}),
        json!({"command": "detail", "tool_name": "nothing"}),
        json!({"command": "apply_metadata", "tool_name": "search", "approved": true}),
    ] {
        refused(&home, "tool_guide", &arguments);
    }
}

#[test]
fn an_upgrade_is_shown_and_carried_out_by_nobody_but_the_user() {
    let home = Home::initialized();
    let check = tool(&home, "system_upgrade", &json!({"command": "check"}));
    assert!(
        text(&check).starts_with("# System Upgrade Check\n\nGem version:  ")
            && text(&check).ends_with("No upgrade needed. Data directory is up to date."),
        "{check}"
    );
    // A text that this version has and the directory has not.
    let gone = home.data_dir().join("skills/kairos_quickguide.md");
    std::fs::remove_file(&gone).unwrap();
    let check = tool(&home, "system_upgrade", &json!({"command": "check"}));
    assert!(text(&check).contains("**Upgrade available!**"), "{check}");
    let preview = tool(&home, "system_upgrade", &json!({"command": "preview"}));
    assert!(
        text(&preview).contains("### NEW skills/kairos_quickguide.md"),
        "{preview}"
    );
    let status = tool(&home, "system_upgrade", &json!({"command": "status"}));
    assert!(text(&status).starts_with("# System Status\n"), "{status}");
    let said = refused(
        &home,
        "system_upgrade",
        &json!({"command": "apply", "approved": true}),
    );
    assert!(said.starts_with("Upgrade requires approval."), "{said}");
    assert!(!gone.exists());
}
