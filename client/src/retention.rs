//! Calls about how long what has ended is kept.

use std::time::Duration;

use tq_proto::v1::{GetRetentionRequest, Retention, SetRetentionRequest};

use crate::{Client, Error};

/// What of a namespace's retention is to change. What is none stays as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RetentionChange {
    /// How long tasks stay that succeeded.
    pub succeeded: Option<Duration>,
    /// How long tasks stay that died.
    pub dead: Option<Duration>,
    /// How long tasks stay that were cancelled.
    pub cancelled: Option<Duration>,
    /// How long tasks stay that expired.
    pub expired: Option<Duration>,
    /// How long results stay; zero is as long as their tasks.
    pub results: Option<Duration>,
    /// How long versions of modules stay that no task needs, from their upload on.
    pub modules: Option<Duration>,
}

impl Client {
    /// How long the namespace keeps what has ended.
    ///
    /// # Errors
    /// [`Error::Unreachable`].
    pub async fn retention(&self) -> Result<Retention, Error> {
        let request = GetRetentionRequest {
            namespace: self.namespace.to_string(),
        };
        let answer = self.retention_service().get_retention(request).await;
        Ok(answer.map_err(|status| self.refusal(&status))?.into_inner())
    }

    /// Changes how long the namespace keeps what has ended, also of what has ended already. It is on disk when this
    /// returns.
    ///
    /// # Errors
    /// [`Error::Refused`] for a span out of its range, [`Error::NotFound`] if there is no such namespace,
    /// [`Error::Unreachable`].
    pub async fn set_retention(&self, change: RetentionChange) -> Result<Retention, Error> {
        let millis = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        let RetentionChange {
            succeeded,
            dead,
            cancelled,
            expired,
            results,
            modules,
        } = change;
        let request = SetRetentionRequest {
            namespace: self.namespace.to_string(),
            succeeded_ms: succeeded.map(millis),
            dead_ms: dead.map(millis),
            cancelled_ms: cancelled.map(millis),
            expired_ms: expired.map(millis),
            results_ms: results.map(millis),
            modules_ms: modules.map(millis),
        };
        let answer = self.retention_service().set_retention(request).await;
        Ok(answer.map_err(|status| self.refusal(&status))?.into_inner())
    }
}
