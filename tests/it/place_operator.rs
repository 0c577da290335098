//! Running a Meeting Place: the commands of its operator beside a running server and without one.

use std::io::Read as _;
use std::net::TcpStream;

use kairos_node::clock::SystemClock;
use kairos_protocol::hash::ContentHash;
use kairos_protocol::time::Clock as _;
use kairos_tests::{Home, Reply, Request, TestNode, TestPeer};
use serde_json::{Value, json};

fn registration(peer: &TestPeer, possession: &Value) -> Value {
    let introduction = peer.introduction_with(possession);
    json!({
        "id": peer.id(), "name": "Agent", "public_key": introduction["public_key"],
        "capabilities": introduction["capabilities"], "identity": introduction["identity"],
        "identity_signature": introduction["identity_signature"],
        "possession": introduction["possession"],
    })
}

fn register(node: &TestNode, peer: &TestPeer) -> Reply {
    Request::post("/place/v1/register")
        .json(&registration(peer, &Value::Null))
        .send(node)
}

/// The token of a session in which `peer` has shown that it holds its key.
fn proven(node: &TestNode, peer: &TestPeer) -> String {
    let post = |possession: &Value| {
        let body = registration(peer, possession);
        Request::post("/place/v1/register")
            .json(&body)
            .send(node)
            .ok()
    };
    let first = post(&json!({"nonce": "00".repeat(32)}));
    let challenge = &first["possession"];
    let (nonce, audience) = (&challenge["nonce"], &challenge["audience"]);
    let proof = peer.proof(
        audience.as_str().unwrap(),
        nonce.as_str().unwrap(),
        SystemClock.now(),
    );
    let second = post(&json!({"proof": proof}));
    second["session_token"].as_str().unwrap().to_owned()
}

fn leave_skill(node: &TestNode, peer: &TestPeer, token: &str) {
    let content = "# Words\n";
    let body = json!({
        "skill_id": "words", "name": "words", "format": "markdown", "content": content,
        "content_hash": ContentHash::of(content).to_hex(), "signature": peer.sign(content.as_bytes()),
    });
    let post = Request::post("/place/v1/deposit").token(token).json(&body);
    post.send(node).ok();
}

fn send_mail(node: &TestNode, token: &str, to: &str) -> Reply {
    let body = json!({
        "to": to, "encrypted_blob": "QUJD",
        "blob_hash": format!("sha256:{}", ContentHash::of("QUJD").to_hex()),
    });
    Request::post("/place/v1/relay/send")
        .token(token)
        .json(&body)
        .send(node)
}

/// Listens for mail, and has heard that it does.
fn listen(node: &TestNode, token: &str) -> TcpStream {
    let mut stream = Request::get("/place/v1/relay/events")
        .token(token)
        .begin(node);
    let (mut heard, mut some) = (String::new(), [0; 1024]);
    while !heard.contains(": listening") {
        let count = stream.read(&mut some).unwrap();
        assert!(count > 0, "{heard}");
        heard.push_str(&String::from_utf8_lossy(&some[..count]));
    }
    stream
}

/// Reads to the end of a stream, which must end properly.
fn ends(mut stream: TcpStream) {
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    let rest = String::from_utf8_lossy(&rest);
    assert!(rest.ends_with("0\r\n\r\n"), "{rest}");
}

/// What `place ARGS --json` says.
fn place(home: &Home, args: &[&str]) -> Value {
    let args = ["place"].iter().chain(args).chain(&["--json"]);
    let told = home.run(args.copied()).done();
    serde_json::from_str(&told).unwrap()
}

fn host(home: &Home) -> TestNode {
    TestNode::builder().home(home).arg("--place").start()
}

#[test]
fn a_ban_is_felt_at_once_by_a_session_and_a_listener_and_outlives_a_kill() {
    let home = Home::initialized();
    let node = host(&home);
    let (guest, friend) = (TestPeer::new("Guest"), TestPeer::new("Friend"));
    let (token, other) = (proven(&node, &guest), proven(&node, &friend));
    leave_skill(&node, &guest, &token);
    let get = |token: &str, path: &str| Request::get(path).token(token).send(&node);
    get(&other, "/place/v1/skill_content/words").ok();
    let (stream, stays) = (listen(&node, &token), listen(&node, &other));

    let told = place(&home, &["ban", guest.id(), "--reason", "spam"]);
    assert_eq!(told["via"], "server");
    assert_eq!(told["left"], json!([guest.id()]));
    // The introduced session, and the one that was proven.
    assert_eq!(told["sessions_ended"], 2);
    ends(stream);
    get(&token, "/place/v1/agents").refused(401, "invalid_or_expired_token");
    register(&node, &guest).refused(403, "banned");
    let unsigned = json!({"id": guest.id(), "name": "x"});
    Request::post("/place/v1/register")
        .json(&unsigned)
        .send(&node)
        .refused(403, "banned");
    get(&other, "/place/v1/skill_content/words").refused(404, "not_found");
    get(&other, &format!("/place/v1/keys/{}", guest.id())).refused(404, "not_found");
    get(&other, &format!("/place/v1/agent_profile/{}", guest.id())).refused(404, "not_found");
    let agents = get(&other, "/place/v1/agents").text();
    assert!(!agents.contains(guest.id()), "{agents}");
    let board = get(&other, "/place/v1/board/browse").text();
    assert!(!board.contains(guest.id()), "{board}");
    send_mail(&node, &other, guest.id()).refused(403, "recipient_refused");
    // A session of the other door is a session too.
    let meeting = Request::post("/meeting/v1/introduce")
        .json(&guest.introduction())
        .send(&node)
        .ok();
    let through_meeting = meeting["session_token"].as_str().unwrap();
    get(through_meeting, "/place/v1/agents").refused(403, "banned");
    // Nobody else is met by it.
    assert_eq!(send_mail(&node, &other, friend.id()).status, 201);
    drop(stays);
    node.kill();

    // Without a server the same commands work on what is stored.
    let bans = place(&home, &["bans"]);
    assert_eq!(bans["via"], "stored");
    assert_eq!(
        bans["bans"][0]["target"],
        json!(format!("agent:{}", guest.id()))
    );
    let node = host(&home);
    register(&node, &guest).refused(403, "banned");
    place(&home, &["unban", guest.id()]);
    register(&node, &guest).ok();
    let token = proven(&node, &friend);
    let content = Request::get("/place/v1/skill_content/words").token(&token);
    content.send(&node).ok();
    let audit = place(&home, &["audit", "--type", "ban"]);
    let entry = &audit["entries"][0];
    assert_eq!(
        (&entry["by"], &entry["reason"]),
        (&json!("local"), &json!("spam"))
    );
}

#[test]
fn keys_and_networks_are_kept_out_too() {
    let home = Home::initialized();
    let node = TestNode::builder()
        .home(&home)
        .arg("--place")
        .set("http.trusted_proxies", "127.0.0.1")
        .start();
    let guest = TestPeer::new("Guest");
    let token = proven(&node, &guest);
    let agents = place(&home, &["agents"]);
    let listed = agents["agents"].as_array().unwrap();
    let key = listed.iter().find(|agent| agent["id"] == guest.id());
    let key = key.unwrap()["key"].as_str().unwrap().to_owned();
    place(&home, &["ban", &key, "--for", "1h"]);
    Request::get("/place/v1/agents")
        .token(&token)
        .send(&node)
        .refused(401, "invalid_or_expired_token");
    register(&node, &guest).refused(403, "banned");
    place(&home, &["unban", &format!("key:{key}")]);

    // From there nobody gets in, whatever they want; from elsewhere they do.
    place(&home, &["ban", "2001:db8::7"]);
    let from = |address: &str, path: &str| {
        let request = Request::get(path);
        request.header("x-forwarded-for", address).send(&node)
    };
    from("2001:db8::ffff", "/place/v1/info").refused(403, "banned");
    from("2001:db8:0:1::1", "/place/v1/info").ok();
    // The ban is the Place's: the agent itself answers.
    from("2001:db8::ffff", "/meeting/v1/introduce").ok();
    let body = registration(&guest, &Value::Null);
    let post = Request::post("/place/v1/register").header("x-forwarded-for", "2001:db8::5");
    post.json(&body).send(&node).refused(403, "banned");
}

#[test]
fn a_kick_ends_sessions_and_presence_and_the_agent_may_come_back() {
    let home = Home::initialized();
    let node = host(&home);
    let guest = TestPeer::new("Guest");
    let token = proven(&node, &guest);
    let stream = listen(&node, &token);
    let told = place(&home, &["kick", guest.id(), "--reason", "loud"]);
    assert_eq!(told["sessions_ended"], 2);
    ends(stream);
    Request::get("/place/v1/agents")
        .token(&token)
        .send(&node)
        .refused(401, "invalid_or_expired_token");
    assert_eq!(register(&node, &guest).ok()["status"], "registered");
    let audit = place(&home, &["audit"]);
    let kinds = audit["entries"].as_array().unwrap().iter();
    let kinds: Vec<_> = kinds.map(|entry| entry["event_type"].clone()).collect();
    for kind in ["kick", "registration", "key_registration"] {
        assert!(kinds.contains(&json!(kind)), "{kinds:?}");
    }
    let unknown = home.run(["place", "kick", "nobody"]).failed(1);
    assert!(unknown.contains("not registered"), "{unknown}");
}

#[test]
fn a_place_is_opened_and_closed_while_its_server_runs() {
    let home = Home::initialized();
    let node = TestNode::builder().home(&home).start();
    let info = || Request::get("/place/v1/info").send(&node);
    info().refused(503, "place_not_started");
    assert_eq!(place(&home, &["status"])["hosted"], false);
    let started = place(&home, &["start"]);
    assert_eq!(
        (&started["via"], &started["changed"]),
        (&json!("server"), &json!(true))
    );
    info().ok();
    let guest = TestPeer::new("Guest");
    let token = proven(&node, &guest);
    leave_skill(&node, &guest, &token);
    let status = place(&home, &["status"]);
    assert_eq!(
        (&status["hosted"], &status["place"]["agents"]),
        (&json!(true), &json!(2))
    );
    assert_eq!(place(&home, &["start"])["changed"], false);

    // Somebody listens while it closes, and is let go.
    let stream = listen(&node, &token);
    assert_eq!(place(&home, &["stop"])["changed"], true);
    ends(stream);
    info().refused(503, "place_not_started");
    let health = Request::get("/health").send(&node).ok();
    assert_eq!(health["place_started"], false);
    Request::get("/ready").send(&node).ok();
    // Closed, it is free for commands, and what was acknowledged is there.
    let agents = place(&home, &["agents"]);
    assert_eq!(agents["via"], "stored");
    assert!(agents.to_string().contains(guest.id()), "{agents}");
    assert_eq!(place(&home, &["start"])["changed"], true);
    let content = Request::get("/place/v1/skill_content/words").token(&token);
    content.send(&node).ok();
    assert!(node.stop().success());

    // The setting outlives the server.
    assert_eq!(place(&home, &["status"])["setting"], true);
    let node = TestNode::builder().home(&home).start();
    Request::get("/place/v1/info").send(&node).ok();
}

#[test]
fn only_owners_run_the_place() {
    let home = Home::initialized();
    let node = host(&home);
    let issue = |role: &str| {
        let args = ["token", "create", "--user", role, "--role", role];
        home.run(args).done().trim().to_owned()
    };
    for role in ["guest", "member"] {
        let token = issue(role);
        for path in ["", "/agents", "/bans", "/audit", "/stats"] {
            let get = Request::get(&format!("/api/v1/place{path}")).token(&token);
            get.send(&node).refused(403, "forbidden");
        }
        for path in ["/start", "/stop", "/kick", "/bans", "/unban"] {
            let post = Request::post(&format!("/api/v1/place{path}")).token(&token);
            post.json(&json!({})).send(&node).refused(403, "forbidden");
        }
    }
    Request::get("/api/v1/place")
        .send(&node)
        .refused(401, "missing_token");
    let token = issue("owner");
    let post = |path: &str, body: Value| {
        let post = Request::post(&format!("/api/v1/place{path}")).token(&token);
        post.json(&body).send(&node)
    };
    post("/bans", json!({"target": "10.0.0.1/8"})).refused(400, "invalid_param");
    post("/bans", json!({"target": "a", "until": 1})).refused(400, "invalid_param");
    post("/bans", json!({"target": "a", "reason": "x".repeat(2_000)}))
        .refused(400, "invalid_param");
    post("/bans", json!({"target": "a", "seconds": 0})).refused(400, "invalid_param");
    let status = Request::get("/api/v1/place").token(&token).send(&node).ok();
    let me = json!({"target": format!("agent:{}", status["place_id"].as_str().unwrap())});
    post("/bans", me).refused(409, "refused");
    post("/unban", json!({"target": "a"})).refused(404, "not_found");
    // No command left a token behind.
    place(&home, &["stats"]);
    let tokens = home.run(["token", "list", "--all", "--json"]).done();
    let tokens: Value = serde_json::from_str(&tokens).unwrap();
    let users = tokens["tokens"].as_array().unwrap().iter();
    assert!(
        users
            .map(|token| &token["user"])
            .all(|user| user != "local"),
        "{tokens}"
    );
}

#[test]
fn lists_come_in_pages_that_leave_nothing_out() {
    let home = Home::initialized();
    let node = host(&home);
    let (sender, friend) = (TestPeer::new("Sender"), TestPeer::new("Friend"));
    let token = proven(&node, &sender);
    proven(&node, &friend);
    for _ in 0..3 {
        assert_eq!(send_mail(&node, &token, friend.id()).status, 201);
    }
    for name in ["a", "b", "c"] {
        place(&home, &["ban", name]);
    }
    let walk = |command: &str, list: &str, flag: &str| {
        let (mut all, mut next) = (Vec::new(), None::<String>);
        loop {
            let mut args = vec![command, "--limit", "2"];
            if let Some(next) = &next {
                args.extend([flag, next]);
            }
            let page = place(&home, &args);
            let entries = page[list].as_array().unwrap().clone();
            assert!(entries.len() <= 2);
            all.extend(entries);
            next = match &page["next"] {
                Value::Null => return all,
                Value::String(text) => Some(text.clone()),
                other => Some(other.to_string()),
            };
        }
    };
    assert_eq!(walk("agents", "agents", "--after").len(), 3);
    assert_eq!(walk("bans", "bans", "--after").len(), 3);
    let whole = place(&home, &["audit", "--limit", "1000"]);
    let paged = walk("audit", "entries", "--before");
    assert_eq!(json!(paged), whole["entries"]);
    let of = |kind: &str| {
        paged
            .iter()
            .filter(|entry| entry["event_type"] == kind)
            .count()
    };
    assert_eq!((of("relay"), of("ban")), (3, 3));
    assert!(of("registration") >= 2, "{paged:?}");
    let relay = place(&home, &["audit", "--type", "relay"]);
    assert_eq!(relay["entries"].as_array().unwrap().len(), 3);
    assert!(!whole.to_string().contains("QUJD"));
}

#[test]
fn without_a_place_there_is_nothing_to_run_but_somebody_may_be_kept_out_before() {
    let home = Home::initialized();
    let told = home.run(["place", "agents"]).failed(1);
    assert!(told.contains("place start"), "{told}");
    let banned = place(&home, &["ban", "nobody-yet"]);
    assert_eq!(banned["via"], "stored");
    let started = place(&home, &["start"]);
    assert_eq!(
        (&started["server"], &started["setting"]),
        (&Value::Null, &json!(true))
    );
    let node = TestNode::builder().home(&home).start();
    let unsigned = json!({"id": "nobody-yet", "name": "x"});
    let post = Request::post("/place/v1/register").json(&unsigned);
    post.send(&node).refused(403, "banned");
    home.run(["place", "ban", "10.0.0.1/8"]).failed(2);
    home.run(["place", "ban", "x", "--for", "soon"]).failed(2);
}

#[test]
fn mail_of_a_banned_agent_is_withheld_while_the_ban_holds_and_the_audit_tells() {
    let home = Home::initialized();
    let node = host(&home);
    let (guest, friend) = (TestPeer::new("Guest"), TestPeer::new("Friend"));
    let (token, other) = (proven(&node, &guest), proven(&node, &friend));
    assert_eq!(send_mail(&node, &token, friend.id()).status, 201);
    assert_eq!(send_mail(&node, &token, friend.id()).status, 201);
    let waiting = |node: &TestNode, token: &str| {
        let get = |path: &str| Request::get(path).token(token).send(node).ok();
        let peek = get("/place/v1/relay/peek");
        let status = get("/place/v1/relay/status");
        assert_eq!(peek["total_pending"], status["pending_count"]);
        assert_eq!(peek["total_pending"], peek["count"]);
        peek["count"].as_u64().unwrap()
    };
    assert_eq!(waiting(&node, &other), 2);
    let told = place(&home, &["ban", guest.id()]);
    assert_eq!(told["mail_withheld"], 2);
    assert_eq!(waiting(&node, &other), 0);
    let received = Request::get("/place/v1/relay/receive").token(&other);
    assert_eq!(received.send(&node).ok()["count"], 0);
    let prekeys = Request::get(&format!("/place/v1/prekeys/{}", guest.id()));
    prekeys.token(&other).send(&node).refused(404, "not_found");
    // Whom the operator keeps out is the operator's business: those who are here see no trace of it.
    let audit = Request::get("/place/v1/audit").token(&other);
    assert!(!audit.send(&node).text().contains("withheld"));
    let audit = place(&home, &["audit", "--type", "mail_withheld"]);
    let entry = &audit["entries"][0];
    assert_eq!(
        (&entry["target"], &entry["messages"]),
        (&json!(format!("agent:{}", guest.id())), &json!(2))
    );
    node.kill();
    let node = host(&home);
    let other = proven(&node, &friend);
    assert_eq!(waiting(&node, &other), 0);
    place(&home, &["unban", guest.id()]);
    assert_eq!(waiting(&node, &other), 2);
}
