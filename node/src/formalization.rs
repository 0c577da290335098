//! Decisions about putting texts into the skills language: written into the ledger, and found there again.

use kairos_actors::chain::{ChainError, ChainHandle};
use kairos_protocol::block::entry::{Entry, FormalizationDecision, FormalizationResult};
use kairos_protocol::time::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

/// Decisions shown if nothing is said.
pub const LIMIT: usize = 20;
/// Most decisions shown.
pub const LIMIT_MAX: usize = 1_000;
/// Blocks read at a time.
const CHUNK: u64 = 500;

/// What was decided.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema, clap::ValueEnum,
)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum Outcome {
    Formalized,
    NotFormalized,
}

/// What kind of statement a text is.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema, clap::ValueEnum,
)]
#[serde(rename_all = "snake_case")]
pub enum Category {
    Invariant,
    Rule,
    Guideline,
    Policy,
    Philosophy,
}

impl Category {
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Invariant => "invariant",
            Self::Rule => "rule",
            Self::Guideline => "guideline",
            Self::Policy => "policy",
            Self::Philosophy => "philosophy",
        }
    }
}

/// How sure somebody was is no share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("confidence is from 0 to 1")]
pub struct ConfidenceError;

/// A decision as it is given.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct Given {
    /// The skill.
    #[arg(long, value_name = "ID")]
    pub skill_id: String,
    /// Its version.
    #[arg(long, value_name = "VERSION")]
    pub skill_version: String,
    /// The text it is about.
    #[arg(long, value_name = "TEXT")]
    pub source_text: String,
    /// What was decided.
    #[arg(long)]
    pub result: Outcome,
    /// Why.
    #[arg(long, value_name = "TEXT")]
    pub rationale: String,
    /// What kind of statement the text is.
    #[arg(long = "category", value_name = "CATEGORY")]
    pub formalization_category: Category,
    /// Where that text is.
    #[arg(long, value_name = "PLACE")]
    pub source_span: Option<String>,
    /// How ambiguous it was.
    #[arg(long, value_name = "WORD")]
    pub ambiguity_before: Option<String>,
    /// How ambiguous it is.
    #[arg(long, value_name = "WORD")]
    pub ambiguity_after: Option<String>,
    /// Who decided.
    #[arg(long, value_name = "WHO")]
    pub decided_by: Option<String>,
    /// With which model.
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,
    /// How sure, from 0 to 1.
    #[arg(long, value_name = "SHARE")]
    pub confidence: Option<f64>,
}

impl Given {
    /// What is recorded of it.
    pub fn decision(self, now: Timestamp) -> Result<FormalizationDecision, ConfidenceError> {
        if self
            .confidence
            .is_some_and(|sure| !(0.0..=1.0).contains(&sure))
        {
            return Err(ConfidenceError);
        }
        let text = |text: Option<String>| text.map(Value::String);
        Ok(FormalizationDecision {
            skill_id: self.skill_id,
            skill_version: Some(self.skill_version),
            source_text: Some(self.source_text),
            source_span: text(self.source_span),
            result: match self.result {
                Outcome::Formalized => FormalizationResult::Formalized,
                Outcome::NotFormalized => FormalizationResult::NotFormalized,
            },
            rationale: Some(self.rationale),
            formalization_category: Some(self.formalization_category.as_str().to_owned()),
            ambiguity_before: text(self.ambiguity_before),
            ambiguity_after: text(self.ambiguity_after),
            decided_by: self.decided_by,
            model: self.model,
            timestamp: now,
            confidence: self.confidence,
            decompile_text: None,
            source_decompile_divergence: None,
        })
    }
}

/// `formalized` or `not_formalized`.
pub fn result(decision: &FormalizationDecision) -> &'static str {
    match decision.result {
        FormalizationResult::Formalized => "formalized",
        FormalizationResult::NotFormalized => "not_formalized",
    }
}

/// The newest decisions of this skill and kind, each with its block. Looks at the whole ledger if it has to.
pub async fn newest(
    chain: &ChainHandle,
    limit: usize,
    skill: Option<&str>,
    category: Option<Category>,
) -> Result<Vec<(u64, FormalizationDecision)>, ChainError> {
    let wanted = |decision: &FormalizationDecision| {
        let kind = decision.formalization_category.as_deref();
        skill.is_none_or(|id| id == decision.skill_id)
            && category.is_none_or(|category| kind == Some(category.as_str()))
    };
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
