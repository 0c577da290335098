//! The names of what passes: locks, what is on its way somewhere else, and what stands for something that is being
//! replaced. One list for those who make such files and for those who walk over a data directory.

/// Name of the lock of a directory, a dot-file that no listing shows. A file is locked by `NAME.lock` beside it.
pub const LOCK: &str = ".lock";
/// Where messages of peers are, below the data directory. It is its own lock.
pub const INBOX: &str = "storage/inbox.jsonl";
/// What a change of knowledge is about to do. While it is there, what lies [`STAGED`] beside it is still needed.
pub const INTENT: &str = ".intent.json";
/// The intent while it is written.
pub(crate) const INTENT_NEW: &str = ".intent.new";

/// Start of the name of what is prepared beside its target.
pub const STAGED: &str = ".staged-";
/// Start of the name of a file that is about to take the place of another one.
pub const FRESH: &str = ".new-";
/// Start of the name of a SkillSet that is prepared or thrown away.
pub(crate) const SKILL_SET: &str = ".tmp-";
/// Start of the name of a file that a restore of the state is about to put in its place.
pub(crate) const RESTORED: &str = ".restore-";
/// Start of the name of the directory in which a backup is prepared. It holds a [`LOCK`] of its own.
pub const BACKING_UP: &str = ".backup-";
/// How the names begin and end of files that `init` and `upgrade` write.
pub const WHOLE: (&str, &str) = (".kairos-", ".tmp");

/// Start of the name of a directory that is being replaced or removed.
pub(crate) const REPLACED: &str = ".replaced-";
/// Start of the name of a SkillSet that is being replaced.
pub(crate) const SKILL_SET_OLD: &str = ".old-";

/// The layers that the owner and this program both write to.
const LAYERS: [&str; 3] = ["knowledge", "context", "skills"];
/// What only this program writes to.
const OURS: [&str; 2] = ["storage", "keys"];
/// Directories whose entries are replaced as a whole.
const REPLACING: [&str; 5] = [
    "knowledge",
    "context",
    "skills",
    "storage/quarantine",
    "storage/approvals",
];
const SKILL_SETS: &str = "skillsets";

/// Whether the file or directory `name` in `folder`, a path below the data directory, is on its way somewhere else and
/// worth nothing once whoever made it is gone. Where an [`INTENT`] is, what is [`STAGED`] is worth something
/// nevertheless.
pub fn is_temporary(folder: &str, name: &str) -> bool {
    // Editors and packages use dot-files too: only where this program makes such names.
    let below = |roots: &[&str]| {
        let top = folder.split('/').next().unwrap_or_default();
        roots.contains(&top)
    };
    let begins = |starts: &[&str]| starts.iter().any(|start| name.starts_with(start));
    let (start, end) = WHOLE;
    begins(&[STAGED, FRESH, RESTORED]) && below(&LAYERS)
        || begins(&[STAGED, FRESH, BACKING_UP]) && below(&OURS)
        || begins(&[SKILL_SET]) && folder == SKILL_SETS
        || begins(&[start]) && name.ends_with(end)
}

/// Whether `name` in `folder` stands for something that was being replaced, and may be all there is of it.
pub fn is_set_aside(folder: &str, name: &str) -> bool {
    match folder {
        SKILL_SETS => name.starts_with(SKILL_SET_OLD),
        folder => REPLACING.contains(&folder) && name.starts_with(REPLACED),
    }
}

/// Whether `name` in a layer is no part of it.
pub(crate) fn is_no_content(name: &str) -> bool {
    [LOCK, INTENT, INTENT_NEW].contains(&name)
        || [STAGED, FRESH, RESTORED, REPLACED]
            .iter()
            .any(|start| name.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_ours_pass_and_only_where_we_make_them() {
        for (folder, name, temporary, aside) in [
            ("knowledge", ".staged-x", true, false),
            ("knowledge/tea", ".new-x", true, false),
            ("context/s/c", ".restore-x", true, false),
            ("storage/snapshots/objects/ab", ".staged-x", true, false),
            ("storage", ".backup-x", true, false),
            ("keys", ".new-x", true, false),
            ("skillsets", ".tmp-x", true, false),
            ("config", ".kairos-x.tmp", true, false),
            ("", ".kairos-x.tmp", true, false),
            ("skillsets/brew", ".tmp-x", false, false),
            ("knowledge", ".old-notes", false, false),
            ("knowledge", "staged", false, false),
            ("", ".new-x", false, false),
            ("knowledge", ".replaced-tea", false, true),
            ("storage/approvals", ".replaced-x", false, true),
            ("skillsets", ".old-brew-1", false, true),
        ] {
            let found = (is_temporary(folder, name), is_set_aside(folder, name));
            assert_eq!(found, (temporary, aside), "{folder} {name}");
        }
    }
}
