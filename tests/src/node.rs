//! Nodes: brokers, hosts, and both in one as `tq dev` runs them.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, Ordering};

use tokio::process::Command;
use tq_client::Client;

use crate::command::Tq;
use crate::process::{Process, Subprocess, binary, command};
use crate::wait::eventually;

/// A `tq broker`.
pub struct Broker {
    /// Its process.
    pub process: Process,
    url: String,
    data_dir: PathBuf,
    port: u16,
    flags: Vec<String>,
    environment: Vec<(String, PathBuf)>,
}

impl Broker {
    /// Starts one on `data_dir`, at a port of its own.
    ///
    /// # Panics
    /// It does not come to serve.
    pub async fn start(data_dir: &Path) -> Self {
        Self::start_with(data_dir, &[]).await
    }

    /// Starts one with further flags.
    ///
    /// # Panics
    /// It does not come to serve.
    pub async fn start_with(data_dir: &Path, flags: &[&str]) -> Self {
        Self::start_in(data_dir, flags, &[]).await
    }

    /// Starts one with further flags, in an environment with variables that name files.
    ///
    /// # Panics
    /// It does not come to serve.
    pub async fn start_in(data_dir: &Path, flags: &[&str], environment: &[(&str, &Path)]) -> Self {
        let flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
        let environment = environment.iter();
        let environment = environment
            .map(|(name, path)| ((*name).to_owned(), path.to_path_buf()))
            .collect();
        Self::start_at(data_dir, free_port(), flags, environment).await
    }

    async fn start_at(
        data_dir: &Path,
        port: u16,
        flags: Vec<String>,
        environment: Vec<(String, PathBuf)>,
    ) -> Self {
        let mut process = Self::spawn(data_dir, port, &flags, &environment);
        let url = ready_url(&mut process).await;
        Self {
            process,
            url,
            data_dir: data_dir.to_owned(),
            port,
            flags,
            environment,
        }
    }

    /// Starts one that is expected not to come to serve, and returns its exit code and what it wrote.
    ///
    /// # Panics
    /// It goes on.
    pub async fn refused(data_dir: &Path) -> (Option<i32>, String) {
        let mut process = Self::spawn(data_dir, 0, &[], &[]);
        let status = process.end().await;
        (status.code(), process.log())
    }

    fn spawn(
        data_dir: &Path,
        port: u16,
        flags: &[String],
        environment: &[(String, PathBuf)],
    ) -> Process {
        let mut command = command(binary());
        command
            .envs(environment.iter().map(|(name, path)| (name, path)))
            .arg("broker")
            .arg("--data-dir")
            .arg(data_dir)
            .args(["--listen", &format!("127.0.0.1:{port}")])
            .args(flags);
        Process::spawn("tq broker", command)
    }

    /// Kills it, without a word of warning, and starts the next one on the same data and port.
    pub async fn kill9_and_restart(&mut self) {
        self.process.kill9().await;
        self.restart().await;
    }

    /// Starts the next one on the same data and port, after this one has ended.
    pub async fn restart(&mut self) {
        let flags = std::mem::take(&mut self.flags);
        let environment = std::mem::take(&mut self.environment);
        *self = Self::start_at(&self.data_dir, self.port, flags, environment).await;
    }

    /// Where it serves.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its data directory.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Commands for it.
    #[must_use]
    pub fn tq(&self) -> Tq {
        Tq::at(&self.url)
    }

    /// A client of it.
    ///
    /// # Panics
    /// It cannot be reached.
    pub async fn client(&self) -> Client {
        client(&self.url).await
    }

    /// Waits until the hosts named hold the current version of `module` compiled.
    ///
    /// # Panics
    /// They do not within the bound.
    pub async fn holds(&self, module: &str, hosts: &[&str]) {
        let client = self.client().await;
        eventually("the module is compiled on its hosts", async || {
            let shown = client.module(module).await.expect("it is deployed");
            let listed = client.modules().await.expect("modules can be listed");
            // What is listed of it is what is shown of it.
            [shown]
                .iter()
                .chain(listed.iter().filter(|listed| listed.name == module))
                .all(|module| {
                    let is_ready = |host: &&str| module.ready_on.iter().any(|ready| ready == host);
                    hosts.iter().all(is_ready)
                })
                .then_some(())
        })
        .await;
    }
}

/// A `tq host`.
pub struct Host {
    /// Its process.
    pub process: Process,
    arguments: Vec<String>,
}

impl Host {
    /// Starts one for `broker`, with its own data in `data_dir`.
    ///
    /// # Panics
    /// It does not come to work.
    pub async fn start(broker: &Broker, data_dir: &Path, name: &str, slots: u32) -> Self {
        let mut host = Self::launch(broker, data_dir, name, slots);
        host.process.line("is ready to work").await;
        host
    }

    /// Starts one with further flags.
    ///
    /// # Panics
    /// It does not come to work.
    pub async fn start_with(
        broker: &Broker,
        data_dir: &Path,
        name: &str,
        slots: u32,
        flags: &[&str],
    ) -> Self {
        let mut host = Self::launch_with(broker, data_dir, name, slots, flags);
        host.process.line("is ready to work").await;
        host
    }

    /// Starts one with further flags, without waiting for it.
    #[must_use]
    pub fn launch_with(
        broker: &Broker,
        data_dir: &Path,
        name: &str,
        slots: u32,
        flags: &[&str],
    ) -> Self {
        let mut arguments = Self::arguments(broker, data_dir, name, slots);
        arguments.extend(flags.iter().map(|flag| (*flag).to_owned()));
        Self::spawn(arguments)
    }

    /// Starts one without waiting for it: a host that its broker refuses goes on trying.
    #[must_use]
    pub fn launch(broker: &Broker, data_dir: &Path, name: &str, slots: u32) -> Self {
        Self::spawn(Self::arguments(broker, data_dir, name, slots))
    }

    fn arguments(broker: &Broker, data_dir: &Path, name: &str, slots: u32) -> Vec<String> {
        vec![
            "host".to_owned(),
            "--broker".to_owned(),
            broker.url().to_owned(),
            "--name".to_owned(),
            name.to_owned(),
            "--slots".to_owned(),
            slots.to_string(),
            "--data-dir".to_owned(),
            data_dir.display().to_string(),
        ]
    }

    /// Kills it, without a word of warning, and starts the next one of its name on the same data. It may not be connected
    /// yet when this returns: its broker may be away too.
    pub async fn kill9_and_restart(&mut self) {
        self.process.kill9().await;
        self.restart();
    }

    /// Starts the next one of its name on the same data, after this one has ended.
    pub fn restart(&mut self) {
        *self = Self::spawn(std::mem::take(&mut self.arguments));
    }

    /// The runner processes that have begun to run something of this namespace.
    ///
    /// # Panics
    /// The host has ended.
    #[must_use]
    pub fn runners(&self, namespace: &str) -> Vec<Subprocess> {
        let name = format!("tq:{namespace}");
        let mut runners = self.process.children();
        runners.retain(|child| child.name == name);
        runners
    }

    fn spawn(arguments: Vec<String>) -> Self {
        let mut command = command(binary());
        command.args(&arguments);
        Self {
            process: Process::spawn("tq host", command),
            arguments,
        }
    }
}

/// A `tq dev`: broker and host in one process.
pub struct Dev {
    /// Its process.
    pub process: Process,
    url: String,
}

impl Dev {
    /// Starts one on `data_dir`, at a port of its own.
    ///
    /// # Panics
    /// It does not come to serve.
    pub async fn start(data_dir: &Path, slots: u32) -> Self {
        Self::start_with(data_dir, slots, &[]).await
    }

    /// Starts one with further flags.
    ///
    /// # Panics
    /// It does not come to serve.
    pub async fn start_with(data_dir: &Path, slots: u32, flags: &[&str]) -> Self {
        let mut command: Command = command(binary());
        command.arg("dev").arg("--data-dir").arg(data_dir).args([
            "--listen",
            &format!("127.0.0.1:{}", free_port()),
            "--slots",
            &slots.to_string(),
        ]);
        command.args(flags);
        let mut process = Process::spawn("tq dev", command);
        let url = ready_url(&mut process).await;
        Self { process, url }
    }

    /// Where it serves.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Commands for it.
    #[must_use]
    pub fn tq(&self) -> Tq {
        Tq::at(&self.url)
    }

    /// A client of it.
    ///
    /// # Panics
    /// It cannot be reached.
    pub async fn client(&self) -> Client {
        client(&self.url).await
    }
}

async fn client(url: &str) -> Client {
    Client::connect(url)
        .await
        .unwrap_or_else(|error| panic!("{error}"))
}

/// The address in the line that says that a node is ready.
async fn ready_url(process: &mut Process) -> String {
    let line = process.line("is ready at ").await;
    let address = line
        .split("is ready at ")
        .nth(1)
        .and_then(|rest| rest.split(',').next());
    address
        .unwrap_or_else(|| panic!("`{line}` names no address"))
        .to_owned()
}

/// A port that is free now and below those that the system hands to outgoing connections: while a broker is down, one of
/// those could take its port, a host's attempt to reach that very broker too.
///
/// # Panics
/// There is none.
#[must_use]
pub fn free_port() -> u16 {
    const FIRST: u16 = 10_000;
    const COUNT: u16 = 20_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Test processes start at different places, and the tests within one take turns.
    let start = u16::try_from(std::process::id() % u32::from(COUNT)).unwrap_or(0);
    (0..COUNT)
        .map(|_| FIRST + (start + NEXT.fetch_add(1, Ordering::Relaxed) % COUNT) % COUNT)
        .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .expect("one of twenty thousand ports is free")
}
