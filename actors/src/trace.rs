//! Traces: which requests belong together, also where they go from one node to the next.
//!
//! A [`Tracer`] is off until somebody begins it; then it makes a [`Span`] of each request that this node answers or sends,
//! and has a thread of its own tell them to a collector of OpenTelemetry. Nobody ever waits for that: spans wait in a
//! queue with a bound, what finds no room in it is lost and counted, and so is what the collector does not take in time.
//!
//! Whether a trace is kept follows from its id and from our own setting alone. What a stranger says about that (the flag
//! *sampled* of W3C Trace Context) counts for nothing: its ids are taken over, so that one trace spans both nodes, and
//! nodes with the same setting keep the same traces.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use kairos_protocol::crypto::random_bytes;
use kairos_protocol::time::{Clock, Timestamp};
use tokio::sync::mpsc;

mod context;
mod export;
mod otlp;
#[cfg(test)]
mod tests;

pub use context::{Context, HEADER};
pub use export::Exporter;

tokio::task_local! {
    /// The span in which this task works.
    static CURRENT: Context;
}

/// Does `work` within the span of `context`: requests that it sends belong to it.
pub async fn within<F: Future>(context: Context, work: F) -> F::Output {
    CURRENT.scope(context, work).await
}

/// What is told, and to whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TracePolicy {
    /// Where the collector takes spans, as JSON over HTTP.
    pub endpoint: String,
    /// How many of a hundred traces are kept.
    pub percent: u32,
    /// Spans that wait at once.
    pub queue: usize,
    /// How often they are told.
    pub interval: Duration,
    /// How long the collector may take to answer.
    pub timeout: Duration,
}

/// Who tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Teller {
    /// The agent.
    pub agent: String,
    /// Of the program.
    pub version: &'static str,
}

/// What became of spans since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures {
    /// Waiting.
    pub waiting: usize,
    /// Taken by the collector.
    pub exported: u64,
    /// Lost: there was no room to wait, or the collector did not take them.
    pub dropped: u64,
}

/// See the module. Cheap to clone; all clones are one.
#[derive(Clone, Default)]
pub struct Tracer(Arc<OnceLock<Recording>>);

struct Recording {
    percent: u32,
    clock: Arc<dyn Clock>,
    queue: mpsc::Sender<Finished>,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    exported: AtomicU64,
    dropped: AtomicU64,
}

/// Which side of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// This node answers.
    Server,
    /// This node asks.
    Client,
}

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attribute {
    /// A text, which names nothing private.
    Text(String),
    /// A number.
    Number(i64),
}

/// A span that has ended and is kept.
#[derive(Debug, Clone, PartialEq)]
struct Finished {
    context: Context,
    parent: Option<Context>,
    kind: Kind,
    name: String,
    at: Timestamp,
    took: Duration,
    attributes: Vec<(&'static str, Attribute)>,
    failed: bool,
}

/// A request under way. It ends when it is dropped, as failed unless [`Span::end`] says otherwise.
#[derive(Debug)]
pub struct Span {
    tracer: Tracer,
    began: Instant,
    /// Absent once it was handed on.
    finished: Option<Finished>,
}

impl Tracer {
    /// Begins to make spans and to tell them. Does nothing, and returns nothing, where that was begun before.
    ///
    /// # Errors
    ///
    /// There can be no thread for it.
    pub fn begin(
        &self,
        policy: TracePolicy,
        teller: Teller,
        clock: Arc<dyn Clock>,
    ) -> std::io::Result<Option<Exporter>> {
        let (queue, waiting) = mpsc::channel(policy.queue);
        let counts = Arc::new(Counts::default());
        let recording = Recording {
            percent: policy.percent,
            clock,
            queue,
            counts: Arc::clone(&counts),
        };
        if self.0.set(recording).is_err() {
            return Ok(None);
        }
        Exporter::start(policy, teller, waiting, counts).map(Some)
    }

    /// Makes a span; nothing while the tracer is off. It belongs to the span that `caller` names, else to the one in which
    /// this task works, else it begins a trace.
    pub fn span(
        &self,
        kind: Kind,
        name: impl FnOnce() -> String,
        caller: Option<Context>,
    ) -> Option<Span> {
        let recording = self.0.get()?;
        let parent = caller.or_else(|| CURRENT.try_with(|context| *context).ok());
        // Without random numbers nothing else works either, and traces matter least.
        let random = random_bytes().ok()?;
        let (trace, rest) = random.split_first_chunk()?;
        let context = Context::new(*trace, *rest.first_chunk()?, parent, recording.percent);
        Some(Span {
            tracer: self.clone(),
            began: Instant::now(),
            finished: Some(Finished {
                context,
                parent,
                kind,
                // Nobody hears of the others.
                name: context.is_kept().then(name).unwrap_or_default(),
                at: recording.clock.now(),
                took: Duration::ZERO,
                attributes: Vec::new(),
                failed: true,
            }),
        })
    }

    /// What became of spans; all zero while the tracer is off.
    pub fn figures(&self) -> Figures {
        let Some(recording) = self.0.get() else {
            return Figures::default();
        };
        let (queue, counts) = (&recording.queue, &recording.counts);
        Figures {
            waiting: queue.max_capacity() - queue.capacity(),
            exported: counts.exported.load(Ordering::Relaxed),
            dropped: counts.dropped.load(Ordering::Relaxed),
        }
    }

    fn finish(&self, finished: Finished) {
        let Some(recording) = self.0.get().filter(|_| finished.context.is_kept()) else {
            return;
        };
        if recording.queue.try_send(finished).is_err() {
            recording.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl std::fmt::Debug for Tracer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Tracer({})",
            if self.0.get().is_some() { "on" } else { "off" }
        )
    }
}

impl Span {
    /// What is told of it to whoever is asked next.
    pub fn context(&self) -> Option<Context> {
        self.finished.as_ref().map(|finished| finished.context)
    }

    /// Notes something about it.
    pub fn note(&mut self, name: &'static str, value: Attribute) {
        if let Some(finished) = &mut self.finished {
            finished.attributes.push((name, value));
        }
    }

    /// Ends it.
    pub fn end(mut self, failed: bool) {
        if let Some(finished) = &mut self.finished {
            finished.failed = failed;
        }
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        if let Some(mut finished) = self.finished.take() {
            finished.took = self.began.elapsed();
            self.tracer.finish(finished);
        }
    }
}
