//! MCP over standard input and output: one message a line.
//!
//! What goes wrong in a line has an answer and ends nothing. When the input ends, requests under way are answered
//! first, so a single request can be piped in. Nothing else may write to standard output.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rmcp::model::{ClientNotification, JsonRpcMessage, RequestId, ServerJsonRpcMessage};
use rmcp::service::{RxJsonRpcMessage, TxJsonRpcMessage, serve_directly_with_ct};
use rmcp::transport::Transport;
use rmcp::{ErrorData, RoleServer};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::message::{self, Line};
use super::server::{Door, Server};

/// Longest line in bytes.
pub const LINE_MAX: usize = 16 * 1024 * 1024;
/// How long requests under way may take once the input has ended.
const DRAIN: Duration = Duration::from_secs(60);

/// Answers what comes in on `input`, until it ends or `stop` is cancelled.
///
/// One service loop speaks both eras: a client may shake hands, or send requests that carry their own metadata, or
/// neither, as people do with `echo`.
pub async fn serve<D: Door, R, W>(server: Server<D>, input: R, output: W, stop: CancellationToken)
where
    R: AsyncRead + Send + Unpin + 'static,
    W: AsyncWrite + Send + Unpin + 'static,
{
    let lines = Lines::new(input, output);
    let running = serve_directly_with_ct(server, lines, None, stop);
    if let Err(error) = running.waiting().await {
        tracing::error!(%error, "the MCP server ended by itself");
    }
}

/// The lines of one client.
struct Lines<R, W> {
    input: BufReader<R>,
    /// What there is of the line so far. Reading can be interrupted anywhere.
    line: Vec<u8>,
    /// Whether the rest of the line is thrown away.
    too_long: bool,
    ended: bool,
    output: Arc<tokio::sync::Mutex<W>>,
    under_way: Arc<UnderWay>,
    /// The answer to a line that was no message, on its way out.
    answer: Option<JoinHandle<io::Result<()>>>,
}

/// The requests that are not answered yet.
#[derive(Default)]
struct UnderWay {
    ids: Mutex<HashSet<RequestId>>,
    settled: Notify,
}

impl UnderWay {
    fn settle(&self, id: &RequestId) {
        self.ids.lock().remove(id);
        self.settled.notify_waiters();
    }

    async fn all_settled(&self) {
        loop {
            let settled = self.settled.notified();
            if self.ids.lock().is_empty() {
                return;
            }
            settled.await;
        }
    }
}

/// What was read.
enum Read {
    Whole,
    TooLong,
    End,
}

impl<R, W> Lines<R, W>
where
    R: AsyncRead + Send + Unpin,
    W: AsyncWrite + Send + Unpin + 'static,
{
    fn new(input: R, output: W) -> Self {
        Self {
            input: BufReader::new(input),
            line: Vec::new(),
            too_long: false,
            ended: false,
            output: Arc::new(tokio::sync::Mutex::new(output)),
            under_way: Arc::default(),
            answer: None,
        }
    }

    /// Reads on until the line has ended. What was read is kept when the future is dropped.
    async fn read(&mut self) -> io::Result<Read> {
        loop {
            let buffer = self.input.fill_buf().await?;
            if buffer.is_empty() {
                self.ended = true;
                return Ok(match (self.too_long, self.line.is_empty()) {
                    (true, _) => Read::TooLong,
                    (false, true) => Read::End,
                    (false, false) => Read::Whole,
                });
            }
            let end = buffer.iter().position(|byte| *byte == b'\n');
            let part = buffer
                .get(..end.unwrap_or(buffer.len()))
                .unwrap_or_default();
            if self.line.len() + part.len() > LINE_MAX {
                self.too_long = true;
                self.line = Vec::new();
            } else if !self.too_long {
                self.line.extend_from_slice(part);
            }
            let taken = part.len() + usize::from(end.is_some());
            self.input.consume(taken);
            if end.is_some() {
                return Ok(match std::mem::take(&mut self.too_long) {
                    true => Read::TooLong,
                    false => Read::Whole,
                });
            }
        }
    }

    /// Notes which requests are to be answered.
    fn note(&self, message: &RxJsonRpcMessage<RoleServer>) {
        match message {
            JsonRpcMessage::Request(request) => {
                self.under_way.ids.lock().insert(request.id.clone());
            }
            JsonRpcMessage::Notification(told) => {
                if let ClientNotification::CancelledNotification(cancelled) = &told.notification
                    && let Some(id) = &cancelled.params.request_id
                {
                    self.under_way.settle(id);
                }
            }
            _ => {}
        }
    }
}

impl<R, W> Transport<RoleServer> for Lines<R, W>
where
    R: AsyncRead + Send + Unpin + 'static,
    W: AsyncWrite + Send + Unpin + 'static,
{
    type Error = io::Error;

    fn send(
        &mut self,
        message: TxJsonRpcMessage<RoleServer>,
    ) -> impl Future<Output = Result<(), io::Error>> + Send + 'static {
        let (output, under_way) = (Arc::clone(&self.output), Arc::clone(&self.under_way));
        async move {
            let answered = match &message {
                JsonRpcMessage::Response(response) => Some(response.id.clone()),
                JsonRpcMessage::Error(error) => error.id.clone(),
                _ => None,
            };
            let written = write(&output, &message)
                .await
                .unwrap_or_else(|panic| Err(io::Error::other(panic)));
            if let Some(id) = answered {
                under_way.settle(&id);
            }
            written
        }
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleServer>> {
        loop {
            if let Some(writing) = &mut self.answer {
                // Whoever sends garbage and reads nothing waits here, not in a queue.
                let written = writing.await;
                self.answer = None;
                if let Err(error) = written.unwrap_or_else(|panic| Err(io::Error::other(panic))) {
                    tracing::error!(%error, "an answer could not be written");
                    return None;
                }
            }
            if self.ended {
                if tokio::time::timeout(DRAIN, self.under_way.all_settled())
                    .await
                    .is_err()
                {
                    tracing::warn!("requests are left unanswered: the input has ended");
                }
                return None;
            }
            let read = match self.read().await {
                Ok(Read::Whole) => message::read(&std::mem::take(&mut self.line)),
                Ok(Read::TooLong) => {
                    let told = format!("the line is longer than {LINE_MAX} bytes");
                    Line::Wrong(ErrorData::invalid_request(told, None), None)
                }
                Ok(Read::End) => continue,
                Err(error) => {
                    tracing::error!(%error, "the input cannot be read");
                    self.ended = true;
                    continue;
                }
            };
            match read {
                Line::Message(message) => {
                    self.note(&message);
                    return Some(*message);
                }
                Line::Nothing => {}
                Line::Wrong(error, id) => {
                    let answer = ServerJsonRpcMessage::error(error, id);
                    self.answer = Some(write(&self.output, &answer));
                }
            }
        }
    }

    async fn close(&mut self) -> Result<(), io::Error> {
        self.output.lock().await.flush().await
    }
}

/// Writes one message as a line, in a task of its own: whoever waits for it may stop waiting, and half a line would
/// spoil the next.
fn write<W>(
    output: &Arc<tokio::sync::Mutex<W>>,
    message: &ServerJsonRpcMessage,
) -> JoinHandle<io::Result<()>>
where
    W: AsyncWrite + Send + Unpin + 'static,
{
    let line = serde_json::to_vec(message);
    let output = Arc::clone(output);
    tokio::spawn(async move {
        let mut line = line?;
        line.push(b'\n');
        let mut output = output.lock_owned().await;
        output.write_all(&line).await?;
        output.flush().await
    })
}
