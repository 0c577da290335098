//! `token_manage`: who has tokens, and taking them back. A token is never handed to a model.

use std::fmt::Write as _;

use kairos_actors::auth::Revoke;
use kairos_place::role::{Action, Role};
use kairos_place::token::{Standing, UserName, Which};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::mcp::agent::AgentDoor;
use crate::mcp::call::Call;
use crate::mcp::tool::{Answer, Hints, Refusal, Tool};

pub(super) struct Manage;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Command {
    Create,
    Revoke,
    List,
    Rotate,
}

#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum RoleName {
    Owner,
    Member,
    Guest,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    /// What to do. `create` and `rotate` only tell what the owner runs: a token is printed once, and not to a model.
    command: Command,
    /// Whose tokens.
    #[schemars(with = "Option<String>")]
    user: Option<UserName>,
    /// The role of a new token.
    role: Option<RoleName>,
    /// How long a new token is good for: 90d, 24h, 30m or never.
    expires_in: Option<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Tokens {
    /// Active tokens, for `list`.
    tokens: Vec<TokenData>,
    /// How many were taken back, for `revoke`.
    revoked: usize,
}

#[derive(Debug, Serialize, JsonSchema)]
struct TokenData {
    /// The start of its hash.
    token_hash: String,
    /// Whose it is.
    user: String,
    /// `owner`, `member` or `guest`.
    role: &'static str,
    /// `active` or `expired`.
    status: &'static str,
    /// When it was made.
    issued_at: String,
    /// Who made it.
    issued_by: String,
    /// When its time is over; null for never.
    expires_at: Option<String>,
}

impl Tool<AgentDoor> for Manage {
    const NAME: &'static str = "token_manage";
    const TITLE: &'static str = "Tokens";
    const ABOUT: &'static str = "Lists the tokens of people and programs that act for the owner, and takes them back. New tokens are made by the owner at \
         the command line.";
    const NEEDS: Action = Action::ManageTokens;
    const HINTS: Hints = Hints::CHANGE;
    type Params = Params;
    type Output = Tokens;

    async fn call(
        door: &AgentDoor,
        call: &Call,
        params: Params,
    ) -> Result<Answer<Tokens>, Refusal> {
        let auth = &door.agent.handles.auth;
        match params.command {
            Command::List => list(door).await,
            Command::Revoke => {
                let user = params
                    .user
                    .ok_or_else(|| Refusal::say("Error: 'user' is required for revoke"))?;
                let by = call.caller.user.to_string();
                let revoked = auth
                    .revoke(Revoke {
                        which: Which::Of(user.clone()),
                        by,
                    })
                    .await?
                    .len();
                let text = format!("Revoked {revoked} token(s) for user '{user}'.");
                let tokens = Vec::new();
                Ok(Answer::new(text, Tokens { tokens, revoked }))
            }
            Command::Create | Command::Rotate => {
                let name = if params.command == Command::Create {
                    "create"
                } else {
                    "rotate"
                };
                let user = params
                    .user
                    .ok_or_else(|| Refusal::say(format!("Error: 'user' is required for {name}")))?;
                Err(Refusal::say(hand_over(
                    params.command,
                    &user,
                    params.role,
                    params.expires_in.as_deref(),
                )))
            }
        }
    }
}

/// What the owner runs: whoever reads a token has its role, and a model passes on what it reads.
fn hand_over(
    command: Command,
    user: &UserName,
    role: Option<RoleName>,
    expires: Option<&str>,
) -> String {
    let mut line = match command {
        Command::Rotate => format!("kairos-chain token rotate {user}"),
        _ => {
            let role = match role {
                Some(RoleName::Owner) => Role::Owner,
                Some(RoleName::Guest) => Role::Guest,
                Some(RoleName::Member) | None => Role::Member,
            };
            format!("kairos-chain token create --user {user} --role {role}")
        }
    };
    let plain = |text: &&str| text.chars().all(|c| c.is_ascii_alphanumeric()) && text.len() <= 16;
    if let Some(expires) = expires.filter(plain).filter(|_| command == Command::Create) {
        let _ = write!(line, " --expires {expires}");
    }
    format!(
        "Human Approval Required: a token is shown once, and only to the owner. Ask them to run:\n\n    {line}"
    )
}

async fn list(door: &AgentDoor) -> Result<Answer<Tokens>, Refusal> {
    let now = door.agent.clock.now();
    let book = door.agent.handles.auth.book().await?;
    let listed = book
        .tokens()
        .filter(|token| token.standing(now) != Standing::Revoked);
    let tokens: Vec<_> = listed
        .map(|token| TokenData {
            token_hash: token.shown().to_string(),
            user: token.user.to_string(),
            role: token.role.as_str(),
            status: token.standing(now).as_str(),
            issued_at: token.issued_at.entry(),
            issued_by: token.issued_by.clone(),
            expires_at: token.expires_at.map(|end| end.entry()),
        })
        .collect();
    let mut text = format!("Active tokens ({}):\n", tokens.len());
    for token in &tokens {
        let status = if token.status == "active" {
            "active"
        } else {
            "EXPIRED"
        };
        let expires = token.expires_at.as_deref().unwrap_or("never");
        let _ = writeln!(text, "  - {} ({})", token.user, token.role);
        let _ = writeln!(text, "    Status: {status}");
        let _ = writeln!(
            text,
            "    Issued: {} by {}",
            token.issued_at, token.issued_by
        );
        let _ = writeln!(text, "    Expires: {expires}");
    }
    Ok(Answer::new(text.trim_end(), Tokens { tokens, revoked: 0 }))
}
