//! The id of a request: on every answer as `x-request-id`. Always ours, never the caller's.

use crate::ledger::Ledger;
use actix_web::body::MessageBody;
use actix_web::dev::{Service, ServiceRequest, ServiceResponse};
use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::{Error, HttpMessage};
use std::future::Future;

/// Where answers carry it.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// In every request's extensions; if the request is charged, the id of its charge.
#[derive(Debug, Clone, Copy)]
pub struct RequestId(pub i64);

/// Middleware (`App::wrap_fn`) that gives every request its id.
///
/// # Errors
/// Those of the handlers.
pub fn assign<S, B>(
    ledger: &Ledger,
    request: ServiceRequest,
    app: &S,
) -> impl Future<Output = Result<ServiceResponse<B>, Error>> + use<S, B>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error>,
    B: MessageBody,
{
    let id = RequestId(ledger.next_charge_id());
    request.extensions_mut().insert(id);
    let answering = app.call(request);
    async move {
        let mut response = answering.await?;
        response.headers_mut().insert(REQUEST_ID, HeaderValue::from(id.0));
        Ok(response)
    }
}
