//! One attempt, from its store to its end.

use std::future::poll_fn;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::FutureExt as _;
use rustix::time::{ClockId, clock_gettime};
use tokio::sync::mpsc::Sender;
use wasmtime::component::{ComponentExportIndex, Instance};
use wasmtime::{PoolConcurrencyLimitError, Store};
use wasmtime_wasi::I32Exit;

use tq_core::limits::{ERROR_MESSAGE_BYTES_MAX, ROOM_WAIT};
use tq_core::outcome::{Class, Usage};
use tq_core::{Limits, Outcome};

use super::failure::{self, Stage, Verdict};
use super::timing::Control;
use super::typed;
use super::{Attempt, Event, Failure, Finished, Interrupt, Outbox, Timing};
use crate::clock;
use crate::component::Entry;
use crate::imports::TaskError;
use crate::sandbox::{Engine, Guest, OutputLimit};

/// Runs one attempt after the other on the thread that calls it. A [`Pool`](super::Pool) has one for each of its
/// threads.
pub struct Slot {
    engine: Engine,
    runtime: tokio::runtime::Runtime,
    control: Arc<Control>,
    events: Sender<Event>,
    /// The thread's processor time when the last attempt was done. The next one is charged from there on: asking the
    /// kernel takes half a microsecond, so it is asked once a task, and waiting for work takes no time of a processor.
    cpu: Option<Duration>,
}

/// What a guest returned.
pub(super) enum Returned {
    Result(Bytes),
    Error(TaskError),
    /// A program said that it failed.
    Failed,
    TooLarge,
    /// A typed function's result could not be taken over.
    TooMany(typed::TooMany),
    Missing(String),
}

/// Why there is nothing that a guest returned.
enum Unreturned {
    Interrupted(Interrupt),
    Error(Stage, wasmtime::Error),
}

impl Slot {
    /// A slot of this engine, whose running attempts tell `events` what they write.
    ///
    /// # Errors
    /// If there is no timer to be had.
    pub fn new(engine: Engine, events: Sender<Event>) -> std::io::Result<Self> {
        Self::with_control(engine, events, Arc::default())
    }

    pub(super) fn with_control(
        engine: Engine,
        events: Sender<Event>,
        control: Arc<Control>,
    ) -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()?;
        Ok(Self {
            engine,
            runtime,
            control,
            events,
            cpu: None,
        })
    }

    /// Runs the attempt to its end, which includes passing on the rest of its log. Blocks; a panic of the host's own
    /// code ends the attempt as [`Outcome::HostError`].
    pub fn run(&mut self, attempt: Attempt) -> Finished {
        self.control.set(Some(attempt.epoch));
        self.run_current(attempt)
    }

    /// As [`Slot::run`], for a slot that was told of the attempt before.
    pub(super) fn run_current(&mut self, attempt: Attempt) -> Finished {
        let epoch = attempt.epoch;
        let now = clock::now();
        let outbox = Arc::new(Outbox::new(
            epoch,
            attempt.limits.log_bytes,
            self.events.clone(),
            now,
        ));
        let (engine, control) = (&self.engine, &self.control);
        let cpu = self.cpu.get_or_insert_with(thread_cpu);
        let finished = std::panic::catch_unwind(AssertUnwindSafe(|| {
            let _ticking = engine.running();
            let mut executing = pin!(execute(engine, control, attempt, &outbox, now, cpu));
            // Most guests wait for nothing, and need no runtime that could wake them.
            let entered = self.runtime.enter();
            let finished = executing.as_mut().now_or_never();
            drop(entered);
            finished.unwrap_or_else(|| self.runtime.block_on(executing))
        }))
        .unwrap_or_else(|panic| {
            let message = panic
                .downcast_ref::<&str>()
                .copied()
                .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
                .unwrap_or("unknown");
            tracing::error!(%epoch, message, "the host panicked in an attempt");
            Finished::unrun(
                epoch,
                Outcome::HostError,
                "the host failed while it ran this",
            )
        });
        // What the guest waited for was aborted with its store, and is dropped where its runtime next runs: now, since the next
        // attempt may have no use for a runtime.
        while self.runtime.metrics().num_alive_tasks() > 0 {
            self.runtime.block_on(tokio::task::yield_now());
        }
        self.control.set(None);
        if outbox
            .finish(finished.outcome == Outcome::Succeeded)
            .is_err()
        {
            tracing::debug!(%epoch, "nobody takes the log of this attempt");
        }
        finished
    }
}

async fn execute(
    engine: &Engine,
    control: &Arc<Control>,
    mut attempt: Attempt,
    outbox: &Arc<Outbox>,
    mut now: Instant,
    cpu: &mut Duration,
) -> Finished {
    let room_until = now + ROOM_WAIT;
    attempt.task_id = engine.task_id().unwrap_or(attempt.task_id);
    let attempt = Arc::new(attempt);
    let until_deadline = match attempt.deadline.map(clock::until) {
        Some(Duration::ZERO) => {
            let why = super::StopReason::DeadlineExceeded;
            return Finished::unrun(attempt.epoch, why.outcome(), why.message());
        }
        until_deadline => until_deadline,
    };
    loop {
        // The wait for room must not miss what is given back between the failure and its beginning.
        let room = engine.room().notified();
        let timing = Timing::start(
            Arc::clone(control),
            now,
            attempt.limits.timeout(),
            until_deadline,
        );
        let mut store = match Guest::store(engine, &attempt, outbox, timing.clone()) {
            Ok(store) => store,
            Err(error) => {
                let message = format!("no store for a guest: {error:#}");
                return Finished::unrun(attempt.epoch, Outcome::HostError, message);
            }
        };
        let returned = drive(call(&mut store, &attempt), &timing, outbox).await;
        if let Err(Unreturned::Error(_, error)) = &returned
            && error.is::<PoolConcurrencyLimitError>()
        {
            let message = format!("{error:#}");
            drop(store);
            engine.room().notify_waiters();
            now = clock::now();
            if now >= room_until || timing.is_stopping() {
                return Finished::unrun(attempt.epoch, Outcome::HostError, message);
            }
            // The timeout is for the case that the room was given back before this wait began.
            tokio::time::timeout(Duration::from_millis(20), room)
                .await
                .ok();
            now = clock::now();
            continue;
        }
        let finished = conclude(&mut store, &attempt, returned, &timing, cpu);
        drop(store);
        engine.room().notify_waiters();
        return finished;
    }
}

/// Waits for the guest to return, and interrupts it where it waits for its host; where it computes, the epoch does.
async fn drive(
    call: impl Future<Output = Result<Returned, (Stage, wasmtime::Error)>>,
    timing: &Timing,
    outbox: &Outbox,
) -> Result<Returned, Unreturned> {
    let mut call = pin!(call);
    let mut told = pin!(timing.control().wake.notified());
    let mut sleep = pin!(tokio::time::sleep_until(timing.latest().into()));
    poll_fn(|context| {
        if let Poll::Ready(returned) = call.as_mut().poll(context) {
            return Poll::Ready(returned.map_err(|(stage, error)| Unreturned::Error(stage, error)));
        }
        // The guest waits for its host. What it wrote, and when it has to end, may have changed since the last time.
        loop {
            if let Some(interrupt) = timing.interrupt() {
                return Poll::Ready(Err(Unreturned::Interrupted(interrupt)));
            }
            outbox.flush();
            let wake = outbox
                .next_flush()
                .map_or(timing.next(), |flush| flush.min(timing.next()));
            if sleep.deadline() != wake.into() {
                sleep.as_mut().reset(wake.into());
            }
            if told.as_mut().poll(context).is_ready() {
                told.set(timing.control().wake.notified());
            } else if sleep.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
        }
    })
    .await
}

async fn call(
    store: &mut Store<Guest>,
    attempt: &Attempt,
) -> Result<Returned, (Stage, wasmtime::Error)> {
    let component = &attempt.component;
    let instance = component
        .instantiate(&mut *store)
        .await
        .map_err(|error| (Stage::Instantiate, error))?;
    let returned = match component.entry() {
        Entry::Handler(run) => call_handler(store, &instance, run, attempt).await,
        Entry::Program(run) => call_program(store, &instance, run).await,
        Entry::Typed(functions) => typed::call(store, &instance, attempt, functions).await,
    };
    returned.map_err(|error| (Stage::Call, error))
}

async fn call_handler(
    store: &mut Store<Guest>,
    instance: &Instance,
    run: &ComponentExportIndex,
    attempt: &Attempt,
) -> wasmtime::Result<Returned> {
    type Run = Result<Vec<u8>, TaskError>;
    let function = instance
        .get_func(&mut *store, run)
        .map(|function| function.typed::<(&str, &[u8]), (Run,)>(&*store));
    let run = match function {
        Some(Ok(run)) => run,
        Some(Err(error)) => {
            let message = format!("`run` of `tq:task/handler` has another type: {error:#}");
            return Ok(Returned::Missing(message));
        }
        None => {
            return Ok(Returned::Missing(
                "`tq:task/handler` has no `run`".to_owned(),
            ));
        }
    };
    let (returned,) = run
        .call_async(store, (&attempt.function, &attempt.payload))
        .await?;
    Ok(match returned {
        Ok(result) if result.len() as u64 > attempt.limits.output_bytes => Returned::TooLarge,
        Ok(result) => Returned::Result(Bytes::from(result)),
        Err(error) => Returned::Error(error),
    })
}

async fn call_program(
    store: &mut Store<Guest>,
    instance: &Instance,
    run: &ComponentExportIndex,
) -> wasmtime::Result<Returned> {
    let function = instance
        .get_func(&mut *store, run)
        .map(|function| function.typed::<(), (Result<(), ()>,)>(&*store));
    let run = match function {
        Some(Ok(run)) => run,
        Some(Err(error)) => {
            let message = format!("`run` of `wasi:cli/run` has another type: {error:#}");
            return Ok(Returned::Missing(message));
        }
        None => return Ok(Returned::Missing("`wasi:cli/run` has no `run`".to_owned())),
    };
    let exit = match run.call_async(&mut *store, ()).await {
        Ok((exit,)) => exit,
        Err(error) if matches!(error.downcast_ref(), Some(I32Exit(0))) => Ok(()),
        Err(error) => return Err(error),
    };
    Ok(match exit {
        Ok(()) => Returned::Result(store.data().result.take()),
        Err(()) => Returned::Failed,
    })
}

/// Weighs what came back against everything else that is known of the attempt.
fn conclude(
    store: &mut Store<Guest>,
    attempt: &Attempt,
    returned: Result<Returned, Unreturned>,
    timing: &Timing,
    cpu: &mut Duration,
) -> Finished {
    let guest = store.data();
    let outbox = &guest.outbox;
    let plain = |outcome, message| Verdict {
        outcome,
        message,
        backtrace: None,
    };
    let mut retry_after = None;
    // Also if it has returned before it was interrupted.
    let exceeded = guest.budget.exceeded().map(Interrupt::Exceeded);
    let returned = match exceeded {
        Some(interrupt) => Err(Unreturned::Interrupted(interrupt)),
        None => returned,
    };
    let verdict = match returned {
        Ok(Returned::Result(result)) => Ok(result),
        Ok(Returned::Error(TaskError::InvalidInput(message))) => {
            Err(plain(Outcome::InvalidInput, message))
        }
        Ok(Returned::Error(TaskError::Retryable(retry))) => {
            retry_after = retry.after_ms.map(Duration::from_millis);
            Err(plain(Outcome::RetryableError, retry.message))
        }
        Ok(Returned::Error(TaskError::Fatal(message))) => Err(plain(Outcome::FatalError, message)),
        Ok(Returned::Failed) => {
            let (outcome, message) = failure::exited(1, &outbox.recent_log());
            Err(plain(outcome, message))
        }
        Ok(Returned::TooLarge) => {
            let limit = OutputLimit(attempt.limits.output_bytes);
            Err(plain(Outcome::OutputLimit, limit.to_string()))
        }
        Ok(Returned::TooMany(error)) => Err(plain(Outcome::OutputLimit, error.to_string())),
        Ok(Returned::Missing(message)) => Err(plain(Outcome::MissingExport, message)),
        Err(Unreturned::Interrupted(interrupt)) => {
            let (outcome, message) = failure::interrupted(interrupt);
            Err(plain(outcome, message))
        }
        Err(Unreturned::Error(_, error)) if matches!(error.downcast_ref(), Some(I32Exit(0))) => {
            Err(plain(
                Outcome::NoResult,
                "the function exited instead of returning a result".to_owned(),
            ))
        }
        Err(Unreturned::Error(stage, error)) => Err(failure::judge(
            &error,
            stage,
            &attempt.limits,
            &outbox.recent_log(),
        )),
    };
    let verdict = verdict.map_err(|verdict| weigh(verdict, guest, &attempt.limits, timing));
    let fuel_left = store.get_fuel().unwrap_or(0);
    let cpu_now = thread_cpu();
    let usage = Usage {
        fuel: attempt.limits.fuel.saturating_sub(fuel_left),
        memory_bytes_peak: store.data().meter.peak(),
        wall_ns: nanos(timing.elapsed()),
        cpu_ns: nanos(cpu_now.saturating_sub(*cpu)),
        // The agent counts it, once it has taken out what must not stand there.
        log_bytes: 0,
    };
    *cpu = cpu_now;
    let (outcome, result, failure) = match verdict {
        Ok(result) => (Outcome::Succeeded, Some(result), None),
        Err(verdict) => (
            verdict.outcome,
            None,
            Some(Failure {
                message: failure::cut(verdict.message, ERROR_MESSAGE_BYTES_MAX),
                backtrace: verdict.backtrace,
            }),
        ),
    };
    Finished {
        epoch: attempt.epoch,
        outcome,
        result,
        failure,
        retry_after: retry_after.filter(|_| outcome == Outcome::RetryableError),
        usage,
    }
}

/// A failure that has a deeper reason gets its name.
fn weigh(mut verdict: Verdict, guest: &Guest, limits: &Limits, timing: &Timing) -> Verdict {
    if verdict.outcome.class() == Class::Stopped || verdict.outcome == Outcome::HostLost {
        return verdict;
    }
    if let Some(why) = timing.stopping() {
        // Told to stop, it stopped; how is of no interest.
        verdict.outcome = why.outcome();
        verdict.message = format!("{}; it ended with: {}", why.message(), verdict.message);
    } else if let Some(sum) = guest.meter.denied() {
        verdict.outcome = Outcome::MemoryLimit;
        verdict.message = format!(
            "memory is limited to {} bytes, and {sum} were asked for; it ended with: {}",
            limits.memory_bytes, verdict.message
        );
    } else if let Some(refused) = guest.refused() {
        verdict.outcome = refused.outcome;
        verdict.message = format!("{}; it ended with: {}", refused.message, verdict.message);
    } else if guest.meter.is_host_short() {
        verdict.outcome = Outcome::HostError;
        verdict.message = format!(
            "the host has no memory left; it ended with: {}",
            verdict.message
        );
    }
    verdict
}

/// The processor time of this thread so far.
fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    // Neither is ever negative, and the second one is below a billion.
    Duration::new(
        time.tv_sec.unsigned_abs(),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}
