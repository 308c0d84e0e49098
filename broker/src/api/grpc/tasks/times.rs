//! When a task may start, and when it expires.

use std::time::Duration;

use tonic::Status;
use tq_core::Timestamp;
use tq_core::limits::DELAY_MAX;

use crate::api::status::invalid;

/// The time that a task starts at, if one is named.
pub(super) fn run_at(
    at_ms: Option<u64>,
    delay_ms: Option<u64>,
    now: Timestamp,
) -> Result<Option<Timestamp>, Status> {
    let at = match (at_ms, delay_ms) {
        (Some(_), Some(_)) => return Err(invalid("run_at and delay are both set; set one")),
        (Some(at), None) => Some(Timestamp(at)),
        (None, Some(delay)) => Some(now.after(Duration::from_millis(delay))),
        (None, None) => None,
    };
    not_too_far("run_at", at, now)?;
    Ok(at)
}

pub(super) fn not_too_far(what: &str, at: Option<Timestamp>, now: Timestamp) -> Result<(), Status> {
    if at.is_some_and(|at| at > now.after(DELAY_MAX)) {
        return Err(invalid(format_args!(
            "{what} is more than {} days ahead",
            DELAY_MAX.as_secs() / 86_400
        )));
    }
    Ok(())
}
