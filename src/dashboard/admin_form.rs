//! The form of an admin, as handlers take it.

use super::session::Admin;
use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpRequest, web};
use futures_util::future::LocalBoxFuture;
use serde::de::DeserializeOwned;

/// An admin and what they sent. Extractors of a handler run at once and the first error wins; this one looks at the form
/// only for an admin, so that whatever others send, they cannot tell the address from one that is not there.
pub struct AdminForm<T>(pub Admin, pub T);

impl<T: DeserializeOwned + 'static> FromRequest for AdminForm<T> {
    type Error = actix_web::Error;
    type Future = LocalBoxFuture<'static, Result<Self, actix_web::Error>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let admin = Admin::from_request(request, payload);
        let (request, mut payload) = (request.clone(), payload.take());
        Box::pin(async move {
            let admin = admin.await?;
            let form = web::Form::<T>::from_request(&request, &mut payload).await?;
            Ok(Self(admin, form.into_inner()))
        })
    }
}
