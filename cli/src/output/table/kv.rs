//! Buckets and keys.

use tq_client::{KeyInfo, ListBucketsResponse};

use super::{print, time};
use crate::units::{Count, Size};

/// Prints buckets, one a line, and what they have together.
///
/// # Errors
/// As [`output::data`](crate::output::data).
pub(crate) fn print_buckets(listed: &ListBucketsResponse) -> anyhow::Result<()> {
    let row = |name: &str, keys, bytes: String| [name.to_owned(), Count(keys).to_string(), bytes];
    let buckets = listed.buckets.iter();
    let (mut keys, mut bytes) = (0, 0);
    let mut rows: Vec<_> = buckets
        .map(|bucket| {
            keys += bucket.keys;
            bytes += bucket.bytes;
            row(&bucket.name, bucket.keys, Size(bucket.bytes).to_string())
        })
        .collect();
    let total = format!("{} of {}", Size(bytes), Size(listed.bytes_max));
    rows.push(row("(all)", keys, total));
    print(["bucket", "keys", "size"], rows)
}

/// Prints keys, one a line.
///
/// # Errors
/// As [`output::data`](crate::output::data).
pub(crate) fn print_keys(keys: &[KeyInfo]) -> anyhow::Result<()> {
    print(
        ["key", "size", "updated"],
        keys.iter().map(|key| {
            [
                // Guests name keys as they like, with line feeds too.
                key.key.escape_debug().to_string(),
                Size(key.bytes).to_string(),
                time(key.updated_ms),
            ]
        }),
    )
}
