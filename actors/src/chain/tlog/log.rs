//! The log on disk with its keys: what the actor runs on threads that may block.

use std::collections::BTreeMap;
use std::iter;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;
use kairos_protocol::time::{Clock, Timestamp};
use kairos_protocol::tlog::checkpoint::SignedCheckpoint;
use kairos_protocol::tlog::inclusion::{InclusionError, InclusionProof};
use kairos_protocol::tlog::note::{self, NoteError, VerifierKey};
use kairos_protocol::tlog::proof::verify_consistency;
use kairos_protocol::tlog::statement::Attributed;
use kairos_protocol::wire::history::Continued;

use super::store::{Held, TlogStore};
use super::{LogKeys, Prove, TlogError, TlogStatus, Witnessed};
use crate::recent::Recent;

/// What every request may look at without asking the actor.
pub(super) struct Shared {
    pub(super) current: ArcSwap<Current>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) status: Recent<TlogStatus>,
    /// Changes that this process made.
    pub(super) changes: AtomicU64,
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
        let last = self.store.signed()?;
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
                self.store.keep_signed(held, &fresh)?;
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
                .cosigned()?
                .into_iter()
                .next()
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
                let signed = self.store.signed()?;
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
        let signed = self.sign(held)?.ok_or(TlogError::NoLedger)?;
        let cosigned = self.store.cosigned()?;
        let (of, lines) = match text.parse::<SignedCheckpoint>() {
            Ok(given) => {
                given.verify(self.keys.log.verifier())?;
                self.is_ours(held, &given)?;
                let lines = given.note().signatures().to_vec();
                (vec![given], lines)
            }
            Err(_) => {
                let lines = note::parse_signatures(text)?;
                let known = iter::once(signed).chain(cosigned.iter().cloned());
                (known.collect(), lines)
            }
        };
        // By size, which tells heads of one ledger apart.
        let mut kept: BTreeMap<u64, SignedCheckpoint> = BTreeMap::new();
        let mut taken = Vec::new();
        for line in lines {
            let Some(key) = keys.iter().find(|key| key.made(&line)) else {
                continue;
            };
            let found = of.iter().find_map(|of| {
                let at = of.cosigned_at(&line, key).ok()?;
                Some((of, at))
            });
            let (of, at) = found.ok_or_else(|| NoteError::Forged(key.name().to_owned()))?;
            let before = cosigned.iter().find(|old| old.head() == of.head());
            let size = of.head().size;
            let all = kept
                .entry(size)
                .or_insert_with(|| before.unwrap_or(of).clone());
            all.add(line)?;
            let witness = key.name().to_owned();
            taken.push(Witnessed { witness, at, size });
        }
        if kept.is_empty() {
            return Err(TlogError::UnknownWitness);
        }
        for checkpoint in kept.values() {
            self.store.keep_cosigned(held, checkpoint)?;
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
                blocks: self.store.signed()?.map_or(0, |c| c.head().size),
            }),
            Err(error) => Err(error),
        }
    }
}
