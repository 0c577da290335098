//! Changes of the law that a model asks for: the same gates as everywhere, and a person's yes.

use std::fs;

use kairos_tests::Home;
use serde_json::{Value, json};

use super::{Open, data, refused, request, text, tool};

pub(super) fn home() -> Home {
    let home = Home::initialized();
    let config = home.data_dir().join("skills/config.yml");
    let settings = fs::read_to_string(&config).unwrap();
    let on = settings.replace("evolution_enabled: false", "evolution_enabled: true");
    fs::write(config, on).unwrap();
    home
}

pub(super) fn law(home: &Home) -> String {
    fs::read_to_string(home.data_dir().join("skills/kairos.rb")).unwrap()
}

/// The skill of the shipped law that says for how long knowledge is fresh, with another number of days.
fn audit(home: &Home, days: &str) -> String {
    let law = law(home);
    let start = law.find("skill :audit_rules").unwrap();
    law[start..].trim().replace("180 days", days)
}

fn arguments(command: &str, id: &str, definition: &str) -> Value {
    json!({"command": command, "skill_id": id, "definition": definition, "reason": "a test", "approved": true})
}

#[test]
fn proposing_checks_and_changes_nothing_and_applying_asks_a_person() {
    let home = home();
    let before = law(&home);
    let new = audit(&home, "365 days");
    let said = tool(
        &home,
        "skills_evolve",
        &arguments("propose", "audit_rules", &new),
    );
    let told = text(&said);
    assert!(told.starts_with("✅ SUCCESS\n\nMessage: "), "{told}");
    assert!(told.contains("mechanical checks PASSED. 3 items require human verification."));
    assert_eq!(said["structuredContent"]["change"], Value::Null);
    assert_eq!(home.json(["approvals"])["proposals"], json!([]));
    let asked = data(
        &home,
        "skills_evolve",
        &arguments("apply", "audit_rules", &new),
    );
    assert_eq!(asked["change"]["status"], "waiting", "{asked}");
    assert_eq!(law(&home), before, "`approved` stands for nobody");
    let id = asked["change"]["proposal"].as_str().unwrap();
    assert_eq!(asked["change"]["law_diff_hash"], asked["diff_hash"]);
    let shown = data(&home, "approvals_show", &json!({"id": id}));
    assert_eq!(shown["law_diff_hash"], asked["diff_hash"], "{shown}");
    assert_eq!(shown["law_diff"]["skills"][0]["id"], "audit_rules");
    home.run(["approve", "--yes", id]).done();
    assert_eq!(law(&home), before.replace("180 days", "365 days"));
    let versions = data(&home, "skills_rollback", &json!({}))["versions"].clone();
    let version = versions[0]["filename"].as_str().unwrap();
    let view = json!({"command": "view", "version": version});
    assert_eq!(
        data(&home, "skills_rollback", &view)["content"],
        json!(before)
    );
    let difference = tool(
        &home,
        "skills_rollback",
        &json!({"command": "diff", "version": version}),
    );
    for line in ["- added: 1", "- removed: 1", "**audit_rules**: content"] {
        assert!(text(&difference).contains(line), "{difference}");
    }
    let back = json!({"command": "rollback", "version": version, "reason": "it was better"});
    let asked = data(&home, "skills_rollback", &back);
    let id = asked["change"]["change"]["proposal"].as_str().unwrap();
    home.run(["approve", "--yes", id]).done();
    assert_eq!(law(&home), before);
}

#[test]
fn a_user_who_is_asked_in_a_form_makes_the_change() {
    let home = home();
    let mut open = Open::on(&home);
    open.shake_hands("2025-11-25", &json!({"elicitation": {"form": {}}}));
    let new = audit(&home, "365 days");
    let id = open.next;
    open.next += 1;
    let call =
        json!({"name": "skills_evolve", "arguments": arguments("apply", "audit_rules", &new)});
    open.send(&request(id, "tools/call", &call));
    let question = open.receive();
    let message = question["params"]["message"].as_str().unwrap();
    for part in [
        "skill 'audit_rules' changed\n  content changed\n",
        "\nHash of this diff: ",
        "+    L1 counts as old after 365 days",
    ] {
        assert!(message.contains(part), "{question}");
    }
    let yes = json!({"action": "accept", "content": {"approve": true}});
    open.send(&json!({"jsonrpc": "2.0", "id": question["id"], "result": yes}));
    let said = open.receive()["result"].clone();
    assert!(
        text(&said).starts_with("✅ SUCCESS\n\nMessage: Skill 'audit_rules' evolved"),
        "{said}"
    );
    assert!(law(&home).contains("365 days"));
}

#[test]
fn a_model_gets_no_further_than_the_gates() {
    let home = home();
    let before = law(&home);
    let soft = "skill :core_safety do\n  content \"Sometimes.\"\nend";
    for (arguments, why) in [
        (
            arguments("propose", "core_safety", soft),
            "'core_safety' is immutable",
        ),
        (
            arguments("apply", "core_safety", soft),
            "'core_safety' is immutable",
        ),
        // Of two declarations the first counts: the text may not bring another skill along.
        (
            arguments(
                "apply",
                "l0_governance",
                &format!("{soft}\n{}", audit(&home, "1 day")),
            ),
            "declares 2 skills",
        ),
        (
            arguments("apply", "l0_governance", soft),
            "declares the skill 'core_safety'",
        ),
        (
            arguments("add", "spy", "content \"x\""),
            "is not allowed in L0",
        ),
        (
            arguments("add", "spy", "end\nsystem('touch /tmp/x')\nskill :b do"),
            "not one skill",
        ),
        (
            arguments("propose", "audit_rules", "skill :audit_rules do"),
            "ends in the middle",
        ),
        (
            json!({"command": "reset", "approved": true}),
            "kairos-chain skills reset",
        ),
        (
            json!({"command": "apply", "skill_id": "audit_rules"}),
            "definition is required",
        ),
    ] {
        let said = refused(&home, "skills_evolve", &arguments);
        assert!(said.starts_with("❌ FAILED\n\nError: "), "{said}");
        assert!(said.contains(why), "{arguments}: {said}");
    }
    // A change without a reason is told so, and not that nothing failed.
    let silent = json!({"skill_id": "audit_rules", "definition": audit(&home, "365 days")});
    let said = refused(&home, "skills_evolve", &silent);
    assert!(
        said.contains("1 mechanical check(s) FAILED") && said.contains("No reason is given"),
        "{said}"
    );
    for version in ["../config.yml", "../../x.md", "/etc/passwd", "kairos_1.rb"] {
        for command in ["view", "diff", "rollback"] {
            let said = refused(
                &home,
                "skills_rollback",
                &json!({"command": command, "version": version}),
            );
            assert!(
                said.contains(&format!("Version not found: {version}")),
                "{said}"
            );
        }
    }
    assert_eq!(law(&home), before);
    assert_eq!(home.json(["approvals"])["proposals"], json!([]));
}

#[test]
fn modes_are_put_in_force_and_taken_away_by_a_person() {
    let home = home();
    let change = |command: &str, content: Option<&str>| {
        let arguments = json!({
            "command": command, "mode_name": "poet", "content": content, "reason": "a test", "approved": true,
        });
        let asked = data(&home, "instructions_update", &arguments);
        assert_eq!(asked["change"]["status"], "waiting", "{asked}");
        let id = asked["change"]["proposal"].as_str().unwrap().to_owned();
        home.run(["approve", "--yes", &id]).done();
    };
    change("create", Some("Rhyme.\n"));
    change("set_mode", None);
    let status = data(&home, "instructions_update", &json!({"command": "status"}));
    assert_eq!(status["mode"], "poet");
    let gone = json!({"command": "delete", "mode_name": "poet", "reason": "a test"});
    assert!(refused(&home, "instructions_update", &gone).contains("is in force"));
    let back = json!({"command": "set_mode", "mode_name": "user", "reason": "a test"});
    let asked = data(&home, "instructions_update", &back);
    home.run([
        "approve",
        "--yes",
        asked["change"]["proposal"].as_str().unwrap(),
    ])
    .done();
    change("delete", None);
    assert!(!home.data_dir().join("skills/poet.md").exists());
}
