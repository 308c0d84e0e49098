//! The thread that drives the ledger, and the handle by which others reach it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant, SystemTime};

use prometheus_client::metrics::histogram::Histogram;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tq_core::Timestamp;
use tq_core::limits::{BATCH_COMMANDS_MAX, INBOX_MAX};

use super::syncing::Unsaid;
use super::{
    Command, Delete, Doomed, Ended, Error, Ledger, Now, STOPPED, Shared, Watch, WatchId, lock,
};
use crate::store::Read;

/// A step that takes longer than this extends every lease by its length: the ledger could hear of no one.
const STALL: Duration = Duration::from_secs(1);

/// The ledger cannot be reached: it has stopped, and the broker is about to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the broker is stopping")]
pub struct Stopped;

/// Where commands go. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    inbox: Arc<Inbox>,
    shared: Arc<Shared>,
    reader: Arc<dyn Read>,
}

/// Settlements go before control, and control before submits, so that load from outside never holds up the end of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Settlement,
    Control,
    Submit,
}

impl Class {
    /// All of them, in the order of their numbers.
    const ALL: [Self; 3] = [Self::Settlement, Self::Control, Self::Submit];

    fn name(self) -> &'static str {
        match self {
            Self::Settlement => "settlement",
            Self::Control => "control",
            Self::Submit => "submit",
        }
    }
}

struct Inbox {
    queues: Mutex<Queues>,
    arrived: Condvar,
    room: [Arc<Semaphore>; 3],
    /// How long commands waited, those that there was no room for included.
    waits: [Histogram; 3],
    /// Watches that were ever asked for.
    watches: AtomicU64,
}

#[derive(Default)]
struct Queues {
    waiting: [VecDeque<Waiting>; 3],
    /// No more is taken in; what is waiting is still dealt with.
    closing: bool,
}

/// A command that waits.
struct Waiting {
    command: Command,
    since: Instant,
    _room: Option<OwnedSemaphorePermit>,
}

impl Handle {
    /// What others may look at.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// What others may read the store through. Reads may block on the disk.
    pub fn reader(&self) -> &Arc<dyn Read> {
        &self.reader
    }

    /// Waits until what can be read now outlives a loss of power, as far as anybody is told of it: a step can be read from
    /// its commit on, and is synced afterwards if something rests on it.
    ///
    /// # Errors
    /// [`Stopped`] if the ledger stopped before.
    pub async fn on_disk(&self) -> Result<(), Stopped> {
        let owed = self.shared.owed.load(Ordering::Acquire);
        let mut said = self.shared.said.subscribe();
        let said = said.wait_for(|said| *said >= owed).await;
        match said.as_deref() {
            Ok(&STOPPED) | Err(_) => Err(Stopped),
            Ok(_) => Ok(()),
        }
    }

    /// Sends a command, and waits while too many of its kind are waiting already.
    ///
    /// # Errors
    /// [`Stopped`] if the ledger takes no more.
    ///
    /// # Cancel safety
    /// A call that is dropped has not sent the command.
    pub async fn send(&self, command: Command) -> Result<(), Stopped> {
        let class = class(&command);
        let since = instant();
        let permit = Arc::clone(&self.inbox.room[class as usize])
            .acquire_owned()
            .await
            .map_err(|_| Stopped)?;
        self.inbox.push(
            class,
            Waiting {
                command,
                since,
                _room: Some(permit),
            },
        )
    }

    /// Sends a command that is made from where its answer goes, and waits for the answer.
    ///
    /// # Errors
    /// [`Stopped`] if the ledger stopped before it answered. What was asked for may have been done.
    pub async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> Result<T, Stopped> {
        let (reply, answer) = oneshot::channel();
        self.send(command(reply)).await?;
        answer.await.map_err(|_| Stopped)
    }

    /// Watches for the ends of tasks. What has ended already is not told: also returns the tasks that may have, or that are
    /// not there, for the caller to read.
    ///
    /// # Errors
    /// [`Stopped`] if the ledger takes no more.
    pub async fn watch(
        &self,
        namespace: String,
        ids: Vec<tq_core::TaskId>,
    ) -> Result<(Watching, Vec<tq_core::TaskId>), Stopped> {
        let (ended, receiver) = mpsc::unbounded_channel();
        let id = WatchId(self.inbox.watches.fetch_add(1, Ordering::Relaxed));
        // Made before it is registered: a call that is dropped half way ends what it may have begun.
        let watching = Watching {
            ended: receiver,
            id,
            inbox: Arc::clone(&self.inbox),
        };
        let ask = self.ask(|reply| {
            Command::Watch(Watch {
                id,
                namespace,
                ids,
                ended,
                reply,
            })
        });
        let unknown = ask.await?;
        Ok((watching, unknown))
    }

    /// Tells the ledger that a connection ended. Does not wait, so that it can be called while dropping.
    pub fn disconnected(&self, session: crate::dispatch::SessionId) {
        self.inbox.push_last_words(Command::Disconnected(session));
    }
}

/// A watch. It ends when it is dropped.
pub struct Watching {
    /// Tasks that ended, each once.
    pub ended: mpsc::UnboundedReceiver<Arc<Ended>>,
    id: WatchId,
    inbox: Arc<Inbox>,
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.inbox.push_last_words(Command::Unwatch(self.id));
    }
}

impl Inbox {
    fn push(&self, class: Class, waiting: Waiting) -> Result<(), Stopped> {
        let mut queues = lock(&self.queues);
        if queues.closing {
            return Err(Stopped);
        }
        queues.waiting[class as usize].push_back(waiting);
        drop(queues);
        self.arrived.notify_one();
        Ok(())
    }

    /// Takes a command that ends something which was counted when it began.
    fn push_last_words(&self, command: Command) {
        // A ledger that has stopped needs no last words.
        let last = Waiting {
            command,
            since: instant(),
            _room: None,
        };
        let _stopped = self.push(Class::Control, last);
    }

    /// Waits until there is something to do, or `wait` is over. None when the inbox is closed and empty.
    fn take(&self, wait: Option<Duration>) -> Option<Vec<Command>> {
        let mut queues = lock(&self.queues);
        let until = wait.map(|wait| instant() + wait);
        loop {
            let is_empty = queues.waiting.iter().all(VecDeque::is_empty);
            if !is_empty {
                break;
            }
            if queues.closing {
                return None;
            }
            queues = match until {
                None => self
                    .arrived
                    .wait(queues)
                    .unwrap_or_else(std::sync::PoisonError::into_inner),
                Some(until) => {
                    let left = until.saturating_duration_since(instant());
                    if left.is_zero() {
                        break;
                    }
                    self.arrived
                        .wait_timeout(queues, left)
                        .unwrap_or_else(std::sync::PoisonError::into_inner)
                        .0
                }
            };
        }
        let mut commands = Vec::new();
        let mut waited = Vec::new();
        let mut weight = 0;
        for (class, waiting) in queues.waiting.iter_mut().enumerate() {
            // Each kind gets its share of the commit, even after a full load of the one before it.
            weight = weight.min(BATCH_COMMANDS_MAX - BATCH_COMMANDS_MAX / 4);
            while weight < BATCH_COMMANDS_MAX
                && let Some(Waiting { command, since, .. }) = waiting.pop_front()
            {
                weight += cost(&command);
                commands.push(command);
                waited.push((class, since));
            }
        }
        drop(queues);
        let now = instant();
        for (class, since) in waited {
            let waited = now.saturating_duration_since(since);
            self.waits[class].observe(waited.as_secs_f64());
        }
        Some(commands)
    }
}

/// How many tasks, or keys of buckets, a command touches.
fn cost(command: &Command) -> usize {
    match command {
        Command::Holding(_, command) => cost(command),
        Command::Submit(submit) => submit.tasks.len().max(1),
        Command::RedriveDead(redrive) => redrive.ids.len().max(1),
        Command::Bucket(change) => change.what.keys().max(1),
        Command::Deliver(said) => said.deliveries().max(1),
        Command::Delete(Delete {
            tasks: Doomed::As(tasks),
            ..
        }) => tasks.len().max(1),
        Command::FromHost(_, crate::dispatch::message::FromHost::Outcomes(outcomes)) => {
            outcomes.len().max(1)
        }
        _ => 1,
    }
}

fn class(command: &Command) -> Class {
    match command {
        Command::Holding(_, command) => class(command),
        Command::Hello { .. } | Command::FromHost(..) | Command::Disconnected(_) => {
            Class::Settlement
        }
        Command::Submit(_) => Class::Submit,
        Command::Log(_)
        | Command::Cancel(_)
        | Command::Redrive(_)
        | Command::Amend(..)
        | Command::Queue(_)
        | Command::Queues(..)
        | Command::Quotas(..)
        | Command::Breakers(..)
        | Command::Breaker { .. }
        | Command::RedriveDead(_)
        | Command::SetNamespace(_)
        | Command::Secret(_)
        | Command::Webhook(_)
        | Command::Deliver(_)
        | Command::AccessKey(_)
        | Command::Audit(..)
        | Command::Bucket(_)
        | Command::Granted(..)
        | Command::Delete(_)
        | Command::Keep(_)
        | Command::Watch(_)
        | Command::Unwatch(_)
        | Command::Deploy(_)
        | Command::Rollback { .. }
        | Command::DeleteModule { .. }
        | Command::Hosts(_)
        | Command::Host { .. }
        | Command::RemoveHost { .. }
        | Command::Readiness(..) => Class::Control,
    }
}

/// The running ledger.
pub struct Running {
    inbox: Arc<Inbox>,
    thread: std::thread::JoinHandle<Result<(), Error>>,
}

impl Running {
    /// Takes no more, deals with what is waiting, and closes the store.
    ///
    /// # Errors
    /// [`Error`] if the ledger had stopped by itself, or the store could not be closed in order.
    pub async fn stop(self) -> Result<(), Error> {
        lock(&self.inbox.queues).closing = true;
        self.inbox.arrived.notify_one();
        let joined = tokio::task::spawn_blocking(move || self.thread.join()).await;
        match joined {
            Ok(Ok(result)) => result,
            // A panic of the ledger is a bug; what it had acknowledged is on disk.
            Ok(Err(_)) | Err(_) => Err(Error::Panicked),
        }
    }
}

/// Starts the thread of a ledger. `failed` is told when it stops by itself.
///
/// # Errors
/// What the system says if there can be no more threads.
pub fn start(
    ledger: Ledger,
    clock: Clock,
    failed: watch::Sender<Option<String>>,
) -> std::io::Result<(Handle, Running)> {
    let room = [(); 3].map(|()| Arc::new(Semaphore::new(INBOX_MAX)));
    let metrics = &ledger.shared().metrics;
    let inbox = Arc::new(Inbox {
        waits: Class::ALL.map(|class| metrics.ledger_wait(class.name())),
        queues: Mutex::default(),
        arrived: Condvar::new(),
        room,
        watches: AtomicU64::new(0),
    });
    let handle = Handle {
        inbox: Arc::clone(&inbox),
        shared: ledger.shared(),
        reader: ledger.reader(),
    };
    let of_thread = Arc::clone(&inbox);
    let thread = std::thread::Builder::new()
        .name("ledger".into())
        .spawn(move || {
            let closes = CloseOnEnd(of_thread);
            let result = run(ledger, &clock, &closes.0);
            if let Err(error) = &result {
                tracing::error!(%error, "ledger stopped");
                failed.send_replace(Some(error.to_string()));
            }
            result
        })?;
    Ok((handle, Running { inbox, thread }))
}

/// Refuses everything when the thread ends, however it ends, so that nobody waits for an answer in vain.
struct CloseOnEnd(Arc<Inbox>);

impl Drop for CloseOnEnd {
    fn drop(&mut self) {
        let mut queues = lock(&self.0.queues);
        queues.closing = true;
        let left = std::mem::take(&mut queues.waiting);
        drop(queues);
        drop(left);
        self.0.room.iter().for_each(|room| room.close());
    }
}

/// Runs the ledger, and beside it the thread that syncs and speaks.
fn run(ledger: Ledger, clock: &Clock, inbox: &Inbox) -> Result<(), Error> {
    let unsaid = Unsaid::default();
    let (syncer, shared) = (ledger.syncer(), ledger.shared());
    let (ledger, spoken) = std::thread::scope(|scope| {
        let speaking = std::thread::Builder::new()
            .name("ledger-sync".into())
            .spawn_scoped(scope, || {
                // However it ends, the ledger and whoever reads must not wait for it.
                let _stops = StopOnEnd(inbox, &shared);
                unsaid.speak(syncer)
            })
            .map_err(Error::Thread)?;
        let closes = CloseUnsaid(&unsaid);
        let ledger = take_steps(ledger, clock, inbox, &unsaid);
        drop(closes);
        let spoken = speaking.join().map_err(|_| Error::Panicked);
        Ok::<_, Error>((ledger?, spoken?))
    })?;
    spoken?;
    Ok(ledger.close()?)
}

/// Lets the ledger take its steps until there is nothing more to come.
fn take_steps(
    mut ledger: Ledger,
    clock: &Clock,
    inbox: &Inbox,
    unsaid: &Unsaid,
) -> Result<Ledger, Error> {
    let mut wait = Some(Duration::ZERO);
    let mut ended = clock.now();
    while let Some(commands) = inbox.take(wait) {
        let began = clock.now();
        // Whoever was to wake it after `wait` did not run either: the process was stopped, or the machine.
        let slept = began.mono.saturating_sub(ended.mono);
        if let Some(late) = wait.and_then(|wait| slept.checked_sub(wait + STALL)) {
            tracing::warn!(?late, "the broker stood still; leases are extended by that");
            ledger.stood_still(late + STALL);
        }
        let stepped = ledger.step(began, commands)?;
        wait = stepped.wait;
        if !stepped.answers.is_empty() && !unsaid.put(stepped.answers) {
            // The sync that failed says why.
            break;
        }
        ended = clock.now();
        let took = ended.mono.saturating_sub(began.mono);
        if took > STALL {
            tracing::warn!(
                ?took,
                "a step of the ledger took long; leases are extended by it"
            );
            ledger.stood_still(took);
        }
    }
    Ok(ledger)
}

/// Ends the ledger when nobody speaks any more, and lets no reader wait for it.
struct StopOnEnd<'a>(&'a Inbox, &'a Shared);

impl Drop for StopOnEnd<'_> {
    fn drop(&mut self) {
        lock(&self.0.queues).closing = true;
        self.0.arrived.notify_one();
        self.1.said.send_replace(STOPPED);
    }
}

/// Ends the speaking when the ledger ends, however it ends.
struct CloseUnsaid<'a>(&'a Unsaid);

impl Drop for CloseUnsaid<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// The real clocks.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// Starts the monotonic clock at zero.
    pub fn start() -> Self {
        Self { start: instant() }
    }

    /// What the clocks say.
    pub fn now(&self) -> Now {
        Now {
            wall: wall(),
            mono: instant().saturating_duration_since(self.start),
        }
    }
}

/// What the wall clock says.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place that asks the wall clock; everything else is given the time"
)]
pub(crate) fn wall() -> Timestamp {
    let wall = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp(u64::try_from(wall.as_millis()).unwrap_or(u64::MAX))
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one place that asks the monotonic clock; everything else is given the time"
)]
fn instant() -> Instant {
    Instant::now()
}
