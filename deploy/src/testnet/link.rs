//! A slow network that loses packets, made inside the network namespace of a container.
//!
//! Where the kernel has `netem`, it delays, too. Where it has not, packets are dropped by the firewall and the rest is
//! held to a rate, which delays whatever waits in the queue.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, bail};

use super::network::{Network, docker};
use crate::process::{self, Ended};

const PATIENCE: Duration = Duration::from_secs(20);
/// Bits a second, each way out.
const RATE: &str = "512kbit";
/// One packet of ten.
const LOSS: &str = "0.10";

/// Makes the network of a node slow, and says by what means.
///
/// # Errors
///
/// Where this user may not, or nothing here can do it.
pub(crate) fn slow(network: &Network, node: &str) -> anyhow::Result<&'static str> {
    let inside = Inside::of(network, node)?;
    let interfaces = inside.interfaces()?;
    let with_netem = |device: &str| {
        let how = [
            "netem", "delay", "150ms", "50ms", "loss", "10%", "rate", RATE,
        ];
        inside.run(
            &[
                &["tc", "qdisc", "replace", "dev", device, "root"][..],
                &how[..],
            ]
            .concat(),
        )
    };
    let mut all = true;
    for device in &interfaces {
        all &= with_netem(device)?.succeeded();
    }
    if all {
        return Ok("netem: 150 ms ± 50 ms, 10 % lost, 512 kbit/s");
    }
    for device in &interfaces {
        let how = ["tbf", "rate", RATE, "burst", "8kb", "latency", "400ms"];
        inside
            .run(
                &[
                    &["tc", "qdisc", "replace", "dev", device, "root"][..],
                    &how[..],
                ]
                .concat(),
            )?
            .done()?;
    }
    for chain in ["INPUT", "OUTPUT"] {
        inside.run(&rule("-I", chain))?.done()?;
    }
    Ok("10 % lost each way, 512 kbit/s, a queue of 400 ms")
}

/// Makes it good again.
pub(crate) fn mend(network: &Network, node: &str) -> anyhow::Result<()> {
    let inside = Inside::of(network, node)?;
    for device in inside.interfaces()? {
        inside
            .run(&["tc", "qdisc", "del", "dev", &device, "root"])?
            .done()?;
    }
    for chain in ["INPUT", "OUTPUT"] {
        // Absent where netem did it.
        inside.run(&rule("-D", chain))?;
    }
    Ok(())
}

fn rule(verb: &'static str, chain: &'static str) -> [&'static str; 15] {
    let side = if chain == "INPUT" { "-i" } else { "-o" };
    [
        "iptables",
        "-w",
        verb,
        chain,
        "!",
        side,
        "lo",
        "-m",
        "statistic",
        "--mode",
        "random",
        "--probability",
        LOSS,
        "-j",
        "DROP",
    ]
}

/// The network namespace of a container.
struct Inside {
    pid: String,
}

impl Inside {
    fn of(network: &Network, node: &str) -> anyhow::Result<Self> {
        let pid = docker(&[
            "inspect",
            "--format",
            "{{.State.Pid}}",
            &network.container(node)?,
        ])?;
        if pid == "0" {
            bail!("{node} does not run");
        }
        Ok(Self { pid })
    }

    fn run(&self, args: &[&str]) -> anyhow::Result<Ended> {
        let mut command = Command::new("nsenter");
        process::run(
            command.args(["--target", &self.pid, "--net"]).args(args),
            &[],
            PATIENCE,
        )
    }

    fn interfaces(&self) -> anyhow::Result<Vec<String>> {
        let listed = self
            .run(&["ip", "-brief", "link", "show", "type", "veth"])
            .and_then(Ended::done)
            .context("a slow network takes root, nsenter, and iproute2")?;
        let listed = String::from_utf8_lossy(&listed).into_owned();
        let names = listed
            .lines()
            .filter_map(|line| line.split(['@', ' ']).next());
        Ok(names
            .filter(|name| !name.is_empty())
            .map(str::to_owned)
            .collect())
    }
}
