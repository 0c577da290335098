use kairos_protocol::time::ManualClock;
use serde_json::Value;

use super::*;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

/// A tracer without a collector, and what it would tell.
fn tracer(percent: u32, queue: usize) -> (Tracer, mpsc::Receiver<Finished>) {
    let (queue, waiting) = mpsc::channel(queue);
    let tracer = Tracer::default();
    let recording = Recording {
        percent,
        clock: Arc::new(ManualClock::new(Timestamp::from_secs(1_800_000_000))),
        queue,
        counts: Arc::default(),
    };
    assert!(tracer.0.set(recording).is_ok());
    (tracer, waiting)
}

fn caller(flags: &str) -> Option<Context> {
    Context::parse(&format!("00-{TRACE}-{PARENT}-{flags}"))
}

fn name() -> String {
    "GET /x".to_owned()
}

#[test]
fn the_header_is_read_as_it_is_written_and_nothing_else_is() {
    let context = caller("01").unwrap();
    assert_eq!(context.header(), format!("00-{TRACE}-{PARENT}-01"));
    assert_eq!(
        caller("00").unwrap().header(),
        format!("00-{TRACE}-{PARENT}-00")
    );
    // What later versions add is no concern of ours.
    assert!(Context::parse(&format!("cc-{TRACE}-{PARENT}-01-more")).is_some());
    let zero = "0".repeat(32);
    for wrong in [
        String::new(),
        TRACE.to_owned(),
        format!("ff-{TRACE}-{PARENT}-01"),
        format!("00-{zero}-{PARENT}-01"),
        format!("00-{TRACE}-{}-01", "0".repeat(16)),
        format!("00-{TRACE}-{PARENT}-01-more"),
        format!("00-{TRACE}-{PARENT}-0"),
        format!("00-{TRACE}-{PARENT}_01"),
        format!("00-{}-{PARENT}-01", TRACE.to_uppercase()),
        format!("cc-{TRACE}-{PARENT}-01more"),
        format!("00-{TRACE}{PARENT}-01---"),
        "é".repeat(40),
    ] {
        assert_eq!(Context::parse(&wrong), None, "{wrong}");
    }
}

#[test]
fn a_tracer_that_is_off_makes_nothing() {
    let tracer = Tracer::default();
    assert!(
        tracer
            .span(
                Kind::Server,
                || unreachable!("nobody asks for a name"),
                caller("01")
            )
            .is_none()
    );
    assert_eq!(tracer.figures(), Figures::default());
}

#[tokio::test]
async fn a_span_belongs_to_its_caller_or_to_the_work_that_it_is_part_of() {
    let (tracer, mut waiting) = tracer(100, 8);
    let door = tracer.span(Kind::Server, name, caller("00")).unwrap();
    let inner = within(door.context().unwrap(), async {
        let asks = tracer.span(Kind::Client, name, None).unwrap();
        let context = asks.context().unwrap();
        asks.end(false);
        context
    });
    let asked = inner.await;
    let outside = tracer
        .span(Kind::Client, name, None)
        .unwrap()
        .context()
        .unwrap();
    let asks = waiting.try_recv().unwrap();
    assert_eq!(
        (asks.context, asks.parent, asks.failed),
        (asked, door.context(), false)
    );
    assert_eq!(asked.trace_id(), TRACE);
    // Nobody ended it.
    let alone = waiting.try_recv().unwrap();
    assert_eq!(
        (alone.context, alone.parent, alone.failed),
        (outside, None, true)
    );
    assert_ne!(outside.trace_id(), TRACE);
    door.end(false);
    assert_eq!(waiting.try_recv().unwrap().parent, caller("00"));
}

#[test]
fn our_setting_decides_what_is_kept_and_no_flag_of_others() {
    for flags in ["00", "01"] {
        let (none, mut waiting) = tracer(0, 8);
        let span = none.span(Kind::Server, name, caller(flags)).unwrap();
        assert!(span.context().unwrap().header().ends_with("-00"));
        drop(span);
        assert!(waiting.try_recv().is_err());
        let (all, mut waiting) = tracer(100, 8);
        let span = all.span(Kind::Server, name, caller(flags)).unwrap();
        assert!(span.context().unwrap().header().ends_with("-01"));
        drop(span);
        assert!(waiting.try_recv().is_ok());
    }
    // A part of many, and for the whole of a trace the same.
    let (some, _waiting) = tracer(25, 8);
    let mut kept = 0;
    for _ in 0..2_000 {
        let first = some
            .span(Kind::Server, name, None)
            .unwrap()
            .context()
            .unwrap();
        let next = some
            .span(Kind::Client, name, Some(first))
            .unwrap()
            .context()
            .unwrap();
        assert_eq!(first.is_kept(), next.is_kept());
        kept += u32::from(first.is_kept());
    }
    assert!((350..650).contains(&kept), "{kept} of 2000");
}

#[test]
fn what_finds_no_room_is_counted() {
    let (tracer, waiting) = tracer(100, 2);
    for _ in 0..5 {
        drop(tracer.span(Kind::Server, name, None));
    }
    let figures = tracer.figures();
    assert_eq!(
        (figures.waiting, figures.exported, figures.dropped),
        (2, 0, 3)
    );
    drop(waiting);
    drop(tracer.span(Kind::Server, name, None));
    assert_eq!(tracer.figures().dropped, 4);
}

#[test]
fn spans_are_told_in_the_form_of_otlp() {
    let (tracer, mut waiting) = tracer(100, 2);
    let mut span = tracer.span(Kind::Client, name, caller("01")).unwrap();
    span.note("http.response.status_code", Attribute::Number(503));
    span.note("server.address", Attribute::Text("host".to_owned()));
    span.end(true);
    let mut finished = waiting.try_recv().unwrap();
    finished.took = Duration::from_micros(1_500);
    let teller = Teller {
        agent: "agent-a".to_owned(),
        version: "1.2.3",
    };
    let told: Value = serde_json::from_str(&otlp::body(&teller, &[finished.clone()])).unwrap();
    let resource = &told["resourceSpans"][0];
    assert_eq!(
        resource["resource"]["attributes"][2],
        serde_json::json!({"key": "service.instance.id", "value": {"stringValue": "agent-a"}})
    );
    let span = &resource["scopeSpans"][0]["spans"][0];
    let expected = serde_json::json!({
        "traceId": TRACE, "spanId": finished.context.span_id(), "name": "GET /x", "kind": 3,
        "startTimeUnixNano": "1800000000000000000", "endTimeUnixNano": "1800000000001500000",
        "attributes": [
            {"key": "http.response.status_code", "value": {"intValue": "503"}},
            {"key": "server.address", "value": {"stringValue": "host"}},
        ],
        "parentSpanId": PARENT, "status": {"code": 2},
    });
    assert_eq!(span, &expected);
}
