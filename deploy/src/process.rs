//! Running other programs to their end, and writing to our own two streams.

use std::fmt::Display;
use std::io::{self, Read, Write};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

/// Most bytes of output that are kept of one program.
const OUTPUT_MAX: u64 = 256 << 20;
/// How often a program is looked at.
const GLANCE: Duration = Duration::from_millis(10);

/// A program that ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// What it was called with, for messages.
    pub(crate) shown: String,
    /// Its exit code; nothing if a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
}

impl Ended {
    pub(crate) fn succeeded(&self) -> bool {
        self.code == Some(0)
    }

    /// What it printed, if it succeeded.
    ///
    /// # Errors
    ///
    /// Says how it ended, and what it said last.
    pub(crate) fn done(self) -> anyhow::Result<Vec<u8>> {
        if self.succeeded() {
            return Ok(self.stdout);
        }
        let code = self
            .code
            .map_or("a signal".to_owned(), |code| code.to_string());
        bail!("`{}` ended with {code}: {}", self.shown, self.complaint())
    }

    /// The last lines that it said.
    pub(crate) fn complaint(&self) -> String {
        let said = if self.stderr.is_empty() {
            &self.stdout
        } else {
            &self.stderr
        };
        let text = String::from_utf8_lossy(said);
        let lines: Vec<_> = text.trim_end().lines().rev().take(6).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}

/// Runs `command` with `input`, for at most `patience`; then it is killed, which is an error.
pub(crate) fn run(
    command: &mut Command,
    input: &[u8],
    patience: Duration,
) -> anyhow::Result<Ended> {
    let shown = shown(command);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start `{shown}`"))?;
    let (mut stdin, stdout, stderr) =
        (child.stdin.take(), child.stdout.take(), child.stderr.take());
    thread::scope(|scope| {
        let writer = scope.spawn(move || {
            if let Some(stdin) = stdin.as_mut() {
                // A program that does not want its input ends the pipe, and says by its exit code whether that matters.
                let _ = stdin.write_all(input);
            }
        });
        let stdout = scope.spawn(move || read(stdout));
        let stderr = scope.spawn(move || read(stderr));
        let ended = wait(&mut child, patience);
        if ended.is_none() {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = writer.join();
        let join = |reader: thread::ScopedJoinHandle<'_, io::Result<Vec<u8>>>| {
            reader
                .join()
                .unwrap_or_else(|_| Err(io::Error::other("the reader panicked")))
        };
        let (stdout, stderr) = (join(stdout), join(stderr));
        let Some(status) = ended else {
            bail!(
                "`{shown}` did not end within {}",
                humantime::format_duration(patience)
            );
        };
        Ok(Ended {
            code: status?.code(),
            stdout: stdout.with_context(|| format!("cannot read what `{shown}` prints"))?,
            stderr: stderr.unwrap_or_default(),
            shown,
        })
    })
}

fn read(pipe: Option<impl Read>) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        pipe.take(OUTPUT_MAX).read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

fn wait(child: &mut Child, patience: Duration) -> Option<io::Result<std::process::ExitStatus>> {
    let began = Instant::now();
    loop {
        match child.try_wait() {
            Ok(None) if began.elapsed() < patience => pause(GLANCE),
            Ok(None) => return None,
            Ok(Some(status)) => return Some(Ok(status)),
            Err(error) => return Some(Err(error)),
        }
    }
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}

/// Waits for about so long.
pub(crate) fn pause(time: Duration) {
    let until = Instant::now() + time;
    while let Some(left) = until
        .checked_duration_since(Instant::now())
        .filter(|left| !left.is_zero())
    {
        thread::park_timeout(left);
    }
}

/// Writes a line for a person to standard error. Where nobody can read it, there is nobody to tell.
pub(crate) fn note(line: impl Display) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// Writes a result to standard output.
///
/// # Errors
///
/// Where nobody reads it any more.
pub(crate) fn print(text: impl Display) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    write!(stdout, "{text}")?;
    stdout.flush()
}
