//! The data set of `keyhouse demo`: two logins, groups, models on the built-in upstream, and keys of every status.
//! Made through the same parsers, store and ledger as real ones, so the books of a demo are true.

use super::failure::Failure;
use crate::app::House;
use crate::clock;
use crate::domain::credits::Credits;
use crate::domain::expiry::{DAY_MS, rfc3339};
use crate::domain::key::KeyDraft;
use crate::domain::models::ModelName;
use crate::domain::price::{Multiplier, Price};
use crate::domain::secret::KeySecret;
use crate::domain::upstream::Dialect;
use crate::domain::usage::{Usage, UsageSource};
use crate::domain::user::{NewPassword, UserName};
use crate::error::Error;
use crate::ledger::{Amount, HoldRequest, Outcome, Resolution};
use crate::password;
use crate::store::audit::Actor;
use crate::store::keys::{self, NewKey};
use crate::store::models::{self, NewModel};
use crate::store::upstreams::{self, NewUpstream};
use crate::store::users::{self, NewUser};
use crate::store::{Connection, Store, grants, groups};
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
    /// Keys that have been used: which, for how many micro-credits, on which model.
    spent: Vec<(KeySecret, i64, &'static str)>,
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
    spent: Option<(i64, &'static str)>,
}

/// Oldest first, as they would have been made.
const KEYS: [SampleKey; 7] = [
    SampleKey { name: "hackathon", expires_in_days: Some(-12), made_days_ago: 40, ..NO_KEY },
    SampleKey {
        name: "old prototype",
        disabled: true,
        made_days_ago: 31,
        spent: Some((412_500, MODEL)),
        ..NO_KEY
    },
    SampleKey {
        name: "intern's trial",
        credit_limit: Some("0.5"),
        made_days_ago: 16,
        spent: Some((500_000, MODEL)),
        ..NO_KEY
    },
    SampleKey {
        name: "office only",
        group: Some("premium"),
        ip_allowlist: "203.0.113.0/24\n2001:db8:7::/48",
        made_days_ago: 9,
        ..NO_KEY
    },
    SampleKey {
        name: "nightly reports",
        group: Some("batch"),
        credit_limit: Some("20"),
        models: "echo-small",
        made_days_ago: 6,
        spent: Some((13_400_000, SMALL_MODEL)),
        ..NO_KEY
    },
    SampleKey {
        name: "laptop",
        expires_in_days: Some(3),
        credit_limit: Some("5"),
        models: "echo-*",
        made_days_ago: 2,
        spent: Some((1_250_000, MODEL)),
        ..NO_KEY
    },
    SampleKey { name: "website chatbot", spent: Some((8_125_000, MODEL)), ..NO_KEY },
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
    spent: None,
};

/// Fills an empty database.
pub(super) fn furnish(store: &Store, vault: &Vault) -> Result<Sample, Failure> {
    let (admin, user) = (login("admin"), login("ada"));
    // Hashed before a connection is taken.
    let (new_admin, new_user) = (new_user(&admin, true)?, new_user(&user, false)?);
    let made = store.with(|connection| {
        let now_ms = clock::now_ms();
        let actor = Actor::cli();
        let admin_id = users::create(connection, &new_admin, &actor, now_ms)?;
        let user_id = users::create(connection, &new_user, &actor, now_ms - 60 * DAY_MS)?;
        for (user_id, credits) in [(admin_id, "100"), (user_id, "250")] {
            grants::grant(connection, user_id, amount(credits)?, "demo", &actor, now_ms)?;
        }
        groups::create(connection, "premium", multiplier("1.5")?, &actor, now_ms)?;
        groups::create(connection, "batch", multiplier("0.5")?, &actor, now_ms)?;
        make_models(connection, &actor, now_ms)?;
        let keys = KEYS.iter().map(|sample| make_key(connection, vault, user_id, sample, now_ms));
        keys.collect::<Result<Vec<_>, _>>()
    })?;
    let spent = KEYS
        .iter()
        .zip(&made)
        .filter_map(|(sample, secret)| sample.spent.map(|(micros, model)| (secret.clone(), micros, model)));
    let secret = made.last().cloned().ok_or(Error::NotFound)?;
    Ok(Sample { spent: spent.collect(), admin, user, secret })
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
) -> Result<KeySecret, Error> {
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
    let group = groups::find_by_name(connection, sample.group.unwrap_or(groups::DEFAULT))?;
    let secret = KeySecret::generate();
    let ciphertext = vault.seal_key(user_id, &secret)?;
    let new =
        NewKey { user_id, group_id: group.id, settings: &settings, secret: &secret, ciphertext: &ciphertext };
    let actor = Actor::cli();
    let id = keys::create(connection, &new, &actor, made_at_ms)?;
    if sample.disabled {
        keys::set_enabled(connection, user_id, id, false, &actor, now_ms)?;
    }
    Ok(secret)
}

/// Makes the past calls of the sample: held and settled like any other.
pub(super) fn spend(house: &House, sample: &Sample) -> Result<(), Failure> {
    let runtime = actix_web::rt::Runtime::new()
        .map_err(|error| Failure::Failed(format!("No event loop can be started: {error}.")))?;
    for (secret, micros, model) in &sample.spent {
        runtime.block_on(spend_one(house, secret, *micros, model))?;
    }
    Ok(())
}

async fn spend_one(house: &House, secret: &KeySecret, micros: i64, model: &str) -> Result<(), Error> {
    let snapshot = house.store.with(|connection| keys::find_by_digest(connection, &secret.digest()))?;
    let snapshot = snapshot.ok_or(Error::NotFound)?;
    let offer = house.store.with(|connection| models::find_offer(connection, model))?;
    let charge_id = house.ledger.next_charge_id();
    let request = HoldRequest {
        charge_id,
        key_id: snapshot.key.id,
        key_revision: snapshot.key.revision,
        user_id: snapshot.owner.id,
        user_revision: snapshot.owner.revision,
        group_id: snapshot.group.id,
        group_revision: snapshot.group.revision,
        model_id: offer.model.id,
        model_revision: offer.model.revision,
        held_micros: micros,
        input_held_micros: 0,
        price_id: offer.price.id,
        multiplier_micros: snapshot.group.multiplier_micros,
        key_name: snapshot.key.name,
        model: offer.model.name,
    };
    let refused = |error| Error::Internal(format!("a sample call was not held: {error:?}"));
    let hold = house.ledger.hold(request).await.map_err(refused)?;
    let output_tokens = micros.saturating_mul(1_000_000) / offer.price.output_micros.max(1);
    hold.resolve(Resolution {
        charge_id,
        amount: Amount::Settle(micros),
        outcome: Outcome::Complete,
        usage: Some((Usage { output_tokens, ..Usage::NONE }, UsageSource::Upstream)),
        upstream_id: offer.routes.first().map(|route| route.upstream.id),
        status: Some(200),
        first_byte_ms: Some(PACE_MS),
    })
    .await?;
    Ok(())
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
