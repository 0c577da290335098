//! An answer of ours to a recorded request, and how it compares with the recorded one.

use std::collections::HashMap;

use kairos_tests::TestNode;
use reqwest::{Client, Method};
use serde_json::Value;

use super::compare::{ABSENT, Findings};
use super::recording::{Exchange, Response};

/// An answer of ours.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HashMap<String, String>,
    pub(super) body: String,
}

impl Answer {
    /// Sends `body` as a recorded request was sent, with `token` in the place of the recorded one.
    pub(super) async fn to(
        client: &Client,
        node: &TestNode,
        row: &Exchange,
        body: Vec<u8>,
        token: Option<&str>,
    ) -> Self {
        let method = Method::from_bytes(row.request.method.as_bytes()).unwrap();
        let mut request = client
            .request(method, node.url(&row.request.path))
            .body(body);
        for (name, value) in &row.request.headers {
            let value = match (bearer(row), token) {
                (Some(recorded), Some(ours)) if name == "authorization" => {
                    value.replace(recorded, ours)
                }
                _ => value.clone(),
            };
            request = request.header(name, value);
        }
        let response = request.send().await.unwrap();
        Self {
            status: response.status().as_u16(),
            headers: response
                .headers()
                .iter()
                .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
                .collect(),
            body: response.text().await.unwrap(),
        }
    }

    /// Puts down how it differs from the recorded one, whose body is expected to be `body`.
    pub(super) fn compare(&self, recorded: &Response, body: &str, findings: &mut Findings<'_>) {
        if self.status == recorded.status {
            for (name, value) in &recorded.headers {
                // The recorder shortened paths, and with them bodies.
                if name != "content-length" {
                    let ours = self.headers.get(name).map_or(ABSENT, String::as_str);
                    findings.put(&format!("header {name}"), value, ours);
                }
            }
            findings.texts("", body, &self.body);
        } else {
            let told = |status: u16, body: &str| format!("{status} {}", error_code(body));
            findings.put(
                "status",
                told(recorded.status, &recorded.body).trim_end(),
                told(self.status, &self.body).trim_end(),
            );
        }
    }
}

/// Reads the token of a recorded request.
pub(super) fn bearer(row: &Exchange) -> Option<&str> {
    let (_, token) = row.request.headers.get("authorization")?.split_once(' ')?;
    Some(token.trim()).filter(|token| !token.is_empty())
}

/// Reads the token that an answer gives.
pub(super) fn session_token(body: &str) -> Option<String> {
    let body: Value = serde_json::from_str(body).ok()?;
    Some(body.get("session_token")?.as_str()?.to_owned())
}

fn error_code(body: &str) -> String {
    let body: Value = serde_json::from_str(body).unwrap_or_default();
    body["error"].as_str().unwrap_or_default().to_owned()
}
