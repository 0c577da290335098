//! What interrupted changes and upgrades left behind.

use std::time::{Duration, SystemTime};

use kairos_actors::passing::is_set_aside;

use super::{Findings, some};
use crate::backup::restore::{self, REPLACED, UNPACKING};
use crate::crash;
use crate::data_dir::DataDir;
use crate::data_dir::survey::{Entry, Survey};

/// What is older than this was left behind; the longest change takes minutes.
pub(super) const STALE: Duration = Duration::from_secs(3600);

/// Whether `entry` is older than anything under way at `now`.
pub(super) fn is_stale(entry: &Entry, now: SystemTime) -> bool {
    let age = entry
        .modified()
        .and_then(|modified| now.duration_since(modified).ok());
    age.is_some_and(|age| age > STALE)
}

/// What a node left that ended unexpectedly.
pub(super) fn crashes(dir: &DataDir, found: &mut Findings) {
    const CHECK: &str = "crashes";
    match crash::reports(dir) {
        Ok(reports) => match reports.last() {
            None => found.ok(CHECK, "no reports of crashes"),
            Some(last) => {
                let message = format!(
                    "{} reports of crashes, the last one: {}",
                    reports.len(),
                    last.what
                );
                let fix = format!(
                    "read {}, and remove it once it is dealt with",
                    last.path.display()
                );
                found.warn(CHECK, message, fix);
            }
        },
        Err(error) => {
            let fix = format!("give this user the right to read {}", crash::FOLDER);
            found.warn(
                CHECK,
                format!("reports of crashes cannot be read: {error}"),
                fix,
            );
        }
    }
}

pub(super) fn check(survey: &Survey, found: &mut Findings) {
    const CHECK: &str = "leftovers";
    let named = |entries: Vec<&Entry>| {
        entries
            .iter()
            .map(|entry| entry.shown.clone())
            .collect::<Vec<_>>()
    };
    let temporary = named(survey.temporary().collect());
    let replaced = named(
        survey
            .entries
            .iter()
            .filter(|entry| is_set_aside(entry.folder(), entry.name()))
            .collect(),
    );
    if !replaced.is_empty() {
        let fix = "leave them: the next change there puts back what was being replaced, or clears it away";
        found.warn(
            CHECK,
            format!("a change was interrupted: {}", some(&replaced)),
            fix,
        );
    }
    if !temporary.is_empty() {
        let fix = "kairos-chain doctor --fix removes those that are older than an hour";
        found.warn(CHECK, format!("temporary files: {}", some(&temporary)), fix);
    }
    if replaced.is_empty() && temporary.is_empty() {
        found.ok(CHECK, "no temporary files");
    }

    const UPGRADES: &str = "leftovers.upgrade";
    let set_aside = named(
        survey
            .entries
            .iter()
            .filter(|entry| is_of_an_upgrade(entry))
            .collect(),
    );
    if set_aside.is_empty() {
        found.ok(UPGRADES, "no files set aside by an upgrade");
    } else {
        let fix = "take over what you need and delete them; right below knowledge/ they are listed as skills";
        found.warn(
            UPGRADES,
            format!("set aside by an upgrade: {}", some(&set_aside)),
            fix,
        );
    }
}

/// Whether `entry` is a `NAME.bak.TIME` or `NAME.new` in a place where upgrades make them.
fn is_of_an_upgrade(entry: &Entry) -> bool {
    let name = entry.name();
    let stamped = name
        .rsplit_once(".bak.")
        .is_some_and(|(_, stamp)| stamp.len() == 14 && stamp.bytes().all(|b| b.is_ascii_digit()));
    // In the reference's way beside a piece of knowledge, in ours within it.
    let within = entry
        .folder()
        .strip_prefix("knowledge/")
        .is_some_and(|name| !name.contains('/'));
    let place = within || matches!(entry.folder(), "skills" | "config" | "knowledge");
    place && (stamped || name.ends_with(".new"))
}

/// Directories that a restore left beside the data directory.
pub(super) fn beside(dir: &DataDir, found: &mut Findings) {
    const CHECK: &str = "leftovers.restore";
    let (Some(parent), Some(name)) = (dir.path().parent(), dir.path().file_name()) else {
        return;
    };
    let name = name.to_string_lossy();
    let Ok(entries) = std::fs::read_dir(parent) else {
        return;
    };
    let names: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    let with = |infix: &str| -> Vec<String> {
        let prefix = format!("{name}{infix}");
        let found = names.iter().filter(|name| name.starts_with(&prefix));
        found.cloned().collect()
    };
    let unfinished = with(UNPACKING);
    if !unfinished.is_empty() {
        let fix = "a restore is under way, or was interrupted before it replaced anything; the next one clears it away";
        let told = format!("beside the data directory: {}", some(&unfinished));
        found.warn(CHECK, told, fix);
    }
    let prefix = format!("{name}{REPLACED}");
    let (new, old): (Vec<_>, Vec<_>) = with(REPLACED).into_iter().partition(|name| {
        let stamp = name.strip_prefix(&prefix).unwrap_or_default();
        restore::is_the_new_one(&parent.join(name), stamp)
    });
    if !new.is_empty() {
        let fix = "a restore was interrupted at its last step: these are the restored copies, and the old directory is \
                   in place; delete them, and restore again if you still want to";
        found.warn(
            CHECK,
            format!("restored, but not put in place: {}", some(&new)),
            fix,
        );
    }
    if !old.is_empty() {
        let fix = "delete them when you no longer need what was there before; they hold keys";
        found.warn(CHECK, format!("replaced by a restore: {}", some(&old)), fix);
    }
}
