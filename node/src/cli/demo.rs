//! `demo`: two agents meet, knowledge crosses between them, and what is poisoned is refused.
//!
//! Everything is real: two data directories, two HTTP servers on loopback, two ledgers. A third agent, Mallory, offers
//! a SkillSet that carries a script and one that was changed after it was signed. Nothing is left behind. `--place` tells
//! another story, of a Meeting Place, and `--p2p` one of agents without servers: see [`place`] and [`p2p`].

use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use kairos_actors::meeting::client::PeerUrl;
use kairos_actors::meeting::{Approval, Fetched, MeetingError, Wanted};
use kairos_actors::skill_set::Options;
use kairos_protocol::time::Clock as _;
use serde_json::json;

use super::Session;
use super::exit::Exit;
use super::meet::show_checks;
use super::out::{Out, Tone};
use crate::agent::Agent;
use crate::clock::SystemClock;
use crate::config::{Period, Settings};
use crate::data_dir::{DataDir, Surroundings};
use crate::node::{Node, Operation};
use crate::telemetry;

mod mallory;
mod p2p;
mod place;

/// Which story to tell.
#[derive(Debug, clap::Args)]
pub struct DemoArgs {
    /// Three agents at a Meeting Place: a skill on its board, a sealed message to one who sleeps, and what is refused
    #[arg(long)]
    place: bool,

    /// Two agents without an HTTP port or an address of each other: they find each other on the local network, or, with
    /// the setting p2p.mdns false, where one is told of the other, and a SkillSet crosses over libp2p
    #[arg(long, conflicts_with = "place")]
    p2p: bool,
}

const NOTE: &str = "---\nname: tea_ceremony\ndescription: How to serve tea to a guest\nversion: 1.0.0\ntags: [tea, \
                    hospitality]\npublic: true\n---\n\n# Serving tea\n\nWarm the pot. Wait for the guest. Pour from \
                    the height of a hand.\n";

/// What is in Ada's SkillSet.
const GREEN_TEA: &str = "# Green tea\n\nSeventy degrees, two minutes.\n";

/// Runs `demo`.
pub fn run(args: &DemoArgs, session: &mut Session) -> anyhow::Result<Exit> {
    telemetry::start("error", crate::config::LogFormat::Human);
    let started = Instant::now();
    let multicast = match args.p2p {
        true => session.settings(&[])?.p2p.mdns,
        false => false,
    };
    let home = tempfile::Builder::new().prefix("kairos-demo").tempdir()?;
    let out = &mut session.out;
    actix::System::new().block_on(async {
        match (args.place, args.p2p) {
            (true, _) => place::tell(home.path(), out).await,
            (_, true) => p2p::tell(home.path(), multicast, out).await,
            _ => tell(home.path(), out).await,
        }
    })?;
    home.close()
        .context("the temporary directory could not be removed")?;
    let seconds = started.elapsed().as_secs_f32();
    if out.wants_json() {
        out.json(&json!({"demo": "passed", "seconds": seconds}))?;
    } else {
        let done = out.paint(Tone::Good, "Done");
        out.line(format_args!(
            "{done} in {seconds:.1} seconds. The temporary directories are gone."
        ))?;
        out.note(match (args.place, args.p2p) {
            (true, _) => "Next:  kairos-chain place join URL   and   kairos-chain serve --place",
            (_, true) => "Next:  kairos-chain serve --p2p --no-http   and   kairos-chain p2p peers",
            _ => "Next:  kairos-chain demo --place   and   kairos-chain demo --p2p   and   kairos-chain serve",
        })?;
    }
    Ok(Exit::Done)
}

/// Numbers the steps and says them.
struct Story<'o> {
    out: &'o mut Out,
    step: usize,
}

impl Story<'_> {
    fn step(&mut self, text: &str) -> std::io::Result<()> {
        self.step += 1;
        if self.out.wants_json() {
            return Ok(());
        }
        let text = self
            .out
            .paint(Tone::Strong, format_args!("{}. {text}", self.step));
        self.out.line(text)
    }

    fn say(&mut self, text: impl std::fmt::Display) -> std::io::Result<()> {
        if self.out.wants_json() {
            return Ok(());
        }
        self.out.line(format_args!("   {text}"))
    }

    fn end(&mut self) -> std::io::Result<()> {
        if self.out.wants_json() {
            Ok(())
        } else {
            self.out.line("")
        }
    }
}

async fn tell(home: &Path, out: &mut Out) -> anyhow::Result<()> {
    let mut story = Story { out, step: 0 };

    story.step("Two agents come to life, each with its own key, ledger and data directory")?;
    let (ada, ada_url) = agent(&home.join("ada"), "Ada", "serves tea").await?;
    let (ben, ben_url) = agent(&home.join("ben"), "Ben", "is a guest").await?;
    for (node, url) in [(&ada, &ada_url), (&ben, &ben_url)] {
        let signed = &node.agent().signed;
        story.say(format_args!(
            "{} is {} at {url}, key {}",
            node.agent().settings.identity.name,
            signed.instance_id,
            signed.key_fingerprint
        ))?;
    }
    story.end()?;

    story.step("Ada writes a skill and installs a SkillSet that others may have")?;
    let made = home.join("tea_house");
    stock(&ada, &made).await?;
    story.say("skill tea_ceremony, SkillSet tea_house")?;
    story.end()?;

    story.step("Ben meets Ada: both introduce themselves, and each proves to hold its key")?;
    let met = ben.agent().handles.meeting.meet(ada_url.clone()).await?;
    if !story.out.wants_json() {
        show_checks(&met.checks, story.out)?;
    }
    let ([skill], [skill_set]) = (met.skills.as_slice(), met.skill_sets.as_slice()) else {
        anyhow::bail!("Ada offers something else than expected");
    };
    story.say(format_args!(
        "Ada offers the skill {} and the SkillSet {}",
        skill.name, skill_set.name
    ))?;
    story.end()?;

    story.step(
        "Ben acquires both; they wait in quarantine with their evidence until Ben approves",
    )?;
    for wanted in [
        Wanted::Skill("tea_ceremony".into()),
        Wanted::SkillSet("tea_house".into()),
    ] {
        take(&ben, &ada_url, wanted, &mut story).await?;
    }
    enable(&ben).await?;
    let text = fs_err::read_to_string(home.join("ben/knowledge/tea_ceremony/tea_ceremony.md"))?;
    ensure!(text == NOTE, "the skill did not arrive byte for byte");
    story.say("tea_house is enabled; every byte is as Ada wrote it")?;
    story.end()?;

    story.step(
        "Mallory offers a SkillSet with a hidden script, and one changed after it was signed",
    )?;
    let mallory = mallory::start(&made).await?;
    for (name, why) in [
        ("poisoned", "it can execute"),
        ("tampered", "it is not what was signed"),
    ] {
        match fetch(&ben, mallory.url(), Wanted::SkillSet(name.into())).await {
            Err(MeetingError::Refused { check, detail, .. }) => {
                let word = story.out.paint(Tone::Bad, "refused");
                story.say(format_args!(
                    "'{name}' is {word}, {why}: the check «{check}» failed"
                ))?;
                for line in detail.lines().take(8) {
                    story.say(format_args!("    {line}"))?;
                }
            }
            Err(error) => return Err(error.into()),
            Ok(_) => anyhow::bail!("the {name} SkillSet was let in"),
        }
    }
    let waiting = ben.agent().handles.quarantine.list().await?;
    ensure!(waiting.held.is_empty(), "something refused was kept");
    let installed = ben
        .agent()
        .handles
        .skill_sets
        .fresh(std::time::Duration::ZERO)
        .await?;
    ensure!(installed.sets.len() == 1, "something refused was installed");
    story.say("nothing of them was kept")?;
    story.end()?;

    verify([&ada, &ben], &mut story).await?;

    mallory.stop().await;
    ada.shutdown().await;
    ben.shutdown().await;
    Ok(())
}

/// Acquires something, shows the evidence and approves.
async fn take(
    node: &Node,
    url: &PeerUrl,
    wanted: Wanted,
    story: &mut Story<'_>,
) -> anyhow::Result<()> {
    let fetched = fetch(node, url, wanted).await?;
    let held = &fetched.held;
    let checks = held.evidence.checks.0.len();
    story.say(format_args!(
        "{} '{}': {checks} checks, seal {:.12}…",
        held.evidence.kind.title(),
        held.evidence.name,
        held.seal.to_hex()
    ))?;
    let approval = Approval::of(held);
    let approved = node.agent().handles.meeting.approve(approval).await?;
    story.say(format_args!("approved: now in {}", approved.path))?;
    Ok(())
}

/// Enables what Ada made.
async fn enable(node: &Node) -> anyhow::Result<()> {
    let enabled = node.agent().handles.skill_sets.enable("tea_house").await?;
    ensure!(enabled.set.enabled, "the SkillSet was not enabled");
    Ok(())
}

async fn verify(nodes: [&Node; 2], story: &mut Story<'_>) -> anyhow::Result<()> {
    story.step("Both ledgers tell what happened, and verify")?;
    for node in nodes {
        let report = node.agent().handles.chain.verify().await?;
        ensure!(report.is_valid(), "a ledger does not verify");
        story.say(format_args!(
            "{}: {} blocks, intact",
            node.agent().settings.identity.name,
            report.length
        ))?;
    }
    story.end()?;
    Ok(())
}

async fn fetch(node: &Node, url: &PeerUrl, wanted: Wanted) -> Result<Fetched, MeetingError> {
    let meeting = &node.agent().handles.meeting;
    let (_, fetched) = meeting
        .acquire(url.clone(), wanted, Arc::new(|_, _| ()))
        .await?;
    Ok(fetched)
}

fn settings(name: &str, description: &str) -> Settings {
    let mut settings = Settings::default();
    settings.identity.name = name.to_owned();
    settings.identity.description = description.to_owned();
    settings.http.workers = 1;
    // What Ada writes shows at once, not after the usual second.
    settings.meeting.rescan = Period::secs(0);
    settings
}

/// A node on a free port of loopback.
async fn agent(home: &Path, name: &str, description: &str) -> anyhow::Result<(Node, PeerUrl)> {
    let data_dir = DataDir::resolve(Some(home), &Surroundings::default());
    data_dir.init(SystemClock.now())?;
    let settings = settings(name, description);
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let url = format!("http://{}", listener.local_addr()?).parse()?;
    let agent = Agent::open(data_dir, settings).await?;
    Ok((Node::start(agent, listener, Operation::default())?, url))
}

/// Gives Ada a skill to offer.
fn stock_skill(data_dir: &DataDir) -> std::io::Result<()> {
    let knowledge = data_dir.knowledge().join("tea_ceremony");
    fs_err::create_dir_all(&knowledge)?;
    fs_err::write(knowledge.join("tea_ceremony.md"), NOTE)
}

/// Gives Ada something to offer.
async fn stock(ada: &Node, made: &Path) -> anyhow::Result<()> {
    stock_skill(&ada.agent().data_dir)?;
    let topic = made.join("knowledge/green_tea");
    fs_err::create_dir_all(&topic)?;
    let metadata = json!({
        "name": "tea_house", "version": "1.0.0", "description": "What a tea house should know", "author": "Ada",
        "layer": "L1", "depends_on": [], "provides": ["hospitality"], "knowledge_dirs": ["knowledge/green_tea"],
    });
    fs_err::write(
        made.join("skillset.json"),
        serde_json::to_string_pretty(&metadata)?,
    )?;
    fs_err::write(topic.join("green_tea.md"), GREEN_TEA)?;
    ada.agent()
        .handles
        .skill_sets
        .install(made.to_owned(), Options::default())
        .await?;
    Ok(())
}
