//! Browser sessions: kept in the database, so that ending one there ends it everywhere on the next request.

use super::error::PageError;
use super::guard::is_htmx;
use super::sign_in;
use crate::clock::now_ms;
use crate::config::Reach;
use crate::domain::device;
use crate::error::Error;
use crate::store::audit::Actor;
use crate::store::sessions::{self, NewSession};
use crate::store::users::User;
use crate::store::{Connection, Store};
use crate::vault::Vault;
use actix_session::config::{CookieContentSecurity, PersistentSession};
use actix_session::storage::{LoadError, SaveError, SessionKey, SessionStore, UpdateError};
use actix_session::{Session, SessionExt, SessionMiddleware};
use actix_web::cookie::time::Duration;
use actix_web::cookie::{Key, SameSite};
use actix_web::dev::Payload;
use actix_web::http::Method;
use actix_web::http::header::{HeaderValue, REFERER, USER_AGENT};
use actix_web::{FromRequest, HttpRequest, web};
use futures_util::future::LocalBoxFuture;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::net::IpAddr;
use url::Url;

/// A session ends this long after it was last extended.
const LIFETIME: Duration = Duration::days(14);
/// One write a day keeps it alive, rather than one for every request.
const EXTEND_AFTER_MS: i64 = 24 * 60 * 60 * 1000;

/// Its owner's list says "last used" to within so much; one write each time, rather than one for every request.
const SEEN_AFTER_MS: i64 = 5 * 60 * 1000;

/// Whose session it is; also copied to the row's own column, by which the store ends sessions of a user.
const USER_ID: &str = "user_id";
/// By which its owner's list knows it; also a column.
const SESSION_ID: &str = "session_id";
const EXTENDED_AT_MS: &str = "extended_at_ms";
/// See [`Awaited`].
const AWAITED: &str = "awaited";
/// Of the browser, on their way to the row's columns; the state itself does not keep it.
const VISITOR: &str = "visitor";
/// See [`SignedIn::confirmed_at_ms`]; on its way to the row's column likewise.
const CONFIRMED_AT_MS: &str = "confirmed_at_ms";

/// The ends of addresses that answer a form with one to be sent there again, and have no page otherwise.
const FORMS_ALONE: [&str; 4] = ["/copy", "/reveal", "/confirm", "/test"];

type State = HashMap<String, String>;

/// Keeps sessions in the `sessions` table. The database holds a digest of the session's key, so that who reads
/// the table cannot sign in with what it says.
#[derive(Clone)]
pub struct DbSessionStore {
    store: Store,
}

impl DbSessionStore {
    /// Over an open store.
    pub fn new(store: Store) -> Self {
        Self { store }
    }

    async fn write(
        &self,
        key_digest: [u8; 32],
        mut state: State,
        ttl: &Duration,
        act: fn(&mut Connection, &NewSession<'_>, i64) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let visitor: Option<Visitor> = state.remove(VISITOR).and_then(|text| read(&text));
        let confirmed_at_ms: Option<i64> = state.remove(CONFIRMED_AT_MS).and_then(|text| read(&text));
        let awaited: Option<Awaited> = state.get(AWAITED).and_then(|text| read(text));
        let user_id = state.get(USER_ID).and_then(|id| read(id)).or(awaited.map(|awaited| awaited.user_id));
        let id: Option<String> = state.get(SESSION_ID).and_then(|id| read(id));
        let client_ip = visitor.as_ref().map(|visitor| visitor.client_ip.to_string());
        let state = serde_json::to_string(&state).map_err(unwritable)?;
        let now_ms = now_ms();
        let expires_at_ms = expires_at_ms(now_ms, ttl);
        self.store
            .run(move |connection| {
                let session = NewSession {
                    key_digest: &key_digest,
                    user_id,
                    id: id.as_deref(),
                    client_ip: client_ip.as_deref(),
                    user_agent: visitor.as_ref().map_or("", |visitor| &visitor.user_agent),
                    state: &state,
                    confirmed_at_ms: confirmed_at_ms.unwrap_or(now_ms),
                    expires_at_ms,
                };
                act(connection, &session, now_ms)
            })
            .await
    }
}

impl SessionStore for DbSessionStore {
    async fn load(&self, session_key: &SessionKey) -> Result<Option<State>, LoadError> {
        let digest = digest(session_key);
        let state = self
            .store
            .run(move |connection| sessions::load(connection, &digest, now_ms()))
            .await
            .map_err(|error| LoadError::Other(error.into()))?;
        state
            .map(|state| serde_json::from_str(&state))
            .transpose()
            .map_err(|error| LoadError::Deserialization(error.into()))
    }

    async fn save(&self, state: State, ttl: &Duration) -> Result<SessionKey, SaveError> {
        let key = new_key().map_err(SaveError::Other)?;
        self.write(digest(&key), state, ttl, sessions::create)
            .await
            .map_err(|error| SaveError::Other(error.into()))?;
        Ok(key)
    }

    async fn update(&self, key: SessionKey, state: State, ttl: &Duration) -> Result<SessionKey, UpdateError> {
        match self.write(digest(&key), state, ttl, sessions::update).await {
            // Ended while this request was under way: it stays ended, and the next request finds nothing.
            Ok(()) | Err(Error::NotFound) => Ok(key),
            Err(error) => Err(UpdateError::Other(error.into())),
        }
    }

    async fn update_ttl(&self, session_key: &SessionKey, ttl: &Duration) -> Result<(), anyhow::Error> {
        let digest = digest(session_key);
        let now_ms = now_ms();
        let expires_at_ms = expires_at_ms(now_ms, ttl);
        let set = move |connection: &mut Connection| {
            sessions::set_expiry(connection, &digest, expires_at_ms, now_ms)
        };
        match self.store.run(set).await {
            Ok(()) | Err(Error::NotFound) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    async fn delete(&self, session_key: &SessionKey) -> Result<(), anyhow::Error> {
        let digest = digest(session_key);
        Ok(self.store.run(move |connection| sessions::delete(connection, &digest)).await?)
    }
}

fn digest(key: &SessionKey) -> [u8; 32] {
    Sha256::digest(key.as_ref().as_bytes()).into()
}

/// 256 random bits.
fn new_key() -> Result<SessionKey, anyhow::Error> {
    let bytes: [u8; 32] = rand::random();
    let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(text.try_into()?)
}

fn expires_at_ms(now_ms: i64, ttl: &Duration) -> i64 {
    now_ms.saturating_add(i64::try_from(ttl.whole_milliseconds()).unwrap_or(i64::MAX))
}

/// The cookie's name. On HTTPS browsers themselves enforce that a `__Host-` cookie is Secure, for this host alone
/// and for every path, so that a neighbouring subdomain cannot plant one.
pub fn cookie_name(reach: &Reach) -> &'static str {
    if reach.is_https() { "__Host-keyhouse" } else { "keyhouse" }
}

/// The middleware that loads and stores the session of each request. The key that signs the cookie comes from the
/// master key, so every instance reads the others' cookies.
pub fn session_middleware(vault: &Vault, reach: &Reach, store: &Store) -> SessionMiddleware<DbSessionStore> {
    SessionMiddleware::builder(DbSessionStore::new(store.clone()), Key::from(vault.cookie_key()))
        .cookie_name(cookie_name(reach).to_owned())
        // The key says nothing by itself; a signature spares the database cookies that were never ours.
        .cookie_content_security(CookieContentSecurity::Signed)
        .cookie_secure(reach.is_https())
        .cookie_http_only(true)
        // Lax and not Strict: a link to a page from a mail or a wiki should find its reader signed in.
        .cookie_same_site(SameSite::Lax)
        .cookie_path("/".to_owned())
        .session_lifecycle(PersistentSession::default().session_ttl(LIFETIME))
        .build()
}

fn unwritable(error: impl std::fmt::Display) -> Error {
    Error::Internal(format!("a session's state: {error}"))
}

fn read<T: DeserializeOwned>(text: &str) -> Option<T> {
    serde_json::from_str(text).ok()
}

/// Who asks: from where, and with what.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Visitor {
    /// Address.
    pub client_ip: IpAddr,
    /// What the browser says it is, bounded.
    pub user_agent: String,
}

impl Visitor {
    /// Of a request.
    pub fn of(request: &HttpRequest, reach: &Reach) -> Self {
        let user_agent = request.headers().get(USER_AGENT).map(HeaderValue::as_bytes).unwrap_or_default();
        Self {
            client_ip: reach.client_address(request),
            user_agent: device::bounded(&String::from_utf8_lossy(user_agent)),
        }
    }
}

/// Makes this session the user's, under a new key: one that was planted before sign-in is worth nothing after it. See
/// [`SignedIn::confirmed_at_ms`].
///
/// # Errors
/// Never in practice: all of it is JSON.
pub(super) fn begin(
    session: &Session,
    user_id: i64,
    visitor: &Visitor,
    confirmed_at_ms: i64,
) -> Result<(), Error> {
    session.clear();
    session.renew();
    let id: [u8; 16] = rand::random();
    let id: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
    session.insert(USER_ID, user_id).map_err(unwritable)?;
    session.insert(SESSION_ID, id).map_err(unwritable)?;
    session.insert(EXTENDED_AT_MS, now_ms()).map_err(unwritable)?;
    session.insert(CONFIRMED_AT_MS, confirmed_at_ms).map_err(unwritable)?;
    session.insert(VISITOR, visitor).map_err(unwritable)
}

/// In a session between the password and the second factor: nobody is signed in, but somebody's password was right.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Awaited {
    /// Whose password.
    pub user_id: i64,
    /// When it was given.
    pub since_ms: i64,
    /// Where they want to go.
    pub next: Option<String>,
    /// Wrong codes so far.
    pub wrong: u32,
}

/// Makes this session one that waits for the second factor, under a new key.
///
/// # Errors
/// As [`begin`].
pub(super) fn begin_awaiting(session: &Session, awaited: &Awaited) -> Result<(), Error> {
    session.clear();
    session.renew();
    set_awaited(session, awaited)
}

/// What this session waits for.
pub(super) fn awaited(session: &Session) -> Option<Awaited> {
    session.entries().get(AWAITED).and_then(|text| read(text))
}

/// Changes what this session waits for.
///
/// # Errors
/// As [`begin`].
pub(super) fn set_awaited(session: &Session, awaited: &Awaited) -> Result<(), Error> {
    session.insert(AWAITED, awaited).map_err(unwritable)
}

/// The user of this request. A page that takes it is for people who are signed in; others are sent to sign in.
pub struct SignedIn {
    /// Their row as it is now.
    pub user: User,
    /// Where the request came from.
    pub client_ip: IpAddr,
    pub(super) session: Session,
    /// Of this session, in the list of its owner's.
    pub(super) session_id: String,
    /// When the second factor was last given in this session, or they signed in.
    pub(super) confirmed_at_ms: i64,
}

impl SignedIn {
    /// For the audit log.
    pub fn actor(&self) -> Actor {
        Actor { name: self.user.name.clone(), client_ip: Some(self.client_ip) }
    }

    async fn load(session: Session, store: &Store, client_ip: IpAddr) -> Result<Option<Self>, Error> {
        let Some((user_id, id)) = value(&session, USER_ID).zip(value::<String>(&session, SESSION_ID)) else {
            return Ok(None);
        };
        let session_id = id.clone();
        let found = store.run(move |connection| {
            let now_ms = now_ms();
            let (user, row) = sessions::find(connection, user_id, &id, now_ms)?;
            if now_ms.saturating_sub(row.last_seen_at_ms) >= SEEN_AFTER_MS {
                sessions::see(connection, &id, &client_ip.to_string(), now_ms)?;
            }
            Ok((user, row.confirmed_at_ms))
        });
        let (user, confirmed_at_ms) = match found.await {
            Ok((user, confirmed_at_ms)) if user.enabled => (user, confirmed_at_ms),
            Ok(_) | Err(Error::NotFound) => return Ok(None),
            Err(error) => return Err(error),
        };
        extend(&session)?;
        Ok(Some(Self { user, client_ip, session, session_id, confirmed_at_ms }))
    }
}

/// A signed-in admin. To everybody else a page that takes it does not exist.
pub struct Admin(pub SignedIn);

impl FromRequest for Admin {
    type Error = PageError;
    type Future = LocalBoxFuture<'static, Result<Self, PageError>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let signed_in = SignedIn::from_request(request, payload);
        Box::pin(async move {
            let signed_in = signed_in.await?;
            if signed_in.user.is_admin { Ok(Self(signed_in)) } else { Err(Error::NotFound.into()) }
        })
    }
}

fn value<T: DeserializeOwned>(session: &Session, name: &str) -> Option<T> {
    session.entries().get(name).and_then(|value| read(value))
}

/// A change of the state makes the middleware write it with a new end and send the cookie again.
fn extend(session: &Session) -> Result<(), Error> {
    let now_ms = now_ms();
    let extended_at_ms: Option<i64> = value(session, EXTENDED_AT_MS);
    if extended_at_ms.is_some_and(|at_ms| now_ms.saturating_sub(at_ms) < EXTEND_AFTER_MS) {
        return Ok(());
    }
    session.insert(EXTENDED_AT_MS, now_ms).map_err(unwritable)
}

impl FromRequest for SignedIn {
    type Error = PageError;
    type Future = LocalBoxFuture<'static, Result<Self, PageError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let session = request.get_session();
        let store = request.app_data::<web::Data<Store>>().cloned();
        let client_ip = request.app_data::<web::Data<Reach>>().map(|reach| reach.client_address(request));
        let htmx = is_htmx(request.headers());
        let detour = if htmx && request.method() != Method::GET {
            // What was typed is worth more than the way to the sign-in page.
            PageError::SessionEnded
        } else {
            PageError::SignInFirst { next: wanted(request), htmx }
        };
        Box::pin(async move {
            let (Some(store), Some(client_ip)) = (store, client_ip) else {
                return Err(Error::Internal("the app lacks its store or reach".into()).into());
            };
            Self::load(session, &store, client_ip).await?.ok_or(detour)
        })
    }
}

/// The page to come back to after signing in: this one, or for htmx the one it is part of.
fn wanted(request: &HttpRequest) -> Option<String> {
    if is_htmx(request.headers()) {
        let url = request.headers().get("hx-current-url")?.to_str().ok()?;
        let url = Url::parse(url).ok()?;
        return sign_in::safe_next(&url[url::Position::BeforePath..url::Position::AfterQuery]);
    }
    // What was posted is lost, but not the page with its form, if that is where the form stood.
    if request.method() != Method::GET && !is_own_form(request) {
        return None;
    }
    sign_in::safe_next(request.uri().path_and_query()?.as_str())
}

/// Whether a form was sent to the address of the page it stood on, which is there to be read again.
fn is_own_form(request: &HttpRequest) -> bool {
    let page = request.headers().get(REFERER).and_then(|page| Url::parse(page.to_str().ok()?).ok());
    let is_there = !FORMS_ALONE.iter().any(|end| request.path().ends_with(end));
    is_there && page.is_some_and(|page| page.path() == request.path())
}
