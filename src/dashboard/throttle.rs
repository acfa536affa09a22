//! How often somebody may try a password: per account and per address, in memory, on each instance by itself.

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

const ACCOUNT_BURST: NonZeroU32 = NonZeroU32::new(10).expect("not zero");
const ACCOUNT_PAUSE: Duration = Duration::from_secs(30);
const ADDRESS_BURST: NonZeroU32 = NonZeroU32::new(30).expect("not zero");
const ADDRESS_PAUSE: Duration = Duration::from_secs(5);
/// Those whose allowance is full again are forgotten every so many tries. So memory holds no more than this many
/// and those who tried within the time an allowance takes to fill up.
const SWEEP_EVERY: usize = 1024;

/// Counts tries. Names and addresses are kept as 64-bit hashes under a secret seed: a long name costs no more than
/// a short one, and nobody can pick a name that shares another's count.
pub struct Throttle {
    accounts: DefaultKeyedRateLimiter<u64>,
    addresses: DefaultKeyedRateLimiter<u64>,
    seed: RandomState,
    clock: DefaultClock,
    tries: AtomicUsize,
}

/// Refused; trying again makes sense after this long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooMany(pub Duration);

impl Default for Throttle {
    fn default() -> Self {
        let quota = |pause, burst| Quota::with_period(pause).map(|quota| quota.allow_burst(burst));
        Self {
            accounts: RateLimiter::keyed(quota(ACCOUNT_PAUSE, ACCOUNT_BURST).expect("a pause above zero")),
            addresses: RateLimiter::keyed(quota(ADDRESS_PAUSE, ADDRESS_BURST).expect("a pause above zero")),
            seed: RandomState::new(),
            clock: DefaultClock::default(),
            tries: AtomicUsize::new(0),
        }
    }
}

impl Throttle {
    /// Counts one try. An address that tries too often does not use up the account's allowance.
    ///
    /// # Errors
    /// [`TooMany`], and then no password may be looked at.
    pub fn admit(&self, account: &str, address: IpAddr) -> Result<(), TooMany> {
        self.admit_address(address)?;
        self.count(&self.accounts, self.seed.hash_one(account.trim().to_ascii_lowercase()))
    }

    /// As [`Throttle::admit`], where there is no account yet.
    ///
    /// # Errors
    /// As [`Throttle::admit`].
    pub fn admit_address(&self, address: IpAddr) -> Result<(), TooMany> {
        self.sweep_now_and_then();
        self.count(&self.addresses, self.seed.hash_one(network_of(address)))
    }

    fn count(&self, limiter: &DefaultKeyedRateLimiter<u64>, key: u64) -> Result<(), TooMany> {
        limiter.check_key(&key).map_err(|not_until| TooMany(not_until.wait_time_from(self.clock.now())))
    }

    fn sweep_now_and_then(&self) {
        if self.tries.fetch_add(1, Ordering::Relaxed) % SWEEP_EVERY == SWEEP_EVERY - 1 {
            for limiter in [&self.addresses, &self.accounts] {
                limiter.retain_recent();
                limiter.shrink_to_fit();
            }
        }
    }
}

impl TooMany {
    /// In whole seconds, rounded up; for `Retry-After`.
    pub fn seconds(self) -> u64 {
        self.0.as_secs() + u64::from(self.0.subsec_nanos() > 0)
    }
}

/// One subscriber has one IPv4 address, but a whole /64 of IPv6.
fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(address: &str) -> IpAddr {
        address.parse().expect("an address")
    }

    #[test]
    fn an_account_is_refused_after_ten_tries_from_anywhere() {
        let throttle = Throttle::default();
        for n in 0..10 {
            assert_eq!(throttle.admit("ada", from(&format!("192.0.2.{n}"))), Ok(()));
        }
        let refused = throttle.admit(" ADA", from("192.0.2.200")).expect_err("too many");
        assert!((1..=30).contains(&refused.seconds()), "{refused:?}");
        assert_eq!(throttle.admit("bob", from("192.0.2.200")), Ok(()));
    }

    #[test]
    fn an_address_is_refused_after_thirty_names_and_spares_the_thirty_first() {
        let throttle = Throttle::default();
        for n in 0..30 {
            // One household of IPv6, a new address each time.
            assert_eq!(throttle.admit(&format!("user{n}"), from(&format!("2001:db8::{n:x}"))), Ok(()));
        }
        assert!(throttle.admit("ada", from("2001:db8::ffff")).is_err());
        for n in 0..10 {
            assert_eq!(throttle.admit("ada", from(&format!("192.0.2.{n}"))), Ok(()));
        }
    }

    #[test]
    fn a_long_name_is_one_account_like_any_other() {
        let throttle = Throttle::default();
        let long = "x".repeat(1_000_000);
        for n in 0..10 {
            assert_eq!(throttle.admit(&long, from(&format!("192.0.2.{n}"))), Ok(()));
        }
        assert!(throttle.admit(&long, from("192.0.2.99")).is_err());
    }
}
