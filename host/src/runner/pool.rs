//! Slots, each with a thread of its own, fed from one queue.
//!
//! A thread a slot lets the operating system share the processor out, so that a guest in an endless loop holds up
//! nobody, and costs a short task one hop between threads. Measured on two cores, 20,000 short tasks: 226 k/s, against
//! 145 k/s with a future a task.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use tq_core::Epoch;
use tq_core::limits::{EVENTS_MAX, SHUTDOWN_WAIT, SLOTS_MAX};

use super::timing::Control;
use super::{Attempt, Event, Finished, Slot, StopReason};
use crate::clock;
use crate::sandbox::Engine;

/// How large a pool is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Attempts that run at once, from 1 to [`SLOTS_MAX`]; the engine must be made for as many.
    pub slots: u32,
    /// Attempts that wait for a slot.
    pub queue_max: usize,
}

/// As many attempts wait as may.
#[derive(Debug, thiserror::Error)]
#[error("{queue_max} attempts wait for a slot already")]
pub struct Refused {
    /// The attempt, which was not touched.
    pub attempt: Box<Attempt>,
    queue_max: usize,
}

/// The slots of a host.
pub struct Pool {
    shared: Arc<Shared>,
    events: Sender<Event>,
}

struct Shared {
    state: Mutex<State>,
    /// There is work, or none will come.
    work: Condvar,
    /// A thread has ended.
    ended: Condvar,
    slots: Vec<Arc<Control>>,
    queue_max: usize,
}

struct State {
    queue: VecDeque<Box<Attempt>>,
    idle: usize,
    threads: usize,
    is_closing: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pool {
    /// Starts the threads. Events come out of the returned end, and have to be taken: beyond [`EVENTS_MAX`] of them,
    /// slots wait.
    ///
    /// # Errors
    /// If the number of slots is out of range, or a thread or its timer cannot be had.
    pub fn start(config: Config, engine: &Engine) -> std::io::Result<(Self, Receiver<Event>)> {
        Self::start_telling(config, engine, |_, _| ())
    }

    /// As [`Pool::start`]; `began` is told of each attempt by its slot, which is counted from 0, before it begins.
    ///
    /// # Errors
    /// As [`Pool::start`].
    pub(crate) fn start_telling(
        config: Config,
        engine: &Engine,
        began: impl Fn(usize, Epoch) + Send + Sync + 'static,
    ) -> std::io::Result<(Self, Receiver<Event>)> {
        let Config { slots, queue_max } = config;
        if slots == 0 || slots > SLOTS_MAX {
            let message = format!("slots is {slots}; it may be 1 to {SLOTS_MAX}");
            return Err(std::io::Error::new(
                std::io::ErrorKind::InvalidInput,
                message,
            ));
        }
        let (events, receiver) = channel(EVENTS_MAX);
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                queue: VecDeque::new(),
                idle: 0,
                threads: 0,
                is_closing: false,
            }),
            work: Condvar::new(),
            ended: Condvar::new(),
            slots: (0..slots).map(|_| Arc::default()).collect(),
            queue_max,
        });
        // Made first, so that the threads started so far end when one cannot be.
        let pool = Self { shared, events };
        let began = Arc::new(began);
        for (index, control) in pool.shared.slots.iter().enumerate() {
            let slot =
                Slot::with_control(engine.clone(), pool.events.clone(), Arc::clone(control))?;
            let thread = Thread::enter(&pool.shared);
            std::thread::Builder::new()
                .name(format!("tq-slot-{index}"))
                .spawn({
                    let (control, events) = (Arc::clone(control), pool.events.clone());
                    let began = Arc::clone(&began);
                    move || thread.work(slot, &control, &events, |epoch| began(index, epoch))
                })?;
        }
        Ok((pool, receiver))
    }

    /// Runs the attempt when a slot is free, in order of arrival. Does not block.
    ///
    /// # Errors
    /// [`Refused`] if as many wait as may.
    pub fn run(&self, attempt: Box<Attempt>) -> Result<(), Refused> {
        let mut state = self.shared.lock();
        if state.queue.len() >= self.shared.queue_max.saturating_add(state.idle) {
            return Err(Refused {
                attempt,
                queue_max: self.shared.queue_max,
            });
        }
        state.queue.push_back(attempt);
        let has_idle = state.idle > 0;
        drop(state);
        if has_idle {
            self.shared.work.notify_one();
        }
        Ok(())
    }

    /// Stops an attempt, whether it runs or waits; one that is neither is nobody's. Returns the end of one that waited,
    /// of which no event tells then. Does not block.
    pub fn stop(&self, epoch: Epoch, why: StopReason) -> Option<Finished> {
        let mut state = self.shared.lock();
        let waits = state
            .queue
            .iter()
            .position(|attempt| attempt.epoch == epoch);
        if let Some(position) = waits {
            state.queue.remove(position);
            return Some(Finished::stopped(epoch, why));
        }
        // Under the lock, so that an attempt between the queue and its slot is in one of them.
        for slot in &self.shared.slots {
            slot.stop(Some(epoch), why);
        }
        None
    }

    /// Takes every attempt back that waits for a slot, and returns which they are, in the order of their arrival. Nothing
    /// else is told of them. Does not block.
    pub fn take_back(&self) -> Vec<Epoch> {
        let waiting = std::mem::take(&mut self.shared.lock().queue);
        waiting.into_iter().map(|attempt| attempt.epoch).collect()
    }

    /// Where its events go in, for those that happen elsewhere.
    pub(crate) fn events(&self) -> Sender<Event> {
        self.events.clone()
    }

    /// Attempts that wait for a slot.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.shared.lock().queue.len()
    }

    /// Interrupts what runs and ends what waits, each with its event, and waits at most
    /// [`SHUTDOWN_WAIT`] for it. Blocks. Events must be taken, or their receiver dropped, meanwhile. Returns the number
    /// of slots that did not end.
    pub fn shutdown(self) -> usize {
        self.close();
        let until = clock::now() + SHUTDOWN_WAIT;
        let mut state = self.shared.lock();
        while state.threads > 0 {
            let left = until.saturating_duration_since(clock::now());
            if left.is_zero() {
                break;
            }
            state = self
                .shared
                .ended
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        state.threads
    }

    fn close(&self) {
        let mut state = self.shared.lock();
        state.is_closing = true;
        for slot in &self.shared.slots {
            slot.stop(None, StopReason::Shutdown);
        }
        drop(state);
        self.shared.work.notify_all();
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.close();
    }
}

/// Counts a thread, also when it panics.
struct Thread(Arc<Shared>);

impl Thread {
    fn enter(shared: &Arc<Shared>) -> Self {
        shared.lock().threads += 1;
        Self(Arc::clone(shared))
    }

    fn work(
        self,
        mut slot: Slot,
        control: &Control,
        events: &Sender<Event>,
        began: impl Fn(Epoch),
    ) {
        while let Some((attempt, is_closing)) = self.next(control) {
            let end = if is_closing {
                Finished::stopped(attempt.epoch, StopReason::Shutdown)
            } else {
                began(attempt.epoch);
                slot.run_current(*attempt)
            };
            let is_told = match events.try_send(finished(end)) {
                Ok(()) => true,
                // Only then is it worth what it costs to be able to wait.
                Err(TrySendError::Full(event)) => events.blocking_send(event).is_ok(),
                Err(TrySendError::Closed(_)) => false,
            };
            if !is_told {
                // Nobody is left who would send more work.
                return;
            }
        }
    }

    /// Waits for the next attempt, and returns it with whether the pool is closing; nothing if it is and none is left.
    fn next(&self, control: &Control) -> Option<(Box<Attempt>, bool)> {
        let mut state = self.0.lock();
        loop {
            if let Some(attempt) = state.queue.pop_front() {
                control.set(Some(attempt.epoch));
                return Some((attempt, state.is_closing));
            }
            if state.is_closing {
                return None;
            }
            state.idle += 1;
            state = self
                .0
                .work
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
            state.idle -= 1;
        }
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.0.lock().threads -= 1;
        self.0.ended.notify_all();
    }
}

fn finished(end: Finished) -> Event {
    Event::Finished(Box::new(end))
}
