//! How much one network address may ask for per minute.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::time::Duration;

use kairos_protocol::time::Timestamp;

use crate::network::Network;

/// Length of a counting window, if nothing else is said.
pub const WINDOW: Duration = Duration::from_secs(60);

/// Most addresses, or others who are counted, remembered at once. Past it, windows that ended are dropped; if none has,
/// the newcomer is counted with all other newcomers.
pub const MAX_ADDRESSES: usize = 65_536;

/// A fixed-window counter: so many per window, which starts at the first request.
#[derive(Debug, Clone, Copy)]
pub struct Window {
    started: Timestamp,
    count: u32,
}

impl Window {
    /// A window that starts now, with nothing counted.
    pub fn new(now: Timestamp) -> Self {
        Self {
            started: now,
            count: 0,
        }
    }

    /// Counts one more within [`WINDOW`] and tells whether it is within `limit`; otherwise how long until the window
    /// ends.
    pub fn count(&mut self, limit: u32, now: Timestamp) -> Result<(), Duration> {
        self.count_within(WINDOW, limit, now)
    }

    /// The same with a window of another `length`.
    pub fn count_within(
        &mut self,
        length: Duration,
        limit: u32,
        now: Timestamp,
    ) -> Result<(), Duration> {
        if self.is_over(length, now) {
            *self = Self::new(now);
        }
        self.count = self.count.saturating_add(1);
        if self.count <= limit {
            return Ok(());
        }
        Err(length
            .saturating_sub(now.since(self.started))
            .max(Duration::from_secs(1)))
    }

    fn is_over(&self, length: Duration, now: Timestamp) -> bool {
        now.since(self.started) > length
    }
}

/// So much for each of many within a window.
#[derive(Debug)]
pub struct Allowance<K> {
    limit: u32,
    length: Duration,
    windows: HashMap<K, Window>,
    crowd: Window,
}

impl<K: Eq + Hash> Allowance<K> {
    /// Allows `limit` for each within `length`.
    pub fn new(limit: u32, length: Duration) -> Self {
        Self {
            limit,
            length,
            windows: HashMap::new(),
            crowd: Window::new(Timestamp::EPOCH),
        }
    }

    /// Counts one more for `whom`; those past the limit get the time to wait.
    pub fn admit(&mut self, whom: K, now: Timestamp) -> Result<(), Duration> {
        let (limit, length) = (self.limit, self.length);
        if self.windows.len() >= MAX_ADDRESSES && !self.windows.contains_key(&whom) {
            self.windows
                .retain(|_, window| !window.is_over(length, now));
            if self.windows.len() >= MAX_ADDRESSES {
                return self.crowd.count_within(length, limit, now);
            }
        }
        let window = self.windows.entry(whom);
        window
            .or_insert_with(|| Window::new(now))
            .count_within(length, limit, now)
    }
}

/// Counts requests per address. IPv6 addresses count by /64, the smallest block a subscriber gets.
#[derive(Debug)]
pub struct AddressAllowance(Allowance<Network>);

impl AddressAllowance {
    /// Allows `limit` requests per address and [`WINDOW`].
    pub fn new(limit: u32) -> Self {
        Self::within(limit, WINDOW)
    }

    /// Allows `limit` requests per address within `length`.
    pub fn within(limit: u32, length: Duration) -> Self {
        Self(Allowance::new(limit, length))
    }

    /// Counts a request; refused ones get the time to wait.
    pub fn admit(&mut self, address: IpAddr, now: Timestamp) -> Result<(), Duration> {
        self.0.admit(Network::block_of(address), now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_secs(1_000_000 + secs)
    }

    #[test]
    fn refuses_past_the_limit_and_opens_again_after_the_window() {
        let mut allowance = AddressAllowance::new(3);
        let address: IpAddr = "192.0.2.1".parse().unwrap();
        for _ in 0..3 {
            assert_eq!(allowance.admit(address, at(0)), Ok(()));
        }
        assert_eq!(
            allowance.admit(address, at(10)),
            Err(Duration::from_secs(50))
        );
        assert_eq!(
            allowance.admit("192.0.2.2".parse().unwrap(), at(10)),
            Ok(())
        );
        assert_eq!(allowance.admit(address, at(61)), Ok(()));
    }

    #[test]
    fn one_ipv6_subscriber_is_one_address() {
        let mut allowance = AddressAllowance::new(1);
        assert!(
            allowance
                .admit("2001:db8::1".parse().unwrap(), at(0))
                .is_ok()
        );
        assert!(
            allowance
                .admit("2001:db8::2".parse().unwrap(), at(0))
                .is_err()
        );
        assert!(
            allowance
                .admit("2001:db8:0:1::1".parse().unwrap(), at(0))
                .is_ok()
        );
        assert!(
            allowance
                .admit("::ffff:192.0.2.1".parse().unwrap(), at(0))
                .is_ok()
        );
        assert!(
            allowance
                .admit("192.0.2.1".parse().unwrap(), at(0))
                .is_err()
        );
    }

    #[test]
    fn remembers_a_bounded_number_of_addresses() {
        let mut allowance = AddressAllowance::new(1);
        for n in 0..(MAX_ADDRESSES as u32 + 10) {
            let _ = allowance.admit(IpAddr::V4((0x0a00_0000 + n).into()), at(0));
        }
        assert_eq!(allowance.0.windows.len(), MAX_ADDRESSES);
        assert!(
            allowance
                .admit("192.0.2.9".parse().unwrap(), at(1))
                .is_err(),
            "the crowd shares one window"
        );
        assert!(
            allowance
                .admit("192.0.2.9".parse().unwrap(), at(70))
                .is_ok()
        );
    }
}
