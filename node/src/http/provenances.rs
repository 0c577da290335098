//! The provenance that goes out with a skill: made once per text, since each one costs a signature.
//!
//! What came from a peer unchanged is handed on with its earlier hops, or goes out unsigned if it came unsigned;
//! anything else is authored here.

use std::collections::HashMap;
use std::sync::Arc;

use kairos_actors::knowledge::{Authorship, KnowledgeHandle, Served};
use kairos_protocol::crypto::Keypair;
use kairos_protocol::hash::ContentHash;
use kairos_protocol::id::AgentId;
use kairos_protocol::provenance::{Kind, Provenance, ProvenanceError};
use kairos_protocol::time::Clock;
use parking_lot::Mutex;
use serde_json::Value;

use super::error::ApiError;

/// Most provenances kept; past it all are made anew as they are asked for.
const KEPT_MAX: usize = 4096;

/// Makes and keeps provenances.
pub struct Provenances {
    id: AgentId,
    keypair: Arc<Keypair>,
    clock: Arc<dyn Clock>,
    knowledge: KnowledgeHandle,
    /// By skill id and hash of its text. Held for a look-up, never across an await.
    made: Mutex<HashMap<(String, ContentHash), Arc<Value>>>,
}

impl Provenances {
    /// A maker that signs as `id`.
    pub fn new(
        id: AgentId,
        keypair: Arc<Keypair>,
        clock: Arc<dyn Clock>,
        knowledge: KnowledgeHandle,
    ) -> Self {
        Self {
            id,
            keypair,
            clock,
            knowledge,
            made: Mutex::default(),
        }
    }

    /// The provenance of a text that is about to be served; null if nobody signed for it.
    pub async fn of(&self, served: &Served) -> Result<Arc<Value>, ApiError> {
        let skill = &served.skill;
        let key = (skill.id.clone(), skill.content_hash);
        if let Some(made) = self.made.lock().get(&key) {
            return Ok(Arc::clone(made));
        }
        let authorship = self
            .knowledge
            .authorship(&skill.name, skill.content_hash)
            .await?;
        let (id, keypair, now) = (self.id.clone(), Arc::clone(&self.keypair), self.clock.now());
        let (name, hash) = (skill.name.clone(), skill.content_hash);
        let sign = move || match authorship {
            Authorship::Theirs(None) => Ok(None),
            Authorship::Theirs(Some(received)) => received.handed_on(id, &keypair, now).map(Some),
            Authorship::Ours => {
                Provenance::authored(Kind::Skill, &name, hash, id, &keypair, now).map(Some)
            }
        };
        let signed = actix_web::web::block(sign)
            .await
            .map_err(|e| ApiError::internal(&e))?;
        let provenance = match signed {
            Ok(provenance) => provenance,
            Err(ProvenanceError::TooManyHops(_)) => {
                return Err(ApiError::not_found(
                    "Skill has been handed on as often as it may be; ask its author.",
                ));
            }
            Err(error) => return Err(ApiError::internal(&error)),
        };
        let value = serde_json::to_value(provenance).map_err(|e| ApiError::internal(&e))?;
        let value = Arc::new(value);
        let mut made = self.made.lock();
        if made.len() >= KEPT_MAX {
            made.clear();
        }
        made.insert(key, Arc::clone(&value));
        Ok(value)
    }
}
