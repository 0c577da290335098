//! `formalization_record` and `formalization_history`: how texts were put into the skills language, and why not.

use std::fmt::Write as _;

use kairos_place::role::Action;
use kairos_protocol::block::entry::{Entry, FormalizationDecision};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::chain::Recorded;
use super::text::start;
use crate::formalization::{Category, Given, LIMIT, LIMIT_MAX, newest, result};
use crate::mcp::agent::AgentDoor;
use crate::mcp::call::Call;
use crate::mcp::tool::{Answer, Hints, Refusal, Tool};

pub(super) struct Record;

impl Tool<AgentDoor> for Record {
    const NAME: &'static str = "formalization_record";
    const TITLE: &'static str = "Record a formalization";
    const ABOUT: &'static str = "Records in the ledger how a text was put into the skills language, or why it was left as text.";
    const NEEDS: Action = Action::Record;
    const HINTS: Hints = Hints::ADD;
    type Params = Given;
    type Output = Recorded;

    async fn call(
        door: &AgentDoor,
        _call: &Call,
        params: Given,
    ) -> Result<Answer<Recorded>, Refusal> {
        let decision = params.decision(door.agent.clock.now())?;
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
        let chain = &door.agent.handles.chain;
        let found = newest(chain, limit, params.skill_id.as_deref(), params.category).await?;
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
