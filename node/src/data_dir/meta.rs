//! `.kairos_meta.yml`: from which texts the files of a data directory were made.
//!
//! The reference and this program share the file. The reference replaces a file that still has the hash recorded
//! for it, so what it looks at is never changed here; ours stands below `kairos_chain`, which it ignores.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use kairos_protocol::hash::ContentHash;
use kairos_protocol::time::Timestamp;
use serde::Deserialize;
use thiserror::Error;

use super::templates::{KNOWLEDGE, TRACKED};

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
    /// The last upgrade, if there was one.
    #[serde(default)]
    pub last_upgrade: Option<LastUpgrade>,
}

/// An upgrade that was carried out.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct LastUpgrade {
    /// The version before.
    pub from_version: String,
    /// The version after.
    pub to_version: String,
    /// When, as on the wire.
    pub timestamp: String,
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

/// The hash of a text as it stands in the file.
pub fn hash_of(text: impl AsRef<[u8]>) -> String {
    format!("sha256:{}", ContentHash::of(text))
}

/// The part of this program in the file: this version and its texts.
pub(super) fn own_section(last: Option<&LastUpgrade>) -> String {
    let line = |name: &str, text: &str| format!("    {name}: {}\n", hash_of(text));
    let templates: String = TRACKED
        .iter()
        .map(|template| line(template.path, template.text))
        .collect();
    let knowledge: String = KNOWLEDGE
        .iter()
        .map(|guide| line(guide.name, guide.text))
        .collect();
    let last = last.map_or(String::new(), |last| {
        let LastUpgrade {
            from_version,
            to_version,
            timestamp,
        } = last;
        let [from, to, at] = [from_version, to_version, timestamp].map(|text| quoted(text));
        format!(
            "  last_upgrade:\n    from_version: {from}\n    to_version: {to}\n    timestamp: {at}\n"
        )
    });
    let version = env!("CARGO_PKG_VERSION");
    format!(
        "{OWN}\n  version: {version}\n  template_hashes:\n{templates}  knowledge_hashes:\n{knowledge}{last}"
    )
}

/// How the part of this program begins.
const OWN: &str = "kairos_chain:";

/// A text in quotes that YAML reads as it is.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// The text of the file after an upgrade: `before`, with the part of this program replaced and all else untouched.
///
/// # Errors
///
/// `before` is not as it should be, or so unusual that the part cannot be replaced alone.
pub fn upgraded(
    before: Option<&str>,
    from_version: &str,
    now: Timestamp,
) -> Result<String, MetaError> {
    let last = LastUpgrade {
        from_version: from_version.to_owned(),
        to_version: env!("CARGO_PKG_VERSION").to_owned(),
        timestamp: now.wire(),
    };
    let own = own_section(Some(&last));
    let Some(before) = before else {
        return Ok(format!(
            "---\nkairos_mcp_version: {LAYOUT}\ntemplate_hashes: {{}}\nknowledge_hashes: {{}}\n{own}"
        ));
    };
    let mut kept = String::new();
    let mut inside = false;
    for line in before.split_inclusive('\n') {
        let indented = line.starts_with([' ', '\t', '#', '\n', '\r']);
        inside = line.trim_end() == OWN || inside && indented;
        if !inside {
            kept.push_str(line);
        }
    }
    if !kept.is_empty() && !kept.ends_with('\n') {
        kept.push('\n');
    }
    let text = format!("{kept}{own}");
    let (old, new) = (Meta::parse(before)?, Meta::parse(&text)?);
    let version = new.own.as_ref().map(|own| own.version.as_str());
    if version != Some(env!("CARGO_PKG_VERSION"))
        || (Meta { own: None, ..old }) != (Meta { own: None, ..new })
    {
        return Err(MetaError::Syntax(
            "its part `kairos_chain` cannot be replaced alone".to_owned(),
        ));
    }
    Ok(text)
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
    fn an_upgrade_replaces_our_part_and_nothing_else() {
        let reference = include_str!("../../tests/fixtures/kairos-meta-fresh-v2.2.0.yml");
        let once = upgraded(Some(reference), "2.2.0", Timestamp::EPOCH).unwrap();
        assert!(once.starts_with(reference));
        let own = Meta::parse(&once).unwrap().own.unwrap();
        assert_eq!(own.last_upgrade.unwrap().from_version, "2.2.0");
        assert_eq!(own.template_hashes.len(), TRACKED.len());
        let between =
            once.replace("initialized_at", "# a comment\ninitialized_at") + "more: it's\n";
        let twice = upgraded(Some(&between), "it's", Timestamp::EPOCH).unwrap();
        assert!(twice.contains("# a comment\n") && twice.contains("more: it's\n"));
        assert_eq!(twice.matches("kairos_chain:").count(), 1);
        assert_eq!(
            upgraded(Some(&twice), "it's", Timestamp::EPOCH).unwrap(),
            twice
        );
        assert!(
            upgraded(
                Some("{kairos_chain: {version: '1'}}"),
                "1",
                Timestamp::EPOCH
            )
            .is_err()
        );
        Meta::parse(&upgraded(None, "unknown", Timestamp::EPOCH).unwrap()).unwrap();
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
