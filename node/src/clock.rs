//! The one real clock.

use std::sync::LazyLock;

use jiff::SignedDuration;
use kairos_protocol::time::{Clock, Timestamp};

/// Has this process believe that it is earlier or later, by so many seconds: for tests of what a wrong clock does.
///
/// Whoever may set it starts the process, and could set the machine's clock or change the program as well. The server
/// says each time that it is set.
pub const SHIFT: &str = "KAIROS_TEST_CLOCK_SHIFT";
/// The most that the clock is shifted, either way.
const SHIFT_MAX: i64 = 10 * 366 * 24 * 60 * 60;

/// The system's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl SystemClock {
    /// By how much this process was told to be wrong; zero if it was not, or if the variable makes no sense.
    pub fn shift() -> SignedDuration {
        static SHIFTED: LazyLock<SignedDuration> = LazyLock::new(|| {
            let text = std::env::var(SHIFT).unwrap_or_default();
            seconds(&text).unwrap_or(SignedDuration::ZERO)
        });
        *SHIFTED
    }
}

fn seconds(text: &str) -> Option<SignedDuration> {
    let seconds: i64 = text.parse().ok()?;
    (-SHIFT_MAX..=SHIFT_MAX)
        .contains(&seconds)
        .then(|| SignedDuration::from_secs(seconds))
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place where time enters")]
    fn now(&self) -> Timestamp {
        let now = jiff::Timestamp::now();
        now.checked_add(Self::shift()).unwrap_or(now).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shift_is_a_number_of_seconds_within_a_bound() {
        assert_eq!(seconds("3600"), Some(SignedDuration::from_hours(1)));
        assert_eq!(seconds("-60"), Some(SignedDuration::from_mins(-1)));
        for wrong in ["", "1h", "9223372036854775807", "-400000000"] {
            assert_eq!(seconds(wrong), None, "{wrong}");
        }
    }
}
