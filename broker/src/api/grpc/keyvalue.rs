//! Buckets of keys and values, for operators, and for attempts that were granted them.

use std::sync::Arc;

use bytes::Bytes;
use tonic::{Request, Response, Status};
use tq_core::grant::BucketName;
use tq_core::limits::{
    KEYVALUE_CALL_BYTES_MAX, KEYVALUE_KEY_BYTES_MAX, KEYVALUE_KEYS_MAX,
    KEYVALUE_NAMESPACE_BYTES_MAX, KEYVALUE_VALUE_BYTES_MAX,
};
use tq_proto::v1;
use tq_proto::v1::key_value_answer::Came;
use tq_proto::v1::key_value_call::What;
use tq_proto::v1::key_value_service_server::KeyValueService;

use super::blocking::blocking;
use super::request::over;
use super::{Context, convert};
use crate::access::Caller;
use crate::api::status::{ApiError, invalid};
use crate::dispatch::message::AttemptRef;
use crate::ledger::{
    BucketChange, Changed, ChangedBy, Command, Handle, Refused, WhatChanges, read,
};
use crate::store::Read;
use crate::tables::Namespace;
use crate::tables::row::{self, Entry, Page};

pub(super) struct KeyValues(pub(super) Context);

#[tonic::async_trait]
impl KeyValueService for KeyValues {
    async fn list_buckets(
        &self,
        request: Request<v1::ListBucketsRequest>,
    ) -> Result<Response<v1::ListBucketsResponse>, Status> {
        let caller = Caller::of(&request)?;
        let namespace = caller.namespace(request.into_inner().namespace)?;
        let buckets = reading(&self.0, &namespace, |reads| match reads.namespace {
            Some(namespace) => row::list_buckets(&*reads.store, namespace),
            None => Ok(Vec::new()),
        });
        let buckets = buckets.await?.into_iter();
        Ok(Response::new(v1::ListBucketsResponse {
            buckets: buckets
                .map(|(name, row::Bucket { keys, bytes })| v1::Bucket { name, keys, bytes })
                .collect(),
            bytes_max: KEYVALUE_NAMESPACE_BYTES_MAX,
        }))
    }

    async fn list_keys(
        &self,
        request: Request<v1::ListKeysRequest>,
    ) -> Result<Response<v1::ListKeysResponse>, Status> {
        let caller = Caller::of(&request)?;
        let v1::ListKeysRequest {
            namespace,
            bucket,
            after,
        } = request.into_inner();
        let (namespace, bucket) = (caller.namespace(namespace)?, bucket_in(&bucket)?);
        let page = reading(&self.0, &namespace, move |reads| {
            reads.page(&bucket, after.as_deref())
        });
        let (entries, next) = cut(page.await?);
        let keys = entries.into_iter().map(|(key, entry)| v1::KeyInfo {
            key,
            bytes: entry.len,
            updated_ms: entry.updated_ms,
        });
        Ok(Response::new(v1::ListKeysResponse {
            keys: keys.collect(),
            next,
        }))
    }

    async fn get_value(
        &self,
        request: Request<v1::GetValueRequest>,
    ) -> Result<Response<v1::GetValueResponse>, Status> {
        let caller = Caller::of(&request)?;
        let v1::GetValueRequest {
            namespace,
            bucket,
            key,
        } = request.into_inner();
        let (namespace, bucket) = (caller.namespace(namespace)?, bucket_in(&bucket)?);
        check_key(&key)?;
        let (of, name) = (bucket.clone(), key.clone());
        let found = reading(&self.0, &namespace, move |reads| reads.find(&of, &name));
        let none = || Refused::NoKey {
            namespace: namespace.clone(),
            bucket: bucket.to_string(),
            key,
        };
        let (entry, value) = found.await?.ok_or_else(|| ApiError::from(none()))?;
        Ok(Response::new(v1::GetValueResponse {
            value,
            updated_ms: entry.updated_ms,
        }))
    }

    async fn set_value(
        &self,
        request: Request<v1::SetValueRequest>,
    ) -> Result<Response<v1::SetValueResponse>, Status> {
        let caller = Caller::of(&request)?;
        let v1::SetValueRequest {
            namespace,
            bucket,
            key,
            value,
        } = request.into_inner();
        let namespace = caller.namespace(namespace)?;
        let pairs = vec![v1::KeyValuePair { key, value }];
        self.change(&caller, namespace, &bucket, set_in(pairs)?)
            .await?;
        Ok(Response::new(v1::SetValueResponse {}))
    }

    async fn delete_value(
        &self,
        request: Request<v1::DeleteValueRequest>,
    ) -> Result<Response<v1::DeleteValueResponse>, Status> {
        let caller = Caller::of(&request)?;
        let v1::DeleteValueRequest {
            namespace,
            bucket,
            key,
        } = request.into_inner();
        let namespace = caller.namespace(namespace)?;
        let what = delete_in(vec![key])?;
        self.change(&caller, namespace, &bucket, what).await?;
        Ok(Response::new(v1::DeleteValueResponse {}))
    }

    async fn delete_bucket(
        &self,
        request: Request<v1::DeleteBucketRequest>,
    ) -> Result<Response<v1::DeleteBucketResponse>, Status> {
        let caller = Caller::of(&request)?;
        let v1::DeleteBucketRequest { namespace, bucket } = request.into_inner();
        let namespace = caller.namespace(namespace)?;
        let (mut keys, mut after) = (0, None);
        loop {
            let what = WhatChanges::Clear(after);
            let cleared = self
                .change(&caller, namespace.clone(), &bucket, what)
                .await?;
            let Changed::Cleared(count, next) = cleared else {
                return Err(out_of_place());
            };
            keys += count;
            if next.is_none() {
                return Ok(Response::new(v1::DeleteBucketResponse { keys }));
            }
            after = next;
        }
    }
}

impl KeyValues {
    async fn change(
        &self,
        caller: &Caller,
        namespace: String,
        bucket: &str,
        what: WhatChanges,
    ) -> Result<Changed, Status> {
        caller.is_about("bucket", bucket);
        let by = ChangedBy::Operator(namespace);
        change(&self.0.ledger, by, bucket_in(bucket)?, what).await
    }
}

/// Does what an attempt asks, if it runs and was granted the bucket.
pub(super) async fn keyvalue_for(
    context: &Context,
    request: v1::KeyValueRequest,
) -> Result<v1::KeyValueAnswer, Status> {
    let v1::KeyValueRequest { attempt, call } = request;
    let attempt = convert::held_in(attempt.unwrap_or_default())?;
    let v1::KeyValueCall { bucket, what } = call.unwrap_or_default();
    let bucket = bucket_in(&bucket)?;
    let what = match what.ok_or_else(|| invalid("the call says nothing"))? {
        What::Get(get) => {
            let v1::KeyValueGet {
                keys,
                without_values,
            } = get;
            check_keys(&keys)?;
            let namespace = may_read(context, attempt, &bucket).await?;
            let found = reading(context, &namespace, move |reads| {
                reads.find_all(&bucket, &keys, !without_values)
            });
            let entries = found.await?;
            let came = Came::Found(v1::KeyValueFound { entries });
            return Ok(v1::KeyValueAnswer { came: Some(came) });
        }
        What::List(v1::KeyValueList { after }) => {
            let namespace = may_read(context, attempt, &bucket).await?;
            let page = reading(context, &namespace, move |reads| {
                reads.page(&bucket, after.as_deref())
            });
            let (entries, next) = cut(page.await?);
            let keys = entries.into_iter().map(|(key, _)| key).collect();
            let came = Came::Keys(v1::KeyValueKeys { keys, next });
            return Ok(v1::KeyValueAnswer { came: Some(came) });
        }
        What::Set(v1::KeyValueSet { pairs }) => set_in(pairs)?,
        What::Delete(v1::KeyValueDelete { keys }) => delete_in(keys)?,
        What::Increment(v1::KeyValueIncrement { key, delta }) => {
            check_key(&key)?;
            WhatChanges::Increment(key, delta)
        }
        What::Swap(swap) => {
            let v1::KeyValueSwap {
                key,
                version,
                value,
            } = swap;
            check_key(&key)?;
            check_value(&key, &value)?;
            WhatChanges::Swap(key, version, value)
        }
    };
    let by = ChangedBy::Attempt(attempt);
    let came = match change(&context.ledger, by, bucket, what).await? {
        Changed::Done => Came::Done(v1::KeyValueDone {}),
        Changed::Sum(sum) => Came::Sum(sum),
        Changed::Swapped(is_swapped) => Came::Swapped(is_swapped),
        Changed::Cleared(..) => return Err(out_of_place()),
    };
    Ok(v1::KeyValueAnswer { came: Some(came) })
}

/// The namespace of an attempt that may read a bucket.
async fn may_read(
    context: &Context,
    attempt: AttemptRef,
    bucket: &BucketName,
) -> Result<String, Status> {
    let namespace = attempt.namespace.clone();
    let granted = context.granted(attempt).await?;
    match granted.keyvalue.contains(bucket) {
        true => Ok(namespace),
        false => Err(ApiError::from(Refused::BucketNotGranted(bucket.clone())).into()),
    }
}

async fn change(
    ledger: &Handle,
    by: ChangedBy,
    bucket: BucketName,
    what: WhatChanges,
) -> Result<Changed, Status> {
    let change = |reply| {
        Command::Bucket(BucketChange {
            by,
            bucket,
            what,
            reply,
        })
    };
    let changed = ledger.ask(change).await.map_err(ApiError::from)?;
    Ok(changed.map_err(ApiError::from)?)
}

/// Reads of the buckets of one namespace. They may block on the disk.
struct Reads {
    store: Arc<dyn Read>,
    /// None if the namespace was never used: it has nothing.
    namespace: Option<Namespace>,
}

impl Reads {
    fn find(&self, bucket: &BucketName, key: &str) -> Result<Option<(Entry, Bytes)>, ApiError> {
        match self.namespace {
            Some(namespace) => row::find_value(&*self.store, namespace, bucket.as_str(), key),
            None => Ok(None),
        }
    }

    fn page(&self, bucket: &BucketName, after: Option<&str>) -> Result<Page, ApiError> {
        match self.namespace {
            Some(namespace) => row::list_entries(&*self.store, namespace, bucket.as_str(), after),
            None => Ok(Page::default()),
        }
    }

    /// One for each key. Refused as soon as the values are too much for one answer.
    fn find_all(
        &self,
        bucket: &BucketName,
        keys: &[String],
        with_values: bool,
    ) -> Result<Vec<v1::KeyValueEntry>, ApiError> {
        let (mut found, mut len) = (Vec::with_capacity(keys.len()), 0);
        for key in keys {
            let entry = self.find(bucket, key)?;
            let entry = entry.map(|(entry, value)| v1::KeyValueEntry {
                version: entry.version,
                value: if with_values { value } else { Bytes::new() },
            });
            let entry = entry.unwrap_or_default();
            len += entry.value.len();
            if len > KEYVALUE_CALL_BYTES_MAX {
                return Err(invalid(format_args!(
                    "the values of these {} keys have more than {KEYVALUE_CALL_BYTES_MAX} bytes, which is the limit of one call; ask for fewer at once",
                    keys.len()
                ))
                .into());
            }
            found.push(entry);
        }
        Ok(found)
    }
}

/// Reads what is there now, and waits until that outlives a loss of power.
async fn reading<T: Send + 'static>(
    context: &Context,
    namespace: &str,
    work: impl FnOnce(Reads) -> Result<T, ApiError> + Send + 'static,
) -> Result<T, Status> {
    let namespaces = &context.ledger.shared().namespaces;
    let reads = Reads {
        store: Arc::clone(context.ledger.reader()),
        namespace: read(namespaces).get(namespace).copied(),
    };
    let found = blocking(move || work(reads)).await?;
    context.ledger.on_disk().await.map_err(ApiError::from)?;
    Ok(found)
}

/// The keys of a page, and the last one if there may be more.
fn cut(page: Page) -> (Vec<(String, Entry)>, Option<String>) {
    let Page { entries, is_full } = page;
    let next = entries.last().filter(|_| is_full);
    let next = next.map(|(key, _)| key.clone());
    (entries, next)
}

fn bucket_in(name: &str) -> Result<BucketName, Status> {
    name.parse().map_err(invalid)
}

fn set_in(pairs: Vec<v1::KeyValuePair>) -> Result<WhatChanges, Status> {
    check_count(pairs.len())?;
    let mut len = 0;
    for v1::KeyValuePair { key, value } in &pairs {
        check_key(key)?;
        check_value(key, value)?;
        len += key.len() + value.len();
    }
    over("keys and values", len, KEYVALUE_CALL_BYTES_MAX)?;
    let pairs = pairs.into_iter();
    Ok(WhatChanges::Set(
        pairs
            .map(|v1::KeyValuePair { key, value }| (key, value))
            .collect(),
    ))
}

fn delete_in(keys: Vec<String>) -> Result<WhatChanges, Status> {
    check_keys(&keys)?;
    Ok(WhatChanges::Delete(keys))
}

fn check_keys(keys: &[String]) -> Result<(), Status> {
    check_count(keys.len())?;
    keys.iter().try_for_each(|key| check_key(key))
}

fn check_count(count: usize) -> Result<(), Status> {
    if count > KEYVALUE_KEYS_MAX {
        return Err(invalid(format_args!(
            "{count} keys in one call are over the limit of {KEYVALUE_KEYS_MAX} keys"
        )));
    }
    Ok(())
}

fn check_key(key: &str) -> Result<(), Status> {
    over("key", key.len(), KEYVALUE_KEY_BYTES_MAX)
}

fn check_value(key: &str, value: &Bytes) -> Result<(), Status> {
    let what = format!("value of key `{}`", key.escape_debug());
    over(&what, value.len(), KEYVALUE_VALUE_BYTES_MAX)
}

/// The ledger did something else than it was asked.
fn out_of_place() -> Status {
    tracing::error!(
        "the ledger gave the answer to another question; this is a bug in tq, please report it"
    );
    Status::internal("the broker failed; its log says more")
}
