//! Traces: a collector sees which requests belong together, on both sides of the hop from node to node.

use std::sync::{Arc, Mutex};

use kairos_tests::{Builder, Home, Request, Stranger, TestNode, eventually};
use serde_json::Value;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

/// A collector of OpenTelemetry that takes everything.
struct Collector {
    server: Stranger,
    told: Arc<Mutex<Vec<Value>>>,
}

/// What it was told about one request.
#[derive(Debug, Clone)]
struct Span {
    /// The agent that tells.
    agent: String,
    span: Value,
}

impl Span {
    fn text(&self, member: &str) -> &str {
        self.span[member].as_str().unwrap_or_default()
    }

    fn attribute(&self, name: &str) -> Option<&Value> {
        let all = self.span["attributes"].as_array()?;
        Some(&all.iter().find(|one| one["key"] == name)?["value"])
    }
}

impl Collector {
    fn start() -> Self {
        let told = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&told);
        let server = Stranger::start(move |asked| {
            assert_eq!(
                (asked.what.as_str(), asked.token.as_deref()),
                ("POST /v1/traces", None)
            );
            kept.lock().unwrap().push(asked.body.clone());
            asked.json(&serde_json::json!({"partialSuccess": {}}));
        });
        Self { server, told }
    }

    fn spans(&self) -> Vec<Span> {
        let told = self.told.lock().unwrap();
        let resources = told
            .iter()
            .flat_map(|body| body["resourceSpans"].as_array().unwrap());
        let spans = resources.flat_map(|resource| {
            let attributes = resource["resource"]["attributes"].as_array().unwrap();
            let instance = attributes
                .iter()
                .find(|one| one["key"] == "service.instance.id");
            let agent = instance.unwrap()["value"]["stringValue"].as_str().unwrap();
            let spans = resource["scopeSpans"][0]["spans"].as_array().unwrap();
            spans.iter().map(|span| Span {
                agent: agent.to_owned(),
                span: span.clone(),
            })
        });
        spans.collect()
    }
}

/// A node that tells everything to whoever is at `url`.
fn telling(builder: Builder, url: &str) -> Builder {
    builder
        .set("traces.enabled", "true")
        .set("traces.endpoint", &format!("{url}/v1/traces"))
        .set("traces.percent", "100")
        .set("traces.interval", "1s")
        .set("traces.timeout", "1s")
}

fn id(node: &TestNode) -> String {
    let told = Request::get("/meeting/v1/introduce").send(node).ok();
    told["identity"]["instance_id"].as_str().unwrap().to_owned()
}

#[test]
fn one_trace_spans_the_hop_from_an_agent_to_its_place() {
    let collector = Collector::start();
    let url = collector.server.url();
    let place = telling(TestNode::builder().arg("--place"), &url).start();
    let home = Home::initialized();
    home.run(["place", "join", &place.url("")]).done();
    let agent = telling(TestNode::builder().home(&home), &url).start();
    let (asks, answers) = (id(&agent), id(&place));
    assert_ne!(asks, answers);
    // The agent lives at the Place by itself.
    let (asked, answered) = eventually("both sides of a request", || {
        let spans = collector.spans();
        let of = |kind: u64, agent: &str| {
            let wanted = |span: &&Span| span.span["kind"] == kind && span.agent == agent;
            spans.iter().filter(wanted).cloned().collect::<Vec<_>>()
        };
        let clients = of(3, &asks);
        let servers = of(2, &answers);
        servers.into_iter().find_map(|server| {
            let caller = clients
                .iter()
                .find(|client| client.text("spanId") == server.text("parentSpanId"))?;
            Some((caller.clone(), server))
        })
    });
    assert_eq!(asked.text("traceId"), answered.text("traceId"));
    assert_ne!(asked.text("spanId"), answered.text("spanId"));
    assert_eq!(
        asked.text("name").split('/').next(),
        answered.text("name").split('/').next()
    );
    assert!(asked.text("name").contains(" /place/v1/"), "{asked:?}");
    let status = |span: &Span| span.attribute("http.response.status_code").cloned();
    assert_eq!(status(&asked), status(&answered));
    assert!(status(&asked).is_some());
    let time = |span: &Span, member: &str| span.text(member).parse::<u128>().unwrap();
    for span in [&asked, &answered] {
        assert!(
            time(span, "startTimeUnixNano") <= time(span, "endTimeUnixNano"),
            "{span:?}"
        );
    }
    // Nobody is named in them, and nothing that opens a door is.
    let told = format!("{:?}", collector.told.lock().unwrap());
    assert!(
        !told.contains("Bearer") && !told.contains("session"),
        "{told}"
    );
    // What is left when it stops is told as well.
    let before = collector.spans().len();
    Request::get("/meeting/v1/introduce").send(&agent).ok();
    assert!(agent.stop().success());
    assert!(collector.spans().len() > before);
}

fn ask(node: &TestNode, traceparent: &str) {
    let request = Request::get("/meeting/v1/introduce");
    request.header("traceparent", traceparent).send(node).ok();
}

#[test]
fn a_strangers_flag_decides_nothing_and_what_is_no_header_is_passed_over() {
    let collector = Collector::start();
    let node = telling(TestNode::builder(), &collector.server.url()).start();
    ask(&node, &format!("00-{TRACE}-{PARENT}-00"));
    ask(&node, "00-nonsense");
    assert!(node.stop().success());
    let spans = collector.spans();
    let [told, other] = spans.as_slice() else {
        panic!("{spans:?}");
    };
    assert_eq!(
        (told.text("traceId"), told.text("parentSpanId")),
        (TRACE, PARENT)
    );
    assert_eq!(
        (told.text("name"), &told.span["kind"]),
        ("GET /meeting/v1/introduce", &Value::from(2))
    );
    assert_ne!(other.text("traceId"), TRACE);
    assert_eq!(other.span.get("parentSpanId"), None);

    let quiet = Collector::start();
    let node = telling(TestNode::builder(), &quiet.server.url());
    let node = node.set("traces.percent", "0").start();
    ask(&node, &format!("00-{TRACE}-{PARENT}-01"));
    assert!(node.stop().success());
    assert_eq!(quiet.spans().len(), 0);
}

#[test]
fn a_collector_that_is_away_costs_spans_and_nothing_else() {
    let stuck = Stranger::start(|asked| asked.wait());
    for url in ["http://127.0.0.1:1", &stuck.url()] {
        let node = telling(TestNode::builder(), url)
            .set("traces.queue", "16")
            .set("metrics.enabled", "true")
            .set("metrics.port", "0")
            .start();
        let figures = eventually("figures", || {
            let log = node.log();
            let (_, rest) = log.split_once("Figures at http://")?;
            rest.split('/').next()?.parse().ok()
        });
        for _ in 0..40 {
            Request::get("/health").send(&node).ok();
        }
        let dropped = eventually("spans are lost", || {
            let request = Request::get("/metrics");
            let shown = request.send_to(figures)?.text();
            let mut lines = shown.lines();
            let line =
                lines.find_map(|line| line.strip_prefix("kairos_trace_spans_dropped_total "))?;
            line.parse().ok().filter(|count: &f64| *count >= 24.0)
        });
        assert!(dropped <= 41.0, "{dropped}");
        assert!(node.stop().success());
    }
}

#[test]
fn without_being_asked_to_a_node_tells_nobody_and_says_nothing() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&heard);
    let peer = Stranger::start(move |asked| {
        kept.lock().unwrap().push(asked.what.clone());
        asked.json(&Value::Null);
    });
    let endpoint = format!("{}/v1/traces", peer.url());
    let node = TestNode::builder()
        .set("traces.endpoint", &endpoint)
        .start();
    ask(&node, &format!("00-{TRACE}-{PARENT}-01"));
    assert!(node.stop().success());
    assert_eq!(*heard.lock().unwrap(), [""; 0]);
    let home = Home::initialized();
    let wrong = [
        "--set",
        "traces.endpoint=http://user:password@host/",
        "config",
        "show",
    ];
    let told = home.run(wrong).failed(2);
    assert!(told.contains("without a user in it"), "{told}");
}
