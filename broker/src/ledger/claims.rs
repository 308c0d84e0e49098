//! Claims: which commit says of a running task that a host has got it.
//!
//! The claims of a commit are one row, and recovery reads all of them. A row goes when its claims are over; one of which
//! few are left is written again with those of the next commit, so that long tasks do not keep the rows of short ones.

use std::collections::BTreeMap;

use tq_core::planted::{Bug, is_planted};
use tq_core::task::Lease;
use tq_core::{TaskId, transition};

use super::{Error, Ledger, write};
use crate::store::{Batch, Space};
use crate::tables::key;
use crate::tables::row::{self, Claim};

/// A row is written again when only one of so many claims is left.
const SPARSE: usize = 16;

/// The rows of claims, by the sequence of their commit.
#[derive(Debug, Default)]
pub(super) struct Claims {
    rows: BTreeMap<u64, Row>,
}

#[derive(Debug)]
struct Row {
    ids: Vec<TaskId>,
    /// How many of them count.
    live: usize,
}

/// What a commit does to claims.
#[derive(Debug, Default)]
pub(super) struct Changes {
    made: Vec<Claim>,
    over: Vec<TaskId>,
    /// Rows of which few claims are left.
    sparse: Vec<u64>,
}

impl Ledger {
    /// Takes note of what a task's lease was and is, in a commit under way.
    pub(super) fn note_lease(&mut self, id: TaskId, before: Option<&Lease>, changes: &mut Changes) {
        let Some(open) = self.open.get_mut(&id) else {
            return;
        };
        let lease = open.task.lease();
        if lease.map(|lease| lease.epoch) == before.map(|lease| lease.epoch) {
            return;
        }
        if let Some(seq) = open.claimed_in.take() {
            changes.over.push(id);
            changes.sparse.extend(self.claims.release(seq));
        }
        if let Some(lease) = lease {
            changes.made.push(Claim {
                namespace: open.namespace,
                id,
                lease: lease.clone(),
            });
        }
    }

    /// Writes what a commit changes in claims.
    pub(super) fn write_claims(&mut self, changes: &mut Changes, batch: &mut Batch) {
        let seq = self.store.seq() + 1;
        changes.sparse.sort_unstable();
        changes.sparse.dedup();
        for seq in changes.sparse.drain(..) {
            batch.delete(key::claims(seq));
            let ids = self.claims.rows.remove(&seq).map(|row| row.ids);
            for id in ids.into_iter().flatten() {
                if let Some(open) = self.open.get(&id)
                    && open.claimed_in == Some(seq)
                    && let Some(lease) = open.task.lease().cloned()
                {
                    let namespace = open.namespace;
                    changes.made.push(Claim {
                        namespace,
                        id,
                        lease,
                    });
                }
            }
        }
        if changes.made.is_empty() {
            return;
        }
        if !is_planted(Bug::ClaimForgotten) {
            batch.put(key::claims(seq), row::encode_claims(&changes.made));
        }
        for claim in &changes.made {
            if let Some(open) = self.open.get_mut(&claim.id) {
                open.claimed_in = Some(seq);
            }
        }
        let ids: Vec<_> = changes.made.iter().map(|claim| claim.id).collect();
        let live = ids.len();
        self.claims.rows.insert(seq, Row { ids, live });
    }

    /// Shows readers what the commit has changed.
    pub(super) fn publish_claims(&self, changes: Changes) {
        let mut claims = write(&self.shared.claims);
        for id in changes.over {
            claims.remove(&id);
        }
        for Claim { id, lease, .. } in changes.made {
            claims.insert(id, lease);
        }
    }

    /// Takes up the claims that count, and the tasks that run by them.
    pub(super) fn recover_claims(&mut self) -> Result<(), Error> {
        let mut changes = Changes::default();
        for (at, bytes) in self.read_all(Space::Index, &key::claims_all())? {
            let Some(seq) = key::claims_of(&at) else {
                continue;
            };
            let claims = row::decode_claims(bytes)?;
            let ids: Vec<_> = claims.iter().map(|claim| claim.id).collect();
            let before = changes.made.len();
            for claim in claims {
                if self.recover_claim(seq, &claim)? {
                    changes.made.push(claim);
                }
            }
            let live = changes.made.len() - before;
            if live == 0 {
                self.step.batch.delete(key::claims(seq));
            } else {
                self.claims.rows.insert(seq, Row { ids, live });
            }
        }
        self.publish_claims(changes);
        Ok(())
    }

    /// Takes up a task that runs by a claim. `false` if the claim is over.
    fn recover_claim(&mut self, seq: u64, claim: &Claim) -> Result<bool, Error> {
        let Claim {
            namespace,
            id,
            lease,
        } = claim;
        if !self.load(*namespace, *id)? {
            return Ok(false);
        }
        let Some(open) = self.open.get_mut(id) else {
            return Ok(false);
        };
        if open.task.lease() != Some(lease) {
            match transition::claim(&open.task, lease.clone()) {
                Ok(claimed) => open.task = claimed.next,
                Err(_) => return Ok(false),
            }
        }
        open.claimed_in = Some(seq);
        let held = open.held();
        let session = self.hosts.entry(&lease.host, self.mono);
        // It is waited for, also if its row says that it was paused.
        session.is_gone = false;
        session.hold(lease.epoch, held);
        self.count_start(*id);
        Ok(true)
    }
}

impl Claims {
    /// Notes that a claim is over. Returns its row if few others are left in it.
    fn release(&mut self, seq: u64) -> Option<u64> {
        let row = self.rows.get_mut(&seq)?;
        row.live = row.live.saturating_sub(1);
        if is_planted(Bug::ClaimsRowGoesEarly) {
            row.ids.clear();
            return Some(seq);
        }
        (row.live * SPARSE <= row.ids.len()).then_some(seq)
    }
}

#[cfg(any(test, feature = "simulation"))]
impl Claims {
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Checks that rows know how many of their claims count, and that enough do.
    pub(super) fn check(&self, is_live: impl Fn(TaskId, u64) -> bool) {
        for (seq, Row { ids, live }) in &self.rows {
            let counted = ids.iter().filter(|id| is_live(**id, *seq)).count();
            assert_eq!(
                (counted, *live > 0),
                (*live, true),
                "claims of commit {seq}"
            );
        }
    }
}
