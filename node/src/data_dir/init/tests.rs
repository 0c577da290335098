//! Fresh, half-made, foreign and impossible directories, and the texts that go into them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;
use serde_json::Value;
use tempfile::TempDir;

use super::*;
use crate::data_dir::Surroundings;

/// The upgrade tracking that the reference wrote into a fresh directory.
const REFERENCE_META: &str = include_str!("../../../tests/fixtures/kairos-meta-fresh-v2.2.0.yml");

/// A directory as the reference leaves it, as far as this program looks at it.
const REFERENCE_DIR: [(&str, &str); 7] = [
    (".kairos_meta.yml", REFERENCE_META),
    (
        "skills/kairos.rb",
        "skill :core_safety do\n  version \"1.1\"\n  evolve { deny :all }\nend\n",
    ),
    (
        "skills/config.yml",
        "enabled: true\nkairos_meta_skills:\n  - l0_governance\n  - core_safety\nhttp:\n  enabled: false\n  \
         host: 0.0.0.0\n  port: 8080\nkairos_meta_skills:\n  - core_safety\n",
    ),
    (
        "skillsets/config.yml",
        "---\nskillsets:\n  mmp:\n    enabled: true\n",
    ),
    (
        "skillsets/mmp/config/meeting.yml",
        "enabled: true\nidentity:\n  name: \"Ruby\"\n",
    ),
    ("knowledge/note/note.md", "---\nname: note\n---\n\nText\n"),
    ("storage/blockchain.json", "[\n\n]"),
];

fn dir(path: impl Into<PathBuf>) -> DataDir {
    DataDir::resolve(Some(&path.into()), &Surroundings::default())
}

fn init(path: &Path) -> InitReport {
    dir(path).init(Timestamp::from_secs(1_700_000_000)).unwrap()
}

fn fill(root: &Path, files: &[(&str, &str)]) {
    for (name, text) in files {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

/// Every file below `root` with its content.
fn files(root: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![root.to_owned()];
    while let Some(next) = waiting.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
            } else {
                let name = path
                    .strip_prefix(root)
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .to_owned();
                found.insert(name, fs::read_to_string(&path).unwrap());
            }
        }
    }
    found
}

fn outcomes(report: &InitReport, wanted: Outcome) -> Vec<&str> {
    let items = report.items.iter().filter(|item| item.outcome == wanted);
    items.map(|item| item.path.as_str()).collect()
}

fn yaml(text: &str) -> BTreeMap<String, Value> {
    serde_saphyr::from_str(text).unwrap()
}

#[test]
fn a_fresh_directory_gets_everything_and_a_second_run_changes_nothing() {
    let temp = TempDir::new().unwrap();
    let root = temp.path().join("not/yet/there");
    assert!(!dir(&root).is_initialized());
    let first = init(&root);
    assert!(dir(&root).is_initialized() && !first.was_initialized);
    assert_eq!(outcomes(&first, Outcome::Created).len(), first.items.len());
    assert_eq!(
        (first.knowledge_installed, first.knowledge_existing),
        (2, 0)
    );
    assert_eq!(first.meta, Outcome::Created);
    assert!(DIRECTORIES.iter().all(|name| root.join(name).is_dir()));
    let made = files(&root);
    assert_eq!(
        made.len(),
        TRACKED.len() + KNOWLEDGE.len() + 2,
        "no temporary file is left"
    );
    assert!(
        TRACKED
            .iter()
            .all(|template| made[template.path] == template.text)
    );
    assert_eq!(made["config/kairos.yml"], crate::config::example());

    let second = dir(&root)
        .init(Timestamp::from_secs(1_800_000_000))
        .unwrap();
    assert_eq!(outcomes(&second, Outcome::Exists).len(), first.items.len());
    assert_eq!(
        (second.knowledge_installed, second.knowledge_existing),
        (0, 2)
    );
    assert_eq!(second.meta, Outcome::Exists);
    assert_eq!(files(&root), made);
}

#[test]
fn a_fresh_directory_loads_with_the_built_in_settings() {
    let temp = TempDir::new().unwrap();
    init(temp.path());
    let loaded = crate::config::load(temp.path(), std::iter::empty(), &[]).unwrap();
    assert_eq!(loaded.settings, crate::config::Settings::default());
    assert_eq!(
        loaded.sources.keys().collect::<Vec<_>>(),
        [
            "http.host",
            "http.port",
            "storage.backend",
            "storage.sqlite_path",
            "storage.sqlite_wal"
        ]
    );
}

#[test]
fn what_is_missing_is_added_and_what_is_there_stays() {
    let temp = TempDir::new().unwrap();
    let kept = [
        ("skills/kairos.rb", "# mine\n"),
        ("config/kairos.yml", ""),
        ("knowledge/meeting_safely/other.md", "mine"),
        (
            "knowledge/.archived/kairos_getting_started/kairos_getting_started.md",
            "old",
        ),
    ];
    fill(temp.path(), &kept);
    let report = init(temp.path());
    assert_eq!(
        outcomes(&report, Outcome::Exists),
        [
            "skills/",
            "knowledge/",
            "config/",
            "skills/kairos.rb",
            "config/kairos.yml"
        ]
    );
    assert_eq!(
        (report.knowledge_installed, report.knowledge_existing),
        (0, 2)
    );
    let now = files(temp.path());
    assert!(kept.iter().all(|(name, text)| now[*name] == *text));
    assert!(
        !temp
            .path()
            .join("knowledge/kairos_getting_started")
            .exists(),
        "archived is archived"
    );
}

#[test]
fn an_interrupted_installation_is_completed() {
    let temp = TempDir::new().unwrap();
    fs::create_dir_all(temp.path().join("knowledge/meeting_safely")).unwrap();
    assert_eq!(init(temp.path()).knowledge_installed, 2);
    assert!(
        temp.path()
            .join("knowledge/meeting_safely/meeting_safely.md")
            .is_file()
    );
}

#[test]
fn a_directory_of_the_reference_opens_as_it_is() {
    let temp = TempDir::new().unwrap();
    fill(temp.path(), &REFERENCE_DIR);
    let before = files(temp.path());
    let found = dir(temp.path()).existing().unwrap();
    let settings = crate::config::load(found.path(), std::iter::empty(), &[])
        .unwrap()
        .settings;
    assert_eq!(
        (settings.http.host.as_str(), settings.identity.name.as_str()),
        ("0.0.0.0", "Ruby")
    );
    assert_eq!(files(temp.path()), before, "reading changes nothing");

    let report = init(temp.path());
    assert!(report.was_initialized);
    assert_eq!(report.meta, Outcome::Exists);
    let after = files(temp.path());
    assert!(
        before.iter().all(|(name, text)| after[name] == *text),
        "nothing of theirs is touched"
    );
}

#[test]
fn a_path_that_cannot_be_a_directory_is_refused_in_words() {
    let temp = TempDir::new().unwrap();
    fill(temp.path(), &[("file", "x"), ("half/skills", "x")]);
    for (path, told) in [
        ("file", "file"),
        ("file/below", "file/below"),
        ("half", "half/skills"),
    ] {
        let error = dir(temp.path().join(path))
            .init(Timestamp::EPOCH)
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("{}/{told} is not a directory", temp.path().display())
        );
    }
}

#[cfg(unix)]
#[test]
fn secrets_are_closed_to_others_and_the_rest_follows_the_umask() {
    use std::os::unix::fs::PermissionsExt;
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let temp = TempDir::new().unwrap();
    init(temp.path());
    assert!(
        PRIVATE
            .iter()
            .all(|name| mode(&temp.path().join(name)) == 0o700)
    );

    let probe = temp.path().join("probe");
    fs::write(&probe, "").unwrap();
    assert_eq!(mode(&temp.path().join("skills/kairos.md")), mode(&probe));

    for name in PRIVATE {
        fs::set_permissions(temp.path().join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
    assert_eq!(outcomes(&init(temp.path()), Outcome::Repaired), ["keys/"]);
    assert_eq!(mode(&temp.path().join("keys")), 0o700);
    assert_eq!(mode(&temp.path().join("storage")), 0o755);
}

#[cfg(unix)]
#[test]
fn a_link_is_followed_for_directories_and_never_written_through_for_files() {
    let temp = TempDir::new().unwrap();
    let root = temp.path().join("data");
    fs::create_dir_all(temp.path().join("elsewhere")).unwrap();
    fs::create_dir_all(root.join("config")).unwrap();
    std::os::unix::fs::symlink("../elsewhere", root.join("knowledge")).unwrap();
    std::os::unix::fs::symlink("../../target.yml", root.join("config/safety.yml")).unwrap();
    let report = init(&root);
    assert_eq!(
        outcomes(&report, Outcome::Exists),
        ["knowledge/", "config/", "config/safety.yml"]
    );
    assert!(temp.path().join("elsewhere/meeting_safely").is_dir());
    assert!(!temp.path().join("target.yml").exists());
}

#[test]
fn the_upgrade_tracking_reads_like_the_reference_and_gives_it_nothing_to_overwrite() {
    let text = meta_text(Timestamp::from_secs(1_700_000_000));
    let (ours, theirs) = (yaml(&text), yaml(REFERENCE_META));
    assert!(theirs.keys().all(|key| ours.contains_key(key)));
    assert_eq!(ours["kairos_mcp_version"], theirs["kairos_mcp_version"]);
    assert_eq!(ours["initialized_at"], "2023-11-14T22:13:20Z");
    assert_eq!(ours["template_hashes"], serde_json::json!({}));
    assert_eq!(ours["knowledge_hashes"], serde_json::json!({}));
    let own = &ours["kairos_chain"]["template_hashes"];
    let names = |value: &Value| {
        value
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect::<Vec<_>>()
    };
    assert_eq!(names(own), names(&theirs["template_hashes"]));
    let hash = kairos_protocol::hash::ContentHash::of(TRACKED[0].text.as_bytes());
    assert_eq!(own["skills/kairos.rb"], format!("sha256:{hash}"));
    assert_eq!(
        names(&ours["kairos_chain"]["knowledge_hashes"]).len(),
        KNOWLEDGE.len()
    );
}

/// The text of a template by its path.
fn template(path: &str) -> &'static str {
    TRACKED
        .iter()
        .find(|template| template.path == path)
        .unwrap()
        .text
}

#[test]
fn the_law_holds_the_eight_skills_in_order_with_their_versions() {
    let quoted = |line: &str| line.split('"').nth(1).unwrap().to_owned();
    let mut skills: Vec<(String, String)> = Vec::new();
    for line in template("skills/kairos.rb").lines() {
        if let Some(id) = line.strip_prefix("skill :") {
            skills.push((id.trim_end_matches(" do").to_owned(), String::new()));
        } else if line.starts_with("  version ") {
            skills.last_mut().unwrap().1 = quoted(line);
        }
    }
    let told: Vec<String> = skills
        .iter()
        .map(|(id, version)| format!("{id} {version}"))
        .collect();
    assert_eq!(
        told,
        [
            "l0_governance 1.0",
            "core_safety 1.1",
            "evolution_rules 1.0",
            "layer_awareness 1.0",
            "approval_workflow 1.1",
            "self_inspection 1.1",
            "chain_awareness 1.1",
            "audit_rules 1.0",
        ]
    );
}

#[test]
fn the_constitution_has_the_known_sections_and_says_when_to_use_each() {
    let text = template("skills/kairos.md");
    let ids: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("## [")?.split_once("] "))
        .filter(|(_, title)| !title.is_empty())
        .map(|(id, _)| id)
        .collect();
    assert_eq!(
        ids,
        [
            "PHILOSOPHY-001",
            "PHILOSOPHY-005",
            "PHILOSOPHY-010",
            "PHILOSOPHY-020",
            "PRINCIPLE-010",
            "PRINCIPLE-020",
            "LAYER-010",
            "LAYER-020",
            "SPEC-010",
            "SPEC-020",
        ]
    );
    assert!(ids.iter().all(|id| {
        text.lines()
            .any(|line| line.starts_with(&format!("| {id} | ")))
    }));
}

#[test]
fn the_settings_templates_are_yaml_without_a_key_given_twice() {
    for path in [
        "skills/config.yml",
        "config/safety.yml",
        "config/tool_metadata.yml",
    ] {
        assert!(!yaml(template(path)).is_empty(), "{path}");
    }
    let config = yaml(template("skills/config.yml"));
    assert_eq!(config["http"]["host"], "127.0.0.1");
    assert_eq!(config["evolution_enabled"], false);
    assert_eq!(config["kairos_meta_skills"].as_array().unwrap().len(), 8);
}

#[test]
fn each_guide_introduces_itself_and_stays_private() {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Introduction {
        name: String,
        description: String,
        version: String,
        tags: Vec<String>,
        public: bool,
    }
    for guide in KNOWLEDGE {
        let (head, body) = guide
            .text
            .strip_prefix("---\n")
            .unwrap()
            .split_once("\n---\n")
            .unwrap();
        let told: Introduction = serde_saphyr::from_str(head).unwrap();
        assert_eq!(
            (told.name.as_str(), told.version.as_str()),
            (guide.name, "1.0")
        );
        assert!(!told.description.is_empty() && !told.tags.is_empty() && !body.trim().is_empty());
        assert!(!told.public);
    }
}
