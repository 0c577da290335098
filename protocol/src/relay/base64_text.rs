//! Bytes as strict base64 in JSON, of a fixed length where the type has one.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};
use zeroize::Zeroizing;

pub(super) fn serialize<S: Serializer>(
    bytes: &impl AsRef<[u8]>,
    out: S,
) -> Result<S::Ok, S::Error> {
    // Erased in any case: some of what is written this way is secret.
    out.serialize_str(&Zeroizing::new(STANDARD.encode(bytes)))
}

pub(super) fn deserialize<'de, D: Deserializer<'de>, T: TryFrom<Vec<u8>>>(
    from: D,
) -> Result<T, D::Error> {
    let text = Zeroizing::new(String::deserialize(from)?);
    let bytes = STANDARD
        .decode(text.as_bytes())
        .map_err(|_| D::Error::custom("strict base64 is expected"))?;
    T::try_from(bytes).map_err(|_| D::Error::custom("base64 of another length is expected"))
}
