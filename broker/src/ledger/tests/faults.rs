//! What happens when the disk fails, or is full. Only the one in memory does so when told, so these tests are on that alone.

use std::time::Duration;

use super::sim::{Sim, spec, submission};
use crate::ledger::{Error, Refused};
use crate::store::memory::{Crash, Disk, Fault};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn nothing_is_answered_that_may_not_be_on_disk() {
    for fault in [
        Fault::NotCommitted,
        Fault::UnknownBefore,
        Fault::UnknownAfter,
    ] {
        let disk = Disk::new();
        let mut sim = Sim::on(disk.clone());
        sim.connect("a", 1);
        let mut answer = sim.send_submit(vec![submission(spec(), 0)]);
        disk.fail_commit(1, fault);
        assert!(matches!(sim.try_step(), Err(Error::Commit)));
        assert!(answer.try_recv().is_err() && sim.hosts["a"].held.is_empty());
        sim.crash(Crash::Process);
        assert_eq!(
            sim.ledger().tasks().len(),
            usize::from(fault == Fault::UnknownAfter)
        );
    }
}

#[test]
fn ledger_whose_disk_has_failed_stops_even_when_idle() {
    let disk = Disk::new();
    let mut sim = Sim::on(disk.clone());
    sim.step();
    disk.fail_sync();
    sim.ledger()
        .syncer()
        .sync()
        .expect_err("the sync fails as a test ordered");
    assert!(matches!(sim.try_step(), Err(Error::Store(_))));
}

#[test]
fn little_space_refuses_submits_and_nothing_else() {
    let disk = Disk::new();
    let mut sim = Sim::on(disk.clone());
    sim.connect("a", 1);
    let (id, dead) = (sim.submit(spec()), sim.submit(spec()));
    disk.set_free_bytes(1_000);
    sim.advance(SECOND);
    let full = Err(Refused::DiskFull {
        free: 1_000,
        floor: sim.config.free_bytes_floor,
    });
    assert_eq!(sim.submit_all(vec![submission(spec(), 0)]), full);
    sim.cancel(dead).expect("a cancel needs little room");
    sim.finish_all("a");
    assert_eq!((sim.state(id), sim.state(dead)), ("succeeded", "cancelled"));
    disk.set_free_bytes(u64::MAX);
    sim.advance(SECOND);
    sim.submit(spec());
}
