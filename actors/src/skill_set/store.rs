//! Installed SkillSets on disk: `<data>/skillsets/NAME/` and the registry beside them. All of it blocks.
//!
//! A change happens in two steps, so that it can be recorded in between. The first prepares everything under a
//! dot-name and returns a [`Change`] with the ledger entries that belong to it; dropping that undoes it. The second,
//! [`Change::commit`], makes it visible with renames. Prepared and forgotten things are cleaned up by [`open`].
//! Whoever changes something holds `skillsets/.lock` from the first step to the end of the second.
//!
//! [`open`]: SkillSetStore::open

use std::fs;
use std::io::{self, Read as _, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use kairos_protocol::crypto::Keypair;
use kairos_protocol::hash::ContentHash;
use kairos_protocol::id::AgentId;
use kairos_protocol::manifest::SignedManifest;
use kairos_protocol::package::{self, Contents, PackageLimits, SkillSetPackage};
use kairos_protocol::provenance::{self, Provenance};
use kairos_protocol::skill_set::{Layer, METADATA_FILE, METADATA_MAX, SkillSetMetadata};
use kairos_protocol::time::Timestamp;

use super::SkillSetError;

mod approved;
mod catalogue;
mod change;
mod entries;
mod lock;
mod origin;
mod registry;
mod tree;

pub use catalogue::{Catalogue, Listed};
pub use change::{Change, Options, Outcome};
pub use origin::{ORIGIN_FILE, Origin, OriginRecord, PeerEvidence};
pub use registry::{REGISTRY_FILE, REGISTRY_MAX};
pub use tree::{TREE_BYTES_MAX, TREE_DEPTH_MAX, TREE_ENTRIES_MAX};

use crate::passing::{SKILL_SET as TEMP_PREFIX, SKILL_SET_OLD as OLD_PREFIX};
use lock::Lock;
use registry::Registry;

/// The directory below the data directory.
pub const SKILL_SETS_DIRECTORY: &str = "skillsets";
/// Most SkillSets that are looked at; further ones, by name, are left out.
pub const SETS_MAX: usize = 10_000;
/// How long a change waits for another process.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);

/// The SkillSets of one data directory.
#[derive(Debug, Clone)]
pub struct SkillSetStore {
    root: PathBuf,
    limits: PackageLimits,
}

/// A SkillSet that is installed and readable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installed {
    /// What it says of itself.
    pub metadata: SkillSetMetadata,
    /// The layer it is on: the one of the registry, else its own.
    pub layer: Layer,
    /// Whether it is switched on.
    pub enabled: bool,
    /// Where it is. Not for peers.
    pub path: PathBuf,
}

/// Something among the SkillSets that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// The name of the directory, or of the registry.
    pub directory: String,
    /// Why.
    pub reason: String,
}

/// All SkillSets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inventory {
    /// Those that are readable, by name.
    pub sets: Vec<Installed>,
    /// The rest, which hides nobody.
    pub broken: Vec<Broken>,
}

impl Inventory {
    fn find(&self, name: &str) -> Option<&Installed> {
        self.sets
            .iter()
            .find(|set| set.metadata.name.as_str() == name)
    }
}

/// Everything about one SkillSet.
#[derive(Debug, Clone)]
pub struct Info {
    /// What is listed, hashed anew.
    pub listed: Listed,
    /// Where it came from, if from a peer.
    pub origin: Option<OriginRecord>,
}

/// Who signs what leaves this node.
#[derive(Debug, Clone)]
pub struct Signer {
    /// The id of this node.
    pub id: AgentId,
    /// Its key.
    pub key: Arc<Keypair>,
}

impl SkillSetStore {
    /// Opens the SkillSets of `data_dir`, which need not exist yet, and finishes or undoes what a crash left.
    pub fn open(data_dir: &Path, limits: PackageLimits) -> Result<Self, SkillSetError> {
        let store = Self::unopened(data_dir, limits);
        if store.root.is_dir() {
            store.recover()?;
        }
        Ok(store)
    }

    /// The SkillSets of `data_dir` for somebody who only looks: nothing is finished or undone first.
    pub fn unopened(data_dir: &Path, limits: PackageLimits) -> Self {
        let root = data_dir.join(SKILL_SETS_DIRECTORY);
        Self { root, limits }
    }

    /// Removes what was being prepared and takes the way back of replacements that did not complete. Does nothing
    /// while another process is at work, or where nothing may be written.
    fn recover(&self) -> Result<(), SkillSetError> {
        let Ok(_lock) = Lock::take(&self.root, Duration::ZERO) else {
            return Ok(());
        };
        for entry in fs::read_dir(&self.root).map_err(SkillSetError::io(LISTING))? {
            let entry = entry.map_err(SkillSetError::io(LISTING))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let way_back = name
                .strip_prefix(OLD_PREFIX)
                .and_then(|rest| rest.rsplit_once('-'))
                .map(|(set, _)| self.root.join(set));
            let done = match way_back {
                Some(target) if !target.exists() => fs::rename(entry.path(), target),
                Some(_) => discard(&entry.path()),
                None if name.starts_with(TEMP_PREFIX) => discard(&entry.path()),
                None => Ok(()),
            };
            done.map_err(SkillSetError::io("clean up after an interrupted change"))?;
        }
        Ok(())
    }

    /// Finds all SkillSets. A directory without `skillset.json` is none; with a bad one it is broken. A registry
    /// that does not load counts as broken too, and as switching everything off.
    pub fn inventory(&self) -> Result<Inventory, SkillSetError> {
        let mut inventory = Inventory::default();
        let registry = match Registry::load(&self.root) {
            Ok(registry) => Some(registry),
            Err(error) => {
                inventory.broken.push(Broken {
                    directory: REGISTRY_FILE.to_owned(),
                    reason: error.to_string(),
                });
                None
            }
        };
        let listing = match fs::read_dir(&self.root) {
            Ok(listing) => listing,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(inventory),
            Err(error) => return Err(SkillSetError::io(LISTING)(error)),
        };
        let mut directories: Vec<PathBuf> = listing
            .map(|entry| Ok(entry?.path()))
            .collect::<io::Result<_>>()
            .map_err(SkillSetError::io(LISTING))?;
        directories.sort();
        for path in directories.into_iter().take(SETS_MAX) {
            let directory = path.file_name().unwrap_or_default().to_string_lossy();
            if directory.starts_with('.') || !path.join(METADATA_FILE).exists() {
                continue;
            }
            match read_metadata(&path) {
                Ok(metadata) if metadata.name.as_str() == directory => {
                    let registry = registry.as_ref();
                    inventory.sets.push(installed(metadata, &path, registry));
                }
                Ok(metadata) => inventory.broken.push(Broken {
                    reason: format!("its skillset.json names '{}'", metadata.name),
                    directory: directory.into_owned(),
                }),
                Err(error) => inventory.broken.push(Broken {
                    reason: error.to_string(),
                    directory: directory.into_owned(),
                }),
            }
        }
        Ok(inventory)
    }

    /// The SkillSet `name`. Fails with [`SkillSetError::NotFound`] also when it is broken.
    pub fn find(&self, name: &str) -> Result<Installed, SkillSetError> {
        let inventory = self.inventory()?;
        let found = inventory.find(name).cloned();
        found.ok_or_else(|| SkillSetError::NotFound(shown(name)))
    }

    /// Everything about the SkillSet `name`, read anew.
    pub fn info(&self, name: &str) -> Result<Info, SkillSetError> {
        let set = self.find(name)?;
        let origin = OriginRecord::load(&set.path)?;
        let listed = Listed::read(set)?;
        Ok(Info { listed, origin })
    }

    /// Everything that can be listed, reading only what has changed since `previous`.
    pub fn catalogue(&self, previous: &Catalogue) -> Result<Catalogue, SkillSetError> {
        Ok(previous.renewed(self.inventory()?))
    }

    /// Packs the SkillSet `name` for exchange, signed by `signer` if there is one.
    ///
    /// With a signer the package carries a manifest and its provenance: what came from a peer unchanged is handed
    /// on, or stays unsigned if it came unsigned; anything else is authored here. Fails with [`SkillSetError::NotExchangeable`] on anything but knowledge.
    pub fn package(
        &self,
        name: &str,
        signer: Option<&Signer>,
        now: Timestamp,
    ) -> Result<SkillSetPackage, SkillSetError> {
        let set = self.find(name)?;
        let (contents, archive) = self.pack(name, Vec::new())?;
        let mut package = SkillSetPackage::new(&contents, &archive, set.layer, now);
        if let Some(signer) = signer {
            let id = || signer.id.clone();
            package.manifest = Some(SignedManifest::new(&contents, id(), &signer.key, now)?);
            let hash = contents.content_hash();
            let received = OriginRecord::load(&set.path)?;
            package.provenance = match received.filter(|origin| origin.content_hash == hash) {
                Some(origin) => {
                    let signed = origin.provenance;
                    let on = signed.map(|path| path.handed_on(id(), &signer.key, now));
                    on.transpose()?
                }
                None => {
                    let kind = provenance::Kind::SkillSet;
                    let ours = Provenance::authored(kind, name, hash, id(), &signer.key, now);
                    Some(ours?)
                }
            };
        }
        Ok(package)
    }

    /// Writes the archive of the SkillSet `name` to `out`; see [`package::pack`].
    pub fn pack<W: Write>(&self, name: &str, out: W) -> Result<(Contents, W), SkillSetError> {
        let set = self.find(name)?;
        let scan = tree::scan(&set.path, &set.metadata)?;
        scan.gate.map_err(SkillSetError::NotExchangeable)?;
        let files = scan.files.into_iter().map(|file| (file.path, file.size));
        let open = |path: &str| tree::open(&set.path.join(path));
        let packed = package::pack(out, &set.metadata.name, files, &self.limits, open);
        Ok(packed?)
    }

    /// The hash over the files of the SkillSet `name`.
    pub fn content_hash(&self, name: &str) -> Result<ContentHash, SkillSetError> {
        let set = self.find(name)?;
        Ok(tree::scan(&set.path, &set.metadata)?.content_hash())
    }

    /// Checks what `metadata` depends on. `strictly` also wants it switched on, as `enable` does.
    fn check_dependencies(
        inventory: &Inventory,
        metadata: &SkillSetMetadata,
        strictly: bool,
    ) -> Result<(), SkillSetError> {
        for dependency in &metadata.depends_on {
            let name = || dependency.name.clone();
            let Some(found) = inventory.find(dependency.name.as_str()) else {
                return Err(SkillSetError::MissingDependency(name()));
            };
            if strictly && !found.enabled {
                return Err(SkillSetError::DependencyDisabled(name()));
            }
            let Some(requirement) = &dependency.version else {
                continue;
            };
            let version = &found.metadata.version;
            if !dependency.requirement()?.allows(&version.parse()?) {
                return Err(SkillSetError::DependencyVersion {
                    name: name(),
                    version: version.clone(),
                    requirement: requirement.clone(),
                });
            }
        }
        Ok(())
    }
}

const LISTING: &str = "list the SkillSets";

fn installed(metadata: SkillSetMetadata, path: &Path, registry: Option<&Registry>) -> Installed {
    let name = &metadata.name;
    Installed {
        layer: registry
            .and_then(|registry| registry.layer(name))
            .unwrap_or(metadata.layer),
        enabled: registry.is_some_and(|registry| registry.is_enabled(name)),
        path: path.to_owned(),
        metadata,
    }
}

/// Reads `skillset.json` in `directory`.
fn read_metadata(directory: &Path) -> Result<SkillSetMetadata, SkillSetError> {
    let mut bytes = Vec::new();
    let read = tree::open(&directory.join(METADATA_FILE)).and_then(|file| {
        let limit = METADATA_MAX as u64 + 1;
        file.take(limit).read_to_end(&mut bytes)
    });
    match read {
        Ok(_) => Ok(SkillSetMetadata::parse(&bytes)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(SkillSetError::MetadataMissing(directory.to_owned()))
        }
        Err(error) => Err(SkillSetError::io("read skillset.json")(error)),
    }
}

/// Deletes a file or a whole directory.
fn discard(path: &Path) -> io::Result<()> {
    if fs::symlink_metadata(path)?.is_dir() {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    }
}

/// A name that was asked for, in an error text.
fn shown(name: &str) -> String {
    name.chars().take(256).collect()
}

#[cfg(test)]
mod tests;
