//! What a host is told at its start.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tonic::transport::Uri;
use tq_core::label::Labels;
use tq_core::limits::{COMPILED_CACHE_BYTES, LimitOverrides, SLOTS_MAX, check_host_memory};
use tq_core::{Limits, TaskId, label, name};
use tq_proto::Bearer;
use tq_tls::{ClientFiles, KeyPair};

use crate::Error;

use crate::component::Compiler;
use crate::egress::{Network, Recorded};
use crate::processes;

/// What a host is told at its start.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the broker is: `http://HOST:PORT` or `https://HOST:PORT`.
    pub broker: String,
    /// What TLS to the broker needs beside what the machine has. They are for `https` alone, and read again when they change.
    pub broker_tls: ClientFiles,
    /// What it shows the broker.
    pub credential: Bearer,
    /// The host's name. The broker admits one live host of a name.
    pub name: String,
    /// Attempts that run at once, from 1 to [`SLOTS_MAX`].
    pub slots: u32,
    /// What it says of itself, for tasks that want one host rather than another.
    pub labels: Labels,
    /// What the memory limits of its attempts may add up to, in bytes; `None` if only its slots limit it.
    pub memory_bytes: Option<u64>,
    /// The most that any attempt may have here, whatever its module and its submit say.
    pub ceilings: LimitOverrides,
    /// The host's own directory: compiled modules, outcomes that the broker has not taken, what it saw of the store.
    /// Made if it is not there, for this user alone; one host uses it at a time.
    pub data_dir: PathBuf,
    /// How the compiler's process is started; by default as this program with `__compile`.
    pub compiler: Compiler,
    /// Where guests run.
    pub isolation: Isolation,
    /// All compiled modules together, in bytes; the ones not used for longest go first.
    pub compiled_bytes_max: u64,
    /// How long a host that is shut down lets its attempts run on.
    pub drain_timeout: Duration,
    /// Where to serve `/metrics`, if anywhere. On loopback only: it asks nobody who they are.
    pub metrics_listen: Option<SocketAddr>,
    /// What `/metrics` speaks TLS with; `None` is plain text. The files are read again when they change.
    pub metrics_tls: Option<KeyPair>,
    /// Networks that requests of guests may reach although they are not the internet, where a grant names a host in them.
    pub allowed_networks: Vec<Network>,
    /// Certificates, in DER, that are trusted beside the system's when guests send requests over TLS.
    pub tls_roots: Vec<Bytes>,
}

/// Where guests run.
#[derive(Clone, Debug)]
pub enum Isolation {
    /// In threads of this process. What breaks an engine breaks the host.
    InProcess,
    /// In processes of their own, one for each namespace.
    Processes(processes::Program),
    /// In threads of this process, for trying functions out: what is around them is the same at every run.
    Rehearsal(Rehearsal),
}

/// What stands in for the world around functions that are only tried.
#[derive(Clone, Debug)]
pub struct Rehearsal {
    /// What their requests are answered. There is no network beside it.
    pub answers: Arc<Recorded>,
    /// What every guest sees as the id of its task, and what clocks and randomness follow that are deterministic.
    pub task_id: TaskId,
}

impl Config {
    /// The default of [`Config::drain_timeout`].
    pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(20);

    /// A configuration with the defaults for all that is not named. Guests run in this process.
    #[must_use]
    pub fn new(
        broker: impl Into<String>,
        name: impl Into<String>,
        slots: u32,
        data_dir: impl Into<PathBuf>,
    ) -> Self {
        Self {
            broker: broker.into(),
            broker_tls: ClientFiles::default(),
            credential: Bearer::default(),
            name: name.into(),
            slots,
            labels: Labels::new(),
            memory_bytes: None,
            ceilings: LimitOverrides::default(),
            data_dir: data_dir.into(),
            compiler: Compiler::default(),
            isolation: Isolation::InProcess,
            compiled_bytes_max: COMPILED_CACHE_BYTES,
            drain_timeout: Self::DRAIN_TIMEOUT,
            metrics_listen: None,
            metrics_tls: None,
            allowed_networks: Vec::new(),
            tls_roots: Vec::new(),
        }
    }

    /// Checks every field that has a range, and returns the broker's address.
    pub(crate) fn check(&self) -> Result<Uri, Error> {
        name::check("host name", &self.name)?;
        if self.slots == 0 || self.slots > SLOTS_MAX {
            return Err(Error::Slots { slots: self.slots });
        }
        label::gather(&self.labels)?;
        self.memory_bytes.map_or(Ok(()), check_host_memory)?;
        self.ceilings.over(&Limits::DEFAULT).check()?;
        if self.metrics_tls.is_some() && self.metrics_listen.is_none() {
            return Err(Error::MetricsNowhere);
        }
        if let Some(listen) = self
            .metrics_listen
            .filter(|listen| !listen.ip().is_loopback())
        {
            return Err(Error::MetricsNotOnLoopback { listen });
        }
        let broker: Option<Uri> = self.broker.parse().ok();
        let broker = broker
            .filter(|uri| {
                matches!(uri.scheme_str(), Some("http" | "https"))
                    && uri.port_u16().is_some()
                    && matches!(uri.path(), "" | "/")
            })
            .ok_or_else(|| Error::Broker {
                broker: self.broker.clone(),
            })?;
        self.credential.check(&broker)?;
        Ok(broker)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(change: impl FnOnce(&mut Config), expected: &str) {
        let mut config = Config::new("http://127.0.0.1:7171", "h1", 2, "data");
        assert!(config.check().is_ok());
        change(&mut config);
        assert_eq!(config.check().unwrap_err().to_string(), expected);
    }

    #[test]
    fn each_field_has_its_range() {
        check(|config| config.slots = 0, "slots is 0; it may be 1 to 4096");
        check(
            |config| config.slots = 4_097,
            "slots is 4097; it may be 1 to 4096",
        );
        check(
            |config| config.memory_bytes = Some(1),
            "memory of a host is 1 bytes; it may be 65536 to 1125899906842624 bytes",
        );
        check(
            |config| config.ceilings.timeout_ms = Some(0),
            "timeout is 0 ms; it may be 1 to 86400000 ms",
        );
        check(
            |config| drop(config.labels.insert("gpu".into(), "".into())),
            "label `gpu` has an empty value; give it one, or leave the label out",
        );
        check(
            |config| config.name.clear(),
            "host name is empty; give it a name",
        );
        let form = "is not the address of a broker; expected a URL such as `http://127.0.0.1:7171`";
        for broker in [
            "127.0.0.1:7171",
            "ftp://127.0.0.1:7171",
            "http://localhost",
            "http://a:1/b",
            "",
        ] {
            check(
                |config| config.broker = broker.to_owned(),
                &format!("`{broker}` {form}"),
            );
        }
        check(
            |config| {
                config.metrics_tls = Some(KeyPair {
                    certificate: "a".into(),
                    key: "b".into(),
                });
            },
            "a certificate for metrics has no effect where no metrics are served; say where with `--metrics-listen`",
        );
        check(
            |config| config.metrics_listen = Some("0.0.0.0:9090".parse().unwrap()),
            "metrics may not be served on `0.0.0.0:9090`: without access control only loopback is allowed",
        );
    }
}
