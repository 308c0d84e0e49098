//! Everything that time and commands decide about a running attempt.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use tq_core::Epoch;
use tq_core::limits::CANCEL_GRACE;

use super::StopReason;
use crate::clock;
use crate::sandbox::Exceeded;

/// Why an attempt was interrupted. Travels through the engine as the error that ends the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Interrupt {
    #[error("the time limit of {0:?} is over")]
    Timeout(Duration),
    #[error("{}", .0.message())]
    Stopped(StopReason),
    #[error("{0}")]
    Exceeded(Exceeded),
}

/// Through what a slot is told to stop what it runs.
#[derive(Debug, Default)]
pub(crate) struct Control {
    current: Mutex<Current>,
    pub(super) wake: Notify,
}

#[derive(Debug, Default)]
struct Current {
    epoch: Option<Epoch>,
    stop: Option<Stop>,
}

#[derive(Clone, Copy, Debug)]
struct Stop {
    why: StopReason,
    at: Instant,
}

impl Control {
    /// The slot begins with this attempt, or, with none, waits for work.
    pub(super) fn set(&self, epoch: Option<Epoch>) {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) =
            Current { epoch, stop: None };
    }

    /// Stops the attempt, if the slot runs it. The first reason stays, unless a later one leaves no grace.
    pub(super) fn stop(&self, epoch: Option<Epoch>, why: StopReason) -> bool {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.epoch.is_none() || epoch.is_some_and(|epoch| current.epoch != Some(epoch)) {
            return false;
        }
        if current.stop.is_none() || !why.has_grace() {
            current.stop = Some(Stop {
                why,
                at: clock::now(),
            });
        }
        drop(current);
        self.wake.notify_one();
        true
    }

    fn stopping(&self) -> Option<Stop> {
        self.current
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .stop
    }
}

/// When an attempt has to end.
#[derive(Clone, Debug)]
pub(crate) struct Timing {
    control: Arc<Control>,
    started: Instant,
    timeout: Duration,
    deadline: Option<Instant>,
}

impl Timing {
    /// An attempt that has just started. `until_deadline` is what is left until its task expires.
    pub(super) fn start(
        control: Arc<Control>,
        started: Instant,
        timeout: Duration,
        until_deadline: Option<Duration>,
    ) -> Self {
        Self {
            control,
            started,
            timeout,
            // One that is beyond the clock never comes.
            deadline: until_deadline.and_then(|span| started.checked_add(span)),
        }
    }

    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Whether the guest has been told to stop, and why.
    pub(super) fn stopping(&self) -> Option<StopReason> {
        self.stop(clock::now()).map(|stop| stop.why)
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping().is_some()
    }

    /// Why the attempt has to end now, if it has to.
    pub(crate) fn interrupt(&self) -> Option<Interrupt> {
        let now = clock::now();
        if let Some(stop) = self.stop(now)
            && now >= Self::end(stop)
        {
            return Some(Interrupt::Stopped(stop.why));
        }
        (now.duration_since(self.started) >= self.timeout)
            .then_some(Interrupt::Timeout(self.timeout))
    }

    /// When [`Timing::interrupt`] may say something new, unless there is a command before.
    pub(super) fn next(&self) -> Instant {
        let now = clock::now();
        let stop = self.stop(now).map(Self::end);
        [stop, self.deadline.filter(|deadline| *deadline > now)]
            .into_iter()
            .flatten()
            .fold(self.latest(), Instant::min)
    }

    /// When it has to end at the latest.
    pub(super) fn latest(&self) -> Instant {
        // Limits keep the timeout far below what the clock can hold; a longer one is looked at again in an hour.
        let hour = Duration::from_secs(3600);
        self.started
            .checked_add(self.timeout)
            .unwrap_or_else(|| clock::now() + hour)
    }

    fn stop(&self, now: Instant) -> Option<Stop> {
        self.control.stopping().or_else(|| {
            self.deadline
                .filter(|deadline| *deadline <= now)
                .map(|at| Stop {
                    why: StopReason::DeadlineExceeded,
                    at,
                })
        })
    }

    fn end(stop: Stop) -> Instant {
        if stop.why.has_grace() {
            stop.at + CANCEL_GRACE
        } else {
            stop.at
        }
    }

    pub(super) fn control(&self) -> &Control {
        &self.control
    }
}
