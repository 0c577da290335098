//! Provenance: who authored a skill or SkillSet and through whose hands it came, as a chain of signatures.
//!
//! It travels beside packages and skills. The first hop is the author; each later one signs the same content hash
//! and the hash of the signature before, so hops cannot be reordered, dropped from the middle or moved to other
//! content. Whether a key belongs to the id it signs for is for the reader's pins to say.

use serde_json::{Value, json};
use thiserror::Error;

use crate::crypto::{KeyError, Keypair, PublicKey, SignatureError};
use crate::hash::ContentHash;
use crate::id::AgentId;
use crate::json;
use crate::time::Timestamp;
use crate::wire_time;

/// The version of the format.
pub const PROVENANCE_VERSION: u32 = 1;
/// From this many hand-overs on, content is not taken or passed on, the limit of the reference.
pub const HOP_COUNT_MAX: usize = 3;
/// Largest provenance read, in bytes of JSON.
pub const PROVENANCE_MAX: usize = 32 * 1024;
/// Longest name of a skill or SkillSet in bytes.
pub const NAME_MAX: usize = 256;
/// Keeps a signature over a hop from being taken for one over anything else.
const PURPOSE: &str = "kairos-provenance-v1";

/// What the content is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// One Markdown file; the hash is that of its bytes.
    Skill,
    /// A whole SkillSet; the hash is its content hash.
    SkillSet,
}

/// One pair of hands.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hop {
    /// Who signed.
    pub instance_id: AgentId,
    /// The key that verifies the signature.
    pub public_key: PublicKey,
    /// When; to the second, by the signer's clock.
    #[serde(with = "wire_time")]
    pub at: Timestamp,
    signature: String,
}

/// The path of one piece of content from its author to here.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provenance {
    version: u32,
    /// What it is.
    pub kind: Kind,
    /// The name it was authored under.
    pub name: String,
    /// The hash that every hop signed.
    pub content_hash: ContentHash,
    hops: Vec<Hop>,
}

/// Why provenance was not accepted, or not extended.
#[derive(Debug, Error)]
pub enum ProvenanceError {
    /// More than [`PROVENANCE_MAX`] bytes.
    #[error("the provenance is larger than {PROVENANCE_MAX} bytes")]
    TooLarge,
    /// A member is missing, superfluous or of another kind.
    #[error("the provenance is malformed: {0}")]
    Form(#[from] serde_json::Error),
    /// Written in a later version.
    #[error("the provenance is of an unknown version")]
    Version,
    /// The name is empty, too long or has control characters.
    #[error("the provenance has an unusable name")]
    Name,
    /// Nobody signed.
    #[error("the provenance has no author")]
    NoAuthor,
    /// Handed on too often.
    #[error("hop_count limit exceeded ({0} >= {HOP_COUNT_MAX})")]
    TooManyHops(usize),
    /// It belongs to something else.
    #[error("the provenance is that of other content: expected {expected}, got {found}")]
    OtherContent {
        /// The hash of what is here.
        expected: ContentHash,
        /// The hash that was signed.
        found: ContentHash,
    },
    /// A hop does not verify.
    #[error("hop {hop} of the provenance does not verify: {source}")]
    Signature {
        /// Which, counted from 0, the author.
        hop: usize,
        /// Why.
        source: SignatureError,
    },
    /// The hop could not be signed.
    #[error("the provenance could not be signed: {0}")]
    Key(#[from] KeyError),
}

impl Provenance {
    /// The provenance of something that `author` made.
    pub fn authored(
        kind: Kind,
        name: &str,
        content_hash: ContentHash,
        author: AgentId,
        keypair: &Keypair,
        at: Timestamp,
    ) -> Result<Self, ProvenanceError> {
        check_name(name)?;
        let mut provenance = Self {
            version: PROVENANCE_VERSION,
            kind,
            name: name.to_owned(),
            content_hash,
            hops: Vec::new(),
        };
        provenance.sign(author, keypair, at)?;
        Ok(provenance)
    }

    /// Reads provenance out of a larger object. Nothing of it is established until [`Self::verify`].
    pub fn from_value(value: &Value) -> Result<Self, ProvenanceError> {
        Self::from_json(value.to_string().as_bytes())
    }

    /// The provenance with `by` as the next hop. Fails if it does not verify or has reached [`HOP_COUNT_MAX`].
    pub fn handed_on(
        &self,
        by: AgentId,
        keypair: &Keypair,
        at: Timestamp,
    ) -> Result<Self, ProvenanceError> {
        self.verify(&self.content_hash)?;
        if self.hops.len() >= HOP_COUNT_MAX {
            return Err(ProvenanceError::TooManyHops(self.hops.len()));
        }
        let mut provenance = self.clone();
        provenance.sign(by, keypair, at)?;
        Ok(provenance)
    }

    /// Reads provenance from JSON text of at most [`PROVENANCE_MAX`] bytes. It is not yet verified.
    pub fn from_json(bytes: &[u8]) -> Result<Self, ProvenanceError> {
        if bytes.len() > PROVENANCE_MAX {
            return Err(ProvenanceError::TooLarge);
        }
        let provenance: Self = serde_json::from_slice(bytes)?;
        check_name(&provenance.name)?;
        Ok(provenance)
    }

    /// Checks the form, that it belongs to `expected`, and every signature.
    pub fn verify(&self, expected: &ContentHash) -> Result<(), ProvenanceError> {
        check_name(&self.name)?;
        if self.version != PROVENANCE_VERSION {
            return Err(ProvenanceError::Version);
        }
        if self.hops.is_empty() {
            return Err(ProvenanceError::NoAuthor);
        }
        if self.hop_count() >= HOP_COUNT_MAX {
            return Err(ProvenanceError::TooManyHops(self.hop_count()));
        }
        if self.content_hash != *expected {
            return Err(ProvenanceError::OtherContent {
                expected: *expected,
                found: self.content_hash,
            });
        }
        let mut previous = None;
        for (number, hop) in self.hops.iter().enumerate() {
            let text = self.text(&hop.instance_id, hop.at, previous);
            hop.public_key
                .verify(text.as_bytes(), &hop.signature)
                .map_err(|source| ProvenanceError::Signature {
                    hop: number,
                    source,
                })?;
            previous = Some(hop);
        }
        Ok(())
    }

    /// How often it was handed on: the hops after the author.
    pub fn hop_count(&self) -> usize {
        self.hops.len().saturating_sub(1)
    }

    /// The hops, the author first.
    pub fn hops(&self) -> &[Hop] {
        &self.hops
    }

    /// The author's hop.
    pub fn author(&self) -> Option<&Hop> {
        self.hops.first()
    }

    fn sign(
        &mut self,
        instance_id: AgentId,
        keypair: &Keypair,
        at: Timestamp,
    ) -> Result<(), ProvenanceError> {
        let text = self.text(&instance_id, at, self.hops.last());
        self.hops.push(Hop {
            instance_id,
            public_key: keypair.public().clone(),
            at,
            signature: keypair.sign(text.as_bytes())?,
        });
        Ok(())
    }

    /// The text that a hop signs.
    fn text(&self, by: &AgentId, at: Timestamp, previous: Option<&Hop>) -> String {
        let signed: Value = json!({
            "purpose": PURPOSE,
            "kind": self.kind,
            "name": self.name,
            "content_hash": self.content_hash,
            "instance_id": by,
            "at": at.wire(),
            "previous": previous.map(|hop| ContentHash::of(&hop.signature).to_hex()),
        });
        json::canonical(&signed)
    }
}

fn check_name(name: &str) -> Result<(), ProvenanceError> {
    if name.trim().is_empty() || name.len() > NAME_MAX || name.chars().any(char::is_control) {
        Err(ProvenanceError::Name)
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    static KEYS: LazyLock<[Keypair; 4]> =
        LazyLock::new(|| [(); 4].map(|()| Keypair::generate().unwrap()));

    fn at(hop: usize) -> Timestamp {
        Timestamp::from_secs(1_800_000_000).plus(Duration::from_secs(60 * hop as u64))
    }

    fn hash() -> ContentHash {
        ContentHash::of("content")
    }

    /// A provenance of one author and `hand_overs` more hops.
    fn chain(hand_overs: usize) -> Provenance {
        let [author, others @ ..] = &*KEYS;
        let id = author.public().agent_id();
        let start = Provenance::authored(Kind::SkillSet, "kp", hash(), id, author, at(0)).unwrap();
        others
            .iter()
            .take(hand_overs)
            .enumerate()
            .fold(start, |chain, (i, key)| {
                chain
                    .handed_on(key.public().agent_id(), key, at(i + 1))
                    .unwrap()
            })
    }

    fn reparsed(
        chain: &Provenance,
        change: impl FnOnce(&mut Value),
    ) -> Result<Provenance, ProvenanceError> {
        let mut value = serde_json::to_value(chain).unwrap();
        change(&mut value);
        Provenance::from_json(value.to_string().as_bytes())
    }

    #[test]
    fn verifies_from_the_author_to_the_last_hop() {
        for hand_overs in 0..HOP_COUNT_MAX {
            let chain = chain(hand_overs);
            chain.verify(&hash()).unwrap();
            assert_eq!(chain.hop_count(), hand_overs);
            assert_eq!(reparsed(&chain, |_| {}).unwrap(), chain);
            assert_eq!(chain.author().unwrap().public_key, *KEYS[0].public());
        }
        let value = serde_json::to_value(chain(0)).unwrap();
        assert_eq!(value["kind"], "skillset");
        assert_eq!(value["hops"][0]["at"], at(0).wire());
    }

    #[test]
    fn is_not_handed_on_without_end() {
        let by = KEYS[3].public().agent_id();
        let error = chain(2).handed_on(by, &KEYS[3], at(3)).unwrap_err();
        assert_eq!(error.to_string(), "hop_count limit exceeded (3 >= 3)");
        let long = reparsed(&chain(2), |value| {
            let last = value["hops"][2].clone();
            value["hops"].as_array_mut().unwrap().push(last);
        });
        let error = long.unwrap().verify(&hash()).unwrap_err();
        assert_eq!(error.to_string(), "hop_count limit exceeded (3 >= 3)");
    }

    #[test]
    fn any_change_breaks_it() {
        for (pointer, changed) in [
            ("/name", Value::from("other")),
            ("/kind", "skill".into()),
            ("/hops/0/instance_id", "mallory".into()),
            ("/hops/0/at", at(9).wire().into()),
            ("/hops/1/public_key", KEYS[3].public().to_pem().into()),
            ("/hops/0/signature", "AAAA".into()),
        ] {
            let chain = reparsed(&chain(2), |v| *v.pointer_mut(pointer).unwrap() = changed);
            let result = chain.unwrap().verify(&hash());
            assert!(
                matches!(result, Err(ProvenanceError::Signature { .. })),
                "{pointer}"
            );
        }
        for reorder in [
            |hops: &mut Vec<Value>| hops.swap(1, 2),
            |hops: &mut Vec<Value>| {
                hops.remove(1);
            },
        ] {
            let chain = reparsed(&chain(2), |v| reorder(v["hops"].as_array_mut().unwrap()));
            assert!(matches!(
                chain.unwrap().verify(&hash()),
                Err(ProvenanceError::Signature { .. })
            ));
        }
        let other = chain(0).verify(&ContentHash::of("other"));
        assert!(matches!(other, Err(ProvenanceError::OtherContent { .. })));
        let other = reparsed(&chain(0), |v| {
            v["content_hash"] = ContentHash::of("other").to_hex().into()
        });
        assert!(matches!(
            other.unwrap().verify(&ContentHash::of("other")),
            Err(ProvenanceError::Signature { hop: 0, .. })
        ));
    }

    #[test]
    fn what_is_malformed_is_refused() {
        for (pointer, changed) in [
            ("/kind", Value::from("program")),
            ("/name", "a\nb".into()),
            ("/name", "x".repeat(NAME_MAX + 1).into()),
            ("/hops", Value::Null),
            ("/hops/0/public_key", "no key".into()),
            ("/hops/0/at", "yesterday".into()),
            ("/content_hash", "short".into()),
        ] {
            assert!(
                reparsed(&chain(0), |v| *v.pointer_mut(pointer).unwrap() = changed).is_err(),
                "{pointer}"
            );
        }
        assert!(reparsed(&chain(0), |v| v["extra"] = 1.into()).is_err());
        let later = reparsed(&chain(0), |v| v["version"] = 2.into()).unwrap();
        assert!(matches!(
            later.verify(&hash()),
            Err(ProvenanceError::Version)
        ));
        let empty = reparsed(&chain(0), |v| v["hops"] = json!([])).unwrap();
        assert!(matches!(
            empty.verify(&hash()),
            Err(ProvenanceError::NoAuthor)
        ));
        let large = " ".repeat(PROVENANCE_MAX + 1);
        assert!(matches!(
            Provenance::from_json(large.as_bytes()),
            Err(ProvenanceError::TooLarge)
        ));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Provenance::from_json(&bytes);
        }
    }
}
