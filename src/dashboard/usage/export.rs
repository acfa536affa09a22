//! The list as a CSV file. It is sent while it is read, a thousand rows at a time, so that its length does not matter.

use super::state::UsageState;
use crate::clock::now_ms;
use crate::dashboard::error::PageError;
use crate::dashboard::session::SignedIn;
use crate::domain::charge::ChargeStatus;
use crate::domain::credits::Credits;
use crate::domain::expiry::rfc3339;
use crate::domain::price::Multiplier;
use crate::error::Error;
use crate::store::charge_list::{ChargeQuery, Way};
use crate::store::charges::Charge;
use crate::store::{Store, usage_rollup, users};
use actix_web::http::header::{CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_TYPE};
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use futures_util::stream;

const BATCH_ROWS: usize = 1_000;

const HEADS: [&str; 23] = [
    "request_id",
    "created_at",
    "resolved_at",
    "key_id",
    "key",
    "model",
    "status",
    "http_status",
    "input_tokens",
    "cached_input_tokens",
    "cache_write_tokens",
    "output_tokens",
    "reasoning_tokens",
    "images",
    "audio_ms",
    "characters",
    "counted_by",
    "price_id",
    "multiplier",
    "held_credits",
    "credits",
    "duration_ms",
    "first_byte_ms",
];

/// `GET /usage/export.csv`
///
/// # Errors
/// The engine's, while nothing has been sent; afterwards the file breaks off.
pub async fn export(
    request: HttpRequest,
    signed_in: SignedIn,
    store: web::Data<Store>,
) -> Result<HttpResponse, PageError> {
    let state = UsageState::parse(request.query_string(), now_ms());
    let chosen = state.user_id.filter(|_| signed_in.user.is_admin);
    let user_id = chosen.unwrap_or(signed_in.user.id);
    let span = store
        .run(move |connection| {
            users::name_of(connection, user_id)?;
            Ok(state.range.span(now_ms(), usage_rollup::progress(connection)?.hourly_from_ms))
        })
        .await?;
    let state = UsageState::parse(request.query_string(), now_ms());
    let export = Export {
        store: store.get_ref().clone(),
        query: state.query(user_id, span),
        next: Some(Way::Start),
        heads: true,
    };
    let name = format!("attachment; filename=\"keyhouse-usage-{}.csv\"", super::state::day(now_ms()));
    Ok(HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, "text/csv; charset=utf-8"))
        .insert_header((CONTENT_DISPOSITION, name))
        .insert_header((CACHE_CONTROL, "no-store"))
        .streaming(stream::try_unfold(export, Export::batch)))
}

/// A file on its way.
struct Export {
    store: Store,
    query: ChargeQuery,
    next: Option<Way>,
    heads: bool,
}

impl Export {
    /// The next piece, if there is one.
    async fn batch(mut self) -> Result<Option<(Bytes, Self)>, Error> {
        while let Some(way) = self.next {
            let query = self.query.clone();
            let read = self.store.run(move |connection| query.page(connection, way, BATCH_ROWS, None)).await;
            let page = read.inspect_err(|error| tracing::error!(%error, "an export broke off"))?;
            self.next = page.next.map(Way::After);
            if self.heads || !page.rows.is_empty() {
                let heads = std::mem::take(&mut self.heads);
                return Ok(Some((Bytes::from(write(heads, &page.rows)?), self)));
            }
        }
        Ok(None)
    }
}

fn write(heads: bool, charges: &[Charge]) -> Result<Vec<u8>, Error> {
    let failed = |error: csv::Error| Error::Internal(format!("an export: {error}"));
    let mut csv = csv::WriterBuilder::new().has_headers(false).from_writer(Vec::new());
    if heads {
        csv.write_record(HEADS).map_err(failed)?;
    }
    for charge in charges {
        csv.write_record(record(charge)).map_err(failed)?;
    }
    csv.into_inner().map_err(|error| Error::Internal(format!("an export: {error}")))
}

fn record(charge: &Charge) -> [String; HEADS.len()] {
    let number = |number: Option<i64>| number.map(|number| number.to_string()).unwrap_or_default();
    let credits = |micros| Credits::from_micros(micros).to_string();
    [
        charge.id.to_string(),
        rfc3339(charge.created_at_ms),
        charge.resolved_at_ms.map(rfc3339).unwrap_or_default(),
        charge.key_id.to_string(),
        inert(&charge.key_name),
        inert(&charge.model),
        ChargeStatus::of(charge.outcome.as_deref()).word().to_owned(),
        number(charge.status),
        number(charge.input_tokens),
        number(charge.cached_input_tokens),
        number(charge.cache_write_tokens),
        number(charge.output_tokens),
        number(charge.reasoning_tokens),
        number(charge.images),
        number(charge.audio_ms),
        number(charge.characters),
        charge.usage_source.clone().unwrap_or_default(),
        charge.price_id.to_string(),
        Multiplier::from_micros(charge.multiplier_micros).to_string(),
        credits(charge.held_micros),
        credits(charge.settled_micros),
        number(charge.resolved_at_ms.map(|at_ms| at_ms - charge.created_at_ms)),
        number(charge.first_byte_ms),
    ]
}

/// A text that people chose, so that no spreadsheet takes it for a formula.
fn inert(text: &str) -> String {
    let is_formula =
        text.trim_start().starts_with(['=', '+', '-', '@']) || text.starts_with(['\t', '\r', '\n']);
    if is_formula { format!("'{text}") } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::inert;

    #[test]
    fn no_name_becomes_a_formula() {
        for text in ["=1+1", "+1", "-1", "@cf/llama", "\t=1", " =1", "\r1"] {
            assert_eq!(inert(text), format!("'{text}"));
        }
        assert_eq!(inert("gpt-4o"), "gpt-4o");
    }
}
