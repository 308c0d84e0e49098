//! What requests have in common.

use tonic::Status;

use crate::api::status::invalid;

/// The namespace of a request: `default` if it names none.
pub(super) fn named(namespace: String) -> Result<String, Status> {
    if namespace.is_empty() {
        return Ok(tq_core::name::DEFAULT_NAMESPACE.to_owned());
    }
    tq_core::name::check("namespace", &namespace).map_err(invalid)?;
    Ok(namespace)
}

pub(super) fn over(what: &str, len: usize, max: usize) -> Result<(), Status> {
    if len > max {
        Err(invalid(format_args!(
            "{what} of {len} bytes is over the limit of {max} bytes"
        )))
    } else {
        Ok(())
    }
}
