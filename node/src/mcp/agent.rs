//! The door of an open agent.

use std::sync::{Arc, LazyLock};

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
    /// Made when somebody first asks: their schemas take a megabyte, and many servers never see a model.
    tools: LazyLock<Toolbox<Self>>,
    /// Whether its disk takes more.
    room: Room,
    /// Seals the questions to users that clients carry.
    pub(super) consent: RequestStateCodec,
    /// The tools of the law as it was last read.
    pub(super) offer: law::Offer,
    /// The knowledge as it was last listed.
    pub(super) listing: tools::knowledge::Listing,
    /// Bounds how many tools of the law run at once.
    pub(super) running: Arc<Semaphore>,
}

impl AgentDoor {
    /// A door of `agent`, for any number of clients. Somebody has to keep `room` watched.
    pub fn new(agent: Arc<Agent>, room: Room) -> anyhow::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            agent,
            tools: LazyLock::new(tools::all),
            room,
            consent: consent::codec()?,
            offer: law::Offer::default(),
            listing: tools::knowledge::Listing::default(),
            running: Arc::new(Semaphore::new(law::RUNNING_MAX)),
        }))
    }

    /// Whether a tool of this program has this name.
    pub(super) fn is_core(&self, name: &str) -> bool {
        self.tools.get(name).is_some()
    }
}

// The SDK answers every kind of request in one future, as large as that of the largest kind, and moves it several times
// for each request. So what is large lies elsewhere.
impl Door for AgentDoor {
    async fn tools(&self, caller: &Caller) -> Vec<Tool> {
        let mut tools: Vec<Tool> = self.tools.list(caller.role).cloned().collect();
        tools.extend(Box::pin(law::offered(self, caller)).await);
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
            false => {
                let called = Box::pin(law::call(self, call, name, arguments));
                called.await.map(Ok)
            }
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
        Box::pin(tools::instructions::in_force(&self.agent)).await
    }

    async fn resources(&self, caller: &Caller) -> Result<Vec<Resource>, ErrorData> {
        Box::pin(resources::list(self, caller)).await
    }

    async fn stamp_of_tools(&self) -> Stamp {
        Box::pin(law::stamp(self)).await
    }

    async fn stamps(&self, caller: &Caller, uris: &[String]) -> Result<Stamps, ErrorData> {
        Box::pin(resources::stamps(self, caller, uris)).await
    }

    fn templates(&self) -> Vec<ResourceTemplate> {
        resources::templates()
    }

    async fn read(&self, caller: &Caller, uri: &str) -> Result<ReadResourceResult, ErrorData> {
        Box::pin(resources::read(self, caller, uri)).await
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
            Reference::Prompt(prompt) => {
                Box::pin(prompts::complete(self, &prompt.name, argument)).await
            }
            Reference::Resource(template) => {
                Box::pin(resources::complete(self, &template.uri, argument)).await
            }
            _ => Ok(Vec::new()),
        }
    }

    async fn skills(
        &self,
        caller: &Caller,
        request: Option<&PaginatedRequestParams>,
    ) -> Result<(Vec<Skill>, Option<String>), ErrorData> {
        let names = Box::pin(skills::names(self, caller)).await?;
        let (entries, next) = page(names, request, |entry| &entry.name)?;
        let mut found = Vec::new();
        for entry in &entries {
            found.extend(Box::pin(skills::listed(self, entry)).await?);
        }
        Ok((found, next))
    }

    async fn skill(&self, caller: &Caller, uri: &str) -> Result<Skill, ErrorData> {
        Box::pin(skills::get(self, caller, uri)).await
    }

    async fn directory(&self, caller: &Caller, uri: &str) -> Result<Vec<Resource>, ErrorData> {
        Box::pin(skills::directory(self, caller, uri)).await
    }
}
