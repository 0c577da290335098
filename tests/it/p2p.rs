//! Agents find each other and meet through their libp2p nodes, without knowing each other's HTTP addresses.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;

use kairos_tests::{Call, Home, Request, TestNode, eventually};
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

/// How many ports for TCP a process listens at.
fn ports(pid: u32) -> usize {
    let open = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let sockets: Vec<String> = open
        .filter_map(|fd| fs::read_link(fd.unwrap().path()).ok())
        .filter_map(|at| {
            Some(
                at.to_str()?
                    .strip_prefix("socket:[")?
                    .strip_suffix(']')?
                    .to_owned(),
            )
        })
        .collect();
    let tables =
        ["tcp", "tcp6"].map(|name| fs::read_to_string(format!("/proc/{pid}/net/{name}")).unwrap());
    let lines = tables.iter().flat_map(|table| table.lines().skip(1));
    let listens = |line: &&str| {
        let cells: Vec<&str> = line.split_whitespace().collect();
        cells[3] == "0A" && sockets.iter().any(|socket| socket == cells[9])
    };
    lines.filter(listens).count()
}

fn serve_without_port(home: &Home, announce: &str, bootstrap: &str) -> TestNode {
    TestNode::builder()
        .without_port()
        .home(home)
        .set("p2p.listen", "/ip4/127.0.0.1/tcp/0")
        .set("p2p.mdns", "false")
        .set("p2p.announce", announce)
        .set("p2p.bootstrap", bootstrap)
        .start()
}

#[test]
fn without_an_http_port_commands_and_peers_still_come_in() {
    let [ada, ben] = [(); 2].map(|()| Home::initialized());
    ada.skill("tea", TEA);
    let ada_serves = serve_without_port(&ada, "world", "");
    let at = address(&ada);
    // The one of the libp2p node.
    assert_eq!(ports(ada_serves.pid()), 1);
    let socket = ada.data_dir().join("storage/serving/owner.sock");
    let mode = fs::metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let health = ada.json(["health"]);
    assert_eq!(health["ready"], true);
    let told = ada.json(["status"]);
    assert!(told.to_string().contains("owner.sock"), "{told}");
    let refused = ada.run(["place", "start"]).failed(1);
    assert!(refused.contains("opens no HTTP port"), "{refused}");
    let refused = ada.run(["serve", "--p2p", "--no-http"]).failed(1);
    assert!(refused.contains("is served by process"), "{refused}");

    let _ben = serve_without_port(&ben, "private", &at);
    let ada_id = id(&ada);
    eventually("Ada is found", || {
        ben.run(["--json", "p2p", "find", &ada_id]).try_json()
    });
    let met = ben.json(["meet", &ada_id]);
    assert_eq!(met["skills"][0]["name"], "tea");
    assert_eq!(ada_serves.stop().code(), Some(0));
    assert!(!socket.exists());
}

#[test]
fn only_the_owners_routes_are_behind_the_socket_and_a_token_is_needed() {
    let ada = Home::initialized();
    let _node = serve_without_port(&ada, "private", "");
    let ask = |path: &str| {
        let mut stream =
            UnixStream::connect(ada.data_dir().join("storage/serving/owner.sock")).unwrap();
        write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer[9..12].to_owned()
    };
    let paths = [
        "/health",
        "/meeting/v1/introduce",
        "/place/v1/info",
        "/mcp",
        "/api/v1/status",
    ];
    assert_eq!(paths.map(ask), ["200", "404", "404", "404", "401"]);
}

#[test]
fn a_server_that_nobody_could_reach_is_refused() {
    let home = Home::initialized();
    let told = home.run(["serve", "--no-http"]).failed(2);
    assert!(told.contains("add --p2p"), "{told}");
    let told = home
        .run(["serve", "--p2p", "--no-http", "--set", "place.enabled=true"])
        .failed(2);
    assert!(told.contains("place.enabled needs http.enabled"), "{told}");
}

#[test]
fn a_node_that_cannot_listen_says_where_and_why() {
    let home = Home::initialized();
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let at = format!("/ip4/127.0.0.1/tcp/{}", taken.local_addr().unwrap().port());
    let listen = format!("p2p.listen={at}");
    let told = home
        .run(["serve", "--p2p", "--port", "0", "--set", &listen])
        .failed(1);
    let error = format!("error: libp2p cannot listen on {at}: ");
    assert!(told.contains(&error) && told.contains("in use"), "{told}");
    assert!(!told.contains("panicked"), "{told}");
}

#[test]
fn the_demo_without_servers_tells_its_story_and_leaves_nothing_behind() {
    let home = Home::new();
    let told = Call::new(["demo", "--p2p"])
        .current_dir(home.path())
        .env("TMPDIR", home.path())
        .env("KAIROS_P2P__MDNS", "false")
        .run();
    let text = told.done();
    for said in [
        "without an HTTP port",
        "so Ben is given an address to begin with: /ip4/127.0.0.1/tcp/",
        "both keys signed that",
        "libp2p, direct",
        "every byte is as Ada wrote it",
        "Ben: 3 blocks, intact",
    ] {
        assert!(text.contains(said), "no `{said}` in\n{text}");
    }
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0);
}

#[test]
fn what_a_node_does_and_refuses_is_counted() {
    let [hub, ada, ben] = [(); 3].map(|()| Home::initialized());
    let node = serve(&hub, "world", "", &[("p2p.connections_per_address", "1")]);
    let at = address(&hub);
    let _ada = serve(&ada, "world", &at, &[]);
    wait_for(&ada, "published", &json!("table"));
    let token = hub
        .run(["token", "create", "--user", "x", "--role", "guest"])
        .done();
    let figure = |series: &str| {
        let text = Request::get("/api/v1/metrics")
            .token(token.trim())
            .send(&node)
            .text();
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix(series)?.trim().parse::<u64>().ok());
        value.unwrap_or_else(|| panic!("no {series} in {text}"))
    };
    assert_eq!(figure("kairos_p2p_connections{direction=\"in\"}"), 1);
    assert_eq!(figure("kairos_p2p_records_stored_total"), 1);
    assert!(figure("kairos_p2p_requests_total{protocol=\"records\"}") >= 1);
    assert!(figure("kairos_p2p_message_bytes_total{direction=\"out\"}") > 0);
    let _ben = serve(&ben, "private", &at, &[]);
    eventually("Ben is one too many", || {
        (figure("kairos_p2p_connections_refused_total{reason=\"address\"}") >= 1).then_some(())
    });
    assert_eq!(figure("kairos_p2p_connections{direction=\"in\"}"), 1);
}

#[test]
fn places_and_what_agents_hand_out_are_found_by_what_they_are() {
    let [hub, ada, ben] = [(); 3].map(|()| Home::initialized());
    ada.skill(
        "tea",
        &TEA.replace("public: true", "public: true\ntags: [drinks]"),
    );
    let place = [
        ("place.enabled", "true"),
        ("place.name", "Tea house"),
        ("place.url", "http://192.0.2.7:8080"),
    ];
    let _hub = serve(&hub, "world", "", &place);
    let at = address(&hub);
    let _ada = serve(&ada, "world", &at, &[("p2p.tell_offers", "true")]);
    wait_for(&hub, "listed", &json!(1));
    // Who comes late is told what its neighbour knows.
    let _ben = serve(&ben, "private", &at, &[]);
    let (hub_id, ada_id) = (id(&hub), id(&ada));
    let find = |args: &[&str]| {
        let args: Vec<&str> = ["--json", "p2p", "find"]
            .iter()
            .chain(args)
            .copied()
            .collect();
        eventually(args[3], || ben.run(&args).try_json())["matches"].clone()
    };
    let places = find(&["--place", "tea"]);
    assert_eq!(
        (
            &places[0]["agent"],
            &places[0]["url"],
            &places[0]["answered"]
        ),
        (
            &json!(hub_id),
            &json!("http://192.0.2.7:8080"),
            &json!(true)
        )
    );
    let hash = find(&["--tag", "drinks"])[0]["offers"][0]["content_hash"].clone();
    for by in [["--offer", "tea"], ["--content", hash.as_str().unwrap()]] {
        let found = find(&by);
        assert_eq!(found[0]["agent"], json!(ada_id), "{found}");
        assert_eq!(found.as_array().unwrap().len(), 1);
    }
    let told = ben.run(["p2p", "find", "--tag", "coffee"]).failed(1);
    assert!(told.contains("announces that"), "{told}");
    let told = ben
        .run(["p2p", "find", "--tag", &"x".repeat(129)])
        .failed(1);
    assert!(told.contains("longer than 128 bytes"), "{told}");
    let told = ben.run(["p2p", "find"]).failed(2);
    assert!(told.contains("--place"), "{told}");
    // What it has shown to one of its ledger, everybody who hears of it can compare.
    let ledger = ben.json(["peers", "list"]);
    assert!(
        ledger.as_array().unwrap().is_empty(),
        "announced is not met: {ledger}"
    );
}
