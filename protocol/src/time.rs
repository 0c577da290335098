//! Instants, their three written forms, and the clock that hands them out.

use std::fmt;
use std::str::FromStr;
use std::sync::Mutex;
use std::time::Duration;

use thiserror::Error;

/// An instant in UTC with nanosecond precision.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct Timestamp(jiff::Timestamp);

/// The text is not an ISO 8601 instant.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{0}` is not an ISO 8601 instant such as 2026-02-20T12:00:00Z")]
pub struct TimestampError(String);

impl Timestamp {
    /// 1970-01-01T00:00:00Z.
    pub const EPOCH: Timestamp = Timestamp(jiff::Timestamp::UNIX_EPOCH);

    /// An instant so many whole seconds after the epoch; times outside the calendar become the epoch.
    pub fn from_secs(secs: i64) -> Self {
        jiff::Timestamp::from_second(secs).map_or(Self::EPOCH, Self)
    }

    /// Whole seconds since the epoch.
    pub fn as_secs(&self) -> i64 {
        self.0.as_second()
    }

    /// `2026-02-20T12:00:00Z`, the form of the wire.
    pub fn wire(&self) -> String {
        self.0.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    }

    /// `2026-02-20T12:00:00.123456Z`, the form that blocks hash.
    pub fn block(&self) -> String {
        self.0.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
    }

    /// `2026-02-20T12:00:00+00:00`, the form inside ledger entries: seconds and a numeric offset.
    pub fn entry(&self) -> String {
        self.0.strftime("%Y-%m-%dT%H:%M:%S+00:00").to_string()
    }

    /// `20260220_120000`, the form in file names.
    pub fn file_stamp(&self) -> String {
        self.0.strftime("%Y%m%d_%H%M%S").to_string()
    }

    /// Reads any ISO 8601 instant with an offset.
    pub fn parse(text: &str) -> Result<Self, TimestampError> {
        text.parse()
            .map(Self)
            .map_err(|_| TimestampError(text.chars().take(64).collect()))
    }

    /// How long ago `earlier` was; zero if it lies in the future.
    pub fn since(&self, earlier: Timestamp) -> Duration {
        Duration::try_from(self.0.duration_since(earlier.0)).unwrap_or_default()
    }

    /// This instant moved forward; unchanged where the calendar ends.
    #[must_use]
    pub fn plus(&self, by: Duration) -> Self {
        self.0.checked_add(by).map_or(*self, Self)
    }

    /// This instant moved back; unchanged where the calendar begins.
    #[must_use]
    pub fn minus(&self, by: Duration) -> Self {
        self.0.checked_sub(by).map_or(*self, Self)
    }
}

impl FromStr for Timestamp {
    type Err = TimestampError;

    fn from_str(text: &str) -> Result<Self, TimestampError> {
        Self::parse(text)
    }
}

impl From<jiff::Timestamp> for Timestamp {
    fn from(instant: jiff::Timestamp) -> Self {
        Self(instant)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.wire())
    }
}

/// Where the time comes from. The one real clock lives in the binary; tests bring a [`ManualClock`].
pub trait Clock: Send + Sync {
    /// The current instant.
    fn now(&self) -> Timestamp;

    /// Whether what was looked at when it was `seen` was looked at since `since`.
    ///
    /// What was seen in the future was not: the clock was set back meanwhile, and nobody knows how long ago that was.
    fn saw_since(&self, seen: Timestamp, since: Timestamp) -> bool {
        since <= seen && seen <= self.now()
    }
}

/// A clock that moves only when told to.
#[derive(Debug)]
pub struct ManualClock(Mutex<Timestamp>);

impl ManualClock {
    /// A clock that stands at `start`.
    pub fn new(start: Timestamp) -> Self {
        Self(Mutex::new(start))
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        let now = self.now();
        self.set(now.plus(by));
    }

    /// Sets the clock, also back.
    pub fn set(&self, now: Timestamp) {
        *self
            .0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner) = now;
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        *self
            .0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_the_forms_of_the_reference() {
        let instant = Timestamp::parse("2026-01-20T19:30:00.123456789+09:00").unwrap();
        assert_eq!(instant.wire(), "2026-01-20T10:30:00Z");
        assert_eq!(instant.block(), "2026-01-20T10:30:00.123456Z");
        assert_eq!(instant.entry(), "2026-01-20T10:30:00+00:00");
        assert_eq!(instant.file_stamp(), "20260120_103000");
    }

    #[test]
    fn a_span_into_the_future_is_zero() {
        let now = Timestamp::from_secs(100);
        assert_eq!(now.since(Timestamp::from_secs(160)), Duration::ZERO);
        assert_eq!(
            now.plus(Duration::from_secs(5)).since(now),
            Duration::from_secs(5)
        );
    }
}
