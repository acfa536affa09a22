//! The data set of `keyhouse demo`: two logins, groups, models on the built-in upstream, and keys of every status.
//! Made through the same parsers, prices and store as real ones, so the books of a demo are true.

use super::failure::Failure;
use super::sample_calls::{self, Habit};
use crate::clock;
use crate::domain::credits::Credits;
use crate::domain::expiry::{DAY_MS, rfc3339};
use crate::domain::group;
use crate::domain::key::KeyDraft;
use crate::domain::models::ModelName;
use crate::domain::price::{Multiplier, Price};
use crate::domain::secret::KeySecret;
use crate::domain::upstream::Dialect;
use crate::domain::user::{NewPassword, UserName};
use crate::error::Error;
use crate::password;
use crate::store::audit::Actor;
use crate::store::keys::{self, NewKey};
use crate::store::models::{self, NewModel};
use crate::store::upstreams::{self, NewUpstream};
use crate::store::users::{self, NewUser};
use crate::store::{Connection, Store, grants, groups, past};
use crate::vault::Vault;
use serde::Serialize;

/// The model of the sample call.
pub(super) const MODEL: &str = "echo-large";
const SMALL_MODEL: &str = "echo-small";
/// Slow enough to see an answer stream.
const PACE_MS: i64 = 40;
const PASSWORD_WORDS: usize = 5;

/// Passwords are made anew for each demo: one may well listen on every interface.
const WORDS: [&str; 64] = [
    "amber", "anchor", "apron", "basil", "beacon", "birch", "bramble", "bronze", "candle", "canyon", "cedar",
    "cinder", "clover", "cobalt", "copper", "coral", "cotton", "dune", "ember", "falcon", "fennel", "fjord",
    "flint", "garnet", "ginger", "glacier", "harbor", "hazel", "indigo", "island", "ivory", "jasper",
    "juniper", "kettle", "lagoon", "lantern", "linen", "maple", "marble", "meadow", "nectar", "nutmeg",
    "olive", "onyx", "orchid", "otter", "pebble", "pepper", "plum", "quartz", "raven", "ribbon", "saffron",
    "sparrow", "tansy", "thistle", "timber", "topaz", "tulip", "velvet", "walnut", "willow", "yarrow",
    "zephyr",
];

/// A name and its password.
#[derive(Serialize)]
pub(super) struct Login {
    pub name: String,
    pub password: String,
}

/// What was made.
pub(super) struct Sample {
    pub admin: Login,
    pub user: Login,
    /// Of the key for the sample call.
    pub secret: KeySecret,
}

/// A key of the sample.
struct SampleKey {
    name: &'static str,
    group: Option<&'static str>,
    expires_in_days: Option<i64>,
    credit_limit: Option<&'static str>,
    models: &'static str,
    ip_allowlist: &'static str,
    disabled: bool,
    made_days_ago: i64,
    habit: Option<Habit>,
}

/// Oldest first, as they would have been made.
const KEYS: [SampleKey; 7] = [
    SampleKey { name: "hackathon", expires_in_days: Some(-12), made_days_ago: 50, ..NO_KEY },
    SampleKey {
        name: "old prototype",
        disabled: true,
        made_days_ago: 45,
        habit: Some(Habit { days: (9, 20), spent_micros: 1_412_500, ..OFFICE_HOURS }),
        ..NO_KEY
    },
    SampleKey {
        name: "intern's trial",
        credit_limit: Some("0.5"),
        made_days_ago: 40,
        habit: Some(Habit { days: (5, 12), spent_micros: 500_000, ..OFFICE_HOURS }),
        ..NO_KEY
    },
    SampleKey {
        name: "office only",
        group: Some("premium"),
        ip_allowlist: "203.0.113.0/24\n2001:db8:7::/48",
        made_days_ago: 38,
        ..NO_KEY
    },
    SampleKey {
        name: "nightly reports",
        group: Some("batch"),
        credit_limit: Some("20"),
        models: "echo-small",
        made_days_ago: 36,
        habit: Some(Habit {
            days: (30, 0),
            hours: (1, 4),
            is_work: false,
            input_tokens: 190_000,
            output_tokens: 3_000,
            spent_micros: 4_400_000,
        }),
        ..NO_KEY
    },
    SampleKey {
        name: "laptop",
        expires_in_days: Some(3),
        credit_limit: Some("5"),
        models: "echo-*",
        made_days_ago: 33,
        habit: Some(Habit { days: (26, 0), spent_micros: 1_250_000, ..OFFICE_HOURS }),
        ..NO_KEY
    },
    SampleKey {
        name: "website chatbot",
        made_days_ago: 31,
        habit: Some(Habit {
            days: (30, 0),
            hours: (5, 24),
            is_work: false,
            spent_micros: 8_125_000,
            ..OFFICE_HOURS
        }),
        ..NO_KEY
    },
];

const NO_KEY: SampleKey = SampleKey {
    name: "",
    group: None,
    expires_in_days: None,
    credit_limit: None,
    models: "",
    ip_allowlist: "",
    disabled: false,
    made_days_ago: 0,
    habit: None,
};

const OFFICE_HOURS: Habit = Habit {
    days: (30, 0),
    hours: (6, 18),
    is_work: true,
    input_tokens: 2_600,
    output_tokens: 420,
    spent_micros: 0,
};

/// Fills an empty database.
pub(super) fn furnish(store: &Store, vault: &Vault) -> Result<Sample, Failure> {
    let (admin, user) = (login("admin"), login("ada"));
    // Hashed before a connection is taken.
    let (new_admin, new_user) = (new_user(&admin, true)?, new_user(&user, false)?);
    let now_ms = clock::now_ms();
    let mut made = store.with(|connection| {
        let actor = Actor::cli();
        let admin_id = users::create(connection, &new_admin, &actor, now_ms - 60 * DAY_MS)?;
        let user_id = users::create(connection, &new_user, &actor, now_ms - 60 * DAY_MS)?;
        for (user_id, credits) in [(admin_id, "100"), (user_id, "250")] {
            grants::grant(connection, user_id, amount(credits)?, "demo", &actor, now_ms - 55 * DAY_MS)?;
        }
        groups::create(connection, "premium", multiplier("1.5")?, &actor, now_ms)?;
        groups::create(connection, "batch", multiplier("0.5")?, &actor, now_ms)?;
        make_models(connection, &actor, now_ms)?;
        let keys = KEYS.iter().map(|sample| make_key(connection, vault, user_id, sample, now_ms));
        keys.collect::<Result<Vec<_>, _>>()
    })?;
    store.with(|connection| Ok(spend(connection, &made, now_ms)))??;
    let (_, secret) = made.pop().ok_or(Error::NotFound)?;
    Ok(Sample { admin, user, secret })
}

fn make_models(connection: &mut Connection, actor: &Actor, now_ms: i64) -> Result<(), Error> {
    let echo = NewUpstream {
        name: "echo",
        dialect: Dialect::Echo,
        base_url: "",
        pace_ms: PACE_MS,
        allow_private: false,
    };
    let upstream_id = upstreams::create(connection, &echo, |_| Ok(None), actor, now_ms)?;
    // Credits per million tokens in, in from the cache, and out.
    for (name, input, cached, output) in [(SMALL_MODEL, "0.15", "0.075", "0.6"), (MODEL, "2.5", "1.25", "10")]
    {
        let price = Price {
            input_micros: amount(input)?.micros(),
            cached_input_micros: Some(amount(cached)?.micros()),
            output_micros: amount(output)?.micros(),
            ..Price::FREE
        };
        let new = NewModel {
            name: &ModelName::parse(name).map_err(|why| Error::invalid("name", why))?,
            max_output_tokens: 4096,
            price,
            routes: &[(upstream_id, name.to_owned())],
        };
        models::create(connection, &new, actor, now_ms)?;
    }
    Ok(())
}

fn make_key(
    connection: &mut Connection,
    vault: &Vault,
    user_id: i64,
    sample: &SampleKey,
    now_ms: i64,
) -> Result<(i64, KeySecret), Error> {
    let made_at_ms = now_ms - sample.made_days_ago * DAY_MS;
    let expires = sample.expires_in_days.map(|days| rfc3339(now_ms + days * DAY_MS)).unwrap_or_default();
    let draft = KeyDraft {
        name: sample.name,
        expires: &expires,
        credit_limit: sample.credit_limit,
        models: sample.models,
        ip_allowlist: sample.ip_allowlist,
    };
    let settings = draft.parse(made_at_ms, None)?;
    let group = groups::find_by_name(connection, sample.group.unwrap_or(group::DEFAULT))?;
    let secret = KeySecret::generate();
    let ciphertext = vault.seal_key(user_id, &secret)?;
    let new =
        NewKey { user_id, group_id: group.id, settings: &settings, secret: &secret, ciphertext: &ciphertext };
    let actor = Actor::cli();
    let id = keys::create(connection, &new, &actor, made_at_ms)?;
    if sample.disabled {
        keys::set_enabled(connection, user_id, id, false, &actor, now_ms)?;
    }
    Ok((id, secret))
}

/// Makes the past calls of the keys that have been used.
fn spend(connection: &mut Connection, made: &[(i64, KeySecret)], now_ms: i64) -> Result<(), Failure> {
    let mut users = Vec::new();
    for (sample, (_, secret)) in KEYS.iter().zip(made) {
        let Some(habit) = sample.habit else { continue };
        let snapshot = keys::find_by_digest(connection, &secret.digest())?.ok_or(Error::NotFound)?;
        let names = if sample.models.is_empty() { &[MODEL, SMALL_MODEL][..] } else { &[SMALL_MODEL][..] };
        let offers = names.iter().map(|name| models::find_offer(connection, name));
        users.push(sample_calls::User {
            user_id: snapshot.owner.id,
            key_id: snapshot.key.id,
            key_name: snapshot.key.name,
            multiplier: Multiplier::from_micros(snapshot.group.multiplier_micros),
            offers: offers.collect::<Result<_, _>>()?,
            habit,
        });
    }
    Ok(past::store(connection, &sample_calls::past(&users, now_ms)?)?)
}

fn login(name: &str) -> Login {
    let word = |_| WORDS[usize::from(rand::random::<u8>()) % WORDS.len()];
    let words: Vec<&str> = (0..PASSWORD_WORDS).map(word).collect();
    Login { name: name.to_owned(), password: words.join("-") }
}

fn new_user(login: &Login, is_admin: bool) -> Result<NewUser, Error> {
    let name = UserName::parse(&login.name).map_err(|why| Error::invalid("name", why))?;
    let password =
        NewPassword::parse(&login.password, &login.name).map_err(|why| Error::invalid("password", why))?;
    Ok(NewUser { name, password_hash: Some(password::hash(&password)?), is_admin })
}

fn amount(raw: &str) -> Result<Credits, Error> {
    Credits::parse(raw).map_err(|why| Error::invalid("amount", why))
}

fn multiplier(raw: &str) -> Result<Multiplier, Error> {
    Multiplier::parse(raw).map_err(|why| Error::invalid("multiplier", why))
}
