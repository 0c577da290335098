//! One command, run to its end.

use std::ffi::{OsStr, OsString};
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use crate::{Home, binary, verifier};

/// Longer than any command of a test takes, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// A command about to be run: `Call::new(["skillset", "list"]).home(&home).run().done()`.
#[derive(Debug)]
pub struct Call {
    command: Command,
    stdin: Vec<u8>,
}

/// How a command ended and what it said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// What was called, for messages.
    pub call: String,
    /// The exit code; -1 where a signal ended it.
    pub code: i32,
    /// Everything on standard output.
    pub stdout: String,
    /// Everything on standard error.
    pub stderr: String,
}

impl Call {
    /// Prepares `kairos-chain ARGS` with no input, and none of the caller's `KAIROS_*` variables.
    pub fn new<I: AsRef<OsStr>>(args: impl IntoIterator<Item = I>) -> Self {
        let mut command = program();
        command.args(args);
        Self {
            command,
            stdin: Vec::new(),
        }
    }

    /// Prepares `kairos-verify ARGS` with no input.
    pub fn verify<I: AsRef<OsStr>>(args: impl IntoIterator<Item = I>) -> Self {
        let mut command = Command::new(verifier());
        command.args(args);
        Self {
            command,
            stdin: Vec::new(),
        }
    }

    /// Works on the data directory of `home`, starting in its directory.
    pub fn home(mut self, home: &Home) -> Self {
        self.command.current_dir(home.path());
        self.env("KAIROS_DATA_DIR", home.data_dir())
    }

    /// Starts in `dir`.
    pub fn current_dir(mut self, dir: impl AsRef<Path>) -> Self {
        self.command.current_dir(dir);
        self
    }

    /// Runs `program` in place of `kairos-chain`, which takes the same arguments; before all but those.
    pub fn program(mut self, program: impl AsRef<OsStr>) -> Self {
        self.command = instead(&self.command, program.as_ref());
        self
    }

    /// Adds one more argument.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    /// Adds more arguments.
    pub fn args<I: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = I>) -> Self {
        self.command.args(args);
        self
    }

    /// Sets a variable.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Gives `bytes` on standard input.
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = bytes.into();
        self
    }

    /// Starts it and lets go of it; for tests that end it themselves. Its streams go nowhere.
    pub fn spawn(mut self) -> Child {
        let streams = self.command.stdin(Stdio::null()).stdout(Stdio::null());
        let child = streams.stderr(Stdio::null()).spawn();
        child.expect("the program starts")
    }

    /// Starts it with its input and output piped, for tests that speak with it.
    pub fn converse(mut self) -> Child {
        let streams = self.command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let child = streams.stderr(Stdio::null()).spawn();
        child.expect("the program starts")
    }

    /// Runs it to its end, which must come within two minutes.
    pub fn run(mut self) -> Ended {
        let call = format!("{:?}", self.command);
        let mut child = self
            .command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{call} does not start: {error}"));
        let mut stdin = child.stdin.take().expect("standard input is a pipe");
        // A command that does not read its input closes it early, which is not this side's failure.
        thread::spawn(move || stdin.write_all(&self.stdin));
        let stdout = read(child.stdout.take().expect("standard output is a pipe"));
        let stderr = read(child.stderr.take().expect("standard error is a pipe"));
        let read = stdout
            .recv_timeout(PATIENCE)
            .and_then(|stdout| Ok((stdout, stderr.recv_timeout(PATIENCE)?)));
        let Ok((stdout, stderr)) = read else {
            child.kill().expect("a child can be killed");
            panic!("{call} did not end within {PATIENCE:?}");
        };
        let status = child.wait().expect("a child can be waited for");
        Ended {
            call,
            code: status.code().unwrap_or(-1),
            stdout,
            stderr,
        }
    }
}

impl Ended {
    /// Returns the standard output of a command that succeeded, and fails the test if it did not.
    #[track_caller]
    pub fn done(self) -> String {
        assert_eq!(self.code, 0, "{}\n{}", self.call, self.stderr);
        self.stdout
    }

    /// Returns the standard error of a command that failed with `code`, and fails the test if it did not.
    #[track_caller]
    pub fn failed(self, code: i32) -> String {
        assert_eq!(
            self.code, code,
            "{}\n{}{}",
            self.call, self.stdout, self.stderr
        );
        self.stderr
    }

    /// Fails the test if the command did not end with `code`.
    #[track_caller]
    pub fn code_is(self, code: i32) {
        assert_eq!(
            self.code, code,
            "{}\n{}{}",
            self.call, self.stdout, self.stderr
        );
    }

    /// Returns the standard output of a command that succeeded, read as JSON.
    #[track_caller]
    pub fn json(self) -> serde_json::Value {
        let text = self.done();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}"))
    }
}

impl Ended {
    /// Returns the standard output of a command, read as JSON, if it succeeded.
    #[track_caller]
    pub fn try_json(self) -> Option<serde_json::Value> {
        (self.code == 0).then(|| self.json())
    }
}

/// Returns `program` to be run as `command` would be, with its arguments and variables.
pub(crate) fn instead(command: &Command, program: &OsStr) -> Command {
    let mut other = Command::new(program);
    other.args(command.get_args());
    // Variables that were taken away stay away.
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => other.env(name, value),
            None => other.env_remove(name),
        };
    }
    other
}

/// Returns `kairos-chain`, to be run without the `KAIROS_*` variables of the caller.
pub(crate) fn program() -> Command {
    without_settings(binary())
}

/// Returns a program to be run without the `KAIROS_*` variables of the caller, which would be settings to `kairos-chain`.
pub fn without_settings(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    let is_setting = |name: &OsString| name.to_string_lossy().starts_with("KAIROS_");
    for name in std::env::vars_os().map(|(name, _)| name).filter(is_setting) {
        command.env_remove(name);
    }
    command
}

/// Reads a pipe to its end beside the caller, who learns of it through the channel.
fn read(mut pipe: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = mpsc::sync_channel(1);
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.read_to_end(&mut bytes);
        let _ = sender.send(String::from_utf8_lossy(&bytes).into_owned());
    });
    receiver
}
