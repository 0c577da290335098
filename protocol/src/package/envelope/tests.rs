//! Whole packages: what the reference recorded, and what ours must notice.

use super::*;
use crate::crypto::Keypair;
use crate::package::tests::{files, packed};
use crate::package::unpack;
use crate::provenance::Kind;

/// What the reference installs, or refuses for reasons of its language, and we refuse in other words.
const DIFFERENT: &[(&str, &str)] = &[
    ("archive_traversal_absolute", "the path is absolute"),
    (
        "archive_dotdot_inside",
        "Path traversal detected in archive: h1/x/../y.txt",
    ),
    (
        "archive_outside_top_dir",
        "lies outside the directory of the SkillSet",
    ),
    (
        "archive_outside_skillset_dir_prefix",
        "lies outside the directory of the SkillSet",
    ),
    ("archive_symlink", "h1/link: is a symbolic link"),
    ("archive_hardlink", "h1/hl: is a hard link"),
    ("archive_symlink_dir_then_file", "h1/d: is a symbolic link"),
    ("archive_fifo", "h1/ff: is a device, pipe or socket"),
    ("archive_archive_truncated", "the archive is cut off"),
    (
        "archive_exec_outside_bin",
        "h1/bin/run.sh: files ending in .sh can run",
    ),
    (
        "archive_exec_in_knowledge",
        "h1/knowledge/t/run.py: files ending in .py can run",
    ),
    (
        "archive_exec_root_rb",
        "h1/evil.rb: files ending in .rb can run",
    ),
    (
        "archive_exec_tools_hidden",
        "h1/tools/.a.rb: files ending in .rb can run",
    ),
    (
        "archive_exec_tools_php",
        "h1/tools/a.php: files ending in .php can run",
    ),
    (
        "archive_exec_tools_bat",
        "h1/tools/a.bat: files ending in .bat can run",
    ),
    (
        "archive_exec_Tools_case",
        "h1/Tools/a.rb: files ending in .rb can run",
    ),
    (
        "archive_hidden_file_hash_without_it",
        "h1/.hidden: is a dot-file",
    ),
    (
        "archive_hidden_file_hash_with_it",
        "h1/.hidden: is a dot-file",
    ),
    // Errors of the reference's language or library.
    (
        "archive_name_number",
        "`name` of the package is a number, a string is expected",
    ),
    ("archive_archive_gzip_of_garbage", "the archive is damaged"),
    ("archive_json_not_object", "an object is expected"),
    ("archive_json_invalid", "the text is not JSON"),
    // The reference shows the path of its temporary directory.
    (
        "archive_skillset_json_missing",
        "skillset.json not found in 'h1'",
    ),
    (
        "archive_skillset_json_invalid",
        "Invalid skillset.json: the text is not JSON",
    ),
];

fn install(text: &str) -> Result<ContentHash, String> {
    let limits = PackageLimits::default();
    let package =
        SkillSetPackage::from_json(text.as_bytes(), &limits).map_err(|e| e.to_string())?;
    let archive = package.archive().map_err(|e| e.to_string())?;
    let contents = unpack(&*archive, &package.name, &limits, |_, _, _| Ok(()));
    package
        .check(&contents.map_err(|e| e.to_string())?)
        .map_err(|e| e.to_string())
}

#[test]
fn treats_recorded_packages_as_the_reference_did() {
    let recorded = include_str!("../../../tests/fixtures/install-archive.jsonl");
    let mut differing = 0;
    for line in recorded.lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let name = case["case"].as_str().unwrap();
        let found = install(case["stdin"].as_str().unwrap());
        let other = DIFFERENT.iter().find(|(case, _)| *case == name);
        differing += usize::from(other.is_some());
        match (other, case["error"].as_str()) {
            (Some((_, words)), _) => {
                let error = found.unwrap_err();
                assert!(error.contains(words), "{name}: {error}");
            }
            (None, Some(words)) => {
                let error = found.unwrap_err();
                assert!(error.contains(words), "{name}: {error}");
            }
            (None, None) => assert_eq!(found.unwrap().to_hex(), case["content_hash"], "{name}"),
        }
    }
    assert_eq!((recorded.lines().count(), differing), (71, DIFFERENT.len()));
}

fn package() -> (SkillSetPackage, Contents) {
    let key = Keypair::generate().unwrap();
    let now = Timestamp::from_secs(1_800_000_000);
    let (contents, archive) = packed(&files(&[("a.md", "a")]), &PackageLimits::default()).unwrap();
    let mut package = SkillSetPackage::new(&contents, &archive, Layer::L2, now);
    let (id, hash) = (key.public().agent_id(), contents.content_hash());
    package.manifest = Some(SignedManifest::new(&contents, id.clone(), &key, now).unwrap());
    let authored = Provenance::authored(Kind::SkillSet, "kp", hash, id, &key, now);
    package.provenance = Some(authored.unwrap());
    (package, contents)
}

fn parsed(value: &Value) -> Result<SkillSetPackage, EnvelopeError> {
    SkillSetPackage::from_json(value.to_string().as_bytes(), &PackageLimits::default())
}

#[test]
fn a_package_survives_the_wire_bare_and_wrapped() {
    let (package, contents) = package();
    let value = package.to_json().unwrap();
    let keys: Vec<&String> = value.as_object().unwrap().keys().collect();
    assert_eq!(
        keys,
        [
            "name",
            "version",
            "layer",
            "description",
            "content_hash",
            "file_list",
            "archive_base64",
            "packaged_at",
            "manifest",
            "manifest_signature",
            "provenance",
        ]
    );
    assert_eq!(parsed(&value).unwrap(), package);
    let wrapped = serde_json::json!({"skillset_package": value});
    assert_eq!(parsed(&wrapped).unwrap(), package);
    assert_eq!(package.check(&contents).unwrap(), contents.content_hash());
}

#[test]
fn a_package_that_is_not_what_it_says_is_refused() {
    let (package, contents) = package();
    let value = package.to_json().unwrap();
    let zero = "0".repeat(64);
    for (key, changed, error) in [
        (
            "content_hash",
            Value::from(zero),
            "Content hash mismatch: expected 0000",
        ),
        (
            "content_hash",
            "".into(),
            "Content hash mismatch: expected , got ",
        ),
        (
            "version",
            "2.0".into(),
            "the package declares version 2.0 but skillset.json contains 1.0.0",
        ),
        (
            "file_list",
            serde_json::json!(["a.md"]),
            "the package declares other files",
        ),
        (
            "manifest_signature",
            Value::Null,
            "the manifest is not signed",
        ),
        (
            "manifest_signature",
            "AAAA".into(),
            "the manifest does not verify",
        ),
        (
            "manifest",
            serde_json::json!({}),
            "the manifest is malformed",
        ),
        (
            "manifest",
            "x".into(),
            "`manifest` of the package is a string, an object is expected",
        ),
        (
            "provenance",
            serde_json::json!([]),
            "`provenance` of the package is an array",
        ),
        (
            "provenance",
            serde_json::json!({"version": 1}),
            "the provenance is malformed",
        ),
        (
            "file_list",
            serde_json::json!([1]),
            "`file_list` of the package is a number",
        ),
        (
            "description",
            5.into(),
            "`description` of the package is a number",
        ),
        ("layer", "L9".into(), "Invalid layer 'L9'"),
        ("name", Value::Null, "Archive missing 'name'"),
        (
            "archive_base64",
            false.into(),
            "Archive missing 'archive_base64'",
        ),
    ] {
        let mut value = value.clone();
        value[key] = changed;
        let result = parsed(&value).and_then(|package| package.check(&contents));
        let found = result.unwrap_err().to_string();
        assert!(found.contains(error), "{key}: «{found}» has not «{error}»");
    }
    for absent in [
        "content_hash",
        "file_list",
        "manifest",
        "provenance",
        "packaged_at",
        "layer",
    ] {
        let mut value = value.clone();
        value[absent] = Value::Null;
        let package = parsed(&value).unwrap();
        assert_eq!(
            package.check(&contents).unwrap(),
            contents.content_hash(),
            "{absent}"
        );
    }
}

#[test]
fn evidence_for_other_content_is_refused() {
    let (package, _) = package();
    let (other, _) = packed(&files(&[("a.md", "b")]), &PackageLimits::default()).unwrap();
    let bare = SkillSetPackage {
        content_hash: None,
        ..package
    };
    let no_provenance = SkillSetPackage {
        provenance: None,
        ..bare.clone()
    };
    assert!(matches!(
        no_provenance.check(&other),
        Err(EnvelopeError::Manifest(_))
    ));
    let no_manifest = SkillSetPackage {
        manifest: None,
        ..bare
    };
    assert!(matches!(
        no_manifest.check(&other),
        Err(EnvelopeError::Provenance(_))
    ));
}

#[test]
fn a_package_that_is_too_large_is_not_parsed() {
    let limits = PackageLimits {
        compressed: 0,
        ..PackageLimits::default()
    };
    let text = " ".repeat(4 * 1024 * 1024 + 1);
    let result = SkillSetPackage::from_json(text.as_bytes(), &limits);
    assert!(matches!(result, Err(EnvelopeError::TooLarge(_))));
}
