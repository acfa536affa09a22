//! What calls are decided by, kept from one call to the next. Nothing here is the last word: the hold confirms every
//! revision against the database, and what would be refused by a kept row is asked of the database first.

use crate::domain::models::ModelRestrictions;
use crate::domain::network::IpAllowlist;
use crate::domain::secret::KeyDigest;
use crate::error::Error;
use crate::store::keys::KeySnapshot;
use crate::store::models::Offer;
use crate::vault::Vault;
use quick_cache::sync::Cache;
use std::sync::Arc;

/// Less than a kilobyte each.
const KEYS_MAX: usize = 100_000;
const OFFERS_MAX: usize = 10_000;
const UPSTREAMS_MAX: usize = 1_000;

/// A key with its owner and group as of one moment, its restrictions parsed.
pub struct Policy {
    /// As stored.
    pub snapshot: KeySnapshot,
    /// Which models it may use.
    pub models: ModelRestrictions,
    /// Where it may be used from.
    pub ip_allowlist: IpAllowlist,
}

impl Policy {
    /// Parses what is stored.
    ///
    /// # Errors
    /// When it is damaged.
    pub fn of(snapshot: KeySnapshot) -> Result<Self, Error> {
        let (models, ip_allowlist) = (snapshot.key.models()?, snapshot.key.ip_allowlist()?);
        Ok(Self { snapshot, models, ip_allowlist })
    }
}

/// Shared by all workers; those used least give way.
#[derive(Clone)]
pub struct Snapshots(Arc<Kept>);

struct Kept {
    keys: Cache<KeyDigest, Arc<Policy>>,
    /// By the model's public name.
    offers: Cache<String, Arc<Offer>>,
    /// By the upstream's id.
    secrets: Cache<i64, Arc<Opened>>,
}

/// A secret as it was sealed, and open.
struct Opened {
    sealed: Vec<u8>,
    secret: Arc<str>,
}

impl Default for Snapshots {
    fn default() -> Self {
        let (keys, offers) = (Cache::new(KEYS_MAX), Cache::new(OFFERS_MAX));
        Self(Arc::new(Kept { keys, offers, secrets: Cache::new(UPSTREAMS_MAX) }))
    }
}

impl Snapshots {
    /// The key of a digest and the offer of a model, if both are known.
    pub fn find(&self, digest: &KeyDigest, model: &str) -> Option<(Arc<Policy>, Arc<Offer>)> {
        Some((self.0.keys.get(digest)?, self.0.offers.get(model)?))
    }

    /// The secret of an upstream, opened once for as long as it is sealed as it was.
    ///
    /// # Errors
    /// The vault's.
    pub fn open_upstream(&self, vault: &Vault, id: i64, sealed: &[u8]) -> Result<Arc<str>, Error> {
        if let Some(opened) = self.0.secrets.get(&id).filter(|opened| opened.sealed == sealed) {
            return Ok(opened.secret.clone());
        }
        let secret: Arc<str> = vault.open_upstream(id, sealed)?.into();
        self.0.secrets.insert(id, Arc::new(Opened { sealed: sealed.to_vec(), secret: secret.clone() }));
        Ok(secret)
    }

    /// Keeps what the database said just now.
    pub fn keep(&self, digest: KeyDigest, policy: &Arc<Policy>, offer: Option<&Arc<Offer>>) {
        self.0.keys.insert(digest, policy.clone());
        if let Some(offer) = offer {
            self.0.offers.insert(offer.model.name.clone(), offer.clone());
        }
    }
}
