//! Scales a picture down, in two steps with a checkpoint between them.

use std::io::Cursor;

use image::{ImageFormat, ImageReader, Limits, RgbaImage, imageops};
use tq_sdk::{Context, Error, Result};

/// Both sides of a thumbnail are at most this many pixels.
const SIDE_PIXELS_MAX: u32 = 160;

/// What decoding may allocate: less than the memory that `tq.toml` grants, so that a picture too large is a clear error.
const DECODE_BYTES_MAX: u64 = 160 * 1024 * 1024;

/// Scales a PNG or JPEG picture down to at most 160 by 160 pixels, as a PNG. A smaller one keeps its size.
#[tq_sdk::task]
fn thumbnail(cx: Context, picture: &[u8]) -> Result<Vec<u8>> {
    let scaled = match cx.load_checkpoint() {
        // An attempt before this one got so far.
        Some(state) => {
            tq_sdk::info!(
                "attempt {} goes on from a checkpoint of {} bytes",
                cx.attempt(),
                state.len()
            );
            restore(state)?
        }
        None => {
            cx.progress(0.0, "decoding");
            let scaled = scale(&cx, picture)?;
            cx.save_checkpoint(&keep(&scaled))?;
            scaled
        }
    };
    cx.progress(0.8, "encoding");
    let mut png = Cursor::new(Vec::new());
    scaled.write_to(&mut png, ImageFormat::Png)?;
    cx.progress(
        1.0,
        format!("{} × {} pixels", scaled.width(), scaled.height()),
    );
    Ok(png.into_inner())
}

/// Decodes the picture and scales it down: nearly all of the work.
fn scale(cx: &Context, picture: &[u8]) -> Result<RgbaImage> {
    let mut reader = ImageReader::new(Cursor::new(picture)).with_guessed_format()?;
    let mut limits = Limits::default();
    limits.max_alloc = Some(DECODE_BYTES_MAX);
    reader.limits(limits);
    let decoded = reader
        .decode()
        .map_err(|error| Error::invalid_input(format!("picture cannot be decoded: {error}")))?;
    cx.progress(
        0.5,
        format!("scaling {} × {} pixels", decoded.width(), decoded.height()),
    );
    if decoded.width().max(decoded.height()) <= SIDE_PIXELS_MAX {
        return Ok(decoded.into_rgba8());
    }
    Ok(decoded
        .resize(
            SIDE_PIXELS_MAX,
            SIDE_PIXELS_MAX,
            imageops::FilterType::Triangle,
        )
        .into_rgba8())
}

/// A checkpoint: the width as four bytes, little endian, then the pixels, four bytes each.
fn keep(scaled: &RgbaImage) -> Vec<u8> {
    [&scaled.width().to_le_bytes(), scaled.as_raw().as_slice()].concat()
}

fn restore(state: Vec<u8>) -> Result<RgbaImage> {
    let unreadable = || {
        Error::fatal(format!(
            "checkpoint of {} bytes is not one of this module",
            state.len()
        ))
    };
    let (width, pixels) = state.split_first_chunk::<4>().ok_or_else(unreadable)?;
    let width = u32::from_le_bytes(*width);
    let row_bytes = u64::from(width) * 4;
    let height = (pixels.len() as u64)
        .checked_div(row_bytes)
        .and_then(|rows| u32::try_from(rows).ok());
    // `from_raw` holds the size against the number of bytes.
    height
        .and_then(|height| RgbaImage::from_raw(width, height, pixels.to_vec()))
        .ok_or_else(unreadable)
}

fn main() {}

#[cfg(test)]
mod tests {
    use image::GenericImageView as _;
    use tq_sdk::{Context, Error};

    use super::thumbnail;

    const SAMPLE: &[u8] = include_bytes!("../sample.png");

    #[test]
    fn picture_is_scaled_to_fit_and_keeps_its_shape() {
        let png = thumbnail(Context::current(), SAMPLE).expect("the sample is a picture");
        let scaled = image::load_from_memory(&png).expect("the result is a picture");
        assert_eq!(scaled.dimensions(), (160, 120));
    }

    #[test]
    fn second_attempt_goes_on_from_the_checkpoint_of_the_first() {
        let first = thumbnail(Context::current(), SAMPLE);
        // It cannot have decoded this.
        assert_eq!(thumbnail(Context::current(), b"no picture"), first);
        assert!(first.is_ok(), "{first:?}");
    }

    #[test]
    fn what_is_no_picture_is_invalid_input() {
        let refused = thumbnail(Context::current(), b"no picture");
        let message = "picture cannot be decoded: The image format could not be determined";
        assert_eq!(refused, Err(Error::invalid_input(message)));
    }

    #[test]
    fn checkpoint_of_another_shape_is_refused() {
        let cx = Context::current();
        cx.save_checkpoint(&[0; 9])
            .expect("the stand-in keeps every checkpoint");
        assert_eq!(
            thumbnail(cx, SAMPLE),
            Err(Error::fatal(
                "checkpoint of 9 bytes is not one of this module"
            ))
        );
    }
}
