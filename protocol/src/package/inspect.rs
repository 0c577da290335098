//! The checks that reading and writing share, entry by entry and at the end.

use std::io::{self, Read};

use super::stream::Tee;
use super::{Contents, FileRecord, Limit, PackageError, PackageLimits};
use crate::gate::{Entry, Gate, HEAD_LEN, Kind, Reason};
use crate::id::SkillSetName;
use crate::skill_set::{METADATA_FILE, METADATA_MAX, SkillSetMetadata};

/// Everything learned about one package so far.
pub(super) struct Inspector<'n> {
    name: &'n SkillSetName,
    limits: PackageLimits,
    gate: Gate,
    entries: usize,
    /// Something lies in the directory of the SkillSet.
    in_root: bool,
    metadata: Option<Vec<u8>>,
    files: Vec<FileRecord>,
}

impl<'n> Inspector<'n> {
    pub(super) fn new(name: &'n SkillSetName, limits: PackageLimits) -> Self {
        Self {
            name,
            limits,
            gate: Gate::for_archive(name),
            entries: 0,
            in_root: false,
            metadata: None,
            files: Vec::new(),
        }
    }

    /// Judges one entry and, if it is a clean file, passes its bytes to `sink`, which may stop early; `true` if it did.
    ///
    /// An entry that is refused is noted, and its bytes are left in `contents`.
    pub(super) fn entry(
        &mut self,
        path: &str,
        kind: Kind,
        mode: u32,
        mut contents: impl Read,
        sink: impl FnOnce(&str, u32, &mut dyn Read) -> io::Result<()>,
    ) -> Result<bool, PackageError> {
        self.count(path)?;
        let mut head = Vec::new();
        if kind == Kind::File {
            let limit = HEAD_LEN as u64;
            let read = contents.by_ref().take(limit).read_to_end(&mut head);
            read.map_err(PackageError::Io)?;
        }
        let entry = Entry {
            path,
            kind,
            mode,
            head: &head,
        };
        let below = path.strip_prefix(self.name.as_str());
        let below = below.filter(|rest| rest.is_empty() || rest.starts_with('/'));
        self.in_root |= below.is_some();
        let is_clean = self.gate.check(&entry);
        let below = below.unwrap_or_default().trim_matches('/');
        if !is_clean || kind != Kind::File || below.is_empty() {
            return Ok(false);
        }
        let is_metadata = below == METADATA_FILE;
        let keep = if is_metadata { METADATA_MAX + 1 } else { 0 };
        let mut tee = Tee::new(head.as_slice().chain(contents), keep);
        let mode = mode & 0o7777;
        if let Err(error) = sink(below, mode, &mut tee) {
            return Err(match tee.failed {
                true => PackageError::Io(error),
                false => PackageError::Sink(error),
            });
        }
        io::copy(&mut tee, &mut io::sink()).map_err(PackageError::Io)?;
        let (path, size) = (below.to_owned(), tee.size);
        let (sha256, kept) = tee.finish();
        if is_metadata {
            self.metadata = Some(kept);
        }
        self.files.push(FileRecord {
            path,
            size,
            mode,
            sha256,
        });
        Ok(true)
    }

    /// Notes an entry whose name cannot even be judged.
    pub(super) fn unreadable_name(&mut self, shown: &str) -> Result<(), PackageError> {
        self.count(shown)?;
        self.gate.report(shown, Reason::NotUtf8);
        Ok(())
    }

    fn count(&mut self, path: &str) -> Result<(), PackageError> {
        self.entries += 1;
        let depth = path.trim_matches('/').split('/').count() - 1;
        let exceeded = if self.entries > self.limits.entries {
            Limit::Entries(self.limits.entries)
        } else if path.len() > self.limits.path {
            Limit::Path(self.limits.path)
        } else if depth > self.limits.depth {
            Limit::Depth(self.limits.depth)
        } else {
            return Ok(());
        };
        Err(PackageError::Limit(exceeded))
    }

    /// Whether the gate has found anything yet.
    pub(super) fn is_refused(&self) -> bool {
        self.gate.has_offences()
    }

    /// The contents, unless something speaks against the whole.
    pub(super) fn finish(mut self) -> Result<Contents, PackageError> {
        if !self.in_root && !self.gate.escapes() {
            return Err(PackageError::MissingDirectory(self.name.clone()));
        }
        let metadata = self.metadata.as_deref().map(SkillSetMetadata::parse);
        if let Some(Ok(metadata)) = &metadata {
            self.gate.check_metadata(metadata);
        }
        self.gate.finish()?;
        let metadata =
            metadata.ok_or_else(|| PackageError::MissingMetadata(self.name.clone()))??;
        if metadata.name != *self.name {
            return Err(PackageError::NameMismatch {
                declared: self.name.clone(),
                found: metadata.name,
            });
        }
        let mut files = self.files;
        files.sort_by(|a, b| a.path.as_bytes().cmp(b.path.as_bytes()));
        Ok(Contents { metadata, files })
    }
}
