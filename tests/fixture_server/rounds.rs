//! What asks the client first and is called again with its answers, in the stateless era.

use std::collections::BTreeMap;

use kairos_node::mcp::call::Call;
use rmcp::ErrorData;
use rmcp::model::{
    CallToolResponse, CallToolResult, ContentBlock, GetPromptRequestParams, GetPromptResponse,
    GetPromptResult, InputRequest, InputRequiredResult, InputResponses, PromptMessage,
    RequestStateCodec, Role,
};
use serde_json::{Value, json};

use crate::tools::parse;

/// The tools here.
pub(crate) const TOOLS: [&str; 8] = [
    ELICITATION,
    "test_input_required_result_sampling",
    "test_input_required_result_list_roots",
    STATE,
    "test_input_required_result_multiple_inputs",
    ROUNDS,
    TAMPERED,
    CAPABILITIES,
];
/// The prompt here.
pub(crate) const PROMPT: &str = "test_input_required_result_prompt";

const ELICITATION: &str = "test_input_required_result_elicitation";
const STATE: &str = "test_input_required_result_request_state";
const ROUNDS: &str = "test_input_required_result_multi_round";
const TAMPERED: &str = "test_input_required_result_tampered_state";
const CAPABILITIES: &str = "test_input_required_result_capabilities";

/// The questions of one round, by name.
type Questions = Vec<(&'static str, Value)>;

/// Calls a tool with rounds. `None`: there is none of that name.
pub(crate) fn call(
    codec: &RequestStateCodec,
    call: &Call,
    name: &str,
) -> Option<Result<CallToolResponse, ErrorData>> {
    let name = TOOLS.into_iter().find(|known| *known == name)?;
    Some(round(codec, call, name))
}

fn round(
    codec: &RequestStateCodec,
    call: &Call,
    name: &'static str,
) -> Result<CallToolResponse, ErrorData> {
    // A state that we did not seal is refused whatever it comes with.
    let at: usize = match &call.state {
        Some(state) => {
            let opened: (String, usize) = codec.open_json(state).map_err(|_| unknown_state())?;
            (opened.0 == name)
                .then_some(opened.1)
                .ok_or_else(unknown_state)?
        }
        None => 0,
    };
    let questions = questions(call, name, at);
    let answers = call.answers.as_ref();
    let given = |asked: &Questions| {
        let answered = |(name, question): &(&str, Value)| {
            is_answer(
                question,
                answers.and_then(|answers: &InputResponses| answers.get(*name)),
            )
        };
        !asked.is_empty() && asked.iter().all(answered)
    };
    let next = match given(&questions) {
        false => (questions, at),
        true if name == ROUNDS && at == 0 => (self::questions(call, name, 1), 1),
        true => {
            let text = match name {
                ELICITATION => format!("Hello, {}!", name_in(answers)),
                STATE => "state-ok".to_owned(),
                _ => format!("Answered: {}", json!(answers)),
            };
            return Ok(CallToolResult::success(vec![ContentBlock::text(text)]).into());
        }
    };
    let (asked, at) = next;
    let stateful = !matches!(name, ELICITATION | CAPABILITIES);
    let state = stateful.then(|| codec.seal_json(&(name, at)));
    let state = state.transpose().map_err(|_| unknown_state())?;
    Ok(InputRequiredResult::new(Some(requests(asked)?), state).into())
}

/// The prompt: asks once, then says what it was told.
pub(crate) fn prompt(request: &GetPromptRequestParams) -> Result<GetPromptResponse, ErrorData> {
    let question = ask("What context should the prompt use?", "context", "string");
    let answers = request.input_responses.as_ref();
    let answer = answers.and_then(|answers| answers.get("user_context"));
    if !is_answer(&question, answer) {
        let asked = requests(vec![("user_context", question)])?;
        return Ok(InputRequiredResult::from_input_requests(asked).into());
    }
    let text = format!("Use this: {}", json!(answer));
    let message = PromptMessage::new_text(Role::User, text);
    Ok(GetPromptResult::new(vec![message]).into())
}

fn unknown_state() -> ErrorData {
    ErrorData::invalid_params("this state was not sealed here", None)
}

fn questions(call: &Call, tool: &str, at: usize) -> Questions {
    let name = || ("user_name", ask("What is your name?", "name", "string"));
    let roots = || {
        (
            "client_roots",
            json!({"method": "roots/list", "params": {}}),
        )
    };
    match tool {
        ELICITATION => vec![name()],
        "test_input_required_result_sampling" => vec![(
            "capital_question",
            sample("What is the capital of France?", 100),
        )],
        "test_input_required_result_list_roots" => vec![roots()],
        "test_input_required_result_multiple_inputs" => vec![
            name(),
            ("greeting", sample("Generate a greeting", 50)),
            roots(),
        ],
        ROUNDS if at == 0 => vec![("step1", ask("Step 1: What is your name?", "name", "string"))],
        ROUNDS => vec![(
            "step2",
            ask("Step 2: What is your favorite color?", "color", "string"),
        )],
        CAPABILITIES => {
            let can = call.context.client_capabilities().unwrap_or_default();
            let greeting = ("greeting", sample("Generate a greeting", 50));
            let asked = can.elicitation.map(|_| name()).into_iter();
            asked.chain(can.sampling.map(|_| greeting)).collect()
        }
        _ => vec![("confirm", ask("Please confirm", "ok", "boolean"))],
    }
}

fn ask(message: &str, field: &str, kind: &str) -> Value {
    json!({"method": "elicitation/create", "params": {
        "mode": "form", "message": message,
        "requestedSchema": {"type": "object", "properties": {field: {"type": kind}}, "required": [field]},
    }})
}

fn sample(prompt: &str, tokens: u32) -> Value {
    json!({"method": "sampling/createMessage", "params": {
        "messages": [{"role": "user", "content": {"type": "text", "text": prompt}}], "maxTokens": tokens,
    }})
}

fn requests(asked: Questions) -> Result<BTreeMap<String, InputRequest>, ErrorData> {
    let request = |(name, question): (&str, Value)| Ok((name.to_owned(), parse(question)?));
    asked.into_iter().map(request).collect()
}

/// Whether `answer` has the form of one to `question`.
fn is_answer(question: &Value, answer: Option<&Value>) -> bool {
    let Some(answer) = answer.filter(|answer| answer.is_object()) else {
        return false;
    };
    match question["method"].as_str() {
        Some("elicitation/create") => answer["action"].is_string(),
        Some("sampling/createMessage") => !answer["content"].is_null(),
        _ => answer["roots"].is_array(),
    }
}

fn name_in(answers: Option<&InputResponses>) -> String {
    let answer = answers.and_then(|answers| answers.get("user_name"));
    let name = answer.and_then(|answer| answer.pointer("/content/name")?.as_str());
    name.unwrap_or("stranger").to_owned()
}
