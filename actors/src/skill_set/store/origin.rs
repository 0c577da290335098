//! Where an installed SkillSet came from, kept in a dot-file beside its content.
//!
//! In the directory itself, so that it comes and goes with it; a dot-file, so that neither the content hash nor any
//! package covers it and the reference overlooks it.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::Path;

use kairos_protocol::crypto::PublicKey;
use kairos_protocol::hash::ContentHash;
use kairos_protocol::id::AgentId;
use kairos_protocol::package::SkillSetPackage;
use kairos_protocol::provenance::Provenance;
use kairos_protocol::time::Timestamp;
use serde_json::Value;

use super::{SkillSetError, tree};

/// The name of the file.
pub const ORIGIN_FILE: &str = ".kairos-origin.json";
/// Largest file read, in bytes: a manifest of some thousand files.
const ORIGIN_MAX: u64 = 4 * 1024 * 1024;
const VERSION: u32 = 1;

/// Who hands us a package.
#[derive(Debug, Clone)]
pub enum Origin {
    /// The owner of this node, from a file or a pipe.
    Local,
    /// Another agent.
    Peer(PeerEvidence),
}

/// What is known of the agent that sent a package.
#[derive(Debug, Clone)]
pub struct PeerEvidence {
    /// The id its session was opened under.
    pub peer: AgentId,
    /// The key pinned for it, if one is.
    pub key: Option<PublicKey>,
    /// When the package came.
    pub received_at: Timestamp,
}

/// The evidence kept of a package from a peer.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct OriginRecord {
    version: u32,
    /// Who sent it.
    pub received_from: AgentId,
    /// When.
    pub received_at: Timestamp,
    /// The hash of what was installed.
    pub content_hash: ContentHash,
    /// The packer's manifest as received, with its signature.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<Value>,
    /// The signature over the manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest_signature: Option<String>,
    /// Through whose hands it came; verified when it was installed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provenance: Option<Provenance>,
}

impl OriginRecord {
    pub(super) fn new(
        package: &SkillSetPackage,
        evidence: &PeerEvidence,
        content_hash: ContentHash,
    ) -> Result<Self, SkillSetError> {
        let signed = package.manifest.as_ref();
        Ok(Self {
            version: VERSION,
            received_from: evidence.peer.clone(),
            received_at: evidence.received_at,
            content_hash,
            manifest: signed.map(|signed| signed.to_value()).transpose()?,
            manifest_signature: signed.map(|signed| signed.signature().to_owned()),
            provenance: package.provenance.clone(),
        })
    }

    /// The record of the SkillSet in `directory`; nothing if it did not come from a peer. One that does not load is
    /// an error: it does not make the SkillSet ours.
    pub(super) fn load(directory: &Path) -> Result<Option<Self>, SkillSetError> {
        let read = || -> io::Result<Option<Self>> {
            let path = directory.join(ORIGIN_FILE);
            if let Err(error) = fs::symlink_metadata(&path) {
                let is_absent = error.kind() == io::ErrorKind::NotFound;
                return if is_absent { Ok(None) } else { Err(error) };
            }
            let mut bytes = Vec::new();
            tree::open(&path)?
                .take(ORIGIN_MAX)
                .read_to_end(&mut bytes)?;
            Ok(Some(serde_json::from_slice(&bytes)?))
        };
        read().map_err(SkillSetError::io("read the origin of the SkillSet"))
    }

    pub(super) fn save(&self, directory: &Path) -> Result<(), SkillSetError> {
        let write = || -> io::Result<()> {
            let text = serde_json::to_vec(self)?;
            let path = directory.join(ORIGIN_FILE);
            let mut file: fs::File = tree::create(&path, 0o644)?;
            file.write_all(&text)
        };
        write().map_err(SkillSetError::io("keep the origin of the SkillSet"))
    }
}
