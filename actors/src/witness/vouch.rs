//! Cosigning the checkpoints of agents that come to us, which have to show how their ledgers continue what we know.

use actix::{Handler, Message, ResponseFuture};
use kairos_protocol::crypto::PublicKey;
use kairos_protocol::id::AgentId;
use kairos_protocol::tlog::note::NoteSignature;
use kairos_protocol::tlog::statement::LogStatement;
use kairos_protocol::wire::history::Continued;

use super::{Observe, Witness, WitnessActor, WitnessError, WitnessHandle};

/// What becomes of a checkpoint that is to be cosigned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Vouched {
    /// It is kept, and cosigned.
    Cosigned {
        /// By our witness.
        signature: NoteSignature,
        /// Says which key that is.
        statement: Box<LogStatement>,
    },
    /// Nothing yet: it has to be shown how it continues the ledger of so many blocks.
    Known {
        /// Blocks we know of.
        size: u64,
    },
}

impl Observe {
    /// What the agent `id` with this key shows, and how that continues what it showed before; nothing if it is the ledger
    /// of somebody else, or signed under another key.
    pub fn by(id: &AgentId, key: &PublicKey, continued: Continued) -> Option<Self> {
        let statement = &continued.now.statement;
        let is_its_own = statement.instance_id == *id && statement.identity_key == *key;
        is_its_own.then(|| Self {
            shown: continued.now.clone(),
            continued: Some(continued),
            rotations: Vec::new(),
        })
    }
}

#[derive(Message)]
#[rtype(result = "Result<Vouched, WitnessError>")]
pub(super) struct Vouch {
    pub(super) observe: Observe,
}

impl WitnessHandle {
    /// Keeps what a visitor shows, and cosigns it, if it continues what we know of its ledger or is the first we see.
    ///
    /// Fails as [`observe`](Self::observe) does, and with [`WitnessError::Full`] while half of all the logs that may be
    /// known are, since those we go to ourselves find room.
    pub async fn vouch(&self, observe: Observe) -> Result<Vouched, WitnessError> {
        self.addr.ask(Vouch { observe }).await?
    }
}

impl Witness {
    fn vouch(&self, observe: Observe) -> Result<Vouched, WitnessError> {
        let Observe {
            shown, continued, ..
        } = &observe;
        // First of all, so that nobody learns what we know of others.
        shown.verify()?;
        let checkpoint = shown.checkpoint.clone();
        if let Some(seen) = self.store.find(&checkpoint.checkpoint().origin)?
            && seen.fork.is_none()
        {
            let size = seen.checkpoint.head().size;
            let from = continued.as_ref().map(|continued| continued.before.size);
            if checkpoint.head().size > size && from != Some(size) {
                return Ok(Vouched::Known { size });
            }
        }
        let now = self.clock.now();
        self.store.observe(observe, now, self.limit / 2)?;
        Ok(Vouched::Cosigned {
            signature: checkpoint.cosign(&self.keys.witness, now)?,
            statement: Box::new(self.keys.statement.clone()),
        })
    }
}

impl Handler<Vouch> for WitnessActor {
    type Result = ResponseFuture<Result<Vouched, WitnessError>>;

    fn handle(&mut self, Vouch { observe }: Vouch, _ctx: &mut Self::Context) -> Self::Result {
        self.change(move |witness| witness.vouch(observe))
    }
}
