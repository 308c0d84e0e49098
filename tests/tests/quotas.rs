//! Quotas of namespaces and what attempts cost, through the command line and real nodes: at their edge, by many at once, and over
//! a broker that is killed.

use serde_json::Value;
use tempfile::TempDir;
use tq_client::{Client, Error, NewTask, TaskState};
use tq_tests::{Broker, Host, Tq, eventually, guest, metrics};

/// Clients that submit at the same time.
const CLIENTS: usize = 8;

async fn broker(folder: &TempDir) -> (Broker, Tq) {
    let broker = Broker::start(&folder.path().join("broker")).await;
    let tq = broker.tq();
    tq.deploy(&guest::example("faults"), "faults", &[]).await;
    (broker, tq)
}

async fn host(broker: &Broker, folder: &TempDir, name: &str, slots: u32) -> Host {
    Host::start(broker, &folder.path().join(name), name, slots).await
}

async fn set(tq: &Tq, flags: &[&str]) -> Value {
    let words = [&["namespace", "set", "default", "--output", "json"], flags].concat();
    tq.run(words).await.json()
}

async fn shown(tq: &Tq) -> Value {
    let words = ["namespace", "show", "default", "--output", "json"];
    tq.run(words).await.json()
}

fn call(function: &str, payload: &str) -> NewTask {
    NewTask {
        function: format!("faults/{function}"),
        payload: payload.to_owned().into(),
        ..NewTask::default()
    }
}

/// Submits a task again and again, by several clients at once, so often each. Returns the ids, and what was said of the others.
async fn submit_at_once(client: &Client, task: &NewTask, each: usize) -> (Vec<String>, Vec<Error>) {
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..CLIENTS {
        let (client, task) = (client.clone(), task.clone());
        clients.spawn(async move {
            let (mut ids, mut refused) = (Vec::new(), Vec::new());
            for _ in 0..each {
                match client.submit(vec![task.clone()]).await {
                    Ok(submitted) => ids.extend(submitted.into_iter().map(|task| task.id)),
                    Err(error) => refused.push(error),
                }
            }
            (ids, refused)
        });
    }
    let answers = clients.join_all().await.into_iter();
    answers.fold(
        Default::default(),
        |(mut ids, mut refused), (some, others)| {
            ids.extend(some);
            refused.extend(others);
            (ids, refused)
        },
    )
}

/// How many of the tasks ran at once at most, by when their attempts were handed out and settled.
fn at_once(tasks: &[Value]) -> usize {
    let attempts: Vec<_> = tasks
        .iter()
        .flat_map(|task| task["attempts"].as_array().expect("a list").clone())
        .map(|attempt| (attempt["started_ms"].as_u64(), attempt["ended_ms"].as_u64()))
        .collect();
    let running = |at| {
        let runs = |(start, end): &&(Option<u64>, Option<u64>)| *start <= at && at < *end;
        attempts.iter().filter(runs).count()
    };
    let counts = attempts.iter().map(|(start, _)| running(*start));
    counts.max().unwrap_or(0)
}

async fn tasks(tq: &Tq, ids: &[String]) -> Vec<Value> {
    let mut tasks = Vec::new();
    for id in ids {
        tasks.push(
            tq.run(["task", "show", id, "--output", "json"])
                .await
                .json(),
        );
    }
    tasks
}

async fn all_end(client: &Client, ids: &[String]) {
    for id in ids {
        eventually("the task ends", async || {
            // The broker may be away.
            let task = client.task(id, false, false).await.ok()?;
            let is_live = [TaskState::Ready, TaskState::Scheduled, TaskState::Running];
            (!is_live.contains(&task.state())).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_the_edge_of_a_quota_exactly_as_many_are_taken_in_as_may() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let (mut broker, tq) = broker(&folder).await;
    let client = broker.client().await;
    let quiet = shown(&tq).await;
    assert_eq!(quiet["quotas"]["waiting"], Value::Null, "{quiet}");

    // Tasks that wait.
    set(&tq, &["--max-waiting", "50"]).await;
    let task = call("echo", &"x".repeat(1_000));
    let (ids, refused) = submit_at_once(&client, &task, 10).await;
    assert_eq!((ids.len(), refused.len()), (50, 30));
    for error in &refused {
        assert_eq!(
            error.to_string(),
            "namespace `default` is held to its quota of 50 waiting tasks: 50 wait, and this would add 1"
        );
        assert!(!error.is_retryable(), "nobody knows when there is room");
    }
    broker.kill9_and_restart().await;
    let (none, _) = submit_at_once(&client, &task, 1).await;
    assert_eq!(none.len(), 0, "it counts over a restart");
    let table = tq.run(["submit", "faults/echo", "x"]).await;
    assert_eq!(table.code, Some(4), "{}", table.stderr);
    assert!(
        table.stderr.contains("--max-waiting` raises"),
        "{}",
        table.stderr
    );

    // Bytes that are kept.
    let before = shown(&tq).await["quota_use"]["stored_bytes"].as_u64();
    let before = before.expect("a number");
    let most = (before + 20_500).to_string();
    let flags = ["--reset", "quota.waiting", "--max-stored", &most];
    let reset = set(&tq, &flags).await;
    assert_eq!(reset["quotas"]["waiting"], Value::Null, "{reset}");
    let (ids, refused) = submit_at_once(&client, &task, 5).await;
    assert_eq!((ids.len(), refused.len()), (20, 20));
    let used = before + 20_000;
    let said = format!(
        "namespace `default` is held to its quota of {most} stored bytes: {used} are stored, and this would add 1000"
    );
    assert_eq!(refused[0].to_string(), said);
    let kept = tq
        .run(["kv", "set", "shop", "key", &"v".repeat(1_000)])
        .await;
    assert_eq!(kept.code, Some(4), "{}", kept.stderr);

    // Tasks that are submitted in a second.
    set(&tq, &["--reset", "quota.stored", "--submit-rate", "40/s"]).await;
    let many = client.submit(vec![task.clone(); 41]).await;
    let many = many.expect_err("it never fits");
    assert!(
        many.to_string()
            .ends_with("add 41 at once, which never fits"),
        "{many}"
    );
    assert!(!many.is_retryable());
    client
        .submit(vec![task.clone(); 40])
        .await
        .expect("it is full");
    let Err(Error::Overloaded { retry_after, .. }) = client.submit(vec![task.clone(); 40]).await
    else {
        panic!("it was just used up");
    };
    assert!(retry_after.as_millis() <= 1_000, "{retry_after:?}");
    // Who is patient gets all of them in.
    let mut count = 0;
    let patient = client.submit_many(vec![task.clone(); 40], |submitted| count += submitted.len());
    patient.await.expect("it waits for the rate");
    assert_eq!(count, 40);
    // Of this process of the broker: eight clients and a command line, and then two requests at least.
    for (quota, least) in [("waiting", 9.0), ("submit_rate", 81.0)] {
        let name = format!("tq_quota_refused_tasks_total{{quota=\"{quota}\"}}");
        let count = metrics::sample(broker.url(), &name).await;
        assert!(count >= least, "{count} for {quota}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_attempts_run_than_may_while_nodes_are_killed() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let (mut broker, tq) = broker(&folder).await;
    let client = broker.client().await;
    set(&tq, &["--max-running", "3"]).await;
    let _first = host(&broker, &folder, "first", 4).await;
    let mut second = host(&broker, &folder, "second", 4).await;
    let (ids, _) = submit_at_once(&client, &call("sleep", "100"), 4).await;
    assert_eq!(ids.len(), 32);
    let waiting = eventually("three run", async || {
        let shown = shown(&tq).await;
        (shown["quota_use"]["running"] == 3 && shown["quota_use"]["reason"].is_string())
            .then_some(shown)
    });
    let reason = waiting.await["quota_use"]["reason"].to_string();
    assert!(reason.contains("quota `running` of 3"), "{reason}");
    let last = tq.run(["task", "show", ids.last().expect("one")]).await;
    let says = last
        .stderr
        .contains("it waits: as many attempts of its namespace run");
    // It may have come to run meanwhile.
    assert!(says || !last.text().contains("ready"), "{}", last.stderr);
    broker.kill9_and_restart().await;
    second.kill9_and_restart().await;
    all_end(&client, &ids).await;
    let tasks = tasks(&tq, &ids).await;
    assert!(tasks.iter().all(|task| task["state"] == "succeeded"));
    assert_eq!(at_once(&tasks), 3);
    let used = shown(&tq).await["quota_use"].clone();
    assert_eq!((&used["running"], &used["waiting"]), (&0.into(), &0.into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_budget_is_never_exceeded_and_costs_are_what_attempts_used() {
    const FUEL: u64 = 50_000_000;
    const BUDGET: u64 = 10 * FUEL;
    let folder = tempfile::tempdir().expect("a folder can be made");
    let (mut broker, tq) = broker(&folder).await;
    let client = broker.client().await;
    set(&tq, &["--fuel-per-day", &BUDGET.to_string()]).await;
    let _host = host(&broker, &folder, "host", 8).await;
    let with_fuel = |task: NewTask, fuel| NewTask {
        limits: Some(tq_client::LimitOverrides {
            fuel: Some(fuel),
            ..Default::default()
        }),
        ..task
    };
    let never = client
        .submit(vec![with_fuel(call("spin", ""), BUDGET + 1)])
        .await;
    let never = never.expect_err("it could never start").to_string();
    assert!(never.ends_with("so that it could never start"), "{never}");

    // Those that use nearly nothing, and those that use all that they are given.
    let (mut ids, _) = submit_at_once(&client, &with_fuel(call("echo", "abc"), FUEL), 2).await;
    assert_eq!(ids.len(), 16);
    let (some, _) = submit_at_once(&client, &with_fuel(call("spin", ""), FUEL), 2).await;
    ids.extend(some);
    let spent = eventually("nothing starts any more", async || {
        let used = shown(&tq).await["quota_use"].clone();
        (used["running"] == 0 && used["reason"].is_string()).then_some(used)
    });
    let spent = spent.await;
    let used = spent["fuel"].as_u64().expect("a number");
    assert!(used <= BUDGET && used + FUEL > BUDGET, "{spent}");
    assert!(spent["waiting"].as_u64() > Some(0), "{spent}");
    let reason = spent["reason"].to_string();
    assert!(reason.contains("T00:00:00Z"), "{reason}");

    broker.kill9_and_restart().await;
    let again = shown(&tq).await["quota_use"]["fuel"].clone();
    assert_eq!(again, used, "a restart forgets nothing of it");
    // With what is left of it used up, nobody is let in.
    let rest = with_fuel(call("spin", ""), BUDGET - used);
    for task in client
        .task_page(Some(TaskState::Ready), 100, "")
        .await
        .expect("they are listed")
        .tasks
    {
        client.cancel_task(&task.id).await.expect("it waits");
    }
    let rest = client.submit(vec![rest]).await.expect("something is left");
    all_end(&client, &[rest[0].id.clone()]).await;
    ids.push(rest[0].id.clone());
    let (none, refused) = submit_at_once(&client, &with_fuel(call("echo", ""), 1), 1).await;
    assert_eq!(none.len(), 0, "{refused:?}");
    let said = refused[0].to_string();
    let begins = format!("namespace `default` is held to its budget of {BUDGET} fuel for 20");
    assert!(said.starts_with(&begins), "{said}");
    let middle = format!(": {BUDGET} are used; it resets at 20");
    assert!(
        said.contains(&middle) && said.ends_with("T00:00:00Z"),
        "{said}"
    );
    // Nobody waits for hours.
    let many = client.submit_many([with_fuel(call("echo", ""), 1)], |_| {
        panic!("nothing is left")
    });
    assert!(matches!(many.await, Err(Error::Refused { .. })));

    let tasks = tasks(&tq, &ids).await;
    let attempts: Vec<_> = tasks
        .iter()
        .flat_map(|task| task["attempts"].as_array().expect("a list"))
        .collect();
    let sum = |name: &str| -> u64 {
        let numbers = attempts
            .iter()
            .map(|attempt| attempt["usage"][name].as_u64());
        numbers.map(|number| number.expect(name)).sum()
    };
    for by in ["day", "function", "both"] {
        let cost = tq
            .run(["cost", "--by", by, "--output", "json"])
            .await
            .json();
        let total = &cost["total"];
        assert_eq!(total["attempts"], attempts.len(), "{cost}");
        for name in ["fuel", "wall_ns", "cpu_ns"] {
            assert_eq!(total[name], sum(name), "{name}: {cost}");
        }
        let rows = cost["costs"].as_array().expect("a list");
        let fuel: u64 = rows.iter().filter_map(|row| row["fuel"].as_u64()).sum();
        assert_eq!(total["fuel"], fuel, "{cost}");
        if by == "day" {
            assert!(
                rows.iter().all(|day| day["fuel"].as_u64() <= Some(BUDGET)),
                "{cost}"
            );
        } else {
            let of = |name: &str| rows.iter().filter(|row| row["function"] == name).count();
            assert!(of("faults/echo") >= 1 && of("faults/spin") >= 1, "{cost}");
        }
    }
    let table = tq.run(["cost"]).await.text();
    let header = table.lines().next().expect("a header");
    assert!(
        header.starts_with("FUNCTION") && table.contains("faults/spin"),
        "{table}"
    );
    assert!(
        table.lines().last().expect("a total").starts_with("total"),
        "{table}"
    );
    let wrong = tq.run(["cost", "--from", "yesterday"]).await;
    assert_eq!(wrong.code, Some(2), "{}", wrong.stderr);
}
