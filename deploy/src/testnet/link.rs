//! What is done inside the network namespace of a container: a slow network that loses packets, and a router that
//! translates addresses.
//!
//! Where the kernel has `netem`, it delays, too. Where it has not, packets are dropped by the firewall and the rest is
//! held to a rate, which delays whatever waits in the queue.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde::Deserialize;

use super::network::{Network, docker};
use crate::compose;
use crate::process::{self, Ended};

const PATIENCE: Duration = Duration::from_secs(20);
/// Bits a second, each way out.
const RATE: &str = "512kbit";
/// One packet of ten.
const LOSS: &str = "0.10";

/// The port under which a router has a connection go out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Ports {
    /// The one that it came from, unless another one has it: two who dial each other at the same time meet.
    Kept,
    /// Another one for each, which no peer can know.
    Changed,
}

/// What it takes to do any of this.
const TAKES: &str =
    "it takes root, nsenter, iproute2, and iptables to do something to the network of a container";

/// Finds out before anything is started whether this can be done here.
///
/// # Errors
///
/// Says what it takes.
pub(crate) fn possible() -> anyhow::Result<()> {
    let inside = Inside {
        pid: std::process::id().to_string(),
    };
    for args in [&["ip", "link"][..], &["iptables", "-w", "-n", "-L"]] {
        inside.run(args).and_then(Ended::done).context(TAKES)?;
    }
    Ok(())
}

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

/// Makes a node the router of a hidden agent: the gateway of its network, which translates the addresses of whatever goes
/// out, and lets nothing in that nobody asked for.
///
/// # Errors
///
/// Where this user may not, or nothing here can do it.
pub(crate) fn translate(network: &Network, hidden: &str, ports: Ports) -> anyhow::Result<()> {
    let router = compose::router(hidden);
    let inside = Inside::of(network, &router)?;
    let [at_home, gateway] = network.at_home(&router, hidden)?;
    let route = || -> anyhow::Result<()> {
        let home = inside.device(&at_home)?;
        let wan = inside.device(&network.on_the_wan(&router))?;
        let asked = "-m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT";
        let ports = match ports {
            Ports::Kept => "",
            Ports::Changed => " --random-fully",
        };
        for line in [
            // It knows the networks that it is in, and no way from there.
            "ip route flush exact default".to_owned(),
            format!("ip address add {gateway} dev {home}"),
            format!("iptables -w -t nat -A POSTROUTING -o {wan} -j MASQUERADE{ports}"),
            format!("iptables -w -A FORWARD -i {wan} {asked}"),
            format!("iptables -w -A FORWARD -i {wan} -j DROP"),
            format!("iptables -w -A INPUT -i {wan} {asked}"),
            format!("iptables -w -A INPUT -i {wan} -j DROP"),
        ] {
            inside.run(&line.split(' ').collect::<Vec<_>>())?.done()?;
        }
        Ok(())
    };
    route()
        .context("a router that translates addresses takes root, nsenter, iproute2, and iptables")
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

    /// The interface that has an address.
    fn device(&self, address: &str) -> anyhow::Result<String> {
        let listed = self
            .run(&["ip", "-brief", "-4", "address", "show"])?
            .done()?;
        let listed = String::from_utf8_lossy(&listed).into_owned();
        let wanted = format!("{address}/");
        let line = listed.lines().find(|line| {
            line.split_whitespace()
                .any(|word| word.starts_with(&wanted))
        });
        let name = line.and_then(|line| line.split(['@', ' ']).next());
        Ok(name
            .with_context(|| format!("no interface has the address {address}:\n{listed}"))?
            .to_owned())
    }

    fn interfaces(&self) -> anyhow::Result<Vec<String>> {
        let listed = self
            .run(&["ip", "-brief", "link", "show", "type", "veth"])
            .and_then(Ended::done)
            .context(TAKES)?;
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
