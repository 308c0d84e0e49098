//! Calls about hosts.

use std::time::Duration;

use tq_proto::v1::{
    DrainHostRequest, GetHostRequest, Host, ListHostsRequest, PauseHostRequest, RemoveHostRequest,
    ResumeHostRequest,
};

use crate::{Client, Error};

impl Client {
    /// The hosts that the broker knows, by name.
    ///
    /// # Errors
    /// [`Error::Unreachable`].
    pub async fn hosts(&self) -> Result<Vec<Host>, Error> {
        let answer = self.host_service().list_hosts(ListHostsRequest {}).await;
        let mut hosts = answer
            .map_err(|status| self.refusal(&status))?
            .into_inner()
            .hosts;
        hosts.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(hosts)
    }

    /// One host.
    ///
    /// # Errors
    /// [`Error::Refused`] if there is no such host; [`Error::Unreachable`].
    pub async fn host(&self, name: &str) -> Result<Host, Error> {
        let name = name.to_owned();
        let answer = self.host_service().get_host(GetHostRequest { name }).await;
        let answer = answer.map_err(|status| self.refusal(&status))?;
        Ok(answer.into_inner())
    }

    /// Lets a host take nothing new. It finishes what it has, and stays so over restarts. Durable when this returns.
    ///
    /// # Errors
    /// [`Error::Refused`] if there is no such host, or it is being drained or was; [`Error::Unreachable`].
    pub async fn pause_host(&self, name: &str) -> Result<Host, Error> {
        let request = PauseHostRequest {
            name: name.to_owned(),
        };
        let answer = self.host_service().pause_host(request).await;
        let answer = answer.map_err(|status| self.refusal(&status))?;
        Ok(answer.into_inner())
    }

    /// Lets a host work again: ends a pause, a drain and a quarantine. Durable when this returns.
    ///
    /// # Errors
    /// [`Error::Refused`] if there is no such host; [`Error::Unreachable`].
    pub async fn resume_host(&self, name: &str) -> Result<Host, Error> {
        let request = ResumeHostRequest {
            name: name.to_owned(),
        };
        let answer = self.host_service().resume_host(request).await;
        let answer = answer.map_err(|status| self.refusal(&status))?;
        Ok(answer.into_inner())
    }

    /// Begins to empty a host. What it has not begun goes to others at once, what still runs after `deadline` too. Whoever
    /// asks looks at [`Client::host`] until its state is `drained`. Durable when this returns.
    ///
    /// # Errors
    /// [`Error::Refused`] if there is no such host, or the deadline is too far away; [`Error::Unreachable`].
    pub async fn drain_host(&self, name: &str, deadline: Duration) -> Result<Host, Error> {
        let request = DrainHostRequest {
            name: name.to_owned(),
            deadline_ms: u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX),
        };
        let answer = self.host_service().drain_host(request).await;
        let answer = answer.map_err(|status| self.refusal(&status))?;
        Ok(answer.into_inner())
    }

    /// Forgets a host, and tells it to end if it is connected. Returns how many attempts were taken from it; others run
    /// them. Durable when this returns.
    ///
    /// # Errors
    /// [`Error::Refused`] if there is no such host; [`Error::Unreachable`].
    pub async fn remove_host(&self, name: &str) -> Result<u32, Error> {
        let request = RemoveHostRequest {
            name: name.to_owned(),
        };
        let answer = self.host_service().remove_host(request).await;
        let answer = answer.map_err(|status| self.refusal(&status))?;
        Ok(answer.into_inner().taken_back)
    }
}
