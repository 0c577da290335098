//! Steps of agreements: how this Place takes one, and how the other Place hears of it.

use std::sync::Arc;
use std::time::Duration;

use kairos_place::meeting_place::{Agreement, Standing};
use kairos_protocol::crypto::KeyError;
use kairos_protocol::federation::agreement::{Party, Proposal, Statement, Word};
use kairos_protocol::id::AgreementId;
use kairos_protocol::time::Timestamp;
use serde_json::json;

use super::{Decide, Federation, FederationError, Propose, Shown};
use crate::meeting::client::PeerUrl;
use crate::membership::Carry;

/// Pause after the first failure to tell; each is twice as long as the one before.
const PAUSE: Duration = Duration::from_secs(1);
/// The longest of them.
const PAUSE_MAX: Duration = Duration::from_secs(300);

/// Why somebody was not told.
#[derive(Debug, Clone)]
pub(super) struct Trouble {
    /// Of which step.
    since: Timestamp,
    reason: String,
    tries: u32,
    again: Timestamp,
}

impl Federation {
    pub(super) async fn propose(&self, propose: Propose) -> Result<Shown, FederationError> {
        let Propose { url, own, by } = propose;
        let acceptor = self.party_at(&url).await?;
        let (keypair, id, now) = (Arc::clone(&self.keypair), self.id.clone(), self.clock.now());
        let sign = move || Proposal::sign(&keypair, id, own.to_string(), acceptor, now);
        let agreement = self.place.propose(signed(sign).await?, by).await?;
        self.told(agreement).await
    }

    pub(super) async fn decide(&self, decide: Decide) -> Result<Shown, FederationError> {
        let Decide {
            agreement,
            word,
            by,
        } = decide;
        let find = |place: &kairos_place::meeting_place::MeetingPlace| {
            place
                .agreement(&agreement)
                .map(|known| known.proposal.clone())
        };
        let proposal = self.place.look(find);
        let proposal = proposal.ok_or_else(|| FederationError::Unknown(agreement.clone()))?;
        let decided = self.state(proposal, word, by).await?;
        self.told(decided).await
    }

    /// Signs a step and has it kept.
    async fn state(
        &self,
        proposal: Proposal,
        word: Word,
        by: String,
    ) -> Result<Agreement, FederationError> {
        let (keypair, id, now) = (Arc::clone(&self.keypair), self.id.clone(), self.clock.now());
        let sign = move || Statement::sign(&keypair, &proposal, word, id, now);
        Ok(self.place.decide_agreement(signed(sign).await?, by).await?)
    }

    pub(super) async fn list(&self) -> Result<Vec<Shown>, FederationError> {
        let all: Vec<Agreement> = self
            .place
            .look(|place| place.agreements().cloned().collect());
        let mut shown = Vec::with_capacity(all.len());
        for agreement in all {
            shown.push(self.shown(agreement).await?);
        }
        Ok(shown)
    }

    async fn shown(&self, agreement: Agreement) -> Result<Shown, FederationError> {
        let trouble = self.troubles.lock().get(&agreement.id()).cloned();
        let trouble =
            trouble.filter(|trouble| agreement.untold && trouble.since == agreement.since);
        let partner = agreement.partner(&self.id).clone();
        Ok(Shown {
            standing: agreement.standing(&self.id),
            trouble: trouble.map(|trouble| trouble.reason),
            ledger: self.ledger_of(&partner.place_id).await?,
            partner,
            agreement,
        })
    }

    /// Tells the other Place of the last step, once now; how it stands then.
    async fn told(&self, agreement: Agreement) -> Result<Shown, FederationError> {
        let id = agreement.id();
        self.tell(&agreement).await;
        let now = self.place.look(|place| place.agreement(&id).cloned());
        self.shown(now.unwrap_or(agreement)).await
    }

    /// Tells other Places what they do not know yet, each when its time has come.
    pub(super) async fn tell_all(&self) {
        let untold: Vec<Agreement> = self.place.look(|place| {
            let untold = place.agreements().filter(|agreement| agreement.untold);
            untold.cloned().collect()
        });
        self.troubles
            .lock()
            .retain(|id, _| untold.iter().any(|agreement| &agreement.id() == id));
        let now = self.clock.now();
        let due = untold.iter().filter(|agreement| {
            let troubles = self.troubles.lock();
            let trouble = troubles.get(&agreement.id());
            trouble.is_none_or(|trouble| trouble.since != agreement.since || trouble.again <= now)
        });
        let due: Vec<&Agreement> = due.collect();
        futures::future::join_all(due.into_iter().map(|agreement| self.tell(agreement))).await;
    }

    /// Tells the other Place of the last step, and notes how that went.
    async fn tell(&self, agreement: &Agreement) {
        let (id, since) = (agreement.id(), agreement.since);
        let error = match self.deliver(agreement).await {
            Ok(()) => match self.place.note_told(id.clone(), since).await {
                Ok(()) => return,
                Err(error) => error.into(),
            },
            Err(error) => error,
        };
        let closed = agreement.closing.is_some();
        let done = match error.is_moot() {
            // Where it is not known, or stands otherwise, nothing is left to be closed.
            true if closed => self.place.note_told(id.clone(), since).await.is_ok(),
            true if agreement.standing(&self.id) == Standing::InEffect => {
                self.withdraw(agreement, &id).await
            }
            _ => false,
        };
        if !done {
            self.note(id, since, &error);
        }
    }

    /// Ends what was accepted here and is not wanted there any more: else one side would hold it in effect alone.
    async fn withdraw(&self, agreement: &Agreement, id: &AgreementId) -> bool {
        tracing::warn!(agreement.id = %id, "the other Place does not know of its proposal any more, so it is ended");
        let by = "the other Place".to_owned();
        let ended = self.state(agreement.proposal.clone(), Word::Ended, by);
        ended.await.is_ok()
    }

    fn note(&self, id: AgreementId, since: Timestamp, error: &FederationError) {
        let mut troubles = self.troubles.lock();
        let before = troubles.get(&id).filter(|trouble| trouble.since == since);
        let tries = before.map_or(0, |trouble| trouble.tries);
        let pause = PAUSE
            .saturating_mul(2_u32.saturating_pow(tries))
            .min(PAUSE_MAX);
        if tries == 0 {
            tracing::warn!(agreement.id = %id, %error, "the other Place could not be told; it is tried again");
        }
        let trouble = Trouble {
            since,
            reason: error.to_string(),
            tries: tries.saturating_add(1),
            again: self.clock.now().plus(pause),
        };
        troubles.insert(id, trouble);
    }

    async fn deliver(&self, agreement: &Agreement) -> Result<(), FederationError> {
        let partner = agreement.partner(&self.id);
        let url: PeerUrl = partner.url.parse()?;
        self.is_still(&url, partner).await?;
        let (path, body) = match agreement.last() {
            None => ("proposal", json!({"proposal": agreement.proposal})),
            Some(statement) => ("statement", json!({"statement": statement})),
        };
        let carry = Carry {
            url,
            path: vec!["federation", path],
            body,
        };
        self.membership.carry(carry).await?;
        Ok(())
    }

    /// Checks that the Place at `url` is the one of an agreement.
    pub(super) async fn is_still(
        &self,
        url: &PeerUrl,
        partner: &Party,
    ) -> Result<(), FederationError> {
        let found = self.party_at(url).await?;
        if found.place_id == partner.place_id && found.public_key == partner.public_key {
            return Ok(());
        }
        let (url, expected) = (url.clone(), partner.place_id.clone());
        Err(FederationError::OtherPlace { url, expected })
    }

    /// The Place at `url` as it proves to be; joins it if it is not joined.
    async fn party_at(&self, url: &PeerUrl) -> Result<Party, FederationError> {
        let joined = self.membership.list().await?;
        let known = joined.into_iter().find(|place| &place.url == url);
        let place = match known {
            Some(place) if place.key.is_some() && place.proven => place,
            _ => {
                let joined = self.membership.join(url.clone(), Arc::new(|_| ()));
                joined.await?.place
            }
        };
        let (Some(place_id), Some(public_key), true) = (place.place_id, place.key, place.proven)
        else {
            return Err(FederationError::NoKey(url.clone()));
        };
        Ok(Party {
            place_id,
            public_key,
            url: url.to_string(),
        })
    }
}

/// Signs where it may take its time.
pub(super) async fn signed<T: Send + 'static>(
    sign: impl FnOnce() -> Result<T, KeyError> + Send + 'static,
) -> Result<T, FederationError> {
    let done = tokio::task::spawn_blocking(sign).await;
    Ok(done.map_err(|_| FederationError::Panicked)??)
}
