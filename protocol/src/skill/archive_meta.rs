//! What the reference keeps beside archived knowledge: `.archive_meta.yml`.
//!
//! The reference writes five members and reads them with a YAML reader that knows no dates, so an instant is quoted.
//! Reading is bounded and forgiving: a file that a person edited may lack members, and one that cannot be read is an
//! error the caller may get over.

use serde_json::Value;
use thiserror::Error;

use super::frontmatter::{self, Reading};
use crate::hash::ContentHash;

/// Name of the file.
pub const FILE: &str = ".archive_meta.yml";
/// Longest file read, in bytes.
pub const BYTES_MAX: usize = frontmatter::BLOCK_MAX;

/// What is known of something archived.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ArchiveMeta {
    /// When, as an ISO 8601 text.
    pub archived_at: Option<String>,
    /// Why, in the words of whoever archived it.
    pub archived_reason: Option<String>,
    /// The name of what takes its place.
    pub superseded_by: Option<String>,
    /// The directory it was in; an absolute path where the reference wrote it.
    pub original_path: Option<String>,
    /// The hash of its main text when it was archived.
    pub content_hash: Option<ContentHash>,
}

/// The bytes are not such a file.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ArchiveMetaError {
    /// Not UTF-8.
    #[error("it is not UTF-8")]
    NotUtf8,
    /// Not a YAML mapping within the bounds.
    #[error("it is not a YAML mapping")]
    NotAMapping,
}

impl ArchiveMeta {
    /// Reads the file. Members of another kind than text count as absent, but for numbers, which were texts.
    pub fn parse(bytes: &[u8]) -> Result<Self, ArchiveMetaError> {
        let text = std::str::from_utf8(bytes).map_err(|_| ArchiveMetaError::NotUtf8)?;
        let members = match frontmatter::read(text) {
            Reading::Mapping(members) => members,
            Reading::Empty => return Ok(Self::default()),
            Reading::Other(_) | Reading::Unreadable => return Err(ArchiveMetaError::NotAMapping),
        };
        let text = |member: &str| match members.get(member)? {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        };
        Ok(Self {
            archived_at: text("archived_at"),
            archived_reason: text("archived_reason"),
            superseded_by: text("superseded_by"),
            original_path: text("original_path"),
            content_hash: text("content_hash").and_then(|hash| hash.parse().ok()),
        })
    }

    /// The file, members in the order of the reference, every text quoted.
    pub fn to_yaml(&self) -> String {
        let hash = self.content_hash.as_ref().map(ContentHash::to_hex);
        let members = [
            ("archived_at", self.archived_at.as_deref()),
            ("archived_reason", self.archived_reason.as_deref()),
            ("superseded_by", self.superseded_by.as_deref()),
            ("original_path", self.original_path.as_deref()),
            ("content_hash", hash.as_deref()),
        ];
        let mut yaml = "---\n".to_owned();
        for (name, value) in members {
            yaml.push_str(name);
            yaml.push(':');
            if let Some(value) = value {
                yaml.push(' ');
                quote(value, &mut yaml);
            }
            yaml.push('\n');
        }
        yaml
    }
}

/// Writes a YAML scalar that every reader takes for the text it is.
fn quote(text: &str, yaml: &mut String) {
    let plain =
        |c: char| !c.is_control() && !matches!(c, '\u{85}' | '\u{2028}' | '\u{2029}' | '\u{feff}');
    if text.chars().all(plain) {
        yaml.push('\'');
        yaml.push_str(&text.replace('\'', "''"));
        yaml.push('\'');
        return;
    }
    yaml.push('"');
    for c in text.chars() {
        match c {
            '"' => yaml.push_str("\\\""),
            '\\' => yaml.push_str("\\\\"),
            c if plain(c) => yaml.push(c),
            c => yaml.push_str(&format!("\\U{:08X}", u32::from(c))),
        }
    }
    yaml.push('"');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_what_the_reference_writes() {
        let hash = ContentHash::of("x");
        let text = format!(
            "---\narchived_at: '2026-01-20T10:30:00+00:00'\narchived_reason: replaced\nsuperseded_by:\noriginal_path: \"/d/knowledge/tea\"\ncontent_hash: {hash}\n"
        );
        let meta = ArchiveMeta::parse(text.as_bytes()).unwrap();
        assert_eq!(
            meta,
            ArchiveMeta {
                archived_at: Some("2026-01-20T10:30:00+00:00".to_owned()),
                archived_reason: Some("replaced".to_owned()),
                superseded_by: None,
                original_path: Some("/d/knowledge/tea".to_owned()),
                content_hash: Some(hash),
            }
        );
        let written = meta.to_yaml();
        assert_eq!(
            written,
            format!(
                "---\narchived_at: '2026-01-20T10:30:00+00:00'\narchived_reason: 'replaced'\nsuperseded_by:\noriginal_path: '/d/knowledge/tea'\ncontent_hash: '{hash}'\n"
            )
        );
    }

    #[test]
    fn what_is_not_such_a_file_is_told_and_what_lacks_members_is_read() {
        assert_eq!(ArchiveMeta::parse(b""), Ok(ArchiveMeta::default()));
        assert_eq!(
            ArchiveMeta::parse(b"content_hash: [1]\nother: 1"),
            Ok(ArchiveMeta::default())
        );
        assert_eq!(ArchiveMeta::parse(&[0xff]), Err(ArchiveMetaError::NotUtf8));
        for bad in ["- a", "a: [", "a: &x b\nc: *x", &"a: ".repeat(20_000)] {
            assert_eq!(
                ArchiveMeta::parse(bad.as_bytes()),
                Err(ArchiveMetaError::NotAMapping),
                "{bad:.20}"
            );
        }
    }

    proptest! {
        #[test]
        fn what_was_written_is_read_again(reason in "\\PC{0,20}|[\\x00-\\x7f]{0,20}|(: |'|\"|\\n|#|\u{2028}|\u{85}|\\\\|1e5|~|null){0,8}") {
            let meta = ArchiveMeta { archived_reason: Some(reason), ..ArchiveMeta::default() };
            prop_assert_eq!(ArchiveMeta::parse(meta.to_yaml().as_bytes()), Ok(meta));
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = ArchiveMeta::parse(&bytes);
        }
    }
}
