//! Timestamps inside what is signed: exactly `2026-02-20T12:00:00Z`, so that a parsed text is written back the same.

use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

use crate::time::Timestamp;

pub(crate) fn serialize<S: Serializer>(at: &Timestamp, out: S) -> Result<S::Ok, S::Error> {
    out.serialize_str(&at.wire())
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Timestamp, D::Error> {
    let text = String::deserialize(from)?;
    let at = Timestamp::parse(&text).map_err(D::Error::custom)?;
    if at.wire() == text {
        Ok(at)
    } else {
        Err(D::Error::custom(
            "a time in the form 2026-02-20T12:00:00Z is expected",
        ))
    }
}
