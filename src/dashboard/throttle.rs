//! How often somebody may try a password or a code: per account and per address, counted in the database, so that
//! neither a restart nor a second instance gives more tries.

use super::turnstile::{Turn, Turnstile};
use crate::domain::throttle::Allowance;
use crate::error::Error;
use crate::store::Store;
use crate::store::sign_in_throttles::{self, Subject};
use crate::vault::Vault;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicUsize, Ordering};

const ADDRESS: Allowance = Allowance { burst: 30, pause_ms: 5_000 };
const ACCOUNT: Allowance = Allowance { burst: 10, pause_ms: 30_000 };
/// Who tries codes knows the password already, and a million codes are soon tried.
const CODES: Allowance = Allowance { burst: 10, pause_ms: 5 * 60_000 };
/// Those whose allowance is full again are forgotten every so many tries.
const SWEEP_EVERY: usize = 256;

/// Counts tries. Names and addresses are kept as keyed hashes: the table tells nothing, and a long name costs no more
/// than a short one.
pub struct Throttle {
    store: Store,
    vault: Vault,
    turnstile: Turnstile,
    tries: AtomicUsize,
}

/// Refused; trying again makes sense after this many milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooMany(i64);

impl Throttle {
    /// Over an open store.
    pub fn new(store: Store, vault: Vault, turnstile: Turnstile) -> Self {
        Self { store, vault, turnstile, tries: AtomicUsize::new(0) }
    }

    /// Counts one try of a password. An address that tries too often does not use up the account's allowance. The turn
    /// is to be kept until the password was looked at.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the database is away, or too many wait already.
    pub async fn admit(&self, account: &str, address: IpAddr) -> Result<Result<Turn, TooMany>, Error> {
        let account = account.trim().to_ascii_lowercase();
        let account = self.subject(&format!("account/{account}"), ACCOUNT);
        self.count(vec![self.address(address), account]).await
    }

    /// As [`Throttle::admit`], where there is no account yet.
    ///
    /// # Errors
    /// As [`Throttle::admit`].
    pub async fn admit_address(&self, address: IpAddr) -> Result<Result<Turn, TooMany>, Error> {
        self.count(vec![self.address(address)]).await
    }

    /// As [`Throttle::admit`], for a code of the second factor.
    ///
    /// # Errors
    /// As [`Throttle::admit`].
    pub async fn admit_code(&self, user_id: i64, address: IpAddr) -> Result<Result<Turn, TooMany>, Error> {
        self.count(vec![self.address(address), self.codes_of(user_id)]).await
    }

    /// A right code: the wrong ones before it were slips.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn forgive_codes(&self, user_id: i64) -> Result<(), Error> {
        let hash = self.codes_of(user_id).hash;
        self.store.run(move |connection| sign_in_throttles::forgive(connection, &hash)).await
    }

    async fn count(&self, subjects: Vec<Subject>) -> Result<Result<Turn, TooMany>, Error> {
        let turn = self.turnstile.enter().await?;
        let sweeps = self.tries.fetch_add(1, Ordering::Relaxed).is_multiple_of(SWEEP_EVERY);
        let counted = self.store.run(move |connection| {
            if sweeps {
                sign_in_throttles::sweep(connection)?;
            }
            sign_in_throttles::count(connection, &subjects)
        });
        Ok(match counted.await? {
            None => Ok(turn),
            Some(wait_ms) => Err(TooMany(wait_ms)),
        })
    }

    fn address(&self, address: IpAddr) -> Subject {
        self.subject(&format!("address/{}", network_of(address)), ADDRESS)
    }

    fn codes_of(&self, user_id: i64) -> Subject {
        self.subject(&format!("codes/{user_id}"), CODES)
    }

    fn subject(&self, text: &str, allowance: Allowance) -> Subject {
        Subject { hash: self.vault.subject(text), allowance }
    }
}

impl TooMany {
    /// In whole seconds, rounded up; for `Retry-After`.
    pub fn seconds(self) -> u64 {
        u64::try_from(self.0).unwrap_or(0).div_ceil(1000)
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
    use crate::store::DatabaseUrl;

    /// Over a database of its own; a second one over the same is a restart or another instance.
    fn throttles() -> (tempfile::TempDir, [Throttle; 2]) {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(&DatabaseUrl::Sqlite(folder.path().join("keyhouse.db"))).expect("opened");
        let vault = Vault::from_master_key(&[7; 32]);
        let throttle = || Throttle::new(store.clone(), vault.clone(), Turnstile::default());
        (folder, [throttle(), throttle()])
    }

    fn from(address: &str) -> IpAddr {
        address.parse().expect("an address")
    }

    async fn try_as(throttle: &Throttle, account: &str, address: &str) -> Result<(), TooMany> {
        throttle.admit(account, from(address)).await.expect("the database answers").map(|_| ())
    }

    #[actix_web::test]
    async fn an_account_is_refused_after_ten_tries_from_anywhere_and_on_every_instance() {
        let (_folder, throttles) = throttles();
        for n in 0..10 {
            assert_eq!(try_as(&throttles[n % 2], "ada", &format!("192.0.2.{n}")).await, Ok(()));
        }
        for throttle in &throttles {
            let refused = try_as(throttle, " ADA", "192.0.2.200").await.expect_err("too many");
            assert!((1..=30).contains(&refused.seconds()), "{refused:?}");
        }
        assert_eq!(try_as(&throttles[0], "bob", "192.0.2.200").await, Ok(()));
    }

    #[actix_web::test]
    async fn an_address_is_refused_after_thirty_names_and_spares_the_thirty_first() {
        let (_folder, [throttle, _]) = throttles();
        for n in 0..30 {
            // One household of IPv6, a new address each time.
            let tried = try_as(&throttle, &format!("user{n}"), &format!("2001:db8::{n:x}")).await;
            assert_eq!(tried, Ok(()));
        }
        assert!(try_as(&throttle, "ada", "2001:db8::ffff").await.is_err());
        for n in 0..10 {
            assert_eq!(try_as(&throttle, "ada", &format!("192.0.2.{n}")).await, Ok(()));
        }
    }

    #[actix_web::test]
    async fn a_long_name_is_one_account_like_any_other() {
        let (_folder, [throttle, _]) = throttles();
        let long = "x".repeat(1_000_000);
        for n in 0..10 {
            assert_eq!(try_as(&throttle, &long, &format!("192.0.2.{n}")).await, Ok(()));
        }
        assert!(try_as(&throttle, &long, "192.0.2.99").await.is_err());
    }

    #[actix_web::test]
    async fn codes_have_an_allowance_of_their_own_which_a_right_one_fills() {
        let (_folder, [throttle, _]) = throttles();
        let code = async |n| {
            throttle.admit_code(1, from(&format!("192.0.2.{n}"))).await.expect("answered").map(|_| ())
        };
        for n in 0..10 {
            assert_eq!(code(n).await, Ok(()));
        }
        let refused = code(99).await.expect_err("too many");
        assert!((240..=300).contains(&refused.seconds()), "{refused:?}");
        throttle.forgive_codes(1).await.expect("forgiven");
        assert_eq!(code(99).await, Ok(()));
    }
}
