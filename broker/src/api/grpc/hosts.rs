use std::time::Duration;

use tonic::{Request, Response, Status};
use tq_core::limits::check_drain_deadline;
use tq_proto::v1;
use tq_proto::v1::host_service_server::HostService;

use super::Context;
use crate::access::Caller;
use crate::api::status::{ApiError, invalid};
use crate::dispatch::health::{Change, Condition};
use crate::ledger::{Command, HostOrder, HostState, HostView};

pub(super) struct Hosts(pub(super) Context);

impl Hosts {
    /// Passes an order on, and answers with the host as it is then.
    async fn order(
        &self,
        caller: &Caller,
        name: String,
        order: HostOrder,
    ) -> Result<Response<v1::Host>, Status> {
        caller.is_about("host", &name);
        let host = self
            .0
            .ledger
            .ask(|reply| Command::Host { name, order, reply })
            .await
            .map_err(ApiError::from)?;
        Ok(Response::new(host_out(host.map_err(ApiError::from)?)))
    }
}

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
        Ok(Response::new(v1::ListHostsResponse {
            hosts: hosts.into_iter().map(host_out).collect(),
        }))
    }

    async fn get_host(
        &self,
        request: Request<v1::GetHostRequest>,
    ) -> Result<Response<v1::Host>, Status> {
        let caller = Caller::of(&request)?;
        self.order(&caller, request.into_inner().name, HostOrder::Show)
            .await
    }

    async fn pause_host(
        &self,
        request: Request<v1::PauseHostRequest>,
    ) -> Result<Response<v1::Host>, Status> {
        let caller = Caller::of(&request)?;
        self.order(&caller, request.into_inner().name, HostOrder::Pause)
            .await
    }

    async fn resume_host(
        &self,
        request: Request<v1::ResumeHostRequest>,
    ) -> Result<Response<v1::Host>, Status> {
        let caller = Caller::of(&request)?;
        self.order(&caller, request.into_inner().name, HostOrder::Resume)
            .await
    }

    async fn drain_host(
        &self,
        request: Request<v1::DrainHostRequest>,
    ) -> Result<Response<v1::Host>, Status> {
        let caller = Caller::of(&request)?;
        let v1::DrainHostRequest { name, deadline_ms } = request.into_inner();
        check_drain_deadline(deadline_ms).map_err(invalid)?;
        let within = Duration::from_millis(deadline_ms);
        self.order(&caller, name, HostOrder::Drain(within)).await
    }

    async fn remove_host(
        &self,
        request: Request<v1::RemoveHostRequest>,
    ) -> Result<Response<v1::RemoveHostResponse>, Status> {
        let caller = Caller::of(&request)?;
        let name = request.into_inner().name;
        caller.is_about("host", &name);
        let removed = self
            .0
            .ledger
            .ask(|reply| Command::RemoveHost { name, reply })
            .await
            .map_err(ApiError::from)?;
        let taken_back = removed.map_err(ApiError::from)?;
        Ok(Response::new(v1::RemoveHostResponse {
            taken_back: count(taken_back),
        }))
    }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn host_out(host: HostView) -> v1::Host {
    let HostView {
        name,
        state,
        reason,
        until,
        is_connected,
        labels,
        memory_bytes,
        reserved_bytes,
        slots,
        held,
        ready,
        version,
        connected_ms,
        changes,
    } = host;
    let state = match state {
        HostState::Connected => v1::HostState::Connected,
        HostState::Silent => v1::HostState::Silent,
        HostState::Draining => v1::HostState::Draining,
        HostState::Paused => v1::HostState::Paused,
        HostState::Drained => v1::HostState::Drained,
        HostState::Quarantined => v1::HostState::Quarantined,
    };
    let labels = labels.into_iter();
    v1::Host {
        name,
        state: state.into(),
        slots,
        running: count(held),
        modules_ready: count(ready),
        version,
        connected_ms,
        labels: labels
            .map(|(key, value)| (key.into(), value.into()))
            .collect(),
        memory_bytes,
        reserved_bytes,
        reason,
        until_ms: until.map_or(0, |at| at.0),
        connected: is_connected,
        changes: changes.into_iter().map(change_out).collect(),
    }
}

fn change_out(change: Change) -> v1::HostChange {
    let Change {
        at,
        condition,
        reason,
    } = change;
    let health = match condition {
        Condition::Fit => v1::HostHealth::Fit,
        Condition::Quarantined => v1::HostHealth::Quarantined,
        Condition::Probing => v1::HostHealth::Probing,
    };
    v1::HostChange {
        at_ms: at.0,
        health: health.into(),
        reason,
    }
}
