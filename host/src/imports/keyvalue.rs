//! `wasi:keyvalue`: buckets that the function was granted. What is in them is the broker's.

use bytes::Bytes;
use tq_core::grant::BucketName;
use tq_core::limits::{KEYVALUE_CALL_BYTES_MAX, KEYVALUE_KEYS_MAX};
use tq_proto::v1;
use tq_proto::v1::key_value_answer::Came;
use tq_proto::v1::key_value_call::What;
use wasmtime::component::Resource;

use crate::sandbox::Guest;
use crate::services::Refusal;
use bindings::wasi::keyvalue::atomics::{self, CasError};
use bindings::wasi::keyvalue::batch;
use bindings::wasi::keyvalue::store::{self, Error, KeyResponse};

pub(crate) mod bindings {
    wasmtime::component::bindgen!({
        path: "../wit/deps/wasi-keyvalue@0.2.0-draft2",
        world: "wasi:keyvalue/imports",
        imports: {
            "wasi:keyvalue/store.[drop]bucket": trappable,
            "wasi:keyvalue/atomics.[drop]cas": trappable,
            default: async | trappable,
        },
        with: {
            "wasi:keyvalue/store.bucket": super::Bucket,
            "wasi:keyvalue/atomics.cas": super::Cas,
        },
    });
}

/// A bucket that a guest has open.
#[derive(Clone, Debug)]
#[expect(unreachable_pub, reason = "the generated code exports it")]
pub struct Bucket(BucketName);

/// A key in the version that a guest knows of.
#[derive(Debug)]
#[expect(unreachable_pub, reason = "the generated code exports it")]
pub struct Cas {
    bucket: BucketName,
    key: String,
    /// 0 if it was not there.
    version: u64,
}

/// What a call of the guest comes to, beside a trap.
type Called<T> = wasmtime::Result<Result<T, Error>>;

impl Guest {
    /// Asks the broker. What it refuses as not granted stands in the log too.
    async fn ask(&mut self, bucket: &BucketName, what: What) -> Result<Came, Error> {
        check(&what).map_err(Error::Other)?;
        let asked = match &self.services {
            Some(services) => {
                let call = v1::KeyValueCall {
                    bucket: bucket.to_string(),
                    what: Some(what),
                };
                services.keyvalue(self.attempt.epoch, call).await
            }
            None => Err(Refusal::bucket_not_granted(bucket)),
        };
        asked.map_err(|refusal| match refusal {
            Refusal::NotGranted(message) => {
                let line = format!("tq: a bucket was refused: {message}\n");
                self.outbox.log(line.as_bytes());
                Error::AccessDenied
            }
            Refusal::Missing(message)
            | Refusal::Invalid(message)
            | Refusal::Unavailable(message) => Error::Other(message),
        })
    }

    /// The versions and values of keys, one for each.
    async fn find(
        &mut self,
        bucket: &BucketName,
        keys: Vec<String>,
        without_values: bool,
    ) -> Result<Vec<v1::KeyValueEntry>, Error> {
        let count = keys.len();
        let get = v1::KeyValueGet {
            keys,
            without_values,
        };
        match self.ask(bucket, What::Get(get)).await? {
            Came::Found(found) if found.entries.len() == count => Ok(found.entries),
            _ => Err(out_of_place()),
        }
    }

    async fn find_one(
        &mut self,
        bucket: &BucketName,
        key: String,
        without_values: bool,
    ) -> Result<v1::KeyValueEntry, Error> {
        let mut found = self.find(bucket, vec![key], without_values).await?;
        found.pop().ok_or_else(out_of_place)
    }

    async fn change(&mut self, bucket: &BucketName, what: What) -> Result<(), Error> {
        match self.ask(bucket, what).await? {
            Came::Done(_) => Ok(()),
            _ => Err(out_of_place()),
        }
    }

    /// A handle to a key as it is now.
    async fn note(&mut self, bucket: BucketName, key: String) -> Called<Resource<Cas>> {
        Ok(match self.find_one(&bucket, key.clone(), true).await {
            Ok(entry) => Ok(self.table.push(Cas {
                bucket,
                key,
                version: entry.version,
            })?),
            Err(error) => Err(error),
        })
    }

    fn bucket(&self, bucket: &Resource<Bucket>) -> wasmtime::Result<BucketName> {
        Ok(self.table.get(bucket)?.0.clone())
    }
}

impl store::Host for Guest {
    async fn open(&mut self, identifier: String) -> Called<Resource<Bucket>> {
        let Ok(name) = identifier.parse::<BucketName>() else {
            return Ok(Err(Error::NoSuchStore));
        };
        if !self.attempt.grants.keyvalue.contains(&name) {
            // Whoever answers for the broker refuses it, and counts that.
            let get = What::Get(v1::KeyValueGet::default());
            if let Err(error) = self.ask(&name, get).await {
                return Ok(Err(error));
            }
        }
        Ok(Ok(self.table.push(Bucket(name))?))
    }
}

impl store::HostBucket for Guest {
    async fn get(&mut self, bucket: Resource<Bucket>, key: String) -> Called<Option<Vec<u8>>> {
        let bucket = self.bucket(&bucket)?;
        let found = self.find_one(&bucket, key, false).await;
        Ok(found.map(|entry| (entry.version > 0).then(|| entry.value.to_vec())))
    }

    async fn set(&mut self, bucket: Resource<Bucket>, key: String, value: Vec<u8>) -> Called<()> {
        let bucket = self.bucket(&bucket)?;
        Ok(self.change(&bucket, set(vec![(key, value)])).await)
    }

    async fn delete(&mut self, bucket: Resource<Bucket>, key: String) -> Called<()> {
        let bucket = self.bucket(&bucket)?;
        Ok(self.change(&bucket, delete(vec![key])).await)
    }

    async fn exists(&mut self, bucket: Resource<Bucket>, key: String) -> Called<bool> {
        let bucket = self.bucket(&bucket)?;
        let found = self.find_one(&bucket, key, true).await;
        Ok(found.map(|entry| entry.version > 0))
    }

    async fn list_keys(
        &mut self,
        bucket: Resource<Bucket>,
        cursor: Option<String>,
    ) -> Called<KeyResponse> {
        let bucket = self.bucket(&bucket)?;
        let list = What::List(v1::KeyValueList { after: cursor });
        Ok(match self.ask(&bucket, list).await {
            Ok(Came::Keys(v1::KeyValueKeys { keys, next })) => {
                Ok(KeyResponse { keys, cursor: next })
            }
            Ok(_) => Err(out_of_place()),
            Err(error) => Err(error),
        })
    }

    fn drop(&mut self, bucket: Resource<Bucket>) -> wasmtime::Result<()> {
        self.table.delete(bucket)?;
        Ok(())
    }
}

impl atomics::Host for Guest {
    async fn increment(
        &mut self,
        bucket: Resource<Bucket>,
        key: String,
        delta: i64,
    ) -> Called<i64> {
        let bucket = self.bucket(&bucket)?;
        let increment = What::Increment(v1::KeyValueIncrement { key, delta });
        Ok(match self.ask(&bucket, increment).await {
            Ok(Came::Sum(sum)) => Ok(sum),
            Ok(_) => Err(out_of_place()),
            Err(error) => Err(error),
        })
    }

    async fn swap(
        &mut self,
        cas: Resource<Cas>,
        value: Vec<u8>,
    ) -> wasmtime::Result<Result<(), CasError>> {
        let Cas {
            bucket,
            key,
            version,
        } = self.table.delete(cas)?;
        let swap = What::Swap(v1::KeyValueSwap {
            key: key.clone(),
            version,
            value: value.into(),
        });
        let failed = match self.ask(&bucket, swap).await {
            Ok(Came::Swapped(true)) => return Ok(Ok(())),
            Ok(Came::Swapped(false)) => match self.note(bucket, key).await? {
                Ok(anew) => CasError::CasFailed(anew),
                Err(error) => CasError::StoreError(error),
            },
            Ok(_) => CasError::StoreError(out_of_place()),
            Err(error) => CasError::StoreError(error),
        };
        Ok(Err(failed))
    }
}

impl atomics::HostCas for Guest {
    async fn new(&mut self, bucket: Resource<Bucket>, key: String) -> Called<Resource<Cas>> {
        let bucket = self.bucket(&bucket)?;
        self.note(bucket, key).await
    }

    async fn current(&mut self, cas: Resource<Cas>) -> Called<Option<Vec<u8>>> {
        let Cas { bucket, key, .. } = self.table.get(&cas)?;
        let (bucket, key) = (bucket.clone(), key.clone());
        let entry = match self.find_one(&bucket, key, false).await {
            Ok(entry) => entry,
            Err(error) => return Ok(Err(error)),
        };
        // The guest decides by this value, so that the swap has to rest on it, not on what was there before.
        self.table.get_mut(&cas)?.version = entry.version;
        Ok(Ok((entry.version > 0).then(|| entry.value.to_vec())))
    }

    fn drop(&mut self, cas: Resource<Cas>) -> wasmtime::Result<()> {
        self.table.delete(cas)?;
        Ok(())
    }
}

impl batch::Host for Guest {
    async fn get_many(
        &mut self,
        bucket: Resource<Bucket>,
        keys: Vec<String>,
    ) -> Called<Vec<Option<(String, Vec<u8>)>>> {
        let bucket = self.bucket(&bucket)?;
        let found = self.find(&bucket, keys.clone(), false).await;
        Ok(found.map(|entries| {
            let found = keys.into_iter().zip(entries);
            found
                .map(|(key, entry)| (entry.version > 0).then(|| (key, entry.value.to_vec())))
                .collect()
        }))
    }

    async fn set_many(
        &mut self,
        bucket: Resource<Bucket>,
        key_values: Vec<(String, Vec<u8>)>,
    ) -> Called<()> {
        let bucket = self.bucket(&bucket)?;
        Ok(self.change(&bucket, set(key_values)).await)
    }

    async fn delete_many(&mut self, bucket: Resource<Bucket>, keys: Vec<String>) -> Called<()> {
        let bucket = self.bucket(&bucket)?;
        Ok(self.change(&bucket, delete(keys)).await)
    }
}

fn set(pairs: Vec<(String, Vec<u8>)>) -> What {
    let pairs = pairs.into_iter().map(|(key, value)| v1::KeyValuePair {
        key,
        value: Bytes::from(value),
    });
    What::Set(v1::KeyValueSet {
        pairs: pairs.collect(),
    })
}

fn delete(keys: Vec<String>) -> What {
    What::Delete(v1::KeyValueDelete { keys })
}

/// Keeps what is asked small, whoever passes it on to the broker. The broker looks at each key and value.
fn check(what: &What) -> Result<(), String> {
    let of_keys = |keys: &[String]| (keys.len(), keys.iter().map(String::len).sum());
    let (count, len) = match what {
        What::Get(get) => of_keys(&get.keys),
        What::Delete(delete) => of_keys(&delete.keys),
        What::Set(set) => {
            let pairs = set.pairs.iter();
            let len = pairs.map(|pair| pair.key.len() + pair.value.len());
            (set.pairs.len(), len.sum())
        }
        What::List(list) => (0, list.after.as_ref().map_or(0, String::len)),
        What::Increment(increment) => (1, increment.key.len()),
        What::Swap(swap) => (1, swap.key.len() + swap.value.len()),
    };
    if count > KEYVALUE_KEYS_MAX {
        return Err(format!(
            "{count} keys in one call are over the limit of {KEYVALUE_KEYS_MAX} keys"
        ));
    }
    if len > KEYVALUE_CALL_BYTES_MAX {
        return Err(format!(
            "keys and values of {len} bytes in one call are over the limit of {KEYVALUE_CALL_BYTES_MAX} bytes"
        ));
    }
    Ok(())
}

/// The broker answered something else than it was asked.
fn out_of_place() -> Error {
    Error::Other("the broker gave the answer to another question".to_owned())
}
