//! The id of a request: on every answer as `x-request-id`. Always ours, never the caller's.

use crate::ledger::Ledger;
use actix_web::body::MessageBody;
use actix_web::dev::{Service, ServiceRequest, ServiceResponse};
use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::{Error, HttpMessage, HttpRequest, web};
use std::future::Future;

/// Where answers carry it.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// In a request's extensions, once somebody has asked for it.
#[derive(Clone, Copy)]
struct RequestId(i64);

/// The id of a request, made when it is asked for first; 0 where there is no ledger, which is nowhere. A charge is known by
/// the id of its request, and so the calls that make one take theirs from the ledger, and put it on their answers themselves.
pub fn of(request: &HttpRequest) -> i64 {
    let made = request.extensions().get::<RequestId>().copied();
    let RequestId(id) = made.unwrap_or_else(|| {
        let id =
            RequestId(request.app_data::<web::Data<Ledger>>().map_or(0, |ledger| ledger.next_charge_id()));
        request.extensions_mut().insert(id);
        id
    });
    id
}

/// Middleware (`App::wrap_fn`) that puts the id on every answer that does not carry one.
///
/// # Errors
/// Those of the handlers.
pub fn tell<S, B>(
    request: ServiceRequest,
    app: &S,
) -> impl Future<Output = Result<ServiceResponse<B>, Error>> + use<S, B>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error>,
    B: MessageBody,
{
    let answering = app.call(request);
    async move {
        let mut response = answering.await?;
        if !response.headers().contains_key(REQUEST_ID) {
            let id = of(response.request());
            response.headers_mut().insert(REQUEST_ID, HeaderValue::from(id));
        }
        Ok(response)
    }
}
