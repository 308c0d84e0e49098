//! Namespaces.

use serde::Serialize;
use tq_client::NamespaceSettings;
use tq_core::each_limit;

use super::attempt::Retry;

/// The settings of a namespace.
#[derive(Debug, Serialize)]
pub(crate) struct NamespaceInfo<'a> {
    name: &'a str,
    /// What was set.
    retry: RetrySet,
    /// What holds.
    retry_default: Option<Retry>,
    /// What no attempt may have more of, as far as that was set.
    ceilings: Ceilings,
}

#[derive(Debug, Serialize)]
struct Ceilings {
    fuel: Option<u64>,
    memory_bytes: Option<u64>,
    timeout_ms: Option<u64>,
    output_bytes: Option<u64>,
    log_bytes: Option<u64>,
    checkpoint_bytes: Option<u64>,
    handles: Option<u64>,
    host_calls: Option<u64>,
    random_bytes: Option<u64>,
}

#[derive(Debug, Serialize)]
struct RetrySet {
    max_attempts: Option<u32>,
    backoff_ms: Option<u64>,
    cap_ms: Option<u64>,
}

impl<'a> From<&'a NamespaceSettings> for NamespaceInfo<'a> {
    fn from(settings: &'a NamespaceSettings) -> Self {
        let NamespaceSettings {
            name,
            retry,
            retry_default,
            ceilings,
        } = settings;
        let ceilings = ceilings.unwrap_or_default();
        macro_rules! out {
            ($($field:ident)+) => { Ceilings { $($field: ceilings.$field,)+ } };
        }
        let tq_client::RetryOverrides {
            max_attempts,
            backoff_ms,
            cap_ms,
        } = retry.unwrap_or_default();
        Self {
            name,
            retry: RetrySet {
                max_attempts,
                backoff_ms,
                cap_ms,
            },
            retry_default: retry_default.as_ref().map(Retry::from),
            ceilings: each_limit!(out),
        }
    }
}
