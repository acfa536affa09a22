//! Reads a request's body: bounded in length and in time, and large ones all together.

use super::error::GatewayError;
use super::room::{Room, Taken};
use actix_web::HttpRequest;
use actix_web::http::header::CONTENT_LENGTH;
use actix_web::web::{Bytes, BytesMut, Payload};
use futures_util::{FutureExt, StreamExt};
use std::time::{Duration, Instant};

/// Largest body that is read: some inline images, as SDKs send them.
pub const BODY_BYTES_MAX: usize = 32 << 20;
/// Up to here a body is read before its key is looked up; a larger one only from a key that may be used.
const UNSEEN_BYTES_MAX: usize = 64 << 10;
/// Longest pause between two pieces of a body, and longest time for all of them.
const PIECE_TIMEOUT: Duration = Duration::from_secs(30);
const BODY_TIMEOUT: Duration = Duration::from_secs(300);
/// What is larger than is read from anybody takes its bytes of these until its call is answered or streams.
static ROOM: Room = Room::new(512 << 20, 128 << 20);

/// A whole body.
pub struct Body {
    /// As it came.
    pub bytes: Bytes,
    room: Option<Taken>,
}

/// Whether the body is, or may turn out, too large to be read from just anybody.
pub fn is_large(request: &HttpRequest) -> bool {
    declared_bytes(request).is_none_or(|bytes| bytes > UNSEEN_BYTES_MAX)
}

fn declared_bytes(request: &HttpRequest) -> Option<usize> {
    request.headers().get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The whole body; a large one of an account.
///
/// # Errors
/// When it is too large, too slow, or broken off; when there are too many large ones already.
pub async fn read(
    request: &HttpRequest,
    mut payload: Payload,
    user_id: Option<i64>,
) -> Result<Body, GatewayError> {
    const TOO_LARGE: GatewayError = GatewayError::TooLarge { bytes_max: BODY_BYTES_MAX };
    let declared = declared_bytes(request).unwrap_or(0);
    if declared > BODY_BYTES_MAX {
        return Err(TOO_LARGE);
    }
    let mut began = None;
    let mut body = Body { bytes: Bytes::new(), room: None };
    loop {
        // Most bodies are there with their heads, and need no timer.
        let piece = match payload.next().now_or_never() {
            Some(piece) => piece,
            None => {
                let left = BODY_TIMEOUT.saturating_sub(began.get_or_insert_with(Instant::now).elapsed());
                let piece = tokio::time::timeout(left.min(PIECE_TIMEOUT), payload.next());
                piece.await.map_err(|_| GatewayError::BodyTimeout)?
            }
        };
        match piece {
            None => return Ok(body),
            Some(Ok(piece)) if body.bytes.len() + piece.len() <= BODY_BYTES_MAX => {
                body.append(piece, user_id)?
            }
            Some(Ok(_)) => return Err(TOO_LARGE),
            Some(Err(_)) => return Err(GatewayError::Malformed("The body broke off.".into())),
        }
    }
}

impl Body {
    fn append(&mut self, piece: Bytes, user_id: Option<i64>) -> Result<(), GatewayError> {
        let bytes = self.bytes.len() + piece.len();
        let more = bytes.saturating_sub(self.bytes.len().max(UNSEEN_BYTES_MAX));
        if more > 0 {
            let has_room = match &mut self.room {
                Some(taken) => taken.grow(more),
                none => {
                    *none = user_id.and_then(|user_id| ROOM.take(user_id, more));
                    none.is_some()
                }
            };
            if !has_room {
                return Err(GatewayError::Busy);
            }
        }
        append(&mut self.bytes, piece);
        Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_bodies_find_room_for_so_much_and_no_more() {
        let piece = Bytes::from(vec![0; BODY_BYTES_MAX]);
        let read = |user_id| {
            let mut body = Body { bytes: Bytes::new(), room: None };
            body.append(piece.clone(), Some(user_id)).map(|()| body)
        };
        // Each leaves free what is read from anybody.
        let bodies: Vec<Body> = (0..16).map(|n| read(n / 4).unwrap_or_else(|_| panic!("room"))).collect();
        assert!(matches!(read(7), Err(GatewayError::Busy)));
        let mut small = Body { bytes: Bytes::new(), room: None };
        assert!(small.append(piece.slice(..UNSEEN_BYTES_MAX), None).is_ok() && small.room.is_none());
        drop(bodies);
        assert!(read(7).is_ok());
    }
}
