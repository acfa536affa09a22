//! What a model's calls of the last 30 days would have cost at another price: reckoned call by call, each at its own
//! group's multiplier, as if it had been charged so.

use crate::dashboard::words::count;
use crate::domain::credits::Credits;
use crate::domain::expiry::{DAY_MS, rfc3339};
use crate::domain::price::{Multiplier, Price};
use crate::error::Error;
use crate::store::Connection;
use crate::store::prices::{self, Paid};

const DAYS: i64 = 30;
/// The newest so many are reckoned: as many as fit into the patience of somebody who presses a button.
const CALLS_MAX: usize = 20_000;

/// For people.
pub struct Preview {
    /// `1 234 calls`
    pub calls: String,
    /// There were none.
    pub is_empty: bool,
    /// When the oldest of them was, if there are older ones that are not reckoned.
    pub since: Option<String>,
    /// What they did cost.
    pub before: String,
    /// What they would have cost; `None`: more than every balance.
    pub after: Option<String>,
    /// `+12.5 %`; blank where nothing can be divided by.
    pub change: String,
    /// Calls that were charged without counts, and are left out; blank: none.
    pub uncounted: String,
}

impl Preview {
    /// Of a model.
    ///
    /// # Errors
    /// The engine's.
    pub fn load(
        connection: &mut Connection,
        model_id: i64,
        price: &Price,
        now_ms: i64,
    ) -> Result<Self, Error> {
        let (paid, is_cut) = prices::paid_since(connection, model_id, now_ms - DAYS * DAY_MS, CALLS_MAX)?;
        Ok(Self::of(&paid, is_cut, price))
    }

    fn of(paid: &[Paid], is_cut: bool, price: &Price) -> Self {
        let (mut calls, mut uncounted, mut before) = (0, 0, 0i64);
        let mut after = Some(0i64);
        for charge in paid {
            let Some(usage) = charge.usage() else {
                uncounted += 1;
                continue;
            };
            calls += 1;
            before = before.saturating_add(charge.settled_micros);
            let cost = price.cost(usage, Multiplier::from_micros(charge.multiplier_micros)).ok();
            after = after.zip(cost).and_then(|(sum, cost)| sum.checked_add(cost));
        }
        let oldest = paid.iter().map(|charge| charge.created_at_ms).min().filter(|_| is_cut);
        let credits = |micros| Credits::from_micros(micros).for_people();
        Self {
            calls: count(calls, "call"),
            is_empty: calls == 0,
            since: oldest.map(|at_ms| rfc3339(at_ms).chars().take(10).collect()),
            before: credits(before),
            after: after.map(credits),
            change: after.map(|after| change(before, after)).unwrap_or_default(),
            uncounted: if uncounted == 0 { String::new() } else { count(uncounted, "call") },
        }
    }
}

fn change(before: i64, after: i64) -> String {
    if before <= 0 {
        return String::new();
    }
    let per_mille = (i128::from(after) - i128::from(before)) * 1000 / i128::from(before);
    let sign = if per_mille > 0 {
        "+"
    } else if per_mille < 0 {
        "−"
    } else {
        "±"
    };
    format!("{sign}{}.{} %", per_mille.unsigned_abs() / 10, per_mille.unsigned_abs() % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_have_a_sign() {
        for (before, after, expected) in
            [(1000, 1125, "+12.5 %"), (1000, 500, "−50.0 %"), (7, 7, "±0.0 %"), (0, 7, "")]
        {
            assert_eq!(change(before, after), expected);
        }
    }
}
