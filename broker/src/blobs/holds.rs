//! Blobs that stay although no row names them yet, and blobs that are about to go.
//!
//! Removing a blob takes three steps: it is *doomed*, then the rows are asked whether any names it, then it goes if it is
//! still doomed. A hold that is taken meanwhile takes the doom away. So a blob goes only if nobody held it when the rows were
//! asked, nor since: one who had held it before has let go of it after the commit of the row that names it, and that
//! row is seen. Whenever the last hold of a blob is let go of, it is asked whether a row names it: there may be none.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex};

use tq_core::Digest;

use super::Unnamed;
use crate::ledger::lock;

/// Ticks for which a blob stays that was lent. A host names what it has uploaded as soon as its session lets it; its
/// attempt is taken from it long before.
const LENT_TICKS: u8 = 10;

/// What is known of blobs besides what rows say of them.
#[derive(Debug, Default)]
pub(super) struct Holds {
    states: Mutex<HashMap<Digest, State>>,
    /// Blobs that nobody holds any more, named or not.
    pub(super) let_go: Unnamed,
}

#[derive(Debug, Default)]
struct State {
    /// Holds that there are.
    holds: usize,
    /// How often it was lent and nobody has come back.
    loans: usize,
    /// Ticks for which it stays without a hold because of them.
    lent: u8,
    is_doomed: bool,
}

impl State {
    fn is_over(&self) -> bool {
        self.holds == 0 && self.lent == 0 && !self.is_doomed
    }
}

/// Keeps a blob where it is, until it is dropped: after the commit of a row that names the blob, or when there will be none.
#[derive(Debug)]
pub struct Hold {
    holds: Arc<Holds>,
    digest: Digest,
}

impl Hold {
    /// The blob.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Lets go of the blob, which stays for some minutes more: somebody was told of it who will come back to have it named.
    pub fn lend(self) {
        self.holds.change(self.digest, |state| {
            state.loans += 1;
            state.lent = LENT_TICKS;
        });
    }

    /// Takes note that somebody has come back to whom the blob was lent.
    pub(super) fn end_loan(&self) {
        self.holds.change(self.digest, |state| {
            state.loans = state.loans.saturating_sub(1);
            if state.loans == 0 {
                state.lent = 0;
            }
        });
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let is_last = self.holds.change(self.digest, |state| {
            state.holds = state.holds.saturating_sub(1);
            state.is_over()
        });
        if is_last {
            self.holds.let_go.push(vec![self.digest]);
        }
    }
}

impl Holds {
    /// Keeps a blob where it is, or where it will be.
    pub(super) fn hold(self: &Arc<Self>, digest: Digest) -> Hold {
        self.change(digest, |state| {
            state.holds += 1;
            state.is_doomed = false;
        });
        Hold {
            holds: Arc::clone(self),
            digest,
        }
    }

    /// Dooms a blob, unless somebody has use for it. Returns whether it is.
    pub(super) fn doom(&self, digest: Digest) -> bool {
        self.change(digest, |state| {
            state.is_doomed = state.holds == 0 && state.lent == 0;
            state.is_doomed
        })
    }

    /// Takes the doom from a blob.
    pub(super) fn spare(&self, digest: Digest) {
        self.change(digest, |state| state.is_doomed = false);
    }

    /// Has a blob removed, if it is still doomed. Nobody can take a hold meanwhile, so that `remove` should be quick.
    pub(super) fn end<T>(&self, digest: Digest, remove: impl FnOnce() -> T) -> Option<T> {
        let mut states = lock(&self.states);
        match states.entry(digest) {
            Entry::Occupied(state) if state.get().is_doomed => {
                state.remove();
                Some(remove())
            }
            Entry::Occupied(_) | Entry::Vacant(_) => None,
        }
    }

    /// Tells that a tick has passed.
    pub(super) fn tick(&self) {
        let mut over = Vec::new();
        lock(&self.states).retain(|digest, state| {
            state.lent = state.lent.saturating_sub(1);
            if state.lent == 0 {
                state.loans = 0;
            }
            if state.is_over() {
                over.push(*digest);
            }
            !state.is_over()
        });
        self.let_go.push(over);
    }

    fn change<T>(&self, digest: Digest, change: impl FnOnce(&mut State) -> T) -> T {
        let mut states = lock(&self.states);
        let state = states.entry(digest).or_default();
        let changed = change(state);
        if state.is_over() {
            states.remove(&digest);
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOB: Digest = Digest([7; 32]);

    fn goes(holds: &Holds) -> bool {
        holds.end(BLOB, || ()).is_some()
    }

    #[test]
    fn whoever_lets_go_last_has_it_asked_whether_it_is_named() {
        let holds = Arc::new(Holds::default());
        let told = || holds.let_go.take(usize::MAX).len();
        let (first, second) = (holds.hold(BLOB), holds.hold(BLOB));
        drop(first);
        assert_eq!(told(), 0);
        drop(second);
        assert_eq!(told(), 1);
        holds.hold(BLOB).lend();
        for _ in 0..LENT_TICKS {
            assert_eq!(told(), 0);
            holds.tick();
        }
        assert_eq!(told(), 1);
        assert!(holds.doom(BLOB));
        holds.spare(BLOB);
        assert_eq!(told(), 0, "it would be asked for ever");
    }

    #[test]
    fn only_what_is_doomed_goes() {
        let holds = Arc::new(Holds::default());
        assert!(!goes(&holds));
        assert!(holds.doom(BLOB));
        holds.spare(BLOB);
        assert!(!goes(&holds));
        assert!(holds.doom(BLOB) && goes(&holds));
        assert!(!goes(&holds), "it is gone");
    }

    #[test]
    fn what_is_held_is_not_doomed_and_a_new_hold_takes_the_doom_away() {
        let holds = Arc::new(Holds::default());
        let (first, second) = (holds.hold(BLOB), holds.hold(BLOB));
        drop(first);
        assert!(!holds.doom(BLOB), "the other one is there");
        drop(second);
        assert!(holds.doom(BLOB));
        drop(holds.hold(BLOB));
        assert!(!goes(&holds), "somebody has had it named since");
    }

    #[test]
    fn what_was_lent_stays_until_it_is_named_or_enough_ticks_have_passed() {
        let holds = Arc::new(Holds::default());
        holds.hold(BLOB).lend();
        holds.hold(BLOB).lend();
        assert!(!holds.doom(BLOB));
        drop(holds.hold(BLOB));
        assert!(!holds.doom(BLOB), "that was somebody else");
        holds.hold(BLOB).end_loan();
        assert!(!holds.doom(BLOB), "it was lent twice");
        holds.hold(BLOB).end_loan();
        assert!(holds.doom(BLOB), "whoever came back has let go of it");
        holds.spare(BLOB);
        holds.hold(BLOB).lend();
        for _ in 0..LENT_TICKS {
            assert!(!holds.doom(BLOB));
            holds.tick();
        }
        assert!(lock(&holds.states).is_empty(), "nothing is left of it");
        assert!(holds.doom(BLOB));
    }
}
