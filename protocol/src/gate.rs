//! The knowledge-only gate: decides, entry by entry, whether a SkillSet holds nothing that can run or escape.
//!
//! It is fed everything, dot-files included, and judges by name, mode, kind and leading bytes in every directory,
//! with case and Unicode form folded as disks fold them. It never stops at the first finding: a refusal names each
//! offending entry. It reads nothing itself; whoever walks an archive or a directory feeds it.

use std::collections::HashMap;
use std::fmt;

use thiserror::Error;

use crate::id::SkillSetName;
use crate::skill_set::{METADATA_FILE, SkillSetMetadata};

mod content;
mod path;
mod reason;

pub use reason::Reason;

/// How many leading bytes of a file the gate wants to see; fewer only where the file is shorter.
pub const HEAD_LEN: usize = 512;
/// How many offences a refusal lists; the rest is counted.
pub const OFFENCES_MAX: usize = 2_000;
/// How many characters of a path an offence keeps.
const PATH_SHOWN_MAX: usize = 512;

/// What the reference says of code in the two directories it looks at.
const CODE_REFUSED: &str =
    "Refusing to install SkillSet with executable code (tools/ or lib/) from archive";
/// What is said where the reference is silent.
const NOT_KNOWLEDGE: &str = "Refusing to install SkillSet that is not knowledge only";

/// What an entry of an archive or a directory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link, wherever it points.
    Symlink,
    /// A hard link to another entry.
    HardLink,
    /// A device, pipe or socket.
    Special,
    /// A header that changes how another entry is read: pax, long names, sparse maps.
    Extension,
    /// Nothing we know.
    Unknown,
}

/// One entry as the gate sees it.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'e> {
    /// The whole path as it is written, `/`-separated.
    pub path: &'e str,
    /// What it is.
    pub kind: Kind,
    /// Unix mode; file-type bits may be present and must then agree with `kind`.
    pub mode: u32,
    /// The first [`HEAD_LEN`] bytes of a file; empty for anything else.
    pub head: &'e [u8],
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offence {
    /// The path as written, control characters escaped, cut to 512 characters.
    pub path: String,
    /// What is wrong with it.
    pub reason: Reason,
}

impl fmt::Display for Offence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.reason)
    }
}

/// Everything that speaks against a SkillSet. The first line is what the reference says, if it says anything.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub struct Refusal {
    headline: String,
    offences: Vec<Offence>,
    more: usize,
}

impl Refusal {
    /// The offences in the order they were found, at most [`OFFENCES_MAX`].
    pub fn offences(&self) -> &[Offence] {
        &self.offences
    }

    /// How many offences were found beyond those listed.
    pub fn more(&self) -> usize {
        self.more
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.headline)?;
        for offence in &self.offences {
            write!(f, "\n- {offence}")?;
        }
        match self.more {
            0 => Ok(()),
            more => write!(f, "\n- and {more} more"),
        }
    }
}

/// Collects what speaks against one SkillSet. Memory is bounded by the entries fed, which the caller bounds.
#[derive(Debug, Default)]
pub struct Gate {
    /// The directory that every entry of an archive must be in; `None` for a directory on disk.
    root: Option<String>,
    /// Each path and parent seen, by its folded form.
    seen: HashMap<String, Seen>,
    /// The first path that leads out.
    traversal: Option<String>,
    /// Something in `tools/` or `lib/` can run.
    code: bool,
    offences: Vec<Offence>,
    more: usize,
}

#[derive(Debug)]
struct Seen {
    spelling: String,
    is_file: bool,
}

impl Gate {
    /// A gate for an archive, whose entries all lie in `<name>/`. Dot-files are refused: the content hash does not
    /// cover them.
    pub fn for_archive(name: &SkillSetName) -> Self {
        let root = Some(name.to_string());
        Self {
            root,
            ..Self::default()
        }
    }

    /// A gate for a directory on disk, with paths below it. Dot-files are inspected like any file but may be there:
    /// they are never packed.
    pub fn for_directory() -> Self {
        Self::default()
    }

    /// Judges one entry; `true` if nothing speaks against it, so that its path is safe to create below the root.
    pub fn check(&mut self, entry: &Entry<'_>) -> bool {
        let before = self.offences.len() + self.more;
        for reason in path::findings(entry.path, self.root.as_deref()) {
            self.report(entry.path, reason);
        }
        match entry.kind {
            Kind::File if entry.path.ends_with('/') => self.report(entry.path, Reason::Unclean),
            Kind::File | Kind::Directory => {}
            other => self.report(entry.path, Reason::Kind(other)),
        }
        for reason in content::findings(entry) {
            self.report(entry.path, reason);
        }
        if let Some(reason) = self.collision(entry) {
            self.report(entry.path, reason);
        }
        before == self.offences.len() + self.more
    }

    /// Judges the keys of `skillset.json`: knowledge has none that execute.
    pub fn check_metadata(&mut self, metadata: &SkillSetMetadata) {
        for key in metadata.executes() {
            self.report(METADATA_FILE, Reason::ExecutingKey(key));
        }
    }

    /// Adds a finding that the caller made, for example that a path is not UTF-8.
    pub fn report(&mut self, path: &str, reason: Reason) {
        let below_root = match &self.root {
            Some(_) => path.split_once('/').map_or("", |(_, rest)| rest),
            None => path,
        };
        self.code |= reason.is_executable() && path::is_code(below_root);
        let path = shown(path);
        if reason == Reason::Traversal && self.traversal.is_none() {
            self.traversal = Some(path.clone());
        }
        if self.offences.len() < OFFENCES_MAX {
            self.offences.push(Offence { path, reason });
        } else {
            self.more += 1;
        }
    }

    /// Whether anything has been found yet.
    pub fn has_offences(&self) -> bool {
        !self.offences.is_empty()
    }

    /// Whether some path leads out with `..`.
    pub fn escapes(&self) -> bool {
        self.traversal.is_some()
    }

    /// Nothing found, or everything that was.
    pub fn finish(self) -> Result<(), Refusal> {
        if self.offences.is_empty() {
            return Ok(());
        }
        let headline = match self.traversal {
            Some(path) => format!("Path traversal detected in archive: {path}"),
            None if self.code => CODE_REFUSED.to_owned(),
            None => NOT_KNOWLEDGE.to_owned(),
        };
        Err(Refusal {
            headline,
            offences: self.offences,
            more: self.more,
        })
    }

    /// Remembers the path and its parents; finds what a case-insensitive or normalising disk would merge.
    fn collision(&mut self, entry: &Entry<'_>) -> Option<Reason> {
        let path = entry.path.trim_end_matches('/');
        let is_leaf_file = entry.kind != Kind::Directory;
        let ends = path
            .match_indices('/')
            .map(|(at, _)| at)
            .chain([path.len()]);
        for end in ends {
            let part = path.get(..end).unwrap_or_default();
            let is_leaf = end == path.len();
            let is_file = is_leaf && is_leaf_file;
            let Some(seen) = self.seen.get(&path::folded(part)) else {
                let spelling = part.to_owned();
                self.seen
                    .insert(path::folded(part), Seen { spelling, is_file });
                continue;
            };
            if seen.spelling != part {
                let other = shown(&seen.spelling);
                return Some(Reason::SameNameAs(other));
            }
            if seen.is_file != is_file {
                return Some(Reason::FileAndDirectory);
            }
            if is_file {
                return Some(Reason::Duplicate);
            }
        }
        None
    }
}

/// A stranger's text for an error text: control and reversing characters escaped, cut to a line's length.
pub(crate) fn shown(text: &str) -> String {
    path::shown(text, PATH_SHOWN_MAX)
}

#[cfg(test)]
mod tests;
