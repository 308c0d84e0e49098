//! Calls about queues.

use tq_proto::v1::{
    DeleteQueueRequest, GetQueueRequest, ListQueuesRequest, PauseQueueRequest, Queue, QueueOrder,
    Rate, ResumeQueueRequest, SetQueueRequest,
};

use crate::{Client, Error};

/// What of a queue is to be another. What is none stays.
#[derive(Clone, Copy, Debug, Default)]
pub struct QueueSettings {
    /// In which order its tasks run. It can change only while none of them is ready.
    pub order: Option<QueueOrder>,
    /// How many of its tasks run at once; 0 takes the limit away.
    pub concurrency: Option<u32>,
    /// How many of its tasks start; a rate of 0 tasks takes the limit away.
    pub rate: Option<Rate>,
}

impl Client {
    /// The queues of the namespace, by name.
    ///
    /// # Errors
    /// [`Error::Unreachable`].
    pub async fn queues(&self) -> Result<Vec<Queue>, Error> {
        let request = ListQueuesRequest {
            namespace: self.namespace.to_string(),
        };
        let answer = self.queue_service().list_queues(request).await;
        let answer = answer.map_err(|status| self.refusal(&status))?;
        Ok(answer.into_inner().queues)
    }

    /// One queue.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Unreachable`].
    pub async fn queue(&self, name: &str) -> Result<Queue, Error> {
        let request = GetQueueRequest {
            namespace: self.namespace.to_string(),
            name: name.to_owned(),
        };
        let answer = self.queue_service().get_queue(request).await;
        Ok(answer.map_err(|status| self.refusal(&status))?.into_inner())
    }

    /// Sets a queue up, or to something else. It is on disk when this returns.
    ///
    /// # Errors
    /// [`Error::Refused`] for what is out of its range, or a change of order while tasks stand in it;
    /// [`Error::Unreachable`].
    pub async fn set_queue(&self, name: &str, settings: QueueSettings) -> Result<Queue, Error> {
        let QueueSettings {
            order,
            concurrency,
            rate,
        } = settings;
        let request = SetQueueRequest {
            namespace: self.namespace.to_string(),
            name: name.to_owned(),
            order: order.unwrap_or_default().into(),
            concurrency,
            rate,
        };
        let answer = self.queue_service().set_queue(request).await;
        Ok(answer.map_err(|status| self.refusal(&status))?.into_inner())
    }

    /// Lets nothing of a queue start. What runs goes on.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Unreachable`].
    pub async fn pause_queue(&self, name: &str) -> Result<Queue, Error> {
        let request = PauseQueueRequest {
            namespace: self.namespace.to_string(),
            name: name.to_owned(),
        };
        let answer = self.queue_service().pause_queue(request).await;
        Ok(answer.map_err(|status| self.refusal(&status))?.into_inner())
    }

    /// Lets a paused queue go on.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Unreachable`].
    pub async fn resume_queue(&self, name: &str) -> Result<Queue, Error> {
        let request = ResumeQueueRequest {
            namespace: self.namespace.to_string(),
            name: name.to_owned(),
        };
        let answer = self.queue_service().resume_queue(request).await;
        Ok(answer.map_err(|status| self.refusal(&status))?.into_inner())
    }

    /// Deletes a queue in which no task waits or runs. Tasks that ended keep its name.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Refused`] while it is in use, [`Error::Unreachable`].
    pub async fn delete_queue(&self, name: &str) -> Result<Queue, Error> {
        let request = DeleteQueueRequest {
            namespace: self.namespace.to_string(),
            name: name.to_owned(),
        };
        let answer = self.queue_service().delete_queue(request).await;
        Ok(answer.map_err(|status| self.refusal(&status))?.into_inner())
    }
}
