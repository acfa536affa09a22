//! Whether a key may make this call, from its row alone: pure, and in an order that tells nobody more than they
//! may know. Credits are not decided here but by the hold.

use super::error::GatewayError;
use super::snapshots::Policy;
use crate::domain::key::Status;
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
pub fn admit_key(policy: &Policy, caller: Caller) -> Result<(), GatewayError> {
    let snapshot = &policy.snapshot;
    if !snapshot.owner.enabled {
        return Err(GatewayError::AccountDisabled);
    }
    match snapshot.key.standing().status(caller.now_ms) {
        Status::Disabled => return Err(GatewayError::KeyDisabled),
        Status::Expired => return Err(GatewayError::KeyExpired),
        Status::Exhausted | Status::Active => {}
    }
    if !policy.ip_allowlist.allows(caller.address) {
        return Err(GatewayError::IpNotAllowed);
    }
    Ok(())
}

/// Whether the key may spend on `model`. Asked before the model is looked for: a key that may not use a name does
/// not learn whether it exists.
///
/// # Errors
/// Those of [`admit_key`]; exhausted; or restricted to other models.
pub fn admit_call(policy: &Policy, caller: Caller, model: &str) -> Result<(), GatewayError> {
    admit_key(policy, caller)?;
    if policy.snapshot.key.standing().status(caller.now_ms) == Status::Exhausted {
        return Err(GatewayError::KeyLimitReached);
    }
    admit_model(policy, model)
}

/// Whether the key's restrictions allow `model`.
///
/// # Errors
/// When they do not.
pub fn admit_model(policy: &Policy, model: &str) -> Result<(), GatewayError> {
    if policy.models.allows(model) { Ok(()) } else { Err(GatewayError::ModelNotAllowed) }
}
