//! What callers saw against what is stored: every answer charged, once, and nothing left open.

use crate::callers::{Call, End};
use crate::seed::SeededKey;
use crate::site::Site;
use crate::within;
use keyhouse::store::charges::{self, Charge, state};
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Longest that a dead server's holds may stay open.
pub const RESOLVED_WITHIN: Duration = Duration::from_secs(60);

/// All charges of these keys, by id, which is the request's.
pub fn charges_of(site: &Site, keys: &[SeededKey]) -> HashMap<i64, Charge> {
    let of_key = |key: &SeededKey| {
        let read = site.seed.store.with(|c| charges::newest_of_key(c, key.user_id, key.id, usize::MAX - 1));
        read.expect("the charges are read")
    };
    keys.iter().flat_map(of_key).map(|charge| (charge.id, charge)).collect()
}

/// Waits until nothing is held any more; gives how long that took.
pub fn nothing_is_held(site: &Site, keys: &[SeededKey]) -> Duration {
    let begun = Instant::now();
    within(RESOLVED_WITHIN, "every hold is resolved", || {
        charges_of(site, keys).values().all(|charge| charge.state != state::HELD).then_some(())
    });
    begun.elapsed()
}

/// The laws at the end of a run, when all is resolved. Prints what was counted.
pub fn settle_accounts(name: &str, site: &Site, keys: &[SeededKey], calls: &[Call]) {
    let waited = nothing_is_held(site, keys);
    let diagnosis = site.is_sound();
    assert_eq!(diagnosis["open_holds"], 0);
    let stored = charges_of(site, keys);
    let mut answered = HashMap::new();
    for call in calls {
        let End::Whole { charged_micros } = call.end else { continue };
        let id = call.request_id.expect("every answer has an id");
        let charge = stored.get(&id).unwrap_or_else(|| panic!("an answer without a charge: {call:?}"));
        assert_eq!(
            (charge.state.as_str(), charge.outcome.as_deref()),
            (state::SETTLED, Some("complete")),
            "{call:?} {charge:?}"
        );
        assert!(charge.settled_micros > 0, "{charge:?}");
        if let Some(charged_micros) = charged_micros {
            assert_eq!(charge.settled_micros, charged_micros, "{call:?} {charge:?}");
        }
        assert!(answered.insert(id, &call.tag).is_none(), "two answers share the charge {id}");
    }
    let count =
        |outcome: &str| stored.values().filter(|charge| charge.outcome.as_deref() == Some(outcome)).count();
    let ends = |is: fn(&End) -> bool| calls.iter().filter(|call| is(&call.end)).count();
    let whole = answered.len();
    let unseen = count("complete") - whole;
    assert!(whole > 0, "no call came through");
    assert!(stored.len() <= calls.len(), "{} charges of {} calls", stored.len(), calls.len());
    assert!(unseen <= calls.len() - whole, "{unseen} calls were charged whole that nobody made");
    eprintln!(
        "{name}: {} calls, {whole} answered whole and charged once, {} hung up, {} broken, {} apologised, \
         {} refused; {} charges: {} complete, {} hung_up, {} cut, {} interrupted, {} failed; all resolved after {waited:?}",
        calls.len(),
        ends(|end| *end == End::HungUp),
        ends(|end| *end == End::Broken),
        ends(|end| *end == End::Apologised),
        ends(|end| matches!(end, End::Refused(_))),
        stored.len(),
        count("complete"),
        count("hung_up"),
        count("cut"),
        count("interrupted"),
        count("failed"),
    );
}
