//! Counts, times and statuses as this page prints them.

use crate::dashboard::page::Badge;
use crate::domain::charge::ChargeStatus;
use crate::domain::credits::{Credits, MICROS_PER_CREDIT};

/// `1 250 000`, grouped by thin spaces.
pub fn grouped(count: i64) -> String {
    // A whole number of credits is printed as one.
    match count.checked_mul(MICROS_PER_CREDIT) {
        Some(micros) => Credits::from_micros(micros).for_people(),
        None => count.to_string(),
    }
}

/// `340 ms`, `1.2 s`, `3 min 20 s`.
pub fn lasting(ms: i64) -> String {
    match ms {
        i64::MIN..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
        _ => format!("{} min {} s", grouped(ms / 60_000), ms % 60_000 / 1_000),
    }
}

/// `sum / count`, or nothing of nothing.
pub fn mean(sum: i64, count: i64) -> Option<i64> {
    (count > 0).then(|| sum / count)
}

/// `3 %`, `0.2 %`; `None` of nothing.
pub fn percent(part: i64, whole: i64) -> Option<String> {
    let per_mille = mean(part.saturating_mul(1_000), whole)?;
    Some(match per_mille {
        0 if part > 0 => "under 0.1 %".into(),
        0..100 if per_mille % 10 > 0 => format!("{}.{} %", per_mille / 10, per_mille % 10),
        _ => format!("{} %", per_mille / 10),
    })
}

/// A status with its icon and colour.
pub fn badge(status: ChargeStatus) -> Badge {
    let (icon, colour) = match status {
        ChargeStatus::Open => ("clock", "secondary"),
        ChargeStatus::Complete => ("circle-check", "green"),
        ChargeStatus::HungUp => ("logout", "secondary"),
        ChargeStatus::Cut => ("alert-triangle", "orange"),
        ChargeStatus::Interrupted => ("power", "orange"),
        ChargeStatus::Failed => ("circle-x", "red"),
    };
    Badge { label: status.label(), icon, colour }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_as_people_say_them() {
        assert_eq!(grouped(1_234_567), "1\u{202F}234\u{202F}567");
        assert_eq!(grouped(i64::MAX), i64::MAX.to_string());
        assert_eq!([lasting(7), lasting(1_290), lasting(200_000)], ["7 ms", "1.2 s", "3 min 20 s"]);
        let shares = [(1, 3), (0, 5), (1, 10_000), (1, 40), (5, 5)].map(|(part, whole)| percent(part, whole));
        assert_eq!(
            shares.map(Option::unwrap_or_default),
            ["33 %", "0 %", "under 0.1 %", "2.5 %", "100 %"].map(str::to_owned)
        );
        assert_eq!(percent(1, 0), None);
    }
}
