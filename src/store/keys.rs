//! API keys: made, edited, revealed and deleted for their owner; looked up by digest for a call.
//! Listing with search, filter and order lives in `key_list`.

use super::Connection;
use super::audit::{self, Actor};
use super::groups::Group;
use super::schema::{api_keys, groups, key_credits, users as users_table};
use super::{group_users, users};
use crate::domain::Invalid;
use crate::domain::key::{KeySettings, Standing};
use crate::domain::models::ModelRestrictions;
use crate::domain::network::IpAllowlist;
use crate::domain::secret::{KeyDigest, KeySecret};
use crate::error::Error;
use diesel::prelude::*;

/// A key without its secret, with its credits: to be asked of `api_keys` joined with `key_credits`.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = api_keys)]
pub struct Key {
    /// Row.
    pub id: i64,
    /// Owner.
    pub user_id: i64,
    /// Label.
    pub name: String,
    /// The secret's last four characters.
    pub last4: String,
    /// Not switched off.
    pub enabled: bool,
    /// `None`: permanent.
    pub expires_at_ms: Option<i64>,
    /// `None`: unlimited.
    pub credit_limit_micros: Option<i64>,
    /// Σ settled.
    #[diesel(select_expression = key_credits::credits_used_micros)]
    pub credits_used_micros: i64,
    /// Σ open holds.
    #[diesel(select_expression = key_credits::credits_held_micros)]
    pub credits_held_micros: i64,
    models: String,
    ip_allowlist: String,
    /// Counts changes of settings; usage does not move it.
    pub revision: i64,
    /// When made.
    pub created_at_ms: i64,
    /// Last hold.
    #[diesel(select_expression = key_credits::last_used_at_ms)]
    pub last_used_at_ms: Option<i64>,
}

impl Key {
    /// What its status depends on.
    pub fn standing(&self) -> Standing {
        Standing {
            enabled: self.enabled,
            expires_at_ms: self.expires_at_ms,
            credit_limit_micros: self.credit_limit_micros,
            credits_used_micros: self.credits_used_micros,
        }
    }

    /// The models it may use.
    ///
    /// # Errors
    /// When the stored text is damaged: no restriction may ever be read as "all".
    pub fn models(&self) -> Result<ModelRestrictions, Error> {
        ModelRestrictions::parse(&self.models)
            .map_err(|_| Error::Internal(format!("the model restrictions of key {} are damaged", self.id)))
    }

    /// Where it may be used from.
    ///
    /// # Errors
    /// When the stored text is damaged.
    pub fn ip_allowlist(&self) -> Result<IpAllowlist, Error> {
        IpAllowlist::parse(&self.ip_allowlist)
            .map_err(|_| Error::Internal(format!("the IP allowlist of key {} is damaged", self.id)))
    }
}

/// A key to be made.
pub struct NewKey<'a> {
    /// Owner.
    pub user_id: i64,
    /// Pricing group; fixed for the key's life.
    pub group_id: i64,
    /// The rest.
    pub settings: &'a KeySettings,
    /// Its secret,
    pub secret: &'a KeySecret,
    /// and the same sealed by the vault.
    pub ciphertext: &'a [u8],
}

/// Makes a key and gives its id.
///
/// # Errors
/// [`Error::NotFound`] when its owner is gone; [`Error::Invalid`] under `group_id` when the owner may not choose the
/// group.
pub fn create(
    connection: &mut Connection,
    new: &NewKey<'_>,
    actor: &Actor,
    now_ms: i64,
) -> Result<i64, Error> {
    connection.write(|connection| {
        users::stays(connection, new.user_id)?;
        group_users::check_choice(connection, new.user_id, new.group_id)?;
        let id: i64 = diesel::insert_into(api_keys::table)
            .values((
                (
                    api_keys::user_id.eq(new.user_id),
                    api_keys::group_id.eq(new.group_id),
                    api_keys::digest.eq(new.secret.digest().0.to_vec()),
                    api_keys::ciphertext.eq(new.ciphertext),
                    api_keys::last4.eq(new.secret.last4()),
                    api_keys::created_at_ms.eq(now_ms),
                ),
                settings_columns(new.settings),
            ))
            .returning(api_keys::id)
            .get_result(connection)
            .map_err(without_group)?;
        diesel::insert_into(key_credits::table).values(key_credits::key_id.eq(id)).execute(connection)?;
        audit::record(connection, actor, "key.create", &format!("key {id}"), now_ms)?;
        Ok(id)
    })
}

/// The group was there a moment ago, and its owner stays: somebody has just deleted the group.
fn without_group(error: diesel::result::Error) -> Error {
    use diesel::result::{DatabaseErrorKind, Error as Diesel};
    match error {
        Diesel::DatabaseError(DatabaseErrorKind::ForeignKeyViolation, _) => {
            Error::invalid("group_id", Invalid::new("This group has just been deleted. Choose another."))
        }
        other => other.into(),
    }
}

/// The columns that settings fill, when a key is made and when it is edited.
#[derive(Insertable, AsChangeset)]
#[diesel(table_name = api_keys, treat_none_as_null = true)]
struct SettingsColumns<'a> {
    name: &'a str,
    expires_at_ms: Option<i64>,
    credit_limit_micros: Option<i64>,
    models: String,
    ip_allowlist: String,
}

fn settings_columns(settings: &KeySettings) -> SettingsColumns<'_> {
    SettingsColumns {
        name: settings.name.as_str(),
        expires_at_ms: settings.expires_at_ms,
        credit_limit_micros: settings.credit_limit.map(|limit| limit.micros()),
        models: settings.models.to_string(),
        ip_allowlist: settings.ip_allowlist.to_string(),
    }
}

/// One key of its owner, with its group.
///
/// # Errors
/// [`Error::NotFound`], also when it is somebody else's.
pub fn find(connection: &mut Connection, user_id: i64, id: i64) -> Result<(Key, Group), Error> {
    Ok(api_keys::table
        .inner_join(key_credits::table)
        .inner_join(groups::table)
        .filter(api_keys::id.eq(id))
        .filter(api_keys::user_id.eq(user_id))
        .select((Key::as_select(), Group::as_select()))
        .first(connection)?)
}

/// Whose a key is: for those who may act for anybody.
///
/// # Errors
/// [`Error::NotFound`].
pub fn owner(connection: &mut Connection, id: i64) -> Result<i64, Error> {
    Ok(api_keys::table.find(id).select(api_keys::user_id).first(connection)?)
}

/// What an edit stores.
pub struct KeyEdit<'a> {
    /// Of the row that the editor saw.
    pub revision: i64,
    /// All of them, as they shall be.
    pub settings: &'a KeySettings,
    /// The switch.
    pub enabled: bool,
}

/// Changes the settings and the switch of a key that still has the revision the editor saw.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Conflict`] when somebody changed it since.
pub fn update(
    connection: &mut Connection,
    user_id: i64,
    id: i64,
    edit: &KeyEdit<'_>,
    actor: &Actor,
    now_ms: i64,
) -> Result<(), Error> {
    connection.write(|connection| {
        let rows = diesel::update(
            api_keys::table
                .filter(api_keys::id.eq(id))
                .filter(api_keys::user_id.eq(user_id))
                .filter(api_keys::revision.eq(edit.revision)),
        )
        .set((
            settings_columns(edit.settings),
            api_keys::enabled.eq(edit.enabled),
            api_keys::revision.eq(api_keys::revision + 1),
        ))
        .execute(connection)?;
        if rows == 0 {
            find(connection, user_id, id)?;
            return Err(Error::Conflict);
        }
        audit::record(connection, actor, "key.update", &format!("key {id}"), now_ms)
    })
}

/// Switches a key on or off, whatever its revision; a switch already in that position stays as it is.
///
/// # Errors
/// [`Error::NotFound`].
pub fn set_enabled(
    connection: &mut Connection,
    user_id: i64,
    id: i64,
    enabled: bool,
    actor: &Actor,
    now_ms: i64,
) -> Result<(), Error> {
    connection.write(|connection| {
        let rows = diesel::update(
            api_keys::table
                .filter(api_keys::id.eq(id))
                .filter(api_keys::user_id.eq(user_id))
                .filter(api_keys::enabled.ne(enabled)),
        )
        .set((api_keys::enabled.eq(enabled), api_keys::revision.eq(api_keys::revision + 1)))
        .execute(connection)?;
        if rows == 0 {
            return find(connection, user_id, id).map(|_| ());
        }
        let action = if enabled { "key.enable" } else { "key.disable" };
        audit::record(connection, actor, action, &format!("key {id}"), now_ms)
    })
}

/// Deletes a key for good. Its charges stay, with its name.
///
/// # Errors
/// [`Error::NotFound`].
pub fn delete(
    connection: &mut Connection,
    user_id: i64,
    id: i64,
    actor: &Actor,
    now_ms: i64,
) -> Result<(), Error> {
    connection.write(|connection| {
        if let Connection::Postgres(postgres) = connection {
            // The ledger, which is moving its credits under this lock, comes first.
            let owner = users_table::table.find(user_id).select(users_table::id);
            owner.for_no_key_update().first::<i64>(postgres)?;
        }
        let name: String =
            diesel::delete(api_keys::table.filter(api_keys::id.eq(id)).filter(api_keys::user_id.eq(user_id)))
                .returning(api_keys::name)
                .get_result(connection)?;
        audit::record(connection, actor, "key.delete", &format!("key {id} {name}"), now_ms)
    })
}

/// The sealed secret of a key, for its owner; writes the audit event `action` with it.
///
/// # Errors
/// [`Error::NotFound`].
pub fn take_ciphertext(
    connection: &mut Connection,
    user_id: i64,
    id: i64,
    action: &str,
    actor: &Actor,
    now_ms: i64,
) -> Result<(KeyDigest, Vec<u8>), Error> {
    connection.write(|connection| {
        let (digest, ciphertext): (Vec<u8>, Vec<u8>) = api_keys::table
            .filter(api_keys::id.eq(id))
            .filter(api_keys::user_id.eq(user_id))
            .select((api_keys::digest, api_keys::ciphertext))
            .first(connection)?;
        audit::record(connection, actor, action, &format!("key {id}"), now_ms)?;
        let digest =
            digest.try_into().map_err(|_| Error::Internal(format!("key {id} has a damaged digest")))?;
        Ok((KeyDigest(digest), ciphertext))
    })
}

/// A sealed secret of any key, to try the master key on.
///
/// # Errors
/// The engine's.
pub fn any_ciphertext(connection: &mut Connection) -> Result<Option<(i64, KeyDigest, Vec<u8>)>, Error> {
    let row: Option<(i64, Vec<u8>, Vec<u8>)> = api_keys::table
        .select((api_keys::user_id, api_keys::digest, api_keys::ciphertext))
        .first(connection)
        .optional()?;
    Ok(row.and_then(|(user_id, digest, ciphertext)| {
        digest.try_into().ok().map(|digest| (user_id, KeyDigest(digest), ciphertext))
    }))
}

/// What a call knows of its key when it is decided: key, owner and group as of one moment.
#[derive(Debug, Clone)]
pub struct KeySnapshot {
    /// The key.
    pub key: Key,
    /// Its group.
    pub group: Group,
    /// Its owner's row.
    pub owner: Owner,
}

/// Of the owner: what bounds a key.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = users_table)]
pub struct Owner {
    /// Row.
    pub id: i64,
    /// May use their keys.
    pub enabled: bool,
    /// Σ grants − Σ settled.
    pub balance_micros: i64,
    /// Σ open holds.
    pub held_micros: i64,
    /// Counts changes of settings.
    pub revision: i64,
}

/// The key of a digest with its owner and group, as the database has them now.
///
/// # Errors
/// The engine's.
pub fn find_by_digest(connection: &mut Connection, digest: &KeyDigest) -> Result<Option<KeySnapshot>, Error> {
    Ok(api_keys::table
        .inner_join(key_credits::table)
        .inner_join(groups::table)
        .inner_join(users_table::table)
        .filter(api_keys::digest.eq(&digest.0[..]))
        .select((Key::as_select(), Group::as_select(), Owner::as_select()))
        .get_result(connection)
        .optional()?
        .map(|(key, group, owner)| KeySnapshot { key, group, owner }))
}
