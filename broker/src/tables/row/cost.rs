//! What a function cost in a day.

use prost::Message;
use tq_core::limits::{COST_DAYS_MAX, COST_PAGE_MAX};
use tq_core::{Cost, Day};

use super::Error;
use crate::store::{self, Bytes, Direction, Read, Space};
use crate::tables::key::{self, Namespace};

#[derive(Clone, PartialEq, Eq, Message)]
struct CostRow {
    #[prost(uint64, tag = "1")]
    attempts: u64,
    #[prost(uint64, tag = "2")]
    fuel: u64,
    /// The lower 64 bits of bytes times microseconds.
    #[prost(uint64, tag = "3")]
    memory_byte_us_low: u64,
    /// The higher ones.
    #[prost(uint64, tag = "4")]
    memory_byte_us_high: u64,
    #[prost(uint64, tag = "5")]
    wall_ns: u64,
    #[prost(uint64, tag = "6")]
    cpu_ns: u64,
    #[prost(uint64, tag = "7")]
    bytes_in: u64,
    #[prost(uint64, tag = "8")]
    bytes_out: u64,
}

/// Encodes what a function cost.
pub fn encode_cost(cost: &Cost) -> Vec<u8> {
    let Cost {
        attempts,
        fuel,
        memory_byte_us,
        wall_ns,
        cpu_ns,
        bytes_in,
        bytes_out,
    } = *cost;
    CostRow {
        attempts,
        fuel,
        memory_byte_us_low: memory_byte_us as u64,
        memory_byte_us_high: (memory_byte_us >> 64) as u64,
        wall_ns,
        cpu_ns,
        bytes_in,
        bytes_out,
    }
    .encode_to_vec()
}

/// Decodes what a function cost.
///
/// # Errors
/// [`Error`] if the bytes are no such row.
pub fn decode_cost(bytes: Bytes) -> Result<Cost, Error> {
    let CostRow {
        attempts,
        fuel,
        memory_byte_us_low,
        memory_byte_us_high,
        wall_ns,
        cpu_ns,
        bytes_in,
        bytes_out,
    } = CostRow::decode(bytes).map_err(|source| Error::Decode {
        kind: "cost",
        source,
    })?;
    Ok(Cost {
        attempts,
        fuel,
        memory_byte_us: u128::from(memory_byte_us_high) << 64 | u128::from(memory_byte_us_low),
        wall_ns,
        cpu_ns,
        bytes_in,
        bytes_out,
    })
}

/// What functions of a namespace cost, by day and then by name: at most [`COST_PAGE_MAX`] of them.
#[derive(Debug, Default)]
pub struct CostPage {
    /// The rows.
    pub rows: Vec<(Day, String, Cost)>,
    /// There may be more after the last one.
    pub is_full: bool,
}

/// Reads costs of a namespace from one day to another, both included, after a row if one is given. Of a range of more than
/// [`COST_DAYS_MAX`] days, which are all that are kept, the last ones are read.
///
/// # Errors
/// If the store or a row cannot be read.
pub fn list_costs<E>(
    store: &(impl Read + ?Sized),
    namespace: Namespace,
    (from, to): (Day, Day),
    after: Option<(Day, &str)>,
) -> Result<CostPage, E>
where
    E: From<store::Error> + From<Error>,
{
    let from = from.max(to.before(COST_DAYS_MAX));
    let first = after.map_or(from, |(day, _)| day.max(from));
    let mut page = CostPage::default();
    for day in first.0..=to.0 {
        let day = Day(day);
        let start = match after {
            Some((of, function)) if of == day => {
                [&key::cost(day, namespace, function).bytes[..], &[0]].concat()
            }
            Some(_) | None => Vec::new(),
        };
        let prefix = key::costs_of(day, namespace);
        let room = COST_PAGE_MAX - page.rows.len();
        let pairs = store.scan(Space::Index, &prefix, &start, Direction::Ascending, room)?;
        for pair in pairs {
            if let Some((_, _, function)) = key::cost_of(&pair.key) {
                let cost = decode_cost(pair.value)?;
                page.rows.push((day, function.to_owned(), cost));
            }
        }
        if page.rows.len() >= COST_PAGE_MAX {
            page.is_full = true;
            break;
        }
    }
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_say_what_they_were_made_of() {
        let cost = Cost {
            attempts: 1,
            fuel: 2,
            memory_byte_us: u128::MAX - 3,
            wall_ns: 4,
            cpu_ns: 5,
            bytes_in: 6,
            bytes_out: 7,
        };
        for cost in [cost, Cost::default()] {
            assert_eq!(decode_cost(encode_cost(&cost).into()).ok(), Some(cost));
        }
        assert!(decode_cost(Bytes::from_static(&[10, 9])).is_err());
    }
}
