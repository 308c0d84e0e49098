//! `tq kv …`

use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(crate) enum KvCommand {
    /// List the buckets of the namespace, or the keys of one
    #[command(
        after_help = "Keys come in the order of their bytes, a thousand at a time.

Examples:
  tq kv list
  tq kv list cache --after user-1999"
    )]
    List {
        /// The bucket
        bucket: Option<String>,
        /// Begin behind this key
        #[arg(long, value_name = "KEY", requires = "bucket")]
        after: Option<String>,
    },
    /// Print the value of a key, as it is
    #[command(after_help = "Example:\n  tq kv get cache user-7 > user-7.json")]
    Get {
        /// The bucket
        bucket: String,
        /// The key
        key: String,
    },
    /// Set a key; the bucket is there with its first one
    #[command(
        after_help = "A value has up to 64 KiB, a key up to 512 bytes. It is on disk when this returns.

Examples:
  tq kv set counters hits 0
  tq kv set cache user-7 < user-7.json"
    )]
    Set {
        /// The bucket
        bucket: String,
        /// The key
        key: String,
        /// The value; `-`, or none, takes it from standard input
        value: Option<String>,
    },
    /// Delete a key, or the whole bucket
    #[command(after_help = "Examples:\n  tq kv delete cache user-7\n  tq kv delete cache")]
    Delete {
        /// The bucket
        bucket: String,
        /// The key; without it, every key of the bucket
        key: Option<String>,
    },
}
