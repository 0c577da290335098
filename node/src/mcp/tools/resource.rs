//! `resource_list` and `resource_read`: texts and files of all layers by their names.

use std::fmt::Write as _;

use kairos_actors::knowledge::ResourceInfo;
use kairos_place::role::Action;
use kairos_protocol::resource::{ResourceUri, is_text};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::text::{size, table};
use crate::mcp::agent::AgentDoor;
use crate::mcp::call::Call;
use crate::mcp::tool::{Answer, Hints, Refusal, Tool};

/// What is known of a resource.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct InfoData {
    /// Its name, for resource_read.
    uri: String,
    /// The name of the file.
    name: String,
    /// `L0`, `L1` or `L2`.
    layer: &'static str,
    /// `md`, `dsl`, `script`, `asset` or `reference`.
    #[serde(rename = "type")]
    kind: &'static str,
    /// Its media type.
    mime_type: &'static str,
    /// Bytes.
    size: u64,
    /// When it was changed.
    modified_at: Option<String>,
    /// The session it belongs to.
    session: Option<String>,
}

impl From<&ResourceInfo> for InfoData {
    fn from(info: &ResourceInfo) -> Self {
        Self {
            uri: info.uri.clone(),
            name: info.name.clone(),
            layer: info.layer,
            kind: info.kind,
            mime_type: info.mime_type,
            size: info.size,
            modified_at: info.modified_at.map(|at| at.wire()),
            session: info.session.clone(),
        }
    }
}

pub(super) struct List;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Kind {
    #[default]
    All,
    Md,
    Scripts,
    Assets,
    References,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Md => "md",
            Self::Scripts => "scripts",
            Self::Assets => "assets",
            Self::References => "references",
        }
    }

    fn is(self, kind: &str) -> bool {
        match self {
            Self::All => true,
            Self::Md => matches!(kind, "md" | "dsl"),
            Self::Scripts => kind == "script",
            Self::Assets => kind == "asset",
            Self::References => kind == "reference",
        }
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Layer {
    #[default]
    All,
    L0,
    L1,
    L2,
}

impl Layer {
    fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::L0 => "L0",
            Self::L1 => "L1",
            Self::L2 => "L2",
        }
    }
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ListParams {
    /// Only those with this text in their URI or name; letter case does not matter.
    filter: Option<String>,
    /// Only of this kind.
    #[serde(rename = "type")]
    kind: Option<Kind>,
    /// Only of this layer.
    layer: Option<Layer>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Listed {
    /// What was found.
    resources: Vec<InfoData>,
}

impl Tool<AgentDoor> for List {
    const NAME: &'static str = "resource_list";
    const TITLE: &'static str = "List resources";
    const ABOUT: &'static str = "Lists texts and files of all layers: the law (l0://), knowledge (knowledge://) and contexts (context://). Read one with \
         resource_read.";
    const NEEDS: Action = Action::ReadKnowledge;
    const HINTS: Hints = Hints::READ;
    type Params = ListParams;
    type Output = Listed;

    async fn call(
        door: &AgentDoor,
        _call: &Call,
        params: ListParams,
    ) -> Result<Answer<Listed>, Refusal> {
        let (kind, layer) = (
            params.kind.unwrap_or_default(),
            params.layer.unwrap_or_default(),
        );
        let filter = params.filter.as_deref().map(str::to_lowercase);
        let mut found = door.agent.handles.knowledge.resources().await?;
        found.retain(|info| {
            let holds = |filter: &str| {
                info.uri.to_lowercase().contains(filter)
                    || info.name.to_lowercase().contains(filter)
            };
            (layer == Layer::All || layer.as_str() == info.layer)
                && kind.is(info.kind)
                && filter.as_deref().is_none_or(holds)
        });
        let resources: Vec<_> = found.iter().map(InfoData::from).collect();
        if resources.is_empty() {
            return Ok(Answer::new("No resources found.", Listed { resources }));
        }
        let mut text = "## Resources\n".to_owned();
        for (layer, title) in [
            ("L0", "L0 (Skills)"),
            ("L1", "L1 (Knowledge)"),
            ("L2", "L2 (Context)"),
        ] {
            let of: Vec<_> = resources
                .iter()
                .filter(|info| info.layer == layer)
                .collect();
            if of.is_empty() {
                continue;
            }
            let rows = of.iter().map(|info| {
                [
                    format!("`{}`", info.uri),
                    info.name.clone(),
                    info.kind.to_owned(),
                    size(info.size),
                ]
            });
            let _ = write!(
                text,
                "\n### {title}\n\n{}",
                table(["URI", "Name", "Type", "Size"], rows)
            );
        }
        let mut filters = Vec::new();
        if let Some(filter) = &params.filter {
            filters.push(format!("filter: {filter}"));
        }
        if kind != Kind::All {
            filters.push(format!("type: {}", kind.as_str()));
        }
        if layer != Layer::All {
            filters.push(format!("layer: {}", layer.as_str().to_lowercase()));
        }
        let _ = write!(text, "\n**Total:** {} resources", resources.len());
        if !filters.is_empty() {
            let _ = write!(text, " ({})", filters.join(", "));
        }
        Ok(Answer::new(text, Listed { resources }))
    }
}

pub(super) struct Read;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ReadParams {
    /// Its name, such as knowledge://NAME, knowledge://NAME/assets/FILE, context://SESSION/NAME or l0://kairos.md.
    uri: String,
}

#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct ReadData {
    /// What is known of it.
    info: InfoData,
    /// Its text; null for what is no text.
    text: Option<String>,
}

impl Tool<AgentDoor> for Read {
    const NAME: &'static str = "resource_read";
    const TITLE: &'static str = "Read a resource";
    const ABOUT: &'static str = "Reads a text or a file by its name, as resource_list shows it. Of a file that is no text only its size is told.";
    const NEEDS: Action = Action::ReadKnowledge;
    const HINTS: Hints = Hints::READ;
    type Params = ReadParams;
    type Output = ReadData;

    async fn call(
        door: &AgentDoor,
        _call: &Call,
        params: ReadParams,
    ) -> Result<Answer<ReadData>, Refusal> {
        let uri: ResourceUri = params.uri.parse().map_err(|error| {
            Refusal::say(format!(
                "## Resource Not Found\n\n{error}. resource_list shows what there is."
            ))
        })?;
        let resource = door.agent.handles.knowledge.resource(uri).await?;
        let info = InfoData::from(&resource.info);
        let text = match is_text(info.mime_type) {
            true => String::from_utf8(resource.bytes).ok(),
            false => None,
        };
        let rows = [
            ["Layer".to_owned(), info.layer.to_owned()],
            ["Type".to_owned(), info.kind.to_owned()],
            ["MIME Type".to_owned(), info.mime_type.to_owned()],
            ["Size".to_owned(), size(info.size)],
        ];
        let mut told = format!(
            "## Resource: {}\n\n{}\n",
            info.uri,
            table(["Field", "Value"], rows)
        );
        match &text {
            Some(text) => {
                let fence = fence(text);
                let _ = write!(
                    told,
                    "### Content\n\n{fence}\n{}\n{fence}",
                    text.trim_end_matches('\n')
                );
            }
            None => {
                let _ = write!(
                    told,
                    "Not a text: {} of {}.",
                    size(info.size),
                    info.mime_type
                );
            }
        }
        Ok(Answer::new(told, ReadData { info, text }))
    }
}

/// A fence that `text` does not end: longer than any of its own.
fn fence(text: &str) -> String {
    let mut longest = 0;
    let mut run = 0;
    for c in text.chars() {
        run = if c == '`' { run + 1 } else { 0 };
        longest = longest.max(run);
    }
    "`".repeat(longest.max(2) + 1)
}

#[cfg(test)]
mod tests {
    #[test]
    fn no_text_ends_its_own_fence() {
        for (text, fence) in [
            ("", "```"),
            ("a `b`", "```"),
            ("```rb\n```", "````"),
            ("`````", "``````"),
        ] {
            assert_eq!(super::fence(text), fence);
        }
    }
}
