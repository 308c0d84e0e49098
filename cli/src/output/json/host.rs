//! Hosts.

use std::collections::BTreeMap;

use serde::Serialize;
use tq_client::{Host, HostChange, HostHealth, HostState};

use super::{known, named};

/// All hosts.
#[derive(Debug, Serialize)]
pub(crate) struct HostList<'a> {
    hosts: Vec<HostInfo<'a>>,
}

/// One host.
#[derive(Debug, Serialize)]
pub(crate) struct HostInfo<'a> {
    name: &'a str,
    state: &'static str,
    connected: bool,
    slots: u32,
    running: u32,
    modules_ready: u32,
    labels: &'a BTreeMap<String, String>,
    memory_bytes: Option<u64>,
    reserved_bytes: u64,
    reason: Option<&'a str>,
    until_ms: Option<u64>,
    version: &'a str,
    connected_ms: u64,
    changes: Vec<ChangeInfo<'a>>,
}

#[derive(Debug, Serialize)]
struct ChangeInfo<'a> {
    at_ms: u64,
    health: &'static str,
    reason: &'a str,
}

impl<'a> From<&'a HostChange> for ChangeInfo<'a> {
    fn from(change: &'a HostChange) -> Self {
        let HostChange {
            at_ms,
            health: _,
            reason,
        } = change;
        Self {
            at_ms: *at_ms,
            health: host_health(change.health()),
            reason,
        }
    }
}

impl<'a> From<&'a Host> for HostInfo<'a> {
    fn from(host: &'a Host) -> Self {
        Self {
            name: &host.name,
            state: host_state(host.state()),
            connected: host.connected,
            slots: host.slots,
            running: host.running,
            modules_ready: host.modules_ready,
            labels: &host.labels,
            memory_bytes: host.memory_bytes,
            reserved_bytes: host.reserved_bytes,
            reason: named(&host.reason),
            until_ms: known(host.until_ms),
            version: &host.version,
            connected_ms: host.connected_ms,
            changes: host.changes.iter().map(ChangeInfo::from).collect(),
        }
    }
}

impl<'a> HostList<'a> {
    /// In the order given.
    pub(crate) fn new(hosts: &'a [Host]) -> Self {
        Self {
            hosts: hosts.iter().map(HostInfo::from).collect(),
        }
    }
}

/// What became of a host that was removed.
#[derive(Debug, Serialize)]
pub(crate) struct HostRemoved<'a> {
    /// Its name.
    pub(crate) name: &'a str,
    /// Attempts that were taken from it.
    pub(crate) taken_back: u32,
}

/// The name of how a host is.
pub(crate) fn host_health(health: HostHealth) -> &'static str {
    match health {
        HostHealth::Unspecified => "unknown",
        HostHealth::Fit => "fit",
        HostHealth::Quarantined => "quarantined",
        HostHealth::Probing => "probing",
    }
}

/// A host's state's name.
pub(crate) fn host_state(state: HostState) -> &'static str {
    match state {
        HostState::Unspecified => "unknown",
        HostState::Connected => "connected",
        HostState::Silent => "silent",
        HostState::Draining => "draining",
        HostState::Paused => "paused",
        HostState::Drained => "drained",
        HostState::Quarantined => "quarantined",
    }
}
