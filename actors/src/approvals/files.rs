//! The law and the instructions: looked at when a change is proposed, compared when it is shown, replaced when it is
//! approved.
//!
//! The new text lies beside its target under a name with the id of the approval before the ledger is told, and the
//! change is its rename. So after any crash that name tells whether the change was made, whatever happened to the file
//! since.
//!
//! Blocking code: call it from a blocking thread.

use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use fs_err::os::unix::fs::OpenOptionsExt as _;
use fs_err::{self as fs, OpenOptions};
use kairos_place::proposal::{CONTENT_MAX, Change, EXTENSIONS, Proposal, ProposalId};
use kairos_protocol::block::entry::{Entry, FileChange, InstructionsAction, InstructionsUpdate};
use kairos_protocol::hash::ContentHash;
use kairos_protocol::id::SkillName;
use kairos_protocol::instructions;
use kairos_protocol::time::Timestamp;

use super::ApprovalError;
use super::store::{Decision, Waiting, read};
use crate::durable;
use crate::extensions::{ExtensionFault, ExtensionStore, disabled_file, note_file};
use crate::skills::transition;
use crate::staging::{Held, sync_directory};

/// Where the law and the instructions are, below the data directory.
const SKILLS: &str = "skills";
/// The settings, which say which mode is in force.
const CONFIG: &str = "skills/config.yml";
/// Where former laws are kept.
const VERSIONS: &str = "skills/versions";
/// Start of the name of a text that is about to take its place; the id of its approval follows.
const STAGED: &str = ".approved-";
/// Mode of the directory; it is for people to read.
const MODE: u32 = 0o755;
/// Modes whose names mean no file of their own.
const NO_FILE: [&str; 2] = ["none", "kairos"];

/// The files below a data directory.
#[derive(Debug, Clone)]
pub(super) struct Files {
    data: PathBuf,
    extensions: ExtensionStore,
}

/// Everything is as the proposal says, and stays so until this is dropped, as far as our own programs go.
#[derive(Debug)]
pub(super) struct Basis {
    _held: Held,
    /// The text that is replaced or taken away.
    before: Option<Vec<u8>>,
}

impl Files {
    pub(super) fn new(data: &Path) -> Self {
        Self {
            data: data.to_owned(),
            extensions: ExtensionStore::new(data),
        }
    }

    /// Whether an extension of the meeting protocol may change so; nothing is asked about other changes.
    pub(super) fn judge(&self, change: &Change, content: &[u8]) -> Result<(), ApprovalError> {
        Ok(self.extensions.judge(change, content)?)
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
        self.check_mode(change)?;
        let after = content.map(ContentHash::of);
        let before = self.hash(&main)?;
        match change {
            Change::InstructionsDelete { .. } | Change::ExtensionDisable { .. }
                if before.is_none() =>
            {
                Err(ApprovalError::NothingThere(main))
            }
            change if change.is_law() && before.is_none() => Err(ApprovalError::NothingThere(main)),
            // One whose text is there may be without consent; whether it is in effect, the guard knows.
            _ if before == after && !change.is_extension() => Err(ApprovalError::Unchanged(main)),
            _ => Ok(vec![FileChange {
                path: main,
                before,
                after,
            }]),
        }
    }

    /// Whether the mode of a change of instructions is one that can change so.
    fn check_mode(&self, change: &Change) -> Result<(), ApprovalError> {
        match change {
            Change::Instructions { mode } | Change::InstructionsDelete { mode }
                if NO_FILE.contains(&mode.as_str()) =>
            {
                Err(ApprovalError::Mode(mode.to_string()))
            }
            Change::InstructionsDelete { mode } => match self.config()?.0 == mode.as_str() {
                true => Err(ApprovalError::InForce(mode.to_string())),
                false => Ok(()),
            },
            Change::InstructionsMode { mode } if mode.as_str() != "none" => {
                let text = Change::Instructions { mode: mode.clone() }.main_file();
                let text = text.unwrap_or_default();
                match self.hash(&text)? {
                    None => Err(ApprovalError::NothingThere(text)),
                    Some(_) => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }

    /// The mode in force, and the settings that say so.
    fn config(&self) -> Result<(String, String), ApprovalError> {
        let bytes = self.text(CONFIG)?.unwrap_or_default();
        let text = String::from_utf8(bytes)
            .map_err(|error| ApprovalError::NotUtf8(error.utf8_error().valid_up_to()))?;
        Ok((instructions::mode(&text)?, text))
    }

    /// The settings with another mode in force.
    pub(super) fn config_with(&self, mode: &SkillName) -> Result<Vec<u8>, ApprovalError> {
        let (_, text) = self.config()?;
        Ok(instructions::with_mode(&text, mode)?.into_bytes())
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

    /// How many bytes the files have now; none where they cannot be reached.
    pub(super) fn size(&self, files: &[FileChange]) -> u64 {
        let size = |file: &FileChange| fs::symlink_metadata(self.data.join(&file.path));
        files.iter().flat_map(size).map(|found| found.len()).sum()
    }

    /// The first file that is not as `files` say it is before.
    pub(super) fn changed(&self, files: &[FileChange]) -> Result<Option<String>, ApprovalError> {
        for file in files {
            match self.hash(&file.path) {
                Ok(hash) if hash == file.before => {}
                Ok(_) | Err(ApprovalError::NotAFile(_) | ApprovalError::TooLarge { .. }) => {
                    return Ok(Some(file.path.clone()));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    fn lock(&self) -> io::Result<Held> {
        Held::lock(&self.data.join(SKILLS), MODE)
    }

    /// Locks the directory and looks whether everything is as the proposal says.
    pub(super) fn basis(&self, waiting: &Waiting) -> Result<Basis, ApprovalError> {
        let held = self.lock()?;
        if let Some(what) = self.changed(&waiting.proposal.files)? {
            let id = waiting.id.clone();
            return Err(ApprovalError::BasisChanged { id, what });
        }
        let before = match waiting.proposal.main_file() {
            Some(main) => self.text(main)?,
            None => None,
        };
        Ok(Basis {
            _held: held,
            before,
        })
    }

    /// Lays the new text beside its target, durably.
    pub(super) fn stage(&self, _basis: &Basis, waiting: &Waiting) -> Result<(), ApprovalError> {
        let target = self.target(waiting)?;
        let content = match waiting.proposal.change.has_content() {
            true => waiting.content.as_deref(),
            // The empty file stands for the removal that is to come.
            false => Some(&[][..]),
        };
        let content = content.ok_or(ApprovalError::Content("needs"))?;
        if waiting.proposal.change.is_extension() {
            fs::create_dir_all(target.parent().unwrap_or(Path::new(".")))?;
        }
        stage(&target, &waiting.id, content)?;
        Ok(())
    }

    /// Makes the change that was staged and decided, unless it was made before. What somebody else changed is left alone:
    /// `false`.
    pub(super) fn make(
        &self,
        _basis: &Basis,
        waiting: &Waiting,
        decision: &Decision,
    ) -> Result<bool, ApprovalError> {
        let target = self.target(waiting)?;
        let staged = staged(&target, &waiting.id);
        if !crate::staging::exists(&staged)? {
            return Ok(true);
        }
        let proposal = &waiting.proposal;
        if !proposal.change.has_content() {
            return self.take_away(&staged, &target, proposal);
        }
        let content = read(&staged, CONTENT_MAX)?;
        let hash = ContentHash::of(&content);
        if Some(hash) != proposal.content_hash() {
            let (id, reason) = (
                waiting.id.clone(),
                "the staged text is another one".to_owned(),
            );
            return Err(ApprovalError::Damaged { id, reason });
        }
        // An editor takes no lock of ours.
        if self.changed(&proposal.files)?.is_some() {
            return Ok(false);
        }
        if let Change::ExtensionAdopt { name } = &proposal.change {
            let consent = (&decision.by, decision.at);
            let note = match self.extensions.note(proposal, &content, consent) {
                Ok(note) => note,
                Err(ExtensionFault::Io(error)) => return Err(error.into()),
                // Others were put there since: it must not come into effect any more.
                Err(_) => return Ok(false),
            };
            durable::replace(&self.safe(&note_file(name))?, &note)?;
            gone(&self.safe(&disabled_file(name))?)?;
        }
        place(&staged, &target)?;
        Ok(true)
    }

    /// Takes a text away, and then what stands for that; where the text is gone, only the latter is left to do.
    fn take_away(
        &self,
        staged: &Path,
        target: &Path,
        proposal: &Proposal,
    ) -> Result<bool, ApprovalError> {
        if crate::staging::exists(target)? {
            if self.changed(&proposal.files)?.is_some() {
                return Ok(false);
            }
            match &proposal.change {
                Change::ExtensionDisable { name } => {
                    let aside = self.safe(&disabled_file(name))?;
                    let folder = aside.parent().unwrap_or(Path::new("."));
                    fs::create_dir_all(folder)?;
                    fs::rename(target, &aside)?;
                    sync_directory(folder)?;
                }
                _ => fs::remove_file(target)?,
            }
            sync_directory(target.parent().unwrap_or(Path::new(".")))?;
        }
        if let Change::ExtensionDisable { name } = &proposal.change {
            gone(&self.safe(&note_file(name))?)?;
        }
        fs::remove_file(staged)?;
        Ok(true)
    }

    /// Makes the change that a crash left staged; see [`Self::make`].
    pub(super) fn finish(
        &self,
        waiting: &Waiting,
        decision: &Decision,
    ) -> Result<bool, ApprovalError> {
        let (_held, before) = (self.lock()?, None);
        self.make(&Basis { _held, before }, waiting, decision)
    }

    /// Removes every staged text but those of the approvals `begun`.
    pub(super) fn tidy(&self, begun: &[ProposalId]) -> io::Result<()> {
        let leftovers = |folder: &str| -> io::Result<Vec<PathBuf>> {
            let entries = match fs::read_dir(self.data.join(folder)) {
                Ok(entries) => entries,
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
                Err(error) => return Err(error),
            };
            let mut found = Vec::new();
            for entry in entries {
                let entry = entry?;
                let name = entry.file_name();
                let id = name.to_str().and_then(|name| name.strip_prefix(STAGED));
                if id.is_some_and(|id| begun.iter().all(|begun| begun.as_str() != id)) {
                    found.push(entry.path());
                }
            }
            Ok(found)
        };
        let paths = [
            leftovers(SKILLS)?,
            leftovers(VERSIONS)?,
            leftovers(EXTENSIONS)?,
        ]
        .concat();
        if paths.is_empty() {
            return Ok(());
        }
        let _held = self.lock()?;
        for path in paths {
            gone(&path)?;
        }
        Ok(())
    }

    fn target(&self, waiting: &Waiting) -> Result<PathBuf, ApprovalError> {
        self.safe(waiting.proposal.main_file().unwrap_or_default())
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
        Ok(match &proposal.change {
            Change::Law
            | Change::SkillEvolve { .. }
            | Change::SkillAdd { .. }
            | Change::SkillRemove { .. }
            | Change::LawRollback { .. } => {
                let version = self.keep_version(basis, waiting, now)?;
                let texts = (basis.before.as_deref(), waiting.content.as_deref());
                let transition = transition(texts.0, texts.1, Some(version), now)?;
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
            Change::InstructionsDelete { mode } => {
                let reason = reason.unwrap_or_else(|| format!("approved as {}", waiting.id));
                let (mode, action) = (mode.as_str(), InstructionsAction::Delete);
                let update = InstructionsUpdate::new(mode, action, hashes, &reason, now);
                Some(Entry::InstructionsUpdate(update))
            }
            Change::InstructionsMode { mode } => {
                let reason = reason.unwrap_or_else(|| format!("approved as {}", waiting.id));
                let before = basis.before.as_deref().unwrap_or_default();
                let before = instructions::mode(&String::from_utf8_lossy(before))?;
                let names = (
                    Some(ContentHash::of(before)),
                    Some(ContentHash::of(mode.as_str())),
                );
                let (mode, action) = (mode.as_str(), InstructionsAction::SetMode);
                let update = InstructionsUpdate::new(mode, action, names, &reason, now);
                Some(Entry::InstructionsUpdate(update))
            }
            Change::KnowledgeCreate { .. }
            | Change::KnowledgeUpdate { .. }
            | Change::KnowledgeDelete { .. }
            | Change::ExtensionAdopt { .. }
            | Change::ExtensionDisable { .. }
            | Change::SkillsetInstall { .. }
            | Change::SkillsetEnable { .. }
            | Change::SkillsetDisable { .. }
            | Change::SkillsetRemove { .. } => None,
        })
    }

    /// Keeps the law that is about to be replaced, as the reference does; returns the name of the copy.
    fn keep_version(
        &self,
        basis: &Basis,
        waiting: &Waiting,
        now: Timestamp,
    ) -> Result<String, ApprovalError> {
        let folder = self.data.join(VERSIONS);
        fs::create_dir_all(&folder)?;
        let name = version_name(&waiting.id, now);
        let reason = waiting.proposal.reason.clone();
        let meta = serde_json::json!({
            "timestamp": now.file_stamp(),
            "reason": reason.unwrap_or_else(|| format!("before {}", waiting.id)),
            "filename": name,
            "created_at": now.entry(),
        });
        let before = basis.before.as_deref().unwrap_or_default();
        let meta_name = format!("{name}.meta.json");
        let meta = format!("{meta:#}");
        for (name, bytes) in [(&name, before), (&meta_name, meta.as_bytes())] {
            let target = folder.join(name);
            place(&stage(&target, &waiting.id, bytes)?, &target)?;
        }
        Ok(name)
    }

    fn hash(&self, path: &str) -> Result<Option<ContentHash>, ApprovalError> {
        let file = self.safe(path)?;
        match fs::symlink_metadata(&file) {
            Ok(found) if !found.is_file() => return Err(ApprovalError::NotAFile(path.to_owned())),
            Ok(found) if found.size() > CONTENT_MAX as u64 => return Err(too_large(path)),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        match read(&file, CONTENT_MAX) {
            Ok(bytes) => Ok(Some(ContentHash::of(bytes))),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
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

/// The name beside `target` under which its new text lies.
fn staged(target: &Path, id: &ProposalId) -> PathBuf {
    target.with_file_name(format!("{STAGED}{id}"))
}

/// Lays `bytes` beside `target`, durably, with the mode of the file that is there; returns where.
fn stage(target: &Path, id: &ProposalId, bytes: &[u8]) -> io::Result<PathBuf> {
    let mode = fs::metadata(target).map_or(0o644, |found| found.mode() & 0o777);
    let staged = staged(target, id);
    gone(&staged)?;
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&staged)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    sync_directory(staged.parent().unwrap_or(Path::new(".")))?;
    Ok(staged)
}

/// Removes a file, if there is one.
fn gone(file: &Path) -> io::Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Renames what was staged to its place, durably.
fn place(staged: &Path, target: &Path) -> io::Result<()> {
    fs::rename(staged, target)?;
    sync_directory(target.parent().unwrap_or(Path::new(".")))
}
