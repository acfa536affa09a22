//! Reads a request's body: bounded in length and in time.

use super::error::GatewayError;
use actix_web::HttpRequest;
use actix_web::http::header::CONTENT_LENGTH;
use actix_web::web::{Bytes, BytesMut, Payload};
use futures_util::StreamExt;
use std::time::Duration;

/// Largest body that is read: some inline images, as SDKs send them.
pub const BODY_BYTES_MAX: usize = 32 << 20;
/// Up to here a body is read before its key is looked up; a larger one only from a key that may be used.
const UNSEEN_BYTES_MAX: usize = 64 << 10;
/// Longest pause between two pieces of a body.
const PIECE_TIMEOUT: Duration = Duration::from_secs(30);

/// Whether the body is, or may turn out, too large to be read from just anybody.
pub fn is_large(request: &HttpRequest) -> bool {
    declared_bytes(request).is_none_or(|bytes| bytes > UNSEEN_BYTES_MAX)
}

fn declared_bytes(request: &HttpRequest) -> Option<usize> {
    request.headers().get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The whole body.
///
/// # Errors
/// When it is too large, too slow, or broken off.
pub async fn read(request: &HttpRequest, mut payload: Payload) -> Result<Bytes, GatewayError> {
    const TOO_LARGE: GatewayError = GatewayError::TooLarge { bytes_max: BODY_BYTES_MAX };
    let declared = declared_bytes(request).unwrap_or(0);
    if declared > BODY_BYTES_MAX {
        return Err(TOO_LARGE);
    }
    let mut body = Bytes::new();
    loop {
        let piece = tokio::time::timeout(PIECE_TIMEOUT, payload.next());
        match piece.await.map_err(|_| GatewayError::BodyTimeout)? {
            None => return Ok(body),
            Some(Ok(piece)) if body.len() + piece.len() <= BODY_BYTES_MAX => append(&mut body, piece),
            Some(Ok(_)) => return Err(TOO_LARGE),
            Some(Err(_)) => return Err(GatewayError::Malformed("The body broke off.".into())),
        }
    }
}

/// Puts a piece behind the others: one that comes alone, as most do, is not copied; what grows does so in place.
pub fn append(pieces: &mut Bytes, piece: Bytes) {
    if pieces.is_empty() {
        *pieces = piece;
        return;
    }
    let mut all = BytesMut::from(std::mem::take(pieces));
    all.extend_from_slice(&piece);
    *pieces = all.freeze();
}
