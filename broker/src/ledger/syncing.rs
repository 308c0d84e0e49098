//! The thread that syncs what the ledger has committed, and then says what rests on it, while the ledger goes on.
//!
//! One sync serves all steps that were committed before it began. So a slow disk makes syncs fewer, not the ledger slower.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, PoisonError};

use super::{Answers, lock};
use crate::store::{self, Syncer};

/// Steps that wait for a sync to begin, beside those that wait for one to end: the ledger waits beyond it. More of them
/// would make each step smaller, and so each task dearer, without making any answer earlier.
const WAITING_MAX: usize = 2;

/// Steps that were committed and not yet spoken of.
#[derive(Default)]
pub(super) struct Unsaid {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Answers>,
    /// No more will come.
    is_closing: bool,
    /// Nobody will speak any more.
    is_over: bool,
}

impl Unsaid {
    /// Leaves a step's answers to be given. Waits while too many are waiting. `false` if nobody will give them: a sync
    /// has failed.
    pub(super) fn put(&self, answers: Answers) -> bool {
        let mut state = self
            .changed
            .wait_while(lock(&self.state), |state| {
                state.waiting.len() >= WAITING_MAX && !state.is_over
            })
            .unwrap_or_else(PoisonError::into_inner);
        if state.is_over {
            return false;
        }
        state.waiting.push_back(answers);
        drop(state);
        self.changed.notify_all();
        true
    }

    /// Says that no more will come.
    pub(super) fn close(&self) {
        lock(&self.state).is_closing = true;
        self.changed.notify_all();
    }

    /// Syncs and speaks until no more will come.
    ///
    /// # Errors
    /// [`store::Error`] if a sync failed. What it was for, and all that came after it, is not spoken of.
    pub(super) fn speak(&self, mut syncer: Box<dyn Syncer>) -> Result<(), store::Error> {
        let over = Over(self);
        let mut durable_seq = syncer.sync()?;
        loop {
            let mut state = self
                .changed
                .wait_while(lock(&self.state), |state| {
                    state.waiting.is_empty() && !state.is_closing
                })
                .unwrap_or_else(PoisonError::into_inner);
            let waiting = std::mem::take(&mut state.waiting);
            if waiting.is_empty() {
                drop(state);
                drop(over);
                return Ok(());
            }
            drop(state);
            self.changed.notify_all();
            if waiting.iter().any(Answers::need_disk) {
                durable_seq = syncer.sync()?;
            }
            for answers in waiting {
                answers.give(durable_seq);
            }
        }
    }
}

/// Lets nobody wait in vain, however the speaking ends.
struct Over<'a>(&'a Unsaid);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        let mut state = lock(&self.0.state);
        state.is_over = true;
        let left = std::mem::take(&mut state.waiting);
        drop(state);
        drop(left);
        self.0.changed.notify_all();
    }
}
