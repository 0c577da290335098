//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use clap::Parser;
use url::Url;

use crate::mix::Mix;
use crate::schedule::Plan;

/// Put load from many simulated agents on a node, and check that all it says is true
///
/// Without --url a node with a Meeting Place is started in a directory that goes away, with limits raised that are meant
/// for strangers. Each agent has a key of its own. Operations are due at a steady rate, whether or not the node keeps up;
/// their time counts from when they were due. At the end all mail is fetched and every skill on the board is compared
/// with what was left.
#[derive(Debug, Clone, Parser)]
#[command(name = "kairos-load", version, after_long_help = MORE)]
pub(crate) struct Args {
    /// The node; without it one is started
    #[arg(long, value_name = "URL", help_heading = "Node")]
    pub(crate) url: Option<Url>,
    /// A setting of the node that is started, such as http.workers=2; may be repeated
    #[arg(
        long,
        value_name = "KEY=VALUE",
        conflicts_with = "url",
        help_heading = "Node"
    )]
    pub(crate) set: Vec<String>,
    /// The process of the node at --url, if it is on this machine
    #[arg(long, requires = "url", help_heading = "Node")]
    pub(crate) pid: Option<u32>,
    /// Its data directory, if that is on this machine: then its ledger is checked, and --soak looks at its size
    #[arg(long, value_name = "DIR", requires = "url", help_heading = "Node")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Where it shows its figures, such as http://127.0.0.1:9464/metrics
    #[arg(long, value_name = "URL", requires = "url", help_heading = "Node")]
    pub(crate) figures: Option<Url>,

    /// How long
    #[arg(long, value_name = "TIME", default_value = "1m", value_parser = humantime::parse_duration, help_heading = "Load")]
    pub(crate) duration: Duration,
    /// Operations a second, of all agents together
    #[arg(long, default_value = "50", value_parser = rate, help_heading = "Load")]
    pub(crate) rate: f64,
    /// How many agents
    #[arg(long, default_value = "100", value_parser = clap::value_parser!(u32).range(2..=10_000), help_heading = "Load")]
    pub(crate) agents: u32,
    /// How often what is done: groups or single operations with their weights, see below
    #[arg(
        long,
        value_name = "NAME=WEIGHT,…",
        default_value = "introduce=1,exchange=2,place=5,relay=4",
        help_heading = "Load"
    )]
    pub(crate) mix: Mix,
    /// Length of each message and of each skill that is left
    #[arg(long, value_name = "SIZE", default_value = "2KiB", value_parser = size, help_heading = "Load")]
    pub(crate) text: ByteSize,
    /// Operations under way at once; what is due beyond them waits
    #[arg(long, value_name = "COUNT", default_value = "256", value_parser = clap::value_parser!(u32).range(1..=20_000), help_heading = "Load")]
    pub(crate) in_flight: u32,
    /// What the choices come from: the same number makes the same ones
    #[arg(
        long,
        value_name = "NUMBER",
        default_value = "1",
        help_heading = "Load"
    )]
    pub(crate) seed: u64,

    /// How long to wait for one answer
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = humantime::parse_duration, help_heading = "Verdict")]
    pub(crate) patience: Duration,
    /// How long what is late may still take when the time is over, and how long fetching the rest may take
    #[arg(long, value_name = "TIME", default_value = "1m", value_parser = humantime::parse_duration, help_heading = "Verdict")]
    pub(crate) grace: Duration,
    /// How many of a hundred operations may be refused or not answered
    #[arg(long, value_name = "PERCENT", default_value = "0", value_parser = percent, help_heading = "Verdict")]
    pub(crate) allow: f64,
    /// The longest time for 99 of a hundred operations, from when each was due; without it times are only shown
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, help_heading = "Verdict")]
    pub(crate) p99: Option<Duration>,

    /// Judge the node too: memory, descriptors and threads stay flat, and the disk grows as predicted
    #[arg(long, help_heading = "Soak")]
    pub(crate) soak: bool,
    /// How often to look at the node
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = every, help_heading = "Soak")]
    pub(crate) every: Duration,
    /// How many of a hundred parts of the time pass before it is judged
    #[arg(long, value_name = "PERCENT", default_value = "20", value_parser = warm_up, help_heading = "Soak")]
    pub(crate) warm_up: f64,
    /// How much the memory may grow in an hour, beyond what the node keeps of what it was told
    #[arg(long, value_name = "SIZE", default_value = "8MiB", value_parser = size, help_heading = "Soak")]
    pub(crate) memory_growth: ByteSize,
    /// Write what was seen of the node to this file, a line for each look
    #[arg(long, value_name = "FILE", help_heading = "Soak")]
    pub(crate) csv: Option<PathBuf>,

    /// Print the verdict as JSON
    #[arg(long, help_heading = "Output")]
    pub(crate) json: bool,
    /// Say nothing while it runs
    #[arg(long, short, help_heading = "Output")]
    pub(crate) quiet: bool,
}

/// What comes after the options.
const MORE: &str = "\
Operations, by group; a group's weight is shared out among them as shown in brackets:
  introduce   prove [3]     introduces itself, both sides prove their keys, the new session replaces the old one
              goodbye [1]   opens a session, uses it, ends it, and must be refused with it
  exchange    list [1]      lists the node's skills
              content [1]   lists them and gets the text of one, which must have the hash of the list
  place       register [1]  registers anew with a proof
              heartbeat [4] gives a sign of life
              browse [4]    looks at the board; nothing may be there that was never left
              deposit [2]   leaves a signed skill, or a newer text of it
              acquire [4]   takes an agent's skill: hash and signature must be right, and it no older than acknowledged
  relay       send [1]      seals a message to another agent's prekey and sends it
              receive [1]   fetches what waits, opens and checks it, and acknowledges it
Single ones are called by both words: --mix relay.send=3,relay.receive=1.

Verdict: passes if every message that was acknowledged reached its recipient exactly once, every skill that was
acknowledged comes back as it was left, no reply was wrong, no more was refused or unanswered than --allow, everything
that was due was done, and the ledger verifies.

Environment: KAIROS_TEST_BINARY names the program that is started; without it it is built with cargo.

Exit code: 0 if the verdict is good, 1 if it is not, 2 if there is none, since the run could not begin or go on.

Examples:
  kairos-load                                       a minute of everything on a node of its own
  kairos-load --rate 400 --mix relay=1 --p99 50ms   messages alone, with a bound
  kairos-load --url http://127.0.0.1:8080 --rate 2 --agents 5 --allow 5
  kairos-load --soak --duration 30m --csv soak.csv  half an hour, with the curves in a file
";

impl Args {
    /// What is asked of the agents.
    pub(crate) fn plan(&self) -> Plan {
        Plan {
            duration: self.duration,
            rate: self.rate,
            mix: self.mix.clone(),
            seed: self.seed,
            in_flight: self.in_flight as usize,
            grace: self.grace,
        }
    }
}

fn rate(text: &str) -> Result<f64, String> {
    number(text, 0.01, 100_000.0)
}

fn percent(text: &str) -> Result<f64, String> {
    number(text.trim_end_matches('%'), 0.0, 100.0)
}

fn warm_up(text: &str) -> Result<f64, String> {
    number(text.trim_end_matches('%'), 0.0, 90.0)
}

fn number(text: &str, least: f64, most: f64) -> Result<f64, String> {
    let number = text.parse().ok();
    let number = number.filter(|number| (least..=most).contains(number));
    number.ok_or_else(|| format!("must be a number from {least} to {most}"))
}

fn every(text: &str) -> Result<Duration, String> {
    let every = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if every < Duration::from_millis(100) {
        return Err("must be at least 100ms".to_owned());
    }
    Ok(every)
}

fn size(text: &str) -> Result<ByteSize, String> {
    let size: ByteSize = text.parse()?;
    // The longest skill that a node takes with its usual settings.
    if size.as_u64() > 100_000_000 {
        return Err("must be at most 100MB".to_owned());
    }
    Ok(size)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Args::command().debug_assert();
        let args = Args::parse_from(["kairos-load"]);
        assert_eq!(
            (args.duration, args.rate, args.agents),
            (Duration::from_secs(60), 50.0, 100)
        );
        for wrong in [
            ["--rate", "0"],
            ["--agents", "1"],
            ["--allow", "101"],
            ["--every", "1ms"],
            ["--pid", "1"],
        ] {
            assert!(
                Args::try_parse_from([&["kairos-load"], &wrong[..]].concat()).is_err(),
                "{wrong:?}"
            );
        }
    }
}
