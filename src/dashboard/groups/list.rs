//! The list of groups. There are few, so all are on one page.

use crate::clock::now_ms;
use crate::dashboard::error::PageError;
use crate::dashboard::moment::Moment;
use crate::dashboard::page::{self, Shell};
use crate::dashboard::session::Admin;
use crate::domain::group::DEFAULT;
use crate::error::Error;
use crate::store::groups::{self, Group};
use crate::store::{Connection, Store, group_users};
use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use askama::Template;
use askama::filters::HtmlSafe;
use std::collections::HashMap;

/// A group as the list shows it.
pub struct Row {
    /// Group.
    pub id: i64,
    /// Unique.
    pub name: String,
    /// Price factor.
    pub multiplier: String,
    /// Nobody may choose it.
    pub hidden: bool,
    /// How many may choose it; `None`: everybody.
    pub users: Option<i64>,
    /// How many keys have it.
    pub keys: i64,
    /// The one that stays.
    pub is_default: bool,
    /// When made; `None`: it came with the house.
    pub created: Option<Moment>,
}

impl Row {
    /// What the list shows of a group.
    pub fn of(group: &Group, keys: &HashMap<i64, i64>, users: &HashMap<i64, i64>) -> Self {
        let count = |counts: &HashMap<i64, i64>| counts.get(&group.id).copied().unwrap_or(0);
        Self {
            id: group.id,
            name: group.name.clone(),
            multiplier: group.multiplier().to_string(),
            hidden: group.hidden,
            users: group.restricted.then(|| count(users)),
            keys: count(keys),
            is_default: group.name == DEFAULT,
            created: (group.created_at_ms > 0).then(|| Moment::of(group.created_at_ms, now_ms())),
        }
    }
}

/// The rows; replaced as one.
#[derive(Template)]
#[template(path = "groups/list.html")]
pub struct List {
    rows: Vec<Row>,
    out_of_band: bool,
}

impl HtmlSafe for List {}

impl List {
    /// As it is now.
    ///
    /// # Errors
    /// The engine's.
    pub fn load(connection: &mut Connection, out_of_band: bool) -> Result<Self, Error> {
        let (keys, users) = (groups::key_counts(connection)?, group_users::counts(connection)?);
        let groups = groups::list(connection)?;
        Ok(Self { rows: groups.iter().map(|group| Row::of(group, &keys, &users)).collect(), out_of_band })
    }
}

/// The whole page.
#[derive(Template)]
#[template(path = "groups/index.html")]
struct Index {
    shell: Shell,
    list: List,
}

/// `GET /groups`
///
/// # Errors
/// The engine's.
pub async fn index(Admin(signed_in): Admin, store: web::Data<Store>) -> Result<HttpResponse, PageError> {
    let list = store.run(|connection| List::load(connection, false)).await?;
    Ok(page::render(StatusCode::OK, &Index { shell: Shell::new(&signed_in, "groups"), list }))
}
