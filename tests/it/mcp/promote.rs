//! Texts that move up a layer: into knowledge by whoever may write it, into the law by a person alone.

use std::fs;

use kairos_tests::Home;
use serde_json::{Value, json};

use super::evolve::{home, law};
use super::{data, refused, text, tool};

const NOTES: &str =
    "---\nname: tea\ndescription: How to serve tea\n---\n\nWarm the pot.\n```\nend\n#{1}\n";

fn save(home: &Home) {
    let arguments = json!({"name": "tea", "session_id": "s1", "content": NOTES});
    data(home, "context_save", &arguments);
}

fn up(from: &str, to: &str) -> Value {
    json!({
        "command": "promote", "source_name": "tea", "from_layer": from, "to_layer": to, "session_id": "s1",
        "reason": "it holds",
    })
}

#[test]
fn a_text_of_a_session_becomes_knowledge_and_the_ledger_says_from_where() {
    let home = Home::initialized();
    save(&home);
    let said = tool(&home, "skills_promote", &up("L2", "L1"));
    assert!(
        text(&said).starts_with(
            "## Promotion Successful\n\n**Target**: tea (L1)\n**Action**: created\n**Hash**: "
        ),
        "{said}"
    );
    let entry = data(&home, "knowledge_get", &json!({"name": "tea"}));
    assert_eq!(entry["content"], NOTES);
    let history = tool(&home, "chain_history", &json!({"limit": 2}));
    let reason = "Reason: Promotion: it holds (from context://s1/tea, sha256 ";
    assert!(text(&history).contains(reason), "{history}");
    let again = refused(&home, "skills_promote", &up("L2", "L1"));
    assert!(again.contains("No changes"), "{again}");
}

#[test]
fn knowledge_becomes_law_by_a_person_alone() {
    let home = home();
    save(&home);
    data(&home, "skills_promote", &up("L2", "L1"));
    // Only its owner's hand gives the law room for another skill.
    let file = home.data_dir().join("skills/kairos.rb");
    let before = law(&home).replace(":audit_rules\n      ]", ":audit_rules, :tea\n      ]");
    let gate = refused(&home, "skills_promote", &up("L1", "L0"));
    assert!(gate.contains("'tea' is not allowed in L0"), "{gate}");
    fs::write(file, &before).unwrap();
    let said = tool(&home, "skills_promote", &up("L1", "L0"));
    assert!(
        text(&said).starts_with("## L0 Promotion Prepared\n\n## Human Approval Required\n"),
        "{said}"
    );
    assert_eq!(law(&home), before);
    let promoted = &said["structuredContent"];
    assert_eq!(promoted["target"], "tea");
    let change = &promoted["law"]["change"];
    assert_eq!(change["status"], "waiting");
    home.run(["approve", "--yes", change["proposal"].as_str().unwrap()])
        .done();
    assert!(law(&home).starts_with(before.trim_end()), "{}", law(&home));
    let skill = data(&home, "skills_dsl_get", &json!({"skill_id": "tea"}));
    assert_eq!(skill["content"], "Warm the pot.\n```\nend\n#{1}\n");
}

#[test]
fn promotion_stops_at_the_gates_and_at_what_it_is_not_told() {
    let home = Home::initialized();
    save(&home);
    let nothing = json!({"command": "promote"});
    assert_eq!(
        refused(&home, "skills_promote", &nothing),
        "Error: source_name is required"
    );
    let leap = refused(&home, "skills_promote", &up("L2", "L0"));
    assert!(
        leap.starts_with("Error: Invalid transition: L2 → L0"),
        "{leap}"
    );
    let mut without = up("L2", "L1");
    without["session_id"] = Value::Null;
    assert!(refused(&home, "skills_promote", &without).contains("session_id is required"));
    let unknown = refused(&home, "skills_promote", &up("L1", "L0"));
    assert!(unknown.contains("not found"), "{unknown}");
    data(&home, "skills_promote", &up("L2", "L1"));
    let mut silent = up("L1", "L0");
    silent["reason"] = json!(" ");
    assert!(refused(&home, "skills_promote", &silent).contains("reason is required"));
    // The settings as shipped allow no change of the law.
    let closed = refused(&home, "skills_promote", &up("L1", "L0"));
    assert!(closed.starts_with("❌ FAILED\n\nError: "), "{closed}");
    assert_eq!(home.json(["approvals"])["proposals"], json!([]));
}

#[test]
fn personas_judge_a_promotion_and_what_is_judged_ends_no_block() {
    let home = Home::initialized();
    save(&home);
    let personas = home.data_dir().join("knowledge/persona_definitions");
    fs::create_dir_all(&personas).unwrap();
    let told =
        "---\nname: persona_definitions\ndescription: x\n---\n\n### skeptic\n- Role: doubts\n";
    fs::write(personas.join("persona_definitions.md"), told).unwrap();
    let mut arguments = up("L2", "L1");
    arguments["command"] = json!("analyze");
    arguments["personas"] = json!(["kairos", "skeptic", "nobody"]);
    arguments["assembly_mode"] = json!("discussion");
    let said = tool(&home, "skills_promote", &arguments);
    let prompt = text(&said);
    for part in [
        "Estimated tokens: ~3800",
        "| **Source** | tea (L2) |",
        "Warm the pot.\n'''\nend\n",
        "**Consensus threshold**: 60%",
        "**skeptic**:\n- Role: doubts\n",
        "**nobody**:\n(definition not found)",
    ] {
        assert!(prompt.contains(part), "{part}: {prompt}");
    }
    assert_eq!(said["structuredContent"]["estimated_tokens"], 3_800);
    arguments["max_rounds"] = json!(1_000);
    assert!(refused(&home, "skills_promote", &arguments).contains("max_rounds is 1 to 10"));
    let status = json!({"command": "status", "from_layer": "L1", "to_layer": "L1"});
    let said = tool(&home, "skills_promote", &status);
    assert!(
        text(&said).contains("**L1 → L1**: Invalid transition"),
        "{said}"
    );
}
