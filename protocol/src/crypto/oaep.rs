//! RSA-OAEP with SHA-1, which version 1 of sealed messages encrypts its keys with.
//!
//! SHA-1 has no known weakness here; it is what the reference's library takes by default, and nothing new uses it.

use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use aws_lc_rs::rsa::{
    OAEP_SHA1_MGF1SHA1, OaepPrivateDecryptingKey, OaepPublicEncryptingKey, PrivateDecryptingKey,
    PublicEncryptingKey,
};
use zeroize::{Zeroize as _, Zeroizing};

use super::{KeyError, Keypair, PublicKey};

impl PublicKey {
    /// Encrypts `secret`, at most 214 bytes for RSA-2048, to whoever holds the private key.
    pub(crate) fn encrypt_oaep_sha1(&self, secret: &[u8]) -> Result<Vec<u8>, KeyError> {
        let key = PublicEncryptingKey::from_der(self.spki_der()).map_err(|_| KeyError::Library)?;
        let key = OaepPublicEncryptingKey::new(key).map_err(|_| KeyError::Library)?;
        let mut out = vec![0; key.ciphertext_size()];
        let written = key
            .encrypt(&OAEP_SHA1_MGF1SHA1, secret, &mut out, None)
            .map_err(|_| KeyError::Library)?
            .len();
        out.truncate(written);
        Ok(out)
    }
}

impl Keypair {
    /// Decrypts what was encrypted to our public key; nothing if it was not, for whatever reason.
    pub(crate) fn decrypt_oaep_sha1(
        &self,
        encrypted: &[u8],
    ) -> Result<Option<Zeroizing<Vec<u8>>>, KeyError> {
        let pkcs8: Pkcs8V1Der<'_> = self.pair.as_der().map_err(|_| KeyError::Library)?;
        let key =
            PrivateDecryptingKey::from_pkcs8(pkcs8.as_ref()).map_err(|_| KeyError::Library)?;
        let key = OaepPrivateDecryptingKey::new(key).map_err(|_| KeyError::Library)?;
        let mut out = Zeroizing::new(vec![0; key.min_output_size()]);
        let written = key
            .decrypt(&OAEP_SHA1_MGF1SHA1, encrypted, &mut out, None)
            .map(|secret| secret.len());
        Ok(written.ok().map(|len| {
            // The vector keeps its capacity, so what lies behind the secret is erased with it.
            if let Some(rest) = out.get_mut(len..) {
                rest.zeroize();
            }
            out.truncate(len);
            out
        }))
    }
}
