//! `GET /v1/key`: a key looks at itself. Costs nothing; an exhausted key may look too, and no key sees another.

use super::admit::{self, Caller};
use super::error::GatewayError;
use super::quote::Funds;
use super::{authenticate, call};
use crate::config::Reach;
use crate::domain::credits::Credits;
use crate::domain::expiry::rfc3339;
use crate::store::Store;
use crate::store::keys::KeySnapshot;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;

/// Credits as decimals, moments as RFC 3339.
#[derive(Serialize)]
struct KeyView {
    object: &'static str,
    name: String,
    status: &'static str,
    credit_limit: Option<String>,
    credits_used: String,
    credits_held: String,
    /// By the limit and by the account's balance, whichever is less.
    credits_remaining: String,
    expires_at: Option<String>,
    /// Names, and beginnings of names before a `*`; empty: all.
    models: Vec<String>,
    group: GroupView,
    account: AccountView,
}

#[derive(Serialize)]
struct GroupView {
    name: String,
    multiplier: String,
}

#[derive(Serialize)]
struct AccountView {
    credits_remaining: String,
}

/// What the presented key is, may, has used and has left.
///
/// # Errors
/// Those of a key that may not be used; the database's.
pub async fn show(
    request: HttpRequest,
    store: web::Data<Store>,
    reach: web::Data<Reach>,
) -> Result<HttpResponse, GatewayError> {
    let asking = call::asking(&request, &reach)?;
    let digest = asking.digest;
    let found = store.run_promptly(move |connection| authenticate::find(connection, &digest)).await?;
    let (policy, now_ms) = found.ok_or(GatewayError::UnknownKey)?;
    admit::admit_key(&policy, Caller { address: asking.address, now_ms })?;
    Ok(HttpResponse::Ok().json(KeyView::of(policy.snapshot, now_ms)?))
}

impl KeyView {
    fn of(snapshot: KeySnapshot, now_ms: i64) -> Result<Self, GatewayError> {
        let credits = |micros| Credits::from_micros(micros).to_string();
        let funds = Funds::of(&snapshot);
        let KeySnapshot { key, group, .. } = snapshot;
        Ok(Self {
            object: "key",
            status: key.standing().status(now_ms).label(),
            credit_limit: key.credit_limit_micros.map(credits),
            credits_used: credits(key.credits_used_micros),
            credits_held: credits(key.credits_held_micros),
            credits_remaining: credits(funds.least()),
            expires_at: key.expires_at_ms.map(rfc3339),
            models: key.models()?.patterns().to_vec(),
            group: GroupView { multiplier: group.multiplier().to_string(), name: group.name },
            account: AccountView { credits_remaining: credits(funds.account_micros) },
            name: key.name,
        })
    }
}
