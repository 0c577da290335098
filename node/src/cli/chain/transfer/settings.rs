//! Switches `storage.backend` in the reference's own file, whose comments stay as they are.

use std::fs;
use std::io::Write as _;

use anyhow::{Context as _, bail};
use kairos_actors::chain::store::place::Backend;
use kairos_actors::passing::FRESH;
use serde_json::{Value, json};
use serde_saphyr::options::DuplicateKeyPolicy;

use crate::config::{Layer, Source};
use crate::data_dir::DataDir;

/// Fails where switching the file would have no effect, or where the file has no place for it.
pub(super) fn check(data_dir: &DataDir, source: &Source, to: Backend) -> anyhow::Result<()> {
    if !matches!(source.layer, Layer::BuiltIn | Layer::Reference) {
        let place = source.origin.as_deref().unwrap_or("an argument");
        bail!(
            "storage.backend is set by {place}; take it away there first, so that {to} counts afterwards"
        );
    }
    switched(data_dir, to).map(|_| ())
}

/// Has the file say `to`.
pub(super) fn choose(data_dir: &DataDir, to: Backend) -> anyhow::Result<()> {
    let path = data_dir.skills_config();
    let text = switched(data_dir, to)?;
    let folder = data_dir.skills();
    let mut file = tempfile::Builder::new()
        .prefix(FRESH)
        .tempfile_in(&folder)?;
    file.write_all(text.as_bytes())?;
    file.as_file()
        .set_permissions(fs::metadata(&path)?.permissions())?;
    file.as_file().sync_all()?;
    file.persist(&path)?;
    fs::File::open(&folder)?.sync_all()?;
    Ok(())
}

fn switched(data_dir: &DataDir, to: Backend) -> anyhow::Result<String> {
    let path = data_dir.skills_config();
    let text =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let Some(switched) = checked(&text, &to.to_string()) else {
        bail!(
            "{} has a form that is not understood here; set it by hand, with the line \"backend: {to}\" below \
             \"storage:\"",
            path.display()
        );
    };
    Ok(switched)
}

/// `text` with `storage.backend` being `to` and nothing else changed, as a parser sees it; nothing where that fails.
fn checked(text: &str, to: &str) -> Option<String> {
    let before = parse(text)?;
    if before.pointer("/storage/backend") == Some(&json!(to)) {
        return Some(text.to_owned());
    }
    let mut wanted = before;
    let settings = wanted.as_object_mut()?;
    let storage = settings.entry("storage").or_insert(Value::Null);
    if storage.is_null() {
        *storage = json!({});
    }
    let storage = storage.as_object_mut()?;
    storage.insert("backend".to_owned(), json!(to));
    switch(text, to).filter(|after| parse(after).as_ref() == Some(&wanted))
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

/// `text` with the value of `backend` below `storage` changed. Both in block style, as the template has them;
/// nothing where they are written otherwise.
fn switch(text: &str, to: &str) -> Option<String> {
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
            .is_some_and(|line| plain(line) && key(line, "storage").is_some())
    });
    let start = match (sections.next(), sections.next()) {
        (Some(start), None) => start,
        (None, _) => {
            let text = lines.concat();
            return Some(format!("{text}storage:{ending}  backend: {to}{ending}"));
        }
        _ => return None,
    };
    let head = key(lines.get(start)?, "storage")?;
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
        .position(|line| indent(line) == depth && key(line, "backend").is_some());
    match found {
        Some(at) => {
            let line = lines.get_mut(start + 1 + at)?;
            let value = key(line, "backend")?;
            let comment = value
                .find(" #")
                .and_then(|at| value.get(at..))
                .unwrap_or_default();
            *line = format!("{}backend: {to}{comment}{ending}", " ".repeat(depth));
        }
        None => lines.insert(
            start + 1,
            format!("{}backend: {to}{ending}", " ".repeat(depth)),
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
            assert_eq!(checked(before, "sqlite").as_deref(), after, "{before}");
        }
    }
}
