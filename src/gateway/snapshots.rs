//! What calls are decided by, kept from one call to the next. Nothing here is the last word: the hold confirms every
//! revision against the database, and what would be refused by a kept row is asked of the database first.

use super::client::UpstreamError;
use super::target::Target;
use crate::domain::models::ModelRestrictions;
use crate::domain::network::IpAllowlist;
use crate::domain::secret::KeyDigest;
use crate::domain::upstream::Dialect;
use crate::error::Error;
use crate::store::keys::KeySnapshot;
use crate::store::models::{Offer, Route};
use crate::store::upstreams::Upstream;
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
    upstreams: Cache<i64, Arc<Opened>>,
}

/// An upstream as calls are sent to it: its secret open, all that calls have in common worked out.
pub struct Opened {
    /// As stored,
    upstream: Upstream,
    /// and its secret as it is sealed.
    sealed: Option<Vec<u8>>,
    /// Its own secret, if it wants one.
    pub secret: Option<String>,
    /// Where calls go.
    pub target: Target,
}

impl Opened {
    fn new(vault: &Vault, route: &Route, dialect: Dialect) -> Result<Self, UpstreamError> {
        let (upstream, sealed) = (&route.upstream, &route.secret_ciphertext);
        let Upstream { id, base_url, allow_private, .. } = upstream;
        let secret = sealed.as_ref().map(|sealed| vault.open_upstream(*id, sealed)).transpose();
        let secret = secret.map_err(|error| {
            tracing::error!(upstream.id = id, %error, "an upstream's secret does not open");
            UpstreamError::Unusable
        })?;
        let target = Target::new(base_url, dialect, secret.as_deref(), *allow_private)?;
        Ok(Self { upstream: upstream.clone(), sealed: sealed.clone(), secret, target })
    }

    /// Whether the route's is stored as it was.
    fn is_of(&self, route: &Route) -> bool {
        self.upstream == route.upstream && self.sealed == route.secret_ciphertext
    }
}

impl Default for Snapshots {
    fn default() -> Self {
        let (keys, offers) = (Cache::new(KEYS_MAX), Cache::new(OFFERS_MAX));
        Self(Arc::new(Kept { keys, offers, upstreams: Cache::new(UPSTREAMS_MAX) }))
    }
}

impl Snapshots {
    /// The key of a digest and the offer of a model, if both are known.
    pub fn find(&self, digest: &KeyDigest, model: &str) -> Option<(Arc<Policy>, Arc<Offer>)> {
        Some((self.0.keys.get(digest)?, self.0.offers.get(model)?))
    }

    /// The upstream of a route, opened once for as long as it is stored as it was.
    ///
    /// # Errors
    /// When its secret does not open, or its URL cannot be used.
    pub fn open_upstream(
        &self,
        vault: &Vault,
        route: &Route,
        dialect: Dialect,
    ) -> Result<Arc<Opened>, UpstreamError> {
        let id = route.upstream.id;
        if let Some(opened) = self.0.upstreams.get(&id).filter(|opened| opened.is_of(route)) {
            return Ok(opened);
        }
        let opened = Arc::new(Opened::new(vault, route, dialect)?);
        self.0.upstreams.insert(id, opened.clone());
        Ok(opened)
    }

    /// Keeps what the database said just now.
    pub fn keep(&self, digest: KeyDigest, policy: &Arc<Policy>, offer: Option<&Arc<Offer>>) {
        self.0.keys.insert(digest, policy.clone());
        if let Some(offer) = offer {
            self.0.offers.insert(offer.model.name.clone(), offer.clone());
        }
    }
}
