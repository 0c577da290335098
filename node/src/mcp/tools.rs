//! The tools of an agent: one file for each family.

use kairos_protocol::resource::Law as LawFile;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::agent::AgentDoor;
use super::tool::{Answer, Refusal, Toolbox};

mod anchor;
mod approvals;
mod assembly;
mod audit;
mod chain;
mod context;
mod definition;
mod evolve;
mod formalization;
mod guide;
mod hello;
mod hosting;
pub(super) mod instructions;
pub(super) mod knowledge;
mod meeting;
mod peer;
mod place;
mod promote;
mod resource;
mod search;
mod skills;
mod state;
mod text;
mod token;
mod upgrade;
mod why;

/// All of them, in the order of the reference, ours last.
pub(super) fn all() -> Toolbox<AgentDoor> {
    Toolbox::default()
        .with::<hello::HelloWorld>()
        .with::<skills::List>()
        .with::<skills::Get>()
        .with::<skills::LawList>()
        .with::<skills::LawGet>()
        .with::<evolve::Evolve>()
        .with::<evolve::Rollback>()
        .with::<promote::Promote>()
        .with::<audit::Audit>()
        .with::<instructions::Update>()
        .with::<resource::List>()
        .with::<resource::Read>()
        .with::<knowledge::List>()
        .with::<knowledge::Get>()
        .with::<knowledge::Update>()
        .with::<context::Save>()
        .with::<context::CreateSubdir>()
        .with::<chain::Status>()
        .with::<chain::Record>()
        .with::<chain::Verify>()
        .with::<chain::History>()
        .with::<chain::Export>()
        .with::<chain::Import>()
        .with::<formalization::Record>()
        .with::<formalization::History>()
        .with::<definition::Verify>()
        .with::<definition::Decompile>()
        .with::<definition::Drifted>()
        .with::<state::Commit>()
        .with::<state::Status>()
        .with::<state::History>()
        .with::<guide::Guide>()
        .with::<token::Manage>()
        .with::<upgrade::Upgrade>()
        .with::<meeting::Connect>()
        .with::<meeting::Disconnect>()
        .with::<meeting::Acquire>()
        .with::<meeting::Details>()
        .with::<anchor::Status>()
        .with::<anchor::Execute>()
        .with::<anchor::Declare>()
        .with::<anchor::Observe>()
        .with::<hosting::Start>()
        .with::<hosting::Status>()
        .with::<approvals::List>()
        .with::<approvals::Show>()
        .with::<chain::Prove>()
        .with::<search::Search>()
        .with::<why::Why>()
        .with::<peer::Meet>()
        .with::<peer::List>()
        .with::<peer::Acquire>()
        .with::<peer::Message>()
        .with::<peer::Inbox>()
        .with::<place::Join>()
        .with::<place::Leave>()
        .with::<place::List>()
        .with::<place::board::Browse>()
        .with::<place::board::Deposit>()
        .with::<place::board::Withdraw>()
        .with::<place::board::Acquire>()
        .with::<place::mail::Message>()
        .with::<place::mail::Mail>()
}

/// The bytes of the law.
pub(super) async fn source_of_law(door: &AgentDoor) -> Result<Vec<u8>, Refusal> {
    skills::file(door, LawFile::Ruby).await
}

/// What a tool takes that takes nothing.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Nothing {}

/// What tools of the reference answer that have no text of their own: an object, and the same as text.
type Reply = Map<String, Value>;

fn reply(value: Value) -> Result<Answer<Reply>, Refusal> {
    let text = serde_json::to_string_pretty(&value)?;
    match value {
        Value::Object(members) => Ok(Answer::new(text, members)),
        _ => Err(Refusal::say(text)),
    }
}
