//! `/mcp` of a running node.

use std::net::TcpStream;

use kairos_tests::{Builder, Home, Reply, Request, TestNode};
use serde_json::{Value, json};

use super::{call, meta, request};

/// A running node and the tokens of two who may ask it.
pub(super) struct House {
    pub(super) home: Home,
    pub(super) node: TestNode,
    pub(super) owner: String,
    pub(super) guest: String,
}

impl House {
    fn new() -> Self {
        Self::with(&[])
    }

    fn with(settings: &[(&str, &str)]) -> Self {
        Self::running(TestNode::builder(), settings)
    }

    pub(super) fn running(node: Builder, settings: &[(&str, &str)]) -> Self {
        let home = Home::initialized();
        let token = |role: &str| {
            let args = ["token", "create", "--user", role, "--role", role];
            home.run(args).done().trim().to_owned()
        };
        let (owner, guest) = (token("owner"), token("guest"));
        let node = settings
            .iter()
            .fold(node.home(&home), |node, (key, value)| node.set(key, value));
        Self {
            node: node.start(),
            home,
            owner,
            guest,
        }
    }

    pub(super) fn post(&self, token: &str, message: &Value) -> Request {
        Request::post("/mcp")
            .token(token)
            .header("Accept", "application/json, text/event-stream")
            .header("Content-Type", "application/json")
            .json(message)
    }

    /// A request of the stateless era.
    pub(super) fn stateless(&self, token: &str, mut message: Value) -> Reply {
        message["params"]["_meta"] = meta(&json!({}));
        let method = message["method"].as_str().unwrap().to_owned();
        let name = message["params"]["name"].as_str().map(str::to_owned);
        let mut post = self
            .post(token, &message)
            .header("MCP-Protocol-Version", "2026-07-28")
            .header("Mcp-Method", &method);
        if let Some(name) = name {
            post = post.header("Mcp-Name", &name);
        }
        post.send(&self.node)
    }

    /// Opens a session, and returns its id.
    pub(super) fn session(&self, token: &str) -> String {
        self.session_of(token, &json!({}))
    }

    /// The same for a client that can do `capabilities`.
    pub(super) fn session_of(&self, token: &str, capabilities: &Value) -> String {
        let params = json!({
            "protocolVersion": "2025-11-25", "capabilities": capabilities, "clientInfo": {"name": "test", "version": "1"},
        });
        let reply = self
            .post(token, &request(1, "initialize", &params))
            .send(&self.node);
        assert_eq!(reply.status, 200, "{}", reply.text());
        let id = reply.headers.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("mcp-session-id")
                .then(|| value.trim().to_owned())
        });
        let id = id.expect("a session has an id");
        let told = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
        let reply = self.in_session(token, &id, &told);
        assert_eq!(reply.status, 202, "{}", reply.text());
        id
    }

    pub(super) fn in_session(&self, token: &str, session: &str, message: &Value) -> Reply {
        self.of_session(token, session, message).send(&self.node)
    }

    /// Sends a request of the owner, and leaves the connection open.
    pub(super) fn begin_in_session(&self, session: &str, message: &Value) -> TcpStream {
        let length = message.to_string().len().to_string();
        self.of_session(&self.owner, session, message)
            .header("Content-Length", &length)
            .begin(&self.node)
    }

    fn of_session(&self, token: &str, session: &str, message: &Value) -> Request {
        self.post(token, message)
            .header("Mcp-Session-Id", session)
            .header("MCP-Protocol-Version", "2025-11-25")
    }
}

/// The message of an answer, whether it came alone or as an event, and in however many pieces its body was sent.
pub(super) fn message(reply: &Reply) -> Value {
    let text = reply.text();
    let lines = text
        .lines()
        .map(|line| line.trim_start_matches("data:").trim());
    let found = lines
        .into_iter()
        .find(|line| line.starts_with('{') && line.contains("jsonrpc"));
    let found = found.unwrap_or_else(|| panic!("no message: {text}"));
    serde_json::from_str(found).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn both_eras_are_served_at_one_place() {
    let house = House::new();
    let reply = house.stateless(&house.owner, call(1, "chain_verify", &json!({})));
    assert_eq!(
        message(&reply)["result"]["structuredContent"]["valid"],
        true,
        "{}",
        reply.text()
    );
    let session = house.session(&house.owner);
    let reply = house.in_session(
        &house.owner,
        &session,
        &call(2, "chain_record", &json!({"logs": ["over http"]})),
    );
    assert_eq!(
        message(&reply)["result"]["structuredContent"]["index"],
        1,
        "{}",
        reply.text()
    );
    assert_eq!(house.home.json(["chain", "verify"])["length"], 2);
    // It ends when it is ended.
    let end = Request::new("DELETE", "/mcp")
        .token(&house.owner)
        .header("Mcp-Session-Id", &session)
        .send(&house.node);
    assert!((200..300).contains(&end.status), "{}", end.text());
    house
        .in_session(&house.owner, &session, &call(3, "chain_status", &json!({})))
        .refused(404, "unknown_session");
    assert!(house.node.stop().success());
}

#[test]
fn whoever_asks_needs_a_token_and_its_role_counts() {
    let house = House::new();
    let body = call(1, "chain_status", &json!({}));
    Request::post("/mcp")
        .json(&body)
        .send(&house.node)
        .refused(401, "missing_token");
    house
        .post("kc_nothing", &body)
        .send(&house.node)
        .refused(401, "invalid_token");
    let reply = house.stateless(
        &house.guest,
        call(1, "chain_record", &json!({"logs": ["x"]})),
    );
    let result = &message(&reply)["result"];
    assert_eq!(result["isError"], true, "{}", reply.text());
    let list = house.stateless(&house.guest, request(2, "tools/list", &json!({})));
    assert!(!list.text().contains("\"chain_record\""), "{}", list.text());
    house.home.run(["token", "revoke", "guest"]).done();
    let reply = house.stateless(&house.guest, call(3, "chain_status", &json!({})));
    reply.refused(401, "invalid_token");
}

#[test]
fn pages_of_other_sites_are_not_answered() {
    let house = House::new();
    let body = call(1, "chain_status", &json!({}));
    let post = house
        .post(&house.owner, &body)
        .header("Origin", "http://evil.example");
    post.send(&house.node).refused(403, "origin_forbidden");
}

#[test]
fn a_session_is_nobody_elses() {
    let house = House::new();
    let session = house.session(&house.owner);
    let body = call(2, "chain_status", &json!({}));
    house
        .in_session(&house.guest, &session, &body)
        .refused(404, "unknown_session");
    house
        .in_session(&house.owner, "made-up", &body)
        .refused(404, "unknown_session");
    assert_eq!(house.in_session(&house.owner, &session, &body).status, 200);
}

#[test]
fn sessions_and_bodies_are_bounded() {
    let house = House::with(&[("mcp.sessions", "2"), ("limits.body", "64KiB")]);
    for garbage in ["", "garbage", "[]", "{\"jsonrpc\":\"2.0\"}"] {
        let post = Request::post("/mcp")
            .token(&house.owner)
            .header("Content-Type", "application/json");
        let post = post.header("Accept", "application/json, text/event-stream");
        let reply = post.body(garbage).send(&house.node);
        assert!(
            (400..500).contains(&reply.status),
            "{garbage}: {} {}",
            reply.status,
            reply.text()
        );
    }
    house.session(&house.owner);
    house.session(&house.owner);
    let params = json!({
        "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"},
    });
    let third = house
        .post(&house.owner, &request(1, "initialize", &params))
        .send(&house.node);
    third.refused(503, "sessions_full");
    // What needs no session still goes.
    let big = "x".repeat(100 * 1024);
    let reply = house.stateless(
        &house.owner,
        call(1, "chain_record", &json!({"logs": [big]})),
    );
    assert_eq!(reply.status, 413, "{}", reply.text());
}

#[test]
fn it_can_be_switched_off() {
    let house = House::with(&[("mcp.http", "false")]);
    let reply = house
        .post(&house.owner, &call(1, "chain_status", &json!({})))
        .send(&house.node);
    assert_eq!(reply.status, 404);
}

#[test]
#[expect(
    clippy::print_stderr,
    reason = "whoever reads the results has to see that this was left out"
)]
fn a_full_disk_refuses_tools_that_change_something_and_no_others() {
    let house = House::with(&[("limits.disk_reserve", "1024GiB")]);
    if Request::get("/ready").send(&house.node).status == 200 {
        eprintln!("SKIPPED: the disk has more room than the largest reserve");
        return;
    }
    let tool = |name: &str, arguments: Value| {
        let params = json!({"name": name, "arguments": arguments});
        let reply = house.stateless(&house.owner, request(1, "tools/call", &params));
        reply.text()
    };
    let refused = tool("chain_record", json!({"logs": ["x"]}));
    assert!(
        refused.contains("limits.disk_reserve") && refused.contains("\"isError\":true"),
        "{refused}"
    );
    let read = tool("chain_status", json!({}));
    assert!(read.contains("\"isError\":false"), "{read}");
}
