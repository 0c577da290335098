//! What agents have done on the board of the Place, each call checked before the machine decides.

use kairos_place::meeting_place::{
    AttestError, Attestation, BoardError, Claimed, Condition, Deposit, DepositKey, MeetingPlace,
    NeedEntry, Offer, Once, Outcome, Replaced, SkillSetDeposit, SkillSetOffer,
};
use kairos_protocol::id::{AgentId, SkillSetName};

use super::{PlaceError, PlaceHandle, not_done};

impl PlaceHandle {
    /// Puts up what an agent looks for.
    pub async fn publish_needs(&self, id: AgentId, entry: NeedEntry) -> Result<usize, PlaceError> {
        let done = self.decide(move |place, now| place.publish_needs(&id, &entry, now));
        Ok(done.await??)
    }

    /// Takes the needs of an agent down; tells whether there were any.
    pub async fn remove_needs(&self, id: AgentId) -> Result<bool, PlaceError> {
        self.decide(move |place, _| place.remove_needs(&id)).await
    }

    /// Checks an offer and takes it onto the board. Every call counts as an attempt.
    pub async fn deposit(&self, owner: AgentId, offer: Offer) -> Result<Replaced, PlaceError> {
        let (deposit, content) = self.checked(owner, offer).await?;
        let done = self.decide(move |place, _| place.deposit(deposit, &content));
        Ok(done.await??)
    }

    /// Like [`deposit`](Self::deposit), once: whoever asks again with the same key gets the `answer` to the first time.
    pub async fn deposit_once(
        &self,
        owner: AgentId,
        offer: Offer,
        condition: Condition,
        once: Option<Once>,
        answer: fn(&Replaced) -> String,
    ) -> Result<Outcome<Replaced>, PlaceError> {
        if let Some(before) = self.answered(once.as_ref())? {
            return Ok(Outcome::Repeated(before));
        }
        let (deposit, content) = self.checked(owner, offer).await?;
        let act = move |place: &mut MeetingPlace| place.deposit_if(deposit, &content, condition);
        self.decide_once(once, true, act, answer).await
    }

    /// Like [`publish_needs`](Self::publish_needs), once. Forgotten with the needs when the Place ends.
    pub async fn publish_needs_once(
        &self,
        id: AgentId,
        entry: NeedEntry,
        once: Option<Once>,
        answer: impl FnOnce(&usize) -> String + Send + 'static,
    ) -> Result<Outcome<usize>, PlaceError> {
        let now = self.clock.now();
        let act = move |place: &mut MeetingPlace| place.publish_needs(&id, &entry, now);
        self.decide_once(once, false, act, answer).await
    }

    fn answered(&self, once: Option<&Once>) -> Result<Option<String>, PlaceError> {
        let Some(once) = once else {
            return Ok(None);
        };
        let now = self.clock.now();
        let before = self.look(|place| place.answered(once, now).map(|b| b.map(str::to_owned)));
        Ok(before?)
    }

    async fn decide_once<T: Send + 'static, E: Send + 'static>(
        &self,
        once: Option<Once>,
        stored: bool,
        act: impl FnOnce(&mut MeetingPlace) -> Result<T, E> + Send + 'static,
        answer: impl FnOnce(&T) -> String + Send + 'static,
    ) -> Result<Outcome<T>, PlaceError>
    where
        PlaceError: From<E>,
    {
        let done = self.decide(move |place, now| place.once(once, stored, now, act, answer));
        Ok(done.await???)
    }

    /// Checks an offer and puts it in the place of the deposit it names, of which it keeps what it leaves unsaid. Every
    /// call counts as an attempt.
    pub async fn update(
        &self,
        owner: AgentId,
        offer: Offer,
        condition: Condition,
    ) -> Result<Replaced, PlaceError> {
        let old = self.look(|place| place.find_deposit(&offer.skill_id, Some(&owner)).cloned());
        let Some(old) = old else {
            let skill_id = offer.skill_id;
            return Err(BoardError::NoDeposit { skill_id, owner }.into());
        };
        let (deposit, content) = self.checked(owner, offer.over(&old)).await?;
        let done = self.decide(move |place, _| place.update_if(deposit, &content, condition));
        Ok(done.await??)
    }

    /// Counts an attempt, then verifies signature and content off the threads that serve requests.
    async fn checked(&self, owner: AgentId, offer: Offer) -> Result<(Deposit, String), PlaceError> {
        let counted = owner.clone();
        self.decide(move |place, now| place.attempt_deposit(&counted, now))
            .await??;
        let (key, policy) = self.look(|place| (place.key(&owner).cloned(), place.policy().clone()));
        let now = self.clock.now();
        let content = offer.content.clone();
        let check = move || {
            let key = key.and_then(|key| key.parse().ok());
            offer.check(&owner, key.as_ref(), &policy, now)
        };
        match self.run(check).await? {
            Ok(deposit) => Ok((deposit, content)),
            Err(reasons) => Err(BoardError::Rejected(reasons).into()),
        }
    }

    /// Takes a deposit off the board.
    pub async fn withdraw(
        &self,
        owner: AgentId,
        skill_id: String,
        condition: Condition,
    ) -> Result<Deposit, PlaceError> {
        let done = self.decide(move |place, _| place.withdraw_if(&owner, &skill_id, condition));
        Ok(done.await??)
    }

    /// Checks what `attester` says of a deposit, and keeps it; once, as [`deposit_once`](Self::deposit_once). Every
    /// call about a deposit that is there counts as an attempt.
    pub async fn attest(
        &self,
        attester: AgentId,
        deposit: DepositKey,
        claimed: Claimed,
        once: Option<Once>,
        answer: fn(&Attestation) -> String,
    ) -> Result<Outcome<Attestation>, PlaceError> {
        if let Some(before) = self.answered(once.as_ref())? {
            return Ok(Outcome::Repeated(before));
        }
        let find = |place: &MeetingPlace| {
            place
                .find_deposit(&deposit.skill_id, Some(&deposit.owner))
                .cloned()
        };
        let Some(attested) = self.look(find) else {
            let (skill_id, owner) = (deposit.skill_id, deposit.owner.to_string());
            return Err(AttestError::NoDeposit { skill_id, owner }.into());
        };
        let counted = attester.clone();
        self.decide(move |place, now| place.attempt_attest(&counted, now))
            .await??;
        let key = self.look(|place| place.key(&attester).cloned());
        let now = self.clock.now();
        let check = move || {
            let key = key.and_then(|key| key.parse().ok());
            claimed.check(&attester, key.as_ref(), &attested, now)
        };
        let attestation = self.run(check).await??;
        let act = move |place: &mut MeetingPlace| place.attest(attestation);
        self.decide_once(once, true, act, answer).await
    }

    /// Examines the archive of a SkillSet and takes it; once, as [`deposit_once`](Self::deposit_once). Every call counts as
    /// an attempt.
    pub async fn deposit_skill_set(
        &self,
        owner: AgentId,
        offer: SkillSetOffer,
        condition: Condition,
        once: Option<Once>,
        answer: fn(&SkillSetDeposit) -> String,
    ) -> Result<Outcome<SkillSetDeposit>, PlaceError> {
        if let Some(before) = self.answered(once.as_ref())? {
            return Ok(Outcome::Repeated(before));
        }
        let counted = owner.clone();
        self.decide(move |place, now| place.attempt_skill_set(&counted, now))
            .await??;
        let (key, limits) = self.look(|place| {
            let limits = place.policy().skill_sets.clone();
            (place.key(&owner).cloned(), limits)
        });
        let now = self.clock.now();
        let check = move || {
            let key = key.and_then(|key| key.parse().ok());
            offer.check(&owner, key.as_ref(), &limits, now)
        };
        let (set, archive) = self.scans.run(check).await.map_err(not_done)??;
        let act =
            move |place: &mut MeetingPlace| place.deposit_skill_set_if(set, archive, condition);
        self.decide_once(once, true, act, answer).await
    }

    /// Takes a SkillSet off.
    pub async fn withdraw_skill_set(
        &self,
        owner: AgentId,
        name: SkillSetName,
        condition: Condition,
    ) -> Result<SkillSetDeposit, PlaceError> {
        let done =
            self.decide(move |place, _| place.withdraw_skill_set_if(&owner, &name, condition));
        Ok(done.await??)
    }
}
