//! Which nodes of a definition hold, as far as the values at hand decide.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use super::super::eval::Host;
use super::super::model::Node;
use super::super::{Literal, Skill};
use super::condition;

/// What conditions can name.
#[derive(Debug, Clone, Default)]
pub struct Context<'a> {
    values: BTreeMap<String, Bound<'a>>,
}

/// What a name stands for.
#[derive(Debug, Clone)]
pub enum Bound<'a> {
    /// A value.
    Value(Literal),
    /// A skill, which can be asked what of it may change.
    Skill(&'a Skill),
}

impl<'a> Context<'a> {
    /// What the host tells about the agent, by the names that laws use for it, and the skill itself.
    ///
    /// The settings of evolution keep their names, but for those that are told by themselves: `evolution_enabled` and
    /// `evolution_count`. Of the ledger there are `block_count`, `is_valid`, `latest_hash`, `genesis_timestamp` and
    /// `ledger_state`. What the host does not tell is not bound, so what needs it stays undecided. Whoever binds more
    /// may do so with names of these, to ask what would be.
    pub fn of(skill: &'a Skill, host: &dyn Host) -> Self {
        let mut context = Self::default();
        if let Some(Literal::Map(settings)) = host.settings() {
            for (name, value) in settings {
                if let Some(name) = name.text() {
                    context.bind(name, Bound::Value(value.clone()));
                }
            }
        }
        let ledger = host.ledger();
        let block = |last: bool| {
            let ledger = ledger?;
            if last {
                ledger.last.as_ref()
            } else {
                ledger.first.as_ref()
            }
        };
        let number = |value: u64| Literal::integer(value.into());
        let text = |text: &str| Literal::Text(text.to_owned());
        let told = [
            (
                "evolution_enabled",
                host.evolution_enabled().map(Literal::Bool),
            ),
            ("evolution_count", host.evolution_count().and_then(number)),
            (
                "block_count",
                ledger.and_then(|ledger| number(ledger.length)),
            ),
            ("is_valid", ledger.map(|ledger| Literal::Bool(ledger.valid))),
            (
                "ledger_state",
                ledger.map(|ledger| Literal::Symbol(ledger.state.clone())),
            ),
            ("latest_hash", block(true).map(|block| text(&block.hash))),
            (
                "genesis_timestamp",
                block(false).map(|block| text(&block.timestamp)),
            ),
        ];
        for (name, value) in told {
            if let Some(value) = value {
                context.bind(name, Bound::Value(value));
            }
        }
        context.bind("skill", Bound::Skill(skill));
        context
    }

    /// Binds a name; what it stood for before is forgotten.
    pub fn bind(&mut self, name: impl Into<String>, to: Bound<'a>) {
        self.values.insert(name.into(), to);
    }

    /// What `name` stands for.
    pub fn get(&self, name: &str) -> Option<&Bound<'a>> {
        self.values.get(name)
    }
}

/// What is missing for a verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Needs {
    /// A value that was not given, or another one.
    Value,
    /// A person's judgment.
    Person,
}

/// What came of one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// The node's name.
    pub node_name: String,
    /// Its type.
    pub node_type: String,
    /// Whether it holds, or what it would take to tell.
    #[serde(serialize_with = "satisfied")]
    pub verdict: Result<bool, Needs>,
    /// Why.
    pub detail: String,
}

fn satisfied<S: serde::Serializer>(
    verdict: &Result<bool, Needs>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match verdict {
        Ok(verdict) => serializer.serialize_bool(*verdict),
        Err(Needs::Value) => serializer.serialize_str("needs_value"),
        Err(Needs::Person) => serializer.serialize_str("needs_person"),
    }
}

/// How many nodes came out how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Summary {
    /// All nodes.
    pub total: usize,
    /// Those that hold.
    pub passed: usize,
    /// Those that do not.
    pub failed: usize,
    /// Those that a value would decide.
    pub unknown: usize,
    /// Those that a person must judge.
    pub human_required: usize,
}

/// What came of all nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// One for each node, in the order of the definition.
    pub results: Vec<Outcome>,
    /// How many came out how.
    pub summary: Summary,
}

/// Verifies each node of the definition of `skill`.
pub fn verify(skill: &Skill, context: &Context<'_>) -> Report {
    let results: Vec<_> = skill.nodes().map(|node| outcome(node, context)).collect();
    let mut summary = Summary {
        total: results.len(),
        ..Summary::default()
    };
    for result in &results {
        *match result.verdict {
            Ok(true) => &mut summary.passed,
            Ok(false) => &mut summary.failed,
            Err(Needs::Value) => &mut summary.unknown,
            Err(Needs::Person) => &mut summary.human_required,
        } += 1;
    }
    Report { results, summary }
}

fn outcome(node: &Node, context: &Context<'_>) -> Outcome {
    let node_type = node.kind();
    let (verdict, detail) = judged(node, &node_type, context);
    Outcome {
        node_name: node.name.to_string(),
        node_type,
        verdict,
        detail,
    }
}

/// A verdict and its reason.
pub(super) type Judged = (Result<bool, Needs>, String);

fn judged(node: &Node, kind: &str, context: &Context<'_>) -> Judged {
    let given = |name: &str| node.option(name).filter(|value| **value != Literal::Nil);
    match kind {
        "Constraint" => match given("condition") {
            Some(condition) => condition::judge(&condition.to_string(), context),
            None if node.option("required") == Some(&Literal::Bool(true)) => (
                Ok(true),
                "Required constraint declared (structural)".to_owned(),
            ),
            None => (
                Ok(true),
                "Constraint declared (no condition to evaluate)".to_owned(),
            ),
        },
        "Check" => match given("condition") {
            Some(condition) => condition::judge(&condition.to_string(), context),
            None => (Err(Needs::Person), "No condition specified".to_owned()),
        },
        "Plan" => match node.option("steps") {
            Some(Literal::Array(steps)) if !steps.is_empty() => {
                let detail = format!("Plan has {} steps: {}", steps.len(), arrows(steps));
                (Ok(true), detail)
            }
            _ => (Ok(false), "Plan has no steps defined".to_owned()),
        },
        "ToolCall" => match given("command").map(ToString::to_string) {
            Some(command) if !command.trim().is_empty() => {
                (Ok(true), format!("Command recognized: {command}"))
            }
            _ => (Ok(false), "No command specified".to_owned()),
        },
        "SemanticReasoning" => {
            let prompt = given("prompt").map(ToString::to_string);
            let prompt = prompt.unwrap_or_else(|| "(no prompt)".to_owned());
            let detail = format!("Requires human judgment: {prompt}");
            (Err(Needs::Person), detail)
        }
        other => (Err(Needs::Person), format!("Unknown node type: {other}")),
    }
}

/// Steps one after the other.
pub(super) fn arrows(steps: &[Literal]) -> String {
    let steps: Vec<_> = steps.iter().map(ToString::to_string).collect();
    steps.join(" -> ")
}

impl Report {
    /// The report on the skill `id` for people, in the reference's form.
    pub fn markdown(&self, id: &str) -> String {
        let Summary {
            total,
            passed,
            failed,
            unknown,
            human_required,
        } = self.summary;
        let mut text = format!(
            "## Verification Report: {id}\n\n**Summary**: {passed} passed, {failed} failed, {unknown} unknown, \
             {human_required} human-required ({total} total)\n\n"
        );
        // Writing to a text never fails.
        for result in &self.results {
            let icon = match result.verdict {
                Ok(true) => "✅",
                Ok(false) => "❌",
                Err(Needs::Value) => "❓",
                Err(Needs::Person) => "🧑",
            };
            let (kind, name, detail) = (&result.node_type, &result.node_name, &result.detail);
            let _ = writeln!(text, "{icon} **{kind}** `{name}` — {detail}");
        }
        let status = match (passed, failed) {
            (0, 0) => "Nothing was decided.",
            (_, 0) => "All deterministic constraints satisfied.",
            _ => "Some constraints not satisfied or not evaluable.",
        };
        let _ = write!(text, "\n**Status**: {status}");
        let mut people = self.results.iter();
        if human_required > 0 {
            text.push_str("\n\n### Human Judgment Required\n");
            while let Some(Outcome {
                node_name, detail, ..
            }) = people.find(|result| result.verdict == Err(Needs::Person))
            {
                let _ = writeln!(text, "- `{node_name}`: {detail}");
            }
        }
        text
    }
}
