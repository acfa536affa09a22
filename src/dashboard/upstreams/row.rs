//! One upstream as the list and its page show it: text ready to print, and never the secret.

use super::hours::Day;
use crate::clock::now_ms;
use crate::dashboard::page::Badge;
use crate::dashboard::words::count;
use crate::domain::health::{Now, State};
use crate::error::Error;
use crate::store::Connection;
use crate::store::upstream_hours::{self, UpstreamHour};
use crate::store::upstreams::{self, Upstream};
use crate::upstream_watch::UpstreamWatch;

/// A row.
pub struct Row {
    /// Upstream.
    pub id: i64,
    /// Unique.
    pub name: String,
    /// `openai`, `anthropic`, `echo`.
    pub dialect: String,
    /// `None`: built in.
    pub base_url: Option<String>,
    /// May be on a private network.
    pub allow_private: bool,
    /// `None`: it has no use for one.
    pub secret: Option<&'static str>,
    /// In rotation.
    pub enabled: bool,
    /// Health now.
    pub health: Badge,
    /// A sentence to it; may be blank.
    pub health_hint: String,
    /// `3 models`
    pub models: String,
    /// The last day.
    pub day: Day,
}

impl Row {
    /// Every upstream, by name.
    ///
    /// # Errors
    /// The engine's.
    pub fn all(connection: &mut Connection, watch: &UpstreamWatch) -> Result<Vec<Self>, Error> {
        let now_ms = now_ms();
        let upstreams = upstreams::list(connection)?;
        let facts = Facts::load(connection, watch, now_ms)?;
        Ok(upstreams.into_iter().map(|upstream| facts.row(upstream, watch, now_ms)).collect())
    }

    /// One of them.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn one(connection: &mut Connection, watch: &UpstreamWatch, id: i64) -> Result<Self, Error> {
        let now_ms = now_ms();
        let upstream = upstreams::find(connection, id)?;
        Ok(Facts::load(connection, watch, now_ms)?.row(upstream, watch, now_ms))
    }
}

/// What is known of all upstreams at once.
struct Facts {
    with_secret: Vec<i64>,
    models: Vec<(i64, i64)>,
    hours: Vec<UpstreamHour>,
}

impl Facts {
    fn load(connection: &mut Connection, watch: &UpstreamWatch, now_ms: i64) -> Result<Self, Error> {
        // What this server has not stored yet is taken first: what it stores in between counts twice in this look, and is
        // not missed.
        let pending = watch.pending();
        let mut hours = upstream_hours::since(connection, Day::since_ms(now_ms))?;
        hours.extend(pending);
        Ok(Self {
            with_secret: upstreams::with_secret(connection)?,
            models: upstreams::models_served(connection)?,
            hours,
        })
    }

    fn row(&self, upstream: Upstream, watch: &UpstreamWatch, now_ms: i64) -> Row {
        let has_secret = self.with_secret.contains(&upstream.id);
        let models = self.models.iter().find(|(id, _)| *id == upstream.id).map_or(0, |(_, models)| *models);
        let (health, health_hint) = health(upstream.enabled, watch.now(upstream.id));
        let is_echo = upstream.base_url.is_empty();
        Row {
            id: upstream.id,
            base_url: Some(upstream.base_url).filter(|url| !url.is_empty()),
            secret: (!is_echo).then_some(if has_secret { "stored" } else { "none" }),
            day: Day::of(upstream.id, &self.hours, now_ms),
            models: count(models, "model"),
            name: upstream.name,
            dialect: upstream.dialect,
            allow_private: upstream.allow_private,
            enabled: upstream.enabled,
            health,
            health_hint,
        }
    }
}

fn health(enabled: bool, now: Now) -> (Badge, String) {
    let badge = |label, icon, colour| Badge { label, icon, colour };
    if !enabled {
        return (badge("Out of rotation", "circle-off", "secondary"), String::new());
    }
    if let Some(rest) = now.rest {
        let hint = format!("It asked to be left alone for {} more s.", rest.as_secs() + 1);
        return (badge("Resting", "clock", "orange"), hint);
    }
    match now.state {
        None => (badge("Not called yet", "circle-off", "secondary"), String::new()),
        Some(State::Closed { failures: 0 }) => (badge("Healthy", "circle-check", "green"), String::new()),
        Some(State::Closed { failures }) => {
            let hint = format!("{} in a row.", count(failures.into(), "failure"));
            (badge("Failing", "alert-triangle", "orange"), hint)
        }
        Some(State::HalfOpen) => {
            (badge("Being tried", "refresh", "orange"), "It kept failing; one call tries it.".into())
        }
        Some(State::Open) => {
            let hint = "It keeps failing; calls go elsewhere for ten seconds.".into();
            (badge("Left alone", "alert-circle", "red"), hint)
        }
    }
}
