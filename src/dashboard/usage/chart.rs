//! The numbers under the charts, as tables that a script draws: text for people, and the value beside it.

use super::state::day;
use super::words::{grouped, lasting, mean, percent};
use crate::domain::credits::Credits;
use crate::domain::expiry::rfc3339;
use crate::store::usage::{Cells, Grain, Span, Sums};
use std::collections::BTreeMap;

/// So many parts of a stack have names; what is left is "Others".
pub const STACKED_MAX: usize = 8;

/// A table with a row for each hour or day.
pub struct Table {
    /// Above the columns, without that of time.
    pub heads: Vec<String>,
    /// Oldest first.
    pub rows: Vec<TableRow>,
}

/// An hour or a day.
pub struct TableRow {
    /// `2026-11-25` or `2026-11-25 14:00`, in UTC.
    pub time: String,
    /// Under the heads.
    pub cells: Vec<TableCell>,
}

/// A number.
pub struct TableCell {
    /// For people.
    pub text: String,
    /// For the chart: credits in micro-credits.
    pub value: i64,
}

impl TableCell {
    fn count(value: i64) -> Self {
        Self { text: grouped(value), value }
    }

    fn micros(value: i64) -> Self {
        Self { text: Credits::from_micros(value).for_people(), value }
    }
}

/// Sums by the piece of time alone.
pub fn by_time<By>(cells: &Cells<By>) -> BTreeMap<i64, Sums> {
    let mut times = BTreeMap::<i64, Sums>::new();
    for ((start_ms, _), sums) in cells {
        *times.entry(*start_ms).or_default() += *sums;
    }
    times
}

/// Sums by the other part alone, the dearest first.
pub fn ranked<By: Ord + Clone>(cells: &Cells<By>) -> Vec<(By, Sums)> {
    let mut parts = BTreeMap::<By, Sums>::new();
    for ((_, by), sums) in cells {
        *parts.entry(by.clone()).or_default() += *sums;
    }
    let mut parts: Vec<_> = parts.into_iter().collect();
    parts.sort_by_key(|(_, sums)| std::cmp::Reverse((sums.settled_micros, sums.requests)));
    parts
}

/// Of everything.
pub fn total<By>(cells: &Cells<By>) -> Sums {
    cells.values().fold(Sums::default(), |mut total, sums| {
        total += *sums;
        total
    })
}

/// Credits in columns: `columns` by name, what they leave of `all` as "Others", and the total.
pub fn stack<By: Ord + Clone>(
    span: Span,
    all: &BTreeMap<i64, Sums>,
    cells: &Cells<By>,
    columns: Vec<(By, String)>,
) -> Table {
    let micros =
        |start_ms, by: &By| cells.get(&(start_ms, by.clone())).map_or(0, |sums: &Sums| sums.settled_micros);
    let mut rows: Vec<(i64, Vec<i64>, i64)> = Vec::new();
    for start_ms in span.starts() {
        let total = all.get(&start_ms).map_or(0, |sums| sums.settled_micros);
        let named: Vec<i64> = columns.iter().map(|(by, _)| micros(start_ms, by)).collect();
        rows.push((start_ms, named, total));
    }
    let others = |(_, named, total): &(i64, Vec<i64>, i64)| total - named.iter().sum::<i64>();
    let has_others = rows.iter().any(|row| others(row) != 0);
    let mut heads: Vec<String> = columns.into_iter().map(|(_, name)| name).collect();
    heads.extend(has_others.then(|| "Others".to_owned()));
    heads.push("Total".into());
    let table_row = |row: &(i64, Vec<i64>, i64)| {
        let values = row.1.iter().copied().chain(has_others.then(|| others(row))).chain([row.2]);
        TableRow { time: time(row.0, span.grain), cells: values.map(TableCell::micros).collect() }
    };
    Table { heads, rows: rows.iter().map(table_row).collect() }
}

/// Requests and tokens in columns.
pub fn counts(span: Span, all: &BTreeMap<i64, Sums>) -> Table {
    let heads = ["Answered", "Failed", "Input tokens", "Cached input tokens", "Output tokens"];
    let row = |start_ms| {
        let sums = all.get(&start_ms).copied().unwrap_or_default();
        let values = [
            sums.requests - sums.errors,
            sums.errors,
            sums.input_tokens - sums.cached_input_tokens,
            sums.cached_input_tokens,
            sums.output_tokens,
        ];
        TableRow { time: time(start_ms, span.grain), cells: values.map(TableCell::count).into() }
    };
    Table { heads: heads.map(str::to_owned).into(), rows: span.starts().map(row).collect() }
}

fn time(start_ms: i64, grain: Grain) -> String {
    match grain {
        Grain::Day => day(start_ms),
        Grain::Hour => rfc3339(start_ms).chars().take(16).collect::<String>().replacen('T', " ", 1),
    }
}

/// A number that stands for itself.
pub struct Tile {
    /// What it is.
    pub label: &'static str,
    /// Large.
    pub value: String,
    /// Small, below.
    pub note: String,
}

impl Tile {
    /// With its small print.
    pub fn new(label: &'static str, value: String, note: String) -> Self {
        Self { label, value, note }
    }
}

/// What everything came to.
pub fn tiles(total: &Sums) -> Vec<Tile> {
    let errors = match percent(total.errors, total.requests) {
        Some(share) if total.errors > 0 => format!("{} failed, {share}", grouped(total.errors)),
        _ => "none failed".into(),
    };
    let cached = match percent(total.cached_input_tokens, total.input_tokens) {
        Some(share) if total.cached_input_tokens > 0 => format!("{share} from the cache"),
        _ => String::new(),
    };
    let first_byte = mean(total.first_byte_ms, total.first_bytes);
    let duration = mean(total.duration_ms, total.requests);
    let or_dash = |ms: Option<i64>| ms.map_or_else(|| "–".into(), lasting);
    vec![
        Tile::new("Credits", Credits::from_micros(total.settled_micros).for_people(), String::new()),
        Tile::new("Requests", grouped(total.requests), errors),
        Tile::new("Input tokens", grouped(total.input_tokens), cached),
        Tile::new("Output tokens", grouped(total.output_tokens), String::new()),
        Tile::new("Time to first token", or_dash(first_byte), "on average".into()),
        Tile::new("Duration", or_dash(duration), "on average".into()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::expiry::DAY_MS;

    fn spent(settled_micros: i64) -> Sums {
        Sums { requests: 1, settled_micros, ..Sums::default() }
    }

    #[test]
    fn columns_and_others_add_up_to_the_total() {
        let span = Span { from_ms: 0, until_ms: 2 * DAY_MS, grain: Grain::Day };
        let cells = Cells::from([((0, "a"), spent(5)), ((0, "b"), spent(2)), ((DAY_MS, "b"), spent(1))]);
        let all = by_time(&cells);
        let table = stack(span, &all, &cells, vec![("a", "A".into())]);
        assert_eq!(table.heads, ["A", "Others", "Total"]);
        let values: Vec<Vec<i64>> =
            table.rows.iter().map(|row| row.cells.iter().map(|cell| cell.value).collect()).collect();
        assert_eq!(values, [[5, 2, 7], [0, 1, 1]]);
        assert_eq!(table.rows[1].time, "1970-01-02");
        let named = stack(span, &all, &cells, vec![("a", "A".into()), ("b", "B".into())]);
        assert_eq!(named.heads, ["A", "B", "Total"]);
        assert_eq!(ranked(&cells).into_iter().map(|(name, _)| name).collect::<Vec<_>>(), ["a", "b"]);
    }
}
