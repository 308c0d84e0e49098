//! Which runner process runs what.

use std::collections::{HashMap, HashSet, VecDeque};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::process::ChildStdout;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tq_core::limits::{
    CHECKPOINT_FRAME_BYTES, EVENTS_MAX, READY_MODULES_MAX, RUNNER_STUCK_AFTER, RUNNERS_IDLE_MAX,
    SHUTDOWN_WAIT,
};
use tq_core::{Digest, Epoch, Limits, Outcome};
use tq_proto::v1::Assignment;

use super::Program;
use super::answering::{Account, Requests};
use super::forms::{Form, Forms};
use super::orders::{Item, Orders};
use super::process::{Begun, Process, Spawner, StartError};
use super::tcp;
use super::wire::{Ask, Asked, Call, Ear, Returned, Told, Violation};
use crate::agent::Executor;
use crate::agent::convert::{self, Resolved};
use crate::clock;
use crate::egress::Egress;
use crate::egress::tcp::Dial;
use crate::metrics::Metrics;
use crate::runner::{Event, Finished, StopReason};
use crate::services::Services;

/// How often idle and stuck processes are looked for.
const TIDY_INTERVAL: Duration = Duration::from_secs(1);
/// Why a process was ended by force.
const STUCK: &str = "an attempt went on for long after its time was over";

/// What runner processes are to do.
pub(crate) struct Parts {
    pub(crate) program: Program,
    /// Attempts that run at once, in all processes together.
    pub(crate) slots: u32,
    /// Attempts that wait for a slot.
    pub(crate) queue_max: usize,
    /// Sends the requests of guests.
    pub(crate) egress: Arc<dyn Egress>,
    /// Answers what guests ask the broker for.
    pub(crate) services: Arc<dyn Services>,
    pub(crate) metrics: Arc<Metrics>,
}

/// The runner processes of a host.
pub(crate) struct Runners {
    shared: Arc<Shared>,
    runtime: tokio::runtime::Handle,
    /// Ends all processes, however this goes away.
    stopped: DropGuard,
}

struct Shared {
    program: Program,
    slots: usize,
    queue_max: usize,
    spawner: Spawner,
    events: Sender<Event>,
    egress: Arc<dyn Egress>,
    services: Arc<dyn Services>,
    metrics: Arc<Metrics>,
    state: Mutex<State>,
    tasks: TaskTracker,
    stopped: CancellationToken,
}

#[derive(Default)]
struct State {
    /// What waits for a slot, in order of arrival.
    queue: VecDeque<Work>,
    runners: HashMap<RunnerId, Runner>,
    /// Those that take more of their namespace.
    open: HashMap<String, RunnerId>,
    /// One that has run nothing yet, so that nobody waits for its start.
    spare: Option<RunnerId>,
    last: u64,
    /// Attempts that were sent and have not ended.
    in_flight: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct RunnerId(u64);

/// An attempt.
#[derive(Clone)]
struct Work {
    epoch: Epoch,
    assignment: Arc<Assignment>,
    form: Arc<Form>,
    limits: Limits,
    /// A process ended before it came to this.
    was_lost: bool,
}

/// An attempt that was sent.
struct Sent {
    work: Work,
    /// What it has sent; most attempts send nothing.
    account: Option<Arc<Account>>,
    /// It waits for what it has asked the broker for.
    is_calling: bool,
    /// What connects for it; most attempts do not.
    dial: Option<Arc<dyn Dial>>,
    stopping: Option<StopReason>,
    /// When it has to have ended; none while it may wait for a slot.
    stuck_at: Option<Instant>,
}

struct Runner {
    orders: Arc<Orders>,
    /// Ends it by force.
    kill: CancellationToken,
    /// In the order in which they were sent, which is that in which they begin.
    sent: VecDeque<Sent>,
    requests: Requests,
    calls: tcp::Calls,
    loaded: HashSet<Digest>,
    attempts: u64,
    born: Instant,
    idle_since: Instant,
    /// It takes nothing more, and ends when it is empty.
    is_retiring: bool,
}

impl Runners {
    /// Starts the first process, to learn whether any can be, and how memories lie in it. Returns what the kernel lacks to
    /// confine them, too. To be called in the run time that drives them.
    ///
    /// # Errors
    /// [`StartError`] if no process becomes ready.
    pub(crate) async fn start(
        parts: Parts,
    ) -> Result<(Self, Forms, Receiver<Event>, Vec<String>), StartError> {
        let Parts {
            program,
            slots,
            queue_max,
            egress,
            services,
            metrics,
        } = parts;
        let spawner = Spawner::new(&program, slots, queue_max).map_err(StartError::Spawn)?;
        let (first, ready) = spawner.start().await?;
        let forms = Forms::new(spawner.clone(), ready.layout.parse()?)?;
        let (events, receiver) = channel(EVENTS_MAX);
        let stopped = CancellationToken::new();
        let shared = Arc::new(Shared {
            program,
            slots: slots as usize,
            queue_max,
            spawner,
            events,
            egress,
            services,
            metrics,
            state: Mutex::default(),
            tasks: TaskTracker::new(),
            stopped: stopped.clone(),
        });
        let mut state = shared.lock();
        let spare = shared.add(&mut state, Some(first));
        state.spare = Some(spare);
        drop(state);
        let tidying = Arc::clone(&shared).tidy();
        let tidying = stopped.clone().run_until_cancelled_owned(tidying);
        shared.tasks.spawn(tidying);
        let runners = Self {
            shared,
            runtime: tokio::runtime::Handle::current(),
            stopped: stopped.drop_guard(),
        };
        Ok((runners, forms, receiver, ready.missing))
    }
}

impl Executor for Runners {
    type Loader = Forms;

    fn run(&self, resolved: Resolved<Form>) -> Result<(), String> {
        let Resolved {
            mut assignment,
            component,
        } = resolved;
        // With it whoever has it may settle the attempt.
        assignment.token = Default::default();
        let work = Work {
            epoch: Epoch(assignment.epoch),
            limits: convert::limits(assignment.limits.as_ref())?,
            assignment: Arc::new(assignment),
            form: component,
            was_lost: false,
        };
        let mut state = self.shared.lock();
        if state.queue.len() >= self.shared.queue_max {
            let max = self.shared.queue_max;
            return Err(format!("{max} attempts wait for a slot already"));
        }
        state.queue.push_back(work);
        self.shared.dispatch(&mut state);
        Ok(())
    }

    fn stop(&self, epoch: Epoch, why: StopReason) -> Option<Finished> {
        let mut state = self.shared.lock();
        if let Some(at) = state.queue.iter().position(|work| work.epoch == epoch) {
            state.queue.remove(at);
            return Some(Finished::stopped(epoch, why));
        }
        for runner in state.runners.values_mut() {
            let sent = runner.sent.iter_mut().find(|sent| sent.work.epoch == epoch);
            if let Some(sent) = sent {
                sent.stopping = Some(why);
                runner.orders.push(Item::Stop(epoch, why));
            }
        }
        None
    }

    fn take_back(&self) -> Vec<Epoch> {
        let mut state = self.shared.lock();
        for runner in state.runners.values() {
            if !runner.sent.is_empty() {
                runner.orders.push(Item::HandBack);
            }
        }
        let waiting = std::mem::take(&mut state.queue);
        waiting.into_iter().map(|work| work.epoch).collect()
    }

    fn shutdown(self) -> usize {
        let Self {
            shared,
            runtime,
            stopped,
        } = self;
        drop(stopped);
        shared.tasks.close();
        let ended = async { tokio::time::timeout(SHUTDOWN_WAIT, shared.tasks.wait()).await };
        match runtime.block_on(ended) {
            Ok(()) => 0,
            Err(_) => shared.tasks.len(),
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends what waits for as long as there is a slot for it.
    ///
    /// While all that runs is of one namespace, its process gets what waits ahead of time, so that its slots need not wait
    /// for messages; the order of arrival is kept all the same.
    fn dispatch(self: &Arc<Self>, state: &mut State) {
        let now = clock::now();
        while let Some(first) = state.queue.front() {
            let is_alone = first.assignment.alone;
            let open = state.open.get(&first.assignment.namespace);
            let open = open.copied().filter(|_| !is_alone);
            let sent = open
                .and_then(|id| state.runners.get(&id))
                .map_or(0, |runner| runner.sent.len());
            let is_only = open.is_some() && sent == state.in_flight;
            let ahead = if is_only { self.queue_max } else { 0 };
            if state.in_flight >= self.slots + ahead {
                return;
            }
            let id = open.unwrap_or_else(|| self.open(state));
            let (Some(work), Some(runner)) = (state.queue.pop_front(), state.runners.get_mut(&id))
            else {
                return; // It was just there.
            };
            state.in_flight += 1;
            let assignment = Arc::clone(&work.assignment);
            runner.send(work, now, self.slots);
            let is_due = runner.attempts >= self.program.attempts
                && now.duration_since(runner.born) >= self.program.age_min;
            if is_alone || is_due || runner.loaded.len() >= READY_MODULES_MAX {
                state.retire(id);
            } else if open.is_none() {
                state.open.insert(assignment.namespace.clone(), id);
            }
        }
    }

    /// A process that has run nothing yet.
    fn open(self: &Arc<Self>, state: &mut State) -> RunnerId {
        let id = match state.spare.take() {
            Some(spare) => spare,
            None => self.add(state, None),
        };
        state.spare = Some(self.add(state, None));
        id
    }

    /// Adds a process, which is started if it is not there yet.
    fn add(self: &Arc<Self>, state: &mut State, process: Option<Process>) -> RunnerId {
        state.last += 1;
        let id = RunnerId(state.last);
        let runner = Runner::new(clock::now(), self.stopped.child_token());
        let (orders, kill) = (Arc::clone(&runner.orders), runner.kill.clone());
        state.runners.insert(id, runner);
        self.metrics.runners.set(state.runners.len() as i64);
        self.metrics.runners_started.inc();
        let shared = Arc::clone(self);
        self.tasks.spawn(async move {
            let (why, begun) = shared.drive(id, process, &orders, &kill).await;
            if !shared.stopped.is_cancelled() {
                shared.gone(id, &why, begun.as_ref()).await;
            }
        });
        id
    }

    /// Drives a process to its end. Returns how it ended and what had begun in it; nothing has if it did not start.
    async fn drive(
        self: &Arc<Self>,
        id: RunnerId,
        process: Option<Process>,
        orders: &Orders,
        kill: &CancellationToken,
    ) -> (String, Option<Begun>) {
        let started = async {
            match process {
                Some(process) => Ok(process),
                None => self.spawner.start().await.map(|(process, _)| process),
            }
        };
        let mut process = match kill.run_until_cancelled(started).await {
            Some(Ok(process)) => process,
            Some(Err(error)) => return (chain(&error), None),
            None => return (STUCK.to_owned(), None),
        };
        let pipe = process.orders.take();
        let sending = async {
            if let Some(pipe) = pipe {
                // A process that reads no more has ended, or will have; its other pipe tells.
                orders.send(pipe).await.ok();
            }
            std::future::pending::<Infallible>().await
        };
        let words = async {
            process.words.hear().await;
            std::future::pending::<Infallible>().await
        };
        let heard = tokio::select! {
            heard = self.listen(id, &mut process.told) => Some(heard),
            () = kill.cancelled() => None,
            never = sending => match never {},
            never = words => match never {},
        };
        let (why, begun) = match heard {
            Some(Ok(())) => process.end().await,
            Some(Err(violation)) => (violation.to_string(), process.kill().await),
            None => (STUCK.to_owned(), process.kill().await),
        };
        (why, Some(begun))
    }

    /// Passes on what a process tells, until its end.
    async fn listen(
        self: &Arc<Self>,
        id: RunnerId,
        told: &mut Ear<ChildStdout>,
    ) -> Result<(), Violation> {
        let mut events = Vec::new();
        while let Some(first) = told.next().await? {
            let mut next = Some(first);
            let mut violation = None;
            while let Some(one) = next {
                match one {
                    Told::Event(event) => events.push(event),
                    Told::Loaded(_) => {}
                    Told::Call(call) => violation = self.called(id, call).err().or(violation),
                    Told::Ask(ask) => violation = self.asked(id, ask).err().or(violation),
                    Told::Taken(request) => self.with_requests(id, |all| all.taken(request)),
                    Told::GivenUp(request) => self.with_requests(id, |all| all.end(request)),
                    Told::Tcp(ask) => violation = self.asked_tcp(id, ask).err().or(violation),
                    Told::Ready(_) => violation = Some(Violation::OutOfPlace("it is ready again")),
                }
                next = told.ready_now()?;
            }
            let heard = self.heard(id, &mut events);
            for event in events.drain(..) {
                if self.events.send(event).await.is_err() {
                    return Ok(()); // The host ends.
                }
            }
            heard?;
            violation.map_or(Ok(()), Err)?;
        }
        Ok(())
    }

    /// Sends what a process asks for.
    fn asked(self: &Arc<Self>, runner_id: RunnerId, ask: Ask) -> Result<(), Violation> {
        let mut state = self.lock();
        let Some(runner) = state.runners.get_mut(&runner_id) else {
            return Ok(());
        };
        let epoch = Epoch(ask.epoch);
        let asks = runner.sent.iter_mut().find(|sent| sent.work.epoch == epoch);
        let Sent { work, account, .. } = asks.ok_or(Violation::OutOfPlace(
            "it asks for an attempt that it does not run",
        ))?;
        let account = match account {
            Some(account) => account,
            None => {
                let new = Account::new(&work.assignment, work.limits);
                account.insert(Arc::new(new.map_err(Violation::Unreadable)?))
            }
        };
        let exchange = runner.requests.begin(ask, account)?;
        let (egress, orders) = (Arc::clone(&self.egress), Arc::clone(&runner.orders));
        let shared = Arc::clone(self);
        let id = exchange.id;
        let over = move || shared.with_requests(runner_id, |all| all.end(id));
        // Boxed: it is large.
        let exchange = Box::pin(exchange.run(egress, orders, over));
        let stopped = self.stopped.clone();
        self.tasks
            .spawn(stopped.run_until_cancelled_owned(exchange));
        Ok(())
    }

    /// Asks the broker for what a process wants to know.
    fn called(self: &Arc<Self>, runner_id: RunnerId, call: Call) -> Result<(), Violation> {
        let Call { id, epoch, asked } = call;
        let epoch = Epoch(epoch);
        let mut state = self.lock();
        let Some(runner) = state.runners.get_mut(&runner_id) else {
            return Ok(());
        };
        let asks = runner.sent.iter_mut().find(|sent| sent.work.epoch == epoch);
        let sent = asks.ok_or(Violation::OutOfPlace(
            "it asks for an attempt that it does not run",
        ))?;
        // A guest waits for each of its calls.
        if std::mem::replace(&mut sent.is_calling, true) {
            return Err(Violation::OutOfPlace("it asks for two things at once"));
        }
        let unreadable = |_| Violation::OutOfPlace("it asks for what has no name");
        let answer: BoxFuture<'static, Returned> = match asked {
            Some(Asked::Secret(name)) => {
                let name = name.parse().map_err(unreadable)?;
                let came = self.services.secret(epoch, name);
                Box::pin(came.map(move |came| Returned::secret(id, came)))
            }
            Some(Asked::KeyValue(call)) => {
                let came = self.services.keyvalue(epoch, call);
                Box::pin(came.map(move |came| Returned::keyvalue(id, came)))
            }
            None => return Err(Violation::OutOfPlace("it asks for nothing")),
        };
        let (shared, orders) = (Arc::clone(self), Arc::clone(&runner.orders));
        let stopped = self.stopped.clone();
        self.tasks
            .spawn(stopped.run_until_cancelled_owned(async move {
                let returned = answer.await;
                shared.is_answered(runner_id, epoch);
                orders.push(Item::Return(returned));
            }));
        Ok(())
    }

    /// An attempt may ask for something again.
    fn is_answered(&self, id: RunnerId, epoch: Epoch) {
        if let Some(runner) = self.lock().runners.get_mut(&id)
            && let Some(sent) = runner.sent.iter_mut().find(|sent| sent.work.epoch == epoch)
        {
            sent.is_calling = false;
        }
    }

    /// Looks up and connects as a process asks for it.
    fn asked_tcp(self: &Arc<Self>, runner_id: RunnerId, ask: tcp::Ask) -> Result<(), Violation> {
        let mut state = self.lock();
        let Some(Runner {
            sent,
            calls,
            orders,
            ..
        }) = state.runners.get_mut(&runner_id)
        else {
            return Ok(());
        };
        // One that says that it took what it did not read would have all of it held here.
        if orders.tcp_bytes() > tcp::WAITING_BYTES_MAX {
            return Err(Violation::OutOfPlace(
                "it does not read what it is answered",
            ));
        }
        let dial = |epoch| {
            let asks = sent.iter_mut().find(|sent| sent.work.epoch == epoch);
            let Sent { work, dial, .. } = asks.ok_or(Violation::OutOfPlace(
                "it connects for an attempt that it does not run",
            ))?;
            if let Some(dial) = dial {
                return Ok(Arc::clone(dial));
            }
            let scope = tcp::scope(&work.assignment).map_err(Violation::Unreadable)?;
            Ok(Arc::clone(dial.insert(self.egress.dial(scope))))
        };
        let Some(begun) = calls.asked(ask, dial)? else {
            return Ok(());
        };
        let (orders, shared, id) = (Arc::clone(orders), Arc::clone(self), begun.id);
        let over = move || {
            if let Some(runner) = shared.lock().runners.get_mut(&runner_id) {
                runner.calls.end(id);
            }
        };
        // Boxed: it is large.
        let running = Box::pin(begun.run(orders, over));
        let stopped = self.stopped.clone();
        self.tasks.spawn(stopped.run_until_cancelled_owned(running));
        Ok(())
    }

    fn with_requests(&self, id: RunnerId, change: impl FnOnce(&mut Requests)) {
        if let Some(runner) = self.lock().runners.get_mut(&id) {
            change(&mut runner.requests);
        }
    }

    /// Notes what a process tells. Events after one that it may not tell are taken out.
    fn heard(self: &Arc<Self>, id: RunnerId, events: &mut Vec<Event>) -> Result<(), Violation> {
        let mut state = self.lock();
        let Some(runner) = state.runners.get_mut(&id) else {
            events.clear();
            return Ok(());
        };
        let (before, now) = (runner.sent.len(), clock::now());
        let wrong = events
            .iter()
            .enumerate()
            .find_map(|(at, event)| Some((at, runner.hears(event).err()?)));
        runner.watch(now, self.slots);
        let ended = before - runner.sent.len();
        let is_idle = ended > 0 && runner.sent.is_empty();
        if is_idle {
            runner.idle_since = now;
            if runner.is_retiring {
                runner.orders.close();
            }
        }
        state.in_flight -= ended;
        self.dispatch(&mut state);
        if is_idle {
            state.retire_idle(None);
        }
        match wrong {
            None => Ok(()),
            Some((at, violation)) => {
                events.truncate(at);
                Err(violation)
            }
        }
    }

    /// A process has ended. What had begun in it has crashed with it, and what had not goes elsewhere, once.
    async fn gone(self: &Arc<Self>, id: RunnerId, why: &str, begun: Option<&Begun>) {
        let mut ends = Vec::new();
        {
            let mut state = self.lock();
            let Some(Runner {
                mut sent, attempts, ..
            }) = state.runners.remove(&id)
            else {
                return;
            };
            state.open.retain(|_, open| *open != id);
            state.spare = state.spare.filter(|spare| *spare != id);
            state.in_flight -= sent.len();
            self.metrics.runners.set(state.runners.len() as i64);
            let ran = begun
                .map(|begun| begun.epochs(self.slots))
                .unwrap_or_default();
            let did_run = |sent: &Sent| ran.contains(&sent.work.epoch);
            let waiting = match begun {
                // Attempts begin in the order in which they were sent.
                Some(_) => {
                    sent.split_off(sent.iter().rposition(did_run).map_or(0, |last| last + 1))
                }
                None => VecDeque::new(),
            };
            if !sent.is_empty() || !waiting.is_empty() {
                self.metrics.runner_crashes.inc();
                tracing::error!(
                    attempts,
                    running = sent.len(),
                    waiting = waiting.len(),
                    why,
                    "a runner process has ended"
                );
            } else if begun.is_none() {
                tracing::error!(why, "a runner process does not start");
            }
            ends.extend(sent.iter().map(|sent| {
                let (outcome, what) = match begun {
                    Some(_) if did_run(sent) => (
                        Outcome::RunnerCrashed,
                        "the process that ran it has crashed",
                    ),
                    // Its slot was at something else by then.
                    Some(_) => (
                        Outcome::HostLost,
                        "its end was lost with the process that ran it",
                    ),
                    None => (Outcome::HostError, "no process could be had to run it"),
                };
                Finished::unrun(sent.work.epoch, outcome, format!("{what}: {why}"))
            }));
            for Sent { work, stopping, .. } in waiting.into_iter().rev() {
                let epoch = work.epoch;
                match stopping {
                    Some(why) => ends.push(Finished::stopped(epoch, why)),
                    None if work.was_lost => {
                        let message = "two processes in which it waited have crashed";
                        ends.push(Finished::unrun(epoch, Outcome::HostLost, message));
                    }
                    None => state.queue.push_front(Work {
                        was_lost: true,
                        ..work
                    }),
                }
            }
            self.dispatch(&mut state);
        }
        for end in ends {
            // It fails only when the host ends.
            self.events.send(Event::Finished(Box::new(end))).await.ok();
        }
    }

    /// Ends what is idle or stuck, again and again.
    async fn tidy(self: Arc<Self>) {
        let mut interval = tokio::time::interval(TIDY_INTERVAL);
        loop {
            interval.tick().await;
            let now = clock::now();
            let mut state = self.lock();
            for runner in state.runners.values() {
                if runner.is_stuck(now) {
                    runner.kill.cancel();
                }
            }
            state.retire_idle(now.checked_sub(self.program.idle));
        }
    }
}

impl State {
    /// Lets a process take nothing more, and end when it is empty.
    fn retire(&mut self, id: RunnerId) {
        self.open.retain(|_, open| *open != id);
        if let Some(runner) = self.runners.get_mut(&id) {
            runner.is_retiring = true;
            if runner.sent.is_empty() {
                runner.orders.close();
            }
        }
    }

    /// Ends processes that run nothing: those that have since before `since`, and those that are too many.
    fn retire_idle(&mut self, since: Option<Instant>) {
        let mut idle: Vec<(Instant, RunnerId)> = (self.open.values())
            .filter_map(|id| Some((*id, self.runners.get(id)?)))
            .filter(|(_, runner)| runner.sent.is_empty())
            .map(|(id, runner)| (runner.idle_since, id))
            .collect();
        idle.sort_unstable_by_key(|(idle_since, _)| *idle_since);
        let too_many = idle.len().saturating_sub(RUNNERS_IDLE_MAX);
        for (at, (idle_since, id)) in idle.into_iter().enumerate() {
            if at < too_many || since.is_some_and(|since| idle_since <= since) {
                self.retire(id);
            }
        }
    }
}

impl Runner {
    fn new(now: Instant, kill: CancellationToken) -> Self {
        Self {
            orders: Arc::default(),
            kill,
            sent: VecDeque::new(),
            requests: Requests::default(),
            calls: tcp::Calls::default(),
            loaded: HashSet::new(),
            attempts: 0,
            born: now,
            idle_since: now,
            is_retiring: false,
        }
    }

    fn send(&mut self, work: Work, now: Instant, slots: usize) {
        if self.loaded.insert(work.form.digest) {
            self.orders.push(Item::Load(Arc::clone(&work.form)));
        }
        self.orders.push(Item::Run(Arc::clone(&work.assignment)));
        self.attempts += 1;
        self.sent.push_back(Sent {
            work,
            account: None,
            is_calling: false,
            dial: None,
            stopping: None,
            stuck_at: None,
        });
        if self.sent.len() <= slots {
            self.watch(now, slots);
        }
    }

    /// What is among the first as many as there are slots has begun, and its time runs.
    fn watch(&mut self, now: Instant, slots: usize) {
        for sent in self.sent.iter_mut().take(slots) {
            let span = sent.work.limits.timeout() + RUNNER_STUCK_AFTER;
            sent.stuck_at = sent.stuck_at.or_else(|| now.checked_add(span));
        }
    }

    fn is_stuck(&self, now: Instant) -> bool {
        let mut times = self.sent.iter().filter_map(|sent| sent.stuck_at);
        times.any(|stuck_at| stuck_at <= now)
    }

    /// Takes note of an event, if it may be told.
    fn hears(&mut self, event: &Event) -> Result<(), Violation> {
        let epoch = match event {
            Event::Log { epoch, .. }
            | Event::Progress { epoch, .. }
            | Event::Checkpoint { epoch, .. } => *epoch,
            Event::Finished(finished) => finished.epoch,
        };
        let at = self.sent.iter().position(|sent| sent.work.epoch == epoch);
        let at = at.ok_or(Violation::OutOfPlace(
            "it speaks of an attempt that it does not run",
        ))?;
        let limits = &self.sent[at].work.limits;
        let (len, max) = match event {
            Event::Checkpoint { state, .. } => (
                state.len(),
                limits.checkpoint_bytes + CHECKPOINT_FRAME_BYTES as u64,
            ),
            Event::Finished(finished) => (
                finished.result.as_ref().map_or(0, bytes::Bytes::len),
                limits.output_bytes,
            ),
            Event::Log { .. } | Event::Progress { .. } => (0, 0),
        };
        if len as u64 > max {
            let max = usize::try_from(max).unwrap_or(usize::MAX);
            return Err(Violation::TooLong { len, max });
        }
        if matches!(event, Event::Finished(_)) {
            self.sent.remove(at);
            // Mostly there are none. Those that are left have nobody to be answered to.
            self.requests.end_of(epoch);
            self.calls.end_of(epoch);
        }
        Ok(())
    }
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let texts: Vec<String> = causes.map(ToString::to_string).collect();
    texts.join(": ")
}
