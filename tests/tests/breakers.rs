//! Circuit breakers, through the command line and real nodes: what a function that fails costs, and how it comes back.

use serde_json::Value;
use tempfile::TempDir;
use tq_client::Client;
use tq_tests::{Broker, Dev, Tq, eventually, guest, metrics};

/// A function that fails as long as its key is not there.
const FAILS: &str = "faults/get_key";
const PAYLOAD: &str = r#"{"bucket": "shop", "key": "open"}"#;

async fn dev(folder: &TempDir) -> (Dev, Client) {
    let dev = Dev::start(&folder.path().join("data"), 2).await;
    deploy(&dev.tq(), folder).await;
    let client = dev.client().await;
    (dev, client)
}

async fn deploy(tq: &Tq, folder: &TempDir) {
    let manifest = "[capabilities]\nkeyvalue = [\"shop\"]\n";
    let place = guest::placed(folder.path(), "faults", manifest);
    tq.run(["deploy", &place]).await.ok();
}

async fn submit(tq: &Tq, function: &str, payload: &str, count: u32) -> Vec<String> {
    let count = count.to_string();
    let words = ["submit", function, payload, "--count", &count];
    let submitted = tq.run(words).await.text();
    submitted.lines().map(str::to_owned).collect()
}

async fn breaker(tq: &Tq, verb: &[&str]) -> Value {
    let words = [&["breaker"], verb, &["--output", "json"]].concat();
    tq.run(words).await.json()
}

/// Each task's state, with the number of its attempts.
async fn states(client: &Client, ids: &[String]) -> Vec<(String, usize)> {
    let mut states = Vec::new();
    for id in ids {
        let task = client.task(id, false, false).await.expect("it is there");
        let state = format!("{:?}", task.state()).to_lowercase();
        states.push((state, task.attempts.len()));
    }
    states
}

fn count(states: &[(String, usize)], state: &str, attempts: usize) -> usize {
    let like = |it: &&(String, usize)| it.0 == state && it.1 == attempts;
    states.iter().filter(like).count()
}

fn reasons(breaker: &Value) -> Vec<(&str, &str)> {
    let changes = breaker["changes"].as_array().expect("a list of changes");
    changes
        .iter()
        .map(|change| {
            let state = change["state"].as_str().expect("a state");
            (state, change["reason"].as_str().expect("a reason"))
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_function_that_fails_has_its_tasks_wait_until_probes_find_it_mended() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let (dev, client) = dev(&folder).await;
    let tq = dev.tq();
    let ids = submit(&tq, FAILS, PAYLOAD, 60).await;
    let open = eventually("its breaker opens", async || {
        let shown = breaker(&tq, &["show", FAILS]).await;
        (shown["state"] == "open").then_some(shown)
    });
    let open = open.await;
    assert_eq!(open["function"], "faults@1/get_key", "{open}");
    assert!(open["until_ms"].is_u64(), "{open}");
    let (state, reason) = reasons(&open)[0];
    assert_eq!(state, "open");
    let expected = "attempts failed within 60s, the last with `fatal_error`; nothing starts for 5s";
    assert!(reason.ends_with(expected), "{reason}");
    // Others are not touched.
    let beside = tq.run(["run", "faults/echo", "beside"]).await;
    assert_eq!(beside.text(), "beside");
    assert_eq!(
        breaker(&tq, &["list"]).await["breakers"][0]["state"],
        "open"
    );
    let other = breaker(&tq, &["list", "--namespace", "other"]).await;
    assert_eq!(other["breakers"].as_array().map(Vec::len), Some(0));
    // What its host had when it opened goes on, and what had not started waits and has lost nothing.
    let waiting = eventually("what had started ends", async || {
        let states = states(&client, &ids).await;
        let (dead, waiting) = (count(&states, "dead", 1), count(&states, "ready", 0));
        (dead + waiting == ids.len()).then_some(waiting)
    });
    let waiting = waiting.await;
    assert!((20..=40).contains(&waiting), "{waiting} wait");

    tq.run(["kv", "set", "shop", "open", "yes"]).await.ok();
    let ended = eventually("the others succeed", async || {
        let states = states(&client, &ids).await;
        (count(&states, "succeeded", 1) == waiting).then_some(states)
    });
    let ended = ended.await;
    assert_eq!(count(&ended, "dead", 1), ids.len() - waiting, "{ended:?}");
    let closed = breaker(&tq, &["show", FAILS]).await;
    assert_eq!(
        (&closed["state"], &closed["until_ms"]),
        (&"closed".into(), &Value::Null)
    );
    let reasons = reasons(&closed);
    let last = [
        (
            "half_open",
            "the pause is over; one task at a time starts, as a probe",
        ),
        ("closed", "3 probes in a row succeeded"),
    ];
    assert_eq!(reasons[reasons.len() - 2..], last);
    let openings = metrics::sample(dev.url(), "tq_breaker_openings_total").await;
    assert!(openings >= 1.0, "{openings}");
    let open = metrics::sample(dev.url(), "tq_breakers{state=\"open\"}").await;
    assert!(open < 1.0, "{open}");
    let log = dev.process.log();
    assert!(log.contains("circuit breaker is open"), "{log}");
    dev.process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_operator_forces_outlives_the_broker_until_it_is_released() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let mut broker = Broker::start(&folder.path().join("data")).await;
    deploy(&broker.tq(), &folder).await;
    let forced = [
        "breaker",
        "force",
        FAILS,
        "open",
        "--reason",
        "the shop moves",
    ];
    broker.tq().run(forced).await.ok();
    broker.kill9_and_restart().await;
    let tq = broker.tq();
    let listed = tq.run(["breaker", "list"]).await.text();
    for said in ["faults@1/get_key", "someone forced it open: the shop moves"] {
        assert!(listed.contains(said), "{listed}");
    }
    let shown = tq.run(["breaker", "show", FAILS]).await.text();
    let said = "yes; `tq breaker release` leaves it to itself";
    assert!(shown.contains(said), "{shown}");
    let waits = submit(&tq, FAILS, PAYLOAD, 1).await.remove(0);
    let shown = tq.run(["task", "show", &waits]).await;
    let said = "it waits: the circuit breaker of `faults@1/get_key` is open";
    assert!(shown.stderr.contains(said), "{}", shown.stderr);
    let released = breaker(&tq, &["release", FAILS]).await;
    let state = (&released["state"], &released["forced"]);
    assert_eq!(state, (&"half_open".into(), &false.into()));

    let words = ["breaker", "show", "faults/get_kye"];
    let unknown = tq.run(words).await;
    assert_eq!(unknown.code, Some(3));
    assert!(
        unknown.stderr.contains("did you mean `get_key`"),
        "{}",
        unknown.stderr
    );
    let long = "x".repeat(257);
    let refused = tq
        .run(["breaker", "force", FAILS, "closed", "--reason", &long])
        .await;
    assert_eq!(refused.code, Some(4));
    let said = "reason of 257 bytes is over the limit of 256 bytes";
    assert!(refused.stderr.contains(said), "{}", refused.stderr);
    broker.process.stop().await;
}
