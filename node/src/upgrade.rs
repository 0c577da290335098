//! Bringing the texts of a data directory to those of this version, without touching what its owner changed.
//!
//! Each text is compared three ways: as it was made, as it is, and as this version has it. What the owner left as it
//! was made may be replaced, with a copy kept; settings that the owner changed are merged, the owner's values winning;
//! everything else is only shown. What governs the agent, `skills/kairos.rb` and `skills/kairos.md`, is replaced when
//! it is named, and never otherwise. That is the owner's word on a text of this program, so the rules of the law that is
//! replaced are not asked; the ledger is told of it as of any change of the law, and it counts in the session.
//!
//! A directory of the reference is one whose texts were made by another program. Its unchanged settings are merged
//! too, not replaced, since both programs may go on using them. What the reference keeps track of in
//! `.kairos_meta.yml` is left as it is: a text of ours then counts as the owner's there, and is never overwritten.

mod apply;
mod law;
pub mod merge;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use kairos_actors::chain::ChainError;
use kairos_protocol::version::Version;
use serde::Serialize;
use similar::TextDiff;
use thiserror::Error;

use crate::data_dir::DataDir;
use crate::data_dir::meta::{LAYOUT, Meta, MetaError, hash_of};
use crate::data_dir::templates::{KNOWLEDGE, TRACKED};

pub use apply::{Applied, apply, record};

/// Files that are replaced only when they are named.
const GOVERNING: [&str; 2] = ["skills/kairos.rb", "skills/kairos.md"];
/// Longest text of an owner that is compared.
const TEXT_MAX: u64 = 4 * 1024 * 1024;
/// Lines around a change that a diff shows.
const CONTEXT: usize = 2;

/// How a text differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It is that of this version.
    Unchanged,
    /// The owner changed it, this version did not.
    UserModified,
    /// This version changed it, the owner did not; or it is absent.
    AutoUpdatable,
    /// Both changed it, or nobody knows what it was made from.
    Conflict,
}

/// What an upgrade does about a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Nothing.
    Keep,
    /// Makes it.
    Create,
    /// Keeps a copy and replaces it.
    Replace,
    /// Keeps a copy and adds the keys it lacks.
    Merge,
    /// Puts the new text beside it, as `NAME.new`, since the two cannot be merged without loss.
    Beside,
    /// Shows what is new in it; `--take` replaces it.
    Propose,
}

/// What an item is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// What governs the agent.
    Law,
    /// A text for people.
    Doc,
    /// Settings.
    Settings,
    /// A piece of knowledge.
    Knowledge,
}

/// One text and what is to become of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Item {
    /// The file, below the data directory.
    pub path: String,
    /// What it is.
    pub what: What,
    /// How it differs.
    pub status: Status,
    /// What is done about it.
    pub step: Step,
    /// From what is there to what this version has, or what the merge makes of it; absent where nothing differs.
    pub diff: Option<String>,
    /// What is there now.
    #[serde(skip)]
    before: Option<String>,
    /// What is to be written.
    #[serde(skip)]
    after: Option<String>,
}

impl Item {
    /// How it stands, in the reference's words: `OK`, `UP`, `USER`, `CONFLICT` or `NEW`.
    pub fn word(&self) -> &'static str {
        match (self.status, self.step) {
            (_, Step::Create) => "NEW",
            (Status::Unchanged, _) => "OK",
            (_, Step::Replace) | (Status::AutoUpdatable, Step::Merge) => "UP",
            (Status::UserModified, _) | (_, Step::Keep) => "USER",
            _ => "CONFLICT",
        }
    }

    /// What is done about it, in words.
    pub fn intent(&self) -> &'static str {
        match (self.step, self.what) {
            (Step::Keep, _) => match self.status {
                Status::Unchanged => "as in this version",
                _ => "yours, kept",
            },
            (Step::Create, _) => "is made",
            (Step::Replace, _) => "is replaced, a copy kept",
            (Step::Merge, _) => "gets the settings it lacks, a copy kept",
            (Step::Beside, _) => "kept; what is new goes beside it as .new",
            (Step::Propose, What::Law) => "kept; it governs the agent, take it over with --take",
            (Step::Propose, _) => "kept; take over what is new with --take",
        }
    }
}

/// Everything an upgrade would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// The version that the directory is of; `unknown` if nothing says.
    pub from_version: String,
    /// This version.
    pub to_version: &'static str,
    /// Whether there is anything to do or to note.
    pub needed: bool,
    /// Each text.
    pub items: Vec<Item>,
}

impl Plan {
    /// Whether another law would be in force, or one where there was none.
    pub fn changes_law(&self) -> bool {
        self.items.iter().any(law::is_changed)
    }
}

/// Why there is no upgrade.
#[derive(Debug, Error)]
pub enum UpgradeError {
    /// The tracking cannot be read.
    #[error("{0}; correct the file, or move it away to have every text taken for yours")]
    Meta(#[from] MetaError),
    /// The directory was used by a later version.
    #[error("the data directory is of version {0}, which is newer than this program")]
    Newer(String),
    /// A name that no text has.
    #[error("`{0}` is not a file that an upgrade replaces; kairos-chain upgrade lists them")]
    Unknown(String),
    /// A file cannot be read or written.
    #[error("cannot {action} {}: {source}; nothing was changed", .path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A crash left a change of knowledge half done.
    #[error(
        "a change of knowledge was interrupted; kairos-chain knowledge status settles it, then try again"
    )]
    Unsettled,
    /// The ledger did not take the record.
    #[error("cannot record the upgrade: {0}; nothing was changed")]
    Refused(#[source] ChainError),
    /// Nobody knows whether the ledger has the record.
    #[error(
        "the files are in place, but whether the ledger has the record is not known: {0}; \
         run kairos-chain upgrade --apply again"
    )]
    MaybeRecorded(#[source] ChainError),
    /// All is done but the note of it.
    #[error(
        "the files are in place and recorded, but {} cannot be written: {source}; \
         run kairos-chain upgrade --apply again", .path.display()
    )]
    Unnoted {
        /// The tracking.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file was changed between the look and the deed.
    #[error("{0} changed meanwhile; nothing was changed, try again")]
    Changed(String),
    /// Something failed, and so did taking back what was done before.
    #[error("{failed}, and {undone} could not be put back; its copy is beside it")]
    HalfDone {
        /// What failed.
        failed: Box<UpgradeError>,
        /// What is left changed.
        undone: String,
    },
}

impl UpgradeError {
    fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }
}

/// Looks at every text. `takes` are governing files, or any others, that are to be replaced whatever became of them.
///
/// # Errors
///
/// [`UpgradeError::Meta`], [`UpgradeError::Newer`], [`UpgradeError::Unknown`] and [`UpgradeError::Io`]. Nothing is
/// changed.
pub fn plan(dir: &DataDir, takes: &[String]) -> Result<Plan, UpgradeError> {
    let to_version = env!("CARGO_PKG_VERSION");
    let meta = Meta::read(&dir.meta_file())?;
    let known = meta.is_some();
    let meta = meta.unwrap_or_default();
    let from_version = match (&meta.own, &meta.layout) {
        (Some(own), _) => own.version.clone(),
        (None, Some(layout)) => layout.clone(),
        (None, None) if known => LAYOUT.to_owned(),
        (None, None) => "unknown".to_owned(),
    };
    if let Some(own) = &meta.own {
        let (theirs, ours) = (
            own.version.parse::<Version>(),
            to_version.parse::<Version>(),
        );
        if matches!((theirs, ours), (Ok(theirs), Ok(ours)) if theirs > ours) {
            return Err(UpgradeError::Newer(own.version.clone()));
        }
    }
    let ours = meta.own.is_some();
    let hashes = meta.own.as_ref();
    let mut items = Vec::new();
    for template in TRACKED {
        let what = match template.path {
            path if GOVERNING.contains(&path) => What::Law,
            path if path.ends_with(".yml") => What::Settings,
            _ => What::Doc,
        };
        let original = match hashes {
            Some(own) => own.template_hashes.get(template.path),
            None => meta.template_hashes.get(template.path),
        };
        let compared = Compared::read(dir, template.path, template.text, original)?;
        items.push(compared.item(what, ours));
    }
    for guide in KNOWLEDGE {
        let path = format!("knowledge/{0}/{0}.md", guide.name);
        let original = hashes.and_then(|own| own.knowledge_hashes.get(guide.name));
        let archived = dir.knowledge().join(".archived").join(guide.name).exists();
        let compared = Compared::read(dir, &path, guide.text, original)?;
        // What we once installed and is gone was removed by its owner.
        let removed = compared.before.is_none() && (archived || original.is_some());
        if !removed {
            items.push(compared.item(What::Knowledge, ours));
        }
    }
    for take in takes {
        let named = items
            .iter_mut()
            .find(|item| item.path == *take && item.what != What::Knowledge);
        let item = named.ok_or_else(|| UpgradeError::Unknown(take.clone()))?;
        if item.status != Status::Unchanged {
            item.step = if item.before.is_some() {
                Step::Replace
            } else {
                Step::Create
            };
            item.after = TRACKED
                .iter()
                .find(|t| t.path == take)
                .map(|t| t.text.to_owned());
            item.diff = diff(item);
        }
    }
    let acts = items
        .iter()
        .any(|item| !matches!(item.step, Step::Keep | Step::Propose));
    let needed = acts || law::is_noted(dir) || from_version != to_version || !ours;
    Ok(Plan {
        from_version,
        to_version,
        needed,
        items,
    })
}

/// One text three ways.
struct Compared<'a> {
    path: String,
    before: Option<String>,
    new: &'a str,
    status: Status,
}

impl<'a> Compared<'a> {
    fn read(
        dir: &DataDir,
        path: &str,
        new: &'a str,
        original: Option<&String>,
    ) -> Result<Self, UpgradeError> {
        let file = dir.path().join(path);
        let before = match read_text(&file) {
            Ok(text) => Some(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(UpgradeError::io("read", &file)(error)),
        };
        let status = match &before {
            None => Status::AutoUpdatable,
            Some(text) if text == new => Status::Unchanged,
            Some(text) => match original {
                Some(original) if *original == hash_of(text) => Status::AutoUpdatable,
                Some(original) if *original == hash_of(new) => Status::UserModified,
                _ => Status::Conflict,
            },
        };
        Ok(Self {
            path: path.to_owned(),
            before,
            new,
            status,
        })
    }

    /// `ours` says whether this program made the directory.
    fn item(self, what: What, ours: bool) -> Item {
        use {Status::*, What::*};
        let whole = || Some(self.new.to_owned());
        let (step, after) = match (what, self.status, &self.before) {
            (_, Unchanged | UserModified, _) => (Step::Keep, None),
            (_, _, None) => (Step::Create, whole()),
            (Law, _, _) => (Step::Propose, whole()),
            (Settings, AutoUpdatable, _) if ours => (Step::Replace, whole()),
            (Settings, _, Some(before)) => match merge::merge(before, self.new) {
                Some(merged) if merged == *before => (Step::Keep, None),
                Some(merged) => (Step::Merge, Some(merged)),
                None => (Step::Beside, whole()),
            },
            (Doc | Knowledge, AutoUpdatable, _) => (Step::Replace, whole()),
            (Doc, Conflict, _) => (Step::Propose, whole()),
            (Knowledge, Conflict, _) => (Step::Beside, whole()),
        };
        let mut item = Item {
            path: self.path,
            what,
            status: self.status,
            step,
            diff: None,
            before: self.before,
            after,
        };
        item.diff = diff(&item);
        item
    }
}

fn diff(item: &Item) -> Option<String> {
    let (before, after) = (item.before.as_ref()?, item.after.as_ref()?);
    let diff = TextDiff::from_lines(before.as_str(), after.as_str());
    let (old, new) = (
        format!("{} (yours)", item.path),
        format!("{} (new)", item.path),
    );
    Some(
        diff.unified_diff()
            .context_radius(CONTEXT)
            .header(&old, &new)
            .to_string(),
    )
}

fn read_text(path: &Path) -> io::Result<String> {
    use io::Read as _;
    let mut text = String::new();
    let file = fs::File::open(path)?;
    if file.take(TEXT_MAX + 1).read_to_string(&mut text)? as u64 > TEXT_MAX {
        return Err(io::Error::other(format!(
            "it has more than {TEXT_MAX} bytes"
        )));
    }
    Ok(text)
}

#[cfg(test)]
mod tests;
