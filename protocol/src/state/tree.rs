//! Every file of the layers by path and hash: what our change detection and restores go by.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::hash::{ContentHash, Hasher};

/// Most files of one tree.
pub const TREE_FILES_MAX: usize = 100_000;
/// Longest path, in bytes.
const PATH_MAX: usize = 1024;
/// First line of a tree's text.
const VERSION: &str = "kairos-tree 1";
/// Where the files of a layer lie.
const ROOTS: [&str; 4] = [
    "context/",
    "knowledge/",
    "skills/kairos.md",
    "skills/kairos.rb",
];

/// One file of a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TreeFile {
    /// The hash of its bytes.
    pub hash: ContentHash,
    /// Number of bytes.
    pub size: u64,
    /// Whether its owner may execute it.
    pub executable: bool,
}

/// All files of all layers, by `/`-separated path below the data directory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tree {
    files: BTreeMap<String, TreeFile>,
}

/// Why a path or a text does not belong to a tree.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TreeError {
    /// Not a file of a layer, or a path that leads elsewhere.
    #[error("`{}` is not the path of a file of a layer", .0.chars().take(80).collect::<String>())]
    Path(String),
    /// More than [`TREE_FILES_MAX`] files.
    #[error("more than {TREE_FILES_MAX} files")]
    TooMany,
    /// A line that no tree has.
    #[error("line {0} is not one of a tree")]
    Line(usize),
}

impl Tree {
    /// Adds a file; one of the same path is replaced.
    pub fn add(&mut self, path: &str, file: TreeFile) -> Result<(), TreeError> {
        let rooted = |root: &&str| match root.ends_with('/') {
            true => path.len() > root.len() && path.starts_with(*root),
            false => path == *root,
        };
        if !ROOTS.iter().any(rooted) || !is_safe(path) || self.is_below_a_file(path) {
            return Err(TreeError::Path(path.to_owned()));
        }
        if self.files.len() == TREE_FILES_MAX && !self.files.contains_key(path) {
            return Err(TreeError::TooMany);
        }
        self.files.insert(path.to_owned(), file);
        Ok(())
    }

    fn is_below_a_file(&self, path: &str) -> bool {
        let above = path.match_indices('/').filter_map(|(at, _)| path.get(..at));
        above
            .into_iter()
            .any(|above| self.files.contains_key(above))
    }

    /// The files in the order of their paths, bytewise.
    pub fn files(&self) -> impl Iterator<Item = (&str, &TreeFile)> {
        self.files.iter().map(|(path, file)| (path.as_str(), file))
    }

    /// The file at `path`.
    pub fn get(&self, path: &str) -> Option<&TreeFile> {
        self.files.get(path)
    }

    /// Number of files.
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Bytes of all files together.
    pub fn bytes(&self) -> u64 {
        self.files.values().map(|file| file.size).sum()
    }

    /// The one text of this tree: a line for each file, in order.
    pub fn to_text(&self) -> String {
        let mut text = format!("{VERSION}\n");
        for (path, file) in &self.files {
            text.push_str(&line(path, file));
        }
        text
    }

    /// The hash of [`to_text`](Self::to_text).
    pub fn hash(&self) -> ContentHash {
        ContentHash::of(self.to_text())
    }

    /// Reads [`to_text`](Self::to_text) back; anything else is refused.
    pub fn parse(text: &str) -> Result<Self, TreeError> {
        let mut lines = text.split_inclusive('\n').enumerate();
        let first = lines.next().and_then(|(_, line)| line.strip_suffix('\n'));
        if first != Some(VERSION) {
            return Err(TreeError::Line(1));
        }
        let mut tree = Self::default();
        for (number, found) in lines {
            let bad = || TreeError::Line(number + 1);
            let (path, file) = parse_line(found).ok_or_else(bad)?;
            let follows = tree.files.last_key_value();
            if follows.is_some_and(|(last, _)| last.as_str() >= path) || line(path, &file) != found
            {
                return Err(bad());
            }
            tree.add(path, file)?;
        }
        Ok(tree)
    }

    /// The hash over the files below each directory (or of each file) directly in `root`, which ends in `/`.
    pub fn children(&self, root: &str) -> BTreeMap<&str, ContentHash> {
        let mut hashers: BTreeMap<&str, Hasher> = BTreeMap::new();
        for (path, file) in self.files.range(root.to_owned()..) {
            let Some(below) = path.strip_prefix(root) else {
                break;
            };
            let name = below.split('/').next().unwrap_or(below);
            hashers
                .entry(name)
                .or_default()
                .update(line(below, file).as_bytes());
        }
        hashers
            .into_iter()
            .map(|(name, hasher)| (name, hasher.finish()))
            .collect()
    }
}

/// Whether the path stays where it is joined to, and fits on a line.
fn is_safe(path: &str) -> bool {
    path.len() <= PATH_MAX
        && !path.contains(char::is_control)
        && path.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

fn line(path: &str, file: &TreeFile) -> String {
    let mode = if file.executable { 'x' } else { '-' };
    format!("{} {} {mode} {path}\n", file.hash, file.size)
}

fn parse_line(line: &str) -> Option<(&str, TreeFile)> {
    let mut parts = line.strip_suffix('\n')?.splitn(4, ' ');
    let (hash, size, mode, path) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let file = TreeFile {
        hash: hash.parse().ok()?,
        size: size.parse().ok()?,
        executable: match mode {
            "x" => true,
            "-" => false,
            _ => return None,
        },
    };
    Some((path, file))
}
