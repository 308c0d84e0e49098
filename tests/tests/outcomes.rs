//! Every end of a task has its name and its exit code, and comes within the limit that brought it.

use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tq_tests::{Dev, eventually, guest};

/// A `tq dev` that has the faults deployed.
async fn dev() -> (Dev, TempDir) {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let dev = Dev::start(&folder.path().join("data"), 4).await;
    // Short pauses, so that retries cost no time.
    dev.tq()
        .deploy(&guest::example("faults"), "faults", &["--backoff", "1ms"])
        .await;
    // Compiled before anything is measured.
    dev.tq().run(["run", "faults/echo", "x"]).await.ok();
    (dev, folder)
}

/// Runs a call that ends without success, and returns its record.
async fn failed(dev: &Dev, call: &str) -> Value {
    let words = ["run", "--output", "json"]
        .into_iter()
        .chain(call.split(' '));
    let ran = dev.tq().run(words).await;
    assert_eq!(ran.code, Some(1), "`{}` wrote: {}", ran.line, ran.stderr);
    let task = ran.json();
    let outcome = task["outcome"].as_str().expect("it has an outcome");
    assert!(
        ran.stderr
            .contains(&format!("ended dead after {} attempt", attempts(&task))),
        "{}",
        ran.stderr
    );
    assert!(
        ran.stderr.contains(&format!(": {outcome}")),
        "{}",
        ran.stderr
    );
    task
}

fn attempts(task: &Value) -> usize {
    task["attempts"].as_array().map_or(0, Vec::len)
}

fn message(task: &Value) -> &str {
    task["attempts"][0]["failure"]["message"]
        .as_str()
        .unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failures_are_named_and_retried_or_not() {
    let (dev, _folder) = dev().await;
    for (call, state, outcome, attempts_made, said) in [
        (
            "faults/spin --fuel 10M",
            "dead",
            "fuel_exhausted",
            1,
            "all of the fuel is used: 10000000",
        ),
        (
            "faults/grow",
            "dead",
            "memory_limit",
            1,
            "memory is limited to 134217728 bytes",
        ),
        (
            "faults/grow --memory 32MiB",
            "dead",
            "memory_limit",
            1,
            "memory is limited to 33554432 bytes",
        ),
        ("faults/recurse", "dead", "stack_overflow", 1, "overflowed"),
        ("faults/panic boom", "dead", "trap", 3, "boom"),
        ("faults/exit", "dead", "exit", 3, "it exited with code 1"),
        (
            "faults/fail_retryable later",
            "dead",
            "retryable_error",
            3,
            "later",
        ),
        (
            "faults/fail_retryable later --max-attempts 1",
            "dead",
            "retryable_error",
            1,
            "later",
        ),
        ("faults/fail_fatal never", "dead", "fatal_error", 1, "never"),
        (
            "faults/sleep soon",
            "dead",
            "invalid_input",
            1,
            "payload `soon` is not a number",
        ),
        (
            "faults/big_result 8388609",
            "dead",
            "output_limit",
            1,
            "8388608",
        ),
        (
            "faults/flaky 4",
            "dead",
            "retryable_error",
            3,
            "attempt 1 fails",
        ),
    ] {
        let task = failed(&dev, call).await;
        assert_eq!(
            (task["state"].as_str(), task["outcome"].as_str()),
            (Some(state), Some(outcome)),
            "{call}: {task}"
        );
        assert_eq!(attempts(&task), attempts_made, "{call}: {task}");
        assert!(message(&task).contains(said), "{call}: {task}");
        assert!(
            task["attempts"][0]["usage"]["fuel"].as_u64() > Some(0),
            "{call}: {task}"
        );
        assert!(
            task["attempts"][0]["usage"]["wall_ns"].as_u64() > Some(0),
            "{call}: {task}"
        );
        assert!(task["result"].is_null(), "{call}: {task}");
    }
    // What the guest did before it ended is charged, and memory is measured at its peak.
    let task = failed(&dev, "faults/grow --memory 32MiB").await;
    let peak = task["attempts"][0]["usage"]["memory_bytes_peak"]
        .as_u64()
        .unwrap_or_default();
    assert!((30 << 20..=32 << 20).contains(&peak), "{task}");
    dev.process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endless_loop_ends_in_time_while_others_go_on() {
    let (dev, _folder) = dev().await;
    let tq = dev.tq();
    let spins = tq
        .run("submit faults/spin --timeout 300ms --max-attempts 1 --count 3".split(' '))
        .await
        .text();
    let ids: Vec<&str> = spins.lines().collect();
    // Three of four slots are taken; what is called meanwhile is served by the fourth.
    let ended = async {
        let ran = tq
            .run(["task", "wait"].into_iter().chain(ids.iter().copied()))
            .await;
        assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    };
    let echoes = async {
        let client = dev.client().await;
        let mut echoed = 0;
        loop {
            tq.run(["run", "faults/echo", "still here"]).await.ok();
            echoed += 1;
            let last = client
                .task(ids[2], false, false)
                .await
                .expect("it is there");
            if last.ended_ms != 0 {
                return echoed;
            }
        }
    };
    let ((), echoed) = tokio::join!(ended, echoes);
    assert!(echoed > 1, "nothing else ran while three guests looped");
    for id in ids {
        let task = tq
            .run(["task", "show", id, "--output", "json"])
            .await
            .json();
        assert_eq!(
            (task["state"].as_str(), task["outcome"].as_str()),
            (Some("dead"), Some("timeout")),
            "{task}"
        );
        let wall = Duration::from_nanos(
            task["attempts"][0]["usage"]["wall_ns"]
                .as_u64()
                .unwrap_or_default(),
        );
        // The promise is 100 ms; three loops and the tests beside them share two cores here.
        assert!((300..700).contains(&wall.as_millis()), "{task}");
        let backtrace = task["attempts"][0]["failure"]["backtrace"]
            .as_str()
            .unwrap_or_default();
        assert!(backtrace.contains("faults::misbehaves::spin"), "{task}");
    }
    dev.process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn panic_carries_its_message_and_the_guests_frames() {
    let (dev, _folder) = dev().await;
    let task = failed(&dev, "faults/panic boom --max-attempts 1").await;
    assert_eq!(
        message(&task),
        "panicked at faults/src/misbehaves.rs:12:5:\nboom"
    );
    let backtrace = task["attempts"][0]["failure"]["backtrace"]
        .as_str()
        .unwrap_or_default();
    assert!(
        backtrace
            .lines()
            .any(|frame| frame.trim() == "faults::misbehaves::panic"),
        "{backtrace}"
    );
    // Names are demangled, and nothing of the machine that built it or runs it shows.
    assert!(
        !backtrace.contains("_ZN") && !backtrace.contains("_RN"),
        "{backtrace}"
    );
    let shown = dev
        .tq()
        .run(["task", "show", task["id"].as_str().unwrap_or_default()])
        .await
        .text();
    assert!(
        shown.contains("boom") && shown.contains("faults::misbehaves::panic"),
        "{shown}"
    );
    dev.process.stop().await;
}

/// A program of four modules, each with a memory that stays small, which together grow beyond any limit.
const SPREAD: &str = r#"
(component
  (core module $part
    (memory 1)
    (func (export "grow") (result i32) (memory.grow (i32.const 16))))
  (core module $main
    (import "a" "grow" (func $a (result i32)))
    (import "b" "grow" (func $b (result i32)))
    (import "c" "grow" (func $c (result i32)))
    (import "d" "grow" (func $d (result i32)))
    (func (export "run") (result i32)
      (loop $again
        (br_if $again
          (i32.and
            (i32.and (i32.ge_s (call $a) (i32.const 0)) (i32.ge_s (call $b) (i32.const 0)))
            (i32.and (i32.ge_s (call $c) (i32.const 0)) (i32.ge_s (call $d) (i32.const 0))))))
      unreachable))
  (core instance $a (instantiate $part))
  (core instance $b (instantiate $part))
  (core instance $c (instantiate $part))
  (core instance $d (instantiate $part))
  (core instance $main (instantiate $main
    (with "a" (instance $a)) (with "b" (instance $b)) (with "c" (instance $c)) (with "d" (instance $d))))
  (func $run (result (result)) (canon lift (core func $main "run")))
  (instance $command (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $command)))
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_bomb_ends_although_each_of_its_memories_is_small() {
    let (dev, folder) = dev().await;
    let bomb = guest::written(folder.path(), "spread", SPREAD);
    dev.tq()
        .deploy(&bomb, "spread", &["--memory", "40MiB"])
        .await;
    let task = failed(&dev, "spread").await;
    assert_eq!(task["outcome"], "memory_limit", "{task}");
    let peak = task["attempts"][0]["usage"]["memory_bytes_peak"]
        .as_u64()
        .unwrap_or_default();
    // The sum is what counts: no memory came to more than a quarter of it.
    assert!((36 << 20..=40 << 20).contains(&peak), "{task}");
    dev.tq()
        .run(["run", "faults/echo", "still here"])
        .await
        .ok();
    dev.process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn output_is_bounded_and_says_so() {
    let (dev, _folder) = dev().await;
    let tq = dev.tq();
    let chatty = tq
        .run(["run", "faults/chatty", "100", "--output", "json"])
        .await;
    chatty.ok();
    let id = chatty.json()["id"].as_str().unwrap_or_default().to_owned();
    // Logs are passed on beside the outcome; whoever reads one waits for the last of it.
    let log = tq.run(["logs", &id]).await.text();
    assert!(
        log.contains(" bytes of this log were cut here]"),
        "{log:.200}"
    );
    assert!(log.len() < 1 << 20, "the log has {} bytes", log.len());

    let result = tq.run(["run", "faults/big_result", "3145728"]).await;
    result.ok();
    assert!(
        result.stdout.len() == 3 << 20 && result.stdout.iter().all(|byte| *byte == b'x'),
        "{}",
        result.stderr
    );
    tq.run(["run", "faults/big_result", "8388608"]).await.ok();

    let payload = vec![b'p'; 3 << 20];
    let echoed = tq
        .run_with_input(["run", "faults/echo", "-"], &payload)
        .await;
    echoed.ok();
    assert!(
        echoed.stdout == payload,
        "{} bytes came back",
        echoed.stdout.len()
    );
    dev.process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn later_attempts_succeed_with_what_earlier_ones_saved() {
    let (dev, _folder) = dev().await;
    let tq = dev.tq();
    for (call, result, attempts_made) in [
        ("faults/flaky 1", "1", 1),
        ("faults/flaky 3", "3", 3),
        ("faults/checkpoint 3", "3/3", 3),
    ] {
        let ran = tq
            .run(
                ["run", "--output", "json"]
                    .into_iter()
                    .chain(call.split(' ')),
            )
            .await;
        ran.ok();
        let task = ran.json();
        assert_eq!(
            (task["result"].as_str(), task["outcome"].as_str()),
            (Some(result), Some("succeeded")),
            "{task}"
        );
        assert_eq!(attempts(&task), attempts_made, "{task}");
    }
    let dead = failed(&dev, "faults/fail_fatal no").await;
    let id = dead["id"].as_str().unwrap_or_default();
    tq.run(["task", "redrive", id]).await.ok();
    tq.run(["task", "wait", id]).await;
    let again = tq
        .run(["task", "show", id, "--output", "json"])
        .await
        .json();
    assert_eq!(
        (
            again["state"].as_str(),
            again["round"].as_u64(),
            attempts(&again)
        ),
        (Some("dead"), Some(2), 2),
        "{again}"
    );
    dev.process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancelled_tasks_stop_whether_they_listen_or_not() {
    let (dev, _folder) = dev().await;
    let (tq, client) = (dev.tq(), dev.client().await);
    for call in ["faults/cancel_aware", "faults/spin", "faults/sleep 29000"] {
        let id = tq
            .run(["submit"].into_iter().chain(call.split(' ')))
            .await
            .text()
            .trim()
            .to_owned();
        eventually("the task runs", async || {
            let task = client.task(&id, false, false).await.expect("it is there");
            (task.state() == tq_client::TaskState::Running).then_some(())
        })
        .await;
        tq.run(["task", "cancel", &id]).await.ok();
        let waited = tq.run(["task", "wait", &id]).await;
        let task = tq
            .run(["task", "show", &id, "--output", "json"])
            .await
            .json();
        // A guest that notices and returns within its grace has done its work, and its success counts.
        let (end, code) = if call == "faults/cancel_aware" {
            ("succeeded", 0)
        } else {
            ("cancelled", 1)
        };
        assert_eq!(
            (task["state"].as_str(), task["outcome"].as_str()),
            (Some(end), Some(end)),
            "{call}: {task}"
        );
        assert_eq!(waited.code, Some(code), "{call}: {}", waited.stderr);
    }
    let waiting = tq
        .run(["submit", "faults/echo", "x", "--delay", "1h"])
        .await
        .text()
        .trim()
        .to_owned();
    tq.run(["task", "cancel", &waiting]).await.ok();
    let task = tq
        .run(["task", "show", &waiting, "--output", "json"])
        .await
        .json();
    assert_eq!(
        (task["state"].as_str(), attempts(&task)),
        (Some("cancelled"), 0),
        "{task}"
    );
    dev.process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn task_expires_at_its_deadline() {
    let (dev, _folder) = dev().await;
    let tq = dev.tq();
    let ran = tq
        .run([
            "run",
            "faults/sleep",
            "20000",
            "--deadline",
            "400ms",
            "--output",
            "json",
        ])
        .await;
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    let task = ran.json();
    assert_eq!(
        (task["state"].as_str(), task["outcome"].as_str()),
        (Some("expired"), Some("deadline_exceeded")),
        "{task}"
    );
    dev.process.stop().await;
}
