//! The Compose file of a test network: so many agents, so many Meeting Places, and the networks between them.
//!
//! Each Place has a region, a network that it shares with some of the agents; `wan` joins all of them. A node that is
//! taken off `wan` still reaches its region. All of them have a libp2p node beside their HTTP server, and begin with those
//! of the Places. Two more agents have no HTTP port, and their networks no way out but a router each.
//!
//! What is printed is `deploy/compose.testnet.yaml`, which a test compares.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::process::ExitCode;

use crate::image::{DATA, TAG, USER};
use crate::process;

/// The port that every node listens on.
pub(crate) const PORT: u16 = 8080;
/// Where libp2p nodes listen.
const P2P_PORT: u16 = 4001;
/// The agent with a small disk, which is there only while it is named.
pub(crate) const SMALL: &str = "small";
/// The agents without an HTTP port, which are there only while they are named, like their routers.
pub(crate) const HIDDEN: [&str; 2] = ["hidden1", "hidden2"];
/// The profiles of Compose for nodes that are not always there.
pub(crate) const PROFILES: [&str; 2] = [SMALL, BEHIND];
/// The profile of hidden agents and their routers.
pub(crate) const BEHIND: &str = "nat";
/// The network that joins the regions.
pub(crate) const WAN: &str = "wan";
/// The size of the small disk, in MiB: twice what a node wants left on its disk before it writes (`limits.disk_reserve`).
pub(crate) const SMALL_DISK: u32 = 64;
/// What addresses on `wan` begin with. They look like those of the open network, since libp2p asks nobody whether a private
/// one can be reached; the block is one for experiments (of AMPRNet), which leads nowhere.
const BLOCK: [u8; 2] = [44, 128];
/// Places that each node begins with: a setting has room for 16 addresses.
const BEGIN_MAX: usize = 4;

#[derive(Debug, clap::Args)]
pub(crate) struct ComposeArgs {
    #[command(flatten)]
    size: Size,
}

/// How large the network is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::Args)]
pub(crate) struct Size {
    /// How many agents
    #[arg(long, value_name = "COUNT", default_value_t = 10, value_parser = clap::value_parser!(u16).range(2..=200))]
    pub(crate) agents: u16,

    /// How many Meeting Places
    #[arg(long, value_name = "COUNT", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=20))]
    pub(crate) places: u16,
}

/// Runs `compose`.
pub(crate) fn run(args: &ComposeArgs) -> anyhow::Result<ExitCode> {
    process::print(Plan::new(args.size).text())?;
    Ok(ExitCode::SUCCESS)
}

/// The network as it is to be.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) size: Size,
    /// Which part of the block of `wan` is this network's; two that are up at once have different ones.
    pub(crate) part: u8,
    /// The images of nodes that have another than the rest.
    pub(crate) images: BTreeMap<String, String>,
    /// By how many seconds the clocks of nodes are wrong.
    pub(crate) shifts: BTreeMap<String, i64>,
}

/// What a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Place,
    Agent,
    Small,
    Hidden,
    Router,
}

impl Kind {
    /// Its settings.
    fn environment(self) -> &'static str {
        match self {
            Self::Place => "place-environment",
            Self::Agent | Self::Small | Self::Hidden => "agent-environment",
            Self::Router => "router-environment",
        }
    }

    /// The profile without which it is not there.
    fn profile(self) -> Option<&'static str> {
        match self {
            Self::Place | Self::Agent => None,
            Self::Small => Some(SMALL),
            Self::Hidden | Self::Router => Some(BEHIND),
        }
    }
}

/// The network of addresses that `part` of the block is.
pub(crate) fn subnet(part: u8) -> String {
    let [one, two] = BLOCK;
    format!("{}/24", Ipv4Addr::new(one, two, part, 0))
}

/// The network of a hidden agent.
pub(crate) fn home(hidden: &str) -> String {
    format!("home{}", number(hidden))
}

/// The router of a hidden agent.
pub(crate) fn router(hidden: &str) -> String {
    format!("router{}", number(hidden))
}

/// The number at the end of the name of a node; 1 for one that has none.
fn number(node: &str) -> u8 {
    let digits = node.trim_start_matches(|c: char| !c.is_ascii_digit());
    digits.parse().unwrap_or(1)
}

impl Plan {
    pub(crate) fn new(size: Size) -> Self {
        Self {
            size,
            part: 0,
            images: BTreeMap::new(),
            shifts: BTreeMap::new(),
        }
    }

    /// The names of the agents.
    pub(crate) fn agents(&self) -> Vec<String> {
        (1..=self.size.agents)
            .map(|n| format!("agent{n}"))
            .collect()
    }

    /// The names of the Places.
    pub(crate) fn places(&self) -> Vec<String> {
        (1..=self.size.places)
            .map(|n| format!("place{n}"))
            .collect()
    }

    /// In which region an agent or a Place is; 1 for any other node.
    pub(crate) fn region(&self, node: &str) -> u16 {
        u16::from(number(node)).saturating_sub(1) % self.size.places + 1
    }

    /// Where a node is on `wan`.
    pub(crate) fn address(&self, node: &str) -> Ipv4Addr {
        let first = match node.trim_end_matches(|c: char| c.is_ascii_digit()) {
            "place" => 1,
            "agent" => 30,
            "router" => 240,
            // The small one.
            _ => 230,
        };
        let [one, two] = BLOCK;
        Ipv4Addr::new(one, two, self.part, number(node).saturating_add(first))
    }

    /// The file.
    pub(crate) fn text(&self) -> String {
        let mut text = HEAD.replace("TAG", TAG);
        let begin = self.begin("");
        let _ = writeln!(text, "  KAIROS_P2P__BOOTSTRAP: {begin}\n\nservices:");
        for place in self.places() {
            self.service(&mut text, &place, Kind::Place);
        }
        for agent in self.agents() {
            self.service(&mut text, &agent, Kind::Agent);
        }
        self.service(&mut text, SMALL, Kind::Small);
        for hidden in HIDDEN {
            self.service(&mut text, &router(hidden), Kind::Router);
            self.service(&mut text, hidden, Kind::Hidden);
        }
        self.networks(&mut text);
        self.volumes(&mut text);
        text
    }

    /// Whom a node begins with: Places, but for itself.
    fn begin(&self, node: &str) -> String {
        let others = self.places().into_iter().filter(|place| place != node);
        let at = others.take(BEGIN_MAX).map(|place| self.p2p(&place));
        at.collect::<Vec<_>>().join(",")
    }

    /// Where the libp2p node of a node listens on `wan`.
    fn p2p(&self, node: &str) -> String {
        format!("/ip4/{}/tcp/{P2P_PORT}", self.address(node))
    }

    fn networks(&self, text: &mut String) {
        text.push_str("\nnetworks:\n");
        for region in 1..=self.size.places {
            let _ = writeln!(text, "  region{region}:");
        }
        let _ = writeln!(
            text,
            "  {WAN}:\n    # Addresses like those of the open network, from a block for experiments that leads nowhere.\n    \
             ipam:\n      config: [{{subnet: {}}}]",
            subnet(self.part)
        );
        for hidden in HIDDEN {
            let _ = writeln!(
                text,
                "  {}:\n    # This machine is not in it: the way out, its gateway, is the router.\n    driver_opts: \
                 {{com.docker.network.bridge.inhibit_ipv4: \"true\"}}",
                home(hidden)
            );
        }
    }

    fn volumes(&self, text: &mut String) {
        text.push_str("\nvolumes:\n");
        let (places, agents) = (self.places(), self.agents());
        let nodes = places.iter().chain(&agents).map(String::as_str);
        for node in nodes.chain(HIDDEN) {
            let _ = writeln!(text, "  {node}:");
        }
        let _ = writeln!(
            text,
            "  # In memory, so that it can be small anywhere.\n  {SMALL}:\n    driver_opts:\n      type: tmpfs\n      \
             device: tmpfs\n      o: size={SMALL_DISK}m,uid={USER},gid={USER},mode=0700"
        );
    }

    fn service(&self, text: &mut String, node: &str, kind: Kind) {
        let _ = writeln!(text, "  {node}:\n    <<: *node");
        if let Some(image) = self.images.get(node) {
            let _ = writeln!(text, "    image: {image}");
        }
        if let Some(profile) = kind.profile() {
            let _ = writeln!(text, "    profiles: [{profile}]");
        }
        let near = match kind {
            Kind::Hidden | Kind::Router => home(node),
            Kind::Place | Kind::Agent | Kind::Small => format!("region{}", self.region(node)),
        };
        let _ = match kind {
            Kind::Hidden => writeln!(text, "    networks: [{near}]"),
            _ => writeln!(
                text,
                "    networks: {{{near}: {{}}, {WAN}: {{ipv4_address: {}}}}}",
                self.address(node)
            ),
        };
        let _ = match kind {
            Kind::Router => writeln!(
                text,
                "    tmpfs: [\"{DATA}:uid={USER},gid={USER},mode=0700\"]\n    sysctls: {{net.ipv4.ip_forward: \"1\"}}"
            ),
            _ => writeln!(text, "    volumes: [\"{node}:{DATA}\"]"),
        };
        let _ = writeln!(text, "    environment:\n      <<: *{}", kind.environment());
        self.own_settings(text, node, kind);
    }

    /// The settings in which a node differs from others of its kind.
    fn own_settings(&self, text: &mut String, node: &str, kind: Kind) {
        let mut set = |name: &str, value: &str| {
            let _ = writeln!(text, "      {name}: {value}");
        };
        match kind {
            Kind::Place => {
                set("KAIROS_IDENTITY__NAME", node);
                set("KAIROS_PLACE__NAME", node);
                set("KAIROS_P2P__EXTERNAL", &self.p2p(node));
                let begin = self.begin(node);
                if !begin.is_empty() {
                    set("KAIROS_P2P__BOOTSTRAP", &begin);
                }
            }
            Kind::Agent | Kind::Small | Kind::Hidden => set("KAIROS_IDENTITY__NAME", node),
            Kind::Router => {}
        }
        match kind {
            Kind::Small => set("KAIROS_STORAGE__MUST_PERSIST", "\"false\""),
            Kind::Hidden => set("KAIROS_HTTP__ENABLED", "\"false\""),
            Kind::Place | Kind::Agent | Kind::Router => {}
        }
        if let Some(shift) = self.shifts.get(node) {
            set("KAIROS_TEST_CLOCK_SHIFT", &format!("\"{shift}\""));
        }
    }
}

/// What all nodes share. Beats, pauses and limits are those of a test: everything happens in seconds, and often.
const HEAD: &str = r#"# A network of agents and Meeting Places to try things with; not for use by others.
#
# Printed by `cargo run -p kairos-deploy -- compose`, which also makes larger and smaller ones with --agents and --places.
# `cargo run -p kairos-deploy -- testnet up` starts it, has the agents join the Places, and gives them skills.
# Each Place has a region, a network that it shares with some of the agents; `wan` joins the regions. Each node has a
# libp2p node, too, which begins with those of the Places and finds all others through the table of the network.

x-node: &node
  image: ${KAIROS_IMAGE:-TAG}
  user: "65532:65532"
  read_only: true
  cap_drop: [ALL]
  security_opt: ["no-new-privileges:true"]
  pids_limit: 256
  mem_limit: 256m
  stop_grace_period: 30s
  restart: unless-stopped
  healthcheck:
    test: ["CMD", "/bin/kairos-chain", "health"]
    interval: 15s
    timeout: 10s
    start_period: 20s
    retries: 3
  logging:
    driver: json-file
    options: {max-size: 10m, max-file: "2"}

x-environment: &environment
  KAIROS_LOG__FORMAT: json
  KAIROS_HTTP__WORKERS: "2"
  KAIROS_LIMITS__REQUESTS_PER_SESSION: "100000"
  KAIROS_LIMITS__REQUESTS_PER_ADDRESS: "100000"
  KAIROS_LIMITS__NEW_PEERS_PER_ADDRESS: "10000"
  KAIROS_P2P__ENABLED: "true"
  KAIROS_P2P__ANNOUNCE: world
  KAIROS_P2P__MDNS: "false"

x-place-environment: &place-environment
  <<: *environment
  KAIROS_PLACE__ENABLED: "true"
  KAIROS_PLACE__REGISTRATIONS_PER_KEY: "10000"
  KAIROS_PLACE__DEPOSITS_PER_HOUR: "1000"
  KAIROS_PLACE__MESSAGES_PER_BOX: "10000"
  KAIROS_PLACE__MESSAGES_PER_SENDER: "1000"
  KAIROS_PLACE__SENDS_PER_KEY: "10000"
  KAIROS_P2P__RELAY: "true"

# The kernel does the work of a router, as `testnet` tells it; the program keeps its container there.
x-router-environment: &router-environment
  KAIROS_HTTP__HOST: 127.0.0.1
  KAIROS_STORAGE__MUST_PERSIST: "false"

x-agent-environment: &agent-environment
  <<: *environment
  KAIROS_MEMBERSHIP__HEARTBEAT: 10s
  KAIROS_MEMBERSHIP__POLL: 5s
  KAIROS_MEMBERSHIP__PAUSE: 5s
  KAIROS_LIMITS__INBOX: "100000"
  KAIROS_LIMITS__INBOX_PER_PEER: "10000"
"#;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use serde_json::Value;

    const SIZE: Size = Size {
        agents: 10,
        places: 3,
    };

    #[test]
    fn the_file_in_the_repository_is_what_is_printed() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/compose.testnet.yaml");
        let there = std::fs::read_to_string(file).unwrap_or_default();
        let printed = Plan::new(SIZE).text();
        assert_eq!(
            there, printed,
            "run: cargo run -p kairos-deploy -- compose > deploy/compose.testnet.yaml"
        );
    }

    #[test]
    fn every_node_has_its_region_its_volume_and_its_differences() {
        let mut plan = Plan::new(Size {
            agents: 4,
            places: 2,
        });
        plan.images
            .insert("agent2".to_owned(), "other:1".to_owned());
        plan.shifts.insert("agent3".to_owned(), -3600);
        let text = plan.text();
        let file: Value = serde_saphyr::from_str(&text).unwrap();
        let services = file["services"].as_object().unwrap();
        let names: Vec<_> = services.keys().map(String::as_str).collect();
        assert_eq!(names.len(), 11, "{names:?}");
        for (node, region) in [
            ("agent1", 1),
            ("agent2", 2),
            ("agent3", 1),
            ("place2", 2),
            ("small", 1),
        ] {
            assert_eq!(plan.region(node), region, "{node}");
            let networks = services[node]["networks"].as_object().unwrap();
            assert!(networks.contains_key(&format!("region{region}")), "{node}");
            let at = plan.address(node).to_string();
            assert_eq!(networks[WAN]["ipv4_address"], at, "{node}");
            assert_eq!(services[node]["volumes"][0], format!("{node}:/data"));
            assert!(file["volumes"].as_object().unwrap().contains_key(node));
        }
        assert_eq!(services["agent2"]["image"], "other:1");
        assert_eq!(
            services["agent3"]["environment"]["KAIROS_TEST_CLOCK_SHIFT"],
            "-3600"
        );
    }

    #[test]
    fn hidden_agents_reach_the_network_through_their_routers_alone() {
        let file: Value = serde_saphyr::from_str(&Plan::new(SIZE).text()).unwrap();
        for (hidden, router, home) in [
            ("hidden1", "router1", "home1"),
            ("hidden2", "router2", "home2"),
        ] {
            let (agent, way) = (&file["services"][hidden], &file["services"][router]);
            assert_eq!(agent["networks"], serde_json::json!([home]));
            assert_eq!(agent["environment"]["KAIROS_HTTP__ENABLED"], "false");
            let networks = way["networks"].as_object().unwrap();
            assert!(networks.contains_key(home) && networks.contains_key(WAN));
            assert_eq!(agent["profiles"], way["profiles"]);
            assert!(PROFILES.contains(&agent["profiles"][0].as_str().unwrap()));
        }
    }

    #[test]
    fn no_two_nodes_have_one_address_however_large_the_network_is() {
        let plan = Plan::new(Size {
            agents: 200,
            places: 20,
        });
        let mut nodes = plan.places();
        nodes.extend(plan.agents());
        nodes.push(SMALL.to_owned());
        nodes.extend(HIDDEN.map(router));
        let all: BTreeSet<Ipv4Addr> = nodes.iter().map(|node| plan.address(node)).collect();
        assert_eq!(all.len(), nodes.len());
        // The first is the gateway's, the last that of everybody.
        assert!(all.iter().all(|at| (2..=254).contains(&at.octets()[3])));
        assert_eq!(plan.begin("place1").split(',').count(), BEGIN_MAX);
        assert!(!plan.begin("place1").contains(&plan.p2p("place1")));
    }
}
