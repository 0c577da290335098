//! Whether a node stays as it is while it works: looked at again and again, and judged at the end.
//!
//! [`sample`] looks, [`judge`] judges, [`disk`] says what the disk should have grown by.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde::Serialize;

use crate::args::Args;
use crate::meter::Meter;
use crate::target::Target;
use crate::verdict::Check;

mod disk;
mod judge;
mod sample;

use sample::Eyes;
pub(crate) use sample::Sample;

/// What was seen of the node.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Soaked {
    /// The part of the time that was judged.
    pub(crate) judged_seconds: f64,
    pub(crate) samples: usize,
    pub(crate) memory: Curve,
    pub(crate) descriptors: Curve,
    pub(crate) threads: Curve,
    /// Parts of the data directory, in bytes.
    pub(crate) disk: Vec<Part>,
}

/// How something went over the time that was judged.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Curve {
    pub(crate) first: f64,
    pub(crate) last: f64,
    pub(crate) most: f64,
    /// Of the straight line that fits best.
    pub(crate) per_hour: f64,
}

/// Some files of the data directory.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Part {
    pub(crate) name: &'static str,
    pub(crate) bytes: u64,
    pub(crate) grown: i64,
    pub(crate) predicted: i64,
    /// Of what it is predicted.
    pub(crate) formula: String,
    pub(crate) fits: bool,
}

impl Soaked {
    /// For a person, line by line.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        let mib = |bytes: f64| bytes / f64::from(1 << 20);
        let _ = writeln!(
            text,
            "memory {:.1} to {:.1} MiB, at most {:.1}; {:+.2} MiB an hour, over the last {:.0} s",
            mib(self.memory.first),
            mib(self.memory.last),
            mib(self.memory.most),
            mib(self.memory.per_hour),
            self.judged_seconds
        );
        for (name, curve) in [("descriptors", self.descriptors), ("threads", self.threads)] {
            let Curve {
                first, last, most, ..
            } = curve;
            let _ = writeln!(text, "{name} {first} to {last}, at most {most}");
        }
        for part in &self.disk {
            let kib = |bytes: i64| bytes as f64 / 1024.0;
            let _ = writeln!(
                text,
                "disk, {:9} {:>9.0} KiB  grown by {:>8.0} KiB, predicted {:>8.0} KiB: {}",
                part.name,
                part.bytes as f64 / 1024.0,
                kib(part.grown),
                kib(part.predicted),
                part.formula
            );
        }
        text.push('\n');
        text
    }
}

/// Looks at the node while others work.
#[derive(Debug)]
pub(crate) struct Watch {
    samples: Arc<Mutex<Vec<Sample>>>,
    task: tokio::task::JoinHandle<anyhow::Result<()>>,
}

impl Watch {
    /// Begins. Must be called in a `LocalSet`.
    ///
    /// # Errors
    ///
    /// Nothing is known of the node that could be looked at, or the file for the curves cannot be written.
    pub(crate) fn begin(args: &Args, target: &Target, meter: &Arc<Meter>) -> anyhow::Result<Self> {
        ensure!(
            target.pid.is_some() || target.figures.is_some(),
            "--soak looks at the process of the node: name it with --pid, or where it shows its figures with --figures"
        );
        let eyes = Eyes::open(target)?;
        let samples = Arc::new(Mutex::new(Vec::new()));
        let (seen, meter, every) = (Arc::clone(&samples), Arc::clone(meter), args.every);
        let mut csv = args.csv.as_deref().map(Csv::begin).transpose()?;
        let task = tokio::task::spawn_local(async move {
            let begun = Instant::now();
            let mut ticks = tokio::time::interval(every);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
            loop {
                ticks.tick().await;
                let sample = eyes.look(begun.elapsed(), &meter).await?;
                if let Some(csv) = &mut csv {
                    csv.line(&sample::line(&sample))?;
                }
                seen.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(sample);
            }
        });
        Ok(Self { samples, task })
    }

    /// Ends, and judges what was seen.
    ///
    /// # Errors
    ///
    /// The node could not be looked at, or its curves not be written.
    pub(crate) async fn end(self, args: &Args) -> anyhow::Result<(Soaked, Vec<Check>)> {
        self.task.abort();
        if let Ok(ended) = self.task.await {
            ended.context("the node can be looked at no more")?;
        }
        let samples =
            std::mem::take(&mut *self.samples.lock().unwrap_or_else(PoisonError::into_inner));
        let bounds = judge::Bounds {
            warm_up: args.warm_up / 100.0,
            memory_per_hour: args.memory_growth.as_u64() as f64,
            text: args.text.as_u64(),
        };
        judge::judge(&samples, &bounds)
    }
}

/// The file for the curves: a line for each look, written at once, so that it is there whatever comes later.
struct Csv {
    file: File,
    path: PathBuf,
}

impl Csv {
    fn begin(path: &Path) -> anyhow::Result<Self> {
        let file = File::create(path);
        let file = file.with_context(|| format!("cannot write {}", path.display()))?;
        let path = path.to_owned();
        let mut csv = Self { file, path };
        csv.line(&sample::head())?;
        Ok(csv)
    }

    fn line(&mut self, line: &str) -> anyhow::Result<()> {
        let written = self.file.write_all(line.as_bytes());
        written.with_context(|| format!("cannot write {}", self.path.display()))
    }
}

/// How many bytes there are below which name.
pub(crate) type Sizes = BTreeMap<&'static str, u64>;

/// A time in seconds.
fn seconds(time: Duration) -> f64 {
    time.as_secs_f64()
}
