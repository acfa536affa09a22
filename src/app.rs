//! Builds the actix App: state, middleware, and every route in one readable list.

use crate::config::Reach;
use crate::dashboard::setup::SetupToken;
use crate::dashboard::throttle::Throttle;
use crate::dashboard::turnstile::Turnstile;
use crate::dashboard::{
    account, all_keys, assets, audit, groups, guard, keys, models, overview, page, session, setup, sign_in,
    upstreams, usage, users, welcome,
};
use crate::gateway::call::{Means, Metered};
use crate::gateway::{self, Endpoint};
use crate::ledger::Ledger;
use crate::metrics::{self, Metrics};
use crate::password::Hasher;
use crate::request_id;
use crate::rollup::Rollup;
use crate::store::Store;
use crate::vault::Vault;
use actix_htmx::HtmxMiddleware;
use actix_web::dev::HttpServiceFactory;
use actix_web::middleware::{Compress, from_fn};
use actix_web::{App, HttpResponse, HttpServer, Resource, web};
use std::io;
use std::net::TcpListener;
use std::time::Duration;

/// What every handler may ask for; each part is its own `web::Data`.
#[derive(Clone)]
pub struct House {
    /// The database.
    pub store: Store,
    /// The master key.
    pub vault: Vault,
    /// Credits.
    pub ledger: Ledger,
    /// How this server is reached.
    pub reach: Reach,
    /// Makes the first admin, if there is none.
    pub setup: SetupToken,
    /// Checks passwords.
    pub hasher: Hasher,
    /// Where those wait who give a password or a code.
    pub turnstile: Turnstile,
    /// How long upstreams may be silent.
    pub upstream_timeouts: gateway::Timeouts,
}

/// Every URL. Handlers live with the page or route they serve.
fn routes(house: &House, gateway: &gateway::Shared, means: &Means) -> impl FnOnce(&mut web::ServiceConfig) {
    |routes| {
        routes
            .route("/healthz", web::get().to(healthz))
            .route("/readyz", web::get().to(readyz))
            .route("/metrics", web::get().to(metrics::show))
            .service(web::scope("/v1").configure(|routes| gateway_routes(routes, gateway, means)))
            .service(files())
            .service(dashboard(house));
    }
}

fn gateway_routes(routes: &mut web::ServiceConfig, gateway: &gateway::Shared, means: &Means) {
    let metered = |endpoint| metered(endpoint, gateway, means);
    routes
        .service(metered(Endpoint::ChatCompletions))
        .service(metered(Endpoint::Completions))
        .service(metered(Endpoint::Embeddings))
        .service(metered(Endpoint::Moderations))
        .service(metered(Endpoint::Rerank))
        .service(metered(Endpoint::Messages))
        .service(metered(Endpoint::CountTokens))
        .service(metered(Endpoint::Responses))
        .service(
            resource("/responses/{id}", "GET, DELETE")
                .route(web::get().to(gateway::responses::stored))
                .route(web::delete().to(gateway::responses::stored)),
        )
        .service(resource("/responses/{id}/cancel", "POST").route(web::post().to(gateway::responses::stored)))
        .service(
            resource("/responses/{id}/input_items", "GET").route(web::get().to(gateway::responses::stored)),
        )
        .service(metered(Endpoint::ImageGenerations))
        .service(metered(Endpoint::ImageEdits))
        .service(metered(Endpoint::Speech))
        .service(metered(Endpoint::Transcriptions))
        .service(metered(Endpoint::Translations))
        .service(resource("/models", "GET").route(web::get().to(gateway::models::list)))
        .service(resource("/models/{id:.+}", "GET").route(web::get().to(gateway::models::show)))
        .service(resource("/key", "GET").route(web::get().to(gateway::key::show)))
        .default_service(web::to(gateway::unknown_route));
}

/// A route that answers other methods by naming its own.
fn resource(path: &str, methods: &'static str) -> Resource {
    web::resource(path).default_service(web::to(move |request| gateway::wrong_method(request, methods)))
}

/// A route whose calls are held, relayed, charged and counted.
fn metered(endpoint: Endpoint, gateway: &gateway::Shared, means: &Means) -> impl HttpServiceFactory + use<> {
    resource(endpoint.path(), "POST")
        .app_data(Metered { endpoint, figures: gateway.figures.of(endpoint), means: means.clone() })
        .route(web::post().to(gateway::call::answer))
}

/// The dashboard's files. No session: they are nobody's.
fn files() -> impl HttpServiceFactory {
    web::scope("/static")
        .wrap(from_fn(guard::secure))
        .wrap(Compress::default())
        .route("/{fingerprint}/{path:.*}", web::get().to(assets::serve))
}

/// The pages, and whatever no other part answers. Of what wraps them, the last comes first to a request.
fn dashboard(house: &House) -> impl HttpServiceFactory + use<> {
    web::scope("")
        .wrap(session::session_middleware(&house.vault, &house.reach, &house.store))
        .wrap(HtmxMiddleware)
        .wrap(from_fn(guard::protect))
        .wrap(Compress::default())
        .app_data(guard::form_config())
        .configure(dashboard_routes)
        .default_service(web::to(guard::not_found))
}

fn dashboard_routes(routes: &mut web::ServiceConfig) {
    routes
        .route("/", web::get().to(home))
        .route("/setup", web::get().to(setup::show))
        .route("/setup", web::post().to(setup::submit))
        .route("/sign-in", web::get().to(sign_in::show))
        .route("/sign-in", web::post().to(sign_in::submit))
        .route("/sign-out", web::post().to(sign_in::sign_out))
        .route("/welcome", web::get().to(welcome::show))
        .route("/welcome", web::post().to(welcome::submit))
        .route("/sign-in/code", web::get().to(sign_in::code::show))
        .route("/sign-in/code", web::post().to(sign_in::code::submit))
        .route("/account", web::get().to(account::index))
        .route("/account/nudge", web::post().to(account::dismiss_nudge))
        .route("/account/password", web::get().to(account::password))
        .route("/account/password", web::post().to(account::set_password))
        .route("/account/second-factor", web::post().to(account::begin_second_factor))
        .route("/account/second-factor/confirm", web::post().to(account::confirm_second_factor))
        .route("/account/second-factor/codes", web::get().to(account::ask_new_codes))
        .route("/account/second-factor/codes", web::post().to(account::new_codes))
        .route("/account/second-factor/off", web::get().to(account::confirm_off))
        .route("/account/second-factor/off", web::post().to(account::switch_off))
        .route("/account/sessions/end-others", web::post().to(account::end_other_sessions))
        .route("/account/sessions/{id}/end", web::post().to(account::end_session))
        .route("/keys", web::get().to(keys::index))
        .route("/keys/new", web::get().to(keys::new))
        .route("/keys/new", web::post().to(keys::create))
        .route("/keys/{id}", web::get().to(keys::show))
        .route("/keys/{id}/edit", web::get().to(keys::edit))
        .route("/keys/{id}/edit", web::post().to(keys::save))
        .route("/keys/{id}/enabled", web::post().to(keys::set_enabled))
        .route("/keys/{id}/copy", web::post().to(keys::copy))
        .route("/keys/{id}/reveal", web::post().to(keys::reveal))
        .route("/keys/{id}/delete", web::get().to(keys::confirm_delete))
        .route("/keys/{id}/delete", web::post().to(keys::delete))
        .route("/overview", web::get().to(overview::show))
        .route("/usage", web::get().to(usage::index))
        .route("/usage/export.csv", web::get().to(usage::export))
        .route("/usage/{id}", web::get().to(usage::show))
        .configure(people_routes)
        .configure(catalog_routes);
}

/// For admins: to everybody else these pages do not exist.
fn people_routes(routes: &mut web::ServiceConfig) {
    routes
        .route("/users", web::get().to(users::index))
        .route("/users/new", web::get().to(users::new))
        .route("/users/new", web::post().to(users::create))
        .route("/users/{id}", web::get().to(users::show))
        .route("/users/{id}/grants", web::get().to(users::grants))
        .route("/users/{id}/grant", web::get().to(users::ask_grant))
        .route("/users/{id}/grant", web::post().to(users::grant))
        .route("/users/{id}/enabled", web::post().to(users::set_enabled))
        .route("/users/{id}/admin", web::post().to(users::set_admin))
        .route("/users/{id}/reset-password", web::get().to(users::confirm_reset))
        .route("/users/{id}/reset-password", web::post().to(users::reset_password))
        .route("/users/{id}/reset-second-factor", web::get().to(users::confirm_second_factor))
        .route("/users/{id}/reset-second-factor", web::post().to(users::reset_second_factor))
        .route("/users/{id}/delete", web::get().to(users::confirm_delete))
        .route("/users/{id}/delete", web::post().to(users::delete))
        .route("/all-keys", web::get().to(all_keys::index))
        .route("/all-keys/{id}/enabled", web::post().to(all_keys::set_enabled))
        .route("/all-keys/{id}/delete", web::get().to(all_keys::confirm_delete))
        .route("/all-keys/{id}/delete", web::post().to(all_keys::delete))
        .route("/groups", web::get().to(groups::index))
        .route("/groups/new", web::get().to(groups::new))
        .route("/groups/new", web::post().to(groups::create))
        .route("/groups/{id}/edit", web::get().to(groups::edit))
        .route("/groups/{id}/edit", web::post().to(groups::save))
        .route("/groups/{id}/delete", web::get().to(groups::confirm_delete))
        .route("/groups/{id}/delete", web::post().to(groups::delete))
        .route("/audit", web::get().to(audit::index));
}

/// For admins too: models with their prices, and upstreams.
fn catalog_routes(routes: &mut web::ServiceConfig) {
    routes
        .route("/models", web::get().to(models::index))
        .route("/models/new", web::get().to(models::new))
        .route("/models/new", web::post().to(models::create))
        .route("/models/import", web::get().to(models::import::show))
        .route("/models/import", web::post().to(models::import::receive))
        .route("/models/import/preview", web::get().to(models::import::preview))
        .route("/models/import/preview", web::post().to(models::import::apply))
        .route("/models/{id}", web::get().to(models::show))
        .route("/models/{id}/edit", web::get().to(models::edit))
        .route("/models/{id}/edit", web::post().to(models::save))
        .route("/models/{id}/price", web::get().to(models::new_price))
        .route("/models/{id}/price", web::post().to(models::set_price))
        .route("/models/{id}/hidden", web::post().to(models::set_hidden))
        .route("/models/{id}/delete", web::get().to(models::confirm_delete))
        .route("/models/{id}/delete", web::post().to(models::delete))
        .route("/models/{id}/routes/new", web::get().to(models::routes::new))
        .route("/models/{id}/routes/new", web::post().to(models::routes::add))
        .route("/models/{id}/routes/{upstream_id}", web::get().to(models::routes::edit))
        .route("/models/{id}/routes/{upstream_id}", web::post().to(models::routes::save))
        .route("/models/{id}/routes/{upstream_id}/remove", web::post().to(models::routes::remove))
        .route("/upstreams", web::get().to(upstreams::index))
        .route("/upstreams/new", web::get().to(upstreams::new))
        .route("/upstreams/new", web::post().to(upstreams::create))
        .route("/upstreams/{id}", web::get().to(upstreams::show))
        .route("/upstreams/{id}/edit", web::get().to(upstreams::edit))
        .route("/upstreams/{id}/edit", web::post().to(upstreams::save))
        .route("/upstreams/{id}/enabled", web::post().to(upstreams::set_enabled))
        .route("/upstreams/{id}/test", web::post().to(upstreams::test))
        .route("/upstreams/{id}/delete", web::get().to(upstreams::confirm_delete))
        .route("/upstreams/{id}/delete", web::post().to(upstreams::delete));
}

/// Where a user lands.
async fn home() -> HttpResponse {
    page::redirect(sign_in::LANDING)
}

/// The process is alive.
async fn healthz() -> HttpResponse {
    HttpResponse::Ok().body("ok\n")
}

/// The database answers.
async fn readyz(store: web::Data<Store>) -> HttpResponse {
    match store.run_promptly(|connection| connection.ping()).await {
        Ok(_) => HttpResponse::Ok().body("ok\n"),
        Err(error) => {
            tracing::warn!(%error, "not ready");
            HttpResponse::ServiceUnavailable().body("the database is not available\n")
        }
    }
}

/// How long a connection may rest between two requests: longer than clients and proxies in front rest theirs (60 s nginx
/// and ALB, 90 s Go and reqwest), so that it is never closed just when they send the next call.
const KEEP_ALIVE: Duration = Duration::from_secs(120);

/// Serves on `listener` until the process is told to stop; open calls get half a minute to end.
///
/// # Errors
/// When the listener cannot be used.
pub async fn serve(house: House, listener: TcpListener) -> io::Result<()> {
    // Ends with this function.
    let _rollup = Rollup::start(&house.store)?;
    // Made once: all workers count the same attempts.
    let throttle = Throttle::new(house.store.clone(), house.vault.clone(), house.turnstile.clone());
    let throttle = web::Data::new(throttle);
    let gateway = gateway::Shared::new(house.upstream_timeouts);
    let metrics = web::Data::new(Metrics::new(|registry| {
        gateway.figures.register(registry);
        house.ledger.figures().register(registry);
        let waits = "How long work waited for a pooled connection to the database";
        registry.register("database_wait_seconds", waits, house.store.waits().clone());
    }));
    let watch = web::Data::new(gateway.watch());
    let (keeping, ending) = (gateway.clone(), gateway.clone());
    let (keeping_store, ending_store) = (house.store.clone(), house.store.clone());
    let keeper = actix_web::rt::spawn(async move { keeping.keep_tallies(keeping_store).await });
    give_up_the_stuck(&listener);
    let served = HttpServer::new(move || {
        wake_patiently();
        let means = Means {
            gateway: web::Data::new(gateway.for_worker()),
            store: web::Data::new(house.store.clone()),
            ledger: web::Data::new(house.ledger.clone()),
            vault: web::Data::new(house.vault.clone()),
            reach: web::Data::new(house.reach.clone()),
        };
        App::new()
            .wrap_fn(request_id::tell)
            .app_data(means.gateway.clone())
            .app_data(means.store.clone())
            .app_data(means.ledger.clone())
            .app_data(means.vault.clone())
            .app_data(means.reach.clone())
            .app_data(web::Data::new(house.setup.clone()))
            .app_data(web::Data::new(house.hasher.clone()))
            .app_data(throttle.clone())
            .app_data(watch.clone())
            .app_data(metrics.clone())
            .configure(routes(&house, &gateway, &means))
    })
    .workers(std::thread::available_parallelism().map_or(2, usize::from))
    // A caller who leaves a silent stream is noticed at once instead of after seconds.
    .h1_allow_half_closed(false)
    .tcp_nodelay(true)
    .keep_alive(KEEP_ALIVE)
    .client_request_timeout(Duration::from_secs(10))
    .shutdown_timeout(30)
    .listen(listener)?
    .run()
    .await;
    keeper.abort();
    ending.store_tallies(&ending_store).await;
    served
}

/// A caller who has not taken a byte of what waits for him in so long has left: his connection breaks, and what is held for
/// him is settled. Connections inherit it from the listener (tcp(7), `TCP_USER_TIMEOUT`).
#[cfg(target_os = "linux")]
fn give_up_the_stuck(listener: &TcpListener) {
    use std::os::fd::AsRawFd;
    const PATIENCE_MS: uapi::c::c_int = 300_000;
    let (level, option) = (uapi::c::IPPROTO_TCP, uapi::c::TCP_USER_TIMEOUT);
    if let Err(error) = uapi::setsockopt(listener.as_raw_fd(), level, option, &PATIENCE_MS) {
        tracing::debug!(%error, "callers who take nothing are not given up");
    }
}

#[cfg(not(target_os = "linux"))]
fn give_up_the_stuck(_: &TcpListener) {}

/// Lets this thread, a worker's, and those it starts wait for their turn when something arrives, and not interrupt whoever is
/// running: by then more has arrived, and one turn reads it all (sched(7), `SCHED_BATCH`). The ledger's thread stays as it
/// is, since all calls wait for it.
#[cfg(target_os = "linux")]
fn wake_patiently() {
    let normal = uapi::c::sched_param { sched_priority: 0 };
    if let Err(error) = uapi::sched_setscheduler(0, uapi::c::SCHED_BATCH, &normal) {
        tracing::debug!(%error, "a worker keeps its scheduling policy");
    }
}

#[cfg(not(target_os = "linux"))]
fn wake_patiently() {}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::net::TcpStream;
    use std::os::fd::AsRawFd;

    #[test]
    fn connections_are_given_up_when_their_callers_take_nothing() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        give_up_the_stuck(&listener);
        let _caller = TcpStream::connect(listener.local_addr().expect("bound")).expect("connected");
        let (connection, _) = listener.accept().expect("accepted");
        let mut patience_ms: uapi::c::c_int = 0;
        let (level, option) = (uapi::c::IPPROTO_TCP, uapi::c::TCP_USER_TIMEOUT);
        uapi::getsockopt(connection.as_raw_fd(), level, option, &mut patience_ms).expect("read");
        assert_eq!(patience_ms, 300_000);
    }
}
