//! The door: whoever gives a password or a code is looked at here, no more often than they may.

use super::error::PageError;
use super::session::{self, Awaited, SignedIn, Visitor};
use super::throttle::{Throttle, TooMany};
use crate::clock::now_ms;
use crate::config::Reach;
use crate::domain::second_factor::Code;
use crate::domain::user::{NewPassword, PASSWORD_BYTES_MAX, UserName};
use crate::error::Error;
use crate::password::Hasher;
use crate::store::audit::{self, Actor};
use crate::store::users::{self, User};
use crate::store::{Connection, Store, recovery_codes, second_factors};
use crate::vault::Vault;
use actix_session::Session;
use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpRequest, web};
use std::future::{Ready, ready};

/// Where the second factor is asked for.
pub(super) const CODE_URL: &str = "/sign-in/code";
const WRONG_CODE: &str =
    "This code is not right. The app makes a new one every half minute, and each works once.";

/// What checks people; take it in a handler that does.
pub struct Door {
    store: web::Data<Store>,
    vault: web::Data<Vault>,
    hasher: web::Data<Hasher>,
    throttle: web::Data<Throttle>,
    visitor: Visitor,
}

impl FromRequest for Door {
    type Error = PageError;
    type Future = Ready<Result<Self, PageError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let door = || {
            Some(Self {
                store: request.app_data::<web::Data<Store>>()?.clone(),
                vault: request.app_data::<web::Data<Vault>>()?.clone(),
                hasher: request.app_data::<web::Data<Hasher>>()?.clone(),
                throttle: request.app_data::<web::Data<Throttle>>()?.clone(),
                visitor: Visitor::of(request, request.app_data::<web::Data<Reach>>()?),
            })
        };
        ready(door().ok_or_else(|| Error::Internal("the app lacks a part of its door".into()).into()))
    }
}

/// How a code was found.
pub(super) enum Verdict {
    /// Right; used up by now.
    Right,
    /// Why not, for the person.
    Wrong(String),
    /// Not looked at.
    TooMany(TooMany),
}

impl Door {
    /// Who stands there.
    pub(super) fn actor(&self, name: &str) -> Actor {
        Actor { name: name.to_owned(), client_ip: Some(self.visitor.client_ip) }
    }

    /// The user, if name and password fit and the account is enabled. Whatever does not fit takes the same time.
    pub(super) async fn password(
        &self,
        name: &str,
        password: String,
    ) -> Result<Result<Option<User>, TooMany>, Error> {
        let _turn = match self.throttle.admit(name, self.visitor.client_ip).await? {
            Ok(turn) => turn,
            Err(too_many) => return Ok(Err(too_many)),
        };
        let (user, phc) = match self.find(name).await? {
            Some((user, phc)) => (Some(user), phc),
            None => (None, None),
        };
        let fits = self.hasher.verify(bounded(password), phc).await?;
        Ok(Ok(user.filter(|user| fits && user.enabled)))
    }

    async fn find(&self, name: &str) -> Result<Option<(User, Option<String>)>, Error> {
        let Ok(name) = UserName::parse(name) else {
            return Ok(None);
        };
        match self.store.run(move |connection| users::find_for_sign_in(connection, name.as_str())).await {
            Ok(found) => Ok(Some(found)),
            Err(Error::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Counts a try of something that belongs to no account yet.
    pub(super) async fn stranger(&self) -> Result<Result<(), TooMany>, Error> {
        Ok(self.throttle.admit_address(self.visitor.client_ip).await?.map(drop))
    }

    /// Hashes a new password.
    pub(super) async fn hash(&self, password: NewPassword) -> Result<String, Error> {
        self.hasher.hash(password).await
    }

    /// Looks at a typed code of `user`, whose second factor is on, and uses it up.
    pub(super) async fn code(&self, user: &User, typed: &str) -> Result<Verdict, Error> {
        let code = match Code::parse(typed) {
            Ok(code) => code,
            Err(why) => return Ok(Verdict::Wrong(why.to_string())),
        };
        let turn = match self.throttle.admit_code(user.id, self.visitor.client_ip).await? {
            Ok(turn) => turn,
            Err(too_many) => return Ok(Verdict::TooMany(too_many)),
        };
        let (user_id, actor, vault) = (user.id, self.actor(&user.name), self.vault.clone());
        let right = self.store.run(move |connection| {
            let right = use_up(connection, user_id, &code, &vault, &actor)?;
            if !right {
                record(connection, &actor, "session.second_factor_failed")?;
            }
            Ok(right)
        });
        if !right.await? {
            return Ok(Verdict::Wrong(WRONG_CODE.to_owned()));
        }
        drop(turn);
        self.throttle.forgive_codes(user_id).await?;
        Ok(Verdict::Right)
    }

    /// Lets a user in whose password was right, or first to where the second factor is asked for. Gives where to go.
    pub(super) async fn let_in(
        &self,
        session: &Session,
        user: &User,
        next: Option<String>,
    ) -> Result<String, Error> {
        let (user_id, actor) = (user.id, self.actor(&user.name));
        let waits = self.store.run(move |connection| {
            let waits = second_factors::is_on(connection, user_id)?;
            if !waits {
                record(connection, &actor, "session.sign_in")?;
            }
            Ok(waits)
        });
        if waits.await? {
            session::begin_awaiting(session, &Awaited { user_id, since_ms: now_ms(), next, wrong: 0 })?;
            return Ok(CODE_URL.to_owned());
        }
        session::begin(session, user_id, &self.visitor, now_ms())?;
        Ok(landing(next))
    }

    /// Lets a user in who gave the second factor too. Gives where to go.
    pub(super) async fn let_in_confirmed(
        &self,
        session: &Session,
        user: &User,
        next: Option<String>,
    ) -> Result<String, Error> {
        let actor = self.actor(&user.name);
        self.store.run(move |connection| record(connection, &actor, "session.sign_in")).await?;
        session::begin(session, user.id, &self.visitor, now_ms())?;
        Ok(landing(next))
    }

    /// Puts a session under a new key, as after its password changed; that gave no second factor.
    pub(super) fn begin_anew(&self, signed_in: &SignedIn) -> Result<(), Error> {
        session::begin(&signed_in.session, signed_in.user.id, &self.visitor, signed_in.confirmed_at_ms)
    }
}

fn landing(next: Option<String>) -> String {
    next.unwrap_or_else(|| super::sign_in::LANDING.to_owned())
}

/// No password that was ever set is longer; what is longer is as wrong as an empty one, and costs no more.
fn bounded(password: String) -> String {
    if password.len() > PASSWORD_BYTES_MAX { String::new() } else { password }
}

fn use_up(
    connection: &mut Connection,
    user_id: i64,
    code: &Code,
    vault: &Vault,
    actor: &Actor,
) -> Result<bool, Error> {
    match code {
        Code::Recovery(code) => {
            recovery_codes::take(connection, user_id, &code.digest(user_id), actor, now_ms())
        }
        Code::App(digits) => {
            let Some(factor) = second_factors::find(connection, user_id)? else {
                return Ok(false);
            };
            let secret = vault.open_second_factor(user_id, &factor.ciphertext)?;
            match secret.step_of(digits, now_ms()) {
                Some(step) => second_factors::use_step(connection, user_id, step),
                None => Ok(false),
            }
        }
    }
}

/// Writes down what happened at the door.
pub(super) fn record(connection: &mut Connection, actor: &Actor, action: &'static str) -> Result<(), Error> {
    audit::record(connection, actor, action, "session", now_ms())
}
