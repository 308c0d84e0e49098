//! Secrets.

use serde::Serialize;
use tq_client::Secret;

/// Secrets, without their values.
#[derive(Debug, Serialize)]
pub(crate) struct SecretList<'a> {
    secrets: Vec<SecretInfo<'a>>,
}

#[derive(Debug, Serialize)]
struct SecretInfo<'a> {
    name: &'a str,
    version: u32,
    updated_ms: u64,
}

impl<'a> SecretList<'a> {
    /// In the order given.
    pub(crate) fn new(secrets: &'a [Secret]) -> Self {
        let secrets = secrets.iter().map(|secret| SecretInfo {
            name: &secret.name,
            version: secret.version,
            updated_ms: secret.updated_ms,
        });
        Self {
            secrets: secrets.collect(),
        }
    }
}
