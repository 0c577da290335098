//! RSA identities: keys, fingerprints, signatures.
//!
//! Signing and verifying run in constant time through aws-lc-rs; the `rsa` crate only converts between the PEM
//! forms of a private key. The scheme is the reference's:
//! RSASSA-PKCS1-v1_5 with SHA-256, signatures in strict base64.

mod oaep;

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::hmac;
use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize, PublicKey as RsaPublicKey};
use aws_lc_rs::signature::{
    KeyPair as _, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rsa::pkcs1::{EncodeRsaPrivateKey as _, LineEnding};
use rsa::pkcs8::DecodePrivateKey as _;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::hash::ContentHash;
use crate::id::AgentId;

/// Longest public key text accepted; an RSA-8192 key in PEM has about 1,500 bytes.
pub const PUBLIC_KEY_PEM_MAX: usize = 4096;
/// Smallest RSA key accepted from anyone.
pub const MIN_KEY_BITS: usize = 2048;
/// Largest RSA key accepted; verifying cost grows with the square.
pub const MAX_KEY_BITS: usize = 8192;
/// Longest signature text accepted: an RSA-8192 signature in base64.
const SIGNATURE_TEXT_MAX: usize = 1368;

/// Why a key was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum KeyError {
    /// Longer than [`PUBLIC_KEY_PEM_MAX`].
    #[error("the key text is longer than {PUBLIC_KEY_PEM_MAX} bytes")]
    TooLong,
    /// Not one PEM block.
    #[error("the key is not in PEM form")]
    NotPem,
    /// A private key where a public one belongs. Whoever sent it has given it away.
    #[error("a private key was sent in place of the public key; consider it compromised")]
    Private,
    /// A key of another kind, or damaged.
    #[error("the key is not a readable RSA key")]
    NotRsa,
    /// Too small or too large.
    #[error("the RSA key has {bits} bits; {MIN_KEY_BITS} to {MAX_KEY_BITS} are accepted")]
    Size {
        /// Bits of the modulus.
        bits: usize,
    },
    /// The system gave no randomness or no memory.
    #[error("the cryptographic library failed")]
    Library,
}

/// Why a signature was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SignatureError {
    /// Not strict base64 of a plausible length.
    #[error("the signature is not strict base64")]
    NotBase64,
    /// It does not fit the text and the key.
    #[error("the signature does not match")]
    Mismatch,
}

/// An RSA public key that was parsed and found acceptable. Cheap to clone.
#[derive(Clone)]
pub struct PublicKey(Arc<Parts>);

struct Parts {
    parsed: ParsedPublicKey,
    spki: Box<[u8]>,
    hash: ContentHash,
}

impl PublicKey {
    /// Reads a public key in PEM: `BEGIN PUBLIC KEY` (SPKI) or `BEGIN RSA PUBLIC KEY` (PKCS#1), with any line
    /// ends and with or without a final newline.
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        if pem.len() > PUBLIC_KEY_PEM_MAX {
            return Err(KeyError::TooLong);
        }
        let (label, der) = pem_block(pem)?;
        if label.contains("PRIVATE") {
            return Err(KeyError::Private);
        }
        Self::from_der(&der)
    }

    /// Reads SPKI or PKCS#1 DER.
    pub fn from_der(der: &[u8]) -> Result<Self, KeyError> {
        let key = RsaPublicKey::from_der(der).map_err(|_| KeyError::NotRsa)?;
        let modulus = key.modulus();
        let modulus = modulus.big_endian_without_leading_zero();
        let bits = modulus.len() * 8 - modulus.first().map_or(0, |b| b.leading_zeros() as usize);
        if !(MIN_KEY_BITS..=MAX_KEY_BITS).contains(&bits) {
            return Err(KeyError::Size { bits });
        }
        let parsed =
            ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, der).map_err(|_| KeyError::NotRsa)?;
        let spki: PublicKeyX509Der<'_> = key.as_der().map_err(|_| KeyError::Library)?;
        Ok(Self(Arc::new(Parts {
            parsed,
            spki: spki.as_ref().into(),
            hash: ContentHash::of(spki.as_ref()),
        })))
    }

    /// The key as SubjectPublicKeyInfo DER, the form that is hashed.
    pub fn spki_der(&self) -> &[u8] {
        &self.0.spki
    }

    /// The key as `BEGIN PUBLIC KEY` PEM with 64-character lines.
    pub fn to_pem(&self) -> String {
        to_pem("PUBLIC KEY", self.spki_der())
    }

    /// SHA-256 over the SPKI DER: the full identity of the key, used for pins.
    pub fn hash(&self) -> ContentHash {
        self.0.hash
    }

    /// The [fingerprint](ContentHash::fingerprint) of [`Self::hash`].
    pub fn fingerprint(&self) -> String {
        self.hash().fingerprint()
    }

    /// The id that belongs to this key: the first 16 hex digits of [`Self::hash`].
    pub fn agent_id(&self) -> AgentId {
        let hex: String = self.hash().to_hex().chars().take(16).collect();
        #[expect(clippy::expect_used, reason = "16 hex digits are a valid agent id")]
        hex.parse().expect("hex is an agent id")
    }

    /// Checks `signature` (strict base64) over `text`.
    pub fn verify(&self, text: &[u8], signature: &str) -> Result<(), SignatureError> {
        let raw = decode_signature(signature)?;
        self.0
            .parsed
            .verify_sig(text, &raw)
            .map_err(|_| SignatureError::Mismatch)
    }

    /// Checks `signature` against each text a peer may have signed; the signature is decoded once.
    pub fn verify_any<T: AsRef<str>>(
        &self,
        texts: impl IntoIterator<Item = T>,
        signature: &str,
    ) -> Result<(), SignatureError> {
        let raw = decode_signature(signature)?;
        let fits = |text: T| {
            self.0
                .parsed
                .verify_sig(text.as_ref().as_bytes(), &raw)
                .is_ok()
        };
        if texts.into_iter().any(fits) {
            Ok(())
        } else {
            Err(SignatureError::Mismatch)
        }
    }
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.spki == other.0.spki
    }
}

impl Eq for PublicKey {}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.fingerprint())
    }
}

impl serde::Serialize for PublicKey {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_pem())
    }
}

impl<'de> serde::Deserialize<'de> for PublicKey {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let pem = String::deserialize(deserializer)?;
        Self::from_pem(&pem).map_err(serde::de::Error::custom)
    }
}

fn decode_signature(text: &str) -> Result<Vec<u8>, SignatureError> {
    if text.len() > SIGNATURE_TEXT_MAX {
        return Err(SignatureError::NotBase64);
    }
    STANDARD.decode(text).map_err(|_| SignatureError::NotBase64)
}

/// The private RSA key of this node. It never leaves this type but as PEM for the key file.
pub struct Keypair {
    pair: RsaKeyPair,
    public: PublicKey,
}

impl Keypair {
    /// Makes a new RSA-2048 key. Takes some hundred milliseconds.
    pub fn generate() -> Result<Self, KeyError> {
        Self::of(RsaKeyPair::generate(KeySize::Rsa2048).map_err(|_| KeyError::Library)?)
    }

    /// Reads an unencrypted private key in PEM, PKCS#1 (`BEGIN RSA PRIVATE KEY`) or PKCS#8 (`BEGIN PRIVATE KEY`).
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        let (label, der) = pem_block(pem)?;
        let der = Zeroizing::new(der);
        let pair = match label.as_str() {
            "RSA PRIVATE KEY" => RsaKeyPair::from_der(&der),
            "PRIVATE KEY" => RsaKeyPair::from_pkcs8(&der),
            _ => return Err(KeyError::NotRsa),
        };
        Self::of(pair.map_err(|_| KeyError::NotRsa)?)
    }

    fn of(pair: RsaKeyPair) -> Result<Self, KeyError> {
        let public = PublicKey::from_der(pair.public_key().as_ref())?;
        Ok(Self { pair, public })
    }

    /// The private key as PKCS#1 PEM, the form the reference keeps on disk.
    pub fn to_pem(&self) -> Result<Zeroizing<String>, KeyError> {
        let pkcs8: Pkcs8V1Der<'_> = self.pair.as_der().map_err(|_| KeyError::Library)?;
        let key =
            rsa::RsaPrivateKey::from_pkcs8_der(pkcs8.as_ref()).map_err(|_| KeyError::Library)?;
        key.to_pkcs1_pem(LineEnding::LF)
            .map_err(|_| KeyError::Library)
    }

    /// The public half.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Signs `text`; the result is strict base64. Takes about half a millisecond for RSA-2048.
    pub fn sign(&self, text: &[u8]) -> Result<String, KeyError> {
        let mut raw = vec![0; self.pair.public_modulus_len()];
        self.pair
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text, &mut raw)
            .map_err(|_| KeyError::Library)?;
        Ok(STANDARD.encode(raw))
    }
}

impl fmt::Debug for Keypair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keypair({})", self.public.fingerprint())
    }
}

/// HMAC-SHA-256 over `parts`, each preceded by its length so that no two lists of parts read the same.
pub fn mac(secret: &[u8; 32], parts: &[&[u8]]) -> [u8; 32] {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let mut context = hmac::Context::with_key(&key);
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    let mut out = [0; 32];
    for (to, from) in out.iter_mut().zip(context.sign().as_ref()) {
        *to = *from;
    }
    out
}

/// Fills 32 bytes from the system's random source.
pub fn random_bytes() -> Result<[u8; 32], KeyError> {
    let mut bytes = [0; 32];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| KeyError::Library)?;
    Ok(bytes)
}

/// The label and the DER of the one PEM block in `text`.
fn pem_block(text: &str) -> Result<(String, Vec<u8>), KeyError> {
    let inner = text
        .trim()
        .strip_prefix("-----BEGIN ")
        .and_then(|rest| rest.split_once("-----"));
    let (label, rest) = inner.ok_or(KeyError::NotPem)?;
    let body = rest
        .strip_suffix(&format!("-----END {label}-----"))
        .ok_or(KeyError::NotPem)?;
    if body.contains(':') {
        // Headers announce encryption; a passphrase is never asked for.
        return Err(if label.contains("PRIVATE") {
            KeyError::Private
        } else {
            KeyError::NotPem
        });
    }
    let compact: String = body.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    let der = STANDARD.decode(compact).map_err(|_| KeyError::NotPem)?;
    Ok((label.to_owned(), der))
}

fn to_pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut pem = format!("-----BEGIN {label}-----\n");
    for (i, c) in text.chars().enumerate() {
        if i > 0 && i % 64 == 0 {
            pem.push('\n');
        }
        pem.push(c);
    }
    pem.push_str(&format!("\n-----END {label}-----\n"));
    pem
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use rsa::pkcs1v15::Pkcs1v15Sign;
    use rsa::pkcs8::{EncodePrivateKey as _, EncodePublicKey as _};
    use rsa::sha2::{Digest as _, Sha256};

    use super::*;
    use crate::json;

    static OURS: LazyLock<Keypair> = LazyLock::new(|| Keypair::generate().unwrap());

    /// An identity, its key and its signatures over both orders, as the reference made them.
    const REFERENCE: &str = include_str!("../tests/fixtures/identity-signature.json");
    /// The same of another agent, and its signature over what it deposited.
    const DEPOSITOR: &str = include_str!("../tests/fixtures/deposit-signature.json");

    #[test]
    fn verifies_what_the_reference_signed_in_either_order() {
        check_identity(REFERENCE);
        check_identity(DEPOSITOR);
    }

    #[test]
    fn verifies_what_an_agent_of_the_reference_deposited() {
        let vector = json::parse(DEPOSITOR.as_bytes()).unwrap();
        let text = |member: &str| vector[member].as_str().unwrap();
        let key = PublicKey::from_pem(text("public_key")).unwrap();
        let (content, signature) = (text("content").as_bytes(), text("content_signature"));
        key.verify(content, signature).unwrap();
        for other in [b"# K1".as_slice(), b"# K1\r\n", b"# K2\n", b""] {
            assert_eq!(key.verify(other, signature), Err(SignatureError::Mismatch));
        }
    }

    #[track_caller]
    fn check_identity(vector: &str) {
        let vector = json::parse(vector.as_bytes()).unwrap();
        let key = PublicKey::from_pem(vector["public_key"].as_str().unwrap()).unwrap();
        assert_eq!(
            key.fingerprint(),
            vector["key_fingerprint"].as_str().unwrap()
        );
        let texts: Vec<_> = json::signing_texts(&vector["identity"]).collect();
        assert_eq!(
            ContentHash::of(&texts[0]).to_hex(),
            vector["received_order_sha256"].as_str().unwrap()
        );
        assert_eq!(
            ContentHash::of(&texts[1]).to_hex(),
            vector["sorted_sha256"].as_str().unwrap()
        );
        for member in ["received_order_signature", "sorted_signature"] {
            let signature = vector[member].as_str().unwrap();
            key.verify_any(&texts, signature).unwrap();
            assert_eq!(key.verify(b"{}", signature), Err(SignatureError::Mismatch));
        }
    }

    #[test]
    fn agrees_with_a_second_implementation() {
        let pkcs8: Pkcs8V1Der<'_> = OURS.pair.as_der().unwrap();
        let theirs = rsa::RsaPrivateKey::from_pkcs8_der(pkcs8.as_ref()).unwrap();
        let digest = Sha256::digest(b"text");
        let signature = theirs.sign(Pkcs1v15Sign::new::<Sha256>(), &digest).unwrap();
        assert_eq!(OURS.sign(b"text").unwrap(), STANDARD.encode(&signature));
        assert_eq!(
            theirs.to_public_key().to_public_key_der().unwrap().as_ref(),
            OURS.public().spki_der()
        );
    }

    #[test]
    fn keeps_the_key_through_both_pem_forms() {
        let pkcs1 = OURS.to_pem().unwrap();
        assert!(pkcs1.starts_with("-----BEGIN RSA PRIVATE KEY-----\n"));
        assert_eq!(Keypair::from_pem(&pkcs1).unwrap().public(), OURS.public());
        let pkcs8: Pkcs8V1Der<'_> = OURS.pair.as_der().unwrap();
        let pem = rsa::RsaPrivateKey::from_pkcs8_der(pkcs8.as_ref())
            .unwrap()
            .to_pkcs8_pem(LineEnding::LF)
            .unwrap();
        assert_eq!(Keypair::from_pem(&pem).unwrap().public(), OURS.public());
        let public = OURS.public().to_pem();
        for pem in [
            public.clone(),
            public.replace('\n', "\r\n"),
            public.trim_end().to_owned(),
        ] {
            assert_eq!(&PublicKey::from_pem(&pem).unwrap(), OURS.public());
        }
    }

    #[test]
    fn refuses_keys_that_no_peer_may_use() {
        let private = OURS.to_pem().unwrap();
        assert_eq!(
            PublicKey::from_pem(&private).unwrap_err(),
            KeyError::Private
        );
        let small = rsa::RsaPrivateKey::new(&mut rsa::rand_core::OsRng, 1024)
            .unwrap()
            .to_public_key();
        let pem = small.to_public_key_pem(LineEnding::LF).unwrap();
        assert_eq!(
            PublicKey::from_pem(&pem).unwrap_err(),
            KeyError::Size { bits: 1024 }
        );
        assert_eq!(PublicKey::from_pem("hello").unwrap_err(), KeyError::NotPem);
        assert_eq!(
            PublicKey::from_pem(&"-".repeat(5000)).unwrap_err(),
            KeyError::TooLong
        );
        let encrypted = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n-----END RSA PRIVATE KEY-----";
        assert_eq!(
            PublicKey::from_pem(encrypted).unwrap_err(),
            KeyError::Private
        );
        let curve = "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEEVs/o5+uQbTjL3chynL4wXgUg2R9\nq9UU8I5mEovUf86QZ7kOBIjJwqnzD1omageEHWwHdBO6B+dFabmdT9POxg==\n-----END PUBLIC KEY-----\n";
        assert_eq!(PublicKey::from_pem(curve).unwrap_err(), KeyError::NotRsa);
    }

    #[test]
    fn refuses_signatures_that_are_not_strict_base64() {
        let good = OURS.sign(b"text").unwrap();
        assert_eq!(OURS.public().verify(b"text", &good), Ok(()));
        let unpadded = good.trim_end_matches('=');
        for bad in ["!", &format!("{good}\n"), unpadded, &good.repeat(9)] {
            assert_eq!(
                OURS.public().verify(b"text", bad),
                Err(SignatureError::NotBase64),
                "{bad:.12}"
            );
        }
        assert_eq!(
            OURS.public().verify(b"text", ""),
            Err(SignatureError::Mismatch)
        );
        assert_eq!(
            OURS.public().verify(b"other", &good),
            Err(SignatureError::Mismatch)
        );
    }

    #[test]
    fn an_agent_id_is_the_start_of_the_key_hash() {
        let key = OURS.public();
        assert!(key.hash().to_hex().starts_with(key.agent_id().as_str()));
        assert_eq!(key.agent_id().as_str().len(), 16);
    }
}
