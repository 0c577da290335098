//! Requests as parts of traces: what is told of them, and what the other side is told.

use reqwest::header::HeaderName;
use reqwest::{Method, RequestBuilder, StatusCode};
use url::Url;

use crate::trace::{Attribute, HEADER, Span};

/// Endpoints below which there are further ones with names of their own; behind any other there are names of agents and
/// skills, which are nobody's business.
const GROUPS: [&str; 2] = ["board", "relay"];

/// A request about to be sent, and its part of a trace.
pub(super) struct Asking {
    pub(super) request: RequestBuilder,
    pub(super) span: Option<Span>,
}

impl Asking {
    /// Tells the other side which trace the request belongs to, if to any.
    pub(super) fn new(request: RequestBuilder, span: Option<Span>) -> Self {
        let context = span.as_ref().and_then(Span::context);
        let request = match context {
            Some(context) => request.header(HEADER, context.header()),
            None => request,
        };
        Self { request, span }
    }

    pub(super) fn header(self, name: HeaderName, value: &str) -> Self {
        Self {
            request: self.request.header(name, value),
            ..self
        }
    }
}

/// What is asked, without names: `POST /place/v1/relay/send`.
pub(super) fn operation(method: &Method, url: &Url) -> String {
    let mut name = method.to_string();
    name.push(' ');
    let mut segments = url.path_segments().into_iter().flatten();
    // Whatever is in front of it is where the node is.
    let mut before = "";
    for segment in segments.by_ref() {
        if segment == "v1" {
            break;
        }
        before = segment;
    }
    name.push_str(&format!("/{before}/v1"));
    if let Some(endpoint) = segments.next() {
        name.push_str(&format!("/{endpoint}"));
        if GROUPS.contains(&endpoint)
            && let Some(part) = segments.next()
        {
            name.push_str(&format!("/{part}"));
        }
    }
    name
}

/// Notes whom is asked.
pub(super) fn describe(mut span: Span, method: &Method, url: &Url) -> Span {
    span.note("http.request.method", Attribute::Text(method.to_string()));
    if let Some(host) = url.host_str() {
        span.note("server.address", Attribute::Text(host.to_owned()));
    }
    if let Some(port) = url.port_or_known_default() {
        span.note("server.port", Attribute::Number(port.into()));
    }
    span
}

/// Notes what was answered.
pub(super) fn answered(mut span: Span, status: StatusCode) -> Span {
    let status = Attribute::Number(status.as_u16().into());
    span.note("http.response.status_code", status);
    span
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_is_named_without_anybodys_name() {
        let name = |url: &str| operation(&Method::GET, &url.parse().unwrap());
        for (url, expected) in [
            ("http://a/place/v1/relay/send", "GET /place/v1/relay/send"),
            (
                "http://a/under/it/place/v1/board/browse?search=x",
                "GET /place/v1/board/browse",
            ),
            ("http://a/place/v1/prekeys/0123", "GET /place/v1/prekeys"),
            ("http://a/meeting/v1/introduce", "GET /meeting/v1/introduce"),
        ] {
            assert_eq!(name(url), expected);
        }
    }
}
