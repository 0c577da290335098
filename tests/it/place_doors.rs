//! What the doors of a Meeting Place bear: forged addresses, and those who are slow on purpose.

use std::io::{Read as _, Write as _};

use kairos_protocol::hash::ContentHash;
use kairos_tests::{Reply, Request, TestNode, TestPeer, connect, finish};
use serde_json::{Value, json};

fn place() -> kairos_tests::Builder {
    TestNode::builder().arg("--place")
}

fn info(node: &TestNode, header: &str, address: &str) -> Reply {
    let request = Request::get("/place/v1/info");
    request.header(header, address).send(node)
}

#[test]
fn an_address_in_a_header_counts_for_nothing_unless_a_trusted_proxy_wrote_it() {
    let node = place().set("limits.requests_per_address", "2").start();
    for at in 1..=2 {
        info(&node, "x-forwarded-for", &format!("192.0.2.{at}")).ok();
    }
    let refused = info(&node, "x-forwarded-for", "192.0.2.3");
    refused.refused(429, "rate_limited");
    assert!(
        refused.headers.contains("retry-after: "),
        "{}",
        refused.headers
    );

    let node = place()
        .set("limits.requests_per_address", "2")
        .set("http.trusted_proxies", "127.0.0.0/8")
        .start();
    for at in 1..=3 {
        // What the client made up stands left of what the proxy saw.
        info(
            &node,
            "x-forwarded-for",
            &format!("203.0.113.{at}, 192.0.2.1, junk, 198.51.100.{at}"),
        )
        .ok();
    }
    for at in 1..=2 {
        info(
            &node,
            "x-forwarded-for",
            &format!("203.0.113.{at}, 2001:db8::{at}"),
        )
        .ok();
    }
    info(&node, "x-forwarded-for", "2001:db8::ffff").refused(429, "rate_limited");
    // A header that the proxy does not write itself says nothing: the proxy's own address is meant.
    for _ in 1..=2 {
        info(&node, "x-real-ip", "192.0.2.77").ok();
    }
    info(&node, "x-real-ip", "192.0.2.78").refused(429, "rate_limited");
}

#[test]
fn owners_routes_are_closed_to_those_for_whom_a_proxy_on_this_machine_asks() {
    let node = place().set("http.trusted_proxies", "127.0.0.1").start();
    let whoami = |address: Option<&str>| {
        let request = Request::get("/api/v1/whoami");
        match address {
            Some(address) => request.header("x-forwarded-for", address).send(&node),
            None => request.send(&node),
        }
    };
    whoami(Some("192.0.2.1")).refused(403, "loopback_only");
    whoami(Some("127.0.0.1, 192.0.2.1")).refused(403, "loopback_only");
    whoami(None).refused(401, "missing_token");
}

#[test]
fn who_is_slow_on_purpose_is_cut_off() {
    let node = place()
        .set("http.head_timeout", "1s")
        .set("http.keep_alive", "1s")
        .set("limits.body_timeout", "1s")
        .start();
    // Nothing at all, half a line, and a head without an end. Each of them would stay for ever.
    for begun in [
        "",
        "GET /pla",
        "GET /place/v1/info HTTP/1.1\r\nhost: localhost\r\nx-a: ",
    ] {
        let mut stream = connect(node.address());
        stream.write_all(begun.as_bytes()).unwrap();
        let reply = finish(&mut stream);
        assert!([0, 408].contains(&reply.status), "{begun:?}: {reply:?}");
    }
    // A body that comes drop by drop.
    let body = Request::post("/place/v1/register")
        .header("content-length", "100000")
        .body("{\"id\": ");
    let mut stream = body.begin(&node);
    finish(&mut stream).refused(408, "request_timeout");
    // An idle connection, after an answer.
    let mut stream = connect(node.address());
    let ask = "GET /place/v1/info HTTP/1.1\r\nhost: localhost\r\n\r\n";
    stream.write_all(ask.as_bytes()).unwrap();
    let reply = finish(&mut stream);
    assert_eq!(reply.status, 200);
    // Whoever is quick is served all the same.
    Request::get("/place/v1/info").send(&node).ok();
}

#[test]
fn a_head_without_measure_is_refused_and_the_node_lives() {
    let node = place().start();
    let mut stream = connect(node.address());
    let mut sent = stream.write_all(b"GET /place/v1/info HTTP/1.1\r\nhost: localhost\r\n");
    let line = format!("x-filler: {}\r\n", "x".repeat(4_000));
    let mut lines = 0;
    while sent.is_ok() && lines < 10_000 {
        sent = stream.write_all(line.as_bytes());
        lines += 1;
    }
    assert!(lines < 10_000, "40 MB of head were taken");
    let mut answer = Vec::new();
    // Reset, or told why.
    let _ = stream.read_to_end(&mut answer);
    assert!(
        !answer.starts_with(b"HTTP/1.1 200"),
        "{}",
        String::from_utf8_lossy(&answer)
    );
    let many: String = (0..500).map(|n| format!("x-{n}: 1\r\n")).collect();
    let mut stream = connect(node.address());
    let head = format!("GET /place/v1/info HTTP/1.1\r\nhost: localhost\r\n{many}\r\n");
    // It may be refused before all of it is written.
    let _ = stream.write_all(head.as_bytes());
    assert!([0, 400, 431].contains(&finish(&mut stream).status));
    let unsigned = json!({"id": "still-here", "name": "x"});
    Request::post("/place/v1/register")
        .json(&unsigned)
        .send(&node)
        .ok();
}

fn registration(peer: &TestPeer) -> Value {
    let introduction = peer.introduction();
    json!({
        "id": peer.id(), "name": "Agent", "public_key": introduction["public_key"],
        "identity": introduction["identity"], "identity_signature": introduction["identity_signature"],
    })
}

fn told_to_wait(reply: &Reply, code: &str) {
    reply.refused(429, code);
    let headers = &reply.headers;
    assert!(headers.contains("retry-after: "), "{headers}");
}

#[test]
fn each_share_is_told_and_whoever_used_it_up_is_told_to_wait() {
    let node = place()
        .set("place.write", "introduced")
        .set("http.trusted_proxies", "127.0.0.1")
        .set("place.registrations_per_key", "2")
        .set("place.registrations_per_address", "3")
        .set("place.sends_per_key", "1")
        .set("place.sends_per_address", "2")
        .set("place.deposit_attempts_per_key", "1")
        .set("place.unverified_per_address", "1")
        .start();
    let post = |path: &str, address: &str, token: &str, body: &Value| {
        let request = Request::post(path).header("x-forwarded-for", address);
        request.token(token).json(body).send(&node)
    };
    let register = |address: &str, body: &Value| post("/place/v1/register", address, "none", body);
    let info = Request::get("/place/v1/info").send(&node).ok();
    let quotas = &info["quotas"];
    assert_eq!(
        (
            &quotas["registrations"]["per_key"],
            &quotas["messages"]["per_address"]
        ),
        (&json!(2), &json!(2))
    );
    assert_eq!(info["agent_limits"]["max_unverified_per_address"], 1);

    let (loud, quiet) = (TestPeer::new("Loud"), TestPeer::new("Quiet"));
    let first = register("192.0.2.1", &registration(&loud)).ok();
    register("192.0.2.2", &registration(&loud)).ok();
    told_to_wait(&register("192.0.2.3", &registration(&loud)), "rate_limited");
    // A refusal by the key took nothing of the address.
    for name in ["u1", "u2"] {
        let reply = register("192.0.2.3", &json!({"id": name, "name": "x"}));
        match name {
            "u1" => assert_eq!(reply.status, 200),
            _ => told_to_wait(&reply, "signature_required"),
        }
    }
    let second = register("192.0.2.3", &registration(&quiet)).ok();
    told_to_wait(
        &register("192.0.2.3", &registration(&quiet)),
        "rate_limited",
    );

    let (loud_token, quiet_token) = (&first["session_token"], &second["session_token"]);
    let (loud_token, quiet_token) = (loud_token.as_str().unwrap(), quiet_token.as_str().unwrap());
    let letter = json!({
        "to": quiet.id(), "encrypted_blob": "QUJD",
        "blob_hash": format!("sha256:{}", ContentHash::of("QUJD").to_hex()),
    });
    let send = |address: &str, token: &str| post("/place/v1/relay/send", address, token, &letter);
    assert_eq!(send("198.51.100.1", loud_token).status, 201);
    told_to_wait(&send("198.51.100.1", loud_token), "rate_limited");
    assert_eq!(send("198.51.100.1", quiet_token).status, 201);
    let deposit = |token: &str| post("/place/v1/deposit", "198.51.100.2", token, &json!({}));
    assert_eq!(deposit(loud_token).status, 422);
    told_to_wait(&deposit(loud_token), "rate_limited");
    assert_eq!(deposit(quiet_token).status, 422);
}

#[test]
fn one_address_fills_neither_the_registry_nor_the_table_of_peers() {
    let node = place()
        .set("place.agents_per_address", "1")
        .set("limits.peers_per_address", "1")
        .start();
    let peers: Vec<TestPeer> = (0..2)
        .map(|n| TestPeer::new(&format!("Peer {n}")))
        .collect();
    let register = |peer: &TestPeer| {
        let body = registration(peer);
        Request::post("/place/v1/register").json(&body).send(&node)
    };
    register(&peers[0]).ok();
    told_to_wait(&register(&peers[1]), "address_full");
    register(&peers[0]).ok();
    let introduce = |peer: &TestPeer| {
        let body = peer.introduction();
        Request::post("/meeting/v1/introduce")
            .json(&body)
            .send(&node)
    };
    introduce(&peers[0]).ok();
    told_to_wait(&introduce(&peers[1]), "address_full");
    introduce(&peers[0]).ok();
}

#[test]
fn a_heartbeat_with_a_body_leaves_the_connection_open() {
    let node = place().start();
    let token = TestPeer::new("alive").register(&node);
    let beat = |connection: &str| {
        format!(
            "POST /place/v1/heartbeat HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n\
             connection: {connection}\r\ncontent-length: 2\r\n\r\n{{}}"
        )
    };
    let mut stream = connect(node.address());
    let both = [beat("keep-alive"), beat("close")].concat();
    stream.write_all(both.as_bytes()).unwrap();
    let mut answers = String::new();
    stream.read_to_string(&mut answers).unwrap();
    assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 2, "{answers}");
}
