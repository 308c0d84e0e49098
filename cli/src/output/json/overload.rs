//! Overload.

use serde::Serialize;
use tq_client::{Overload, OverloadChange, OverloadGauge, Tier};

/// What a broker refuses because there is too much.
#[derive(Debug, Serialize)]
pub(crate) struct OverloadInfo<'a> {
    level: u32,
    refuses: Vec<&'static str>,
    gauges: Vec<GaugeInfo<'a>>,
    refused: Refused,
    changes: Vec<ChangeInfo<'a>>,
}

#[derive(Debug, Serialize)]
struct GaugeInfo<'a> {
    resource: &'a str,
    taken: u64,
    low_share: u64,
    normal_share: u64,
    limit: u64,
}

#[derive(Debug, Serialize)]
struct Refused {
    low: u64,
    normal: u64,
    high: u64,
}

#[derive(Debug, Serialize)]
struct ChangeInfo<'a> {
    at_ms: u64,
    level: u32,
    reason: &'a str,
}

impl<'a> From<&'a Overload> for OverloadInfo<'a> {
    fn from(overload: &'a Overload) -> Self {
        let Overload {
            level,
            refuses: _,
            gauges,
            refused_low,
            refused_normal,
            refused_high,
            changes,
        } = overload;
        let gauge = |gauge: &'a OverloadGauge| {
            let OverloadGauge {
                resource,
                taken,
                low_share,
                normal_share,
                limit,
            } = gauge;
            GaugeInfo {
                resource,
                taken: *taken,
                low_share: *low_share,
                normal_share: *normal_share,
                limit: *limit,
            }
        };
        let change = |change: &'a OverloadChange| {
            let OverloadChange {
                at_ms,
                level,
                reason,
            } = change;
            ChangeInfo {
                at_ms: *at_ms,
                level: *level,
                reason,
            }
        };
        Self {
            level: *level,
            refuses: overload.refuses().map(tier).collect(),
            gauges: gauges.iter().map(gauge).collect(),
            refused: Refused {
                low: *refused_low,
                normal: *refused_normal,
                high: *refused_high,
            },
            changes: changes.iter().map(change).collect(),
        }
    }
}

/// A tier's name.
pub(crate) fn tier(tier: Tier) -> &'static str {
    match tier {
        Tier::Unspecified => "unknown",
        Tier::Low => "low",
        Tier::Normal => "normal",
        Tier::High => "high",
    }
}
