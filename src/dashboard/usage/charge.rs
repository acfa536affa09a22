//! One charge opened: what it was, and why it cost what it did.

use super::state::UsageState;
use super::words::{badge, grouped, lasting};
use super::{PLACE, whose};
use crate::clock::now_ms;
use crate::dashboard::answer;
use crate::dashboard::error::PageError;
use crate::dashboard::moment::Moment;
use crate::dashboard::page::Badge;
use crate::dashboard::session::SignedIn;
use crate::domain::charge::{ChargeStatus, CostLine, CostUnit, Receipt};
use crate::domain::credits::Credits;
use crate::domain::price::Multiplier;
use crate::domain::usage::Usage;
use crate::store::Store;
use crate::store::charges::{self, Charge, state};
use crate::store::prices::PriceVersion;
use actix_htmx::Htmx;
use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;
use askama::filters::HtmlSafe;

/// The dialog.
#[derive(Template)]
#[template(path = "usage/charge.html")]
struct ChargeView {
    id: i64,
    /// The list it was opened from.
    back: String,
    status: Badge,
    meaning: &'static str,
    at: Moment,
    key_name: String,
    model: String,
    price_version: i64,
    http_status: Option<i64>,
    duration: Option<String>,
    first_byte: Option<String>,
    counted_by: Option<&'static str>,
    reasoning: Option<String>,
    held: String,
    charged: String,
    cost: Cost,
}

impl HtmlSafe for ChargeView {}

/// How the amount came about.
enum Cost {
    /// Not yet.
    Open,
    /// Everything was given back.
    Released,
    /// By what was used.
    Used {
        receipt: Receipt,
        /// More than was held.
        is_cut: bool,
        /// What was charged is what the receipt says, cut or not.
        is_whole: bool,
    },
    /// The input part of the hold: nobody knows what was used.
    InputPart,
}

/// `GET /usage/{id}`; its query is the list's.
///
/// # Errors
/// Not found; the engine's.
pub async fn show(
    id: web::Path<i64>,
    request: HttpRequest,
    htmx: Htmx,
    signed_in: SignedIn,
    store: web::Data<Store>,
) -> Result<HttpResponse, PageError> {
    let (id, user_id) = (id.into_inner(), whose(&signed_in));
    let (charge, price) = store
        .run(move |connection| {
            let charge = charges::find(connection, user_id, id)?;
            let price = charges::price_of(connection, &charge)?;
            Ok((charge, price))
        })
        .await?;
    let back = UsageState::parse(request.query_string(), now_ms()).url();
    let view = ChargeView::of(&charge, &price, back, now_ms());
    Ok(answer::dialog(&htmx, &signed_in, PLACE, StatusCode::OK, "Why this cost", &view))
}

impl ChargeView {
    fn of(charge: &Charge, price: &PriceVersion, back: String, now_ms: i64) -> Self {
        let status = ChargeStatus::of(charge.outcome.as_deref());
        let credits = |micros| Credits::from_micros(micros).for_people();
        Self {
            id: charge.id,
            back,
            status: badge(status),
            meaning: status.meaning(),
            at: Moment::of(charge.created_at_ms, now_ms),
            key_name: charge.key_name.clone(),
            model: charge.model.clone(),
            price_version: price.version,
            http_status: charge.status,
            duration: charge.resolved_at_ms.map(|at_ms| lasting(at_ms - charge.created_at_ms)),
            first_byte: charge.first_byte_ms.map(lasting),
            counted_by: charge.usage_source.as_deref().map(counted_by),
            reasoning: charge.reasoning_tokens.filter(|count| *count > 0).map(grouped),
            held: credits(charge.held_micros),
            charged: credits(charge.settled_micros),
            cost: Cost::of(charge, price),
        }
    }
}

impl Cost {
    fn of(charge: &Charge, price: &PriceVersion) -> Self {
        match charge.state.as_str() {
            state::HELD => return Self::Open,
            state::RELEASED => return Self::Released,
            _ if charge.usage_source.is_none() => return Self::InputPart,
            _ => {}
        }
        let multiplier = Multiplier::from_micros(charge.multiplier_micros);
        match Receipt::of(&price.price(), usage_of(charge), multiplier) {
            Ok(receipt) => {
                let cost_micros = receipt.cost.micros();
                let is_whole = charge.settled_micros == cost_micros.min(charge.held_micros);
                Self::Used { is_cut: cost_micros > charge.held_micros, is_whole, receipt }
            }
            Err(_) => Self::InputPart,
        }
    }

    /// A line's price for people: `2.5 per million`.
    fn price_of(line: &CostLine) -> String {
        let price = Credits::from_micros(line.price_micros).for_people();
        match line.unit {
            CostUnit::Million => format!("{price} per million"),
            CostUnit::Second => format!("{price} per second"),
            CostUnit::Each => format!("{price} each"),
        }
    }
}

fn counted_by(source: &str) -> &'static str {
    match source {
        "estimated" => "Estimated by Keyhouse, since the provider did not say",
        _ => "By the provider",
    }
}

fn usage_of(charge: &Charge) -> Usage {
    let count = |count: Option<i64>| count.unwrap_or(0);
    Usage {
        input_tokens: count(charge.input_tokens),
        cached_input_tokens: count(charge.cached_input_tokens),
        cache_write_tokens: count(charge.cache_write_tokens),
        output_tokens: count(charge.output_tokens),
        reasoning_tokens: count(charge.reasoning_tokens),
        images: count(charge.images),
        audio_ms: count(charge.audio_ms),
        characters: count(charge.characters),
    }
}
