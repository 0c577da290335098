//! `system_upgrade`: whether the texts of the agent are those of this version. A person carries an upgrade out.

use std::fmt::Write as _;

use kairos_place::role::Action;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::data_dir::meta::{Meta, Own};
use crate::mcp::agent::AgentDoor;
use crate::mcp::call::Call;
use crate::mcp::tool::{Answer, Hints, Refusal, Tool};
use crate::upgrade::{self, Plan};

/// Characters of a hash that are shown, as in the reference.
const HASH_SHOWN: usize = 21;

pub(super) struct Upgrade;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    /// What to tell. `apply` tells how the user carries an upgrade out.
    command: Command,
    /// Has no effect: only the user approves an upgrade.
    #[serde(default, rename = "approved")]
    _approved: Option<bool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Command {
    Check,
    Preview,
    Apply,
    Status,
}

#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Told {
    /// The version that the data directory is of; `unknown` if nothing says.
    data_version: String,
    /// This version.
    program_version: String,
    /// Whether an upgrade has anything to do.
    needed: bool,
    /// Each text that differs from that of this version, and what an upgrade does about it.
    items: Vec<Text>,
    /// The last upgrade; null if there was none.
    last_upgrade: Option<Last>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Text {
    /// The file, below the data directory.
    path: String,
    /// `UP`, `USER`, `CONFLICT` or `NEW`.
    state: &'static str,
    /// What an upgrade does about it.
    intent: &'static str,
    /// The difference; null where none is shown.
    diff: Option<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Last {
    /// The version before.
    from_version: String,
    /// The version after.
    to_version: String,
    /// When.
    at: String,
}

impl Tool<AgentDoor> for Upgrade {
    const NAME: &'static str = "system_upgrade";
    const TITLE: &'static str = "Upgrade of the agent's texts";
    const ABOUT: &'static str = "Tells whether the agent's own texts and settings are those of this version, and what an upgrade would \
         change. Only the user carries it out.";
    const NEEDS: Action = Action::ReadStatus;
    const HINTS: Hints = Hints::READ;
    type Params = Params;
    type Output = Told;

    async fn call(door: &AgentDoor, _call: &Call, params: Params) -> Result<Answer<Told>, Refusal> {
        let dir = door.agent.data_dir.clone();
        let (plan, meta) = tokio::task::spawn_blocking(move || {
            let plan = upgrade::plan(&dir, &[])?;
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>((plan, Meta::read(&dir.meta_file())?))
        })
        .await?
        .map_err(Refusal::Failed)?;
        let own = meta.and_then(|meta| meta.own);
        let text = match params.command {
            Command::Check => check(&plan),
            Command::Preview => preview(&plan),
            Command::Status => status(&plan, own.as_ref()),
            Command::Apply if plan.needed => {
                return Err(Refusal::say(
                    "Upgrade requires approval. No tool carries it out: tell the user to look at it with \
                     `kairos-chain upgrade` and to run `kairos-chain upgrade --apply`.",
                ));
            }
            Command::Apply => return Err(Refusal::say(NONE_NEEDED)),
        };
        Ok(Answer::new(text, told(plan, own)))
    }
}

const NONE_NEEDED: &str = "No upgrade needed. Data directory is already up to date.";

fn told(plan: Plan, own: Option<Own>) -> Told {
    let items = plan.items.into_iter().filter(|item| item.word() != "OK");
    let items = items.map(|item| Text {
        state: item.word(),
        intent: item.intent(),
        path: item.path,
        diff: item.diff,
    });
    let last = own.and_then(|own| own.last_upgrade);
    Told {
        data_version: plan.from_version,
        program_version: plan.to_version.to_owned(),
        needed: plan.needed,
        items: items.collect(),
        last_upgrade: last.map(|last| Last {
            from_version: last.from_version,
            to_version: last.to_version,
            at: last.timestamp,
        }),
    }
}

fn versions(plan: &Plan) -> String {
    let data = match plan.from_version.as_str() {
        "unknown" => "(unknown — no .kairos_meta.yml)",
        version => version,
    };
    format!("Gem version:  {}\nData version: {data}\n", plan.to_version)
}

fn check(plan: &Plan) -> String {
    let mut text = format!("# System Upgrade Check\n\n{}\n", versions(plan));
    if !plan.needed {
        text.push_str("No upgrade needed. Data directory is up to date.");
        return text;
    }
    text.push_str("**Upgrade available!**\n");
    for word in ["NEW", "UP", "CONFLICT", "USER"] {
        let count = plan.items.iter().filter(|item| item.word() == word).count();
        if count > 0 {
            let _ = write!(text, "\n- {word}: {count}");
        }
    }
    text
}

fn preview(plan: &Plan) -> String {
    let mut text = format!("# Upgrade Preview\n\n{}\n", versions(plan));
    for item in &plan.items {
        let _ = writeln!(text, "### {} {}", item.word(), item.path);
        if item.word() != "OK" {
            let _ = writeln!(text, "{}", item.intent());
        }
        if let Some(diff) = &item.diff {
            let _ = writeln!(
                text,
                "```diff\n{}\n```",
                diff.trim_end().replace("```", "'''")
            );
        }
    }
    match plan.needed {
        true => text.push_str("\nThe user carries it out with `kairos-chain upgrade --apply`."),
        false => text.push_str(NONE_NEEDED),
    }
    text
}

fn status(plan: &Plan, own: Option<&Own>) -> String {
    let mut text = format!("# System Status\n\n{}", versions(plan));
    let Some(own) = own else {
        return text;
    };
    if let Some(last) = &own.last_upgrade {
        let _ = write!(
            text,
            "\nLast upgrade:\n  From: {}\n  To: {}\n  At: {}\n",
            last.from_version, last.to_version, last.timestamp
        );
    }
    text.push_str("\nTemplate hashes:\n");
    for (path, hash) in &own.template_hashes {
        let hash: String = hash.chars().take(HASH_SHOWN).collect();
        let _ = writeln!(text, "  {path}: {hash}...");
    }
    text
}
