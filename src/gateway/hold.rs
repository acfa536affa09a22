//! From a request to a committed hold: look up, admit, quote, hold; and again when a row changed in between.

use super::admit::{self, Caller};
use super::authenticate;
use super::count;
use super::endpoint::Output;
use super::error::GatewayError;
use super::meter::Meter;
use super::quote::{Funds, Quote, Terms};
use super::settle::OpenCall;
use super::wish::Wish;
use crate::domain::models::ModelName;
use crate::domain::price::{Multiplier, Price};
use crate::domain::response::ResponseId;
use crate::domain::secret::KeyDigest;
use crate::domain::upstream::Dialect;
use crate::domain::usage::Usage;
use crate::error::Error;
use crate::ledger::{HoldError, HoldRequest, Ledger, Refusal};
use crate::store::keys::KeySnapshot;
use crate::store::models::{self, Offer, Route};
use crate::store::responses::{self, StoredResponse};
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
    /// Whose account it is.
    pub user_id: i64,
}

/// What the database says of a call.
struct Looked {
    snapshot: KeySnapshot,
    now_ms: i64,
    offer: Option<Offer>,
    /// The response that is to be continued, if it is this account's.
    previous: Option<StoredResponse>,
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
        let looked = look_up(store, asking, Some(wish)).await?;
        admit::admit_call(&looked.snapshot, looked.caller(asking), &wish.model)?;
        let (snapshot, offer, context_tokens) = looked.offer(wish)?;
        let (quote, estimate) = quote(wish, context_tokens, countable, &snapshot, &offer).await?;
        match ledger.hold(hold_request(asking.charge_id, &snapshot, &offer, &quote)).await {
            Ok(hold) => {
                let price = offer.price.price();
                let meter = Meter::new(wish.endpoint, estimate, quote.bound, &price);
                let open = OpenCall::new(Some(hold), price, snapshot.group.multiplier(), meter);
                let (routes, user_id) = (offer.routes, snapshot.owner.id);
                return Ok(Held { open, routes, imposed_max: quote.imposed_max, user_id });
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

/// Lets a call through that costs nothing, for a key that may use the model, exhausted or not.
///
/// # Errors
/// As [`hold`], but for credits.
pub async fn free(store: &Store, asking: &Asking, wish: &Wish) -> Result<Held, GatewayError> {
    let looked = look_up(store, asking, Some(wish)).await?;
    admit::admit_key(&looked.snapshot, looked.caller(asking))?;
    admit::admit_model(&looked.snapshot, &wish.model)?;
    let (snapshot, offer, _) = looked.offer(wish)?;
    let meter = Meter::new(wish.endpoint, Usage::NONE, Usage::NONE, &Price::FREE);
    let open = OpenCall::new(None, Price::FREE, snapshot.group.multiplier(), meter);
    Ok(Held { open, routes: offer.routes, imposed_max: None, user_id: snapshot.owner.id })
}

impl Looked {
    fn caller(&self, asking: &Asking) -> Caller {
        Caller { address: asking.address, now_ms: self.now_ms }
    }

    /// What serves `wish`, with the tokens of the context that the upstream has already.
    fn offer(self, wish: &Wish) -> Result<(KeySnapshot, Offer, i64), GatewayError> {
        let mut offer = self.offer.ok_or(GatewayError::ModelNotFound)?;
        if offer.routes.is_empty() {
            return Err(GatewayError::UpstreamUnavailable);
        }
        let first = offer.routes[0].dialect();
        offer
            .routes
            .retain(|route| route.dialect().is_some_and(|dialect| wish.endpoint.is_served_by(dialect)));
        if offer.routes.is_empty() {
            return Err(GatewayError::field("model", called_on(first)));
        }
        if wish.previous_response_id.is_none() {
            return Ok((self.snapshot, offer, 0));
        }
        let previous = self.previous.ok_or(GatewayError::PreviousResponseNotFound)?;
        offer.routes.retain(|route| route.upstream.id == previous.upstream_id);
        if offer.routes.is_empty() {
            let why =
                "The response was made by an upstream that does not serve this model. Use the same model.";
            return Err(GatewayError::field("previous_response_id", why));
        }
        Ok((self.snapshot, offer, previous.tokens))
    }
}

/// Where a model is called whose upstreams do not serve the route it was called on.
fn called_on(dialect: Option<Dialect>) -> &'static str {
    match dialect {
        Some(Dialect::Anthropic) => "This model is called on `POST /v1/messages`.",
        Some(Dialect::Echo) => "The built-in echo does not serve this route: it makes text alone.",
        Some(Dialect::OpenAi) | None => {
            "This model is called on OpenAI's routes, such as `POST /v1/chat/completions`."
        }
    }
}

async fn look_up(store: &Store, asking: &Asking, wish: Option<&Wish>) -> Result<Looked, GatewayError> {
    let digest = asking.digest;
    // What is no model's name is not looked for: PostgreSQL has no text with a NUL in it.
    let named = |model: &&str| ModelName::parse(model).is_ok_and(|name| name.as_str() == *model);
    let model = wish.map(|wish| wish.model.as_str()).filter(named).map(str::to_owned);
    let previous = wish.and_then(|wish| wish.previous_response_id.as_deref());
    let previous = previous.and_then(ResponseId::parse);
    let looked = store.run_promptly(move |connection| {
        let Some((snapshot, now_ms)) = authenticate::find(connection, &digest)? else { return Ok(None) };
        let offer = model.map(|model| find_offer(connection, &model)).transpose()?.flatten();
        let find = |id: ResponseId| responses::find(connection, snapshot.owner.id, &id);
        let previous = previous.map(find).transpose()?.flatten();
        Ok(Some(Looked { snapshot, now_ms, offer, previous }))
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
/// the call is taken to use if the upstream does not say.
async fn quote(
    wish: &Wish,
    context_tokens: i64,
    countable: Option<&str>,
    snapshot: &KeySnapshot,
    offer: &Offer,
) -> Result<(Quote, Usage), GatewayError> {
    let terms = terms(wish, snapshot, offer);
    let funds = Funds::of(snapshot);
    let (bound, estimate) = (wish.bound(context_tokens), wish.estimate(context_tokens));
    let cheap = terms.quote(bound, funds);
    if matches!(&cheap, Ok(quote) if !quote.cut) {
        return cheap.map(|quote| (quote, estimate));
    }
    let exact = match countable {
        Some(messages) => count::input_tokens(messages, &offer.routes).await,
        None => None,
    };
    match exact {
        Some(input_tokens) if input_tokens < bound.input_tokens => {
            let exact = Usage { input_tokens, ..bound };
            terms.quote(exact, funds).map(|quote| (quote, exact))
        }
        _ => cheap.map(|quote| (quote, estimate)),
    }
}

fn terms(wish: &Wish, snapshot: &KeySnapshot, offer: &Offer) -> Terms {
    let price = offer.price.price();
    let output_max = offer.model.max_output_tokens;
    let mut output_min = 0;
    let (output_max, asked_max, answers) = match wish.endpoint.rules().output {
        Output::None => (0, None, 0),
        Output::Bounded { default, least, .. } => {
            output_min = least;
            (default.unwrap_or(output_max).min(output_max), wish.max_tokens, wish.answers)
        }
        Output::Fixed => {
            let each = output_max.saturating_add(wish.added_output_tokens);
            // Where tokens cost nothing there is nothing to bound.
            (each, Some(each), if price.output_micros > 0 { wish.answers } else { 0 })
        }
    };
    Terms { price, multiplier: snapshot.group.multiplier(), output_max, output_min, asked_max, answers }
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
