//! Packages of ours, of the reference, and of people who mean harm.

use std::collections::BTreeMap;
use std::io::{self, Write};

use flate2::{Compression, write::GzEncoder};
use proptest::prelude::*;
use tar::{EntryType, Header};

use super::*;

const METADATA: &str = r#"{"name":"kp","version":"1.0.0","layer":"L2","description":"Pack"}"#;

pub(super) type Files = BTreeMap<String, Vec<u8>>;

fn kp() -> SkillSetName {
    "kp".parse().unwrap()
}

pub(super) fn files(entries: &[(&str, &str)]) -> Files {
    let mut files: Files = entries
        .iter()
        .map(|(path, text)| ((*path).to_owned(), text.as_bytes().to_vec()))
        .collect();
    files
        .entry("skillset.json".to_owned())
        .or_insert(METADATA.into());
    files
}

pub(super) fn packed(
    files: &Files,
    limits: &PackageLimits,
) -> Result<(Contents, Vec<u8>), PackageError> {
    let listed = files
        .iter()
        .rev()
        .map(|(path, bytes)| (path.clone(), bytes.len() as u64));
    pack(Vec::new(), &kp(), listed, limits, |path| {
        Ok(&files[path][..])
    })
}

/// Reads an archive and returns what it holds and the files that the sink was given.
fn unpacked(archive: &[u8], limits: &PackageLimits) -> Result<(Contents, Files), PackageError> {
    let mut files = Files::new();
    let contents = unpack(archive, &kp(), limits, |path, _, bytes| {
        let mut buffer = Vec::new();
        bytes.read_to_end(&mut buffer)?;
        assert!(files.insert(path.to_owned(), buffer).is_none());
        Ok(())
    })?;
    Ok((contents, files))
}

fn check_refused(archive: &[u8], error: &str) {
    let found = unpacked(archive, &PackageLimits::default()).unwrap_err();
    assert!(
        found.to_string().contains(error),
        "«{found}» has not «{error}»"
    );
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// One raw entry; `edit` changes the header before its sum is taken.
fn raw(name: &str, kind: EntryType, data: &[u8], edit: impl FnOnce(&mut Header)) -> Vec<u8> {
    let mut header = Header::new_ustar();
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_size(data.len() as u64);
    edit(&mut header);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend_from_slice(data);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

fn plain(name: &str, data: &[u8]) -> Vec<u8> {
    raw(name, EntryType::Regular, data, |_| {})
}

/// An archive of `kp` with `skillset.json` and these raw entries.
fn archive(entries: &[Vec<u8>]) -> Vec<u8> {
    let metadata = plain("kp/skillset.json", METADATA.as_bytes());
    gzip(&[metadata, entries.concat(), vec![0; 1024]].concat())
}

#[test]
fn packs_the_same_bytes_and_gives_back_the_same_files() {
    let files = files(&[
        ("knowledge/t/t.md", "# T\n"),
        ("knowledge/a-b.md", "dash"),
        ("knowledge/a/é q\"uote.md", ""),
        ("big.md", &"0123456789".repeat(3000)),
    ]);
    let (contents, bytes) = packed(&files, &PackageLimits::default()).unwrap();
    assert_eq!(packed(&files, &PackageLimits::default()).unwrap().1, bytes);
    assert_eq!(&bytes[4..8], [0; 4], "no time in the gzip header");
    let (read, found) = unpacked(&bytes, &PackageLimits::default()).unwrap();
    assert_eq!((read, found), (contents.clone(), files));
    let names: Vec<String> = contents.file_list();
    assert!(names.is_sorted());
    assert_eq!(contents.files[0].mode, MODE_PACKED);
}

#[test]
fn writes_the_entries_that_the_reference_writes() {
    let files = files(&[("knowledge/t/t.md", "x"), ("knowledge/a-b/c.md", "y")]);
    let (_, bytes) = packed(&files, &PackageLimits::default()).unwrap();
    let decoder = flate2::read::GzDecoder::new(bytes.as_slice());
    let mut archive = tar::Archive::new(decoder);
    let mut seen = Vec::new();
    for entry in archive.entries().unwrap().raw(true) {
        let entry = entry.unwrap();
        let header = entry.header().as_ustar().unwrap();
        assert_eq!(&header.uname[..6], b"wheel\0");
        assert_eq!(
            (&header.uid, &header.mtime[..11]),
            (b"0000000\0", &b"00000000000"[..])
        );
        let kind = entry.header().entry_type().as_byte() as char;
        seen.push(format!(
            "{kind} {:o} {}",
            entry.header().mode().unwrap(),
            entry.path().unwrap().display()
        ));
    }
    assert_eq!(
        seen,
        [
            "5 755 kp/knowledge",
            "5 755 kp/knowledge/a-b",
            "0 644 kp/knowledge/a-b/c.md",
            "5 755 kp/knowledge/t",
            "0 644 kp/knowledge/t/t.md",
            "0 644 kp/skillset.json",
        ]
    );
}

#[test]
fn never_packs_dot_files_nor_what_is_not_knowledge() {
    let (contents, _) = packed(
        &files(&[
            (".hidden", "x"),
            ("knowledge/.git/config", "x"),
            ("a.md", "x"),
        ]),
        &PackageLimits::default(),
    )
    .unwrap();
    assert_eq!(contents.file_list(), ["a.md", "skillset.json"]);
    for (path, text) in [
        ("tools/a.rb", ""),
        ("a", "#!/bin/sh"),
        ("a\\b.md", "x"),
        ("/a.md", "x"),
    ] {
        let result = packed(&files(&[(path, text)]), &PackageLimits::default());
        assert!(matches!(result, Err(PackageError::Refused(_))), "{path}");
    }
    let plugin = r#"{"name":"kp","version":"1","plugin":{"hooks":"h"}}"#;
    let result = packed(
        &files(&[("skillset.json", plugin)]),
        &PackageLimits::default(),
    );
    assert!(matches!(result, Err(PackageError::Refused(_))));
    let other = r#"{"name":"other","version":"1"}"#;
    let result = packed(
        &files(&[("skillset.json", other)]),
        &PackageLimits::default(),
    );
    assert!(matches!(result, Err(PackageError::NameMismatch { .. })));
}

#[test]
fn long_names_use_the_prefix_or_are_refused() {
    let long = format!("{}/{}", "d".repeat(90), "f".repeat(96));
    let (_, bytes) = packed(&files(&[(&long, "x")]), &PackageLimits::default()).unwrap();
    let (contents, _) = unpacked(&bytes, &PackageLimits::default()).unwrap();
    assert_eq!(contents.files[0].path, long);
    let too_long = "f".repeat(101);
    let error = packed(&files(&[(&too_long, "x")]), &PackageLimits::default()).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("File \"kp/{too_long}\" has a too long name (should be 100 or less)")
    );
}

#[test]
fn a_file_that_changes_while_it_is_packed_is_noticed() {
    for announced in [0, 2, 4, 1_000_000] {
        let listed = [("a.md".to_owned(), announced)];
        let result = pack(io::sink(), &kp(), listed, &PackageLimits::default(), |_| {
            Ok(&b"abc"[..])
        });
        assert!(
            matches!(result, Err(PackageError::Changed(_))),
            "{announced}"
        );
    }
}

#[test]
fn a_failing_sink_or_source_is_not_taken_for_a_bad_archive() {
    let full = || io::Error::other("disk is full");
    let result = unpack(
        &*archive(&[]),
        &kp(),
        &PackageLimits::default(),
        |_, _, _| Err(full()),
    );
    assert!(matches!(result, Err(PackageError::Sink(_))));
    let listed = [("a.md".to_owned(), 3)];
    let result = pack(io::sink(), &kp(), listed, &PackageLimits::default(), |_| {
        Err::<&[u8], _>(full())
    });
    assert!(matches!(result, Err(PackageError::Io(_))));
}

#[test]
fn refuses_every_kind_of_entry_that_is_not_a_file_or_directory() {
    for (kind, words) in [
        (EntryType::Symlink, "is a symbolic link"),
        (EntryType::Link, "is a hard link"),
        (EntryType::Char, "is a device, pipe or socket"),
        (EntryType::Block, "is a device, pipe or socket"),
        (EntryType::Fifo, "is a device, pipe or socket"),
        (EntryType::XHeader, "is an extension header"),
        (EntryType::XGlobalHeader, "is an extension header"),
        (EntryType::GNULongName, "is an extension header"),
        (EntryType::GNULongLink, "is an extension header"),
        (EntryType::GNUSparse, "is an extension header"),
        (EntryType::Continuous, "is of an unknown kind"),
        (EntryType::new(b'Z'), "is of an unknown kind"),
    ] {
        let entry = raw("kp/x", kind, b"", |_| {});
        check_refused(&archive(&[entry]), &format!("- kp/x: {words}"));
    }
}

#[test]
fn refuses_what_the_gate_refuses_and_lists_it_all() {
    let entries = [
        plain("kp/../../evil.txt", b"x"),
        plain("/etc/evil", b"x"),
        plain("kp/tools/a.rb", b"x"),
        plain("kp/run", b"\xef\xbb\xbf#!/bin/sh"),
        plain("kp/bin", b"\x7fELF"),
        plain("kp/.hidden", b"x"),
        plain("kp/a.md", b"x"),
        plain("kp/a.md", b"y"),
        plain("kp/A.MD", b"y"),
        plain("other/a.md", b"x"),
        raw("kp/mode.md", EntryType::Regular, b"x", |h| {
            h.set_mode(0o755)
        }),
        raw("kp/latin-\u{1}", EntryType::Regular, b"x", |h| {
            h.as_old_mut().name[9] = 0xe9
        }),
    ];
    let archive = archive(&entries);
    let error = unpacked(&archive, &PackageLimits::default()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "Path traversal detected in archive: kp/../../evil.txt\n\
         - kp/../../evil.txt: the path leads out with `..`\n\
         - /etc/evil: the path is absolute\n\
         - /etc/evil: lies outside the directory of the SkillSet\n\
         - kp/tools/a.rb: files ending in .rb can run\n\
         - kp/run: starts with #!, so it is a script\n\
         - kp/bin: holds code in ELF format\n\
         - kp/.hidden: is a dot-file, which the content hash does not cover\n\
         - kp/a.md: occurs more than once\n\
         - kp/A.MD: is the same name as kp/a.md on some disks\n\
         - other/a.md: lies outside the directory of the SkillSet\n\
         - kp/mode.md: the mode 755 lets it run\n\
         - kp/latin-\u{fffd}: the path is not UTF-8"
    );
}

#[test]
fn a_sink_is_never_given_an_entry_that_was_refused() {
    let entries = [
        plain("kp/../a", b"x"),
        plain("kp/b.rb", b"x"),
        plain("kp/c.md", b"c"),
    ];
    let mut given = Vec::new();
    let result = unpack(
        &*archive(&entries),
        &kp(),
        &PackageLimits::default(),
        |path, _, _| {
            given.push(path.to_owned());
            Ok(())
        },
    );
    assert!(result.is_err());
    assert_eq!(given, ["skillset.json", "c.md"]);
}

#[test]
fn refuses_headers_that_are_not_plain_ustar() {
    let file = |edit: fn(&mut Header)| raw("kp/x", EntryType::Regular, b"x", edit);
    let magic: fn(&mut Header) = |h| h.as_mut_bytes()[257..265].copy_from_slice(b"ustar  \0");
    let old: fn(&mut Header) = |h| h.as_mut_bytes()[257..265].fill(0);
    for edit in [magic, old] {
        check_refused(
            &archive(&[file(edit)]),
            "the archive entry kp/x is not in ustar format",
        );
    }
    for size in [
        &b"\x80\0\0\0\0\0\0\0\0\0\0\x01"[..],
        b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        b"-1\0",
        b"0x10\0",
        b"12 3\0",
    ] {
        let entry = raw("kp/x", EntryType::Regular, b"x", |h| {
            h.as_old_mut().size.fill(0);
            h.as_old_mut().size[..size.len()].copy_from_slice(size);
        });
        assert!(
            unpacked(&archive(&[entry]), &PackageLimits::default()).is_err(),
            "{size:x?}"
        );
    }
    let blank = file(|h| h.as_old_mut().mode.fill(0));
    check_refused(
        &archive(&[blank]),
        "the archive entry kp/x has a mode that is not octal",
    );
    let hidden = file(|h| h.as_old_mut().name[6] = b'x');
    check_refused(&archive(&[hidden]), "has bytes after the end of its name");
    let directory = raw("kp/x", EntryType::Directory, b"data", |_| {});
    check_refused(&archive(&[directory]), "is a directory with content");
    let mut sum = file(|_| {});
    sum[0] ^= 1;
    check_refused(&archive(&[sum]), "checksum");
}

#[test]
fn a_size_beyond_the_limit_is_refused_before_it_is_read() {
    let huge = raw("kp/x", EntryType::Regular, b"x", |h| {
        h.set_size(0o77_777_777_777)
    });
    check_refused(&archive(&[huge]), "the archive is cut off");
}

#[test]
fn refuses_bombs_floods_and_depths() {
    let zeros = vec![0; 60 * 1024 * 1024];
    let limits = PackageLimits::default();
    let bomb = archive(&[plain("kp/big.txt", &zeros)]);
    assert!(bomb.len() < 100_000);
    check_refused(&bomb, "more than 100 times its compressed size");
    let patient = PackageLimits {
        ratio: u64::MAX,
        ..limits
    };
    let error = unpacked(&bomb, &patient).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the archive has more than 52428800 bytes expanded"
    );

    let flood: Vec<Vec<u8>> = (0..100_000)
        .map(|i| plain(&format!("kp/{i}"), b""))
        .collect();
    let error = unpacked(&archive(&flood), &patient).unwrap_err();
    assert!(matches!(error, PackageError::Limit(Limit::Entries(2_000))));

    let deep = plain(&format!("kp/{}x", "d/".repeat(32)), b"");
    check_refused(&archive(&[deep]), "a path with more than 32 components");

    let noise: Vec<u8> = (0..2_000_u32)
        .flat_map(|i| *ContentHash::of(i.to_le_bytes()).as_bytes())
        .collect();
    let archive = archive(&[plain("kp/noise.dat", &noise)]);
    let small = PackageLimits {
        compressed: 10_000,
        ..limits
    };
    assert!(matches!(
        unpacked(&archive, &small),
        Err(PackageError::Limit(Limit::Compressed(10_000)))
    ));
    let short = PackageLimits { path: 10, ..limits };
    assert!(matches!(
        unpacked(&archive, &short),
        Err(PackageError::Limit(Limit::Path(10)))
    ));
    let same = files(&[("noise.txt", &"x".repeat(3_000_000))]);
    assert!(matches!(
        packed(&same, &limits),
        Err(PackageError::Limit(Limit::Ratio(100)))
    ));
}

#[test]
fn refuses_streams_that_end_early_or_go_on() {
    let good = archive(&[plain("kp/a.md", b"text")]);
    unpacked(&good, &PackageLimits::default()).unwrap();
    for end in 0..good.len() {
        assert!(
            unpacked(&good[..end], &PackageLimits::default()).is_err(),
            "{end}"
        );
    }
    check_refused(b"", "not in gzip format");
    check_refused(b"kp/skillset.json", "not in gzip format");
    let twice = [good.clone(), good.clone()].concat();
    check_refused(&twice, "the archive is followed by other data");
    check_refused(
        &[&good[..], b"x"].concat(),
        "the archive is followed by other data",
    );

    let metadata = plain("kp/skillset.json", METADATA.as_bytes());
    let tar = |tail: &[u8]| gzip(&[metadata.as_slice(), tail].concat());
    check_refused(&tar(b""), "the archive is cut off");
    check_refused(&tar(&[0; 512]), "the archive is cut off");
    let more = [&[0; 1024][..], &plain("kp/hidden.md", b"x"), &[0; 1024]].concat();
    check_refused(&tar(&more), "the archive is followed by other data");
    check_refused(
        &tar(&[&[0; 512][..], &plain("kp/x.md", b"x"), &[0; 1024]].concat()),
        "followed",
    );
    unpacked(&tar(&[0; 9 * 1024]), &PackageLimits::default()).unwrap();

    let mut flipped = good.clone();
    let middle = flipped.len() - 6;
    flipped[middle] ^= 1;
    check_refused(&flipped, "the archive is damaged");
}

proptest! {
    #[test]
    fn what_is_packed_unpacks(entries in prop::collection::btree_map("[a-c]{1,2}(/[d-f]{1,2}){0,2}\\.md", prop::collection::vec(any::<u8>(), 0..40), 0..8)) {
        let mut all = files(&[]);
        all.extend(entries);
        match packed(&all, &PackageLimits::default()) {
            Ok((contents, bytes)) => {
                prop_assert_eq!(unpacked(&bytes, &PackageLimits::default()).unwrap(), (contents, all));
            }
            Err(error) => prop_assert!(matches!(error, PackageError::Refused(_)), "{}", error),
        }
    }

    #[test]
    fn no_changed_bit_changes_what_is_read(at in any::<prop::sample::Index>(), bit in 0..8_u32) {
        let (contents, bytes) = packed(&files(&[("a.md", "text")]), &PackageLimits::default()).unwrap();
        let mut changed = bytes.clone();
        changed[at.index(bytes.len())] ^= 1 << bit;
        if let Ok((found, _)) = unpacked(&changed, &PackageLimits::default()) {
            // Some bits of gzip mean nothing: its system byte, the padding of its last block.
            prop_assert_eq!(found, contents);
        }
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        let _ = unpacked(&bytes, &PackageLimits::default());
        let _ = unpacked(&gzip(&bytes), &PackageLimits::default());
    }

    #[test]
    fn no_header_makes_the_reader_panic(at in 0..512_usize, byte in any::<u8>(), kind in any::<u8>()) {
        let entry = raw("kp/x", EntryType::new(kind), b"x", |h| h.as_mut_bytes()[at] = byte);
        let _ = unpacked(&archive(&[entry]), &PackageLimits::default());
    }
}
