//! A broker and a host as processes of their own, so that they do not share what is measured with the client.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tq_broker::admin;
use tq_client::{Bearer, Client};

use super::process::Usage;
use super::sample::Stopwatch;
use super::within;
use crate::exit::{Exit, Failure};
use crate::nodes::Isolation;

/// How long a node may take to be ready. A broker with millions of waiting tasks reads some of them first.
const START: Duration = Duration::from_secs(120);
/// How long a node may take to end after it was told to.
const STOP: Duration = Duration::from_secs(60);

/// A broker and a host, or a broker that is another's. Own ones end with it.
pub(crate) struct Nodes {
    own: Option<Own>,
    client: Client,
}

/// What was started here.
struct Own {
    folder: PathBuf,
    slots: u32,
    isolation: Isolation,
    broker: Node,
    host: Option<Node>,
}

impl Nodes {
    /// Starts a broker on an empty folder below `folder`, at any free port, and a host with so many slots.
    pub(crate) async fn start(
        folder: &Path,
        slots: u32,
        isolation: Isolation,
    ) -> anyhow::Result<Self> {
        let mut nodes = Self::start_broker(folder, slots, isolation).await?;
        nodes.start_host().await?;
        Ok(nodes)
    }

    /// Starts a broker likewise, without a host.
    pub(crate) async fn start_broker(
        folder: &Path,
        slots: u32,
        isolation: Isolation,
    ) -> anyhow::Result<Self> {
        let broker = start_broker(folder, "127.0.0.1:0").await?;
        let client = Client::connect(&broker.url()?).await?;
        let own = Own {
            folder: folder.to_owned(),
            slots,
            isolation,
            broker,
            host: None,
        };
        Ok(Self {
            own: Some(own),
            client,
        })
    }

    /// Starts a broker likewise that has access control. The client has a key of an administrator.
    pub(crate) async fn start_guarded_broker(
        folder: &Path,
        slots: u32,
        isolation: Isolation,
    ) -> anyhow::Result<Self> {
        let key = Bearer::new(&admin::init(&broker_folder(folder))?)?;
        let nodes = Self::start_broker(folder, slots, isolation).await?;
        Ok(Self {
            client: nodes.client.with_credential(key)?,
            ..nodes
        })
    }

    /// A broker that is there already, with whatever hosts it has.
    pub(crate) fn others(client: Client) -> Self {
        Self { own: None, client }
    }

    /// A client of the broker.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Does something for as long as the nodes run: one that ends by itself ends it.
    pub(crate) async fn watch_over<T>(
        &self,
        work: impl Future<Output = anyhow::Result<T>>,
    ) -> anyhow::Result<T> {
        let Some(Own { broker, host, .. }) = &self.own else {
            return work.await;
        };
        let no_host = async {
            match host {
                Some(host) => host.ended().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            done = work => done,
            () = broker.ended() => Err(broker.failure().into()),
            () = no_host => Err(host.as_ref().map_or_else(|| broker.failure(), Node::failure).into()),
        }
    }

    /// What the broker has used so far; absent if it is another's.
    pub(crate) fn broker_usage(&self) -> anyhow::Result<Option<Usage>> {
        self.broker_pid().map(Usage::of).transpose()
    }

    /// What the host and its processes have used so far; absent if it is another's.
    pub(crate) fn host_usage(&self) -> anyhow::Result<Option<Usage>> {
        self.host_pid().map(Usage::of_family).transpose()
    }

    pub(crate) fn broker_pid(&self) -> Option<u32> {
        self.own.as_ref()?.broker.child.id()
    }

    pub(crate) fn host_pid(&self) -> Option<u32> {
        self.own.as_ref()?.host.as_ref()?.child.id()
    }

    /// The broker's data directory; absent if it is another's.
    pub(crate) fn data_dir(&self) -> Option<PathBuf> {
        Some(broker_folder(&self.own.as_ref()?.folder))
    }

    /// Starts the host, on the data that an earlier one left.
    pub(crate) async fn start_host(&mut self) -> anyhow::Result<()> {
        let own = self.own()?;
        let url = own.broker.url()?;
        let (slots, isolation) = (own.slots.to_string(), own.isolation.to_string());
        let settings = ["--slots", &slots, "--isolation", &isolation];
        let arguments = [
            &["host", "--name", "bench", "--broker", &url],
            &settings[..],
        ]
        .concat();
        own.host = Some(Node::start("host", &arguments, &own.folder.join("host")).await?);
        Ok(())
    }

    /// Stops the host.
    pub(crate) async fn stop_host(&mut self) -> anyhow::Result<()> {
        match self.own()?.host.take() {
            Some(host) => host.stop().await,
            None => Ok(()),
        }
    }

    /// Stops the broker in order and starts the next one on its data and at its port. Returns the time from the start of
    /// the process until it served.
    pub(crate) async fn restart_broker(&mut self) -> anyhow::Result<Duration> {
        let own = self.own()?;
        let url = own.broker.url()?;
        let address = url.trim_start_matches("http://").to_owned();
        own.broker.stop_in_place().await?;
        let start = Stopwatch::start();
        own.broker = start_broker(&own.folder, &address).await?;
        Ok(start.elapsed())
    }

    /// Stops both, the host first.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        let Some(Own { broker, host, .. }) = self.own else {
            return Ok(());
        };
        if let Some(host) = host {
            host.stop().await?;
        }
        broker.stop().await
    }

    fn own(&mut self) -> anyhow::Result<&mut Own> {
        self.own
            .as_mut()
            .context("the nodes are another's, and are left alone")
    }
}

fn broker_folder(folder: &Path) -> PathBuf {
    folder.join("broker")
}

async fn start_broker(folder: &Path, listen: &str) -> anyhow::Result<Node> {
    let arguments = ["broker", "--listen", listen];
    Node::start("broker", &arguments, &broker_folder(folder)).await
}

/// What a node has written to standard error.
#[derive(Clone, Debug, Default)]
struct Said {
    /// The line that says that it is ready.
    ready: Option<String>,
    /// The last line: why it ended, if it did.
    last: String,
}

/// A process of this program.
struct Node {
    name: &'static str,
    child: Child,
    /// The sender is gone when it says no more.
    said: watch::Receiver<Said>,
    /// Reads on, or the node would block once the pipe is full.
    reader: JoinSet<()>,
}

impl Node {
    /// Starts this program again, and waits until it says that it is ready.
    async fn start(
        name: &'static str,
        arguments: &[&str],
        data_dir: &Path,
    ) -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe().context("no path of this program")?);
        // Its own settings, whatever the caller's are.
        for (variable, _) in std::env::vars_os() {
            if variable.to_string_lossy().starts_with("TQ_") {
                command.env_remove(variable);
            }
        }
        let mut child = command
            .args(arguments)
            .arg("--data-dir")
            .arg(data_dir)
            .env_remove("OTEL_EXPORTER_OTLP_ENDPOINT")
            .env("TQ_CONFIG", "/dev/null")
            .env("TQ_LOG", "warn")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("failed to start a {name}"))?;
        let stderr = child
            .stderr
            .take()
            .context("a node has no standard error")?;
        let (tell, said) = watch::channel(Said::default());
        let mut reader = JoinSet::new();
        reader.spawn(async move {
            let mut lines = BufReader::new(stderr).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                tell.send_modify(|said| {
                    if said.ready.is_none() && line.contains(" ready ") {
                        said.ready = Some(line.clone());
                    }
                    said.last = line;
                });
            }
        });
        let node = Self {
            name,
            child,
            said,
            reader,
        };
        let mut said = node.said.clone();
        let is_ready = within(&format!("the start of the {name}"), START, async {
            let ready = said.wait_for(|said| said.ready.is_some());
            Ok(ready.await.is_ok())
        })
        .await?;
        if is_ready {
            Ok(node)
        } else {
            Err(node.failure().into())
        }
    }

    /// Where it serves.
    fn url(&self) -> anyhow::Result<String> {
        let said = self.said.borrow();
        let words = said.ready.iter().flat_map(|line| line.split_whitespace());
        words
            .map(|word| word.trim_end_matches(','))
            .find(|word| word.starts_with("http://"))
            .map(str::to_owned)
            .with_context(|| format!("the {} did not say where it serves", self.name))
    }

    /// Resolves when it says no more, because it has ended.
    async fn ended(&self) {
        let mut said = self.said.clone();
        while said.changed().await.is_ok() {}
    }

    fn failure(&self) -> Failure {
        let last = &self.said.borrow().last;
        let message = match last.as_str() {
            "" => format!(
                "the {} of the measurement has ended without a word",
                self.name
            ),
            last => format!(
                "the {} of the measurement has ended; it said last: {last}",
                self.name
            ),
        };
        Failure::new(Exit::Ended, message)
    }

    async fn stop(mut self) -> anyhow::Result<()> {
        self.stop_in_place().await
    }

    async fn stop_in_place(&mut self) -> anyhow::Result<()> {
        let id = self
            .child
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .and_then(Pid::from_raw);
        if let Some(id) = id {
            kill_process(id, Signal::TERM)
                .with_context(|| format!("failed to stop the {}", self.name))?;
        }
        within(&format!("the end of the {}", self.name), STOP, async {
            self.child.wait().await?;
            // What it said until then is read.
            self.reader.join_next().await;
            Ok(())
        })
        .await
    }
}
