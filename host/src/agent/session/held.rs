//! Attempts that the host holds and has no outcome of: from their assignment to their end.

use std::mem;
use std::time::Duration;

use bytes::Bytes;
use tq_core::id::Epoch;
use tq_core::limits::INLINE_BYTES_MAX;
use tq_core::outcome::Outcome;
use tq_proto::v1::{self, Assignment, AttemptOutcome};

use crate::agent::session::compose::{inline, saved_checkpoint};
use crate::agent::session::kept::{Phase, Purpose};
use crate::agent::session::{Breach, Command, Session};
use crate::runner::{Finished, StopReason};

/// An attempt that the host holds and has no outcome of.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) task_id: String,
    pub(super) namespace: String,
    pub(super) token: Bytes,
    pub(super) attempt: u32,
    /// The newest that it saved. It stays here after it was sent, for the next connection: nothing acknowledges it.
    pub(super) checkpoint: Option<Checkpoint>,
}

#[derive(Debug)]
pub(super) struct Checkpoint {
    pub(super) state: Bytes,
    pub(super) phase: Phase,
}

#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) progress: Option<(f64, String)>,
    pub(super) has_checkpoint: bool,
}

/// Gives assignments what they have in common with the one before them.
pub(super) fn fill_in(mut assignments: Vec<Assignment>) -> Result<Vec<Assignment>, Breach> {
    let mut whole = None;
    for index in 0..assignments.len() {
        if !assignments[index].digest.is_empty() {
            whole = Some(index);
            continue;
        }
        let Some(whole) = whole else {
            return Err(Breach::Protocol("an assignment of no module"));
        };
        let (before, rest) = assignments.split_at_mut(index);
        let (whole, assignment) = (&before[whole], &mut rest[0]);
        assignment.namespace.clone_from(&whole.namespace);
        assignment.digest = whole.digest.clone();
        assignment.function.clone_from(&whole.function);
        assignment.content_type.clone_from(&whole.content_type);
        assignment.limits = whole.limits;
        assignment.max_attempts = whole.max_attempts;
        assignment.grants.clone_from(&whole.grants);
    }
    Ok(assignments)
}

impl Session {
    pub(super) fn assigned(&mut self, assignment: Assignment) {
        if !self.window.take() {
            return self.breach(Breach::Protocol("more assignments than credits"));
        }
        let epoch = Epoch(assignment.epoch);
        if self.held.contains_key(&epoch) || self.kept.contains_key(&epoch) {
            return; // Sent twice.
        }
        self.held.insert(
            epoch,
            Held {
                task_id: assignment.task_id.clone(),
                namespace: assignment.namespace.clone(),
                token: assignment.token.clone(),
                attempt: assignment.attempt,
                checkpoint: None,
            },
        );
        if self.is_draining {
            let message = format!("host `{}` takes nothing new: it drains", self.identity.name);
            self.not_run(epoch, Outcome::HostDrained, message);
        } else {
            self.commands
                .push_back(Command::Start(Box::new(assignment)));
        }
    }

    pub(super) fn told_to_stop(&mut self, stop: v1::Stop) {
        let epoch = Epoch(stop.epoch);
        let why = match stop.reason() {
            v1::StopReason::Fenced => return self.fence(epoch),
            v1::StopReason::Deadline => StopReason::DeadlineExceeded,
            // A reason that a later version added ends the attempt too, and the broker judges what it reports.
            v1::StopReason::Cancelled | v1::StopReason::Unspecified => StopReason::Cancelled,
        };
        if self.held.contains_key(&epoch) {
            self.commands.push_back(Command::Stop { epoch, why });
        }
    }

    /// An attempt says how far it is. Only the latest is reported.
    pub fn progressed(&mut self, epoch: Epoch, fraction: f64, note: String) {
        if self.held.contains_key(&epoch) {
            self.reports.entry(epoch).or_default().progress = Some((fraction, note));
        }
    }

    /// An attempt saved a checkpoint. Only the latest is reported.
    pub fn saved(&mut self, epoch: Epoch, state: Bytes) {
        if let Some(held) = self.held.get_mut(&epoch) {
            held.checkpoint = Some(Checkpoint {
                state,
                phase: Phase::Waiting,
            });
            self.reports.entry(epoch).or_default().has_checkpoint = true;
        }
    }

    /// An attempt ended. Ignored if the host was told to abandon it.
    pub fn finished(&mut self, finished: Finished) {
        let Finished {
            epoch,
            outcome,
            result,
            failure,
            retry_after,
            usage,
        } = finished;
        // One that never ran says nothing about how long attempts take.
        if usage.wall_ns > 0 {
            self.window.ran(Duration::from_nanos(usage.wall_ns));
        }
        self.end(epoch, outcome, |held| AttemptOutcome {
            task_id: held.task_id.clone(),
            namespace: held.namespace.clone(),
            epoch: epoch.0,
            token: held.token.clone(),
            outcome: outcome.name().to_owned(),
            result: result.map(inline),
            failure: failure.map(|failure| v1::Failure {
                message: failure.message,
                backtrace: failure.backtrace.unwrap_or_default(),
            }),
            retry_after_ms: retry_after
                .map(|span| u64::try_from(span.as_millis()).unwrap_or(u64::MAX)),
            usage: Some(v1::Usage {
                fuel: usage.fuel,
                memory_bytes_peak: usage.memory_bytes_peak,
                wall_ns: usage.wall_ns,
                cpu_ns: usage.cpu_ns,
                log_bytes: usage.log_bytes,
            }),
        });
    }

    /// An attempt ended before it came to run. Ignored if the host was told to abandon it.
    pub fn not_run(&mut self, epoch: Epoch, outcome: Outcome, message: String) {
        self.finished(Finished::unrun(epoch, outcome, message));
    }

    /// Gives all attempts back that have no outcome yet.
    pub fn abandon(&mut self) {
        let epochs: Vec<Epoch> = self.held.keys().copied().collect();
        for epoch in epochs {
            self.commands.push_back(Command::Stop {
                epoch,
                why: StopReason::Abandoned,
            });
            let message = format!(
                "host `{}` was stopped before the attempt ended",
                self.identity.name
            );
            self.not_run(epoch, Outcome::HostDrained, message);
        }
    }

    /// The attempt is not the host's any more: stops it, and forgets what it did.
    pub(super) fn fence(&mut self, epoch: Epoch) {
        if self.held.remove(&epoch).is_some() {
            self.reports.remove(&epoch);
            self.saved.remove(&epoch);
            self.commands.push_back(Command::Stop {
                epoch,
                why: StopReason::Abandoned,
            });
        }
        self.forget(epoch);
    }

    /// The head of the log messages of an attempt that has no outcome yet; their text is empty.
    #[must_use]
    pub fn log_head(&self, epoch: Epoch) -> Option<v1::PutLogsRequest> {
        self.held.get(&epoch).map(|held| v1::PutLogsRequest {
            task_id: held.task_id.clone(),
            namespace: held.namespace.clone(),
            epoch: epoch.0,
            attempt: held.attempt,
            text: Bytes::new(),
            offset: 0,
        })
    }

    /// Moves what running attempts reported to where messages are composed from.
    pub(super) fn report(&mut self) {
        for (epoch, report) in mem::take(&mut self.reports) {
            let Some(held) = self.held.get(&epoch) else {
                continue;
            };
            if let Some((fraction, note)) = report.progress {
                self.progress.push(v1::ProgressReport {
                    task_id: held.task_id.clone(),
                    namespace: held.namespace.clone(),
                    epoch: epoch.0,
                    fraction,
                    note,
                });
            }
            let unsent = (held.checkpoint.as_ref())
                .filter(|checkpoint| report.has_checkpoint && checkpoint.phase == Phase::Waiting);
            let Some(state) = unsent.map(|checkpoint| checkpoint.state.clone()) else {
                continue;
            };
            let phase = if state.len() > INLINE_BYTES_MAX {
                Phase::Uploading(self.upload(Purpose::HeldCheckpoint(epoch), state))
            } else {
                let message = saved_checkpoint(epoch, held, Some(inline(state)));
                self.saved.insert(epoch, message);
                Phase::Due
            };
            if let Some(checkpoint) =
                (self.held.get_mut(&epoch)).and_then(|held| held.checkpoint.as_mut())
            {
                checkpoint.phase = phase;
            }
        }
    }

    /// Turns a held attempt into a kept outcome.
    fn end(
        &mut self,
        epoch: Epoch,
        outcome: Outcome,
        compose: impl FnOnce(&Held) -> AttemptOutcome,
    ) {
        let Some(held) = self.held.remove(&epoch) else {
            return; // Abandoned.
        };
        self.reports.remove(&epoch);
        self.saved.remove(&epoch);
        let message = compose(&held);
        let unsent = |checkpoint: &Checkpoint| {
            outcome != Outcome::Succeeded && checkpoint.phase != Phase::Sent
        };
        let checkpoint = held.checkpoint.filter(unsent);
        self.keep(
            message,
            checkpoint.map(|checkpoint| checkpoint.state),
            false,
        );
    }
}
