//! SkillSet packages that nobody should take, from a peer and from a file.

use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;
use kairos_protocol::hash::ContentHash;
use kairos_protocol::provenance::{Kind, Provenance};
use kairos_protocol::time::Timestamp;
use kairos_tests::{Call, Home, TestPeer};
use serde_json::{Value, json};
use tar::{EntryType, Header};

use crate::persona::{Persona, SET, instead, state};

pub(crate) const NAME: &str = "house";
pub(crate) const TOPIC: &str = "knowledge/topic/topic.md";
pub(crate) const TEXT: &[u8] = b"# A topic\n";

/// An archive written by hand: our own writer would refuse.
pub(crate) struct Archive(tar::Builder<GzEncoder<Vec<u8>>>);

impl Archive {
    pub(crate) fn empty() -> Self {
        Self(tar::Builder::new(GzEncoder::new(
            Vec::new(),
            Compression::fast(),
        )))
    }

    /// One that holds a proper SkillSet.
    pub(crate) fn proper() -> Self {
        Self::with_metadata(&metadata(NAME))
    }

    pub(crate) fn with_metadata(metadata: &Value) -> Self {
        Self::empty()
            .file("skillset.json", metadata.to_string().as_bytes())
            .file(TOPIC, TEXT)
    }

    pub(crate) fn file(self, path: &str, bytes: &[u8]) -> Self {
        self.entry(&format!("{NAME}/{path}"), EntryType::Regular, 0o644, bytes)
    }

    /// An entry with any name at all; links point to `/etc/passwd`.
    pub(crate) fn entry(mut self, path: &str, kind: EntryType, mode: u32, bytes: &[u8]) -> Self {
        let mut header = Header::new_ustar();
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(bytes.len() as u64);
        if matches!(kind, EntryType::Symlink | EntryType::Link) {
            header.set_link_name("/etc/passwd").unwrap();
        }
        header.set_cksum();
        self.0.append(&header, bytes).unwrap();
        self
    }

    pub(crate) fn bytes(self) -> Vec<u8> {
        self.0.into_inner().unwrap().finish().unwrap()
    }

    /// As a package that says nothing wrong about it.
    fn package(self) -> Value {
        package(&STANDARD.encode(self.bytes()))
    }
}

pub(crate) fn metadata(name: &str) -> Value {
    json!({"name": name, "version": "1.0.0", "layer": "L1", "description": "d", "author": "a"})
}

fn package(archive: &str) -> Value {
    json!({"name": NAME, "version": "1.0.0", "layer": "L1", "content_hash": content_hash(TEXT), "archive_base64": archive})
}

/// The hash over the proper SkillSet with this topic.
pub(crate) fn content_hash(topic: &[u8]) -> String {
    let metadata = metadata(NAME).to_string();
    let files = [
        (TOPIC, ContentHash::of(topic)),
        ("skillset.json", ContentHash::of(metadata)),
    ];
    kairos_protocol::skill_set::content_hash(files).to_hex()
}

fn with(mut package: Value, member: &str, value: Value) -> Value {
    package[member] = value;
    package
}

/// Tries each package from a peer and, unless it may come from its owner's own hand, from a file.
fn refused(cases: Vec<(&str, Value, &str)>, from_file_too: bool) {
    let persona = Persona::start();
    let home = Home::initialized();
    home.json(["skillset", "list"]); // makes its keys
    let before = state(&home);
    for (name, package, said) in cases {
        persona.plays(instead(SET, json!({"skillset_package": package})));
        let mut tries = vec![persona.is_called(&home, &["skillset", "acquire"], &[NAME])];
        if from_file_too {
            let call = Call::new(["skillset", "install-archive"]).home(&home);
            tries.push(call.stdin(package.to_string()).run());
        }
        for ended in tries {
            let error = ended.failed(1);
            assert!(error.contains(said), "{name}: no `{said}` in\n{error}");
            assert_eq!(state(&home), before, "{name}");
        }
    }
}

#[test]
fn the_proper_package_is_taken() {
    let persona = Persona::start();
    persona.plays(instead(
        SET,
        json!({"skillset_package": Archive::proper().package()}),
    ));
    let home = Home::initialized();
    persona
        .is_called(&home, &["skillset", "acquire"], &[NAME])
        .done();
    let call = Call::new(["--json", "skillset", "install-archive"]).home(&home);
    assert_eq!(
        call.stdin(Archive::proper().package().to_string())
            .run()
            .json()["success"],
        true
    );
}

#[test]
fn archives_that_escape_deceive_or_explode_are_refused() {
    let odd = |path: &str, kind, mode| Archive::proper().entry(path, kind, mode, b"").package();
    let file = |path: &str| {
        Archive::proper()
            .entry(path, EntryType::Regular, 0o644, b"x")
            .package()
    };
    let zeros = vec![0; 40 << 20];
    let many = (0..100_000).fold(Archive::proper(), |archive, n| {
        archive.entry(&format!("{NAME}/{n}"), EntryType::Directory, 0o755, b"")
    });
    let deep = format!("{NAME}/{}x.md", "a/".repeat(30));
    let proper = Archive::proper().bytes();
    let encoded = |bytes: &[u8]| package(&STANDARD.encode(bytes));
    let gzip = |bytes: &[u8]| {
        let mut writer = GzEncoder::new(Vec::new(), Compression::fast());
        writer.write_all(bytes).unwrap();
        writer.finish().unwrap()
    };
    let mut flipped = proper.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 0xff;
    let more = [&proper[..], b"more"].concat();
    refused(
        vec![
            (
                "zip bomb",
                Archive::proper().file("knowledge/a.md", &zeros).package(),
                "times its compressed size",
            ),
            ("100,000 entries", many.package(), "more than 2000 entries"),
            ("depth", file(&deep), "components"),
            ("traversal", file("house/../../x.md"), "leads out with `..`"),
            (
                "traversal at the start",
                file("../x.md"),
                "leads out with `..`",
            ),
            ("absolute", file("/etc/x.md"), "the path is absolute"),
            ("a drive", file("C:/x.md"), "C:"),
            ("backslash", file("house/..\\x.md"), "has the character"),
            ("unclean", file("house//x.md"), "empty or `.` component"),
            ("outside", file("elsewhere/x.md"), "outside the directory"),
            (
                "hidden direction",
                file("house/a\u{202e}b.md"),
                "has the character",
            ),
            (
                "symlink",
                odd("house/link", EntryType::Symlink, 0o777),
                "is a symbolic link",
            ),
            (
                "hard link",
                odd("house/link", EntryType::Link, 0o644),
                "is a hard link",
            ),
            (
                "device",
                odd("house/null", EntryType::Char, 0o644),
                "is a device, pipe or socket",
            ),
            (
                "disk",
                odd("house/sda", EntryType::Block, 0o644),
                "is a device, pipe or socket",
            ),
            (
                "pipe",
                odd("house/pipe", EntryType::Fifo, 0o644),
                "is a device, pipe or socket",
            ),
            (
                "long name header",
                odd("house/x", EntryType::GNULongName, 0o644),
                "extension header",
            ),
            (
                "pax header",
                odd("house/x", EntryType::XHeader, 0o644),
                "extension header",
            ),
            (
                "twice",
                file("house/knowledge/topic/topic.md"),
                "occurs more than once",
            ),
            (
                "twice but for case",
                file("house/knowledge/Topic/topic.md"),
                "is the same name as",
            ),
            (
                "file and directory",
                file("house/knowledge"),
                "is both a file and a directory",
            ),
            ("dot-file", file("house/.hidden"), "is a dot-file"),
            (
                "in a dot-directory",
                file("house/.git/x.md"),
                "is a dot-file",
            ),
            ("not base64", package("!"), "base64"),
            (
                "not gzip",
                encoded(b"not gzip at all"),
                "not in gzip format",
            ),
            ("not tar", encoded(&gzip(&[b'x'; 2048])), "the archive"),
            ("cut off", encoded(&proper[..proper.len() - 20]), "cut off"),
            ("damaged", encoded(&flipped), "the archive"),
            (
                "something after it",
                encoded(&more),
                "followed by other data",
            ),
            ("empty", encoded(&gzip(&[0; 1024])), "directory 'house'"),
            ("nothing", encoded(b""), "not in gzip format"),
        ],
        true,
    );
}

#[test]
fn anything_that_could_execute_is_refused_wherever_it_lies() {
    let file = |path: &str, bytes: &[u8]| Archive::proper().file(path, bytes).package();
    let key = |key: &str, value: Value| {
        Archive::with_metadata(&with(metadata(NAME), key, value)).package()
    };
    let mut cases = vec![
        (
            "mode",
            Archive::proper()
                .entry("house/x.md", EntryType::Regular, 0o755, b"x")
                .package(),
            "lets it run",
        ),
        (
            "set-id",
            Archive::proper()
                .entry("house/x.md", EntryType::Regular, 0o4644, b"x")
                .package(),
            "lets it run",
        ),
        (
            "shebang",
            file("knowledge/x.md", b"#!/bin/sh\n"),
            "starts with #!",
        ),
        (
            "shebang after a mark",
            file("x", b"\xef\xbb\xbf#!/bin/sh\n"),
            "starts with #!",
        ),
        (
            "ELF",
            file("assets/x.png", b"\x7fELF\x02\x01\x01\0"),
            "holds code",
        ),
        ("PE", file("x.md", b"MZ\x90\0"), "holds code"),
        ("wasm", file("x.bin", b"\0asm\x01\0\0\0"), "holds code"),
        (
            "tool classes",
            key("tool_classes", json!(["Tool"])),
            "the key `tool_classes`",
        ),
        (
            "plugin",
            key("plugin", json!({"hooks": {}})),
            "the key `plugin`",
        ),
        (
            "place extensions",
            key("place_extensions", json!([{"class": "X"}])),
            "the key `place_extensions`",
        ),
    ];
    for path in [
        "tools/x.rb",
        "x.RB",
        "knowledge/a/x.py",
        "lib/x.js",
        "x.sh",
        "x.ps1",
        "x.exe",
        "x.php",
        "x.mjs",
    ] {
        cases.push((path, file(path, b"x"), "can run"));
    }
    refused(cases, true);

    // Every offending file is named, not only the first.
    let persona = Persona::start();
    let both = Archive::proper()
        .file("a.rb", b"x")
        .file("b.md", b"#!x")
        .package();
    persona.plays(instead(SET, json!({"skillset_package": both})));
    let said = persona
        .is_called(&Home::initialized(), &["skillset", "acquire"], &[NAME])
        .failed(1);
    assert!(said.contains("a.rb") && said.contains("b.md"), "{said}");
}

#[test]
fn a_package_that_contradicts_itself_is_refused() {
    let proper = || Archive::proper().package();
    let change = |member: &str, value: Value| with(proper(), member, value);
    let signer = TestPeer::new("signer");
    let (manifest, signature, named) = signed(&signer, TEXT);
    let (_, _, other) = signed(&signer, b"# Another topic\n");
    let attach = |manifest: &Value, signature: &str| {
        with(
            with(proper(), "manifest", manifest.clone()),
            "manifest_signature",
            json!(signature),
        )
    };
    let mut tampered = manifest.clone();
    tampered["files"][0]["size"] = json!(1);
    let (elsewhere, elsewhere_signature, _) = signed(&signer, b"# Another topic\n");
    refused(
        vec![
            ("another name", change("name", json!("other")), "other"),
            (
                "reserved name",
                change("name", json!("con")),
                "Invalid SkillSet name",
            ),
            (
                "a path for a name",
                change("name", json!("../x")),
                "Invalid SkillSet name",
            ),
            ("no name", change("name", Value::Null), "name"),
            (
                "too long a name",
                change("name", json!("x".repeat(65))),
                "SkillSet name too long",
            ),
            (
                "a name that is none",
                change("name", json!(7)),
                "`name` of the package is a number",
            ),
            (
                "another name inside",
                Archive::with_metadata(&metadata("other")).package(),
                "name mismatch",
            ),
            (
                "no metadata",
                Archive::empty().file(TOPIC, TEXT).package(),
                "skillset.json not found",
            ),
            (
                "broken metadata",
                Archive::empty().file("skillset.json", b"{").package(),
                "Invalid skillset.json",
            ),
            (
                "no version",
                Archive::with_metadata(&json!({"name": NAME})).package(),
                "missing required fields",
            ),
            (
                "another hash",
                change("content_hash", json!("0".repeat(64))),
                "hash",
            ),
            (
                "another version",
                change("version", json!("2.0.0")),
                "2.0.0",
            ),
            (
                "other files",
                change("file_list", json!(["skillset.json"])),
                "file",
            ),
            (
                "unknown layer",
                change("layer", json!("L9")),
                "Invalid layer 'L9'",
            ),
            (
                "no archive",
                change("archive_base64", Value::Null),
                "archive_base64",
            ),
            (
                "unsigned manifest",
                with(proper(), "manifest", manifest.clone()),
                "the manifest is not signed",
            ),
            (
                "tampered manifest",
                attach(&tampered, &signature),
                "the manifest does not verify",
            ),
            (
                "manifest of other files",
                attach(&elsewhere, &elsewhere_signature),
                "does not hold what its manifest names",
            ),
            (
                "another's signature",
                attach(&manifest, &elsewhere_signature),
                "the manifest does not verify",
            ),
            (
                "provenance of other content",
                with(proper(), "provenance", other),
                "provenance is that of other content",
            ),
            (
                "provenance of another name",
                with(proper(), "provenance", with(named, "name", json!("other"))),
                "provenance",
            ),
        ],
        true,
    );
    refused(
        vec![
            (
                "no hash",
                change("content_hash", Value::Null),
                "content hash: the peer sent no hash",
            ),
            (
                "L0",
                Archive::with_metadata(&with(metadata(NAME), "layer", json!("L0"))).package(),
                "hash",
            ),
            ("nothing at all", Value::Null, "package: "),
        ],
        false,
    );
    let rules = with(metadata(NAME), "layer", json!("L0"));
    let hash = {
        let files = [
            (TOPIC, ContentHash::of(TEXT)),
            ("skillset.json", ContentHash::of(rules.to_string())),
        ];
        kairos_protocol::skill_set::content_hash(files).to_hex()
    };
    let rules = with(
        with(
            Archive::with_metadata(&rules).package(),
            "content_hash",
            json!(hash),
        ),
        "layer",
        json!("L0"),
    );
    refused(
        vec![(
            "L0 with its hash",
            rules,
            "layer: a peer may not bring an L0 SkillSet",
        )],
        false,
    );
}

/// A manifest over the proper SkillSet with `topic`, its signature, and the provenance.
fn signed(signer: &TestPeer, topic: &[u8]) -> (Value, String, Value) {
    let home = Home::initialized();
    let set = home.skill_set(NAME);
    std::fs::write(set.join("skillset.json"), metadata(NAME).to_string()).unwrap();
    std::fs::write(set.join(TOPIC), topic).unwrap();
    home.run(["skillset".as_ref(), "install".as_ref(), set.as_os_str()])
        .done();
    let package: Value =
        serde_json::from_str(&home.run(["skillset", "package", NAME]).done()).unwrap();
    let hash: ContentHash = package["content_hash"].as_str().unwrap().parse().unwrap();
    let id = signer.signed.instance_id.clone();
    let provenance = Provenance::authored(
        Kind::SkillSet,
        NAME,
        hash,
        id,
        &signer.keypair,
        Timestamp::EPOCH,
    )
    .unwrap();
    let signature = package["manifest_signature"].as_str().unwrap().to_owned();
    (
        package["manifest"].clone(),
        signature,
        serde_json::to_value(provenance).unwrap(),
    )
}
