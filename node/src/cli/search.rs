//! `search`: words in all layers.

use std::time::Duration;

use kairos_protocol::search::{HITS_MAX, Layer, Query};

use super::exit::Exit;
use super::out::Tone;
use super::resource::LayerArg;
use super::{Session, Usage};

/// What to look for.
#[derive(Debug, clap::Args)]
pub struct SearchArgs {
    /// The words; what has more of them, and rarer ones, comes first
    #[arg(required = true)]
    query: Vec<String>,
    /// Only in this layer
    #[arg(long)]
    layer: Option<LayerArg>,
    /// Only what has this tag
    #[arg(long)]
    tag: Option<String>,
    /// How many, at most 100
    #[arg(long, default_value_t = 10)]
    limit: usize,
    /// Build the index anew first
    #[arg(long)]
    rebuild: bool,
}

/// Runs `search`.
pub fn run(args: SearchArgs, session: &mut Session) -> anyhow::Result<Exit> {
    let mut query =
        Query::new(&args.query.join(" "), args.limit).map_err(|error| Usage(error.to_string()))?;
    if args.limit == 0 || args.limit > HITS_MAX {
        return Err(Usage(format!("--limit is from 1 to {HITS_MAX}")).into());
    }
    query.tag = args.tag;
    query.layer = args.layer.map(|layer| match layer {
        LayerArg::L0 => Layer::L0,
        LayerArg::L1 => Layer::L1,
        LayerArg::L2 => Layer::L2,
    });
    session.with_agent(|agent, mut out| async move {
        let knowledge = &agent.handles.knowledge;
        let answer = knowledge
            .search(query, Duration::ZERO, args.rebuild)
            .await?;
        if out.wants_json() {
            out.json(&answer)?;
            return Ok(Exit::Done);
        }
        if answer.hits.is_empty() {
            out.line(format_args!("Nothing found in {} texts.", answer.documents))?;
        }
        for hit in &answer.hits {
            let uri = out.paint(Tone::Strong, &hit.uri);
            let line = match hit.description.is_empty() {
                true => uri,
                false => format!("{uri}  {}", out.paint(Tone::Quiet, &hit.description)),
            };
            out.line(line)?;
            if let Some(snippet) = &hit.snippet {
                out.line(format_args!("    {snippet}"))?;
            }
        }
        if answer.left_out > 0 {
            out.note(format_args!(
                "{} texts are not searched: there is no room for more.",
                answer.left_out
            ))?;
        }
        Ok(Exit::Done)
    })
}
