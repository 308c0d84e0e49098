//! What is stored: of another build, or damaged in a way that its checksum does not show.

use bytes::Bytes;
use tq_broker::tables::{key, row};
use tq_core::TaskId;

pub(crate) fn read(bytes: &[u8]) {
    let Some((choice, rest)) = crate::choice(bytes, 18) else {
        return;
    };
    let row = Bytes::copy_from_slice(rest);
    match choice {
        0 => drop(row::decode_claims(row)),
        1 => drop(row::decode_host(row)),
        2 => drop(row::decode_module(rest)),
        3 => drop(row::decode_retention(rest)),
        4 => drop(row::decode_collector(rest)),
        5 => drop(row::decode_settings(row)),
        6 => drop(row::QueueRow::read(row)),
        7 => drop(row::decode_current(rest)),
        8 => drop(row::decode_task(TaskId([7; 16]), row, None)),
        9 => {
            let at = rest.first().map_or(0, |first| usize::from(*first));
            let (call, state) = row.split_at(at.min(row.len()));
            let (call, state) = (row.slice_ref(call), row.slice_ref(state));
            drop(row::decode_task(TaskId([7; 16]), call, Some(state)));
        }
        10 => {
            row::settled_at(rest);
            row::decode_settled(rest).for_each(drop);
        }
        11 => row::decode_ready(rest).for_each(drop),
        12 => drop(row::decode_secret(row)),
        13 => drop(row::Bucket::read(row)),
        14 => drop(row::Entry::read(row)),
        15 => drop(row::decode_breaker(row)),
        16 => drop(row::decode_cost(row)),
        _ => keys(rest),
    }
}

fn keys(bytes: &[u8]) {
    key::namespace_of(bytes);
    key::bucket_of(bytes);
    key::breaker_of(bytes);
    key::cost_of(bytes);
    key::entry_of(bytes);
    key::module_uses_of(bytes);
    key::current_of(bytes);
    key::counters_of(bytes);
    key::queue_of(bytes);
    key::host_of(bytes);
    key::task_of(bytes);
    key::ready_of(bytes);
    key::timer_of(bytes);
    key::settled_of(bytes);
    key::log_piece_of(bytes);
    key::claims_of(bytes);
    key::blob_of(bytes);
    key::dead_signature_of(bytes);
    key::death_of(bytes);
    key::due_of(bytes);
    key::retention_of(bytes);
    key::secret_name_of(bytes);
}
