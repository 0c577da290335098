//! The command line itself: help, exit codes, streams.

use std::process::Stdio;

use kairos_tests::{Call, Home, binary, without_settings};
use serde_json::Value;

/// Every command with its own help, groups before their members.
const COMMANDS: &[&str] = &[
    "",
    "demo",
    "init",
    "serve",
    "meet",
    "peers",
    "peers list",
    "peers show",
    "peers trust",
    "peers forget",
    "peers resolve",
    "p2p",
    "p2p status",
    "p2p peers",
    "p2p find",
    "p2p dial",
    "p2p listen",
    "p2p bootstrap",
    "place",
    "place join",
    "place leave",
    "place list",
    "place browse",
    "place search",
    "place deposit",
    "place withdraw",
    "place acquire",
    "place partners",
    "place profile",
    "place key",
    "place need",
    "place need add",
    "place need remove",
    "place need list",
    "place message",
    "place message send",
    "place message read",
    "place start",
    "place stop",
    "place status",
    "place agents",
    "place kick",
    "place ban",
    "place unban",
    "place bans",
    "place audit",
    "place stats",
    "federation",
    "federation propose",
    "federation accept",
    "federation refuse",
    "federation end",
    "federation list",
    "federation status",
    "knowledge",
    "knowledge list",
    "knowledge show",
    "knowledge create",
    "knowledge update",
    "knowledge delete",
    "knowledge archive",
    "knowledge unarchive",
    "knowledge history",
    "knowledge status",
    "knowledge record",
    "context",
    "context save",
    "context list",
    "context show",
    "context delete",
    "resource",
    "resource list",
    "resource read",
    "search",
    "skill",
    "skill list",
    "skill get",
    "skill acquire",
    "skill share",
    "skill unshare",
    "skill import",
    "skill export",
    "skills",
    "skills list",
    "skills show",
    "skills check",
    "skills diff",
    "skills verify",
    "skills decompile",
    "skills drift",
    "skills why",
    "skills propose",
    "skills add",
    "skills remove",
    "skills apply",
    "skills rollback",
    "skills versions",
    "skills snapshot",
    "skills reset",
    "skills search",
    "skills promote",
    "extensions",
    "extensions list",
    "extensions show",
    "extensions propose",
    "extensions enable",
    "extensions disable",
    "formalization",
    "formalization record",
    "formalization history",
    "skillset",
    "skillset list",
    "skillset info",
    "skillset install",
    "skillset enable",
    "skillset disable",
    "skillset remove",
    "skillset package",
    "skillset install-archive",
    "skillset acquire",
    "quarantine",
    "quarantine list",
    "quarantine show",
    "propose",
    "propose knowledge",
    "propose knowledge create",
    "propose knowledge update",
    "propose knowledge delete",
    "propose l0",
    "propose instructions",
    "propose instructions-mode",
    "propose delete-instructions",
    "propose skillset",
    "propose skillset install",
    "propose skillset enable",
    "propose skillset disable",
    "propose skillset remove",
    "approvals",
    "approvals list",
    "approvals show",
    "approve",
    "reject",
    "provenance",
    "reflect",
    "message",
    "inbox",
    "inbox list",
    "inbox clear",
    "identity",
    "identity show",
    "identity rotate",
    "chain",
    "chain status",
    "chain verify",
    "chain history",
    "chain export",
    "chain import",
    "chain migrate",
    "anchor",
    "anchor submit",
    "anchor verify",
    "anchor get",
    "anchor list",
    "anchor session",
    "anchor meetings",
    "anchor status",
    "anchor flush",
    "anchor migrate",
    "anchor declare",
    "anchor observe",
    "token",
    "token create",
    "token list",
    "token rotate",
    "token revoke",
    "token prune",
    "mcp",
    "mcp serve",
    "mcp install",
    "mcp uninstall",
    "mcp doctor",
    "log",
    "chain record",
    "chain prove",
    "chain verify-proof",
    "chain checkpoint",
    "chain cosign",
    "chain add-cosignature",
    "state",
    "state commit",
    "state status",
    "state history",
    "state diff",
    "state restore",
    "config",
    "config show",
    "config check",
    "config example",
    "backup",
    "restore",
    "doctor",
    "status",
    "health",
    "upgrade",
    "completions",
];

#[test]
fn the_help_of_every_command() {
    let mut all = String::new();
    for command in COMMANDS {
        let words: Vec<_> = command.split_whitespace().collect();
        let help = Call::new(&words)
            .arg("--help")
            .env("COLUMNS", "100")
            .run()
            .done();
        all.push_str(&format!(
            "=== kairos-chain {command}\n{}\n",
            help.trim_end()
        ));
        for name in subcommands(&help) {
            let full = format!("{command} {name}");
            let known = COMMANDS.contains(&full.trim()) || name == "help";
            assert!(known, "the test does not know `{}`", full.trim());
        }
    }
    insta::assert_snapshot!(all);
}

/// The names in the section `Commands:` of a help text.
fn subcommands(help: &str) -> Vec<&str> {
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let listed = listed.take_while(|line| !line.is_empty());
    listed
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .collect()
}

#[test]
fn tells_its_version() {
    let expected = format!("kairos-chain {}\n", env!("CARGO_PKG_VERSION"));
    for flag in ["--version", "-v", "-V"] {
        assert_eq!(Call::new([flag]).run().done(), expected);
    }
}

#[test]
fn what_makes_no_sense_ends_with_2_and_says_so() {
    let home = Home::initialized();
    for (args, said) in [
        (&["dance"][..], "unrecognized subcommand 'dance'"),
        (&["skillset"], "Usage: kairos-chain skillset"),
        (&["skillset", "isntall", "x"], "'install'"),
        (&["meet"], "<WHOM>"),
        (
            &["meet", "localhost:8080"],
            "write it like http://host:8080",
        ),
        (&["meet", "ftp://host"], "`ftp` URLs are not spoken"),
        (&["approve", "no-id"], "12 hex digits"),
        (
            &["chain", "verify-proof", "x", "--key", "name"],
            "NAME+ID+BASE64",
        ),
        (&["--set", "http.prot=1", "config", "check"], "http.port"),
        (&["--set", "http.prot=1", "skillset", "list"], "http.port"),
        (&["--set", "http.port", "skillset", "list"], "KEY=VALUE"),
        (
            &["--set", "http.port=99999", "skillset", "list"],
            "a whole number from 0 to 65535",
        ),
        (&["--http", "--prot", "1"], "--port"),
        (
            &["message", "http://127.0.0.1:1", "reflect", "{"],
            "not JSON",
        ),
    ] {
        let ended = home.run(args);
        let error = ended.clone().failed(2);
        assert!(error.contains(said), "{args:?}: no `{said}` in\n{error}");
        assert_eq!(ended.stdout, "", "{args:?}");
    }
    let bad = Call::new(["config", "show"])
        .home(&home)
        .env("KAIROS_HTTP__PROT", "1")
        .run();
    assert!(bad.failed(2).contains("KAIROS_HTTP__PORT"));
}

#[test]
fn what_does_not_work_ends_with_1_and_says_why() {
    let home = Home::initialized();
    let nowhere = Home::new();
    for (on, args, said) in [
        (&nowhere, &["skill", "list"][..], "run kairos-chain init"),
        (
            &home,
            &["skillset", "info", "nothing"],
            "SkillSet 'nothing' not found",
        ),
        (&home, &["skillset", "enable", "nothing"], "not found"),
        (&home, &["skillset", "package", "nothing"], "not found"),
        (
            &home,
            &["skillset", "install", "/nonexistent"],
            "/nonexistent",
        ),
        (
            &home,
            &["skillset", "install-archive", "/nonexistent"],
            "/nonexistent",
        ),
        (
            &home,
            &["peers", "show", "nobody"],
            "No peer `nobody` is known",
        ),
        (
            &home,
            &["quarantine", "show", "000000000000"],
            "nothing waits in quarantine",
        ),
        (
            &home,
            &["approve", "--yes", "000000000000"],
            "nothing waits in quarantine",
        ),
        (
            &home,
            &["reject", "000000000000"],
            "nothing waits in quarantine",
        ),
        (&home, &["provenance", "nothing"], "'nothing'"),
        (&home, &["skill", "share", "nothing"], "'nothing' not found"),
        (
            &home,
            &["skill", "export", "nothing"],
            "'nothing' not found",
        ),
        (&home, &["skill", "import", "/nonexistent"], "/nonexistent"),
        (&home, &["chain", "checkpoint"], "there is no ledger yet"),
        (&home, &["chain", "prove", "7"], "there is no ledger yet"),
        (
            &home,
            &["chain", "verify-proof", "/nonexistent"],
            "/nonexistent",
        ),
        (
            &home,
            &["meet", "http://127.0.0.1:1"],
            "no connection to http://127.0.0.1:1",
        ),
    ] {
        let ended = on.run(args);
        let error = ended.clone().failed(1);
        assert!(error.contains(said), "{args:?}: no `{said}` in\n{error}");
        assert_eq!(
            error.matches(said).count(),
            1,
            "{args:?}: said twice\n{error}"
        );
        assert_eq!(ended.stdout, "", "{args:?}");
    }
    assert!(!nowhere.data_dir().exists());
}

#[test]
fn json_is_json_for_every_command_that_answers() {
    let home = Home::new();
    home.json(["init"]);
    home.skill("note", "# A note\n");
    let set = home.skill_set("pack");
    home.json(["skillset".as_ref(), "install".as_ref(), set.as_os_str()]);
    for args in [
        &["skill", "list"][..],
        &["skillset", "list"],
        &["skillset", "info", "pack"],
        &["skillset", "package", "pack"],
        &["skillset", "enable", "pack"],
        &["skillset", "disable", "pack"],
        &["quarantine"],
        &["quarantine", "list"],
        &["provenance", "note"],
        &["provenance", "pack"],
        &["peers", "list"],
        &["inbox"],
        &["inbox", "clear"],
        &["chain", "record", "a text"],
        &["chain", "status"],
        &["chain", "verify"],
        &["chain", "history"],
        &["chain", "checkpoint"],
        &["chain", "prove", "1"],
        &["config", "show"],
        &["config", "check"],
        &["skill", "share", "note"],
        &["skill", "unshare", "note"],
        &["skill", "export", "note"],
        &["skillset", "remove", "pack"],
        &["init"],
    ] {
        let told: Value = home.json(args);
        assert!(told.is_object() || told.is_array(), "{args:?}: {told}");
    }
}

#[test]
fn output_that_nobody_sees_has_no_escapes() {
    let home = Home::initialized();
    home.skill(
        "steer",
        "---\npublic: true\ndescription: \"\\e[2J\\e]0;owned\\a\"\n---\n",
    );
    for (no_color, args) in [
        ("1", &["skill", "list"][..]),
        ("", &["skill", "list"]),
        ("1", &["--color", "always", "skill", "list"]),
        ("1", &["demo"]),
        ("1", &["dance"]),
        ("1", &["peers", "list"]),
    ] {
        let ended = Call::new(args).home(&home).env("NO_COLOR", no_color).run();
        let asked = args.contains(&"always");
        let text = format!("{}{}", ended.stdout, ended.stderr);
        assert!(
            !text.contains("\u{1b}[2J") && !text.contains("\u{1b}]"),
            "{args:?}"
        );
        assert_eq!(text.contains('\u{1b}'), asked, "{args:?}: {text:?}");
    }
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let home = Home::initialized();
    for args in [
        "skill list",
        "--json skill list",
        "config show",
        "--help",
        "completions bash",
        "chain history",
    ] {
        let mut shell = without_settings("bash");
        // Nobody reads from the start, so the first write already finds the pipe closed.
        let script = format!("set -o pipefail; \"$0\" {args} | true; echo ${{PIPESTATUS[0]}}");
        let shell = shell
            .args(["-c", &script])
            .arg(binary())
            .env("KAIROS_DATA_DIR", home.data_dir());
        let done = shell.stdin(Stdio::null()).output().unwrap();
        let error = String::from_utf8_lossy(&done.stderr);
        assert!(
            !error.contains("panicked") && !error.contains("error"),
            "{args}: {error}"
        );
    }
    let script = "\"$0\" --help | head -1";
    let done = without_settings("bash")
        .args(["-c", script])
        .arg(binary())
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&done.stdout).lines().count(), 1);
    assert_eq!(String::from_utf8_lossy(&done.stderr), "");
}
