//! `testnet`: a network of containers in which things go wrong on purpose.

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Subcommand;

use crate::build::{ProgramArgs, Programs};
use crate::compose::{Plan, Size};
use crate::image::{self, Image};
use crate::process;

mod checks;
mod journal;
mod link;
mod network;
mod p2p;
mod play;
mod poison;
mod scenario;
mod seed;
mod verdict;

use checks::Tips;
use journal::Journal;
use network::{Network, docker, url};
use play::Stage;
use scenario::Scenario;
use verdict::{Color, Verdict};

/// Where the scenarios are.
const SCENARIOS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/testnet/scenarios");
/// The network of `up` and `down`; one that runs scenarios has a name of its own.
const NAME: &str = "kairos-testnet";
/// The images: what runs, and what it is upgraded to.
const IMAGE: &str = "kairos-chain:testnet";
const NEXT: &str = "kairos-chain:testnet-next";
/// Within which time a fresh network is ready.
const READY: Duration = Duration::from_secs(180);

#[derive(Debug, clap::Args)]
pub(crate) struct TestnetArgs {
    #[command(subcommand)]
    command: Option<TestnetCommand>,

    #[command(flatten)]
    run: RunArgs,
}

#[derive(Debug, Subcommand)]
enum TestnetCommand {
    /// Start a network to look at and to play with
    Up(UpArgs),
    /// Take it down, and remove all that it kept
    Down {
        /// The name of the network
        #[arg(long, value_name = "NAME", default_value = NAME)]
        name: String,
    },
    /// List the scenarios
    List,
}

#[derive(Debug, clap::Args)]
struct UpArgs {
    #[command(flatten)]
    programs: ProgramArgs,
    #[command(flatten)]
    size: Size,
}

/// Bring a network up, play scenarios, say what came of them, and take it down
#[derive(Debug, clap::Args)]
struct RunArgs {
    #[command(flatten)]
    programs: ProgramArgs,
    #[command(flatten)]
    size: Size,

    /// Play this scenario; may be given several times [default: all]
    #[arg(long = "scenario", value_name = "NAME")]
    scenarios: Vec<String>,

    /// Play only the short ones
    #[arg(long, conflicts_with = "scenarios")]
    short: bool,

    /// Print the verdict as JSON, for programs
    #[arg(long)]
    json: bool,

    /// When to color the verdict
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    color: Color,

    /// Leave the network as it is in the end, to look at it
    #[arg(long)]
    keep: bool,
}

/// Runs `testnet`. It fails if a scenario did.
pub(crate) fn run(args: &TestnetArgs) -> anyhow::Result<ExitCode> {
    match &args.command {
        None => play_all(&args.run),
        Some(TestnetCommand::Up(args)) => up(args),
        Some(TestnetCommand::Down { name }) => {
            let unknown = Size {
                agents: 2,
                places: 1,
            };
            let size = Network::new(name, IMAGE, Plan::new(unknown))?.found()?;
            Network::new(name, IMAGE, Plan::new(size))?.down()?;
            Ok(ExitCode::SUCCESS)
        }
        Some(TestnetCommand::List) => {
            for scenario in scenario::read(Path::new(SCENARIOS), &[], false)? {
                let short = if scenario.short { "short" } else { "" };
                process::print(format_args!(
                    "{:<18} {short:<6} {}\n",
                    scenario.name, scenario.title
                ))?;
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn load(programs: &Programs, tag: &str, revision: Option<&str>) -> anyhow::Result<Image> {
    let image = Image::of(programs, tag, revision, image::epoch()?)?;
    image.load().context("the engine does not take the image")?;
    Ok(image)
}

fn up(args: &UpArgs) -> anyhow::Result<ExitCode> {
    load(&args.programs.get()?, IMAGE, None)?;
    let mut network = Network::new(NAME, IMAGE, Plan::new(args.size))?;
    network.up(true, READY)?;
    seed::everybody(&network)?;
    let one = network.container("agent1")?;
    process::print(format_args!(
        "{} agents and {} Places are up, and every agent is at every Place.\n\
         Try:  docker exec {one} kairos-chain meet {}\n      \
         docker exec {one} kairos-chain place browse --place {}\n\
         End:  cargo run -p kairos-deploy -- testnet down\n",
        network.agents().len(),
        network.places().len(),
        url("agent2"),
        url("place1"),
    ))?;
    Ok(ExitCode::SUCCESS)
}

/// Takes out of the short scenarios those that cannot be played on this machine, and names them. That others cannot be
/// played is an error.
fn leave_out(scenarios: &mut Vec<Scenario>, short: bool) -> anyhow::Result<Vec<String>> {
    if !scenarios.iter().any(Scenario::takes_root) {
        return Ok(Vec::new());
    }
    let Err(error) = link::possible() else {
        return Ok(Vec::new());
    };
    let left_out = scenarios.iter().filter(|scenario| scenario.takes_root());
    let left_out: Vec<String> = left_out.map(|scenario| scenario.name.clone()).collect();
    let names = left_out.join(", ");
    if !short {
        return Err(error.context(format!("{names} cannot be played here")));
    }
    process::note(format_args!("SKIPPED: {names}; {error:#}"));
    scenarios.retain(|scenario| !scenario.takes_root());
    Ok(left_out)
}

fn play_all(args: &RunArgs) -> anyhow::Result<ExitCode> {
    let mut scenarios = scenario::read(Path::new(SCENARIOS), &args.scenarios, args.short)?;
    let left_out = leave_out(&mut scenarios, args.short)?;
    let plan = Plan::new(args.size);
    let (agents, places) = (plan.agents(), plan.places());
    for scenario in &scenarios {
        scenario.fits(&agents, &places)?;
    }
    let programs = args.programs.get()?;
    let began = Instant::now();
    let image = load(&programs, IMAGE, None)?;
    load(&programs, NEXT, Some("next"))?;
    let project = format!("{NAME}-{}", std::process::id());
    let mut network = Network::new(&project, IMAGE, plan)?;
    let tell = |what: &str| {
        process::note(format_args!(
            "{:>6.1} s  {what}",
            began.elapsed().as_secs_f64()
        ))
    };
    tell("start the network");
    let up = Instant::now();
    network.up(args.keep, READY)?;
    let ready = up.elapsed();
    seed::everybody(&network)?;
    let again = ["agent1".to_owned()];
    network.end(&again, false)?;
    let one_ready = network.start(&again, READY)?;

    let (journal, tips) = (Journal::default(), Tips::default());
    let mut played = Vec::new();
    for scenario in &scenarios {
        tell(&format!("{}: {}", scenario.name, scenario.title));
        let stage = Stage {
            network: &network,
            journal: &journal,
            tips: &tips,
            verify: &programs.verify,
            next: NEXT,
            bound: scenario.bound.0,
        };
        let result = stage.play(scenario, &|step| tell(&format!("  {step}")));
        let lasted = result.error.is_none();
        played.push(result);
        if !lasted {
            tell("the rest is not played: the network may be in any state");
            break;
        }
    }
    let memory = network.memory().unwrap_or_default();
    let verdict = Verdict {
        passed: played.len() == scenarios.len() && played.iter().all(|played| played.passed),
        agents: network.agents().len(),
        places: network.places().len(),
        image: image.id,
        image_bytes: image.size,
        ready_seconds: ready.as_secs_f64(),
        one_ready_seconds: one_ready.as_secs_f64(),
        memory,
        left_out,
        scenarios: played,
        seconds: began.elapsed().as_secs_f64(),
    };
    if args.json {
        process::print(format_args!("{:#}\n", serde_json::to_value(&verdict)?))?;
    } else {
        process::print(verdict::text(&verdict, args.color.applies()))?;
    }
    if args.keep {
        tell(&format!(
            "it stays; end it with: kairos-deploy testnet down --name {project}"
        ));
    } else {
        tell("take the network down");
        network.down()?;
        docker(&["rmi", NEXT])?;
    }
    Ok(if verdict.passed {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
