//! Calls about overload.

use tq_proto::v1::{GetOverloadRequest, Overload};

use crate::{Client, Error};

impl Client {
    /// What the broker refuses because there is too much of it, how much is taken of what may run short, and how that has
    /// changed. Of the whole broker, whatever the namespace.
    ///
    /// # Errors
    /// [`Error::Unreachable`].
    pub async fn overload(&self) -> Result<Overload, Error> {
        let answer = self
            .resilience_service()
            .get_overload(GetOverloadRequest {})
            .await;
        let answer = answer.map_err(|status| self.refusal(&status))?;
        Ok(answer.into_inner())
    }
}
