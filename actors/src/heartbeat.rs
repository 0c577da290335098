//! The heartbeat actor: sees to it that agents of the hosted Place fade when they give no sign of life, and that what came
//! from other Places is taken down in time.
//!
//! Owns: a timer. Asks: the Place. Tells: the recorder. Asked by: the watchdog, through [`HeartbeatHandle`].
//! Invariant: a sweep is done in steps, so that nobody waits long for it.

use std::sync::Arc;
use std::time::Duration;

use actix::{
    Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, Message, WrapFuture,
};

use crate::bounded_addr::{AskError, Asks, BoundedAddr, Health, Shutdown};
use crate::place::{PlaceError, PlaceHandle};
use crate::recorder::{Record, RecorderHandle};

/// How often is looked.
const SWEEP_EVERY: Duration = Duration::from_secs(5);
/// Most agents that fade in one step.
const STEP: usize = 1_000;

/// See the module.
pub struct HeartbeatActor {
    place: PlaceHandle,
    recorder: RecorderHandle,
    sweeping: bool,
}

/// Reaches the heartbeat actor.
#[derive(Clone)]
pub struct HeartbeatHandle(BoundedAddr<HeartbeatActor>);

#[derive(Message)]
#[rtype(result = "()")]
struct Tick;

impl HeartbeatHandle {
    /// The bound of asks, and what was counted at it.
    pub fn asks(&self) -> &Arc<Asks> {
        self.0.asks()
    }

    /// Whether the actor answers.
    pub async fn health(&self) -> Result<(), AskError> {
        self.0.probe(Health).await
    }

    /// Ends the actor.
    pub async fn shutdown(&self) -> Result<(), AskError> {
        self.0.ask(Shutdown).await
    }
}

impl HeartbeatActor {
    /// Starts to look after `place`, and tells `recorder` who faded.
    pub fn start(
        place: PlaceHandle,
        recorder: RecorderHandle,
        permits: usize,
        patience: Duration,
    ) -> HeartbeatHandle {
        let actor = Self {
            place,
            recorder,
            sweeping: false,
        };
        HeartbeatHandle(BoundedAddr::start(permits, patience, |_| actor))
    }
}

impl Actor for HeartbeatActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_interval(SWEEP_EVERY, |_, ctx| ctx.notify(Tick));
    }
}

impl Handler<Tick> for HeartbeatActor {
    type Result = ();

    fn handle(&mut self, _: Tick, ctx: &mut Self::Context) {
        if std::mem::replace(&mut self.sweeping, true) {
            return;
        }
        let place = self.place.clone();
        let swept = async move {
            let expired = place.expire(STEP).await?;
            Ok::<_, PlaceError>((place.sweep(STEP).await?, expired))
        };
        ctx.spawn(swept.into_actor(self).map(|swept, this, ctx| {
            this.sweeping = false;
            match swept {
                Ok((faded, expired)) => {
                    for deposit in &expired {
                        tracing::info!(deposit.key = ?deposit.key, "a deposit from another Place is too old");
                    }
                    let ttl = this.place.look(|place| place.policy().ttl);
                    for agent in &faded {
                        tracing::info!(agent.id = %agent.id, "an agent faded");
                        this.recorder.record(Record::Faded {
                            agent: agent.id.clone(),
                            last_seen: agent.last_seen,
                            ttl,
                        });
                    }
                    if faded.len() == STEP || expired.len() == STEP {
                        ctx.notify(Tick);
                    }
                }
                Err(error) => tracing::warn!(%error, "what is over could not be ended"),
            }
        }));
    }
}

impl Handler<Health> for HeartbeatActor {
    type Result = ();

    fn handle(&mut self, _: Health, _ctx: &mut Self::Context) {}
}

impl Handler<Shutdown> for HeartbeatActor {
    type Result = ();

    fn handle(&mut self, _: Shutdown, ctx: &mut Self::Context) {
        ctx.stop();
    }
}
