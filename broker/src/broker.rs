//! A broker, from its start to its end.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tq_core::limits::SEARCHES_MAX;
use tq_tls::{Acceptor, Protocols};

use crate::access::Tokens;
use crate::blobs::{self, Blobs, Collector};
use crate::config::{Config, store_of};
use crate::ledger::{self, Clock, Ledger, Running};
use crate::observe::Metrics;
use crate::secrets::Vault;
use crate::webhooks::{Sender, Worker};
use crate::{api, store};

/// Why a broker does not start, or stops by itself.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Others could reach it, and nothing would keep them out.
    #[error(
        "listening on `{0}` is refused: it is not a loopback address, and this broker has no access control"
    )]
    NotLoopback(SocketAddr),
    /// Credentials would go over a network in the clear.
    #[error(
        "listening on `{0}` without TLS is refused: keys and data would go over the network in the clear"
    )]
    NoTls(SocketAddr),
    /// Tokens would let nobody in whom the broker would not let in anyway.
    #[error("tokens of `{0}` would change nothing: this broker has no access control")]
    TokensForNothing(String),
    /// It cannot listen there.
    #[error("cannot listen on `{address}`")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The files for TLS cannot be used.
    #[error(transparent)]
    Tls(#[from] tq_tls::Error),
    /// The data directory cannot be made.
    #[error("cannot make the data directory `{path}`")]
    DataDir {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The blobs cannot be opened.
    #[error(transparent)]
    Blobs(#[from] blobs::Error),
    /// The ledger cannot go on.
    #[error(transparent)]
    Ledger(#[from] ledger::Error),
    /// It stopped by itself.
    #[error("the broker had to stop: {0}")]
    Stopped(String),
    /// The system refused something that a start needs.
    #[error("cannot start the ledger's thread")]
    Thread(#[source] std::io::Error),
}

/// A running broker.
pub struct Broker {
    server: api::Server,
    running: Running,
    failed: watch::Receiver<Option<String>>,
    /// Calls that go on even if their caller goes away.
    calls: TaskTracker,
    /// What goes on beside requests. It ends by `stop`.
    background: JoinSet<()>,
    stop: CancellationToken,
    config: Config,
    has_access_control: bool,
}

impl Broker {
    /// Opens the data directory, recovers what is in it and serves. When it returns, the broker serves.
    ///
    /// # Errors
    /// [`Error`] says what keeps it from serving.
    pub async fn start(config: Config) -> Result<Self, Error> {
        // Nothing is made for a broker that has to be refused: one whose data is not there has no access control.
        let (store, _) = store_of(&config.data_dir);
        if !config.listen.ip().is_loopback() && !store.try_exists().unwrap_or(true) {
            return Err(Error::NotLoopback(config.listen));
        }
        let tls = match config.tls.clone() {
            Some(files) => Some(Acceptor::load(files, Protocols::Http1And2).await?),
            None => None,
        };
        // The address first: a port that is taken should not cost a recovery.
        let listener = TcpListener::bind(config.listen).await;
        let listener = listener.map_err(|source| Error::Listen {
            address: config.listen,
            source,
        })?;
        let opened = config.clone();
        let opening = tokio::task::spawn_blocking(move || open(&opened)).await;
        let (ledger, blobs, clock) =
            opening.map_err(|error| Error::Stopped(error.to_string()))??;
        let has_access_control = ledger.has_access_control();
        if !has_access_control && !config.listen.ip().is_loopback() {
            ledger.close()?;
            return Err(Error::NotLoopback(config.listen));
        }
        let is_in_the_clear = config.tls.is_none() && !config.plaintext;
        if is_in_the_clear && !config.listen.ip().is_loopback() {
            ledger.close()?;
            return Err(Error::NoTls(config.listen));
        }
        if !has_access_control && let Some(issuer) = &config.tokens {
            ledger.close()?;
            return Err(Error::TokensForNothing(issuer.name.clone()));
        }
        let (tell, failed) = watch::channel(None);
        let (handle, running) = ledger::start(ledger, clock, tell).map_err(Error::Thread)?;
        let stop = CancellationToken::new();
        let mut background = JoinSet::new();
        background.spawn(Collector::new(blobs.clone(), handle.clone()).run(stop.clone()));
        let vault = Arc::new(Vault::new(config.secrets_key.clone()));
        let hooks = Arc::new(Sender::new(config.webhook_networks.clone()));
        let worker = Worker::new(handle.clone(), Arc::clone(&vault), Arc::clone(&hooks));
        background.spawn(worker.run(stop.clone(), config.drain_timeout));
        let tokens = config
            .tokens
            .clone()
            .map(|issuer| Arc::new(Tokens::new(issuer)));
        if let Some(tokens) = tokens.clone() {
            let stop = stop.clone();
            background.spawn(async move {
                stop.run_until_cancelled(tokens.keep_fresh()).await;
            });
        }
        let calls = TaskTracker::new();
        let context = api::Context {
            ledger: handle,
            blobs,
            vault,
            hooks,
            searches: Arc::new(Semaphore::new(SEARCHES_MAX)),
            stop: stop.clone(),
        };
        let routes = api::routes(context, tokens, &config.cors_origins, calls.clone());
        let routes = routes.await;
        let listening = api::Listening {
            tls,
            is_behind_proxy: config.plaintext,
        };
        let server = api::serve(listener, routes, listening);
        let server = server.map_err(|source| Error::Listen {
            address: config.listen,
            source,
        })?;
        tracing::info!(address = %server.address(), "broker serves");
        Ok(Self {
            server,
            running,
            failed,
            calls,
            background,
            stop,
            config,
            has_access_control,
        })
    }

    /// Whether nobody gets in without a credential.
    #[must_use]
    pub fn has_access_control(&self) -> bool {
        self.has_access_control
    }

    /// Where it listens. The port is the one that the system chose if it was set to 0.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Waits until the broker has to stop by itself, and says why.
    pub async fn failed(&self) -> Error {
        let mut failed = self.failed.clone();
        let why = failed
            .wait_for(Option::is_some)
            .await
            .ok()
            .and_then(|why| why.clone());
        Error::Stopped(why.unwrap_or_else(|| "the ledger ended without a word".to_owned()))
    }

    /// Stops taking requests, lets those under way finish, and closes the store.
    ///
    /// # Errors
    /// [`Error::Ledger`] if the ledger had failed, or the store could not be closed in order.
    pub async fn shutdown(self) -> Result<(), Error> {
        let Self {
            server,
            running,
            failed: _,
            calls,
            mut background,
            stop,
            config,
            has_access_control: _,
        } = self;
        stop.cancel();
        server.shutdown(config.drain_timeout).await;
        calls.close();
        if timeout(config.drain_timeout, calls.wait()).await.is_err() {
            tracing::warn!(unfinished = calls.len(), "calls were cut");
        }
        while background.join_next().await.is_some() {}
        Ok(running.stop().await?)
    }
}

fn open(config: &Config) -> Result<(Ledger, Blobs, Clock), Error> {
    let path = config.data_dir.join("broker");
    std::fs::create_dir_all(&path).map_err(|source| Error::DataDir {
        path: path.clone(),
        source,
    })?;
    let (dir, options) = store_of(&config.data_dir);
    let store = store::open(&dir, &options)?;
    let blobs = Blobs::open(path.join("blobs"), config.free_bytes_floor)?;
    let clock = Clock::start();
    // Ids need to differ between processes, not to be secret.
    let seed = u64::from_be_bytes(
        uuid::Uuid::new_v4().as_bytes()[..8]
            .try_into()
            .unwrap_or_default(),
    );
    let settings = ledger::Config {
        free_bytes_floor: config.free_bytes_floor,
        waiting_max: config.waiting_max,
        seed,
        ..ledger::Config::default()
    };
    let ledger = Ledger::open(Box::new(store), settings, clock.now(), Metrics::default())?;
    Ok((ledger, blobs, clock))
}
