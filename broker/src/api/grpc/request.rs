//! What requests have in common.

use tonic::Status;

use crate::api::status::invalid;

pub(super) fn over(what: &str, len: usize, max: usize) -> Result<(), Status> {
    if len > max {
        Err(invalid(format_args!(
            "{what} of {len} bytes is over the limit of {max} bytes"
        )))
    } else {
        Ok(())
    }
}

/// A number of things that may be asked for at once; 0 is `default`.
pub(super) fn bounded(what: &str, value: u32, default: usize, max: usize) -> Result<usize, Status> {
    match value as usize {
        0 => Ok(default),
        value if value <= max => Ok(value),
        value => Err(invalid(format_args!(
            "{what} is {value}; it may be 1 to {max}"
        ))),
    }
}
