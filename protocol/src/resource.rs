//! Names of texts and files of all layers: `knowledge://tea`, `context://SESSION/NAME/assets/pot.png`, `l0://kairos.md`.
//!
//! What parsed names exactly one file below one directory: every part is one safe path segment, and none leads up.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::id::{IdError, SkillName};

/// Longest name of a resource in bytes.
pub const URI_MAX: usize = 1_024;
/// Deepest path below `scripts`, `assets` or `references`, in segments.
pub const DEPTH_MAX: usize = 16;
/// Longest segment of such a path in bytes.
pub const SEGMENT_MAX: usize = 255;

/// The texts of layer L0 that can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Law {
    /// The constitution.
    Markdown,
    /// The law.
    Ruby,
}

/// A directory beside a main text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subdirectory {
    /// What can run.
    Scripts,
    /// Templates, pictures and the like.
    Assets,
    /// Texts to read further.
    References,
}

/// What a resource is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResourceUri {
    /// `l0://kairos.md` or `l0://kairos.rb`.
    L0(Law),
    /// `knowledge://NAME` or `knowledge://NAME/SUBDIRECTORY/PATH`.
    Knowledge {
        /// The entry.
        name: SkillName,
        /// The file beside its main text.
        file: Option<SubPath>,
    },
    /// `context://SESSION/NAME` or `context://SESSION/NAME/SUBDIRECTORY/PATH`; without SESSION the newest that has it.
    Context {
        /// The session.
        session: Option<SkillName>,
        /// The entry.
        name: SkillName,
        /// The file beside its main text.
        file: Option<SubPath>,
    },
}

/// A file below `scripts`, `assets` or `references`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubPath {
    /// In which.
    pub directory: Subdirectory,
    /// The path below, `/`-separated, without `.` and `..`.
    path: String,
}

/// Why a text names no resource.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ResourceError {
    /// Longer than [`URI_MAX`].
    #[error("a resource has at most {URI_MAX} bytes")]
    TooLong,
    /// Not one of the three schemes.
    #[error("a resource begins with l0://, knowledge:// or context://")]
    Scheme,
    /// Not a text of layer L0.
    #[error("layer L0 has l0://kairos.md and l0://kairos.rb")]
    Law,
    /// A name that cannot be.
    #[error(transparent)]
    Name(#[from] IdError),
    /// Something else than the three directories.
    #[error("beside a main text there are scripts, assets and references")]
    Subdirectory,
    /// A path that is empty, leads up, is hidden or is too deep.
    #[error("the path is not made of plain names")]
    Path,
}

impl Law {
    /// The name of the file.
    pub fn file(self) -> &'static str {
        match self {
            Self::Markdown => "kairos.md",
            Self::Ruby => "kairos.rb",
        }
    }
}

impl Subdirectory {
    /// All of them, in the order of the reference.
    pub const ALL: [Self; 3] = [Self::Scripts, Self::Assets, Self::References];

    /// The name of the directory.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Scripts => "scripts",
            Self::Assets => "assets",
            Self::References => "references",
        }
    }

    /// What the reference calls a file in it.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Scripts => "script",
            Self::Assets => "asset",
            Self::References => "reference",
        }
    }
}

impl FromStr for Subdirectory {
    type Err = ResourceError;

    fn from_str(text: &str) -> Result<Self, ResourceError> {
        let found = Self::ALL.into_iter().find(|sub| sub.as_str() == text);
        found.ok_or(ResourceError::Subdirectory)
    }
}

impl SubPath {
    /// The file at `path` below `directory`.
    pub fn new(directory: Subdirectory, path: &str) -> Result<Self, ResourceError> {
        let plain = |segment: &str| {
            let safe = !segment.chars().any(|c| c.is_control() || c == '\\');
            !segment.is_empty() && segment.len() <= SEGMENT_MAX && !segment.starts_with('.') && safe
        };
        match path.split('/').all(plain) && path.split('/').count() <= DEPTH_MAX {
            true => Ok(Self {
                directory,
                path: path.to_owned(),
            }),
            false => Err(ResourceError::Path),
        }
    }

    /// The path below the entry: `assets/pot.png`.
    pub fn below_entry(&self) -> String {
        format!("{}/{}", self.directory.as_str(), self.path)
    }
}

impl FromStr for ResourceUri {
    type Err = ResourceError;

    /// Reads a resource as the reference does: what names a directory alone means the main text.
    fn from_str(text: &str) -> Result<Self, ResourceError> {
        if text.len() > URI_MAX {
            return Err(ResourceError::TooLong);
        }
        let (scheme, rest) = text.split_once("://").ok_or(ResourceError::Scheme)?;
        let file = |directory: Option<&str>, path: Option<&str>| {
            let directory = directory.map(str::parse::<Subdirectory>).transpose()?;
            directory
                .zip(path)
                .map(|(d, path)| SubPath::new(d, path))
                .transpose()
        };
        match scheme {
            "l0" => match [Law::Markdown, Law::Ruby]
                .into_iter()
                .find(|law| law.file() == rest)
            {
                Some(law) => Ok(Self::L0(law)),
                None => Err(ResourceError::Law),
            },
            "knowledge" => {
                let mut parts = rest.splitn(3, '/');
                let name = parts.next().unwrap_or_default().parse()?;
                let file = file(parts.next(), parts.next())?;
                Ok(Self::Knowledge { name, file })
            }
            "context" => {
                let mut parts = rest.splitn(4, '/');
                let first: SkillName = parts.next().unwrap_or_default().parse()?;
                let Some(second) = parts.next() else {
                    return Ok(Self::Context {
                        session: None,
                        name: first,
                        file: None,
                    });
                };
                Ok(Self::Context {
                    session: Some(first),
                    name: second.parse()?,
                    file: file(parts.next(), parts.next())?,
                })
            }
            _ => Err(ResourceError::Scheme),
        }
    }
}

impl fmt::Display for ResourceUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = match self {
            Self::L0(law) => return write!(f, "l0://{}", law.file()),
            Self::Knowledge { name, file } => {
                write!(f, "knowledge://{name}")?;
                file
            }
            Self::Context {
                session,
                name,
                file,
            } => {
                f.write_str("context://")?;
                if let Some(session) = session {
                    write!(f, "{session}/")?;
                }
                write!(f, "{name}")?;
                file
            }
        };
        match file {
            Some(file) => write!(f, "/{}", file.below_entry()),
            None => Ok(()),
        }
    }
}

/// The media type of a file by the end of its name, as the reference has it.
pub fn media_type(path: &str) -> &'static str {
    let name = path.rsplit('/').next().unwrap_or(path);
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
    match extension.to_ascii_lowercase().as_str() {
        "md" => "text/markdown",
        "rb" => "text/x-ruby",
        "py" => "text/x-python",
        "sh" | "bash" => "application/x-sh",
        "js" => "text/javascript",
        "ts" => "text/typescript",
        "json" => "application/json",
        "yaml" | "yml" => "application/yaml",
        "html" => "text/html",
        "css" => "text/css",
        "txt" => "text/plain",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "svg" => "image/svg+xml",
        "pdf" => "application/pdf",
        _ => "application/octet-stream",
    }
}

/// Whether what has this media type is a text that can be shown.
pub fn is_text(media_type: &str) -> bool {
    media_type.starts_with("text/")
        || matches!(
            media_type,
            "application/json" | "application/yaml" | "application/x-sh"
        )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_one_file_and_prints_as_it_was_read() {
        for (text, printed) in [
            ("l0://kairos.md", None),
            ("l0://kairos.rb", None),
            ("knowledge://tea", None),
            ("knowledge://tea/scripts", Some("knowledge://tea")),
            ("knowledge://tea/assets/a/b.png", None),
            ("context://tea", None),
            ("context://s_1/tea", None),
            ("context://s_1/tea/references/日本.md", None),
            ("context://s_1/tea/references", Some("context://s_1/tea")),
        ] {
            let uri: ResourceUri = text.parse().unwrap();
            assert_eq!(uri.to_string(), printed.unwrap_or(text));
        }
    }

    #[test]
    fn what_leads_elsewhere_is_refused() {
        for text in [
            "",
            "tea",
            "file:///etc/passwd",
            "l0://",
            "l0://config.yml",
            "l0://../storage/tokens.json",
            "l0://kairos.md/..",
            "knowledge://",
            "knowledge://..",
            "knowledge://../keys",
            "knowledge:///etc/passwd",
            "knowledge://.archived",
            "knowledge://tea/..",
            "knowledge://tea/../other",
            "knowledge://tea/tea.md",
            "knowledge://tea/scripts/",
            "knowledge://tea/scripts/../../../etc/passwd",
            "knowledge://tea/scripts//etc/passwd",
            "knowledge://tea/scripts/./x",
            "knowledge://tea/scripts/.hidden",
            "knowledge://tea/scripts/a\\..\\b",
            "knowledge://tea/scripts/a\0b",
            "knowledge://tea/keys/x",
            "context://../x",
            "context://s/..",
            "context://s/x/y/z",
            "context://s/x/assets/../../y",
        ] {
            assert!(text.parse::<ResourceUri>().is_err(), "{text:?}");
        }
        let deep = format!("knowledge://tea/assets/{}", ["a"; DEPTH_MAX + 1].join("/"));
        assert_eq!(deep.parse::<ResourceUri>(), Err(ResourceError::Path));
        let long = format!("knowledge://tea/assets/{}", "a/".repeat(URI_MAX));
        assert_eq!(long.parse::<ResourceUri>(), Err(ResourceError::TooLong));
    }

    #[test]
    fn files_have_the_types_of_the_reference() {
        assert_eq!(media_type("a/b.MD"), "text/markdown");
        assert_eq!(media_type("x.tar.gz"), "application/octet-stream");
        assert_eq!(media_type("md"), "application/octet-stream");
        assert!(is_text(media_type("run.bash")) && is_text("text/html"));
        assert!(!is_text(media_type("a.svg")) && !is_text(media_type("a")));
    }

    proptest! {
        #[test]
        fn what_is_read_is_printed_and_read_again(text in "(knowledge|context|l0)://([a-z.]{0,3}|scripts|assets|/|\\.\\./|\\PC){0,8}") {
            if let Ok(uri) = text.parse::<ResourceUri>() {
                let printed = uri.to_string();
                prop_assert!(!printed.contains("/../") && !printed.ends_with("/.."));
                prop_assert_eq!(printed.parse(), Ok(uri));
            }
        }
    }
}
