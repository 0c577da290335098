//! The command line: one file per command, each of which asks the rest of the program and writes the answer.

use std::future::Future;
use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::sync::Arc;

use clap::{CommandFactory as _, Parser, Subcommand};
use kairos_actors::action_log::ActionLog;
use kairos_actors::auth::{AuthActor, AuthHandle};
use kairos_protocol::time::{Clock as _, Timestamp};

use crate::agent::Agent;
use crate::clock::SystemClock;
use crate::data_dir::{DataDir, Surroundings};
use crate::{config as settings, telemetry};
use exit::Exit;
use out::{Color, Out, Tone};
use p2p::node::BesideNode;

pub mod anchor;
pub mod approvals;
pub mod backup;
pub mod chain;
pub mod config;
pub mod context;
pub mod demo;
pub mod doctor;
pub mod exit;
pub mod extensions;
pub mod federation;
pub mod formalization;
pub mod health;
pub mod identity;
pub mod init;
pub mod knowledge;
pub mod log;
pub mod mcp;
pub mod meet;
pub mod out;
pub mod p2p;
pub mod peers;
pub mod place;
pub mod progress;
pub mod propose;
pub mod quarantine;
pub mod resource;
pub mod restore;
pub mod say;
pub mod search;
pub mod serve;
pub mod skill;
pub mod skills;
pub mod skillset;
pub mod state;
pub mod status;
pub mod token;
pub mod upgrade;

/// The node that an AI agent runs: an honest history of what it knows, and safe exchange with other agents.
#[derive(Debug, Parser)]
#[command(
    name = "kairos-chain",
    version,
    disable_version_flag = true,
    after_help = "Start with:  kairos-chain demo\nThe data directory is --data-dir, else $KAIROS_DATA_DIR, else ./.kairos."
)]
pub struct Cli {
    /// Data directory [default: $KAIROS_DATA_DIR, else ./.kairos]
    #[arg(long, global = true, value_name = "DIR")]
    data_dir: Option<PathBuf>,

    /// Print results as JSON, for programs
    #[arg(long, global = true)]
    json: bool,

    /// When to use color
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    color: Color,

    /// Override a setting, such as http.port=9000; may be given several times
    #[arg(long = "set", global = true, value_name = "KEY=VALUE")]
    set: Vec<String>,

    /// Print the version
    #[arg(short = 'v', long, short_alias = 'V', action = clap::ArgAction::Version)]
    version: Option<bool>,

    /// Serve over HTTP; the same as the command `serve`
    #[arg(long)]
    http: bool,

    #[command(flatten)]
    listen: serve::ServeArgs,

    #[command(subcommand)]
    command: Option<Command>,
}

/// What to do.
#[derive(Debug, Subcommand)]
enum Command {
    /// Two agents in temporary directories meet, exchange, and refuse what is poisoned; nothing is left behind
    Demo(demo::DemoArgs),
    Init(init::InitArgs),
    /// Let other agents meet this one over HTTP
    Serve(serve::ServeArgs),
    /// How the node is, on one screen
    Status(status::StatusArgs),
    /// Whether a server is ready, for containers and supervisors
    Health(health::HealthArgs),
    /// Introduce ourselves to an agent, verify it, and see what it offers
    Meet(meet::MeetArgs),
    /// Agents we know, and the keys by which we know them
    Peers(peers::PeersArgs),
    /// Knowledge (layer L1): every change is in the ledger
    Knowledge(knowledge::KnowledgeArgs),
    /// Contexts (layer L2): texts of sessions, in no ledger
    Context(context::ContextArgs),
    /// Texts and files of all layers by their names
    Resource(resource::ResourceArgs),
    /// Find words in all layers
    Search(search::SearchArgs),
    /// Skills: our own, and those of other agents
    Skill(skill::SkillArgs),
    /// The law of the agent (layer L0): read it, check it, compare it; it is never run
    Skills(skills::SkillsArgs),
    /// How texts were put into the language of the law, and why others were not
    Formalization(formalization::FormalizationArgs),
    /// SkillSets: install, enable, package, and acquire from other agents
    Skillset(skillset::SkillsetArgs),
    /// What was acquired and waits for a decision
    Quarantine(quarantine::QuarantineArgs),
    /// Have a change wait until an owner approves it
    Propose(propose::ProposeArgs),
    /// Extensions of the meeting protocol: names of actions, never code, in effect once they are approved
    Extensions(extensions::ExtensionsArgs),
    /// Changes that were proposed and wait for a decision
    Approvals(approvals::ApprovalsArgs),
    /// Install something from the quarantine, or carry out what was proposed
    Approve(quarantine::ApproveArgs),
    /// Discard something from the quarantine, or refuse what was proposed
    Reject(quarantine::RejectArgs),
    /// Show who authored a skill or SkillSet and through whose hands it came
    Provenance(skill::ProvenanceArgs),
    /// Tell an agent what came of an exchange
    Reflect(say::ReflectArgs),
    /// Send an agent a message
    Message(say::MessageArgs),
    /// Messages that other agents left
    Inbox(say::InboxArgs),
    /// Find agents and be found without a server: the libp2p node of `serve --p2p`
    P2p(p2p::P2pArgs),
    /// Meeting Places: join one, look around, leave and take skills, write to agents that are away; or host one
    Place(place::PlaceArgs),
    /// Agreements of the Place that is hosted here with other Places
    Federation(federation::FederationArgs),
    /// Who this agent is, and a new key for it
    Identity(identity::IdentityArgs),
    /// The ledger: what changed, and whether it is intact
    Chain(chain::ChainArgs),
    /// Anchors of HestiaChain: hashes of what happened, who took part, and when
    Anchor(anchor::AnchorArgs),
    /// Tokens for people and programs that act for the owner over HTTP
    Token(token::TokenArgs),
    /// Let a language model use this agent (MCP); without a command, and with a pipe as input, this program does that too
    Mcp(mcp::McpArgs),
    /// Who did what to this agent
    Log(log::LogArgs),
    /// Snapshots of everything the agent knows: commit, compare, restore
    State(state::StateArgs),
    /// Settings: their values, sources and meaning
    Config(config::ConfigArgs),
    /// Copy the data directory into one file, while it is in use
    Backup(backup::BackupArgs),
    /// Put a backup in the place of the data directory, once all of it was checked
    Restore(restore::RestoreArgs),
    /// Examine the data directory, and say what to do about what is found
    Doctor(doctor::DoctorArgs),
    /// Bring the texts of the data directory to those of this version, and keep what was changed
    Upgrade(upgrade::UpgradeArgs),
    /// Print a completion script for a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
}

/// What every command has at hand.
pub struct Session {
    flag: Option<PathBuf>,
    around: Surroundings,
    overrides: Vec<(String, String)>,
    /// Where results and notes go.
    pub out: Out,
}

impl Session {
    /// The data directory, which need not exist.
    pub fn data_dir(&self) -> DataDir {
        DataDir::resolve(self.flag.as_deref(), &self.around)
    }

    fn environment() -> impl Iterator<Item = (String, String)> {
        std::env::vars_os()
            .filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)))
    }

    /// The settings in force, with `more` on top of `--set`.
    pub fn settings(&self, more: &[(String, String)]) -> anyhow::Result<settings::Settings> {
        Ok(self.loaded(more)?.settings)
    }

    /// The settings in force with the source of each, or everything that is wrong with them.
    fn loaded(&self, more: &[(String, String)]) -> Result<settings::Loaded, settings::ConfigError> {
        let mut overrides = self.overrides.clone();
        overrides.extend_from_slice(more);
        let data_dir = self.data_dir();
        settings::load(data_dir.path(), Self::environment(), &overrides)
    }

    /// Runs `work` with the tokens of an existing data directory and nothing else of its agent, so that it works where
    /// nothing else does. It gets the time, too.
    pub fn with_tokens<F>(
        &mut self,
        work: impl FnOnce(AuthHandle, Timestamp, Out) -> F,
    ) -> anyhow::Result<Exit>
    where
        F: Future<Output = anyhow::Result<Exit>>,
    {
        let (data_dir, settings, out) = self.begin()?;
        let _tenancy = data_dir.enter()?;
        actix::System::new().block_on(async move {
            let (log, clock) = (ActionLog::new(data_dir.path()), Arc::new(SystemClock));
            let now = clock.now();
            let (permits, patience) = (
                settings.limits.asks_in_flight,
                settings.limits.ask_patience.get(),
            );
            let auth = AuthActor::start(data_dir.path(), log, clock, permits, patience);
            let result = work(auth.clone(), now, out).await;
            if let Err(error) = auth.shutdown().await {
                tracing::warn!(%error, "a part of the node did not stop in order");
            }
            result
        })
    }

    /// What every command needs that opens an agent, or a part of it: the directory, its settings, and where to write.
    fn begin(&mut self) -> anyhow::Result<(DataDir, settings::Settings, Out)> {
        // First, since settings are read from it.
        let data_dir = self.data_dir().existing()?;
        let settings = self.settings(&[])?;
        // Commands speak for themselves; only what went wrong inside is worth a line of log.
        let level = if settings.log.level == "info" {
            "warn"
        } else {
            &settings.log.level
        };
        telemetry::start(level, settings.log.format);
        let out = std::mem::replace(
            &mut self.out,
            Out::to(std::io::sink(), std::io::sink(), false),
        );
        Ok((data_dir, settings, out))
    }

    /// Makes the data directory with safe defaults if it is missing, and says so.
    pub fn initialize(&mut self) -> anyhow::Result<DataDir> {
        let data_dir = self.data_dir();
        if !data_dir.is_initialized() {
            self.out.note(format_args!(
                "Data directory not initialized at {}; making it",
                data_dir.path().display()
            ))?;
            data_dir.init(SystemClock.now())?;
        }
        Ok(data_dir)
    }

    /// Runs `work` with the agent of an existing data directory, and closes the agent afterwards.
    pub fn with_agent<F>(&mut self, work: impl FnOnce(Arc<Agent>, Out) -> F) -> anyhow::Result<Exit>
    where
        F: Future<Output = anyhow::Result<Exit>>,
    {
        self.with_node(|agent, _, out| work(agent, out))
    }

    /// The same with the way to the libp2p node of the server beside this command.
    fn with_node<F>(
        &mut self,
        work: impl FnOnce(Arc<Agent>, BesideNode, Out) -> F,
    ) -> anyhow::Result<Exit>
    where
        F: Future<Output = anyhow::Result<Exit>>,
    {
        let (data_dir, settings, out) = self.begin()?;
        actix::System::new().block_on(async move {
            let agent = Arc::new(Agent::open(data_dir, settings).await?);
            let node = BesideNode::new(&agent);
            agent.handles.carriage.begin(Arc::new(node.clone()));
            let result = work(Arc::clone(&agent), node.clone(), out).await;
            if let Err(error) = node.close().await {
                tracing::error!(error = %causes(&error), "a token was not taken back");
            }
            // What the command did stands; a snapshot of it is made again by whoever comes next.
            if let Err(error) = agent.handles.state.review().await {
                tracing::error!(%error, "the state was not committed");
            }
            agent.close().await;
            result
        })
    }
}

/// Parses the arguments of the process and runs what they ask for.
pub fn run() -> Exit {
    crate::crash::quiet_grammar();
    let cli = Cli::parse();
    let out = Out::standard(cli.color, cli.json);
    let mut errors = Out::standard(cli.color, cli.json);
    match dispatch(cli, out) {
        Ok(exit) => exit,
        Err(error) => {
            let broken_pipe = error
                .chain()
                .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
                .any(|cause| cause.kind() == std::io::ErrorKind::BrokenPipe);
            if broken_pipe {
                // Whoever read our output has seen enough.
                return Exit::Done;
            }
            let word = errors.paint_note(Tone::Bad, "error:");
            let told = errors.note(format_args!("{word} {}", causes(&error)));
            let invalid = error.downcast_ref::<settings::ConfigError>().is_some()
                || error.downcast_ref::<Usage>().is_some();
            if told.is_err() || !invalid {
                Exit::Failed
            } else {
                Exit::Invalid
            }
        }
    }
}

/// An error and its causes, each said once: many errors quote their cause themselves.
fn causes(error: &anyhow::Error) -> String {
    let mut told = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if told.is_empty() {
            told = cause;
        } else if !told.contains(&cause) {
            told = format!("{told}: {cause}");
        }
    }
    told
}

/// What was asked for makes no sense; exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

fn dispatch(cli: Cli, out: Out) -> anyhow::Result<Exit> {
    let overrides = cli
        .set
        .iter()
        .map(|pair| split(pair))
        .collect::<Result<_, _>>()?;
    let around = Surroundings::of_process()?;
    let mut session = Session {
        flag: cli.data_dir,
        around,
        overrides,
        out,
    };
    match cli.command {
        None if cli.http => serve::run(&cli.listen, &mut session),
        None if !std::io::stdin().is_terminal() => mcp::serve(&mut session),
        None => {
            session.out.note(Cli::command().render_help())?;
            Ok(Exit::Invalid)
        }
        Some(Command::Demo(args)) => demo::run(&args, &mut session),
        Some(Command::Init(args)) => {
            let flag = session.flag.clone();
            init::run(
                &args,
                flag.as_deref(),
                &session.around,
                SystemClock.now(),
                &mut session.out,
            )
        }
        Some(Command::Serve(args)) => serve::run(&args, &mut session),
        Some(Command::Status(args)) => status::run(&args, &mut session),
        Some(Command::Health(args)) => health::run(&args, &mut session),
        Some(Command::Meet(args)) => meet::run(&args, &mut session),
        Some(Command::Peers(args)) => peers::run(args, &mut session),
        Some(Command::Knowledge(args)) => knowledge::run(args, &mut session),
        Some(Command::Context(args)) => context::run(args, &mut session),
        Some(Command::Resource(args)) => resource::run(args, &mut session),
        Some(Command::Search(args)) => search::run(args, &mut session),
        Some(Command::Skill(args)) => skill::run(args, &mut session),
        Some(Command::Skills(args)) => skills::run(args, &mut session),
        Some(Command::Formalization(args)) => formalization::run(args, &mut session),
        Some(Command::Skillset(args)) => skillset::run(args, &mut session),
        Some(Command::Quarantine(args)) => quarantine::run(args, &mut session),
        Some(Command::Propose(args)) => propose::run(args, &mut session),
        Some(Command::Extensions(args)) => extensions::run(args, &mut session),
        Some(Command::Approvals(args)) => approvals::run(args, &mut session),
        Some(Command::Approve(args)) => quarantine::approve(args, &mut session),
        Some(Command::Reject(args)) => quarantine::reject(args, &mut session),
        Some(Command::Provenance(args)) => skill::provenance(args, &mut session),
        Some(Command::Reflect(args)) => say::reflect(args, &mut session),
        Some(Command::Message(args)) => say::message(args, &mut session),
        Some(Command::Inbox(args)) => say::inbox(args, &mut session),
        Some(Command::P2p(args)) => p2p::run(args, &mut session),
        Some(Command::Place(args)) => place::run(args, &mut session),
        Some(Command::Federation(args)) => federation::run(args, &mut session),
        Some(Command::Identity(args)) => identity::run(&args, &mut session),
        Some(Command::Chain(args)) => chain::run(args, &mut session),
        Some(Command::Anchor(args)) => anchor::run(args, &mut session),
        Some(Command::Token(args)) => token::run(args, &mut session),
        Some(Command::Mcp(args)) => mcp::run(args, &mut session),
        Some(Command::Log(args)) => log::run(&args, &mut session),
        Some(Command::State(args)) => state::run(args, &mut session),
        Some(Command::Config(args)) => {
            let data_dir = session.data_dir();
            let overrides = session.overrides.clone();
            config::run(
                &args,
                &data_dir,
                Session::environment(),
                &overrides,
                &mut session.out,
            )
        }
        Some(Command::Backup(args)) => backup::run(&args, &mut session),
        Some(Command::Restore(args)) => restore::run(&args, &mut session),
        Some(Command::Doctor(args)) => doctor::run(&args, &mut session),
        Some(Command::Upgrade(args)) => upgrade::run(args, &mut session),
        Some(Command::Completions { shell }) => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "kairos-chain", &mut script);
            session.out.line(String::from_utf8_lossy(&script))?;
            Ok(Exit::Done)
        }
    }
}

fn split(pair: &str) -> Result<(String, String), Usage> {
    let parts = pair.split_once('=');
    let (key, value) = parts.ok_or_else(|| {
        Usage(format!(
            "--set takes KEY=VALUE, such as http.port=9000, not `{pair}`"
        ))
    })?;
    Ok((key.trim().to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_that_is_quoted_already_is_not_said_again() {
        let error = anyhow::anyhow!("disk full")
            .context("cannot write: disk full")
            .context("no luck");
        assert_eq!(causes(&error), "no luck: cannot write: disk full");
    }

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }
}
