//! The example file: every setting with its meaning, its bound and its default, all commented out.

use serde_json::Value;

use super::settings::{GROUPS, Key, Settings};

const HEADER: &str = "\
# Settings of kairos-chain, read from config/kairos.yml in the data directory.
#
# Every line below shows a default; remove the `#` before a key to change it. A later place wins over an earlier one:
# built-in, skills/config.yml, meeting.yml and hestia.yml below skillsets/, this file, variables like KAIROS_HTTP__PORT,
# and arguments such as `--set http.port=8081`. `kairos-chain config show` prints each value and where it comes from.
#
# Durations are written like 30s, 5m or 1h 30m, sizes like 64KiB or 5MB; bare numbers are seconds and bytes.
";

/// Returns the commented example of `config/kairos.yml`: loading it changes nothing.
pub fn example() -> String {
    let settings = Settings::default();
    let mut values = settings.values();
    let mut text = HEADER.to_owned();
    for group in GROUPS {
        text.push('\n');
        comment(&mut text, "", group.doc);
        text.push_str(&format!("{}:\n", group.name));
        for (key, value) in values.by_ref().take(group.keys.len()) {
            setting(&mut text, key, &value);
        }
    }
    text
}

fn setting(text: &mut String, key: &Key, value: &Value) {
    comment(text, "  ", key.doc);
    text.push_str(&format!(
        "  # Must be {}.\n  # {}: {}\n",
        (key.wanted)(),
        key.field,
        yaml(value)
    ));
}

fn comment(text: &mut String, indent: &str, lines: &[&str]) {
    lines
        .iter()
        .for_each(|line| text.push_str(&format!("{indent}#{line}\n")));
}

/// A value on one line of YAML; words stand without quotes.
pub(super) fn yaml(value: &Value) -> String {
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '.' | '_' | '-');
    match value {
        Value::String(word) if !word.is_empty() && word.chars().all(plain) => word.clone(),
        Value::Array(items) => format!(
            "[{}]",
            items.iter().map(yaml).collect::<Vec<_>>().join(", ")
        ),
        other => other.to_string(),
    }
}
