//! From a request to a committed hold: look up, admit, quote, hold; by what is known from earlier calls if that will
//! do, and again when a row changed in between.

use super::admit::{self, Caller};
use super::authenticate;
use super::count;
use super::endpoint::Output;
use super::error::GatewayError;
use super::meter::Meter;
use super::quote::{Funds, Quote, Terms};
use super::settle::OpenCall;
use super::snapshots::{Policy, Snapshots};
use super::wish::Wish;
use crate::clock::now_ms;
use crate::domain::models::ModelName;
use crate::domain::price::Price;
use crate::domain::response::ResponseId;
use crate::domain::secret::KeyDigest;
use crate::domain::upstream::Dialect;
use crate::domain::usage::Usage;
use crate::error::Error;
use crate::ledger::{HoldError, HoldRequest, Ledger, OpenHold, Refusal};
use crate::store::keys::KeySnapshot;
use crate::store::models::{self, Offer, Route};
use crate::store::responses::{self, StoredResponse};
use crate::store::{Connection, Store};
use std::net::IpAddr;
use std::sync::Arc;

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
    /// Resolves the charge. Passed on from one future to the next, and so by a pointer.
    pub open: Box<OpenCall>,
    /// Where it may go.
    pub routes: Vec<Arc<Route>>,
    /// The bound on one answer to be sent along, where the caller gave none.
    pub imposed_max: Option<i64>,
    /// Whose account it is.
    pub user_id: i64,
}

/// What calls are decided by and held in.
#[derive(Clone, Copy)]
pub struct Books<'a> {
    /// What the database said before.
    pub snapshots: &'a Snapshots,
    /// What it says now.
    pub store: &'a Store,
    /// Where credits are held.
    pub ledger: &'a Ledger,
}

/// What is known of a call.
struct Looked {
    policy: Arc<Policy>,
    now_ms: i64,
    offer: Option<Arc<Offer>>,
    /// The response that is to be continued, if it is this account's.
    previous: Option<StoredResponse>,
}

/// What serves a call.
struct Offered {
    policy: Arc<Policy>,
    offer: Arc<Offer>,
    /// Those of the offer's that serve this route.
    routes: Vec<Arc<Route>>,
    /// Of the context that the upstream has already.
    context_tokens: i64,
}

/// Whether the key may be used at all. Gives whose account it is.
///
/// # Errors
/// When not; the engine's.
pub async fn admit_key(store: &Store, asking: &Asking) -> Result<i64, GatewayError> {
    let looked = look_up(store, asking, None).await?;
    admit::admit_key(&looked.policy, looked.caller(asking))?;
    Ok(looked.policy.snapshot.owner.id)
}

impl Books<'_> {
    /// Holds the most that `wish` can cost; `countable` are messages that somebody may know how to count.
    ///
    /// # Errors
    /// Every refusal of the table; the database's and the ledger's absence.
    pub async fn hold(
        self,
        asking: &Asking,
        wish: &Wish,
        countable: Option<&str>,
    ) -> Result<Held, GatewayError> {
        if let Some(held) = self.hold_by_snapshot(asking, wish).await? {
            return Ok(held);
        }
        let mut refused = GatewayError::Busy;
        for _ in 0..DECISIONS_MAX {
            let looked = look_up(self.store, asking, Some(wish)).await?;
            self.snapshots.keep(asking.digest, &looked.policy, looked.offer.as_ref());
            let offered = looked.admitted(asking, wish)?;
            let (quote, estimate) = offered.quote(wish, countable).await?;
            match self.ledger.hold(offered.request(asking.charge_id, &quote)).await {
                Ok(hold) => return Ok(offered.held(hold, wish, &quote, estimate)),
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

    /// The same with what the database said of an earlier call: only the hold asks it, and confirms the revision of
    /// every row. `None` when something is not known, changed, or speaks against the call: no call is refused or cut by
    /// a snapshot.
    async fn hold_by_snapshot(self, asking: &Asking, wish: &Wish) -> Result<Option<Held>, GatewayError> {
        if wish.previous_response_id.is_some() {
            return Ok(None);
        }
        let Some((policy, offer)) = self.snapshots.find(&asking.digest, &wish.model) else { return Ok(None) };
        let looked = Looked { policy, now_ms: now_ms(), offer: Some(offer), previous: None };
        let Ok(offered) = looked.admitted(asking, wish) else { return Ok(None) };
        let quote = match offered.cheap_quote(wish) {
            Ok(quote) if !quote.cut => quote,
            _ => return Ok(None),
        };
        match self.ledger.hold(offered.request(asking.charge_id, &quote)).await {
            Ok(hold) => Ok(Some(offered.held(hold, wish, &quote, wish.estimate(0)))),
            Err(HoldError::Failed(error)) => Err(error.into()),
            Err(HoldError::Refused(_)) => Ok(None),
        }
    }
}

/// Lets a call through that costs nothing, for a key that may use the model, exhausted or not.
///
/// # Errors
/// As [`Books::hold`], but for credits.
pub async fn free(store: &Store, asking: &Asking, wish: &Wish) -> Result<Held, GatewayError> {
    let looked = look_up(store, asking, Some(wish)).await?;
    admit::admit_key(&looked.policy, looked.caller(asking))?;
    admit::admit_model(&looked.policy, &wish.model)?;
    let Offered { policy, routes, .. } = looked.offer(wish)?;
    let meter = Meter::new(wish.endpoint, Usage::NONE, Usage::NONE, &Price::FREE);
    let open = OpenCall::open(None, policy.snapshot.group.multiplier(), meter);
    Ok(Held { open, routes, imposed_max: None, user_id: policy.snapshot.owner.id })
}

impl Looked {
    fn caller(&self, asking: &Asking) -> Caller {
        Caller { address: asking.address, now_ms: self.now_ms }
    }

    /// What serves a call that may be made.
    fn admitted(self, asking: &Asking, wish: &Wish) -> Result<Offered, GatewayError> {
        admit::admit_call(&self.policy, self.caller(asking), &wish.model)?;
        self.offer(wish)
    }

    fn offer(self, wish: &Wish) -> Result<Offered, GatewayError> {
        let offer = self.offer.ok_or(GatewayError::ModelNotFound)?;
        let first = offer.routes.first().ok_or(GatewayError::UpstreamUnavailable)?;
        let serves =
            |route: &Route| route.dialect().is_some_and(|dialect| wish.endpoint.is_served_by(dialect));
        let mut routes: Vec<_> = offer.routes.iter().filter(|route| serves(route)).cloned().collect();
        if routes.is_empty() {
            return Err(GatewayError::field("model", called_on(first.dialect())));
        }
        let mut context_tokens = 0;
        if wish.previous_response_id.is_some() {
            let previous = self.previous.ok_or(GatewayError::PreviousResponseNotFound)?;
            routes.retain(|route| route.upstream.id == previous.upstream_id);
            if routes.is_empty() {
                let why = "The response was made by an upstream that does not serve this model. Use the same model.";
                return Err(GatewayError::field("previous_response_id", why));
            }
            context_tokens = previous.tokens;
        }
        Ok(Offered { policy: self.policy, offer, routes, context_tokens })
    }
}

impl Offered {
    /// By the cheap bound; by an exact count where that does not fit and somebody knows how to count. Also gives what
    /// the call is taken to use if the upstream does not say.
    async fn quote(&self, wish: &Wish, countable: Option<&str>) -> Result<(Quote, Usage), GatewayError> {
        let cheap = self.cheap_quote(wish);
        let estimate = wish.estimate(self.context_tokens);
        if matches!(&cheap, Ok(quote) if !quote.cut) {
            return cheap.map(|quote| (quote, estimate));
        }
        let exact = match countable {
            Some(messages) => count::input_tokens(messages, &self.routes).await,
            None => None,
        };
        let bound = wish.bound(self.context_tokens);
        match exact {
            Some(input_tokens) if input_tokens < bound.input_tokens => {
                let exact = Usage { input_tokens, ..bound };
                self.terms(wish).quote(exact, self.funds()).map(|quote| (quote, exact))
            }
            _ => cheap.map(|quote| (quote, estimate)),
        }
    }

    fn cheap_quote(&self, wish: &Wish) -> Result<Quote, GatewayError> {
        self.terms(wish).quote(wish.bound(self.context_tokens), self.funds())
    }

    fn funds(&self) -> Funds {
        Funds::of(&self.policy.snapshot)
    }

    fn terms(&self, wish: &Wish) -> Terms {
        let price = self.offer.price.price();
        let output_max = self.offer.model.max_output_tokens;
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
        let multiplier = self.policy.snapshot.group.multiplier();
        Terms { price, multiplier, output_max, output_min, asked_max, answers }
    }

    fn request(&self, charge_id: i64, quote: &Quote) -> HoldRequest {
        let KeySnapshot { key, group, owner } = &self.policy.snapshot;
        let (model, price) = (&self.offer.model, &self.offer.price);
        HoldRequest {
            charge_id,
            key_id: key.id,
            key_revision: key.revision,
            user_id: owner.id,
            user_revision: owner.revision,
            group_id: group.id,
            group_revision: group.revision,
            model_id: model.id,
            model_revision: model.revision,
            held_micros: quote.held_micros,
            input_held_micros: quote.input_held_micros,
            price_id: price.id,
            multiplier_micros: group.multiplier().micros(),
            key_name: key.name.clone(),
            model: model.name.clone(),
        }
    }

    fn held(self, hold: OpenHold, wish: &Wish, quote: &Quote, estimate: Usage) -> Held {
        let meter = Meter::new(wish.endpoint, estimate, quote.bound, &self.offer.price.price());
        let KeySnapshot { group, owner, .. } = &self.policy.snapshot;
        let open = OpenCall::open(Some((hold, self.offer)), group.multiplier(), meter);
        Held { open, routes: self.routes, imposed_max: quote.imposed_max, user_id: owner.id }
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
        let Some((policy, now_ms)) = authenticate::find(connection, &digest)? else { return Ok(None) };
        let offer = model.map(|model| find_offer(connection, &model)).transpose()?.flatten();
        let find = |id: ResponseId| responses::find(connection, policy.snapshot.owner.id, &id);
        let previous = previous.map(find).transpose()?.flatten();
        Ok(Some(Looked { policy: Arc::new(policy), now_ms, offer: offer.map(Arc::new), previous }))
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
