//! The tools that the suite calls and that need no second round.
#![expect(
    deprecated,
    reason = "the handshake era logs, samples and is asked for its roots"
)]

use std::time::Duration;

use kairos_node::mcp::call::Call;
use rmcp::ErrorData;
use rmcp::model::{
    CallToolResult, ClientCapabilities, ContentBlock, JsonObject, LoggingLevel, Tool,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::content::{audio, embedded, image};
use crate::rounds;

/// The tool after which the list counts as another one.
pub(crate) const CHANGE: &str = "test_trigger_tool_change";
/// Between two signs of life of a tool.
const PAUSE: Duration = Duration::from_millis(50);

/// All tools, those with several rounds last.
pub(crate) fn list() -> Vec<Tool> {
    let text = |name: &str| json!({"type": "object", "properties": {name: {"type": "string"}}, "required": [name]});
    let header = json!({
        "type": "object", "required": ["region"],
        "properties": {"region": {"type": "string", "x-mcp-header": "Region"}},
    });
    let mut tools = vec![
        tool("test_simple_text", "Answers a text", nothing()),
        tool("test_image_content", "Answers an image", nothing()),
        tool("test_audio_content", "Answers a sound", nothing()),
        tool("test_embedded_resource", "Answers a resource", nothing()),
        tool(
            "test_multiple_content_types",
            "Answers three things",
            nothing(),
        ),
        tool("test_tool_with_logging", "Logs three lines", nothing()),
        tool(
            "test_logging_tool",
            "Logs only where a level was asked for",
            nothing(),
        ),
        tool(CHANGE, "Makes the tools others", nothing()),
        tool("test_error_handling", "Always fails", nothing()),
        tool("test_tool_with_progress", "Tells how far it is", nothing()),
        tool("test_sampling", "Asks the client's model", text("prompt")),
        tool("test_elicitation", "Asks the user", text("message")),
        tool(
            "test_elicitation_sep1034_defaults",
            "Asks with defaults",
            nothing(),
        ),
        tool(
            "test_elicitation_sep1330_enums",
            "Asks for choices",
            nothing(),
        ),
        tool(
            "json_schema_2020_12_tool",
            "Tool with JSON Schema 2020-12 features",
            schema_2020_12(),
        ),
        tool("test_reconnection", "Takes a while", nothing()),
        tool("test_header_parameter", "Has a header beside it", header),
        tool(
            "test_missing_capability",
            "Needs a client that samples",
            nothing(),
        ),
        tool(
            "test_streaming_elicitation",
            "Tells of progress, then asks",
            nothing(),
        ),
    ];
    tools.extend(
        rounds::TOOLS
            .iter()
            .map(|name| tool(name, "Asks in rounds", nothing())),
    );
    tools
}

fn nothing() -> Value {
    json!({"type": "object", "properties": {}})
}

fn tool(name: &str, about: &str, schema: Value) -> Tool {
    let schema: JsonObject = match schema {
        Value::Object(schema) => schema,
        _ => JsonObject::new(),
    };
    Tool::new(name.to_owned(), about.to_owned(), schema)
}

fn schema_2020_12() -> Value {
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "$defs": {"address": {
            "$anchor": "addressDef", "type": "object",
            "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
        }},
        "properties": {
            "name": {"type": "string"},
            "address": {"$ref": "#/$defs/address"},
            "contactMethod": {"type": "string", "enum": ["phone", "email"]},
            "phone": {"type": "string"},
            "email": {"type": "string"},
        },
        "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
        "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
        "then": {"required": ["phone"]},
        "else": {"required": ["email"]},
        "additionalProperties": false,
    })
}

/// Calls a tool of one round. `None`: there is none of that name.
pub(crate) async fn call(
    call: &Call,
    name: &str,
    arguments: &JsonObject,
) -> Option<Result<CallToolResult, ErrorData>> {
    let argument = |name: &str| arguments.get(name).and_then(Value::as_str).unwrap_or("");
    let content = match name {
        "test_simple_text" => said("This is a simple text response for testing."),
        "test_image_content" => vec![image()],
        "test_audio_content" => vec![audio()],
        "test_embedded_resource" => vec![embedded(
            "test://embedded-resource",
            "text/plain",
            "This is an embedded resource content.",
        )],
        "test_multiple_content_types" => vec![
            ContentBlock::text("Multiple content types test:"),
            image(),
            embedded(
                "test://mixed-content-resource",
                "application/json",
                &json!({"test": "data", "value": 123}).to_string(),
            ),
        ],
        "test_error_handling" => {
            let text = "This tool intentionally returns an error for testing";
            return Some(Ok(CallToolResult::error(said(text))));
        }
        "test_tool_with_logging" | "test_logging_tool" => log(call).await,
        "test_tool_with_progress" => progress(call).await,
        "test_reconnection" => {
            tokio::time::sleep(2 * PAUSE).await;
            said("Still here.")
        }
        "test_header_parameter" => said(argument("region")),
        "json_schema_2020_12_tool" => said("Taken."),
        "test_missing_capability" => return Some(missing(call)),
        "test_streaming_elicitation" => {
            call.progress(0, Some(1), "begun").await;
            said("Nothing was asked outside of an answer.")
        }
        "test_sampling" => return Some(sample(call, argument("prompt")).await),
        "test_elicitation" => {
            let schema = json!({
                "type": "object", "required": ["username", "email"],
                "properties": {
                    "username": {"type": "string", "description": "User's response"},
                    "email": {"type": "string", "description": "User's email address"},
                },
            });
            return Some(ask(call, argument("message"), schema).await);
        }
        "test_elicitation_sep1034_defaults" => {
            return Some(ask(call, "Whose defaults?", defaults()).await);
        }
        "test_elicitation_sep1330_enums" => return Some(ask(call, "Choose.", enums()).await),
        _ => return None,
    };
    Some(Ok(CallToolResult::success(content)))
}

fn said(text: &str) -> Vec<ContentBlock> {
    vec![ContentBlock::text(text)]
}

async fn log(call: &Call) -> Vec<ContentBlock> {
    for text in [
        "Tool execution started",
        "Tool processing data",
        "Tool execution completed",
    ] {
        call.log(LoggingLevel::Info, text).await;
        tokio::time::sleep(PAUSE).await;
    }
    said("Three lines were logged, if anybody wanted them.")
}

async fn progress(call: &Call) -> Vec<ContentBlock> {
    for done in [0, 50, 100] {
        call.progress(done, Some(100), "at work").await;
        tokio::time::sleep(PAUSE).await;
    }
    said("Done.")
}

fn missing(call: &Call) -> Result<CallToolResult, ErrorData> {
    let offered = call.context.client_capabilities().unwrap_or_default();
    match offered.sampling {
        Some(_) => Ok(CallToolResult::success(said("The client samples."))),
        None => Err(ErrorData::missing_required_client_capability(
            ClientCapabilities::builder().enable_sampling().build(),
        )),
    }
}

async fn sample(call: &Call, prompt: &str) -> Result<CallToolResult, ErrorData> {
    let params = json!({
        "messages": [{"role": "user", "content": {"type": "text", "text": prompt}}], "maxTokens": 100,
    });
    let answer = call.context.peer.create_message(parse(params)?).await;
    let answer =
        answer.map_err(|error| ErrorData::internal_error(format!("no sample: {error}"), None))?;
    let answer = serde_json::to_value(&answer.message.content).unwrap_or_default();
    Ok(CallToolResult::success(said(&format!(
        "LLM response: {answer}"
    ))))
}

async fn ask(call: &Call, message: &str, schema: Value) -> Result<CallToolResult, ErrorData> {
    let params = json!({"mode": "form", "message": message, "requestedSchema": schema});
    let answer = call.context.peer.create_elicitation(parse(params)?).await;
    let answer =
        answer.map_err(|error| ErrorData::internal_error(format!("no answer: {error}"), None))?;
    let action = serde_json::to_value(&answer.action).unwrap_or_default();
    let content = serde_json::to_value(&answer.content).unwrap_or_default();
    let text = format!("Elicitation completed: action={action}, content={content}");
    Ok(CallToolResult::success(said(&text)))
}

/// A message of the protocol from its JSON.
pub(crate) fn parse<T: DeserializeOwned>(value: Value) -> Result<T, ErrorData> {
    serde_json::from_value(value)
        .map_err(|error| ErrorData::internal_error(error.to_string(), None))
}

fn defaults() -> Value {
    json!({"type": "object", "properties": {
        "name": {"type": "string", "default": "John Doe"},
        "age": {"type": "integer", "default": 30},
        "score": {"type": "number", "default": 95.5},
        "status": {"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
        "verified": {"type": "boolean", "default": true},
    }})
}

fn enums() -> Value {
    let options = ["option1", "option2", "option3"];
    let titled = |ordinal: &str| {
        let choice = |(at, name): (usize, &str)| json!({"const": format!("value{}", at + 1), "title": format!("{name} {ordinal}")});
        ["First", "Second", "Third"]
            .into_iter()
            .enumerate()
            .map(choice)
            .collect::<Vec<_>>()
    };
    json!({"type": "object", "properties": {
        "untitledSingle": {"type": "string", "enum": options},
        "titledSingle": {"type": "string", "oneOf": titled("Option")},
        "legacyEnum": {
            "type": "string", "enum": ["opt1", "opt2", "opt3"],
            "enumNames": ["Option One", "Option Two", "Option Three"],
        },
        "untitledMulti": {"type": "array", "items": {"type": "string", "enum": options}},
        "titledMulti": {"type": "array", "items": {"anyOf": titled("Choice")}},
    }})
}
