//! Whether a key may make this call, from its row alone: pure, and in an order that tells nobody more than they
//! may know. Credits are not decided here but by the hold.

use super::error::GatewayError;
use crate::domain::key::Status;
use crate::store::keys::KeySnapshot;
use std::net::IpAddr;

/// Who calls, from where, when.
#[derive(Debug, Clone, Copy)]
pub struct Caller {
    /// Behind trusted proxies.
    pub address: IpAddr,
    /// The database's clock.
    pub now_ms: i64,
}

/// Whether the key may be used at all, here and now; enough to look at itself and at models.
///
/// # Errors
/// Disabled (or its owner is), expired, or used from elsewhere.
pub fn admit_key(snapshot: &KeySnapshot, caller: Caller) -> Result<(), GatewayError> {
    if !snapshot.owner.enabled {
        return Err(GatewayError::KeyDisabled);
    }
    match snapshot.key.standing().status(caller.now_ms) {
        Status::Disabled => return Err(GatewayError::KeyDisabled),
        Status::Expired => return Err(GatewayError::KeyExpired),
        Status::Exhausted | Status::Active => {}
    }
    if !snapshot.key.ip_allowlist()?.allows(caller.address) {
        return Err(GatewayError::IpNotAllowed);
    }
    Ok(())
}

/// Whether the key may spend on `model`. Asked before the model is looked for: a key that may not use a name does
/// not learn whether it exists.
///
/// # Errors
/// Those of [`admit_key`]; exhausted; or restricted to other models.
pub fn admit_call(snapshot: &KeySnapshot, caller: Caller, model: &str) -> Result<(), GatewayError> {
    admit_key(snapshot, caller)?;
    if snapshot.key.standing().status(caller.now_ms) == Status::Exhausted {
        return Err(GatewayError::KeyLimitReached);
    }
    admit_model(snapshot, model)
}

/// Whether the key's restrictions allow `model`.
///
/// # Errors
/// When they do not.
pub fn admit_model(snapshot: &KeySnapshot, model: &str) -> Result<(), GatewayError> {
    if snapshot.key.models()?.allows(model) { Ok(()) } else { Err(GatewayError::ModelNotAllowed) }
}
