use std::path::PathBuf;

use super::{KEY_BYTES_MAX, VALUE_BYTES_MAX};

/// Why the store refused. Nothing of a refused batch was applied.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A key is empty or too long.
    #[error("key of {len} bytes is outside of 1 to {max} bytes", max = KEY_BYTES_MAX)]
    KeyLength {
        /// The key's length in bytes.
        len: usize,
    },
    /// A value is too large to be kept in the store.
    #[error("value of {len} bytes is over the limit of {max} bytes", max = VALUE_BYTES_MAX)]
    ValueTooLarge {
        /// The value's length in bytes.
        len: usize,
    },
    /// A write or a sync failed before. What it left on disk is unknown, so that only a restart may go on.
    #[error("store is read-only after a failed write: {cause}; restart the broker")]
    Poisoned {
        /// What failed first.
        cause: String,
    },
    /// The store was closed while a reader still held on to it.
    #[error("store is closed")]
    Closed,
    /// Another process has this directory open.
    #[error(
        "`{path}` is in use by another broker; stop that one first, or choose another data directory"
    )]
    Locked {
        /// The store's directory.
        path: PathBuf,
    },
    /// The directory was written by a tq of another format.
    #[error(
        "`{path}` has format {found}, which is {} than format {supported} that this tq reads; start it with the {} tq that wrote it",
        age(*found, *supported), age(*found, *supported)
    )]
    OtherFormat {
        /// The store's directory.
        path: PathBuf,
        /// The format on disk.
        found: u32,
        /// The format that this build reads.
        supported: u32,
    },
    /// The store holds less than it had acknowledged.
    #[error(
        "`{path}` holds commits up to {recovered} (generation {recovered_generation}), but commits up to {expected} \
         (generation {expected_generation}) were acknowledged: its journal was damaged, or an older copy of it was put \
         back; put the newest copy back, or accept the loss of what came later with `tq admin repair`"
    )]
    RolledBack {
        /// The store's directory.
        path: PathBuf,
        /// The last commit that is in the store.
        recovered: u64,
        /// The last commit that the mark knows to be durable.
        expected: u64,
        /// The generation that is in the store.
        recovered_generation: u32,
        /// The generation that the mark knows of.
        expected_generation: u32,
    },
    /// The journal cannot be read to its end, and what cannot be read was acknowledged.
    #[error(
        "journal `{path}` is damaged at byte {offset} ({what}): commits after {recovered} cannot be read, but commits up \
         to {expected} were acknowledged; restore the data directory, or accept the loss with `tq admin repair`"
    )]
    Damaged {
        /// The journal's file.
        path: PathBuf,
        /// Where the first unreadable commit begins.
        offset: u64,
        /// What is wrong there.
        what: &'static str,
        /// The last readable commit; 0 if there is none before the damage.
        recovered: u64,
        /// The last commit that is known to have been durable.
        expected: u64,
    },
    /// The mark in the directory belongs to another store.
    #[error(
        "the mark in `{path}` belongs to store {marked}, but the tables beside it are store {found}: parts of two data \
         directories were mixed; put the right ones together, or accept these tables with `tq admin repair`"
    )]
    Mixed {
        /// The store's directory.
        path: PathBuf,
        /// The store that the mark names.
        marked: super::StoreId,
        /// The store that the tables name.
        found: super::StoreId,
    },
    /// The tables are damaged beyond what `tq admin repair` mends.
    #[error(
        "`{path}` is damaged ({what}) in a way that cannot be repaired; restore the data directory from a copy"
    )]
    Corrupt {
        /// The store's directory.
        path: PathBuf,
        /// What is damaged.
        what: String,
    },
    /// There is no store where one was expected.
    #[error("`{path}` holds no tq store")]
    Missing {
        /// The directory that was looked at.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error("failed to {doing} `{path}`")]
    Io {
        /// What was attempted.
        doing: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// The storage engine failed to read.
    #[error("failed to {doing}")]
    Engine {
        /// What was attempted.
        doing: &'static str,
        /// Why it failed.
        source: fjall::Error,
    },
}

impl Error {
    /// Whether `tq admin repair` can make the store usable again, at the price of what was lost.
    pub fn is_repairable(&self) -> bool {
        match self {
            Self::RolledBack { .. } | Self::Damaged { .. } | Self::Mixed { .. } => true,
            Self::KeyLength { .. }
            | Self::ValueTooLarge { .. }
            | Self::Poisoned { .. }
            | Self::Closed
            | Self::Locked { .. }
            | Self::OtherFormat { .. }
            | Self::Corrupt { .. }
            | Self::Missing { .. }
            | Self::Io { .. }
            | Self::Engine { .. } => false,
        }
    }
}

fn age(found: u32, supported: u32) -> &'static str {
    if found > supported { "newer" } else { "older" }
}
