//! Console sessions in Markdown, run word for word.
//!
//! A fenced block that is marked `console` is a session:
//!
//! ```text
//! $ kairos-chain init
//! Created [..]/.kairos
//! ...
//! $ kairos-chain serve --port 8080 &
//! $ kairos-chain meet nowhere
//! error: …
//! ? 2
//! ```
//!
//! - All blocks of one file run in one bash, in one temporary directory, with no settings of the caller.
//! - Lines after a command are all it prints, to either stream. In a line, `[..]` and `…` stand for any text, and spaces
//!   beside them for one or more; a line `...` stands for any lines. `? N` at the end is the exit code, else 0.
//! - `> ` continues a command on the next line.
//! - A command that ends with `&` goes on in the background once it has printed the lines after it, or, where there
//!   are none, once it says that it listens. It is stopped at the end of the file.
//! - Port numbers from 8000 to 8999 stand for free ones, so that nobody's running node gets in the way.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// What a server says on standard error once it accepts requests.
const LISTENING: &str = "Listening on ";
/// Longer than any command of a session takes, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);
/// Longer than a server takes to stop, which its own deadline bounds.
const STOP: Duration = Duration::from_secs(30);
/// How often a background command is looked at.
const GLANCE: Duration = Duration::from_millis(20);
/// The ports that a document may name, and where free ones for them are looked for; as wide, so tables stay aligned.
const NAMED_PORTS: std::ops::RangeInclusive<u16> = 8000..=8999;
const FREE_PORTS: std::ops::Range<u16> = 6100..8000;

/// The commands of one Markdown file and what each is to print.
#[derive(Debug, PartialEq, Eq)]
pub struct Console {
    file: String,
    steps: Vec<Step>,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Step {
    /// The line of the file, counted from 1.
    line: usize,
    command: String,
    expected: Vec<String>,
    code: i32,
}

impl Console {
    /// Reads the sessions of `markdown`; `file` is its name in messages.
    ///
    /// Fails on output that no command precedes, and on a block without an end.
    pub fn parse(file: &str, markdown: &str) -> Result<Self, String> {
        let mut steps: Vec<Step> = Vec::new();
        let mut lines = markdown.lines().enumerate();
        while let Some((opened, line)) = lines.next() {
            let Some(info) = line.strip_prefix("```") else {
                continue;
            };
            let is_session = info.trim() == "console";
            let first = steps.len();
            loop {
                let Some((index, line)) = lines.next() else {
                    return Err(format!("{file}:{}: this block has no end", opened + 1));
                };
                if line.starts_with("```") {
                    break;
                }
                if !is_session {
                    continue;
                }
                if let Some(command) = line.strip_prefix("$ ") {
                    steps.push(Step {
                        line: index + 1,
                        command: command.to_owned(),
                        ..Step::default()
                    });
                    continue;
                }
                let Some(step) = steps.get_mut(first..).and_then(<[_]>::last_mut) else {
                    return Err(format!("{file}:{}: no command precedes this", index + 1));
                };
                let code = line.strip_prefix("? ").and_then(|code| code.parse().ok());
                match (code, line.strip_prefix("> ")) {
                    (Some(code), _) => step.code = code,
                    (None, Some(more)) if step.expected.is_empty() => {
                        step.command.push('\n');
                        step.command.push_str(more);
                    }
                    _ => step.expected.push(line.trim_end().to_owned()),
                }
            }
        }
        for step in &mut steps {
            trim_end(&mut step.expected);
        }
        Ok(Self {
            file: file.to_owned(),
            steps,
        })
    }

    /// Returns how many commands there are.
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// Returns whether there is nothing to run.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Runs the commands with `program` on the path as `kairos-chain`.
    ///
    /// Fails at the first that prints or ends otherwise than the file says, with the difference.
    pub fn run(&self, program: &Path) -> Result<(), String> {
        let ports = Ports::choose(self.steps.iter().map(|step| step.command.as_str()));
        let mut shell = Shell::start(program);
        self.steps.iter().try_for_each(|step| {
            let ran = shell.run(&ports.hide(&step.command));
            let fail = |what: &str, diff: &str| {
                let Self { file, .. } = self;
                let Step { line, command, .. } = step;
                Err(format!("{file}:{line}: `{command}` {what}\n{diff}"))
            };
            let Some(code) = ran else {
                return fail(
                    "ended the shell, or never ends",
                    &ports.show(&shell.output()),
                );
            };
            let diff = if step.is_background() {
                shell.await_background(|output| step.diff(&ports.show(output)))
            } else {
                step.diff(&ports.show(&shell.output()))
            };
            match diff {
                Some(diff) => fail("prints something else (- expected, + printed)", &diff),
                None if code != step.code => {
                    let output = ports.show(&shell.output());
                    fail(&format!("ends with {code}, not {}", step.code), &output)
                }
                None => Ok(()),
            }
        })
    }
}

impl Step {
    fn is_background(&self) -> bool {
        self.command.ends_with('&') && !self.command.ends_with("&&")
    }

    /// Returns how `output` differs from what the step expects, or `None` where it does not.
    fn diff(&self, output: &str) -> Option<String> {
        if self.is_background() && self.expected.is_empty() {
            let listens = output.contains(LISTENING);
            return (!listens).then(|| format!("- …{LISTENING}…\n{output}"));
        }
        let mut printed: Vec<_> = output
            .lines()
            .map(|line| line.trim_end().to_owned())
            .collect();
        trim_end(&mut printed);
        diff(&self.expected, &printed)
    }
}

fn trim_end(lines: &mut Vec<String>) {
    while lines.pop_if(|line| line.is_empty()).is_some() {}
}

/// Returns whether `line` is `pattern`, in which `[..]` and `…` stand for any text.
fn line_matches(pattern: &str, line: &str) -> bool {
    let mut pattern = pattern.replace('…', "[..]");
    for (wide, narrow) in [("[..]  ", "[..] "), ("  [..]", " [..]")] {
        while pattern.contains(wide) {
            pattern = pattern.replace(wide, narrow);
        }
    }
    let mut parts = pattern.split("[..]");
    let Some(mut rest) = parts.next().and_then(|first| line.strip_prefix(first)) else {
        return false;
    };
    let mut parts: Vec<_> = parts.collect();
    let Some(last) = parts.pop() else {
        return rest.is_empty();
    };
    for part in parts {
        let Some((_, after)) = rest.split_once(part) else {
            return false;
        };
        rest = after;
    }
    rest.ends_with(last)
}

/// Returns the lines of the smallest difference, or `None` where `printed` is what `expected` allows.
#[expect(
    clippy::indexing_slicing,
    reason = "the table has a row for each expected line and a column for each printed one, and one of each beyond"
)]
fn diff(expected: &[String], printed: &[String]) -> Option<String> {
    let any = |i: usize| expected[i] == "...";
    let same = |i: usize, j: usize| line_matches(&expected[i], &printed[j]);
    // `cost[i][j]`: how many lines differ from the i-th expected and the j-th printed line on.
    let mut cost = vec![vec![0_usize; printed.len() + 1]; expected.len() + 1];
    for i in (0..=expected.len()).rev() {
        for j in (0..=printed.len()).rev() {
            cost[i][j] = match (i < expected.len(), j < printed.len()) {
                (false, _) => printed.len() - j,
                (true, false) => cost[i + 1][j] + usize::from(!any(i)),
                (true, true) if any(i) => cost[i + 1][j].min(cost[i][j + 1]),
                (true, true) if same(i, j) => cost[i + 1][j + 1],
                (true, true) => 1 + cost[i + 1][j].min(cost[i][j + 1]),
            };
        }
    }
    if cost[0][0] == 0 {
        return None;
    }
    let (mut i, mut j) = (0, 0);
    let mut text = String::new();
    while (i, j) != (expected.len(), printed.len()) {
        let any = i < expected.len() && any(i);
        let unexpected = usize::from(!any);
        let (mark, line) = if !any && i < expected.len() && j < printed.len() && same(i, j) {
            (i, j) = (i + 1, j + 1);
            (' ', &printed[j - 1])
        } else if j < printed.len() && cost[i][j] == cost[i][j + 1] + unexpected {
            j += 1;
            (if any { ' ' } else { '+' }, &printed[j - 1])
        } else {
            i += 1;
            (if any { ' ' } else { '-' }, &expected[i - 1])
        };
        let _ = writeln!(text, "{mark} {line}");
    }
    Some(text)
}

/// The free ports that stand in for those a document names.
struct Ports(BTreeMap<u16, u16>);

impl Ports {
    fn choose<'a>(commands: impl Iterator<Item = &'a str>) -> Self {
        let mut named = BTreeMap::new();
        for command in commands {
            replace_numbers(command, |number| {
                if NAMED_PORTS.contains(&number) {
                    named.insert(number, 0);
                }
                None
            });
        }
        // Test processes that run at the same time start looking in different places.
        let from = usize::try_from(std::process::id()).unwrap_or(0) % FREE_PORTS.len();
        let mut free = (FREE_PORTS.cycle().skip(from).take(FREE_PORTS.len()))
            .filter(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok());
        for port in named.values_mut() {
            *port = free.next().expect("some port is free");
        }
        Self(named)
    }

    /// Returns `command` with free ports for named ones.
    fn hide(&self, command: &str) -> String {
        replace_numbers(command, |number| self.0.get(&number).copied())
    }

    /// Returns `output` with named ports for free ones.
    fn show(&self, output: &str) -> String {
        let named = |number| {
            let mut pairs = self.0.iter();
            pairs.find_map(|(named, free)| (*free == number).then_some(*named))
        };
        replace_numbers(output, named)
    }
}

/// Returns `text` with some of its numbers, which stand free of letters and other digits, replaced.
fn replace_numbers(text: &str, mut replace: impl FnMut(u16) -> Option<u16>) -> String {
    text.split_inclusive(|c: char| !c.is_ascii_alphanumeric())
        .map(|word| {
            let number = word.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
            match number.parse().ok().and_then(&mut replace) {
                Some(new) => word.replacen(number, &new.to_string(), 1),
                None => word.to_owned(),
            }
        })
        .collect()
}

/// One bash with a directory to work in, and none of the caller's variables but the path.
struct Shell {
    dir: TempDir,
    bash: Child,
    stdin: ChildStdin,
    /// What bash itself says; it hangs up when bash and all it started have ended.
    answers: Receiver<String>,
    steps: usize,
}

impl Shell {
    fn start(program: &Path) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("kairos-console-")
            .tempdir()
            .expect("a temporary directory can be made");
        for name in ["bin", "home", "steps", "tmp", "work"] {
            fs::create_dir(dir.path().join(name)).expect("an empty directory");
        }
        let bin = dir.path().join("bin");
        let verifier = program.with_file_name("kairos-verify");
        for (name, target) in [("kairos-chain", program), ("kairos-verify", &verifier)] {
            std::os::unix::fs::symlink(target, bin.join(name)).expect("an empty directory");
        }
        let rest = std::env::var_os("PATH").unwrap_or_default();
        let path = std::iter::once(bin).chain(std::env::split_paths(&rest));
        let path = std::env::join_paths(path).expect("they were joined before");
        let mut bash = Command::new("bash")
            .args(["--noprofile", "--norc"])
            .current_dir(dir.path().join("work"))
            .env_clear()
            .env("PATH", path)
            .env("HOME", dir.path().join("home"))
            .env("TMPDIR", dir.path().join("tmp"))
            .envs([
                ("LC_ALL", "C.UTF-8"),
                ("NO_COLOR", "1"),
                ("TERM", "dumb"),
                ("COLUMNS", "100"),
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .expect("bash starts");
        let answers = lines(bash.stdout.take().expect("standard output is a pipe"));
        let stdin = bash.stdin.take().expect("standard input is a pipe");
        let mut shell = Self {
            dir,
            bash,
            stdin,
            answers,
            steps: 0,
        };
        // All that bash starts holds descriptor 9, so the pipe stays open as long as any of it runs. The trap ends them
        // where the test itself was killed.
        shell.say("exec 9>&1; trap 'kill 0' EXIT");
        shell
    }

    /// Runs `command` to its end, or into the background, and returns its exit code; `None` if it does not end.
    fn run(&mut self, command: &str) -> Option<i32> {
        self.steps += 1;
        let (script, output) = (self.step("sh"), self.step("out"));
        fs::write(&script, format!("{command}\n")).expect("a file can be written");
        let (script, output) = (script.display(), output.display());
        self.ask(&format!(
            ". '{script}' >'{output}' 2>&1 </dev/null; echo $?"
        ))
    }

    /// Waits until what the last command prints has no more difference, or the command can print no more.
    fn await_background(&mut self, diff: impl Fn(&str) -> Option<String>) -> Option<String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let runs = self.ask("kill -0 $! 2>/dev/null; echo $?") == Some(0);
            let left = diff(&self.output());
            if left.is_none() || !runs || Instant::now() > deadline {
                return left;
            }
            // Nothing is asked, so nothing is answered.
            let _ = self.answers.recv_timeout(GLANCE);
        }
    }

    /// Returns what the last command has printed so far.
    fn output(&self) -> String {
        let bytes = fs::read(self.step("out")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn step(&self, extension: &str) -> PathBuf {
        let name = format!("steps/{}.{extension}", self.steps);
        self.dir.path().join(name)
    }

    fn say(&mut self, line: &str) {
        // Where bash has ended, the missing answer tells.
        let _ = writeln!(self.stdin, "{line}");
    }

    fn ask(&mut self, line: &str) -> Option<i32> {
        self.say(line);
        self.answers.recv_timeout(PATIENCE).ok()?.parse().ok()
    }

    /// Sends a signal to bash and all it started.
    fn signal(&self, signal: &str) {
        let group = format!("-{}", self.bash.id());
        let _ = Command::new("kill")
            .args([signal, "--", &group])
            .stderr(Stdio::null())
            .status();
    }

    fn hangs_up(&self) -> bool {
        let deadline = Instant::now() + STOP;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.answers.recv_timeout(left) {
                Ok(_) => {}
                Err(RecvTimeoutError::Disconnected) => return true,
                Err(RecvTimeoutError::Timeout) => return false,
            }
        }
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        self.signal("-TERM");
        if !self.hangs_up() {
            eprintln!("what the session started did not stop within {STOP:?} and is killed");
            self.signal("-KILL");
        }
        let _ = self.bash.wait();
    }
}

/// Reads a pipe line by line beside the caller, who gets the lines through the channel.
fn lines(pipe: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let lines = BufReader::new(pipe).lines();
        lines.map_while(Result::ok).for_each(|line| {
            // Nobody listens to a shell that is being dropped; it still ends.
            let _ = sender.send(line);
        });
    });
    receiver
}

#[cfg(test)]
mod tests;
