//! Sealed messages that come from other Places, and keys to seal to.

use kairos_place::meeting_place::{MeetingPlace, Visitor};
use kairos_place::relay::message::{BlobHash, MessageType, RelayId, Sealed};
use kairos_place::relay::policy::Refusal;
use kairos_protocol::federation::answer::Answer;
use kairos_protocol::federation::letter::Letter;
use kairos_protocol::id::AgentId;
use kairos_protocol::relay::prekey::Prekey;
use kairos_protocol::time::Timestamp;

use super::{Federation, FederationError};
use crate::relay::{self, RelayError};

impl Federation {
    /// Hands out prekeys of an agent of this Place to `requester`, who is told by the same bounds as its own agents.
    pub(super) async fn prekeys(
        &self,
        requester: AgentId,
        agent: AgentId,
    ) -> Result<Answer, FederationError> {
        let unknown = || FederationError::NotHere(agent.clone());
        if !self.place.look(|place| place.is_shown(&agent)) {
            return Err(unknown());
        }
        let taken = self.relay.take(requester, agent.clone()).await?;
        let taken = taken.ok_or_else(unknown)?;
        let read = |key: &kairos_place::relay::prekey::Prekey| {
            serde_json::from_slice::<Prekey>(key.record()).map_err(|_| unknown())
        };
        Ok(Answer::Prekeys {
            long_lived: Box::new(read(&taken.signed)?),
            one_time: taken.one_time.as_ref().map(read).transpose()?.map(Box::new),
        })
    }

    /// Puts a message from another Place into the box of its recipient; it is on disk when this is answered.
    pub(super) async fn take_in(&self, letter: Letter) -> Result<Answer, FederationError> {
        let now = self.clock.now();
        self.place.look(|place| admitted(place, &letter, now))?;
        let Letter {
            to,
            from,
            from_key,
            id,
            kind,
            blob,
            blob_hash,
        } = letter;
        let malformed = |_| FederationError::Letter;
        let hash: BlobHash = blob_hash.parse().map_err(malformed)?;
        let message_type: MessageType = kind.as_str().parse().map_err(malformed)?;
        let sealed = Sealed::new(blob, hash).map_err(malformed)?;
        let relay_id: RelayId = id.as_str().parse().map_err(malformed)?;
        // Whoever reads the message asks for the key.
        self.place.note_guest(from.clone(), from_key).await?;
        let sent = self.relay.send(relay::Letter {
            id: Some(relay_id),
            from,
            to,
            known: true,
            message_type,
            sealed,
        });
        let (until, repeated) = match sent.await {
            // This sender's earlier try of it, which was sealed anew.
            Err(RelayError::Refused(Refusal::Conflict { .. })) => {
                (now.plus(self.relay.policy().ttl), true)
            }
            sent => {
                let sent = sent?;
                (sent.expires_at, sent.repeated)
            }
        };
        Ok(Answer::Delivered {
            id,
            until,
            repeated,
        })
    }
}

/// Whether the sender is who it says to be, and may write to somebody who is known here.
fn admitted(place: &MeetingPlace, letter: &Letter, now: Timestamp) -> Result<(), FederationError> {
    let (to, from) = (&letter.to, &letter.from);
    let key = letter.from_key.hash();
    let pinned = place
        .key(from)
        .map(kairos_place::meeting_place::PinnedKey::hash);
    if pinned.map_or(!letter.is_its_own(), |pinned| pinned != key) {
        return Err(FederationError::NotItsKey(from.clone()));
    }
    let sender = Visitor {
        agent: Some(from),
        key: Some(key),
        address: None,
    };
    let recipient = Visitor {
        agent: Some(to),
        ..Visitor::default()
    };
    let known = place.key(to).is_some() || place.agent(to).is_some();
    if !known || place.banned(recipient, now).is_some() {
        return Err(FederationError::NotHere(to.clone()));
    }
    match place.banned(sender, now) {
        Some(_) => Err(FederationError::KeptOut(from.clone())),
        None => Ok(()),
    }
}
