//! A running host, from outside.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tq_core::TaskId;
use tq_core::label::LabelError;
use tq_core::limits::{OutOfRange, SLOTS_MAX};
use tq_core::name::NameError;
use tq_proto::InTheClear;
use tq_tls::{Acceptor, Dialer, Protocols, ServerFiles};

use crate::agent::{self, Agent, Executor, Status, link};
use crate::component::{self, Cache, Compiler, OpenError};
use crate::egress::{self, Egress};
use crate::exposition;
use crate::metrics::Metrics;
use crate::processes::{self, Runners};
use crate::runner::{self, Pool};
use crate::sandbox::{Engine, EngineError};
use crate::services::{Holders, WithSecrets};
use crate::{Config, Isolation, Rehearsal};

/// A host does not start, or cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The name is none.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The number of slots is out of range.
    #[error("slots is {slots}; it may be 1 to {SLOTS_MAX}")]
    Slots {
        /// The number given.
        slots: u32,
    },
    /// A label cannot be used.
    #[error(transparent)]
    Label(#[from] LabelError),
    /// The memory, or a ceiling, is out of range.
    #[error(transparent)]
    Range(#[from] OutOfRange),
    /// The broker's address is none.
    #[error(
        "`{broker}` is not the address of a broker; expected a URL such as `http://127.0.0.1:7171`"
    )]
    Broker {
        /// The text given.
        broker: String,
    },
    /// The credential may not go to the broker's address.
    #[error(transparent)]
    InTheClear(#[from] InTheClear),
    /// Metrics would be open to the network.
    #[error(
        "metrics may not be served on `{listen}`: without access control only loopback is allowed"
    )]
    MetricsNotOnLoopback {
        /// The address given.
        listen: SocketAddr,
    },
    /// There is a certificate for metrics, and no metrics.
    #[error(
        "a certificate for metrics has no effect where no metrics are served; say where with `--metrics-listen`"
    )]
    MetricsNowhere,
    /// The files for TLS cannot be used.
    #[error(transparent)]
    Tls(#[from] tq_tls::Error),
    /// The address for metrics cannot be had.
    #[error("failed to serve metrics on `{listen}`")]
    MetricsListen {
        /// The address given.
        listen: SocketAddr,
        /// The cause.
        source: io::Error,
    },
    /// Another host uses the data directory.
    #[error("data directory `{}` is in use by another host; give each host its own", .path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// The data directory cannot be used.
    #[error("failed to use the data directory at `{}`", .path.display())]
    DataDir {
        /// The file or directory.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The folder of compiled modules cannot be used.
    #[error(transparent)]
    Cache(#[from] OpenError),
    /// This machine cannot run WebAssembly.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The processes that run guests cannot be had.
    #[error("failed to start the processes that run guests; `--in-process` does without them")]
    Runners(#[from] processes::StartError),
    /// The threads that run attempts cannot be had.
    #[error("failed to start {slots} slots")]
    Pool {
        /// How many.
        slots: u32,
        /// The cause.
        source: io::Error,
    },
    /// The operating system gives no randomness.
    #[error("failed to get random bytes")]
    Random {
        /// The cause.
        source: io::Error,
    },
    /// The broker refuses this host for good.
    #[error("broker `{broker}` refuses this host: {message}")]
    Refused {
        /// The broker.
        broker: String,
        /// Its words.
        message: String,
    },
    /// The agent ended without being asked to. It has logged why.
    #[error("the host's agent has ended")]
    Ended,
}

/// A running host. Dropped, it interrupts its attempts and leaves their leases to expire; see [`Host::shutdown`].
#[derive(Debug)]
pub struct Host {
    broker: String,
    status: watch::Receiver<Status>,
    draining: CancellationToken,
    agent: JoinHandle<()>,
    metrics: Arc<Metrics>,
    metrics_address: Option<SocketAddr>,
    serving: TaskTracker,
    // Ends everything, however the host goes away.
    stopped: DropGuard,
    // Held to keep other hosts out; the operating system gives it back at the end of the process at the latest.
    lock: File,
}

impl Host {
    /// Starts a host. It connects in the background, and goes on trying: [`Host::ready`] tells when the broker has
    /// welcomed it.
    ///
    /// # Errors
    /// [`Error`] if a field of `config` is out of range, or if its directory, its address or this machine's resources
    /// cannot be used.
    pub async fn start(config: Config) -> Result<Self, Error> {
        let broker = config.check()?;
        let broker = link::dialer(broker, config.broker_tls.clone()).await?;
        let metrics = Arc::new(Metrics::new(config.slots));
        let stopped = CancellationToken::new();
        let serving = TaskTracker::new();
        let metrics_address = match config.metrics_listen {
            Some(listen) => {
                Some(serve_metrics(listen, &config, &metrics, &stopped, &serving).await?)
            }
            None => None,
        };
        // Beside the start: whatever the answer is, it changes nothing of it.
        let compiler = config.compiler.clone();
        let told = async move { tell_compiler(&compiler).await };
        serving.spawn(stopped.clone().run_until_cancelled_owned(told));
        let client = link::client(broker.connect_lazy(), config.credential.clone());
        let holders = Holders::new(
            client,
            Arc::clone(&metrics),
            serving.clone(),
            stopped.clone(),
        );
        let egress = egress(&config, &metrics, &stopped, &serving);
        let egress = Arc::new(WithSecrets::new(egress, holders.clone()));

        let (status, watched) = watch::channel(Status::default());
        let draining = CancellationToken::new();
        let opened = Opened::open(&config.data_dir).await?;
        let start = Start {
            broker,
            config: &config,
            opened,
            metrics: &metrics,
            status,
            draining: &draining,
            egress,
            holders,
        };
        let (lock, agent) = match &config.isolation {
            Isolation::InProcess => start.in_process(None).await?,
            Isolation::Rehearsal(rehearsal) => start.in_process(Some(rehearsal.task_id)).await?,
            Isolation::Processes(program) => start.with_processes(program.clone()).await?,
        };
        let run = stopped.clone().run_until_cancelled_owned(agent);
        Ok(Self {
            broker: config.broker,
            status: watched,
            draining,
            agent: serving.spawn(async move {
                // Cancelled when the host is dropped: nobody waits for the answer.
                run.await;
            }),
            metrics,
            metrics_address,
            serving,
            stopped: stopped.drop_guard(),
            lock,
        })
    }

    /// Waits until the broker has welcomed the host for the first time. Never returns if it does not.
    pub async fn ready(&self) {
        let mut status = self.status.clone();
        if status.wait_for(|status| status.is_welcomed).await.is_err() {
            std::future::pending().await
        }
    }

    /// Waits until the host cannot go on: the broker refuses it for good. A broker that is away, has another live host
    /// of this name, or has lost data is tried again and again.
    pub async fn failed(&self) -> Error {
        let mut status = self.status.clone();
        match status.wait_for(|status| status.refused.is_some()).await {
            Ok(status) => Error::Refused {
                broker: self.broker.clone(),
                message: status.refused.clone().unwrap_or_default(),
            },
            Err(_) => Error::Ended,
        }
    }

    /// What the host counts and measures, in the OpenMetrics text format.
    #[must_use]
    pub fn metrics(&self) -> String {
        // Writing to a string fails only if a metric is unable to write itself.
        self.metrics.text().unwrap_or_default()
    }

    /// Where `/metrics` is served, if it is.
    #[must_use]
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics_address
    }

    /// Ends the host: it takes nothing new, lets what runs go on for at most the drain timeout, gives the rest back, and
    /// waits for the broker to acknowledge all outcomes. Those of a broker that it cannot reach are on its disk then,
    /// for the next start.
    pub async fn shutdown(self) {
        let Self {
            broker: _,
            status: _,
            draining,
            agent,
            metrics: _,
            metrics_address: _,
            serving,
            stopped,
            lock,
        } = self;
        draining.cancel();
        if let Err(error) = agent.await {
            tracing::error!(%error, "the host's agent has failed");
        }
        // Until here the metrics show what is drained.
        drop(stopped);
        serving.close();
        serving.wait().await;
        // Said, and not left to the last descriptor: a process that is being started holds a copy of each until it runs its program.
        if let Err(error) = lock.unlock() {
            tracing::warn!(%error, "the host's directory is not given back before this process ends");
        }
    }
}

/// What a host finds in its directory.
struct Opened {
    lock: File,
    stored: agent::Stored,
}

impl Opened {
    async fn open(data_dir: &Path) -> Result<Self, Error> {
        let data_dir = data_dir.to_owned();
        blocking(move || {
            let lock = lock(&data_dir)?;
            let stored = agent::Stored::open(&data_dir)?;
            Ok(Self { lock, stored })
        })
        .await
    }
}

/// An agent that runs until the host is drained.
type Running = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What an agent is started with, wherever it has guests run.
struct Start<'a> {
    broker: Dialer,
    config: &'a Config,
    opened: Opened,
    metrics: &'a Arc<Metrics>,
    status: watch::Sender<Status>,
    draining: &'a CancellationToken,
    egress: Arc<dyn Egress>,
    holders: Holders,
}

impl Start<'_> {
    /// Guests see `task_id` as the id of their task, if it is there.
    async fn in_process(self, task_id: Option<TaskId>) -> Result<(File, Running), Error> {
        let slots = self.config.slots;
        let (place, egress) = (self.place(), Arc::clone(&self.egress));
        let services = Arc::new(self.holders.clone());
        let opened = blocking(move || {
            let engine = Engine::new(slots)?.with_egress(egress);
            let mut engine = engine.with_services(services);
            if let Some(id) = task_id {
                engine = engine.with_task_id(id);
            }
            let cache = Cache::open(place, engine.clone())?;
            let config = runner::Config {
                slots,
                queue_max: agent::queue_max(slots),
            };
            let pool = Pool::start(config, &engine);
            let (pool, events) = pool.map_err(|source| Error::Pool { slots, source })?;
            Ok((cache, pool, events))
        });
        let (cache, pool, events) = opened.await?;
        Ok(self.agent(cache, pool, events))
    }

    async fn with_processes(self, program: processes::Program) -> Result<(File, Running), Error> {
        let started = Runners::start(processes::Parts {
            program,
            slots: self.config.slots,
            queue_max: agent::queue_max(self.config.slots),
            egress: Arc::clone(&self.egress),
            services: Arc::new(self.holders.clone()),
            metrics: Arc::clone(self.metrics),
        });
        let (runners, forms, events, missing) = started.await?;
        tell_confinement("runner processes", &missing);
        let place = self.place();
        let cache = blocking(move || Ok(Cache::open(place, forms)?)).await?;
        Ok(self.agent(cache, runners, events))
    }

    /// Where the cache is.
    fn place(&self) -> component::Config {
        component::Config {
            directory: self.config.data_dir.clone(),
            compiler: self.config.compiler.clone(),
            bytes_max: self.config.compiled_bytes_max,
        }
    }

    fn agent<E: Executor>(
        self,
        cache: Cache<E::Loader>,
        executor: E,
        events: mpsc::Receiver<runner::Event>,
    ) -> (File, Running) {
        let Self {
            broker,
            config,
            opened: Opened { lock, stored },
            metrics,
            status,
            draining,
            egress: _,
            holders,
        } = self;
        let agent = Agent::new(agent::Parts {
            broker,
            credential: config.credential.clone(),
            name: config.name.clone(),
            slots: config.slots,
            labels: config.labels.clone(),
            memory_bytes: config.memory_bytes,
            ceilings: config.ceilings,
            drain_timeout: config.drain_timeout,
            cache: Arc::new(cache),
            executor,
            events,
            holders,
            stored,
            metrics: Arc::clone(metrics),
            status,
            draining: draining.clone(),
        });
        (lock, Box::pin(agent.run()))
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| Error::Ended)?
}

async fn tell_compiler(compiler: &Compiler) {
    match compiler.missing_confinement().await {
        Ok(missing) => tell_confinement("the compiler's process", &missing),
        Err(error) => tracing::warn!(
            error = &error as &dyn std::error::Error,
            "the compiler's process does not start; modules that this host does not hold yet cannot be prepared"
        ),
    }
}

/// What sends the requests of guests, on the runtime that calls this.
fn egress(
    config: &Config,
    metrics: &Arc<Metrics>,
    stopped: &CancellationToken,
    serving: &TaskTracker,
) -> Arc<dyn Egress> {
    if let Isolation::Rehearsal(Rehearsal { answers, .. }) = &config.isolation {
        return Arc::clone(answers) as Arc<dyn Egress>;
    }
    let handle = Handle::current();
    // Apart from what is waited for at the end: the system cannot be told to give a look-up up.
    let looking = TaskTracker::new();
    let config = egress::Config {
        allowed_networks: config.allowed_networks.clone(),
        tls_roots: config.tls_roots.clone(),
        resolve: Arc::new(egress::System::new(handle.clone(), looking)),
    };
    let metrics = Arc::clone(metrics);
    let count = move |traffic, outcome| match traffic {
        egress::Traffic::Http => metrics.requested(outcome),
        egress::Traffic::Tcp => metrics.connected(outcome),
    };
    Arc::new(egress::Sender::new(
        config,
        handle,
        serving.clone(),
        stopped.clone(),
        count,
    ))
}

/// Says what is missing of the confinement of the processes that handle foreign code: it is weaker on some kernels, which is
/// no reason not to start.
fn tell_confinement(what: &str, missing: &[String]) {
    if missing.is_empty() {
        tracing::info!(what, "confined");
    } else {
        tracing::warn!(
            what,
            missing = missing.join("; "),
            "confined in part; use a newer kernel, or allow what is missing in this container"
        );
    }
}

/// Takes the directory for this host alone, making it if need be.
fn lock(directory: &Path) -> Result<File, Error> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| Error::DataDir { path, source }
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(failed(directory))?;
    let path = directory.join("lock");
    let open = fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path);
    let file = open.map_err(failed(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::InUse {
            path: directory.to_owned(),
        }),
        Err(TryLockError::Error(source)) => Err(failed(&path)(source)),
    }
}

/// Serves `/metrics` until it is stopped; returns the address, which has a port of its own if none was asked for.
async fn serve_metrics(
    listen: SocketAddr,
    config: &Config,
    metrics: &Arc<Metrics>,
    stopped: &CancellationToken,
    serving: &TaskTracker,
) -> Result<SocketAddr, Error> {
    let tls = match config.metrics_tls.clone() {
        Some(own) => {
            let files = ServerFiles {
                own,
                client_ca: None,
            };
            Some(Acceptor::load(files, Protocols::Http1).await?)
        }
        None => None,
    };
    let failed = |source| Error::MetricsListen { listen, source };
    let listener = TcpListener::bind(listen).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let metrics = Arc::clone(metrics);
    let router = Router::new().route("/metrics", get(async move || exposed(&metrics)));
    let accepting = exposition::accept(listener, router, tls, serving.clone(), stopped.clone());
    serving.spawn(stopped.clone().run_until_cancelled_owned(accepting));
    Ok(address)
}

fn exposed(metrics: &Metrics) -> Response {
    let content_type = [(
        header::CONTENT_TYPE,
        "application/openmetrics-text; version=1.0.0; charset=utf-8",
    )];
    match metrics.text() {
        Ok(text) => (content_type, text).into_response(),
        Err(error) => {
            tracing::error!(%error, "failed to write the metrics");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
