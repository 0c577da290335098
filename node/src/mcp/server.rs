//! What the protocol asks of a server, answered by a [`Door`].
//!
//! The SDK reads and writes messages, agrees on a version, and checks what a request of either era must carry. Here a
//! request finds its caller, its tool, resource or prompt, and the way to be interrupted.
#![expect(
    deprecated,
    reason = "the handshake era logs and subscribes with what the stateless one no longer has"
)]

use std::future::Future;
use std::sync::Arc;

use parking_lot::Mutex;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, CompleteRequestParams, CompleteResult,
    CompletionInfo, ContentBlock, CustomRequest, CustomResult, DiscoverResult, ErrorCode,
    Extensions, GetPromptRequestParams, GetPromptResponse, GetSkillRequestParams, GetSkillResult,
    Implementation, InitializeRequestParams, InitializeResult, JsonObject, ListPromptsResult,
    ListResourceTemplatesResult, ListResourcesResult, ListSkillsResult, ListToolsResult,
    LoggingLevel, PaginatedRequestParams, Prompt, ProtocolVersion,
    ReadResourceDirectoryRequestParams, ReadResourceDirectoryResult, ReadResourceRequestParams,
    ReadResourceResponse, ReadResourceResult, Reference, Resource, ResourceTemplate,
    ServerCapabilities, ServerConfig, SetLevelRequestParams, Skill, SubscribeRequestParams,
    SubscriptionFilter, Tool, UnsubscribeRequestParams,
};
use rmcp::service::{RequestContext, SubscriptionContext};
use rmcp::{ErrorData, RoleServer, ServerHandler};

use super::call::{Call, Caller};
use super::page::page;
use super::watch::{self, List, Stamp, Stamps, Watched};

/// What a server serves.
pub trait Door: Send + Sync + Sized + 'static {
    /// The tools that `caller` may call, in an order that stays.
    fn tools(&self, caller: &Caller) -> impl Future<Output = Vec<Tool>> + Send;

    /// What is told of one tool, whoever may call it.
    fn tool(&self, name: &str) -> Option<Tool>;

    /// Whether there is such a tool and it may change something.
    fn changes(&self, name: &str) -> bool;

    /// Calls a tool. `None`: there is none of that name.
    fn call(
        &self,
        call: &Call,
        name: &str,
        arguments: JsonObject,
    ) -> impl Future<Output = Option<Result<CallToolResponse, ErrorData>>> + Send;

    /// Why tools that change something are not called at this moment, if they are not.
    fn no_room(&self) -> Option<String>;

    /// What it is called.
    fn name(&self) -> Implementation;

    /// What a model is told about this server before all else.
    fn instructions(&self) -> impl Future<Output = Option<String>> + Send;

    /// What can be read by name, sorted by URI.
    fn resources(
        &self,
        caller: &Caller,
    ) -> impl Future<Output = Result<Vec<Resource>, ErrorData>> + Send;

    /// The state of the list of tools.
    fn stamp_of_tools(&self) -> impl Future<Output = Stamp> + Send;

    /// The state of the list of resources, and of each of `uris`.
    fn stamps(
        &self,
        caller: &Caller,
        uris: &[String],
    ) -> impl Future<Output = Result<Stamps, ErrorData>> + Send;

    /// The forms of names of what is not listed.
    fn templates(&self) -> Vec<ResourceTemplate>;

    /// Reads something by name.
    fn read(
        &self,
        caller: &Caller,
        uri: &str,
    ) -> impl Future<Output = Result<ReadResourceResult, ErrorData>> + Send;

    /// Its prompts, sorted by no rule.
    fn prompts(&self) -> Vec<Prompt>;

    /// One prompt with its arguments filled in, or what it needs first.
    fn prompt(
        &self,
        caller: &Caller,
        request: GetPromptRequestParams,
    ) -> impl Future<Output = Result<GetPromptResponse, ErrorData>> + Send;

    /// Every value that an argument may have, for a prompt or a template.
    fn values(
        &self,
        caller: &Caller,
        of: &Reference,
        argument: &str,
    ) -> impl Future<Output = Result<Vec<String>, ErrorData>> + Send;

    /// A page of skills, in the order of their names, and the cursor of the next.
    fn skills(
        &self,
        caller: &Caller,
        request: Option<&PaginatedRequestParams>,
    ) -> impl Future<Output = Result<(Vec<Skill>, Option<String>), ErrorData>> + Send;

    /// One skill by the URI of its `SKILL.md`.
    fn skill(
        &self,
        caller: &Caller,
        uri: &str,
    ) -> impl Future<Output = Result<Skill, ErrorData>> + Send;

    /// What lies directly in a directory of a skill, sorted by URI.
    fn directory(
        &self,
        caller: &Caller,
        uri: &str,
    ) -> impl Future<Output = Result<Vec<Resource>, ErrorData>> + Send;
}

/// One client's server, or one request's, over a shared door.
pub struct Server<D> {
    door: Arc<D>,
    /// Who speaks; nothing where each request says so itself.
    caller: Option<Caller>,
    /// What the client wants to hear of, in the handshake era.
    level: Arc<Mutex<Option<LoggingLevel>>>,
    /// As above.
    watched: Arc<Mutex<Watched>>,
}

impl<D: Door> Server<D> {
    /// Serves one client, which is `caller`.
    pub fn of(door: Arc<D>, caller: Caller) -> Self {
        Self {
            caller: Some(caller),
            ..Self::of_requests(door)
        }
    }

    /// Serves one client, each of whose requests names its caller, as HTTP does.
    pub fn of_requests(door: Arc<D>) -> Self {
        Self {
            door,
            caller: None,
            level: Arc::default(),
            watched: Arc::default(),
        }
    }

    /// Who makes this request.
    fn caller(&self, extensions: &Extensions) -> Result<Caller, ErrorData> {
        if let Some(caller) = &self.caller {
            return Ok(caller.clone());
        }
        let parts = extensions.get::<http::request::Parts>();
        let handed_on = parts.and_then(|parts| parts.extensions.get::<Extensions>());
        let caller = handed_on
            .and_then(|extensions| extensions.get::<Caller>())
            .cloned();
        caller.ok_or_else(|| {
            ErrorData::invalid_request("nobody is known to have sent this request", None)
        })
    }

    async fn told(&self) -> ServerConfig {
        let mut config = self.get_info();
        config.instructions = self.door.instructions().await;
        config
    }
}

/// Methods that are known: a request for one that the SDK could not read has wrong parameters.
const KNOWN: [&str; 18] = [
    "initialize",
    "server/discover",
    "completion/complete",
    "logging/setLevel",
    "prompts/get",
    "prompts/list",
    "resources/list",
    "resources/templates/list",
    "resources/read",
    "resources/subscribe",
    "resources/unsubscribe",
    "resources/directory/read",
    "skills/list",
    "skills/get",
    "subscriptions/listen",
    "tools/call",
    "tools/list",
    "ping",
];

/// Those among them that went with the handshake.
const HANDSHAKE_ONLY: [&str; 5] = [
    "initialize",
    "logging/setLevel",
    "resources/subscribe",
    "resources/unsubscribe",
    "ping",
];

impl<D: Door> ServerHandler for Server<D> {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder()
            .enable_tools()
            .enable_tool_list_changed()
            .enable_resources()
            .enable_resources_subscribe()
            .enable_resources_list_changed()
            .enable_logging()
            .enable_prompts()
            .enable_completions()
            .enable_skills_with_directory_read()
            .build();
        ServerConfig::new(capabilities).with_server_info(self.door.name())
    }

    async fn initialize(
        &self,
        request: InitializeRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<InitializeResult, ErrorData> {
        let mut answer = self.negotiate_initialize(&request)?;
        answer.instructions = self.door.instructions().await;
        let mut peer = request;
        // What was agreed on counts from here on, not what was asked for.
        peer.protocol_version = answer.protocol_version.clone();
        context.peer.set_peer_info(peer);
        Ok(answer)
    }

    async fn discover(
        &self,
        _context: RequestContext<RoleServer>,
    ) -> Result<DiscoverResult, ErrorData> {
        let versions = self.supported_protocol_versions().into_owned();
        Ok(DiscoverResult::from_server_info(
            versions,
            self.told().await,
        ))
    }

    async fn list_tools(
        &self,
        request: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let caller = self.caller(&context.extensions)?;
        if is_handshake(&context) {
            let list = List::Tools(self.door.stamp_of_tools().await);
            watch::list_was_told(&self.door, &caller, &self.watched, &context.peer, list);
        }
        let tools = self.door.tools(&caller).await;
        let (tools, next) = page(tools, request.as_ref(), |tool| &tool.name)?;
        let mut result = ListToolsResult::with_all_items(tools);
        result.next_cursor = next;
        Ok(result)
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let caller = self.caller(&context.extensions)?;
        let interrupted = context.ct.clone();
        let level = *self.level.lock();
        let call = Call {
            caller,
            level: level.or_else(|| context.meta.log_level()),
            context,
            answers: request.input_responses,
            state: request.request_state,
        };
        let arguments = request.arguments.unwrap_or_default();
        // Before anything of it is done, as at the other doors.
        if self.door.changes(&request.name)
            && let Some(trouble) = self.door.no_room()
        {
            let text = format!("Error: {trouble}. Tell the user, and call again later.");
            return Ok(CallToolResult::error(vec![ContentBlock::text(text)]).into());
        }
        let called = self.door.call(&call, &request.name, arguments);
        let done = tokio::select! {
            done = called => done,
            () = interrupted.cancelled() => {
                return Err(ErrorData::invalid_request("the request was cancelled", None));
            }
        };
        // In the words of the reference, whose clients may look for them.
        done.unwrap_or_else(|| {
            let told = format!("Tool not found: {}", shown(&request.name));
            Err(ErrorData::invalid_params(told, None))
        })
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        self.door.tool(name)
    }

    async fn list_resources(
        &self,
        request: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        let caller = self.caller(&context.extensions)?;
        let found = self.door.resources(&caller).await?;
        if is_handshake(&context) {
            let list = List::Resources(self.door.stamps(&caller, &[]).await?.list);
            watch::list_was_told(&self.door, &caller, &self.watched, &context.peer, list);
        }
        let (found, next) = page(found, request.as_ref(), |resource| &resource.uri)?;
        let mut result = ListResourcesResult::with_all_items(found);
        result.next_cursor = next;
        Ok(result)
    }

    async fn list_resource_templates(
        &self,
        request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        let (found, next) = page(self.door.templates(), request.as_ref(), |template| {
            &template.uri_template
        })?;
        let mut result = ListResourceTemplatesResult::with_all_items(found);
        result.next_cursor = next;
        Ok(result)
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        let caller = self.caller(&context.extensions)?;
        Ok(self.door.read(&caller, &request.uri).await?.into())
    }

    async fn list_prompts(
        &self,
        request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListPromptsResult, ErrorData> {
        let (found, next) = page(self.door.prompts(), request.as_ref(), |prompt| &prompt.name)?;
        let mut result = ListPromptsResult::with_all_items(found);
        result.next_cursor = next;
        Ok(result)
    }

    async fn get_prompt(
        &self,
        request: GetPromptRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<GetPromptResponse, ErrorData> {
        let caller = self.caller(&context.extensions)?;
        self.door.prompt(&caller, request).await
    }

    async fn complete(
        &self,
        request: CompleteRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CompleteResult, ErrorData> {
        let caller = self.caller(&context.extensions)?;
        let argument = &request.argument;
        let values = self
            .door
            .values(&caller, &request.r#ref, &argument.name)
            .await?;
        Ok(CompleteResult::new(completion(values, &argument.value)))
    }

    async fn list_skills(
        &self,
        request: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListSkillsResult, ErrorData> {
        let caller = self.caller(&context.extensions)?;
        let (skills, next) = self.door.skills(&caller, request.as_ref()).await?;
        let mut result = ListSkillsResult::with_all_items(skills);
        result.next_cursor = next;
        Ok(result)
    }

    async fn get_skill(
        &self,
        request: GetSkillRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<GetSkillResult, ErrorData> {
        let caller = self.caller(&context.extensions)?;
        Ok(GetSkillResult::new(
            self.door.skill(&caller, &request.uri).await?,
        ))
    }

    async fn read_resource_directory(
        &self,
        request: ReadResourceDirectoryRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<ReadResourceDirectoryResult, ErrorData> {
        let caller = self.caller(&context.extensions)?;
        let found = self.door.directory(&caller, &request.uri).await?;
        let asked = PaginatedRequestParams::default().with_cursor(request.cursor);
        let (found, next) = page(found, Some(&asked), |resource| &resource.uri)?;
        let mut result = ListResourcesResult::with_all_items(found);
        result.next_cursor = next;
        Ok(result)
    }

    async fn set_level(
        &self,
        request: SetLevelRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        if is_stateless(&context) {
            return Err(no_method("logging/setLevel"));
        }
        *self.level.lock() = Some(request.level);
        Ok(())
    }

    async fn subscribe(
        &self,
        request: SubscribeRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        let caller = self.caller(&context.extensions)?;
        watch::subscribe(
            &self.door,
            &caller,
            &self.watched,
            &context.peer,
            &request.uri,
        )
        .await
    }

    async fn unsubscribe(
        &self,
        request: UnsubscribeRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        watch::unsubscribe(&self.watched, &request.uri);
        Ok(())
    }

    fn accepted_subscription_filter(
        &self,
        requested: &SubscriptionFilter,
    ) -> Option<SubscriptionFilter> {
        let mut accepted = requested.clone();
        // What does not change is not told of.
        accepted.prompts_list_changed = None;
        if let Some(uris) = &mut accepted.resource_subscriptions {
            uris.truncate(watch::URIS_MAX);
        }
        Some(accepted)
    }

    async fn listen(&self, context: SubscriptionContext) -> Result<(), ErrorData> {
        let caller = self.caller(&context.request_context().extensions)?;
        watch::listen(&*self.door, &caller, &context).await
    }

    async fn on_custom_request(
        &self,
        request: CustomRequest,
        context: RequestContext<RoleServer>,
    ) -> Result<CustomResult, ErrorData> {
        let method = request.method.as_str();
        let gone = is_stateless(&context) && HANDSHAKE_ONLY.contains(&method);
        if !KNOWN.contains(&method) || gone {
            return Err(no_method(method));
        }
        let told = format!("the parameters of {method} are not what it takes");
        Err(ErrorData::invalid_params(told, None))
    }
}

/// The values that begin with what was typed, sorted, as many as may be told.
fn completion(mut values: Vec<String>, typed: &str) -> CompletionInfo {
    values.retain(|value| value.starts_with(typed));
    values.sort_unstable();
    values.dedup();
    let total = u32::try_from(values.len()).ok();
    let has_more = values.len() > CompletionInfo::MAX_VALUES;
    values.truncate(CompletionInfo::MAX_VALUES);
    let mut info = CompletionInfo::default();
    info.values = values;
    info.total = total;
    info.has_more = Some(has_more);
    info
}

fn no_method(method: &str) -> ErrorData {
    let told = format!("there is no method `{}`", shown(method));
    ErrorData::new(ErrorCode::METHOD_NOT_FOUND, told, None)
}

/// Whether a request carries its own metadata.
fn is_stateless(context: &RequestContext<RoleServer>) -> bool {
    let version = context.protocol_version();
    version.is_some_and(|version| version >= ProtocolVersion::V_2026_07_28)
}

/// Whether a request belongs to a connection that began with a handshake.
fn is_handshake(context: &RequestContext<RoleServer>) -> bool {
    context.meta.protocol_version().is_none() && context.peer.peer_info().is_some()
}

/// As much of a stranger's text as belongs into an answer.
fn shown(text: &str) -> String {
    text.chars().take(100).collect()
}
