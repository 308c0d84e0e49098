//! Namespaces.

use std::collections::BTreeMap;

use serde::Serialize;
use tq_client::{NamespaceSettings, QuotaUse, Quotas};
use tq_core::each_limit;

use super::attempt::Retry;
use super::named;

/// The settings of a namespace.
#[derive(Debug, Serialize)]
pub(crate) struct NamespaceInfo<'a> {
    name: &'a str,
    /// What was set.
    retry: RetrySet,
    /// What holds.
    retry_default: Option<Retry>,
    /// What no attempt may have more of, as far as that was set.
    ceilings: BTreeMap<&'static str, u64>,
    /// How much it may have; null has no limit.
    quotas: QuotasSet,
    /// How much it has.
    quota_use: Option<QuotasUsed<'a>>,
}

#[derive(Debug, Serialize)]
struct QuotasSet {
    waiting: Option<u64>,
    running: Option<u32>,
    stored_bytes: Option<u64>,
    submits_per_second: Option<u32>,
    fuel_per_day: Option<u64>,
}

#[derive(Debug, Serialize)]
struct QuotasUsed<'a> {
    waiting: u64,
    running: u32,
    stored_bytes: u64,
    fuel: u64,
    fuel_reserved: u64,
    fuel_resets_ms: u64,
    /// Why no task starts, if it is for a quota.
    reason: Option<&'a str>,
    /// An attempt of some tasks may use more fuel than the whole budget of a day, and never starts under it.
    holds_back: bool,
}

impl From<Quotas> for QuotasSet {
    fn from(quotas: Quotas) -> Self {
        let Quotas {
            waiting,
            running,
            stored_bytes,
            submits_per_second,
            fuel_per_day,
        } = quotas;
        Self {
            waiting,
            running,
            stored_bytes,
            submits_per_second,
            fuel_per_day,
        }
    }
}

impl<'a> From<&'a QuotaUse> for QuotasUsed<'a> {
    fn from(used: &'a QuotaUse) -> Self {
        let QuotaUse {
            waiting,
            running,
            stored_bytes,
            fuel,
            fuel_reserved,
            fuel_resets_ms,
            reason,
            holds_back,
        } = used;
        Self {
            waiting: *waiting,
            running: *running,
            stored_bytes: *stored_bytes,
            fuel: *fuel,
            fuel_reserved: *fuel_reserved,
            fuel_resets_ms: *fuel_resets_ms,
            reason: named(reason),
            holds_back: *holds_back,
        }
    }
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
            quotas,
            quota_use,
        } = settings;
        let ceilings = ceilings.unwrap_or_default();
        macro_rules! out {
            ($($field:ident)+) => { [$((stringify!($field), ceilings.$field),)+] };
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
            ceilings: each_limit!(out)
                .into_iter()
                .filter_map(|(limit, most)| Some((limit, most?)))
                .collect(),
            quotas: quotas.unwrap_or_default().into(),
            quota_use: quota_use.as_ref().map(QuotasUsed::from),
        }
    }
}
