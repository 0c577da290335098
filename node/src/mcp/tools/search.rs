//! `search`: words in all layers.

use std::fmt::Write as _;

use kairos_actors::recent::RECENT;
use kairos_place::role::Action;
use kairos_protocol::search::{HITS_MAX, Layer as Within, Query};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::mcp::agent::AgentDoor;
use crate::mcp::call::Call;
use crate::mcp::tool::{Answer, Hints, Refusal, Tool};

/// Hits shown if nothing is said.
const LIMIT: usize = 10;

pub(super) struct Search;

#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
enum Layer {
    L0,
    L1,
    L2,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    /// The words; what has more of them, and rarer ones, comes first.
    query: String,
    /// Only in this layer: L0 is the law, L1 knowledge, L2 contexts.
    layer: Option<Layer>,
    /// Only what has this tag.
    tag: Option<String>,
    /// How many, from 1 to 100; 10 if nothing is said.
    limit: Option<usize>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Found {
    /// The best first.
    hits: Vec<Hit>,
    /// How many texts were searched.
    documents: usize,
    /// How many texts there was no room for.
    left_out: usize,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Hit {
    /// Its name, for resource_read.
    uri: String,
    /// One line about it.
    description: String,
    /// Where the words stand in it.
    snippet: Option<String>,
}

impl Tool<AgentDoor> for Search {
    const NAME: &'static str = "search";
    const TITLE: &'static str = "Search";
    const ABOUT: &'static str = "Searches the law, knowledge and contexts for words. Use it first when you need to know whether the agent knows something.";
    const NEEDS: Action = Action::ReadKnowledge;
    const HINTS: Hints = Hints::READ;
    type Params = Params;
    type Output = Found;

    async fn call(
        door: &AgentDoor,
        _call: &Call,
        params: Params,
    ) -> Result<Answer<Found>, Refusal> {
        let limit = params.limit.unwrap_or(LIMIT);
        if !(1..=HITS_MAX).contains(&limit) {
            return Err(Refusal::say(format!(
                "Error: limit is from 1 to {HITS_MAX}"
            )));
        }
        let mut query = Query::new(&params.query, limit)?;
        query.tag = params.tag;
        query.layer = params.layer.map(|layer| match layer {
            Layer::L0 => Within::L0,
            Layer::L1 => Within::L1,
            Layer::L2 => Within::L2,
        });
        let answer = door
            .agent
            .handles
            .knowledge
            .search(query, RECENT, false)
            .await?;
        let mut text = String::new();
        if answer.hits.is_empty() {
            let _ = writeln!(
                text,
                "Nothing found in {} texts. Try other words, or fewer.",
                answer.documents
            );
        }
        for hit in &answer.hits {
            let _ = writeln!(text, "- `{}` {}", hit.uri, hit.description);
            if let Some(snippet) = &hit.snippet {
                let _ = writeln!(text, "    {snippet}");
            }
        }
        if answer.left_out > 0 {
            let _ = writeln!(
                text,
                "{} texts are not searched: there is no room for more.",
                answer.left_out
            );
        }
        let hits = answer.hits.into_iter().map(|hit| Hit {
            uri: hit.uri,
            description: hit.description,
            snippet: hit.snippet,
        });
        let data = Found {
            hits: hits.collect(),
            documents: answer.documents,
            left_out: answer.left_out,
        };
        Ok(Answer::new(text.trim_end(), data))
    }
}
