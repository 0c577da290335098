//! `formalization_record` and `formalization_history`: how texts were put into the skills language, and why not.

use std::fmt::Write as _;

use kairos_place::role::Action;
use kairos_protocol::block::entry::{Entry, FormalizationDecision, FormalizationResult};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::chain::Recorded;
use super::text::start;
use crate::mcp::agent::AgentDoor;
use crate::mcp::call::Call;
use crate::mcp::tool::{Answer, Hints, Refusal, Tool};

/// Decisions shown if nothing is said.
const LIMIT: usize = 20;
/// Most decisions shown.
const LIMIT_MAX: usize = 1_000;
/// Blocks read at a time.
const CHUNK: u64 = 500;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    Formalized,
    NotFormalized,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Category {
    Invariant,
    Rule,
    Guideline,
    Policy,
    Philosophy,
}

impl Category {
    fn as_str(self) -> &'static str {
        match self {
            Self::Invariant => "invariant",
            Self::Rule => "rule",
            Self::Guideline => "guideline",
            Self::Policy => "policy",
            Self::Philosophy => "philosophy",
        }
    }
}

pub(super) struct Record;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RecordParams {
    /// The skill.
    skill_id: String,
    /// Its version.
    skill_version: String,
    /// The text it is about.
    source_text: String,
    /// What was decided.
    result: Outcome,
    /// Why.
    rationale: String,
    /// What kind of statement the text is.
    formalization_category: Category,
    /// Where that text is.
    source_span: Option<String>,
    /// How ambiguous it was.
    ambiguity_before: Option<String>,
    /// How ambiguous it is.
    ambiguity_after: Option<String>,
    /// Who decided.
    decided_by: Option<String>,
    /// With which model.
    model: Option<String>,
    /// How sure, from 0 to 1.
    confidence: Option<f64>,
}

impl Tool<AgentDoor> for Record {
    const NAME: &'static str = "formalization_record";
    const TITLE: &'static str = "Record a formalization";
    const ABOUT: &'static str = "Records in the ledger how a text was put into the skills language, or why it was left as text.";
    const NEEDS: Action = Action::Record;
    const HINTS: Hints = Hints::ADD;
    type Params = RecordParams;
    type Output = Recorded;

    async fn call(
        door: &AgentDoor,
        _call: &Call,
        params: RecordParams,
    ) -> Result<Answer<Recorded>, Refusal> {
        if params
            .confidence
            .is_some_and(|sure| !(0.0..=1.0).contains(&sure))
        {
            return Err(Refusal::say("Error: confidence is from 0 to 1"));
        }
        let text = |text: Option<String>| text.map(Value::String);
        let decision = FormalizationDecision {
            skill_id: params.skill_id,
            skill_version: Some(params.skill_version),
            source_text: Some(params.source_text),
            source_span: text(params.source_span),
            result: match params.result {
                Outcome::Formalized => FormalizationResult::Formalized,
                Outcome::NotFormalized => FormalizationResult::NotFormalized,
            },
            rationale: Some(params.rationale),
            formalization_category: Some(params.formalization_category.as_str().to_owned()),
            ambiguity_before: text(params.ambiguity_before),
            ambiguity_after: text(params.ambiguity_after),
            decided_by: params.decided_by,
            model: params.model,
            timestamp: door.agent.clock.now(),
            confidence: params.confidence,
            decompile_text: None,
            source_decompile_divergence: None,
        };
        let told = told(&decision);
        let entry = Entry::FormalizationDecision(Box::new(decision)).to_text();
        let block = door.agent.handles.chain.append(vec![entry]).await?;
        let text = format!(
            "## Formalization Decision Recorded\n\n{told}**Block:** #{}\n**Hash:** {}",
            block.index, block.hash
        );
        Ok(Answer::new(text, block.into()))
    }
}

fn result(decision: &FormalizationDecision) -> &'static str {
    match decision.result {
        FormalizationResult::Formalized => "formalized",
        FormalizationResult::NotFormalized => "not_formalized",
    }
}

fn told(decision: &FormalizationDecision) -> String {
    let or_none = |text: &Option<String>| text.clone().unwrap_or_default();
    format!(
        "**Skill:** {} (v{})\n**Result:** {}\n**Category:** {}\n**Rationale:** {}\n",
        decision.skill_id,
        or_none(&decision.skill_version),
        result(decision),
        or_none(&decision.formalization_category),
        or_none(&decision.rationale),
    )
}

pub(super) struct History;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct HistoryParams {
    /// Only of this skill.
    skill_id: Option<String>,
    /// Only of this kind.
    category: Option<Category>,
    /// How many, from 1 to 1000; 20 if nothing is said.
    limit: Option<usize>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Decisions {
    /// The decisions, newest first.
    decisions: Vec<DecisionData>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct DecisionData {
    /// The block.
    block: u64,
    /// The skill.
    skill_id: String,
    /// Its version.
    skill_version: Option<String>,
    /// The text it is about.
    source_text: Option<String>,
    /// `formalized` or `not_formalized`.
    result: &'static str,
    /// Why.
    rationale: Option<String>,
    /// What kind of statement the text is.
    category: Option<String>,
    /// When.
    timestamp: String,
}

impl Tool<AgentDoor> for History {
    const NAME: &'static str = "formalization_history";
    const TITLE: &'static str = "Formalization history";
    const ABOUT: &'static str =
        "Shows decisions about putting texts into the skills language, newest first.";
    const NEEDS: Action = Action::ReadLedger;
    const HINTS: Hints = Hints::READ;
    type Params = HistoryParams;
    type Output = Decisions;

    async fn call(
        door: &AgentDoor,
        _call: &Call,
        params: HistoryParams,
    ) -> Result<Answer<Decisions>, Refusal> {
        let limit = params.limit.unwrap_or(LIMIT);
        if !(1..=LIMIT_MAX).contains(&limit) {
            return Err(Refusal::say(format!(
                "Error: limit is from 1 to {LIMIT_MAX}"
            )));
        }
        let category = params.category.map(Category::as_str);
        let wanted = |decision: &FormalizationDecision| {
            params
                .skill_id
                .as_ref()
                .is_none_or(|id| *id == decision.skill_id)
                && category.is_none_or(|category| {
                    decision.formalization_category.as_deref() == Some(category)
                })
        };
        let found = newest(door, limit, wanted).await?;
        let mut text = format!("## Formalization Decisions ({})\n", found.len());
        for (block, decision) in &found {
            let source = start(decision.source_text.as_deref().unwrap_or_default(), 200);
            let _ = write!(
                text,
                "\n### Block #{block}\n\n{}**Text:** {source}\n",
                told(decision)
            );
        }
        let decisions = found.into_iter().map(|(block, decision)| DecisionData {
            block,
            result: result(&decision),
            skill_id: decision.skill_id,
            skill_version: decision.skill_version,
            source_text: decision.source_text,
            rationale: decision.rationale,
            category: decision.formalization_category,
            timestamp: decision.timestamp.entry(),
        });
        let data = Decisions {
            decisions: decisions.collect(),
        };
        Ok(Answer::new(text.trim_end(), data))
    }
}

/// The newest decisions that are wanted, each with its block. Looks at the whole ledger if it has to.
async fn newest(
    door: &AgentDoor,
    limit: usize,
    wanted: impl Fn(&FormalizationDecision) -> bool,
) -> Result<Vec<(u64, FormalizationDecision)>, Refusal> {
    let chain = &door.agent.handles.chain;
    let mut end = chain
        .tip()
        .await?
        .map_or(0, |tip| tip.index.saturating_add(1));
    let mut found = Vec::new();
    while end > 0 && found.len() < limit {
        let first = end.saturating_sub(CHUNK);
        let count = usize::try_from(end - first).unwrap_or(usize::MAX);
        for block in chain.blocks(first, count).await?.iter().rev() {
            for entry in block.data().iter().rev() {
                if let Ok(Entry::FormalizationDecision(decision)) = Entry::read(entry)
                    && wanted(&decision)
                {
                    found.push((block.index(), *decision));
                }
            }
        }
        end = first;
    }
    found.truncate(limit);
    Ok(found)
}
