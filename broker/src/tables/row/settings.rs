//! Rows of the settings of namespaces.

use bytes::Bytes;
use prost::Message;
use tq_core::Quotas;

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
    #[prost(message, optional, tag = "3")]
    quotas: Option<QuotasRow>,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
struct QuotasRow {
    #[prost(uint64, optional, tag = "1")]
    waiting: Option<u64>,
    #[prost(uint32, optional, tag = "2")]
    running: Option<u32>,
    #[prost(uint64, optional, tag = "3")]
    stored_bytes: Option<u64>,
    #[prost(uint32, optional, tag = "4")]
    submits_per_second: Option<u32>,
    #[prost(uint64, optional, tag = "5")]
    fuel_per_day: Option<u64>,
}

/// Encodes the settings of a namespace.
pub fn encode_settings(settings: &NamespaceSettings) -> Vec<u8> {
    let NamespaceSettings {
        retry,
        ceilings,
        quotas,
    } = settings;
    let Quotas {
        waiting,
        running,
        stored_bytes,
        submits_per_second,
        fuel_per_day,
    } = *quotas;
    SettingsRow {
        retry: Some(overrides_row(retry)),
        ceilings: Some(limit_overrides_row(ceilings)),
        quotas: Some(QuotasRow {
            waiting,
            running,
            stored_bytes,
            submits_per_second,
            fuel_per_day,
        }),
    }
    .encode_to_vec()
}

/// Decodes the settings of a namespace.
///
/// # Errors
/// [`Error`] if the bytes are no such row.
pub fn decode_settings(bytes: Bytes) -> Result<NamespaceSettings, Error> {
    let SettingsRow {
        retry,
        ceilings,
        quotas,
    } = SettingsRow::decode(bytes).map_err(|source| Error::Decode {
        kind: "settings",
        source,
    })?;
    let QuotasRow {
        waiting,
        running,
        stored_bytes,
        submits_per_second,
        fuel_per_day,
    } = quotas.unwrap_or_default();
    Ok(NamespaceSettings {
        retry: overrides(&retry.unwrap_or_default()),
        ceilings: limit_overrides(&ceilings.unwrap_or_default()),
        quotas: Quotas {
            waiting,
            running,
            stored_bytes,
            submits_per_second,
            fuel_per_day,
        },
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
            let quotas = Quotas {
                running: retry.max_attempts,
                fuel_per_day: ceilings.fuel,
                stored_bytes: Some(9),
                ..Quotas::default()
            };
            let settings = NamespaceSettings {
                retry,
                ceilings,
                quotas,
            };
            let decoded = decode_settings(encode_settings(&settings).into());
            assert_eq!(decoded.expect("what was encoded can be decoded"), settings);
        }
    }
}
