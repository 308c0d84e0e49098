//! The stores that the ledger's promises are tested on. A new one is a function here, and its name in `on_every_store`.

use crate::store::conformance::Place;
use crate::store::fjall::tests::Directory;
use crate::store::memory::Disk;

/// Makes an empty place for a store.
pub(super) type NewStore = fn() -> Box<dyn Place>;

pub(super) fn memory() -> Box<dyn Place> {
    Box::new(Disk::new())
}

pub(super) fn fjall() -> Box<dyn Place> {
    Box::new(Directory::new())
}
