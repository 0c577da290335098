//! The actor: runs errands, and has a life run at each Place.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use kairos_protocol::wire::place::Members;

use super::carry::{CARRIES, CARRY_MAX, Carry};
use super::error::MembershipError;
use super::hand_over::PostThrough;
use super::mail::store::MailStore;
use super::mail::{Collect, Collected, Letters, Post, Read, Sent};
use super::message::{
    Acquire, Browse, ChangeNeeds, Deposit, Deposited, Health, Join, Joined, Leave, Left, List,
    Live, Seen, Shutdown, Tick, Withdraw,
};
use super::record::{Membership, NeedRecord};
use super::session::Sessions;
use super::store::{Records, Stamp};
use super::through::{AcquireThrough, Look, Looked};
use super::{FOLDER, MAIL, Member, MembershipHandle, MembershipParts, blocking, life};
use crate::bounded_addr::BoundedAddr;
use crate::meeting::client::PeerUrl;
use crate::passing::INBOX;
use crate::quarantine::Held;

/// Things that may be done at Places at once, beside living there.
const ERRANDS: usize = 8;
/// Longest errand: several requests, each within the client's own limits.
const ERRAND_MAX: Duration = Duration::from_secs(20 * 60);
/// How often is looked whether another process joined or left a Place.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// See the [module above](super).
pub struct MembershipActor {
    member: Arc<Member>,
    /// What lives at each Place, once it is told to.
    lives: Option<HashMap<PeerUrl, SpawnHandle>>,
    stamp: Stamp,
    looking: bool,
}

impl MembershipActor {
    /// Finishes what was cut off and starts the actor of the data directory `data`. Blocks on the disk, so it belongs
    /// before anything is served.
    pub fn start(
        data: &Path,
        parts: MembershipParts,
        permits: usize,
        patience: Duration,
    ) -> Result<MembershipHandle, MembershipError> {
        let folder = data.join("storage").join(FOLDER);
        let mail = MailStore::new(&folder.join(MAIL), &data.join(INBOX), parts.inbox_limits);
        mail.recover().map_err(MembershipError::Store)?;
        let member = Member {
            client: parts.client,
            signed: parts.signed,
            keypair: parts.keypair,
            clock: parts.clock,
            policy: parts.policy,
            settings: parts.settings,
            proof_window: parts.proof_window,
            peers: parts.peers,
            quarantine: parts.quarantine,
            knowledge: parts.knowledge,
            records: Records::new(&folder),
            mail,
            sessions: Sessions::default(),
        };
        let actor = Self {
            member: Arc::new(member),
            lives: None,
            stamp: None,
            looking: false,
        };
        let addr = Self::create(|ctx| {
            ctx.set_mailbox_capacity(permits.saturating_add(ERRANDS + CARRIES));
            actor
        });
        Ok(MembershipHandle {
            errands: BoundedAddr::new(addr.clone(), ERRANDS, ERRAND_MAX),
            carries: BoundedAddr::new(addr.clone(), CARRIES, CARRY_MAX + patience),
            questions: BoundedAddr::new(addr, permits, patience),
        })
    }

    /// Runs an errand; several may run at once.
    fn errand<T: 'static, F>(
        &self,
        work: impl FnOnce(Arc<Member>) -> F,
    ) -> ResponseFuture<Result<T, MembershipError>>
    where
        F: Future<Output = Result<T, MembershipError>> + 'static,
    {
        Box::pin(work(Arc::clone(&self.member)))
    }

    /// Begins to live at Places that were joined, and ends that where they were left.
    fn adapt(&mut self, places: Vec<Membership>, ctx: &mut Context<Self>) {
        let Some(lives) = &mut self.lives else {
            return;
        };
        lives.retain(|url, life| {
            let stays = places.iter().any(|place| &place.url == url);
            if !stays {
                ctx.cancel_future(*life);
            }
            stays
        });
        for place in places {
            lives.entry(place.url).or_insert_with_key(|url| {
                let life = life::live(Arc::clone(&self.member), url.clone());
                ctx.spawn(fut::wrap_future::<_, Self>(life))
            });
        }
    }
}

impl Actor for MembershipActor {
    type Context = Context<Self>;
}

impl Handler<Join> for MembershipActor {
    type Result = ResponseFuture<Result<Joined, MembershipError>>;

    fn handle(&mut self, message: Join, _ctx: &mut Self::Context) -> Self::Result {
        self.errand(|member| async move { member.join(message).await })
    }
}

impl Handler<Leave> for MembershipActor {
    type Result = ResponseFuture<Result<Left, MembershipError>>;

    fn handle(&mut self, message: Leave, _ctx: &mut Self::Context) -> Self::Result {
        self.errand(|member| async move { member.leave(message).await })
    }
}

impl Handler<List> for MembershipActor {
    type Result = ResponseFuture<Result<Vec<Membership>, MembershipError>>;

    fn handle(&mut self, _message: List, _ctx: &mut Self::Context) -> Self::Result {
        self.errand(|member| async move { member.records().await })
    }
}

impl Handler<Browse> for MembershipActor {
    type Result = ResponseFuture<Result<Seen, MembershipError>>;

    fn handle(&mut self, message: Browse, _ctx: &mut Self::Context) -> Self::Result {
        self.errand(|member| async move { member.browse(message).await })
    }
}

impl Handler<Deposit> for MembershipActor {
    type Result = ResponseFuture<Result<Deposited, MembershipError>>;

    fn handle(&mut self, message: Deposit, _ctx: &mut Self::Context) -> Self::Result {
        self.errand(|member| async move { member.deposit(message).await })
    }
}

impl Handler<Withdraw> for MembershipActor {
    type Result = ResponseFuture<Result<(), MembershipError>>;

    fn handle(&mut self, message: Withdraw, _ctx: &mut Self::Context) -> Self::Result {
        self.errand(|member| async move { member.withdraw(message).await })
    }
}

impl Handler<Acquire> for MembershipActor {
    type Result = ResponseFuture<Result<Held, MembershipError>>;

    fn handle(&mut self, message: Acquire, _ctx: &mut Self::Context) -> Self::Result {
        self.errand(|member| async move { member.acquire(message).await })
    }
}

impl Handler<Look> for MembershipActor {
    type Result = ResponseFuture<Result<Looked, MembershipError>>;

    fn handle(&mut self, message: Look, _ctx: &mut Self::Context) -> Self::Result {
        self.errand(|member| async move { member.look(message).await })
    }
}

impl Handler<AcquireThrough> for MembershipActor {
    type Result = ResponseFuture<Result<Held, MembershipError>>;

    fn handle(&mut self, message: AcquireThrough, _ctx: &mut Self::Context) -> Self::Result {
        self.errand(|member| async move { member.acquire_through(message).await })
    }
}

impl Handler<PostThrough> for MembershipActor {
    type Result = ResponseFuture<Result<Sent, MembershipError>>;

    fn handle(&mut self, message: PostThrough, _ctx: &mut Self::Context) -> Self::Result {
        self.errand(|member| async move { member.post_through(message).await })
    }
}

impl Handler<Carry> for MembershipActor {
    type Result = ResponseFuture<Result<Members, MembershipError>>;

    fn handle(&mut self, message: Carry, _ctx: &mut Self::Context) -> Self::Result {
        self.errand(|member| async move { member.carry(message).await })
    }
}

impl Handler<ChangeNeeds> for MembershipActor {
    type Result = ResponseFuture<Result<Vec<NeedRecord>, MembershipError>>;

    fn handle(&mut self, message: ChangeNeeds, _ctx: &mut Self::Context) -> Self::Result {
        let ChangeNeeds { url, change } = message;
        self.errand(|member| async move { member.change_needs(url, change).await })
    }
}

impl Handler<Post> for MembershipActor {
    type Result = ResponseFuture<Result<Sent, MembershipError>>;

    fn handle(&mut self, message: Post, _ctx: &mut Self::Context) -> Self::Result {
        self.errand(|member| async move { member.post(message).await })
    }
}

impl Handler<Collect> for MembershipActor {
    type Result = ResponseFuture<Result<Collected, MembershipError>>;

    fn handle(&mut self, message: Collect, _ctx: &mut Self::Context) -> Self::Result {
        self.errand(|member| async move {
            let place = member.enter(&message.url).await?;
            match place.has_relay {
                true => member.collect(&message.url).await,
                false => Err(MembershipError::NoRelay(message.url)),
            }
        })
    }
}

impl Handler<Read> for MembershipActor {
    type Result = ResponseFuture<Result<Letters, MembershipError>>;

    fn handle(&mut self, message: Read, _ctx: &mut Self::Context) -> Self::Result {
        self.errand(|member| async move { member.read(message).await })
    }
}

impl Handler<Live> for MembershipActor {
    type Result = Result<(), MembershipError>;

    fn handle(&mut self, _message: Live, ctx: &mut Self::Context) -> Self::Result {
        if self.lives.is_none() {
            self.lives = Some(HashMap::new());
            ctx.notify(Tick);
            ctx.run_interval(LOOK_EVERY, |_, ctx| ctx.notify(Tick));
        }
        Ok(())
    }
}

impl Handler<Tick> for MembershipActor {
    type Result = ();

    fn handle(&mut self, _tick: Tick, ctx: &mut Self::Context) {
        if std::mem::replace(&mut self.looking, true) {
            return;
        }
        let (records, known) = (self.member.records.clone(), self.stamp);
        let look = blocking(move || {
            let stamp = records.stamp();
            let places = match stamp == known {
                true => None,
                false => Some(records.read()),
            };
            (stamp, places)
        });
        ctx.spawn(look.into_actor(self).map(|looked, this, ctx| {
            this.looking = false;
            match looked {
                Ok((_, None)) | Err(_) => {}
                Ok((stamp, Some(Ok(places)))) => {
                    this.stamp = stamp;
                    this.adapt(places, ctx);
                }
                Ok((stamp, Some(Err(error)))) => {
                    // Said once for each state of the file.
                    this.stamp = stamp;
                    tracing::error!(%error, "the record of joined Places could not be read");
                }
            }
        }));
    }
}

impl Handler<Health> for MembershipActor {
    type Result = Result<(), MembershipError>;

    fn handle(&mut self, _message: Health, _ctx: &mut Self::Context) -> Self::Result {
        Ok(())
    }
}

impl Handler<Shutdown> for MembershipActor {
    type Result = AtomicResponse<Self, Result<(), MembershipError>>;

    fn handle(&mut self, _message: Shutdown, ctx: &mut Self::Context) -> Self::Result {
        for (_, life) in self.lives.take().into_iter().flatten() {
            ctx.cancel_future(life);
        }
        let member = Arc::clone(&self.member);
        let bye = async move { member.say_goodbye().await };
        AtomicResponse::new(Box::pin(bye.into_actor(self).map(|(), _this, ctx| {
            ctx.stop();
            Ok(())
        })))
    }
}
