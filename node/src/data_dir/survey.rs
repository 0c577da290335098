//! One walk over a data directory, for those who look at all of it.

use std::collections::{HashMap, HashSet};
use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use kairos_actors::passing::{INTENT, LOCK, STAGED, is_temporary};

use super::DataDir;

/// Most entries looked at; a directory with more is not examined further, and that is told.
const ENTRIES_MAX: usize = 200_000;
/// Deepest directory looked into.
const DEPTH_MAX: usize = 32;

/// Everything below a data directory, as far as it can be read.
#[derive(Debug, Default)]
pub struct Survey {
    /// In no order; links are not followed.
    pub(crate) entries: Vec<Entry>,
    /// What could not be looked at, with the reason.
    pub(crate) unreadable: Vec<String>,
    /// Whether there was more than a walk takes.
    pub(crate) cut_short: bool,
}

/// One file or directory.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) path: PathBuf,
    /// Below the data directory; what is not UTF-8 is replaced.
    pub(crate) shown: String,
    pub(crate) metadata: Metadata,
    pub(crate) standing: Standing,
}

/// Whether an entry is part of the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It is.
    Lasting,
    /// It is on its way somewhere else, whoever is at work on it.
    Temporary,
    /// It lies in something temporary.
    WithinTemporary,
}

impl Entry {
    /// The last part of the path.
    pub(crate) fn name(&self) -> &str {
        self.shown
            .rsplit_once('/')
            .map_or(self.shown.as_str(), |(_, name)| name)
    }

    /// The directory it is in, below the data directory; empty at the top.
    pub(crate) fn folder(&self) -> &str {
        self.shown.rsplit_once('/').map_or("", |(folder, _)| folder)
    }

    /// Whether it is a lock file, by the convention that all parts of the program follow.
    pub(crate) fn is_lock(&self) -> bool {
        self.metadata.is_file() && self.name().ends_with(LOCK)
    }

    /// Whether it is part of the agent.
    pub(crate) fn lasts(&self) -> bool {
        self.standing == Standing::Lasting
    }

    pub(crate) fn modified(&self) -> Option<SystemTime> {
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
    survey.stand();
    survey
}

impl Survey {
    /// Decides for each entry whether it is part of the agent.
    fn stand(&mut self) {
        let intents: HashSet<String> = self
            .entries
            .iter()
            .filter(|entry| entry.name() == INTENT)
            .map(|entry| entry.folder().to_owned())
            .collect();
        // What is so of a directory is so of everything in it; directories come first.
        let mut within: HashMap<String, Standing> = HashMap::new();
        for entry in &mut self.entries {
            let (folder, name) = (entry.folder(), entry.name());
            let (standing, below) = match within.get(folder) {
                Some(standing) => (*standing, *standing),
                None if !is_temporary(folder, name) => continue,
                // An interrupted change is completed with what it staged.
                None if name.starts_with(STAGED) && intents.contains(folder) => {
                    (Standing::Lasting, Standing::Lasting)
                }
                None => (Standing::Temporary, Standing::WithinTemporary),
            };
            entry.standing = standing;
            if entry.metadata.is_dir() {
                within.insert(entry.shown.clone(), below);
            }
        }
    }

    /// What is on its way somewhere else, without what lies in it.
    pub(crate) fn temporary(&self) -> impl Iterator<Item = &Entry> {
        let is_temporary = |entry: &&Entry| entry.standing == Standing::Temporary;
        self.entries.iter().filter(is_temporary)
    }
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
            standing: Standing::Lasting,
        });
    }
    Ok(())
}

fn shown(path: &Path, root: &Path) -> String {
    let below = path.strip_prefix(root).unwrap_or(path);
    below.to_string_lossy().into_owned()
}
