//! Costs.

use serde::Serialize;
use tq_client::Cost;

use super::named;

/// What attempts cost.
#[derive(Debug, Serialize)]
pub(crate) struct CostList<'a> {
    /// The first day.
    from: &'a str,
    /// The last one.
    to: &'a str,
    costs: Vec<CostInfo<'a>>,
    total: CostInfo<'a>,
}

#[derive(Debug, Serialize)]
struct CostInfo<'a> {
    /// Null over all days.
    day: Option<&'a str>,
    /// Null over all functions.
    function: Option<&'a str>,
    attempts: u64,
    fuel: u64,
    memory_byte_seconds: u64,
    wall_ns: u64,
    cpu_ns: u64,
    bytes_in: u64,
    bytes_out: u64,
}

impl<'a> CostList<'a> {
    /// Costs from one day to another, with their sum.
    pub(crate) fn new(from: &'a str, to: &'a str, costs: &'a [Cost], total: &'a Cost) -> Self {
        Self {
            from,
            to,
            costs: costs.iter().map(CostInfo::from).collect(),
            total: total.into(),
        }
    }
}

impl<'a> From<&'a Cost> for CostInfo<'a> {
    fn from(cost: &'a Cost) -> Self {
        let Cost {
            day,
            function,
            attempts,
            fuel,
            memory_byte_seconds,
            wall_ns,
            cpu_ns,
            bytes_in,
            bytes_out,
        } = cost;
        Self {
            day: named(day),
            function: named(function),
            attempts: *attempts,
            fuel: *fuel,
            memory_byte_seconds: *memory_byte_seconds,
            wall_ns: *wall_ns,
            cpu_ns: *cpu_ns,
            bytes_in: *bytes_in,
            bytes_out: *bytes_out,
        }
    }
}
