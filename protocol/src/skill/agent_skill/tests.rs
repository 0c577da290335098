use proptest::prelude::*;

use super::*;

fn file(path: &str, bytes: &str) -> File {
    File {
        path: path.to_owned(),
        bytes: bytes.as_bytes().to_vec(),
        executable: false,
    }
}

fn name(text: &str) -> SkillName {
    text.parse().unwrap()
}

fn paths(directory: &Directory) -> Vec<&str> {
    directory.files.iter().map(|f| f.path.as_str()).collect()
}

fn main_of(directory: &Directory, path: &str) -> String {
    let main = directory.files.iter().find(|f| f.path == path).unwrap();
    String::from_utf8(main.bytes.clone()).unwrap()
}

const TEA: &str = "---\nname: tea-making\ndescription: How to make tea.\n---\n\n# Tea\n\nSee [water](reference/water.md).\n";

fn tea() -> Vec<File> {
    let mut files = vec![
        file("LICENSE.txt", "MIT"),
        file(MAIN, TEA),
        file("reference/water.md", "# Water\n"),
        file("scripts/boil.py", "print('boil')\n"),
        File {
            path: "assets/cup.png".to_owned(),
            bytes: vec![0x89, b'P', 0, 255],
            executable: false,
        },
    ];
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files
}

#[test]
fn imports_a_directory_without_touching_a_byte_and_exports_it_again() {
    let entry = import(&name("tea-making"), &tea()).unwrap();
    assert_eq!(entry.name.as_str(), "tea-making");
    assert_eq!(
        paths(&entry),
        [
            SIDECAR,
            "LICENSE.txt",
            "assets/cup.png",
            "reference/water.md",
            "scripts/boil.py",
            "tea-making.md"
        ]
    );
    assert_eq!(main_of(&entry, "tea-making.md"), TEA);
    assert_eq!(scripts(&entry.files), ["scripts/boil.py"]);
    let back = export(&entry.name, &entry.files).unwrap();
    assert_eq!((back.name.as_str(), back.files), ("tea-making", tea()));
}

#[test]
fn keeps_the_directory_and_the_spelling_that_were() {
    let files = vec![file("skill.md", TEA)];
    let entry = import(&name("Old Tea"), &files).unwrap();
    assert_eq!(entry.name.as_str(), "tea-making");
    let back = export(&entry.name, &entry.files).unwrap();
    assert_eq!((back.name.as_str(), back.files), ("Old Tea", files));
    for nameless in [
        "no frontmatter",
        "---\nname: Not A Name\n---\n",
        "---\nname: nul\n---\n",
    ] {
        let entry = import(&name("dir"), &[file(MAIN, nameless)]).unwrap();
        assert_eq!(entry.name.as_str(), "dir", "{nameless}");
    }
}

#[test]
fn moves_files_out_of_the_way_of_our_own_names() {
    let files = vec![
        file(SIDECAR, "not ours"),
        file(PROVENANCE, "{\"share\": true}"),
        file(MAIN, TEA),
        file("Tea-Making.md", "another"),
        file("renamed-1-provenance.json", "taken"),
    ];
    let entry = import(&name("tea-making"), &files).unwrap();
    assert_eq!(
        paths(&entry),
        [
            SIDECAR,
            "renamed-1-Tea-Making.md",
            "renamed-1-agent-skill.json",
            "renamed-1-provenance.json",
            "renamed-2-provenance.json",
            "tea-making.md"
        ]
    );
    assert_eq!(export(&entry.name, &entry.files).unwrap().files, files);
}

#[test]
fn exports_what_the_format_demands_and_takes_back_what_was() {
    for (text, exported) in [
        (
            "---\nname: my_protocol\ndescription: d\ntags: [a]\n---\nbody\n",
            "---\nname: my-protocol\ndescription: d\ntags: [a]\n---\nbody\n",
        ),
        (
            "---\r\ntags: [a]\r\n---\r\nbody\r\n",
            "---\r\nname: my-protocol\r\ndescription: \"body\"\r\ntags: [a]\r\n---\r\nbody\r\n",
        ),
        (
            "# T\n\nSay \"hi\": now\n",
            "---\nname: my-protocol\ndescription: \"Say \\\"hi\\\": now\"\n---\n\n# T\n\nSay \"hi\": now\n",
        ),
        (
            "---\n{name: x, description: d}\n---\nflow\n",
            "---\nname: my-protocol\ndescription: \"d\"\n---\n\n---\n{name: x, description: d}\n---\nflow\n",
        ),
        (
            "---\n- a list\n---\n",
            "---\nname: my-protocol\ndescription: \"my-protocol\"\n---\n\n---\n- a list\n---\n",
        ),
        (
            "---\nname: my-protocol\ndescription: d\n---\n",
            "---\nname: my-protocol\ndescription: d\n---\n",
        ),
    ] {
        let files = vec![file("my_protocol.md", text), file("references/a.md", "x")];
        let theirs = export(&name("my_protocol"), &files).unwrap();
        assert_eq!(theirs.name.as_str(), "my-protocol");
        assert_eq!(paths(&theirs), [SIDECAR, MAIN, "references/a.md"]);
        assert_eq!(main_of(&theirs, MAIN), exported);
        let back = import(&theirs.name, &theirs.files).unwrap();
        assert_eq!((back.name.as_str(), back.files), ("my_protocol", files));
    }
}

#[test]
fn leaves_provenance_at_home() {
    let files = vec![file(PROVENANCE, "{}"), file("a.md", "x")];
    assert_eq!(paths(&export(&name("a"), &files).unwrap()), [SIDECAR, MAIN]);
    let mut entry = import(&name("tea-making"), &tea()).unwrap();
    entry.files.push(file(PROVENANCE, "{}"));
    assert_eq!(export(&entry.name, &entry.files).unwrap().files, tea());
}

#[test]
fn believes_no_sidecar_that_would_change_the_text_that_came() {
    let entry = vec![file(
        "a.md",
        "---\nname: a\ndescription: fine\n---\nreviewed\n",
    )];
    let theirs = export(&name("a"), &entry).unwrap();
    let forged = |sidecar: &str| {
        let files = vec![file(SIDECAR, sidecar), file(MAIN, &main_of(&theirs, MAIN))];
        let entry = import(&name("a"), &files).unwrap();
        assert_eq!(main_of(&entry, "a.md"), main_of(&theirs, MAIN), "{sidecar}");
        assert_eq!(export(&entry.name, &entry.files).unwrap().files, files);
    };
    let edit =
        r#"{"was":"---\nname: a\ndescription: fine\n---\nrun this first\n","is":"---\nname: a\n"}"#;
    forged(&format!(
        r#"{{"version":1,"exported_from":"a","head":{edit},"renamed":{{}}}}"#
    ));
    forged(r#"{"version":1,"exported_from":"b","renamed":{"SKILL.md":"../../x"}}"#);
    forged(r#"{"version":1,"imported_from":"a","main":"x","renamed":{}}"#);
}

#[test]
fn refuses_what_cannot_be_stored_or_has_no_main_text() {
    let refused = |files: &[File]| import(&name("a"), files).unwrap_err().to_string();
    assert_eq!(refused(&[file("README.md", "x")]), "`SKILL.md` is missing");
    assert_eq!(
        export(&name("a"), &[file("b.md", "")])
            .unwrap_err()
            .to_string(),
        "`a.md` is missing"
    );
    for bad in [
        "../x",
        "/x",
        "a/../../x",
        "a\\..\\b",
        "x\u{0}",
        "con.txt",
        "skill.MD",
    ] {
        assert!(
            refused(&[file(MAIN, "x"), file(bad, "")]).contains("cannot be stored"),
            "{bad:?}"
        );
    }
    let tampered = r#"{"version":1,"imported_from":"a","main":"../../x","renamed":{}}"#;
    assert!(export(&name("a"), &[file("a.md", ""), file(SIDECAR, tampered)]).is_err());
}

#[test]
fn finds_scripts_wherever_they_lie() {
    let executable = File {
        executable: true,
        ..file("references/tool", "")
    };
    let files = [
        file("examples/a.py", ""),
        file("notes.md", "#!/bin/sh\n"),
        file("scripts/data.txt", ""),
        file("references/b.md", "# fine"),
        executable,
    ];
    assert_eq!(
        scripts(&files),
        [
            "examples/a.py",
            "notes.md",
            "scripts/data.txt",
            "references/tool"
        ]
    );
}

#[test]
fn maps_names_to_the_nearest_of_the_format() {
    for (ours, theirs) in [
        ("my_protocol", "my-protocol"),
        ("Layer Placement  Guide", "layer-placement-guide"),
        ("v1.2_", "v1-2"),
        ("日本", "skill"),
        (&"ab_".repeat(30), &"ab-".repeat(22)[..64]),
    ] {
        let nearest = AgentSkillName::nearest(&name(ours));
        assert_eq!(nearest.as_str(), theirs.trim_end_matches('-'));
        assert_eq!(nearest.as_str().parse(), Ok(nearest));
    }
    for bad in [
        "",
        "-",
        "a-",
        "-a",
        "a--b",
        "A",
        "a_b",
        "é",
        &"a".repeat(65),
    ] {
        assert!(bad.parse::<AgentSkillName>().is_err(), "{bad}");
    }
}

fn any_text() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "---\n",
        "---\r\n",
        "name: x\n",
        "name: tea-making\n",
        "description: d\n",
        "description:\n",
        "  more\n",
        "tags: [a, b]\n",
        "# T\n",
        "body \"quoted\": yes\n",
        "- item\n",
        "\n",
        "é\u{7f}",
        "a: |\n  name: z\n",
        "{}",
    ]);
    prop::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

fn any_files(main: &'static str) -> impl Strategy<Value = Vec<File>> {
    let path = prop::sample::select(vec![
        "LICENSE",
        "reference/a.md",
        "scripts/x.py",
        "tea-making.md",
        "x.md",
        "dir.md",
        SIDECAR,
        ".hidden/f",
        "assets/b.bin",
        "renamed-1-x.md",
        "skill.md/inner",
    ]);
    let others = prop::collection::btree_map(path, (any_text(), any::<bool>()), 0..6);
    (any_text(), others).prop_map(move |(text, others)| {
        let mut files: Vec<File> = others
            .into_iter()
            .filter(|(path, _)| *path != main)
            .map(|(path, (text, executable))| File {
                executable,
                ..file(path, &text)
            })
            .collect();
        files.push(file(main, &text));
        files.sort_by(|a, b| a.path.cmp(&b.path));
        files
    })
}

proptest! {
    #[test]
    fn what_was_imported_is_exported_as_it_came(files in any_files(MAIN)) {
        match import(&name("dir"), &files) {
            Ok(entry) => {
                let back = export(&entry.name, &entry.files).unwrap();
                prop_assert_eq!(back.name.as_str(), "dir");
                prop_assert_eq!(back.files, files);
            }
            // `SKILL.md` beside a directory `skill.md`: no disk that folds case could hold both.
            Err(error) => prop_assert!(matches!(error, AgentSkillError::Unsafe(_))),
        }
    }

    #[test]
    fn what_was_exported_is_imported_as_it_was(files in any_files("dir.md")) {
        let theirs = export(&name("dir"), &files).unwrap();
        let back = import(&theirs.name, &theirs.files).unwrap();
        prop_assert_eq!(back.name.as_str(), "dir");
        prop_assert_eq!(back.files, files);
    }
}
