//! Checkpoints: the signed head of a log, and what witnesses add to it.
//!
//! See C2SP `tlog-checkpoint` and `tlog-cosignature`. Of the cosignatures, those with Ed25519 are made and checked;
//! others are kept as they are.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use super::note::{Note, NoteError, NoteSignature, Purpose, SigningKey, VerifierKey};
use super::proof::Head;
use super::{hash_text, parse_decimal, parse_hash};
use crate::time::Timestamp;

/// Longest origin in bytes, the bound of a cosigned message.
pub const ORIGIN_MAX: usize = 255;
/// What a cosigned message begins with.
const COSIGNATURE_HEADER: &str = "cosignature/v1";
/// Bytes of the time in a cosignature.
const TIME_BYTES: usize = 8;

/// Why a text is not a checkpoint, or not the one that is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CheckpointError {
    /// It is not a note, or not signed as it must be.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// A line that is not what belongs there.
    #[error("line {line} of the checkpoint is not {expected}")]
    Line {
        /// Counted from 1.
        line: usize,
        /// What belongs there.
        expected: &'static str,
    },
    /// The origin is not the name of the key.
    #[error("the checkpoint is of the log `{found}`, not of `{expected}`")]
    OtherLog {
        /// The name of the key.
        expected: String,
        /// The origin.
        found: String,
    },
    /// A cosignature without a time, or of another length than Ed25519 makes.
    #[error("the cosignature of `{0}` is not one of Ed25519 with a time")]
    Cosignature(String),
}

/// What a log states about itself: that it has so many entries, with this root over them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The name of the log.
    pub origin: String,
    /// Number of entries and the root over them.
    pub head: Head,
    /// Further lines, which nobody here gives a meaning.
    pub extensions: Vec<String>,
}

impl Checkpoint {
    /// The text that is signed.
    pub fn to_text(&self) -> String {
        let (size, root) = (self.head.size, hash_text(&self.head.root));
        let mut text = format!("{}\n{size}\n{root}\n", self.origin);
        for line in &self.extensions {
            text.push_str(line);
            text.push('\n');
        }
        text
    }

    fn parse(text: &str) -> Result<Self, CheckpointError> {
        let bad = |line, expected| CheckpointError::Line { line, expected };
        let inner = text.strip_suffix('\n').unwrap_or(text);
        let mut lines = inner.split('\n');
        let origin = lines
            .next()
            .filter(|o| !o.is_empty() && o.len() <= ORIGIN_MAX);
        let origin = origin.ok_or(bad(1, "an origin"))?.to_owned();
        let size = lines.next().and_then(parse_decimal);
        let size = size.ok_or(bad(2, "a size"))?;
        let root = lines.next().and_then(parse_hash);
        let root = root.ok_or(bad(3, "a root hash"))?;
        let extensions: Vec<String> = lines.map(str::to_owned).collect();
        if let Some(n) = extensions.iter().position(String::is_empty) {
            return Err(bad(n + 4, "an extension line"));
        }
        Ok(Self {
            origin,
            head: Head { size, root },
            extensions,
        })
    }
}

/// A checkpoint with its signatures, as it was read: nothing in it is believed before [`verify`](Self::verify).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedCheckpoint {
    note: Note,
    checkpoint: Checkpoint,
}

impl SignedCheckpoint {
    /// Signs the head of the log that `key` is named after.
    pub fn sign(head: Head, key: &SigningKey) -> Result<Self, CheckpointError> {
        let checkpoint = Checkpoint {
            origin: key.verifier().name().to_owned(),
            head,
            extensions: Vec::new(),
        };
        let note = Note::sign(checkpoint.to_text(), key)?;
        note.to_string().parse()
    }

    /// What it says.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// Number of entries and the root over them.
    pub fn head(&self) -> Head {
        self.checkpoint.head
    }

    /// The note, with every signature.
    pub fn note(&self) -> &Note {
        &self.note
    }

    /// Checks that `key` signed it and is named after its log.
    pub fn verify(&self, key: &VerifierKey) -> Result<(), CheckpointError> {
        let (found, expected) = (&self.checkpoint.origin, key.name());
        if found != expected {
            let (expected, found) = (expected.to_owned(), found.clone());
            return Err(CheckpointError::OtherLog { expected, found });
        }
        Ok(self.note.verify(key)?)
    }

    /// The cosignature of the witness with `key`: its statement that at `now` this was the largest tree it had seen of
    /// this log, and that all it had seen before are contained in it.
    pub fn cosign(
        &self,
        key: &SigningKey,
        now: Timestamp,
    ) -> Result<NoteSignature, CheckpointError> {
        let seconds = u64::try_from(now.as_secs()).unwrap_or(0);
        let signature = key.sign(&self.cosigned(seconds), &seconds.to_be_bytes());
        self.cosigned_at(&signature, key.verifier())?;
        Ok(signature)
    }

    /// Checks the cosignature of the witness with `key`, and says when it was made.
    pub fn cosigned_at(
        &self,
        signature: &NoteSignature,
        key: &VerifierKey,
    ) -> Result<Timestamp, CheckpointError> {
        if !key.made(signature) || key.purpose() != Purpose::Cosignature {
            return Err(NoteError::Unsigned(key.name().to_owned()).into());
        }
        let malformed = || CheckpointError::Cosignature(key.name().to_owned());
        let (time, bytes) = signature
            .bytes()
            .split_first_chunk::<TIME_BYTES>()
            .ok_or_else(malformed)?;
        let seconds = u64::from_be_bytes(*time);
        let at = i64::try_from(seconds).map_err(|_| malformed())?;
        match key.holds(&self.cosigned(seconds), bytes) {
            true => Ok(Timestamp::from_secs(at)),
            false => Err(NoteError::Forged(key.name().to_owned()).into()),
        }
    }

    /// When the witness with `key` cosigned this; nothing if it did not.
    pub fn witnessed(&self, key: &VerifierKey) -> Result<Option<Timestamp>, CheckpointError> {
        let mut made = self.note.signatures().iter().filter(|line| key.made(line));
        made.next()
            .map(|signature| self.cosigned_at(signature, key))
            .transpose()
    }

    /// Adds a cosignature that was checked.
    pub fn add(&mut self, signature: NoteSignature) -> Result<(), CheckpointError> {
        Ok(self.note.add(signature)?)
    }

    fn cosigned(&self, seconds: u64) -> Vec<u8> {
        let text = self.note.text();
        format!("{COSIGNATURE_HEADER}\ntime {seconds}\n{text}").into_bytes()
    }
}

impl FromStr for SignedCheckpoint {
    type Err = CheckpointError;

    fn from_str(text: &str) -> Result<Self, CheckpointError> {
        let note: Note = text.parse()?;
        let checkpoint = Checkpoint::parse(note.text())?;
        Ok(Self { note, checkpoint })
    }
}

impl fmt::Display for SignedCheckpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.note.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tree::{empty_root, leaf_hash};
    use super::*;

    fn key(purpose: Purpose) -> SigningKey {
        SigningKey::generate("example.com/log", purpose).unwrap()
    }

    fn head(size: u64) -> Head {
        Head {
            size,
            root: leaf_hash(b"root"),
        }
    }

    /// The example of the specification, whose keys nobody published.
    const EXAMPLE: &str = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n\
        \u{2014} example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n\
        \u{2014} witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==\n";

    #[test]
    fn reads_the_example_of_the_specification() {
        let read: SignedCheckpoint = EXAMPLE.parse().unwrap();
        assert_eq!(read.checkpoint().origin, "example.com/behind-the-sofa");
        assert_eq!(read.head().size, 20_852_163);
        assert_eq!(read.to_string(), EXAMPLE);
        assert_eq!(read.checkpoint().to_text(), read.note().text());
        // The time of the second line, which the specification writes out.
        let line = &read.note().signatures()[1];
        assert_eq!(line.bytes()[..8], 1_679_315_147_u64.to_be_bytes());
    }

    #[test]
    fn holds_for_its_key_and_its_log_only() {
        let ours = key(Purpose::Note);
        let signed = SignedCheckpoint::sign(head(7), &ours).unwrap();
        signed.verify(ours.verifier()).unwrap();
        let read: SignedCheckpoint = signed.to_string().parse().unwrap();
        assert_eq!(read, signed);
        assert!(signed.verify(key(Purpose::Note).verifier()).is_err());
        let elsewhere = SigningKey::generate("example.com/other", Purpose::Note).unwrap();
        let told = signed.verify(elsewhere.verifier()).unwrap_err();
        assert_eq!(
            told.to_string(),
            "the checkpoint is of the log `example.com/log`, not of `example.com/other`"
        );
        // A witness's key does not sign checkpoints.
        let witness = key(Purpose::Cosignature);
        assert!(
            SignedCheckpoint::sign(head(7), &witness)
                .is_ok_and(|s| s.verify(witness.verifier()).is_err())
        );
    }

    #[test]
    fn a_cosignature_says_who_saw_it_and_when() {
        let (log, witness) = (key(Purpose::Note), key(Purpose::Cosignature));
        let mut signed = SignedCheckpoint::sign(head(7), &log).unwrap();
        assert_eq!(signed.witnessed(witness.verifier()), Ok(None));
        let at = Timestamp::from_secs(1_700_000_000);
        let cosignature = signed.cosign(&witness, at).unwrap();
        signed.add(cosignature.clone()).unwrap();
        let read: SignedCheckpoint = signed.to_string().parse().unwrap();
        assert_eq!(read.witnessed(witness.verifier()), Ok(Some(at)));
        read.verify(log.verifier()).unwrap();
        // On another checkpoint it is worth nothing.
        let other = SignedCheckpoint::sign(head(8), &log).unwrap();
        assert!(other.cosigned_at(&cosignature, witness.verifier()).is_err());
        // A note's key makes no cosignatures.
        assert!(signed.cosign(&log, at).is_err());
    }

    #[test]
    fn what_is_not_a_checkpoint_is_refused() {
        let root = hash_text(&empty_root());
        let long = "x".repeat(ORIGIN_MAX + 1);
        for (line, text) in [
            (1, format!("\n0\n{root}\n")),
            (1, format!("{long}\n0\n{root}\n")),
            (2, format!("a\n\n{root}\n")),
            (2, format!("a\n00\n{root}\n")),
            (2, format!("a\n+1\n{root}\n")),
            (2, format!("a\n-1\n{root}\n")),
            (2, format!("a\n18446744073709551616\n{root}\n")),
            (2, "a\n".to_owned()),
            (3, "a\n0\n".to_owned()),
            (3, "a\n0\nAAAA\n".to_owned()),
            (3, format!("a\n0\n{root} \n")),
            (4, format!("a\n0\n{root}\n\nx\n")),
        ] {
            let told = Checkpoint::parse(&text);
            assert!(
                matches!(told, Err(CheckpointError::Line { line: found, .. }) if found == line),
                "{text:?}: {told:?}"
            );
        }
        let extended = Checkpoint::parse(&format!("a\n18446744073709551615\n{root}\nmore\n"));
        assert_eq!(extended.unwrap().extensions, ["more"]);
    }

    proptest! {
        #[test]
        fn a_changed_byte_is_refused(at in any::<prop::sample::Index>(), bit in 0_u8..8) {
            let (log, witness) = (key(Purpose::Note), key(Purpose::Cosignature));
            let mut signed = SignedCheckpoint::sign(head(7), &log).unwrap();
            signed.add(signed.cosign(&witness, Timestamp::from_secs(9)).unwrap()).unwrap();
            let mut bytes = signed.to_string().into_bytes();
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            let read = String::from_utf8(bytes).ok().and_then(|text| text.parse::<SignedCheckpoint>().ok());
            if let Some(read) = read {
                let holds = read.verify(log.verifier()).is_ok()
                    && read.witnessed(witness.verifier()).is_ok_and(|at| at.is_some());
                prop_assert!(!holds, "{read}");
            }
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in any::<String>()) {
            let _ = text.parse::<SignedCheckpoint>();
            let _ = Checkpoint::parse(&text);
        }
    }
}
