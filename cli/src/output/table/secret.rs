//! Secrets.

use tq_client::Secret;

use super::{print, time};

/// Prints secrets without their values, one a line.
///
/// # Errors
/// As [`output::data`](crate::output::data).
pub(crate) fn print_secrets(secrets: &[Secret]) -> anyhow::Result<()> {
    print(
        ["secret", "version", "updated"],
        secrets.iter().map(|secret| {
            [
                secret.name.clone(),
                secret.version.to_string(),
                time(secret.updated_ms),
            ]
        }),
    )
}
