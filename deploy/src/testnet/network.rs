//! The running network: its containers, asked through the engine's command line as a person would.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;
use tempfile::TempDir;

use crate::compose::{self, BEHIND, HIDDEN, PORT, PROFILES, Plan, SMALL, Size, WAN};
use crate::image::DATA;
use crate::process::{self, Ended};

/// Longer than one command takes, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// Longer than Compose takes for all nodes.
const COMPOSE: Duration = Duration::from_secs(300);
/// How often a node is asked whether it is ready.
const ASK_AGAIN: Duration = Duration::from_millis(200);
/// Commands at work at once; more would wait for each other on a small machine.
const AT_ONCE: usize = 4;

/// A network of containers. It is taken down when dropped, and also if this process dies.
pub(crate) struct Network {
    project: String,
    image: String,
    folder: TempDir,
    compose: Vec<String>,
    state: Mutex<State>,
    /// Takes the network down as soon as its standard input ends.
    guard: Option<Child>,
}

#[derive(Debug)]
struct State {
    plan: Plan,
    /// The container of each node that has one.
    containers: BTreeMap<String, String>,
    /// The id of each agent.
    ids: BTreeMap<String, String>,
    /// Nodes that cannot be asked at the moment.
    away: BTreeSet<String>,
    /// Nodes that reach only their region.
    off_the_wan: BTreeSet<String>,
    /// Nodes that are no longer who they were.
    taken_over: BTreeSet<String>,
    small: bool,
    hidden: bool,
}

impl Network {
    /// Prepares a network; nothing runs yet.
    ///
    /// # Errors
    ///
    /// Where there is no engine, or a network of this name is there.
    pub(crate) fn new(project: &str, image: &str, plan: Plan) -> anyhow::Result<Self> {
        let network = Self {
            project: project.to_owned(),
            image: image.to_owned(),
            folder: tempfile::tempdir()?,
            compose: compose()?,
            state: Mutex::new(State {
                plan,
                containers: BTreeMap::new(),
                ids: BTreeMap::new(),
                away: BTreeSet::new(),
                off_the_wan: BTreeSet::new(),
                taken_over: BTreeSet::new(),
                small: false,
                hidden: false,
            }),
            guard: None,
        };
        network.write()?;
        Ok(network)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("compose.yaml")
    }

    /// Writes the Compose file of the network as it is to be.
    fn write(&self) -> anyhow::Result<()> {
        let text = self.state().plan.text();
        fs::write(self.file(), text).context("cannot write the Compose file")
    }

    fn compose_command(&self) -> anyhow::Result<Command> {
        let (program, rest) = self.compose.split_first().context("no Compose")?;
        let mut command = Command::new(program);
        command
            .args(rest)
            .args(["--project-name", &self.project, "--file"])
            .arg(self.file())
            .env("KAIROS_IMAGE", &self.image);
        Ok(command)
    }

    /// Runs Compose.
    pub(crate) fn compose(&self, args: &[&str]) -> anyhow::Result<()> {
        process::run(self.compose_command()?.args(args), &[], COMPOSE)?.done()?;
        Ok(())
    }

    /// Starts all nodes that are always there, and waits until they are ready: the Places first, whose libp2p nodes are
    /// those that all others begin with.
    pub(crate) fn up(&mut self, keep: bool, bound: Duration) -> anyhow::Result<()> {
        ensure!(
            self.listed()?.is_empty(),
            "the network `{}` is there already; take it down with: kairos-deploy testnet down --name {}",
            self.project,
            self.project
        );
        self.state().plan.part = free_part()?;
        self.write()?;
        if !keep {
            self.guard = Some(self.guard()?);
        }
        for nodes in [self.places(), self.agents()] {
            self.compose_up(&nodes)?;
            self.wait_ready(&nodes, bound)?;
        }
        Ok(())
    }

    /// Makes the containers of nodes, or makes them anew where something about them is to be different.
    fn compose_up(&self, nodes: &[String]) -> anyhow::Result<()> {
        let mut args = vec!["up", "--detach", "--no-color", "--no-deps"];
        args.extend(nodes.iter().map(String::as_str));
        self.compose(&args)?;
        self.find()
    }

    /// A process that outlives this one by as long as it takes to take the network down.
    fn guard(&self) -> anyhow::Result<Child> {
        use std::os::unix::process::CommandExt as _;
        let down = self.compose_command()?;
        let script = r#"cat >/dev/null; exec "$@" down --volumes --timeout 1"#;
        Command::new("sh")
            .args(["-c", script, "sh"])
            .arg(down.get_program())
            .args(down.get_args())
            .args(everything())
            .env("KAIROS_IMAGE", &self.image)
            // What is typed at the terminal to end this process is not for that one.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start sh")
    }

    /// Removes all containers, networks and volumes.
    pub(crate) fn down(&self) -> anyhow::Result<()> {
        let mut args = everything();
        args.extend(["down", "--volumes", "--timeout", "10"]);
        self.compose(&args)
    }

    /// How large the network of this name is that runs.
    pub(crate) fn found(&self) -> anyhow::Result<Size> {
        let nodes: Vec<String> = self.listed()?.into_keys().collect();
        let highest = |kind: &str| {
            let numbers = nodes
                .iter()
                .filter_map(|node| node.strip_prefix(kind)?.parse().ok());
            numbers.max().unwrap_or(1)
        };
        Ok(Size {
            agents: highest("agent"),
            places: highest("place"),
        })
    }

    /// The nodes that have containers, and these.
    fn listed(&self) -> anyhow::Result<BTreeMap<String, String>> {
        let filter = format!("label=com.docker.compose.project={}", self.project);
        let format = r#"{{.Label "com.docker.compose.service"}} {{.Names}}"#;
        let listed = docker(&["ps", "--all", "--filter", &filter, "--format", format])?;
        let lines = listed.lines().filter_map(|line| line.split_once(' '));
        Ok(lines
            .map(|(node, name)| (node.to_owned(), name.to_owned()))
            .collect())
    }

    /// Looks which container belongs to which node; they change when they are made anew.
    fn find(&self) -> anyhow::Result<()> {
        let listed = self.listed()?;
        self.state().containers = listed;
        Ok(())
    }

    /// The container of a node.
    pub(crate) fn container(&self, node: &str) -> anyhow::Result<String> {
        let state = self.state();
        let container = state.containers.get(node);
        Ok(container
            .with_context(|| format!("{node} has no container"))?
            .clone())
    }

    /// The names of all Places.
    pub(crate) fn places(&self) -> Vec<String> {
        self.state().plan.places()
    }

    /// The names of all agents, the small one only while it is there.
    pub(crate) fn agents(&self) -> Vec<String> {
        let state = self.state();
        let mut agents = state.plan.agents();
        agents.extend(state.small.then(|| SMALL.to_owned()));
        agents
    }

    /// The names of the agents without an HTTP port, while they are there. They are at no Place.
    pub(crate) fn hidden(&self) -> Vec<String> {
        let there = self.state().hidden;
        let names = HIDDEN.iter().filter(|_| there);
        names.map(|&name| name.to_owned()).collect()
    }

    /// All nodes, Places first.
    pub(crate) fn nodes(&self) -> Vec<String> {
        let mut nodes = self.places();
        nodes.extend(self.agents());
        nodes.extend(self.hidden());
        nodes
    }

    /// The agents that can be asked, and are who they were.
    pub(crate) fn honest(&self) -> Vec<String> {
        let mut agents = self.agents();
        let state = self.state();
        agents.retain(|agent| !state.taken_over.contains(agent));
        agents
    }

    pub(crate) fn is_taken_over(&self, node: &str) -> bool {
        self.state().taken_over.contains(node)
    }

    pub(crate) fn take_over(&self, node: &str) {
        self.state().taken_over.insert(node.to_owned());
    }

    pub(crate) fn is_away(&self, node: &str) -> bool {
        self.state().away.contains(node)
    }

    /// Says that nodes can be asked, or cannot, from now on.
    fn set_away(&self, nodes: &[String], away: bool) {
        let mut state = self.state();
        for node in nodes {
            if away {
                state.away.insert(node.clone());
            } else {
                state.away.remove(node);
            }
        }
    }

    /// The id of an agent.
    pub(crate) fn id(&self, agent: &str) -> anyhow::Result<String> {
        if let Some(id) = self.state().ids.get(agent) {
            return Ok(id.clone());
        }
        let who = self.json(agent, &["identity"])?;
        let id = who
            .get("id")
            .and_then(Value::as_str)
            .context("an identity has no id")?;
        self.state().ids.insert(agent.to_owned(), id.to_owned());
        Ok(id.to_owned())
    }

    /// Runs a command in a node, with `input`.
    pub(crate) fn run(&self, node: &str, args: &[&str], input: &str) -> anyhow::Result<Ended> {
        let container = self.container(node)?;
        let mut docker = Command::new("docker");
        docker
            .args(["exec", "--interactive", &container, "/bin/kairos-chain"])
            .args(args);
        process::run(&mut docker, input.as_bytes(), PATIENCE)
    }

    /// Runs a command in a node that must succeed, and returns its result.
    pub(crate) fn json(&self, node: &str, args: &[&str]) -> anyhow::Result<Value> {
        let json = std::iter::once("--json");
        let args: Vec<&str> = json.chain(args.iter().copied()).collect();
        let printed = self.run(node, &args, "")?;
        let result = printed.done().with_context(|| format!("at {node}"))?;
        serde_json::from_slice(&result).with_context(|| format!("{node} does not print JSON"))
    }

    /// Waits until nodes say that they are ready, and tells how long the last took.
    pub(crate) fn wait_ready(&self, nodes: &[String], bound: Duration) -> anyhow::Result<Duration> {
        let began = Instant::now();
        for outcome in each(nodes, |node| self.wait_one(node, began, bound)) {
            outcome?;
        }
        Ok(began.elapsed())
    }

    fn wait_one(&self, node: &str, began: Instant, bound: Duration) -> anyhow::Result<()> {
        loop {
            let ended = self.run(node, &["health"], "")?;
            if ended.succeeded() {
                return Ok(());
            }
            if began.elapsed() > bound {
                let log = self.log(node, "20").unwrap_or_default();
                bail!(
                    "{node} is not ready after {bound:?}: {}\n{log}",
                    ended.complaint()
                );
            }
            process::pause(ASK_AGAIN);
        }
    }

    /// The last lines that a node logged.
    pub(crate) fn log(&self, node: &str, lines: &str) -> anyhow::Result<String> {
        let container = self.container(node)?;
        let mut command = Command::new("docker");
        let ended = process::run(
            command.args(["logs", "--tail", lines, &container]),
            &[],
            PATIENCE,
        )?;
        Ok(String::from_utf8_lossy(&ended.stderr).into_owned())
    }

    /// Ends nodes at once, or in order.
    pub(crate) fn end(&self, nodes: &[String], at_once: bool) -> anyhow::Result<()> {
        self.set_away(nodes, true);
        let verb = if at_once { "kill" } else { "stop" };
        for outcome in each(nodes, |node| docker(&[verb, &self.container(node)?])) {
            outcome?;
        }
        Ok(())
    }

    /// Runs nodes again, and waits until they are ready.
    pub(crate) fn start(&self, nodes: &[String], bound: Duration) -> anyhow::Result<Duration> {
        for node in nodes {
            docker(&["start", &self.container(node)?])?;
        }
        let took = self.wait_ready(nodes, bound)?;
        self.set_away(nodes, false);
        Ok(took)
    }

    /// Takes nodes off the network that joins the regions, or puts them back.
    pub(crate) fn connect(&self, nodes: &[String], connected: bool) -> anyhow::Result<()> {
        let wan = format!("{}_{WAN}", self.project);
        for node in nodes {
            let container = self.container(node)?;
            if connected {
                let at = self.state().plan.address(node).to_string();
                docker(&[
                    "network", "connect", "--alias", node, "--ip", &at, &wan, &container,
                ])?;
                self.state().off_the_wan.remove(node);
            } else {
                docker(&["network", "disconnect", &wan, &container])?;
                self.state().off_the_wan.insert(node.clone());
            }
        }
        Ok(())
    }

    /// The nodes that were taken off the network that joins the regions.
    pub(crate) fn off_the_wan(&self) -> Vec<String> {
        self.state().off_the_wan.iter().cloned().collect()
    }

    /// Makes the container of a node anew, from another image or with another clock, on the same volume.
    pub(crate) fn remake(
        &self,
        node: &str,
        change: impl FnOnce(&mut Plan),
        bound: Duration,
    ) -> anyhow::Result<()> {
        let nodes = [node.to_owned()];
        change(&mut self.state().plan);
        self.write()?;
        self.set_away(&nodes, true);
        self.compose_up(&nodes)?;
        self.wait_ready(&nodes, bound)?;
        self.set_away(&nodes, false);
        Ok(())
    }

    /// Makes the container of a node anew with an empty volume into which `data` is unpacked.
    pub(crate) fn replace_data(
        &self,
        node: &str,
        data: &[u8],
        bound: Duration,
    ) -> anyhow::Result<()> {
        let nodes = [node.to_owned()];
        self.set_away(&nodes, true);
        self.compose(&["rm", "--stop", "--force", node])?;
        docker(&["volume", "rm", &format!("{}_{node}", self.project)])?;
        self.compose(&["up", "--no-start", "--no-color", "--no-deps", node])?;
        self.find()?;
        self.put(node, data)?;
        // Not by the engine: version 1 of Compose joins a container to its further networks when it starts it.
        self.compose_up(&nodes)?;
        self.wait_ready(&nodes, bound)?;
        self.set_away(&nodes, false);
        Ok(())
    }

    /// Has the small agent run, or takes it and its disk away.
    pub(crate) fn set_small(&self, there: bool, bound: Duration) -> anyhow::Result<()> {
        let nodes = [SMALL.to_owned()];
        if there {
            self.compose_up(&nodes)?;
            self.state().small = true;
            return self.wait_ready(&nodes, bound).map(drop);
        }
        let was = std::mem::take(&mut self.state().small);
        if was {
            self.remove(SMALL, &nodes, &nodes)?;
        }
        Ok(())
    }

    /// Has the hidden agents run, after their routers, of which `prepare` makes routers; or takes all of them away.
    pub(crate) fn add_hidden(
        &self,
        prepare: impl Fn(&str) -> anyhow::Result<()>,
        bound: Duration,
    ) -> anyhow::Result<()> {
        self.compose_up(&HIDDEN.map(compose::router))?;
        HIDDEN.into_iter().try_for_each(prepare)?;
        let agents = HIDDEN.map(str::to_owned);
        self.compose_up(&agents)?;
        self.state().hidden = true;
        self.wait_ready(&agents, bound)?;
        agents.iter().try_for_each(|agent| self.id(agent).map(drop))
    }

    /// Takes the hidden agents away, if they are there, with all they kept, and their routers.
    pub(crate) fn remove_hidden(&self) -> anyhow::Result<()> {
        let was = std::mem::take(&mut self.state().hidden);
        if was {
            let agents = HIDDEN.map(str::to_owned);
            let routers = HIDDEN.map(compose::router);
            self.remove(BEHIND, &[&agents[..], &routers[..]].concat(), &agents)?;
        }
        Ok(())
    }

    /// Removes the containers of `nodes`, which are there with `profile`, and the volumes of some of them.
    fn remove(&self, profile: &str, nodes: &[String], volumes: &[String]) -> anyhow::Result<()> {
        let mut args = vec!["--profile", profile, "rm", "--stop", "--force"];
        args.extend(nodes.iter().map(String::as_str));
        self.compose(&args)?;
        for node in volumes {
            self.state().ids.remove(node);
            docker(&["volume", "rm", &format!("{}_{node}", self.project)])?;
        }
        self.find()
    }

    /// Where a node is in the network of a hidden agent, and the gateway of that network with the length of its prefix.
    pub(crate) fn at_home(&self, node: &str, hidden: &str) -> anyhow::Result<[String; 2]> {
        let network = format!("{}_{}", self.project, compose::home(hidden));
        let own = format!("{{{{(index .NetworkSettings.Networks \"{network}\").IPAddress}}}}");
        let own = docker(&["inspect", "--format", &own, &self.container(node)?])?;
        let gateway = "{{with index .IPAM.Config 0}}{{.Gateway}} {{.Subnet}}{{end}}";
        let told = docker(&["network", "inspect", "--format", gateway, &network])?;
        let (gateway, subnet) = told.split_once(' ').context("a network has no gateway")?;
        let (_, length) = subnet.split_once('/').context("a network has no prefix")?;
        Ok([own, format!("{gateway}/{length}")])
    }

    /// Where a node is on the network that joins the regions.
    pub(crate) fn on_the_wan(&self, node: &str) -> String {
        self.state().plan.address(node).to_string()
    }

    /// All files of a node, as an archive.
    pub(crate) fn files(&self, node: &str) -> anyhow::Result<Vec<u8>> {
        self.file_at(node, &format!("{DATA}/."))
    }

    /// A file or directory of a node, as an archive.
    pub(crate) fn file_at(&self, node: &str, path: &str) -> anyhow::Result<Vec<u8>> {
        let from = format!("{}:{path}", self.container(node)?);
        let mut docker = Command::new("docker");
        process::run(docker.args(["cp", &from, "-"]), &[], PATIENCE)?.done()
    }

    /// Unpacks an archive in the volume of a node, with the owners that it names.
    pub(crate) fn put(&self, node: &str, archive: &[u8]) -> anyhow::Result<()> {
        let to = format!("{}:{DATA}", self.container(node)?);
        let mut docker = Command::new("docker");
        process::run(docker.args(["cp", "-", &to]), archive, PATIENCE)?.done()?;
        Ok(())
    }

    /// The memory that each node uses, in bytes.
    pub(crate) fn memory(&self) -> anyhow::Result<BTreeMap<String, u64>> {
        let containers = self.state().containers.clone();
        let mut args = vec![
            "stats",
            "--no-stream",
            "--format",
            "{{.Name}} {{.MemUsage}}",
        ];
        args.extend(containers.values().map(String::as_str));
        let printed = docker(&args)?;
        let used = |container: &str| {
            let line = printed
                .lines()
                .find_map(|line| line.strip_prefix(container)?.strip_prefix(' '))?;
            bytes(line.split(" / ").next()?)
        };
        let nodes = containers.iter();
        Ok(nodes
            .filter_map(|(node, name)| Some((node.clone(), used(name)?)))
            .collect())
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        if let Some(mut guard) = self.guard.take() {
            drop(guard.stdin.take());
            let _ = guard.wait();
        }
    }
}

/// Where a node is, for other nodes.
pub(crate) fn url(node: &str) -> String {
    format!("http://{node}:{PORT}")
}

/// Runs the engine's command, which must succeed, and returns what it printed.
pub(crate) fn docker(args: &[&str]) -> anyhow::Result<String> {
    let printed = process::run(Command::new("docker").args(args), &[], COMPOSE)?.done()?;
    Ok(String::from_utf8_lossy(&printed).trim_end().to_owned())
}

/// The Compose that is installed: version 2, else 1.
fn compose() -> anyhow::Result<Vec<String>> {
    for words in [vec!["docker", "compose"], vec!["docker-compose"]] {
        let Some((program, rest)) = words.split_first() else {
            continue;
        };
        let mut command = Command::new(program);
        let version = process::run(command.args(rest).arg("version"), &[], PATIENCE);
        if version.is_ok_and(|ended| ended.succeeded()) {
            return Ok(words.into_iter().map(str::to_owned).collect());
        }
    }
    bail!(
        "neither `docker compose` nor `docker-compose` runs; install Docker with Compose 1.29 or later"
    )
}

/// Words for Compose that make it see nodes that are not always there, too.
fn everything() -> Vec<&'static str> {
    PROFILES
        .into_iter()
        .flat_map(|profile| ["--profile", profile])
        .collect()
}

/// A part of the block of addresses that no network of the engine has. Which one is tried first depends on the process, so
/// that two that start at once take different ones.
fn free_part() -> anyhow::Result<u8> {
    let networks = docker(&["network", "ls", "--quiet"])?;
    let mut args = vec![
        "network",
        "inspect",
        "--format",
        "{{range .IPAM.Config}}{{.Subnet}} {{end}}",
    ];
    args.extend(networks.lines());
    let taken = docker(&args)?;
    let [first, ..] = std::process::id().to_le_bytes();
    first_free(first, &taken.split_whitespace().collect::<Vec<_>>())
        .context("every part of the block of addresses is taken; remove networks of Docker that are no longer used")
}

fn first_free(first: u8, taken: &[&str]) -> Option<u8> {
    (0..=u8::MAX)
        .map(|n| first.wrapping_add(n))
        .find(|part| !taken.contains(&compose::subnet(*part).as_str()))
}

/// A size as the engine writes it, such as `12.3MiB`.
fn bytes(text: &str) -> Option<u64> {
    let unit = text.find(|c: char| c.is_ascii_alphabetic())?;
    let (number, unit) = (text.get(..unit)?, text.get(unit..)?);
    let factor = match unit.trim() {
        "B" => 1.0,
        "KiB" => 1024.0,
        "MiB" => 1024.0 * 1024.0,
        "GiB" => 1024.0 * 1024.0 * 1024.0,
        _ => return None,
    };
    Some((number.parse::<f64>().ok()? * factor) as u64)
}

/// Calls `work` for each of `items`, a few at once, and returns what came of it in their order.
pub(crate) fn each<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let (mut results, work) = (Vec::with_capacity(items.len()), &work);
    for some in items.chunks(AT_ONCE) {
        std::thread::scope(|scope| {
            let threads: Vec<_> = some
                .iter()
                .map(|item| scope.spawn(move || work(item)))
                .collect();
            for thread in threads {
                match thread.join() {
                    Ok(result) => results.push(result),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
        });
    }
    results
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_of_the_engine_are_understood() {
        assert_eq!(bytes("512B"), Some(512));
        assert_eq!(bytes("1.5KiB"), Some(1536));
        assert_eq!(bytes("12MiB"), Some(12 << 20));
        assert_eq!(bytes("12 parsecs"), None);
        assert_eq!(bytes("12"), None);
    }

    #[test]
    fn a_part_of_the_block_is_taken_that_nobody_has() {
        assert_eq!(first_free(7, &["172.18.0.0/16"]), Some(7));
        let taken = [255, 0].map(compose::subnet);
        let taken: Vec<&str> = taken.iter().map(String::as_str).collect();
        assert_eq!(first_free(255, &taken), Some(1));
        let all: Vec<String> = (0..=255).map(compose::subnet).collect();
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        assert_eq!(first_free(3, &all), None);
    }

    #[test]
    fn results_keep_the_order_of_their_items() {
        let items: Vec<usize> = (0..10).collect();
        assert_eq!(
            each(&items, |n| n * n),
            items.iter().map(|n| n * n).collect::<Vec<_>>()
        );
    }
}
