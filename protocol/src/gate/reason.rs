//! Why an entry is refused, in plain words.

use std::fmt;

use super::Kind;

/// What is wrong with one entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// `..` in the path.
    Traversal,
    /// The path starts with `/` or a drive letter.
    Absolute,
    /// An empty or `.` component, or no name at all.
    Unclean,
    /// The path is not UTF-8.
    NotUtf8,
    /// A character that means something else on another system, or hides what the name is.
    Character(char),
    /// A device of Windows, such as `nul.md`.
    DeviceName,
    /// A component ends in a dot or a space, which Windows drops.
    TrailingDotOrSpace,
    /// Not in the directory that belongs to the SkillSet.
    OutsideRoot,
    /// A dot-file, or in a dot-directory: the content hash does not cover it.
    DotFile,
    /// Neither a file nor a directory.
    Kind(Kind),
    /// The mode says it is something else.
    ModeOfOtherKind(u32),
    /// The mode has execution, set-id or sticky bits.
    ExecutableMode(u32),
    /// An extension that some system executes, in lower case and without the dot.
    Extension(String),
    /// Starts with `#!`, possibly after a byte-order mark.
    Shebang,
    /// Machine code or byte code of the named format.
    Binary(&'static str),
    /// The same path twice.
    Duplicate,
    /// Differs only in case or Unicode form from the named path.
    SameNameAs(String),
    /// A path is used as a file and as a directory.
    FileAndDirectory,
    /// A key of `skillset.json` that makes a host run something.
    ExecutingKey(&'static str),
}

impl Reason {
    /// Whether the reason is that the entry can run, rather than that it can escape or deceive.
    pub fn is_executable(&self) -> bool {
        matches!(
            self,
            Self::ExecutableMode(_) | Self::Extension(_) | Self::Shebang | Self::Binary(_)
        )
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Traversal => f.write_str("the path leads out with `..`"),
            Self::Absolute => f.write_str("the path is absolute"),
            Self::Unclean => f.write_str("the path has an empty or `.` component"),
            Self::NotUtf8 => f.write_str("the path is not UTF-8"),
            Self::Character(c) => write!(f, "the path has the character {}", c.escape_default()),
            Self::DeviceName => f.write_str("the name belongs to a device on Windows"),
            Self::TrailingDotOrSpace => f.write_str("a name ends in a dot or a space"),
            Self::OutsideRoot => f.write_str("lies outside the directory of the SkillSet"),
            Self::DotFile => f.write_str("is a dot-file, which the content hash does not cover"),
            Self::Kind(kind) => f.write_str(match kind {
                Kind::File | Kind::Directory => "is out of place",
                Kind::Symlink => "is a symbolic link",
                Kind::HardLink => "is a hard link",
                Kind::Special => "is a device, pipe or socket",
                Kind::Extension => "is an extension header (pax or GNU)",
                Kind::Unknown => "is of an unknown kind",
            }),
            Self::ModeOfOtherKind(mode) => write!(f, "the mode {mode:o} is that of another kind"),
            Self::ExecutableMode(mode) => write!(f, "the mode {mode:o} lets it run"),
            Self::Extension(extension) => write!(f, "files ending in .{extension} can run"),
            Self::Shebang => f.write_str("starts with #!, so it is a script"),
            Self::Binary(format) => write!(f, "holds code in {format} format"),
            Self::Duplicate => f.write_str("occurs more than once"),
            Self::SameNameAs(other) => write!(f, "is the same name as {other} on some disks"),
            Self::FileAndDirectory => f.write_str("is both a file and a directory"),
            Self::ExecutingKey(key) => write!(f, "the key `{key}` makes a host run something"),
        }
    }
}
