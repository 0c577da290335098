use std::collections::BTreeMap;
use std::io::Read as _;

use super::*;

/// The head of a static program without segments, and some content.
fn programs(folder: &Path, content: &str) -> Programs {
    let mut program = vec![0; 64];
    program[..6].copy_from_slice(b"\x7fELF\x02\x01");
    program[18] = 62;
    program[54] = 56;
    program.extend_from_slice(content.as_bytes());
    let (node, verify) = (folder.join("kairos-chain"), folder.join("kairos-verify"));
    fs::write(&node, &program).unwrap();
    fs::write(&verify, &program).unwrap();
    Programs { node, verify }
}

fn files(archive: &[u8]) -> BTreeMap<String, (Vec<u8>, u32, u64)> {
    let mut archive = tar::Archive::new(archive);
    let entries = archive.entries().unwrap();
    entries
        .map(|entry| {
            let mut entry = entry.unwrap();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            let path = entry.path().unwrap().display().to_string();
            let header = entry.header();
            (path, (bytes, header.mode().unwrap(), header.uid().unwrap()))
        })
        .collect()
}

#[test]
fn the_same_programs_give_the_same_image_and_others_another() {
    let folder = tempfile::tempdir().unwrap();
    let make = |content: &str, revision, epoch| {
        let image = Image::of(&programs(folder.path(), content), TAG, revision, epoch).unwrap();
        (image.id, image.archive)
    };
    let first = make("one", None, 0);
    assert_eq!(make("one", None, 0), first);
    for other in [
        make("two", None, 0),
        make("one", Some("abc"), 0),
        make("one", None, 1),
    ] {
        assert_ne!(other.0, first.0);
    }
}

#[test]
fn the_image_holds_what_engines_look_for() {
    let folder = tempfile::tempdir().unwrap();
    let image = Image::of(&programs(folder.path(), ""), "a/b:c", None, 7).unwrap();
    let outer = files(&image.archive);
    let manifest: Value = serde_json::from_slice(&outer["manifest.json"].0).unwrap();
    assert_eq!(manifest[0]["RepoTags"], json!(["a/b:c"]));
    let config = &outer[manifest[0]["Config"].as_str().unwrap()].0;
    assert_eq!(format!("sha256:{}", digest(config)), image.id);
    let layer = &outer[manifest[0]["Layers"][0].as_str().unwrap()].0;
    let config: Value = serde_json::from_slice(config).unwrap();
    assert_eq!(
        config["rootfs"]["diff_ids"],
        json!([format!("sha256:{}", digest(layer))])
    );
    assert_eq!(config["config"]["User"], "65532:65532");
    assert_eq!(config["created"], "1970-01-01T00:00:07Z");
    assert!(config["config"].get("Volumes").is_none());
    let inner = files(layer);
    let modes: Vec<_> = inner
        .iter()
        .map(|(path, (_, mode, uid))| (path.as_str(), *mode, *uid))
        .collect();
    assert_eq!(
        modes,
        [
            ("bin/", 0o755, 0),
            ("bin/kairos-chain", 0o755, 0),
            ("data/", 0o700, USER),
            ("data/agent/", 0o700, USER),
            ("data/agent/config/", 0o755, USER),
            ("etc/", 0o755, 0),
            ("etc/group", 0o644, 0),
            ("etc/passwd", 0o644, 0),
        ]
    );
}

#[test]
fn a_name_without_a_tag_and_a_program_that_needs_libraries_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let wrong = |programs: &Programs, tag: &str| match Image::of(programs, tag, None, 0) {
        Ok(_) => panic!("it was made"),
        Err(error) => format!("{error:#}"),
    };
    let good = programs(folder.path(), "");
    assert!(wrong(&good, "host:5000/kairos-chain").contains("has no tag"));
    fs::write(&good.node, "#!/bin/sh\n").unwrap();
    assert!(
        wrong(&good, TAG).contains("kairos-chain is of no use in an empty image: not a 64-bit")
    );
}
