//! Following one task.

use bytes::Bytes;
use tonic::Streaming;
use tq_proto::v1::{FollowTaskRequest, FollowTaskResponse};

use crate::patience::Patience;
use crate::{Client, Error};

impl Client {
    /// Follows a task until it has ended: what becomes of it, how far it is and, if that is asked for, what its attempts write.
    /// When the connection is lost or the broker restarts, it goes on where it was: nothing of the log comes twice, and
    /// what is missing of it is said in its place. It gives up when the broker was away for a minute.
    ///
    /// Nothing is sent before [`Following::next`] is called.
    #[must_use]
    pub fn follow(&self, id: &str, include_log: bool) -> Following {
        Following {
            client: self.clone(),
            id: id.to_owned(),
            include_log,
            cursor: Bytes::new(),
            stream: None,
            has_ended: false,
        }
    }
}

/// A task that is followed.
#[derive(Debug)]
pub struct Following {
    client: Client,
    id: String,
    include_log: bool,
    /// Behind the last piece of the log that came.
    cursor: Bytes,
    stream: Option<Streaming<FollowTaskResponse>>,
    has_ended: bool,
}

impl Following {
    /// Waits for the next change: of the task, of its progress or of its log. The first one has the task, and so has the first
    /// one after a connection that was lost. `None` after the task's end, which comes last.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the task is not there, or no longer; [`Error::Unreachable`] if the broker was away for a minute.
    ///
    /// # Cancel safety
    /// Dropped before it returns, it loses nothing.
    pub async fn next(&mut self) -> Result<Option<FollowTaskResponse>, Error> {
        let mut patience = Patience::new();
        loop {
            match self.step().await {
                Ok(Some(update)) => return Ok(Some(update)),
                Ok(None) if self.has_ended => return Ok(None),
                // The stream was open until now.
                Ok(None) => patience.renew().await,
                Err(error) => patience.after(error).await?,
            }
        }
    }

    /// One message of the stream, which is opened if it is not. `Ok(None)` if a stream that was open is so no longer.
    async fn step(&mut self) -> Result<Option<FollowTaskResponse>, Error> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            None if self.has_ended => return Ok(None),
            None => {
                let stream = self.open().await?;
                self.stream.insert(stream)
            }
        };
        let message = stream.message().await;
        match message.map_err(|status| self.client.refusal(&status)) {
            Ok(Some(update)) => {
                if let Some(chunk) = update.log.last() {
                    self.cursor = chunk.cursor.clone();
                }
                self.has_ended |= update.task.as_ref().is_some_and(|task| task.ended_ms > 0);
                Ok(Some(update))
            }
            Err(error) if !error.is_retryable() => {
                self.stream = None;
                Err(error)
            }
            // The broker closed the stream, or the connection was lost.
            Ok(None) | Err(_) => {
                self.stream = None;
                Ok(None)
            }
        }
    }

    async fn open(&self) -> Result<Streaming<FollowTaskResponse>, Error> {
        let request = FollowTaskRequest {
            namespace: self.client.namespace().to_owned(),
            id: self.id.clone(),
            include_log: self.include_log,
            log_cursor: self.cursor.clone(),
        };
        let answer = self.client.tasks().follow_task(request).await;
        let stream = answer.map_err(|status| self.client.refusal(&status))?;
        Ok(stream.into_inner())
    }
}
