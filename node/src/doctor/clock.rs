//! Whether the clock can be believed.

use std::time::Duration;

use kairos_protocol::time::Timestamp;

use super::Findings;

/// 2025-01-01: no copy of this program is older.
const EARLIEST: i64 = 1_735_689_600;
/// 2100-01-01.
const LATEST: i64 = 4_102_444_800;
/// How far the ledger's last block may be ahead of us; proofs of possession allow a minute too.
const AHEAD: Duration = Duration::from_secs(60);

pub(super) fn check(now: Timestamp, newest: Option<Timestamp>, found: &mut Findings) {
    const CHECK: &str = "clock";
    const FIX: &str = "set the clock, and keep it set with NTP; peers refuse proofs that are off by more than a minute";
    if !(EARLIEST..LATEST).contains(&now.as_secs()) {
        return found.fail(CHECK, format!("the clock says {now}"), FIX);
    }
    match newest {
        Some(newest) if newest > now.plus(AHEAD) => found.fail(
            CHECK,
            format!("the clock says {now}, but the ledger's last block was written at {newest}"),
            FIX,
        ),
        Some(newest) => found.ok(
            CHECK,
            format!("{now}, after the ledger's last block ({newest})"),
        ),
        None => found.ok(CHECK, now.to_string()),
    }
}
