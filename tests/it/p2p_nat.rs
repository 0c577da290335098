//! Two agents that nobody can reach, each behind a router that translates addresses, meet through a third that both reach:
//! through it, and where the routers allow it, past it. The hosts and routers are played by this machine; where it may not,
//! these tests say so and try nothing.
#![expect(
    clippy::print_stderr,
    reason = "whoever reads the results has to see what was left out, and how long it took"
)]

use std::process::Command;

use kairos_tests::{Home, Hosts, TestNode, eventually};
use serde_json::{Value, json};

/// Where the relay is, for everybody.
const RELAY: &str = "/ip4/44.1.1.1/tcp/4001";

/// How the agents are connected.
#[derive(Clone, Copy, Default)]
struct Routers {
    /// Whether every connection has another port outside.
    are_symmetric: bool,
    /// Whether Ada's router is behind another one, that of those who connect her home.
    has_another: bool,
}

/// `net`, a host on the open network, and `ada` and `ben`, each behind a router of its own.
fn network(routers: Routers) -> Option<Hosts> {
    let hosts = Hosts::new(&["net", "provider", "home", "work", "ada", "ben"])?;
    if Command::new("iptables").arg("--version").output().is_err() {
        eprintln!("SKIPPED: routers that translate addresses take the command iptables");
        return None;
    }
    for (n, router, agent) in [(1, "home", "ada"), (2, "work", "ben")] {
        let (first, second) = (format!("44.1.{n}.1"), format!("44.1.{n}.2"));
        let way_out = match routers.has_another && router == "home" {
            false => {
                hosts.join(
                    ["net", router],
                    [&format!("{first}/24"), &format!("{second}/24")],
                );
                hosts.ip(router, &format!("route add default via {first}"));
                "net"
            }
            true => {
                let provider = "provider";
                hosts.join(
                    ["net", provider],
                    [&format!("{first}/24"), &format!("{second}/24")],
                );
                hosts.ip(provider, &format!("route add default via {first}"));
                hosts.join([provider, router], ["100.64.0.1/24", "100.64.0.2/24"]);
                hosts.ip(router, "route add default via 100.64.0.1");
                hosts.translate(provider, "net", routers.are_symmetric);
                provider
            }
        };
        hosts.join(
            [router, agent],
            [&format!("10.{n}.0.1/24"), &format!("10.{n}.0.2/24")],
        );
        hosts.ip(agent, &format!("route add default via 10.{n}.0.1"));
        hosts.translate(router, way_out, routers.are_symmetric);
    }
    hosts.forward("net");
    Some(hosts)
}

struct Network {
    _hosts: Hosts,
    _nodes: [TestNode; 3],
    ada: Home,
    ben: Home,
}

/// The relay, and Ada and Ben, who know nothing but its address.
fn start(routers: Routers) -> Option<Network> {
    let hosts = network(routers)?;
    let [relay, ada, ben] = [(); 3].map(|()| Home::initialized());
    let set = ada.skill_set("house");
    ada.run(["skillset".as_ref(), "install".as_ref(), set.as_os_str()])
        .done();
    let serve = |host: &str, home: &Home, settings: &[(&str, &str)]| {
        let node = TestNode::builder()
            .without_port()
            .program(hosts.program(host))
            .home(home)
            .set("p2p.mdns", "false")
            .set("p2p.announce", "world");
        settings
            .iter()
            .fold(node, |node, (key, value)| node.set(key, value))
            .start()
    };
    let relays = serve(
        "net",
        &relay,
        &[("p2p.relay", "true"), ("p2p.external", RELAY)],
    );
    let peer = relay.json(["p2p", "status"])["peer"].clone();
    let begin = format!("{RELAY}/p2p/{}", peer.as_str().unwrap());
    let begin = [("p2p.bootstrap", begin.as_str())];
    let nodes = [
        relays,
        serve("ada", &ada, &begin),
        serve("ben", &ben, &begin),
    ];
    Some(Network {
        _hosts: hosts,
        _nodes: nodes,
        ada,
        ben,
    })
}

impl Network {
    /// Has Ben find Ada by her id, meet her, and get her SkillSet.
    fn exchange(&self) -> Value {
        let id = self.ada.json(["identity"])["id"]
            .as_str()
            .unwrap()
            .to_owned();
        let status = eventually("Ada has a place at the relay", || {
            let status = self.ada.json(["p2p", "status"]);
            let listen = status["listen"].as_array().unwrap().iter();
            let relayed = listen.filter(|at| at.as_str().unwrap().contains("/p2p-circuit"));
            (relayed.count() > 0).then_some(status)
        });
        assert_eq!(status["reach"], "private");
        let found = eventually("Ada is found", || {
            let found = self.ben.run(["--json", "p2p", "find", &id]).try_json()?;
            let at = found["found"]["addresses"].to_string();
            at.contains("/p2p-circuit").then_some(found)
        });
        assert_eq!(found["found"]["agent"], id);
        let met = self.ben.json(["meet", &id]);
        let node = met["agent"]["url"].as_str().unwrap();
        let told = self.ben.json(["skillset", "acquire", node, "house"]);
        let held = told["quarantined"]["id"].as_str().unwrap();
        self.ben.run(["approve", "--yes", held]).done();
        assert!(
            self.ben
                .data_dir()
                .join("skillsets/house/skillset.json")
                .exists()
        );
        met
    }

    /// How Ben is connected to Ada.
    fn ways(&self) -> Vec<String> {
        let id = self.ada.json(["identity"])["id"].clone();
        let peers = self.ben.json(["p2p", "peers"]);
        let hers = peers["peers"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|peer| peer["agent"] == id);
        hers.map(|peer| peer["way"].as_str().unwrap().to_owned())
            .collect()
    }
}

#[test]
fn two_agents_behind_routers_meet_through_a_relay_and_then_past_it() {
    let Some(network) = start(Routers::default()) else {
        return;
    };
    network.exchange();
    let ways = eventually("they are connected directly", || {
        let ways = network.ways();
        ways.contains(&"direct".to_owned()).then_some(ways)
    });
    eprintln!("behind routers that keep ports: {ways:?}");
}

#[test]
fn two_agents_behind_symmetric_routers_exchange_through_the_relay() {
    let routers = Routers {
        are_symmetric: true,
        ..Routers::default()
    };
    let Some(network) = start(routers) else {
        return;
    };
    let met = network.exchange();
    let checks = met["checks"].as_array().unwrap();
    let way = checks.iter().find(|check| check["name"] == "way").unwrap();
    assert_eq!(way["detail"], json!("libp2p, relayed"));
    // A lookup and a request may have dialled her at the same time.
    let ways = network.ways();
    assert!(
        !ways.is_empty() && ways.iter().all(|way| way == "relayed"),
        "{ways:?}"
    );
}

#[test]
fn an_agent_behind_two_routers_is_met_all_the_same() {
    let routers = Routers {
        has_another: true,
        ..Routers::default()
    };
    let Some(network) = start(routers) else {
        return;
    };
    network.exchange();
    eprintln!("behind two routers: {:?}", network.ways());
}
