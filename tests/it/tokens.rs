//! Tokens as their holders meet them: made at the command line, used over HTTP, taken back from elsewhere.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::thread;
use std::time::Instant;

use kairos_tests::{Call, Home, Reply, Request, TestNode, connect, finish};
use serde_json::{Value, json};

const WHOAMI: &str = "/api/v1/whoami";

/// Makes a token with the command line, as an owner does.
fn token(home: &Home, user: &str, role: &str) -> String {
    let args = ["token", "create", "--user", user, "--role", role];
    let raw = home.run(args).done().trim().to_owned();
    assert!(raw.starts_with("kc_") && raw.len() == 67, "{raw}");
    raw
}

fn serve(home: &Home) -> TestNode {
    TestNode::builder().data_dir(home.data_dir()).start()
}

fn whoami(node: &TestNode, token: &str) -> Reply {
    Request::get(WHOAMI).token(token).send(node)
}

#[test]
fn tokens_can_be_taken_back_where_nothing_else_works() {
    let home = Home::initialized();
    token(&home, "ada", "owner");
    fs::create_dir_all(home.data_dir().join("keys")).unwrap();
    fs::write(home.data_dir().join("keys/mmp_keypair.pem"), "broken").unwrap();
    fs::write(home.data_dir().join("storage/blockchain.json"), "[").unwrap();
    home.run(["chain", "history"]).failed(1);
    let revoked = home.run(["token", "revoke", "ada"]).done();
    assert!(revoked.contains("of user 'ada'"), "{revoked}");
}

#[test]
fn a_running_server_sees_each_change_of_another_process_at_once() {
    let home = Home::initialized();
    let node = serve(&home);
    let refused = Request::get(WHOAMI).send(&node);
    let words = refused.refused(401, "missing_token");
    assert_eq!(words, "Authorization header with Bearer token is required");
    assert!(refused.headers.contains("www-authenticate: bearer"));
    for round in 0..3 {
        let raw = token(&home, "ada", "owner");
        let who = whoami(&node, &raw).ok();
        assert_eq!(
            (&who["user"], &who["role"]),
            (&json!("ada"), &json!("owner"))
        );
        let fresh = home.json(["token", "rotate", "ada"])["token"].clone();
        let fresh = fresh.as_str().unwrap();
        let words = whoami(&node, &raw).refused(401, "invalid_token");
        assert_eq!(words, "Invalid, expired, or revoked token");
        whoami(&node, fresh).ok();
        home.run(["token", "revoke", "ada"]).done();
        whoami(&node, fresh).refused(401, "invalid_token");
        // What is written down never is what opens anything.
        let raw = raw.as_bytes();
        for (path, bytes) in home.files() {
            let found = bytes.windows(raw.len()).any(|window| window == raw);
            assert!(!found, "round {round}: {}", path.display());
        }
    }
    let log = home.json(["log"]).to_string();
    for action in ["token_created", "token_rotated", "token_revoked"] {
        assert!(log.contains(action), "{log}");
    }
    assert!(!node.log().contains("kc_"));
}

#[test]
fn a_token_is_shown_once_and_only_its_hash_is_kept_for_its_owner_alone() {
    let home = Home::initialized();
    let ended = home.run(["token", "create", "--user", "bo", "--expires", "90m"]);
    assert!(
        ended.stderr.contains("will not be shown again"),
        "{}",
        ended.stderr
    );
    assert_eq!(ended.stdout.lines().count(), 1);
    let path = home.data_dir().join("storage/tokens.json");
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let file: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    assert_eq!(file["version"], 1);
    let entry = &file["tokens"][0];
    let members: Vec<_> = entry.as_object().unwrap().keys().collect();
    assert_eq!(
        members,
        [
            "token_hash",
            "user",
            "role",
            "issued_at",
            "expires_at",
            "issued_by",
            "status"
        ]
    );
    for bad in ["90", "soon", "0d", "-1d", "1w"] {
        let ended = home.run([
            "token",
            "create",
            "--user",
            "x",
            &format!("--expires={bad}"),
        ]);
        assert!(ended.failed(2).contains("is no lifetime"));
    }
    let ended = home.run(["token", "create", "--user", "../x"]);
    assert!(ended.failed(2).contains("alphanumeric"));
    let ended = home.run(["token", "create", "--user", "x", "--role", "root"]);
    assert!(
        ended
            .failed(2)
            .contains("Must be one of: owner, member, guest")
    );
    for args in [["token", "rotate", "eve"], ["token", "revoke", "eve"]] {
        let error = home.run(args).failed(1);
        assert!(
            error.contains("no active tokens found for user 'eve'"),
            "{error}"
        );
    }
}

#[test]
fn a_file_of_tokens_that_is_hostile_lets_nobody_in_and_stays() {
    let home = Home::initialized();
    let raw = token(&home, "ada", "owner");
    let path = home.data_dir().join("storage/tokens.json");
    let good = fs::read_to_string(&path).unwrap();
    let node = serve(&home);
    whoami(&node, &raw).ok();
    let deep = format!(
        "{{\"version\":1,\"tokens\":{}{}}}",
        "[".repeat(9000),
        "]".repeat(9000)
    );
    for bad in [
        "",
        "{",
        "[]",
        "{\"version\":2,\"tokens\":[]}",
        "{\"version\":1,\"tokens\":{}}",
        deep.as_str(),
    ] {
        fs::write(&path, bad).unwrap();
        whoami(&node, &raw).refused(503, "auth_unavailable");
        let error = home.run(["token", "create", "--user", "eve"]).failed(1);
        assert!(
            error.contains("storage/tokens.json cannot be used"),
            "{error}"
        );
        assert_eq!(fs::read_to_string(&path).unwrap(), bad);
    }
    // Two entries with one hash: whichever was smuggled in, neither opens anything.
    let entry = good.split_once('[').unwrap().1.rsplit_once(']').unwrap().0;
    let guest = entry.replace("owner", "guest");
    fs::write(&path, good.replace(entry, &format!("{guest},{entry}"))).unwrap();
    whoami(&node, &raw).refused(401, "invalid_token");
    fs::write(&path, &good).unwrap();
    whoami(&node, &raw).ok();
}

#[test]
fn a_write_killed_at_any_moment_leaves_a_whole_file_with_all_that_was_acknowledged() {
    let home = Home::initialized();
    let create = |user: &str| Call::new(["token", "create", "--user", user]).home(&home);
    let begun = Instant::now();
    create("first").run().done();
    let whole = begun.elapsed();
    let mut acknowledged = vec!["first".to_owned()];
    for round in 0..20 {
        let user = format!("u{round}");
        let mut child = create(&user).spawn();
        thread::park_timeout(whole * round * 5 / 80);
        child.kill().unwrap();
        if child.wait().unwrap().success() {
            acknowledged.push(user);
        }
    }
    let listed = home.json(["token", "list", "--all"]);
    assert_eq!(listed["unreadable"], json!([]));
    let tokens = listed["tokens"].as_array().unwrap();
    let users: Vec<_> = tokens.iter().map(|t| t["user"].as_str().unwrap()).collect();
    for user in acknowledged {
        assert!(users.contains(&user.as_str()), "{user} in {users:?}");
    }
    create("last").run().done();
}

#[test]
fn ten_thousand_tokens_are_told_apart_and_no_more_are_made() {
    let home = Home::initialized();
    let raw = token(&home, "ada", "owner");
    let path = home.data_dir().join("storage/tokens.json");
    let mut file: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let tokens = file["tokens"].as_array_mut().unwrap();
    for n in 1..10_000 {
        let mut other = tokens[0].clone();
        other["token_hash"] = json!(format!("{n:064x}"));
        other["status"] = json!("revoked");
        other["user"] = json!(format!("u{n}"));
        tokens.push(other);
    }
    fs::write(&path, serde_json::to_vec(&file).unwrap()).unwrap();
    let node = serve(&home);
    assert_eq!(whoami(&node, &raw).ok()["user"], "ada");
    let error = home.run(["token", "create", "--user", "bo"]).failed(1);
    assert!(error.contains("kairos-chain token prune"), "{error}");
    assert_eq!(home.json(["token", "prune"])["forgotten"], 9_999);
    whoami(&node, &raw).ok();
    token(&home, "bo", "guest");
}

#[test]
fn tokens_of_no_use_are_slowed_down_and_good_ones_are_not() {
    let home = Home::initialized();
    let raw = token(&home, "ada", "owner");
    let node = TestNode::builder()
        .data_dir(home.data_dir())
        .set("limits.bad_tokens", "3")
        .start();
    for _ in 0..3 {
        whoami(&node, "kc_guess").refused(401, "invalid_token");
    }
    let slowed = whoami(&node, "kc_guess");
    slowed.refused(429, "rate_limited");
    assert!(slowed.headers.contains("retry-after:"));
    whoami(&node, &raw).ok();
}

#[test]
fn a_page_in_a_browser_cannot_reach_the_owners_routes() {
    let home = Home::initialized();
    let raw = token(&home, "ada", "owner");
    let node = serve(&home);
    let asked = |name: &str, value: &str| {
        Request::get(WHOAMI)
            .token(&raw)
            .header(name, value)
            .send(&node)
    };
    asked("origin", "http://evil.example").refused(403, "origin_forbidden");
    asked("origin", "null").refused(403, "origin_forbidden");
    asked("origin", "http://localhost").ok();
    // A name that somebody has pointed at this address.
    let mut stream = connect(node.address());
    let request = format!(
        "GET {WHOAMI} HTTP/1.1\r\nhost: evil.example\r\nauthorization: Bearer {raw}\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).unwrap();
    finish(&mut stream).refused(403, "host_forbidden");
    let other = Request::get("/api/nothing").token(&raw).send(&node);
    other.refused(404, "not_found");
    Request::get("/api/nothing")
        .send(&node)
        .refused(401, "missing_token");
    // A session of a peer is no token of a person.
    let session = kairos_tests::TestPeer::new("peer").session(&node);
    whoami(&node, &session).refused(401, "invalid_token");
}
