//! Tells spans to the collector, from a thread that nobody waits for.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use reqwest::header::CONTENT_TYPE;
use reqwest::{Client, redirect};
use tokio::runtime;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};

use super::{Counts, Finished, Teller, TracePolicy, otlp};
use crate::meeting::outside;

/// Most spans of one request.
const BATCH: usize = 512;
/// Longest that whoever ends the node waits for the rest to be told.
const STOP_MAX: Duration = Duration::from_secs(5);

/// The thread that tells. It tells the rest and ends when this is dropped; [`Exporter::stop`] waits for that.
#[derive(Debug)]
pub struct Exporter {
    stop: oneshot::Sender<()>,
    /// Hangs up when the thread has ended.
    ended: oneshot::Receiver<()>,
}

struct Telling {
    policy: TracePolicy,
    teller: Teller,
    waiting: mpsc::Receiver<Finished>,
    counts: Arc<Counts>,
    /// Whether the log knows already that the collector takes nothing.
    is_failing: bool,
}

impl Exporter {
    pub(super) fn start(
        policy: TracePolicy,
        teller: Teller,
        waiting: mpsc::Receiver<Finished>,
        counts: Arc<Counts>,
    ) -> std::io::Result<Self> {
        let (stop, stopped) = oneshot::channel();
        let (ends, ended) = oneshot::channel::<()>();
        let telling = Telling {
            policy,
            teller,
            waiting,
            counts,
            is_failing: false,
        };
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let run = move || {
            runtime.block_on(telling.run(stopped));
            drop(ends);
        };
        thread::Builder::new()
            .name("traces".to_owned())
            .spawn(run)?;
        Ok(Self { stop, ended })
    }

    /// Has the rest told, for a few seconds at most.
    pub async fn stop(self) {
        let Self { stop, ended } = self;
        // Where the thread is gone there is nothing to wait for.
        let _ = stop.send(());
        if timeout(STOP_MAX, ended).await.is_err() {
            tracing::warn!("the collector of traces did not answer, and what waited is lost");
        }
    }
}

impl Telling {
    async fn run(mut self, mut stopped: oneshot::Receiver<()>) {
        let most = self.policy.timeout;
        let made = outside::build(move || {
            let builder = Client::builder()
                .timeout(most)
                .redirect(redirect::Policy::none());
            builder.user_agent(concat!("kairos-chain/", env!("CARGO_PKG_VERSION")))
        });
        let client = match made {
            Ok(client) => client,
            Err(error) => {
                // The queue closes, so each span counts as lost.
                tracing::error!(%error, "there can be no client for traces, and none are told");
                return;
            }
        };
        let mut spans = Vec::with_capacity(BATCH);
        loop {
            let stopping = tokio::select! {
                _ = &mut stopped => true,
                () = tokio::time::sleep(self.policy.interval) => false,
            };
            let until = Instant::now() + self.policy.timeout;
            loop {
                spans.clear();
                while spans.len() < BATCH
                    && let Ok(span) = self.waiting.try_recv()
                {
                    spans.push(span);
                }
                if spans.is_empty() || (stopping && Instant::now() >= until) {
                    break;
                }
                self.tell(&client, &spans).await;
                // Whoever is in a hurry to end is not kept by a full queue; whoever is not lets others have the machine.
                if spans.len() < BATCH {
                    break;
                }
            }
            if stopping {
                return;
            }
        }
    }

    async fn tell(&mut self, client: &Client, spans: &[Finished]) {
        let request = client
            .post(&self.policy.endpoint)
            .header(CONTENT_TYPE, "application/json")
            .body(otlp::body(&self.teller, spans));
        let failed = match request.send().await {
            Ok(answer) if answer.status().is_success() => None,
            Ok(answer) => Some(format!("it answers {}", answer.status())),
            Err(error) => Some(error.without_url().to_string()),
        };
        let count = u64::try_from(spans.len()).unwrap_or(u64::MAX);
        let was_failing = std::mem::replace(&mut self.is_failing, failed.is_some());
        match failed {
            None => {
                self.counts.exported.fetch_add(count, Ordering::Relaxed);
                if was_failing {
                    tracing::info!("the collector takes traces again");
                }
            }
            Some(error) => {
                self.counts.dropped.fetch_add(count, Ordering::Relaxed);
                if !was_failing {
                    tracing::warn!(%error, "the collector takes no traces; they are lost until it does");
                }
            }
        }
    }
}
