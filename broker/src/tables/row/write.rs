//! Writing rows field by field, as protobuf would, without a message in between whose texts would be copies.

use prost::encoding;

/// Writes a text, which is left out if it is empty.
pub(super) fn text(tag: u32, text: &str, row: &mut Vec<u8>) {
    if !text.is_empty() {
        slice(tag, text.as_bytes(), row);
    }
}

/// Writes a number, which is left out if it is 0.
pub(super) fn number(tag: u32, number: u64, row: &mut Vec<u8>) {
    if number != 0 {
        encoding::uint64::encode(tag, &number, row);
    }
}

/// Writes a message of its own, in its place: the bytes of its length are made room for when that is known.
pub(super) fn nested(tag: u32, row: &mut Vec<u8>, encode: impl FnOnce(&mut Vec<u8>)) {
    encoding::encode_key(tag, encoding::WireType::LengthDelimited, row);
    let at = row.len();
    encode(row);
    let end = row.len();
    encoding::encode_varint((end - at) as u64, row);
    let prefix = row.len() - end;
    row[at..].rotate_right(prefix);
}

/// Writes bytes.
pub(super) fn slice(tag: u32, bytes: &[u8], row: &mut Vec<u8>) {
    encoding::encode_key(tag, encoding::WireType::LengthDelimited, row);
    encoding::encode_varint(bytes.len() as u64, row);
    row.extend_from_slice(bytes);
}
