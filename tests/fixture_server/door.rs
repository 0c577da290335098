//! The door itself: what the node's own door is to an agent, to the suite's fixtures.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kairos_node::mcp::call::{Call, Caller};
use kairos_node::mcp::server::Door;
use kairos_node::mcp::{Stamp, Stamps};
use rmcp::ErrorData;
use rmcp::model::{
    CallToolResponse, CallToolResult, ContentBlock, GetPromptRequestParams, GetPromptResponse,
    GetPromptResult, Implementation, JsonObject, PaginatedRequestParams, Prompt,
    ReadResourceResult, Reference, RequestStateCodec, Resource, ResourceTemplate, Skill, Tool,
};
use serde_json::{Value, json};

use crate::{content, rounds, tools};

/// What it seals with; nothing here is worth a secret.
const KEY: [u8; 32] = [7; 32];

pub(crate) struct FixtureDoor {
    tools: Vec<Tool>,
    codec: RequestStateCodec,
    /// How often the suite asked for other tools.
    changes: AtomicU64,
}

impl FixtureDoor {
    pub(crate) fn new() -> anyhow::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            tools: tools::list(),
            codec: RequestStateCodec::try_new(KEY)?,
            changes: AtomicU64::new(0),
        }))
    }
}

fn no_resource(uri: &str) -> ErrorData {
    ErrorData::resource_not_found("Resource not found", Some(json!({ "uri": uri })))
}

impl Door for FixtureDoor {
    async fn tools(&self, _caller: &Caller) -> Vec<Tool> {
        self.tools.clone()
    }

    fn tool(&self, name: &str) -> Option<Tool> {
        self.tools.iter().find(|tool| tool.name == name).cloned()
    }

    fn changes(&self, _name: &str) -> bool {
        false
    }

    async fn call(
        &self,
        call: &Call,
        name: &str,
        arguments: JsonObject,
    ) -> Option<Result<CallToolResponse, ErrorData>> {
        if name == tools::CHANGE {
            self.changes.fetch_add(1, Ordering::Relaxed);
            let told = vec![ContentBlock::text("The tools are others now.")];
            return Some(Ok(CallToolResult::success(told).into()));
        }
        if let Some(done) = rounds::call(&self.codec, call, name) {
            return Some(done);
        }
        let done = tools::call(call, name, &arguments).await?;
        Some(done.map(CallToolResponse::from))
    }

    fn no_room(&self) -> Option<String> {
        None
    }

    fn name(&self) -> Implementation {
        Implementation::new("mcp-fixture", env!("CARGO_PKG_VERSION"))
    }

    async fn instructions(&self) -> Option<String> {
        None
    }

    async fn resources(&self, _caller: &Caller) -> Result<Vec<Resource>, ErrorData> {
        Ok(content::resources())
    }

    async fn stamp_of_tools(&self) -> Stamp {
        self.changes.load(Ordering::Relaxed)
    }

    async fn stamps(&self, _caller: &Caller, uris: &[String]) -> Result<Stamps, ErrorData> {
        let stamp = |uri: &String| (uri.clone(), content::read(uri).map(|_| Stamp::default()));
        Ok(Stamps {
            list: Stamp::default(),
            of: uris.iter().map(stamp).collect::<BTreeMap<_, _>>(),
        })
    }

    fn templates(&self) -> Vec<ResourceTemplate> {
        content::templates()
    }

    async fn read(&self, _caller: &Caller, uri: &str) -> Result<ReadResourceResult, ErrorData> {
        let contents = content::read(uri).ok_or_else(|| no_resource(uri))?;
        Ok(ReadResourceResult::new(vec![contents]))
    }

    fn prompts(&self) -> Vec<Prompt> {
        content::prompts()
    }

    async fn prompt(
        &self,
        _caller: &Caller,
        request: GetPromptRequestParams,
    ) -> Result<GetPromptResponse, ErrorData> {
        if request.name == rounds::PROMPT {
            return rounds::prompt(&request);
        }
        let arguments = request.arguments.unwrap_or_default();
        let argument = |name: &str| {
            let value = arguments.get(name).and_then(Value::as_str);
            value.unwrap_or_default().to_owned()
        };
        let messages = content::messages(&request.name, argument)
            .ok_or_else(|| ErrorData::invalid_params("there is no such prompt", None))?;
        Ok(GetPromptResult::new(messages).into())
    }

    async fn values(
        &self,
        _caller: &Caller,
        _of: &Reference,
        _argument: &str,
    ) -> Result<Vec<String>, ErrorData> {
        Ok(vec!["test one".to_owned(), "test two".to_owned()])
    }

    async fn skills(
        &self,
        _caller: &Caller,
        _request: Option<&PaginatedRequestParams>,
    ) -> Result<(Vec<Skill>, Option<String>), ErrorData> {
        Ok((vec![content::skill()], None))
    }

    async fn skill(&self, _caller: &Caller, uri: &str) -> Result<Skill, ErrorData> {
        let skill = Some(content::skill()).filter(|skill| skill.uri == uri);
        skill.ok_or_else(|| ErrorData::invalid_params("there is no such skill", None))
    }

    async fn directory(&self, _caller: &Caller, uri: &str) -> Result<Vec<Resource>, ErrorData> {
        let found = content::directory(uri);
        found.ok_or_else(|| ErrorData::invalid_params("there is no such directory", None))
    }
}
