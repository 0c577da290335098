//! The log on disk with its keys: what the actor runs on threads that may block.

use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;
use kairos_protocol::time::{Clock, Timestamp};
use kairos_protocol::tlog::checkpoint::SignedCheckpoint;
use kairos_protocol::tlog::inclusion::{InclusionError, InclusionProof};
use kairos_protocol::tlog::note::{self, NoteError, VerifierKey};
use kairos_protocol::tlog::proof::verify_consistency;
use kairos_protocol::tlog::statement::Attributed;
use kairos_protocol::wire::history::Continued;

use super::store::{Held, Kept, TlogStore};
use super::{LogKeys, Prove, TlogError, Witnessed};

/// What every request may look at without asking the actor.
pub(super) struct Shared {
    pub(super) current: ArcSwap<Current>,
    pub(super) clock: Arc<dyn Clock>,
}

pub(super) struct Current {
    pub(super) checkpoint: Option<Arc<Attributed>>,
    pub(super) checked: Timestamp,
}

impl Shared {
    /// Notes that the ledger was looked at, to no avail: what was published stays.
    pub(super) fn keep(&self) {
        let checked = self.clock.now();
        self.current.rcu(|current| Current {
            checkpoint: current.checkpoint.clone(),
            checked,
        });
    }

    pub(super) fn publish(&self, checkpoint: Option<Attributed>) {
        let current = self.current.load();
        let same = current
            .checkpoint
            .clone()
            .filter(|old| Some(&**old) == checkpoint.as_ref());
        // The same one stays the same allocation, by which others tell whether something changed.
        self.current.store(Arc::new(Current {
            checkpoint: same.or_else(|| checkpoint.map(Arc::new)),
            checked: self.clock.now(),
        }));
    }
}

/// The log on disk with its keys: what runs on blocking threads.
pub(super) struct Log {
    pub(super) store: TlogStore,
    pub(super) keys: Arc<LogKeys>,
    pub(super) shared: Arc<Shared>,
    /// Held on blocking threads only, by one change at a time; other processes are kept out by [`Held`].
    pub(super) turn: Mutex<()>,
}

impl Log {
    pub(super) fn sign(&self, held: &Held) -> Result<Option<SignedCheckpoint>, TlogError> {
        let last = self.store.kept(Kept::Signed)?;
        let signed = last.as_ref().map(SignedCheckpoint::head);
        let Some(head) = self.store.catch_up(held, signed)? else {
            self.shared.publish(None);
            return Ok(None);
        };
        let key = &self.keys.log;
        let checkpoint = match last.filter(|last| {
            // After a change of the key the same head is signed anew.
            last.head() == head && last.verify(key.verifier()).is_ok()
        }) {
            Some(last) => last,
            None => {
                let fresh = SignedCheckpoint::sign(head, key)?;
                self.store.keep(held, Kept::Signed, &fresh)?;
                fresh
            }
        };
        self.shared
            .publish(Some(self.keys.attributed(checkpoint.clone())));
        Ok(Some(checkpoint))
    }

    pub(super) fn prove(&self, held: &Held, ask: &Prove) -> Result<InclusionProof, TlogError> {
        let newest = self.sign(held)?.ok_or(TlogError::NoLedger)?;
        let checkpoint = match ask.cosigned {
            true => self
                .store
                .kept(Kept::Cosigned)?
                .ok_or(TlogError::NotCosigned)?,
            false => newest,
        };
        let index = ask.index;
        if index >= checkpoint.head().size {
            return Err(TlogError::NoBlock { index });
        }
        let block = self.store.block(index)?;
        self.certainly(held, || {
            let mut tree = self.store.tree(checkpoint.head().size);
            let hashes = tree.prove_inclusion(index)?;
            let statement = Some(self.keys.statement.clone());
            let (only, under) = (ask.hash_only, checkpoint.clone());
            let proof = InclusionProof::new(&block, only, hashes, under, statement)?;
            proof.verify(None)?;
            Ok(proof)
        })
    }

    pub(super) fn continued(&self, held: &Held, from: u64) -> Result<Continued, TlogError> {
        let now = self.sign(held)?.ok_or(TlogError::NoLedger)?;
        self.certainly(held, || {
            let size = now.head().size;
            if from > size {
                return Err(TlogError::NoBlock { index: from - 1 });
            }
            let proof = self.store.tree(size).prove_consistency(from)?;
            let before = self.store.tree(from).head()?;
            verify_consistency(before, now.head(), &proof)?;
            Ok(Continued {
                now: self.keys.attributed(now.clone()),
                before,
                proof,
            })
        })
    }

    /// Runs `work` on the tiles, and once more on new ones if those that were there do not fit together.
    pub(super) fn certainly<T>(
        &self,
        held: &Held,
        work: impl Fn() -> Result<T, TlogError>,
    ) -> Result<T, TlogError> {
        match work() {
            Err(
                error @ (TlogError::Tiles(_)
                | TlogError::Inclusion(InclusionError::Proof(_))
                | TlogError::Io(_)),
            ) => {
                tracing::warn!(%error, "the tiles of the log are built anew");
                let signed = self.store.kept(Kept::Signed)?;
                self.store.renew(held, signed.map(|signed| signed.head()))?;
                work()
            }
            done => done,
        }
    }

    pub(super) fn add_cosignatures(
        &self,
        held: &Held,
        text: &str,
        keys: &[VerifierKey],
    ) -> Result<Vec<Witnessed>, TlogError> {
        self.sign(held)?.ok_or(TlogError::NoLedger)?;
        let known = [Kept::Cosigned, Kept::Signed].map(|kept| self.store.kept(kept));
        let [cosigned, signed] = known;
        let (cosigned, signed) = (cosigned?, signed?);
        let (of, lines) = match text.parse::<SignedCheckpoint>() {
            Ok(given) => {
                given.verify(self.keys.log.verifier())?;
                self.is_ours(held, &given)?;
                let lines = given.note().signatures().to_vec();
                (vec![given], lines)
            }
            Err(_) => {
                let lines = note::parse_signatures(text)?;
                (signed.into_iter().chain(cosigned.clone()).collect(), lines)
            }
        };
        let mut taken = Vec::new();
        let mut kept: Option<SignedCheckpoint> = None;
        for line in lines {
            for key in keys.iter().filter(|key| key.made(&line)) {
                let found = of.iter().find_map(|of| {
                    let at = of.cosigned_at(&line, key).ok()?;
                    Some((of, at))
                });
                let Some((of, at)) = found else {
                    return Err(NoteError::Forged(key.name().to_owned()).into());
                };
                let base = kept.take().filter(|kept| kept.head() == of.head());
                let before = cosigned.clone().filter(|old| old.head() == of.head());
                let mut base = base.or(before).unwrap_or_else(|| of.clone());
                base.add(line.clone())?;
                kept = Some(base);
                taken.push(Witnessed {
                    witness: key.name().to_owned(),
                    at,
                    size: of.head().size,
                });
            }
        }
        let kept = kept.ok_or(TlogError::UnknownWitness)?;
        // What covers more of the ledger is worth more.
        if cosigned.is_none_or(|old| old.head().size <= kept.head().size) {
            self.store.keep(held, Kept::Cosigned, &kept)?;
        }
        Ok(taken)
    }

    /// Checks that the ledger continues a checkpoint that somebody gave us as ours.
    pub(super) fn is_ours(&self, held: &Held, given: &SignedCheckpoint) -> Result<(), TlogError> {
        let signed = given.head();
        let ours = self.continued(held, signed.size);
        match ours {
            Ok(ours) if ours.before == signed => Ok(()),
            Ok(ours) => Err(TlogError::Rewritten {
                signed,
                blocks: ours.now.checkpoint.head().size,
            }),
            Err(TlogError::NoBlock { .. }) => Err(TlogError::Rewritten {
                signed,
                blocks: self.store.kept(Kept::Signed)?.map_or(0, |c| c.head().size),
            }),
            Err(error) => Err(error),
        }
    }
}
