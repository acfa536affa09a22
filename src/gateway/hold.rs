//! From a request to a committed hold: look up, admit, quote, hold; and again when a row changed in between.

use super::admit::{self, Caller};
use super::authenticate;
use super::count;
use super::error::GatewayError;
use super::quote::{Funds, Quote, Terms};
use super::request::Wish;
use super::settle::OpenCall;
use crate::domain::models::ModelName;
use crate::domain::price::Multiplier;
use crate::domain::secret::KeyDigest;
use crate::error::Error;
use crate::ledger::{HoldError, HoldRequest, Ledger, Refusal};
use crate::store::keys::KeySnapshot;
use crate::store::models::{self, Offer, Route};
use crate::store::{Connection, Store};
use std::net::IpAddr;

/// How often a call is decided anew because its rows changed between reading and holding.
const DECISIONS_MAX: usize = 4;

/// Who asks, before anything is known of them but their headers.
#[derive(Debug, Clone, Copy)]
pub struct Asking {
    /// Of the presented key.
    pub digest: KeyDigest,
    /// Behind trusted proxies.
    pub address: IpAddr,
    /// Of the request, and so of its charge.
    pub charge_id: i64,
}

/// A call with its hold committed: it may go to an upstream.
pub struct Held {
    /// Resolves the charge.
    pub open: OpenCall,
    /// Where it may go.
    pub routes: Vec<Route>,
    /// The bound on one answer to be sent along, where the caller gave none.
    pub imposed_max: Option<i64>,
}

/// What the database says of a call.
struct Looked {
    snapshot: KeySnapshot,
    now_ms: i64,
    offer: Option<Offer>,
}

/// Whether the key may be used at all.
///
/// # Errors
/// When not; the engine's.
pub async fn admit_key(store: &Store, asking: &Asking) -> Result<(), GatewayError> {
    let looked = look_up(store, asking, None).await?;
    admit::admit_key(&looked.snapshot, looked.caller(asking))
}

/// Holds the most that `wish` can cost; `countable` are messages that somebody may know how to count.
///
/// # Errors
/// Every refusal of the table; the database's and the ledger's absence.
pub async fn hold(
    store: &Store,
    ledger: &Ledger,
    asking: &Asking,
    wish: &Wish,
    countable: Option<&str>,
) -> Result<Held, GatewayError> {
    let mut refused = GatewayError::Busy;
    for _ in 0..DECISIONS_MAX {
        let looked = look_up(store, asking, Some(&wish.model)).await?;
        admit::admit_call(&looked.snapshot, looked.caller(asking), &wish.model)?;
        let Looked { snapshot, offer, .. } = looked;
        let offer = offer.ok_or(GatewayError::ModelNotFound)?;
        if offer.routes.is_empty() {
            return Err(GatewayError::UpstreamUnavailable);
        }
        let (quote, input_estimate) = quote(wish, countable, &snapshot, &offer).await?;
        match ledger.hold(hold_request(asking.charge_id, &snapshot, &offer, &quote)).await {
            Ok(hold) => {
                let multiplier = snapshot.group.multiplier();
                let open = OpenCall::new(hold, offer.price.price(), multiplier, input_estimate, &quote);
                return Ok(Held { open, routes: offer.routes, imposed_max: quote.imposed_max });
            }
            Err(HoldError::Failed(error)) => return Err(error.into()),
            Err(HoldError::Refused(Refusal::KeyExpired)) => return Err(GatewayError::KeyExpired),
            // Others held or spent in between: with what is left now it may fit all the same, cut or counted.
            Err(HoldError::Refused(Refusal::KeyLimit { .. })) => refused = GatewayError::KeyLimitReached,
            Err(HoldError::Refused(Refusal::Account { .. })) => {
                refused = GatewayError::AccountCreditsExhausted
            }
            Err(HoldError::Refused(Refusal::Stale)) => refused = GatewayError::Busy,
        }
    }
    Err(refused)
}

impl Looked {
    fn caller(&self, asking: &Asking) -> Caller {
        Caller { address: asking.address, now_ms: self.now_ms }
    }
}

async fn look_up(store: &Store, asking: &Asking, model: Option<&str>) -> Result<Looked, GatewayError> {
    let digest = asking.digest;
    // What is no model's name is not looked for: PostgreSQL has no text with a NUL in it.
    let model = model.filter(|model| ModelName::parse(model).is_ok_and(|name| name.as_str() == *model));
    let model = model.map(str::to_owned);
    let looked = store.run_promptly(move |connection| {
        let Some((snapshot, now_ms)) = authenticate::find(connection, &digest)? else { return Ok(None) };
        let offer = model.map(|model| find_offer(connection, &model)).transpose()?.flatten();
        Ok(Some(Looked { snapshot, now_ms, offer }))
    });
    looked.await?.ok_or(GatewayError::UnknownKey)
}

fn find_offer(connection: &mut Connection, model: &str) -> Result<Option<Offer>, Error> {
    match models::find_offer(connection, model) {
        Ok(offer) => Ok(Some(offer)),
        Err(Error::NotFound) => Ok(None),
        Err(error) => Err(error),
    }
}

/// By the cheap bound; by an exact count where that does not fit and somebody knows how to count. Also gives what
/// the input is taken for if the upstream does not say.
async fn quote(
    wish: &Wish,
    countable: Option<&str>,
    snapshot: &KeySnapshot,
    offer: &Offer,
) -> Result<(Quote, i64), GatewayError> {
    let terms = Terms {
        price: offer.price.price(),
        multiplier: snapshot.group.multiplier(),
        output_max: offer.model.max_output_tokens,
        asked_max: wish.max_tokens,
        answers: wish.answers,
    };
    let funds = Funds::of(snapshot);
    let bound = wish.content.tokens_max(wish.body_bytes);
    let estimate = wish.content.tokens_estimated(wish.body_bytes).min(bound);
    let cheap = terms.quote(bound, funds);
    if matches!(&cheap, Ok(quote) if !quote.cut) {
        return cheap.map(|quote| (quote, estimate));
    }
    let exact = match countable {
        Some(messages) => count::input_tokens(messages, &offer.routes).await,
        None => None,
    };
    match exact {
        Some(exact) if exact < bound => terms.quote(exact, funds).map(|quote| (quote, exact)),
        _ => cheap.map(|quote| (quote, estimate)),
    }
}

fn hold_request(charge_id: i64, snapshot: &KeySnapshot, offer: &Offer, quote: &Quote) -> HoldRequest {
    let KeySnapshot { key, group, owner } = snapshot;
    let multiplier: Multiplier = group.multiplier();
    HoldRequest {
        charge_id,
        key_id: key.id,
        key_revision: key.revision,
        user_id: owner.id,
        user_revision: owner.revision,
        group_id: group.id,
        group_revision: group.revision,
        model_id: offer.model.id,
        model_revision: offer.model.revision,
        held_micros: quote.held_micros,
        input_held_micros: quote.input_held_micros,
        price_id: offer.price.id,
        multiplier_micros: multiplier.micros(),
        key_name: key.name.clone(),
        model: offer.model.name.clone(),
    }
}
