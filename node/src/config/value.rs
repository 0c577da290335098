//! The value types that settings need beyond the standard ones: durations, sizes and two choices of words.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A duration written with its unit (`30s`, `1h 30m`); a bare whole number is seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "String")]
pub struct Period(Duration);

/// An amount of bytes written with its unit (`64KiB`, `5MB`); a bare whole number is bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "String")]
pub struct Size(u64);

/// How strongly a peer has shown who it is before it may do something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Strength {
    /// It sent a signed introduction, which a third party could replay.
    Introduced,
    /// It answered a challenge of ours, which nobody else can.
    Proven,
}

/// The form in which the ledger is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// One JSON file.
    File,
    /// A database.
    Sqlite,
}

/// Where anchors are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AnchorBackend {
    /// The reference's stage 0.
    InMemory,
    /// The reference's stage 1.
    Private,
}

/// The header in which a proxy says for whom it asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProxyHeader {
    /// `X-Forwarded-For`, a list.
    XForwardedFor,
    /// `Forwarded` of RFC 7239, a list.
    Forwarded,
    /// `X-Real-IP`, one address.
    XRealIp,
}

/// The shape of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Lines for people.
    Human,
    /// One JSON object a line.
    Json,
}

/// A period or a size as it may stand in a file: a number or a text.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Number(u64),
    Text(String),
}

impl Period {
    /// So many seconds.
    pub const fn secs(secs: u64) -> Self {
        Self(Duration::from_secs(secs))
    }

    /// So many minutes.
    pub const fn mins(mins: u64) -> Self {
        Self::secs(mins.saturating_mul(60))
    }

    /// So many days.
    pub const fn days(days: u64) -> Self {
        Self::mins(days.saturating_mul(24 * 60))
    }

    /// The duration itself.
    pub const fn get(self) -> Duration {
        self.0
    }
}

impl Size {
    /// So many bytes.
    pub const fn bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// So many units of 1,048,576 bytes.
    pub const fn mib(mib: u64) -> Self {
        Self(mib.saturating_mul(bytesize::MIB))
    }

    /// The number of bytes.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The number of bytes as a length in memory; the largest one where the platform is too small.
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl FromStr for Period {
    type Err = humantime::DurationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.trim().parse() {
            Ok(secs) => Ok(Self::secs(secs)),
            Err(_) => humantime::parse_duration(text).map(Self),
        }
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.trim()
            .parse()
            .map(|size: bytesize::ByteSize| Self(size.0))
    }
}

impl TryFrom<Written> for Period {
    type Error = humantime::DurationError;

    fn try_from(written: Written) -> Result<Self, Self::Error> {
        match written {
            Written::Number(secs) => Ok(Self::secs(secs)),
            Written::Text(text) => text.parse(),
        }
    }
}

impl TryFrom<Written> for Size {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, Self::Error> {
        match written {
            Written::Number(bytes) => Ok(Self(bytes)),
            Written::Text(text) => text.parse(),
        }
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

impl fmt::Display for Size {
    /// Writes the largest unit that divides the amount, so that the text reads back as the same number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use bytesize::{GB, GIB, KB, KIB, MB, MIB};
        const UNITS: [(u64, &str); 6] = [
            (GIB, "GiB"),
            (MIB, "MiB"),
            (KIB, "KiB"),
            (GB, "GB"),
            (MB, "MB"),
            (KB, "kB"),
        ];
        let unit = UNITS
            .iter()
            .find(|(bytes, _)| self.0 != 0 && self.0.is_multiple_of(*bytes));
        match unit {
            Some((bytes, name)) => write!(f, "{}{name}", self.0 / bytes),
            None => write!(f, "{}B", self.0),
        }
    }
}

impl From<Period> for String {
    fn from(period: Period) -> Self {
        period.to_string()
    }
}

impl From<Size> for String {
    fn from(size: Size) -> Self {
        size.to_string()
    }
}

impl From<Period> for Duration {
    fn from(period: Period) -> Self {
        period.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_periods_with_units_and_plain_seconds() {
        for (text, secs) in [("90", 90), ("60m", 3600), ("1h 30m", 5400), ("0s", 0)] {
            assert_eq!(
                text.parse::<Period>().unwrap(),
                Period::secs(secs),
                "{text}"
            );
        }
        for text in ["", "soon", "-5s", "10 parsecs", "99999999999999999999s"] {
            assert!(text.parse::<Period>().is_err(), "{text}");
        }
        assert_eq!(
            serde_json::from_str::<Period>("15").unwrap(),
            Period::secs(15)
        );
        assert!(serde_json::from_str::<Period>("-1").is_err());
    }

    #[test]
    fn reads_sizes_with_units_and_plain_bytes() {
        for (text, bytes) in [("100000", 100_000), ("1MiB", 1 << 20), ("5 MB", 5_000_000)] {
            assert_eq!(text.parse::<Size>().unwrap(), Size::bytes(bytes), "{text}");
        }
        for text in ["", "big", "-1", "1 furlong"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
        assert_eq!(serde_json::from_str::<Size>("7").unwrap(), Size::bytes(7));
    }

    #[test]
    fn writes_sizes_in_the_unit_a_person_would_choose() {
        for (bytes, text) in [
            (0, "0B"),
            (1, "1B"),
            (1 << 20, "1MiB"),
            (100_000, "100kB"),
            (1500, "1500B"),
        ] {
            assert_eq!(Size::bytes(bytes).to_string(), text);
        }
    }

    proptest! {
        #[test]
        fn sizes_and_periods_read_back_as_written(number in 0..u64::from(u32::MAX), millis in any::<u32>()) {
            let size = Size::bytes(number);
            prop_assert_eq!(size.to_string().parse(), Ok(size));
            let period = Period(Duration::from_millis(millis.into()));
            prop_assert_eq!(period.to_string().parse(), Ok(period));
        }
    }
}
