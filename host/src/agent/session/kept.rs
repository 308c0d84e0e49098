//! Outcomes that are kept until the broker acknowledges them: on their way to it while a connection stands, on the host's
//! own disk while none does.

use std::collections::VecDeque;
use std::mem;

use bytes::Bytes;
use prost::Message as _;
use tq_core::id::Epoch;
use tq_core::limits::INLINE_BYTES_MAX;
use tq_core::planted::{Bug, is_planted};
use tq_proto::v1::data::Kind as DataKind;
use tq_proto::v1::{self, AttemptOutcome, Blob, Data};

use crate::agent::session::compose::{inline, saved_checkpoint, saved_checkpoint_of};
use crate::agent::session::{Command, Link, OUTCOMES_MESSAGE_BYTES, Session, UploadId};

/// How far bytes or an outcome have come in this session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Waiting,
    Uploading(UploadId),
    Due,
    Sent,
}

/// An outcome that the broker has not acknowledged.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) outcome: AttemptOutcome,
    /// What the attempt saved last, if it failed before the broker had it. It is to arrive first: afterwards the
    /// lease is over.
    pub(super) checkpoint: Option<Bytes>,
    pub(super) phase: Phase,
    pub(super) bytes: usize,
    pub(super) is_spooled: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Purpose {
    HeldCheckpoint(Epoch),
    KeptCheckpoint(Epoch),
    Result(Epoch),
}

impl Session {
    pub(super) fn keep(
        &mut self,
        outcome: AttemptOutcome,
        checkpoint: Option<Bytes>,
        is_spooled: bool,
    ) {
        let epoch = Epoch(outcome.epoch);
        let bytes = size(&outcome, checkpoint.as_ref());
        let mut kept = Kept {
            outcome,
            checkpoint,
            phase: Phase::Waiting,
            bytes,
            is_spooled,
        };
        if self.link == Link::Down {
            spool(&mut kept, &mut self.commands);
        }
        self.kept_bytes += bytes;
        self.kept.insert(epoch, kept);
        if self.link == Link::Up {
            self.advance(epoch);
        }
    }

    pub(super) fn acknowledged(&mut self, acks: &v1::Acks) {
        self.note_seq(acks.seq);
        let (mut outcomes, mut fenced) = (0, 0);
        for ack in &acks.acks {
            if !is_planted(Bug::OutcomeKept) && self.forget(Epoch(ack.epoch)) {
                outcomes += 1;
                fenced += u64::from(ack.fenced);
            }
        }
        self.commands
            .push_back(Command::Acknowledged { outcomes, fenced });
    }

    /// Drops a kept outcome; whether there was one.
    pub(super) fn forget(&mut self, epoch: Epoch) -> bool {
        let Some(kept) = self.kept.remove(&epoch) else {
            return false;
        };
        self.kept_bytes -= kept.bytes;
        self.unacknowledged -= usize::from(kept.phase == Phase::Sent);
        if kept.is_spooled {
            self.commands.push_back(Command::Unspool(epoch));
        }
        true
    }

    /// Brings a kept outcome on its way: its checkpoint first, then its result, then itself.
    pub(super) fn advance(&mut self, epoch: Epoch) {
        let Some(kept) = self.kept.get(&epoch) else {
            return;
        };
        match kept.checkpoint.clone() {
            Some(state) if state.len() > INLINE_BYTES_MAX => {
                self.upload_kept(epoch, Purpose::KeptCheckpoint(epoch), state);
            }
            Some(state) => {
                let message = saved_checkpoint_of(&kept.outcome, Some(inline(state)));
                self.saved.insert(epoch, message);
                self.advance_result(epoch);
            }
            None => self.advance_result(epoch),
        }
    }

    fn advance_result(&mut self, epoch: Epoch) {
        let Some(kept) = self.kept.get_mut(&epoch) else {
            return;
        };
        match large_result(&kept.outcome) {
            Some(bytes) => {
                let bytes = bytes.clone();
                self.upload_kept(epoch, Purpose::Result(epoch), bytes);
            }
            None => {
                kept.phase = Phase::Due;
                self.due.push_back(epoch);
            }
        }
    }

    fn upload_kept(&mut self, epoch: Epoch, purpose: Purpose, bytes: Bytes) {
        let id = self.upload(purpose, bytes);
        if let Some(kept) = self.kept.get_mut(&epoch) {
            kept.phase = Phase::Uploading(id);
        }
    }

    pub(super) fn upload(&mut self, purpose: Purpose, bytes: Bytes) -> UploadId {
        self.upload_last += 1;
        let id = UploadId(self.upload_last);
        self.uploads.insert(id, purpose);
        self.commands.push_back(Command::Upload { id, bytes });
        id
    }

    /// The bytes of a [`Command::Upload`] are on the broker's disk.
    pub fn uploaded(&mut self, id: UploadId, blob: Blob) {
        let Some(purpose) = self.uploads.remove(&id) else {
            return; // Of a connection that is gone, or of an attempt that is.
        };
        let data = Some(Data {
            kind: Some(DataKind::Blob(blob)),
        });
        match purpose {
            Purpose::HeldCheckpoint(epoch) => {
                let Some(held) = self.held.get_mut(&epoch) else {
                    return;
                };
                // A newer one may have been saved meanwhile; it goes by itself.
                let uploading = Phase::Uploading(id);
                if (held.checkpoint.as_ref())
                    .is_some_and(|checkpoint| checkpoint.phase == uploading)
                {
                    self.saved
                        .insert(epoch, saved_checkpoint(epoch, held, data));
                }
                if let Some(checkpoint) =
                    (held.checkpoint.as_mut()).filter(|checkpoint| checkpoint.phase == uploading)
                {
                    checkpoint.phase = Phase::Due;
                }
            }
            Purpose::KeptCheckpoint(epoch) => {
                let Some(kept) = self.kept.get(&epoch) else {
                    return;
                };
                self.saved
                    .insert(epoch, saved_checkpoint_of(&kept.outcome, data));
                self.advance_result(epoch);
            }
            Purpose::Result(epoch) => {
                let Some(kept) = self.kept.get_mut(&epoch) else {
                    return;
                };
                kept.outcome.result = data;
                kept.phase = Phase::Due;
                let bytes = size(&kept.outcome, kept.checkpoint.as_ref());
                self.kept_bytes = self.kept_bytes - mem::replace(&mut kept.bytes, bytes) + bytes;
                self.due.push_back(epoch);
            }
        }
    }

    /// As many outcomes as one message takes, if it is time for a message: while half as many as are on their way have
    /// not gathered, what is acknowledged next says when. So the first outcome goes at once, and under load the broker's
    /// pace makes messages large, at a fraction of the cost of many small ones. A host that leaves has no time to wait.
    pub(super) fn due_outcomes(&mut self) -> Vec<AttemptOutcome> {
        let mut outcomes = Vec::new();
        if !self.is_draining && self.due.len() * 2 < self.unacknowledged {
            return outcomes;
        }
        let mut bytes = 0;
        while let Some(epoch) = self.due.front() {
            // It may have been fenced since.
            if let Some(kept) = self
                .kept
                .get_mut(epoch)
                .filter(|kept| kept.phase == Phase::Due)
            {
                bytes += kept.bytes;
                if bytes > OUTCOMES_MESSAGE_BYTES && !outcomes.is_empty() {
                    break;
                }
                kept.phase = Phase::Sent;
                outcomes.push(kept.outcome.clone());
            }
            self.due.pop_front();
        }
        self.unacknowledged += outcomes.len();
        outcomes
    }
}

/// Has a kept outcome written to the host's disk, if it is not there.
pub(super) fn spool(kept: &mut Kept, commands: &mut VecDeque<Command>) {
    if !mem::replace(&mut kept.is_spooled, true) {
        commands.push_back(Command::Spool(Box::new(kept.outcome.clone())));
    }
}

/// The result, if it is too large for a message of the session.
pub(super) fn large_result(outcome: &AttemptOutcome) -> Option<&Bytes> {
    match outcome.result.as_ref()?.kind.as_ref()? {
        DataKind::Inline(bytes) => Some(bytes).filter(|bytes| bytes.len() > INLINE_BYTES_MAX),
        DataKind::Blob(_) => None,
    }
}

fn size(outcome: &AttemptOutcome, checkpoint: Option<&Bytes>) -> usize {
    outcome.encoded_len() + checkpoint.map_or(0, Bytes::len)
}
