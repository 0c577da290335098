//! What the Place agrees on with other Places.

use kairos_place::meeting_place::{Agreement, Provenance, Standing};
use kairos_protocol::crypto::PublicKey;
use kairos_protocol::federation::agreement::{Proposal, Statement};
use kairos_protocol::hash::ContentHash;
use kairos_protocol::id::{AgentId, AgreementId};
use kairos_protocol::time::Timestamp;

use super::{PlaceError, PlaceHandle};

impl PlaceHandle {
    /// Keeps what this Place offers another one, in the name of `by`.
    pub async fn propose(&self, proposal: Proposal, by: String) -> Result<Agreement, PlaceError> {
        let done = self.decide(move |place, now| place.propose(proposal, &by, now));
        Ok(done.await??)
    }

    /// Takes what another Place offers, brought by `caller`, who is known by `key`.
    pub async fn take_proposal(
        &self,
        proposal: Proposal,
        caller: AgentId,
        key: ContentHash,
    ) -> Result<Standing, PlaceError> {
        let done = self.decide(move |place, now| place.take_proposal(proposal, &caller, key, now));
        Ok(done.await??)
    }

    /// Takes a step of this Place in the name of `by`.
    pub async fn decide_agreement(
        &self,
        statement: Statement,
        by: String,
    ) -> Result<Agreement, PlaceError> {
        let done = self.decide(move |place, now| place.decide(statement, &by, now));
        Ok(done.await??)
    }

    /// Takes a step of the other Place, brought by `caller`, who is known by `key`.
    pub async fn hear(
        &self,
        statement: Statement,
        caller: AgentId,
        key: ContentHash,
    ) -> Result<Standing, PlaceError> {
        let done = self.decide(move |place, now| place.hear(statement, &caller, key, now));
        Ok(done.await??)
    }

    /// Notes that the other Place knows of the step that was taken at `since`.
    pub async fn note_told(&self, id: AgreementId, since: Timestamp) -> Result<(), PlaceError> {
        self.decide(move |place, _| place.note_told(&id, since))
            .await
    }

    /// Remembers where bytes come from that pass through this Place. See [`MeetingPlace::note_origin`].
    ///
    /// [`MeetingPlace::note_origin`]: kairos_place::meeting_place::MeetingPlace::note_origin
    pub async fn note_origin(
        &self,
        hash: ContentHash,
        origin: Provenance,
    ) -> Result<(), PlaceError> {
        if self.look(|place| place.knows_origin(&hash)) {
            return Ok(());
        }
        self.decide(move |place, _| place.note_origin(hash, origin))
            .await
    }

    /// Remembers the key of an agent of another Place. See [`MeetingPlace::note_guest`].
    ///
    /// [`MeetingPlace::note_guest`]: kairos_place::meeting_place::MeetingPlace::note_guest
    pub async fn note_guest(&self, id: AgentId, key: PublicKey) -> Result<(), PlaceError> {
        let known = self.look(|place| place.key(&id).is_some() || place.guest_key(&id).is_some());
        if known {
            return Ok(());
        }
        self.decide(move |place, _| place.note_guest(&id, &key))
            .await
    }
}
