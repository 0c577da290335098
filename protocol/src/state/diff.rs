//! What changed between two states.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::{Layers, Tree};
use crate::block::entry::StateSummary;

/// A state to compare. Snapshots of the reference have no tree.
#[derive(Debug, Clone, Copy)]
pub struct Side<'a> {
    /// Its layers.
    pub layers: &'a Layers,
    /// Its files.
    pub tree: Option<&'a Tree>,
}

/// Names that changed in one layer, each list in order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct LayerDiff {
    /// There now, and not before.
    pub added: Vec<String>,
    /// There before and now, and not the same.
    pub modified: Vec<String>,
    /// There before, and not now.
    pub deleted: Vec<String>,
}

/// What changed between two states.
///
/// Where both have a tree, an entry or session also counts as modified if any file of it is another. Else only the
/// hashes of manifests speak, which know no text of L2.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Diff {
    /// Whether anything of L0 did, outside of skills too.
    pub l0_changed: bool,
    /// Skills of L0.
    pub l0: LayerDiff,
    /// Entries of L1.
    pub l1: LayerDiff,
    /// Sessions of L2.
    pub l2: LayerDiff,
    /// New entries of L1 that were a context of L2.
    pub promotions: Vec<String>,
    /// Entries of L1 that were put away.
    pub demotions: Vec<String>,
    /// Whether any byte of any layer changed, what no list tells included; also where nobody can know.
    pub changed: bool,
}

/// What is known of one entry: its hash in the manifest, and that of its files.
type Facts = (Option<String>, Option<String>);

impl LayerDiff {
    fn between(before: &BTreeMap<String, Facts>, after: &BTreeMap<String, Facts>) -> Self {
        let only = |ours: &BTreeMap<String, Facts>, theirs: &BTreeMap<String, Facts>| {
            ours.keys()
                .filter(|name| !theirs.contains_key(*name))
                .cloned()
                .collect()
        };
        let modified = after
            .iter()
            .filter(|(name, now)| before.get(*name).is_some_and(|then| then != *now));
        Self {
            added: only(after, before),
            modified: modified.map(|(name, _)| name.clone()).collect(),
            deleted: only(before, after),
        }
    }

    /// Number of names.
    pub fn len(&self) -> usize {
        self.added.len() + self.modified.len() + self.deleted.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Diff {
    /// Compares two states. `promoted` are entries of which the ledger says that they were promoted.
    pub fn between(before: Option<Side<'_>>, after: Side<'_>, promoted: &BTreeSet<String>) -> Self {
        let trees = before.and_then(|before| Some((before.tree?, after.tree?)));
        let nothing = Layers::default();
        let layers = before.map_or(&nothing, |before| before.layers);
        let old_tree = trees.map(|(old, _)| old);
        let new_tree = after.tree.filter(|_| trees.is_some() || before.is_none());
        let facts = |root: &str, hashes: fn(&Layers) -> BTreeMap<&str, Option<&str>>| {
            let old = gather(hashes(layers), old_tree, root);
            let new = gather(hashes(after.layers), new_tree, root);
            LayerDiff::between(&old, &new)
        };
        let skills = LayerDiff::between(
            &gather(layers.skills(), None, ""),
            &gather(after.layers.skills(), None, ""),
        );
        let file = |member| layers.law(member) != after.layers.law(member);
        let mut diff = Self {
            l0_changed: before.is_none()
                || !skills.is_empty()
                || file("dsl_file_hash")
                || file("md_file_hash"),
            l0: skills,
            l1: facts("knowledge/", Layers::knowledge),
            l2: facts("context/", Layers::sessions),
            ..Self::default()
        };
        if before.is_some() {
            let contexts: BTreeSet<_> = contexts(old_tree).chain(contexts(after.tree)).collect();
            let promoted =
                |name: &&String| promoted.contains(*name) || contexts.contains(name.as_str());
            diff.promotions = diff.l1.added.iter().filter(promoted).cloned().collect();
            let archived = after.layers.archived();
            let away = |name: &&String| archived.contains_key(name.as_str());
            diff.demotions = diff.l1.deleted.iter().filter(away).cloned().collect();
        }
        diff.changed = match (before, trees) {
            (None, _) => true,
            (Some(_), Some((old, new))) => old != new,
            // What has no hash may be anything.
            (Some(before), None) => match (before.layers.combined(), after.layers.combined()) {
                (Some(then), Some(now)) => then != now,
                _ => true,
            },
        };
        diff
    }

    /// The counts that the ledger holds.
    pub fn summary(&self) -> StateSummary {
        let count = |names: &[String]| names.len() as u64;
        let total = u64::from(self.l0_changed)
            + (self.l1.len() + self.l2.len() + self.promotions.len() + self.demotions.len()) as u64;
        StateSummary {
            l0_changed: self.l0_changed,
            l1_added: count(&self.l1.added),
            l1_modified: count(&self.l1.modified),
            l1_deleted: count(&self.l1.deleted),
            l2_sessions_added: count(&self.l2.added),
            l2_sessions_deleted: count(&self.l2.deleted),
            promotions: count(&self.promotions),
            demotions: count(&self.demotions),
            total_changes: total,
            l2_sessions_modified: count(&self.l2.modified),
        }
    }
}

/// What is known of each entry of a layer. Hidden names, such as the archive, are not entries.
fn gather(
    hashes: BTreeMap<&str, Option<&str>>,
    tree: Option<&Tree>,
    root: &str,
) -> BTreeMap<String, Facts> {
    let mut facts: BTreeMap<String, Facts> = BTreeMap::new();
    for (name, hash) in hashes {
        facts.entry(name.to_owned()).or_default().0 = hash.map(str::to_owned);
    }
    let children = tree.map(|tree| tree.children(root)).unwrap_or_default();
    for (name, hash) in children
        .into_iter()
        .filter(|(name, _)| !name.starts_with('.'))
    {
        facts.entry(name.to_owned()).or_default().1 = Some(hash.to_hex());
    }
    facts
}

/// The names of all contexts of all sessions.
fn contexts(tree: Option<&Tree>) -> impl Iterator<Item = &str> {
    let name = |path| {
        let mut parts = str::strip_prefix(path, "context/")?.splitn(3, '/').skip(1);
        let name = parts.next()?;
        parts.next().map(|_file| name)
    };
    let files = tree.into_iter().flat_map(Tree::files);
    files.filter_map(move |(path, _)| name(path))
}
