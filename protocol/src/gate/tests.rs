//! The gate against a table of what has been, or could be, slipped past one.

use proptest::prelude::*;

use super::*;

fn gate() -> Gate {
    Gate::for_archive(&"kp".parse().unwrap())
}

fn file<'e>(path: &'e str, mode: u32, head: &'e [u8]) -> Entry<'e> {
    let kind = Kind::File;
    Entry {
        path,
        kind,
        mode,
        head,
    }
}

/// The reasons a gate for an archive gives for these entries, in order.
fn reasons(entries: &[Entry<'_>]) -> Vec<Reason> {
    let mut gate = gate();
    let clean: Vec<bool> = entries.iter().map(|entry| gate.check(entry)).collect();
    let result = gate.finish();
    assert_eq!(clean.iter().all(|clean| *clean), result.is_ok());
    result
        .err()
        .map(|refusal| {
            refusal
                .offences
                .into_iter()
                .map(|offence| offence.reason)
                .collect()
        })
        .unwrap_or_default()
}

fn check_path(path: &str, expected: &[Reason]) {
    assert_eq!(reasons(&[file(path, 0o644, b"text")]), expected, "{path}");
}

fn check_head(head: &[u8], expected: &[Reason]) {
    assert_eq!(
        reasons(&[file("kp/knowledge/a.md", 0o644, head)]),
        expected,
        "{head:x?}"
    );
}

#[test]
fn lets_knowledge_pass() {
    let mut gate = gate();
    for path in [
        "kp/skillset.json",
        "kp/knowledge/t/t.md",
        "kp/knowledge/t/café \u{1f600}.md",
        "kp/tools/readme.md",
        "kp/knowledge/a b-c_d.tar.gz",
        "kp/bin.dat",
        "kp/noextension",
        "kp/MZ.md",
    ] {
        assert!(
            gate.check(&file(path, 0o100_644, b"MZ is not a program")),
            "{path}"
        );
    }
    let directory = |path| Entry {
        path,
        kind: Kind::Directory,
        mode: 0o040_755,
        head: b"",
    };
    assert!(gate.check(&directory("kp/knowledge")) && gate.check(&directory("kp/")));
    assert!(gate.check(&directory("kp/new/")) && gate.check(&directory("kp/new")));
    assert_eq!(gate.finish(), Ok(()));
}

#[test]
fn refuses_extensions_that_run_in_any_directory_and_spelling() {
    for (path, extension) in [
        ("kp/x.rb", "rb"),
        ("kp/bin/run.SH", "sh"),
        ("kp/knowledge/t/run.Py", "py"),
        ("kp/a.md.exe", "exe"),
        ("kp/Tools/a.pHp", "php"),
        ("kp/a.ſh", "sh"),
    ] {
        check_path(path, &[Reason::Extension(extension.to_owned())]);
    }
    for extension in [
        "py", "js", "ts", "pl", "lua", "so", "dylib", "dll", "class", "jar", "wasm", "mjs", "cjs",
        "ps1", "bat", "cmd", "rbw", "psm1", "vbs", "scr", "app", "msi", "elf", "com", "jsx", "tsx",
    ] {
        check_path(
            &format!("kp/a.{extension}"),
            &[Reason::Extension(extension.to_owned())],
        );
    }
    check_path(
        "kp/evil.exe. ",
        &[
            Reason::TrailingDotOrSpace,
            Reason::Extension("exe".to_owned()),
        ],
    );
    check_path(
        "kp/tools/.a.rb",
        &[Reason::DotFile, Reason::Extension("rb".to_owned())],
    );
    check_path(
        "kp/.rb",
        &[Reason::DotFile, Reason::Extension("rb".to_owned())],
    );
}

#[test]
fn refuses_paths_that_escape_or_deceive() {
    use Reason::*;
    for (path, expected) in [
        ("kp/../../evil", &[Traversal][..]),
        ("kp/a/../b", &[Traversal]),
        ("../kp/a", &[Traversal, OutsideRoot]),
        ("/kp/a", &[Absolute, OutsideRoot]),
        ("kp/..\\a", &[Traversal, Character('\\'), DotFile]),
        ("C:/a", &[Absolute, Character(':'), OutsideRoot]),
        ("kp/a:b", &[Character(':')]),
        ("kp//a", &[Unclean]),
        ("kp/./a", &[Unclean]),
        ("kp/a/", &[Unclean]),
        ("", &[Unclean, OutsideRoot]),
        ("kp/a\nb", &[Character('\n')]),
        ("kp/dm.\u{202e}fdp", &[Character('\u{202e}')]),
        ("kp/NUL.md", &[DeviceName]),
        ("kp/com1 .txt", &[DeviceName]),
        ("kp/lpt²", &[DeviceName]),
        ("kp/aux/a.md", &[DeviceName]),
        ("kp/end./a.md", &[TrailingDotOrSpace]),
        ("other/file.md", &[OutsideRoot]),
        ("kp_evil/file.md", &[OutsideRoot]),
        ("KP/file.md", &[OutsideRoot]),
        ("kp/.git/config", &[DotFile]),
        ("kp/knowledge/.DS_Store", &[DotFile]),
    ] {
        check_path(path, expected);
    }
}

#[test]
fn refuses_scripts_and_code_by_their_first_bytes() {
    for head in [
        &b"#!/bin/sh\n"[..],
        b"#!",
        b"\xef\xbb\xbf#!/bin/sh",
        b"\xef\xbb\xbf\xef\xbb\xbf#!",
        b"\xff\xfe#\0!\0/\0",
        b"\xfe\xff\0#\0!\0/",
        b"\xff\xfe\0\0#\0\0\0!\0\0\0",
        b"\0\0\xfe\xff\0\0\0#\0\0\0!",
    ] {
        check_head(head, &[Reason::Shebang]);
    }
    for (head, format) in [
        (&b"\x7fELF\x02\x01"[..], "ELF"),
        (b"MZ\x90\0\x03\0", "Windows program"),
        (b"\0asm\x01\0\0\0", "WebAssembly"),
        (b"\xfe\xed\xfa\xce", "Mach-O"),
        (b"\xfe\xed\xfa\xcf", "Mach-O"),
        (b"\xce\xfa\xed\xfe", "Mach-O"),
        (b"\xcf\xfa\xed\xfe", "Mach-O"),
        (b"\xca\xfe\xba\xbe", "Mach-O or Java class"),
        (b"\xbe\xba\xfe\xca", "Mach-O"),
        (b"\xca\xfe\xba\xbf", "Mach-O"),
        (b"\xbf\xba\xfe\xca", "Mach-O"),
    ] {
        check_head(head, &[Reason::Binary(format)]);
    }
    for text in [
        &b"# heading"[..],
        b" #!/bin/sh",
        b"#",
        b"\xff\xfe#\0",
        b"\x7fEL",
        b"",
    ] {
        check_head(text, &[]);
    }
}

#[test]
fn refuses_modes_that_run_and_kinds_that_point_elsewhere() {
    for mode in [0o755, 0o645, 0o100_744, 0o4644, 0o2644, 0o1644] {
        assert_eq!(
            reasons(&[file("kp/a.md", mode, b"")]),
            [Reason::ExecutableMode(mode & 0o7777)]
        );
    }
    assert_eq!(
        reasons(&[file("kp/a.md", 0o120_644, b"")]),
        [Reason::ModeOfOtherKind(0o120_644)]
    );
    for kind in [
        Kind::Symlink,
        Kind::HardLink,
        Kind::Special,
        Kind::Extension,
        Kind::Unknown,
    ] {
        let entry = Entry {
            path: "kp/a",
            kind,
            mode: 0o777,
            head: b"",
        };
        assert_eq!(reasons(&[entry]), [Reason::Kind(kind)]);
    }
}

#[test]
fn refuses_names_that_some_disk_takes_for_one() {
    let two = |a, b| reasons(&[file(a, 0o644, b""), file(b, 0o644, b"")]);
    let same = |name: &str| Reason::SameNameAs(name.to_owned());
    assert_eq!(two("kp/a.md", "kp/a.md"), [Reason::Duplicate]);
    assert_eq!(two("kp/a.md", "kp/A.md"), [same("kp/a.md")]);
    assert_eq!(two("kp/Notes/a.md", "kp/notes/b.md"), [same("kp/Notes")]);
    assert_eq!(
        two("kp/caf\u{e9}.md", "kp/cafe\u{301}.md"),
        [same("kp/café.md")]
    );
    assert_eq!(two("kp/straße", "kp/STRASSE"), [same("kp/straße")]);
    assert_eq!(two("kp/a\u{200d}b", "kp/ab").len(), 1);
    assert_eq!(two("kp/a", "kp/a/b"), [Reason::FileAndDirectory]);
    assert_eq!(two("kp/a/b", "kp/a"), [Reason::FileAndDirectory]);
    assert_eq!(two("kp/a.md", "kp/a-md"), []);
}

#[test]
fn a_directory_on_disk_may_hold_harmless_dot_files_but_no_hidden_code() {
    let mut gate = Gate::for_directory();
    assert!(gate.check(&file(".hidden", 0o644, b"x")));
    assert!(gate.check(&file("knowledge/.DS_Store", 0o644, b"\0\0")));
    assert!(!gate.check(&file("tools/.x.rb", 0o644, b"")));
    let refusal = gate.finish().unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "Refusing to install SkillSet with executable code (tools/ or lib/) from archive\n- tools/.x.rb: files ending in .rb can run"
    );
}

#[test]
fn a_refusal_lists_every_entry_below_the_words_of_the_reference() {
    let mut gate = gate();
    for path in ["kp/x.rb", "kp/LIB/b.py", "kp/knowledge/lib/c.sh"] {
        gate.check(&file(path, 0o644, b""));
    }
    let metadata = br#"{"name":"kp","version":"1","plugin":{"hooks":"x"}}"#;
    gate.check_metadata(&SkillSetMetadata::parse(metadata).unwrap());
    assert_eq!(
        gate.finish().unwrap_err().to_string(),
        "Refusing to install SkillSet with executable code (tools/ or lib/) from archive\n\
         - kp/x.rb: files ending in .rb can run\n\
         - kp/LIB/b.py: files ending in .py can run\n\
         - kp/knowledge/lib/c.sh: files ending in .sh can run\n\
         - skillset.json: the key `plugin` makes a host run something"
    );

    let headline = |path: &str| {
        let mut gate = Gate::for_archive(&"kp".parse().unwrap());
        gate.check(&file(path, 0o644, b""));
        let text = gate.finish().unwrap_err().to_string();
        text.lines().next().unwrap().to_owned()
    };
    assert_eq!(
        headline("kp/../../evil.txt"),
        "Path traversal detected in archive: kp/../../evil.txt"
    );
    assert_eq!(
        headline("kp/knowledge/lib/c.sh"),
        "Refusing to install SkillSet that is not knowledge only"
    );
}

#[test]
fn a_refusal_is_bounded_and_cannot_forge_lines() {
    let mut gate = gate();
    for i in 0..OFFENCES_MAX + 7 {
        gate.check(&file(&format!("kp/{i}.rb"), 0o644, b""));
    }
    let refusal = gate.finish().unwrap_err();
    assert_eq!(
        (refusal.offences().len(), refusal.more()),
        (OFFENCES_MAX, 7)
    );
    assert!(refusal.to_string().ends_with("\n- and 7 more"));

    let mut gate = Gate::for_archive(&"kp".parse().unwrap());
    gate.check(&file(
        &format!("kp/a\n- ok{}", "x".repeat(5000)),
        0o644,
        b"",
    ));
    let text = gate.finish().unwrap_err().to_string();
    assert_eq!(text.lines().count(), 2);
    assert!(text.len() < 2000);
}

proptest! {
    #[test]
    fn whatever_passes_stays_below_the_root(path in "(kp/)?[a-cA-C./\\\\: ]{0,12}\\PC{0,3}", mode in any::<u32>(), head in prop::collection::vec(any::<u8>(), 0..20)) {
        let mut gate = gate();
        if gate.check(&file(&path, mode, &head)) {
            let mut components = std::path::Path::new(&path).components();
            prop_assert!(components.all(|c| matches!(c, std::path::Component::Normal(_))));
            prop_assert!(path.starts_with("kp/") && path.len() > 3);
            prop_assert_eq!(mode & 0o7111, 0);
        }
    }

    #[test]
    fn folding_is_stable(path in "[a-zA-Z\u{c0}-\u{17f}\u{300}-\u{304}α-ω/]{0,20}") {
        prop_assert_eq!(path::folded(&path::folded(&path)), path::folded(&path));
        prop_assert_eq!(path::folded(&path.to_uppercase()), path::folded(&path));
    }
}
