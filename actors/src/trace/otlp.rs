//! Spans as a collector of OpenTelemetry takes them: OTLP in its JSON form.

use kairos_protocol::time::Timestamp;
use serde_json::{Value, json};

use super::{Attribute, Finished, Kind, Teller};

/// The name of the program in what is told.
const SERVICE: &str = "kairos-chain";
/// A span whose request failed.
const FAILED: u8 = 2;

/// The body of one request to the collector.
pub(super) fn body(teller: &Teller, spans: &[Finished]) -> String {
    let text = |name: &str, value: &str| json!({"key": name, "value": {"stringValue": value}});
    let told = json!({"resourceSpans": [{
        "resource": {"attributes": [
            text("service.name", SERVICE),
            text("service.version", teller.version),
            text("service.instance.id", &teller.agent),
        ]},
        "scopeSpans": [{
            "scope": {"name": SERVICE, "version": teller.version},
            "spans": spans.iter().map(span).collect::<Vec<_>>(),
        }],
    }]});
    told.to_string()
}

fn span(span: &Finished) -> Value {
    let begin = span.at.since(Timestamp::EPOCH).as_nanos();
    let attributes: Vec<Value> = span
        .attributes
        .iter()
        .map(|(name, value)| json!({"key": name, "value": value.told()}))
        .collect();
    let mut told = json!({
        "traceId": span.context.trace_id(), "spanId": span.context.span_id(), "name": span.name,
        "kind": match span.kind {
            Kind::Server => 2,
            Kind::Client => 3,
        },
        "startTimeUnixNano": begin.to_string(), "endTimeUnixNano": (begin + span.took.as_nanos()).to_string(),
        "attributes": attributes,
    });
    if let Value::Object(members) = &mut told {
        if let Some(parent) = span.parent {
            members.insert("parentSpanId".to_owned(), parent.span_id().into());
        }
        if span.failed {
            members.insert("status".to_owned(), json!({ "code": FAILED }));
        }
    }
    told
}

impl Attribute {
    /// Numbers of 64 bits are texts in the JSON form of protocol buffers.
    fn told(&self) -> Value {
        match self {
            Self::Text(text) => json!({ "stringValue": text }),
            Self::Number(number) => json!({ "intValue": number.to_string() }),
        }
    }
}
