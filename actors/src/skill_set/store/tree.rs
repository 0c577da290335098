//! Walking, hashing, copying and flushing the directory tree of one SkillSet.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use kairos_protocol::gate::{Entry, Gate, HEAD_LEN, Kind, Reason, Refusal};
use kairos_protocol::hash::{ContentHash, Hasher};
use kairos_protocol::package::FileRecord;
use kairos_protocol::skill_set::{self, SkillSetMetadata, is_content};
use rustix::fs::OFlags;
use walkdir::WalkDir;

use super::SkillSetError;

/// Most entries of a SkillSet on disk, dot-files included.
pub const TREE_ENTRIES_MAX: usize = 20_000;
/// Most bytes of a SkillSet on disk.
pub const TREE_BYTES_MAX: u64 = 1024 * 1024 * 1024;
/// Deepest directory of a SkillSet on disk.
pub const TREE_DEPTH_MAX: usize = 32;
/// Up to this many entries are flushed one by one; beyond, the file system is flushed once.
const FLUSH_EACH_MAX: usize = 64;

/// One entry of a tree.
#[derive(Debug)]
pub(super) struct Node {
    /// The path below the root, `/`-separated; an approximation where `is_utf8` is not.
    pub(super) relative: String,
    is_utf8: bool,
    path: PathBuf,
    kind: Kind,
    metadata: fs::Metadata,
}

/// Everything below `root` in a fixed order, links not followed.
pub(super) fn walk(root: &Path) -> Result<Vec<Node>, SkillSetError> {
    const ACTION: &str = "read the directory of a SkillSet";
    let failed = |error: walkdir::Error| SkillSetError::io(ACTION)(error.into());
    let mut nodes = Vec::new();
    let mut bytes = 0_u64;
    let walk = WalkDir::new(root).min_depth(1).sort_by_file_name();
    for entry in walk.max_depth(TREE_DEPTH_MAX + 1) {
        let entry = entry.map_err(failed)?;
        let metadata = entry.metadata().map_err(failed)?;
        bytes = bytes.saturating_add(metadata.len());
        let too_large = |what: String| Err(SkillSetError::TooLarge(what));
        if nodes.len() >= TREE_ENTRIES_MAX {
            return too_large(format!("{TREE_ENTRIES_MAX} entries"));
        } else if bytes > TREE_BYTES_MAX {
            return too_large(format!("{TREE_BYTES_MAX} bytes"));
        } else if entry.depth() > TREE_DEPTH_MAX {
            return too_large(format!("{TREE_DEPTH_MAX} levels"));
        }
        let below = entry.path().strip_prefix(root).unwrap_or(entry.path());
        nodes.push(Node {
            relative: below.to_string_lossy().into_owned(),
            is_utf8: below.to_str().is_some(),
            kind: kind(metadata.file_type()),
            path: entry.into_path(),
            metadata,
        });
    }
    Ok(nodes)
}

fn kind(file_type: fs::FileType) -> Kind {
    let special = file_type.is_fifo()
        || file_type.is_socket()
        || file_type.is_block_device()
        || file_type.is_char_device();
    match file_type {
        t if t.is_file() => Kind::File,
        t if t.is_dir() => Kind::Directory,
        t if t.is_symlink() => Kind::Symlink,
        _ if special => Kind::Special,
        _ => Kind::Unknown,
    }
}

/// Opens a regular file for reading; neither a link nor a pipe that took its place is followed or waited for.
pub(super) fn open(path: &Path) -> io::Result<File> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits();
    OpenOptions::new()
        .read(true)
        .custom_flags(flags.cast_signed())
        .open(path)
}

/// What a SkillSet on disk holds.
#[derive(Debug)]
pub(super) struct Scan {
    /// The files that count for the content hash, sorted by path. Links are not followed.
    pub(super) files: Vec<FileRecord>,
    /// Whether it is knowledge only.
    pub(super) gate: Result<(), Refusal>,
}

impl Scan {
    pub(super) fn content_hash(&self) -> ContentHash {
        content_hash(&self.files)
    }
}

pub(super) fn content_hash(files: &[FileRecord]) -> ContentHash {
    skill_set::content_hash(files.iter().map(|file| (file.path.as_str(), file.sha256)))
}

/// Hashes the files below `root` and judges every entry.
pub(super) fn scan(root: &Path, metadata: &SkillSetMetadata) -> Result<Scan, SkillSetError> {
    let failed = SkillSetError::io("read a file of a SkillSet");
    scan_nodes(&walk(root)?, metadata).map_err(failed)
}

fn scan_nodes(nodes: &[Node], metadata: &SkillSetMetadata) -> io::Result<Scan> {
    let mut gate = Gate::for_directory();
    let mut files = Vec::new();
    for node in nodes {
        if !node.is_utf8 {
            gate.report(&node.relative, Reason::NotUtf8);
        }
        let mut head = Vec::new();
        let mut file = None;
        if node.kind == Kind::File {
            let mut opened = open(&node.path)?;
            let limit = HEAD_LEN as u64;
            Read::by_ref(&mut opened)
                .take(limit)
                .read_to_end(&mut head)?;
            file = Some(opened);
        }
        gate.check(&Entry {
            path: &node.relative,
            kind: node.kind,
            mode: node.metadata.mode(),
            head: &head,
        });
        if let Some(rest) = file.filter(|_| node.is_utf8 && is_content(&node.relative)) {
            let mut hasher = Hasher::default();
            let size = io::copy(&mut head.chain(rest), &mut hasher)?;
            files.push(record(node, size, hasher));
        }
    }
    gate.check_metadata(metadata);
    files.sort_by(|a, b| a.path.as_bytes().cmp(b.path.as_bytes()));
    let gate = gate.finish();
    Ok(Scan { files, gate })
}

fn record(node: &Node, size: u64, hasher: Hasher) -> FileRecord {
    FileRecord {
        path: node.relative.clone(),
        size,
        mode: node.metadata.mode() & 0o777,
        sha256: hasher.finish(),
    }
}

/// A hash that changes whenever anything below `root` does, as far as the file system tells.
pub(super) fn fingerprint(root: &Path) -> Result<ContentHash, SkillSetError> {
    let mut hasher = Hasher::default();
    for node in walk(root)? {
        let m = &node.metadata;
        let stamp = (
            m.dev(),
            m.ino(),
            m.mode(),
            m.len(),
            m.ctime(),
            m.ctime_nsec(),
        );
        hasher.update(format!("{:?} {stamp:?}\n", node.relative).as_bytes());
    }
    Ok(hasher.finish())
}

/// Copies the content of `source` into the directory `target`, leaving out dot-files and keeping execution bits.
///
/// Files in the `config` directory of `kept`, the installation that is being replaced, win over those of `source`.
/// Fails with [`SkillSetError::UnsafeSource`] on links, devices and names that are not UTF-8.
pub(super) fn copy(
    source: &Path,
    target: &Path,
    kept: Option<&Path>,
) -> Result<Vec<FileRecord>, SkillSetError> {
    let mut nodes: BTreeMap<String, Node> = BTreeMap::new();
    let mut unsafe_entries = Vec::new();
    let configured = kept
        .map(|dir| dir.join("config"))
        .filter(|dir| dir.is_dir());
    let configured = match configured {
        Some(directory) => walk(&directory)?,
        None => Vec::new(),
    };
    let configured = configured
        .into_iter()
        .filter(is_plain_file)
        .map(|mut node| {
            node.relative.insert_str(0, "config/");
            node
        });
    for node in walk(source)?.into_iter().chain(configured) {
        if !is_content(&node.relative) {
            continue;
        }
        match node.kind {
            _ if !node.is_utf8 => unsafe_entries.push((node.relative, Reason::NotUtf8)),
            Kind::File | Kind::Directory => drop(nodes.insert(node.relative.clone(), node)),
            other => unsafe_entries.push((node.relative, Reason::Kind(other))),
        }
    }
    if !unsafe_entries.is_empty() {
        let lines = unsafe_entries.into_iter().take(100);
        let lines = lines.map(|(path, reason)| format!("{}: {reason}", path.escape_debug()));
        return Err(SkillSetError::UnsafeSource(lines.collect()));
    }
    let copied = nodes
        .values()
        .filter_map(|node| copy_node(node, target).transpose());
    copied
        .collect::<io::Result<_>>()
        .map_err(SkillSetError::io("copy the SkillSet"))
}

/// A regular file directly in the directory that was walked.
fn is_plain_file(node: &Node) -> bool {
    node.kind == Kind::File && !node.relative.contains('/')
}

fn copy_node(node: &Node, target: &Path) -> io::Result<Option<FileRecord>> {
    let path = target.join(&node.relative);
    if node.kind == Kind::Directory {
        fs::create_dir_all(path)?;
        return Ok(None);
    }
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let runs = node.metadata.mode() & 0o111 != 0;
    let mut out = create(&path, if runs { 0o755 } else { 0o644 })?;
    let mut hasher = Hasher::default();
    let mut tee = Tee(&mut out, &mut hasher);
    let size = io::copy(&mut open(&node.path)?, &mut tee)?;
    Ok(Some(record(node, size, hasher)))
}

/// Creates a file that must not exist yet.
pub(super) fn create(path: &Path, mode: u32) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
}

struct Tee<'t>(&'t mut File, &'t mut Hasher);

impl io::Write for Tee<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let amount = self.0.write(bytes)?;
        self.1.update(bytes.get(..amount).unwrap_or_default());
        Ok(amount)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Makes everything below `root`, and `root` itself, survive a loss of power.
pub(super) fn flush(root: &Path) -> Result<(), SkillSetError> {
    let nodes = walk(root)?;
    let flush = || -> io::Result<()> {
        let root = File::open(root)?;
        if nodes.len() > FLUSH_EACH_MAX {
            return Ok(rustix::fs::syncfs(&root)?);
        }
        for node in &nodes {
            File::open(&node.path)?.sync_all()?;
        }
        root.sync_all()
    };
    flush().map_err(SkillSetError::io("flush the SkillSet to disk"))
}
