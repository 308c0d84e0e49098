//! What was acknowledged ends, once, whichever node is killed meanwhile.

use tq_tests::{Disk, Faults, Plan, kill_run, requirement};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_acknowledged_task_ends_once_although_nodes_are_killed() {
    // Seeds that between them kill each node first, and both at once. `cargo xtask evidence kill-runs` tries many more.
    for seed in [1, 2, 3] {
        let report = kill_run(Plan {
            seed,
            tasks: 10_000,
            faults: Faults::Kills,
        })
        .await;
        assert!(report.violations.is_empty(), "{report}");
        assert_eq!(report.acknowledged, 10_000, "{report}");
        assert!(report.broker_kills > 0 && report.host_kills > 0, "{report}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_acknowledged_task_ends_once_although_power_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    if Disk::mount(folder.path(), 16 << 20).is_none() {
        return requirement::skip("power_loss", Disk::LACKING);
    }
    // `cargo xtask evidence power-losses` tries many more.
    for seed in 1..=50 {
        let report = kill_run(Plan {
            seed,
            tasks: 2_000,
            faults: Faults::PowerLosses,
        })
        .await;
        assert!(report.violations.is_empty(), "{report}");
        assert_eq!(report.acknowledged, 2_000, "{report}");
        assert!(report.power_losses > 0, "{report}");
    }
}
