//! The id of a request: on every answer as `x-request-id`. Always ours, never the caller's.

use crate::ledger::Ledger;
use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::middleware::Next;
use actix_web::{HttpMessage, web};

/// Where answers carry it.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// In every request's extensions; if the request is charged, the id of its charge.
#[derive(Debug, Clone, Copy)]
pub struct RequestId(pub i64);

/// Middleware that gives every request its id.
///
/// # Errors
/// Those of the handlers.
pub async fn assign<B: MessageBody>(
    ledger: web::Data<Ledger>,
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<B>, actix_web::Error> {
    let id = RequestId(ledger.next_charge_id());
    request.extensions_mut().insert(id);
    let mut response = next.call(request).await?;
    response.headers_mut().insert(REQUEST_ID, HeaderValue::from(id.0));
    Ok(response)
}
