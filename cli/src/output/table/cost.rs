//! Costs.

use tq_client::Cost;

use super::print;
use crate::args::CostBy;
use crate::output::escaped;
use crate::units::{Count, Size, nanoseconds};

/// Prints what functions or days cost, and the sum of it.
///
/// # Errors
/// As [`crate::output::data`].
pub(crate) fn print_cost(by: CostBy, costs: &[Cost], total: &Cost) -> anyhow::Result<()> {
    let total = (total, "total".to_owned(), "total".to_owned());
    let rows = costs
        .iter()
        .map(|cost| (cost, cost.day.clone(), escaped(&cost.function)));
    let rows = rows.chain([total]);
    let numbers = ["attempts", "fuel", "memory x s", "wall", "cpu", "in", "out"];
    match by {
        CostBy::Day => print(
            header(["day"], numbers),
            rows.map(|(cost, day, _)| header([day], cells(cost))),
        ),
        CostBy::Function => print(
            header(["function"], numbers),
            rows.map(|(cost, _, function)| header([function], cells(cost))),
        ),
        CostBy::Both => {
            let rows = rows.map(|(cost, day, function)| {
                // Of all days, it has no function.
                let function = if day == function {
                    String::new()
                } else {
                    function
                };
                let [attempts, fuel, memory, wall, cpu, bytes_in, bytes_out] = cells(cost);
                [
                    day, function, attempts, fuel, memory, wall, cpu, bytes_in, bytes_out,
                ]
            });
            let [attempts, fuel, memory, wall, cpu, bytes_in, bytes_out] = numbers;
            print(
                [
                    "day", "function", attempts, fuel, memory, wall, cpu, bytes_in, bytes_out,
                ],
                rows,
            )
        }
    }
}

fn header<T>([first]: [T; 1], [a, b, c, d, e, f, g]: [T; 7]) -> [T; 8] {
    [first, a, b, c, d, e, f, g]
}

fn cells(cost: &Cost) -> [String; 7] {
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
    [
        Count(*attempts).to_string(),
        Count(*fuel).to_string(),
        Size(*memory_byte_seconds).to_string(),
        nanoseconds(*wall_ns),
        nanoseconds(*cpu_ns),
        Size(*bytes_in).to_string(),
        Size(*bytes_out).to_string(),
    ]
}
