//! The files for those who run nodes say what is so.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use kairos_tests::{Call, Home};
use serde_json::Value;

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy")
}

fn read(name: &str) -> String {
    fs::read_to_string(deploy().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Returns every word of `text` that begins with `prefix`, up to the first character that `part` is false for.
fn words(text: &str, prefix: &str, part: impl Fn(char) -> bool) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, _) in text.match_indices(prefix) {
        let before = text[..at].chars().next_back();
        if !before.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_') {
            found.insert(text[at..].chars().take_while(|&c| part(c)).collect());
        }
    }
    found
}

#[test]
fn every_variable_in_the_files_is_a_setting() {
    let home = Home::initialized();
    let shown = home.json(["config", "show"]);
    let keys: BTreeSet<String> = shown
        .as_array()
        .expect("rows")
        .iter()
        .map(|row| row["key"].as_str().expect("a key").to_owned())
        .collect();
    let mut seen = 0;
    for file in [
        "compose.yaml",
        "compose.place.yaml",
        "compose.metrics.yaml",
        "compose.testnet.yaml",
        "kairos-chain.service",
        "Dockerfile",
        "README.md",
    ] {
        let variables = words(&read(file), "KAIROS_", |c| {
            c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_'
        });
        // Those with one underscore are for Compose, or say where the data directory is.
        for variable in variables.iter().filter(|name| name.contains("__")) {
            let key = variable
                .trim_start_matches("KAIROS_")
                .replacen("__", ".", 1)
                .to_lowercase();
            assert!(keys.contains(&key), "{file}: {variable} is no setting");
            seen += 1;
        }
    }
    assert!(seen > 20, "{seen}");
}

#[test]
fn every_alert_is_explained() {
    let alerts: Value = serde_saphyr::from_str(&read("prometheus/alerts.yaml")).expect("YAML");
    let rules = alerts["groups"][0]["rules"].as_array().expect("rules");
    let handbook = read("README.md");
    assert!(rules.len() > 10);
    for rule in rules {
        let name = rule["alert"].as_str().expect("a name");
        assert!(
            handbook.contains(&format!("`{name}`")),
            "the handbook does not say what to do about {name}"
        );
    }
}

#[test]
fn every_figure_that_is_watched_is_one_that_nodes_show() {
    let part = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
    let page = fs::read_to_string(page).expect("the page of the figures");
    let figures = |text: &str| {
        let mut found = words(text, "kairos_", part);
        found.extend(words(text, "process_", part));
        found
    };
    let shown = figures(&page);
    for file in ["prometheus/alerts.yaml", "grafana/kairos-chain.json"] {
        let watched = figures(&read(file));
        assert!(watched.len() > 10, "{file}");
        for name in watched {
            // What Prometheus makes of a histogram.
            let figure = name.trim_end_matches("_bucket");
            assert!(shown.contains(figure), "{file}: no node shows {name}");
        }
    }
}

#[test]
fn refuses_to_serve_from_where_nothing_lasts() {
    // In memory on every Linux.
    let fleeting = tempfile::tempdir_in("/dev/shm").expect("a directory in memory");
    let home = fleeting.path().join("agent");
    let told = Call::new(["--set", "storage.must_persist=true", "--data-dir"])
        .args([home.as_os_str()])
        .args(["serve", "--port", "0"])
        .run()
        .failed(1);
    assert!(told.contains("would be lost"), "{told}");
    assert!(told.contains("storage.must_persist"), "{told}");
    assert!(!home.exists(), "something was written there");
}
