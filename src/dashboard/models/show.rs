//! The page of one model: what it is now, its routes, and every price it ever had.

use super::row::{badges, price_words};
use crate::clock::now_ms;
use crate::dashboard::error::PageError;
use crate::dashboard::moment::Moment;
use crate::dashboard::page::{self, Badge, Shell};
use crate::dashboard::session::Admin;
use crate::dashboard::words::grouped;
use crate::store::models::Model;
use crate::store::prices::{self, PriceVersion};
use crate::store::routes::{self, RouteName};
use crate::store::{Store, models};
use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use askama::Template;

/// Most versions that are shown.
const VERSIONS_MAX: usize = 500;

/// The whole page.
#[derive(Template)]
#[template(path = "models/show.html")]
struct Show {
    shell: Shell,
    id: i64,
    name: String,
    hidden: bool,
    badges: Vec<Badge>,
    max_output: String,
    created: Moment,
    routes: Vec<RouteName>,
    versions: Vec<Version>,
}

/// A price it has or had.
struct Version {
    number: i64,
    price: String,
    /// `0.3 from the cache, 3.75 into it`; blank: as other input.
    cache: String,
    since: Moment,
    is_current: bool,
}

impl Version {
    fn of(version: &PriceVersion, is_current: bool, now_ms: i64) -> Self {
        use crate::domain::credits::Credits;
        let words = |micros: Option<i64>, what: &str| {
            micros.map(|micros| format!("{} {what}", Credits::from_micros(micros).for_people()))
        };
        let cache = [
            words(version.cached_input_micros, "read from the cache"),
            words(version.cache_write_micros, "written to it"),
        ];
        Self {
            number: version.version,
            price: price_words(version),
            cache: cache.into_iter().flatten().collect::<Vec<_>>().join(", "),
            since: Moment::of(version.created_at_ms, now_ms),
            is_current,
        }
    }
}

/// `GET /models/{id}`
///
/// # Errors
/// Not found; the engine's.
pub async fn show(
    id: web::Path<i64>,
    Admin(signed_in): Admin,
    store: web::Data<Store>,
) -> Result<HttpResponse, PageError> {
    let id = id.into_inner();
    let (model, routes, versions): (Model, Vec<RouteName>, Vec<PriceVersion>) = store
        .run(move |connection| {
            let model = models::find(connection, id)?;
            let routes = routes::names_of(connection, &[id])?;
            Ok((model, routes, prices::versions(connection, id, VERSIONS_MAX)?))
        })
        .await?;
    let now_ms = now_ms();
    let versions =
        versions.iter().enumerate().map(|(index, version)| Version::of(version, index == 0, now_ms));
    let page = Show {
        shell: Shell::new(&signed_in, "models"),
        id,
        badges: badges(model.hidden, &routes.iter().collect::<Vec<_>>()),
        hidden: model.hidden,
        max_output: grouped(model.max_output_tokens),
        created: Moment::of(model.created_at_ms, now_ms),
        name: model.name,
        routes,
        versions: versions.collect(),
    };
    Ok(page::render(StatusCode::OK, &page))
}
