//! One look at a node: what the system says of its process, how large its files are, and what it says of itself.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use kairos_tests::Process;
use url::Url;

use super::{Sizes, disk, seconds};
use crate::meter::Meter;
use crate::mix::Operation;
use crate::target::Target;

/// How long the node may take to show its figures.
const PATIENCE: Duration = Duration::from_secs(10);
/// Figures that are written down, summed up over their labels.
const FIGURES: [&str; 8] = [
    "kairos_sessions",
    "kairos_place_deposits",
    "kairos_relay_messages",
    "kairos_actor_asks_in_flight",
    "kairos_actor_asks_refused_total",
    "kairos_place_records_lost_total",
    "kairos_relay_failed_commits_total",
    "kairos_ledger_failed_blocks_total",
];

/// What was seen at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Sample {
    /// Since the load began.
    pub(crate) seconds: f64,
    pub(crate) resident: u64,
    pub(crate) descriptors: u64,
    pub(crate) threads: u64,
    /// What this program has open: mostly connections, each of which the node has open too.
    pub(crate) own_descriptors: u64,
    /// Absent where the data directory is not known.
    pub(crate) disk: Option<Sizes>,
    /// Operations that were done so far.
    pub(crate) done: BTreeMap<Operation, u64>,
    /// What the node says of itself, if it does.
    pub(crate) figures: BTreeMap<&'static str, f64>,
}

impl Sample {
    pub(crate) fn done(&self, operation: Operation) -> u64 {
        self.done.get(&operation).copied().unwrap_or_default()
    }
}

/// Looks.
#[derive(Debug)]
pub(super) struct Eyes {
    process: Option<Process>,
    data_dir: Option<PathBuf>,
    figures: Option<Url>,
    http: reqwest::Client,
}

impl Eyes {
    pub(super) fn open(target: &Target) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder()
            .no_proxy()
            .timeout(PATIENCE)
            .build();
        Ok(Self {
            process: target.pid.map(Process::of),
            data_dir: target.data_dir.clone(),
            figures: target.figures.clone(),
            http: http.context("cannot make a client")?,
        })
    }

    pub(super) async fn look(&self, since: Duration, meter: &Meter) -> anyhow::Result<Sample> {
        let told = match &self.figures {
            Some(url) => self.told(url).await,
            None => Ok(BTreeMap::new()),
        };
        let told = match self.process {
            // A busy node may show no figures this time; the system still knows the process.
            Some(_) => told.unwrap_or_default(),
            None => told?,
        };
        let (process, data_dir) = (self.process, self.data_dir.clone());
        let seen = move || {
            let of_process = match process {
                Some(process) => Some([
                    process.resident()?,
                    process.descriptors()?,
                    process.threads()?,
                ]),
                None => None,
            };
            let disk = data_dir.as_deref().map(sizes).transpose()?;
            let own = Process::of(std::process::id()).descriptors()?;
            anyhow::Ok((of_process, disk, own))
        };
        let (of_process, disk, own_descriptors) = tokio::task::spawn_blocking(seen).await??;
        let number = |name: &str| told.get(name).map_or(0, |value| *value as u64);
        let [resident, descriptors, threads] = of_process.unwrap_or_else(|| {
            [
                "process_resident_memory_bytes",
                "process_open_fds",
                "process_threads",
            ]
            .map(number)
        });
        Ok(Sample {
            seconds: seconds(since),
            resident,
            descriptors,
            threads,
            own_descriptors,
            disk,
            done: Operation::all()
                .map(|operation| (operation, meter.done(operation)))
                .collect(),
            figures: FIGURES
                .into_iter()
                .filter_map(|name| Some((name, *told.get(name)?)))
                .collect(),
        })
    }

    /// All figures that the node shows, each summed up over its labels.
    async fn told(&self, url: &Url) -> anyhow::Result<BTreeMap<String, f64>> {
        let wrong = || format!("the node shows no figures at {url}");
        let answer = self
            .http
            .get(url.clone())
            .send()
            .await
            .with_context(wrong)?;
        let text = answer
            .error_for_status()
            .with_context(wrong)?
            .text()
            .await?;
        Ok(summed(&text))
    }
}

fn summed(text: &str) -> BTreeMap<String, f64> {
    let mut sums = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let Some((name, value)) = line.rsplit_once(' ') else {
            continue;
        };
        let name = name.split('{').next().unwrap_or(name);
        if let Ok(value) = value.parse::<f64>() {
            *sums.entry(name.to_owned()).or_default() += value;
        }
    }
    sums
}

/// How large the files below `dir` are, by what they are for. A file that goes away meanwhile counts nothing.
fn sizes(dir: &Path) -> anyhow::Result<Sizes> {
    let mut sizes: Sizes = disk::PARTS.iter().map(|name| (*name, 0)).collect();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound && folder != dir => continue,
            Err(error) => {
                return Err(error)
                    .with_context(|| format!("cannot look into {}", folder.display()));
            }
        };
        for entry in entries {
            let path = entry?.path();
            match std::fs::symlink_metadata(&path) {
                Ok(found) if found.is_dir() => folders.push(path),
                Ok(found) => {
                    let below = path.strip_prefix(dir).unwrap_or(&path);
                    *sizes.entry(disk::part(below)).or_default() += found.len();
                }
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => {
                    return Err(error)
                        .with_context(|| format!("cannot look at {}", path.display()));
                }
            }
        }
    }
    Ok(sizes)
}

/// The head of a table with a line for each sample.
pub(super) fn head() -> String {
    let mut head = "seconds,resident_bytes,descriptors,threads,own_descriptors".to_owned();
    for part in disk::PARTS {
        let _ = write!(head, ",disk_{part}_bytes");
    }
    for operation in Operation::all() {
        let _ = write!(head, ",done_{}", operation.name());
    }
    for name in FIGURES {
        let _ = write!(head, ",{name}");
    }
    head.push('\n');
    head
}

/// A line of that table; cells of what is not known are empty.
pub(super) fn line(sample: &Sample) -> String {
    let Sample {
        seconds,
        resident,
        descriptors,
        threads,
        own_descriptors,
        disk,
        done,
        figures,
    } = sample;
    let mut line = format!("{seconds:.1},{resident},{descriptors},{threads},{own_descriptors}");
    let cell = |value: Option<String>| format!(",{}", value.unwrap_or_default());
    for part in disk::PARTS {
        let bytes = disk.as_ref().and_then(|disk| disk.get(part));
        line.push_str(&cell(bytes.map(u64::to_string)));
    }
    for operation in Operation::all() {
        line.push_str(&cell(done.get(&operation).map(u64::to_string)));
    }
    for name in FIGURES {
        line.push_str(&cell(figures.get(name).map(f64::to_string)));
    }
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_summed_over_their_labels() {
        let sums = summed("# TYPE a gauge\na{x=\"1\"} 2\na{x=\"2 3\"} 3.5\nb 7\n# EOF\n");
        assert_eq!((sums["a"], sums["b"], sums.len()), (5.5, 7.0, 2));
    }

    #[test]
    fn every_line_of_the_table_has_as_many_cells_as_its_head() {
        let disk = Some(BTreeMap::from([("anchors", 7)]));
        let figures = BTreeMap::from([("kairos_sessions", 3.0)]);
        let known = Sample {
            disk,
            figures,
            ..Sample::default()
        };
        let cells = |line: &str| line.trim_end().split(',').count();
        assert_eq!(cells(&line(&known)), cells(&head()));
        assert_eq!(cells(&line(&Sample::default())), cells(&head()));
        assert!(line(&known).contains(",,7,,"), "{}", line(&known));
    }

    #[test]
    fn files_are_counted_by_what_they_are_for() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("storage/place");
        std::fs::create_dir_all(&place).unwrap();
        std::fs::write(place.join("relay.db"), [0; 10]).unwrap();
        std::fs::write(place.join("relay.db-wal"), [0; 20]).unwrap();
        std::fs::write(dir.path().join("storage/anchors.jsonl"), [0; 30]).unwrap();
        let found = sizes(dir.path()).unwrap();
        assert_eq!(
            (
                found["relay"],
                found["logs"],
                found["anchors"],
                found["other"]
            ),
            (10, 20, 30, 0)
        );
    }
}
