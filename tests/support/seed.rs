//! Users, models, upstreams and keys, made through the store as the command line makes them.
#![allow(dead_code, reason = "each test crate uses its own part")]

use keyhouse::clock::now_ms;
use keyhouse::domain::credits::Credits;
use keyhouse::domain::group;
use keyhouse::domain::key::KeyDraft;
use keyhouse::domain::models::ModelName;
use keyhouse::domain::price::{Multiplier, Price};
use keyhouse::domain::secret::KeySecret;
use keyhouse::domain::upstream::Dialect;
use keyhouse::domain::user::UserName;
use keyhouse::error::Error;
use keyhouse::store::audit::Actor;
use keyhouse::store::{Connection, Store, grants, groups, keys, models, upstreams, users};
use keyhouse::vault::Vault;

/// Makes what a house needs.
#[derive(Clone)]
pub struct Seed {
    pub store: Store,
    pub vault: Vault,
}

/// A key and how to use it.
#[derive(Debug, Clone)]
pub struct SeededKey {
    pub id: i64,
    pub user_id: i64,
    pub secret: String,
}

impl Seed {
    fn with<T>(&self, work: impl FnOnce(&mut Connection) -> Result<T, Error>) -> T {
        self.store.with(work).expect("the database does it")
    }

    /// A user with this many credits.
    pub fn user(&self, name: &str, credits: &str) -> i64 {
        let new = users::NewUser {
            name: UserName::parse(name).expect("a name"),
            password_hash: None,
            is_admin: false,
        };
        let credits = Credits::parse(credits).expect("credits");
        self.with(|c| {
            let id = users::create(c, &new, &Actor::cli(), now_ms())?;
            if credits != Credits::ZERO {
                grants::grant(c, id, credits, "", &Actor::cli(), now_ms())?;
            }
            Ok(id)
        })
    }

    /// More credits for a user.
    pub fn grant(&self, user_id: i64, credits: &str) {
        let credits = Credits::parse(credits).expect("credits");
        self.with(|c| grants::grant(c, user_id, credits, "", &Actor::cli(), now_ms()));
    }

    /// A key of the default group.
    pub fn key(&self, user_id: i64, draft: &KeyDraft<'_>) -> SeededKey {
        self.key_in_group(user_id, group::DEFAULT, draft)
    }

    pub fn key_in_group(&self, user_id: i64, group: &str, draft: &KeyDraft<'_>) -> SeededKey {
        let draft = KeyDraft { name: "test", ..*draft };
        // Parsed as of long ago, so that a key can be made that has expired by now.
        let settings = draft.parse(0, None).expect("valid settings");
        let secret = KeySecret::generate();
        let ciphertext = self.vault.seal_key(user_id, &secret).expect("sealed");
        let id = self.with(|c| {
            let group_id = groups::find_by_name(c, group)?.id;
            let new = keys::NewKey {
                user_id,
                group_id,
                settings: &settings,
                secret: &secret,
                ciphertext: &ciphertext,
            };
            keys::create(c, &new, &Actor::cli(), now_ms())
        });
        SeededKey { id, user_id, secret: secret.expose().to_owned() }
    }

    pub fn group(&self, name: &str, multiplier: &str) {
        let multiplier = Multiplier::parse(multiplier).expect("a multiplier");
        self.with(|c| groups::create(c, name, multiplier, &Actor::cli(), now_ms()));
    }

    /// The built-in upstream.
    pub fn echo(&self, name: &str, pace_ms: i64) -> i64 {
        self.upstream(
            &upstreams::NewUpstream {
                name,
                dialect: Dialect::Echo,
                base_url: "",
                pace_ms,
                allow_private: false,
            },
            None,
        )
    }

    /// An OpenAI-compatible upstream with a secret.
    pub fn openai(&self, name: &str, base_url: &str, secret: &str) -> i64 {
        // The fake upstreams are on this machine.
        let dialect = Dialect::OpenAi;
        let new = upstreams::NewUpstream { name, dialect, base_url, pace_ms: 0, allow_private: true };
        self.upstream(&new, Some(secret))
    }

    /// As [`Seed::openai`], and not allowed to be on this machine.
    pub fn public_openai(&self, name: &str, base_url: &str) -> i64 {
        let dialect = Dialect::OpenAi;
        let new = upstreams::NewUpstream { name, dialect, base_url, pace_ms: 0, allow_private: false };
        self.upstream(&new, Some("sk-public-secret"))
    }

    /// An upstream of Anthropic's dialect with a secret.
    pub fn anthropic(&self, name: &str, base_url: &str, secret: &str) -> i64 {
        let dialect = Dialect::Anthropic;
        let new = upstreams::NewUpstream { name, dialect, base_url, pace_ms: 0, allow_private: true };
        self.upstream(&new, Some(secret))
    }

    fn upstream(&self, new: &upstreams::NewUpstream<'_>, secret: Option<&str>) -> i64 {
        let seal = |id| secret.map(|secret| self.vault.seal_upstream(id, secret)).transpose();
        self.with(|c| upstreams::create(c, new, seal, &Actor::cli(), now_ms()))
    }

    /// A model served by these upstreams, in order of priority, each calling it `theirs`.
    pub fn model(&self, name: &str, price: Price, max_output_tokens: i64, upstreams: &[i64]) -> i64 {
        let routes: Vec<(i64, String)> = upstreams.iter().map(|id| (*id, "theirs".to_owned())).collect();
        let new = models::NewModel {
            name: &ModelName::parse(name).expect("a model name"),
            max_output_tokens,
            price,
            routes: &routes,
        };
        self.with(|c| models::create(c, &new, &Actor::cli(), now_ms()))
    }
}
