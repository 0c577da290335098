//! Attestations: what other agents say of a deposit, bound to the bytes they saw.
//!
//! The Place keeps and shows them as they came. It never counts, weighs or orders by them (rules D3 and D5 of DEE).

use std::collections::{BTreeMap, HashMap};

use kairos_protocol::crypto::{PublicKey, SignatureError};
use kairos_protocol::hash::ContentHash;
use kairos_protocol::id::AgentId;
use kairos_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::deposit::{Deposit, DepositKey};
use super::{BoardError, Change, MeetingPlace};

/// Longest claim in bytes.
pub const CLAIM_MAX: usize = 200;
/// Longest signature, as base64, in bytes.
pub const SIGNATURE_MAX: usize = 1_024;
/// Longest signed payload in bytes.
pub const PAYLOAD_MAX: usize = 1_024;
/// Longest hash of evidence in bytes.
pub const EVIDENCE_MAX: usize = 128;

/// By what an attestation is known: nobody says the same twice of the same bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AttestationKey {
    /// Of which deposit.
    pub deposit: DepositKey,
    /// Who says it.
    pub attester: AgentId,
    /// What is said.
    pub claim: String,
    /// Of which bytes.
    pub content_hash: ContentHash,
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attestation {
    /// What it is known by.
    pub key: AttestationKey,
    /// As the attester was called then.
    pub attester_name: String,
    /// Of evidence that stays with the attester.
    pub evidence_hash: Option<String>,
    /// The attester's, over the payload.
    pub signature: Option<String>,
    /// What was signed: the key's members, the evidence and a time, joined by `|`.
    pub signed_payload: Option<String>,
    /// When it came.
    pub deposited_at: Timestamp,
}

impl Attestation {
    /// As the board shows it.
    pub fn listed(&self) -> Value {
        json!({
            "attester_id": self.key.attester, "attester_name": self.attester_name,
            "claim": self.key.claim, "evidence_hash": self.evidence_hash,
            "deposited_at": self.deposited_at.wire(), "has_signature": self.signature.is_some(),
        })
    }

    /// With all that is needed to verify it.
    pub fn full(&self) -> Value {
        let mut shown = self.listed();
        if let Value::Object(members) = &mut shown {
            members.insert("content_hash".to_owned(), json!(self.key.content_hash));
            members.insert("signed_payload".to_owned(), json!(self.signed_payload));
            members.insert("signature".to_owned(), json!(self.signature));
        }
        shown
    }
}

/// Why an attestation is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AttestError {
    /// There is nothing to attest.
    #[error("No deposit found: {skill_id} (owner: {owner})")]
    NoDeposit {
        /// As it was named.
        skill_id: String,
        /// As it was named.
        owner: String,
    },
    /// The agent tried too often.
    #[error("Rate limit exceeded (max {max}/hour)")]
    TooOften {
        /// Attempts within an hour.
        max: usize,
    },
    /// See [`CLAIM_MAX`].
    #[error("Claim exceeds {CLAIM_MAX} bytes")]
    ClaimTooLarge,
    /// The claim is empty or has control characters.
    #[error("Claim must have text and no control characters")]
    ClaimInvalid,
    /// See [`SIGNATURE_MAX`].
    #[error("Signature exceeds {SIGNATURE_MAX} bytes")]
    SignatureTooLarge,
    /// See [`PAYLOAD_MAX`].
    #[error("Signed payload exceeds {PAYLOAD_MAX} bytes")]
    PayloadTooLarge,
    /// See [`EVIDENCE_MAX`].
    #[error("Evidence hash exceeds {EVIDENCE_MAX} bytes or has control characters")]
    EvidenceInvalid,
    /// What was signed is not what is said.
    #[error(
        "Signed payload must be attester, claim, skill_id, owner, current content_hash, evidence_hash if there is one, \
         and a time, joined by |; none of the first four may hold a | itself"
    )]
    PayloadMismatch,
    /// The signature is not the attester's.
    #[error("Signature verification failed")]
    SignatureInvalid,
    /// The signature cannot be verified.
    #[error("Signature verification error: {0}")]
    SignatureError(&'static str),
    /// It is there already.
    #[error("Attestation already exists: {claim} by {attester} on this version")]
    Duplicate {
        /// What was said.
        claim: String,
        /// By whom.
        attester: AgentId,
    },
    /// The content was replaced meanwhile.
    #[error("The content was replaced meanwhile; look at it again before attesting it")]
    ContentChanged,
    /// As many as the Place keeps for one deposit.
    #[error("Attestations of this deposit are at their limit (max {max})")]
    DepositFull {
        /// The bound.
        max: usize,
    },
    /// As many as the Place keeps of one agent.
    #[error("Attestations of this agent are at their limit (max {max})")]
    AttesterFull {
        /// The bound.
        max: usize,
    },
}

impl AttestError {
    /// The word for programs; the reference's, where it has one.
    pub fn word(&self) -> &'static str {
        match self {
            Self::NoDeposit { .. } => "skill_not_found",
            Self::TooOften { .. } => "rate_limited",
            Self::ClaimTooLarge => "claim_too_large",
            Self::ClaimInvalid => "claim_invalid",
            Self::SignatureTooLarge => "signature_too_large",
            Self::PayloadTooLarge => "payload_too_large",
            Self::EvidenceInvalid => "evidence_invalid",
            Self::PayloadMismatch => "payload_mismatch",
            Self::SignatureInvalid => "signature_invalid",
            Self::SignatureError(_) => "signature_error",
            Self::Duplicate { .. } => "duplicate",
            Self::ContentChanged => "content_changed",
            Self::DepositFull { .. } | Self::AttesterFull { .. } => "quota_exceeded",
        }
    }
}

/// An attestation as offered: nothing in it is checked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Claimed {
    /// What is said.
    pub claim: String,
    /// Of evidence that stays with the attester.
    pub evidence_hash: Option<String>,
    /// RSA over the payload, base64.
    pub signature: Option<String>,
    /// What was signed.
    pub signed_payload: Option<String>,
}

impl Claimed {
    /// Checks everything that needs no look at the board. `key` is the attester's pinned key, `deposit` what it attests.
    pub fn check(
        self,
        attester: &AgentId,
        key: Option<&PublicKey>,
        deposit: &Deposit,
        now: Timestamp,
    ) -> Result<Attestation, AttestError> {
        if self.claim.len() > CLAIM_MAX {
            return Err(AttestError::ClaimTooLarge);
        }
        if self.claim.trim().is_empty() || self.claim.chars().any(char::is_control) {
            return Err(AttestError::ClaimInvalid);
        }
        let longer = |text: &Option<String>, max| text.as_ref().is_some_and(|t| t.len() > max);
        if longer(&self.signature, SIGNATURE_MAX) {
            return Err(AttestError::SignatureTooLarge);
        }
        if longer(&self.signed_payload, PAYLOAD_MAX) {
            return Err(AttestError::PayloadTooLarge);
        }
        let unfit = |text: &String| text.len() > EVIDENCE_MAX || text.chars().any(char::is_control);
        if self.evidence_hash.as_ref().is_some_and(unfit) {
            return Err(AttestError::EvidenceInvalid);
        }
        let attestation = Attestation {
            key: AttestationKey {
                deposit: deposit.key.clone(),
                attester: attester.clone(),
                claim: self.claim,
                content_hash: deposit.content_hash,
            },
            attester_name: String::new(),
            evidence_hash: self.evidence_hash,
            signature: self.signature,
            signed_payload: self.signed_payload,
            deposited_at: now,
        };
        attestation.check_signature(key)?;
        attestation.check_payload()?;
        Ok(attestation)
    }
}

impl Attestation {
    /// Where a payload says something else than the members, the signature vouches for what was never said here.
    fn check_payload(&self) -> Result<(), AttestError> {
        let Some(payload) = &self.signed_payload else {
            return Ok(());
        };
        let AttestationKey {
            deposit,
            attester,
            claim,
            content_hash,
        } = &self.key;
        let (owner, hash) = (deposit.owner.as_str(), content_hash.to_hex());
        let named = [attester.as_str(), claim, &deposit.skill_id, owner];
        // With the mark in one of them, the same payload could be read as another claim.
        if named.iter().any(|part| part.contains('|')) {
            return Err(AttestError::PayloadMismatch);
        }
        let mut said = named.join("|");
        for part in [Some(&hash), self.evidence_hash.as_ref()]
            .into_iter()
            .flatten()
        {
            said.push('|');
            said.push_str(part);
        }
        let time = payload
            .strip_prefix(&said)
            .ok_or(AttestError::PayloadMismatch)?;
        let told = time.strip_prefix('|').map(Timestamp::parse);
        match told {
            Some(Ok(_)) => Ok(()),
            None if time.is_empty() => Ok(()),
            _ => Err(AttestError::PayloadMismatch),
        }
    }

    fn check_signature(&self, key: Option<&PublicKey>) -> Result<(), AttestError> {
        let Some(signature) = &self.signature else {
            return Ok(());
        };
        let payload = self
            .signed_payload
            .as_ref()
            .ok_or(AttestError::SignatureError("there is no signed_payload"))?;
        let key = key.ok_or(AttestError::SignatureError("the agent has no key here"))?;
        key.verify(payload.as_bytes(), signature)
            .map_err(|error| match error {
                SignatureError::Mismatch => AttestError::SignatureInvalid,
                SignatureError::NotBase64 => AttestError::SignatureError("invalid base64"),
            })
    }
}

/// All attestations that the Place keeps.
#[derive(Debug, Default)]
pub(super) struct Attestations {
    /// Of each deposit, in the order in which they came.
    of: BTreeMap<DepositKey, Vec<Attestation>>,
    /// The deposit of each attestation of an agent.
    by: HashMap<AgentId, Vec<DepositKey>>,
}

impl Attestations {
    /// Those of the bytes that are there now.
    pub(super) fn shown(&self, deposit: &Deposit) -> impl Iterator<Item = &Attestation> {
        let all = self.of.get(&deposit.key).into_iter().flatten();
        all.filter(|attestation| attestation.key.content_hash == deposit.content_hash)
    }

    pub(super) fn count(&self) -> usize {
        self.by.values().map(Vec::len).sum()
    }

    pub(super) fn put(&mut self, attestation: Attestation) {
        let AttestationKey {
            deposit, attester, ..
        } = &attestation.key;
        let of_attester = self.by.entry(attester.clone()).or_default();
        of_attester.push(deposit.clone());
        self.of
            .entry(deposit.clone())
            .or_default()
            .push(attestation);
    }

    fn contains(&self, key: &AttestationKey) -> bool {
        let all = self.of.get(&key.deposit).into_iter().flatten();
        all.into_iter().any(|attestation| attestation.key == *key)
    }

    /// Takes all of a deposit.
    pub(super) fn remove_of(&mut self, deposit: &DepositKey) -> Vec<AttestationKey> {
        self.take(deposit, |_| true)
    }

    /// Takes all of an agent; tells which deposits look another way now.
    pub(super) fn remove_by(&mut self, attester: &AgentId) -> Vec<AttestationKey> {
        let mut deposits = self.by.get(attester).cloned().unwrap_or_default();
        deposits.sort_unstable();
        deposits.dedup();
        let of_attester = |key: &AttestationKey| key.attester == *attester;
        let taken = deposits
            .iter()
            .flat_map(|deposit| self.take(deposit, of_attester));
        taken.collect::<Vec<_>>()
    }

    /// Takes the oldest of a deposit that is of bytes no longer there.
    fn remove_hidden(&mut self, deposit: &Deposit) -> Option<AttestationKey> {
        let mut found = false;
        let now = deposit.content_hash;
        let first = |key: &AttestationKey| {
            let is_first = !found && key.content_hash != now;
            found |= is_first;
            is_first
        };
        self.take(&deposit.key, first).pop()
    }

    fn take(
        &mut self,
        deposit: &DepositKey,
        mut unwanted: impl FnMut(&AttestationKey) -> bool,
    ) -> Vec<AttestationKey> {
        let Some(all) = self.of.get_mut(deposit) else {
            return Vec::new();
        };
        let taken: Vec<_> = all
            .extract_if(.., |attestation| unwanted(&attestation.key))
            .map(|attestation| attestation.key)
            .collect();
        if all.is_empty() {
            self.of.remove(deposit);
        }
        for key in &taken {
            let Some(deposits) = self.by.get_mut(&key.attester) else {
                continue;
            };
            if let Some(at) = deposits.iter().position(|of| of == deposit) {
                deposits.swap_remove(at);
            }
            if deposits.is_empty() {
                self.by.remove(&key.attester);
            }
        }
        taken
    }
}

impl MeetingPlace {
    /// Counts an attempt of `id` to attest something; attempts to deposit are counted with it, as in the reference.
    pub fn attempt_attest(&mut self, id: &AgentId, now: Timestamp) -> Result<(), AttestError> {
        let max = self.policy.deposits.per_hour;
        let tried = self.attempt_deposit(id, now);
        tried.map_err(|_| AttestError::TooOften { max })
    }

    /// Keeps a checked attestation. See [`Claimed::check`] for what was checked.
    pub fn attest(&mut self, mut attestation: Attestation) -> Result<Attestation, AttestFault> {
        let AttestationKey {
            deposit, attester, ..
        } = attestation.key.clone();
        let Some(agent) = self.agent(&attester) else {
            return Err(BoardError::NotPresent(attester).into());
        };
        attestation.attester_name = agent.name.clone();
        let (most, most_by) = (
            self.policy.attestations_per_deposit,
            self.policy.attestations_per_agent,
        );
        let Some(attested) = self
            .find_deposit(&deposit.skill_id, Some(&deposit.owner))
            .cloned()
        else {
            return Err(AttestError::NoDeposit {
                skill_id: deposit.skill_id,
                owner: deposit.owner.to_string(),
            }
            .into());
        };
        if attested.content_hash != attestation.key.content_hash {
            return Err(AttestError::ContentChanged.into());
        }
        let all = &mut self.board.attestations;
        if all.contains(&attestation.key) {
            let claim = attestation.key.claim;
            return Err(AttestError::Duplicate { claim, attester }.into());
        }
        if all.by.get(&attester).map_or(0, Vec::len) >= most_by {
            return Err(AttestError::AttesterFull { max: most_by }.into());
        }
        if all.of.get(&deposit).map_or(0, Vec::len) >= most {
            match all.remove_hidden(&attested) {
                Some(hidden) => self.changes.push(Change::AttestationGone(hidden)),
                None => return Err(AttestError::DepositFull { max: most }.into()),
            }
        }
        self.board.attestations.put(attestation.clone());
        let change = Change::Attestation(Box::new(attestation.clone()));
        self.changes.push(change);
        self.board.put_deposit(attested);
        Ok(attestation)
    }

    /// The attestations of the bytes of `deposit`, in the order in which they came.
    pub fn attestations_of<'p>(
        &'p self,
        deposit: &'p Deposit,
    ) -> impl Iterator<Item = &'p Attestation> {
        self.board.attestations.shown(deposit)
    }

    /// Takes away what an agent attested that nobody remembers any more: its name may become somebody else's.
    pub(super) fn forget_attester(&mut self, attester: &AgentId) {
        for gone in self.board.attestations.remove_by(attester) {
            let deposit = self
                .find_deposit(&gone.deposit.skill_id, Some(&gone.deposit.owner))
                .cloned();
            self.changes.push(Change::AttestationGone(gone));
            if let Some(deposit) = deposit {
                self.board.put_deposit(deposit);
            }
        }
    }
}

/// Why an attestation was not kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AttestFault {
    /// It is refused.
    #[error(transparent)]
    Refused(#[from] AttestError),
    /// Who asked may not.
    #[error(transparent)]
    Board(#[from] BoardError),
}
