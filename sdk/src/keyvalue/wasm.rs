//! Buckets by way of `wasi:keyvalue`.

use super::bindings::wasi::keyvalue::atomics::{self, Cas, CasError};
use super::bindings::wasi::keyvalue::{batch, store};
use super::{Error, Keys};

pub(super) use store::Bucket;

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        match error {
            store::Error::NoSuchStore => Self::NoSuchStore,
            store::Error::AccessDenied => Self::AccessDenied,
            store::Error::Other(reason) => Self::Other { reason },
        }
    }
}

pub(super) fn open(name: &str) -> Result<Bucket, Error> {
    Ok(store::open(name)?)
}

pub(super) fn get(bucket: &Bucket, key: &str) -> Result<Option<Vec<u8>>, Error> {
    Ok(bucket.get(key)?)
}

pub(super) fn set(bucket: &Bucket, key: &str, value: &[u8]) -> Result<(), Error> {
    Ok(bucket.set(key, value)?)
}

pub(super) fn delete(bucket: &Bucket, key: &str) -> Result<(), Error> {
    Ok(bucket.delete(key)?)
}

pub(super) fn exists(bucket: &Bucket, key: &str) -> Result<bool, Error> {
    Ok(bucket.exists(key)?)
}

pub(super) fn keys(bucket: &Bucket, from: Option<&str>) -> Result<Keys, Error> {
    let store::KeyResponse { keys, cursor } = bucket.list_keys(from)?;
    Ok(Keys { keys, next: cursor })
}

pub(super) fn increment(bucket: &Bucket, key: &str, delta: i64) -> Result<i64, Error> {
    Ok(atomics::increment(bucket, key, delta)?)
}

pub(super) fn update(
    bucket: &Bucket,
    key: &str,
    mut change: impl FnMut(Option<Vec<u8>>) -> Vec<u8>,
) -> Result<(), Error> {
    let mut cas = Cas::new(bucket, key)?;
    loop {
        let value = change(cas.current()?);
        match atomics::swap(cas, &value) {
            Ok(()) => return Ok(()),
            Err(CasError::CasFailed(anew)) => cas = anew,
            Err(CasError::StoreError(error)) => return Err(error.into()),
        }
    }
}

pub(super) fn get_many(bucket: &Bucket, keys: &[&str]) -> Result<Vec<Option<Vec<u8>>>, Error> {
    let found = batch::get_many(bucket, &owned(keys))?.into_iter();
    Ok(found.map(|pair| pair.map(|(_, value)| value)).collect())
}

pub(super) fn set_many(bucket: &Bucket, pairs: &[(&str, &[u8])]) -> Result<(), Error> {
    let pairs = pairs.iter();
    let pairs: Vec<_> = pairs
        .map(|(key, value)| ((*key).to_owned(), value.to_vec()))
        .collect();
    Ok(batch::set_many(bucket, &pairs)?)
}

pub(super) fn delete_many(bucket: &Bucket, keys: &[&str]) -> Result<(), Error> {
    Ok(batch::delete_many(bucket, &owned(keys))?)
}

fn owned(keys: &[&str]) -> Vec<String> {
    keys.iter().map(|key| (*key).to_owned()).collect()
}
