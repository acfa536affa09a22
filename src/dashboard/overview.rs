//! The Overview page of admins: what the whole house spent and how well it did, who and what most of it, and what is
//! not as it should be.

use super::error::PageError;
use super::page::{self, Shell};
use super::session::Admin;
use super::usage::chart::{self, STACKED_MAX, Table, Tile};
use super::usage::words::{grouped, lasting, percent};
use super::usage::{RANGES, Range};
use super::words::count;
use crate::clock::now_ms;
use crate::domain::credits::Credits;
use crate::domain::health::{HOUR_MS, Tally, hour_of};
use crate::error::Error;
use crate::store::health::{self, Ended, Found};
use crate::store::upstream_hours::{self, UpstreamHour};
use crate::store::usage::{Grain, Scope, Span, Sums, Usage};
use crate::store::{Connection, Store, instances, upstreams, usage_rollup, users};
use crate::upstream_watch::UpstreamWatch;
use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;
use std::collections::BTreeMap;
use url::form_urlencoded;

const TOP: usize = 10;
/// Calls whose latency is looked at: the newest.
const NEWEST: i64 = 1_000;
/// Failures of an upstream are news for so many hours, the present one included.
const RECENT_HOURS: i64 = 24;
/// Of so many calls at least, this share in percent must fail before an upstream counts as failing.
const FAILING: (i64, i64) = (5, 20);
/// A call that takes longer is worth a look.
const LONG_OPEN_MS: i64 = 10 * 60 * 1000;
/// Heartbeats come every few seconds.
const SILENT_MS: i64 = 30 * 1000;

#[derive(Template)]
#[template(path = "overview/index.html")]
struct Overview {
    shell: Shell,
    ranges: Vec<(&'static str, &'static str, bool)>,
    page: Numbers,
}

/// All that the database says.
struct Numbers {
    tiles: Vec<Tile>,
    credits: Table,
    counts: Table,
    grain: &'static str,
    is_empty: bool,
    users: Vec<Share>,
    models: Vec<Share>,
    problems: Vec<Problem>,
}

/// A user's or a model's part.
struct Share {
    name: String,
    /// To their usage.
    url: Option<String>,
    credits: String,
    requests: String,
    errors: String,
}

impl Share {
    fn of(name: String, url: Option<String>, sums: &Sums) -> Self {
        let errors = match percent(sums.errors, sums.requests) {
            Some(share) if sums.errors > 0 => format!("{} ({share})", grouped(sums.errors)),
            _ => "0".into(),
        };
        Self {
            name,
            url,
            credits: Credits::from_micros(sums.settled_micros).for_people(),
            requests: grouped(sums.requests),
            errors,
        }
    }
}

/// Something that is not as it should be.
struct Problem {
    title: String,
    text: String,
}

/// `GET /overview`
///
/// # Errors
/// Not found, for people who are no admins; the engine's.
pub async fn show(
    request: HttpRequest,
    Admin(signed_in): Admin,
    store: web::Data<Store>,
    watch: web::Data<UpstreamWatch>,
) -> Result<HttpResponse, PageError> {
    let chosen = form_urlencoded::parse(request.query_string().as_bytes())
        .filter(|(name, _)| name == "range")
        .find_map(|(_, value)| Range::parse(&value));
    let range = chosen.unwrap_or(Range::Day);
    let numbers = store
        .run(move |connection| {
            // What this server has not stored yet.
            let pending = watch.pending();
            connection.snapshot(|connection| Numbers::load(connection, range, pending))
        })
        .await?;
    let ranges = RANGES.into_iter().map(|(word, words, of)| (word, words, of == range)).collect();
    let shell = Shell::new(&signed_in, "overview");
    Ok(page::render(StatusCode::OK, &Overview { shell, ranges, page: numbers }))
}

impl Numbers {
    fn load(connection: &mut Connection, range: Range, pending: Vec<UpstreamHour>) -> Result<Self, Error> {
        let now_ms = now_ms();
        let span: Span = range.span(now_ms, usage_rollup::progress(connection)?.hourly_from_ms);
        let newest = health::newest_ended(connection, span.from_ms, NEWEST)?;
        let problems = problems(connection, pending, now_ms)?;
        let mut usage = Usage::open(connection, Scope::default(), span)?;
        let by_model = usage.by_model()?;
        let top = usage.top_users(TOP)?;
        let mut ranked_users: Vec<(i64, Sums)> = usage.of_users(&top)?.into_iter().collect();
        ranked_users.sort_by_key(|(_, sums)| std::cmp::Reverse((sums.settled_micros, sums.requests)));
        let mut names = users::names(connection, &top)?;
        let all = chart::by_time(&by_model);
        let ranked = chart::ranked(&by_model);
        let columns =
            ranked.iter().take(STACKED_MAX).map(|(model, _)| (model.clone(), model.clone())).collect();
        Ok(Self {
            tiles: tiles(&chart::total(&by_model), &newest),
            credits: chart::stack(span, &all, &by_model, columns),
            counts: chart::counts(span, &all),
            grain: if span.grain == Grain::Hour { "hour" } else { "day" },
            is_empty: all.is_empty(),
            users: ranked_users
                .iter()
                .map(|(id, sums)| {
                    let url = format!("/usage?user={id}&range={}", range.word());
                    let name = names.remove(id).unwrap_or_else(|| format!("number {id}"));
                    Share::of(name, Some(url), sums)
                })
                .collect(),
            models: ranked.into_iter().take(TOP).map(|(name, sums)| Share::of(name, None, &sums)).collect(),
            problems,
        })
    }
}

fn tiles(total: &Sums, newest: &[Ended]) -> Vec<Tile> {
    let of = |share| percentile(newest.iter().map(|call| call.duration_ms).collect(), share);
    let first = percentile(newest.iter().filter_map(|call| call.first_byte_ms).collect(), 50);
    let shown = |ms: Option<i64>| ms.map_or_else(|| "–".into(), lasting);
    let note = format!("of the newest {}", grouped(i64::try_from(newest.len()).unwrap_or(i64::MAX)));
    let mut tiles: Vec<Tile> = chart::tiles(total).into_iter().take(2).collect();
    let tokens = format!("{} in, {} out", grouped(total.input_tokens), grouped(total.output_tokens));
    tiles.push(Tile::new("Tokens", grouped(total.input_tokens + total.output_tokens), tokens));
    tiles.push(Tile::new("First token, median", shown(first), note.clone()));
    tiles.push(Tile::new("Duration, median", shown(of(50)), note.clone()));
    tiles.push(Tile::new("95 % end within", shown(of(95)), note));
    tiles
}

/// The smallest value that at least `share` percent are not above.
fn percentile(mut values: Vec<i64>, share: usize) -> Option<i64> {
    values.sort_unstable();
    let rank = (values.len() * share).div_ceil(100).max(1);
    values.get(rank - 1).copied()
}

fn problems(
    connection: &mut Connection,
    pending: Vec<UpstreamHour>,
    now_ms: i64,
) -> Result<Vec<Problem>, Error> {
    let mut problems = failing_upstreams(connection, pending, now_ms)?;
    let database_now_ms = connection.now_ms()?;
    let silent = instances::heartbeats(connection)?
        .into_iter()
        .filter(|(_, at_ms)| database_now_ms - at_ms > SILENT_MS)
        .count();
    let mut add = |found: Found, title: &str, text: &str| {
        if found.count > 0 {
            let more = if found.count > i64::try_from(found.names.len()).unwrap_or(0) { ", …" } else { "" };
            let names = found.names.join(", ");
            problems.push(Problem {
                title: format!("{title}: {}", grouped(found.count)),
                text: format!("{names}{more}. {text}"),
            });
        }
    };
    add(
        health::long_open(connection, database_now_ms - LONG_OPEN_MS)?,
        "Calls open for more than ten minutes",
        "Their credits stay held until they end.",
    );
    add(
        health::exhausted_keys(connection)?,
        "Keys that have reached their limit",
        "They are refused until somebody raises it.",
    );
    add(
        health::spent_accounts(connection)?,
        "Accounts without credits",
        "Their calls are refused until somebody grants more.",
    );
    if silent > 0 {
        problems.push(Problem {
            title: format!("Servers that have gone silent: {silent}"),
            text: "The others settle what they left open; a server that is only cut off from the database comes back by itself.".into(),
        });
    }
    Ok(problems)
}

/// Upstreams to which much was lost lately, of those that are called at all.
fn failing_upstreams(
    connection: &mut Connection,
    pending: Vec<UpstreamHour>,
    now_ms: i64,
) -> Result<Vec<Problem>, Error> {
    let since_ms = hour_of(now_ms) - (RECENT_HOURS - 1) * HOUR_MS;
    let stored = upstream_hours::since(connection, since_ms)?;
    let mut tallies = BTreeMap::<i64, Tally>::new();
    for hour in stored.into_iter().chain(pending).filter(|hour| hour.hour_ms >= since_ms) {
        *tallies.entry(hour.upstream_id).or_default() += hour.tally;
    }
    let in_rotation = upstreams::list(connection)?.into_iter().filter(|upstream| upstream.enabled);
    Ok(in_rotation
        .filter_map(|upstream| {
            let tally = tallies.get(&upstream.id)?;
            let (failed, calls) = (tally.failed(), tally.failed() + tally.answered + tally.busy);
            let fails = calls >= FAILING.0 && failed.saturating_mul(100) >= calls.saturating_mul(FAILING.1);
            let reasons: Vec<_> = tally.failures().map(|(why, n)| format!("{} {why}", grouped(n))).collect();
            fails.then(|| Problem {
                title: format!("Upstream {} fails", upstream.name),
                text: format!(
                    "{} of {} to it failed in the last day: {}.",
                    grouped(failed),
                    count(calls, "call"),
                    reasons.join(", ")
                ),
            })
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::percentile;

    #[test]
    fn percentiles_are_values_that_were_there() {
        assert_eq!(percentile(vec![], 50), None);
        assert_eq!(percentile(vec![7], 95), Some(7));
        let hundred: Vec<i64> = (1..=100).rev().collect();
        assert_eq!(percentile(hundred.clone(), 50), Some(50));
        assert_eq!(percentile(hundred, 95), Some(95));
    }
}
