//! Reports of what ended the node, or a part of it, unexpectedly: files below `storage/crashes/`, for a person to read.
//!
//! A report tells the version, the time, the place in the program and a backtrace. It has nothing of requests, settings,
//! arguments or the environment, and whatever in its message could be a secret is left out. There are few of them, each
//! of bounded size; the oldest gives way.

use std::backtrace::Backtrace;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::panic::{self, PanicHookInfo};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use kairos_actors::durable;
use kairos_protocol::dsl::GRAMMAR_THREAD;
use kairos_protocol::time::{Clock as _, Timestamp};

use crate::clock::SystemClock;
use crate::data_dir::DataDir;

/// Where reports are, below the data directory. Nothing there is part of the agent.
pub const FOLDER: &str = "storage/crashes";
/// Most reports kept.
pub const REPORTS_MAX: usize = 16;
/// Most bytes of a message.
const MESSAGE_MAX: usize = 1024;
/// Most bytes of a backtrace.
const BACKTRACE_MAX: usize = 32 * 1024;
/// What is as long as this and has no space in it may be a key, a token or a hash of one.
const SECRET_MIN: usize = 24;
/// How names of reports end.
const ENDING: &str = ".txt";

/// A report that is kept.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Report {
    /// Where.
    pub path: PathBuf,
    /// What happened, in one line.
    pub what: String,
}

/// Has panics of the grammar's parser say nothing on standard error: whoever reads a law catches them, and says what is
/// wrong with the text. For every command, once, before anything is read.
pub fn quiet_grammar() {
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        if !is_of_grammar() {
            before(panic);
        }
    }));
}

/// Whether this thread is one on which the grammar's parser works.
fn is_of_grammar() -> bool {
    thread::current().name() == Some(GRAMMAR_THREAD)
}

/// Has every panic of this process leave a report in `dir`, beside what it says on standard error. Those of the grammar's
/// parser are faults of a text, and leave none.
pub fn install(dir: &DataDir) {
    let folder = folder(dir);
    let before = panic::take_hook();
    let writing = AtomicBool::new(false);
    panic::set_hook(Box::new(move |panic| {
        before(panic);
        if is_of_grammar() {
            return;
        }
        // A panic while one is written leaves none.
        if !writing.swap(true, Ordering::SeqCst) {
            let written = write(&folder, &told(panic));
            if let Err(error) = written {
                tracing::error!(%error, "a report of a crash could not be written");
            }
            writing.store(false, Ordering::SeqCst);
        }
    }));
}

/// Leaves a report in `dir` that says `what` ended the node. Blocks on the disk.
///
/// # Errors
///
/// What the system says.
pub fn report(dir: &DataDir, what: &str) -> io::Result<()> {
    write(&folder(dir), &clean(what))
}

/// The reports in `dir`, the oldest first. Blocks on the disk.
///
/// # Errors
///
/// What the system says.
pub fn reports(dir: &DataDir) -> io::Result<Vec<Report>> {
    let mut reports = Vec::new();
    for path in paths(&folder(dir))? {
        let text = fs::read_to_string(&path)?;
        let what = text.lines().find_map(|line| line.strip_prefix("what: "));
        let what = what.unwrap_or("unknown").to_owned();
        reports.push(Report { path, what });
    }
    Ok(reports)
}

fn folder(dir: &DataDir) -> PathBuf {
    dir.path().join(FOLDER)
}

fn paths(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.file_name().to_string_lossy().ends_with(ENDING) {
            paths.push(entry.path());
        }
    }
    // Names begin with the time.
    paths.sort();
    Ok(paths)
}

/// A panic in one line.
fn told(panic: &PanicHookInfo<'_>) -> String {
    let thread = std::thread::current();
    let place = panic
        .location()
        .map_or("unknown".to_owned(), ToString::to_string);
    let message = panic.payload_as_str().unwrap_or("no message");
    format!(
        "thread '{}' panicked at {place}: {}",
        thread.name().unwrap_or("unnamed"),
        clean(message)
    )
}

/// The text on one line, without what could be a secret, cut.
fn clean(text: &str) -> String {
    let mut clean = String::new();
    for word in text.split_whitespace() {
        if !clean.is_empty() {
            clean.push(' ');
        }
        let mut bare = word.split(|c: char| !c.is_ascii_alphanumeric() && !"_+/=-".contains(c));
        match bare.any(|part| part.len() >= SECRET_MIN) {
            true => clean.push_str("[left out]"),
            false => clean.push_str(word),
        }
        if clean.len() > MESSAGE_MAX {
            break;
        }
    }
    cut(&clean, MESSAGE_MAX).to_owned()
}

fn cut(text: &str, most: usize) -> &str {
    let end = text.floor_char_boundary(most);
    text.get(..end).unwrap_or_default()
}

fn write(folder: &Path, what: &str) -> io::Result<()> {
    let now = SystemClock.now();
    fs::create_dir_all(folder)?;
    let there = paths(folder)?;
    for old in there.iter().rev().skip(REPORTS_MAX - 1) {
        fs::remove_file(old)?;
    }
    durable::replace(&folder.join(name(now)), text(now, what).as_bytes())
}

fn name(now: Timestamp) -> String {
    let stamp: String = now
        .wire()
        .chars()
        .map(|c| if c == ':' { '-' } else { c })
        .collect();
    format!("{stamp}-{}{ENDING}", std::process::id())
}

fn text(now: Timestamp, what: &str) -> String {
    let mut text = format!(
        "what: {what}\nat: {}\nversion: {}\npid: {}\n\n",
        now.wire(),
        env!("CARGO_PKG_VERSION"),
        std::process::id()
    );
    let backtrace = Backtrace::force_capture().to_string();
    // Writing to memory does not fail.
    let _ = writeln!(text, "{}", cut(&backtrace, BACKTRACE_MAX));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data_dir::Surroundings;

    #[test]
    fn reports_are_few_and_the_newest_stay() {
        let root = tempfile::tempdir().unwrap();
        let dir = DataDir::resolve(Some(root.path()), &Surroundings::default());
        assert_eq!(reports(&dir).unwrap(), []);
        fs::create_dir_all(folder(&dir)).unwrap();
        for n in 10..40 {
            fs::write(
                folder(&dir).join(format!("19{n}{ENDING}")),
                format!("what: {n}\n"),
            )
            .unwrap();
        }
        report(&dir, "the last one").unwrap();
        let told: Vec<_> = reports(&dir)
            .unwrap()
            .into_iter()
            .map(|report| report.what)
            .collect();
        assert_eq!(told.len(), REPORTS_MAX);
        assert!(
            told.contains(&"39".to_owned()) && !told.contains(&"10".to_owned()),
            "{told:?}"
        );
        assert!(told.contains(&"the last one".to_owned()), "{told:?}");
        let newest = reports(&dir).unwrap().pop().unwrap();
        let text = fs::read_to_string(newest.path).unwrap();
        assert!(
            text.contains(concat!("version: ", env!("CARGO_PKG_VERSION"))),
            "{text}"
        );
        assert!(text.len() < 2 * BACKTRACE_MAX);
    }

    /// Set in the process that panics for [`only_the_grammar_panics_in_silence`].
    const PANICS: &str = "KAIROS_TEST_PANICS";

    #[test]
    fn only_the_grammar_panics_in_silence() {
        if std::env::var_os(PANICS).is_some() {
            quiet_grammar();
            for name in [GRAMMAR_THREAD, "another"] {
                let thread = thread::Builder::new().name(name.to_owned());
                let panics = thread.spawn(move || panic!("in {name}")).unwrap();
                panics.join().unwrap_err();
            }
            return;
        }
        let child = std::process::Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "crash::tests::only_the_grammar_panics_in_silence",
                "--nocapture",
            ])
            .env(PANICS, "1")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&child.stderr);
        assert!(child.status.success(), "{said}");
        assert!(
            said.contains("in another") && !said.contains(GRAMMAR_THREAD),
            "{said}"
        );
    }

    #[test]
    fn nothing_that_could_be_a_secret_is_written() {
        let token = format!("kc_{}", "0123456789abcdef".repeat(4));
        let told = clean(&format!(
            "token {token} of\n user 'bo', key={}, done",
            "A/+".repeat(20)
        ));
        assert_eq!(told, "token [left out] of user 'bo', [left out] done");
        assert_eq!(
            clean("index out of bounds: the len is 3"),
            "index out of bounds: the len is 3"
        );
        assert!(clean(&"ä ".repeat(5000)).len() <= MESSAGE_MAX);
    }
}
