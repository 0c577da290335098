//! One look at every file of the layers.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use fs_err::{self as fs, File};
use kairos_protocol::hash::ContentHash;
use kairos_protocol::state::{
    Archived, Context, Entry, Manifest, Observed, Session, TREE_FILES_MAX, TreeError, TreeFile,
    Unread,
};

use super::error::StateError;
use super::objects::OBJECT_MAX;
use crate::passing::is_no_content;

/// Deepest directory looked into.
const DEPTH_MAX: usize = 32;
/// Most bytes of all layers together.
const BYTES_MAX: u64 = 1024 * 1024 * 1024;
/// Where archived knowledge lies, and what its sidecar is called.
const ARCHIVE: &str = "knowledge/.archived";
const SIDECAR: &str = ".archive_meta.yml";

/// What gathers while looking.
struct Scan<'a> {
    data: &'a Path,
    seen: Observed,
    bytes: u64,
    /// Directories that hold an entry, with its main text so far: `(name, text)`.
    entries: BTreeMap<String, Option<(String, Vec<u8>)>>,
    sidecars: BTreeMap<String, Vec<u8>>,
}

/// The state of the data directory `data`.
pub(super) fn scan(data: &Path) -> Result<Manifest, StateError> {
    let mut scan = Scan {
        data,
        seen: Observed::default(),
        bytes: 0,
        entries: BTreeMap::new(),
        sidecars: BTreeMap::new(),
    };
    for path in ["skills/kairos.md", "skills/kairos.rb"] {
        scan.visit(path, 0)?;
    }
    for path in ["knowledge", "context"] {
        scan.visit(path, 0)?;
    }
    Ok(scan.finish())
}

impl Scan<'_> {
    fn unread(&mut self, path: &str, reason: impl Into<String>) {
        let (path, reason) = (path.to_owned(), reason.into());
        self.seen.unread.push(Unread { path, reason });
    }

    fn visit(&mut self, path: &str, depth: usize) -> Result<(), StateError> {
        let target = self.data.join(path);
        let found = match fs::symlink_metadata(&target) {
            Ok(found) => found,
            // Gone meanwhile, or never there.
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        if found.is_dir() {
            return self.folder(path, depth);
        }
        if !found.is_file() {
            self.unread(
                path,
                "it is neither a file nor a directory, and links are not followed",
            );
            return Ok(());
        }
        let bytes = match read(&target, OBJECT_MAX) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                self.unread(path, "it may not be read");
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        let size = bytes.len() as u64;
        if size > OBJECT_MAX {
            self.unread(path, format!("it is longer than {OBJECT_MAX} bytes"));
            return Ok(());
        }
        self.bytes += size;
        if self.bytes > BYTES_MAX {
            let (what, max) = ("bytes", BYTES_MAX);
            return Err(StateError::TooMuch { what, max });
        }
        let file = TreeFile {
            hash: ContentHash::of(&bytes),
            size,
            executable: found.mode() & 0o100 != 0,
        };
        match self.seen.tree.add(path, file) {
            Ok(()) => self.note(path, file.hash, bytes),
            Err(TreeError::TooMany) => {
                let (what, max) = ("files", TREE_FILES_MAX as u64);
                return Err(StateError::TooMuch { what, max });
            }
            Err(error) => self.unread(path, error.to_string()),
        }
        Ok(())
    }

    fn folder(&mut self, path: &str, depth: usize) -> Result<(), StateError> {
        if depth > DEPTH_MAX {
            self.unread(path, format!("it lies deeper than {DEPTH_MAX} directories"));
            return Ok(());
        }
        if is_entry(path) {
            self.entries.entry(path.to_owned()).or_default();
        } else if let Some(id) = path.strip_prefix("context/").filter(|id| !id.contains('/')) {
            self.seen.sessions.push(Session {
                id: id.to_owned(),
                contexts: Vec::new(),
            });
        }
        let mut names = Vec::new();
        for entry in fs::read_dir(self.data.join(path))? {
            names.push(entry?.file_name());
        }
        names.sort();
        for name in names {
            match name.to_str() {
                None => {
                    let shown = format!("{path}/{}", name.to_string_lossy());
                    self.unread(&shown, "its name is not UTF-8");
                }
                Some(name) if is_no_content(name) => {}
                // Hidden sessions and contexts are none to the reference, nor is anything but the archive in L1.
                Some(name) => self.visit(&format!("{path}/{name}"), depth + 1)?,
            }
        }
        Ok(())
    }

    fn note(&mut self, path: &str, hash: ContentHash, bytes: Vec<u8>) {
        match path {
            "skills/kairos.rb" => return self.seen.dsl = Some(bytes),
            "skills/kairos.md" => return self.seen.md = Some(hash),
            _ => {}
        }
        let Some((folder, name)) = path.rsplit_once('/') else {
            return;
        };
        if name == SIDECAR
            && folder
                .strip_prefix(ARCHIVE)
                .is_some_and(|below| below.matches('/').count() == 1)
        {
            self.sidecars.insert(folder.to_owned(), bytes);
            return;
        }
        let Some(main) = self.entries.get_mut(folder) else {
            return;
        };
        let own = folder
            .rsplit('/')
            .next()
            .is_some_and(|dir| name.strip_suffix(".md") == Some(dir));
        // Names come in order: the first will do until the entry's own comes.
        if own || main.is_none() && name.ends_with(".md") && !name.starts_with('.') {
            *main = Some((name.to_owned(), bytes));
        }
    }

    fn finish(mut self) -> Manifest {
        for (folder, main) in self.entries {
            let text = main.map(|(_, text)| text);
            let (parent, dir) = folder.rsplit_once('/').unwrap_or_default();
            if parent == ARCHIVE {
                let sidecar = self.sidecars.get(&folder).map(Vec::as_slice);
                let entry = Archived::read(dir, text.as_deref(), sidecar);
                self.seen.archived.push((dir.to_owned(), entry));
                continue;
            }
            let Some(text) = text else { continue };
            match parent.strip_prefix("context/") {
                None => self.seen.knowledge.push(Entry::read(dir, &text)),
                Some(id) => {
                    let session = self
                        .seen
                        .sessions
                        .iter_mut()
                        .find(|session| session.id == id);
                    if let Some(session) = session {
                        session.contexts.push(Context::read(dir, &text));
                    }
                }
            }
        }
        self.seen
            .sessions
            .retain(|session| !session.id.starts_with('.'));
        Manifest::build(self.seen)
    }
}

/// Whether the directory holds an entry of knowledge, an archived one, or a context.
fn is_entry(path: &str) -> bool {
    let parts: Vec<_> = path.split('/').collect();
    match parts.as_slice() {
        ["knowledge", ".archived", dir] | ["knowledge", dir] | ["context", _, dir] => {
            !dir.starts_with('.')
        }
        _ => false,
    }
}

/// Everything of a file, or one byte more than `max`.
pub(super) fn read(path: &Path, max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?
        .take(max.saturating_add(1))
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}
