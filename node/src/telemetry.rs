//! Logs: to standard error, for people or as one JSON object a line.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::LogFormat;

/// Sends logs at `level` (a level, or a filter such as `info,kairos_actors=debug`) to standard error. Later calls
/// change nothing.
pub fn start(level: &str, format: LogFormat) {
    // The server announces each of its threads, and the MCP SDK each client with all it says of itself; that is of no
    // use to an operator.
    let quiet = format!("actix_server=warn,rmcp=error,{level}");
    let filter = EnvFilter::try_new(quiet).unwrap_or_else(|_| EnvFilter::new("info"));
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    // A subscriber that is there already belongs to a test.
    let _ = match format {
        LogFormat::Human => subscriber.with_target(false).finish().try_init(),
        LogFormat::Json => subscriber.json().finish().try_init(),
    };
}
