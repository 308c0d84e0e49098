//! Calls about namespaces.

use tq_proto::v1::{
    GetCostRequest, GetCostResponse, GetNamespaceRequest, LimitOverrides, NamespaceSettings,
    Quotas, RetryOverrides, SetNamespaceRequest,
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
    /// (`max_attempts`, `backoff`, `cap`, `ceiling.NAME`, `quota.NAME`) goes back to the built-in default; what no attempt may
    /// have more of; and how much the namespace may have. Retry policy and ceilings hold for tasks that are submitted from then
    /// on, quotas at once. It is on disk when this returns.
    ///
    /// # Errors
    /// [`Error::Refused`] for what is no name or no policy, [`Error::Unreachable`].
    pub async fn set_namespace(
        &self,
        name: &str,
        retry: RetryOverrides,
        ceilings: LimitOverrides,
        quotas: Quotas,
        reset: Vec<String>,
    ) -> Result<NamespaceSettings, Error> {
        let request = SetNamespaceRequest {
            name: name.to_owned(),
            retry: Some(retry),
            ceilings: Some(ceilings),
            quotas: Some(quotas),
            reset,
        };
        let answer = self.namespace_service().set_namespace(request).await;
        Ok(answer.map_err(|status| self.refusal(&status))?.into_inner())
    }

    /// One page of what attempts of the client's namespace cost that ended from one day to another, both included, by day and
    /// function. Days are those of UTC, such as `2026-11-28`; an empty one is the oldest that is kept, or today. `cursor` is
    /// the `next` of the page before, or empty.
    ///
    /// # Errors
    /// [`Error::Refused`] for what is no day or cursor, [`Error::Unreachable`].
    pub async fn cost_page(
        &self,
        from: &str,
        to: &str,
        cursor: &str,
    ) -> Result<GetCostResponse, Error> {
        let request = GetCostRequest {
            namespace: self.namespace.to_string(),
            from: from.to_owned(),
            to: to.to_owned(),
            cursor: cursor.to_owned(),
        };
        let answer = self.namespace_service().get_cost(request).await;
        Ok(answer.map_err(|status| self.refusal(&status))?.into_inner())
    }
}
