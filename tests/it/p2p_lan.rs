//! Agents on a local network find each other by multicast, with no address in any setting. The network is made of hosts
//! that this machine plays; where it may not, these tests say so and try nothing.
#![expect(
    clippy::print_stderr,
    reason = "whoever reads the results has to see what was left out, and how long it took"
)]

use std::time::Instant;

use kairos_tests::{Call, Home, Hosts, TestNode, eventually};
use serde_json::Value;

/// Two hosts on one network.
fn lan() -> Option<Hosts> {
    let hosts = Hosts::new(&["left", "right"])?;
    hosts.join(["left", "right"], ["10.77.0.1/24", "10.77.0.2/24"]);
    // As the way out of a network is one for multicast, too.
    hosts.ip("left", "route add default dev to-right");
    hosts.ip("right", "route add default dev to-left");
    Some(hosts)
}

fn serve(hosts: &Hosts, host: &str, home: &Home, announce: &str) -> TestNode {
    let node = TestNode::builder()
        .without_port()
        .program(hosts.program(host))
        .home(home)
        .set("p2p.announce", announce);
    node.start()
}

/// The agent that `home` is connected to, once it has said who it is.
fn neighbour(home: &Home) -> Option<Value> {
    let peers = home.json(["p2p", "peers"]);
    let mut found = peers["peers"].as_array()?.iter();
    found.find(|peer| !peer["agent"].is_null()).cloned()
}

#[test]
fn agents_on_a_local_network_find_each_other_and_meet() {
    let Some(hosts) = lan() else { return };
    let [ada, ben] = [(); 2].map(|()| Home::initialized());
    ada.skill(
        "tea",
        "---\ndescription: How to serve tea\npublic: true\n---\n\nWarm the pot.\n",
    );
    let id = ada.json(["identity"])["id"].clone();
    let _ada = serve(&hosts, "left", &ada, "lan");
    let ben_serves = serve(&hosts, "right", &ben, "lan");
    let begun = Instant::now();
    let found = eventually("Ben sees Ada", || neighbour(&ben));
    eprintln!("found on the local network after {:?}", begun.elapsed());
    assert_eq!(found["agent"], id);
    let address = found["address"].as_str().unwrap();
    assert!(address.starts_with("/ip4/10.77.0."), "{address}");
    let met = ben.json(["meet", id.as_str().unwrap()]);
    assert_eq!(met["skills"][0]["name"], "tea");

    // Whoever comes back is found again, by those who stayed.
    ben_serves.stop();
    eventually("Ada sees that Ben left", || {
        neighbour(&ada).is_none().then_some(())
    });
    let _ben = serve(&hosts, "right", &ben, "lan");
    eventually("Ada sees Ben again", || neighbour(&ada));
}

#[test]
fn a_private_agent_stays_unseen_on_its_network() {
    let Some(hosts) = lan() else { return };
    let [ada, ben, carl] = [(); 3].map(|()| Home::initialized());
    let _ada = serve(&hosts, "left", &ada, "private");
    let _ben = serve(&hosts, "right", &ben, "lan");
    // Another one on Ada's host, whom Ben sees: so there was time enough for Ada.
    let _carl = TestNode::builder()
        .without_port()
        .program(hosts.program("left"))
        .home(&carl)
        .set("p2p.announce", "lan")
        .set("p2p.listen", "/ip4/0.0.0.0/tcp/4002")
        .start();
    let found = eventually("Ben sees Carl", || neighbour(&ben));
    assert_eq!(found["agent"], carl.json(["identity"])["id"]);
    assert_eq!(ben.json(["p2p", "status"])["peers"], 1);
    assert_eq!(ada.json(["p2p", "status"])["peers"], 0);
}

#[test]
fn the_demo_finds_by_multicast_what_is_on_its_network_and_says_where_there_is_none() {
    let Some(hosts) = lan() else { return };
    let Some(alone) = Hosts::new(&["alone"]) else {
        return;
    };
    let networks = [
        (hosts.program("left"), "found by multicast"),
        (alone.program("alone"), "this machine is in no network"),
    ];
    for (program, said) in networks {
        let home = Home::new();
        let told = Call::new(["demo", "--p2p"])
            .program(program)
            .current_dir(home.path())
            .env("TMPDIR", home.path());
        let text = told.run().done();
        assert!(text.contains(said), "no `{said}` in\n{text}");
        assert!(text.contains("every byte is as Ada wrote it"), "{text}");
    }
}
