//! Reports in the form of the reference, which programs read.

use std::fmt::Write as _;

use super::{Audited, Issue, Layer, STALE_L1, STALE_L2};

/// The report of `check`.
pub(super) fn check(data: &Audited) -> String {
    let mut text = "## Audit Report\n\n### Summary\n\n".to_owned();
    for count in &data.layers {
        let things = match count.layer {
            "L0" => "skills",
            "L1" => "items",
            _ => "contexts",
        };
        let status = match (count.issues, count.layer) {
            (0, _) => "all healthy".to_owned(),
            (found, "L2") => format!("{found} stale sessions"),
            (found, _) => format!("{found} issues"),
        };
        let _ = writeln!(
            text,
            "- **{}**: {} {things} ({status})",
            count.layer, count.items
        );
    }
    if let Some(archived) = data.archived {
        let _ = writeln!(text, "- **Archived**: {archived} items");
    }
    if data.issues.is_empty() {
        text.push_str("\n### Status: All Healthy\n\nThere is nothing to mend in the layers that were looked at.");
        return text;
    }
    let found = data.issues.len().saturating_add(data.left_out);
    let _ = write!(text, "\n### Issues Found ({found})\n");
    for issue in &data.issues {
        let word = match issue.kind {
            "stale" => "STALE",
            "version_ref" => "VERSION",
            _ => "DEPRECATED",
        };
        let _ = write!(
            text,
            "\n#### [{word}] {} ({})\n{}\n",
            issue.name, issue.layer, issue.message
        );
    }
    more(&mut text, data);
    text.push_str("\n### Recommended Actions\n");
    let actions = [
        (
            "stale",
            "L1",
            "Look at stale knowledge, and put away what is of no use: skills_audit recommend",
        ),
        (
            "stale",
            "L2",
            "Promote what holds of inactive sessions: skills_promote",
        ),
        (
            "version_ref",
            "L1",
            "Correct the versions that are named: knowledge_update",
        ),
        (
            "deprecated_pattern",
            "L0",
            "Read the law again with the user: skills_dsl_get",
        ),
    ];
    let of = |(kind, layer, _): &&(&str, &str, &str)| {
        let mut issues = data.issues.iter();
        issues.any(|issue| issue.kind == *kind && issue.layer == *layer)
    };
    for (at, (.., action)) in actions.iter().filter(of).enumerate() {
        let _ = write!(text, "\n{}. {action}", at.saturating_add(1));
    }
    text
}

/// The report of `conflicts`.
pub(super) fn conflicts(data: &Audited) -> String {
    let mut text = "## Conflict Detection Report\n\n".to_owned();
    if data.issues.is_empty() {
        text.push_str("No conflicts detected.");
        return text;
    }
    let _ = writeln!(text, "### Conflicts Found ({})", data.issues.len());
    for issue in &data.issues {
        let _ = write!(
            text,
            "\n#### {}\n- **Type**: {}\n- **Description**: {}\n- **Suggestion**: Review and merge if redundant, or clarify \
             distinction\n",
            issue.name, issue.kind, issue.message
        );
    }
    more(&mut text, data);
    text
}

/// The report of `stale`.
pub(super) fn stale(data: &Audited, layer: Layer) -> String {
    let mut text = "## Staleness Report\n".to_owned();
    if layer.covers(Layer::L0) {
        text.push_str("\n### L0 Layer\n\n**Note**: age alone makes no law stale.\n");
    }
    for (which, name, threshold) in [(Layer::L1, "L1", STALE_L1), (Layer::L2, "L2", STALE_L2)] {
        if !layer.covers(which) {
            continue;
        }
        let _ = write!(
            text,
            "\n### {name} Layer\n\nThreshold: {threshold} days\n\n"
        );
        let of = |issue: &&Issue| issue.layer == name;
        let items: Vec<_> = data.issues.iter().filter(of).collect();
        if items.is_empty() {
            text.push_str("No stale items found.\n");
            continue;
        }
        let _ = write!(text, "**Stale Items ({})**:\n\n", items.len());
        for item in items {
            let days = item.days_old.unwrap_or_default();
            let _ = writeln!(text, "- `{}` - {days} days old", item.name);
        }
    }
    more(&mut text, data);
    text
}

/// The report of `dangerous`.
pub(super) fn dangerous(data: &Audited) -> String {
    let mut text = "## Dangerous Pattern Detection\n\n".to_owned();
    if data.issues.is_empty() {
        text.push_str("No dangerous patterns detected.");
        return text;
    }
    let _ = writeln!(text, "### Potential Issues ({})", data.issues.len());
    for issue in &data.issues {
        let suggestion = match issue.kind {
            "critical" => {
                "Take it out of the text, change it where it is valid, and keep it elsewhere"
            }
            _ => "Read it against what core_safety of the law guarantees",
        };
        let _ = write!(
            text,
            "\n#### [{}] {}\n- **Issue**: {}\n- **Suggestion**: {suggestion}\n",
            issue.kind.to_uppercase(),
            issue.name,
            issue.message
        );
    }
    more(&mut text, data);
    text
}

/// The report of `recommend`.
pub(super) fn recommend(data: &Audited) -> String {
    let mut text = "## Recommendations Report\n".to_owned();
    for (kind, title, none) in [
        ("promote", "Promotion Candidates (L2 → L1)", "promotion"),
        ("archive", "Archive Candidates (L1)", "archive"),
        ("cleanup", "Cleanup Candidates (L2)", "cleanup"),
    ] {
        let _ = write!(text, "\n### {title}\n\n");
        let of = |issue: &&Issue| issue.kind == kind;
        let items: Vec<_> = data.issues.iter().filter(of).collect();
        if items.is_empty() {
            let _ = writeln!(text, "No {none} candidates found.");
        }
        for item in items {
            let _ = writeln!(text, "- `{}` - {}", item.name, item.message);
        }
    }
    text.push_str(
        "\n---\n\n### How to Act on Recommendations\n\nA text of a session becomes knowledge with skills_promote. Knowledge \
         is put away by the user: kairos-chain knowledge archive NAME",
    );
    text
}

fn more(text: &mut String, data: &Audited) {
    if data.left_out > 0 {
        let _ = write!(text, "\n... and {} more\n", data.left_out);
    }
}
