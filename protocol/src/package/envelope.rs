//! The JSON object that a package travels in.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};
use thiserror::Error;

use super::{Contents, PackageLimits};
use crate::gate::shown;
use crate::hash::ContentHash;
use crate::id::SkillSetName;
use crate::json::{self, JsonError};
use crate::manifest::{ManifestError, SignedManifest};
use crate::provenance::{self, Provenance, ProvenanceError};
use crate::skill_set::{Layer, LayerError, NameError, parse_name};
use crate::time::Timestamp;

/// Bytes allowed for all members but the archive.
const MEMBERS_MAX: u64 = 4 * 1024 * 1024;
/// The member that wraps a package in the reply of an agent.
const WRAPPER: &str = "skillset_package";

/// A SkillSet as it is sent: the archive in base64, what the sender says of it, and our signed evidence.
///
/// Nothing in it is to be believed before [`unpack`](super::unpack) has read the archive and
/// [`check`](Self::check) has compared the two.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SkillSetPackage {
    /// The name.
    pub name: SkillSetName,
    /// The version, or nothing.
    pub version: String,
    /// The layer at the sender, if it says.
    pub layer: Option<Layer>,
    /// The description, or nothing.
    pub description: String,
    /// The content hash as written; the reference may leave it out.
    pub content_hash: Option<String>,
    /// The paths of all files, sorted; empty when the sender does not say.
    pub file_list: Vec<String>,
    /// The archive in strict base64; see [`Self::archive`].
    pub archive_base64: String,
    /// When it was packed, as written.
    pub packaged_at: Option<String>,
    /// The packer's verified manifest. Peers of the reference send none.
    pub manifest: Option<SignedManifest>,
    /// Its provenance, not yet verified. Peers of the reference send none.
    pub provenance: Option<Provenance>,
}

/// Why a text is not a package, or the package is not what it says.
#[derive(Debug, Error)]
pub enum EnvelopeError {
    /// More bytes of JSON than a package within the limits can have.
    #[error("the package is larger than {0} bytes of JSON")]
    TooLarge(u64),
    /// Not a JSON object.
    #[error("the package is not usable: {0}")]
    Json(#[from] JsonError),
    /// The key is absent, `null` or `false`.
    #[error("Archive missing '{0}'")]
    Missing(&'static str),
    /// The name is not acceptable.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The layer is unknown.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// A key holds a value of another kind.
    #[error("`{key}` of the package is {found}, {expected} is expected")]
    Kind {
        /// The key.
        key: &'static str,
        /// What was found.
        found: &'static str,
        /// What belongs there.
        expected: &'static str,
    },
    /// The archive is not strict base64.
    #[error("invalid base64")]
    NotBase64,
    /// The manifest is not acceptable, or names something else.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The provenance is not acceptable.
    #[error(transparent)]
    Provenance(#[from] ProvenanceError),
    /// The provenance is that of a skill or of another SkillSet.
    #[error("the provenance is that of something else")]
    OtherProvenance,
    /// The declared hash is not that of the content.
    #[error("Content hash mismatch: expected {expected}, got {found}")]
    ContentHash {
        /// As declared, escaped.
        expected: String,
        /// As computed.
        found: ContentHash,
    },
    /// The declared version is not that of `skillset.json`.
    #[error("the package declares version {declared} but skillset.json contains {found}")]
    Version {
        /// As declared, escaped.
        declared: String,
        /// In `skillset.json`, escaped.
        found: String,
    },
    /// The declared list of files is not that of the archive.
    #[error("the package declares other files than the archive holds")]
    FileList,
}

impl SkillSetPackage {
    /// The package of what [`pack`](super::pack) returned; manifest and provenance are added by the caller.
    pub fn new(contents: &Contents, archive: &[u8], layer: Layer, packaged_at: Timestamp) -> Self {
        Self {
            name: contents.metadata.name.clone(),
            version: contents.metadata.version.clone(),
            layer: Some(layer),
            description: contents.metadata.description.clone(),
            content_hash: Some(contents.content_hash().to_hex()),
            file_list: contents.file_list(),
            archive_base64: STANDARD.encode(archive),
            packaged_at: Some(packaged_at.wire()),
            manifest: None,
            provenance: None,
        }
    }

    /// Longest JSON text that is read as a package under `limits`: the archive in base64, and the other members.
    pub fn json_max(limits: &PackageLimits) -> u64 {
        (limits.compressed.saturating_mul(4) / 3).saturating_add(MEMBERS_MAX)
    }

    /// Reads a package: the bare object, or an agent's whole reply with the object in `skillset_package`.
    ///
    /// A manifest in it is verified, provenance is only read.
    pub fn from_json(bytes: &[u8], limits: &PackageLimits) -> Result<Self, EnvelopeError> {
        let max = Self::json_max(limits);
        if bytes.len() as u64 > max {
            return Err(EnvelopeError::TooLarge(max));
        }
        let mut members = json::parse_object(bytes)?;
        if !members.contains_key("name")
            && let Some(Value::Object(inner)) = members.remove(WRAPPER)
        {
            members = inner;
        }
        // The reference takes `false` for absent.
        members.retain(|_, value| !value.is_null() && *value != Value::Bool(false));
        let name = text(&mut members, "name")?.ok_or(EnvelopeError::Missing("name"))?;
        let name = parse_name(&name)?;
        let archive_base64 = text(&mut members, "archive_base64")?
            .ok_or(EnvelopeError::Missing("archive_base64"))?;
        let layer = text(&mut members, "layer")?.map(|layer| layer.parse());
        let signature = text(&mut members, "manifest_signature")?;
        let manifest = match (object(&mut members, "manifest")?, signature) {
            (None, _) => None,
            (Some(_), None) => return Err(ManifestError::Unsigned.into()),
            (Some(manifest), Some(signature)) => Some(SignedManifest::parse(manifest, &signature)?),
        };
        let provenance = match object(&mut members, "provenance")? {
            None => None,
            Some(value) => Some(read_provenance(&value)?),
        };
        Ok(Self {
            name,
            version: text(&mut members, "version")?.unwrap_or_default(),
            layer: layer.transpose()?,
            description: text(&mut members, "description")?.unwrap_or_default(),
            content_hash: text(&mut members, "content_hash")?,
            file_list: list(&mut members, "file_list")?,
            archive_base64,
            packaged_at: text(&mut members, "packaged_at")?,
            manifest,
            provenance,
        })
    }

    /// The object for the wire, with the reference's members first and in its order.
    pub fn to_json(&self) -> Result<Value, EnvelopeError> {
        let mut members = Map::new();
        let mut put = |key: &str, value: Value| members.insert(key.to_owned(), value);
        put("name", self.name.as_str().into());
        put("version", self.version.as_str().into());
        put("layer", self.layer.map(Layer::as_str).into());
        put("description", self.description.as_str().into());
        put("content_hash", self.content_hash.as_deref().into());
        put("file_list", self.file_list.clone().into());
        put("archive_base64", self.archive_base64.as_str().into());
        put("packaged_at", self.packaged_at.as_deref().into());
        if let Some(manifest) = &self.manifest {
            put("manifest", manifest.to_value()?);
            put("manifest_signature", manifest.signature().into());
        }
        if let Some(provenance) = &self.provenance {
            let value = serde_json::to_value(provenance).map_err(ProvenanceError::from)?;
            put("provenance", value);
        }
        Ok(members.into())
    }

    /// The bytes of the archive.
    pub fn archive(&self) -> Result<Vec<u8>, EnvelopeError> {
        STANDARD
            .decode(&self.archive_base64)
            .map_err(|_| EnvelopeError::NotBase64)
    }

    /// Compares what the package says with what its archive was found to hold; returns the content hash.
    ///
    /// Whatever is declared must be true: content hash, version, files, manifest, provenance. Nothing need be
    /// declared; what a caller insists on, it checks itself.
    pub fn check(&self, contents: &Contents) -> Result<ContentHash, EnvelopeError> {
        let found = contents.content_hash();
        match &self.content_hash {
            Some(expected) if *expected != found.to_hex() => {
                let expected = shown(expected);
                return Err(EnvelopeError::ContentHash { expected, found });
            }
            _ => {}
        }
        let version = &contents.metadata.version;
        if !self.version.is_empty() && self.version != *version {
            return Err(EnvelopeError::Version {
                declared: shown(&self.version),
                found: shown(version),
            });
        }
        let content = contents.files.iter().map(|file| &file.path);
        if !self.file_list.is_empty() && !self.file_list.iter().eq(content) {
            return Err(EnvelopeError::FileList);
        }
        if let Some(manifest) = &self.manifest {
            manifest.covers(contents)?;
        }
        if let Some(provenance) = &self.provenance {
            provenance.verify(&found)?;
            let is_ours = provenance.kind == provenance::Kind::SkillSet
                && provenance.name == self.name.as_str();
            if !is_ours {
                return Err(EnvelopeError::OtherProvenance);
            }
        }
        Ok(found)
    }
}

type Members = Map<String, Value>;

fn mismatch(key: &'static str, value: &Value, expected: &'static str) -> EnvelopeError {
    let found = json::kind(value);
    EnvelopeError::Kind {
        key,
        found,
        expected,
    }
}

fn text(members: &mut Members, key: &'static str) -> Result<Option<String>, EnvelopeError> {
    match members.remove(key) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(other) => Err(mismatch(key, &other, "a string")),
    }
}

fn object(members: &mut Members, key: &'static str) -> Result<Option<Value>, EnvelopeError> {
    match members.remove(key) {
        None => Ok(None),
        Some(value @ Value::Object(_)) => Ok(Some(value)),
        Some(other) => Err(mismatch(key, &other, "an object")),
    }
}

fn list(members: &mut Members, key: &'static str) -> Result<Vec<String>, EnvelopeError> {
    const EXPECTED: &str = "a list of strings";
    match members.remove(key) {
        None => Ok(Vec::new()),
        Some(Value::Array(items)) => items
            .into_iter()
            .map(|item| match item {
                Value::String(text) => Ok(text),
                other => Err(mismatch(key, &other, EXPECTED)),
            })
            .collect(),
        Some(other) => Err(mismatch(key, &other, EXPECTED)),
    }
}

fn read_provenance(value: &Value) -> Result<Provenance, ProvenanceError> {
    let text = value.to_string();
    Provenance::from_json(text.as_bytes())
}

#[cfg(test)]
mod tests;
