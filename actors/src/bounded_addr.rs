//! The one way to reach an actor: an address behind a bound on how many asks are under way.
//!
//! A mailbox's capacity holds for each clone of an `Addr`, so a bound needs one shared `Addr` and a semaphore.
//! An ask that finds no permit is refused at once instead of queueing without end.

mod asks;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::dev::ToEnvelope;
use actix::{Actor, Addr, Context, Handler, MailboxError, Message};
use thiserror::Error;
use tokio::sync::Semaphore;
use tokio::task::{JoinError, spawn_blocking};

pub use asks::Asks;

/// Why an ask has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum AskError {
    /// As many asks as allowed are under way. Nothing was sent; trying again later is safe.
    #[error("busy, try again later")]
    Busy,
    /// No answer in time. Whether the message was or will be handled is unknown.
    #[error("no answer in time, the outcome is unknown")]
    Timeout,
    /// The actor has ended. Whether the message was handled before is unknown.
    #[error("stopped")]
    Stopped,
}

/// Asks an actor for a sign of life.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct Health;

/// Ends an actor once what it was asked for is done.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct Shutdown;

/// A cloneable address that lets a fixed number of asks through at a time, each for a limited time.
pub struct BoundedAddr<A: Actor>(Arc<Inner<A>>);

struct Inner<A: Actor> {
    addr: Addr<A>,
    asks: Arc<Asks>,
    patience: Duration,
}

impl<A: Actor> BoundedAddr<A> {
    /// Lets `permits` asks through at a time and waits `patience` for each.
    ///
    /// Messages of one handle are handled in order only while the mailbox holds as many as there are permits;
    /// [`start`](Self::start) sees to that. Keep no other clone of `addr`, or there is no bound.
    pub fn new(addr: Addr<A>, permits: usize, patience: Duration) -> Self {
        Self(Arc::new(Inner {
            addr,
            asks: Arc::new(Asks::new(permits)),
            patience,
        }))
    }

    /// The bound of this address, and what was counted at it.
    pub fn asks(&self) -> &Arc<Asks> {
        &self.0.asks
    }

    /// Sends `message` and waits for its answer.
    ///
    /// Dropping the future, or running out of patience, gives up on the answer: a message that the actor has
    /// begun to handle completes all the same, one that is still queued is never handled.
    pub async fn ask<M>(&self, message: M) -> Result<M::Result, AskError>
    where
        A: Handler<M>,
        A::Context: ToEnvelope<A, M>,
        M: Message + Send + 'static,
        M::Result: Send,
    {
        let _permit = self.0.asks.enter()?;
        let begun = Instant::now();
        let answer = self.wait_for(message).await;
        self.0.asks.note(begun, &answer);
        answer
    }

    /// Sends `message` without a permit and waits for its answer: how the watchdog tells an actor with a lot to do
    /// from one that is dead. Only for whoever asks one at a time.
    pub async fn probe<M>(&self, message: M) -> Result<M::Result, AskError>
    where
        A: Handler<M>,
        A::Context: ToEnvelope<A, M>,
        M: Message + Send + 'static,
        M::Result: Send,
    {
        self.wait_for(message).await
    }

    async fn wait_for<M>(&self, message: M) -> Result<M::Result, AskError>
    where
        A: Handler<M>,
        A::Context: ToEnvelope<A, M>,
        M: Message + Send + 'static,
        M::Result: Send,
    {
        self.0
            .addr
            .send(message)
            .timeout(self.0.patience)
            .await
            .map_err(|error| match error {
                MailboxError::Timeout => AskError::Timeout,
                MailboxError::Closed => AskError::Stopped,
            })
    }
}

impl<A: Actor<Context = Context<A>>> BoundedAddr<A> {
    /// Starts the actor that `make` builds, with a mailbox as large as the number of permits.
    ///
    /// The capacity is set before the first poll; set in `started` it would come too late.
    pub fn start(
        permits: usize,
        patience: Duration,
        make: impl FnOnce(&mut Context<A>) -> A,
    ) -> Self {
        let addr = A::create(|ctx| {
            ctx.set_mailbox_capacity(permits.max(1));
            make(ctx)
        });
        Self::new(addr, permits, patience)
    }
}

impl<A: Actor> Clone for BoundedAddr<A> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<A: Actor> fmt::Debug for BoundedAddr<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BoundedAddr")
            .field("under_way", &self.0.asks.under_way())
            .field("patience", &self.0.patience)
            .finish_non_exhaustive()
    }
}

/// What an actor has done on threads that may block, no more of it at a time than there are permits.
///
/// An ask that was given up returns its permit, but the work that it began goes on: without a bound of its own, such
/// work would pile up for as long as callers come.
#[derive(Debug, Clone)]
pub(crate) struct BlockingJobs(Arc<Semaphore>);

/// Why a job has no result.
#[derive(Debug, Error)]
pub(crate) enum JobError {
    /// As many as allowed are under way; it was not begun.
    #[error("busy, try again later")]
    Busy,
    /// It panicked.
    #[error(transparent)]
    Panicked(#[from] JoinError),
}

impl BlockingJobs {
    /// Lets `permits` jobs run at a time.
    pub(crate) fn new(permits: usize) -> Self {
        Self(Arc::new(Semaphore::new(
            permits.min(Semaphore::MAX_PERMITS),
        )))
    }

    /// Begins `work` now. It runs to its end, whoever waits for it.
    pub(crate) fn run<T, W>(&self, work: W) -> impl Future<Output = Result<T, JobError>> + use<T, W>
    where
        T: Send + 'static,
        W: FnOnce() -> T + Send + 'static,
    {
        let permit = Arc::clone(&self.0).try_acquire_owned();
        let begun = permit.map(|permit| {
            spawn_blocking(move || {
                let _until_done = permit;
                work()
            })
        });
        async move { Ok(begun.map_err(|_| JobError::Busy)?.await?) }
    }
}

#[cfg(test)]
mod tests {
    use actix::{ActorContext, AtomicResponse, WrapFuture};
    use futures::future::join_all;
    use prometheus_client::encoding::text::encode;
    use prometheus_client::registry::Registry;
    use tokio::sync::Notify;

    use super::*;

    /// Answers in the order of asking, each time after its gate opens.
    struct Slow {
        gate: Arc<Notify>,
        seen: Vec<u32>,
    }

    impl Actor for Slow {
        type Context = Context<Self>;
    }

    #[derive(Message)]
    #[rtype(result = "u32")]
    struct Echo(u32);

    #[derive(Message)]
    #[rtype(result = "Vec<u32>")]
    struct Seen;

    #[derive(Message)]
    #[rtype(result = "()")]
    struct Stop;

    impl Handler<Echo> for Slow {
        type Result = AtomicResponse<Self, u32>;
        fn handle(&mut self, Echo(n): Echo, _: &mut Self::Context) -> Self::Result {
            self.seen.push(n);
            let gate = Arc::clone(&self.gate);
            let wait = async move {
                gate.notified().await;
                n
            };
            AtomicResponse::new(Box::pin(wait.into_actor(self)))
        }
    }

    impl Handler<Seen> for Slow {
        type Result = Vec<u32>;
        fn handle(&mut self, _: Seen, _: &mut Self::Context) -> Vec<u32> {
            self.seen.clone()
        }
    }

    impl Handler<Stop> for Slow {
        type Result = ();
        fn handle(&mut self, _: Stop, ctx: &mut Self::Context) {
            ctx.stop();
        }
    }

    const PATIENCE: Duration = Duration::from_secs(5);

    fn slow(permits: usize) -> (BoundedAddr<Slow>, Arc<Notify>) {
        slow_for(permits, PATIENCE)
    }

    fn slow_for(permits: usize, patience: Duration) -> (BoundedAddr<Slow>, Arc<Notify>) {
        let gate = Arc::new(Notify::new());
        let actor = Slow {
            gate: Arc::clone(&gate),
            seen: vec![],
        };
        (BoundedAddr::start(permits, patience, |_| actor), gate)
    }

    #[actix::test]
    async fn ten_callers_on_three_permits_are_three_served_and_seven_busy() {
        let (addr, gate) = slow(3);
        let callers: Vec<_> = (0..10)
            .map(|n| {
                let addr = addr.clone();
                actix_rt::spawn(async move { addr.ask(Echo(n)).await })
            })
            .collect();
        // Spawned last, so every caller has asked before the gate begins to open.
        let opener = actix_rt::spawn(async move {
            loop {
                gate.notify_one();
                tokio::task::yield_now().await;
            }
        });
        let answers: Vec<_> = join_all(callers)
            .await
            .into_iter()
            .map(Result::unwrap)
            .collect();
        opener.abort();
        let served: Vec<_> = answers.iter().filter_map(|a| a.ok()).collect();
        assert_eq!(served, [0, 1, 2]);
        let busy = |a: &&Result<u32, AskError>| **a == Err(AskError::Busy);
        assert_eq!(answers.iter().filter(busy).count(), 7);
        assert_eq!(addr.ask(Seen).await, Ok(vec![0, 1, 2]));
    }

    #[actix::test]
    async fn an_ask_that_takes_too_long_is_given_up_and_its_permit_returned() {
        let (addr, gate) = slow_for(1, Duration::from_millis(5));
        assert_eq!(addr.ask(Echo(1)).await, Err(AskError::Timeout));
        // The abandoned message was begun, so it ends before the next one is handled.
        gate.notify_one();
        let mut seen = addr.ask(Seen).await;
        while seen == Err(AskError::Timeout) {
            seen = addr.ask(Seen).await;
        }
        assert_eq!(seen, Ok(vec![1]));
    }

    #[actix::test]
    async fn an_ask_of_an_ended_actor_says_so() {
        let (addr, _gate) = slow(2);
        assert_eq!(addr.ask(Stop).await, Ok(()));
        assert_eq!(addr.ask(Seen).await, Err(AskError::Stopped));
    }

    #[actix::test]
    async fn a_caller_that_goes_away_returns_its_permit_and_leaves_nothing_queued() {
        let (addr, _gate) = slow(1);
        {
            let mut ask = Box::pin(addr.ask(Echo(7)));
            assert!(futures::poll!(ask.as_mut()).is_pending());
            assert_eq!(addr.ask(Seen).await, Err(AskError::Busy));
        }
        assert_eq!(addr.ask(Seen).await, Ok(vec![]));
    }

    /// Asks whose time was noted; the library shows that in its text only.
    fn answered(asks: &Asks) -> u64 {
        let mut registry = Registry::default();
        registry.register("asks", "", asks.answers().clone());
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        let count = text
            .lines()
            .find_map(|line| line.strip_prefix("asks_count "));
        count.unwrap().parse().unwrap()
    }

    #[actix::test]
    async fn what_became_of_each_ask_is_counted() {
        let (addr, gate) = slow_for(2, Duration::from_millis(5));
        let clone = addr.clone();
        let counts = || {
            let asks = clone.asks();
            let (refused, unanswered) = (asks.refused().get(), asks.unanswered().get());
            (asks.under_way(), refused, unanswered, answered(asks))
        };
        {
            let (mut first, mut second) =
                (Box::pin(addr.ask(Echo(1))), Box::pin(addr.ask(Echo(2))));
            assert!(futures::poll!(first.as_mut()).is_pending());
            assert!(futures::poll!(second.as_mut()).is_pending());
            assert_eq!(addr.ask(Seen).await, Err(AskError::Busy));
            assert_eq!(counts(), (2, 1, 0, 0));
            assert_eq!(first.await, Err(AskError::Timeout));
        }
        assert_eq!(counts(), (0, 1, 1, 0));
        gate.notify_one();
        let mut seen = addr.probe(Seen).await;
        while seen.is_err() {
            seen = addr.probe(Seen).await;
        }
        assert_eq!(counts(), (0, 1, 1, 0), "a probe is no ask");
        while addr.ask(Seen).await.is_err() {}
        assert_eq!(answered(clone.asks()), 1);
    }

    #[actix::test]
    async fn an_actor_without_a_free_permit_is_busy_and_alive() {
        let (addr, gate) = slow(1);
        let mut ask = Box::pin(addr.ask(Echo(7)));
        assert!(futures::poll!(ask.as_mut()).is_pending());
        gate.notify_one();
        assert_eq!(addr.ask(Seen).await, Err(AskError::Busy));
        assert_eq!(addr.probe(Seen).await, Ok(vec![7]));
        assert_eq!(ask.await, Ok(7));
    }

    #[actix::test]
    async fn work_that_nobody_waits_for_still_counts() {
        let jobs = BlockingJobs::new(1);
        let (go, gone) = std::sync::mpsc::channel::<()>();
        drop(jobs.run(move || gone.recv()));
        let told = jobs.clone().run(|| 1).await.unwrap_err();
        assert!(matches!(told, JobError::Busy), "{told}");
        go.send(()).unwrap();
        while jobs.0.available_permits() == 0 {
            tokio::task::yield_now().await;
        }
        let told = jobs.run(|| -> u32 { panic!("on purpose") }).await;
        assert!(matches!(told, Err(JobError::Panicked(_))));
        assert_eq!(jobs.run(|| 2).await.unwrap(), 2);
    }

    #[actix::test]
    async fn clones_share_one_bound() {
        let (addr, _gate) = slow(0);
        assert_eq!(addr.clone().ask(Seen).await, Err(AskError::Busy));
    }
}
