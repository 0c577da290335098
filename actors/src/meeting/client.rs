//! HTTP towards peers: every answer is bounded in size and time, and nothing a peer sends is trusted.
//!
//! Redirects are not followed: a session token must not travel to where it was not issued. Bodies are read piece
//! by piece against a limit, so a peer that sends a gigabyte costs the limit, and one that stops sending costs the
//! idle timeout.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kairos_protocol::json;
pub use reqwest::Method;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, LOCATION, RETRY_AFTER};
use reqwest::{Client, ClientBuilder, Response, StatusCode, redirect};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use thiserror::Error;
use tokio::sync::OnceCell;
use tokio::task::spawn_blocking;
use url::Url;

use super::outside;

/// Bounds of a conversation with a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientLimits {
    /// To open a connection.
    pub connect_timeout: Duration,
    /// Between two pieces of an answer.
    pub idle_timeout: Duration,
    /// For one request and its whole answer.
    pub total_timeout: Duration,
    /// Largest answer that is not a package, in bytes.
    pub answer_max: usize,
    /// Largest answer that holds a package, in bytes: the archive in base64 and its file list.
    pub package_max: usize,
}

impl Default for ClientLimits {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(10),
            total_timeout: Duration::from_secs(300),
            answer_max: 4 << 20,
            package_max: 9 << 20,
        }
    }
}

/// Where a peer is: scheme, host and port; a path is kept for peers behind a prefix.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PeerUrl(Url);

/// Why a text is not the address of a peer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PeerUrlError {
    /// Not a URL.
    #[error("`{0}` is not a URL; write it like http://host:8080")]
    NotUrl(String),
    /// A scheme that is not spoken.
    #[error("`{0}` URLs are not spoken; use http:// or https://")]
    Scheme(String),
    /// Credentials, query or fragment.
    #[error("a peer's URL has no user, password, query or fragment")]
    Extra,
}

impl FromStr for PeerUrl {
    type Err = PeerUrlError;

    fn from_str(text: &str) -> Result<Self, PeerUrlError> {
        let shown = || text.chars().take(200).collect::<String>();
        let mut url = Url::parse(text).map_err(|_| PeerUrlError::NotUrl(shown()))?;
        if !matches!(url.scheme(), "http" | "https") {
            // `localhost:8080` parses as the scheme `localhost`.
            return Err(match url.host() {
                None => PeerUrlError::NotUrl(shown()),
                Some(_) => PeerUrlError::Scheme(url.scheme().to_owned()),
            });
        }
        let credentials = !url.username().is_empty() || url.password().is_some();
        if credentials || url.query().is_some() || url.fragment().is_some() {
            return Err(PeerUrlError::Extra);
        }
        let path = url.path().trim_end_matches('/').to_owned();
        url.set_path(&path);
        Ok(Self(url))
    }
}

impl TryFrom<String> for PeerUrl {
    type Error = PeerUrlError;

    fn try_from(text: String) -> Result<Self, PeerUrlError> {
        text.parse()
    }
}

impl From<PeerUrl> for String {
    fn from(url: PeerUrl) -> Self {
        url.to_string()
    }
}

impl fmt::Display for PeerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str().trim_end_matches('/'))
    }
}

/// What went wrong between us and a peer.
#[derive(Debug, Error)]
pub enum ClientError {
    /// Nobody answered.
    #[error("no connection to {url}: {reason}")]
    Unreachable {
        /// The peer.
        url: String,
        /// The cause, in words.
        reason: String,
    },
    /// It stopped answering.
    #[error("the peer did not answer within {} seconds", .after.as_secs())]
    Timeout {
        /// The bound that ran out.
        after: Duration,
    },
    /// The answer is larger than we take.
    #[error("the peer's answer is larger than {limit} bytes")]
    TooLarge {
        /// The bound.
        limit: usize,
    },
    /// It wants us elsewhere.
    #[error(
        "the peer redirects to {location}; redirects are not followed, use that URL if you trust it"
    )]
    Redirect {
        /// Where to.
        location: String,
    },
    /// Not the protocol.
    #[error("the peer answered {status} with something that is not a JSON object: {detail}")]
    NotJson {
        /// HTTP status.
        status: u16,
        /// What is wrong with it.
        detail: String,
    },
    /// A well-formed refusal.
    #[error("the peer refused ({status} {code}): {message}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// Its code.
        code: String,
        /// Its sentence.
        message: String,
        /// From its header `Retry-After`, if that is a number of seconds.
        retry_after: Option<Duration>,
    },
    /// The HTTP library could not be set up.
    #[error("the HTTP client could not be set up: {0}")]
    Setup(String),
}

impl ClientError {
    /// Whether the peer's answer has this error code.
    pub fn has_code(&self, expected: &str) -> bool {
        matches!(self, Self::Refused { code, .. } if code == expected)
    }

    /// Whether the peer answered with this HTTP status, and not with a success.
    pub fn has_status(&self, expected: u16) -> bool {
        matches!(self, Self::Refused { status, .. } if *status == expected)
    }

    /// How long the peer asks us to wait.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// Whether the request may have taken effect: it was sent, and what became of it is not known.
    pub fn is_unknown(&self) -> bool {
        match self {
            Self::Unreachable { .. }
            | Self::Timeout { .. }
            | Self::NotJson { .. }
            | Self::TooLarge { .. } => true,
            Self::Refused { status, .. } => *status >= 500,
            Self::Redirect { .. } | Self::Setup(_) => false,
        }
    }
}

/// Longest silence of somebody who tells of news; hosts of ours say something twice as often.
const LISTEN_IDLE: Duration = Duration::from_secs(60);
/// Longest line of somebody who tells of news, in bytes.
const LINE_MAX: usize = 8 * 1024;

/// Told about a long answer: bytes received so far and, if announced, in all.
pub type Progress<'p> = &'p (dyn Fn(u64, Option<u64>) + Send + Sync);

/// A client for the endpoints below `/meeting/v1/`, and for those of Meeting Places.
#[derive(Debug, Clone)]
pub struct PeerClient {
    http: Arc<OnceCell<Client>>,
    listening: Arc<OnceCell<Client>>,
    limits: ClientLimits,
}

/// The client in `cell`, made in a thread that may block if there is none: a hundred certificates are read for it.
async fn made(
    cell: &OnceCell<Client>,
    builder: impl Fn() -> ClientBuilder + Send + 'static,
) -> Result<&Client, ClientError> {
    let make = || async {
        let made = spawn_blocking(move || outside::build(builder)).await;
        made.map_err(|error| ClientError::Setup(error.to_string()))?
            .map_err(|error| ClientError::Setup(causes(&error)))
    };
    cell.get_or_try_init(make).await
}

fn builder(limits: &ClientLimits) -> ClientBuilder {
    Client::builder()
        .connect_timeout(limits.connect_timeout)
        .redirect(redirect::Policy::none())
        .referer(false)
        .user_agent(concat!("kairos-chain/", env!("CARGO_PKG_VERSION")))
}

/// A request to a Meeting Place.
#[derive(Debug, Clone)]
pub struct AtPlace<'a> {
    /// GET, POST, PUT or DELETE.
    pub method: Method,
    /// Below `/place/v1/`, each segment as it is meant.
    pub path: &'a [&'a str],
    /// The query.
    pub query: &'a [(&'a str, &'a str)],
    /// The session.
    pub token: Option<&'a str>,
    /// The content.
    pub body: Option<&'a Value>,
}

/// Which bound an answer is held to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Lists, skills, sentences.
    Ordinary,
    /// A SkillSet package.
    Package,
}

impl PeerClient {
    /// A client that keeps to `limits`. What it needs of the system is read once it is first used.
    pub fn new(limits: ClientLimits) -> Self {
        Self {
            http: Arc::default(),
            listening: Arc::default(),
            limits,
        }
    }

    /// For answers that end.
    async fn http(&self) -> Result<&Client, ClientError> {
        let limits = self.limits.clone();
        made(&self.http, move || {
            builder(&limits)
                .read_timeout(limits.idle_timeout)
                .timeout(limits.total_timeout)
        })
        .await
    }

    /// For those who go on telling: without a bound on the whole answer.
    async fn listening(&self) -> Result<&Client, ClientError> {
        let limits = self.limits.clone();
        made(&self.listening, move || {
            builder(&limits).read_timeout(LISTEN_IDLE)
        })
        .await
    }

    /// Asks a Meeting Place.
    pub async fn at_place(
        &self,
        place: &PeerUrl,
        request: AtPlace<'_>,
        progress: Progress<'_>,
    ) -> Result<Map<String, Value>, ClientError> {
        let url = place_endpoint(place, request.path, request.query);
        let (token, body) = (request.token, request.body);
        self.exchange(request.method, url, token, body, Answer::Ordinary, progress)
            .await
    }

    /// Begins to listen to what a Meeting Place tells at `path`.
    pub(crate) async fn listen(
        &self,
        place: &PeerUrl,
        path: &[&str],
        token: &str,
    ) -> Result<Listener, ClientError> {
        let url = place_endpoint(place, path, &[]);
        let (host, began) = (url.origin().ascii_serialization(), Instant::now());
        let request = self
            .listening()
            .await?
            .get(url)
            .header(ACCEPT, "text/event-stream");
        let request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        let sent = tokio::time::timeout(self.limits.idle_timeout, request.send()).await;
        let sent = sent.map_err(|_| ClientError::Timeout {
            after: self.limits.idle_timeout,
        })?;
        let response = sent.map_err(|e| self.failed(&host, began, &e))?;
        let status = response.status();
        if status != StatusCode::OK {
            let retry_after = retry_after(&response);
            let limit = self.limits.answer_max;
            let bytes = self
                .body(response, limit, &|_, _| (), |e| {
                    self.failed(&host, began, e)
                })
                .await?;
            let detail = "something else than news".to_owned();
            return Err(match understand(status, &bytes, retry_after) {
                Err(error) => error,
                Ok(_) => ClientError::NotJson {
                    status: status.as_u16(),
                    detail,
                },
            });
        }
        Ok(Listener {
            response,
            line: Vec::new(),
        })
    }

    /// GET `path` (below `/meeting/v1/`, with its query).
    pub async fn get(
        &self,
        peer: &PeerUrl,
        path: &str,
        query: &[(&str, &str)],
        token: Option<&str>,
    ) -> Result<Map<String, Value>, ClientError> {
        let mut url = endpoint(peer, path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        self.exchange(Method::GET, url, token, None, Answer::Ordinary, &|_, _| ())
            .await
    }

    /// POST `body` to `path` (below `/meeting/v1/`).
    pub async fn post(
        &self,
        peer: &PeerUrl,
        path: &str,
        body: &Value,
        token: Option<&str>,
        answer: Answer,
        progress: Progress<'_>,
    ) -> Result<Map<String, Value>, ClientError> {
        self.exchange(
            Method::POST,
            endpoint(peer, path),
            token,
            Some(body),
            answer,
            progress,
        )
        .await
    }

    async fn exchange(
        &self,
        method: Method,
        url: Url,
        token: Option<&str>,
        body: Option<&Value>,
        answer: Answer,
        progress: Progress<'_>,
    ) -> Result<Map<String, Value>, ClientError> {
        let host = url.origin().ascii_serialization();
        let mut request = self.http().await?.request(method, url);
        if let Some(token) = token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        if let Some(body) = body {
            request = request
                .header(CONTENT_TYPE, "application/json")
                .body(body.to_string());
        }
        let began = Instant::now();
        let sent = request.send().await;
        let response = sent.map_err(|e| self.failed(&host, began, &e))?;
        let status = response.status();
        if status.is_redirection() {
            let location = response
                .headers()
                .get(LOCATION)
                .and_then(|l| l.to_str().ok());
            let location = location.unwrap_or("nowhere").chars().take(200).collect();
            return Err(ClientError::Redirect { location });
        }
        let retry_after = retry_after(&response);
        let limit = match answer {
            Answer::Package if status.is_success() => self.limits.package_max,
            _ => self.limits.answer_max,
        };
        let bytes = self
            .body(response, limit, progress, |e| self.failed(&host, began, e))
            .await?;
        understand(status, &bytes, retry_after)
    }

    async fn body(
        &self,
        mut response: Response,
        limit: usize,
        progress: Progress<'_>,
        failed: impl Fn(&reqwest::Error) -> ClientError,
    ) -> Result<Vec<u8>, ClientError> {
        let announced = response.content_length();
        if announced.is_some_and(|length| length > limit as u64) {
            return Err(ClientError::TooLarge { limit });
        }
        let mut bytes = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(|e| failed(&e))? {
            if bytes.len() + piece.len() > limit {
                return Err(ClientError::TooLarge { limit });
            }
            bytes.extend_from_slice(&piece);
            progress(bytes.len() as u64, announced);
        }
        Ok(bytes)
    }

    /// Says what became of a request that began at `began`.
    fn failed(&self, host: &str, began: Instant, error: &reqwest::Error) -> ClientError {
        if error.is_timeout() {
            let after = if error.is_connect() {
                self.limits.connect_timeout
            } else if began.elapsed() >= self.limits.total_timeout {
                self.limits.total_timeout
            } else {
                self.limits.idle_timeout
            };
            return ClientError::Timeout { after };
        }
        ClientError::Unreachable {
            url: host.to_owned(),
            reason: causes(error),
        }
    }
}

/// A connection on which a Place tells of mail.
#[derive(Debug)]
pub(crate) struct Listener {
    response: Response,
    line: Vec<u8>,
}

impl Listener {
    /// Waits for the next event and returns its name; nothing once the Place has hung up, broken off, or said a line
    /// that is longer than it may be.
    pub(crate) async fn event(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.line.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.line.drain(..=end).collect();
                let line = String::from_utf8_lossy(&line);
                match line.trim_end().strip_prefix("event:") {
                    Some(name) => return Some(name.trim().to_owned()),
                    None => continue,
                }
            }
            if self.line.len() > LINE_MAX {
                return None;
            }
            let piece = self.response.chunk().await.ok()??;
            self.line.extend_from_slice(&piece);
        }
    }
}

fn retry_after(response: &Response) -> Option<Duration> {
    let told = response.headers().get(RETRY_AFTER)?.to_str().ok()?;
    told.trim().parse().ok().map(Duration::from_secs)
}

fn place_endpoint(place: &PeerUrl, path: &[&str], query: &[(&str, &str)]) -> Url {
    let mut url = place.0.clone();
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.pop_if_empty().extend(["place", "v1"]).extend(path);
    }
    if !query.is_empty() {
        url.query_pairs_mut().extend_pairs(query);
    }
    url
}

fn endpoint(peer: &PeerUrl, path: &str) -> Url {
    let mut url = peer.0.clone();
    url.set_path(&format!(
        "{}/meeting/v1/{path}",
        peer.0.path().trim_end_matches('/')
    ));
    url
}

/// The object in a successful answer, or the refusal in another.
fn understand(
    status: StatusCode,
    bytes: &[u8],
    retry_after: Option<Duration>,
) -> Result<Map<String, Value>, ClientError> {
    let parsed = json::parse_object(bytes);
    if status.is_success() {
        return parsed.map_err(|e| ClientError::NotJson {
            status: status.as_u16(),
            detail: e.to_string(),
        });
    }
    let members = parsed.unwrap_or_default();
    let text = |name: &str| {
        let clean = |c: char| if c.is_control() { ' ' } else { c };
        let text = members.get(name).and_then(Value::as_str)?;
        Some(text.chars().take(300).map(clean).collect::<String>())
    };
    Err(ClientError::Refused {
        status: status.as_u16(),
        code: text("error").unwrap_or_else(|| "no code".to_owned()),
        message: text("message")
            .or_else(|| reasons(&members))
            .unwrap_or_else(|| "no explanation".to_owned()),
        retry_after,
    })
}

/// The reasons that a Place gives in place of a sentence.
fn reasons(members: &Map<String, Value>) -> Option<String> {
    let told = members.get("reasons")?.as_array()?;
    let told = told.iter().take(10).filter_map(Value::as_str);
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    let text = told.collect::<Vec<_>>().join("; ");
    (!text.is_empty()).then(|| text.chars().take(600).map(clean).collect())
}

/// The innermost causes of an error, which is where the useful words are.
fn causes(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        words = cause.to_string();
        source = cause.source();
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_url_is_scheme_host_and_port() {
        for (text, shown) in [
            ("http://localhost:8080", "http://localhost:8080"),
            ("http://localhost:8080/", "http://localhost:8080"),
            (
                "https://Example.org/agents/a/",
                "https://example.org/agents/a",
            ),
        ] {
            assert_eq!(text.parse::<PeerUrl>().unwrap().to_string(), shown);
        }
        assert_eq!(
            endpoint(&"https://example.org/a/".parse().unwrap(), "skills").as_str(),
            "https://example.org/a/meeting/v1/skills"
        );
        let place = "https://example.org/a/".parse().unwrap();
        let asked = place_endpoint(&place, &["deposit", "a/b c"], &[("n", "1")]);
        assert_eq!(
            asked.as_str(),
            "https://example.org/a/place/v1/deposit/a%2Fb%20c?n=1"
        );
        for bad in [
            "",
            "localhost:8080",
            "ftp://x",
            "file:///etc",
            "http://u:p@x",
            "http://x/?q",
            "http://",
        ] {
            assert!(bad.parse::<PeerUrl>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_answer_is_an_object_or_a_refusal_in_words() {
        assert!(understand(StatusCode::OK, b"{\"a\":1}", None).is_ok());
        let not_json = understand(StatusCode::OK, b"<html>", None).unwrap_err();
        assert!(matches!(not_json, ClientError::NotJson { status: 200, .. }));
        let refused = understand(
            StatusCode::UNAUTHORIZED,
            b"{\"error\":\"e\",\"message\":\"m\\u001b\"}",
            None,
        )
        .unwrap_err();
        assert_eq!(refused.to_string(), "the peer refused (401 e): m ");
        let reasons = b"{\"error\":\"rejected\",\"reasons\":[\"a\",\"b\"]}";
        let refused = understand(StatusCode::UNPROCESSABLE_ENTITY, reasons, None).unwrap_err();
        assert_eq!(refused.to_string(), "the peer refused (422 rejected): a; b");
        let bare = understand(
            StatusCode::INTERNAL_SERVER_ERROR,
            b"An unhandled lowlevel error occurred",
            None,
        )
        .unwrap_err();
        assert_eq!(
            bare.to_string(),
            "the peer refused (500 no code): no explanation"
        );
    }
}
