//! Composing the next message for the link, when it takes one.

use std::mem;
use std::time::Duration;

use bytes::Bytes;
use tq_core::id::{Digest, Epoch};
use tq_core::limits::OUTCOMES_KEPT_MAX;
use tq_core::planted::{Bug, is_planted};
use tq_proto::v1::data::Kind as DataKind;
use tq_proto::v1::host_message::Kind as ToBroker;
use tq_proto::v1::{self, AttemptOutcome, Data, HostMessage};

use crate::agent::session::held::Held;
use crate::agent::session::kept::{Phase, large_result};
use crate::agent::session::{HELLO_OUTCOMES_BYTES, KEPT_BYTES_MAX, Link, REPORT_INTERVAL, Session};

impl Session {
    /// The next message for the link; `None` if there is nothing to say.
    pub fn next_message(&mut self, now: Duration) -> Option<HostMessage> {
        let kind = match self.link {
            Link::Down | Link::Greeting => return None,
            Link::Fresh => {
                self.link = Link::Greeting;
                ToBroker::Hello(self.hello())
            }
            Link::Up => self.compose(now)?,
        };
        self.sent_at = now;
        Some(HostMessage { kind: Some(kind) })
    }

    fn compose(&mut self, now: Duration) -> Option<ToBroker> {
        if mem::take(&mut self.draining_due) {
            return Some(ToBroker::Draining(v1::Draining {}));
        }
        if !self.announce.is_empty() || !self.dropped.is_empty() {
            return Some(ToBroker::Ready(v1::Ready {
                digests: wire_digests(&mem::take(&mut self.announce)),
                dropped: wire_digests(&mem::take(&mut self.dropped)),
            }));
        }
        if let Some(failed) = self.failed.pop_front() {
            return Some(ToBroker::PrepareFailed(failed));
        }
        if !self.reports.is_empty() && now >= self.reports_at {
            self.reports_at = now + REPORT_INTERVAL;
            self.report();
        }
        if let Some((epoch, message)) = self.saved.pop_first() {
            let checkpoint = (self.held.get_mut(&epoch)).and_then(|held| held.checkpoint.as_mut());
            if let Some(checkpoint) = checkpoint.filter(|checkpoint| checkpoint.phase == Phase::Due)
            {
                checkpoint.phase = Phase::Sent;
            }
            return Some(ToBroker::Checkpoint(message));
        }
        if !self.progress.is_empty() {
            return Some(ToBroker::Progress(v1::ProgressReports {
                reports: mem::take(&mut self.progress),
            }));
        }
        let outcomes = self.due_outcomes();
        if !outcomes.is_empty() {
            return Some(ToBroker::Outcomes(v1::Outcomes { outcomes }));
        }
        if let Some(granted) = self.raise_credits() {
            return Some(ToBroker::Credits(v1::Credits { granted }));
        }
        (now >= self.sent_at + self.heartbeat).then_some(ToBroker::Heartbeat(v1::Heartbeat {}))
    }

    fn hello(&mut self) -> v1::Hello {
        self.window.reset();
        let mut outcomes = Vec::new();
        let mut held: Vec<v1::HeldAttempt> = (self.held.iter())
            .map(|(epoch, held)| v1::HeldAttempt {
                task_id: held.task_id.clone(),
                namespace: held.namespace.clone(),
                epoch: epoch.0,
                token: held.token.clone(),
            })
            .collect();
        let mut room = HELLO_OUTCOMES_BYTES;
        for kept in self.kept.values_mut() {
            if kept.bytes <= room
                && kept.checkpoint.is_none()
                && large_result(&kept.outcome).is_none()
            {
                room -= kept.bytes;
                kept.phase = Phase::Sent;
                self.unacknowledged += 1;
                outcomes.push(kept.outcome.clone());
            } else {
                // Its outcome follows the welcome. Until then the lease must stay, as that of a running attempt does.
                held.push(v1::HeldAttempt {
                    task_id: kept.outcome.task_id.clone(),
                    namespace: kept.outcome.namespace.clone(),
                    epoch: kept.outcome.epoch,
                    token: kept.outcome.token.clone(),
                });
            }
        }
        if is_planted(Bug::HelloIncomplete) {
            held.clear();
        }
        v1::Hello {
            name: self.identity.name.clone(),
            incarnation: Bytes::copy_from_slice(&self.identity.incarnation),
            slots: self.identity.slots,
            ready: wire_digests(self.ready.iter()),
            held,
            outcomes,
            seen_seq: self.seen.seq,
            seen_store: self.seen.store.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            labels: (self.identity.labels.iter())
                .map(|(key, value)| (key.to_string(), value.to_string()))
                .collect(),
            memory_bytes: self.identity.memory_bytes,
        }
    }

    fn raise_credits(&mut self) -> Option<u64> {
        if self.is_draining || self.kept_bytes >= KEPT_BYTES_MAX {
            return None;
        }
        let room = OUTCOMES_KEPT_MAX.saturating_sub(self.kept.len() + self.held.len());
        self.window.raise(self.held.len(), room)
    }
}

pub(super) fn inline(bytes: Bytes) -> Data {
    Data {
        kind: Some(DataKind::Inline(bytes)),
    }
}

pub(super) fn saved_checkpoint(
    epoch: Epoch,
    held: &Held,
    state: Option<Data>,
) -> v1::SavedCheckpoint {
    v1::SavedCheckpoint {
        task_id: held.task_id.clone(),
        namespace: held.namespace.clone(),
        epoch: epoch.0,
        token: held.token.clone(),
        state,
    }
}

pub(super) fn saved_checkpoint_of(
    outcome: &AttemptOutcome,
    state: Option<Data>,
) -> v1::SavedCheckpoint {
    v1::SavedCheckpoint {
        task_id: outcome.task_id.clone(),
        namespace: outcome.namespace.clone(),
        epoch: outcome.epoch,
        token: outcome.token.clone(),
        state,
    }
}

fn wire_digests<'a>(digests: impl IntoIterator<Item = &'a Digest>) -> Vec<Bytes> {
    (digests.into_iter())
        .map(|digest| Bytes::copy_from_slice(&digest.0))
        .collect()
}
