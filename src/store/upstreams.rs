//! Upstreams: providers and their sealed secrets.

use super::Connection;
use super::audit::{self, Actor};
use super::schema::{model_routes, models, upstreams};
use super::{found, taken};
use crate::domain::Invalid;
use crate::domain::upstream::{Dialect, leads_elsewhere};
use crate::error::Error;
use diesel::prelude::*;

const NAME_TAKEN: &str = "There is an upstream of this name already.";

/// A provider.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = upstreams)]
pub struct Upstream {
    /// Row.
    pub id: i64,
    /// Unique.
    pub name: String,
    /// See [`Dialect`].
    pub dialect: String,
    /// Without a trailing slash; empty for echo.
    pub base_url: String,
    /// Milliseconds between two chunks of the echo upstream.
    pub pace_ms: i64,
    /// In rotation.
    pub enabled: bool,
    /// Whether it may be on this machine or a private network.
    pub allow_private: bool,
    /// When made.
    pub created_at_ms: i64,
}

/// An upstream to be made.
pub struct NewUpstream<'a> {
    /// Unique name.
    pub name: &'a str,
    /// How to talk to it.
    pub dialect: Dialect,
    /// Empty for echo.
    pub base_url: &'a str,
    /// See [`Upstream::pace_ms`].
    pub pace_ms: i64,
    /// See [`Upstream::allow_private`].
    pub allow_private: bool,
}

/// Makes an upstream and gives its id. `seal` encrypts its secret for that id.
///
/// # Errors
/// [`Error::Invalid`] under `name` when the name is taken; what `seal` gives.
pub fn create(
    connection: &mut Connection,
    new: &NewUpstream<'_>,
    seal: impl FnOnce(i64) -> Result<Option<Vec<u8>>, Error>,
    actor: &Actor,
    now_ms: i64,
) -> Result<i64, Error> {
    connection.write(|connection| {
        let id = diesel::insert_into(upstreams::table)
            .values((
                upstreams::name.eq(new.name),
                upstreams::dialect.eq(new.dialect.as_str()),
                upstreams::base_url.eq(new.base_url),
                upstreams::pace_ms.eq(new.pace_ms),
                upstreams::allow_private.eq(new.allow_private),
                upstreams::created_at_ms.eq(now_ms),
            ))
            .returning(upstreams::id)
            .get_result(connection)
            .map_err(|error| taken(error, "name", NAME_TAKEN))?;
        diesel::update(upstreams::table.find(id))
            .set(upstreams::secret_ciphertext.eq(seal(id)?))
            .execute(connection)?;
        audit::record(connection, actor, "upstream.create", &format!("upstream {id}"), now_ms)?;
        Ok(id)
    })
}

/// What an edit may change, with the name; the dialect stays, since the models' routes go by it.
#[derive(Debug, Clone, Copy)]
pub struct Settings<'a> {
    /// Unique name.
    pub name: &'a str,
    /// Empty for echo.
    pub base_url: &'a str,
    /// See [`Upstream::pace_ms`].
    pub pace_ms: i64,
    /// See [`Upstream::allow_private`].
    pub allow_private: bool,
}

/// What becomes of the sealed secret in an edit.
#[derive(Debug, Clone, Copy)]
pub enum SecretEdit<'a> {
    /// It stays, if there is one.
    Keep,
    /// This one takes its place.
    Replace(&'a [u8]),
    /// There is none any more.
    Remove,
}

/// Changes an upstream and its secret, from the next call: none goes out with the one and without the other.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Invalid`] under `name` when the name is taken, under `secret` when the stored one would
/// be sent elsewhere.
pub fn edit(
    connection: &mut Connection,
    id: i64,
    settings: &Settings<'_>,
    secret: SecretEdit<'_>,
    actor: &Actor,
    now_ms: i64,
) -> Result<(), Error> {
    connection.write(|connection| {
        if let Connection::Postgres(postgres) = connection {
            // Whoever else changes it waits behind this.
            upstreams::table.find(id).select(upstreams::id).for_no_key_update().first::<i64>(postgres)?;
        }
        let stored = find(connection, id)?;
        if matches!(secret, SecretEdit::Keep)
            && leads_elsewhere(&stored.base_url, settings.base_url)
            && secret_ciphertext(connection, id)?.is_some()
        {
            let why = "The address leads elsewhere now: type its secret, or remove the stored one.";
            return Err(Error::invalid("secret", Invalid::new(why)));
        }
        diesel::update(upstreams::table.find(id))
            .set((
                upstreams::name.eq(settings.name),
                upstreams::base_url.eq(settings.base_url),
                upstreams::pace_ms.eq(settings.pace_ms),
                upstreams::allow_private.eq(settings.allow_private),
            ))
            .execute(connection)
            .map_err(|error| taken(error, "name", NAME_TAKEN))?;
        touch_models(connection, id)?;
        let subject = format!("upstream {id}{}", changes(&stored, settings));
        audit::record(connection, actor, "upstream.edit", &subject, now_ms)?;
        match secret {
            SecretEdit::Keep => Ok(()),
            SecretEdit::Replace(sealed) => put_secret(connection, id, Some(sealed), actor, now_ms),
            SecretEdit::Remove => put_secret(connection, id, None, actor, now_ms),
        }
    })
}

/// What the audit log says behind an upstream that was edited: ` openai → openai-eu`.
fn changes(stored: &Upstream, settings: &Settings<'_>) -> String {
    let pairs = [(stored.name.as_str(), settings.name), (stored.base_url.as_str(), settings.base_url)];
    let changed = pairs.iter().filter(|(old, new)| old != new);
    changed.map(|(old, new)| format!(" {old} → {new}")).collect::<Vec<_>>().join(",")
}

/// Calls are decided by a model and its routes as of one revision: whatever changes of an upstream changes its models.
fn touch_models(connection: &mut Connection, id: i64) -> Result<(), Error> {
    let served: Vec<i64> = model_routes::table
        .filter(model_routes::upstream_id.eq(id))
        .select(model_routes::model_id)
        .load(connection)?;
    diesel::update(models::table.filter(models::id.eq_any(served)))
        .set(models::revision.eq(models::revision + 1))
        .execute(connection)?;
    Ok(())
}

/// Deletes an upstream that serves no model. Charges keep its id.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Invalid`] under `name` while a model has a route to it.
pub fn delete(connection: &mut Connection, id: i64, actor: &Actor, now_ms: i64) -> Result<(), Error> {
    connection.write(|connection| {
        let routes: i64 =
            model_routes::table.filter(model_routes::upstream_id.eq(id)).count().get_result(connection)?;
        if routes > 0 {
            let why = "Models are served by this upstream: give them another first (`keyhouse model route`), or only \
                       disable it.";
            return Err(Error::invalid("name", Invalid::new(why)));
        }
        let name: String =
            diesel::delete(upstreams::table.find(id)).returning(upstreams::name).get_result(connection)?;
        audit::record(connection, actor, "upstream.delete", &format!("upstream {id} {name}"), now_ms)
    })
}

/// All upstreams, by name.
///
/// # Errors
/// The engine's.
pub fn list(connection: &mut Connection) -> Result<Vec<Upstream>, Error> {
    Ok(upstreams::table.order(upstreams::name).select(Upstream::as_select()).load(connection)?)
}

/// An upstream by its row.
///
/// # Errors
/// [`Error::NotFound`].
pub fn find(connection: &mut Connection, id: i64) -> Result<Upstream, Error> {
    Ok(upstreams::table.find(id).select(Upstream::as_select()).first(connection)?)
}

/// Those that have a secret.
///
/// # Errors
/// The engine's.
pub fn with_secret(connection: &mut Connection) -> Result<Vec<i64>, Error> {
    Ok(upstreams::table
        .filter(upstreams::secret_ciphertext.is_not_null())
        .select(upstreams::id)
        .load(connection)?)
}

/// How many models each upstream serves.
///
/// # Errors
/// The engine's.
pub fn models_served(connection: &mut Connection) -> Result<Vec<(i64, i64)>, Error> {
    Ok(model_routes::table
        .group_by(model_routes::upstream_id)
        .select((model_routes::upstream_id, diesel::dsl::count_star()))
        .load(connection)?)
}

/// The upstream of a name.
///
/// # Errors
/// [`Error::NotFound`].
pub fn find_by_name(connection: &mut Connection, name: &str) -> Result<Upstream, Error> {
    Ok(upstreams::table.filter(upstreams::name.eq(name)).select(Upstream::as_select()).first(connection)?)
}

/// The sealed secret of an upstream, if it has one.
///
/// # Errors
/// [`Error::NotFound`].
pub fn secret_ciphertext(connection: &mut Connection, id: i64) -> Result<Option<Vec<u8>>, Error> {
    Ok(upstreams::table.find(id).select(upstreams::secret_ciphertext).first(connection)?)
}

/// A sealed secret of any upstream, to try the master key on.
///
/// # Errors
/// The engine's.
pub fn any_ciphertext(connection: &mut Connection) -> Result<Option<(i64, Vec<u8>)>, Error> {
    Ok(upstreams::table
        .filter(upstreams::secret_ciphertext.is_not_null())
        .select((upstreams::id, upstreams::secret_ciphertext.assume_not_null()))
        .first(connection)
        .optional()?)
}

/// Replaces the sealed secret of an upstream, or removes it.
///
/// # Errors
/// [`Error::NotFound`].
pub fn set_secret(
    connection: &mut Connection,
    id: i64,
    ciphertext: Option<&[u8]>,
    actor: &Actor,
    now_ms: i64,
) -> Result<(), Error> {
    connection.write(|connection| put_secret(connection, id, ciphertext, actor, now_ms))
}

fn put_secret(
    connection: &mut Connection,
    id: i64,
    ciphertext: Option<&[u8]>,
    actor: &Actor,
    now_ms: i64,
) -> Result<(), Error> {
    let rows = diesel::update(upstreams::table.find(id))
        .set(upstreams::secret_ciphertext.eq(ciphertext))
        .execute(connection)?;
    found(rows)?;
    touch_models(connection, id)?;
    let action = if ciphertext.is_some() { "upstream.set_secret" } else { "upstream.unset_secret" };
    audit::record(connection, actor, action, &format!("upstream {id}"), now_ms)
}

/// Takes an upstream out of rotation, or back in.
///
/// # Errors
/// [`Error::NotFound`].
pub fn set_enabled(
    connection: &mut Connection,
    id: i64,
    enabled: bool,
    actor: &Actor,
    now_ms: i64,
) -> Result<(), Error> {
    connection.write(|connection| {
        let rows = diesel::update(upstreams::table.find(id))
            .set(upstreams::enabled.eq(enabled))
            .execute(connection)?;
        found(rows)?;
        touch_models(connection, id)?;
        let action = if enabled { "upstream.enable" } else { "upstream.disable" };
        audit::record(connection, actor, action, &format!("upstream {id}"), now_ms)
    })
}

/// An upstream with its sealed secret, to call it for its own sake; who does is written down.
///
/// # Errors
/// [`Error::NotFound`].
pub fn take_for_test(
    connection: &mut Connection,
    id: i64,
    actor: &Actor,
    now_ms: i64,
) -> Result<(Upstream, Option<Vec<u8>>), Error> {
    connection.write(|connection| {
        let taken = upstreams::table
            .find(id)
            .select((Upstream::as_select(), upstreams::secret_ciphertext))
            .first(connection)?;
        audit::record(connection, actor, "upstream.test", &format!("upstream {id}"), now_ms)?;
        Ok(taken)
    })
}
