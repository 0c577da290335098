//! `resource`: texts and files of all layers by their names.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Subcommand, ValueEnum};
use kairos_actors::knowledge::ResourceInfo;
use kairos_protocol::resource::{ResourceUri, is_text};
use serde_json::{Value, json};

use super::Session;
use super::exit::Exit;
use super::out::Cell;

/// What to do.
#[derive(Debug, clap::Args)]
pub struct ResourceArgs {
    #[command(subcommand)]
    command: ResourceCommand,
}

#[derive(Debug, Subcommand)]
enum ResourceCommand {
    /// List texts and files
    List {
        /// Only of this layer
        #[arg(long)]
        layer: Option<LayerArg>,
        /// Only of this kind
        #[arg(long = "type", value_name = "TYPE")]
        kind: Option<KindArg>,
    },
    /// Print a text, or write a file with --output
    Read {
        /// Its name, such as knowledge://NAME/assets/FILE, context://SESSION/NAME or l0://kairos.md
        uri: ResourceUri,
        /// Write it into this new file
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
    },
}

/// A layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LayerArg {
    /// The constitution and the law
    L0,
    /// Knowledge
    L1,
    /// Contexts of sessions
    L2,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum KindArg {
    Md,
    Scripts,
    Assets,
    References,
}

impl LayerArg {
    /// As lists name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::L0 => "L0",
            Self::L1 => "L1",
            Self::L2 => "L2",
        }
    }
}

impl KindArg {
    fn is(self, kind: &str) -> bool {
        match self {
            Self::Md => matches!(kind, "md" | "dsl"),
            Self::Scripts => kind == "script",
            Self::Assets => kind == "asset",
            Self::References => kind == "reference",
        }
    }
}

/// Runs `resource`.
pub fn run(args: ResourceArgs, session: &mut Session) -> anyhow::Result<Exit> {
    session.with_agent(|agent, mut out| async move {
        let knowledge = &agent.handles.knowledge;
        match args.command {
            ResourceCommand::List { layer, kind } => {
                let wanted = |info: &ResourceInfo| {
                    layer.is_none_or(|layer| layer.as_str() == info.layer)
                        && kind.is_none_or(|kind| kind.is(info.kind))
                };
                let mut found = knowledge.resources().await?;
                found.retain(wanted);
                if out.wants_json() {
                    out.json(&json!({ "resources": found }))?;
                    return Ok(Exit::Done);
                }
                if found.is_empty() {
                    out.line("No resources found.")?;
                    return Ok(Exit::Done);
                }
                let rows = found.iter().map(|info| {
                    [
                        Cell::from(info.layer),
                        Cell::from(info.kind),
                        Cell::from(info.size),
                        Cell::from(&info.uri),
                    ]
                });
                out.table(["LAYER", "TYPE", "BYTES", "URI"], rows)?;
            }
            ResourceCommand::Read { uri, output } => {
                let resource = knowledge.resource(uri).await?;
                if let Some(path) = output {
                    let file = std::fs::File::create_new(&path);
                    let mut file =
                        file.with_context(|| format!("cannot write {}", path.display()))?;
                    file.write_all(&resource.bytes)?;
                    file.sync_all()?;
                    out.note(format_args!(
                        "Wrote {} bytes to {}",
                        resource.bytes.len(),
                        path.display()
                    ))?;
                    return Ok(Exit::Done);
                }
                let text = match is_text(resource.info.mime_type) {
                    true => String::from_utf8(resource.bytes).ok(),
                    false => None,
                };
                if out.wants_json() {
                    let mut told = json!(resource.info);
                    if let Some(members) = told.as_object_mut() {
                        members.insert("text".to_owned(), text.map_or(Value::Null, Value::from));
                    }
                    out.json(&told)?;
                    return Ok(Exit::Done);
                }
                match text {
                    Some(text) => out.line(text.trim_end_matches('\n'))?,
                    None => out.note(format_args!(
                        "{} bytes of {}, not a text; write them to a file with --output FILE",
                        resource.info.size, resource.info.mime_type
                    ))?,
                }
            }
        }
        Ok(Exit::Done)
    })
}
