//! The skills of this node as they were when last looked at. Pure.

use std::collections::HashMap;

use kairos_protocol::skill::Skill;
use kairos_protocol::skill::agent_skill::PROVENANCE;
use kairos_protocol::wire::listing::SkillEntry;
use serde_json::{Map, Value};

/// A file that is not offered, for its owner to see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfit {
    /// Path below the data directory; what is not UTF-8 is replaced.
    pub path: String,
    /// Why it is not offered.
    pub reason: String,
}

/// All skills in the order they are listed: depth first, the names of each directory in byte order.
#[derive(Debug, Default)]
pub struct Catalogue {
    skills: Vec<Skill>,
    entries: Vec<SkillEntry>,
    unfit: Vec<Unfit>,
    /// Place of the first skill that answers to an id or a name.
    by_name: HashMap<String, usize>,
    /// The same among the public ones.
    public_by_name: HashMap<String, usize>,
}

impl Catalogue {
    pub(super) fn new(skills: Vec<Skill>, unfit: Vec<Unfit>) -> Self {
        let mut by_name = HashMap::new();
        let mut public_by_name = HashMap::new();
        for (place, skill) in skills.iter().enumerate() {
            for text in [&skill.id, &skill.name] {
                by_name.entry(text.clone()).or_insert(place);
                if skill.public {
                    public_by_name.entry(text.clone()).or_insert(place);
                }
            }
        }
        let entries = skills
            .iter()
            .filter(|s| s.public)
            .map(Skill::entry)
            .collect();
        Self {
            skills,
            entries,
            unfit,
            by_name,
            public_by_name,
        }
    }

    /// Every skill, for the owner.
    pub fn all(&self) -> &[Skill] {
        &self.skills
    }

    /// The public skills, as peers see them.
    pub fn entries(&self) -> &[SkillEntry] {
        &self.entries
    }

    /// The first skill that answers to this id or name, for the owner.
    pub fn find(&self, wanted: &str) -> Option<&Skill> {
        self.skills.get(*self.by_name.get(wanted)?)
    }

    /// The first public skill that answers to this id or name, for peers.
    pub fn find_public(&self, wanted: &str) -> Option<&Skill> {
        self.skills.get(*self.public_by_name.get(wanted)?)
    }

    /// What was left out, and why.
    pub fn unfit(&self) -> &[Unfit] {
        &self.unfit
    }
}

/// What the sidecar of a knowledge entry says about sharing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sharing {
    /// There is no sidecar, or it does not say: the frontmatter decides.
    Unsaid,
    /// The main text is public whatever its frontmatter says; for other texts theirs decides.
    Shared,
    /// Nothing of the entry is public.
    Private,
}

impl Sharing {
    pub(super) fn of(sidecar: &Map<String, Value>) -> Self {
        match sidecar.get("share") {
            _ if Self::carries_scripts(sidecar) => Self::Private,
            None => Self::Unsaid,
            Some(Value::Bool(true)) => Self::Shared,
            Some(_) => Self::Private,
        }
    }

    /// Whether something in the entry could run when it was imported.
    pub(super) fn carries_scripts(sidecar: &Map<String, Value>) -> bool {
        match sidecar.get("scripts") {
            None => false,
            Some(Value::Array(scripts)) => !scripts.is_empty(),
            Some(_) => true,
        }
    }

    /// Whether a skill is public, given what its frontmatter says.
    pub(super) fn decide(self, skill: &Skill) -> bool {
        match self {
            Self::Unsaid => skill.public,
            Self::Private => false,
            Self::Shared => skill.public || is_main(&skill.path),
        }
    }
}

/// The knowledge entry that a path below the data directory belongs to: the directory right below `knowledge/`.
pub(super) fn entry_of(path: &str) -> Option<&str> {
    let (entry, _rest) = path.strip_prefix("knowledge/")?.split_once('/')?;
    Some(entry)
}

/// Whether the path is the main text of its entry: `knowledge/<name>/<name>.md`.
pub(super) fn is_main(path: &str) -> bool {
    entry_of(path).is_some_and(|entry| path == main_path(entry))
}

pub(super) fn main_path(entry: &str) -> String {
    format!("knowledge/{entry}/{entry}.md")
}

pub(super) fn sidecar_path(entry: &str) -> String {
    format!("knowledge/{entry}/{PROVENANCE}")
}

#[cfg(test)]
mod tests {
    use kairos_protocol::skill::ReadOptions;
    use serde_json::json;

    use super::*;

    fn skill(path: &str, public: bool) -> Skill {
        let text = format!("---\npublic: {public}\n---\n");
        Skill::parse(path, text.as_bytes(), &ReadOptions::default()).unwrap()
    }

    #[test]
    fn the_first_of_a_name_wins_and_peers_see_only_what_is_public() {
        let skills = vec![
            skill("knowledge/a/dup.md", false),
            skill("knowledge/b/dup.md", true),
            skill("knowledge/c/dup.md", true),
        ];
        let catalogue = Catalogue::new(skills.clone(), Vec::new());
        assert_eq!(catalogue.find("dup"), Some(&skills[0]));
        assert_eq!(catalogue.find_public("dup"), Some(&skills[1]));
        assert_eq!(catalogue.find_public(&skills[2].id), Some(&skills[2]));
        assert_eq!(catalogue.find_public(&skills[0].id), None);
        assert_eq!(catalogue.find(""), None);
        assert_eq!(
            catalogue.entries().len(),
            2,
            "both are listed, as the reference lists them"
        );
    }

    #[test]
    fn a_sidecar_overrules_the_frontmatter_and_scripts_overrule_both() {
        let main = |public| skill("knowledge/a/a.md", public);
        let side = |public| skill("knowledge/a/references/b.md", public);
        for (sidecar, main_public, main_private, side_public, side_private) in [
            (json!({}), true, false, true, false),
            (json!({"share": false}), false, false, false, false),
            (json!({"share": true}), true, true, true, false),
            (json!({"share": "yes"}), false, false, false, false),
            (
                json!({"share": true, "scripts": []}),
                true,
                true,
                true,
                false,
            ),
            (
                json!({"share": true, "scripts": ["x.py"]}),
                false,
                false,
                false,
                false,
            ),
            (json!({"scripts": 7}), false, false, false, false),
        ] {
            let sharing = Sharing::of(sidecar.as_object().unwrap());
            let decided =
                [main(true), main(false), side(true), side(false)].map(|s| sharing.decide(&s));
            assert_eq!(
                decided,
                [main_public, main_private, side_public, side_private],
                "{sidecar}"
            );
        }
    }

    #[test]
    fn a_main_text_bears_the_name_of_its_entry() {
        assert!(is_main("knowledge/a/a.md"));
        for other in [
            "knowledge/a.md",
            "knowledge/a/b.md",
            "knowledge/a/a/a.md",
            "a/a.md",
        ] {
            assert!(!is_main(other), "{other}");
        }
        assert_eq!(entry_of("knowledge/a/b/c.md"), Some("a"));
        assert_eq!(entry_of("knowledge/a.md"), None);
    }
}
