//! Other programs are told of an agent in one command, and forget it in another.

use std::fs;

use kairos_tests::{Call, Home};
use serde_json::{Value, json};

fn mcp(home: &Home, args: &[&str]) -> Call {
    Call::new(["mcp"])
        .args(args)
        .home(home)
        .env("HOME", home.path())
}

#[test]
fn a_fresh_configuration_starts_a_server_that_works() {
    for (client, file, group) in [
        ("claude-code", ".claude.json", "/mcpServers"),
        (
            "claude-desktop",
            ".config/Claude/claude_desktop_config.json",
            "/mcpServers",
        ),
        ("cursor", ".cursor/mcp.json", "/mcpServers"),
        ("vscode", ".config/Code/User/mcp.json", "/servers"),
    ] {
        if cfg!(target_os = "macos") && file.starts_with(".config") {
            continue;
        }
        let home = Home::initialized();
        mcp(&home, &["install", "--client", client]).run().done();
        let written: Value =
            serde_json::from_slice(&fs::read(home.path().join(file)).unwrap()).unwrap();
        let entry = written.pointer(group).unwrap()["kairos-chain"].clone();
        // As the program would: its words, nothing else.
        let args = entry["args"]
            .as_array()
            .unwrap()
            .iter()
            .map(|arg| arg.as_str().unwrap());
        assert!(
            std::path::Path::new(entry["command"].as_str().unwrap()).is_absolute(),
            "{entry}"
        );
        let said = Call::new(args)
            .stdin(format!("{}\n", super::call(1, "chain_verify", &json!({}))))
            .run()
            .done();
        assert!(
            said.contains("Blockchain Integrity Verified: OK"),
            "{client}: {said}"
        );
        let told = mcp(
            &home,
            &["doctor", "--client", client, "--name", "kairos-chain"],
        )
        .arg("--json")
        .run()
        .json();
        assert_eq!(told["ok"], true, "{client}: {told}");
    }
}

#[test]
fn a_configuration_in_toml_works_too() {
    let home = Home::initialized();
    mcp(&home, &["install", "--client", "codex"]).run().done();
    let told = mcp(&home, &["doctor", "--client", "codex"])
        .arg("--json")
        .run()
        .json();
    assert_eq!(told["ok"], true, "{told}");
}

#[test]
fn everything_else_is_kept_a_copy_made_and_it_can_be_taken_back() {
    let home = Home::initialized();
    let file = home.path().join("mcp.json");
    let before = "{\n  \"theme\": \"dark\",\n  \"mcpServers\": {\n    \"other\": {\n      \"command\": \"x\"\n    }\n  }\n}\n";
    fs::write(&file, before).unwrap();
    let args = ["--client", "cursor", "--file", "mcp.json"];
    let said = mcp(&home, &["install"]).args(args).run().done();
    assert!(
        said.contains("installed") && said.contains(".bak."),
        "{said}"
    );
    let copies = || {
        let names = fs::read_dir(home.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names
            .filter(|name| name.starts_with("mcp.json.bak."))
            .count()
    };
    assert_eq!(copies(), 1);
    let said = mcp(&home, &["install"]).args(args).run().done();
    assert!(said.contains("nothing to do"), "{said}");
    assert_eq!(copies(), 1);
    mcp(&home, &["uninstall"]).args(args).run().done();
    assert_eq!(fs::read_to_string(&file).unwrap(), before);
    let said = mcp(&home, &["uninstall"]).args(args).run().done();
    assert!(said.contains("nothing to do"), "{said}");
}

#[test]
fn what_cannot_be_read_is_left_alone_with_what_to_write_by_hand() {
    let home = Home::initialized();
    let file = home.path().join("mcp.json");
    fs::write(&file, "// mine\n{}").unwrap();
    let args = ["--client", "vscode", "--file", "mcp.json"];
    let said = mcp(&home, &["install"]).args(args).run().failed(1);
    assert!(
        said.contains("by hand") && said.contains("\"command\""),
        "{said}"
    );
    assert_eq!(fs::read_to_string(&file).unwrap(), "// mine\n{}");
}

#[test]
fn the_doctor_says_what_is_wrong() {
    let home = Home::initialized();
    let said = mcp(&home, &["doctor"]).arg("--json").run().json();
    assert_eq!(said["ok"], true, "{said}");
    let said = mcp(&home, &["doctor", "--client", "cursor"]).run();
    assert!(
        said.stdout.contains("mcp install --client cursor"),
        "{}",
        said.stdout
    );
    said.code_is(1);
    let file = home.path().join("mcp.json");
    fs::write(
        &file,
        r#"{"mcpServers": {"kairos-chain": {"command": "/bin/sh", "args": ["-c", "echo hello; cat > /dev/null"]}}}"#,
    )
    .unwrap();
    let said = mcp(
        &home,
        &["doctor", "--client", "cursor", "--file", "mcp.json"],
    )
    .run();
    assert!(said.stdout.contains("no message: hello"), "{}", said.stdout);
    said.code_is(1);
}
