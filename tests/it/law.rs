//! The law through the program, against what is known to go wrong elsewhere: each test names the defect that it rules out.

use std::fs;
use std::thread;

use kairos_tests::{Call, Ended, Home};
use serde_json::Value;

/// An agent that may change its law.
fn home() -> Home {
    let home = Home::initialized();
    let config = home.data_dir().join("skills/config.yml");
    let settings = fs::read_to_string(&config).unwrap();
    let on = "evolution_enabled: true\nmax_evolutions_per_session: 1000";
    let settings = settings
        .replace("evolution_enabled: false", on)
        .replace("max_evolutions_per_session: 3\n", "");
    fs::write(config, settings).unwrap();
    home
}

fn law(home: &Home) -> String {
    fs::read_to_string(home.data_dir().join("skills/kairos.rb")).unwrap()
}

fn skill(content: &str) -> String {
    format!("skill :tea do\n  content {content}\n  evolve do\n    allow :content\n  end\nend")
}

/// Puts a small law in place, in which one skill may change.
fn small(home: &Home, tea: &str) -> String {
    let law = format!("# the law\n{tea}\n\nskill :milk do\n  content \"cold\"\nend\n");
    fs::write(home.data_dir().join("skills/kairos.rb"), &law).unwrap();
    let config = home.data_dir().join("skills/config.yml");
    let settings = fs::read_to_string(&config).unwrap();
    let settings = settings.replace(
        "kairos_meta_skills:\n",
        "kairos_meta_skills:\n  - tea\n  - milk\n",
    );
    fs::write(config, settings).unwrap();
    law
}

fn propose(home: &Home, text: &str) -> Ended {
    Call::new(["--json", "skills", "propose", "-", "--reason", "a test"])
        .home(home)
        .stdin(text)
        .run()
}

fn proposed(home: &Home, text: &str) -> String {
    propose(home, text).json()["id"]
        .as_str()
        .unwrap()
        .to_owned()
}

fn changed(home: &Home, text: &str) {
    let id = proposed(home, text);
    home.run(["approve", "--yes", &id]).done();
}

#[test]
fn defect_1_what_is_proposed_approved_and_read_is_never_run() {
    let home = home();
    small(&home, &skill("\"green\""));
    let witness = home.path().join("it-ran");
    let run = format!("File.write({:?}, 'x')", witness.display().to_string());
    // Beside a skill, in a value, and in code, which is carried and not run.
    for text in [
        format!("{run}\n{}", skill("\"black\"")),
        skill(&run),
        skill(&format!("\"#{{{run}}}\"")),
    ] {
        propose(&home, &text).failed(1);
    }
    let free = skill("\"black\"").replace(
        "evolve do\n    allow :content\n  end",
        &format!("behavior do\n    {run}\n  end"),
    );
    let told = propose(&home, &free);
    told.failed(1);
    fs::write(
        home.data_dir().join("skills/kairos.rb"),
        format!("{free}\n"),
    )
    .unwrap();
    changed(&home, &free.replace("black", "red"));
    for command in [["skills", "list"], ["skills", "versions"]] {
        home.run(command).done();
    }
    // It warns of code that would be refused.
    home.run(["skills", "check"]).failed(3);
    assert!(!witness.exists());
}

#[test]
fn defect_7_the_ledger_tells_why_and_who_and_the_versions_what() {
    let home = home();
    let before = small(&home, &skill("\"green\""));
    changed(&home, &skill("\"black\""));
    let history = home.json(["chain", "history", "--limit", "10"]).to_string();
    let history = history.replace("\\\"", "\"");
    for told in [
        "\"skill_id\":\"tea\"",
        "\"reason\":\"a test\"",
        "\"decided_by\":\"local\"",
        "\"law_diff_hash\":\"",
    ] {
        assert!(history.contains(told), "{told}: {history}");
    }
    let versions = home.json(["skills", "versions"])["versions"].clone();
    let name = versions[0]["name"].as_str().unwrap();
    assert_eq!(home.run(["skills", "versions", name]).done(), before);
    assert!(history.contains(versions[0]["hash"].as_str().unwrap()));
    let diff = home.json(["skills", "versions", name, "--diff"]);
    assert!(history.contains(diff["hash"].as_str().unwrap()));
}

#[test]
fn whoever_decides_is_shown_what_the_law_would_say_and_the_hash_that_the_ledger_gets() {
    let home = home();
    small(&home, &skill("\"green\""));
    let id = proposed(&home, &skill("\"black\""));
    let shown = home.json(["approvals", "show", &id]);
    let field = &shown["law_diff"]["skills"][0]["fields"][0];
    assert_eq!(field["field"], "content", "{shown}");
    let told = home.run(["approvals", "show", &id]).done();
    let hash = shown["law_diff_hash"].as_str().unwrap();
    for line in [
        "skill 'tea' changed",
        "  content changed",
        "    - content \"green\"",
        "    + content \"black\"",
        &format!("Hash of this diff: {hash}"),
        "-  content \"green\"",
    ] {
        assert!(told.lines().any(|told| told == line), "{line}: {told}");
    }
    home.run(["approve", "--yes", &id]).done();
    let history = home.json(["chain", "history", "--limit", "10"]).to_string();
    let recorded = format!("\\\"law_diff_hash\\\":\\\"{hash}");
    assert!(history.contains(&recorded), "{recorded}: {history}");
    // Once it is decided there is nothing to compare it with.
    assert_eq!(
        home.json(["approvals", "show", &id])["law_diff"],
        Value::Null
    );
}

#[test]
fn defect_11_12_13_every_byte_of_a_text_gets_in_and_none_beside_it_changes() {
    for written in [
        skill("<<~MD\n    end\n    of it\n  MD"),
        skill("\"green\"").replace("skill :tea do", "skill(:tea) do"),
        skill("\"green\"").replace("skill :tea do", "skill   :tea   do # mine"),
        skill("\"green\"")
            .replace("skill :tea do", "skill(:tea) {")
            .replace("\nend", "\n}"),
    ] {
        let home = home();
        let before = small(&home, &written);
        let new = skill("<<~'MD'\n    \\\\ \\0 \\1 \\k<x>\n    end\n  MD");
        changed(&home, &new);
        assert_eq!(law(&home), before.replace(&written, &new), "{written}");
        assert_eq!(
            home.json(["skills", "check"])["faults"],
            serde_json::json!([])
        );
    }
}

#[test]
fn defect_14_a_change_killed_at_any_moment_is_file_version_and_record_or_nothing() {
    let home = home();
    small(&home, &skill("\"text\""));
    let begun = std::time::Instant::now();
    home.json(["approvals"]);
    let whole = begun.elapsed() * 2;
    let rounds = 16u32;
    for round in 0..rounds {
        let before = law(&home);
        let id = proposed(&home, &skill(&format!("\"text {round}\"")));
        let mut child = Call::new(["approve", "--yes", &id]).home(&home).spawn();
        thread::park_timeout(whole * round / rounds);
        child.kill().unwrap();
        let acknowledged = child.wait().unwrap().success();
        // Whatever opens the agent next finishes what was begun.
        let shown = home.json(["approvals", "show", &id]);
        let made = law(&home) != before;
        let state = if made { "approved" } else { "open" };
        assert_eq!(shown["state"], state, "{round}");
        assert!(made || !acknowledged, "{round}");
        let ledger = home
            .json(["chain", "history", "--limit", "1000"])
            .to_string();
        assert_eq!(ledger.contains(&id), made, "{round}");
        if made {
            assert!(law(&home).contains(&format!("\"text {round}\"")));
            let versions = home.json(["skills", "versions"])["versions"].clone();
            let of = |version: &&Value| version["name"].as_str().unwrap().contains(&id);
            let kept = versions.as_array().unwrap().iter().find(of).unwrap()["name"].clone();
            assert_eq!(
                home.run(["skills", "versions", kept.as_str().unwrap()])
                    .done(),
                before
            );
        } else {
            home.run(["reject", &id]).done();
        }
    }
    assert_eq!(home.json(["chain", "verify"])["valid"], true);
    let left = fs::read_dir(home.data_dir().join("skills")).unwrap();
    let left = left.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let staged: Vec<_> = left.filter(|name| name.starts_with(".approved-")).collect();
    assert_eq!(staged, Vec::<String>::new());
}

#[test]
fn defect_15_the_locale_decides_nothing() {
    let home = home();
    small(&home, &skill("\"grün\""));
    let id = Call::new(["--json", "skills", "propose", "-", "--reason", "é"])
        .home(&home)
        .env("LANG", "C")
        .env("LC_ALL", "C")
        .stdin(skill("\"schwarz, 黒\""))
        .run()
        .json()["id"]
        .clone();
    Call::new(["approve", "--yes", id.as_str().unwrap()])
        .home(&home)
        .env("LC_ALL", "C")
        .run()
        .done();
    assert!(law(&home).contains("黒"));
}

#[test]
fn defect_25_of_a_list_that_is_given_twice_the_law_itself_decides() {
    let home = home();
    let config = home.data_dir().join("skills/config.yml");
    let settings = fs::read_to_string(&config).unwrap();
    fs::write(
        &config,
        format!("{settings}\nkairos_meta_skills:\n  - core_safety\n"),
    )
    .unwrap();
    let law = law(&home);
    let audit = &law[law.find("skill :audit_rules").unwrap()..];
    // Listed by l0_governance, and not by the list that comes last.
    proposed(&home, &audit.replace("180 days", "365 days"));
}

#[test]
fn a_law_edited_by_hand_is_told_from_what_was_recorded_and_voids_what_waits() {
    let home = home();
    let before = small(&home, &skill("\"green\""));
    let id = proposed(&home, &skill("\"black\""));
    let by_hand = before.replace("cold", "warm");
    fs::write(home.data_dir().join("skills/kairos.rb"), &by_hand).unwrap();
    let told = home.run(["approve", "--yes", &id]).failed(1);
    assert!(
        told.contains("`skills/kairos.rb` has changed since it was made"),
        "{told}"
    );
    assert_eq!(law(&home), by_hand);
    // What is recorded next, the ledger can tell from what was not.
    changed(&home, &skill("\"black\""));
    let clean = propose(&home, &skill("\"red\"")).json();
    assert_eq!(clean["changed_since"], Value::Null);
    fs::write(home.data_dir().join("skills/kairos.rb"), &by_hand).unwrap();
    let told = propose(&home, &skill("\"white\"")).json();
    assert!(told["changed_since"].is_u64(), "{told}");
}

/// What is told of a proposal, whether the gates let it pass or not.
fn told(home: &Home, text: &str) -> Value {
    serde_json::from_str(&propose(home, text).stdout).unwrap()
}

#[test]
fn a_law_that_a_snapshot_or_an_upgrade_brings_is_told_and_counts_in_the_session() {
    let home = home();
    small(&home, &skill("\"green\""));
    let config = home.data_dir().join("skills/config.yml");
    let settings = fs::read_to_string(&config).unwrap();
    let settings = settings.replace("session: 1000", "session: 3");
    fs::write(&config, &settings).unwrap();
    let green = home.json(["state", "commit", "-m", "green"])["snapshot_ref"].clone();
    let green = green.as_str().unwrap().replace("snapshots/", "");
    changed(&home, &skill("\"black\""));
    let restored = home.json(["state", "restore", &green, "--yes"]);
    assert!(law(&home).contains("green"));
    // One unit with the commit, and it says which snapshot has what was there before.
    let block = restored["commit"]["block"]["index"].as_u64().unwrap();
    let history = home.json(["chain", "history", "--limit", "5"]);
    let mut blocks = history.as_array().unwrap().iter();
    let told_in = blocks.find(|told| told["index"] == block).unwrap();
    let entries = told_in["data"].as_array().unwrap();
    let entry: Value = serde_json::from_str(entries[0].as_str().unwrap()).unwrap();
    assert_eq!(
        (&entry["skill_id"], entries.len()),
        (&Value::from("tea"), 2)
    );
    let kept = entry["reason_ref"].as_str().unwrap();
    assert!(kept.starts_with("snapshots/snapshot_"), "{kept}");
    let next = told(&home, &skill("\"white\""));
    assert_eq!(next["changed_since"], Value::Null);
    // The third of three; the law of this version lists the skills that there may be, so `tea` is none of them.
    home.run(["upgrade", "--apply", "--take", "skills/kairos.rb"])
        .done();
    let law = law(&home);
    let audit = &law[law.find("skill :audit_rules").unwrap()..];
    let refused = told(&home, &audit.replace("180 days", "365 days"));
    let used = "3/3 evolutions used";
    assert!(refused["checks"].to_string().contains(used), "{refused}");
    home.run(["skills", "reset"]).done();
    let fits = told(&home, &audit.replace("180 days", "365 days"));
    assert_eq!(fits["changed_since"], Value::Null);
    assert!(fits["id"].is_string(), "{fits}");
}

#[test]
fn a_law_that_is_gone_comes_back_from_a_snapshot_or_with_an_upgrade_and_never_in_silence() {
    // Where changes are switched off, as they are at first.
    let home = Home::initialized();
    let path = home.data_dir().join("skills/kairos.rb");
    let before = law(&home);
    let mine = before.replace("180 days", "200 days");
    fs::write(&path, &mine).unwrap();
    home.json(["state", "commit", "-m", "mine"]);
    fs::remove_file(&path).unwrap();
    let told = home.run(["skills", "list"]).failed(1);
    assert!(told.contains("state restore last"), "{told}");
    let told = home.run(["init"]).stderr;
    assert!(told.contains("Missing: skills/kairos.rb"), "{told}");
    assert!(!path.exists());
    let examined = home.run(["doctor"]);
    let examined = format!("{}{}", examined.stdout, examined.stderr);
    assert!(
        examined.contains("the law of the agent, is not there"),
        "{examined}"
    );
    home.json(["state", "restore", "last", "--yes"]);
    assert_eq!(law(&home), mine);
    let history = home.json(["chain", "history", "--limit", "3"]).to_string();
    assert!(history.contains("prev_ast_hash\\\":null"), "{history}");
    fs::remove_file(&path).unwrap();
    home.run(["upgrade", "--apply"]).done();
    assert_eq!(law(&home), before);
    let history = home.json(["chain", "history", "--limit", "3"]).to_string();
    assert!(history.contains("prev_ast_hash\\\":null"), "{history}");
    // Nothing comes back that would not be read.
    fs::write(&path, "skill :a do").unwrap();
    home.json(["state", "commit", "-m", "broken"]);
    fs::remove_file(&path).unwrap();
    let told = home.run(["state", "restore", "last", "--yes"]).failed(1);
    assert!(told.contains("the new law is no Ruby"), "{told}");
    assert!(!path.exists());
}

#[test]
fn no_text_makes_a_command_end_in_a_panic() {
    let home = home();
    let deep = format!("skill :tea do\n  title {}\nend\n", "[".repeat(60_000));
    let file = home.path().join("bad.rb");
    let path = file.to_str().unwrap();
    for bad in [
        "skill :tea do\n  title \"\\uD800\"\nend\n",
        "skill :tea do\n  title <<~A\n\r\nend\n",
        "skill :tea do\n  title \"\\M-\\u{1}\"\nend\n",
        "\u{0}skill\u{4}",
        deep.as_str(),
    ] {
        fs::write(&file, bad).unwrap();
        fs::write(home.data_dir().join("skills/kairos.rb"), bad).unwrap();
        let mut told = vec![propose(&home, bad), home.run(["search", "tea"])];
        for command in [
            &["list"][..],
            &["check"],
            &["verify", "tea"],
            &["diff", path],
        ] {
            told.push(home.run([&["skills"], command].concat()));
            told.push(home.run([&["skills", "--file", path], command].concat()));
        }
        for said in told {
            let all = format!("{}{}", said.stdout, said.stderr);
            assert!(
                !all.contains("panicked") && (0..=3).contains(&said.code),
                "{all}"
            );
        }
    }
}
