//! `tq cost`

use std::collections::BTreeMap;

use tq_client::Cost;
use tq_core::{Day, Timestamp};

use crate::args::{CostArgs, CostBy};
use crate::commands::connect;
use crate::config::Config;
use crate::exit::{Exit, Failure};
use crate::output::{Format, json, table};
use crate::units::now_ms;

/// Days that are summed up if it is not said which, the last one included.
const DAYS: u32 = 30;

pub(crate) async fn run(config: &Config, args: CostArgs) -> anyhow::Result<Exit> {
    let CostArgs { from, to, by } = args;
    let to = to.unwrap_or_else(|| Day::of(Timestamp(now_ms())));
    let from = from.unwrap_or_else(|| to.before(DAYS - 1));
    if to < from {
        return Err(Failure::usage(format!(
            "the last day, {to}, is before the first one, {from}"
        ))
        .into());
    }
    let (from, to) = (from.to_string(), to.to_string());
    let client = connect(config).await?;
    let mut sums: BTreeMap<(String, String), Cost> = BTreeMap::new();
    let mut total = Cost::default();
    let mut cursor = String::new();
    loop {
        let page = client.cost_page(&from, &to, &cursor).await?;
        for cost in page.costs {
            add(&mut total, &cost);
            let (day, function) = (cost.day.clone(), cost.function.clone());
            let of = match by {
                CostBy::Day => (day, String::new()),
                CostBy::Function => (String::new(), function),
                CostBy::Both => (day, function),
            };
            add(sums.entry(of).or_default(), &cost);
        }
        if page.next.is_empty() {
            break;
        }
        cursor = page.next;
    }
    let sums = sums.into_iter().map(|((day, function), cost)| Cost {
        day,
        function,
        ..cost
    });
    let sums: Vec<_> = sums.collect();
    match config.output.value {
        Format::Table => table::print_cost(by, &sums, &total)?,
        Format::Json => json::print(&json::CostList::new(&from, &to, &sums, &total))?,
    }
    Ok(Exit::Succeeded)
}

fn add(sum: &mut Cost, cost: &Cost) {
    let Cost {
        day: _,
        function: _,
        attempts,
        fuel,
        memory_byte_seconds,
        wall_ns,
        cpu_ns,
        bytes_in,
        bytes_out,
    } = cost;
    for (sum, more) in [
        (&mut sum.attempts, attempts),
        (&mut sum.fuel, fuel),
        (&mut sum.memory_byte_seconds, memory_byte_seconds),
        (&mut sum.wall_ns, wall_ns),
        (&mut sum.cpu_ns, cpu_ns),
        (&mut sum.bytes_in, bytes_in),
        (&mut sum.bytes_out, bytes_out),
    ] {
        *sum = sum.saturating_add(*more);
    }
}
