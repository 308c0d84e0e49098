//! Buckets in memory, for tests of tasks.

use std::cell::RefCell;
use std::collections::BTreeMap;

use super::{Error, Keys};

type Buckets = BTreeMap<String, BTreeMap<String, Vec<u8>>>;

thread_local! {
    static BUCKETS: RefCell<Buckets> = RefCell::default();
}

#[derive(Debug)]
pub(super) struct Bucket(String);

fn with<T>(bucket: &Bucket, work: impl FnOnce(&mut BTreeMap<String, Vec<u8>>) -> T) -> T {
    BUCKETS.with_borrow_mut(|buckets| work(buckets.entry(bucket.0.clone()).or_default()))
}

pub(super) fn open(name: &str) -> Result<Bucket, Error> {
    match name.is_empty() {
        true => Err(Error::NoSuchStore),
        false => Ok(Bucket(name.to_owned())),
    }
}

pub(super) fn get(bucket: &Bucket, key: &str) -> Result<Option<Vec<u8>>, Error> {
    Ok(with(bucket, |keys| keys.get(key).cloned()))
}

pub(super) fn set(bucket: &Bucket, key: &str, value: &[u8]) -> Result<(), Error> {
    with(bucket, |keys| keys.insert(key.to_owned(), value.to_vec()));
    Ok(())
}

pub(super) fn delete(bucket: &Bucket, key: &str) -> Result<(), Error> {
    with(bucket, |keys| keys.remove(key));
    Ok(())
}

pub(super) fn exists(bucket: &Bucket, key: &str) -> Result<bool, Error> {
    Ok(with(bucket, |keys| keys.contains_key(key)))
}

pub(super) fn keys(bucket: &Bucket, from: Option<&str>) -> Result<Keys, Error> {
    let keys = with(bucket, |keys| {
        let behind = |key: &&String| from.is_none_or(|from| key.as_str() > from);
        keys.keys().filter(behind).cloned().collect()
    });
    Ok(Keys { keys, next: None })
}

pub(super) fn increment(bucket: &Bucket, key: &str, delta: i64) -> Result<i64, Error> {
    let before = get(bucket, key)?.unwrap_or_else(|| b"0".to_vec());
    let number = std::str::from_utf8(&before).ok();
    let number = number.and_then(|text| text.parse::<i64>().ok());
    let sum = number.and_then(|number| number.checked_add(delta));
    let sum = sum.ok_or_else(|| Error::Other {
        reason: format!("{delta} cannot be added to key `{key}`"),
    })?;
    set(bucket, key, sum.to_string().as_bytes())?;
    Ok(sum)
}

pub(super) fn update(
    bucket: &Bucket,
    key: &str,
    mut change: impl FnMut(Option<Vec<u8>>) -> Vec<u8>,
) -> Result<(), Error> {
    let value = change(get(bucket, key)?);
    set(bucket, key, &value)
}

pub(super) fn get_many(bucket: &Bucket, keys: &[&str]) -> Result<Vec<Option<Vec<u8>>>, Error> {
    keys.iter().map(|key| get(bucket, key)).collect()
}

pub(super) fn set_many(bucket: &Bucket, pairs: &[(&str, &[u8])]) -> Result<(), Error> {
    let mut pairs = pairs.iter();
    pairs.try_for_each(|(key, value)| set(bucket, key, value))
}

pub(super) fn delete_many(bucket: &Bucket, keys: &[&str]) -> Result<(), Error> {
    keys.iter().try_for_each(|key| delete(bucket, key))
}

#[cfg(test)]
mod tests {
    use super::super::{Bucket, Error};

    #[test]
    fn a_test_finds_what_it_put_there() -> Result<(), Error> {
        let bucket = Bucket::open("cache")?;
        bucket.set("a", "1")?;
        bucket.set_many(&[("b", b"x"), ("c", b"y")])?;
        assert_eq!(bucket.increment("a", 2)?, 3);
        assert_eq!(bucket.increment("n", -1)?, -1);
        assert!(bucket.increment("b", 1).is_err());
        bucket.update("b", |value| [&value.unwrap_or_default()[..], b"!"].concat())?;
        let values = bucket.get_many(&["b", "nothing"])?;
        assert_eq!(values, [Some(b"x!".to_vec()), None]);
        bucket.delete_many(&["b", "n"])?;
        assert_eq!(bucket.keys(None)?.keys, ["a", "c"]);
        assert!(!Bucket::open("other")?.exists("a")?);
        Ok(())
    }
}
