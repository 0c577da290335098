//! What leading bytes and mode bits say about an entry.

use super::{Entry, Kind, Reason};

/// Bits of a Unix mode that say what kind of thing it is, and two of their values.
const TYPE_MASK: u32 = 0o170_000;
const TYPE_FILE: u32 = 0o100_000;
const TYPE_DIRECTORY: u32 = 0o040_000;
/// Execution, set-user, set-group and sticky bits.
const RUN_MASK: u32 = 0o7111;

/// Leading bytes of code. Fat Mach-O shares its number with Java class files.
const MAGICS: [(&[u8], &str); 10] = [
    (b"\x7fELF", "ELF"),
    (b"\0asm", "WebAssembly"),
    (b"\xfe\xed\xfa\xce", "Mach-O"),
    (b"\xfe\xed\xfa\xcf", "Mach-O"),
    (b"\xce\xfa\xed\xfe", "Mach-O"),
    (b"\xcf\xfa\xed\xfe", "Mach-O"),
    (b"\xca\xfe\xba\xbe", "Mach-O or Java class"),
    (b"\xbe\xba\xfe\xca", "Mach-O"),
    (b"\xca\xfe\xba\xbf", "Mach-O"),
    (b"\xbf\xba\xfe\xca", "Mach-O"),
];

pub(super) fn findings(entry: &Entry<'_>) -> Vec<Reason> {
    let mut found = Vec::new();
    let permissions = entry.mode & 0o7777;
    let expected = match entry.kind {
        Kind::File => TYPE_FILE,
        Kind::Directory => TYPE_DIRECTORY,
        _ => return found,
    };
    let named = entry.mode & TYPE_MASK;
    if named != 0 && named != expected {
        found.push(Reason::ModeOfOtherKind(entry.mode));
    }
    if entry.kind != Kind::File {
        return found;
    }
    if permissions & RUN_MASK != 0 {
        found.push(Reason::ExecutableMode(permissions));
    }
    if is_script(entry.head) {
        found.push(Reason::Shebang);
    }
    found.extend(code_format(entry.head).map(Reason::Binary));
    found
}

/// `#!` at the start, after any byte-order marks, in UTF-8, UTF-16 or UTF-32.
fn is_script(head: &[u8]) -> bool {
    const WIDE: [&[u8]; 4] = [
        b"\xff\xfe\0\0#\0\0\0!\0\0\0",
        b"\0\0\xfe\xff\0\0\0#\0\0\0!",
        b"\xff\xfe#\0!\0",
        b"\xfe\xff\0#\0!",
    ];
    let mut narrow = head;
    while let Some(rest) = narrow.strip_prefix(b"\xef\xbb\xbf") {
        narrow = rest;
    }
    narrow.starts_with(b"#!") || WIDE.iter().any(|mark| head.starts_with(mark))
}

fn code_format(head: &[u8]) -> Option<&'static str> {
    let format = MAGICS.iter().find(|(magic, _)| head.starts_with(magic));
    // A program for Windows has zeros in its first header; text that happens to begin with these letters has not.
    let is_program = head.starts_with(b"MZ") && head.contains(&0);
    format
        .map(|(_, name)| *name)
        .or(is_program.then_some("Windows program"))
}
