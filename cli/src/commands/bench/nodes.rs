//! A broker and a host as processes of their own, so that they do not share what is measured with the client.

use std::path::Path;
use std::process::Stdio;

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};

use crate::exit::{Exit, Failure};

/// Both processes. They end with it.
pub(crate) struct Nodes {
    broker: Node,
    host: Node,
    url: String,
}

struct Node {
    name: &'static str,
    child: Child,
    /// Read on, or the node would block once the pipe is full.
    stderr: Lines<BufReader<ChildStderr>>,
    /// What it said last: why it ended, if it did.
    last_line: String,
}

impl Nodes {
    /// Starts both below `folder`, the broker on any free port.
    pub(crate) async fn start(folder: &Path, slots: u32) -> anyhow::Result<Self> {
        let broker = ["broker", "--listen", "127.0.0.1:0"].map(str::to_owned);
        let (broker, said) = Node::start("broker", broker.into(), &folder.join("broker")).await?;
        let url = said
            .split_whitespace()
            .map(|word| word.trim_end_matches(','))
            .find(|word| word.starts_with("http://"))
            .context("the broker did not say where it serves")?
            .to_owned();
        let host = [
            "host",
            "--name",
            "bench",
            "--broker",
            &url,
            "--slots",
            &slots.to_string(),
        ]
        .map(str::to_owned);
        let (host, _) = Node::start("host", host.into(), &folder.join("host")).await?;
        Ok(Self { broker, host, url })
    }

    /// Where the broker serves.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Resolves when one of them ended by itself.
    pub(crate) async fn failed(&mut self) -> anyhow::Error {
        tokio::select! {
            error = self.broker.ended() => error,
            error = self.host.ended() => error,
        }
    }

    /// Stops both, the host first.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        self.host.stop().await?;
        self.broker.stop().await
    }
}

impl Node {
    /// Starts this program again, and waits until it says that it is ready. Returns that line too.
    async fn start(
        name: &'static str,
        arguments: Vec<String>,
        data_dir: &Path,
    ) -> anyhow::Result<(Self, String)> {
        let mut child =
            Command::new(std::env::current_exe().context("failed to find this program")?)
                .args(arguments)
                .arg("--data-dir")
                .arg(data_dir)
                // Its own settings, whatever the caller's are.
                .env_remove("OTEL_EXPORTER_OTLP_ENDPOINT")
                .env_remove("TQ_OTLP_ENDPOINT")
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
        let mut node = Self {
            name,
            child,
            stderr: BufReader::new(stderr).lines(),
            last_line: String::new(),
        };
        while let Some(line) = node.stderr.next_line().await? {
            if line.contains("ready") {
                return Ok((node, line));
            }
            node.last_line = line;
        }
        Err(node.failure())
    }

    /// Reads what it says until it ends.
    async fn ended(&mut self) -> anyhow::Error {
        while let Ok(Some(line)) = self.stderr.next_line().await {
            self.last_line = line;
        }
        self.failure()
    }

    fn failure(&self) -> anyhow::Error {
        Failure::new(
            Exit::Ended,
            format!(
                "the {} of the measurement has ended: {}",
                self.name, self.last_line
            ),
        )
        .into()
    }

    async fn stop(mut self) -> anyhow::Result<()> {
        let id = self
            .child
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .and_then(Pid::from_raw);
        if let Some(id) = id {
            kill_process(id, Signal::TERM)
                .with_context(|| format!("failed to stop the {}", self.name))?;
        }
        // It may still have something to say, and would block if nobody read it.
        self.ended().await;
        self.child
            .wait()
            .await
            .with_context(|| format!("failed to wait for the {}", self.name))?;
        Ok(())
    }
}
