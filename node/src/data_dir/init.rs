//! Making a data directory, or completing one.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::path::Path;

use kairos_actors::passing::WHOLE;
use kairos_protocol::time::Timestamp;
use serde::Serialize;

use super::meta::{LAYOUT, own_section};
use super::templates::{Guide, KNOWLEDGE, TRACKED};
use super::{DataDir, DataDirError};

/// The directories of a fresh data directory, in the order they are told.
const DIRECTORIES: [&str; 12] = [
    "skills",
    "skills/versions",
    "knowledge",
    "context",
    "config",
    "storage",
    "storage/embeddings",
    "storage/embeddings/skills",
    "storage/embeddings/knowledge",
    "storage/snapshots",
    "storage/export",
    "keys",
];
/// The law, below the data directory.
const LAW: &str = "skills/kairos.rb";
/// Those that hold secrets or tell who talked to whom.
const PRIVATE: [&str; 2] = ["storage", "keys"];
/// Of those, the one that is closed again if it was found open: the reference makes `storage` for all to read,
/// and people read the ledger in it.
const CLOSED: &str = "keys";

/// What became of a file or a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It was absent and is there now.
    Created,
    /// It was there and is untouched.
    Exists,
    /// It was there, open to other users, and is closed to them now.
    Repaired,
    /// It is absent and stays so: the ledger would not be told.
    Missing,
}

/// One file or directory of the report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Item {
    /// The path below the data directory; directories end in `/`.
    pub path: String,
    /// What became of it.
    pub outcome: Outcome,
}

/// What [`DataDir::init`] did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InitReport {
    /// Whether the directory was complete enough to be used before.
    pub was_initialized: bool,
    /// Directories and files, in the order they were made.
    pub items: Vec<Item>,
    /// Pieces of knowledge that were installed.
    pub knowledge_installed: usize,
    /// Pieces of knowledge that were there, or archived.
    pub knowledge_existing: usize,
    /// What became of the upgrade tracking.
    pub meta: Outcome,
}

impl DataDir {
    /// Makes the directory, or adds what is missing in it. Files that exist are never changed.
    ///
    /// `now` becomes the time of creation. Done twice, the second time does nothing.
    ///
    /// # Errors
    ///
    /// Every [`DataDirError`] but `Absent`. What was made until then stays, and the next call goes on from there.
    pub fn init(&self, now: Timestamp) -> Result<InitReport, DataDirError> {
        let was_initialized = self.is_initialized();
        self.make_root()?;
        let mut items = Vec::new();
        for name in DIRECTORIES {
            let outcome = self.at(name, |path| make_directory(path, name))?;
            items.push(Item {
                path: format!("{name}/"),
                outcome,
            });
        }
        let example = crate::config::example();
        let files = TRACKED
            .iter()
            .map(|template| (template.path, template.text));
        // A law that the ledger could tell of is brought back by whoever records it.
        let lost = self.has_ledger() && self.law().symlink_metadata().is_err();
        for (name, text) in files.chain([(crate::config::OWN_FILE, example.as_str())]) {
            let outcome = match lost && name == LAW {
                true => Outcome::Missing,
                false => self.at(name, |path| write_new(path, text))?,
            };
            items.push(Item {
                path: name.to_owned(),
                outcome,
            });
        }
        let mut knowledge_installed = 0;
        for guide in KNOWLEDGE {
            knowledge_installed += usize::from(self.install(guide)? == Outcome::Created);
        }
        let meta_file = self.meta_file();
        let meta = write_new(&meta_file, &meta_text(now))
            .map_err(|error| DataDirError::from_io(&meta_file, error))?;
        Ok(InitReport {
            was_initialized,
            items,
            knowledge_installed,
            knowledge_existing: KNOWLEDGE.len() - knowledge_installed,
            meta,
        })
    }

    fn make_root(&self) -> Result<(), DataDirError> {
        let path = self.path();
        if path.exists() && !path.is_dir() {
            return Err(DataDirError::NotADirectory(path.to_owned()));
        }
        fs::create_dir_all(path).map_err(|error| DataDirError::from_io(path, error))
    }

    /// Runs one step at a path below this directory.
    fn at<T>(
        &self,
        name: &str,
        step: impl FnOnce(&Path) -> io::Result<T>,
    ) -> Result<T, DataDirError> {
        let path = self.path().join(name);
        step(&path).map_err(|error| DataDirError::from_io(&path, error))
    }

    /// Installs a piece of knowledge unless something of its name is there or was archived.
    fn install(&self, guide: &Guide) -> Result<Outcome, DataDirError> {
        let Guide { name, text } = guide;
        if self.knowledge().join(".archived").join(name).exists() {
            return Ok(Outcome::Exists);
        }
        let dir = format!("knowledge/{name}");
        // An empty directory is what an interrupted installation leaves.
        if self.at(&dir, is_occupied)? {
            return Ok(Outcome::Exists);
        }
        self.at(&dir, |path| make_directory(path, &dir))?;
        self.at(&format!("{dir}/{name}.md"), |path| write_new(path, text))
    }
}

fn is_occupied(path: &Path) -> io::Result<bool> {
    match fs::read_dir(path) {
        Ok(mut entries) => Ok(entries.next().is_some()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Makes one directory, closed to others if it is a private one.
fn make_directory(path: &Path, name: &str) -> io::Result<Outcome> {
    let mut builder = DirBuilder::new();
    if PRIVATE.contains(&name) {
        owner_only(&mut builder);
    }
    match builder.create(path) {
        Ok(()) => sync_parent(path).map(|()| Outcome::Created),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            if !path.is_dir() {
                return Err(io::ErrorKind::NotADirectory.into());
            }
            Ok(if name == CLOSED && close(path)? {
                Outcome::Repaired
            } else {
                Outcome::Exists
            })
        }
        Err(error) => Err(error),
    }
}

/// Writes a file that must not exist: whole or not at all, and on disk when this returns.
fn write_new(path: &Path, text: &str) -> io::Result<Outcome> {
    if path.symlink_metadata().is_ok() {
        return Ok(Outcome::Exists);
    }
    let parent = path.parent().unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    builder.prefix(WHOLE.0).suffix(WHOLE.1);
    readable(&mut builder);
    let mut file = builder.tempfile_in(parent)?;
    file.write_all(text.as_bytes())?;
    file.as_file().sync_all()?;
    match file.persist_noclobber(path) {
        Ok(_) => sync_parent(path).map(|()| Outcome::Created),
        Err(failed) if failed.error.kind() == io::ErrorKind::AlreadyExists => Ok(Outcome::Exists),
        Err(failed) => Err(failed.error),
    }
}

/// Makes the name of `path` in its directory durable.
fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(unix)]
fn owner_only(builder: &mut DirBuilder) {
    use std::os::unix::fs::DirBuilderExt;
    builder.mode(0o700);
}

#[cfg(not(unix))]
fn owner_only(_: &mut DirBuilder) {}

/// Lets the process's umask decide, as for any file; temporary files are otherwise the owner's alone.
#[cfg(unix)]
fn readable(builder: &mut tempfile::Builder<'_, '_>) {
    use std::os::unix::fs::PermissionsExt;
    builder.permissions(fs::Permissions::from_mode(0o666));
}

#[cfg(not(unix))]
fn readable(_: &mut tempfile::Builder<'_, '_>) {}

/// Takes other users' rights away; says whether they had any.
#[cfg(unix)]
fn close(path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::PermissionsExt;
    let mode = fs::metadata(path)?.permissions().mode();
    let open = mode & 0o077 != 0;
    if open {
        fs::set_permissions(path, fs::Permissions::from_mode(mode & 0o700))?;
    }
    Ok(open)
}

#[cfg(not(unix))]
fn close(_: &Path) -> io::Result<bool> {
    Ok(false)
}

/// The text of the upgrade tracking.
///
/// The reference replaces a file that still has the hash recorded for it. Our texts are not its templates, so the
/// hashes it looks for are left out: then it takes every file for the user's own and only ever offers a review.
/// What a later version of this program needs stands under a name of our own, which the reference ignores.
fn meta_text(now: Timestamp) -> String {
    format!(
        "---\nkairos_mcp_version: {LAYOUT}\ninitialized_at: '{}'\ntemplate_hashes: {{}}\nknowledge_hashes: {{}}\n{}",
        now.wire(),
        own_section(None),
    )
}

#[cfg(test)]
mod tests;
