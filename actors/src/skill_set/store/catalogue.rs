//! What is listed of all SkillSets, kept between requests and read anew only where something changed.

use std::sync::Arc;

use kairos_protocol::hash::ContentHash;
use kairos_protocol::wire::listing::{SkillSetDetails, SkillSetEntry};
use serde_json::Value;

use super::{Broken, Installed, Inventory, ORIGIN_FILE, SkillSetError, tree};

/// One SkillSet with what its files say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The SkillSet.
    pub set: Installed,
    /// The hash over its files.
    pub content_hash: ContentHash,
    /// Their sorted paths.
    pub file_list: Vec<String>,
    /// Why it is not exchanged, in words; nothing if it may be.
    pub refusal: Option<String>,
    /// Whether it was made elsewhere, as the record of its origin tells.
    pub is_received: bool,
    fingerprint: ContentHash,
}

impl Listed {
    /// Reads everything of a SkillSet.
    pub(in crate::skill_set) fn read(set: Installed) -> Result<Self, SkillSetError> {
        let fingerprint = tree::fingerprint(&set.path)?;
        let scan = tree::scan(&set.path, &set.metadata)?;
        Ok(Self {
            content_hash: scan.content_hash(),
            refusal: scan.gate.as_ref().err().map(ToString::to_string),
            file_list: scan.files.into_iter().map(|file| file.path).collect(),
            is_received: set.path.join(ORIGIN_FILE).try_exists().unwrap_or(true),
            fingerprint,
            set,
        })
    }

    /// Whether `set`, as found now, looks as it did when this was read.
    pub(in crate::skill_set) fn is_current(&self, set: &Installed) -> bool {
        self.set == *set && tree::fingerprint(&set.path).is_ok_and(|now| now == self.fingerprint)
    }

    /// As in the list that peers get.
    pub fn entry(&self) -> SkillSetEntry {
        let metadata = &self.set.metadata;
        SkillSetEntry {
            name: metadata.name.to_string(),
            version: metadata.version.clone(),
            layer: self.set.layer.to_string(),
            description: metadata.description.clone(),
            knowledge_only: self.is_exchangeable(),
            content_hash: self.content_hash.to_hex(),
            file_count: self.file_list.len(),
        }
    }

    /// As peers get it who ask for it by name.
    pub fn details(&self) -> SkillSetDetails {
        let metadata = &self.set.metadata;
        SkillSetDetails {
            name: metadata.name.to_string(),
            version: metadata.version.clone(),
            layer: self.set.layer.to_string(),
            description: metadata.description.clone(),
            author: metadata.author.clone(),
            depends_on: metadata
                .depends_on
                .iter()
                .map(|d| d.name.to_string())
                .collect(),
            provides: metadata
                .provides
                .iter()
                .cloned()
                .map(Value::String)
                .collect(),
            content_hash: self.content_hash.to_hex(),
            file_list: self.file_list.clone(),
            knowledge_only: self.is_exchangeable(),
            exchangeable: self.is_exchangeable(),
        }
    }

    /// Whether it is knowledge only, and so may be exchanged.
    pub fn is_exchangeable(&self) -> bool {
        self.refusal.is_none()
    }

    /// Whether peers are told of it. What its owner made is offered switched off as well, as the reference does;
    /// what came from elsewhere is not passed on before its owner switches it on.
    pub fn is_offered(&self) -> bool {
        self.set.enabled || !self.is_received
    }
}

/// All SkillSets as they were when this was made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Catalogue {
    /// Those that are readable, by name.
    pub sets: Vec<Arc<Listed>>,
    /// The rest.
    pub broken: Vec<Broken>,
}

impl Catalogue {
    /// Those that are offered and may be exchanged.
    pub fn shareable(&self) -> impl Iterator<Item = &Arc<Listed>> {
        self.sets
            .iter()
            .filter(|listed| listed.is_offered() && listed.is_exchangeable())
    }

    /// Those that may be exchanged, as in the list that peers get.
    pub fn entries(&self) -> Vec<SkillSetEntry> {
        self.shareable().map(|listed| listed.entry()).collect()
    }

    /// The SkillSet `name`, for a peer that asks for it.
    pub fn find_offered(&self, name: &str) -> Option<&Arc<Listed>> {
        self.find(name).filter(|listed| listed.is_offered())
    }

    /// The SkillSet `name`.
    pub fn find(&self, name: &str) -> Option<&Arc<Listed>> {
        self.sets
            .iter()
            .find(|listed| listed.set.metadata.name.as_str() == name)
    }

    /// The catalogue for `inventory`; what looks the same as here is taken over.
    pub(super) fn renewed(&self, inventory: Inventory) -> Self {
        let mut renewed = Self {
            sets: Vec::with_capacity(inventory.sets.len()),
            broken: inventory.broken,
        };
        for set in inventory.sets {
            let directory = set.metadata.name.to_string();
            match self.entry(set) {
                Ok(listed) => renewed.sets.push(listed),
                Err(error) => renewed.broken.push(Broken {
                    directory,
                    reason: error.to_string(),
                }),
            }
        }
        renewed
    }

    fn entry(&self, set: Installed) -> Result<Arc<Listed>, SkillSetError> {
        match self.find(set.metadata.name.as_str()) {
            Some(known) if known.is_current(&set) => Ok(Arc::clone(known)),
            _ => Listed::read(set).map(Arc::new),
        }
    }
}
