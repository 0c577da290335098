//! The documentation does what it says.

use std::fs;
use std::path::Path;

use kairos_tests::{Console, binary};

/// One test, because two files may name the same port.
#[test]
fn every_session_in_the_documentation_runs_as_shown() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut files = vec![root.join("README.md"), root.join("deploy/README.md")];
    let pages = fs::read_dir(root.join("tests/docs")).into_iter().flatten();
    files.extend(pages.map(|page| page.expect("an entry").path()));
    files.sort();
    let mut failures = Vec::new();
    for file in &files {
        let name = file
            .strip_prefix(&root)
            .expect("they begin there")
            .display()
            .to_string();
        let text = fs::read_to_string(file).unwrap_or_else(|error| panic!("{name}: {error}"));
        match Console::parse(&name, &text) {
            Ok(console) if console.is_empty() => failures.push(format!("{name}: shows no session")),
            Ok(console) => failures.extend(console.run(binary()).err()),
            Err(error) => failures.push(error),
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
