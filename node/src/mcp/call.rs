//! One call of a tool: who calls, and the ways to tell them how it goes.
#![expect(
    deprecated,
    reason = "the handshake era logs with what the stateless one no longer has"
)]

use kairos_place::proposal::Person;
use kairos_place::role::{Action, Role};
use kairos_place::token::UserName;
use rmcp::RoleServer;
use rmcp::model::{
    InputResponses, LoggingLevel, LoggingMessageNotificationParam, ProgressNotificationParam,
};
use rmcp::service::RequestContext;

use serde_json::Value;

use super::tool::Refusal;

/// Who calls, through the MCP door.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Their name: of their token, or `local` over stdio.
    pub user: UserName,
    /// What they may do.
    pub role: Role,
}

impl Caller {
    /// Whether their role allows `action`; if not, says whom to ask.
    pub fn may(&self, action: Action) -> Result<(), Refusal> {
        self.role.authorize(action).map_err(|forbidden| {
            Refusal::say(format!(
                "{forbidden}. Ask the owner of this agent for a token with that role."
            ))
        })
    }

    /// Who they are, to be written down.
    pub fn person(&self) -> Person {
        Person {
            user: self.user.clone(),
            role: self.role,
            door: "mcp".to_owned(),
        }
    }
}

/// One call.
pub struct Call {
    /// Who calls.
    pub caller: Caller,
    /// The least severe level that the client wants to hear of; nothing if it did not say.
    pub level: Option<LoggingLevel>,
    /// The request as the SDK has it.
    pub context: RequestContext<RoleServer>,
    /// What a person answered, where the request is a second round.
    pub answers: Option<InputResponses>,
    /// What we gave the client to bring back with it. Anybody can have made it up.
    pub state: Option<String>,
}

impl Call {
    /// Tells how far the work is, if the client wants to know. One that cannot be told does not end the work.
    pub async fn progress(&self, done: u32, total: Option<u32>, message: &str) {
        let Some(token) = self.context.meta.get_progress_token() else {
            return;
        };
        let mut told = ProgressNotificationParam::new(token, f64::from(done)).with_message(message);
        if let Some(total) = total {
            told = told.with_total(f64::from(total));
        }
        if let Err(error) = self.context.peer.notify_progress(told).await {
            tracing::debug!(%error, "progress was not told");
        }
    }

    /// Tells a client that wants to hear of it. One that cannot be told does not end the work.
    pub async fn log(&self, level: LoggingLevel, message: impl Into<String>) {
        let wanted = self
            .level
            .is_some_and(|least| severity(level) >= severity(least));
        if !wanted {
            return;
        }
        let told = LoggingMessageNotificationParam::new(level, Value::String(message.into()));
        let told = told.with_logger("kairos-chain");
        if let Err(error) = self.context.peer.notify_logging_message(told).await {
            tracing::debug!(%error, "a log line was not told");
        }
    }
}

/// The levels of RFC 5424, the more severe the higher.
fn severity(level: LoggingLevel) -> u8 {
    match level {
        LoggingLevel::Debug => 0,
        LoggingLevel::Info => 1,
        LoggingLevel::Notice => 2,
        LoggingLevel::Warning => 3,
        LoggingLevel::Error => 4,
        LoggingLevel::Critical => 5,
        LoggingLevel::Alert => 6,
        _ => 7,
    }
}
