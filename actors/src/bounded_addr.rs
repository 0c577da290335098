//! The one way to reach an actor.
//!
//! An actix mailbox bounds each *clone* of an address, so a thousand clones queue a thousand messages beyond it. A
//! [`BoundedAddr`] shares one address and a semaphore: at most `permits` asks are in flight, the next caller is
//! told at once that the actor is busy, and nobody waits longer than `patience`.

use std::sync::Arc;
use std::time::Duration;

use actix::dev::ToEnvelope;
use actix::{Actor, Addr, Handler, MailboxError, Message};
use thiserror::Error;
use tokio::sync::Semaphore;

/// Why an ask brought no answer. The texts follow the name of the one who was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum AskError {
    /// All permits are taken; nothing was sent.
    #[error("is busy; try again shortly")]
    Busy,
    /// No answer in time. Whether the message took effect is unknown.
    #[error("did not answer in time")]
    Timeout,
    /// The actor is gone.
    #[error("has stopped")]
    Stopped,
}

/// A shared, bounded address. Cheap to clone.
#[derive(Debug)]
pub struct BoundedAddr<A: Actor>(Arc<Inner<A>>);

#[derive(Debug)]
struct Inner<A: Actor> {
    addr: Addr<A>,
    permits: Semaphore,
    patience: Duration,
}

impl<A: Actor> Clone for BoundedAddr<A> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<A: Actor> BoundedAddr<A> {
    /// Bounds `addr`, whose mailbox must hold at least `permits` messages for asks to be served in order.
    pub fn new(addr: Addr<A>, permits: usize, patience: Duration) -> Self {
        let permits = Semaphore::new(permits.clamp(1, Semaphore::MAX_PERMITS));
        Self(Arc::new(Inner {
            addr,
            permits,
            patience,
        }))
    }

    /// Sends `message` and waits for the answer.
    pub async fn ask<M, T, E>(&self, message: M) -> Result<T, E>
    where
        M: Message<Result = Result<T, E>> + Send + 'static,
        A: Handler<M>,
        A::Context: ToEnvelope<A, M>,
        T: Send + 'static,
        E: From<AskError> + Send + 'static,
    {
        let inner = &self.0;
        let Ok(_permit) = inner.permits.try_acquire() else {
            return Err(AskError::Busy.into());
        };
        match inner.addr.send(message).timeout(inner.patience).await {
            Ok(answer) => answer,
            Err(MailboxError::Timeout) => Err(AskError::Timeout.into()),
            Err(MailboxError::Closed) => Err(AskError::Stopped.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use actix::prelude::*;
    use futures::future::join_all;
    use tokio::sync::Notify;

    use super::*;

    /// Answers when its gate is opened.
    struct Gated(Arc<Notify>);
    impl Actor for Gated {
        type Context = Context<Self>;
    }

    #[derive(Message)]
    #[rtype(result = "Result<u32, AskError>")]
    struct Pass;

    #[derive(Message)]
    #[rtype(result = "Result<(), AskError>")]
    struct Stop;

    impl Handler<Pass> for Gated {
        type Result = ResponseFuture<Result<u32, AskError>>;
        fn handle(&mut self, _pass: Pass, _ctx: &mut Self::Context) -> Self::Result {
            let gate = Arc::clone(&self.0);
            Box::pin(async move {
                gate.notified().await;
                Ok(1)
            })
        }
    }

    impl Handler<Stop> for Gated {
        type Result = Result<(), AskError>;
        fn handle(&mut self, _stop: Stop, ctx: &mut Self::Context) -> Self::Result {
            ctx.stop();
            Ok(())
        }
    }

    #[actix::test]
    async fn callers_beyond_the_permits_are_told_at_once() {
        let gate = Arc::new(Notify::new());
        let gated = BoundedAddr::new(Gated(Arc::clone(&gate)).start(), 3, Duration::from_secs(60));
        let opens = async {
            // The gate opens after the seven without a permit have their answer.
            for _ in 0..3 {
                tokio::task::yield_now().await;
                gate.notify_one();
            }
        };
        let (answers, ()) = tokio::join!(join_all((0..10).map(|_| gated.ask(Pass))), opens);
        assert_eq!(answers.iter().filter(|a| **a == Ok(1)).count(), 3);
        assert_eq!(
            answers
                .iter()
                .filter(|a| **a == Err(AskError::Busy))
                .count(),
            7
        );
        gate.notify_one();
        assert_eq!(gated.ask(Pass).await, Ok(1), "permits come back");
    }

    #[actix::test]
    async fn an_actor_that_takes_too_long_or_is_gone_is_named_so() {
        let gate = Arc::new(Notify::new());
        let gated = BoundedAddr::new(Gated(gate).start(), 3, Duration::from_millis(1));
        assert_eq!(gated.ask(Pass).await, Err(AskError::Timeout));
        let gated = BoundedAddr::new(
            Gated(Arc::new(Notify::new())).start(),
            3,
            Duration::from_secs(60),
        );
        assert_eq!(gated.ask(Stop).await, Ok(()));
        assert_eq!(gated.ask(Pass).await, Err(AskError::Stopped));
    }
}
