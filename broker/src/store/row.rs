//! The row that every commit carries, so that what was recovered is known.

use super::StoreId;

/// The format that this build reads and writes. Lower ones kept claims in the rows of tasks, had a ready row for each
/// task, named lanes by their module, had no index of dead letters, and did not note which tasks need a blob or a module; no
/// release had them.
pub const FORMAT: u32 = 6;

/// The engine's keyspace that holds the row, and the row's key in it. The row comes first in each batch, which is how
/// the journal is read without the engine.
pub(super) const ROW_KEYSPACE: &str = "commit_v1";
pub(super) const ROW_KEY: &[u8] = b"tq.commit";

const ROW_BYTES: usize = 4 + 16 + 4 + 8 + 8 + 8 + 1;

/// What a commit says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) store_id: StoreId,
    pub(super) generation: u32,
    pub(super) seq: u64,
    /// The sequence before this one, so that a missing commit breaks the chain. It is `seq - 1` but after a repair,
    /// which leaves room for what the hosts may have seen.
    pub(super) previous: u64,
    /// The last sequence that had been synced when this commit was made.
    pub(super) durable: u64,
    /// Whether this was the last commit of an orderly end.
    pub(super) clean: bool,
}

/// Why bytes are no row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotARow {
    OtherFormat(u32),
    Malformed,
}

impl Row {
    pub(super) fn encode(&self) -> [u8; ROW_BYTES] {
        let Self {
            store_id,
            generation,
            seq,
            previous,
            durable,
            clean,
        } = self;
        let mut bytes = [0; ROW_BYTES];
        bytes[..4].copy_from_slice(&FORMAT.to_be_bytes());
        bytes[4..20].copy_from_slice(&store_id.0);
        bytes[20..24].copy_from_slice(&generation.to_be_bytes());
        bytes[24..32].copy_from_slice(&seq.to_be_bytes());
        bytes[32..40].copy_from_slice(&previous.to_be_bytes());
        bytes[40..48].copy_from_slice(&durable.to_be_bytes());
        bytes[48] = u8::from(*clean);
        bytes
    }

    /// Reads a row. The format comes first and alone decides, since another format may change all that follows.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, NotARow> {
        let (format, rest) = bytes.split_first_chunk().ok_or(NotARow::Malformed)?;
        let format = u32::from_be_bytes(*format);
        if format != FORMAT {
            return Err(NotARow::OtherFormat(format));
        }
        let rest: &[u8; ROW_BYTES - 4] = rest.try_into().map_err(|_| NotARow::Malformed)?;
        let (store_id, rest) = rest.split_first_chunk().ok_or(NotARow::Malformed)?;
        let (generation, rest) = rest.split_first_chunk().ok_or(NotARow::Malformed)?;
        let (seq, rest) = rest.split_first_chunk().ok_or(NotARow::Malformed)?;
        let (previous, rest) = rest.split_first_chunk().ok_or(NotARow::Malformed)?;
        let (durable, rest) = rest.split_first_chunk().ok_or(NotARow::Malformed)?;
        let clean = match rest {
            [0] => false,
            [1] => true,
            _ => return Err(NotARow::Malformed),
        };
        Ok(Self {
            store_id: StoreId(*store_id),
            generation: u32::from_be_bytes(*generation),
            seq: u64::from_be_bytes(*seq),
            previous: u64::from_be_bytes(*previous),
            durable: u64::from_be_bytes(*durable),
            clean,
        })
    }
}
