//! The files that a proposal is about: looked at when it is made, compared when it is shown, written when it is
//! approved.
//!
//! Blocking code: call it from a blocking thread.

use std::fs::Permissions;
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use fs_err::{self as fs, File};
use kairos_place::proposal::{CONTENT_MAX, Change, FILES_MAX, ProposalId};
use kairos_protocol::block::entry::{
    Entry, FileChange, InstructionsAction, InstructionsUpdate, KnowledgeAction, KnowledgeUpdate,
    SkillTransition,
};
use kairos_protocol::hash::ContentHash;
use kairos_protocol::time::Timestamp;

use super::ApprovalError;
use super::store::{Waiting, read};
use crate::passing::FRESH;
use crate::staging::Held;

/// Mode of the directories that are made here; they are for people to read.
const MODE: u32 = 0o755;
/// Deepest directory that is looked into.
const DEPTH_MAX: usize = 32;
/// Largest file of an entry that can be proposed to go, in bytes.
const FILE_MAX: usize = 50 * 1024 * 1024;
/// Modes whose names mean no file of their own.
const NO_FILE: [&str; 2] = ["none", "kairos"];

/// The files below a data directory.
#[derive(Debug, Clone)]
pub(super) struct Files {
    data: PathBuf,
}

/// Everything is as the proposal says, and stays so until this is dropped, as far as our own programs go.
#[derive(Debug)]
pub(super) struct Basis {
    held: Held,
    /// The text that is replaced or taken away.
    before: Option<Vec<u8>>,
}

impl Files {
    pub(super) fn new(data: &Path) -> Self {
        let data = data.to_owned();
        Self { data }
    }

    /// What `change` would do to which files, as they are now.
    pub(super) fn look(
        &self,
        change: &Change,
        content: Option<&[u8]>,
    ) -> Result<Vec<FileChange>, ApprovalError> {
        let Some(main) = change.main_file() else {
            return Ok(Vec::new());
        };
        if let Change::Instructions { mode } = change
            && NO_FILE.contains(&mode.as_str())
        {
            return Err(ApprovalError::Mode(mode.to_string()));
        }
        let after = content.map(ContentHash::of);
        let before = self.hash(&main, CONTENT_MAX)?;
        match change {
            Change::KnowledgeCreate { name } if self.is_there(&format!("knowledge/{name}"))? => {
                return Err(ApprovalError::Exists(name.to_string()));
            }
            Change::KnowledgeUpdate { .. } | Change::KnowledgeDelete { .. } | Change::Law
                if before.is_none() =>
            {
                return Err(ApprovalError::NothingThere(main));
            }
            _ if before == after => return Err(ApprovalError::Unchanged(main)),
            _ => {}
        }
        if !matches!(change, Change::KnowledgeDelete { .. }) {
            return Ok(vec![FileChange {
                path: main,
                before,
                after,
            }]);
        }
        let folder = main.rsplit_once('/').map_or("", |(folder, _)| folder);
        let mut files = Vec::new();
        self.gather(folder, 0, &mut files)?;
        files.sort_by(|a, b| (a.path != main, &a.path).cmp(&(b.path != main, &b.path)));
        Ok(files)
    }

    /// The text at `path`, if there is one.
    pub(super) fn text(&self, path: &str) -> Result<Option<Vec<u8>>, ApprovalError> {
        match read(&self.safe(path)?, CONTENT_MAX) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) if error.kind() == ErrorKind::FileTooLarge => Err(too_large(path)),
            Err(error) => Err(error.into()),
        }
    }

    /// The first file that is not as `files` say it is before.
    pub(super) fn changed(
        &self,
        change: &Change,
        files: &[FileChange],
    ) -> Result<Option<String>, ApprovalError> {
        for file in files {
            match self.hash(&file.path, FILE_MAX) {
                Ok(hash) if hash == file.before => {}
                Ok(_) | Err(ApprovalError::NotAFile(_) | ApprovalError::TooLarge { .. }) => {
                    return Ok(Some(file.path.clone()));
                }
                Err(error) => return Err(error),
            }
        }
        match change {
            Change::KnowledgeCreate { name } if self.is_there(&format!("knowledge/{name}"))? => {
                Ok(Some(format!("knowledge/{name}")))
            }
            // A file that came to the entry since would go with it unseen.
            Change::KnowledgeDelete { name } => {
                let mut now = Vec::new();
                self.gather(&format!("knowledge/{name}"), 0, &mut now)?;
                let known = |path: &String| files.iter().any(|file| file.path == *path);
                Ok(now
                    .into_iter()
                    .map(|file| file.path)
                    .find(|path| !known(path)))
            }
            _ => Ok(None),
        }
    }

    /// Whether every file is as it is to be.
    pub(super) fn is_made(&self, files: &[FileChange]) -> Result<bool, ApprovalError> {
        for file in files {
            if self.hash(&file.path, FILE_MAX)? != file.after {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Locks the directory and looks whether everything is as the proposal says.
    pub(super) fn basis(&self, waiting: &Waiting) -> Result<Basis, ApprovalError> {
        let proposal = &waiting.proposal;
        let main = proposal.change.main_file().unwrap_or_default();
        let folder = main.split('/').next().unwrap_or_default();
        let folder = self.data.join(folder);
        // What a crash left among the knowledge may be needed to finish a change of that actor; it clears it away.
        let held = match waiting.proposal.change {
            Change::Law | Change::Instructions { .. } => Held::lock(&folder, MODE)?,
            _ => Held::lock_as_left(&folder, MODE)?,
        };
        if let Some(what) = self.changed(&proposal.change, &proposal.files)? {
            let id = waiting.id.clone();
            return Err(ApprovalError::BasisChanged { id, what });
        }
        let before = self.text(&main)?;
        Ok(Basis { held, before })
    }

    /// What belongs into the ledger beside the decision. Keeps a copy of the law that is replaced.
    pub(super) fn entry(
        &self,
        basis: &Basis,
        waiting: &Waiting,
        now: Timestamp,
    ) -> Result<Option<Entry>, ApprovalError> {
        let proposal = &waiting.proposal;
        let Some(file) = proposal.files.first() else {
            return Ok(None);
        };
        let hashes = (file.before, file.after);
        let reason = proposal.reason.clone();
        let knowledge = |name: &str, action| {
            Entry::KnowledgeUpdate(KnowledgeUpdate::new(
                name,
                action,
                hashes,
                reason.clone(),
                now,
            ))
        };
        Ok(match &proposal.change {
            Change::KnowledgeCreate { name } => {
                Some(knowledge(name.as_str(), KnowledgeAction::Create))
            }
            Change::KnowledgeUpdate { name } => {
                Some(knowledge(name.as_str(), KnowledgeAction::Update))
            }
            Change::KnowledgeDelete { name } => {
                Some(knowledge(name.as_str(), KnowledgeAction::Delete))
            }
            Change::Law => {
                let version = self.keep_version(basis, waiting, now)?;
                let text = |bytes: &Option<Vec<u8>>| {
                    String::from_utf8_lossy(bytes.as_deref().unwrap_or_default()).into_owned()
                };
                let (before, after) = (text(&basis.before), text(&waiting.content));
                let texts = (before.as_str(), after.as_str());
                let subject = proposal.change.subject();
                let mut transition = SkillTransition::new(subject, texts, Some(version), now);
                transition.actor = "Human".to_owned();
                Some(Entry::SkillTransition(transition))
            }
            Change::Instructions { mode } => {
                let action = match file.before {
                    None => InstructionsAction::Create,
                    Some(_) => InstructionsAction::Update,
                };
                let reason = reason.unwrap_or_else(|| format!("approved as {}", waiting.id));
                Some(Entry::InstructionsUpdate(InstructionsUpdate::new(
                    mode.as_str(),
                    action,
                    hashes,
                    &reason,
                    now,
                )))
            }
            Change::SkillsetInstall { .. }
            | Change::SkillsetEnable { .. }
            | Change::SkillsetDisable { .. }
            | Change::SkillsetRemove { .. } => None,
        })
    }

    /// Makes the change, durably, each file whole or not at all.
    pub(super) fn make(&self, basis: Basis, waiting: &Waiting) -> Result<(), ApprovalError> {
        let (change, Basis { held, .. }) = (&waiting.proposal.change, basis);
        match (change, &waiting.content) {
            (Change::KnowledgeDelete { name }, _) => {
                held.remove(name.as_str())?;
                Ok(())
            }
            (Change::KnowledgeCreate { name }, Some(content)) => {
                let staging = held.stage()?;
                staging.write(&format!("{name}.md"), content, false)?;
                Ok(staging.commit(name.as_str(), false)?)
            }
            (_, Some(content)) => {
                let main = change.main_file().unwrap_or_default();
                Ok(replace(&self.safe(&main)?, content)?)
            }
            (_, None) => Err(ApprovalError::Content("needs")),
        }
    }

    /// Keeps the law that is about to be replaced, as the reference does; returns the name of the copy.
    fn keep_version(
        &self,
        basis: &Basis,
        waiting: &Waiting,
        now: Timestamp,
    ) -> Result<String, ApprovalError> {
        let folder = self.data.join("skills/versions");
        fs::create_dir_all(&folder)?;
        let name = version_name(&waiting.id, now);
        let reason = waiting.proposal.reason.clone();
        let meta = serde_json::json!({
            "timestamp": now.file_stamp(),
            "reason": reason.unwrap_or_else(|| format!("before {}", waiting.id)),
            "filename": name,
            "created_at": now.entry(),
        });
        replace(
            &folder.join(&name),
            basis.before.as_deref().unwrap_or_default(),
        )?;
        let meta = format!("{meta:#}");
        replace(&folder.join(format!("{name}.meta.json")), meta.as_bytes())?;
        Ok(name)
    }

    fn gather(
        &self,
        folder: &str,
        depth: usize,
        files: &mut Vec<FileChange>,
    ) -> Result<(), ApprovalError> {
        let too_large = |max: String| ApprovalError::TooLarge {
            what: format!("`{folder}`"),
            max,
        };
        if depth > DEPTH_MAX {
            return Err(too_large(format!("{DEPTH_MAX} levels")));
        }
        for entry in fs::read_dir(self.data.join(folder))? {
            let entry = entry?;
            let name = entry.file_name();
            let path = format!("{folder}/{}", name.to_string_lossy());
            let found = fs::symlink_metadata(entry.path())?;
            if name.to_str().is_none() || !(found.is_dir() || found.is_file()) {
                return Err(ApprovalError::NotAFile(path));
            }
            if found.is_dir() {
                self.gather(&path, depth + 1, files)?;
                continue;
            }
            if files.len() >= FILES_MAX {
                return Err(too_large(format!("{FILES_MAX} files")));
            }
            files.push(FileChange {
                before: self.hash(&path, FILE_MAX)?,
                path,
                after: None,
            });
        }
        Ok(())
    }

    fn hash(&self, path: &str, max: usize) -> Result<Option<ContentHash>, ApprovalError> {
        let file = self.safe(path)?;
        match fs::symlink_metadata(&file) {
            Ok(found) if !found.is_file() => return Err(ApprovalError::NotAFile(path.to_owned())),
            Ok(found) if found.size() > max as u64 => return Err(too_large(path)),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        let mut hasher = kairos_protocol::hash::Hasher::default();
        io::copy(&mut File::open(&file)?, &mut hasher)?;
        Ok(Some(hasher.finish()))
    }

    fn is_there(&self, path: &str) -> Result<bool, ApprovalError> {
        match fs::symlink_metadata(self.data.join(path)) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// The file at `path`, if no directory on the way there leads elsewhere.
    fn safe(&self, path: &str) -> Result<PathBuf, ApprovalError> {
        let mut at = self.data.clone();
        let mut parts = path.split('/').peekable();
        while let Some(part) = parts.next() {
            at.push(part);
            if parts.peek().is_none() {
                break;
            }
            match fs::symlink_metadata(&at) {
                Ok(found) if found.is_dir() => {}
                Ok(_) => return Err(ApprovalError::NotAFile(path.to_owned())),
                // What lies below does not exist either.
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    return Ok(self.data.join(path));
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(at)
    }
}

/// The name of a copy of the law; the id keeps two of one second apart.
fn version_name(id: &ProposalId, now: Timestamp) -> String {
    format!("kairos_{}_{id}.rb", now.file_stamp())
}

fn too_large(path: &str) -> ApprovalError {
    ApprovalError::TooLarge {
        what: format!("`{path}`"),
        max: format!("{CONTENT_MAX} bytes"),
    }
}

/// Writes a file in place of the one that may be there, whole or not at all, with the mode of that one.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mode = fs::metadata(path).map_or(0o644, |found| found.mode() & 0o777);
    let mut fresh = tempfile::Builder::new()
        .prefix(FRESH)
        .permissions(Permissions::from_mode(mode))
        .tempfile_in(folder)?;
    fresh.write_all(bytes)?;
    fresh.as_file().sync_all()?;
    fresh.persist(path).map_err(|e| e.error)?;
    File::open(folder)?.sync_all()
}
