use std::collections::BTreeMap;
use std::io::{self, Read, Write as _};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::hash::ContentHash;
use crate::time::Timestamp;

type Files = BTreeMap<String, Vec<u8>>;

/// Keeps what it is given.
#[derive(Default)]
struct Keep(Files, usize);

impl Visitor for Keep {
    fn manifest(&mut self, _: &Manifest) -> io::Result<()> {
        Ok(())
    }

    fn entry(&mut self, entry: &Entry, bytes: &mut dyn Read) -> io::Result<()> {
        match entry.kind {
            Kind::Directory => self.1 += 1,
            Kind::File { .. } => {
                let mut content = Vec::new();
                bytes.read_to_end(&mut content)?;
                self.0.insert(entry.path.clone(), content);
            }
        }
        Ok(())
    }
}

fn listed(files: &Files) -> Manifest {
    let mut manifest = Manifest::new("test 1", Timestamp::EPOCH);
    let mut entries = BTreeMap::new();
    for (path, content) in files {
        for (at, _) in path.match_indices('/') {
            entries.insert(path[..at].to_owned(), (0o755, Kind::Directory));
        }
        let sha256 = ContentHash::of(content);
        let size = content.len() as u64;
        entries.insert(path.clone(), (0o644, Kind::File { size, sha256 }));
    }
    let entries = entries.into_iter();
    manifest.entries = entries
        .map(|(path, (mode, kind))| Entry { path, mode, kind })
        .collect();
    manifest
}

fn packed(files: &Files) -> Vec<u8> {
    let manifest = listed(files);
    write(
        Vec::new(),
        &manifest,
        |entry| Ok(files[&entry.path].as_slice()),
        |_| (),
    )
    .unwrap()
}

fn some_files() -> Files {
    let long = format!("knowledge/{}/x.md", "long".repeat(40));
    [
        ("a.md", "one"),
        ("knowledge/b/b.md", "two"),
        (long.as_str(), ""),
        ("z", "x"),
    ]
    .map(|(path, text)| (path.to_owned(), text.as_bytes().to_vec()))
    .into()
}

fn taken(bytes: &[u8]) -> Result<(Manifest, Keep), BackupError> {
    let mut keep = Keep::default();
    let manifest = read(bytes, &BackupLimits::default(), &mut keep)?;
    Ok((manifest, keep))
}

fn expanded(bytes: &[u8]) -> Vec<u8> {
    let mut tar = Vec::new();
    GzDecoder::new(bytes).read_to_end(&mut tar).unwrap();
    tar
}

fn compressed(tar: &[u8]) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(tar).unwrap();
    gzip.finish().unwrap()
}

#[test]
fn what_was_written_is_read_and_written_the_same_again() {
    let files = some_files();
    let bytes = packed(&files);
    let (manifest, keep) = taken(&bytes).unwrap();
    assert_eq!((manifest, &keep.0, keep.1), (listed(&files), &files, 3));
    assert_eq!(packed(&files), bytes);
    let mut told = 0;
    let manifest = listed(&files);
    write(
        io::sink(),
        &manifest,
        |e| Ok(files[&e.path].as_slice()),
        |bytes| told = bytes,
    )
    .unwrap();
    assert_eq!(told, manifest.total());
}

#[test]
fn a_file_that_changed_meanwhile_is_not_written() {
    let files = some_files();
    let manifest = listed(&files);
    for changed in ["on", "one!", "One"] {
        let open = |entry: &Entry| {
            Ok(match entry.path.as_str() {
                "a.md" => changed.as_bytes(),
                path => files[path].as_slice(),
            })
        };
        let error = write(io::sink(), &manifest, open, |_| ()).unwrap_err();
        assert!(
            matches!(&error, BackupError::Changed(path) if path == "a.md"),
            "{error}"
        );
    }
    let gone = |_: &Entry| Err::<io::Empty, _>(io::ErrorKind::NotFound.into());
    let error = write(io::sink(), &manifest, gone, |_| ()).unwrap_err();
    assert!(matches!(error, BackupError::Source(_)));
}

#[test]
fn a_backup_that_is_cut_anywhere_is_refused() {
    let bytes = packed(&some_files());
    for length in 0..bytes.len() {
        assert!(taken(&bytes[..length]).is_err(), "{length}");
    }
    let tar = expanded(&bytes);
    for length in (0..tar.len()).step_by(256) {
        assert!(taken(&compressed(&tar[..length])).is_err(), "{length}");
    }
}

#[test]
fn what_the_manifest_does_not_name_is_refused() {
    let files = some_files();
    let manifest = listed(&files);
    let archive = |change: &dyn Fn(&mut tar::Builder<Vec<u8>>, &Entry) -> bool| {
        let mut tar = tar::Builder::new(Vec::new());
        let put = |tar: &mut tar::Builder<Vec<u8>>, path: &str, kind, mode, content: &[u8]| {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(kind);
            header.set_mode(mode);
            header.set_size(content.len() as u64);
            tar.append_data(&mut header, path, content).unwrap();
        };
        let json = manifest.to_json(&BackupLimits::default()).unwrap();
        put(
            &mut tar,
            "kairos-backup.json",
            tar::EntryType::Regular,
            0o600,
            &json,
        );
        for entry in &manifest.entries {
            if change(&mut tar, entry) {
                continue;
            }
            let (kind, content): (_, &[u8]) = match entry.kind {
                Kind::Directory => (tar::EntryType::Directory, b""),
                Kind::File { .. } => (tar::EntryType::Regular, &files[&entry.path]),
            };
            put(
                &mut tar,
                &format!("data/{}", entry.path),
                kind,
                entry.mode,
                content,
            );
        }
        compressed(&tar.into_inner().unwrap())
    };
    let instead = |path: &'static str, kind: tar::EntryType, mode: u32, content: &'static [u8]| {
        move |tar: &mut tar::Builder<Vec<u8>>, entry: &Entry| {
            if entry.path == "a.md" {
                let mut header = tar::Header::new_gnu();
                header.set_entry_type(kind);
                header.set_mode(mode);
                header.set_size(content.len() as u64);
                // Past what the library would refuse to write.
                header.as_gnu_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
                if kind == tar::EntryType::Symlink {
                    header.set_link_name("/etc/passwd").unwrap();
                }
                header.set_cksum();
                tar.append(&header, content).unwrap();
            }
            entry.path == "a.md"
        }
    };
    use tar::EntryType::{Directory, Link, Regular, Symlink};
    assert!(taken(&archive(&|_, _| false)).is_ok());
    assert!(taken(&archive(&instead("data/a.md", Regular, 0o644, b"one"))).is_ok());
    for (change, said) in [
        (
            instead("data/../a.md", Regular, 0o644, b"one"),
            "has `data/../a.md` where its manifest names `a.md`",
        ),
        (
            instead("/a.md", Regular, 0o644, b"one"),
            "has `/a.md` where",
        ),
        (
            instead("data/b.md", Regular, 0o644, b"one"),
            "has `data/b.md` where",
        ),
        (
            instead("data/a.md", Symlink, 0o644, b""),
            "has not the kind",
        ),
        (
            instead("data/a.md", Link, 0o644, b"one"),
            "has not the kind",
        ),
        (
            instead("data/a.md", Directory, 0o644, b""),
            "has not the kind",
        ),
        (
            instead("data/a.md", Regular, 0o4755, b"one"),
            "has not the mode",
        ),
        (
            instead("data/a.md", Regular, 0o644, b"ones"),
            "has not the size",
        ),
        (
            instead("data/a.md", Regular, 0o644, b"two"),
            "has not the hash",
        ),
    ] {
        let error = taken(&archive(&change)).err().unwrap().to_string();
        assert!(error.contains(said), "{error}");
    }
    let missing = taken(&archive(&|_, entry| entry.path == "z"))
        .err()
        .unwrap();
    assert!(matches!(missing, BackupError::Truncated));
    let twice = archive(&|tar, entry| {
        if entry.path == "z" {
            for _ in 0..2 {
                let mut header = tar::Header::new_gnu();
                header.set_mode(0o644);
                header.set_size(1);
                tar.append_data(&mut header, "data/z", &b"x"[..]).unwrap();
            }
        }
        entry.path == "z"
    });
    let error = taken(&twice).err().unwrap().to_string();
    assert!(
        error.contains("where its manifest names no more"),
        "{error}"
    );
}

#[test]
fn what_is_no_backup_is_told_apart() {
    let bytes = packed(&some_files());
    let error = |bytes: &[u8]| taken(bytes).err().unwrap().to_string();
    assert_eq!(
        error(b"PK"),
        "not a backup: the file is not gzip-compressed"
    );
    assert_eq!(error(b""), "the backup is cut off");
    assert!(error(&compressed(b"")).starts_with("not a backup: it does not begin with"));
    assert!(error(&compressed(&[7; 2048])).starts_with("the backup is damaged"));
    assert_eq!(
        error(&[&bytes[..], b"x"].concat()),
        "the backup goes on behind its end"
    );
    let mut tar = expanded(&bytes);
    tar.extend(vec![0; 70_000]);
    assert_eq!(
        error(&compressed(&tar)),
        "the backup goes on behind its end"
    );
    let mut damaged = bytes.clone();
    let end = damaged.len() - 5;
    damaged[end] ^= 1;
    assert!(taken(&damaged).is_err());
}

#[test]
fn limits_hold_before_anything_is_kept() {
    struct Nothing;
    impl Visitor for Nothing {
        fn manifest(&mut self, _: &Manifest) -> io::Result<()> {
            panic!("too large to be shown");
        }
        fn entry(&mut self, _: &Entry, _: &mut dyn Read) -> io::Result<()> {
            panic!("too large to be taken");
        }
    }
    let bytes = packed(&some_files());
    let all = BackupLimits::default();
    for limits in [
        BackupLimits {
            manifest: 100,
            ..all
        },
        BackupLimits { entries: 3, ..all },
        BackupLimits { total: 6, ..all },
    ] {
        let error = read(bytes.as_slice(), &limits, &mut Nothing).unwrap_err();
        assert!(matches!(error, BackupError::TooLarge { .. }), "{error}");
    }
}

#[test]
fn a_visitor_that_refuses_is_quoted() {
    struct Refuse(bool);
    impl Visitor for Refuse {
        fn manifest(&mut self, _: &Manifest) -> io::Result<()> {
            if self.0 {
                Err(io::Error::other("no manifest"))
            } else {
                Ok(())
            }
        }
        fn entry(&mut self, _: &Entry, _: &mut dyn Read) -> io::Result<()> {
            Err(io::Error::other("no entry"))
        }
    }
    for (early, said) in [(true, "no manifest"), (false, "no entry")] {
        let bytes = packed(&some_files());
        let error = read(
            bytes.as_slice(),
            &BackupLimits::default(),
            &mut Refuse(early),
        );
        assert_eq!(error.unwrap_err().to_string(), said);
    }
}

#[test]
fn a_manifest_that_contradicts_itself_is_refused() {
    let good = serde_json::to_value(listed(&some_files())).unwrap();
    let parse = |value: &serde_json::Value| {
        Manifest::parse(value.to_string().as_bytes(), &BackupLimits::default())
    };
    parse(&good).unwrap();
    let file = |path: &str| json!({"path": path, "mode": 420, "kind": "file", "size": 0, "sha256": ContentHash::of("")});
    let folder = |path: &str| json!({"path": path, "mode": 493, "kind": "directory"});
    for (pointer, value, said) in [
        ("/format", json!("other"), "of the format `other`"),
        ("/version", json!(3), "use a newer kairos-chain"),
        ("/created_at", json!("now"), "not valid"),
        (
            "/entries",
            json!([file("../x")]),
            "`../x` is not a path below",
        ),
        ("/entries", json!([file("/x")]), "`/x` is not a path below"),
        (
            "/entries",
            json!([folder("a"), file("a/./x")]),
            "is not a path below",
        ),
        ("/entries", json!([file("a\0b")]), "is not a path below"),
        (
            "/entries",
            json!([file(&"x".repeat(256))]),
            "is not a path below",
        ),
        (
            "/entries",
            json!([file("a/x")]),
            "`a/x` has no directory to lie in",
        ),
        (
            "/entries",
            json!([file("a"), file("a/x")]),
            "`a/x` has no directory to lie in",
        ),
        (
            "/entries",
            json!([file("b"), file("a")]),
            "`a` is there twice or not in order",
        ),
        (
            "/entries",
            json!([file("a"), file("a")]),
            "`a` is there twice or not in order",
        ),
        ("/entries/0/mode", json!(0o4755), "impossible mode 4755"),
        (
            "/entries",
            json!([folder("storage"), file(LEDGER)]),
            "about the ledger",
        ),
        (
            "/ledger",
            json!({"length": 1, "tip": {"index": 0, "hash": ContentHash::of("")}}),
            "about the ledger",
        ),
        (
            "/entries",
            json!([folder("keys"), file("keys/x")]),
            "denies the keys",
        ),
    ] {
        let mut bad = good.clone();
        *bad.pointer_mut(pointer).unwrap() = value;
        let error = parse(&bad).unwrap_err().to_string();
        assert!(error.contains(said), "{pointer}: {error}");
    }
    for place in ["", "/entries/0", "/entries/1"] {
        let mut more = good.clone();
        more.pointer_mut(place).unwrap()["more"] = json!(1);
        assert!(parse(&more).is_err(), "{place}");
    }
}

fn part() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z.]{1,3}", "\\PC{1,5}"].prop_filter("a name", |part| {
        !matches!(part.as_str(), "." | "..") && !part.contains('/')
    })
}

proptest! {
    #[test]
    fn every_manifest_that_is_written_is_read(
        tops in prop::collection::btree_map(part(), prop::collection::btree_map(part(), prop::collection::vec(any::<u8>(), 0..40), 0..4), 0..5),
    ) {
        let files: Files = tops
            .into_iter()
            .flat_map(|(top, below)| below.into_iter().map(move |(name, content)| (format!("{top}/{name}"), content)))
            .filter(|(path, _)| !path.starts_with("keys/") && path != LEDGER)
            .collect();
        let manifest = listed(&files);
        let json = manifest.to_json(&BackupLimits::default()).unwrap();
        prop_assert_eq!(&Manifest::parse(&json, &BackupLimits::default()).unwrap(), &manifest);
        let (read, keep) = taken(&packed(&files)).unwrap();
        prop_assert_eq!(read, manifest);
        prop_assert_eq!(keep.0, files);
    }

    #[test]
    fn a_manifest_with_bytes_changed_is_good_in_itself_or_refused(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let limits = BackupLimits::default();
        let mut json = listed(&some_files()).to_json(&limits).unwrap();
        let at = at.index(json.len());
        json[at] = byte;
        if let Ok(manifest) = Manifest::parse(&json, &limits) {
            let again = manifest.to_json(&limits).unwrap();
            prop_assert_eq!(Manifest::parse(&again, &limits).unwrap(), manifest);
        }
    }

    #[test]
    fn a_tar_with_a_byte_changed_gives_the_same_files_or_none(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let files = some_files();
        let mut tar = expanded(&packed(&files));
        let at = at.index(tar.len());
        tar[at] = byte;
        if let Ok((_, keep)) = taken(&compressed(&tar)) {
            prop_assert_eq!(keep.0, files);
        }
    }
}
