//! The ledgers of other Places: each is looked at from time to time, and compared with what others saw of it.
//!
//! A Place that shows one history to one and another to somebody else signs both. Whoever hears of both has the evidence.

use std::collections::BTreeMap;

use kairos_protocol::crypto;
use kairos_protocol::federation::agreement::Party;
use kairos_protocol::federation::answer::{Answer, Ask, ENTRIES_MAX, Question, ToldError};
use kairos_protocol::federation::journey::Journey;
use kairos_protocol::id::AgentId;
use kairos_protocol::tlog::statement::{Attributed, log_name};

use super::{Federation, FederationError, Ledger};

/// Most ledgers that are told of.
const SEEN_MAX: usize = ENTRIES_MAX;

impl Federation {
    /// What was seen of the ledger of the agent `id`.
    pub(super) async fn ledger_of(&self, id: &AgentId) -> Result<Option<Ledger>, FederationError> {
        let seen = self.witness.find(log_name(id)).await?;
        Ok(seen.map(|seen| Ledger {
            size: seen.checkpoint.head().size,
            at: seen.at,
            fork: seen.fork,
        }))
    }

    /// What was seen of the ledgers of those with whom there is an agreement, as they signed it.
    pub(super) async fn seen_of_partners(&self) -> Result<Vec<Attributed>, FederationError> {
        let mut all = Vec::new();
        for partner in self.in_effect().into_iter().take(SEEN_MAX) {
            let seen = self.witness.find(log_name(&partner.place_id)).await?;
            all.extend(seen.and_then(|seen| seen.attributed()));
        }
        Ok(all)
    }

    fn in_effect(&self) -> Vec<Party> {
        self.place.look(|place| {
            let partners = place.partners();
            let honest = partners.filter(|with| !self.witness.is_convicted(&with.place_id));
            honest.cloned().collect()
        })
    }

    /// Asks each of them what it saw of the others, then has each show how its ledger continues all that.
    pub(super) async fn watch_all(&self) {
        let partners = self.in_effect();
        let mut seen: BTreeMap<AgentId, Vec<Attributed>> = BTreeMap::new();
        for partner in &partners {
            match self.seen_by(&partner.place_id).await {
                Ok(all) => {
                    for shown in all {
                        let of = shown.statement.instance_id.clone();
                        seen.entry(of).or_default().push(shown);
                    }
                }
                Err(error) => {
                    tracing::warn!(place.id = %partner.place_id, %error, "it does not tell what it saw of other Places");
                }
            }
        }
        for partner in partners {
            let seen = seen.remove(&partner.place_id).unwrap_or_default();
            if let Err(error) = self.watch(&partner, seen).await {
                tracing::warn!(place.id = %partner.place_id, %error, "the ledger of a Place cannot be followed");
            }
        }
    }

    async fn seen_by(&self, partner: &AgentId) -> Result<Vec<Attributed>, FederationError> {
        let question = Question {
            journey: Journey::default(),
            nonce: hex::encode(crypto::random_bytes()?),
            ask: Ask::Checkpoints {},
        };
        let journey = Journey {
            path: vec![self.id.clone()],
            route: Vec::new(),
        };
        let told = self.ask_next(partner, journey, &question).await?;
        match told.answer {
            Answer::Checkpoints { seen } => Ok(seen),
            _ => Err(ToldError::OtherQuestion.into()),
        }
    }

    async fn watch(&self, partner: &Party, seen: Vec<Attributed>) -> Result<(), FederationError> {
        let url = partner.url.parse()?;
        self.is_still(&url, partner).await?;
        Ok(self.meeting.confront(url, seen).await.map(drop)?)
    }
}
