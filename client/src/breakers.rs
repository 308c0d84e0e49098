//! Calls about circuit breakers.

use tq_proto::v1::{
    Breaker, BreakerState, ForceBreakerRequest, GetBreakerRequest, ListBreakersRequest,
    ReleaseBreakerRequest,
};

use crate::{Client, Error};

/// What a breaker is forced to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forced {
    /// Nothing of its function starts. What runs goes on.
    Open,
    /// Everything starts, however it ends.
    Closed,
}

impl Client {
    /// The breakers of the namespace of which there is something to say, by function, each with its last change.
    ///
    /// # Errors
    /// [`Error::Unreachable`].
    pub async fn breakers(&self) -> Result<Vec<Breaker>, Error> {
        let request = ListBreakersRequest {
            namespace: self.namespace.to_string(),
        };
        let answer = self.resilience_service().list_breakers(request).await;
        let answer = answer.map_err(|status| self.refusal(&status))?;
        Ok(answer.into_inner().breakers)
    }

    /// The breaker of a function, `MODULE/FUNCTION` or `MODULE@VERSION/FUNCTION`, with what has become of it.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such function; [`Error::Unreachable`].
    pub async fn breaker(&self, function: &str) -> Result<Breaker, Error> {
        let request = GetBreakerRequest {
            namespace: self.namespace.to_string(),
            function: function.to_owned(),
        };
        let answer = self.resilience_service().get_breaker(request).await;
        Ok(answer.map_err(|status| self.refusal(&status))?.into_inner())
    }

    /// Opens or closes the breaker of a function, whatever its attempts do, until it is [released](Client::release_breaker).
    /// It stays so over restarts. `reason` is for whoever looks at it later, and may be empty. Durable when this returns.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such function; [`Error::Refused`] if the namespace has too many breakers, or the
    /// reason is too long; [`Error::Unreachable`].
    pub async fn force_breaker(
        &self,
        function: &str,
        forced: Forced,
        reason: &str,
    ) -> Result<Breaker, Error> {
        let state = match forced {
            Forced::Open => BreakerState::Open,
            Forced::Closed => BreakerState::Closed,
        };
        let request = ForceBreakerRequest {
            namespace: self.namespace.to_string(),
            function: function.to_owned(),
            state: state.into(),
            reason: reason.to_owned(),
        };
        let answer = self.resilience_service().force_breaker(request).await;
        Ok(answer.map_err(|status| self.refusal(&status))?.into_inner())
    }

    /// Leaves the breaker of a function to itself. If it is open, forced or not, one task is tried at once. Durable when
    /// this returns.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such function; [`Error::Unreachable`].
    pub async fn release_breaker(&self, function: &str) -> Result<Breaker, Error> {
        let request = ReleaseBreakerRequest {
            namespace: self.namespace.to_string(),
            function: function.to_owned(),
        };
        let answer = self.resilience_service().release_breaker(request).await;
        Ok(answer.map_err(|status| self.refusal(&status))?.into_inner())
    }
}
