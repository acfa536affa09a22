//! Passwords at rest: argon2id, 19 MiB, two passes, one lane (OWASP's first choice for it).
//! Hashing is slow on purpose, so [`Hasher`] keeps it off the event loop and bounds how much runs at once.

use crate::domain::user::NewPassword;
use crate::error::Error;
use argon2::password_hash::phc::PasswordHash;
use argon2::{Algorithm, Argon2, Params, PasswordHasher, PasswordVerifier, Version};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::Semaphore;

const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;

/// Each costs 19 MiB and about 25 ms of a core; of two cores, wrong passwords must leave one to the gateway.
const AT_ONCE_MAX: usize = 1;
/// Longest a sign-in waits for its turn.
const TURN_WAIT: Duration = Duration::from_secs(5);

/// A hash that belongs to nobody, of the same cost as the others: an unknown name takes as long as a known one.
const NOBODY: &str = "$argon2id$v=19$m=19456,t=2,p=1$a2V5aG91c2Uubm9ib2R5$\
                      yLXQ4bK2ZbPXkOeb0cjR6hHhWv5Qm0m0d8L2n9i3rJ8";

fn argon2() -> Result<Argon2<'static>, Error> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None)
        .map_err(|error| Error::Internal(format!("argon2's parameters: {error}")))?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

/// Hashes a password with a fresh salt, as a PHC string.
///
/// # Errors
/// When the system has no randomness or no memory.
pub fn hash(password: &NewPassword) -> Result<String, Error> {
    let hashed = argon2()?
        .hash_password(password.expose().as_bytes())
        .map_err(|error| Error::Internal(format!("hashing a password: {error}")))?;
    Ok(hashed.to_string())
}

/// Whether `password` is the one behind `phc`; an unreadable `phc` fits no password.
pub fn verify(password: &str, phc: &str) -> bool {
    // The cost is the one written in the string, so that hashes made with other settings still verify.
    Argon2::default().verify_password(password.as_bytes(), phc).is_ok()
}

fn is_readable(phc: &str) -> bool {
    PasswordHash::new(phc).is_ok()
}

/// Hashes and verifies for the server: on a thread that may block, one at a time. Clones share their turn.
#[derive(Clone)]
pub struct Hasher {
    turns: Arc<Semaphore>,
    figures: Arc<Figures>,
}

/// What it did so far.
#[derive(Debug, Default)]
struct Figures {
    hashed: AtomicUsize,
    running: AtomicUsize,
    running_peak: AtomicUsize,
}

impl Default for Hasher {
    fn default() -> Self {
        Self { turns: Arc::new(Semaphore::new(AT_ONCE_MAX)), figures: Arc::default() }
    }
}

impl Figures {
    fn count<T>(&self, work: impl FnOnce() -> T) -> T {
        let running = self.running.fetch_add(1, Ordering::Relaxed) + 1;
        self.running_peak.fetch_max(running, Ordering::Relaxed);
        let done = work();
        self.running.fetch_sub(1, Ordering::Relaxed);
        self.hashed.fetch_add(1, Ordering::Relaxed);
        done
    }
}

impl Hasher {
    /// How often it did the whole work of a hash.
    pub fn hashed(&self) -> usize {
        self.figures.hashed.load(Ordering::Relaxed)
    }

    /// Most hashes that ever ran at once.
    pub fn running_peak(&self) -> usize {
        self.figures.running_peak.load(Ordering::Relaxed)
    }

    /// As [`hash`].
    ///
    /// # Errors
    /// [`Error::Unavailable`] when too many wait already.
    pub async fn hash(&self, password: NewPassword) -> Result<String, Error> {
        self.take_turn(move || hash(&password)).await?
    }

    /// As [`verify`]. Without a hash (there is no such user, or none with a password) it does the same work and
    /// answers no.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when too many wait already.
    pub async fn verify(&self, password: String, phc: Option<String>) -> Result<bool, Error> {
        self.take_turn(move || match phc.filter(|phc| is_readable(phc)) {
            Some(phc) => verify(&password, &phc),
            None => {
                verify(&password, NOBODY);
                false
            }
        })
        .await
    }

    async fn take_turn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Error> {
        let turn = tokio::time::timeout(TURN_WAIT, Arc::clone(&self.turns).acquire_owned()).await;
        let Ok(Ok(turn)) = turn else {
            return Err(Error::Unavailable("too many passwords wait to be checked".into()));
        };
        // The turn goes along: a caller who leaves does not make room for one more while the work still runs.
        let figures = Arc::clone(&self.figures);
        tokio::task::spawn_blocking(move || {
            let done = figures.count(work);
            drop(turn);
            done
        })
        .await
        .map_err(|error| Error::Internal(format!("a hashing task ended early: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_right_password_verifies() {
        let password = NewPassword::parse("copper lantern vivid stroll", "ada").expect("good enough");
        let phc = hash(&password).expect("hashed");
        assert!(phc.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{phc}");
        assert!(verify("copper lantern vivid stroll", &phc));
        for wrong in ["", "Copper lantern vivid stroll", "copper lantern vivid stroll\0", "copper"] {
            assert!(!verify(wrong, &phc), "{wrong:?}");
        }
        assert!(!verify("anything", "not a hash"));
    }

    #[test]
    fn nobodys_hash_costs_what_the_others_do() {
        let nobody = PasswordHash::new(NOBODY).expect("a PHC string");
        let params = Params::try_from(&nobody).expect("parameters");
        assert_eq!((params.m_cost(), params.t_cost(), params.p_cost()), (MEMORY_KIB, PASSES, LANES));
        assert_eq!(nobody.hash.map(|hash| hash.len()), Some(Params::DEFAULT_OUTPUT_LEN));
        assert!(nobody.salt.is_some());
        // All the work is done, and only its end differs: any other refusal would come before the work.
        let refusal = Argon2::default().verify_password(b"anything", NOBODY).expect_err("nobody's");
        assert!(matches!(refusal, argon2::password_hash::Error::PasswordInvalid), "{refusal:?}");
    }
}
