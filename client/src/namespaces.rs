//! Calls about namespaces.

use tq_proto::v1::{
    GetNamespaceRequest, LimitOverrides, NamespaceSettings, RetryOverrides, SetNamespaceRequest,
};

use crate::{Client, Error};

impl Client {
    /// The settings of a namespace, whatever namespace the client itself is for.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Refused`] for what is no name, [`Error::Unreachable`].
    pub async fn namespace_settings(&self, name: &str) -> Result<NamespaceSettings, Error> {
        let request = GetNamespaceRequest {
            name: name.to_owned(),
        };
        let answer = self.namespace_service().get_namespace(request).await;
        Ok(answer.map_err(|status| self.refusal(&status))?.into_inner())
    }

    /// Changes the retry policy that tasks of a namespace inherit: what `retry` names is set, and what `reset` names
    /// (`max_attempts`, `backoff`, `cap`, `ceiling.NAME`) goes back to the built-in default; and what no attempt may have
    /// more of. Holds for tasks that are submitted from then on, and
    /// is on disk when this returns.
    ///
    /// # Errors
    /// [`Error::Refused`] for what is no name or no policy, [`Error::Unreachable`].
    pub async fn set_namespace(
        &self,
        name: &str,
        retry: RetryOverrides,
        ceilings: LimitOverrides,
        reset: Vec<String>,
    ) -> Result<NamespaceSettings, Error> {
        let request = SetNamespaceRequest {
            name: name.to_owned(),
            retry: Some(retry),
            ceilings: Some(ceilings),
            reset,
        };
        let answer = self.namespace_service().set_namespace(request).await;
        Ok(answer.map_err(|status| self.refusal(&status))?.into_inner())
    }
}
