//! Agents find each other and meet through their libp2p nodes, without knowing each other's HTTP addresses.

use kairos_tests::{Home, TestNode, eventually};
use serde_json::{Value, json};

const TEA: &str = "---\ndescription: How to serve tea\npublic: true\n---\n\nWarm the pot.\n";

/// A server with a node on loopback, where there is no multicast.
fn serve(home: &Home, announce: &str, bootstrap: &str, more: &[(&str, &str)]) -> TestNode {
    let mut builder = TestNode::builder()
        .home(home)
        .arg("--p2p")
        .set("p2p.listen", "/ip4/127.0.0.1/tcp/0")
        .set("p2p.mdns", "false")
        .set("p2p.announce", announce)
        .set("p2p.bootstrap", bootstrap);
    for (key, value) in more {
        builder = builder.set(key, value);
    }
    builder.start()
}

fn status(home: &Home) -> Value {
    home.json(["p2p", "status"])
}

/// Where the node of `home` is, with its name.
fn address(home: &Home) -> String {
    let status = eventually("the node listens", || {
        let status = status(home);
        (!status["listen"][0].is_null()).then_some(status)
    });
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    format!(
        "{}/p2p/{}",
        text(&status["listen"][0]),
        text(&status["peer"])
    )
}

fn wait_for(home: &Home, member: &str, value: &Value) {
    eventually(member, || (status(home)[member] == *value).then_some(()));
}

fn id(home: &Home) -> String {
    home.json(["identity"])["id"].as_str().unwrap().to_owned()
}

fn check<'v>(met: &'v Value, name: &str) -> &'v Value {
    let checks = met["checks"].as_array().unwrap();
    let found = checks.iter().find(|check| check["name"] == name);
    found.unwrap_or_else(|| panic!("no {name} in {met}"))
}

#[test]
fn an_agent_is_found_by_its_id_and_what_it_offers_crosses() {
    let [hub, ada, ben] = [(); 3].map(|()| Home::initialized());
    ada.skill("tea", TEA);
    let set = ada.skill_set("house");
    ada.run(["skillset".as_ref(), "install".as_ref(), set.as_os_str()])
        .done();
    let _hub = serve(&hub, "world", "", &[]);
    let at = address(&hub);
    let _ada = serve(&ada, "world", &at, &[("identity.name", "Ada")]);
    let _ben = serve(&ben, "private", &at, &[]);
    wait_for(&ada, "published", &json!("table"));
    let ada_id = id(&ada);

    let found = eventually("Ada is found", || {
        ben.run(["--json", "p2p", "find", &ada_id]).try_json()
    });
    assert_eq!(found["found"]["name"], "Ada");
    let node = format!("p2p://{}", found["found"]["peer"].as_str().unwrap());

    let met = ben.json(["meet", &ada_id]);
    assert_eq!(
        (&met["agent"]["id"], &met["agent"]["url"]),
        (&json!(ada_id), &json!(node))
    );
    assert_eq!(check(&met, "way")["detail"], "libp2p, direct");
    for name in ["node key", "key possession", "our proof", "ledger history"] {
        assert_eq!(check(&met, name)["outcome"], "passed", "{met}");
    }
    // The same pins, whichever way it came.
    let known = ben.json(["peers", "list"]);
    assert_eq!(
        (&known[0]["id"], &known[0]["key_possession"]),
        (&json!(ada_id), &json!("proven"))
    );

    for (kind, name) in [("skill", "tea"), ("skillset", "house")] {
        let told = ben.json([kind, "acquire", &node, name]);
        let held = told["quarantined"]["id"].as_str().unwrap();
        ben.run(["approve", "--yes", held]).done();
    }
    assert!(
        ben.data_dir()
            .join("skillsets/house/skillset.json")
            .exists()
    );
    ben.run(["reflect", &node, "Thank you"]).done();
}

#[test]
fn a_private_agent_is_found_by_nobody_and_met_by_its_address() {
    let [ada, ben] = [(); 2].map(|()| Home::initialized());
    let _ada = serve(&ada, "private", "", &[]);
    let at = address(&ada);
    let _ben = serve(&ben, "private", &at, &[]);
    wait_for(&ben, "peers", &json!(1));
    let ada_id = id(&ada);
    ben.run(["p2p", "find", &ada_id]).failed(1);
    let met = ben.json(["meet", &at]);
    assert_eq!(met["agent"]["id"], ada_id.as_str());
    // Now that it was met, its id is enough.
    assert_eq!(ben.json(["meet", &ada_id])["agent"]["id"], ada_id.as_str());
}

#[test]
fn a_peer_has_the_same_allowance_whichever_way_it_comes() {
    let [ada, ben] = [(); 2].map(|()| Home::initialized());
    let _ada = serve(&ada, "private", "", &[("limits.requests_per_address", "2")]);
    let at = address(&ada);
    let _ben = serve(&ben, "private", "", &[]);
    let refused = ben.run(["meet", &at]).failed(1);
    assert!(
        refused.contains("the peer refused (429 rate_limited)"),
        "{refused}"
    );
}

#[test]
fn without_a_node_nothing_is_reached_and_the_way_out_is_told() {
    let (ada, ben) = (Home::initialized(), Home::initialized());
    let told = ada.run(["p2p", "status"]).failed(1);
    assert!(told.contains("kairos-chain serve --p2p"), "{told}");
    let _node = TestNode::builder().home(&ada).start();
    let told = ada.run(["p2p", "status"]).failed(1);
    assert!(told.contains("start it with --p2p"), "{told}");
    let told = ben.run(["meet", "0123456789abcdef"]).failed(1);
    assert!(told.contains("kairos-chain serve --p2p"), "{told}");
    assert!(!ada.data_dir().join("keys/p2p.key").exists());
}

#[test]
fn a_node_keeps_its_name_and_is_found_at_its_new_address() {
    let [hub, ada, ben] = [(); 3].map(|()| Home::initialized());
    let _hub = serve(&hub, "world", "", &[]);
    let at = address(&hub);
    let first = serve(&ada, "world", &at, &[]);
    wait_for(&ada, "published", &json!("table"));
    let (before, ada_id) = (status(&ada), id(&ada));
    first.stop();
    let _second = serve(&ada, "world", &at, &[]);
    wait_for(&ada, "published", &json!("table"));
    let after = status(&ada);
    assert_eq!(after["peer"], before["peer"]);
    assert!(after["sequence"].as_u64() > before["sequence"].as_u64());
    let _ben = serve(&ben, "private", &at, &[]);
    eventually("the new address is found", || {
        let found = ben.run(["--json", "p2p", "find", &ada_id]).try_json()?;
        (found["found"]["addresses"] == after["listen"]).then_some(())
    });
    assert_eq!(ben.json(["meet", &ada_id])["agent"]["id"], ada_id.as_str());
}
