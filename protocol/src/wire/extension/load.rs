//! The order of extensions: what is needed comes before what needs it.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::guard::CORE_ACTIONS;
use super::{Extension, Word};

/// Two that cannot both be, of which the first was kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Collision {
    /// Two extensions of one name.
    Name {
        /// The name.
        name: Word,
    },
    /// Two extensions name one action, or one names an action of the core.
    Action {
        /// The action.
        action: Word,
        /// Who keeps it; nobody, if it is the core's.
        kept_by: Option<Word>,
        /// Who does not have it.
        lost_by: Word,
    },
}

/// Extensions in their order, and what of them is not in effect.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Loaded<'a> {
    /// Those that are in effect: what is needed first, otherwise by name.
    pub order: Vec<&'a Extension>,
    /// Actions in the order of their extensions, and whose each is.
    pub actions: Vec<(&'a Word, &'a Word)>,
    /// What was not taken.
    pub collisions: Vec<Collision>,
    /// Those that are left out, since they need what is not there, or each other.
    pub left_out: Vec<&'a Extension>,
}

/// Puts extensions in their order. The order in which they are given makes no difference, but for two of one name.
pub fn load<'a>(extensions: &[&'a Extension]) -> Loaded<'a> {
    let mut loaded = Loaded::default();
    let mut waiting: BTreeMap<&Word, &'a Extension> = BTreeMap::new();
    for extension in extensions.iter().copied() {
        match waiting.contains_key(&extension.name) {
            true => loaded.collisions.push(Collision::Name {
                name: extension.name.clone(),
            }),
            false => {
                waiting.insert(&extension.name, extension);
            }
        }
    }
    let mut there: BTreeSet<&str> =
        BTreeSet::from([super::CORE, "meeting_protocol_skillset_exchange"]);
    loop {
        let ready = waiting.iter().find(|(_, extension)| {
            let mut needed = extension.requires.iter().chain(&extension.extends);
            needed.all(|wanted| there.contains(wanted.as_str()))
        });
        let Some((name, extension)) = ready.map(|(name, extension)| (*name, *extension)) else {
            break;
        };
        waiting.remove(name);
        there.insert(name.as_str());
        loaded.order.push(extension);
    }
    loaded.left_out = waiting.into_values().collect();
    let mut owners: BTreeMap<&Word, &Word> = BTreeMap::new();
    for extension in &loaded.order {
        for action in &extension.actions {
            let core = CORE_ACTIONS.contains(&action.as_str());
            match owners.get(action).copied() {
                None if !core => {
                    owners.insert(action, &extension.name);
                    loaded.actions.push((action, &extension.name));
                }
                kept_by => loaded.collisions.push(Collision::Action {
                    action: action.clone(),
                    kept_by: kept_by.cloned(),
                    lost_by: extension.name.clone(),
                }),
            }
        }
    }
    loaded
}
