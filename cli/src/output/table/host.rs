//! Hosts.

use tq_client::Host;

use super::{dash, labels, print, print_fields, time};
use crate::output::{self, escaped, json};
use crate::units::{Moment, Size};

/// Prints hosts, one a line.
///
/// # Errors
/// As [`output::data`].
pub(crate) fn print_hosts(hosts: &[Host]) -> anyhow::Result<()> {
    print(
        [
            "host",
            "state",
            "running",
            "slots",
            "memory",
            "modules",
            "version",
            "connected",
            "labels",
            "reason",
        ],
        hosts.iter().map(|host| {
            [
                host.name.clone(),
                json::host_state(host.state()).to_owned(),
                host.running.to_string(),
                host.slots.to_string(),
                memory(host),
                host.modules_ready.to_string(),
                dash(&host.version),
                dash(&time(host.connected_ms)),
                dash(&labels(&host.labels)),
                dash(&host.reason),
            ]
        }),
    )
}

/// Prints one host, a field a line, and what has become of its health, the newest first.
///
/// # Errors
/// As [`output::data`].
pub(crate) fn print_host(host: &Host) -> anyhow::Result<()> {
    let session = match (host.connected, host.connected_ms) {
        (true, since) => format!("since {}", time(since)),
        (false, 0) => "none".to_owned(),
        (false, since) => format!("none; the last one began {}", time(since)),
    };
    print_fields([
        ("host", host.name.clone()),
        ("state", json::host_state(host.state()).to_owned()),
        ("reason", escaped(&host.reason)),
        ("until", time(host.until_ms)),
        ("session", session),
        (
            "running",
            format!("{} of {} slots", host.running, host.slots),
        ),
        ("memory", memory(host)),
        ("labels", labels(&host.labels)),
        ("modules", host.modules_ready.to_string()),
        ("version", host.version.clone()),
    ])?;
    if host.changes.is_empty() {
        return Ok(());
    }
    output::line("")?;
    print(
        ["time", "health", "reason"],
        host.changes.iter().rev().map(|change| {
            [
                Moment(change.at_ms).to_string(),
                json::host_health(change.health()).to_owned(),
                escaped(&change.reason),
            ]
        }),
    )
}

/// What attempts may use of a host's memory, and what it has.
fn memory(host: &Host) -> String {
    let reserved = Size(host.reserved_bytes);
    match host.memory_bytes {
        Some(most) => format!("{reserved} of {}", Size(most)),
        None => reserved.to_string(),
    }
}
