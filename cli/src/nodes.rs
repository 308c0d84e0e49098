//! A broker and a host in this process, and what both nodes have in common.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::Context as _;
use clap::ValueEnum;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tempfile::TempDir;
use tokio::signal::unix::{SignalKind, signal};
use tq_broker::Broker;
use tq_client::{ClientFiles, KeyPair, Remote};
use tq_host::Host;
use tq_host::egress::Network;

use crate::config::{Config, Origin, Setting};
use crate::exit::{Exit, Failure};

/// Where a host runs guests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Isolation {
    /// In processes of their own, one for each namespace: confined by the operating system, and replaced when they crash
    Process,
    /// In the host's own process: tasks cost less, and what crashes the engine crashes the host
    None,
}

impl fmt::Display for Isolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Process => "process",
            Self::None => "none",
        })
    }
}

impl FromStr for Isolation {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        ValueEnum::from_str(text, false)
            .map_err(|_| format!("`{text}` is not where guests can run; use `process` or `none`"))
    }
}

impl From<Isolation> for tq_host::Isolation {
    fn from(isolation: Isolation) -> Self {
        match isolation {
            Isolation::Process => Self::Processes(tq_host::processes::Program::default()),
            Isolation::None => Self::InProcess,
        }
    }
}

/// A broker and the one host that works for it.
pub(crate) struct Pair {
    broker: Broker,
    host: Host,
}

impl Pair {
    /// Starts both on `data_dir`, and returns when the host is there to work. The directory as a whole is the broker's, so
    /// that it notices when an older copy of it is put back; the host has a folder inside.
    pub(crate) async fn start(
        data_dir: &Path,
        listen: SocketAddr,
        slots: u32,
        isolation: impl Into<tq_host::Isolation>,
        allowed_networks: Vec<Network>,
    ) -> anyhow::Result<Self> {
        let mut of_broker = tq_broker::Config::new(data_dir, listen);
        // Whoever may deploy what reaches a network may as well be told there.
        of_broker.webhook_networks.clone_from(&allowed_networks);
        let broker = Broker::start(of_broker).await?;
        if broker.has_access_control() {
            broker.shutdown().await?;
            let refused = format!(
                "the broker with its data in `{}` has access control, and this command is for everyone on this machine",
                data_dir.display()
            );
            return Err(Failure::usage(refused)
                .hint("run `tq broker` and `tq host`, or name another --data-dir")
                .into());
        }
        let url = url(broker.address());
        let mut config = tq_host::Config::new(url, "local", slots, data_dir.join("host"));
        config.isolation = isolation.into();
        config.allowed_networks = allowed_networks;
        let host = match Host::start(config).await {
            Ok(host) => host,
            Err(error) => {
                broker.shutdown().await?;
                return Err(error.into());
            }
        };
        let pair = Self { broker, host };
        let failed = tokio::select! {
            () = pair.host.ready() => None,
            error = pair.failed() => Some(error),
        };
        match failed {
            None => Ok(pair),
            Some(error) => {
                pair.shutdown().await?;
                Err(error)
            }
        }
    }

    /// Where the broker serves.
    pub(crate) fn url(&self) -> String {
        url(self.broker.address())
    }

    /// Resolves when one of them had to stop by itself.
    pub(crate) async fn failed(&self) -> anyhow::Error {
        tokio::select! {
            error = self.broker.failed() => error.into(),
            error = self.host.failed() => error.into(),
        }
    }

    /// Stops the host first, so that it can hand over what it has finished.
    pub(crate) async fn shutdown(self) -> anyhow::Result<()> {
        let Self { broker, host } = self;
        host.shutdown().await;
        broker.shutdown().await?;
        Ok(())
    }
}

/// A pair that is there for one command: on a folder and a port of its own, which nothing is left of.
pub(crate) struct Passing {
    pair: Pair,
    folder: TempDir,
}

impl Passing {
    /// Starts both, and returns when the host is there to work.
    pub(crate) async fn start(
        slots: u32,
        isolation: impl Into<tq_host::Isolation>,
        allowed_networks: Vec<Network>,
    ) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("tq-").tempdir();
        let folder = folder.context("failed to make a temporary folder")?;
        // Any port: another tq may be running.
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        // Below the folder, so that what the broker keeps beside its directory goes with it.
        let data_dir = folder.path().join("data");
        let pair = Pair::start(&data_dir, listen, slots, isolation, allowed_networks).await?;
        Ok(Self { pair, folder })
    }

    /// Where the broker serves.
    pub(crate) fn url(&self) -> String {
        self.pair.url()
    }

    /// Does something with the pair, until it is done, one of the two has failed, or somebody interrupts it; then stops both and
    /// removes what they kept.
    pub(crate) async fn during(
        self,
        stop: &mut StopSignals,
        work: impl Future<Output = anyhow::Result<Exit>>,
    ) -> anyhow::Result<Exit> {
        let Self { pair, folder } = self;
        let done = tokio::select! {
            done = work => done,
            error = pair.failed() => Err(error),
            () = stop.next() => {
                // Nobody waits for what still runs, and nothing of it is kept.
                drop(pair);
                folder.close().ok();
                return Ok(Exit::Interrupted);
            }
        };
        let stopped = stop.shut_down(pair.shutdown()).await;
        folder
            .close()
            .context("failed to remove the temporary folder")?;
        let exit = done?;
        stopped?;
        Ok(exit)
    }
}

/// The URL of a broker at this address.
pub(crate) fn url(address: SocketAddr) -> String {
    format!("http://{address}")
}

/// Refuses an address that others could reach: nobody asks them who they are yet.
pub(crate) fn check_listen(listen: SocketAddr) -> Result<(), Failure> {
    if listen.ip().is_loopback() {
        return Ok(());
    }
    Err(Failure::usage(format!("listening on `{listen}` is refused: it is not a loopback address, and this broker has no access control"))
        .hint("listen on 127.0.0.1 or [::1]; `tq broker init` and `tq broker` serve others than this machine"))
}

/// The broker that the settings name, and what TLS to it needs.
pub(crate) fn remote(config: &Config) -> Result<Remote, Failure> {
    let own = key_pair(
        ("--tls-cert", &config.tls_cert),
        ("--tls-key", &config.tls_key),
    )?;
    Ok(Remote {
        url: config.broker.value.clone(),
        tls: ClientFiles {
            ca: config.tls_ca.value.clone(),
            own,
        },
    })
}

/// A certificate and its key, of which one is of no use without the other.
pub(crate) fn key_pair(
    (certificate_flag, certificate): (&str, &Setting<Option<PathBuf>>),
    (key_flag, key): (&str, &Setting<Option<PathBuf>>),
) -> Result<Option<KeyPair>, Failure> {
    let alone = |there: &str, missing: &str| {
        let message = format!("{there} is of no use without {missing}");
        Err(Failure::usage(message)
            .hint("give both, or neither; `tq config show` says where one comes from"))
    };
    match (&certificate.value, &key.value) {
        (None, None) => Ok(None),
        (Some(certificate), Some(key)) => Ok(Some(KeyPair {
            certificate: certificate.clone(),
            key: key.clone(),
        })),
        (Some(_), None) => alone(certificate_flag, key_flag),
        (None, Some(_)) => alone(key_flag, certificate_flag),
    }
}

/// Lets a node have as many files open as the system lets it have: many systems begin with 1,024, and each connection is one.
pub(crate) fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
}

/// Refuses flags about TLS to a broker where nobody connects to one by it.
pub(crate) fn check_connects_by_no_tls(config: &Config, command: &str) -> Result<(), Failure> {
    for (flag, setting) in [
        ("--tls-ca", &config.tls_ca),
        ("--tls-cert", &config.tls_cert),
        ("--tls-key", &config.tls_key),
    ] {
        if setting.origin == Origin::Flag {
            let message =
                format!("{flag} has no meaning for {command}, which connects to no broker by TLS");
            return Err(Failure::usage(message).hint(format!("leave out {flag}")));
        }
    }
    Ok(())
}

/// Refuses flags that name a broker, or something on it, where a command has one of its own.
pub(crate) fn check_asks_for_no_broker(config: &Config, command: &str) -> Result<(), Failure> {
    for (flag, origin) in [
        ("--broker", &config.broker.origin),
        ("--namespace", &config.namespace.origin),
    ] {
        if *origin == Origin::Flag {
            let message =
                format!("{flag} has no meaning for {command}, which has a broker of its own");
            return Err(Failure::usage(message).hint(format!("leave out {flag}")));
        }
    }
    check_connects_by_no_tls(config, command)
}

/// Requests to stop, from a service manager or the keyboard.
pub(crate) struct StopSignals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl StopSignals {
    /// Takes the signals over, from now on.
    pub(crate) fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits for the next one.
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    /// Waits for a shutdown; a second signal cuts it short.
    pub(crate) async fn shut_down(
        &mut self,
        shutdown: impl Future<Output = anyhow::Result<()>>,
    ) -> anyhow::Result<Exit> {
        tokio::select! {
            done = shutdown => done.map(|()| Exit::Succeeded),
            () = self.next() => Ok(Exit::Interrupted),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_is_served() {
        for address in ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1"] {
            assert!(
                check_listen(address.parse().expect("it is an address")).is_ok(),
                "{address}"
            );
        }
        for address in ["0.0.0.0:1", "10.0.0.1:1", "[::]:1"] {
            assert!(
                check_listen(address.parse().expect("it is an address")).is_err(),
                "{address}"
            );
        }
    }
}
