//! The form in which a checkpoint leaves the process that runs its guest: as an LZ4 frame where that is shorter.

use std::io::{self, Read as _, Write as _};

use bytes::Bytes;
use lz4_flex::frame::{FrameDecoder, FrameEncoder};

use tq_core::limits::CHECKPOINT_BYTES_MAX;

/// What an LZ4 frame begins with, by its specification. A state that begins so is always in a frame.
const MAGIC: [u8; 4] = 0x184d_2204_u32.to_le_bytes();

/// A state as it is kept.
pub(crate) fn packed(state: Bytes) -> Bytes {
    let mut encoder = FrameEncoder::new(Vec::new());
    let written = encoder.write_all(&state);
    match written.and_then(|()| Ok(encoder.finish()?)) {
        Ok(frame) if frame.len() < state.len() || state.starts_with(&MAGIC) => frame.into(),
        Ok(_) | Err(_) => state,
    }
}

/// The state that is kept so.
///
/// # Errors
/// It begins as a frame and is none, or has more than [`CHECKPOINT_BYTES_MAX`].
pub(crate) fn unpacked(kept: &Bytes) -> io::Result<Bytes> {
    if !kept.starts_with(&MAGIC) {
        return Ok(kept.clone());
    }
    let mut state = Vec::new();
    let max = CHECKPOINT_BYTES_MAX as u64;
    FrameDecoder::new(&kept[..])
        .take(max + 1)
        .read_to_end(&mut state)?;
    match state.len() > CHECKPOINT_BYTES_MAX {
        true => Err(io::Error::other(format!(
            "a checkpoint has more than {max} bytes"
        ))),
        false => Ok(state.into()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_state_comes_back(state: Vec<u8>, is_framed: bool) {
            let state = Bytes::from(if is_framed { [&MAGIC[..], &state].concat() } else { state });
            prop_assert_eq!(unpacked(&packed(state.clone())).unwrap(), state);
        }
    }

    #[test]
    fn what_repeats_is_kept_short_and_what_does_not_as_it_is() {
        let zeros = Bytes::from(vec![0; CHECKPOINT_BYTES_MAX]);
        assert!(packed(zeros.clone()).len() < CHECKPOINT_BYTES_MAX / 100);
        assert_eq!(unpacked(&packed(zeros.clone())).unwrap(), zeros);
        let short = Bytes::from_static(b"step 13");
        assert_eq!(packed(short.clone()), short);
    }

    #[test]
    fn what_is_no_frame_or_too_much_is_an_error() {
        let torn = Bytes::from([&MAGIC[..], b"no frame"].concat());
        assert!(unpacked(&torn).is_err());
        let bomb = packed(vec![0; CHECKPOINT_BYTES_MAX + 1].into());
        assert!(bomb.len() < CHECKPOINT_BYTES_MAX);
        assert_eq!(
            unpacked(&bomb).unwrap_err().to_string(),
            "a checkpoint has more than 1048576 bytes"
        );
    }
}
