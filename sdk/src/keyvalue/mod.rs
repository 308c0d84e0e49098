//! Buckets of keys and values that the attempts of a namespace share: what the broker keeps for them.
//!
//! A function opens the buckets that its module was granted (`[capabilities] keyvalue` in `tq.toml`). What a call changed is on the
//! broker's disk when it returns, and whoever reads afterwards sees it. A task may run more than once: what it writes should be the
//! same the second time, or rest on what is there ([`Bucket::update`]).
//!
//! ```no_run
//! use tq_sdk::keyvalue::Bucket;
//!
//! # fn example() -> Result<(), tq_sdk::keyvalue::Error> {
//! let cache = Bucket::open("cache")?;
//! if cache.get("greeting")?.is_none() {
//!     cache.set("greeting", "hello")?;
//! }
//! let visits = Bucket::open("counters")?.increment("visits", 1)?;
//! # Ok(())
//! # }
//! ```
//!
//! Off WebAssembly every thread has its own buckets, empty at first, and may open all of them: a `#[test]` finds only what it put
//! there.

#[cfg(target_family = "wasm")]
#[rustfmt::skip]
#[expect(
    unreachable_pub,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    clippy::undocumented_unsafe_blocks,
    clippy::unwrap_used,
    reason = "generated"
)]
mod bindings;
#[cfg(not(target_family = "wasm"))]
mod native;
#[cfg(target_family = "wasm")]
mod wasm;

#[cfg(not(target_family = "wasm"))]
use native as host;
#[cfg(target_family = "wasm")]
use wasm as host;

use std::fmt;

/// Why a call to a bucket failed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// There cannot be a bucket of that name.
    NoSuchStore,
    /// The function was not granted the bucket; the task's log says what would have to be.
    AccessDenied,
    /// Something else.
    Other {
        /// What.
        reason: String,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchStore => f.write_str("there cannot be a bucket of that name"),
            Self::AccessDenied => f.write_str("the bucket is not granted to the function"),
            Self::Other { reason } => f.write_str(reason),
        }
    }
}

impl std::error::Error for Error {}

/// Keys of a bucket, and where the next ones begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    /// In the order of their bytes.
    pub keys: Vec<String>,
    /// What to ask for the next page with; none if there are no more.
    pub next: Option<String>,
}

/// An open bucket.
#[derive(Debug)]
pub struct Bucket(host::Bucket);

impl Bucket {
    /// Opens a bucket of the task's namespace. It is there with its first key.
    ///
    /// # Errors
    /// [`Error::AccessDenied`] if it is not granted, [`Error::NoSuchStore`] for what is no name.
    pub fn open(name: &str) -> Result<Self, Error> {
        host::open(name).map(Self)
    }

    /// The value of a key; none if it is not there.
    ///
    /// # Errors
    /// [`Error::Other`] for a key that is too long, or if the broker cannot be asked.
    pub fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Error> {
        host::get(&self.0, key)
    }

    /// Sets a key, of up to 512 bytes, to a value of up to 64 KiB.
    ///
    /// # Errors
    /// [`Error::Other`] for what is too long, if the namespace has too much, or if the broker cannot be asked: then the value may
    /// be set all the same.
    pub fn set(&self, key: &str, value: impl AsRef<[u8]>) -> Result<(), Error> {
        host::set(&self.0, key, value.as_ref())
    }

    /// Deletes a key, if it is there.
    ///
    /// # Errors
    /// As [`Bucket::set`].
    pub fn delete(&self, key: &str) -> Result<(), Error> {
        host::delete(&self.0, key)
    }

    /// Whether a key is there.
    ///
    /// # Errors
    /// As [`Bucket::get`].
    pub fn exists(&self, key: &str) -> Result<bool, Error> {
        host::exists(&self.0, key)
    }

    /// A page of keys: the first one, or the one that [`Keys::next`] leads to.
    ///
    /// # Errors
    /// As [`Bucket::get`].
    pub fn keys(&self, from: Option<&str>) -> Result<Keys, Error> {
        host::keys(&self.0, from)
    }

    /// Adds to a number, which is kept in decimal digits, and returns the sum. A key that is not there is 0. Nothing is lost when
    /// many do so at once.
    ///
    /// # Errors
    /// As [`Bucket::set`], and [`Error::Other`] if the value is no number, or the sum none of 64 bits.
    pub fn increment(&self, key: &str, delta: i64) -> Result<i64, Error> {
        host::increment(&self.0, key, delta)
    }

    /// Sets a key to what `change` makes of its value, which is called again if somebody else changed the key meanwhile.
    ///
    /// # Errors
    /// As [`Bucket::set`].
    pub fn update(
        &self,
        key: &str,
        change: impl FnMut(Option<Vec<u8>>) -> Vec<u8>,
    ) -> Result<(), Error> {
        host::update(&self.0, key, change)
    }

    /// The values of several keys, in their order.
    ///
    /// # Errors
    /// As [`Bucket::get`], and [`Error::Other`] if they have more than 1 MiB together.
    pub fn get_many(&self, keys: &[&str]) -> Result<Vec<Option<Vec<u8>>>, Error> {
        host::get_many(&self.0, keys)
    }

    /// Sets several keys: all of them or, if it fails, none.
    ///
    /// # Errors
    /// As [`Bucket::set`], and [`Error::Other`] for more than a thousand keys, or more than 1 MiB together.
    pub fn set_many(&self, pairs: &[(&str, &[u8])]) -> Result<(), Error> {
        host::set_many(&self.0, pairs)
    }

    /// Deletes several keys, as far as they are there.
    ///
    /// # Errors
    /// As [`Bucket::set_many`].
    pub fn delete_many(&self, keys: &[&str]) -> Result<(), Error> {
        host::delete_many(&self.0, keys)
    }
}
