//! How many records of the audit log each principal may cause.
//!
//! The log keeps so many records for all together. Without bounds, one caller could have the records of all others pushed out of it.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use tq_core::limits::{AUDIT_BUDGETS_MAX, AUDIT_RECORD_EVERY, AUDIT_RECORDS_AT_ONCE};

use crate::ledger::lock;

/// What principals have left, by their names. Times are by a clock that only advances.
#[derive(Debug, Default)]
pub(super) struct Budgets(Mutex<HashMap<String, Budget>>);

#[derive(Debug, Default)]
struct Budget {
    /// When all of it is there again.
    whole_at: Duration,
    /// Records that it did not suffice for since the last one.
    left_out: u64,
}

impl Budgets {
    /// Takes a record out of a budget, unless it is a free one. Returns how many were left out since the last one; `None` if this one is
    /// to be left out too.
    pub(super) fn spend(&self, principal: &str, is_free: bool, now: Duration) -> Option<u64> {
        let mut budgets = lock(&self.0);
        if is_free && !budgets.contains_key(principal) {
            return Some(0);
        }
        if !budgets.contains_key(principal) && budgets.len() >= AUDIT_BUDGETS_MAX {
            budgets.retain(|_, budget| budget.whole_at > now);
            if budgets.len() >= AUDIT_BUDGETS_MAX {
                // So many that are busy at once begin anew.
                budgets.clear();
            }
        }
        let budget = budgets.entry(principal.to_owned()).or_default();
        if !is_free {
            let whole_at = budget.whole_at.max(now) + AUDIT_RECORD_EVERY;
            if whole_at > now + AUDIT_RECORD_EVERY * AUDIT_RECORDS_AT_ONCE {
                budget.left_out += 1;
                return None;
            }
            budget.whole_at = whole_at;
        }
        Some(std::mem::take(&mut budget.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budget_is_used_up_and_comes_back_and_the_next_record_says_what_is_missing() {
        let budgets = Budgets::default();
        let now = Duration::from_secs(1_000);
        for _ in 0..AUDIT_RECORDS_AT_ONCE {
            assert_eq!(budgets.spend("a", false, now), Some(0));
        }
        for _ in 0..3 {
            assert_eq!(budgets.spend("a", false, now), None);
        }
        assert_eq!(budgets.spend("b", false, now), Some(0), "it is another's");
        let later = now + AUDIT_RECORD_EVERY;
        assert_eq!(budgets.spend("a", false, later), Some(3));
        assert_eq!(budgets.spend("a", false, later), None);
        assert_eq!(budgets.spend("a", true, later), Some(1), "it is free");
        assert_eq!(budgets.spend("a", true, later), Some(0));
    }

    #[test]
    fn memory_is_bounded() {
        let budgets = Budgets::default();
        for number in 0..3 * AUDIT_BUDGETS_MAX {
            budgets.spend(&number.to_string(), false, Duration::from_secs(1));
        }
        assert!(lock(&budgets.0).len() <= AUDIT_BUDGETS_MAX);
    }
}
