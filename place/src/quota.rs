//! How often something may be done within a window: by one key, from one address, and by all together.
//!
//! The narrowest is counted first, and what it refuses is not counted any further: whoever has used up their own share
//! takes nothing of anybody else's.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use kairos_protocol::hash::ContentHash;
use kairos_protocol::time::Timestamp;
use thiserror::Error;

use crate::allowance::{AddressAllowance, Allowance, Window};

/// The bounds of a [`Quota`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Most by one key.
    pub per_key: u32,
    /// Most from one address; IPv6 addresses count by /64.
    pub per_address: u32,
    /// Most in all.
    pub total: u32,
    /// Within which all of them count.
    pub window: Duration,
}

/// Whose share is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// That of the key.
    Key,
    /// That of the address.
    Address,
    /// That of all.
    Everyone,
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Key => "by this key",
            Self::Address => "from this address",
            Self::Everyone => "at this Place",
        })
    }
}

/// Too much was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("too many {what} {share} (at most {most} within {} seconds)", .window.as_secs())]
pub struct Exceeded {
    /// Of what.
    pub what: &'static str,
    /// Whose share is used up.
    pub share: Share,
    /// The bound.
    pub most: u32,
    /// Within which it counts.
    pub window: Duration,
    /// When it is worth trying again.
    pub wait: Duration,
}

/// See the module. Remembers a bounded number of keys and addresses.
#[derive(Debug)]
pub struct Quota {
    what: &'static str,
    bounds: Bounds,
    keys: Allowance<ContentHash>,
    addresses: AddressAllowance,
    total: Window,
}

impl Quota {
    /// Counts `what`, a plural.
    pub fn new(what: &'static str, bounds: Bounds) -> Self {
        Self {
            what,
            bounds,
            keys: Allowance::new(bounds.per_key, bounds.window),
            addresses: AddressAllowance::within(bounds.per_address, bounds.window),
            total: Window::new(Timestamp::EPOCH),
        }
    }

    /// Its bounds.
    pub fn bounds(&self) -> Bounds {
        self.bounds
    }

    /// Counts one more for whoever showed `key`, if they showed one, and asks from `address`. For one that is `known` the
    /// share of all is neither asked nor taken: a crowd of newcomers keeps nobody out who was here before.
    pub fn count(
        &mut self,
        key: Option<ContentHash>,
        address: IpAddr,
        known: bool,
        now: Timestamp,
    ) -> Result<(), Exceeded> {
        let Bounds {
            per_key,
            per_address,
            total,
            window,
        } = self.bounds;
        let what = self.what;
        let exceeded = |share, most| {
            move |wait| Exceeded {
                what,
                share,
                most,
                window,
                wait,
            }
        };
        if let Some(key) = key {
            let counted = self.keys.admit(key, now);
            counted.map_err(exceeded(Share::Key, per_key))?;
        }
        let counted = self.addresses.admit(address, now);
        counted.map_err(exceeded(Share::Address, per_address))?;
        if known {
            return Ok(());
        }
        let counted = self.total.count_within(window, total, now);
        counted.map_err(exceeded(Share::Everyone, total))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(secs: u64) -> Timestamp {
        Timestamp::from_secs(1_800_000_000).plus(Duration::from_secs(secs))
    }

    fn quota(per_key: u32, per_address: u32, total: u32) -> Quota {
        let window = Duration::from_secs(60);
        let bounds = Bounds {
            per_key,
            per_address,
            total,
            window,
        };
        Quota::new("messages", bounds)
    }

    fn address(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    #[test]
    fn each_share_is_bounded_and_tells_when_to_come_again() {
        let mut quota = quota(2, 3, 4);
        let mut count = |key: &str, last, secs| {
            let counted = quota.count(Some(ContentHash::of(key)), address(last), false, at(secs));
            counted.map_err(|exceeded| exceeded.share)
        };
        assert_eq!((count("a", 1, 0), count("a", 1, 0)), (Ok(()), Ok(())));
        assert_eq!(count("a", 1, 1), Err(Share::Key));
        assert_eq!(count("b", 1, 1), Ok(()));
        assert_eq!(count("b", 1, 1), Err(Share::Address));
        assert_eq!(count("c", 2, 1), Ok(()));
        assert_eq!(count("d", 3, 1), Err(Share::Everyone));
        assert_eq!(count("a", 1, 61), Ok(()));
        let mut none = self::quota(0, 9, 9);
        let refused = none.count(Some(ContentHash::of("a")), address(1), false, at(0));
        let refused = refused.unwrap_err();
        assert_eq!(
            refused.to_string(),
            "too many messages by this key (at most 0 within 60 seconds)"
        );
        assert_eq!(refused.wait, Duration::from_secs(60));
    }

    #[test]
    fn a_crowd_of_newcomers_keeps_nobody_out_who_was_here_before() {
        let mut quota = quota(9, 9, 1);
        assert_eq!(quota.count(None, address(1), false, at(0)), Ok(()));
        assert!(quota.count(None, address(2), false, at(0)).is_err());
        assert_eq!(quota.count(None, address(3), true, at(0)), Ok(()));
    }

    proptest! {
        /// Whatever one key and one address do, somebody with another key at another address is let in as long as what
        /// was let in before leaves room for them.
        #[test]
        fn nobody_uses_up_what_is_somebody_elses(tries in 0_u32..200, per_key in 0_u32..5, per_address in 0_u32..5) {
            let mut quota = quota(per_key, per_address, 5);
            for _ in 0..tries {
                let _ = quota.count(Some(ContentHash::of("loud")), address(1), false, at(0));
            }
            let quiet = quota.count(Some(ContentHash::of("quiet")), address(2), false, at(0));
            prop_assert_eq!(quiet.is_ok(), per_key > 0 && per_address > 0);
        }
    }
}
