//! Whole ledgers through the MCP door: out into a directory of their own, and in by the user alone.

use std::fs;

use kairos_tests::Home;
use serde_json::{Value, json};

use super::{data, refused, text, tool};

fn ledger(home: &Home) -> Vec<u8> {
    fs::read(home.data_dir().join("storage/blockchain.json")).unwrap()
}

fn record(home: &Home, what: &str) {
    data(home, "chain_record", &json!({"logs": [what]}));
}

#[test]
fn a_ledger_is_exported_where_nothing_is() {
    let home = Home::initialized();
    record(&home, "one");
    let said = tool(&home, "chain_export", &json!({"output_dir": "spring"}));
    assert!(
        text(&said).starts_with("Export completed successfully!\n\nOutput directory: "),
        "{said}"
    );
    assert!(text(&said).contains("\n- Blocks: 2\n"), "{said}");
    let folder = home.data_dir().join("storage/export/spring");
    for file in [
        "blockchain.json",
        "action_log.jsonl",
        "knowledge_meta.json",
        "manifest.json",
    ] {
        assert!(folder.join(file).is_file(), "{file}");
    }
    let again = refused(&home, "chain_export", &json!({"output_dir": "spring"}));
    assert!(again.contains("exists already"), "{again}");
    for elsewhere in ["/tmp/kairos-elsewhere", "../spring", "a/b", "."] {
        let said = refused(&home, "chain_export", &json!({"output_dir": elsewhere}));
        assert!(
            said.contains("kairos-chain chain export DIRECTORY"),
            "{said}"
        );
    }
    let named = [(); 2].map(|()| data(&home, "chain_export", &json!({})));
    assert_eq!(named[0]["blocks"], 2);
    assert_ne!(named[0]["output_dir"], named[1]["output_dir"]);
}

#[test]
fn no_argument_takes_a_ledger_and_the_command_that_is_told_does() {
    let home = Home::initialized();
    record(&home, "one");
    data(&home, "chain_export", &json!({"output_dir": "spring"}));
    let folder = home.data_dir().join("storage/export/spring");
    let look = |approved: bool| {
        json!({
            "source": "export", "input_dir": folder, "approved": approved, "skip_backup": true,
        })
    };
    let same = data(&home, "chain_import", &look(true));
    assert_eq!(same["import_with"], Value::Null, "{same}");
    record(&home, "two");
    let before = ledger(&home);
    let behind = data(&home, "chain_import", &look(false));
    assert_eq!(
        (
            &behind["blocks"],
            &behind["current_blocks"],
            &behind["harmless"]
        ),
        (&json!(2), &json!(3), &json!(false))
    );
    let command = behind["import_with"].as_str().unwrap();
    assert!(command.ends_with(" --replace"), "{command}");
    let said = refused(&home, "chain_import", &look(true));
    assert!(
        said.starts_with("## Human Approval Required\n\nNothing was imported"),
        "{said}"
    );
    assert!(
        said.contains("=== Import Preview (DRY RUN) ===") && said.contains(command),
        "{said}"
    );
    assert_eq!(ledger(&home), before);
    assert!(!home.data_dir().join("storage/backups").exists());
    home.run(["chain", "import", folder.to_str().unwrap(), "--replace"])
        .done();
    assert_eq!(data(&home, "chain_status", &json!({}))["length"], 2);
}

#[test]
fn what_is_no_ledger_is_told_and_changes_nothing() {
    let home = Home::initialized();
    record(&home, "one");
    let before = ledger(&home);
    let folder = home.data_dir().join("storage/export/bad");
    fs::create_dir_all(&folder).unwrap();
    let look = json!({"source": "export", "input_dir": folder, "approved": true});
    assert!(refused(&home, "chain_import", &look).starts_with("Import failed: cannot read "));
    let text = String::from_utf8(before.clone()).unwrap();
    fs::write(folder.join("blockchain.json"), text.replace("one", "two")).unwrap();
    let said = refused(&home, "chain_import", &look);
    assert!(said.contains("is not a ledger"), "{said}");
    let device = json!({"source": "export", "input_dir": "/dev/zero", "approved": false});
    assert!(refused(&home, "chain_import", &device).contains("/dev/zero is not a file"));
    let itself = json!({"source": "files", "approved": false});
    assert!(refused(&home, "chain_import", &itself).contains("storage/blockchain.json itself"));
    assert_eq!(ledger(&home), before);
}

#[test]
fn a_former_file_is_compared_with_the_database_in_use() {
    let home = Home::initialized();
    record(&home, "one");
    let file = ledger(&home);
    home.run(["chain", "migrate", "--to", "sqlite"]).done();
    record(&home, "two");
    fs::write(home.data_dir().join("storage/blockchain.json"), file).unwrap();
    let files = json!({"source": "files", "approved": false});
    let said = tool(&home, "chain_import", &files);
    assert!(
        text(&said).contains("The ledger in use has more blocks."),
        "{said}"
    );
    assert_eq!(said["structuredContent"]["current_blocks"], 3);
}
