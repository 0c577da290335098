//! `.kairos_meta.yml`: from which texts the files of a data directory were made.
//!
//! The reference and this program share the file. The reference replaces a file that still has the hash recorded
//! for it, so what it looks at is never changed here; ours stands below `kairos_chain`, which it ignores.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use serde::Deserialize;
use thiserror::Error;

/// The version of the reference whose directory layout this is. Its own version check stays silent on this one.
pub const LAYOUT: &str = "2.2.0";
/// Most bytes of the file.
const BYTES_MAX: u64 = 1024 * 1024;

/// Hashes by template path or name of knowledge, written `sha256:<hex>`.
pub type Hashes = BTreeMap<String, String>;

/// What the file says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Meta {
    /// The version of the reference that made or last upgraded the directory.
    #[serde(default, rename = "kairos_mcp_version")]
    pub layout: Option<String>,
    /// When the directory was made.
    #[serde(default)]
    pub initialized_at: Option<String>,
    /// Texts of the reference.
    #[serde(default)]
    pub template_hashes: Hashes,
    /// Knowledge of the reference.
    #[serde(default)]
    pub knowledge_hashes: Hashes,
    /// What this program wrote.
    #[serde(default, rename = "kairos_chain")]
    pub own: Option<Own>,
}

/// The part of this program.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Own {
    /// The version that made or last upgraded the directory.
    #[serde(default)]
    pub version: String,
    /// Texts of ours.
    #[serde(default)]
    pub template_hashes: Hashes,
    /// Knowledge of ours.
    #[serde(default)]
    pub knowledge_hashes: Hashes,
}

/// Why the file says nothing.
#[derive(Debug, Error)]
pub enum MetaError {
    /// It cannot be read.
    #[error(".kairos_meta.yml cannot be read: {0}")]
    Io(#[from] io::Error),
    /// It is not the YAML it should be.
    #[error(".kairos_meta.yml is not what an upgrade writes: {0}")]
    Syntax(String),
}

impl Meta {
    /// Reads the file at `path`; nothing if there is none.
    ///
    /// # Errors
    ///
    /// Both of [`MetaError`]; more than a mebibyte is a syntax error.
    pub fn read(path: &Path) -> Result<Option<Self>, MetaError> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let mut text = String::new();
        file.take(BYTES_MAX + 1).read_to_string(&mut text)?;
        if text.len() as u64 > BYTES_MAX {
            return Err(MetaError::Syntax(format!(
                "it has more than {BYTES_MAX} bytes"
            )));
        }
        Self::parse(&text).map(Some)
    }

    /// Reads the text of the file.
    ///
    /// # Errors
    ///
    /// [`MetaError::Syntax`].
    pub fn parse(text: &str) -> Result<Self, MetaError> {
        serde_saphyr::from_str(text).map_err(|error| {
            let first = error.to_string();
            MetaError::Syntax(first.lines().next().unwrap_or_default().to_owned())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_reference_wrote_is_read() {
        let text = include_str!("../../tests/fixtures/kairos-meta-fresh-v2.2.0.yml");
        let meta = Meta::parse(text).unwrap();
        assert_eq!(meta.layout.as_deref(), Some(LAYOUT));
        assert_eq!(
            (meta.template_hashes.len(), meta.knowledge_hashes.len()),
            (6, 19)
        );
        assert!(meta.template_hashes["skills/kairos.rb"].starts_with("sha256:742d98"));
        assert_eq!(meta.own, None);
    }

    #[test]
    fn other_texts_are_refused_in_one_line() {
        for text in [
            "- a",
            "template_hashes: [",
            "kairos_chain: 3",
            "template_hashes: {a: {b: c}}",
        ] {
            let told = Meta::parse(text).unwrap_err().to_string();
            assert!(
                told.starts_with(".kairos_meta.yml is not") && !told.contains('\n'),
                "{told}"
            );
        }
        assert_eq!(Meta::parse("{}").unwrap(), Meta::default());
    }
}
