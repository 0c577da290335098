//! The signed manifest of a package: every file with path, size, mode and hash, under the packer's signature.
//!
//! The content hash of the reference leaves out dot-files and modes and is signed by nobody. Packages of ours carry
//! this beside it; a reader that knows it refuses whatever the archive holds and the manifest does not name.

use std::collections::BTreeMap;
use std::fmt;

use thiserror::Error;

use crate::crypto::{KeyError, Keypair, PublicKey, SignatureError};
use crate::hash::ContentHash;
use crate::id::{AgentId, SkillSetName};
use crate::json;
use crate::package::{Contents, FileRecord};
use crate::time::Timestamp;
use crate::wire_time;

/// The version of the format.
pub const MANIFEST_VERSION: u32 = 1;
/// Keeps a signature over a manifest from being taken for one over anything else.
const PURPOSE: &str = "kairos-package-manifest-v1";
/// How many differences an error lists; the rest is counted.
pub const DIFFERENCES_MAX: usize = 100;

/// What a packer says a package holds.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    purpose: String,
    version: u32,
    /// The SkillSet.
    pub name: SkillSetName,
    /// Its version.
    pub set_version: String,
    /// The hash over the whole SkillSet.
    pub content_hash: ContentHash,
    /// Every file, sorted by path.
    pub files: Vec<FileRecord>,
    /// Who packed it.
    pub packer: Packer,
    /// When; to the second.
    #[serde(with = "wire_time")]
    pub packed_at: Timestamp,
}

/// Who packed a package.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Packer {
    /// The id the packer goes by. Only a pin says whether the key belongs to it.
    pub instance_id: AgentId,
    /// The key that verifies the signature.
    pub public_key: PublicKey,
}

/// A manifest and the signature over its canonical JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedManifest {
    manifest: Manifest,
    signature: String,
}

/// Why a manifest was not accepted.
#[derive(Debug, Error)]
pub enum ManifestError {
    /// A member is missing, superfluous or of another kind.
    #[error("the manifest is malformed: {0}")]
    Form(#[from] serde_json::Error),
    /// Written for another purpose or in a later version.
    #[error("the manifest is of an unknown version")]
    Version,
    /// The manifest came without a signature.
    #[error("the manifest is not signed")]
    Unsigned,
    /// The signature does not fit the packer's key.
    #[error("the manifest does not verify: {0}")]
    Signature(#[from] SignatureError),
    /// The manifest could not be signed.
    #[error("the manifest could not be signed: {0}")]
    Key(#[from] KeyError),
    /// The package holds something else.
    #[error("the package does not hold what its manifest names{0}")]
    Differs(Differences),
}

/// Where a package and its manifest disagree.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Differences {
    list: Vec<String>,
    more: usize,
}

impl Differences {
    fn add(&mut self, text: String) {
        if self.list.len() < DIFFERENCES_MAX {
            self.list.push(text);
        } else {
            self.more += 1;
        }
    }

    fn compare<T: PartialEq + fmt::Display>(&mut self, what: &str, named: T, held: T) {
        if named != held {
            self.add(format!("{what} is {held}, the manifest names {named}"));
        }
    }
}

impl fmt::Display for Differences {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.list {
            write!(f, "\n- {line}")?;
        }
        match self.more {
            0 => Ok(()),
            more => write!(f, "\n- and {more} more"),
        }
    }
}

impl SignedManifest {
    /// Describes `contents` as packed by `packer` and signs the description.
    pub fn new(
        contents: &Contents,
        packer: AgentId,
        keypair: &Keypair,
        packed_at: Timestamp,
    ) -> Result<Self, ManifestError> {
        let manifest = Manifest {
            purpose: PURPOSE.to_owned(),
            version: MANIFEST_VERSION,
            name: contents.metadata.name.clone(),
            set_version: contents.metadata.version.clone(),
            content_hash: contents.content_hash(),
            files: contents.files.clone(),
            packer: Packer {
                instance_id: packer,
                public_key: keypair.public().clone(),
            },
            packed_at,
        };
        let signature = keypair.sign(manifest.text()?.as_bytes())?;
        Ok(Self {
            manifest,
            signature,
        })
    }

    /// Reads a manifest and its signature and verifies it with the key it names. Whether that key is trusted is
    /// for the caller to say.
    pub fn parse(manifest: serde_json::Value, signature: &str) -> Result<Self, ManifestError> {
        let manifest: Manifest = serde_json::from_value(manifest)?;
        if manifest.version != MANIFEST_VERSION || manifest.purpose != PURPOSE {
            return Err(ManifestError::Version);
        }
        let key = &manifest.packer.public_key;
        key.verify(manifest.text()?.as_bytes(), signature)?;
        let signature = signature.to_owned();
        Ok(Self {
            manifest,
            signature,
        })
    }

    /// What was signed.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The manifest as a JSON object.
    pub fn to_value(&self) -> Result<serde_json::Value, ManifestError> {
        Ok(serde_json::to_value(&self.manifest)?)
    }

    /// The signature in strict base64.
    pub fn signature(&self) -> &str {
        &self.signature
    }

    /// Checks that `contents` is exactly what the manifest names.
    pub fn covers(&self, contents: &Contents) -> Result<(), ManifestError> {
        let named = &self.manifest;
        let mut found = Differences::default();
        found.compare("the name", &named.name, &contents.metadata.name);
        found.compare(
            "the version",
            &named.set_version,
            &contents.metadata.version,
        );
        found.compare(
            "the content hash",
            named.content_hash,
            contents.content_hash(),
        );
        let by_path = |files: &'_ [FileRecord]| -> BTreeMap<String, FileRecord> {
            files.iter().map(|f| (f.path.clone(), f.clone())).collect()
        };
        let mut expected = by_path(&named.files);
        if expected.len() != named.files.len() {
            found.add("the manifest names a file twice".to_owned());
        }
        for held in &contents.files {
            let path = &held.path;
            let Some(named) = expected.remove(path) else {
                found.add(format!("{path} is not named"));
                continue;
            };
            found.compare(&format!("the size of {path}"), named.size, held.size);
            let octal = |mode: u32| format!("{mode:o}");
            found.compare(
                &format!("the mode of {path}"),
                octal(named.mode),
                octal(held.mode),
            );
            found.compare(&format!("the hash of {path}"), named.sha256, held.sha256);
        }
        for path in expected.keys() {
            found.add(format!("{} is missing", crate::gate::shown(path)));
        }
        if found == Differences::default() {
            Ok(())
        } else {
            Err(ManifestError::Differs(found))
        }
    }
}

impl Manifest {
    /// The text that is signed.
    fn text(&self) -> Result<String, serde_json::Error> {
        Ok(json::canonical(&serde_json::to_value(self)?))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use serde_json::Value;

    use super::*;
    use crate::skill_set::SkillSetMetadata;

    static KEY: LazyLock<Keypair> = LazyLock::new(|| Keypair::generate().unwrap());

    fn contents() -> Contents {
        let file = |path: &str, text: &str| FileRecord {
            path: path.to_owned(),
            size: text.len() as u64,
            mode: 0o644,
            sha256: ContentHash::of(text),
        };
        let text = r#"{"name":"kp","version":"1.0.0"}"#;
        Contents {
            metadata: SkillSetMetadata::parse(text.as_bytes()).unwrap(),
            files: vec![file("knowledge/a.md", "a"), file("skillset.json", text)],
        }
    }

    fn signed() -> SignedManifest {
        let at = Timestamp::from_secs(1_800_000_000);
        SignedManifest::new(&contents(), KEY.public().agent_id(), &KEY, at).unwrap()
    }

    fn reparsed(change: impl FnOnce(&mut Value)) -> Result<SignedManifest, ManifestError> {
        let signed = signed();
        let mut value = signed.to_value().unwrap();
        change(&mut value);
        SignedManifest::parse(value, signed.signature())
    }

    #[test]
    fn survives_the_wire_in_any_member_order() {
        assert_eq!(reparsed(|_| {}).unwrap(), signed());
        assert_eq!(
            reparsed(|value| *value = json::sorted(value)).unwrap(),
            signed()
        );
        signed().covers(&contents()).unwrap();
    }

    #[test]
    fn any_changed_member_breaks_it() {
        for (pointer, changed) in [
            ("/name", Value::from("kq")),
            ("/set_version", "1.0.1".into()),
            ("/content_hash", ContentHash::of("x").to_hex().into()),
            ("/files/0/path", "knowledge/b.md".into()),
            ("/files/0/mode", 0o755.into()),
            ("/files/0/size", 2.into()),
            ("/packer/instance_id", "other".into()),
            (
                "/packer/public_key",
                Keypair::generate().unwrap().public().to_pem().into(),
            ),
            ("/packed_at", "2026-02-20T12:00:00Z".into()),
        ] {
            let result = reparsed(|value| *value.pointer_mut(pointer).unwrap() = changed);
            assert!(
                matches!(result, Err(ManifestError::Signature(_))),
                "{pointer}"
            );
        }
    }

    #[test]
    fn a_malformed_manifest_is_refused() {
        for (pointer, changed) in [
            ("/version", Value::from(2)),
            ("/purpose", "kairos-provenance-v1".into()),
            ("/files/0/size", (-1).into()),
            ("/files", "none".into()),
            ("/packed_at", "2026-02-20T12:00:00.5Z".into()),
            ("/packer/public_key", "no key".into()),
        ] {
            let result = reparsed(|value| *value.pointer_mut(pointer).unwrap() = changed);
            assert!(matches!(
                result,
                Err(ManifestError::Version | ManifestError::Form(_))
            ));
        }
        let extra = reparsed(|value| value["note"] = "x".into());
        assert!(matches!(extra, Err(ManifestError::Form(_))));
        assert!(matches!(
            reparsed(|value| *value = Value::Null),
            Err(ManifestError::Form(_))
        ));
    }

    #[test]
    fn names_every_difference_from_what_is_there() {
        let mut other = contents();
        other.files[0].mode = 0o600;
        other.files[0].size = 7;
        other.files[1].path = "extra.md".to_owned();
        let text = signed().covers(&other).unwrap_err().to_string();
        let (was, is) = (contents().content_hash(), other.content_hash());
        assert_eq!(
            text,
            format!(
                "the package does not hold what its manifest names\n\
                 - the content hash is {is}, the manifest names {was}\n\
                 - the size of knowledge/a.md is 7, the manifest names 1\n\
                 - the mode of knowledge/a.md is 600, the manifest names 644\n\
                 - extra.md is not named\n\
                 - skillset.json is missing"
            )
        );
    }

    #[test]
    fn a_report_of_differences_is_bounded() {
        let mut other = contents();
        let extra = other.files[0].clone();
        other.files.extend((0..500).map(|i| FileRecord {
            path: format!("{i}.md"),
            ..extra.clone()
        }));
        let text = signed().covers(&other).unwrap_err().to_string();
        assert!(text.ends_with("\n- and 401 more"), "{text}");
    }
}
