//! Finding tasks, exporting them, and doing one thing to all of them.

use std::collections::BTreeSet;

use serde_json::Value;
use tempfile::TempDir;
use tq_client::{Client, NewTask, TaskSearch, TaskState};
use tq_tests::{Broker, Dev, eventually, guest};

async fn dev() -> (Dev, TempDir) {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let dev = Dev::start_with(&folder.path().join("data"), 4, &[]).await;
    dev.tq()
        .deploy(&guest::example("faults"), "faults", &[])
        .await;
    (dev, folder)
}

fn call(function: &str, payload: &str, customer: &str) -> NewTask {
    NewTask {
        function: function.to_owned(),
        payload: payload.to_owned().into(),
        labels: [("customer".to_owned(), customer.to_owned())].into(),
        ..NewTask::default()
    }
}

fn by(filter: &str) -> TaskSearch {
    TaskSearch {
        filter: filter.to_owned(),
        ..TaskSearch::default()
    }
}

/// How many tasks a filter takes, over all pages.
async fn count(client: &Client, filter: &str) -> usize {
    let (mut count, mut next) = (0, String::new());
    loop {
        let page = client.search_page(&by(filter), 1_000, &next).await;
        let page = page.expect("the filter is one");
        count += page.tasks.len();
        next = page.next;
        if next.is_empty() {
            return count;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_are_found_by_what_they_are_and_what_became_of_them() {
    let (dev, _folder) = dev().await;
    let (tq, client) = (dev.tq(), dev.client().await);
    let mut tasks: Vec<_> = (0..40).map(|_| call("faults/echo", "x", "acme")).collect();
    tasks.extend((0..7).map(|_| call("faults/panic", "Boom", "=1+1")));
    tasks.push(NewTask {
        delay_ms: Some(3_600_000),
        priority: Some(200),
        ..call("faults/echo", "x", "acme")
    });
    for task in &mut tasks {
        task.retry = Some(tq_client::RetryOverrides {
            max_attempts: Some(1),
            ..tq_client::RetryOverrides::default()
        });
    }
    client.submit(tasks).await.expect("they are taken");
    eventually("all but one have ended", async || {
        (count(&client, "state = ended").await == 47).then_some(())
    })
    .await;
    for (filter, expected) in [
        ("", 48),
        ("state = dead", 7),
        ("state = failed AND ended >= today", 7),
        ("function = faults/echo", 41),
        ("function = faults/echo AND state = succeeded", 40),
        (
            "module = faults AND NOT outcome = trap AND state = ended",
            40,
        ),
        ("label.customer = acme", 41),
        ("label.customer = acme AND state = open", 1),
        ("priority > 127", 1),
        ("error : boom", 7),
        ("error : BOOM AND attempts = 1", 7),
        ("fuel > 0 AND state = ended", 47),
        ("submitted < -1h", 0),
        ("module = other", 0),
    ] {
        assert_eq!(count(&client, filter).await, expected, "{filter}");
    }
    let listed = |text: String| {
        let list: Value = serde_json::from_str(&text).expect("it is JSON");
        let tasks = list["tasks"].as_array().expect("a list").clone();
        (tasks, list["next"].clone())
    };
    let list = async |flags: &[&str]| {
        let words = ["task", "list", "--output", "json"];
        let words = words.into_iter().chain(flags.iter().copied());
        listed(tq.run(words).await.text())
    };
    let (failed, _) = list(&["--preset", "failed_today", "--limit", "3"]).await;
    assert_eq!(failed.len(), 3);
    assert!(failed.iter().all(|task| task["state"] == "dead"));
    let (high, _) = list(&["--preset", "high_priority"]).await;
    assert_eq!(high.len(), 1);
    assert_eq!(high[0]["labels"], serde_json::json!({"customer": "acme"}));
    // By what no index is in order of, page by page.
    let fuel_of = |task: &Value| {
        task["attempts"][0]["usage"]["fuel"]
            .as_u64()
            .expect("a number")
    };
    let (mut fuels, mut next) = (Vec::new(), String::new());
    loop {
        let flags = ["-f", "state = ended", "--sort", "-fuel", "--limit", "10"];
        let (tasks, further) = match next.as_str() {
            "" => list(&flags).await,
            cursor => list(&[&flags[..], &["--cursor", cursor]].concat()).await,
        };
        fuels.extend(tasks.iter().map(fuel_of));
        match further.as_str() {
            Some(further) if !further.is_empty() => further.clone_into(&mut next),
            _ => break,
        }
    }
    assert_eq!(fuels.len(), 47);
    assert!(fuels.is_sorted_by(|one, next| one >= next), "{fuels:?}");

    let lines = tq
        .run(["task", "export", "-f", "state = ended"])
        .await
        .text();
    let ids: BTreeSet<_> = lines
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("a line of JSON")["id"].to_string())
        .collect();
    assert_eq!(ids.len(), 47);
    let csv = tq
        .run(["task", "export", "--format", "csv", "-f", "state = dead"])
        .await;
    let csv = csv.text();
    let mut reader = csv::Reader::from_reader(csv.as_bytes());
    let columns = reader.headers().expect("names").clone();
    let column = |name| {
        columns
            .iter()
            .position(|column| column == name)
            .expect("it is there")
    };
    let rows: Vec<_> = reader.records().map(|row| row.expect("a row")).collect();
    assert_eq!(rows.len(), 7);
    for row in rows {
        assert_eq!(&row[column("outcome")], "trap");
        assert_eq!(&row[column("labels")], "customer==1+1");
    }
    // The preset's own order is one that an export has not.
    let slow = tq.run(["task", "export", "--preset", "slow"]).await;
    assert_eq!(slow.text().lines().count(), 47);
    let none = tq.run(["task", "bulk", "cancel", "-f", "state = ended"]);
    assert_eq!(none.await.text(), "0 tasks cancelled\n");
    for (words, code, message) in [
        (
            &["list", "-f", "modul = x"][..],
            4,
            "there is no field `modul`",
        ),
        (&["list", "-f", "state ="], 4, "a value was expected"),
        (&["list", "--sort", "size"], 4, "there is no sort `size`"),
        (&["list", "--sort", "-fuel"], 4, "add `state = ended AND`"),
        (&["list", "--preset", "mine"], 2, "failed_today"),
        (&["list", "--cursor", "x"], 4, "cursor is not one"),
        (
            &["export", "--sort", "fuel", "-f", "state = dead"],
            4,
            "cannot be sorted",
        ),
        (
            &["bulk", "cancel", "-f", "module ="],
            4,
            "a value was expected",
        ),
        (&["bulk", "redrive"], 4, "filter and preset are both empty"),
        (
            &["bulk", "reprioritise", "-f", "state = open"],
            2,
            "--priority",
        ),
        (
            &["bulk", "cancel", "-f", "state = open", "--priority", "1"],
            1,
            "--priority goes with",
        ),
    ] {
        let words = ["task"].into_iter().chain(words.iter().copied());
        let refused = tq.run(words).await;
        assert_eq!(refused.code, Some(code), "{}", refused.stderr);
        assert!(refused.stderr.contains(message), "{}", refused.stderr);
    }
    dev.process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_thing_is_done_to_all_that_a_filter_takes() {
    let (dev, _folder) = dev().await;
    let (tq, client) = (dev.tq(), dev.client().await);
    let later = |customer: &str| NewTask {
        delay_ms: Some(3_600_000),
        ..call("faults/echo", "x", customer)
    };
    let tasks = (0..1_500).map(|number| later(if number % 3 == 0 { "acme" } else { "other" }));
    client
        .submit_many(tasks, drop)
        .await
        .expect("they are taken");
    let bulk = async |words: &[&str]| {
        let words = ["task", "bulk"].into_iter().chain(words.iter().copied());
        tq.run(words).await.text()
    };
    let acme = "label.customer = acme";
    let dry = bulk(&["reprioritise", "-f", acme, "--priority", "250", "--dry-run"]).await;
    assert_eq!(dry, "500 tasks would be reprioritised\n");
    assert_eq!(count(&client, "priority = 250").await, 0);
    let done = bulk(&["reprioritise", "-f", acme, "--priority", "250"]).await;
    assert_eq!(done, "500 tasks reprioritised\n");
    assert_eq!(
        count(&client, "priority = 250 AND label.customer = acme").await,
        500
    );
    let again = bulk(&["reprioritise", "-f", acme, "--priority", "250"]).await;
    assert_eq!(again, "0 tasks reprioritised\n");
    let cancelled = bulk(&["cancel", "-f", "label.customer = other"]).await;
    assert_eq!(cancelled, "1,000 tasks cancelled\n");
    let retried = bulk(&["retry", "-f", "priority = 250"]).await;
    assert_eq!(retried, "500 tasks retried\n");
    eventually("they have run at once", async || {
        (count(&client, "state = succeeded").await == 500).then_some(())
    })
    .await;
    let redriven = bulk(&["redrive", "-f", "state = cancelled", "--output", "json"]).await;
    let redriven: Value = serde_json::from_str(&redriven).expect("it is JSON");
    assert_eq!(
        redriven,
        serde_json::json!({"applied": 1_000, "skipped": 0, "dry_run": false})
    );
    let deleted = bulk(&[
        "delete",
        "-f",
        "state = succeeded AND label.customer = acme",
    ])
    .await;
    assert_eq!(deleted, "500 tasks deleted\n");
    assert_eq!(count(&client, acme).await, 0);
    dev.process.stop().await;
}

/// The broker is killed while it is at it; the command goes on by itself, and nothing is done twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bulk_actions_go_on_after_the_broker_was_killed() {
    const TASKS: usize = 8_000;
    let folder = tempfile::tempdir().expect("a folder can be made");
    let mut broker = Broker::start(&folder.path().join("data")).await;
    let tq = broker.tq();
    tq.deploy(&guest::example("faults"), "faults", &[]).await;
    let client = broker.client().await;
    let later = |_| NewTask {
        delay_ms: Some(3_600_000),
        ..call("faults/echo", "x", "acme")
    };
    client
        .submit_many((0..TASKS).map(later), drop)
        .await
        .expect("they are taken");
    for (action, begun, said) in [
        ("cancel", "state = cancelled", "cancelled"),
        ("redrive", "round = 2", "redriven"),
    ] {
        let command = tq.run(["task", "bulk", action, "-f", "state IN (open, cancelled)"]);
        let killed = async {
            eventually("it has begun", async || {
                let page = client.search_page(&by(begun), 1, "").await.ok()?;
                (!page.tasks.is_empty()).then_some(())
            })
            .await;
            broker.kill9_and_restart().await;
        };
        let (done, ()) = tokio::join!(command, killed);
        let done = done.text();
        // What was done when its answer was lost is not done once more.
        let count: usize = done
            .split(' ')
            .next()
            .and_then(|count| count.replace(',', "").parse().ok())
            .expect("it begins with a number");
        assert!(done.contains(said) && count <= TASKS && count > 0, "{done}");
    }
    let (mut rounds, mut next) = (Vec::new(), String::new());
    loop {
        let page = client
            .task_page(None, 1_000, &next)
            .await
            .expect("it is back");
        rounds.extend(page.tasks.iter().map(|task| (task.state(), task.round)));
        next = page.next;
        if next.is_empty() {
            break;
        }
    }
    assert_eq!(rounds.len(), TASKS);
    let twice = rounds
        .iter()
        .filter(|(state, round)| *state == TaskState::Cancelled || *round != 2);
    assert_eq!(twice.count(), 0, "each was cancelled and redriven, once");
    broker.process.stop().await;
}
