//! The door of an open agent.

use std::sync::Arc;

use kairos_place::role::Action;
use rmcp::ErrorData;
use rmcp::model::{
    CallToolResponse, GetPromptRequestParams, GetPromptResponse, Implementation, JsonObject,
    PaginatedRequestParams, Prompt, ReadResourceResult, Reference, RequestStateCodec, Resource,
    ResourceTemplate, Skill, Tool,
};
use tokio::sync::Semaphore;

use super::call::{Call, Caller};
use super::page::page;
use super::server::Door;
use super::tool::Toolbox;
use super::watch::{Stamp, Stamps};
use super::{consent, failure, law, prompts, resources, skills, tools};
use crate::agent::Agent;
use crate::room::Room;

/// Serves an agent.
pub struct AgentDoor {
    /// The agent.
    pub agent: Arc<Agent>,
    tools: Toolbox<Self>,
    /// Whether its disk takes more.
    room: Room,
    /// Seals the questions to users that clients carry.
    pub(super) consent: RequestStateCodec,
    /// The tools of the law as it was last read.
    pub(super) offer: law::Offer,
    /// Bounds how many tools of the law run at once.
    pub(super) running: Arc<Semaphore>,
}

impl AgentDoor {
    /// A door of `agent`, for any number of clients. Somebody has to keep `room` watched.
    pub fn new(agent: Arc<Agent>, room: Room) -> anyhow::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            agent,
            tools: tools::all(),
            room,
            consent: consent::codec()?,
            offer: law::Offer::default(),
            running: Arc::new(Semaphore::new(law::RUNNING_MAX)),
        }))
    }

    /// Whether a tool of this program has this name.
    pub(super) fn is_core(&self, name: &str) -> bool {
        self.tools.get(name).is_some()
    }
}

impl Door for AgentDoor {
    async fn tools(&self, caller: &Caller) -> Vec<Tool> {
        let mut tools: Vec<Tool> = self.tools.list(caller.role).cloned().collect();
        tools.extend(law::offered(self, caller).await);
        tools
    }

    fn tool(&self, name: &str) -> Option<Tool> {
        self.tools.get(name).cloned()
    }

    fn changes(&self, name: &str) -> bool {
        self.tools.changes(name)
    }

    async fn call(
        &self,
        call: &Call,
        name: &str,
        arguments: JsonObject,
    ) -> Option<Result<CallToolResponse, ErrorData>> {
        match self.is_core(name) {
            true => self.tools.call(self, call, name, arguments).await,
            false => law::call(self, call, name, arguments).await.map(Ok),
        }
    }

    fn no_room(&self) -> Option<String> {
        self.room.trouble()
    }

    fn name(&self) -> Implementation {
        Implementation::new("kairos-chain", env!("CARGO_PKG_VERSION"))
            .with_title("KairosChain")
            .with_description(
                "The memory of an agent: knowledge with a history that can be checked",
            )
    }

    async fn instructions(&self) -> Option<String> {
        tools::instructions::in_force(&self.agent).await
    }

    async fn resources(&self, caller: &Caller) -> Result<Vec<Resource>, ErrorData> {
        resources::list(self, caller).await
    }

    async fn stamp_of_tools(&self) -> Stamp {
        law::stamp(self).await
    }

    async fn stamps(&self, caller: &Caller, uris: &[String]) -> Result<Stamps, ErrorData> {
        resources::stamps(self, caller, uris).await
    }

    fn templates(&self) -> Vec<ResourceTemplate> {
        resources::templates()
    }

    async fn read(&self, caller: &Caller, uri: &str) -> Result<ReadResourceResult, ErrorData> {
        resources::read(self, caller, uri).await
    }

    fn prompts(&self) -> Vec<Prompt> {
        prompts::list()
    }

    async fn prompt(
        &self,
        caller: &Caller,
        request: GetPromptRequestParams,
    ) -> Result<GetPromptResponse, ErrorData> {
        Ok(prompts::get(caller, &request.name, request.arguments)?.into())
    }

    async fn values(
        &self,
        caller: &Caller,
        of: &Reference,
        argument: &str,
    ) -> Result<Vec<String>, ErrorData> {
        caller
            .may(Action::ReadKnowledge)
            .map_err(failure::of_role)?;
        match of {
            Reference::Prompt(prompt) => prompts::complete(self, &prompt.name, argument).await,
            Reference::Resource(template) => {
                resources::complete(self, &template.uri, argument).await
            }
            _ => Ok(Vec::new()),
        }
    }

    async fn skills(
        &self,
        caller: &Caller,
        request: Option<&PaginatedRequestParams>,
    ) -> Result<(Vec<Skill>, Option<String>), ErrorData> {
        let (entries, next) = page(skills::names(self, caller).await?, request, |entry| {
            &entry.name
        })?;
        let mut found = Vec::new();
        for entry in &entries {
            found.extend(skills::listed(self, entry).await?);
        }
        Ok((found, next))
    }

    async fn skill(&self, caller: &Caller, uri: &str) -> Result<Skill, ErrorData> {
        skills::get(self, caller, uri).await
    }

    async fn directory(&self, caller: &Caller, uri: &str) -> Result<Vec<Resource>, ErrorData> {
        skills::directory(self, caller, uri).await
    }
}
