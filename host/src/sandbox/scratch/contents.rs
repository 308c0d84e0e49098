//! The bytes of one file.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use tq_core::limits::{SCRATCH_BLOCK_BYTES, SCRATCH_BLOCK_COST_BYTES};

use super::fault::Fault;
use super::space::Space;

const BLOCK: u64 = SCRATCH_BLOCK_BYTES as u64;
/// A block that is written to has room for so many bytes at least, so that short writes do not move it each time.
const ROOM_MIN: usize = 64;
/// The largest size that the interfaces of guests can say: theirs is signed.
const SIZE_MAX: u64 = i64::MAX as u64;

/// Blocks by their number. What has none, and what is behind the end of one, reads as zeros.
#[derive(Debug, Default)]
pub(super) struct Contents {
    size: u64,
    blocks: BTreeMap<u64, Vec<u8>>,
}

/// The bytes that a block of this length has room for: a power of two, so that one that grows is copied few times.
fn room(len: usize) -> usize {
    len.next_power_of_two().max(ROOM_MIN)
}

fn cost(len: usize) -> u64 {
    room(len) as u64 + SCRATCH_BLOCK_COST_BYTES
}

fn lengthen(block: &mut Vec<u8>, len: usize) -> Result<(), Fault> {
    let reserved = block.try_reserve_exact(room(len) - block.len());
    reserved.map_err(|_| Fault::HostShort)?;
    block.resize(len, 0);
    Ok(())
}

impl Contents {
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// What they take of the limit.
    pub(super) fn cost(&self) -> u64 {
        self.blocks.values().map(|block| cost(block.len())).sum()
    }

    /// At most `len` bytes from there; none at the end.
    pub(super) fn read(&self, offset: u64, len: usize) -> Vec<u8> {
        let end = self.size.min(offset.saturating_add(len as u64));
        if offset >= end {
            return Vec::new();
        }
        // Both are below `len`, which is a `usize`.
        let at = |position: u64| (position - offset) as usize;
        let mut bytes = vec![0; at(end)];
        for (number, block) in self.blocks.range(offset / BLOCK..=(end - 1) / BLOCK) {
            let start = number * BLOCK;
            let from = offset.max(start);
            let to = end.min(start + block.len() as u64);
            if from < to {
                let there = (from - start) as usize..(to - start) as usize;
                bytes[at(from)..at(to)].copy_from_slice(&block[there]);
            }
        }
        bytes
    }

    /// Writes what fits. Returns how much that is, and it is all but for a limit.
    pub(super) fn write(
        &mut self,
        space: &mut Space,
        offset: u64,
        bytes: &[u8],
    ) -> Result<usize, Fault> {
        let end = offset.checked_add(bytes.len() as u64);
        if end.is_none_or(|end| end > SIZE_MAX) {
            return Err(Fault::FileTooLarge);
        }
        let mut written = 0;
        while written < bytes.len() {
            let position = offset + written as u64;
            let within = (position % BLOCK) as usize;
            let len = (bytes.len() - written).min(SCRATCH_BLOCK_BYTES - within);
            let to = within + len;
            match self.block(space, position / BLOCK, to) {
                Ok(block) => block[within..to].copy_from_slice(&bytes[written..written + len]),
                Err(fault) if written == 0 => return Err(fault),
                Err(_) => break,
            }
            written += len;
            self.size = self.size.max(position + len as u64);
        }
        Ok(written)
    }

    /// The block of this number, with at least so many bytes.
    fn block(&mut self, space: &mut Space, number: u64, len: usize) -> Result<&mut [u8], Fault> {
        let place = self.blocks.entry(number);
        let before = match &place {
            Entry::Occupied(block) => Some(block.get().len()),
            Entry::Vacant(_) => None,
        };
        let len = before.unwrap_or(0).max(len);
        let (given, taken) = (before.map_or(0, cost), cost(len));
        space.exchange(given, taken)?;
        let grown = match place {
            Entry::Occupied(block) => {
                let block = block.into_mut();
                lengthen(block, len).map(|()| block)
            }
            Entry::Vacant(place) => {
                let mut block = Vec::new();
                lengthen(&mut block, len).map(|()| place.insert(block))
            }
        };
        match grown {
            Ok(block) => Ok(block),
            Err(fault) => {
                space.give(taken - given);
                Err(fault)
            }
        }
    }

    /// Cuts the file, or lengthens it by zeros, which take nothing.
    pub(super) fn resize(&mut self, space: &mut Space, size: u64) -> Result<(), Fault> {
        if size > SIZE_MAX {
            return Err(Fault::FileTooLarge);
        }
        if size < self.size {
            let beyond = self.blocks.split_off(&size.div_ceil(BLOCK));
            space.give(beyond.values().map(|block| cost(block.len())).sum());
            let len = (size % BLOCK) as usize;
            if len > 0
                && let Some(block) = self.blocks.get_mut(&(size / BLOCK))
                && block.len() > len
            {
                space.give(cost(block.len()) - cost(len));
                block.truncate(len);
                block.shrink_to(room(len));
            }
        }
        self.size = size;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Write(u64, Vec<u8>),
        Resize(u64),
        Read(u64, usize),
    }

    /// Around the borders of blocks more often than elsewhere.
    fn place() -> impl Strategy<Value = u64> {
        (0..3_u64, -80..80_i64).prop_map(|(block, by)| (block * BLOCK).saturating_add_signed(by))
    }

    fn step() -> impl Strategy<Value = Step> {
        let bytes = prop_oneof![1..100_usize, 1..40_000_usize];
        let bytes = (bytes, any::<u8>()).prop_map(|(len, byte)| vec![byte; len]);
        prop_oneof![
            (place(), bytes).prop_map(|(offset, bytes)| Step::Write(offset, bytes)),
            place().prop_map(Step::Resize),
            (place(), 0..50_000_usize).prop_map(|(offset, len)| Step::Read(offset, len)),
        ]
    }

    proptest! {
        #[test]
        fn they_are_as_a_list_of_bytes_would_be(steps in prop::collection::vec(step(), 1..30)) {
            let (mut contents, mut space) = (Contents::default(), Space::new(120 << 10));
            let mut model = Vec::new();
            for step in steps {
                match step {
                    Step::Write(offset, bytes) => {
                        let written = contents.write(&mut space, offset, &bytes);
                        let written = written.unwrap_or_else(|fault| {
                            assert_eq!(fault, Fault::Full);
                            0
                        });
                        let offset = offset as usize;
                        if written > 0 {
                            model.resize(model.len().max(offset + written), 0);
                            model[offset..offset + written].copy_from_slice(&bytes[..written]);
                        }
                    }
                    Step::Resize(size) => {
                        contents.resize(&mut space, size).unwrap();
                        model.resize(size as usize, 0);
                    }
                    Step::Read(offset, len) => {
                        let end = model.len().min(offset as usize + len);
                        let expected = model.get(offset as usize..end).unwrap_or_default();
                        prop_assert!(contents.read(offset, len) == expected);
                    }
                }
                prop_assert_eq!(contents.size(), model.len() as u64);
                prop_assert_eq!(contents.cost(), space.used());
                let held: usize = contents.blocks.values().map(Vec::capacity).sum();
                prop_assert!(held as u64 <= space.used());
            }
            prop_assert!(contents.read(0, usize::MAX) == model);
            contents.resize(&mut space, 0).unwrap();
            prop_assert_eq!(space.used(), 0);
        }
    }

    #[test]
    fn holes_take_nothing_and_no_size_is_too_large_to_hold() {
        let (mut contents, mut space) = (Contents::default(), Space::new(1_000));
        contents.resize(&mut space, SIZE_MAX).unwrap();
        assert_eq!(space.used(), 0);
        assert_eq!(contents.read(SIZE_MAX - 3, 100), [0; 3]);
        assert_eq!(
            contents.resize(&mut space, SIZE_MAX + 1),
            Err(Fault::FileTooLarge)
        );
        for (offset, fault) in [
            (SIZE_MAX, Fault::FileTooLarge),
            (u64::MAX, Fault::FileTooLarge),
            // The last byte of its block, which is held up to there.
            (BLOCK - 1, Fault::Full),
        ] {
            assert_eq!(contents.write(&mut space, offset, b"x"), Err(fault));
        }
        assert_eq!(contents.write(&mut space, BLOCK, b"x"), Ok(1));
        assert_eq!(space.used(), 64 + SCRATCH_BLOCK_COST_BYTES);
        assert_eq!(contents.write(&mut space, SIZE_MAX, b""), Ok(0));
    }

    #[test]
    fn what_does_not_fit_is_written_as_far_as_it_does() {
        let (mut contents, mut space) = (Contents::default(), Space::new(40 << 10));
        let written = contents.write(&mut space, 0, &[1; 100 << 10]);
        assert_eq!(written, Ok(2 * SCRATCH_BLOCK_BYTES));
        assert_eq!(contents.size(), 2 * BLOCK);
        assert!(space.denied().is_some());
        assert_eq!(
            contents.write(&mut space, 2 * BLOCK, &[1; 9_000]),
            Err(Fault::Full)
        );
    }
}
