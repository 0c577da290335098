//! Does again, with our server and commands, what the recorder did with the reference.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::{self, Metadata};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kairos_protocol::wire::introduction::ReceivedIntroduction;
use kairos_tests::{Call, Ended, TestNode, TestPeer};
use reqwest::Client;
use serde_json::{Map, Value, json};

use super::answer::{Answer, bearer, session_token};
use super::compare::{ABSENT, Finding, Findings, Fresh, is_hex, is_time, is_token, text};
use super::differences::SKIPPED;
use super::recording::{Agent, Command, Exchange, Recording, Row, Summary, Tree};
use super::stage::{Stage, Switches};
use super::table::is_skipped;

/// What is new in every answer, and what it must look like.
///
/// Ids of agents are not among them, because the agents of the replay are given the recorded ones.
const FRESH: &[Fresh] = &[
    (
        &[
            "timestamp",
            "peer_identity.timestamp",
            "message.timestamp",
            "packaged_skill.packaged_at",
            "skillset_package.packaged_at",
            "stdout.packaged_at",
        ],
        is_time,
    ),
    (&["message.id"], |id| {
        text(id).len() == 36 && is_hex(&text(id).replace('-', ""), 32)
    }),
    (&["session_token"], is_token),
    (&["public_key", "peer_identity.public_key"], |key| {
        text(key).starts_with("-----BEGIN PUBLIC KEY-----\n")
            && text(key).ends_with("\n-----END PUBLIC KEY-----\n")
    }),
    (
        &["key_fingerprint", "peer_identity.key_fingerprint"],
        |print| text(print).len() == 47 && is_hex(&text(print).replace(':', ""), 32),
    ),
    (
        &["identity_signature", "peer_identity.identity_signature"],
        |signature| {
            STANDARD
                .decode(text(signature))
                .is_ok_and(|bytes| bytes.len() == 256)
        },
    ),
];

/// How tokens begin that opened nothing when they were recorded either: those of admins, and a made-up one.
const NO_SESSION: [&str; 2] = ["kc_", "00000000"];

pub(super) struct Replay<'a> {
    recording: &'a Recording,
    client: Client,
    /// Opens the sessions that the recorder opened without recording it.
    peer: TestPeer,
    nodes: HashMap<Agent, TestNode>,
    /// After the nodes, which stop before their directories go away.
    stage: Stage,
    switches: Switches,
    /// Recorded token to ours, with the agent that gave it.
    tokens: HashMap<String, (Agent, String)>,
    /// Calls made with a recorded token, and the status of each.
    calls: HashMap<String, Vec<u16>>,
    found: Vec<Finding>,
}

impl<'a> Replay<'a> {
    /// Replays all of it and returns every difference.
    pub(super) async fn run(recording: &'a Recording) -> Vec<Finding> {
        let stage = Stage::build(recording);
        let nodes = [Agent::A, Agent::B].map(|agent| (agent, start(&stage, agent)));
        let mut replay = Self {
            recording,
            stage,
            client: Client::builder().no_proxy().build().unwrap(),
            peer: TestPeer::new("Recorder"),
            nodes: nodes.into(),
            switches: Switches::ON,
            tokens: HashMap::new(),
            calls: HashMap::new(),
            found: Vec::new(),
        };
        for row in &recording.rows {
            match row {
                Row::Meta(_) => {}
                Row::Http(row) if is_skipped(SKIPPED, &row.case) => {}
                Row::Cli(row) if is_skipped(SKIPPED, &row.case) => {}
                Row::InstalledTree(row) if is_skipped(SKIPPED, &row.case) => {}
                Row::Http(row) => replay.exchange(row).await,
                Row::Cli(row) => replay.command(row),
                Row::InstalledTree(row) => replay.tree(row),
                Row::Summary(row) => replay.summary(row).await,
                Row::Fact(_) | Row::File(_) => panic!("nothing says how to replay that"),
            }
        }
        for finding in &mut replay.found {
            for text in [&mut finding.reference, &mut finding.ours] {
                *text = replay.stage.recorded(text);
            }
        }
        replay.found
    }

    async fn exchange(&mut self, row: &Exchange) {
        self.turn_switches(row).await;
        self.lead_up_to(row).await;
        let answer = self.send(row).await;
        let mut findings = Findings::of(row.seq, &row.case, FRESH);
        let expected = self.stage.expected(&row.response.body);
        answer.compare(&row.response, &expected, &mut findings);
        if let Some(introduction) = introduction(row, &answer) {
            let verified = ReceivedIntroduction::new(introduction).verify(None);
            let told = verified.map_or_else(|fault| fault.to_string(), |_| "verifies".to_owned());
            findings.put("identity_signature", "verifies", told);
        }
        self.found.append(&mut findings.found);
        let recorded_token = session_token(&row.response.body);
        if let (Some(recorded), Some(ours)) = (recorded_token, session_token(&answer.body)) {
            self.tokens.insert(recorded, (row.peer, ours));
        }
    }

    /// Sends a recorded request with our token in the place of the recorded one.
    async fn send(&mut self, row: &Exchange) -> Answer {
        let token = bearer(row);
        let ours = match token {
            Some(recorded) => Some(self.token(recorded, row.peer).await),
            None => None,
        };
        let node = &self.nodes[&row.peer];
        let answer = Answer::to(&self.client, node, row, row.sent(), ours.as_deref()).await;
        if let Some(token) = token {
            let calls = self.calls.entry(token.to_owned()).or_default();
            calls.push(answer.status);
        }
        answer
    }

    /// Returns our token for a recorded one, opening a session where the recorder did so unseen.
    async fn token(&mut self, recorded: &str, agent: Agent) -> String {
        if let Some((_, ours)) = self.tokens.get(recorded) {
            return ours.clone();
        }
        let opened_nothing = NO_SESSION.iter().any(|prefix| recorded.starts_with(prefix));
        if opened_nothing || !self.switches.enabled {
            return recorded.to_owned();
        }
        let ours = self.peer.introduce(&self.client, &self.nodes[&agent]).await;
        self.tokens
            .insert(recorded.to_owned(), (agent, ours.clone()));
        ours
    }

    /// Does what the recorder did unseen to `meeting.yml` of the running agent A.
    ///
    /// Ours reads it when it starts, so this shows what an edit alone does, and then starts the agent again.
    async fn turn_switches(&mut self, row: &Exchange) {
        let wanted = match row.case.as_str() {
            "skillset_exchange_disabled" => Switches {
                skill_sets: false,
                ..Switches::ON
            },
            "mmp_disabled" => Switches {
                enabled: false,
                ..Switches::ON
            },
            _ => Switches::ON,
        };
        if wanted == self.switches {
            return;
        }
        self.stage.switch(self.recording, wanted);
        let before = self.send(row).await.status;
        let mut findings = Findings::of(row.seq, &row.case, FRESH);
        findings.put("status before a restart", row.response.status, before);
        self.found.append(&mut findings.found);
        self.switches = wanted;
        self.tokens.retain(|_, (agent, _)| *agent != Agent::A);
        drop(self.nodes.remove(&Agent::A));
        self.nodes.insert(Agent::A, start(&self.stage, Agent::A));
    }

    /// Makes the calls that the recorder left out between the numbered ones.
    async fn lead_up_to(&mut self, row: &Exchange) {
        let until = match row.case.strip_prefix("rate_limit_call_") {
            Some(number) => number.parse::<usize>().unwrap() - 1,
            None if row.case == "rate_limit_reached" => 100,
            None => return,
        };
        let token = bearer(row).unwrap();
        while self.calls.get(token).map_or(0, Vec::len) < until {
            self.send(row).await;
        }
    }

    async fn summary(&mut self, row: &Summary) {
        let statuses = match row.case.as_str() {
            "rate_limit" => {
                let last = |exchange: &&Exchange| exchange.case == "rate_limit_call_103";
                let last = self.recording.exchanges().find(last).unwrap();
                self.calls[bearer(last).unwrap()].clone()
            }
            "introduce_not_rate_limited" => {
                let calls: usize = row.statuses.values().sum();
                let row = self.recording.exchange("introduce_get");
                let mut statuses = Vec::new();
                for _ in 0..calls {
                    statuses.push(self.send(row).await.status);
                }
                statuses
            }
            other => panic!("nothing says what {other} sums up"),
        };
        let mut counted: BTreeMap<String, usize> = BTreeMap::new();
        for status in statuses {
            *counted.entry(status.to_string()).or_default() += 1;
        }
        let mut findings = Findings::of(row.seq, &row.case, FRESH);
        findings.values("statuses", &json!(row.statuses), &json!(counted));
        self.found.append(&mut findings.found);
    }

    fn command(&mut self, row: &Command) {
        self.make_room_for(row);
        let args = row.argv[1..].iter().map(|arg| self.stage.actual(arg));
        let ended = Call::new(args)
            .current_dir(self.stage.path("packs"))
            .stdin(row.stdin.clone())
            .run();
        let mut findings = Findings::of(row.seq, &row.case, FRESH);
        if row.case == "install_archive_as_in_guide" {
            // We take it and the reference does not; the next row installs the same.
            fs::remove_dir_all(self.stage.skill_set("my_knowledge_pack")).unwrap();
        }
        let message = our_message(&ended);
        let recorded = self.stage.expected(&recorded_message(&row.stderr));
        if ended.code == row.exit {
            findings.texts("stdout", &self.stage.expected(&row.stdout), &ended.stdout);
            findings.put("stderr", recorded, message);
        } else {
            let told = |code: i32, message: &str| format!("{code} {message}");
            findings.put(
                "exit",
                told(row.exit, &recorded).trim_end(),
                told(ended.code, &message).trim_end(),
            );
        }
        self.found.append(&mut findings.found);
    }

    /// The recorder removed, unrecorded, what a foreign archive had installed before it tried the next.
    fn make_room_for(&self, row: &Command) {
        if !row.case.starts_with("archive_") {
            return;
        }
        let Ok(package) = serde_json::from_str::<Value>(&row.stdin) else {
            return;
        };
        let installed = |name: &&str| self.stage.skill_set(name).join("skillset.json").is_file();
        if let Some(name) = package["name"].as_str().filter(installed) {
            fs::remove_dir_all(self.stage.skill_set(name)).unwrap();
        }
    }

    fn tree(&mut self, row: &Tree) {
        let mut findings = Findings::of(row.seq, &row.case, FRESH);
        let dir = self.stage.skill_set(&row.name);
        if dir.is_dir() {
            let ours: HashSet<_> = entries(&dir, ".", UsualModes::of(&self.stage))
                .into_iter()
                .collect();
            let recorded: HashSet<_> = row.entries.iter().cloned().collect();
            for entry in recorded.difference(&ours) {
                findings.put("tree", entry, ABSENT);
            }
            for entry in ours.difference(&recorded) {
                findings.put("tree", ABSENT, entry);
            }
        } else {
            findings.put("tree", "installed", ABSENT);
        }
        self.found.append(&mut findings.found);
    }
}

fn start(stage: &Stage, agent: Agent) -> TestNode {
    TestNode::builder()
        .data_dir(stage.data_dir(agent))
        // The recorder calls faster than anyone may who is not one.
        .set("limits.requests_per_address", "1000000")
        .set("limits.new_peers_per_address", "1000000")
        // What commands change shows at once.
        .set("meeting.rescan", "0s")
        .start()
}

/// Lists a directory as the recorder did: type, mode, path.
///
/// The mode that a new file or directory has here, as `usual` tells, is shown as the one it had there.
fn entries(dir: &Path, shown: &str, usual: UsualModes) -> Vec<String> {
    let mut listed = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let metadata = fs::symlink_metadata(entry.path()).unwrap();
        let shown = format!("{shown}/{}", entry.file_name().to_string_lossy());
        let mode = mode(&metadata);
        let (kind, mode) = match metadata.file_type() {
            kind if kind.is_dir() && mode == usual.dir => ('d', 0o755),
            kind if kind.is_dir() => ('d', mode),
            kind if kind.is_file() && mode == usual.file => ('f', 0o644),
            kind if kind.is_file() => ('f', mode),
            kind if kind.is_symlink() => ('l', mode),
            _ => ('?', mode),
        };
        listed.push(format!("{kind} {mode:o} {shown}"));
        if metadata.is_dir() {
            listed.append(&mut entries(&entry.path(), &shown, usual));
        }
    }
    listed
}

/// The modes that the umask of the test leaves to what it makes.
#[derive(Debug, Clone, Copy)]
struct UsualModes {
    dir: u32,
    file: u32,
}

impl UsualModes {
    fn of(stage: &Stage) -> Self {
        let mode = |path| mode(&fs::metadata(stage.path(path)).unwrap());
        Self {
            dir: mode("work"),
            file: mode("work/inner.json"),
        }
    }
}

fn mode(metadata: &Metadata) -> u32 {
    metadata.permissions().mode() & 0o7777
}

/// Reads our introduction, where that was asked for and given.
fn introduction(row: &Exchange, answer: &Answer) -> Option<Map<String, Value>> {
    let body: Map<String, Value> = serde_json::from_str(&answer.body).ok()?;
    (row.request.method == "GET" && body.contains_key("identity")).then_some(body)
}

/// Reads the sentence out of what the reference wrote: a line of its own, or the first line of a Ruby trace,
/// which reads `FILE:LINE:in `METHOD': SENTENCE (CLASS)` and has each backslash twice.
fn recorded_message(stderr: &str) -> String {
    let told = stderr.split("\n\tfrom ").next().unwrap_or_default();
    let traced = told
        .split_once(":in `")
        .and_then(|(_, rest)| rest.split_once("': "));
    match traced {
        Some((_, sentence)) => {
            let is_class = |text: &str| {
                text.split_once(')').is_some_and(|(name, _)| {
                    name.starts_with(char::is_uppercase)
                        && name.chars().all(|c| c.is_alphabetic() || c == ':')
                })
            };
            let mut classes = sentence
                .match_indices(" (")
                .filter(|(at, mark)| is_class(&sentence[at + mark.len()..]));
            let end = classes.next().map_or(sentence.len(), |(at, _)| at);
            first_line(&sentence[..end].replace(r"\\", r"\"))
        }
        None => first_line(told),
    }
}

/// Reads the sentence; on lines of their own after it we tell more than the reference does.
fn our_message(ended: &Ended) -> String {
    first_line(&ended.stderr)
}

/// `Error` and `error` before the sentence are the same word to those who read it.
fn first_line(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default().trim_end();
    let words = ["Error: ", "error: "];
    let sentence = words.iter().find_map(|word| line.strip_prefix(word));
    sentence.unwrap_or(line).to_owned()
}
