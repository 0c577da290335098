//! Sets one value in a file of settings, and leaves everything else as it is, comments too.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use kairos_actors::passing::FRESH;
use serde_json::{Value, json};
use serde_saphyr::options::DuplicateKeyPolicy;

/// Puts `text` in the place of the file at `path`, or makes it; whole or not at all, and synced.
pub(crate) fn write(path: &Path, text: &str) -> io::Result<()> {
    let folder = path
        .parent()
        .ok_or_else(|| io::Error::other("a file is in a folder"))?;
    fs::create_dir_all(folder)?;
    let mut file = tempfile::Builder::new().prefix(FRESH).tempfile_in(folder)?;
    file.write_all(text.as_bytes())?;
    if let Ok(before) = fs::metadata(path) {
        file.as_file().set_permissions(before.permissions())?;
    }
    file.as_file().sync_all()?;
    file.persist(path)?;
    fs::File::open(folder)?.sync_all()
}

/// `text` with `group.field` being `to`, a plain word of YAML, and nothing else changed, as a parser sees it; nothing
/// where that fails.
pub(crate) fn set(text: &str, group: &str, field: &str, to: &str) -> Option<String> {
    let value = parse(to).filter(|value| !value.is_object() && !value.is_array())?;
    let before = parse(text)?;
    if before.get(group).and_then(|group| group.get(field)) == Some(&value) {
        return Some(text.to_owned());
    }
    let mut wanted = before;
    let settings = wanted.as_object_mut()?;
    let fields = settings.entry(group).or_insert(Value::Null);
    if fields.is_null() {
        *fields = json!({});
    }
    fields.as_object_mut()?.insert(field.to_owned(), value);
    switch(text, group, field, to).filter(|after| parse(after).as_ref() == Some(&wanted))
}

fn parse(text: &str) -> Option<Value> {
    let options = serde_saphyr::options! {
        duplicate_keys: DuplicateKeyPolicy::Error, with_snippet: false, emit_comments: false,
    };
    match serde_saphyr::from_str_with_options(text, options).ok()? {
        Value::Null => Some(json!({})),
        value => Some(value),
    }
}

/// `text` with the value of `field` below `group` changed. Both in block style, as the templates have them; nothing where
/// they are written otherwise.
fn switch(text: &str, group: &str, field: &str, to: &str) -> Option<String> {
    let key = |line: &str, name: &str| {
        let rest = line.trim_start().strip_prefix(name)?.strip_prefix(':')?;
        Some(rest.trim().to_owned())
    };
    let ending = if text.contains("\r\n") { "\r\n" } else { "\n" };
    let mut lines: Vec<String> = text.split_inclusive('\n').map(str::to_owned).collect();
    if let Some(last) = lines.last_mut()
        && !last.ends_with('\n')
    {
        last.push_str(ending);
    }
    let plain = |line: &String| !line.starts_with([' ', '#']) && !line.trim().is_empty();
    let mut sections = (0..lines.len()).filter(|at| {
        lines
            .get(*at)
            .is_some_and(|line| plain(line) && key(line, group).is_some())
    });
    let start = match (sections.next(), sections.next()) {
        (Some(start), None) => start,
        (None, _) => {
            let text = lines.concat();
            return Some(format!("{text}{group}:{ending}  {field}: {to}{ending}"));
        }
        _ => return None,
    };
    let head = key(lines.get(start)?, group)?;
    if !(head.is_empty() || head.starts_with('#')) {
        return None;
    }
    let end = (start + 1..lines.len())
        .find(|at| lines.get(*at).is_some_and(plain))
        .unwrap_or(lines.len());
    let body = lines.get(start + 1..end)?;
    let indent = |line: &str| line.len() - line.trim_start().len();
    let depth = body
        .iter()
        .filter(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#'))
        .map(|line| indent(line))
        .min();
    let depth = depth.unwrap_or(2);
    let found = body
        .iter()
        .position(|line| indent(line) == depth && key(line, field).is_some());
    match found {
        Some(at) => {
            let line = lines.get_mut(start + 1 + at)?;
            let value = key(line, field)?;
            let comment = value
                .find(" #")
                .and_then(|at| value.get(at..))
                .unwrap_or_default();
            *line = format!("{}{field}: {to}{comment}{ending}", " ".repeat(depth));
        }
        None => lines.insert(
            start + 1,
            format!("{}{field}: {to}{ending}", " ".repeat(depth)),
        ),
    }
    Some(lines.concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_one_word_and_keeps_the_rest() {
        for (before, after) in [
            (
                "storage:\n  backend: file\n",
                Some("storage:\n  backend: sqlite\n"),
            ),
            (
                "# a\nhttp: {port: 1}\nstorage: # where\n    # b\n    sqlite:\n      backend: x\n    backend: 'file' # c\n\nx:\n  backend: file\n",
                Some(
                    "# a\nhttp: {port: 1}\nstorage: # where\n    # b\n    sqlite:\n      backend: x\n    backend: sqlite # c\n\nx:\n  backend: file\n",
                ),
            ),
            (
                "storage:\n  sqlite:\n    path: a\n",
                Some("storage:\n  backend: sqlite\n  sqlite:\n    path: a\n"),
            ),
            ("a: 1", Some("a: 1\nstorage:\n  backend: sqlite\n")),
            ("", Some("storage:\n  backend: sqlite\n")),
            ("storage: {backend: file}\n", None),
            ("\"storage\":\n  backend: file\n", None),
            ("storage:\n  \"backend\": file\n", None),
            ("storage:\n  backend: |\n    file\n", None),
            ("a: |\n  b\nstorage: *x\n", None),
            ("- a\n", None),
            (
                "storage:\r\n  backend: file # a\r\nb: 1\r\n",
                Some("storage:\r\n  backend: sqlite # a\r\nb: 1\r\n"),
            ),
            (
                "storage: {backend: sqlite}\n",
                Some("storage: {backend: sqlite}\n"),
            ),
            (
                "storage:\n  backend: file\nstorage:\n  backend: file\n",
                None,
            ),
        ] {
            assert_eq!(
                set(before, "storage", "backend", "sqlite").as_deref(),
                after,
                "{before}"
            );
        }
    }

    #[test]
    fn a_value_that_is_no_word_of_one_line_is_not_set() {
        for to in ["{a: 1}", "[1]", "a\nb: c", "\"open"] {
            assert_eq!(set("", "place", "enabled", to), None, "{to}");
        }
        let example = crate::config::example();
        let after = set(&example, "place", "enabled", "true").unwrap();
        assert_eq!(after.len(), example.len() + "  enabled: true\n".len());
    }
}
