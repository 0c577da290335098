//! Requests to the node, and what may come of one.

use std::time::Duration;

use anyhow::Context as _;
use kairos_protocol::wire::place::Members;
use reqwest::Method;
use serde_json::Value;
use url::Url;

/// Longest word of a reply that is shown.
const SHOWN: usize = 200;

/// Why an operation did not end as it should.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// The node says no. That is its right, though not what was hoped for.
    Refused {
        /// HTTP status.
        status: u16,
        /// The member `error` of the answer.
        code: String,
    },
    /// There is no answer, so nobody knows whether it was done.
    Unanswered(&'static str),
    /// The node said something that is not true, or that nobody can read.
    Wrong(String),
    /// This program could not do its part.
    Own(String),
}

impl Trouble {
    /// In few words, of which there are few different ones.
    pub(crate) fn reason(&self) -> String {
        match self {
            Self::Refused { status, code } => format!("{status} {code}"),
            Self::Unanswered(what) => format!("no answer: {what}"),
            Self::Wrong(_) => "wrong".to_owned(),
            Self::Own(_) => "failed on this side".to_owned(),
        }
    }

    /// A failure of this program.
    pub(crate) fn own(error: impl std::fmt::Display) -> Self {
        Self::Own(error.to_string())
    }
}

/// Speaks to one node.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    base: String,
}

/// A request about to be sent.
#[derive(Debug, Clone)]
pub(crate) struct Ask<'a> {
    method: Method,
    path: &'a str,
    token: Option<&'a str>,
    body: Option<&'a Value>,
    status: u16,
}

impl<'a> Ask<'a> {
    pub(crate) fn get(path: &'a str) -> Self {
        Self {
            method: Method::GET,
            path,
            token: None,
            body: None,
            status: 200,
        }
    }

    pub(crate) fn post(path: &'a str, body: &'a Value) -> Self {
        Self {
            method: Method::POST,
            body: Some(body),
            ..Self::get(path)
        }
    }

    /// Speaks for a session.
    pub(crate) fn token(self, token: &'a str) -> Self {
        Self {
            token: Some(token),
            ..self
        }
    }

    /// The status that a good answer has, 200 if nothing is said.
    pub(crate) fn expect(self, status: u16) -> Self {
        Self { status, ..self }
    }
}

impl Client {
    /// Waits at most `patience` for each answer.
    pub(crate) fn new(base: &Url, patience: Duration) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder()
            .no_proxy()
            .timeout(patience)
            .tcp_nodelay(true)
            .build()
            .context("cannot make a client")?;
        let base = base.as_str().trim_end_matches('/').to_owned();
        Ok(Self { http, base })
    }

    /// Where the node is.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// Sends a request; the answer must have the status that was expected, and be a JSON object.
    pub(crate) async fn send(&self, ask: Ask<'_>) -> Result<Members, Trouble> {
        let url = format!("{}{}", self.base, ask.path);
        let mut request = self.http.request(ask.method, url);
        if let Some(token) = ask.token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = ask.body {
            request = request.json(body);
        }
        let answer = request.send().await.map_err(|error| unanswered(&error))?;
        let status = answer.status().as_u16();
        let bytes = answer.bytes().await.map_err(|error| unanswered(&error))?;
        let read = serde_json::from_slice(&bytes);
        if status != ask.status {
            let code = read.ok().and_then(|body: Value| {
                let code = body.get("error")?.as_str()?;
                Some(code.chars().take(SHOWN).collect())
            });
            let code = code.unwrap_or_else(|| "without a reason".to_owned());
            return Err(Trouble::Refused { status, code });
        }
        match read {
            Ok(Value::Object(members)) => Ok(members),
            _ => {
                let text: String = String::from_utf8_lossy(&bytes)
                    .chars()
                    .take(SHOWN)
                    .collect();
                let path = ask.path;
                Err(Trouble::Wrong(format!(
                    "{path} answers no JSON object: {text}"
                )))
            }
        }
    }
}

fn unanswered(error: &reqwest::Error) -> Trouble {
    Trouble::Unanswered(if error.is_timeout() {
        "timeout"
    } else if error.is_connect() {
        "no connection"
    } else {
        "connection lost"
    })
}
