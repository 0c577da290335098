//! The auth actor: tokens of those who act for this agent's owner.
//!
//! Owns: `storage/tokens.json` below the data directory, which other processes may change as well. Talks to: nobody.
//! Asked by: HTTP, MCP and the command line, through [`AuthHandle`].
//! Invariant: a token that a process has revoked opens nothing in any other, from the moment the revocation is
//! acknowledged. Whoever authenticates therefore looks at the file's stamp, which costs one call of the system, and
//! has the file read again when it is another one; no request reads it otherwise.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use arc_swap::ArcSwap;
use kairos_place::role::Role;
use kairos_place::token::{
    Lifetime, RawToken, Token, TokenBook, TokenError, TokenFileError, UserName, Which,
};
use kairos_protocol::crypto::{KeyError, random_bytes};
use kairos_protocol::hash::ContentHash;
use kairos_protocol::time::{Clock, Timestamp};
use serde_json::json;
use thiserror::Error;

use crate::action_log::{ActionLog, Record};
use crate::bounded_addr::{AskError, Asks, BoundedAddr};

pub mod store;

use store::{Snapshot, TokenStore};

/// Longest text that is looked up; a token has 67 characters.
const PRESENTED_MAX: usize = 256;

/// Who acts, as their token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// Their name.
    pub user: UserName,
    /// What they may do.
    pub role: Role,
    /// The hash of their token.
    pub token: ContentHash,
    /// When it was made.
    pub issued_at: Timestamp,
    /// When its time is over; never if absent.
    pub expires_at: Option<Timestamp>,
}

/// Why something about tokens failed. [`AuthError::Io`] may name local paths: its text is for the owner only.
#[derive(Debug, Error)]
pub enum AuthError {
    /// The file is not one of tokens. It opens nothing, and is never replaced.
    #[error("storage/tokens.json cannot be used: {0}; put a backup in its place or move it away")]
    File(#[from] TokenFileError),
    /// What was asked for cannot be done.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// There was no randomness.
    #[error("no token could be made: {0}")]
    Random(#[from] KeyError),
    /// The disk failed.
    #[error("the tokens could not be used: {0}")]
    Io(#[from] io::Error),
    /// The actor did not answer.
    #[error("the tokens: {0}")]
    Ask(#[from] AskError),
}

/// Makes a token.
///
/// Fails with [`TokenError::Full`] at the bound.
#[derive(Debug, Message)]
#[rtype(result = "Result<(RawToken, Token), AuthError>")]
pub struct Issue {
    /// For whom.
    pub user: UserName,
    /// What they may do.
    pub role: Role,
    /// For how long.
    pub lifetime: Lifetime,
    /// Who makes it.
    pub by: String,
}

/// Takes tokens back and makes one in their place, with the same role and exactly the same lifetime.
///
/// Fails with [`TokenError::UnknownUser`] and the like where there is none.
#[derive(Debug, Message)]
#[rtype(result = "Result<Rotated, AuthError>")]
pub struct Rotate {
    /// Which.
    pub which: Which,
    /// Who wants it.
    pub by: String,
}

/// What a rotation did.
#[derive(Debug, Clone)]
pub struct Rotated {
    /// The new token's text.
    pub raw: RawToken,
    /// What is known of it.
    pub token: Token,
    /// Those it stands for.
    pub revoked: Vec<Token>,
}

/// Takes tokens back and returns them.
///
/// Fails with [`TokenError::UnknownUser`] and the like where there is none.
#[derive(Debug, Message)]
#[rtype(result = "Result<Vec<Token>, AuthError>")]
pub struct Revoke {
    /// Which.
    pub which: Which,
    /// Who wants it.
    pub by: String,
}

/// Forgets tokens that are expired or revoked; returns how many.
#[derive(Debug, Message)]
#[rtype(result = "Result<usize, AuthError>")]
pub struct Prune;

/// Takes back a token that was made for one use, and forgets it; tells whether it was there.
#[derive(Debug, Message)]
#[rtype(result = "Result<bool, AuthError>")]
struct Discard {
    hash: ContentHash,
    by: String,
}

/// All tokens, read now.
#[derive(Debug, Message)]
#[rtype(result = "Result<Arc<Snapshot>, AuthError>")]
struct Renew;

/// Whether the actor answers.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), AuthError>")]
pub struct Health;

/// Stops; everything acknowledged is on disk.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), AuthError>")]
pub struct Shutdown;

/// See the module.
pub struct AuthActor {
    shared: Arc<Shared>,
    log: ActionLog,
}

/// What the actor and its handles share.
struct Shared {
    store: TokenStore,
    clock: Arc<dyn Clock>,
    current: ArcSwap<Snapshot>,
}

/// Reaches the tokens.
#[derive(Clone)]
pub struct AuthHandle {
    addr: BoundedAddr<AuthActor>,
    shared: Arc<Shared>,
}

impl AuthHandle {
    /// Who presents `raw`; nobody if it opens nothing at this moment.
    ///
    /// Fails with [`AuthError::File`] and [`AuthError::Io`] while the file cannot be read: nobody is let in then.
    pub async fn authenticate(&self, raw: &str) -> Result<Option<Principal>, AuthError> {
        if raw.len() > PRESENTED_MAX {
            return Ok(None);
        }
        let snapshot = self.current().await?;
        let found = snapshot.book.authenticate(raw, self.shared.clock.now());
        Ok(found.map(|token| Principal {
            user: token.user.clone(),
            role: token.role,
            token: token.hash,
            issued_at: token.issued_at,
            expires_at: token.expires_at,
        }))
    }

    /// Every token, as the file has them at this moment.
    pub async fn book(&self) -> Result<Arc<TokenBook>, AuthError> {
        Ok(Arc::clone(&self.current().await?.book))
    }

    /// What the file says now; it is read only if it is not the one that was read last.
    async fn current(&self) -> Result<Arc<Snapshot>, AuthError> {
        let known = self.shared.current.load_full();
        // Here and not on a thread that may block: the kernel has the path and the file in memory from the last time,
        // and to hand the question over would cost more than the rest of a short request.
        match self.shared.store.is_current(&known)? {
            true => Ok(known),
            false => self.addr.ask(Renew).await?,
        }
    }

    /// See [`Issue`].
    pub async fn issue(&self, message: Issue) -> Result<(RawToken, Token), AuthError> {
        self.addr.ask(message).await?
    }

    /// See [`Rotate`].
    pub async fn rotate(&self, message: Rotate) -> Result<Rotated, AuthError> {
        self.addr.ask(message).await?
    }

    /// See [`Revoke`].
    pub async fn revoke(&self, message: Revoke) -> Result<Vec<Token>, AuthError> {
        self.addr.ask(message).await?
    }

    /// Takes back a token that was made for one use, and forgets it; tells whether it was there.
    pub async fn discard(&self, hash: ContentHash, by: String) -> Result<bool, AuthError> {
        self.addr.ask(Discard { hash, by }).await?
    }

    /// See [`Prune`].
    pub async fn prune(&self) -> Result<usize, AuthError> {
        self.addr.ask(Prune).await?
    }

    /// The bound of asks, and what was counted at it.
    pub fn asks(&self) -> &Arc<Asks> {
        self.addr.asks()
    }

    /// See [`Health`].
    pub async fn health(&self) -> Result<(), AuthError> {
        self.addr.probe(Health).await?
    }

    /// See [`Shutdown`].
    pub async fn shutdown(&self) -> Result<(), AuthError> {
        self.addr.ask(Shutdown).await?
    }
}

impl AuthActor {
    /// Starts the actor of the data directory `data`; touches no file before it is asked.
    pub fn start(
        data: &Path,
        log: ActionLog,
        clock: Arc<dyn Clock>,
        permits: usize,
        patience: Duration,
    ) -> AuthHandle {
        let shared = Arc::new(Shared {
            store: TokenStore::new(&data.join("storage")),
            clock,
            current: ArcSwap::default(),
        });
        let actor = Self {
            shared: Arc::clone(&shared),
            log,
        };
        AuthHandle {
            addr: BoundedAddr::start(permits, patience, |_| actor),
            shared,
        }
    }

    /// Runs `work` on a blocking thread; no other message is handled meanwhile.
    fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Shared, &ActionLog) -> Result<T, AuthError> + Send + 'static,
    ) -> AtomicResponse<Self, Result<T, AuthError>> {
        let (shared, log) = (Arc::clone(&self.shared), self.log.clone());
        let run = blocking(move || work(&shared, &log));
        AtomicResponse::new(Box::pin(run.into_actor(self)))
    }
}

impl Shared {
    /// Makes a change, durably, and publishes what the file then says.
    fn change<T>(
        &self,
        work: impl FnOnce(&mut TokenBook, Timestamp) -> Result<T, TokenError>,
    ) -> Result<T, AuthError> {
        let now = self.clock.now();
        let (done, snapshot) = self.store.change(now, |book| work(book, now))?;
        self.current.store(Arc::new(snapshot));
        Ok(done)
    }
}

/// What the log tells of a token: never more than the start of its hash.
fn record(action: &'static str, token: &Token, by: &str) -> Record {
    Record::new(action).details(json!({
        "user": token.user, "role": token.role, "token_hash": token.shown(),
        "expires_at": token.expires_at.map(|end| end.entry()), "by": by,
    }))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, AuthError> + Send + 'static,
) -> Result<T, AuthError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(panic) => Err(io::Error::other(panic).into()),
    }
}

impl Actor for AuthActor {
    type Context = Context<Self>;
}

impl Handler<Issue> for AuthActor {
    type Result = AtomicResponse<Self, Result<(RawToken, Token), AuthError>>;

    fn handle(&mut self, message: Issue, _ctx: &mut Self::Context) -> Self::Result {
        self.blocking(move |shared, log| {
            let Issue {
                user,
                role,
                lifetime,
                by,
            } = message;
            let raw = RawToken::from_random(random_bytes()?);
            let token =
                shared.change(|book, now| book.issue(&raw, user, role, lifetime, &by, now))?;
            log.tell(&record("token_created", &token, &by), shared.clock.now());
            Ok((raw, token))
        })
    }
}

impl Handler<Rotate> for AuthActor {
    type Result = AtomicResponse<Self, Result<Rotated, AuthError>>;

    fn handle(&mut self, Rotate { which, by }: Rotate, _ctx: &mut Self::Context) -> Self::Result {
        self.blocking(move |shared, log| {
            let raw = RawToken::from_random(random_bytes()?);
            let (token, revoked) =
                shared.change(|book, now| book.rotate(&which, &raw, &by, now))?;
            log.tell(&record("token_rotated", &token, &by), shared.clock.now());
            Ok(Rotated {
                raw,
                token,
                revoked,
            })
        })
    }
}

impl Handler<Revoke> for AuthActor {
    type Result = AtomicResponse<Self, Result<Vec<Token>, AuthError>>;

    fn handle(&mut self, Revoke { which, by }: Revoke, _ctx: &mut Self::Context) -> Self::Result {
        self.blocking(move |shared, log| {
            let revoked = shared.change(|book, _now| book.revoke(&which))?;
            for token in &revoked {
                log.tell(&record("token_revoked", token, &by), shared.clock.now());
            }
            Ok(revoked)
        })
    }
}

impl Handler<Discard> for AuthActor {
    type Result = AtomicResponse<Self, Result<bool, AuthError>>;

    fn handle(&mut self, Discard { hash, by }: Discard, _ctx: &mut Self::Context) -> Self::Result {
        self.blocking(move |shared, log| {
            let Some(token) = shared.change(|book, _now| Ok(book.discard(&hash)))? else {
                return Ok(false);
            };
            log.tell(&record("token_discarded", &token, &by), shared.clock.now());
            Ok(true)
        })
    }
}

impl Handler<Prune> for AuthActor {
    type Result = AtomicResponse<Self, Result<usize, AuthError>>;

    fn handle(&mut self, _prune: Prune, _ctx: &mut Self::Context) -> Self::Result {
        self.blocking(|shared, log| {
            let count = shared.change(|book, now| Ok(book.prune(now)))?;
            let told = Record::new("tokens_pruned").details(json!({"count": count}));
            log.tell(&told, shared.clock.now());
            Ok(count)
        })
    }
}

impl Handler<Renew> for AuthActor {
    type Result = AtomicResponse<Self, Result<Arc<Snapshot>, AuthError>>;

    /// Those who wait here together find it done by the first of them.
    fn handle(&mut self, _renew: Renew, _ctx: &mut Self::Context) -> Self::Result {
        self.blocking(|shared, _log| {
            let known = shared.current.load_full();
            if shared.store.is_current(&known)? {
                return Ok(known);
            }
            let read = Arc::new(shared.store.read(shared.clock.now())?);
            shared.current.store(Arc::clone(&read));
            Ok(read)
        })
    }
}

impl Handler<Health> for AuthActor {
    type Result = Result<(), AuthError>;

    fn handle(&mut self, _health: Health, _ctx: &mut Self::Context) -> Self::Result {
        Ok(())
    }
}

impl Handler<Shutdown> for AuthActor {
    type Result = Result<(), AuthError>;

    fn handle(&mut self, _shutdown: Shutdown, ctx: &mut Self::Context) -> Self::Result {
        ctx.stop();
        Ok(())
    }
}

#[cfg(test)]
mod tests;
