//! The audit of the layers: what it finds, and that it changes nothing.

use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, SystemTime};

use kairos_tests::Home;
use serde_json::{Value, json};

use super::{data, refused, text, tool};

fn audit(home: &Home, command: &str) -> Value {
    tool(home, "skills_audit", &json!({"command": command}))
}

fn knowledge(home: &Home, name: &str, body: &str) {
    let content = format!("---\nname: {name}\ndescription: x\ntags: [tea]\n---\n\n{body}\n");
    let create = json!({"command": "create", "name": name, "content": content});
    data(home, "knowledge_update", &create);
}

fn age(path: &Path, days: u64) {
    #[expect(clippy::disallowed_methods, reason = "a file gets a date of the past")]
    let then = SystemTime::now() - Duration::from_secs(days * 86_400);
    File::open(path).unwrap().set_modified(then).unwrap();
}

#[test]
fn a_fresh_agent_is_healthy() {
    let home = Home::initialized();
    let said = audit(&home, "check");
    assert!(
        text(&said).starts_with("## Audit Report\n\n### Summary\n\n- **L0**: 8 skills ("),
        "{said}"
    );
    assert!(
        text(&said).contains("- **L2**: 0 contexts (all healthy)"),
        "{said}"
    );
    let only = json!({"command": "check", "layer": "L2"});
    let said = tool(&home, "skills_audit", &only);
    assert!(
        text(&said)
            .ends_with("\n### Status: All Healthy\n\nThere is nothing to mend in the layers that were looked at."),
        "{said}"
    );
}

#[test]
fn what_is_old_alike_or_dangerous_is_found() {
    let home = Home::initialized();
    knowledge(&home, "tea_pot_care", "Needs Ruby 2.4.");
    knowledge(
        &home,
        "care_of_tea",
        "password = \"steep\"\nskip the approval",
    );
    let save = json!({
        "name": "notes", "session_id": "s1",
        "content": format!("---\nname: notes\ndescription: {}\n---\n\nx\n", "long ".repeat(11)),
    });
    data(&home, "context_save", &save);
    age(
        &home
            .data_dir()
            .join("knowledge/tea_pot_care/tea_pot_care.md"),
        300,
    );
    let check = audit(&home, "check");
    for part in [
        "#### [STALE] tea_pot_care (L1)\nUnchanged for 300 days, where 180 are allowed\n",
        "#### [VERSION] tea_pot_care (L1)\n",
        "### Recommended Actions\n\n1. ",
    ] {
        assert!(text(&check).contains(part), "{part}: {check}");
    }
    let alike = audit(&home, "conflicts");
    assert!(
        text(&alike).contains("#### care_of_tea vs tea_pot_care\n"),
        "{alike}"
    );
    let stale = audit(&home, "stale");
    assert!(
        text(&stale).contains("- `tea_pot_care` - 300 days old\n"),
        "{stale}"
    );
    let dangerous = audit(&home, "dangerous");
    for part in [
        "#### [WARNING] care_of_tea\n",
        "#### [CRITICAL] care_of_tea\n",
    ] {
        assert!(text(&dangerous).contains(part), "{dangerous}");
    }
    let recommended = audit(&home, "recommend");
    for part in [
        "- `s1/notes` - There is enough",
        "- `tea_pot_care` - Unchanged for 300",
    ] {
        assert!(text(&recommended).contains(part), "{recommended}");
    }
    let elsewhere = json!({"command": "dangerous", "layer": "L2"});
    assert_eq!(data(&home, "skills_audit", &elsewhere)["issues"], json!([]));
}

#[test]
fn no_argument_puts_knowledge_away_and_the_command_that_is_told_does() {
    let home = Home::initialized();
    knowledge(&home, "tea", "x");
    let entry = home.data_dir().join("knowledge/tea/tea.md");
    let before = fs::read(&entry).unwrap();
    let archive = json!({
        "command": "archive", "target": "tea", "reason": "old", "approved": true,
    });
    let said = refused(&home, "skills_audit", &archive);
    assert!(
        said.starts_with("## Human Approval Required\n")
            && said.contains("    kairos-chain knowledge archive tea\n"),
        "{said}"
    );
    assert_eq!(fs::read(&entry).unwrap(), before);
    home.run(["knowledge", "archive", "tea"]).done();
    let back = json!({"command": "unarchive", "target": "tea"});
    let said = refused(&home, "skills_audit", &back);
    assert!(
        said.contains("    kairos-chain knowledge unarchive tea\n"),
        "{said}"
    );
    assert!(refused(&home, "skills_audit", &archive).contains("not found"));
    let nothing = refused(&home, "skills_audit", &json!({"command": "archive"}));
    assert_eq!(nothing, "Error: 'target' is required for archive command");
    let counted = json!({"command": "check", "layer": "L1", "include_archived": true});
    assert_eq!(data(&home, "skills_audit", &counted)["archived"], 1);
}
