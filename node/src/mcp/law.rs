//! Tools that skills of the law declare: run by the limited evaluator, which reaches nothing, behind the tools of this
//! program, whose names they never take. The owner switches them on with `skill_tools_enabled` in `skills/config.yml`.
//! What they can ask is what the agent tells to its law anyway: `kairos_protocol::dsl::facts`.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use kairos_actors::action_log::{ActionLog, Record};
use kairos_place::role::Action;
use kairos_protocol::dsl::Law;
use kairos_protocol::dsl::eval::{self, Limits, ToolDefinition, ToolError};
use parking_lot::Mutex;
use rmcp::model::{
    CallToolResponse, CallToolResult, ContentBlock, JsonObject, Tool, ToolAnnotations,
};
use serde_json::{Value, json};

use super::agent::AgentDoor;
use super::call::{Call, Caller};
use super::tool::Refusal;
use super::tools::source_of_law;
use super::watch::Stamp;

/// Most of them that run at once: each has a thread to itself for the time of its steps.
pub(super) const RUNNING_MAX: usize = 4;

/// Those that `caller` may call, in the order of the law. A law that cannot be read offers none.
pub(super) async fn offered(door: &AgentDoor, caller: &Caller) -> Vec<Tool> {
    if caller.may(Action::ReadKnowledge).is_err() {
        return Vec::new();
    }
    match tools(door).await {
        Ok(found) => found.to_vec(),
        Err(refusal) => {
            tracing::warn!(why = refusal.plain(), "the law offers no tools");
            Vec::new()
        }
    }
}

/// What was found in a law, so that the same one is not read for each list.
#[derive(Default)]
pub(super) struct Offer(Mutex<Option<Found>>);

struct Found {
    source: Vec<u8>,
    tools: Arc<[Tool]>,
}

/// The law, if it may offer tools.
async fn source(door: &AgentDoor) -> Result<Option<Vec<u8>>, Refusal> {
    match door.agent.handles.skills.settings().await?.tools {
        true => source_of_law(door).await.map(Some),
        false => Ok(None),
    }
}

/// What tells one law from another; the same for all that cannot be read, or offer nothing.
pub(super) async fn stamp(door: &AgentDoor) -> Stamp {
    let source = source(door).await.ok().flatten();
    let mut hasher = DefaultHasher::new();
    source.hash(&mut hasher);
    hasher.finish()
}

async fn tools(door: &AgentDoor) -> Result<Arc<[Tool]>, Refusal> {
    let Some(source) = source(door).await? else {
        return Ok(Arc::default());
    };
    if let Some(found) = &*door.offer.0.lock()
        && found.source == source
    {
        return Ok(Arc::clone(&found.tools));
    }
    let read = tokio::task::spawn_blocking(move || (Law::read(&source), source));
    let (law, source) = read.await?;
    let offer = eval::tools(&law, |name| door.is_core(name));
    for left in &offer.unoffered {
        tracing::debug!(
            skill.id = left.skill,
            reason = left.reason,
            "a skill offers no tool"
        );
    }
    let tools: Arc<[Tool]> = offer.tools.into_iter().map(described).collect();
    let found = Found {
        source,
        tools: Arc::clone(&tools),
    };
    *door.offer.0.lock() = Some(found);
    Ok(tools)
}

fn described(tool: ToolDefinition) -> Tool {
    let input = match tool.input_schema {
        Value::Object(schema) => schema,
        _ => JsonObject::new(),
    };
    let output = json!({
        "type": "object", "additionalProperties": false, "required": ["result"],
        "properties": {"result": {"description": "What its code answers."}},
    });
    let output = output.as_object().cloned().unwrap_or_default();
    // The same as long as the agent is the same.
    let hints = ToolAnnotations::new()
        .read_only(true)
        .destructive(false)
        .idempotent(true)
        .open_world(false);
    Tool::new(tool.name, tool.description, Arc::new(input))
        .with_title(format!("Skill {}", tool.skill))
        .with_raw_output_schema(Arc::new(output))
        .with_annotations(hints)
}

/// Runs one. `None`: the law offers none of that name.
pub(super) async fn call(
    door: &AgentDoor,
    call: &Call,
    name: &str,
    arguments: JsonObject,
) -> Option<CallToolResponse> {
    let failed = |text: String| CallToolResult::error(vec![ContentBlock::text(text)]).into();
    if let Err(refusal) = call.caller.may(Action::ReadKnowledge) {
        return Some(failed(refusal.plain()));
    }
    let done = match run(door, name, arguments).await {
        Ok(done) => done,
        Err(refusal) => {
            tracing::warn!(why = refusal.plain(), "a tool of the law was not run");
            return Some(failed(
                "Error: the law cannot be read now; ask the owner.".to_owned(),
            ));
        }
    };
    Some(match done {
        Err(ToolError::Unknown(_)) => return None,
        Err(error @ ToolError::Arguments { .. }) => failed(format!(
            "Error: {error}. Its input schema tells what it takes."
        )),
        Err(error @ ToolError::Eval(_)) => {
            failed(format!("Error executing skill tool '{name}': {error}"))
        }
        Ok(answer) => {
            let result = answer.structured.unwrap_or_else(|| json!(answer.text));
            let mut told = CallToolResult::success(vec![ContentBlock::text(answer.text)]);
            told.structured_content = Some(json!({ "result": result }));
            told.into()
        }
    })
}

/// Evaluates it on a thread that may be kept busy, and writes down that it ran.
async fn run(
    door: &AgentDoor,
    name: &str,
    arguments: JsonObject,
) -> Result<Result<eval::ToolAnswer, ToolError>, Refusal> {
    let Some(source) = source(door).await? else {
        return Ok(Err(ToolError::Unknown(name.to_owned())));
    };
    let facts = door.agent.handles.skills.facts().await?;
    // Kept until the thread is done, also if nobody waits for it any more.
    let permit = Arc::clone(&door.running).acquire_owned().await?;
    let (log, now) = (
        ActionLog::new(door.agent.data_dir.path()),
        door.agent.clock.now(),
    );
    let name = name.to_owned();
    let done = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        let law = Law::read(&source);
        let text = String::from_utf8_lossy(&source);
        let done = eval::run_tool(&law, &text, &name, &arguments, &facts, Limits::default());
        if matches!(done, Ok(_) | Err(ToolError::Eval(_))) {
            let names: Vec<_> = arguments.keys().collect();
            let details = json!({"tool": name, "arguments": names, "success": done.is_ok()});
            log.tell(&Record::new("skill_tool_executed").details(details), now);
        }
        done
    });
    Ok(done.await?)
}
