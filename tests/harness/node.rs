//! A running node.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::Home;
use crate::call::{instead, program};

/// What the node says on standard error once it accepts requests, before its address.
const READY: &str = "Listening on ";
/// Longer than a node takes to start, even on a busy machine.
const START: Duration = Duration::from_secs(60);
/// Longer than a node takes to stop, which its own deadline bounds.
const STOP: Duration = Duration::from_secs(30);
/// Settings under which very many requests of very many agents may come from one address.
const UNLIMITED: [(&str, &str); 27] = [
    ("limits.requests_per_address", "1000000"),
    ("limits.requests_per_session", "1000000"),
    ("limits.new_peers_per_address", "1000000"),
    ("limits.peers_per_address", "1000000"),
    ("limits.peers", "1000000"),
    ("sessions.max_per_key", "10000"),
    ("sessions.max_total", "1000000"),
    ("place.agents_per_address", "1000000"),
    ("place.registrations_per_key", "1000000"),
    ("place.registrations_per_address", "1000000"),
    ("place.registrations", "100000000"),
    ("place.deposits", "1000000"),
    ("place.deposits_per_hour", "100000"),
    ("place.deposit_attempts_per_key", "1000000"),
    ("place.deposit_attempts_per_address", "1000000"),
    ("place.deposit_attempts", "100000000"),
    ("place.sends_per_key", "1000000"),
    ("place.sends_per_address", "1000000"),
    ("place.sends", "100000000"),
    ("place.messages_per_box", "100000"),
    ("place.messages_per_sender", "100000"),
    ("place.sender_messages", "1000000"),
    ("place.sender_storage", "1GiB"),
    ("place.messages", "10000000"),
    ("place.remembered_per_sender", "10000000"),
    ("place.remembered_messages", "100000000"),
    ("place.prekeys_per_hour", "10000"),
];

/// `kairos-chain serve` on a free loopback port; stopped with SIGTERM when dropped.
///
/// ```no_run
/// # use kairos_tests::TestNode;
/// let node = TestNode::start();
/// let url = node.url("/health");
/// ```
#[derive(Debug)]
pub struct TestNode {
    base: String,
    data_dir: PathBuf,
    child: Child,
    log: Arc<Mutex<String>>,
    /// Hangs up when the node has closed its standard error, which it does by ending.
    lines: Mutex<Receiver<String>>,
    /// Removed after the node has stopped.
    _home: Option<Home>,
}

/// What a node is started with.
#[derive(Debug)]
pub struct Builder {
    command: Command,
    data_dir: Option<PathBuf>,
    /// Nothing where there is no HTTP.
    port: Option<u16>,
}

impl TestNode {
    /// Starts a node with default settings in a fresh data directory, which goes away with it.
    pub fn start() -> Self {
        Self::builder().start()
    }

    /// Prepares a node.
    pub fn builder() -> Builder {
        let mut command = program();
        command.arg("serve");
        Builder {
            command,
            data_dir: None,
            port: Some(0),
        }
    }

    /// Returns the URL of `path`, which starts with `/` or is empty.
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// Returns where it listens.
    pub fn address(&self) -> SocketAddr {
        let address = self.base.trim_start_matches("http://");
        address.parse().expect("a node says where it listens")
    }

    /// Returns the data directory.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Returns the process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns what the node has written to standard error so far.
    pub fn log(&self) -> String {
        self.log
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Asks the node to stop, as a service manager would, and returns how it ended.
    pub fn stop(mut self) -> ExitStatus {
        self.terminate()
    }

    /// Sends the node a signal, such as `TERM`.
    pub fn signal(&self, name: &str) {
        let pid = self.pid().to_string();
        let script = r#"kill -s "$1" "$2""#;
        let sent = Command::new("sh")
            .args(["-c", script, "sh", name, &pid])
            .status();
        assert!(
            sent.is_ok_and(|status| status.success()),
            "{name} is not sent"
        );
    }

    /// Ends the node at once, as a power cut would.
    pub fn kill(mut self) {
        self.child.kill().expect("a child can be killed");
        self.child.wait().expect("a child can be waited for");
    }

    fn terminate(&mut self) -> ExitStatus {
        if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
            return status;
        }
        let signalled = Command::new("sh")
            .args(["-c", r#"kill -TERM "$1""#, "sh", &self.pid().to_string()])
            .status()
            .expect("sh starts");
        let hung_up = loop {
            let lines = self.lines.get_mut();
            let lines = lines.unwrap_or_else(PoisonError::into_inner);
            match lines.recv_timeout(STOP) {
                Ok(_) => {}
                Err(RecvTimeoutError::Disconnected) => break true,
                Err(RecvTimeoutError::Timeout) => break false,
            }
        };
        if !(signalled.success() && hung_up) {
            eprintln!("the node did not stop within {STOP:?} and is killed");
            self.child.kill().expect("a child can be killed");
        }
        self.child.wait().expect("a child can be waited for")
    }
}

impl Drop for TestNode {
    fn drop(&mut self) {
        let status = self.terminate();
        if thread::panicking() {
            let mut shown = String::new();
            let _ = writeln!(shown, "--- log of the node at {} ({status}) ---", self.base);
            eprintln!("{shown}{}--- end of log ---", self.log());
        }
    }
}

impl Builder {
    /// Runs `program` in place of `kairos-chain`; it takes the same arguments, as far as they are given.
    pub fn program(mut self, program: impl AsRef<OsStr>) -> Self {
        self.command = instead(&self.command, program.as_ref());
        self
    }

    /// Works on the data directory of `home`, which outlives the node.
    pub fn home(self, home: &Home) -> Self {
        self.data_dir(home.data_dir())
    }

    /// Works on `dir`, which outlives the node.
    pub fn data_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.data_dir = Some(dir.into());
        self
    }

    /// Listens where another node did that is gone.
    pub fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// Has a libp2p node and no HTTP port.
    pub fn without_port(mut self) -> Self {
        self.port = None;
        self.arg("--p2p").arg("--no-http")
    }

    /// Changes a setting: `.set("limits.requests_per_session", "5")`.
    pub fn set(self, key: &str, value: &str) -> Self {
        self.arg("--set").arg(format!("{key}={value}"))
    }

    /// Adds one more argument.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    /// Sets a variable.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Takes away the bounds that a load from one address would meet: nothing but the machine is left.
    pub fn unlimited(self) -> Self {
        let limits = UNLIMITED.iter();
        limits.fold(self, |builder, (key, value)| builder.set(key, value))
    }

    /// Starts the node and waits until it accepts requests.
    pub fn start(self) -> TestNode {
        self.try_start().unwrap_or_else(|why| panic!("{why}"))
    }

    /// The same for programs that go on, or end in order, where it does not start.
    ///
    /// # Errors
    ///
    /// What the node said before it ended.
    pub fn try_start(mut self) -> Result<TestNode, String> {
        let (data_dir, home) = match self.data_dir {
            Some(dir) => (dir, None),
            None => {
                let home = Home::new();
                (home.data_dir(), Some(home))
            }
        };
        let mut child = self
            .command
            .args(
                self.port
                    .iter()
                    .flat_map(|port| ["--port".to_owned(), port.to_string()]),
            )
            .arg("--data-dir")
            .arg(&data_dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{:?} does not start: {error}", self.command))?;
        let stderr = child.stderr.take().expect("standard error is a pipe");
        let log = Arc::new(Mutex::new(String::new()));
        let lines = follow(stderr, Arc::clone(&log));
        let base = loop {
            match lines.recv_timeout(START) {
                Ok(line) => {
                    if let Some((_, base)) = line.split_once(READY) {
                        break base.trim_end().trim_end_matches('/').to_owned();
                    }
                }
                Err(why) => {
                    let _ = child.kill();
                    let _ = child.wait();
                    let log = log.lock().unwrap_or_else(PoisonError::into_inner);
                    return Err(format!("the node does not start ({why}):\n{log}"));
                }
            }
        };
        Ok(TestNode {
            base,
            data_dir,
            child,
            log,
            lines: Mutex::new(lines),
            _home: home,
        })
    }
}

/// Copies what the node says into `log`, and each line to the receiver, until the node ends.
fn follow(
    stderr: impl std::io::Read + Send + 'static,
    log: Arc<Mutex<String>>,
) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut stderr = BufReader::new(stderr);
        let mut line = Vec::new();
        while stderr
            .read_until(b'\n', &mut line)
            .is_ok_and(|read| read > 0)
        {
            let text = String::from_utf8_lossy(&line).into_owned();
            log.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push_str(&text);
            // Nobody listens while a node is being dropped; the log is still kept.
            let _ = sender.send(text);
            line.clear();
        }
    });
    receiver
}
