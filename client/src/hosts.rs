//! Calls about hosts.

use tq_proto::v1::{Host, ListHostsRequest};

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
}
