//! Hosts with networks of their own on this machine: namespaces of the kernel, joined by cables of two ends each.
//!
//! What is sent there reaches nothing outside. It takes the rights of root; where those are missing nothing can be tried.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use tempfile::TempDir;

use crate::binary;

static COUNT: AtomicU32 = AtomicU32::new(0);

/// Some hosts, which go away with this.
#[derive(Debug)]
pub struct Hosts {
    /// What the names of these begin with.
    prefix: String,
    names: Vec<&'static str>,
    programs: TempDir,
}

impl Hosts {
    /// Makes hosts of these names, each alone with its loopback; nothing, and a word on standard error, where that is not
    /// permitted.
    pub fn new(names: &[&'static str]) -> Option<Self> {
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let mut hosts = Self {
            prefix: format!("kairos-{}-{n}-", std::process::id()),
            names: Vec::new(),
            programs: TempDir::new().expect("a temporary directory can be made"),
        };
        for name in names {
            let made = Command::new("ip")
                .args(["netns", "add", &hosts.namespace(name)])
                .output();
            if !made.is_ok_and(|made| made.status.success()) {
                eprintln!(
                    "SKIPPED: hosts with networks of their own take the rights of root and the command ip"
                );
                return None;
            }
            hosts.names.push(name);
            hosts.ip(name, "link set lo up");
            let program = hosts.program(name);
            let text = format!(
                "#!/bin/sh\nexec ip netns exec {} {} \"$@\"\n",
                hosts.namespace(name),
                binary().display()
            );
            fs::write(&program, text).expect("a file can be written");
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755))
                .expect("a file can be made a program");
        }
        Some(hosts)
    }

    /// Returns `kairos-chain` as a program of that host.
    pub fn program(&self, host: &str) -> PathBuf {
        self.programs.path().join(host)
    }

    /// Joins two hosts by a cable; each end has an address such as `10.0.0.1/24` and is called `to-` and the other one.
    pub fn join(&self, [one, other]: [&str; 2], [at, there]: [&str; 2]) {
        let (end, far) = (format!("to-{other}"), format!("to-{one}"));
        let names = [self.namespace(one), self.namespace(other)];
        run(Command::new("ip").args(
            format!(
                "link add {end} netns {} type veth peer name {far} netns {}",
                names[0], names[1]
            )
            .split(' '),
        ));
        for (host, end, address) in [(one, &end, at), (other, &far, there)] {
            self.ip(host, &format!("addr add {address} dev {end}"));
            self.ip(host, &format!("link set {end} up"));
        }
    }

    /// Runs `ip ARGS` on a host.
    pub fn ip(&self, host: &str, args: &str) {
        let name = self.namespace(host);
        run(Command::new("ip").args(["-n", &name]).args(args.split(' ')));
    }

    /// Runs a line of the shell on a host.
    pub fn run(&self, host: &str, line: &str) {
        let name = self.namespace(host);
        run(Command::new("ip").args(["netns", "exec", &name, "sh", "-c", line]));
    }

    /// Makes a host a router, which translates addresses of whatever goes out at its end of the cable `to-` `net`, and
    /// lets nothing in there that nobody asked for. Where each connection gets another port, whatever it came from, no
    /// peer can know which one is next.
    pub fn translate(&self, host: &str, net: &str, is_symmetric: bool) {
        let (end, ports) = (
            format!("to-{net}"),
            if is_symmetric { "--random-fully" } else { "" },
        );
        let asked = format!("-i {end} -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT");
        for rule in [
            format!("-t nat -A POSTROUTING -o {end} -j MASQUERADE {ports}"),
            format!("-A FORWARD {asked}"),
            format!("-A FORWARD -i {end} -j DROP"),
            format!("-A INPUT {asked}"),
            format!("-A INPUT -i {end} -j DROP"),
        ] {
            self.run(host, &format!("iptables {rule}"));
        }
        self.forward(host);
    }

    /// Has a host pass on what is for others.
    pub fn forward(&self, host: &str) {
        self.run(host, "echo 1 >/proc/sys/net/ipv4/ip_forward");
    }

    fn namespace(&self, host: &str) -> String {
        format!("{}{host}", self.prefix)
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for name in &self.names {
            let name = self.namespace(name);
            let removed = Command::new("ip").args(["netns", "del", &name]).status();
            if !removed.is_ok_and(|status| status.success()) {
                eprintln!("the host {name} stays");
            }
        }
    }
}

fn run(command: &mut Command) {
    let ran = command.output().expect("a command can be run");
    let told = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{command:?}: {told}");
}
