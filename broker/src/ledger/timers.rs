//! What waits for a time. Timers are rows; memory knows only when the next one is due, and up to where they have been
//! dealt with, so that no scan begins before that.

use std::time::Duration;

use tq_core::limits::BATCH_COMMANDS_MAX;
use tq_core::planted::{Bug, is_planted};
use tq_core::transition;

use super::{Error, Ledger};
use crate::store::{Direction, Key, Space};
use crate::tables::key::{self, Timer};

impl Ledger {
    /// Deals with timers that are due, a bounded number of them. Returns whether there are more.
    pub(super) fn fire_timers(&mut self) -> Result<bool, Error> {
        let early = Duration::from_secs(u64::from(is_planted(Bug::WakesEarly)));
        let now = self.time.after(early);
        if self.next_timer.is_none_or(|at| at > now) {
            return Ok(false);
        }
        let from = key::timer_from(self.timers_from);
        let pairs = self.store.scan(
            Space::Index,
            &key::timers(),
            &from,
            Direction::Ascending,
            BATCH_COMMANDS_MAX,
        )?;
        let was_full = pairs.len() == BATCH_COMMANDS_MAX;
        for pair in &pairs {
            let Some((at, timer, namespace, id)) = key::timer_of(&pair.key) else {
                continue;
            };
            if at > now {
                self.timers_from = self.time;
                // What this step writes itself is not in the store yet; the commit takes note of it.
                self.next_timer = (!is_planted(Bug::TimerForgotten)).then_some(at);
                return Ok(false);
            }
            self.timers_from = at;
            if timer == Timer::ForgetKey {
                self.step
                    .batch
                    .delete(Key::new(Space::Index, pair.key.to_vec()));
                // The key may have been used again after its time, before the timer was dealt with.
                if let Ok(name) = std::str::from_utf8(&pair.value)
                    && self
                        .key_row(namespace, name)?
                        .is_some_and(|row| row.id == id.0)
                {
                    self.step.batch.delete(key::idempotency(namespace, name));
                }
                continue;
            }
            // The entry goes with the state that it stands for. One that stands for nothing would be found again and
            // again, so it is removed by hand.
            let done = self.load(namespace, id)?
                && match timer {
                    Timer::Wake => self.apply(id, transition::wake).is_ok(),
                    Timer::Deadline => self.apply(id, transition::expire).is_ok(),
                    Timer::ForgetKey => true,
                };
            if !done || timer == Timer::Deadline {
                self.step
                    .batch
                    .delete(Key::new(Space::Index, pair.key.to_vec()));
            }
        }
        if !was_full {
            // What is written from now on is due after now.
            self.timers_from = self.time;
            self.next_timer = None;
        }
        Ok(was_full)
    }
}
