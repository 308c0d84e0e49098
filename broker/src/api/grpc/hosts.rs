use tonic::{Request, Response, Status};
use tq_proto::v1;
use tq_proto::v1::host_service_server::HostService;

use super::Context;
use crate::api::status::ApiError;
use crate::ledger::Command;

pub(super) struct Hosts(pub(super) Context);

#[tonic::async_trait]
impl HostService for Hosts {
    async fn list_hosts(
        &self,
        _: Request<v1::ListHostsRequest>,
    ) -> Result<Response<v1::ListHostsResponse>, Status> {
        let hosts = self
            .0
            .ledger
            .ask(Command::Hosts)
            .await
            .map_err(ApiError::from)?;
        let hosts = hosts.into_iter().map(|host| {
            let state = match (host.is_connected, host.is_draining) {
                (true, true) => v1::HostState::Draining,
                (true, false) => v1::HostState::Connected,
                (false, _) => v1::HostState::Silent,
            };
            v1::Host {
                name: host.name,
                state: state.into(),
                slots: host.slots,
                running: u32::try_from(host.held).unwrap_or(u32::MAX),
                modules_ready: u32::try_from(host.ready).unwrap_or(u32::MAX),
                version: host.version,
                connected_ms: host.connected_ms,
            }
        });
        Ok(Response::new(v1::ListHostsResponse {
            hosts: hosts.collect(),
        }))
    }
}
