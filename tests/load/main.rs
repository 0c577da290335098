//! `kairos-load`: load from many simulated agents on one node, with times, and checks that all it says is true.
//!
//! [`schedule`] decides when what is done, [`world`] and [`agent`] are who does it, [`operations`] is how. What the node
//! acknowledged is in the [`journal`], what it took in the [`meter`]. [`checks`] says at the end what holds, [`soak`]
//! whether the node itself stayed as it was.

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Parser as _;
use tokio::task::LocalSet;

mod agent;
mod args;
mod checks;
mod client;
mod journal;
mod meter;
mod mix;
mod operations;
mod schedule;
mod soak;
mod target;
mod verdict;
mod world;

use args::Args;
use client::Client;
use meter::Meter;
use target::Target;
use verdict::Verdict;
use world::World;

/// There is no verdict.
const NO_VERDICT: u8 = 2;
/// Between two lines of progress, where a person is watching, and where not.
const PROGRESS: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(60)];

fn main() -> ExitCode {
    let args = Args::parse();
    match judged(&args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say(&format!("error: {error:#}"));
            ExitCode::from(NO_VERDICT)
        }
    }
}

/// Carries it out, prints the verdict, and returns it.
fn judged(args: &Args) -> anyhow::Result<bool> {
    let tell = |text: &str| {
        if !args.quiet {
            say(text);
        }
    };
    if args.url.is_none() {
        tell("start a node");
    }
    let target = Target::find(args)?;
    // One thread, so that the agents take no more than one core from the node.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.context("no runtime")?;
    let mut verdict = LocalSet::new().block_on(&runtime, run(args, &target, tell))?;
    if let Err(error) = target.stop() {
        verdict.passed = false;
        verdict.checks.push(verdict::Check::new(
            "end of the node",
            false,
            format!("{error:#}"),
        ));
    }
    let text = if args.json {
        format!("{:#}\n", serde_json::to_value(&verdict)?)
    } else {
        verdict::text(&verdict)
    };
    let mut stdout = std::io::stdout().lock();
    stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
        .context("nobody reads the verdict")?;
    Ok(verdict.passed)
}

async fn run(args: &Args, target: &Target, tell: impl Fn(&str) + Copy) -> anyhow::Result<Verdict> {
    let client = Client::new(&target.url, args.patience)?;
    let node = client.base().to_owned();
    let text = usize::try_from(args.text.as_u64()).context("--text is too long")?;
    tell(&format!(
        "{} agents make their keys and come to {node}",
        args.agents
    ));
    let world = World::enter(client, args.agents as usize, text).await?;
    let meter = Arc::new(Meter::default());
    let plan = args.plan();
    tell(&format!(
        "{} operations a second for {}",
        plan.rate,
        humantime::format_duration(plan.duration)
    ));
    let watch = args
        .soak
        .then(|| soak::Watch::begin(args, target, &meter))
        .transpose()?;
    let progress = (!args.quiet).then(|| tokio::task::spawn_local(progress(Arc::clone(&meter))));
    let kept = schedule::run(&plan, &world, &meter).await?;
    if let Some(progress) = progress {
        progress.abort();
    }
    let soaked = match watch {
        Some(watch) => Some(watch.end(args).await?),
        None => None,
    };
    tell("fetch all mail, and compare the board");
    let mut checks = checks::all(&world, &meter, kept, args, target.data_dir.as_deref()).await?;
    let soak = soaked.map(|(soaked, of_soak)| {
        checks.extend(of_soak);
        soaked
    });
    Ok(Verdict {
        passed: checks.iter().all(|check| check.passed),
        node,
        agents: world.agents.len(),
        rate: plan.rate,
        mix: plan.mix.to_string(),
        schedule: kept,
        operations: meter.measured(),
        checks,
        soak,
    })
}

/// Says now and then how far it is.
async fn progress(meter: Arc<Meter>) {
    let [watched, alone] = PROGRESS;
    let pause = if std::io::stderr().is_terminal() {
        watched
    } else {
        alone
    };
    let begun = Instant::now();
    loop {
        tokio::time::sleep(pause).await;
        let ((done, failed), (p50, p99)) = (meter.totals(), meter.overall());
        let after = begun.elapsed().as_secs();
        say(&format!(
            "{after:>6} s  {done} done, {failed} failed; p50 {p50:.1} ms, p99 {p99:.1} ms"
        ));
    }
}

/// Writes a line for a person to standard error. Where nobody can read it, there is nobody to tell.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}
