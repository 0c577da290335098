//! `context_save` and `context_create_subdir`: layer L2, the texts of sessions, which are in no ledger.

use kairos_actors::knowledge::SaveContext;
use kairos_place::role::Action;
use kairos_protocol::id::SkillName;
use kairos_protocol::resource::Subdirectory;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::mcp::agent::AgentDoor;
use crate::mcp::call::Call;
use crate::mcp::tool::{Answer, Hints, Refusal, Tool};

pub(super) struct Save;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SaveParams {
    /// The session; a new one if nothing is said.
    #[schemars(with = "Option<String>")]
    session_id: Option<SkillName>,
    /// The name of the text.
    #[schemars(with = "String")]
    name: SkillName,
    /// The whole text with its YAML frontmatter.
    content: String,
    /// Make the directories scripts, assets and references too.
    #[serde(default)]
    create_subdirs: bool,
}

#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Saved {
    /// The session; use it again for what belongs together.
    session_id: String,
    /// The name of the text.
    name: String,
    /// Whether it is new.
    created: bool,
    /// Its name for resource_read.
    uri: String,
    /// The SHA-256 of the text, in hex.
    content_hash: String,
}

impl Tool<AgentDoor> for Save {
    const NAME: &'static str = "context_save";
    const TITLE: &'static str = "Save a context";
    const ABOUT: &'static str = "Saves a text of this session (layer L2): notes, hypotheses, state of work. It can change freely and is in no ledger. \
         What proves itself belongs into knowledge later.";
    const NEEDS: Action = Action::WriteContext;
    const HINTS: Hints = Hints::CHANGE.idempotent();
    type Params = SaveParams;
    type Output = Saved;

    async fn call(
        door: &AgentDoor,
        _call: &Call,
        params: SaveParams,
    ) -> Result<Answer<Saved>, Refusal> {
        let save = SaveContext {
            session: params.session_id,
            name: params.name,
            text: params.content,
            subdirectories: params.create_subdirs,
        };
        let saved = door.agent.handles.knowledge.save_context(save).await?;
        let done = if saved.created { "created" } else { "updated" };
        let text = format!(
            "SUCCESS: Context {done}\n\n**Session:** {}\n**Name:** {}\n\nNo blockchain recording (L2 is free modification).",
            saved.session, saved.name
        );
        let data = Saved {
            uri: format!("context://{}/{}", saved.session, saved.name),
            session_id: saved.session.to_string(),
            name: saved.name.to_string(),
            created: saved.created,
            content_hash: saved.content_hash.to_hex(),
        };
        Ok(Answer::new(text, data))
    }
}

pub(super) struct CreateSubdir;

#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Subdir {
    Scripts,
    Assets,
    References,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SubdirParams {
    /// The session.
    #[schemars(with = "String")]
    session_id: SkillName,
    /// The name of the text.
    #[schemars(with = "String")]
    name: SkillName,
    /// Which directory.
    subdir: Subdir,
}

#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Made {
    /// The directory below the data directory.
    path: String,
}

impl Tool<AgentDoor> for CreateSubdir {
    const NAME: &'static str = "context_create_subdir";
    const TITLE: &'static str = "Make a directory beside a context";
    const ABOUT: &'static str =
        "Makes the directory scripts, assets or references beside a saved context (layer L2).";
    const NEEDS: Action = Action::WriteContext;
    const HINTS: Hints = Hints::ADD.idempotent();
    type Params = SubdirParams;
    type Output = Made;

    async fn call(
        door: &AgentDoor,
        _call: &Call,
        params: SubdirParams,
    ) -> Result<Answer<Made>, Refusal> {
        let which = match params.subdir {
            Subdir::Scripts => Subdirectory::Scripts,
            Subdir::Assets => Subdirectory::Assets,
            Subdir::References => Subdirectory::References,
        };
        let knowledge = &door.agent.handles.knowledge;
        let path = knowledge
            .make_context_directory(params.session_id, params.name, which)
            .await?;
        let text = format!("SUCCESS: Created subdirectory\n\n**Path:** {path}");
        Ok(Answer::new(text, Made { path }))
    }
}
