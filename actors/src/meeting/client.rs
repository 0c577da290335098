//! HTTP towards peers: every answer is bounded in size and time, and nothing a peer sends is trusted.
//!
//! Redirects are not followed: a session token must not travel to where it was not issued. Bodies are read piece
//! by piece against a limit, so a peer that sends a gigabyte costs the limit, and one that stops sending costs the
//! idle timeout.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kairos_protocol::hash::ContentHash;
use kairos_protocol::json;
use kairos_protocol::wire::carried::Verb;
pub use reqwest::Method;
use reqwest::header::{
    ACCEPT, AUTHORIZATION, CONTENT_TYPE, IF_MATCH, IF_NONE_MATCH, LOCATION, RETRY_AFTER,
};
use reqwest::{Client, ClientBuilder, Response, StatusCode, redirect};
use serde_json::{Map, Value};
use tokio::sync::OnceCell;
use tokio::task::spawn_blocking;
use url::Url;

use super::outside;
use crate::trace::{Kind, Tracer};

mod address;
mod carriage;
mod error;
mod listener;
mod traced;

pub use address::{PeerUrl, PeerUrlError};
use address::{endpoint, place_endpoint};
use carriage::Parcel;
pub use carriage::{Carriage, Carried, Carrier};
pub use error::ClientError;
pub(crate) use listener::Listener;
use traced::{Asking, operation};

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

/// Longest silence of somebody who tells of news; hosts of ours say something twice as often.
const LISTEN_IDLE: Duration = Duration::from_secs(60);
/// Told about a long answer: bytes received so far and, if announced, in all.
pub type Progress<'p> = &'p (dyn Fn(u64, Option<u64>) + Send + Sync);

/// A client for the endpoints below `/meeting/v1/`, and for those of Meeting Places.
#[derive(Debug, Clone)]
pub struct PeerClient {
    http: Arc<OnceCell<Client>>,
    listening: Arc<OnceCell<Client>>,
    /// For peers that are reached by the name of their node.
    carriage: Carriage,
    limits: ClientLimits,
    tracer: Tracer,
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
    /// What must be there for it to be done.
    pub only_if: Option<OnlyIf>,
}

/// What a request is to replace. Places that know no conditions take no notice of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnlyIf {
    /// Nothing is there.
    Absent,
    /// This content is there.
    Is(ContentHash),
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
    /// A client that keeps to `limits`, and whose requests `tracer` follows. What it needs of the system is read once it
    /// is first used.
    pub fn new(limits: ClientLimits, tracer: Tracer) -> Self {
        Self {
            http: Arc::default(),
            listening: Arc::default(),
            carriage: Carriage::default(),
            limits,
            tracer,
        }
    }

    /// Has peers that are named by their node reached through `carriage`.
    #[must_use]
    pub fn with_carriage(self, carriage: Carriage) -> Self {
        Self { carriage, ..self }
    }

    /// Who reaches nodes by their names.
    pub(crate) fn carriage(&self) -> &Carriage {
        &self.carriage
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
        over_http(place)?;
        let url = place_endpoint(place, request.path, request.query);
        let host = url.origin().ascii_serialization();
        let only_if = request.only_if;
        let request = self
            .request(request.method, url, request.token, request.body)
            .await?;
        let request = match only_if {
            None => request,
            Some(OnlyIf::Absent) => request.header(IF_NONE_MATCH, "*"),
            Some(OnlyIf::Is(content)) => request.header(IF_MATCH, &format!("\"{content}\"")),
        };
        self.exchange(&host, request, Answer::Ordinary, progress)
            .await
    }

    /// Begins to listen to what a Meeting Place tells at `path`.
    pub(crate) async fn listen(
        &self,
        place: &PeerUrl,
        path: &[&str],
        token: &str,
    ) -> Result<Listener, ClientError> {
        over_http(place)?;
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
        Ok(Listener::new(response))
    }

    /// GET `path` (below `/meeting/v1/`, with its query).
    pub async fn get(
        &self,
        peer: &PeerUrl,
        path: &str,
        query: &[(&str, &str)],
        token: Option<&str>,
    ) -> Result<Map<String, Value>, ClientError> {
        if let Some(node) = peer.node() {
            let parcel = Parcel {
                verb: Verb::Get,
                path,
                query,
                token,
                body: None,
            };
            return self.carried(node, parcel, Answer::Ordinary).await;
        }
        let mut url = endpoint(peer, path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let host = url.origin().ascii_serialization();
        let request = self.request(Method::GET, url, token, None).await?;
        self.exchange(&host, request, Answer::Ordinary, &|_, _| ())
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
        if let Some(node) = peer.node() {
            let parcel = Parcel {
                verb: Verb::Post,
                path,
                query: &[],
                token,
                body: Some(body),
            };
            return self.carried(node, parcel, answer).await;
        }
        let url = endpoint(peer, path);
        let host = url.origin().ascii_serialization();
        let request = self.request(Method::POST, url, token, Some(body)).await?;
        self.exchange(&host, request, answer, progress).await
    }

    async fn request(
        &self,
        method: Method,
        url: Url,
        token: Option<&str>,
        body: Option<&Value>,
    ) -> Result<Asking, ClientError> {
        let name = || operation(&method, &url);
        let span = self.tracer.span(Kind::Client, name, None);
        let span = span.map(|span| traced::describe(span, &method, &url));
        let mut request = self.http().await?.request(method, url);
        if let Some(token) = token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        if let Some(body) = body {
            request = request
                .header(CONTENT_TYPE, "application/json")
                .body(body.to_string());
        }
        Ok(Asking::new(request, span))
    }

    async fn exchange(
        &self,
        host: &str,
        asking: Asking,
        answer: Answer,
        progress: Progress<'_>,
    ) -> Result<Map<String, Value>, ClientError> {
        let began = Instant::now();
        let Asking { request, span } = asking;
        let sent = request.send().await;
        let response = sent.map_err(|e| self.failed(host, began, &e))?;
        let status = response.status();
        let span = span.map(|span| traced::answered(span, status));
        if status.is_redirection() {
            let location = response
                .headers()
                .get(LOCATION)
                .and_then(|l| l.to_str().ok());
            let location = location.unwrap_or("nowhere").chars().take(200).collect();
            return Err(ClientError::Redirect { location });
        }
        let retry_after = retry_after(&response);
        let limit = self.limit(answer, status.is_success());
        let bytes = self
            .body(response, limit, progress, |e| self.failed(host, began, e))
            .await?;
        if let Some(span) = span {
            span.end(!status.is_success());
        }
        understand(status, &bytes, retry_after)
    }

    fn limit(&self, answer: Answer, is_success: bool) -> usize {
        match answer {
            Answer::Package if is_success => self.limits.package_max,
            _ => self.limits.answer_max,
        }
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

/// Meeting Places answer over HTTP only.
fn over_http(place: &PeerUrl) -> Result<(), ClientError> {
    match place.node() {
        Some(_) => Err(ClientError::NotOverNodes),
        None => Ok(()),
    }
}

fn retry_after(response: &Response) -> Option<Duration> {
    let told = response.headers().get(RETRY_AFTER)?.to_str().ok()?;
    told.trim().parse().ok().map(Duration::from_secs)
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
