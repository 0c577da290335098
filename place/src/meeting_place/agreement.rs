//! With which Places this one is federated: what was proposed, accepted, refused and ended.
//!
//! Nothing is in effect before both sides signed, and what is closed stays closed: a step that comes again changes
//! nothing, and an acceptance counts only while this Place's own proposal waits for it.

use std::collections::BTreeMap;
use std::time::Duration;

use kairos_protocol::federation::agreement::{
    AgreementError, OPEN_FOR, Party, Proposal, Statement, Word,
};
use kairos_protocol::hash::ContentHash;
use kairos_protocol::id::{AgentId, AgreementId};
use kairos_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::audit::Event;
use super::{Change, MeetingPlace};

/// For how long what is closed or was never answered is remembered. Nothing depends on it: whoever forgot a proposal
/// takes no acceptance of it, and a proposal that comes again is decided again.
const REMEMBERED_FOR: Duration = OPEN_FOR.saturating_mul(2);

/// How an agreement stands, as this side sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// This Place offered it, and the other has not answered.
    Proposed,
    /// The other Place offered it, and the operator has not decided.
    Asked,
    /// Both signed it.
    InEffect,
    /// It was not accepted.
    Refused,
    /// It was ended, or taken back.
    Ended,
}

impl Standing {
    /// As people read it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Proposed => "proposed",
            Self::Asked => "asked",
            Self::InEffect => "in effect",
            Self::Refused => "refused",
            Self::Ended => "ended",
        }
    }
}

/// An agreement with another Place, at any stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Agreement {
    /// What was offered.
    pub proposal: Proposal,
    /// That it was accepted.
    pub acceptance: Option<Statement>,
    /// That it was refused or ended.
    pub closing: Option<Statement>,
    /// Whether the other Place is still to be told of the last step.
    pub untold: bool,
    /// When the last step was taken here.
    pub since: Timestamp,
}

impl Agreement {
    /// Its name.
    pub fn id(&self) -> AgreementId {
        self.proposal.id()
    }

    /// How it stands for the Place `me`.
    pub fn standing(&self, me: &AgentId) -> Standing {
        match (&self.closing, &self.acceptance) {
            (Some(closing), _) if closing.word == Word::Refused => Standing::Refused,
            (Some(_), _) => Standing::Ended,
            (None, Some(_)) => Standing::InEffect,
            (None, None) if &self.proposal.proposer.place_id == me => Standing::Proposed,
            (None, None) => Standing::Asked,
        }
    }

    /// The other side, as the Place `me` sees it.
    pub fn partner(&self, me: &AgentId) -> &Party {
        let other = self.proposal.other(me);
        // Only agreements of this Place are kept.
        other.unwrap_or(&self.proposal.acceptor)
    }

    /// The last thing that was said about it, if not the proposal itself.
    pub fn last(&self) -> Option<&Statement> {
        self.closing.as_ref().or(self.acceptance.as_ref())
    }

    /// Whether nothing comes of it any more.
    fn is_over(&self, now: Timestamp) -> bool {
        let at_rest = self.closing.is_some() || self.acceptance.is_none();
        at_rest && now.since(self.since) > REMEMBERED_FOR
    }
}

/// Why a step of an agreement is not taken.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum StepError {
    /// What was signed does not hold.
    #[error(transparent)]
    Signed(#[from] AgreementError),
    /// Somebody hands over what another one signed.
    #[error("the agreement is between other Places than you and this one")]
    NotYours,
    /// It names this Place by another key.
    #[error("this Place is known by another key than the one in the agreement")]
    OtherKey,
    /// It was offered too long ago, or later than now.
    #[error("the proposal was signed too long ago or in the future; propose anew")]
    Stale,
    /// Nothing is known of it.
    #[error("there is no agreement `{0}` here")]
    Unknown(AgreementId),
    /// It does not stand so that this could be done.
    #[error("the agreement is {} already", .0.as_str())]
    Stands(Standing),
    /// There is one already.
    #[error("an agreement with the Place `{0}` is in effect already")]
    Partner(AgentId),
    /// As many as allowed.
    #[error("there are {max} agreements and proposals, which is the limit")]
    Full {
        /// The bound.
        max: usize,
    },
}

/// Every agreement that is remembered.
#[derive(Debug, Default)]
pub(super) struct Agreements(BTreeMap<AgreementId, Agreement>);

impl Agreements {
    pub(super) fn put(&mut self, agreement: Agreement) {
        self.0.insert(agreement.id(), agreement);
    }
}

impl MeetingPlace {
    /// Every agreement that is remembered, whatever became of it.
    pub fn agreements(&self) -> impl Iterator<Item = &Agreement> {
        self.agreements.0.values()
    }

    /// One of them.
    pub fn agreement(&self, id: &AgreementId) -> Option<&Agreement> {
        self.agreements.0.get(id)
    }

    /// The Places with which an agreement is in effect, but for those that the operator keeps out.
    pub fn partners(&self) -> impl Iterator<Item = &Party> {
        let in_effect = self
            .agreements()
            .filter(|agreement| agreement.standing(&self.me) == Standing::InEffect);
        let partners = in_effect.map(|agreement| agreement.partner(&self.me));
        partners.filter(|partner| self.is_shown(&partner.place_id))
    }

    /// One of them.
    pub fn partner(&self, id: &AgentId) -> Option<&Party> {
        self.partners().find(|partner| &partner.place_id == id)
    }

    /// Keeps what this Place offers another one.
    ///
    /// Fails if there is an agreement with it in effect or one that waits for it, or at the bound.
    pub fn propose(
        &mut self,
        proposal: Proposal,
        by: &str,
        now: Timestamp,
    ) -> Result<Agreement, StepError> {
        proposal.verify()?;
        self.is_this(&proposal.proposer)?;
        let acceptor = proposal.acceptor.place_id.clone();
        if self.partner(&acceptor).is_some() {
            return Err(StepError::Partner(acceptor));
        }
        let waits = |agreement: &Agreement| {
            let proposal = &agreement.proposal;
            agreement.standing(&self.me) == Standing::Proposed
                && proposal.acceptor.place_id == acceptor
                && proposal.is_open(now)
        };
        // It may be accepted at this moment, so it is not forgotten for another one.
        if self.agreements().any(waits) {
            return Err(StepError::Stands(Standing::Proposed));
        }
        self.has_room_for_agreement(true)?;
        let agreement = Agreement {
            proposal,
            acceptance: None,
            closing: None,
            untold: true,
            since: now,
        };
        self.keep(agreement.clone(), Standing::Proposed, Some(by), now);
        Ok(agreement)
    }

    /// Takes what another Place offers: `caller` is who brought it, and shown by `key`.
    ///
    /// Fails if it is not the caller's own, not for this Place by its key, or stale. A newer one takes the place of one that
    /// waits.
    pub fn take_proposal(
        &mut self,
        proposal: Proposal,
        caller: &AgentId,
        key: ContentHash,
        now: Timestamp,
    ) -> Result<Standing, StepError> {
        proposal.verify()?;
        let proposer = &proposal.proposer;
        if &proposer.place_id != caller || proposer.public_key.hash() != key {
            return Err(StepError::NotYours);
        }
        self.is_this(&proposal.acceptor)?;
        if !proposal.is_open(now) {
            return Err(StepError::Stale);
        }
        if let Some(known) = self.agreement(&proposal.id()) {
            return Ok(known.standing(&self.me));
        }
        if self.partner(caller).is_some() {
            return Err(StepError::Partner(caller.clone()));
        }
        let newer = |agreement: &Agreement| {
            let waiting = &agreement.proposal;
            &waiting.proposer.place_id == caller && waiting.at > proposal.at
        };
        if self.agreements().any(newer) {
            return Err(StepError::Stale);
        }
        self.drop_asked(caller);
        self.has_room_for_agreement(false)?;
        let agreement = Agreement {
            proposal,
            acceptance: None,
            closing: None,
            untold: false,
            since: now,
        };
        self.keep(agreement, Standing::Asked, None, now);
        Ok(Standing::Asked)
    }

    /// Takes a step of this Place, signed by it.
    pub fn decide(
        &mut self,
        statement: Statement,
        by: &str,
        now: Timestamp,
    ) -> Result<Agreement, StepError> {
        if statement.by != self.me {
            return Err(StepError::NotYours);
        }
        let id = &statement.agreement;
        let unknown = || StepError::Unknown(id.clone());
        let mut agreement = self.agreement(id).cloned().ok_or_else(unknown)?;
        statement.verify(&agreement.proposal)?;
        let (standing, word) = (agreement.standing(&self.me), statement.word);
        match (standing, word) {
            (Standing::Asked, Word::Accepted) if !agreement.proposal.is_open(now) => {
                return Err(StepError::Stale);
            }
            (Standing::Asked, Word::Accepted) => {
                let partner = &agreement.proposal.proposer.place_id;
                if self.partner(partner).is_some() {
                    return Err(StepError::Partner(partner.clone()));
                }
                self.has_room_for_agreement(true)?;
                agreement.acceptance = Some(statement);
            }
            (Standing::Asked, Word::Refused)
            | (Standing::Proposed | Standing::InEffect, Word::Ended) => {
                agreement.closing = Some(statement);
            }
            (standing, _) => return Err(StepError::Stands(standing)),
        }
        agreement.untold = true;
        agreement.since = now;
        let standing = agreement.standing(&self.me);
        self.keep(agreement.clone(), standing, Some(by), now);
        Ok(agreement)
    }

    /// Takes a step of the other Place, which `caller` brought. One that was taken before changes nothing.
    pub fn hear(
        &mut self,
        statement: Statement,
        caller: &AgentId,
        key: ContentHash,
        now: Timestamp,
    ) -> Result<Standing, StepError> {
        let id = &statement.agreement;
        let unknown = || StepError::Unknown(id.clone());
        let mut agreement = self.agreement(id).cloned().ok_or_else(unknown)?;
        let partner = agreement.partner(&self.me);
        let theirs = &partner.place_id == caller && partner.public_key.hash() == key;
        if !theirs || &statement.by != caller {
            return Err(StepError::NotYours);
        }
        statement.verify(&agreement.proposal)?;
        let standing = agreement.standing(&self.me);
        match (standing, statement.word) {
            (Standing::Proposed, Word::Accepted) => agreement.acceptance = Some(statement),
            (Standing::Proposed, Word::Refused)
            | (Standing::Proposed | Standing::InEffect, Word::Ended) => {
                agreement.closing = Some(statement);
            }
            // It was taken back before anybody here decided: whoever does that again and again leaves nothing.
            (Standing::Asked, Word::Ended) => {
                self.drop_agreement(&agreement.id());
                return Ok(Standing::Ended);
            }
            // It came again, or both ended it at once.
            (Standing::InEffect, Word::Accepted)
            | (Standing::Refused, Word::Refused)
            | (Standing::Refused | Standing::Ended, Word::Ended) => return Ok(standing),
            (standing, _) => return Err(StepError::Stands(standing)),
        }
        agreement.untold = false;
        agreement.since = now;
        let standing = agreement.standing(&self.me);
        self.keep(agreement, standing, None, now);
        Ok(standing)
    }

    /// Notes that the other Place knows of the step that was taken at `since`.
    pub fn note_told(&mut self, id: &AgreementId, since: Timestamp) {
        let Some(agreement) = self.agreements.0.get_mut(id) else {
            return;
        };
        if agreement.untold && agreement.since == since {
            agreement.untold = false;
            self.changes
                .push(Change::Agreement(Box::new(agreement.clone())));
        }
    }

    /// Forgets what is over.
    pub fn forget_agreements(&mut self, now: Timestamp) {
        let over = self.agreements().filter(|agreement| agreement.is_over(now));
        for id in over.map(Agreement::id).collect::<Vec<_>>() {
            self.drop_agreement(&id);
        }
    }

    fn is_this(&self, party: &Party) -> Result<(), StepError> {
        if party.place_id != self.me {
            return Err(StepError::NotYours);
        }
        match self.key(&self.me) {
            Some(key) if key.hash() == party.public_key.hash() => Ok(()),
            _ => Err(StepError::OtherKey),
        }
    }

    /// Drops what `proposer` offered and nobody decided.
    fn drop_asked(&mut self, proposer: &AgentId) {
        let asked = self.agreements().filter(|agreement| {
            agreement.standing(&self.me) == Standing::Asked
                && &agreement.proposal.proposer.place_id == proposer
        });
        for id in asked.map(Agreement::id).collect::<Vec<_>>() {
            self.drop_agreement(&id);
        }
    }

    /// Fails where there are as many agreements as allowed of which the operator (`ours`), or strangers, are the cause.
    fn has_room_for_agreement(&self, ours: bool) -> Result<(), StepError> {
        let max = self.policy.federation.agreements_max;
        let counted = self.agreements().filter(|agreement| {
            let standing = agreement.standing(&self.me);
            match ours {
                true => matches!(standing, Standing::Proposed | Standing::InEffect),
                false => standing == Standing::Asked,
            }
        });
        match counted.count() < max {
            true => Ok(()),
            false => Err(StepError::Full { max }),
        }
    }

    /// Of what is closed only so much is remembered, the newest.
    fn bound_closed(&mut self) {
        let closed = self
            .agreements()
            .filter(|agreement| agreement.closing.is_some());
        let mut closed: Vec<_> = closed.map(|of| (of.since, of.id())).collect();
        closed.sort();
        let over = closed
            .len()
            .saturating_sub(self.policy.federation.agreements_max);
        for (_, id) in closed.into_iter().take(over) {
            self.drop_agreement(&id);
        }
    }

    fn drop_agreement(&mut self, id: &AgreementId) {
        if self.agreements.0.remove(id).is_some() {
            self.changes.push(Change::AgreementGone(id.clone()));
        }
    }

    fn keep(&mut self, agreement: Agreement, standing: Standing, by: Option<&str>, now: Timestamp) {
        let event = Event::Federation {
            agreement: agreement.id(),
            place: agreement.partner(&self.me).place_id.clone(),
            standing: standing.as_str().to_owned(),
            by: by.map(str::to_owned),
        };
        self.log(now, event);
        self.changes
            .push(Change::Agreement(Box::new(agreement.clone())));
        self.agreements.put(agreement);
        self.bound_closed();
    }
}
