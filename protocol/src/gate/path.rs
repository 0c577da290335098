//! What a path says about an entry, and when two paths are one on some disk.

use icu_normalizer::DecomposingNormalizerBorrowed;

use super::Reason;

/// Extensions that some common system executes, compiles on load or hands to an interpreter.
const EXECUTABLE_EXTENSIONS: [&str; 30] = [
    "app", "bat", "cjs", "class", "cmd", "com", "dll", "dylib", "elf", "exe", "jar", "js", "jsx",
    "lua", "mjs", "msi", "php", "pl", "ps1", "psm1", "py", "rb", "rbw", "scr", "sh", "so", "ts",
    "tsx", "vbs", "wasm",
];

pub(super) fn findings(path: &str, root: Option<&str>) -> Vec<Reason> {
    let mut found = Vec::new();
    let clean = path.strip_suffix('/').unwrap_or(path);
    if clean.split(['/', '\\']).any(|part| part == "..") {
        found.push(Reason::Traversal);
    }
    if is_absolute(path) {
        found.push(Reason::Absolute);
    } else if clean.split('/').any(|part| matches!(part, "" | ".")) {
        found.push(Reason::Unclean);
    }
    found.extend(
        path.chars()
            .find(|c| is_forbidden(*c))
            .map(Reason::Character),
    );
    let parts = || {
        clean
            .split('/')
            .filter(|part| !matches!(*part, "" | "." | ".."))
    };
    if parts().any(is_device) {
        found.push(Reason::DeviceName);
    }
    if parts().any(|part| part.ends_with(['.', ' '])) {
        found.push(Reason::TrailingDotOrSpace);
    }
    if let Some(root) = root {
        if clean.split('/').next() != Some(root) {
            found.push(Reason::OutsideRoot);
        }
        if parts().any(|part| part.starts_with('.')) {
            found.push(Reason::DotFile);
        }
    }
    found.extend(executable_extension(clean).map(Reason::Extension));
    found
}

/// Whether the path, taken from the root of the SkillSet, lies in `tools` or `lib` in any spelling.
pub(super) fn is_code(path: &str) -> bool {
    path.split_once('/')
        .is_some_and(|(top, _)| matches!(folded(top).as_str(), "tools" | "lib"))
}

fn is_absolute(path: &str) -> bool {
    let mut start = path.chars();
    let (first, second) = (start.next(), start.next());
    matches!(first, Some('/' | '\\'))
        || (first.is_some_and(|c| c.is_ascii_alphabetic()) && second == Some(':'))
}

/// Separators and streams of Windows, control characters, and marks that reverse what a person reads.
fn is_forbidden(c: char) -> bool {
    c.is_control() || matches!(c, '\\' | ':' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn is_device(part: &str) -> bool {
    let stem = part.split('.').next().unwrap_or(part);
    let stem = stem.trim_end_matches(' ').to_uppercase();
    let numbered = |prefix: &str| {
        stem.strip_prefix(prefix).is_some_and(|rest| {
            let mut digits = rest.chars();
            let is_digit = |c: char| c.is_ascii_digit() || matches!(c, '¹' | '²' | '³');
            digits.next().is_some_and(is_digit) && digits.next().is_none()
        })
    };
    matches!(
        stem.as_str(),
        "CON" | "PRN" | "AUX" | "NUL" | "CONIN$" | "CONOUT$"
    ) || numbered("COM")
        || numbered("LPT")
}

/// The last extension if it can run, lower-cased; trailing dots and spaces do not hide it.
fn executable_extension(path: &str) -> Option<String> {
    let name = path.rsplit('/').next().unwrap_or(path);
    let (_, extension) = name.trim_end_matches(['.', ' ']).rsplit_once('.')?;
    let extension = folded(extension);
    EXECUTABLE_EXTENSIONS
        .contains(&extension.as_str())
        .then_some(extension)
}

/// The form in which two paths are equal if any common file system takes them for one: case folded, canonically
/// decomposed, invisible characters dropped.
pub(super) fn folded(path: &str) -> String {
    let decompose = DecomposingNormalizerBorrowed::new_nfd();
    let visible: String = path.chars().filter(|c| !is_invisible(*c)).collect();
    // Upper case first, so that ß meets SS and the Kelvin sign meets k.
    let folded = decompose.normalize(&visible).to_uppercase().to_lowercase();
    decompose.normalize(&folded).into_owned()
}

fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// A path for a text: control and reversing characters escaped, cut to `max` characters.
pub(super) fn shown(path: &str, max: usize) -> String {
    let escaped = |c: char| -> String {
        if c.is_control() || is_invisible(c) {
            c.escape_unicode().collect()
        } else {
            c.into()
        }
    };
    path.chars().take(max).map(escaped).collect()
}
