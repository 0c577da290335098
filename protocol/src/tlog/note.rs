//! Signed notes: a text, and lines with signatures on it. See C2SP `signed-note`.
//!
//! Keys are Ed25519 and have the text forms that every C2SP tool reads: a *vkey* for checking, `PRIVATE+KEY+…` for
//! signing. A key says which kind of signature it makes, because a signature on a note and a cosignature cover
//! different bytes.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::crypto::{KeyError, random_bytes};
use crate::hash::Hasher;

/// Longest note in bytes. Post-quantum signatures, which are kept unread, have 5 kB.
pub const NOTE_MAX: usize = 128 * 1024;
/// Most signatures on a note; the specification asks for at least 16.
pub const SIGNATURES_MAX: usize = 64;
/// Longest key name in bytes.
pub const KEY_NAME_MAX: usize = 512;
/// Longest text of a key.
const KEY_TEXT_MAX: usize = KEY_NAME_MAX + 128;
/// What a signing key begins with.
const PRIVATE: &str = "PRIVATE+KEY+";
/// What a signature line begins with: an em dash and a space.
const DASH: &str = "\u{2014} ";

/// Why a text is not a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NoteKeyError {
    /// Not the parts of a key.
    #[error("not a key of the form NAME+ID+BASE64")]
    Form,
    /// A signing key where a key for checking belongs. Whoever sent it has given it away.
    #[error("a private key was given in place of the public one; consider it compromised")]
    Private,
    /// The name is empty, too long, or has a space, a plus sign or a control character.
    #[error("the key's name is not usable in a note")]
    Name,
    /// Another kind of key.
    #[error("not an Ed25519 key for notes or cosignatures")]
    Kind,
    /// The id is not that of the name and the key.
    #[error("the key's id does not belong to its name and key")]
    Id,
    /// It is a key of somebody else, or for something else.
    #[error("it is a key of another name or kind")]
    Other,
    /// The cryptographic library refused it.
    #[error("the key is not usable")]
    Unusable,
}

impl From<KeyError> for NoteKeyError {
    fn from(_: KeyError) -> Self {
        Self::Unusable
    }
}

/// What a key signs; the type byte of the specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// The text of a note: what a log does.
    Note,
    /// A checkpoint and a time: what a witness does. See C2SP `tlog-cosignature`.
    Cosignature,
}

impl Purpose {
    fn byte(self) -> u8 {
        match self {
            Self::Note => 1,
            Self::Cosignature => 4,
        }
    }

    fn of(byte: u8) -> Result<Self, NoteKeyError> {
        match byte {
            1 => Ok(Self::Note),
            4 => Ok(Self::Cosignature),
            _ => Err(NoteKeyError::Kind),
        }
    }
}

fn check_name(name: &str) -> Result<(), NoteKeyError> {
    let bad = |c: char| c.is_whitespace() || c.is_control() || c == '+';
    match name.is_empty() || name.len() > KEY_NAME_MAX || name.contains(bad) {
        true => Err(NoteKeyError::Name),
        false => Ok(()),
    }
}

/// The public key of a log or a witness, with its name. Written as a *vkey*.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct VerifierKey {
    name: String,
    purpose: Purpose,
    key: [u8; 32],
    id: u32,
}

impl VerifierKey {
    fn new(name: &str, purpose: Purpose, key: [u8; 32]) -> Result<Self, NoteKeyError> {
        check_name(name)?;
        let mut hasher = Hasher::default();
        hasher.update(name.as_bytes());
        hasher.update(b"\n");
        hasher.update(&[purpose.byte()]);
        hasher.update(&key);
        let hash = hasher.finish();
        let [a, b, c, d, ..] = *hash.as_bytes();
        Ok(Self {
            name: name.to_owned(),
            purpose,
            key,
            id: u32::from_be_bytes([a, b, c, d]),
        })
    }

    /// The name in its signature lines.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it signs.
    pub fn purpose(&self) -> Purpose {
        self.purpose
    }

    /// The start of the hash over name, type and key.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Whether a signature line names this key.
    pub fn made(&self, signature: &NoteSignature) -> bool {
        self.name == signature.name && self.id == signature.id
    }

    /// Whether `signature` is this key's over `message`.
    pub(super) fn holds(&self, message: &[u8], signature: &[u8]) -> bool {
        let key = UnparsedPublicKey::new(&ED25519, &self.key);
        key.verify(message, signature).is_ok()
    }

    fn body(&self) -> String {
        let mut bytes = vec![self.purpose.byte()];
        bytes.extend_from_slice(&self.key);
        STANDARD.encode(bytes)
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{:08x}+{}", self.name, self.id, self.body())
    }
}

impl fmt::Debug for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifierKey({self})")
    }
}

/// The name, the id and the 33 bytes of a key's text.
fn split_key(text: &str) -> Result<(&str, u32, Purpose, [u8; 32]), NoteKeyError> {
    if text.len() > KEY_TEXT_MAX {
        return Err(NoteKeyError::Form);
    }
    let mut parts = text.splitn(3, '+');
    let (Some(name), Some(id), Some(body)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(NoteKeyError::Form);
    };
    let mut id_bytes = [0; 4];
    let lower = !id.bytes().any(|byte| byte.is_ascii_uppercase());
    match hex::decode_to_slice(id, &mut id_bytes) {
        Ok(()) if lower => {}
        _ => return Err(NoteKeyError::Form),
    }
    let body = Zeroizing::new(STANDARD.decode(body).map_err(|_| NoteKeyError::Form)?);
    let (kind, key) = body.split_first().ok_or(NoteKeyError::Form)?;
    let purpose = Purpose::of(*kind)?;
    let key = key.try_into().map_err(|_| NoteKeyError::Kind)?;
    Ok((name, u32::from_be_bytes(id_bytes), purpose, key))
}

impl FromStr for VerifierKey {
    type Err = NoteKeyError;

    fn from_str(text: &str) -> Result<Self, NoteKeyError> {
        if text.starts_with(PRIVATE) {
            return Err(NoteKeyError::Private);
        }
        let (name, id, purpose, key) = split_key(text)?;
        let parsed = Self::new(name, purpose, key)?;
        match parsed.id == id {
            true => Ok(parsed),
            false => Err(NoteKeyError::Id),
        }
    }
}

impl serde::Serialize for VerifierKey {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for VerifierKey {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The private key of our log or witness. It leaves this type only as text for its file.
pub struct SigningKey {
    pair: Ed25519KeyPair,
    seed: Zeroizing<[u8; 32]>,
    verifier: VerifierKey,
}

impl SigningKey {
    /// Makes a new key.
    pub fn generate(name: &str, purpose: Purpose) -> Result<Self, NoteKeyError> {
        Self::of(name, purpose, random_bytes()?)
    }

    fn of(name: &str, purpose: Purpose, seed: [u8; 32]) -> Result<Self, NoteKeyError> {
        let seed = Zeroizing::new(seed);
        let pair = Ed25519KeyPair::from_seed_unchecked(&*seed);
        let pair = pair.map_err(|_| NoteKeyError::Unusable)?;
        let public = pair.public_key().as_ref().try_into();
        let public = public.map_err(|_| NoteKeyError::Unusable)?;
        Ok(Self {
            verifier: VerifierKey::new(name, purpose, public)?,
            pair,
            seed,
        })
    }

    /// Reads [`to_text`](Self::to_text).
    pub fn from_text(text: &str) -> Result<Self, NoteKeyError> {
        let inner = text.strip_prefix(PRIVATE).ok_or(NoteKeyError::Form)?;
        let (name, id, purpose, seed) = split_key(inner)?;
        let key = Self::of(name, purpose, seed)?;
        match key.verifier.id == id {
            true => Ok(key),
            false => Err(NoteKeyError::Id),
        }
    }

    /// The private key as `PRIVATE+KEY+NAME+ID+BASE64`, the form of the Go module `sumdb/note`.
    pub fn to_text(&self) -> Zeroizing<String> {
        let mut bytes = Zeroizing::new(vec![self.verifier.purpose.byte()]);
        bytes.extend_from_slice(&*self.seed);
        let body = Zeroizing::new(STANDARD.encode(&*bytes));
        let (name, id) = (&self.verifier.name, self.verifier.id);
        Zeroizing::new(format!("{PRIVATE}{name}+{id:08x}+{}", *body))
    }

    /// The public half.
    pub fn verifier(&self) -> &VerifierKey {
        &self.verifier
    }

    /// Signs `message`, and puts `prefix` before the signature in the line.
    pub(super) fn sign(&self, message: &[u8], prefix: &[u8]) -> NoteSignature {
        let mut bytes = prefix.to_vec();
        bytes.extend_from_slice(self.pair.sign(message).as_ref());
        NoteSignature {
            name: self.verifier.name.clone(),
            id: self.verifier.id,
            bytes,
        }
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.verifier)
    }
}

/// Why a text is not a note, or not one that a key signed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NoteError {
    /// Longer than [`NOTE_MAX`].
    #[error("the note is longer than {NOTE_MAX} bytes")]
    TooLong,
    /// A control character.
    #[error("the note has a control character at byte {at}")]
    Control {
        /// Where.
        at: usize,
    },
    /// No blank line between text and signatures, or nothing before or behind it.
    #[error("the note is not a text, a blank line and signatures")]
    Form,
    /// A line that is not a signature.
    #[error("line {line} behind the note's text is not a signature")]
    Signature {
        /// Counted from 1.
        line: usize,
    },
    /// More than [`SIGNATURES_MAX`].
    #[error("the note has more than {SIGNATURES_MAX} signatures")]
    TooMany,
    /// None of the signatures is by the key.
    #[error("the note is not signed by `{0}`")]
    Unsigned(String),
    /// A signature names the key but is not by it.
    #[error("a signature in the name of `{0}` is not by its key")]
    Forged(String),
}

/// One signature line: who signed, and what the key made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoteSignature {
    name: String,
    id: u32,
    bytes: Vec<u8>,
}

impl NoteSignature {
    /// Who is said to have signed.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the key made, the id left aside.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl fmt::Display for NoteSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = self.id.to_be_bytes().to_vec();
        bytes.extend_from_slice(&self.bytes);
        write!(f, "{DASH}{} {}", self.name, STANDARD.encode(bytes))
    }
}

impl FromStr for NoteSignature {
    type Err = NoteError;

    /// Reads one line without its line end.
    fn from_str(line: &str) -> Result<Self, NoteError> {
        const BAD: NoteError = NoteError::Signature { line: 1 };
        let rest = line.strip_prefix(DASH).ok_or(BAD)?;
        let (name, body) = rest.split_once(' ').ok_or(BAD)?;
        check_name(name).map_err(|_| BAD)?;
        let bytes = STANDARD.decode(body).map_err(|_| BAD)?;
        let (id, bytes) = bytes.split_first_chunk::<4>().ok_or(BAD)?;
        if bytes.is_empty() {
            return Err(BAD);
        }
        Ok(Self {
            name: name.to_owned(),
            id: u32::from_be_bytes(*id),
            bytes: bytes.to_vec(),
        })
    }
}

/// Reads signature lines, each with its line end.
pub fn parse_signatures(text: &str) -> Result<Vec<NoteSignature>, NoteError> {
    let lines = text.strip_suffix('\n').ok_or(NoteError::Form)?;
    let mut signatures = Vec::new();
    for (n, line) in lines.split('\n').enumerate() {
        if n == SIGNATURES_MAX {
            return Err(NoteError::TooMany);
        }
        let parsed = line.parse();
        signatures.push(parsed.map_err(|_| NoteError::Signature { line: n + 1 })?);
    }
    Ok(signatures)
}

/// A note as it was read: its signatures are not checked yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    text: String,
    signatures: Vec<NoteSignature>,
}

impl Note {
    /// Signs `text`, which ends in a newline.
    pub fn sign(text: String, key: &SigningKey) -> Result<Self, NoteError> {
        let signatures = vec![key.sign(text.as_bytes(), &[])];
        // The reader decides what is a note.
        Self { text, signatures }.to_string().parse()
    }

    /// What was signed, with its last newline. Not to be believed before [`verify`](Self::verify).
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Everything that was read as a signature.
    pub fn signatures(&self) -> &[NoteSignature] {
        &self.signatures
    }

    /// Adds a signature unless it is there already, replacing an older one of the same key.
    pub fn add(&mut self, signature: NoteSignature) -> Result<(), NoteError> {
        let same = |old: &NoteSignature| old.name == signature.name && old.id == signature.id;
        match self.signatures.iter().position(same) {
            Some(at) => self.signatures.splice(at..=at, [signature]).for_each(drop),
            None if self.signatures.len() >= SIGNATURES_MAX => return Err(NoteError::TooMany),
            None => self.signatures.push(signature),
        }
        Ok(())
    }

    /// Checks that `key` signed the text. Every signature that names the key must be by it.
    pub fn verify(&self, key: &VerifierKey) -> Result<(), NoteError> {
        let mut ours = self
            .signatures
            .iter()
            .filter(|made| key.made(made))
            .peekable();
        if ours.peek().is_none() || key.purpose != Purpose::Note {
            return Err(NoteError::Unsigned(key.name.clone()));
        }
        match ours.all(|signature| key.holds(self.text.as_bytes(), &signature.bytes)) {
            true => Ok(()),
            false => Err(NoteError::Forged(key.name.clone())),
        }
    }
}

impl FromStr for Note {
    type Err = NoteError;

    fn from_str(note: &str) -> Result<Self, NoteError> {
        if note.len() > NOTE_MAX {
            return Err(NoteError::TooLong);
        }
        let control = |c: char| c < ' ' && c != '\n';
        if let Some(at) = note.find(control) {
            return Err(NoteError::Control { at });
        }
        let (text, signatures) = note.rsplit_once("\n\n").ok_or(NoteError::Form)?;
        if signatures.is_empty() {
            return Err(NoteError::Form);
        }
        Ok(Self {
            text: format!("{text}\n"),
            signatures: parse_signatures(signatures)?,
        })
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        self.signatures
            .iter()
            .try_for_each(|line| writeln!(f, "{line}"))
    }
}

#[cfg(test)]
mod tests;
