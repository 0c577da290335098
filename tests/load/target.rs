//! The node that bears the load: one that runs already, or one of our own in a directory that goes away.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail, ensure};
use kairos_tests::{Call, Home, TestNode};
use url::Url;

use crate::args::Args;

/// Public skills of a node of our own.
const SKILLS: usize = 20;
/// What the node says before the address of its figures.
const FIGURES: &str = "Figures at ";
/// How long it may take from listening until it says that.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(20);

/// See the module.
#[derive(Debug)]
pub(crate) struct Target {
    /// Where it is.
    pub(crate) url: Url,
    /// Its process, if that is on this machine and known.
    pub(crate) pid: Option<u32>,
    /// Its data directory, likewise.
    pub(crate) data_dir: Option<PathBuf>,
    /// Where it shows its figures.
    pub(crate) figures: Option<Url>,
    own: Option<Own>,
}

#[derive(Debug)]
struct Own {
    node: TestNode,
    /// Goes away after the node.
    home: Home,
}

impl Target {
    /// Finds the node that the arguments name, or starts one.
    ///
    /// # Errors
    ///
    /// It does not start.
    pub(crate) fn find(args: &Args) -> anyhow::Result<Self> {
        let Some(url) = &args.url else {
            return Self::start(&args.set);
        };
        Ok(Self {
            url: url.clone(),
            pid: args.pid,
            data_dir: args.data_dir.clone(),
            figures: args.figures.clone(),
            own: None,
        })
    }

    fn start(settings: &[String]) -> anyhow::Result<Self> {
        let home = Home::initialized();
        for n in 0..SKILLS {
            let sentences =
                "A sentence of ordinary length about nothing in particular. ".repeat(40);
            let text = format!(
                "---\ndescription: What note {n} is about, in one line\ntags: [load]\npublic: true\n---\n\n\
                 # Note {n}\n\n{sentences}\n"
            );
            home.skill(&format!("note_{n}"), &text);
        }
        let builder = TestNode::builder().home(&home).unlimited().arg("--place");
        let builder = builder
            .set("log.level", "warn")
            .set("metrics.enabled", "true")
            .set("metrics.port", "0");
        let builder = settings.iter().fold(builder, |builder, setting| {
            builder.arg("--set").arg(setting)
        });
        let node = builder.try_start().map_err(|why| anyhow!("{why}"))?;
        let url = node.url("/").parse().context("the node tells no address")?;
        Ok(Self {
            url,
            pid: Some(node.pid()),
            data_dir: Some(node.data_dir().to_owned()),
            figures: Some(find_figures(&node)?),
            own: Some(Own { node, home }),
        })
    }

    /// Stops a node of our own, which must end well.
    ///
    /// # Errors
    ///
    /// It ends otherwise, with what it said.
    pub(crate) fn stop(self) -> anyhow::Result<()> {
        let Some(Own { node, home }) = self.own else {
            return Ok(());
        };
        let log = node.log();
        let status = node.stop();
        drop(home);
        if !status.success() {
            bail!("the node ended with {status}:\n{log}");
        }
        Ok(())
    }
}

/// Waits until the node has told where it shows its figures, which it does once it listens.
fn find_figures(node: &TestNode) -> anyhow::Result<Url> {
    let begun = Instant::now();
    loop {
        if let Some(url) = figures(&node.log()) {
            return Ok(url);
        }
        ensure!(
            begun.elapsed() < PATIENCE,
            "the node shows no figures:\n{}",
            node.log()
        );
        thread::park_timeout(PAUSE);
    }
}

/// Where the node shows its figures, as its log tells.
fn figures(log: &str) -> Option<Url> {
    let (_, rest) = log.split_once(FIGURES)?;
    rest.split_whitespace().next()?.parse().ok()
}

/// Has the program check the ledger in a data directory, and returns what it says.
pub(crate) fn verify_ledger(data_dir: &Path) -> Result<String, String> {
    let call = Call::new(["chain", "verify"]).env("KAIROS_DATA_DIR", data_dir);
    let ended = call.run();
    let said = format!("{}{}", ended.stdout, ended.stderr);
    let line = said.lines().find(|line| !line.trim().is_empty());
    let line = line.unwrap_or("nothing").trim().to_owned();
    match ended.code {
        0 => Ok(line),
        code => Err(format!("`chain verify` ends with {code}: {line}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_of_the_figures_is_found_in_the_log() {
        let log = "Figures at http://127.0.0.1:4711/metrics\nListening on http://127.0.0.1:1/\n";
        let url = figures(log).unwrap();
        assert_eq!(url.as_str(), "http://127.0.0.1:4711/metrics");
        assert_eq!(figures("Listening on http://127.0.0.1:1/\n"), None);
    }
}
