//! `log`: who did what to this agent.

use serde_json::{Value, json};

use super::Session;
use super::exit::Exit;
use super::out::Cell;
use kairos_actors::action_log::ActionLog;

/// Most characters of the details in a row.
const DETAILS_SHOWN: usize = 160;

/// How much to show.
#[derive(Debug, clap::Args)]
pub struct LogArgs {
    /// How many of the newest records
    #[arg(long, default_value_t = 50)]
    limit: usize,
}

/// Runs `log`. Needs nothing but the file, so it works where nothing else does.
pub fn run(args: &LogArgs, session: &mut Session) -> anyhow::Result<Exit> {
    let data_dir = session.data_dir().existing()?;
    let newest = ActionLog::new(data_dir.path()).newest(args.limit)?;
    let out = &mut session.out;
    if out.wants_json() {
        out.json(&json!({"records": newest.records, "unreadable": newest.unreadable}))?;
        return Ok(Exit::Done);
    }
    if newest.records.is_empty() {
        out.line("Nothing was logged yet.")?;
    } else {
        let rows = newest.records.iter().map(|record| {
            let text = |name: &str| {
                let value = record.get(name).and_then(Value::as_str);
                value.unwrap_or_default().to_owned()
            };
            let mut details = match record.get("details") {
                None | Some(Value::Null) => String::new(),
                Some(details) => details.to_string(),
            };
            if let Some((at, _)) = details.char_indices().nth(DETAILS_SHOWN) {
                details.truncate(at);
                details.push('…');
            }
            [
                Cell::from(text("timestamp")),
                Cell::from(text("action")),
                Cell::from(text("skill_id")),
                Cell::from(details),
            ]
        });
        out.table(["TIME", "ACTION", "ABOUT", "DETAILS"], rows)?;
    }
    if newest.unreadable > 0 {
        out.note(format_args!(
            "{} lines of the log are no records",
            newest.unreadable
        ))?;
    }
    Ok(Exit::Done)
}
