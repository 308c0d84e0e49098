//! Dead letters: what is told of a death, who died the same way, and how they get another chance.

use std::path::Path;

use serde_json::Value;
use tq_client::TaskState;
use tq_tests::{Broker, Dev, Host, Tq, eventually, guest};

/// A program that traps, or ends well at once.
fn program(folder: &Path, name: &str, body: &str) -> std::path::PathBuf {
    let text = format!(
        r#"
(component
  (core module $main
    (func (export "run") (result i32) (local $turns i32)
      {body}))
  (core instance $main (instantiate $main))
  (func $run (result (result)) (canon lift (core func $main "run")))
  (instance $command (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $command)))
"#
    );
    guest::written(folder, name, &text)
}

/// Turns a loop ten thousand times, and ends well.
const TURNS: &str = "(loop $again
        (local.set $turns (i32.add (local.get $turns) (i32.const 1)))
        (br_if $again (i32.lt_u (local.get $turns) (i32.const 10000))))
      i32.const 0";

/// Submits a call, waits until it is dead, and returns its id.
async fn dead(tq: &Tq, call: &[&str]) -> String {
    let words = ["submit"].into_iter().chain(call.iter().copied());
    let id = tq.run(words).await.text().trim().to_owned();
    let waited = tq.run(["task", "wait", &id]).await;
    assert_eq!(waited.code, Some(1), "{}", waited.stderr);
    let told = String::from_utf8_lossy(&waited.stdout).into_owned();
    assert!(told.contains(" dead "), "{told}");
    id
}

async fn json(tq: &Tq, words: &[&str]) -> Value {
    let words = words.iter().copied().chain(["--output", "json"]);
    let ran = tq.run(words).await;
    ran.ok();
    ran.json()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn crash_card_shows_limit_value_backtrace_and_log() {
    let folder = tempfile::tempdir().unwrap();
    let dev = Dev::start(&folder.path().join("data"), 4).await;
    let tq = dev.tq();
    tq.deploy(&guest::example("faults"), "faults", &["--backoff", "1ms"])
        .await;

    let panicked = dead(&tq, &["faults/panic", "order 17 is gone"]).await;
    // Another number, another attempt: the same death.
    let same = ["faults/panic", "order 4711 is gone", "--max-attempts", "1"];
    let other = dead(&tq, &same).await;
    // Logs are passed on beside the outcome, so that the last of them may come after it.
    let card = eventually("the end of the log", async || {
        let card = json(&tq, &["dead", "show", &panicked]).await;
        let log = card["log_tail"].as_str().unwrap_or_default();
        log.contains("order 17 is gone").then_some(card)
    })
    .await;
    assert_eq!(card["task"]["id"], panicked.as_str());
    assert_eq!(
        card["tripped"],
        serde_json::json!([{"limit": "attempts", "used": 3, "cap": 3, "unit": null}])
    );
    let frames = card["failure"]["backtrace"].as_str().unwrap_or_default();
    assert!(frames.contains("faults::misbehaves::panic"), "{card}");
    assert_eq!(
        (&card["others"], &card["redrive_version"]),
        (&1.into(), &1.into())
    );
    assert_eq!(
        json(&tq, &["dead", "show", &other]).await["signature"],
        card["signature"]
    );
    let shown = tq.run(["dead", "show", &panicked]).await.text();
    for said in [
        "trap: panicked at faults/src/misbehaves.rs:12:5:\norder 17 is gone\n",
        "! attempts ████████████████████████  3 of 3\n",
        "\nbacktrace, innermost first\n",
        "  faults::misbehaves::panic\n",
        "\nlog of the last attempt",
        "  | order 17 is gone\n",
        ": 1 other dead letter died the same way\n",
        &format!("\nredrive     tq dead redrive {panicked}\n"),
    ] {
        assert!(shown.contains(said), "`{said}` is not in:\n{shown}");
    }

    for (call, limit, cap, line) in [
        (
            &["faults/spin", "--fuel", "10M"][..],
            "fuel",
            10_000_000,
            "! fuel     ████████████████████████  ",
        ),
        (
            &["faults/grow", "--memory", "32MiB"],
            "memory",
            32 << 20,
            "! memory   ████████████████████████  ",
        ),
        (
            &["faults/spin", "--timeout", "200ms", "--max-attempts", "1"],
            "timeout",
            200,
            "! timeout  ████████████████████████  ",
        ),
    ] {
        let id = dead(&tq, call).await;
        let card = json(&tq, &["dead", "show", &id]).await;
        let tripped = &card["tripped"][0];
        assert_eq!(
            (&tripped["limit"], &tripped["cap"]),
            (&limit.into(), &cap.into()),
            "{card}"
        );
        let used = tripped["used"].as_u64().unwrap_or_default();
        // A memory is not grown beyond its limit; the others are noticed at it or a little later.
        assert!(used > cap / 10 * 9, "{card}");
        let shown = tq.run(["dead", "show", &id]).await.text();
        assert!(shown.contains(line), "{shown}");
        assert!(shown.contains("\nbacktrace, innermost first\n"), "{shown}");
    }
    dev.process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redrive_by_signature_after_a_fixed_deploy_succeeds() {
    let folder = tempfile::tempdir().unwrap();
    let dev = Dev::start(&folder.path().join("data"), 4).await;
    let tq = dev.tq();
    let broken = program(folder.path(), "broken", "unreachable");
    let slow = program(folder.path(), "slow", TURNS);
    tq.deploy(&broken, "shop", &["--max-attempts", "1"]).await;
    tq.deploy(&slow, "slow", &["--fuel", "1000"]).await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(dead(&tq, &["shop"]).await);
    }
    let starved = dead(&tq, &["slow"]).await;

    let kinds = json(&tq, &["dead", "signatures"]).await;
    assert_eq!(
        kinds["signatures"].as_array().map(Vec::len),
        Some(2),
        "{kinds}"
    );
    let most = &kinds["signatures"][0];
    assert_eq!(
        (&most["count"], &most["at_least"]),
        (&3.into(), &false.into())
    );
    assert_eq!(
        most["example"]["id"],
        ids[2].as_str(),
        "the last to have died"
    );
    assert!(most["first_ms"].as_u64() <= most["last_ms"].as_u64());
    let signature = &most["signature"].as_str().unwrap_or_default()[..12];
    let table = tq.run(["dead", "signatures"]).await.text();
    assert!(
        table.contains(signature) && table.contains("shop/"),
        "{table}"
    );

    let by_signature = ["dead", "redrive", "--signature", signature];
    let dry = tq.run(by_signature.into_iter().chain(["--dry-run"])).await;
    assert!(
        dry.stderr.contains("would redrive 3 dead letters"),
        "{}",
        dry.stderr
    );
    let newest_first: Vec<_> = ids.iter().rev().map(String::as_str).collect();
    assert_eq!(dry.text().lines().collect::<Vec<_>>(), newest_first);
    assert_eq!(
        json(&tq, &["dead", "list"]).await["dead_letters"]
            .as_array()
            .map(Vec::len),
        Some(4)
    );

    // Without a fix, and with the version of before, they die again, and are found again.
    let again = json(&tq, &["dead", "redrive", &ids[0], "--same-version"]).await;
    assert_eq!(again["ids"], serde_json::json!([ids[0]]));
    tq.run(["task", "wait", &ids[0]]).await;
    let newest = json(&tq, &["dead", "list", "--limit", "1"]).await;
    assert_eq!(newest["dead_letters"][0]["id"], ids[0].as_str());
    assert_eq!(newest["dead_letters"][0]["round"], 2);

    let fixed = program(folder.path(), "fixed", "i32.const 0");
    tq.deploy(&fixed, "shop", &[]).await;
    tq.deploy(&slow, "slow", &["--fuel", "10M"]).await;
    let redriven = tq.run(by_signature).await;
    assert!(
        redriven.stderr.contains("redrove 3 dead letters"),
        "{}",
        redriven.stderr
    );
    let waited = ["task", "wait"]
        .into_iter()
        .chain(ids.iter().map(String::as_str));
    tq.run(waited).await.ok();
    // The limit that was raised holds for what died of it.
    tq.run(["dead", "redrive", &starved]).await.ok();
    tq.run(["task", "wait", &starved]).await.ok();
    let left = json(&tq, &["dead", "list"]).await;
    assert_eq!(left, serde_json::json!({"dead_letters": [], "next": null}));
    assert_eq!(
        json(&tq, &["dead", "signatures"]).await["signatures"],
        serde_json::json!([])
    );
    dev.process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_payload_makes_another_task_and_the_dead_letter_stays() {
    let folder = tempfile::tempdir().unwrap();
    let dev = Dev::start(&folder.path().join("data"), 2).await;
    let tq = dev.tq();
    tq.deploy(&guest::example("faults"), "faults", &[]).await;
    let old = dead(&tq, &["faults/sleep", "soon"]).await;
    let redriven = tq.run(["dead", "redrive", &old, "--payload", "1"]).await;
    let new = redriven.text().trim().to_owned();
    assert!(
        redriven.stderr.contains("stays a dead letter"),
        "{}",
        redriven.stderr
    );
    tq.run(["task", "wait", &new]).await.ok();
    let task = json(&tq, &["task", "show", &new]).await;
    assert_eq!(
        (
            &task["redriven_from"],
            &task["result"],
            &task["content_type"]
        ),
        (
            &old.as_str().into(),
            &"1".into(),
            &"application/json".into()
        )
    );
    let shown = tq.run(["task", "show", &new]).await.text();
    assert!(
        shown
            .lines()
            .any(|line| line.starts_with("redriven from") && line.ends_with(&old)),
        "{shown}"
    );
    let left = json(&tq, &["dead", "list"]).await;
    assert_eq!(left["dead_letters"][0]["id"], old.as_str());
    // Of a size that is a file.
    let large = folder.path().join("large");
    std::fs::write(&large, vec![b'9'; 100_000]).unwrap();
    let payload = format!("@{}", large.display());
    let new = json(&tq, &["dead", "redrive", &old, "--payload", &payload]).await;
    assert_eq!(new["payload_bytes"], 100_000);

    let refused = tq
        .run(["dead", "redrive", &old, "--namespace", "other"])
        .await;
    assert_eq!(refused.code, Some(3), "{}", refused.stderr);
    let refused = tq.run(["dead", "show", task["id"].as_str().unwrap()]).await;
    assert_eq!(refused.code, Some(4), "{}", refused.stderr);
    assert!(
        refused.stderr.contains("is succeeded, not dead"),
        "{}",
        refused.stderr
    );
    dev.process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn filters_find_what_they_name_and_refuse_what_makes_no_sense() {
    let folder = tempfile::tempdir().unwrap();
    let dev = Dev::start(&folder.path().join("data"), 2).await;
    let tq = dev.tq();
    tq.deploy(
        &guest::example("faults"),
        "faults",
        &["--max-attempts", "1"],
    )
    .await;
    let fatal = dead(&tq, &["faults/fail_fatal", "no"]).await;
    let panicked = dead(&tq, &["faults/panic", "boom"]).await;
    for (filter, expected) in [
        (&["--function", "faults/fail_fatal"][..], &[&fatal][..]),
        (&["--function", "faults"], &[&panicked, &fatal]),
        (&["--function", "faults/echo"], &[]),
        (&["--outcome", "trap"], &[&panicked]),
        (&["--since", "1h"], &[&panicked, &fatal]),
        (&["--until", "1h"], &[]),
        (&["--since", "1h", "--outcome", "fatal_error"], &[&fatal]),
        (&["--signature", "000000000000"], &[]),
    ] {
        let words = [&["dead", "list"], filter].concat();
        let found = json(&tq, &words).await;
        let ids: Vec<_> = found["dead_letters"]
            .as_array()
            .unwrap()
            .iter()
            .map(|dead| dead["id"].as_str().unwrap_or_default())
            .collect();
        assert_eq!(
            ids,
            expected.iter().map(|id| id.as_str()).collect::<Vec<_>>(),
            "{filter:?}"
        );
    }
    // A page at a time.
    let first = json(&tq, &["dead", "list", "--limit", "1"]).await;
    let next = first["next"].as_str().unwrap_or_default();
    let second = json(&tq, &["dead", "list", "--limit", "1", "--cursor", next]).await;
    assert_eq!(second["dead_letters"][0]["id"], fatal.as_str());

    for (words, code, said) in [
        (&["dead", "redrive"][..], 2, "no dead letters are named"),
        (
            &["dead", "list", "--outcome", "boom"],
            4,
            "hint: it is one of succeeded, ",
        ),
        (
            &["dead", "list", "--signature", "3fa9"],
            4,
            "expected 12 to 32 hexadecimal digits",
        ),
        (
            &["dead", "list", "--function", "faults@1/panic"],
            4,
            "names a version",
        ),
        (
            &["dead", "list", "--cursor", "x"],
            4,
            "give the `next` of the page before",
        ),
        (
            &["dead", "list", "--since", "soon"],
            2,
            "write it like `2h` (ago)",
        ),
        (
            &["dead", "list", "--since", "1h", "--until", "2h"],
            4,
            "since has to be before until",
        ),
        (&["dead", "show", "x"], 4, "is not a task id"),
    ] {
        let refused = tq.run(words).await;
        assert_eq!(refused.code, Some(code), "{words:?}: {}", refused.stderr);
        assert!(
            refused.stderr.contains(said),
            "{words:?}: {}",
            refused.stderr
        );
    }
    let extra = dead(&tq, &["faults/fail_fatal", "no"]).await;
    let dry = ["dead", "discard", "--outcome", "fatal_error", "--dry-run"];
    let said = tq.run(dry).await.text();
    assert_eq!(said.trim(), "would discard 2 dead letters");
    let said = tq.run(["dead", "discard", &extra]).await.text();
    assert_eq!(said.trim(), "discarded 1 dead letter");
    assert_eq!(tq.run(["task", "show", &extra]).await.code, Some(3));
    assert_eq!(tq.run(["dead", "discard", &extra]).await.code, Some(3));
    let nothing = tq.run(["dead", "discard"]).await;
    assert_eq!(nothing.code, Some(2), "{}", nothing.stderr);
    let all = json(&tq, &["dead", "redrive", "--all"]).await;
    assert_eq!(all["ids"].as_array().map(Vec::len), Some(2), "{all}");
    dev.process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retry_policy_is_inherited_from_the_nearest_that_names_one() {
    let folder = tempfile::tempdir().unwrap();
    let dev = Dev::start(&folder.path().join("data"), 2).await;
    let tq = dev.tq();
    let faults = guest::example("faults");
    tq.deploy(&faults, "faults", &[]).await;
    tq.deploy(&faults, "own", &["--max-attempts", "4"]).await;
    let set = [
        "namespace",
        "set",
        "default",
        "--max-attempts",
        "2",
        "--backoff",
        "1ms",
    ];
    let set = tq.run(set).await.text();
    assert!(set.contains("max_attempts  2      set\n"), "{set}");
    assert!(set.contains("backoff_cap   5m     built-in\n"), "{set}");
    for (call, attempts) in [
        (&["faults/fail_retryable", "x"][..], 2),
        (&["own/fail_retryable", "x"], 4),
        (&["own/fail_retryable", "x", "--max-attempts", "1"], 1),
    ] {
        let id = dead(&tq, call).await;
        let task = json(&tq, &["task", "show", &id]).await;
        assert_eq!(
            task["attempts"].as_array().map(Vec::len),
            Some(attempts),
            "{task}"
        );
        assert_eq!(task["retry"]["backoff_ms"], 1, "{task}");
    }
    let module = json(&tq, &["module", "show", "faults"]).await;
    assert_eq!(
        module["functions"][0]["retry"]["max_attempts"], 2,
        "{module}"
    );
    // A guest that asks for its own pause gets it instead of an hour.
    let later = r#"{"message":"later","after_ms":1}"#;
    let id = dead(
        &tq,
        &[
            "faults/fail_after",
            later,
            "--backoff",
            "1h",
            "--backoff-cap",
            "1h",
        ],
    )
    .await;
    let task = json(&tq, &["task", "show", &id]).await;
    assert_eq!(task["attempts"].as_array().map(Vec::len), Some(2), "{task}");

    let reset = ["namespace", "set", "default", "--reset", "max-attempts"];
    tq.run(reset).await.ok();
    let settings = json(&tq, &["namespace", "show", "default"]).await;
    for (field, expected) in [
        ("name", serde_json::json!("default")),
        (
            "retry",
            serde_json::json!({"max_attempts": null, "backoff_ms": 1, "cap_ms": null}),
        ),
        (
            "retry_default",
            serde_json::json!({"max_attempts": 3, "backoff_ms": 1, "cap_ms": 300_000}),
        ),
        ("ceilings", serde_json::json!({})),
    ] {
        assert_eq!(settings[field], expected, "{field}");
    }
    for (words, code, said) in [
        (
            &["namespace", "show", "nowhere"][..],
            3,
            "there is no namespace `nowhere`",
        ),
        (&["namespace", "set", "default"], 4, "no setting is named"),
        (
            &["namespace", "set", "default", "--max-attempts", "0"],
            4,
            "max_attempts is 0; it may be 1 to 100",
        ),
        (
            &[
                "namespace",
                "set",
                "default",
                "--backoff",
                "1s",
                "--reset",
                "backoff",
            ],
            4,
            "both set and reset",
        ),
    ] {
        let refused = tq.run(words).await;
        assert_eq!(refused.code, Some(code), "{words:?}: {}", refused.stderr);
        assert!(
            refused.stderr.contains(said),
            "{words:?}: {}",
            refused.stderr
        );
    }
    dev.process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_hosts_are_counted_apart_from_failures() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start(&folder.path().join("broker")).await;
    let mut host = Host::start(&broker, &folder.path().join("host"), "one", 1).await;
    let tq = broker.tq();
    tq.deploy(&guest::example("faults"), "faults", &[]).await;
    let id = tq.run(["submit", "faults/sleep", "29000"]).await.text();
    let id = id.trim();
    let client = broker.client().await;
    let running = async |losses| {
        eventually("the task runs", async || {
            let task = client.task(id, false, false).await.expect("it is there");
            (task.state() == TaskState::Running && task.losses == losses).then_some(())
        })
        .await;
    };
    running(0).await;
    host.kill9_and_restart().await;
    running(1).await;
    let task = json(&tq, &["task", "show", id]).await;
    assert_eq!(task["losses"], 1, "{task}");
    assert_eq!(task["attempts"][0]["outcome"], "host_lost", "{task}");
    let shown = tq.run(["task", "show", id]).await.text();
    assert!(shown.lines().any(|line| line == "hosts lost  1"), "{shown}");
    tq.run(["task", "cancel", id]).await.ok();
    host.process.stop().await;
    broker.process.stop().await;
}
