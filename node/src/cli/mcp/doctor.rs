//! `mcp doctor`: starts the server as another program would, and says what came of it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use super::client::{Client, Start};
use super::install::{WhichArgs, settings};
use crate::cli::Session;
use crate::cli::exit::Exit;
use crate::cli::out::{Cell, Tone};

/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// The longest answer that is read, in bytes.
const ANSWER_MAX: u64 = 64 * 1024 * 1024;
/// The revision that is asked for.
const VERSION: &str = "2025-11-25";

/// One check: its name, and what was found or what is wrong.
type Check = (&'static str, Result<String, String>);

/// Runs `mcp doctor`. Exits with 1 if something is wrong.
pub(super) fn run(which: Option<&WhichArgs>, session: &mut Session) -> anyhow::Result<Exit> {
    let mut checks: Vec<Check> = Vec::new();
    let start = match which {
        Some(which) => configured(which, session, &mut checks)?,
        None => Some(ours(session)?),
    };
    if let Some(start) = start {
        examine(&start, &mut checks);
    }
    let well = checks.iter().all(|(_, found)| found.is_ok());
    if session.out.wants_json() {
        let checks: Vec<_> = checks
            .iter()
            .map(|(name, found)| {
                let (ok, detail) = match found {
                    Ok(detail) => (true, detail),
                    Err(detail) => (false, detail),
                };
                json!({"check": name, "ok": ok, "detail": detail})
            })
            .collect();
        session.out.json(&json!({"ok": well, "checks": checks}))?;
    } else {
        let rows = checks.iter().map(|(name, found)| match found {
            Ok(detail) => [
                Cell::from(name),
                Cell::toned(Tone::Good, "ok"),
                Cell::from(detail),
            ],
            Err(detail) => [
                Cell::from(name),
                Cell::toned(Tone::Bad, "WRONG"),
                Cell::from(detail),
            ],
        });
        session.out.table(["CHECK", "RESULT", "DETAIL"], rows)?;
    }
    Ok(if well { Exit::Done } else { Exit::Failed })
}

/// How this program would be started for the data directory of this session.
fn ours(session: &Session) -> anyhow::Result<Start> {
    let data_dir = session.data_dir().existing()?;
    let text = |path: &std::path::Path| {
        path.to_str()
            .map(str::to_owned)
            .context("a path is not UTF-8")
    };
    Ok(Start {
        command: text(&std::env::current_exe()?)?,
        args: vec![
            "--data-dir".to_owned(),
            text(data_dir.path())?,
            "mcp".to_owned(),
            "serve".to_owned(),
        ],
    })
}

/// How the program's own settings start the server.
fn configured(
    which: &WhichArgs,
    session: &Session,
    checks: &mut Vec<Check>,
) -> anyhow::Result<Option<Start>> {
    let file = which.file(session)?;
    let shown = file.display().to_string();
    let install = match which.client {
        Client::ClaudeCode => "claude-code",
        Client::ClaudeDesktop => "claude-desktop",
        Client::Cursor => "cursor",
        Client::Vscode => "vscode",
        Client::Codex => "codex",
    };
    let install = format!("run kairos-chain mcp install --client {install}");
    let found = match settings(&file)? {
        None => Err(format!("{shown} is not there; {install}")),
        Some(text) => match which.client.start(&text, &which.name) {
            Err(error) => Err(format!("{shown} cannot be read: {error}")),
            Ok(None) => Err(format!("{shown} has no server `{}`; {install}", which.name)),
            Ok(Some(start)) => Ok(start),
        },
    };
    checks.push((
        "settings",
        found.as_ref().map(|_| shown).map_err(Clone::clone),
    ));
    Ok(found.ok())
}

fn examine(start: &Start, checks: &mut Vec<Check>) {
    let began = Instant::now();
    let shown = format!("{} {}", start.command, start.args.join(" "));
    let mut server = match Server::start(start) {
        Ok(server) => {
            checks.push(("start", Ok(shown)));
            server
        }
        Err(error) => {
            checks.push(("start", Err(format!("{shown}: {error}"))));
            return;
        }
    };
    let hello = json!({
        "protocolVersion": VERSION, "capabilities": {},
        "clientInfo": {"name": "kairos-chain doctor", "version": env!("CARGO_PKG_VERSION")},
    });
    let answered = server.ask(1, "initialize", &hello);
    let took = began.elapsed();
    let answered = answered.map(|answer| {
        let of = |pointer: &str| {
            answer
                .pointer(pointer)
                .and_then(Value::as_str)
                .unwrap_or("?")
                .to_owned()
        };
        format!(
            "{} {}, revision {}, answered after {} ms",
            of("/serverInfo/name"),
            of("/serverInfo/version"),
            of("/protocolVersion"),
            took.as_millis()
        )
    });
    let speaks = answered.is_ok();
    checks.push(("handshake", answered.map_err(|error| error.to_string())));
    if !speaks {
        return;
    }
    let listed = server
        .tell("notifications/initialized")
        .and_then(|()| server.ask(2, "tools/list", &json!({})));
    let listed = listed.map(|answer| {
        let count = answer
            .get("tools")
            .and_then(Value::as_array)
            .map_or(0, Vec::len);
        format!("{count} tools")
    });
    checks.push(("tools", listed.map_err(|error| error.to_string())));
    let verified = server.ask(
        3,
        "tools/call",
        &json!({"name": "chain_verify", "arguments": {}}),
    );
    let verified = verified
        .map_err(|error| error.to_string())
        .and_then(|answer| {
            let text = answer
                .pointer("/content/0/text")
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned();
            match answer.pointer("/structuredContent/valid") == Some(&Value::Bool(true)) {
                true => Ok(text),
                false => Err(text),
            }
        });
    checks.push(("ledger", verified));
    checks.push(("end", server.end().map_err(|error| error.to_string())));
}

/// A server that was started here.
struct Server {
    child: Child,
    answers: Receiver<std::io::Result<String>>,
}

impl Server {
    fn start(start: &Start) -> anyhow::Result<Self> {
        let mut child = Command::new(&start.command)
            .args(&start.args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()?;
        let output = child.stdout.take().context("the output is no pipe")?;
        // One line at a time: whoever says more than is asked waits.
        let (told, answers) = sync_channel(1);
        std::thread::spawn(move || {
            use std::io::Read as _;
            for line in BufReader::new(output.take(ANSWER_MAX)).lines() {
                if told.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Self { child, answers })
    }

    fn send(&mut self, message: &Value) -> anyhow::Result<()> {
        let input = self.child.stdin.as_mut().context("the input is closed")?;
        writeln!(input, "{message}").context("it does not read its input")
    }

    fn tell(&mut self, method: &str) -> anyhow::Result<()> {
        self.send(&json!({"jsonrpc": "2.0", "method": method}))
    }

    fn ask(&mut self, id: u64, method: &str, params: &Value) -> anyhow::Result<Value> {
        self.send(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}))?;
        let until = Instant::now() + PATIENCE;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let line = match self.answers.recv_timeout(left) {
                Ok(line) => line?,
                Err(RecvTimeoutError::Timeout) => {
                    bail!("no answer to {method} within {PATIENCE:?}")
                }
                Err(RecvTimeoutError::Disconnected) => {
                    bail!("it ended before it answered {method}; run it to see why")
                }
            };
            let answer: Value = serde_json::from_str(&line).map_err(|_| {
                let shown: String = line.chars().take(80).collect();
                anyhow::anyhow!("it wrote something that is no message: {shown}")
            })?;
            if answer.get("id") != Some(&json!(id)) {
                continue;
            }
            if let Some(error) = answer.get("error") {
                bail!("{method} failed: {error}");
            }
            return Ok(answer.get("result").cloned().unwrap_or_default());
        }
    }

    /// Closes its input, upon which it must end.
    fn end(&mut self) -> anyhow::Result<String> {
        drop(self.child.stdin.take());
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            if let Some(status) = self.child.try_wait()? {
                match status.success() {
                    true => return Ok("it ended with its input".to_owned()),
                    false => bail!("it ended with {status}"),
                }
            }
            std::thread::park_timeout(Duration::from_millis(10));
        }
        bail!("it did not end within {PATIENCE:?} of its input")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // One that ended is past killing.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
