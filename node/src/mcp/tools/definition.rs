//! `definition_verify`, `definition_decompile` and `definition_drift`: what the structural part of a skill of the law
//! says, which of it holds, and where it and the content went apart. Nothing of it is run.

use kairos_place::role::Action;
use kairos_protocol::dsl::definition::{
    Bound, Context, Direction, Needs, decompile, drift, verify,
};
use kairos_protocol::dsl::facts::given;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::skills::{found, law};
use crate::mcp::agent::AgentDoor;
use crate::mcp::call::Call;
use crate::mcp::tool::{Answer, Hints, Refusal, Tool};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Which {
    /// The id of the skill in the law.
    skill_id: String,
}

/// Most values that may be given for a verification.
const VALUES_MAX: usize = 64;

pub(super) struct Verify;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Claims {
    /// The id of the skill in the law.
    skill_id: String,
    /// Values for names in conditions, instead of what the agent knows: what would hold if it were so. A text that begins
    /// with `:` is a symbol.
    #[serde(default)]
    context: Map<String, Value>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Verified {
    /// The skill.
    skill_id: String,
    /// Whether it has a definition; without one there is nothing to verify.
    has_definition: bool,
    /// Nodes that hold.
    passed: usize,
    /// Nodes that do not.
    failed: usize,
    /// Nodes that a value would decide which is not known here.
    unknown: usize,
    /// Nodes that a person must judge.
    human_required: usize,
    /// Each node, in the order of the definition.
    nodes: Vec<Node>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Node {
    /// Its name.
    name: String,
    /// Its kind.
    kind: String,
    /// `holds`, `fails`, `needs_value` or `needs_person`.
    verdict: &'static str,
    /// Why.
    detail: String,
}

impl Tool<AgentDoor> for Verify {
    const NAME: &'static str = "definition_verify";
    const TITLE: &'static str = "Verify a definition";
    const ABOUT: &'static str = "Tells which nodes of the definition of a skill of the law hold, and which a person must judge. Conditions are \
         decided by the agent's settings and ledger, and by values that you give.";
    const NEEDS: Action = Action::ReadKnowledge;
    const HINTS: Hints = Hints::READ;
    type Params = Claims;
    type Output = Verified;

    async fn call(
        door: &AgentDoor,
        _call: &Call,
        params: Claims,
    ) -> Result<Answer<Verified>, Refusal> {
        let law = law(door).await?;
        let skill = found(&law, &params.skill_id)?;
        if params.context.len() > VALUES_MAX {
            return Err(Refusal::say(format!(
                "`context` has {VALUES_MAX} values at most."
            )));
        }
        let facts = door.agent.handles.skills.facts().await?;
        let mut context = Context::of(skill, &facts);
        for (name, value) in &params.context {
            context.bind(name, Bound::Value(given(value)));
        }
        let report = verify(skill, &context);
        let has_definition = skill.definition().is_some();
        let text = match has_definition {
            true => report.markdown(&skill.id),
            false => format!(
                "## Verification: {}\n\nThis skill has no definition block. Verification requires a structural \
                 definition layer.\n\nUse `skills_dsl_get` to view the skill's content layer.",
                skill.id
            ),
        };
        let nodes = report.results.into_iter().map(|result| Node {
            name: result.node_name,
            kind: result.node_type,
            verdict: match result.verdict {
                Ok(true) => "holds",
                Ok(false) => "fails",
                Err(Needs::Value) => "needs_value",
                Err(Needs::Person) => "needs_person",
            },
            detail: result.detail,
        });
        let summary = report.summary;
        let data = Verified {
            skill_id: skill.id.clone(),
            has_definition,
            passed: summary.passed,
            failed: summary.failed,
            unknown: summary.unknown,
            human_required: summary.human_required,
            nodes: nodes.collect(),
        };
        Ok(Answer::new(text, data))
    }
}

pub(super) struct Decompile;

#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Decompiled {
    /// The skill.
    skill_id: String,
    /// What its definition says, in words; null if it has none.
    definition: Option<String>,
}

impl Tool<AgentDoor> for Decompile {
    const NAME: &'static str = "definition_decompile";
    const TITLE: &'static str = "A definition in words";
    const ABOUT: &'static str = "Says in words what the definition of a skill of the law says.";
    const NEEDS: Action = Action::ReadKnowledge;
    const HINTS: Hints = Hints::READ;
    type Params = Which;
    type Output = Decompiled;

    async fn call(
        door: &AgentDoor,
        _call: &Call,
        params: Which,
    ) -> Result<Answer<Decompiled>, Refusal> {
        let law = law(door).await?;
        let skill = found(&law, &params.skill_id)?;
        let definition = skill.definition().is_some().then(|| decompile(skill));
        let text = match &definition {
            Some(definition) => format!(
                "## Decompile: {}\n\nThe following is a natural language reconstruction of the structural \
                 definition:\n\n{definition}",
                skill.id
            ),
            None => format!(
                "## Decompile: {}\n\nThis skill has no definition block to decompile.\nThe skill exists only as natural \
                 language content.",
                skill.id
            ),
        };
        let data = Decompiled {
            skill_id: skill.id.clone(),
            definition,
        };
        Ok(Answer::new(text, data))
    }
}

pub(super) struct Drifted;

#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Apart {
    /// The skill.
    skill_id: String,
    /// Whether it has a definition; without one there is nothing to compare.
    has_definition: bool,
    /// Which part of the nodes the content speaks of, from 0 to 1; null if there are no nodes.
    coverage_ratio: Option<f64>,
    /// What one side says and the other does not.
    items: Vec<Item>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Item {
    /// `definition_orphaned`: the content does not speak of the node. `content_uncovered`: no node speaks of the demand.
    direction: &'static str,
    /// The node; null for a demand of the content.
    node: Option<String>,
    /// The sentence about it.
    description: String,
}

impl Tool<AgentDoor> for Drifted {
    const NAME: &'static str = "definition_drift";
    const TITLE: &'static str = "Where a definition went apart";
    const ABOUT: &'static str =
        "Tells where the definition of a skill of the law and its content say different things.";
    const NEEDS: Action = Action::ReadKnowledge;
    const HINTS: Hints = Hints::READ;
    type Params = Which;
    type Output = Apart;

    async fn call(door: &AgentDoor, _call: &Call, params: Which) -> Result<Answer<Apart>, Refusal> {
        let law = law(door).await?;
        let skill = found(&law, &params.skill_id)?;
        let has_definition = skill.definition().is_some();
        let found = drift(skill);
        let text = match has_definition {
            true => found.markdown(&skill.id),
            false => format!(
                "## Drift Report: {}\n\nThis skill has no definition block. Drift detection requires both content and \
                 definition layers.",
                skill.id
            ),
        };
        let items = found.items.into_iter().map(|item| Item {
            direction: match item.direction {
                Direction::DefinitionOrphaned => "definition_orphaned",
                Direction::ContentUncovered => "content_uncovered",
            },
            node: item.node_name,
            description: item.description,
        });
        let data = Apart {
            skill_id: skill.id.clone(),
            has_definition,
            coverage_ratio: found.coverage_ratio,
            items: items.collect(),
        };
        Ok(Answer::new(text, data))
    }
}
