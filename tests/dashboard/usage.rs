//! The Usage and Overview pages by HTTP: what they show to whom, and that list, charts and export say the same.

use super::keys::furnish;
use super::support::browser::{DESKTOP, browse};
use super::support::seed::Seed;
use super::support::{Answer, Engine, House, Person, engines};
use keyhouse::clock::now_ms;
use keyhouse::domain::charge::ChargeStatus;
use keyhouse::domain::expiry::DAY_MS;
use keyhouse::domain::health::{HOUR_MS, Tally, hour_of};
use keyhouse::domain::key::KeyDraft;
use keyhouse::domain::price::Multiplier;
use keyhouse::domain::usage::Usage;
use keyhouse::ledger::ChargeIds;
use keyhouse::store::audit::Actor;
use keyhouse::store::past::{self, PastCall};
use keyhouse::store::upstream_hours::{self, UpstreamHour};
use keyhouse::store::{grants, keys, models, upstreams, usage_rollup, users};
use reqwest::StatusCode;
use serde_json::json;
use std::time::Duration;

/// A house in which Ada has two keys and a past.
pub struct Site {
    pub house: House,
    pub ada: Person,
    pub ada_id: i64,
    keys: [i64; 2],
}

impl Site {
    pub fn new(engine: Engine) -> Self {
        let house = House::start(engine);
        furnish(&house);
        let ada = house.user("ada");
        let ada_id = house.with(|c| {
            let id = users::find_by_name(c, "ada")?.id;
            grants::grant(
                c,
                id,
                keyhouse::domain::credits::Credits::from_micros(10_000_000),
                "",
                &Actor::cli(),
                now_ms(),
            )?;
            Ok(id)
        });
        let seed = Seed { store: house.store.clone(), vault: house.vault.clone() };
        let keys = [(); 2].map(|()| seed.key(ada_id, &KeyDraft::default()).id);
        Self { house, ada, ada_id, keys }
    }

    /// A call that ended so long ago.
    pub fn call(&self, key: usize, model: &str, status: ChargeStatus, minutes_ago: i64) -> PastCall {
        let offer = self.house.with(|c| models::find_offer(c, model));
        let usage = Usage { input_tokens: 1_000, cached_input_tokens: 400, output_tokens: 50, ..Usage::NONE };
        let micros = offer.price.price().cost(usage, Multiplier::ONE).expect("small");
        PastCall {
            id: 0,
            user_id: self.ada_id,
            key_id: self.keys[key],
            key_name: format!("key {key}"),
            model: model.to_owned(),
            price_id: offer.price.id,
            multiplier_micros: Multiplier::ONE.micros(),
            held_micros: micros * 2,
            settled_micros: if status == ChargeStatus::Failed { 0 } else { micros },
            status,
            usage,
            upstream_id: None,
            created_at_ms: now_ms() - minutes_ago * 60_000,
            took_ms: (200, 1_500),
        }
    }

    /// Stores them; gives their ids, oldest first.
    pub fn store(&self, mut calls: Vec<PastCall>) -> Vec<i64> {
        calls.sort_by_key(|call| call.created_at_ms);
        let ids = ChargeIds::new(0);
        for call in &mut calls {
            call.id = ids.next(call.created_at_ms);
        }
        self.house.with(|c| past::store(c, &calls));
        calls.iter().map(|call| call.id).collect()
    }

    /// Sums up about so many of the charges that are not yet, and enters them into the lists.
    fn sum_up(&self, charges: i64) {
        let mut connection = self.house.store.url().connect().expect("connected");
        let Some(closing) = usage_rollup::close(&mut connection).expect("closed") else { return };
        while !usage_rollup::is_closed(&mut connection, closing).expect("asked") {
            std::thread::sleep(Duration::from_millis(5));
        }
        usage_rollup::roll(&mut connection, closing, charges).expect("summed up");
        // Some of them, so that pages find the rest where it is.
        usage_rollup::merge(&mut connection, 1).expect("merged");
    }
}

/// To be summed up between two looks: nothing, some, the rest.
const PORTIONS: [i64; 3] = [0, 3, 10_000];

/// The ids of the rows in their order.
fn listed(html: &str) -> Vec<i64> {
    let rows = html.split("<a id=\"charge-").skip(1);
    rows.filter_map(|row| row.split('"').next()?.parse().ok()).collect()
}

fn link(html: &str, id: &str) -> Option<String> {
    let (_, rest) = html.split_once(&format!("id=\"{id}\""))?;
    let url = rest.split_once("href=\"")?.1.split('"').next()?;
    Some(url.replace("&#38;", "&").replace("&amp;", "&"))
}

/// What a table's column adds up to.
fn column(html: &str, table: &str, index: usize) -> i64 {
    let (_, rest) = html.split_once(&format!("id=\"{table}\"")).expect("the table");
    let body = rest.split_once("<tbody>").expect("a body").1.split("</tbody>").next().expect("its end");
    let value = |row: &str| -> i64 {
        let cell = row.split("data-value=\"").nth(index).expect("a cell");
        cell.split('"').next().expect("a value").parse().expect("a number")
    };
    body.split("<tr>").skip(1).map(value).sum()
}

fn ok(answer: Answer) -> String {
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    answer.body
}

#[test]
fn who_is_not_signed_in_sees_no_usage_and_only_admins_see_the_overview() {
    for engine in engines() {
        let site = Site::new(engine);
        for path in ["/usage", "/usage/1", "/usage/export.csv", "/overview"] {
            let answer = site.house.anon().get(path);
            assert_eq!(answer.status, StatusCode::SEE_OTHER, "{path}");
            assert!(answer.location().starts_with("/sign-in"), "{path}");
        }
        assert_eq!(site.ada.get("/overview").status, StatusCode::NOT_FOUND);
        assert!(!ok(site.ada.get("/usage")).contains("/overview"));
    }
}

#[test]
fn without_calls_the_page_says_what_to_do() {
    for engine in engines() {
        let site = Site::new(engine);
        let page = ok(site.ada.get("/usage"));
        assert!(page.contains("No calls in this time"));
        assert!(page.contains("one of your <a class=\"text-link\" href=\"/keys\">"));
        assert!(!page.contains("<canvas"));
        assert!(ok(site.ada.get("/usage?status=cut")).contains("No call matches"));
        site.house.add_user("root", true);
        let root = site.house.anon();
        root.sign_in("root", super::support::PASSWORD);
        let page = ok(root.get(&format!("/usage?user={}", site.ada_id)));
        assert!(page.contains("No calls in this time") && page.contains("one of this user’s API keys"));
        assert!(!page.contains("one of your"), "{page}");
    }
}

#[test]
fn charts_list_and_export_show_the_same_calls_under_every_filter() {
    for engine in engines() {
        let site = Site::new(engine);
        let [one, other] = site.keys;
        let mut calls = Vec::new();
        for (key, model, status, minutes_ago) in [
            (0, "gpt-4o", ChargeStatus::Complete, 30),
            (0, "gpt-4o", ChargeStatus::Failed, 40),
            (0, "gpt-4o-mini", ChargeStatus::Complete, 50),
            (1, "gpt-4o", ChargeStatus::Cut, 3 * 24 * 60),
            (1, "gpt-4o", ChargeStatus::HungUp, 20 * 24 * 60),
            (1, "gpt-4o-mini", ChargeStatus::Complete, 80 * 24 * 60),
            (1, "gpt-4o-mini", ChargeStatus::Interrupted, 200 * 24 * 60),
        ] {
            calls.push(site.call(key, model, status, minutes_ago));
        }
        let micros = calls[0].settled_micros;
        let ids: Vec<i64> = site.store(calls).into_iter().rev().collect();
        let day =
            |days_ago: i64| keyhouse::domain::expiry::rfc3339(now_ms() - days_ago * DAY_MS)[..10].to_owned();
        let long = format!("range=between&from={}&to={}", day(201), day(0));
        let old = format!("range=between&from={}&to={}", day(81), day(79));
        // (query, which calls by how new they are, credits, failed)
        let cases: Vec<(String, Vec<usize>, i64, i64)> = vec![
            ("range=24h".into(), vec![0, 1, 2], 2, 1),
            ("range=7d".into(), vec![0, 1, 2, 3], 3, 2),
            ("".into(), vec![0, 1, 2, 3, 4], 4, 2),
            ("range=90d&by=key".into(), vec![0, 1, 2, 3, 4, 5], 5, 2),
            (long.clone(), (0..7).collect(), 6, 3),
            (old, vec![5], 1, 0),
            (format!("{long}&key={one}&by=key"), vec![0, 1, 2], 2, 1),
            (format!("{long}&key={other}"), vec![3, 4, 5, 6], 4, 2),
            (format!("{long}&model=gpt-4o-mini"), vec![2, 5, 6], 3, 1),
            (format!("{long}&status=failed"), vec![1], 0, 1),
            (format!("{long}&status=complete&model=gpt-4o&key={one}"), vec![0], 1, 0),
            (format!("{long}&key=999999"), vec![], 0, 0),
            (format!("{long}&model=nothing"), vec![], 0, 0),
            (format!("{long}&status=open"), vec![], 0, 0),
        ];
        for (portion, (query, which, credits, failed)) in
            PORTIONS.iter().flat_map(|portion| cases.iter().map(move |case| (portion, case)))
        {
            // Before the first of each round.
            if query == "range=24h" && *portion > 0 {
                site.sum_up(*portion);
            }
            let page = ok(site.ada.get(&format!("/usage?{query}")));
            let expected: Vec<i64> = which.iter().map(|index| ids[*index]).collect();
            assert_eq!(listed(&page), expected, "{engine:?} {query} {portion}");
            let export = ok(site.ada.get(&format!("/usage/export.csv?{query}")));
            let exported: Vec<i64> = export
                .lines()
                .skip(1)
                .map(|line| line.split(',').next().expect("a field").parse().expect("an id"))
                .collect();
            assert_eq!(exported, expected, "{engine:?} {query}");
            if !which.is_empty() {
                let columns = page.split("id=\"credits-table\"").nth(1).expect("it").split("</thead>").next();
                let total = columns.expect("heads").matches("<th scope=\"col\" class").count();
                assert_eq!(column(&page, "credits-table", total), credits * micros, "{engine:?} {query}");
                assert_eq!(column(&page, "counts-table", 2), *failed, "{engine:?} {query}");
                let count = i64::try_from(which.len()).expect("few");
                assert_eq!(column(&page, "counts-table", 1), count - failed, "{engine:?} {query}");
            }
        }
    }
}

#[test]
fn pages_follow_each_other_without_a_gap_and_back_again() {
    for engine in engines() {
        let site = Site::new(engine);
        let calls = (0..130).map(|n| {
            let status = if n % 13 == 0 { ChargeStatus::Cut } else { ChargeStatus::Complete };
            // Several at the same moment.
            PastCall {
                created_at_ms: now_ms() / 60_000 * 60_000 - n / 5 * 700_000,
                ..site.call(0, "gpt-4o", status, 0)
            }
        });
        let ids: Vec<i64> = site.store(calls.collect()).into_iter().rev().collect();
        for (round, portion) in [0, 40, 40, 10_000].into_iter().enumerate() {
            if round > 0 {
                site.sum_up(portion);
            }
            let mut seen = Vec::new();
            let mut url = Some("/usage?range=7d".to_owned());
            let mut last = String::new();
            while let Some(current) = url {
                let page = ok(site.ada.get(&current));
                seen.extend(listed(&page));
                url = link(&page, "next-page");
                last = page;
            }
            assert_eq!(seen, ids, "{engine:?} {round}");
            let mut back = listed(&last);
            while let Some(current) = link(&last, "previous-page") {
                last = ok(site.ada.htmx_get(&current));
                back.splice(0..0, listed(&last));
            }
            assert_eq!(back, ids, "{engine:?} {round}");
            assert_eq!(listed(&ok(site.ada.get("/usage?range=7d&status=cut"))).len(), 10);
        }
        // Newer than the newest: the first page instead.
        let beyond = format!("/usage?range=7d&before=9000000000000-{}", i64::MAX);
        assert_eq!(listed(&ok(site.ada.get(&beyond))), ids[..50]);
    }
}

#[test]
fn a_charge_says_why_it_cost_that() {
    for engine in engines() {
        let site = Site::new(engine);
        let call = |status, minutes_ago| site.call(0, "gpt-4o", status, minutes_ago);
        let cut_short =
            PastCall { held_micros: 1_000, settled_micros: 1_000, ..call(ChargeStatus::Complete, 3) };
        let doubled = PastCall {
            multiplier_micros: 2_000_000,
            held_micros: 10_000,
            settled_micros: 6_000,
            ..call(ChargeStatus::HungUp, 4)
        };
        let ids = site.store(vec![
            doubled,
            cut_short,
            call(ChargeStatus::Failed, 2),
            call(ChargeStatus::Complete, 1),
        ]);
        let text = |id: i64| ok(site.ada.htmx_get(&format!("/usage/{id}")));
        // 1 000 × 2.5 + 50 × 10 millionths = 0.003; cached input costs as other input.
        let complete = text(ids[3]);
        for part in [
            "0.0015",
            "0.001",
            "0.0005",
            "2.5 per million",
            "10 per million",
            "price version 1",
            "1.5 s",
            "200 ms",
        ] {
            assert!(complete.contains(part), "{part} in {complete}");
        }
        assert!(complete.contains("Charged</th><td class=\"text-end number\">0.003<"), "{complete}");
        assert!(text(ids[0]).contains("group, 2</th><td class=\"text-end number\">0.006<"));
        let cut = text(ids[1]);
        assert!(
            cut.contains("Cut to what was held")
                && cut.contains("Charged</th><td class=\"text-end number\">0.001<")
        );
        assert!(text(ids[2]).contains("given back"));
        // As a page of its own it leads back to the list, and nowhere else.
        let list = "/usage?range=7d&model=gpt-4o";
        let link = link(&ok(site.ada.get(list)), &format!("charge-{}", ids[0])).expect("a link");
        assert_eq!(link, format!("/usage/{}?range=7d&model=gpt-4o", ids[0]));
        let page = ok(site.ada.get(&link));
        assert!(page.contains("<!doctype html>"));
        let back = "href=\"/usage?range=7d&#38;model=gpt-4o\" data-close-dialog";
        assert_eq!(page.matches(back).count(), 2, "{page}");
        let strange = ok(site.ada.get(&format!("/usage/{}?range=//evil.example&next=/sign-out", ids[0])));
        assert!(strange.contains("href=\"/usage\" data-close-dialog"), "{strange}");
    }
}

#[test]
fn an_open_call_is_listed_as_held() {
    use keyhouse::store::Connection;
    for engine in engines() {
        let site = Site::new(engine);
        let ids = site.store(vec![site.call(0, "gpt-4o", ChargeStatus::Complete, 5)]);
        site.house.with(|c| {
            use diesel::connection::SimpleConnection;
            let open = "UPDATE charges SET state = 'held', outcome = NULL, resolved_at_ms = NULL, settled_micros = 0";
            match c {
                Connection::Sqlite(c) => c.batch_execute(open)?,
                Connection::Postgres(c) => c.batch_execute(open)?,
            }
            Ok(())
        });
        for query in ["", "?status=open", "?range=24h&status=open&model=gpt-4o"] {
            let page = ok(site.ada.get(&format!("/usage{query}")));
            assert_eq!(listed(&page), ids, "{query}");
            assert!(page.contains("0.006 held"), "{query}");
        }
        assert!(listed(&ok(site.ada.get("/usage?status=complete"))).is_empty());
        assert!(ok(site.ada.get(&format!("/usage/{}", ids[0]))).contains("they are held"));
    }
}

#[test]
fn somebody_elses_usage_does_not_exist_unless_one_is_an_admin() {
    for engine in engines() {
        let site = Site::new(engine);
        let ids = site.store(vec![site.call(0, "gpt-4o", ChargeStatus::Complete, 5)]);
        let bob = site.house.user("bob");
        assert_eq!(bob.get(&format!("/usage/{}", ids[0])).status, StatusCode::NOT_FOUND);
        for query in [format!("user={}", site.ada_id), format!("key={}", site.keys[0]), "model=gpt-4o".into()]
        {
            assert!(listed(&ok(bob.get(&format!("/usage?{query}")))).is_empty(), "{query}");
            assert_eq!(ok(bob.get(&format!("/usage/export.csv?{query}"))).lines().count(), 1, "{query}");
        }
        for id in ["0", "-1", "9223372036854775808", "x", "1e3"] {
            assert_eq!(site.ada.get(&format!("/usage/{id}")).status, StatusCode::NOT_FOUND, "{id}");
        }
        site.house.add_user("root", true);
        let root = site.house.anon();
        root.sign_in("root", super::support::PASSWORD);
        let page = ok(root.get(&format!("/usage?user={}", site.ada_id)));
        assert!(page.contains("Usage of ada"));
        assert_eq!(listed(&page), ids);
        assert!(listed(&ok(root.get("/usage"))).is_empty(), "an admin's own");
        assert!(ok(root.get(&format!("/usage/{}", ids[0]))).contains("Why this cost"));
        assert_eq!(root.get("/usage?user=999999").status, StatusCode::NOT_FOUND);
        let overview = ok(root.get("/overview"));
        assert!(overview.contains(&format!("/usage?user={}&#38;range=24h", site.ada_id)), "{overview}");
        assert_eq!(column(&overview, "credits-table", 2), 3_000);
        assert!(overview.contains("Nothing stands out"));
    }
}

#[test]
fn the_usage_of_a_deleted_user_stays_for_admins() {
    for engine in engines() {
        let site = Site::new(engine);
        let ids = site.store(vec![site.call(0, "gpt-4o", ChargeStatus::Complete, 5)]);
        site.house.add_user("root", true);
        let root = site.house.anon();
        root.sign_in("root", super::support::PASSWORD);
        let path = format!("/users/{}/delete", site.ada_id);
        assert_eq!(root.post(&path, &[]).status, StatusCode::SEE_OTHER);
        let overview = ok(root.get("/overview"));
        let query = format!("user={}&range=24h", site.ada_id);
        let link = format!("/usage?{}", query.replace('&', "&#38;"));
        assert!(overview.contains(&link) && overview.contains("ada (deleted)"), "{overview}");
        let page = ok(root.get(&format!("/usage?{query}")));
        assert!(page.contains("Usage of ada (deleted)"), "{page}");
        assert_eq!(listed(&page), ids);
        assert_eq!(ok(root.get(&format!("/usage/export.csv?{query}"))).lines().count(), 2);
        let bob = site.house.user("bob");
        assert!(listed(&ok(bob.get(&format!("/usage?{query}")))).is_empty());
    }
}

#[test]
fn the_overview_names_what_is_unhealthy() {
    for engine in engines() {
        let site = Site::new(engine);
        let seed = Seed { store: site.house.store.clone(), vault: site.house.vault.clone() };
        site.store((0..20).map(|n| site.call(0, "gpt-4o", ChargeStatus::Complete, n)).collect());
        let (wobbly, well, out) = (seed.echo("wobbly", 0), seed.echo("well", 0), seed.echo("out", 0));
        let hour_ms = hour_of(now_ms());
        let bad = Tally { answered: 13, timed_out: 4, unreachable: 3, ..Tally::default() };
        for (upstream_id, hour_ms, tally) in [
            (wobbly, hour_ms, bad),
            (well, hour_ms, Tally { answered: 100, timed_out: 19, ..Tally::default() }),
            // Yesterday's news, and no news of what nobody calls.
            (well, hour_ms - 24 * HOUR_MS, Tally { timed_out: 100, ..Tally::default() }),
            (out, hour_ms, bad),
        ] {
            site.house.with(|c| upstream_hours::add(c, &UpstreamHour { hour_ms, upstream_id, tally }));
        }
        site.house.with(|c| upstreams::set_enabled(c, out, false, &Actor::cli(), now_ms()));
        site.house.with(|c| {
            let used = KeyDraft { name: "spent", credit_limit: Some("0.001"), ..KeyDraft::default() };
            let (key, _) = keys::find(c, site.ada_id, site.keys[0])?;
            let edit = keys::KeyEdit {
                settings: &used.parse(now_ms(), None)?,
                enabled: true,
                revision: key.revision,
            };
            keys::update(c, site.ada_id, site.keys[0], &edit, &Actor::cli(), now_ms())
        });
        site.house.add_user("root", true);
        let root = site.house.anon();
        root.sign_in("root", super::support::PASSWORD);
        for range in ["24h", "7d", "30d", "90d", "nonsense"] {
            let page = ok(root.get(&format!("/overview?range={range}")));
            assert!(page.contains("Upstream wobbly fails"), "{range}");
            assert!(page.contains("7 of 20 calls to it failed in the last day: 3 unreachable, 4 timed out."));
            assert_eq!(page.matches(" fails</strong>").count(), 1, "{page}");
            assert!(page.contains("Keys that have reached their limit: 1") && page.contains("spent of ada"));
        }
    }
}

#[test]
fn a_deleted_key_keeps_its_history() {
    for engine in engines() {
        let site = Site::new(engine);
        let ids = site.store(vec![site.call(0, "gpt-4o", ChargeStatus::Complete, 5)]);
        assert!(ok(site.ada.get("/keys")).contains(&format!("href=\"/usage?key={}\"", site.keys[0])));
        site.house.with(|c| keys::delete(c, site.ada_id, site.keys[0], &Actor::cli(), now_ms()));
        let page = ok(site.ada.get(&format!("/usage?by=key&key={}", site.keys[0])));
        assert_eq!(listed(&page), ids);
        assert!(page.contains("key 0 (deleted)"));
        site.sum_up(1_000);
        assert_eq!(ok(site.ada.get(&format!("/usage?by=key&key={}", site.keys[0]))), page);
    }
}

#[test]
fn an_export_of_any_length_is_whole_and_has_no_formulas() {
    for engine in engines() {
        let site = Site::new(engine);
        let first = site.call(0, "gpt-4o", ChargeStatus::Complete, 0);
        let calls = (0..2_345).map(|n| PastCall {
            key_name: "=HYPERLINK(\"evil\",\"x\")".into(),
            settled_micros: 1,
            created_at_ms: first.created_at_ms - n * 1_000,
            ..first.clone()
        });
        let ids: Vec<i64> = site.store(calls.collect()).into_iter().rev().collect();
        // The older ones are in the lists, the others not.
        site.sum_up(1_500);
        let answer = site.ada.get("/usage/export.csv?range=7d");
        assert_eq!(answer.header("content-type"), "text/csv; charset=utf-8");
        assert!(answer.header("content-disposition").starts_with("attachment; filename=\"keyhouse-usage-"));
        let lines: Vec<&str> = answer.body.lines().collect();
        assert!(lines[0].starts_with("request_id,created_at,resolved_at,key_id,key,model,status,"));
        let exported: Vec<i64> = lines[1..]
            .iter()
            .map(|line| line.split(',').next().expect("one").parse().expect("an id"))
            .collect();
        assert_eq!(exported, ids);
        assert!(
            lines[1].contains(",\"'=HYPERLINK(\"\"evil\"\",\"\"x\"\")\",gpt-4o,complete,200,1000,400,"),
            "{}",
            lines[1]
        );
        assert!(lines[1].contains(",0.000001,"));
    }
}

#[test]
fn nonsense_in_the_url_is_some_page() {
    for engine in engines() {
        let site = Site::new(engine);
        site.store(vec![site.call(0, "gpt-4o", ChargeStatus::Complete, 5)]);
        for query in [
            "range=1000d",
            "range=between&from=x&to=y",
            "range=between&from=0000-01-01&to=9999-12-31",
            "key=-1",
            "key=9223372036854775808",
            "model=%00%ff",
            "status=held",
            "after=1-",
            "after=-1--1",
            "before=x",
            "after=9223372036854775807-9223372036854775807",
            "before=9223372036854775807-1",
            "by=%3Cb%3E",
            "user=0",
        ] {
            ok(site.ada.get(&format!("/usage?{query}")));
            ok(site.ada.get(&format!("/usage/export.csv?{query}")));
        }
        let part = site.ada.htmx_get("/usage?range=7d&from=2026-01-01");
        assert_eq!(part.header("hx-push-url"), "/usage?range=7d");
        assert!(!part.body.contains("<!doctype"));
    }
}

#[test]
fn charts_are_drawn_and_filters_change_them_in_place() {
    for engine in engines() {
        let site = Site::new(engine);
        let calls =
            (0..60).map(|n| site.call(usize::from(n % 2 == 0), "gpt-4o", ChargeStatus::Complete, n * 600));
        site.store(calls.collect());
        browse(&site.house, DESKTOP, async |browser| {
            browser.sign_in("ada").await;
            browser.open("/usage?by=key").await;
            browser.script("window.untouched = true").await;
            for chart in ["stack", "requests", "tokens"] {
                browser.find(&format!("canvas[data-chart={chart}]")).await;
            }
            let drawn = "return [...document.querySelectorAll('canvas[data-chart]')].every((canvas) => canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.some((byte) => byte > 0))";
            browser.becomes(drawn, json!(true)).await;
            // A filter redraws charts and list; the address says so, and the focus stays.
            let choose = "const menu = document.getElementById('usage-range'); menu.focus(); menu.value = '24h'; menu.dispatchEvent(new Event('change', { bubbles: true }))";
            browser.script(choose).await;
            browser.reads("#credits-title", "Credits per hour, by key").await;
            browser.becomes(drawn, json!(true)).await;
            assert_eq!(browser.path().await, "/usage?range=24h&by=key");
            browser.focus_is_on("usage-range").await;
            // The days appear when they are asked for.
            browser.gone("#usage-from").await;
            browser.script(&choose.replace("24h", "between")).await;
            browser.find("#usage-from").await;
            // Older ones, and one of them opened and closed.
            browser.open("/usage").await;
            browser.script("window.untouched = true").await;
            browser.click("#next-page").await;
            browser.find("#previous-page").await;
            browser.click("#usage-list tbody tr a").await;
            browser.reads("#dialog", "Why this cost").await;
            browser.click("#dialog .dialog-footer [data-close-dialog]").await;
            browser.gone("#dialog").await;
            assert_eq!(browser.script("return window.untouched").await, json!(true), "no page was loaded");
            for width in [360, 800, 2560] {
                browser.set_size(width, 900).await;
                browser.open("/usage").await;
                browser.assert_no_sideways_scroll(&format!("{width}")).await;
            }
        });
    }
}
