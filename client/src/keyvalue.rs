//! Calls about buckets of keys and values.

use bytes::Bytes;
use tq_proto::v1::{
    DeleteBucketRequest, DeleteValueRequest, GetValueRequest, GetValueResponse, ListBucketsRequest,
    ListBucketsResponse, ListKeysRequest, ListKeysResponse, SetValueRequest,
};

use crate::{Client, Error};

impl Client {
    /// The buckets of the namespace, by name, and what they may have together.
    ///
    /// # Errors
    /// [`Error::Unreachable`].
    pub async fn buckets(&self) -> Result<ListBucketsResponse, Error> {
        let request = ListBucketsRequest {
            namespace: self.namespace.to_string(),
        };
        let answer = self.keyvalue_service().list_buckets(request).await;
        Ok(answer.map_err(|status| self.refusal(&status))?.into_inner())
    }

    /// A page of the keys of a bucket, in the order of their bytes: those after `after`, or the first ones. At most
    /// [`KEYVALUE_KEYS_MAX`](tq_core::limits::KEYVALUE_KEYS_MAX).
    ///
    /// # Errors
    /// [`Error::Refused`] for what is no name, [`Error::Unreachable`].
    pub async fn keys(
        &self,
        bucket: &str,
        after: Option<String>,
    ) -> Result<ListKeysResponse, Error> {
        let request = ListKeysRequest {
            namespace: self.namespace.to_string(),
            bucket: bucket.to_owned(),
            after,
        };
        let answer = self.keyvalue_service().list_keys(request).await;
        Ok(answer.map_err(|status| self.refusal(&status))?.into_inner())
    }

    /// The value of a key.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Refused`] for what is no name or no key, [`Error::Unreachable`].
    pub async fn value(&self, bucket: &str, key: &str) -> Result<GetValueResponse, Error> {
        let request = GetValueRequest {
            namespace: self.namespace.to_string(),
            bucket: bucket.to_owned(),
            key: key.to_owned(),
        };
        let answer = self.keyvalue_service().get_value(request).await;
        Ok(answer.map_err(|status| self.refusal(&status))?.into_inner())
    }

    /// Sets a key, of at most [`KEYVALUE_KEY_BYTES_MAX`](tq_core::limits::KEYVALUE_KEY_BYTES_MAX) bytes, to a value of at most
    /// [`KEYVALUE_VALUE_BYTES_MAX`](tq_core::limits::KEYVALUE_VALUE_BYTES_MAX). It is on disk when this returns.
    ///
    /// # Errors
    /// [`Error::Refused`] for what is no name or too large, or if the namespace has too much, [`Error::Unreachable`].
    pub async fn set_value(&self, bucket: &str, key: &str, value: Bytes) -> Result<(), Error> {
        let request = SetValueRequest {
            namespace: self.namespace.to_string(),
            bucket: bucket.to_owned(),
            key: key.to_owned(),
            value,
        };
        let answer = self.keyvalue_service().set_value(request).await;
        answer.map_err(|status| self.refusal(&status))?;
        Ok(())
    }

    /// Deletes a key, if it is there. It is gone from the disk too when this returns.
    ///
    /// # Errors
    /// [`Error::Refused`] for what is no name or no key, [`Error::Unreachable`].
    pub async fn delete_value(&self, bucket: &str, key: &str) -> Result<(), Error> {
        let request = DeleteValueRequest {
            namespace: self.namespace.to_string(),
            bucket: bucket.to_owned(),
            key: key.to_owned(),
        };
        let answer = self.keyvalue_service().delete_value(request).await;
        answer.map_err(|status| self.refusal(&status))?;
        Ok(())
    }

    /// Deletes all keys of a bucket, and returns how many that were. A key that is set meanwhile may stay.
    ///
    /// # Errors
    /// [`Error::Refused`] for what is no name, [`Error::Unreachable`].
    pub async fn delete_bucket(&self, bucket: &str) -> Result<u64, Error> {
        let request = DeleteBucketRequest {
            namespace: self.namespace.to_string(),
            bucket: bucket.to_owned(),
        };
        let answer = self.keyvalue_service().delete_bucket(request).await;
        let answer = answer.map_err(|status| self.refusal(&status))?;
        Ok(answer.into_inner().keys)
    }
}
