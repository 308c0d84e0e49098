//! Drives the session: carries messages, ends of attempts and the time to it, and does what it asks for.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::{Code, Status as Refusal};
use tq_core::id::{Digest, Epoch};
use tq_core::label::Labels;
use tq_core::limits::{COMPILES_MAX, EVENTS_MAX, LimitOverrides, MODULE_BYTES_MAX};
use tq_core::outcome::Outcome;
use tq_proto::Bearer;
use tq_proto::v1::{Assignment, AttemptOutcome, Blob};
use tq_tls::Dialer;
use tracing_opentelemetry::OpenTelemetrySpanExt;

use crate::Error;
use crate::agent::backoff::Backoff;
use crate::agent::bulk::{Bulk, Logs};
use crate::agent::convert::{self, NotRunnable, Resolved};
use crate::agent::disk::{self, Change, Spool};
use crate::agent::executor::Executor;
use crate::agent::link::{self, Link, Step};
use crate::agent::session::{Breach, Command, Identity, Seen, Session, UploadId};
use crate::component::{Cache, Load};
use crate::metrics::Metrics;
use crate::runner::{Event, Finished, StopReason};
use crate::services::Holders;

/// Messages of the broker that are taken in one go.
const INBOUND_BATCH: usize = 64;
/// What helpers have to tell and the driver has not yet heard; they wait beyond it.
const NOTES_MAX: usize = 256;
/// Changes to the spool that wait for the disk; the driver waits beyond it.
const CHANGES_MAX: usize = 256;
/// How long a drained host waits for the broker to acknowledge what it gave back.
const LAST_ACKS: Duration = Duration::from_secs(2);

/// What the agent is made of.
pub(crate) struct Parts<E: Executor> {
    pub(crate) broker: Dialer,
    pub(crate) credential: Bearer,
    pub(crate) name: String,
    pub(crate) slots: u32,
    pub(crate) labels: Labels,
    pub(crate) memory_bytes: Option<u64>,
    pub(crate) ceilings: LimitOverrides,
    pub(crate) drain_timeout: Duration,
    pub(crate) cache: Arc<Cache<E::Loader>>,
    pub(crate) executor: E,
    pub(crate) events: mpsc::Receiver<Event>,
    pub(crate) holders: Holders,
    pub(crate) stored: Stored,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) status: watch::Sender<Status>,
    pub(crate) draining: CancellationToken,
}

/// How the agent fares.
#[derive(Clone, Debug, Default)]
pub(crate) struct Status {
    /// The broker has welcomed the host, now or earlier.
    pub(crate) is_welcomed: bool,
    /// The broker refuses the host for good, with these words.
    pub(crate) refused: Option<String>,
}

/// What an earlier process left, and what this one is known by.
#[derive(Debug)]
pub(crate) struct Stored {
    incarnation: [u8; 16],
    seen: Seen,
    seen_path: std::path::PathBuf,
    spool: Spool,
    outcomes: Vec<AttemptOutcome>,
}

impl Stored {
    /// Reads what is in the host's directory. Blocks.
    pub(crate) fn open(data_dir: &Path) -> Result<Self, Error> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| Error::DataDir { path, source }
        };
        let (seen_path, outcomes_path) = (data_dir.join("seen"), data_dir.join("outcomes"));
        let seen = disk::read_seen(&seen_path).map_err(failed(&seen_path))?;
        let (spool, outcomes) =
            Spool::open(outcomes_path.clone()).map_err(failed(&outcomes_path))?;
        let incarnation = incarnation().map_err(|source| Error::Random { source })?;
        Ok(Self {
            incarnation,
            seen,
            seen_path,
            spool,
            outcomes,
        })
    }
}

fn incarnation() -> io::Result<[u8; 16]> {
    let mut bytes = [0; 16];
    let filled = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    if filled < bytes.len() {
        return Err(io::Error::other("too little randomness"));
    }
    Ok(bytes)
}

/// What a helper has done.
enum Note<R> {
    Resolved(Epoch, Result<Box<Resolved<R>>, NotRunnable>),
    Uploaded(UploadId, Blob),
    Prepared(Digest),
    NotPrepared {
        digest: Digest,
        message: String,
        is_permanent: bool,
    },
}

type Notes<R> = (mpsc::Sender<Note<R>>, mpsc::Receiver<Note<R>>);
type Loaded<E> = <<E as Executor>::Loader as Load>::Loaded;

/// Drives one session, from the start of the host to its end.
pub(crate) struct Agent<E: Executor> {
    session: Session,
    started: Instant,
    link: Link,
    broker: Dialer,
    credential: Bearer,
    backoff: Backoff,
    /// Why the last try to connect failed, so that the same reason is logged once.
    last_error: String,
    /// Whether the connection took all that the session had to say.
    is_writable: bool,

    cache: Arc<Cache<E::Loader>>,
    executor: E,
    events: mpsc::Receiver<Event>,
    holders: Holders,
    bulk: Bulk,
    logs: Logs,
    changes: mpsc::Sender<Change>,
    seen: watch::Sender<Seen>,
    notes: Notes<Loaded<E>>,
    preparing: Arc<Semaphore>,
    /// Attempts that wait for something to be fetched.
    resolving: HashMap<Epoch, CancellationToken>,
    spans: HashMap<Epoch, tracing::Span>,

    /// Work that ends with the agent.
    helpers: TaskTracker,
    stopped: CancellationToken,
    /// Work that ends with the connection.
    disconnected: CancellationToken,
    /// Work that the agent waits for at its end.
    writers: TaskTracker,

    slots: u32,
    ceilings: LimitOverrides,
    metrics: Arc<Metrics>,
    status: watch::Sender<Status>,
    draining: CancellationToken,
    drain_timeout: Duration,
    drain: Drain,
}

/// How far the end of the host has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Drain {
    No,
    /// Attempts may run on until then.
    Running(Instant),
    /// They were given back; the broker may acknowledge that until then.
    Leaving(Instant),
}

impl<E: Executor> Agent<E> {
    /// Makes an agent that is not connected, and starts what it writes to disk with.
    pub(crate) fn new(parts: Parts<E>) -> Self {
        let Parts {
            broker,
            credential,
            name,
            slots,
            labels,
            memory_bytes,
            ceilings,
            drain_timeout,
            cache,
            executor,
            events,
            holders,
            stored,
            metrics,
            status,
            draining,
        } = parts;
        let Stored {
            incarnation,
            seen,
            seen_path,
            spool,
            outcomes,
        } = stored;
        let seed = incarnation
            .iter()
            .fold(0, |seed: u64, byte| seed.rotate_left(8) ^ u64::from(*byte));
        let bulk = link::client(broker.connect_lazy(), credential.clone());
        let writers = TaskTracker::new();
        let helpers = TaskTracker::new();
        let stopped = CancellationToken::new();
        let (logs, sending_logs) = Logs::new(bulk.clone(), seed, Arc::clone(&metrics));
        helpers.spawn(stopped.clone().run_until_cancelled_owned(sending_logs));
        let (changes, to_apply) = mpsc::channel(CHANGES_MAX);
        writers.spawn(spool.run(to_apply));
        let (seen_sender, to_write) = watch::channel(seen.clone());
        writers.spawn(disk::write_seen(seen_path, to_write));

        let identity = Identity {
            name,
            incarnation,
            slots,
            labels,
            memory_bytes,
        };
        let ready: BTreeSet<Digest> = cache.digests().into_iter().collect();
        Self {
            session: Session::new(identity, seen, ready, outcomes),
            started: Instant::now(),
            link: Link::Down {
                retry_at: Instant::now(),
            },
            broker,
            credential,
            backoff: Backoff::new(seed),
            last_error: String::new(),
            is_writable: true,
            cache,
            executor,
            events,
            holders,
            bulk: Bulk::new(bulk, seed),
            logs,
            changes,
            seen: seen_sender,
            notes: mpsc::channel(NOTES_MAX),
            preparing: Arc::new(Semaphore::new(COMPILES_MAX)),
            resolving: HashMap::new(),
            spans: HashMap::new(),
            helpers,
            stopped,
            disconnected: CancellationToken::new(),
            writers,
            slots,
            ceilings,
            metrics,
            status,
            draining,
            drain_timeout,
            drain: Drain::No,
        }
    }

    /// Runs until the host is drained.
    pub(crate) async fn run(mut self) {
        let mut events = Vec::with_capacity(EVENTS_MAX);
        loop {
            self.flush().await;
            if self.session.is_drained() {
                break;
            }
            let wake_at = self
                .session
                .wake_at(self.is_writable)
                .map(|at| self.started + at);
            let drain_at = match self.drain {
                Drain::No => None,
                Drain::Running(until) | Drain::Leaving(until) => Some(until),
            };
            let blocked = self.link.outbound().filter(|_| !self.is_writable).cloned();
            tokio::select! {
                taken = self.events.recv_many(&mut events, EVENTS_MAX) => if taken == 0 {
                    tracing::error!("the runner has ended");
                    break;
                },
                step = self.link.step() => self.stepped(step),
                Some(note) = self.notes.1.recv() => self.noted(note),
                () = link::writable(blocked), if !self.is_writable => self.is_writable = true,
                () = sleep_until(wake_at) => self.session.tick(self.now()),
                () = self.draining.cancelled(), if self.drain == Drain::No => {
                    self.session.drain();
                    self.drain = Drain::Running(Instant::now() + self.drain_timeout);
                    tracing::info!(running = self.session.held(), drain_timeout = ?self.drain_timeout, "draining");
                }
                () = sleep_until(drain_at) => match self.drain {
                    Drain::Running(_) => {
                        let unfinished = self.session.held();
                        tracing::warn!(unfinished, drain_timeout = ?self.drain_timeout, "drain timed out");
                        self.session.abandon();
                        self.drain = Drain::Leaving(Instant::now() + LAST_ACKS);
                    }
                    Drain::No | Drain::Leaving(_) => break,
                },
            }
            // Whatever woke us, all that has ended meanwhile goes into one message.
            while events.len() < EVENTS_MAX
                && let Ok(event) = self.events.try_recv()
            {
                events.push(event);
            }
            for event in events.drain(..) {
                self.happened(event);
            }
        }
        self.end().await;
    }

    /// Leaves nothing running and nothing in memory alone.
    async fn end(mut self) {
        let unacknowledged = self.session.kept();
        if unacknowledged > 0 {
            tracing::warn!(unacknowledged, "outcomes are on disk until the next start");
        }
        std::mem::replace(&mut self.link, Link::Refused)
            .hang_up()
            .await;
        self.session.disconnected();
        self.flush().await;
        let Self {
            executor,
            changes,
            seen,
            writers,
            helpers,
            stopped,
            disconnected,
            events,
            ..
        } = self;
        // Slots that still have something to say find nobody, and end.
        drop((changes, seen, events));
        disconnected.cancel();
        stopped.cancel();
        helpers.close();
        writers.close();
        match tokio::task::spawn_blocking(move || executor.shutdown()).await {
            Ok(0) => {}
            Ok(slots) => tracing::warn!(slots, "slots did not end in time"),
            Err(error) => tracing::error!(%error, "failed to end the slots"),
        }
        helpers.wait().await;
        writers.wait().await;
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// Does all that the session asks for, and sends all that it has to say and the connection takes.
    async fn flush(&mut self) {
        for digest in self.cache.take_dropped() {
            self.session.dropped(digest);
        }
        loop {
            while let Some(command) = self.session.next_command() {
                self.obey(command).await;
            }
            let now = self.now();
            let Some(outbound) = self.link.outbound() else {
                break;
            };
            let Ok(permit) = outbound.try_reserve() else {
                self.is_writable = false;
                break;
            };
            match self.session.next_message(now) {
                Some(message) => permit.send(message),
                None => break,
            }
        }
        let seen = self.session.seen();
        self.seen.send_if_modified(|last| {
            let has_changed = last != seen;
            if has_changed {
                last.clone_from(seen);
            }
            has_changed
        });
        let Self {
            metrics, session, ..
        } = self;
        metrics
            .slots_busy
            .set(session.held().min(self.slots as usize) as i64);
        metrics.outcomes_kept.set(session.kept() as i64);
        metrics.modules_ready.set(session.ready() as i64);
        metrics.session_up.set(i64::from(session.is_up()));
    }

    async fn obey(&mut self, command: Command) {
        match command {
            Command::Start(assignment) => self.start(*assignment),
            Command::Stop { epoch, why } => self.stop(epoch, why),
            Command::HandBack => self.hand_back(),
            Command::Prepare { digest, size_bytes } => self.prepare(digest, size_bytes),
            Command::Upload { id, bytes } => {
                let (bulk, notes) = (self.bulk.clone(), self.notes.0.clone());
                let upload = async move {
                    let blob = bulk.put(bytes).await;
                    tell(&notes, Note::Uploaded(id, blob)).await;
                };
                self.helpers
                    .spawn(self.disconnected.clone().run_until_cancelled_owned(upload));
            }
            Command::Spool(outcome) => self.change(Change::Keep(outcome)).await,
            Command::Unspool(epoch) => self.change(Change::Remove(epoch)).await,
            Command::Welcomed => {
                self.backoff.reset();
                self.last_error.clear();
                self.status.send_modify(|status| status.is_welcomed = true);
                tracing::info!(broker = %self.broker.uri(), "session is up");
            }
            Command::Acknowledged { outcomes, fenced } => {
                self.metrics.outcomes_fenced.inc_by(fenced);
                if fenced > 0 {
                    tracing::warn!(
                        outcomes,
                        fenced,
                        "outcomes came after their lease had ended, and changed nothing"
                    );
                }
            }
            Command::Disconnect(breach @ Breach::Removed) => self.turned_away(&breach.to_string()),
            Command::Disconnect(breach) => {
                let severity = match breach {
                    Breach::RolledBack { .. } => Severity::MustAct,
                    Breach::Silent(_) | Breach::Protocol(_) | Breach::Removed => Severity::Passing,
                };
                self.lost(&breach.to_string(), severity);
            }
        }
    }

    async fn change(&mut self, change: Change) {
        // It takes changes for as long as this sender lives.
        if self.changes.send(change).await.is_err() {
            tracing::error!("outcomes are no longer kept on disk");
        }
    }

    fn start(&mut self, mut assignment: Assignment) {
        convert::lower(&mut assignment, &self.ceilings);
        let epoch = Epoch(assignment.epoch);
        self.holders.begin(&assignment);
        let (cache, bulk) = (Arc::clone(&self.cache), self.bulk.clone());
        let span = tracing::debug_span!(
            "run attempt",
            tq.task.id = assignment.task_id,
            tq.namespace = assignment.namespace,
            tq.function = assignment.function,
            tq.epoch = %epoch,
            tq.attempt = assignment.attempt,
            tq.outcome = tracing::field::Empty,
        );
        if !span.is_disabled() {
            let carrier =
                HashMap::from([("traceparent".to_owned(), assignment.traceparent.clone())]);
            let submitter = opentelemetry::global::get_text_map_propagator(|propagator| {
                propagator.extract(&carrier)
            });
            if let Err(error) = span.set_parent(submitter) {
                tracing::debug!(%error, "attempt is not linked to the trace of its submit");
            }
            self.spans.insert(epoch, span);
        }
        let mut resolving =
            Box::pin(async move { convert::resolve(assignment, &cache, &bulk).await });
        // Mostly all is at hand, and the attempt needs no helper.
        if let Some(resolved) = resolving.as_mut().now_or_never() {
            return self.resolved(epoch, resolved);
        }
        let given_up = self.stopped.child_token();
        self.resolving.insert(epoch, given_up.clone());
        let notes = self.notes.0.clone();
        self.helpers
            .spawn(given_up.run_until_cancelled_owned(async move {
                let resolved = resolving.await;
                tell(&notes, Note::Resolved(epoch, resolved)).await;
            }));
    }

    fn resolved(&mut self, epoch: Epoch, resolved: Result<Box<Resolved<Loaded<E>>>, NotRunnable>) {
        let not_run = match resolved {
            Ok(resolved) => match self.executor.run(*resolved) {
                Ok(()) => return,
                Err(refused) => NotRunnable::from(refused),
            },
            Err(not_runnable) => not_runnable,
        };
        tracing::warn!(%epoch, error = %not_run, "attempt was not run");
        if let Some(digest) = not_run.lacks {
            self.session.dropped(digest);
        }
        self.ended(Finished::unrun(epoch, Outcome::HostError, not_run.message));
    }

    fn stop(&mut self, epoch: Epoch, why: StopReason) {
        let Some(resolving) = self.resolving.remove(&epoch) else {
            if let Some(unrun) = self.executor.stop(epoch, why) {
                self.ended(unrun);
            }
            return;
        };
        resolving.cancel();
        match why {
            StopReason::Cancelled | StopReason::DeadlineExceeded => {
                self.ended(Finished::stopped(epoch, why));
            }
            StopReason::Abandoned | StopReason::Shutdown => {
                self.forget(epoch, Outcome::Cancelled);
            }
        }
    }

    /// Gives back what waits for a slot, or for something to be fetched.
    fn hand_back(&mut self) {
        let mut epochs = self.executor.take_back();
        for (epoch, resolving) in self.resolving.drain() {
            resolving.cancel();
            epochs.push(epoch);
        }
        if !epochs.is_empty() {
            tracing::info!(
                attempts = epochs.len(),
                "attempts that had not begun are handed back"
            );
        }
        for epoch in epochs {
            self.ended(Finished::handed_back(epoch));
        }
    }

    fn prepare(&mut self, digest: Digest, size_bytes: u64) {
        let (cache, bulk, metrics) = (
            Arc::clone(&self.cache),
            self.bulk.clone(),
            Arc::clone(&self.metrics),
        );
        let (turns, notes) = (Arc::clone(&self.preparing), self.notes.0.clone());
        let prepare = async move {
            // The semaphore is never closed. It bounds the modules in memory, beside the compilations.
            let _turn = turns.acquire().await;
            let note = match fetch_and_prepare(&cache, &bulk, &metrics, digest, size_bytes).await {
                Ok(()) => Note::Prepared(digest),
                Err((message, is_permanent)) => {
                    tracing::warn!(%digest, error = message, is_permanent, "module was not made ready");
                    Note::NotPrepared {
                        digest,
                        message,
                        is_permanent,
                    }
                }
            };
            tell(&notes, note).await;
        };
        self.helpers
            .spawn(self.stopped.clone().run_until_cancelled_owned(prepare));
    }

    fn noted(&mut self, note: Note<Loaded<E>>) {
        match note {
            Note::Resolved(epoch, resolved) => {
                // Otherwise it was stopped, and that is told.
                if self.resolving.remove(&epoch).is_some() {
                    self.resolved(epoch, resolved);
                }
            }
            Note::Uploaded(id, blob) => self.session.uploaded(id, blob),
            Note::Prepared(digest) => self.session.prepared(digest),
            Note::NotPrepared {
                digest,
                message,
                is_permanent,
            } => self.session.prepare_failed(digest, message, is_permanent),
        }
    }

    fn happened(&mut self, mut event: Event) {
        self.holders.redact(&mut event);
        match event {
            Event::Log { epoch, text } => self.logged(epoch, text),
            Event::Progress {
                epoch,
                fraction,
                note,
            } => self.session.progressed(epoch, fraction, note),
            Event::Checkpoint { epoch, state } => self.session.saved(epoch, state),
            Event::Finished(finished) => self.ended(*finished),
        }
    }

    fn ended(&mut self, mut finished: Finished) {
        let epoch = finished.epoch;
        finished.usage.log_bytes = self.logs.end(epoch);
        self.metrics.ended(finished.outcome, &finished.usage);
        self.forget(epoch, finished.outcome);
        self.session.finished(finished);
    }

    fn logged(&mut self, epoch: Epoch, text: Bytes) {
        // An attempt that was abandoned belongs to another host, whose log it would stand in.
        if let Some(head) = self.session.log_head(epoch) {
            self.logs.put(head, text);
        }
    }

    /// Nothing more is to be told of an attempt.
    fn forget(&mut self, epoch: Epoch, outcome: Outcome) {
        self.holders.end(epoch);
        if let Some(span) = self.spans.remove(&epoch) {
            span.record("tq.outcome", outcome.name());
        }
    }

    fn stepped(&mut self, step: Step) {
        match step {
            Step::Retry => self.link = Link::dial(self.broker.clone()),
            Step::Dialed(Ok(channel)) => {
                self.link = Link::open(channel, self.credential.clone());
                self.is_writable = true;
                self.session.connected(self.now());
            }
            Step::Dialed(Err(error)) => self.lost(&link::root(&error), Severity::Passing),
            Step::Answered(Ok(inbound)) => {
                if let Some(outbound) = self.link.outbound().cloned() {
                    self.link = Link::Open {
                        outbound,
                        inbound: Box::new(inbound),
                    };
                }
            }
            Step::Received(Ok(Some(message))) => {
                let now = self.now();
                self.session.received(message, now);
                // What came with it is answered with it.
                for _ in 1..INBOUND_BATCH {
                    let Link::Open { inbound, .. } = &mut self.link else {
                        break;
                    };
                    match inbound.message().now_or_never() {
                        None => break,
                        Some(Ok(Some(message))) => self.session.received(message, now),
                        Some(Ok(None)) => {
                            return self.lost("the broker closed the session", Severity::Passing);
                        }
                        Some(Err(status)) => return self.refused(&status),
                    }
                }
            }
            Step::Received(Ok(None)) => {
                self.lost("the broker closed the session", Severity::Passing)
            }
            Step::Answered(Err(status)) | Step::Received(Err(status)) => self.refused(&status),
        }
    }

    fn refused(&mut self, status: &Refusal) {
        match status.code() {
            // It was rotated: the next one is in its place.
            Code::Unauthenticated if self.credential.read_again() => {
                self.lost(status.message(), Severity::Passing);
            }
            // No repetition makes them right: the host speaks to something that is no broker, or not its own.
            Code::InvalidArgument
            | Code::PermissionDenied
            | Code::Unauthenticated
            | Code::Unimplemented => {
                self.turned_away(status.message());
            }
            // The broker says that its store is behind what this host saw.
            Code::FailedPrecondition | Code::DataLoss => {
                self.lost(status.message(), Severity::MustAct);
            }
            _ => self.lost(status.message(), Severity::Passing),
        }
    }

    /// The broker does not want this host, and will not.
    fn turned_away(&mut self, reason: &str) {
        self.lost(reason, Severity::MustAct);
        self.link = Link::Refused;
        let message = reason.to_owned();
        self.status
            .send_modify(|status| status.refused = Some(message));
    }

    /// The connection is gone, or did not come to be; another try follows.
    fn lost(&mut self, reason: &str, severity: Severity) {
        self.disconnected.cancel();
        self.disconnected = CancellationToken::new();
        self.session.disconnected();
        let pause = self.backoff.pause();
        self.link = Link::Down {
            retry_at: Instant::now() + pause,
        };
        let broker = self.broker.uri();
        if reason == self.last_error {
            tracing::debug!(error = reason, ?pause, "no session with the broker");
            return;
        }
        match severity {
            Severity::Passing => {
                tracing::warn!(error = reason, %broker, "no session with the broker")
            }
            Severity::MustAct => {
                tracing::error!(error = reason, %broker, "no session with the broker")
            }
        }
        reason.clone_into(&mut self.last_error);
    }
}

/// Whether a lost session comes back by itself.
#[derive(Clone, Copy, Debug)]
enum Severity {
    Passing,
    MustAct,
}

/// Makes a module ready; otherwise says why not, and whether that is the component's own fault.
async fn fetch_and_prepare<L: Load>(
    cache: &Cache<L>,
    bulk: &Bulk,
    metrics: &Metrics,
    digest: Digest,
    size_bytes: u64,
) -> Result<(), (String, bool)> {
    if cache.load(digest).await.is_some() {
        return Ok(());
    }
    if let Some(failure) = cache.failure(digest) {
        return Err((failure.to_string(), failure.is_permanent()));
    }
    if size_bytes > MODULE_BYTES_MAX as u64 {
        let message =
            format!("module has {size_bytes} bytes, over the limit of {MODULE_BYTES_MAX} bytes");
        return Err((message, true));
    }
    let fetched = bulk.fetch(digest, size_bytes).await;
    let module =
        fetched.map_err(|error| (format!("failed to fetch the module: {error}"), false))?;
    let started = Instant::now();
    match cache.prepare(digest, module).await {
        Ok(_) => {
            metrics.compiled(started.elapsed());
            Ok(())
        }
        Err(error) => Err((error.to_string(), error.is_permanent())),
    }
}

async fn tell<R>(notes: &mpsc::Sender<Note<R>>, note: Note<R>) {
    // If nobody listens any more, the agent has ended.
    notes.send(note).await.ok();
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
