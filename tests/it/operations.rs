//! What an operator does with a node, and what happens to one that runs for months.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use kairos_tests::{Call, Home, Request, TestNode, TestPeer, eventually, without_settings};
use serde_json::{Value, json};

fn owner(home: &Home) -> String {
    home.run(["token", "create", "--user", "ops", "--role", "owner"])
        .done()
        .trim()
        .to_owned()
}

fn json_of(ended: &kairos_tests::Ended) -> Value {
    serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {ended:?}"))
}

#[test]
fn a_directory_is_served_once_and_the_second_server_is_told_by_whom() {
    let home = Home::initialized();
    let node = TestNode::builder().home(&home).start();
    let refused = home.run(["serve", "--port", "0"]).failed(1);
    let served = format!("is served by process {} (", node.pid());
    assert!(
        refused.contains(&served) && refused.contains("--data-dir"),
        "{refused}"
    );
    Request::get("/ready").send(&node).ok();
    home.run(["chain", "record", "commands work beside it"])
        .done();
    node.kill();
    TestNode::builder().home(&home).start();
}

#[test]
fn status_tells_of_a_node_whether_it_runs_or_not() {
    let home = Home::initialized();
    let resting = home.run(["--json", "status"]);
    assert_eq!(resting.code, 3, "{resting:?}");
    let told = json_of(&resting);
    assert_eq!(
        (&told["running"], &told["blocks"]),
        (&json!(false), &json!(0)),
        "{told}"
    );
    let node = TestNode::builder().home(&home).arg("--place").start();
    home.run(["chain", "record", "something"]).done();
    TestPeer::new("seen").session(&node);
    let told = home.json(["status"]);
    assert_eq!(told["running"], true, "{told}");
    assert_eq!(told["pid"], node.pid());
    assert_eq!(told["ready"], true, "{told}");
    assert_eq!(told["address"], node.address().to_string());
    assert_eq!(told["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(
        (&told["peers"]["seen"], &told["sessions"]),
        (&json!(1), &json!(1)),
        "{told}"
    );
    assert_eq!(told["place"]["agents"], 1, "{told}");
    let tip = home.json(["chain", "history", "--limit", "1"]);
    assert_eq!(told["ledger"]["tip"], tip[0]["hash"], "{told} {tip}");
    assert_eq!(told["crashes"], json!([]));
    assert!(told["disk_used"].as_u64().unwrap() > 1000, "{told}");
    let page = home.run(["status"]).done();
    for line in [
        "node ", "agent ", "address ", "ledger ", "peers ", "waiting ", "joined ", "hosts ",
        "disk ",
    ] {
        assert!(
            page.contains(&format!("\n{line}")) || page.starts_with(line),
            "{line} {page}"
        );
    }
    assert!(page.lines().count() < 24, "{page}");
    let tokens = home.run(["token", "list"]);
    assert_eq!(tokens.stdout, "No active tokens.\n", "{tokens:?}");
}

#[test]
fn health_says_with_its_exit_code_whether_a_server_is_ready() {
    let home = Home::initialized();
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let set = format!("http.port={port}");
    let gone = home.run(["--set", &set, "health"]).failed(1);
    assert!(gone.contains("does not answer"), "{gone}");
    let node = TestNode::builder().home(&home).start();
    let told = home.run(["health"]).done();
    assert!(told.ends_with("ready\n"), "{told}");
    home.run(["health", "--live", &node.url("")]).done();
    // From elsewhere, where there is no data directory.
    let other = Home::new();
    let told = json_of(&other.run(["--json", "health", &node.url("")]));
    assert_eq!(told["ready"], true, "{told}");
    other.run(["health", "https://localhost:1"]).failed(2);
    node.signal("STOP");
    let silent = home.run(["health", "--timeout", "1s"]);
    node.signal("CONT");
    assert!(silent.failed(1).contains("does not answer"));
}

#[test]
fn sighup_applies_what_it_can_tells_the_rest_and_opens_the_log_anew() {
    let home = Home::initialized();
    let settings = home.data_dir().join("config/kairos.yml");
    let log = home.path().join("node.log");
    let write = |level: &str, rest: &str| {
        let text = format!("log:\n  level: {level}\n  file: {}\n{rest}", log.display());
        fs::write(&settings, text).unwrap();
    };
    write("info", "");
    let node = TestNode::builder().home(&home).start();
    let read = || fs::read_to_string(&log).unwrap_or_default();
    for _ in 0..3 {
        Request::get("/meeting/v1/introduce").send(&node).ok();
    }
    // Rotation, as it is done everywhere.
    let moved = home.path().join("node.log.1");
    fs::rename(&log, &moved).unwrap_or_else(|error| panic!("{error}: {}", node.log()));
    write(
        "warn,kairos_node::reload=info",
        "limits:\n  requests_per_address: 2\n  peers: 77\n",
    );
    node.signal("HUP");
    let told = eventually("it tells of the change", || {
        let text = read();
        text.contains("the settings were read again")
            .then_some(text)
    });
    assert!(
        told.contains("limits.requests_per_address") && told.contains("log.level"),
        "{told}"
    );
    let (_, restart) = told.split_once("needs_restart=").unwrap();
    assert!(restart.starts_with("limits.peers"), "{told}");
    Request::get("/meeting/v1/introduce").send(&node).ok();
    Request::get("/meeting/v1/introduce").send(&node).ok();
    Request::get("/meeting/v1/introduce")
        .send(&node)
        .refused(429, "rate_limited");
    fs::write(&settings, "limits:\n  peers: none\n").unwrap();
    node.signal("HUP");
    eventually("it tells what is wrong", || {
        let text = read();
        (text.contains("the settings are wrong") && text.contains("limits.peers")).then_some(())
    });
    Request::get("/ready").send(&node).ok();
    assert_eq!(node.stop().code(), Some(0));
}

#[test]
fn descriptors_are_raised_as_far_as_may_be_and_bound_the_connections() {
    let home = Home::initialized();
    let script = format!(
        "ulimit -S -n 64 && ulimit -H -n 700 && exec '{}' serve --port 0 --data-dir '{}' --set http.max_connections=5000",
        kairos_tests::binary().display(),
        home.data_dir().display()
    );
    let mut child = without_settings("sh")
        .args(["-c", &script])
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let lines = std::io::BufRead::lines(std::io::BufReader::new(child.stderr.take().unwrap()));
    let mut log = String::new();
    for line in lines {
        let line = line.unwrap();
        log.push_str(&line);
        log.push('\n');
        if line.contains("Listening on") {
            break;
        }
    }
    let limits = fs::read_to_string(format!("/proc/{}/limits", child.id())).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let open = limits
        .lines()
        .find(|line| line.starts_with("Max open files"))
        .unwrap();
    let numbers: Vec<_> = open
        .split_whitespace()
        .filter_map(|word| word.parse::<u64>().ok())
        .collect();
    assert_eq!(numbers, [700, 700], "{limits}");
    assert!(
        log.contains("too few descriptors") && log.contains("connections=444"),
        "{log}"
    );
}

/// A small file system of its own; nothing where this process may not make one, which is said.
struct Disk(PathBuf);

impl Disk {
    #[expect(
        clippy::print_stderr,
        reason = "whoever reads the results has to see that this was left out"
    )]
    fn mount(home: &Home) -> Option<Self> {
        let path = home.path().join("disk");
        fs::create_dir_all(&path).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=24m", "tmpfs"])
            .arg(&path)
            .output();
        match mounted {
            Ok(done) if done.status.success() => Some(Self(path)),
            other => {
                eprintln!("SKIPPED: no small disk can be mounted here: {other:?}");
                None
            }
        }
    }

    /// Writes until nothing more fits but `spare` bytes.
    fn fill(&self, spare: u64) -> PathBuf {
        let path = self.0.join("ballast");
        let mut file = fs::File::create(&path).unwrap();
        let block = vec![7; 64 * 1024];
        while file.write_all(&block).is_ok() {}
        let length = file.metadata().unwrap().len();
        file.set_len(length.saturating_sub(spare)).unwrap();
        path
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn disk_is(node: &TestNode, state: &str) -> bool {
    Request::get("/ready").send(node).json()["parts"]["disk"] == state
}

fn on(dir: &Path, args: &[&str]) -> kairos_tests::Ended {
    let data = dir.to_str().unwrap();
    Call::new(args.iter().copied().chain(["--data-dir", data])).run()
}

#[test]
fn a_full_disk_refuses_what_is_written_and_nothing_else_until_there_is_room() {
    let home = Home::new();
    let Some(disk) = Disk::mount(&home) else {
        return;
    };
    let dir = disk.0.join("agent");
    let node = TestNode::builder()
        .data_dir(&dir)
        .set("limits.disk_reserve", "4MiB")
        .start();
    let token = TestPeer::new("before").session(&node);
    let reflect = || {
        Request::post("/meeting/v1/reflect")
            .token(&token)
            .json(&json!({"reflection": "x"}))
    };
    reflect().send(&node).ok();
    let before = on(&dir, &["--json", "chain", "verify"]).done();
    let ballast = disk.fill(1024 * 1024);
    eventually("the disk is full", || disk_is(&node, "full").then_some(()));
    let told = Request::get("/ready").send(&node);
    assert_eq!(told.status, 503);
    let told = told.json();
    assert_eq!(told["not_ready"][0]["part"], "disk", "{told}");
    assert!(
        told["not_ready"][0]["reason"]
            .as_str()
            .unwrap()
            .contains("limits.disk_reserve"),
        "{told}"
    );
    assert_eq!(Request::get("/health").send(&node).ok()["ready"], false);
    let refused = reflect().send(&node);
    refused.refused(507, "storage_full");
    assert!(refused.headers.contains("retry-after: "), "{refused:?}");
    // What is there is read, and whoever is known is let in.
    Request::get("/meeting/v1/skills")
        .token(&token)
        .send(&node)
        .ok();
    Request::get("/meeting/v1/introduce").send(&node).ok();
    let checked = on(&dir, &["health"]);
    assert!(
        checked.code == 1 && checked.stdout.contains("disk: "),
        "{checked:?}"
    );
    fs::remove_file(&ballast).unwrap();
    eventually("there is room again", || disk_is(&node, "ok").then_some(()));
    reflect().send(&node).ok();
    // Not a byte is left, and no reserve keeps anybody from finding out.
    assert_eq!(node.stop().code(), Some(0));
    let node = TestNode::builder()
        .data_dir(&dir)
        .set("limits.disk_reserve", "0")
        .start();
    let owner = on(
        &dir,
        &["token", "create", "--user", "ops", "--role", "owner"],
    )
    .done();
    let propose = |name: &str| {
        let change = json!({"kind": "knowledge_create", "name": name});
        let text = format!(
            "---\nname: {name}\ndescription: d\n---\n\n{}\n",
            "x".repeat(40_000)
        );
        let body = json!({"change": change, "content": text, "reason": "r"});
        Request::post("/api/v1/approvals")
            .token(owner.trim())
            .json(&body)
            .send(&node)
    };
    assert_eq!(propose("first").status, 200, "{:?}", propose("first"));
    let ballast = disk.fill(0);
    let refused = propose("second");
    assert_eq!(refused.status, 507, "{}", refused.text());
    Request::get("/meeting/v1/introduce").send(&node).ok();
    on(&dir, &["chain", "record", &"y".repeat(4000)]).failed(1);
    fs::remove_file(&ballast).unwrap();
    assert_eq!(propose("third").status, 200);
    on(&dir, &["chain", "record", "after"]).done();
    let after = on(&dir, &["--json", "chain", "verify"]).done();
    let valid = |text: &str| serde_json::from_str::<Value>(text).unwrap()["valid"].clone();
    assert_eq!((valid(&before), valid(&after)), (json!(true), json!(true)));
    assert_eq!(node.stop().code(), Some(0));
}

#[test]
fn a_log_in_json_has_the_same_members_in_each_line() {
    let home = Home::initialized();
    let node = TestNode::builder()
        .home(&home)
        .env("KAIROS_LOG__FORMAT", "json")
        .start();
    let token = owner(&home);
    node.signal("HUP");
    let line = eventually("it tells of the settings", || {
        let log = node.log();
        log.lines()
            .find(|line| line.contains("read again"))
            .map(str::to_owned)
    });
    let told: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(told["level"], "INFO", "{told}");
    assert_eq!(told["fields"]["message"], "the settings were read again");
    assert_eq!(told["fields"]["needs_restart"], "nothing");
    assert!(
        told["timestamp"].is_string() && told["target"].is_string(),
        "{told}"
    );
    assert!(!node.log().contains(&token));
}
