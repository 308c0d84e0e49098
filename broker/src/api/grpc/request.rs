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
