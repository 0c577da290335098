//! The Compose file of a test network: so many agents, so many Meeting Places, and the networks between them.
//!
//! Each Place has a region, a network that it shares with some of the agents; `wan` joins all of them. A node that is
//! taken off `wan` still reaches its region. What is printed is `deploy/compose.testnet.yaml`, which a test compares.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::ExitCode;

use crate::image::{DATA, TAG, USER};
use crate::process;

/// The port that every node listens on.
pub(crate) const PORT: u16 = 8080;
/// The agent with a small disk, which is there only while it is named.
pub(crate) const SMALL: &str = "small";
/// The network that joins the regions.
pub(crate) const WAN: &str = "wan";
/// The size of the small disk, in MiB.
pub(crate) const SMALL_DISK: u32 = 24;

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
}

impl Plan {
    pub(crate) fn new(size: Size) -> Self {
        Self {
            size,
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
        let digits = node.trim_start_matches(|c: char| !c.is_ascii_digit());
        let number: u16 = digits.parse().unwrap_or(1);
        number.saturating_sub(1) % self.size.places + 1
    }

    /// The file.
    pub(crate) fn text(&self) -> String {
        let mut text = HEAD.replace("TAG", TAG);
        text.push_str("\nservices:\n");
        for place in self.places() {
            self.service(&mut text, &place, Kind::Place);
        }
        for agent in self.agents() {
            self.service(&mut text, &agent, Kind::Agent);
        }
        self.service(&mut text, SMALL, Kind::Small);
        text.push_str("\nnetworks:\n");
        for region in 1..=self.size.places {
            let _ = writeln!(text, "  region{region}:");
        }
        let _ = writeln!(text, "  {WAN}:\n\nvolumes:");
        for node in self.places().iter().chain(&self.agents()) {
            let _ = writeln!(text, "  {node}:");
        }
        let _ = writeln!(
            text,
            "  # In memory, so that it can be small anywhere.\n  {SMALL}:\n    driver_opts:\n      type: tmpfs\n      \
             device: tmpfs\n      o: size={SMALL_DISK}m,uid={USER},gid={USER},mode=0700"
        );
        text
    }

    fn service(&self, text: &mut String, node: &str, kind: Kind) {
        let environment = match kind {
            Kind::Place => "place-environment",
            Kind::Agent | Kind::Small => "agent-environment",
        };
        let _ = writeln!(text, "  {node}:\n    <<: *node");
        if let Some(image) = self.images.get(node) {
            let _ = writeln!(text, "    image: {image}");
        }
        if kind == Kind::Small {
            text.push_str("    profiles: [small]\n");
        }
        let region = self.region(node);
        let _ = writeln!(
            text,
            "    networks: [region{region}, {WAN}]\n    volumes: [\"{node}:{DATA}\"]\n    environment:\n      \
             <<: *{environment}"
        );
        let name = match kind {
            Kind::Place => "KAIROS_PLACE__NAME",
            Kind::Agent | Kind::Small => "KAIROS_IDENTITY__NAME",
        };
        let _ = writeln!(text, "      {name}: {node}");
        if kind == Kind::Small {
            text.push_str("      KAIROS_STORAGE__MUST_PERSIST: \"false\"\n");
        }
        if let Some(shift) = self.shifts.get(node) {
            let _ = writeln!(text, "      KAIROS_TEST_CLOCK_SHIFT: \"{shift}\"");
        }
    }
}

/// What all nodes share. Beats, pauses and limits are those of a test: everything happens in seconds, and often.
const HEAD: &str = r#"# A network of agents and Meeting Places to try things with; not for use by others.
#
# Printed by `cargo run -p kairos-deploy -- compose`, which also makes larger and smaller ones with --agents and --places.
# `cargo run -p kairos-deploy -- testnet up` starts it, has the agents join the Places, and gives them skills.
# Each Place has a region, a network that it shares with some of the agents; `wan` joins the regions.

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

x-place-environment: &place-environment
  <<: *environment
  KAIROS_PLACE__ENABLED: "true"
  KAIROS_PLACE__REGISTRATIONS_PER_KEY: "10000"
  KAIROS_PLACE__DEPOSITS_PER_HOUR: "1000"
  KAIROS_PLACE__MESSAGES_PER_BOX: "10000"
  KAIROS_PLACE__MESSAGES_PER_SENDER: "1000"
  KAIROS_PLACE__SENDS_PER_KEY: "10000"

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
        assert_eq!(names.len(), 7, "{names:?}");
        for (node, region) in [
            ("agent1", 1),
            ("agent2", 2),
            ("agent3", 1),
            ("place2", 2),
            ("small", 1),
        ] {
            assert_eq!(plan.region(node), region, "{node}");
            assert_eq!(services[node]["networks"][0], format!("region{region}"));
            assert_eq!(services[node]["volumes"][0], format!("{node}:/data"));
            assert!(file["volumes"].as_object().unwrap().contains_key(node));
        }
        assert_eq!(services["agent2"]["image"], "other:1");
        assert_eq!(
            services["agent3"]["environment"]["KAIROS_TEST_CLOCK_SHIFT"],
            "-3600"
        );
    }
}
