//! Changing the SkillSets: prepared, recorded by whoever asked, then made visible.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kairos_protocol::block::entry::{Entry, SkillSetAction};
use kairos_protocol::hash::ContentHash;
use kairos_protocol::id::SkillSetName;
use kairos_protocol::package::{FileRecord, SkillSetPackage, unpack};
use kairos_protocol::skill_set::{Layer, METADATA_FILE, SkillSetMetadata};
use kairos_protocol::time::Timestamp;
use tempfile::TempDir;

use super::entries::{arrival, event};
use super::{
    Installed, Inventory, LOCK_PATIENCE, Lock, OLD_PREFIX, Origin, OriginRecord, PeerEvidence,
    Registry, SkillSetError, SkillSetStore, TEMP_PREFIX, discard, installed, read_metadata, shown,
    tree,
};
use crate::staging::Held;

/// How to install.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Replace what is installed under the name, which must not be on layer L0.
    pub force: bool,
    /// The layer to install on, instead of the one in `skillset.json`.
    pub layer: Option<Layer>,
    /// Whether a person has seen and approved just this, which layer L0 needs to be replaced.
    pub approved: bool,
}

/// What a change has done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// What was done; nothing if everything was that way already.
    pub action: Option<SkillSetAction>,
    /// The SkillSet as it is now, or as it was before it was removed.
    pub set: Installed,
    /// The hash over its files; nothing where it was not needed.
    pub content_hash: Option<ContentHash>,
    /// What is missing before it can be switched on. It was then installed switched off.
    pub unmet: Option<String>,
}

/// A prepared change. Dropping it undoes it.
#[derive(Debug)]
pub struct Change {
    root: PathBuf,
    /// Held to the end, so that nobody decides on what is about to change.
    _lock: Lock,
    /// The approvals stay locked as long as one of them is carried out.
    pub(super) approval: Option<Arc<Held>>,
    pub(super) entries: Vec<Entry>,
    step: Step,
    registry: Registry,
    outcome: Outcome,
}

#[derive(Debug)]
enum Step {
    /// Nothing but the registry, and not even that if it is as before.
    Registry,
    /// The prepared directory becomes the installed one.
    Place(TempDir),
    /// The installed directory goes.
    Remove,
}

impl Change {
    /// What belongs into the ledger before [`Self::commit`]; may be nothing.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// What will have been done.
    pub fn outcome(&self) -> &Outcome {
        &self.outcome
    }

    /// Makes the change visible. After an error everything is as before, as far as the system lets it.
    ///
    /// A crash inside leaves the SkillSet as it was or as it is to be, never a part; what lies beside it is cleaned
    /// up by the next [`SkillSetStore::open`].
    pub fn commit(self) -> Result<Outcome, SkillSetError> {
        let target = &self.outcome.set.path;
        match self.step {
            Step::Registry => {
                if self.outcome.action.is_some() {
                    self.registry.save(&self.root)?;
                }
            }
            Step::Place(prepared) => {
                // The registry first: a package from a peer must never be there without being switched off.
                let before = Registry::load(&self.root)?;
                self.registry.save(&self.root)?;
                if let Err(error) = place(&self.root, &prepared.keep(), target) {
                    before.save(&self.root)?;
                    return Err(SkillSetError::io("put the SkillSet in its place")(error));
                }
            }
            Step::Remove => {
                let gone = beside(&self.root, TEMP_PREFIX);
                fs::rename(target, &gone).map_err(SkillSetError::io("remove the SkillSet"))?;
                self.registry.save(&self.root)?;
                // It is gone for everyone; what is left of it is cleaned up later if not now.
                let _ = discard(&gone);
            }
        }
        Ok(self.outcome)
    }
}

/// Renames `prepared` to `target`. What is there is moved aside first and comes back if that fails.
fn place(root: &Path, prepared: &Path, target: &Path) -> io::Result<()> {
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    let old = beside(root, &format!("{OLD_PREFIX}{name}-"));
    let replaces = target.exists();
    let put = || -> io::Result<()> {
        if replaces {
            fs::rename(target, &old)?;
        }
        fs::rename(prepared, target)?;
        fs::File::open(root)?.sync_all()
    };
    if let Err(error) = put() {
        // The way back; if even that fails, the next start takes it.
        if old.exists() && !target.exists() {
            let _ = fs::rename(&old, target);
        }
        let _ = discard(prepared);
        return Err(error);
    }
    if replaces {
        let _ = discard(&old);
    }
    Ok(())
}

/// A fresh name in `root`.
fn beside(root: &Path, prefix: &str) -> PathBuf {
    root.join(format!("{prefix}{}", uuid::Uuid::new_v4().simple()))
}

impl SkillSetStore {
    /// Prepares to install the SkillSet in the directory `source`.
    ///
    /// Dot-files are left out; links and devices are refused. With `force` the files of the installed `config`
    /// directory are kept. What it depends on may be missing: it is then installed switched off.
    pub fn install(
        &self,
        source: &Path,
        options: Options,
        now: Timestamp,
    ) -> Result<Change, SkillSetError> {
        if !source.is_dir() {
            let path = std::path::absolute(source).unwrap_or_else(|_| source.to_owned());
            return Err(match source.is_file() {
                true => SkillSetError::SourceIsFile(path),
                false => SkillSetError::SourceMissing(path),
            });
        }
        let metadata = read_metadata(source)?;
        let slot = self.slot(&metadata.name, options)?;
        let prepared = slot.prepare()?;
        let kept = slot.replaced.as_ref().map(|set| set.path.as_path());
        let files = tree::copy(source, prepared.path(), kept)?;
        tree::flush(prepared.path())?;
        if read_metadata(prepared.path())? != metadata {
            let line = format!("{METADATA_FILE}: changed while it was copied");
            return Err(SkillSetError::UnsafeSource(vec![line]));
        }
        let action = match slot.replaced {
            None => SkillSetAction::Install,
            Some(_) => SkillSetAction::Reinstall,
        };
        slot.fill(Filling {
            prepared,
            metadata,
            files,
            action,
            options,
            peer: None,
            now,
        })
    }

    /// Prepares to install `package`, whose archive is read and compared with everything it declares.
    ///
    /// Layer L0 must be named in `options`: an archive was made elsewhere. From a peer it must declare its content hash, may not be for layer L0, must find what it depends on
    /// installed, and is switched off until someone switches it on.
    pub fn install_archive(
        &self,
        package: &SkillSetPackage,
        origin: &Origin,
        options: Options,
        now: Timestamp,
    ) -> Result<Change, SkillSetError> {
        let name = &package.name;
        let peer = match origin {
            Origin::Local => None,
            Origin::Peer(evidence) => Some(evidence),
        };
        let slot = self.slot(name, options)?;
        let archive = package.archive()?;
        let prepared = slot.prepare()?;
        let contents = unpack(&*archive, name, &self.limits, |path, _, bytes| {
            let path = prepared.path().join(path);
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            io::copy(bytes, &mut tree::create(&path, 0o644)?).map(drop)
        })?;
        let content_hash = package.check(&contents)?;
        if peer.is_none() && contents.metadata.layer == Layer::L0 && options.layer.is_none() {
            return Err(SkillSetError::LayerUnnamed(name.clone()));
        }
        let record = match peer {
            Some(evidence) => {
                check_peer(package, evidence, &contents.metadata, options)?;
                Self::check_dependencies(&slot.inventory, &contents.metadata, false)?;
                let record = OriginRecord::new(package, evidence, content_hash)?;
                record.save(prepared.path())?;
                Some(record)
            }
            None => {
                // The owner's archive, which keeps the hands it says it went through.
                if let Some(last) = package.provenance.as_ref().and_then(|p| p.hops().last()) {
                    let sender = PeerEvidence {
                        peer: last.instance_id.clone(),
                        key: Some(last.public_key.clone()),
                        received_at: now,
                    };
                    OriginRecord::new(package, &sender, content_hash)?.save(prepared.path())?;
                }
                None
            }
        };
        tree::flush(prepared.path())?;
        let action = match slot.replaced {
            None => SkillSetAction::InstallFromArchive,
            Some(_) => SkillSetAction::ReinstallFromArchive,
        };
        let (metadata, files) = (contents.metadata, contents.files);
        slot.fill(Filling {
            prepared,
            metadata,
            files,
            action,
            options,
            peer: record,
            now,
        })
    }

    /// Prepares to switch the SkillSet `name` on. Fails unless everything it depends on is there and on.
    pub fn enable(&self, name: &str, now: Timestamp) -> Result<Change, SkillSetError> {
        let change = self.switch(name, true, now)?;
        let inventory = self.inventory()?;
        Self::check_dependencies(&inventory, &change.outcome.set.metadata, true)?;
        Ok(change)
    }

    /// Prepares to switch the SkillSet `name` off. Fails on layer L0 and while others need it.
    pub fn disable(&self, name: &str, now: Timestamp) -> Result<Change, SkillSetError> {
        self.switch_off(name, false, now)
    }

    pub(super) fn switch_off(
        &self,
        name: &str,
        approved: bool,
        now: Timestamp,
    ) -> Result<Change, SkillSetError> {
        let change = self.switch(name, false, now)?;
        self.check_free(&change.outcome.set, approved, "disable")?;
        Ok(change)
    }

    /// Prepares to remove the SkillSet `name`. Fails on layer L0 and while others need it.
    pub fn remove(&self, name: &str, now: Timestamp) -> Result<Change, SkillSetError> {
        self.take_away(name, false, now)
    }

    pub(super) fn take_away(
        &self,
        name: &str,
        approved: bool,
        now: Timestamp,
    ) -> Result<Change, SkillSetError> {
        let lock = Lock::take_in(&self.root, name)?;
        let set = self.find(name)?;
        self.check_free(&set, approved, "remove")?;
        let mut registry = Registry::load(&self.root)?;
        registry.remove(&set.metadata.name);
        self.existing(
            lock,
            set,
            SkillSetAction::Remove,
            registry,
            Step::Remove,
            now,
        )
    }

    fn switch(&self, name: &str, on: bool, now: Timestamp) -> Result<Change, SkillSetError> {
        let lock = Lock::take_in(&self.root, name)?;
        let mut set = self.find(name)?;
        let mut registry = Registry::load(&self.root)?;
        let changes = set.enabled != on;
        registry.set_enabled(&set.metadata.name, on);
        let action = if on {
            SkillSetAction::Enable
        } else {
            SkillSetAction::Disable
        };
        set.enabled = on;
        let mut change = self.existing(lock, set, action, registry, Step::Registry, now)?;
        if !changes {
            change.entries.clear();
            change.outcome.action = None;
        }
        Ok(change)
    }

    /// A change of a SkillSet that is there, with its entry.
    fn existing(
        &self,
        lock: Lock,
        set: Installed,
        action: SkillSetAction,
        registry: Registry,
        step: Step,
        now: Timestamp,
    ) -> Result<Change, SkillSetError> {
        let mut change = Change {
            root: self.root.clone(),
            _lock: lock,
            approval: None,
            entries: Vec::new(),
            step,
            registry,
            outcome: Outcome {
                action: Some(action),
                set,
                content_hash: None,
                unmet: None,
            },
        };
        let set = &change.outcome.set;
        if set.layer != Layer::L2 {
            let files = tree::scan(&set.path, &set.metadata)?.files;
            change.outcome.content_hash = Some(tree::content_hash(&files));
            change.entries.extend(event(set, action, &files, now));
        }
        Ok(change)
    }

    /// Layer L0 needs a human, and what others need stays.
    fn check_free(
        &self,
        set: &Installed,
        approved: bool,
        action: &'static str,
    ) -> Result<(), SkillSetError> {
        let name = set.metadata.name.clone();
        if set.layer == Layer::L0 && !approved {
            return Err(SkillSetError::NeedsApproval { name, action });
        }
        let inventory = self.inventory()?;
        let needs_it = |other: &&Installed| {
            other.enabled
                && other
                    .metadata
                    .depends_on
                    .iter()
                    .any(|needed| needed.name == name)
        };
        let by: Vec<&str> = inventory
            .sets
            .iter()
            .filter(needs_it)
            .map(|other| other.metadata.name.as_str())
            .collect();
        match by.is_empty() {
            true => Ok(()),
            false => Err(SkillSetError::RequiredBy {
                name,
                by: by.join(", "),
            }),
        }
    }

    /// Takes the lock and the place of `name`.
    fn slot(&self, name: &SkillSetName, options: Options) -> Result<Slot<'_>, SkillSetError> {
        fs::create_dir_all(&self.root)
            .map_err(SkillSetError::io("create the directory of the SkillSets"))?;
        let lock = Lock::take(&self.root, LOCK_PATIENCE)?;
        let inventory = self.inventory()?;
        let target = self.root.join(name.as_str());
        let replaced = inventory.find(name.as_str()).cloned();
        if target.symlink_metadata().is_ok() && !options.force {
            let (name, path) = (name.clone(), target);
            return Err(SkillSetError::AlreadyInstalled { name, path });
        }
        let rules = replaced.as_ref().is_some_and(|set| set.layer == Layer::L0);
        if rules && !options.approved {
            let (name, action) = (name.clone(), "replace");
            return Err(SkillSetError::NeedsApproval { name, action });
        }
        let registry = Registry::load(&self.root)?;
        Ok(Slot {
            root: &self.root,
            lock,
            inventory,
            registry,
            target,
            replaced,
        })
    }
}

impl Lock {
    /// As [`Lock::take`], where without a directory there is no SkillSet `name` either.
    fn take_in(root: &Path, name: &str) -> Result<Self, SkillSetError> {
        if root.is_dir() {
            Self::take(root, LOCK_PATIENCE)
        } else {
            Err(SkillSetError::NotFound(shown(name)))
        }
    }
}

/// What a peer may not do.
fn check_peer(
    package: &SkillSetPackage,
    evidence: &PeerEvidence,
    metadata: &SkillSetMetadata,
    options: Options,
) -> Result<(), SkillSetError> {
    if package.content_hash.is_none() {
        return Err(SkillSetError::HashUndeclared);
    }
    let layers = [Some(metadata.layer), package.layer, options.layer];
    if layers.contains(&Some(Layer::L0)) {
        return Err(SkillSetError::LayerFromPeer(metadata.name.clone()));
    }
    if let (Some(key), Some(signed)) = (&evidence.key, &package.manifest) {
        let packer = &signed.manifest().packer;
        if packer.instance_id == evidence.peer && packer.public_key != *key {
            return Err(SkillSetError::ForeignKey(evidence.peer.clone()));
        }
    }
    Ok(())
}

/// The place of a SkillSet that is about to be installed.
struct Slot<'s> {
    root: &'s Path,
    lock: Lock,
    inventory: Inventory,
    registry: Registry,
    target: PathBuf,
    replaced: Option<Installed>,
}

/// What goes into a [`Slot`].
struct Filling {
    prepared: TempDir,
    metadata: SkillSetMetadata,
    files: Vec<FileRecord>,
    action: SkillSetAction,
    options: Options,
    peer: Option<OriginRecord>,
    now: Timestamp,
}

impl Slot<'_> {
    /// A directory beside the target, gone when it is dropped.
    fn prepare(&self) -> Result<TempDir, SkillSetError> {
        use std::os::unix::fs::PermissionsExt as _;
        tempfile::Builder::new()
            .prefix(TEMP_PREFIX)
            .permissions(fs::Permissions::from_mode(0o755))
            .tempdir_in(self.root)
            .map_err(SkillSetError::io("create a directory for the SkillSet"))
    }

    fn fill(mut self, filling: Filling) -> Result<Change, SkillSetError> {
        let Filling {
            prepared,
            metadata,
            files,
            action,
            options,
            peer,
            now,
        } = filling;
        let name = &metadata.name;
        let unmet = SkillSetStore::check_dependencies(&self.inventory, &metadata, false);
        let unmet = unmet.err().map(|error| error.to_string());
        self.registry
            .set_enabled(name, peer.is_none() && unmet.is_none());
        // A replacement stays on the layer it was put on.
        if options.layer.is_some() || self.replaced.is_none() {
            self.registry.set_layer(name, options.layer);
        }
        let set = installed(metadata, &self.target, Some(&self.registry));
        let content_hash = tree::content_hash(&files);
        let mut entries: Vec<Entry> = event(&set, action, &files, now).into_iter().collect();
        entries.extend(peer.map(|peer| arrival(&set, content_hash, &peer, now)));
        Ok(Change {
            root: self.root.to_owned(),
            _lock: self.lock,
            approval: None,
            entries,
            step: Step::Place(prepared),
            registry: self.registry,
            outcome: Outcome {
                action: Some(action),
                set,
                content_hash: Some(content_hash),
                unmet,
            },
        })
    }
}
