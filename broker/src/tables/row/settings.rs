//! Rows of the settings of namespaces.

use bytes::Bytes;
use prost::Message;

use super::{
    Error, LimitsRow, RetryOverridesRow, limit_overrides, limit_overrides_row, overrides,
    overrides_row,
};
use crate::ledger::NamespaceSettings;

#[derive(Clone, PartialEq, Eq, Message)]
struct SettingsRow {
    #[prost(message, optional, tag = "1")]
    retry: Option<RetryOverridesRow>,
    #[prost(message, optional, tag = "2")]
    ceilings: Option<LimitsRow>,
}

/// Encodes the settings of a namespace.
pub fn encode_settings(settings: &NamespaceSettings) -> Vec<u8> {
    let NamespaceSettings { retry, ceilings } = settings;
    SettingsRow {
        retry: Some(overrides_row(retry)),
        ceilings: Some(limit_overrides_row(ceilings)),
    }
    .encode_to_vec()
}

/// Decodes the settings of a namespace.
///
/// # Errors
/// [`Error`] if the bytes are no such row.
pub fn decode_settings(bytes: Bytes) -> Result<NamespaceSettings, Error> {
    let SettingsRow { retry, ceilings } =
        SettingsRow::decode(bytes).map_err(|source| Error::Decode {
            kind: "settings",
            source,
        })?;
    Ok(NamespaceSettings {
        retry: overrides(&retry.unwrap_or_default()),
        ceilings: limit_overrides(&ceilings.unwrap_or_default()),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tq_core::limits::LimitOverrides;
    use tq_core::retry::RetryOverrides;

    use super::*;

    #[test]
    fn settings_say_what_was_named_and_what_was_not() {
        for retry in [
            RetryOverrides::default(),
            RetryOverrides {
                max_attempts: Some(7),
                backoff: Some(Duration::ZERO),
                cap: None,
            },
        ] {
            let ceilings = LimitOverrides {
                fuel: retry.backoff.map(|_| 5),
                random_bytes: Some(7),
                ..LimitOverrides::default()
            };
            let settings = NamespaceSettings { retry, ceilings };
            let decoded = decode_settings(encode_settings(&settings).into());
            assert_eq!(decoded.expect("what was encoded can be decoded"), settings);
        }
    }
}
