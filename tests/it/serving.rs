//! How a node starts, stops, and takes its settings.

use std::fs;
use std::io::Write as _;
use std::net::TcpListener;

use kairos_tests::{Call, Home, Request, TestNode, TestPeer, binary, finish, without_settings};

#[test]
fn ends_with_success_when_told_to_stop() {
    for name in ["TERM", "INT"] {
        let node = TestNode::start();
        Request::get("/ready").send(&node).ok();
        node.signal(name);
        let log = || node.log();
        kairos_tests::eventually("it says goodbye", || {
            log().contains("Stopped: received SIG").then_some(())
        });
        assert_eq!(node.stop().code(), Some(0), "{name}");
    }
}

#[test]
fn finishes_the_request_under_way_before_it_stops() {
    let node = TestNode::start();
    let token = TestPeer::new("slow").session(&node);
    let body = br#"{"reflection":"in time"}"#;
    let length = body.len().to_string();
    let request = Request::post("/meeting/v1/reflect")
        .token(&token)
        .header("content-length", &length);
    let mut stream = request.begin(&node);
    stream.write_all(&body[..5]).unwrap();
    // Another answer shows that the node has read what was sent before on this machine's loopback.
    Request::get("/health").send(&node).ok();
    node.signal("TERM");
    kairos_tests::eventually("it begins to stop", || {
        node.log().contains("shutting down").then_some(())
    });
    stream.write_all(&body[5..]).unwrap();
    assert_eq!(finish(&mut stream).ok()["status"], "received");
    assert_eq!(node.stop().code(), Some(0));
}

#[test]
fn does_not_wait_for_a_request_longer_than_the_deadline() {
    let node = TestNode::builder()
        .set("http.shutdown_timeout", "1s")
        .start();
    let token = TestPeer::new("stuck").session(&node);
    let request = Request::post("/meeting/v1/reflect")
        .token(&token)
        .header("content-length", "100");
    let _stream = request.body("{").begin(&node);
    Request::get("/health").send(&node).ok();
    let begun = std::time::Instant::now();
    assert_eq!(node.stop().code(), Some(0));
    assert!(begun.elapsed().as_secs() < 8, "{:?}", begun.elapsed());
}

#[test]
fn a_port_that_is_taken_is_said_so() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let home = Home::initialized();
    let error = home.run(["serve", "--port", &port]).failed(1);
    assert!(
        error.contains(&format!("cannot listen on 127.0.0.1:{port}")),
        "{error}"
    );
    assert!(
        error.contains("choose another with --host and --port"),
        "{error}"
    );
    assert!(error.to_lowercase().contains("in use"), "{error}");
}

#[test]
fn makes_the_data_directory_it_serves_from() {
    let home = Home::new();
    let node = TestNode::builder().home(&home).start();
    assert!(
        node.log().contains("Data directory not initialized"),
        "{}",
        node.log()
    );
    let introduced = Request::get("/meeting/v1/introduce").send(&node).ok();
    let id = fs::read_to_string(home.data_dir().join("keys/instance_id")).unwrap();
    assert_eq!(introduced["identity"]["instance_id"], id.trim());
    let again = {
        node.stop();
        TestNode::builder().home(&home).start()
    };
    assert!(!again.log().contains("not initialized"));
    let introduced = Request::get("/meeting/v1/introduce").send(&again).ok();
    assert_eq!(
        introduced["identity"]["instance_id"],
        id.trim(),
        "it stays who it is"
    );
}

#[test]
fn the_spelling_of_the_reference_serves_too() {
    let home = Home::new();
    let dir = home.data_dir();
    let mut command = without_settings(binary());
    let child = command
        .args(["--http", "--port", "0", "--data-dir"])
        .arg(&dir);
    let child = child.stderr(std::process::Stdio::piped()).spawn().unwrap();
    let mut child = child;
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stderr.take().unwrap()));
    let line = lines.find_map(|line| {
        line.unwrap()
            .strip_prefix("Listening on http://")
            .map(str::to_owned)
    });
    assert!(line.unwrap().starts_with("127.0.0.1:"));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(dir.join("skills/kairos.rb").is_file());
}

#[test]
fn an_unknown_setting_keeps_it_from_starting() {
    let home = Home::initialized();
    let error = home
        .run(["serve", "--port", "0", "--set", "limits.bodi=1MiB"])
        .failed(2);
    assert!(
        error.contains("limits.bodi") && error.contains("limits.body"),
        "{error}"
    );
    let file = home.data_dir().join("config/kairos.yml");
    fs::write(&file, "sessions:\n  tll: 5m\n").unwrap();
    let error = home.run(["serve", "--port", "0"]).failed(2);
    assert!(
        error.contains("sessions.tll") && error.contains("sessions.ttl"),
        "{error}"
    );
    assert!(error.contains("kairos.yml"), "{error}");
}

#[test]
fn a_data_directory_that_is_a_file_is_refused() {
    let home = Home::new();
    fs::write(home.data_dir(), "x").unwrap();
    for args in [&["serve", "--port", "0"][..], &["init"], &["skill", "list"]] {
        let error = home.run(args).failed(1);
        assert!(error.contains("is not a directory"), "{args:?}: {error}");
    }
    let nothing = Call::new(["serve", "--port", "0"])
        .env("KAIROS_DATA_DIR", "/dev/null/x")
        .run();
    nothing.failed(1);
}

#[test]
fn is_ready_and_says_what_works() {
    let node = TestNode::start();
    let ready = Request::get("/ready").send(&node).ok();
    assert_eq!(ready["status"], "ready", "{ready}");
    let parts = ready["parts"].as_object().unwrap();
    assert!(parts.values().all(|state| state == "ok"), "{ready}");
    let mut names: Vec<&str> = parts.keys().map(String::as_str).collect();
    names.sort_unstable();
    let all = [
        "anchors",
        "approvals",
        "auth",
        "chain",
        "disk",
        "knowledge",
        "meeting",
        "membership",
        "peers",
        "quarantine",
        "skill_sets",
        "skills",
        "state",
        "tlog",
        "witness",
    ];
    assert_eq!(names, all);
    assert_eq!(ready["not_ready"], serde_json::json!([]));
    assert_eq!(Request::get("/health").send(&node).ok()["status"], "ok");
}
