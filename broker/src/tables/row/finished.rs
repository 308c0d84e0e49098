//! Rows of finished tasks: what a search asks of the tasks that ended in one commit, so that it reads no task that it
//! does not take. Texts are there as hashes: they tell which tasks have another one.
//!
//! A row is its entries one after the other, in the order of their ids. An entry is 76 bytes, and 4 for each label:
//! state, flags, priority and number of labels (a byte each), the id (16), attempts (4); when it was submitted, how long
//! its last attempt took, its fuel and its memory (8 each); the hashes of function, module, queue, outcome and host,
//! and of each label (4 each).

use tq_core::outcome::Outcome;
use tq_core::task::{State, Task};
use tq_core::{Priority, TaskId, Timestamp};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// An entry without labels.
const ENTRY_BYTES: usize = 76;
/// The flag of a task whose last attempt says why it failed.
const HAS_FAILURE: u8 = 1;

/// How a task ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With a result.
    Succeeded,
    /// Without one, by its own doing.
    Dead,
    /// Because someone asked.
    Cancelled,
    /// By its deadline.
    Expired,
}

/// A text, as far as an entry knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hash(u32);

impl Hash {
    /// That of a text.
    pub fn of(text: &str) -> Self {
        // The lower half is as good as any.
        Self(xxh3_64(text.as_bytes()) as u32)
    }

    /// That of a module's function.
    pub fn of_function(module: &str, function: &str) -> Self {
        let seed = xxh3_64(module.as_bytes());
        Self(xxh3_64_with_seed(function.as_bytes(), seed) as u32)
    }

    /// That of a label.
    pub fn of_label(label: &str, value: &str) -> Self {
        Self::of_function(label, value)
    }
}

/// A task that ended, as far as its row knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finished<'a> {
    /// Which task.
    pub id: TaskId,
    /// How it ended.
    pub end: End,
    /// Its last attempt says why it failed.
    pub has_failure: bool,
    /// How urgent it was.
    pub priority: Priority,
    /// Attempts ever started.
    pub attempts: u32,
    /// When it was submitted.
    pub submitted_at: Timestamp,
    /// How long its last attempt took, in nanoseconds.
    pub wall_ns: u64,
    /// What that used.
    pub fuel: u64,
    /// The most memory that it had, in bytes.
    pub memory_bytes: u64,
    /// MODULE/FUNCTION.
    pub function: Hash,
    /// The module's name.
    pub module: Hash,
    /// The queue's name.
    pub queue: Hash,
    /// The name of its last attempt's outcome; that of the empty text if there was no attempt.
    pub outcome: Hash,
    /// The last attempt's host, likewise.
    pub host: Hash,
    labels: &'a [[u8; 4]],
}

impl Finished<'_> {
    /// Whether it may have a label.
    pub fn may_have(&self, label: Hash) -> bool {
        self.labels.contains(&label.0.to_be_bytes())
    }
}

/// Adds the entry of a task to a row, if it has ended. Returns whether it has.
pub fn encode_finished(task: &Task, row: &mut Vec<u8>) -> bool {
    let end = match task.state {
        State::Succeeded { .. } => End::Succeeded,
        State::Dead { .. } => End::Dead,
        State::Cancelled { .. } => End::Cancelled,
        State::Expired { .. } => End::Expired,
        State::Blocked { .. }
        | State::Scheduled { .. }
        | State::Ready { .. }
        | State::Running { .. } => return false,
    };
    let spec = &task.spec;
    let last = task.attempts.last();
    let usage = last.map(|last| last.usage).unwrap_or_default();
    let has_failure = last.is_some_and(|last| last.failure.is_some());
    let labels = u8::try_from(spec.labels.len()).unwrap_or(u8::MAX);
    // Written as a whole: every end has one.
    let mut entry = [0; ENTRY_BYTES];
    let mut rest = &mut entry[..];
    let mut put = |bytes: &[u8]| {
        if let Some((to, behind)) = std::mem::take(&mut rest).split_at_mut_checked(bytes.len()) {
            to.copy_from_slice(bytes);
            rest = behind;
        }
    };
    put(&[
        end as u8,
        if has_failure { HAS_FAILURE } else { 0 },
        spec.priority.0,
        labels,
    ]);
    put(&task.id.0);
    put(&task.started.to_be_bytes());
    for number in [
        spec.submitted_at.0,
        usage.wall_ns,
        usage.fuel,
        usage.memory_bytes_peak,
    ] {
        put(&number.to_be_bytes());
    }
    for Hash(hash) in [
        Hash::of_function(&spec.module, &spec.function),
        Hash::of(&spec.module),
        Hash::of(spec.placement.queue()),
        Hash::of(task.outcome().map_or("", Outcome::name)),
        Hash::of(last.map_or("", |last| &last.host)),
    ] {
        put(&hash.to_be_bytes());
    }
    row.extend_from_slice(&entry);
    for (label, value) in spec.labels.iter().take(labels.into()) {
        let Hash(hash) = Hash::of_label(label, value);
        row.extend_from_slice(&hash.to_be_bytes());
    }
    true
}

/// The entries of a row, and the bytes of each. It ends at the first that is none.
pub fn decode_finished(mut row: &[u8]) -> impl Iterator<Item = (Finished<'_>, &[u8])> {
    std::iter::from_fn(move || {
        let labels = usize::from(*row.get(3)?);
        let (entry, rest) = row.split_at_checked(ENTRY_BYTES + 4 * labels)?;
        row = rest;
        decode(entry).map(|finished| (finished, entry))
    })
}

fn decode(entry: &[u8]) -> Option<Finished<'_>> {
    let (&[end, flags, priority, _], rest) = entry.split_first_chunk()?;
    let (id, rest) = rest.split_first_chunk()?;
    let (attempts, rest) = rest.split_first_chunk()?;
    let (numbers, rest) = rest.split_first_chunk::<32>()?;
    let (numbers, _) = numbers.as_chunks();
    let (hashes, _) = rest.as_chunks();
    let (&[function, module, queue, outcome, host], labels) = hashes.split_first_chunk()?;
    let &[submitted, wall, fuel, memory] = numbers else {
        return None;
    };
    let hash = |bytes| Hash(u32::from_be_bytes(bytes));
    Some(Finished {
        id: TaskId(*id),
        end: match end {
            0 => End::Succeeded,
            1 => End::Dead,
            2 => End::Cancelled,
            3 => End::Expired,
            _ => return None,
        },
        has_failure: flags & HAS_FAILURE != 0,
        priority: Priority(priority),
        attempts: u32::from_be_bytes(*attempts),
        submitted_at: Timestamp(u64::from_be_bytes(submitted)),
        wall_ns: u64::from_be_bytes(wall),
        fuel: u64::from_be_bytes(fuel),
        memory_bytes: u64::from_be_bytes(memory),
        function: hash(function),
        module: hash(module),
        queue: hash(queue),
        outcome: hash(outcome),
        host: hash(host),
        labels,
    })
}
