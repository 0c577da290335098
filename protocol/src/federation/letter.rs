//! A sealed message for an agent of another Place.

use serde::{Deserialize, Serialize};

use crate::crypto::PublicKey;
use crate::id::{AgentId, MessageId, MessageType};

/// A sealed message on its way to the Place of its recipient.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Letter {
    /// Whom it is for.
    pub to: AgentId,
    /// Who wrote it.
    pub from: AgentId,
    /// Its key, by which the recipient checks what is sealed.
    pub from_key: PublicKey,
    /// Tells it from every other of this sender, so that it is delivered once.
    pub id: MessageId,
    /// What it is about; every Place sees it.
    pub kind: MessageType,
    /// What is sealed, in base64.
    pub blob: String,
    /// `sha256:` and the hash of that text.
    pub blob_hash: String,
}

impl Letter {
    /// Whether the sender's id follows from its key: nobody else can then be meant by it, whoever says so.
    pub fn is_its_own(&self) -> bool {
        self.from_key.agent_id() == self.from
    }
}
