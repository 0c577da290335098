//! What an agent tells about itself, for conditions of definitions and for code of the law: one way to put it together.
//!
//! Whoever verifies a definition, judges a change of the law, or runs a tool of it, gives it these facts, so that the same
//! law comes out the same everywhere. They hold no path of this machine, no secret, and nothing of what is recorded but
//! the ends of the ledger: whoever may read the law may read them.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::Literal;
use super::eval::{Facts, LedgerFacts};
use super::gate::Settings;
use crate::skill::frontmatter::{self, Reading};

/// The settings that are told, with what each is where nothing is said; the rest of the file is nobody's business.
fn told() -> [(&'static str, Value); 9] {
    [
        ("enabled", json!(true)),
        ("evolution_enabled", json!(false)),
        ("max_evolutions_per_session", json!(3)),
        ("require_human_approval", json!(true)),
        ("immutable_skills", json!(["core_safety"])),
        ("kairos_meta_skills", Value::Null),
        ("instructions_mode", Value::Null),
        ("skill_tools_enabled", json!(false)),
        ("layers", Value::Null),
    ]
}

/// The layers: what each is called, where it is, whether it may change, what the ledger holds of it, and its form.
const LAYERS: [(&str, &str, bool, &str, &str); 4] = [
    (
        "L0_constitution",
        "skills/kairos.md",
        false,
        "none",
        "markdown",
    ),
    ("L0_law", "skills/kairos.rb", true, "full", "ruby_dsl"),
    ("L1", "knowledge/", true, "hash_only", "anthropic_skill"),
    ("L2", "context/", true, "none", "anthropic_skill"),
];

/// What is known of an agent.
#[derive(Debug, Clone, Default)]
pub struct Known<'a> {
    /// `skills/config.yml`, whole.
    pub settings: &'a str,
    /// Changes of the law that this session has had; nothing where nobody could count them.
    pub used: Option<u32>,
    /// Whether former laws can be kept.
    pub keeps_versions: bool,
    /// What the ledger is like; nothing where nobody could look.
    pub ledger: Option<LedgerFacts>,
}

impl Facts {
    /// What `known` tells to conditions and to code of the law. Paths are those below the data directory.
    pub fn of_agent(known: Known<'_>) -> Self {
        let given = match frontmatter::read(known.settings) {
            Reading::Mapping(members) => members,
            Reading::Empty | Reading::Other(_) | Reading::Unreadable => Map::new(),
        };
        let members = told().into_iter().filter_map(|(name, unsaid)| {
            let value = given.get(name).filter(|value| !value.is_null());
            let value = value.unwrap_or(&unsaid);
            (!value.is_null()).then(|| (Literal::Text(name.to_owned()), plain(value)))
        });
        let mut directories = BTreeSet::from(["skills".to_owned()]);
        if known.keeps_versions {
            directories.insert("skills/versions".to_owned());
        }
        Self {
            settings: Some(Literal::Map(members.collect())),
            evolution_enabled: Some(Settings::read(known.settings).enabled),
            evolution_count: known.used.map(u64::from),
            law_path: Some("skills/kairos.rb".to_owned()),
            directories: Some(directories),
            layers: Some(layers()),
            ledger: known.ledger,
        }
    }
}

fn layers() -> Literal {
    let symbol = |name: &str| Literal::Symbol(name.to_owned());
    let layers = LAYERS.map(|(layer, path, mutable, ledger, format)| {
        Literal::Map(vec![
            (symbol("layer"), symbol(layer)),
            (symbol("path"), Literal::Text(path.to_owned())),
            (symbol("mutable"), Literal::Bool(mutable)),
            (symbol("blockchain"), symbol(ledger)),
            (symbol("format"), symbol(format)),
        ])
    });
    Literal::Array(layers.into())
}

/// A value that somebody gives for a name in a condition: a text that begins with `:` is a symbol.
pub fn given(value: &Value) -> Literal {
    match value {
        Value::String(text) => match text.strip_prefix(':') {
            Some(name) => Literal::Symbol(name.to_owned()),
            None => Literal::Text(text.clone()),
        },
        Value::Array(items) => Literal::Array(items.iter().map(given).collect()),
        Value::Object(members) => {
            let pairs = members.iter();
            let pairs = pairs.map(|(name, value)| (given(&json!(name)), given(value)));
            Literal::Map(pairs.collect())
        }
        other => plain(other),
    }
}

/// A value as it stands in YAML; its depth is bounded by the reader of that.
fn plain(value: &Value) -> Literal {
    match value {
        Value::Null => Literal::Nil,
        Value::Bool(value) => Literal::Bool(*value),
        Value::Number(number) => match number.as_f64().filter(|_| number.is_f64()) {
            Some(float) => Literal::Float(float),
            None => Literal::Integer(number.clone()),
        },
        Value::String(text) => Literal::Text(text.clone()),
        Value::Array(items) => Literal::Array(items.iter().map(plain).collect()),
        Value::Object(members) => {
            let pairs = members.iter();
            let pairs = pairs.map(|(name, value)| (Literal::Text(name.clone()), plain(value)));
            Literal::Map(pairs.collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::definition::{Context, Needs, verify};
    use super::super::{Keyword, Law, eval};
    use super::*;

    const OURS: &str = include_str!("../../../node/templates/skills/kairos.rb");
    const SETTINGS: &str = include_str!("../../../node/templates/skills/config.yml");

    fn facts(settings: &str) -> Facts {
        Facts::of_agent(Known {
            settings,
            used: Some(2),
            keeps_versions: true,
            ledger: Some(LedgerFacts {
                state: "readable".to_owned(),
                valid: true,
                length: 4,
                first: None,
                last: None,
            }),
        })
    }

    #[test]
    fn every_condition_of_an_agent_is_decided_by_what_it_knows() {
        let source = r#"skill :a do
          definition do
            check :on, condition: "evolution_enabled == true"
            check :left, condition: "evolution_count < max_evolutions_per_session"
            check :asked, condition: "require_human_approval == true"
            check :mutable, condition: "skill not in immutable_skills"
            check :whole, condition: "is_valid == true"
            check :long, condition: "block_count > 3"
            check :state, condition: "ledger_state == :readable"
            check :mode, condition: "instructions_mode == \"user\""
          end
        end"#;
        let law = Law::read(source.as_bytes());
        let skill = law.skill("a").unwrap();
        let decided = |facts: &Facts| -> Vec<_> {
            let report = verify(skill, &Context::of(skill, facts));
            report
                .results
                .into_iter()
                .map(|result| result.verdict)
                .collect()
        };
        let on = SETTINGS.replace("evolution_enabled: false", "evolution_enabled: true");
        assert_eq!(decided(&facts(&on)), [Ok(true); 8]);
        let off = decided(&facts(SETTINGS));
        assert_eq!((off[0], &off[1..]), (Ok(false), &[Ok(true); 7][..]));
        // What is not said is what the reference takes it for; what cannot be read allows nothing.
        let silent = decided(&facts(""));
        assert_eq!(silent[..7], off[..7]);
        assert_eq!(silent[7], Err(Needs::Value));
        assert_eq!(decided(&facts("a: ["))[0], Ok(false));
    }

    #[test]
    fn values_that_are_given_are_those_of_json_and_symbols() {
        let value = json!({"a": [1, ":b", "c", null], ":d": 1.5});
        let shown = r#"{"a"=>[1, :b, "c", nil], :d=>1.5}"#;
        assert_eq!(given(&value).inspect(), shown);
    }

    #[test]
    fn the_law_of_new_agents_is_evaluated_with_them_and_nothing_of_the_machine_is_told() {
        let law = Law::read(OURS.as_bytes());
        let settings = format!("{SETTINGS}\ntoken_store: /home/somebody/tokens\n");
        let facts = facts(&settings);
        assert!(!format!("{facts:?}").contains("somebody"));
        let blocks = law.skills.iter();
        for skill in blocks.filter(|skill| skill.member(Keyword::Behavior).is_some()) {
            let limits = eval::Limits::default();
            let mut evaluation = eval::Evaluation::new(&law, OURS, &facts, limits);
            let answer = evaluation.behavior(&skill.id).unwrap();
            evaluation.literal(answer).unwrap();
        }
    }
}
