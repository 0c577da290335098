//! Backups: the archive, and its manifest alone.

use std::collections::BTreeMap;
use std::io::{self, Read, Write as _};

use flate2::Compression;
use flate2::write::GzEncoder;
use kairos_protocol::backup::{BackupLimits, Entry, Kind, Manifest, Visitor, read, write};

use crate::words;

const LIMITS: BackupLimits = BackupLimits {
    manifest: 256 * 1024,
    entries: 1_000,
    total: 2 * 1024 * 1024,
};

/// Reads `data` as a backup, as a tar that only has to be compressed, and as a manifest.
pub fn run(data: &[u8]) -> String {
    let bare = archive(data);
    let mut gzip = GzEncoder::new(Vec::new(), Compression::none());
    gzip.write_all(data).expect("memory takes every write");
    let wrapped = archive(&gzip.finish().expect("memory takes every write"));
    format!("{bare}|{wrapped}|{}", manifest(data))
}

fn manifest(json: &[u8]) -> String {
    match Manifest::parse(json, &LIMITS) {
        Ok(manifest) => {
            let again = manifest.to_json(&LIMITS).expect("it was good before");
            let again = Manifest::parse(&again, &LIMITS).expect("it was good before");
            assert_eq!(again, manifest);
            "manifest".to_owned()
        }
        Err(error) => words(error),
    }
}

/// Keeps the files, and holds the reader to what it promises on the way.
#[derive(Default)]
struct Keep {
    entries: Vec<Entry>,
    files: BTreeMap<String, Vec<u8>>,
}

impl Visitor for Keep {
    fn manifest(&mut self, manifest: &Manifest) -> io::Result<()> {
        assert!(manifest.total() <= LIMITS.total && manifest.entries.len() <= LIMITS.entries);
        Ok(())
    }

    fn entry(&mut self, entry: &Entry, bytes: &mut dyn Read) -> io::Result<()> {
        let parts: Vec<_> = entry.path.split('/').collect();
        assert!(
            parts
                .iter()
                .all(|part| !matches!(*part, "" | "." | "..") && !part.contains('\0'))
        );
        if let Some((parent, _)) = entry.path.rsplit_once('/') {
            let is_parent = |e: &Entry| e.path == parent && e.kind == Kind::Directory;
            assert!(self.entries.iter().any(is_parent));
        }
        assert!(self.entries.iter().all(|before| before.path != entry.path));
        let mut content = Vec::new();
        let read = bytes.read_to_end(&mut content);
        assert!(content.len() as u64 <= entry.size());
        read?;
        self.entries.push(entry.clone());
        self.files.insert(entry.path.clone(), content);
        Ok(())
    }
}

fn archive(bytes: &[u8]) -> String {
    let mut keep = Keep::default();
    let manifest = match read(bytes, &LIMITS, &mut keep) {
        Ok(manifest) => manifest,
        Err(error) => return words(error),
    };
    assert_eq!(manifest.entries, keep.entries);
    let open = |entry: &Entry| Ok(keep.files[&entry.path].as_slice());
    let again = write(Vec::new(), &manifest, open, |_| ()).expect("it is all there");
    let mut kept = Keep::default();
    let read = read(again.as_slice(), &LIMITS, &mut kept).expect("it was good before");
    assert_eq!((read, kept.files), (manifest, keep.files));
    "read".to_owned()
}
