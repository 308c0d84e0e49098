//! Tests that hold wherever guests run.

/// Makes two tests of each function that takes an isolation (`--isolation`): in the host's own process, and in runner processes,
/// which are confined.
#[macro_export]
macro_rules! everywhere {
    ($($test:ident)+) => {
        mod in_one_process {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                super::$test("none").await;
            })+
        }
        mod in_runner_processes {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                super::$test("process").await;
            })+
        }
    };
}
