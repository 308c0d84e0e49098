//! What was acknowledged ends, once, whichever node is killed meanwhile.

use tq_tests::{Plan, kill_run};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_acknowledged_task_ends_once_although_nodes_are_killed() {
    // Seeds that between them kill each node first, and both at once. `cargo xtask evidence kill-runs` tries many more.
    for seed in [1, 2, 3] {
        let report = kill_run(Plan {
            seed,
            tasks: 10_000,
        })
        .await;
        assert!(report.violations.is_empty(), "{report}");
        assert_eq!(report.acknowledged, 10_000, "{report}");
        assert!(report.broker_kills > 0 && report.host_kills > 0, "{report}");
    }
}
