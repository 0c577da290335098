//! Logs: for people or as one JSON object a line, to standard error or to a file.
//!
//! What a running node can change is behind [`Logs`]: the levels, and the file, which is opened anew after somebody
//! moved it away. The last error is kept for whoever asks how the node is.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal as _, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use kairos_protocol::time::{Clock as _, Timestamp};
use parking_lot::Mutex;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::registry::Registry;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, reload};

use crate::clock::SystemClock;
use crate::config::LogFormat;

/// Where files of logs are that have no path of their own, below the data directory. Nothing there is part of the agent.
pub(crate) const FOLDER: &str = "storage/log";
/// Longest text of the last error.
const ERROR_MAX: usize = 500;

/// Sends logs at `level` (a level, or a filter such as `info,kairos_actors=debug`) to standard error. Later calls
/// change nothing.
pub fn start(level: &str, format: LogFormat) {
    let logs = Logs::default();
    logs.begin(level, format);
}

/// Like [`start`], to the file at `path` if one is named.
///
/// # Errors
///
/// The file cannot be opened.
pub fn start_with(level: &str, format: LogFormat, path: Option<&Path>) -> io::Result<Logs> {
    let logs = Logs::default();
    logs.send_to(path)?;
    logs.begin(level, format);
    Ok(logs)
}

/// The logs of a running program. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Logs {
    target: Target,
    last: LastError,
    /// Absent until logs are sent anywhere, and where a test has its own.
    filter: Arc<Mutex<Option<reload::Handle<EnvFilter, Registry>>>>,
}

impl Logs {
    /// Sends them to the file at `path`, opened now; to standard error if there is none.
    ///
    /// # Errors
    ///
    /// The file cannot be opened; then they go where they went before.
    pub fn send_to(&self, path: Option<&Path>) -> io::Result<()> {
        self.target
            .0
            .store(path.map(open).transpose()?.map(Arc::new));
        Ok(())
    }

    /// Shows what `level` lets through from now on.
    ///
    /// # Errors
    ///
    /// The filter cannot be changed.
    pub fn set_level(&self, level: &str) -> Result<(), reload::Error> {
        match &*self.filter.lock() {
            Some(handle) => handle.reload(filter(level)),
            None => Ok(()),
        }
    }

    /// The last error that was logged, and when.
    pub fn last_error(&self) -> Option<(Timestamp, String)> {
        self.last.0.lock().clone()
    }

    fn begin(&self, level: &str, format: LogFormat) {
        let (filter, handle) = reload::Layer::new(filter(level));
        *self.filter.lock() = Some(handle);
        let lines = tracing_subscriber::fmt::layer()
            .with_writer(self.target.clone())
            .with_ansi(self.target.is_terminal());
        let registry = Registry::default().with(filter).with(self.last.clone());
        // A subscriber that is there already belongs to a test.
        let _ = match format {
            LogFormat::Human => registry.with(lines.with_target(false)).try_init(),
            LogFormat::Json => registry.with(lines.json()).try_init(),
        };
    }
}

fn filter(level: &str) -> EnvFilter {
    // The server announces each of its threads, and the MCP SDK each client with all it says of itself; that is of no
    // use to an operator.
    let quiet = format!("actix_server=warn,rmcp=error,{level}");
    EnvFilter::try_new(quiet).unwrap_or_else(|_| EnvFilter::new("info"))
}

fn open(path: &Path) -> io::Result<File> {
    if let Some(folder) = path.parent()
        && folder.ends_with(FOLDER)
    {
        std::fs::create_dir_all(folder)?;
    }
    // Logs tell of peers and addresses, which is nobody else's business.
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)
}

/// The file of logs of the data directory `folder`, if the setting names one.
pub fn file(folder: &Path, setting: &str) -> Option<PathBuf> {
    (!setting.is_empty()).then(|| folder.join(FOLDER).join(setting))
}

/// Where lines go.
#[derive(Debug, Clone, Default)]
struct Target(Arc<ArcSwapOption<File>>);

impl Target {
    fn is_terminal(&self) -> bool {
        self.0.load().is_none() && io::stderr().is_terminal()
    }
}

/// Takes one line.
enum Lines {
    Stderr(io::Stderr),
    File(Arc<File>),
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stderr(stderr) => stderr.write(bytes),
            Self::File(file) => (&**file).write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Stderr(stderr) => stderr.flush(),
            Self::File(file) => (&**file).flush(),
        }
    }
}

impl<'a> MakeWriter<'a> for Target {
    type Writer = Lines;

    fn make_writer(&'a self) -> Lines {
        match self.0.load_full() {
            Some(file) => Lines::File(file),
            None => Lines::Stderr(io::stderr()),
        }
    }
}

/// Keeps the last error that was logged.
#[derive(Debug, Clone, Default)]
struct LastError(Arc<Mutex<Option<(Timestamp, String)>>>);

impl<S: Subscriber> Layer<S> for LastError {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if *event.metadata().level() == Level::ERROR {
            let mut text = Text::default();
            event.record(&mut text);
            *self.0.lock() = Some((SystemClock.now(), text.whole()));
        }
    }
}

/// An event as one line of bounded length.
#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Text {
    fn whole(mut self) -> String {
        self.message.push_str(&self.fields);
        let end = self.message.floor_char_boundary(ERROR_MAX);
        self.message.truncate(end);
        self.message
    }
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        match field.name() {
            "message" => self.message = format!("{value:?}"),
            name if self.fields.len() < ERROR_MAX => {
                self.fields.push_str(&format!(" {name}={value:?}"));
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_logs_that_was_moved_away_is_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = file(folder.path(), "node.log").unwrap();
        let logs = Logs::default();
        logs.send_to(Some(&path)).unwrap();
        let say = |text: &str| {
            logs.target
                .make_writer()
                .write_all(text.as_bytes())
                .unwrap()
        };
        say("one\n");
        let moved = folder.path().join("node.log.1");
        std::fs::rename(&path, &moved).unwrap();
        say("two\n");
        logs.send_to(Some(&path)).unwrap();
        say("three\n");
        assert_eq!(std::fs::read_to_string(moved).unwrap(), "one\ntwo\n");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "three\n");
        let wrong = logs.send_to(Some(&folder.path().join("none/node.log")));
        assert!(wrong.is_err());
        say("four\n");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "three\nfour\n");
        assert_eq!(file(folder.path(), ""), None);
    }

    #[test]
    fn the_last_error_is_kept_and_no_warning() {
        let logs = Logs::default();
        let subscriber = Registry::default().with(logs.last.clone());
        tracing::subscriber::with_default(subscriber, || {
            tracing::error!(part = "x", "first");
            tracing::error!(error = %"no room", "second");
            tracing::warn!("third");
        });
        let (_, told) = logs.last_error().unwrap();
        assert_eq!(told, "second error=no room");
    }
}
