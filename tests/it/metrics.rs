//! Figures for Prometheus: who may read them, and that they are those that the handbook names.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;

use kairos_tests::{Home, Reply, Request, TestNode, TestPeer, connect, eventually, finish};

/// The names in the tables of the handbook, with their types.
fn documented() -> BTreeMap<String, String> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
    let page = fs::read_to_string(page).unwrap();
    let row = |line: &str| {
        let mut cells = line.strip_prefix("| `")?.split('|').map(str::trim);
        let name = cells.next()?.trim_end_matches('`').to_owned();
        Some((name, cells.next()?.to_owned()))
    };
    page.lines().filter_map(row).collect()
}

/// The names that are served, with their types.
fn served(text: &str) -> BTreeMap<String, String> {
    let row = |line: &str| {
        let (name, kind) = line.strip_prefix("# TYPE ")?.split_once(' ')?;
        Some((name.to_owned(), kind.to_owned()))
    };
    text.lines().filter_map(row).collect()
}

fn guest(home: &Home) -> String {
    let args = ["token", "create", "--user", "prometheus", "--role", "guest"];
    home.run(args).done().trim().to_owned()
}

fn figures(node: &TestNode, token: &str) -> String {
    let reply = Request::get("/api/v1/metrics").token(token).send(node);
    assert_eq!(reply.status, 200, "{reply:?}");
    assert!(
        reply
            .headers
            .contains("content-type: text/plain; version=0.0.4")
    );
    String::from_utf8(reply.body).unwrap()
}

fn get_at(address: SocketAddr, path: &str, host: &str) -> Reply {
    let mut stream = connect(address);
    let head = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    finish(&mut stream)
}

/// The value of the series that is written like this.
fn value(text: &str, series: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(series))?;
    Some(line.trim().parse().unwrap())
}

#[test]
fn every_figure_in_the_handbook_is_served_and_no_other_one() {
    let home = Home::initialized();
    let node = TestNode::builder()
        .home(&home)
        .arg("--place")
        .arg("--p2p")
        .set("p2p.listen", "/ip4/127.0.0.1/tcp/0")
        .set("p2p.mdns", "false")
        .start();
    let token = guest(&home);
    Request::get("/nowhere")
        .send(&node)
        .refused(404, "not_found");
    // The watchdog has asked once.
    let text = eventually("the watchdog has asked", || {
        let text = figures(&node, &token);
        text.contains("kairos_part_answer_seconds{").then_some(text)
    });
    let (documented, served) = (documented(), served(&text));
    let missing: BTreeSet<_> = documented
        .keys()
        .filter(|name| !served.contains_key(*name))
        .collect();
    let unknown: BTreeSet<_> = served
        .keys()
        .filter(|name| !documented.contains_key(*name))
        .collect();
    assert!(
        missing.is_empty() && unknown.is_empty(),
        "missing {missing:?}, unknown {unknown:?}\n{text}"
    );
    assert_eq!(documented, served);
    // A format that others read: each line is a comment or a series with one value, and no name is described twice.
    let types = text.lines().filter(|line| line.starts_with("# TYPE "));
    assert_eq!(types.count(), served.len());
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (series, value) = line.rsplit_once(' ').unwrap();
        assert!(value.parse::<f64>().is_ok(), "{line}");
        let name = series.split('{').next().unwrap();
        let family = ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|end| name.strip_suffix(end));
        assert!(
            served.contains_key(name) || family.is_some_and(|f| served.contains_key(f)),
            "{line}"
        );
    }
}

#[test]
fn what_happens_is_counted_and_what_others_make_up_takes_no_room() {
    let home = Home::initialized();
    let node = TestNode::builder().home(&home).start();
    let token = guest(&home);
    home.run(["chain", "record", "the ledger begins"]).done();
    let before = figures(&node, &token);
    let session = TestPeer::new("counted").session(&node);
    for n in 0..20 {
        Request::get(&format!("/meeting/v1/made-up-{n}"))
            .token(&session)
            .send(&node);
        Request::new(&format!("MADE{n}"), &format!("/up-{n}")).send(&node);
    }
    Request::get("/meeting/v1/skills")
        .send(&node)
        .refused(401, "authentication_required");
    home.run(["chain", "record", "something"]).done();
    let after = figures(&node, &token);
    let grew =
        |series: &str| value(&after, series).unwrap_or(0.0) - value(&before, series).unwrap_or(0.0);
    assert_eq!(
        grew(
            r#"kairos_http_requests_total{route="/meeting/v1/introduce",method="POST",status="2xx"}"#
        ),
        1.0
    );
    assert_eq!(
        grew(r#"kairos_http_requests_total{route="/meeting/v1/skills",method="GET",status="4xx"}"#),
        1.0
    );
    assert_eq!(
        grew(r#"kairos_http_requests_total{route="unmatched",method="GET",status="4xx"}"#),
        20.0
    );
    assert_eq!(
        grew(r#"kairos_http_requests_total{route="unmatched",method="other",status="4xx"}"#),
        20.0
    );
    assert_eq!(
        grew(r#"kairos_refusals_total{reason="authentication_required"}"#),
        1.0
    );
    assert_eq!(grew("kairos_sessions "), 1.0);
    assert_eq!(grew(r#"kairos_peers{trust="seen"}"#), 1.0);
    assert_eq!(
        grew("kairos_ledger_blocks "),
        1.0,
        "another process wrote it"
    );
    assert!(grew(r#"kairos_actor_answer_seconds_count{actor="peers"}"#) >= 1.0);
    assert!(
        !after.contains("made-up") && !after.contains("MADE"),
        "{after}"
    );
    assert_eq!(value(&after, "kairos_scrape_missing "), Some(0.0));
    assert_eq!(value(&after, "kairos_place_hosted "), Some(0.0));
    let pid = node.pid();
    let open = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    let told = value(&after, "process_open_fds ").unwrap();
    assert!((told - open as f64).abs() < 10.0, "{told} of {open}");
}

#[test]
fn the_port_that_strangers_reach_shows_none_and_the_other_one_nothing_else() {
    let node = TestNode::builder()
        .set("metrics.enabled", "true")
        .set("metrics.port", "0")
        .start();
    Request::get("/metrics")
        .send(&node)
        .refused(404, "not_found");
    Request::get("/api/v1/metrics")
        .send(&node)
        .refused(401, "missing_token");
    let log = node.log();
    let (_, address) = log.split_once("Figures at http://").unwrap();
    let address = address.split('/').next().unwrap().parse().unwrap();
    let shown = get_at(address, "/metrics", "localhost");
    assert_eq!(shown.status, 200);
    assert!(
        String::from_utf8(shown.body)
            .unwrap()
            .contains("kairos_ledger_blocks")
    );
    get_at(address, "/metrics", "evil.example").refused(404, "not_found");
    for path in ["/", "/health", "/meeting/v1/introduce", "/api/v1/metrics"] {
        get_at(address, path, "localhost").refused(404, "not_found");
    }
    let quiet = TestNode::start();
    assert!(!quiet.log().contains("Figures at"), "{}", quiet.log());
}

#[test]
fn a_port_for_figures_that_is_taken_is_said_so() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = format!("metrics.port={}", taken.local_addr().unwrap().port());
    let home = Home::initialized();
    let args = [
        "serve",
        "--port",
        "0",
        "--set",
        "metrics.enabled=true",
        "--set",
        &port,
    ];
    let error = home.run(args).failed(1);
    assert!(
        error.contains("choose another for metrics.host and metrics.port"),
        "{error}"
    );
}
