//! Lets those who try to come in through a few at a time. Behind it are slow hashes and connections to the database,
//! which the gateway needs: however many come, they wait here, and no more than so many.

use crate::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// One hashes while another asks the database.
const INSIDE_MAX: usize = 2;
/// At 25 ms each, the last of them waits for a second or two.
const WAITING_MAX: usize = 64;
/// Longest anybody waits.
const WAIT: Duration = Duration::from_secs(5);

/// The turnstile; clones are the same one.
#[derive(Clone)]
pub struct Turnstile(Arc<Inner>);

struct Inner {
    inside: Arc<Semaphore>,
    waiting: AtomicUsize,
    waiting_peak: AtomicUsize,
}

/// Held by who is inside.
#[must_use = "dropping it lets the next one in"]
pub struct Turn(#[expect(dead_code, reason = "held, never read")] OwnedSemaphorePermit);

impl Default for Turnstile {
    fn default() -> Self {
        Self(Arc::new(Inner {
            inside: Arc::new(Semaphore::new(INSIDE_MAX)),
            waiting: AtomicUsize::new(0),
            waiting_peak: AtomicUsize::new(0),
        }))
    }
}

/// Somebody in the queue; leaves it with this value.
struct Place<'a>(&'a Inner);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Turnstile {
    /// Waits for a turn.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when too many wait already, or it takes too long.
    pub async fn enter(&self) -> Result<Turn, Error> {
        let queued = self.0.waiting.fetch_add(1, Ordering::Relaxed) + 1;
        let _place = Place(&self.0);
        if queued > WAITING_MAX {
            return Err(Error::Unavailable("too many people wait to sign in".into()));
        }
        self.0.waiting_peak.fetch_max(queued, Ordering::Relaxed);
        let turn = tokio::time::timeout(WAIT, Arc::clone(&self.0.inside).acquire_owned()).await;
        match turn {
            Ok(Ok(turn)) => Ok(Turn(turn)),
            _ => Err(Error::Unavailable("too many people wait to sign in".into())),
        }
    }

    /// Most that ever waited at once.
    pub fn waiting_peak(&self) -> usize {
        self.0.waiting_peak.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[actix_web::test]
    async fn so_many_wait_and_the_next_is_sent_away_at_once() {
        let turnstile = Turnstile::default();
        let inside: Vec<Turn> = [turnstile.enter().await, turnstile.enter().await]
            .into_iter()
            .map(|turn| turn.expect("there is room"))
            .collect();
        let waiting: Vec<_> = (0..WAITING_MAX)
            .map(|_| {
                let turnstile = turnstile.clone();
                actix_web::rt::spawn(async move { turnstile.enter().await.is_ok() })
            })
            .collect();
        while turnstile.0.waiting.load(Ordering::Relaxed) < WAITING_MAX {
            tokio::task::yield_now().await;
        }
        assert!(turnstile.enter().await.is_err());
        drop(inside);
        for turn in waiting {
            assert!(turn.await.expect("it ends"));
        }
        assert_eq!(turnstile.waiting_peak(), WAITING_MAX);
        assert!(turnstile.enter().await.is_ok());
    }
}
