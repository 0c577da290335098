//! Packages: the gzip-compressed archive, and the JSON object it travels in.

use std::collections::BTreeMap;
use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use kairos_protocol::id::SkillSetName;
use kairos_protocol::package::{
    Contents, Limit, PackageError, PackageLimits, SkillSetPackage, pack, unpack,
};

use crate::words;

/// The SkillSet that bare archives are read as; the seeds hold it.
const NAME: &str = "tea_house";
const LIMITS: PackageLimits = PackageLimits {
    compressed: 256 * 1024,
    expanded: 2 * 1024 * 1024,
    entries: 100,
    ratio: 100,
    depth: 8,
    path: 256,
};

/// Reads `data` as a package, as a compressed archive, and as an archive that only has to be compressed.
pub fn run(data: &[u8]) -> String {
    let name = NAME.parse().expect("a name");
    let bare = archive(data, &name);
    let mut gzip = GzEncoder::new(Vec::new(), Compression::none());
    gzip.write_all(data).expect("memory takes every write");
    let wrapped = archive(&gzip.finish().expect("memory takes every write"), &name);
    format!("{}|{bare}|{wrapped}", package(data))
}

fn package(json: &[u8]) -> String {
    let package = match SkillSetPackage::from_json(json, &LIMITS) {
        Ok(package) => package,
        Err(error) => return words(error),
    };
    let text = package.to_json().expect("it came as JSON").to_string();
    let again = SkillSetPackage::from_json(text.as_bytes(), &PackageLimits::default());
    assert_eq!(again.expect("it was good before"), package);
    let bytes = match package.archive() {
        Ok(bytes) => bytes,
        Err(error) => return words(error),
    };
    match read(&bytes, &package.name) {
        Ok((contents, _)) => match package.check(&contents) {
            Ok(hash) => {
                assert_eq!(hash, contents.content_hash());
                "checked".to_owned()
            }
            Err(error) => words(error),
        },
        Err(error) => words(error),
    }
}

type Files = BTreeMap<String, Vec<u8>>;

fn read(bytes: &[u8], name: &SkillSetName) -> Result<(Contents, Files), PackageError> {
    let mut files = Files::new();
    let mut total = 0;
    let contents = unpack(bytes, name, &LIMITS, |path, mode, from| {
        assert_eq!(mode & !0o7777, 0);
        assert_clean(path);
        let mut file = Vec::new();
        from.read_to_end(&mut file)?;
        total += file.len() as u64;
        assert!(total <= LIMITS.expanded);
        assert!(
            files.insert(path.to_owned(), file).is_none(),
            "{path} twice"
        );
        Ok(())
    })?;
    Ok((contents, files))
}

fn archive(bytes: &[u8], name: &SkillSetName) -> String {
    let (contents, files) = match read(bytes, name) {
        Ok(read) => read,
        Err(error) => return words(error),
    };
    assert_eq!(contents.metadata.name, *name);
    assert!(contents.metadata.executes().is_empty() && contents.metadata.tool_classes.is_empty());
    assert!(contents.file_list().iter().eq(files.keys()));
    let mut folded: Vec<_> = files.keys().map(|path| path.to_lowercase()).collect();
    folded.dedup();
    assert_eq!(folded.len(), files.len(), "some disk would merge two files");
    for file in &contents.files {
        assert_eq!(file.mode & 0o111, 0, "{} can run", file.path);
        assert!(
            !files[&file.path].starts_with(b"#!"),
            "{} can run",
            file.path
        );
    }
    packs_again(name, &contents, &files);
    format!("{} files", files.len().min(3))
}

/// What was accepted once is accepted again, with the same hash.
fn packs_again(name: &SkillSetName, contents: &Contents, files: &Files) {
    let sizes = files
        .iter()
        .map(|(path, bytes)| (path.clone(), bytes.len() as u64));
    let packed = pack(Vec::new(), name, sizes, &LIMITS, |path| {
        Ok(files[path].as_slice())
    });
    let (again, bytes) = match packed {
        Ok(packed) => packed,
        // The archive had no entries for its directories, or was compressed better.
        Err(PackageError::Limit(
            Limit::Entries(_) | Limit::Compressed(_) | Limit::Ratio(_) | Limit::Expanded(_),
        )) => return,
        Err(error) => panic!("it was good before: {error}"),
    };
    assert_eq!(again.content_hash(), contents.content_hash());
    let (unpacked, same) = read(&bytes, name).expect("what was packed can be unpacked");
    assert_eq!(
        (unpacked.content_hash(), &same),
        (contents.content_hash(), files)
    );
}

fn assert_clean(path: &str) {
    assert!(!path.is_empty() && path.len() <= LIMITS.path && !path.contains(['\\', '\0']));
    for part in path.split('/') {
        assert!(!part.is_empty() && !part.starts_with('.'), "{path:?}");
    }
    assert!(!path.chars().any(char::is_control), "{path:?}");
}
