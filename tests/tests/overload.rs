//! Overload, through the command line and real nodes: who is refused first, what they are told, and what goes on.

use serde_json::Value;
use tq_client::{Client, Error, NewTask, Submitted};
use tq_tests::{Broker, Host, Tq, eventually, guest, metrics};

const LOW: u32 = 10;
const NORMAL: u32 = 127;
const HIGH: u32 = 200;

async fn submit(client: &Client, priority: u32, count: usize) -> Result<Vec<Submitted>, Error> {
    let task = NewTask {
        function: "faults/echo".to_owned(),
        payload: "x".into(),
        priority: Some(priority),
        ..NewTask::default()
    };
    client.submit(vec![task; count]).await
}

async fn overload(tq: &Tq) -> Value {
    tq.run(["overload", "--output", "json"]).await.json()
}

#[track_caller]
fn is_overloaded(answer: Result<Vec<Submitted>, Error>) -> String {
    match answer {
        Err(Error::Overloaded {
            message,
            retry_after,
            ..
        }) => {
            assert!(retry_after.as_secs() >= 1, "{retry_after:?}");
            message
        }
        other => panic!("it is to be refused: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_less_urgent_is_refused_first_and_what_waits_runs_on() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let data = folder.path().join("broker");
    let mut broker = Broker::start_with(&data, &["--max-waiting", "100"]).await;
    let tq = broker.tq();
    tq.deploy(&guest::example("faults"), "faults", &[]).await;
    let client = broker.client().await;
    let quiet = overload(&tq).await;
    assert_eq!(
        (&quiet["level"], &quiet["refuses"]),
        (&0.into(), &Value::Array(vec![]))
    );

    submit(&client, LOW, 80).await.expect("80 are low's share");
    let message = is_overloaded(submit(&client, LOW, 1).await);
    assert_eq!(
        message.split("; ").next(),
        Some(
            "the broker is overloaded: tasks of low priority are taken in while fewer than 80 tasks wait"
        )
    );
    submit(&client, NORMAL, 10)
        .await
        .expect("90 are normal's share");
    is_overloaded(submit(&client, NORMAL, 1).await);
    submit(&client, HIGH, 10)
        .await
        .expect("all are high's share");
    is_overloaded(submit(&client, HIGH, 3).await);

    // What waits counts over a restart, and the rest begins anew.
    broker.kill9_and_restart().await;
    let client = broker.client().await;
    is_overloaded(submit(&client, HIGH, 3).await);
    let refused = tq
        .run(["run", "faults/echo", "x", "--priority", "10"])
        .await;
    assert_eq!(refused.code, Some(4), "{refused:?}");
    assert!(
        refused.stderr.contains("while fewer than 80 tasks wait"),
        "{}",
        refused.stderr
    );
    assert!(
        refused.stderr.contains("hint: `tq overload`"),
        "{}",
        refused.stderr
    );
    let shown = overload(&tq).await;
    assert_eq!(shown["level"], 3, "{shown}");
    assert_eq!(
        shown["refuses"],
        serde_json::json!(["low", "normal", "high"])
    );
    assert_eq!(
        shown["refused"],
        serde_json::json!({"low": 1, "normal": 0, "high": 3})
    );
    let waiting = &shown["gauges"][0];
    assert_eq!(waiting["resource"], "waiting_tasks");
    assert_eq!(
        (&waiting["taken"], &waiting["limit"]),
        (&100.into(), &100.into())
    );
    let table = tq.run(["overload"]).await.text();
    assert!(table.contains("level    3 of 3"), "{table}");
    let low = metrics::sample(broker.url(), r#"tq_tasks_refused_total{tier="low"}"#).await;
    let level = metrics::sample(broker.url(), "tq_overload_level").await;
    assert_eq!((low, level), (1.0, 3.0));

    // Whoever waits for room gets it when there is some.
    let words = [
        "submit",
        "faults/echo",
        "late",
        "--priority",
        "10",
        "--wait",
    ];
    let host = async {
        eventually("it is refused", async || {
            let shown = overload(&tq).await;
            (shown["refused"]["low"].as_u64() >= Some(2)).then_some(())
        })
        .await;
        Host::start(&broker, &folder.path().join("host"), "a", 2).await
    };
    let (late, host) = tokio::join!(tq.run(words), host);
    late.ok();
    eventually("what waited has run", async || {
        let shown = overload(&tq).await;
        (shown["gauges"][0]["taken"] == 0).then_some(())
    })
    .await;
    submit(&client, LOW, 1).await.expect("there is room");
    let shown = overload(&tq).await;
    assert_eq!(shown["changes"][0]["level"], 3, "{shown}");
    drop(host);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_that_is_none_is_refused() {
    let refused = Tq::default().run(["broker", "--max-waiting", "0"]).await;
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(
        refused.stderr.contains("--max-waiting"),
        "{}",
        refused.stderr
    );
}
