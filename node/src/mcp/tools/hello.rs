//! `hello_world`: whether anybody is there.

use kairos_place::role::Action;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::mcp::agent::AgentDoor;
use crate::mcp::call::Call;
use crate::mcp::tool::{Answer, Hints, Refusal, Tool};

/// Longest name that is greeted, in characters.
const NAME_MAX: usize = 200;

pub(super) struct HelloWorld;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    /// Whom to greet.
    name: Option<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Greeting {
    /// The greeting.
    greeting: String,
    /// The agent that this server serves.
    agent: String,
    /// The version of this server.
    version: &'static str,
}

impl Tool<AgentDoor> for HelloWorld {
    const NAME: &'static str = "hello_world";
    const TITLE: &'static str = "Hello";
    const ABOUT: &'static str =
        "Greets, and tells which agent this server serves. Use it to see whether the server works.";
    const NEEDS: Action = Action::ReadKnowledge;
    const HINTS: Hints = Hints::READ;
    type Params = Params;
    type Output = Greeting;

    async fn call(
        door: &AgentDoor,
        _call: &Call,
        params: Params,
    ) -> Result<Answer<Greeting>, Refusal> {
        let name = params.name.unwrap_or_else(|| "World".to_owned());
        if name.chars().count() > NAME_MAX {
            return Err(Refusal::say(format!(
                "Error: a name has at most {NAME_MAX} characters"
            )));
        }
        let greeting = format!("Hello, {name}! This is KairosChain MCP Server.");
        let data = Greeting {
            greeting: greeting.clone(),
            agent: door.agent.settings.identity.name.clone(),
            version: env!("CARGO_PKG_VERSION"),
        };
        Ok(Answer::new(greeting, data))
    }
}
