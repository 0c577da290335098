//! One walk over a data directory, that every check of single files goes by.

use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::data_dir::DataDir;

/// Most entries looked at; a directory with more is not examined further, and that is told.
const ENTRIES_MAX: usize = 200_000;
/// Deepest directory looked into.
const DEPTH_MAX: usize = 32;

/// Everything below a data directory, as far as it can be read.
#[derive(Debug, Default)]
pub struct Survey {
    /// In no order; links are not followed.
    pub(super) entries: Vec<Entry>,
    /// What could not be looked at, with the reason.
    pub(super) unreadable: Vec<String>,
    /// Whether there was more than a walk takes.
    pub(super) cut_short: bool,
}

/// One file or directory.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) path: PathBuf,
    /// Below the data directory; what is not UTF-8 is replaced.
    pub(super) shown: String,
    pub(super) metadata: Metadata,
}

impl Entry {
    /// The last part of the path.
    pub(super) fn name(&self) -> &str {
        self.shown
            .rsplit_once('/')
            .map_or(self.shown.as_str(), |(_, name)| name)
    }

    /// The directory it is in, below the data directory; empty at the top.
    pub(super) fn folder(&self) -> &str {
        self.shown.rsplit_once('/').map_or("", |(folder, _)| folder)
    }

    /// Whether it is a lock file, by the convention that all parts of the program follow.
    pub(super) fn is_lock(&self) -> bool {
        self.metadata.is_file() && (self.name() == ".lock" || self.name().ends_with(".lock"))
    }

    pub(super) fn modified(&self) -> Option<SystemTime> {
        self.metadata.modified().ok()
    }
}

/// Walks over everything below `dir`.
pub fn survey(dir: &DataDir) -> Survey {
    let mut survey = Survey::default();
    let mut folders = vec![(dir.path().to_owned(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        if let Err(error) = look_into(&folder, depth, dir.path(), &mut survey, &mut folders) {
            let shown = shown(&folder, dir.path());
            survey.unreadable.push(format!("{shown}: {error}"));
        }
    }
    survey.entries.sort_by(|a, b| a.shown.cmp(&b.shown));
    survey
}

fn look_into(
    folder: &Path,
    depth: usize,
    root: &Path,
    survey: &mut Survey,
    folders: &mut Vec<(PathBuf, usize)>,
) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if survey.entries.len() >= ENTRIES_MAX {
            survey.cut_short = true;
            return Ok(());
        }
        let metadata = match path.symlink_metadata() {
            Ok(metadata) => metadata,
            // Somebody at work here took it away meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        if metadata.is_dir() {
            if depth < DEPTH_MAX {
                folders.push((path.clone(), depth + 1));
            } else {
                survey.cut_short = true;
            }
        }
        survey.entries.push(Entry {
            shown: shown(&path, root),
            path,
            metadata,
        });
    }
    Ok(())
}

fn shown(path: &Path, root: &Path) -> String {
    let below = path.strip_prefix(root).unwrap_or(path);
    below.to_string_lossy().into_owned()
}
