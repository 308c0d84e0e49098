//! Ends of tasks are told to endpoints: signed, again if that fails, and at least once whatever happens to the broker.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;
use serde_json::Value;
use tq_client::{Client, NewTask, NewWebhook};
use tq_tests::{Broker, Dev, HttpServer, Tq, eventually, guest, metrics};

const LOOPBACK: &[&str] = &["--webhook-allow-network", "127.0.0.1/32"];

/// A program that ends well at once, or traps.
fn program(folder: &Path, name: &str, body: &str) -> PathBuf {
    let text = format!(
        r#"
(component
  (core module $main (func (export "run") (result i32) {body}))
  (core instance $main (instantiate $main))
  (func $run (result (result)) (canon lift (core func $main "run")))
  (instance $command (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $command)))
"#
    );
    guest::written(folder, name, &text)
}

/// A request to a webhook, as its receiver reads it.
#[derive(Clone, Debug)]
struct Told {
    id: String,
    attempt: u32,
    body: Value,
}

fn header<'a>(head: &'a str, name: &str) -> &'a str {
    let found = head.lines().find_map(|line| {
        let (found, value) = line.split_once(": ")?;
        found.eq_ignore_ascii_case(name).then_some(value)
    });
    found.unwrap_or_else(|| panic!("there is no {name} in {head}"))
}

/// What a receiver was told so far. Each request has to be signed as the specification says, which is checked by hand here.
fn told(server: &HttpServer, secret: &str) -> Vec<Told> {
    let secret = STANDARD.decode(secret.strip_prefix("whsec_").expect("it is a secret"));
    let key = hmac::Key::new(hmac::HMAC_SHA256, &secret.expect("it is base64"));
    let requests = server.requests().into_iter();
    requests
        .map(|(head, body)| {
            let id = header(&head, "webhook-id");
            let timestamp = header(&head, "webhook-timestamp");
            let signed = [format!("{id}.{timestamp}.").as_bytes(), &body[..]].concat();
            let signature = header(&head, "webhook-signature").strip_prefix("v1,");
            let signature = STANDARD.decode(signature.expect("it is of version 1"));
            let signature = signature.expect("it is base64");
            hmac::verify(&key, &signed, &signature).expect("the signature holds");
            Told {
                id: id.to_owned(),
                attempt: header(&head, "tq-attempt").parse().expect("a number"),
                body: serde_json::from_slice(&body).expect("JSON"),
            }
        })
        .collect()
}

async fn create(client: &Client, server: &HttpServer, events: &[&str]) -> String {
    let new = NewWebhook {
        name: "orders".to_owned(),
        url: format!("http://{}/hook", server.address),
        events: events.iter().map(|event| (*event).to_owned()).collect(),
        functions: vec!["well".to_owned()],
    };
    let (_, secret) = client.create_webhook(new).await.expect("it is made");
    secret
}

async fn shown(tq: &Tq) -> Value {
    let words = ["webhook", "show", "orders", "--output", "json"];
    tq.run(words).await.json()
}

async fn delivered(tq: &Tq, count: u64) -> Value {
    eventually("everything is delivered", async || {
        let shown = shown(tq).await;
        (shown["delivered"] == count && shown["pending"] == 0).then_some(shown)
    })
    .await
}

/// A broker alone: what it has taken in waits, and ends when it is cancelled.
async fn broker(folder: &Path) -> Broker {
    let broker = Broker::start_with(&folder.join("data"), LOOPBACK).await;
    let program = program(folder, "well", "i32.const 0");
    broker.tq().deploy(&program, "well", &[]).await;
    broker
}

/// Submits tasks and cancels them, and returns their ids.
async fn cancelled(client: &Client, count: usize) -> BTreeSet<String> {
    let task = NewTask {
        function: "well".to_owned(),
        ..NewTask::default()
    };
    let submitted = client
        .submit(vec![task; count])
        .await
        .expect("they are taken in");
    let ids: BTreeSet<String> = submitted.into_iter().map(|task| task.id).collect();
    for id in &ids {
        client.cancel_task(id).await.expect("it waits");
    }
    ids
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ends_are_told_signed_and_only_those_that_were_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let flags = ["--allow-network", "127.0.0.1/32"];
    let dev = Dev::start_with(&folder.path().join("data"), 2, &flags).await;
    let (tq, client, server) = (dev.tq(), dev.client().await, HttpServer::start().await);
    for (name, body) in [("well", "i32.const 0"), ("traps", "unreachable")] {
        let program = program(folder.path(), name, body);
        tq.deploy(&program, name, &["--max-attempts", "1"]).await;
    }
    tq.run(["run", "traps"]).await;
    let url = format!("http://{}/hook?of=tq", server.address);
    let words = ["webhook", "create", "orders", "--url", &url];
    let created = tq
        .run(words.into_iter().chain(["--event", "task.dead"]))
        .await;
    let secret = created.text().trim().to_owned();
    let again = tq.run(words).await;
    assert_eq!(again.code, Some(4), "{}", again.stderr);

    tq.run(["run", "well"]).await.ok();
    let died = tq.run(["run", "traps"]).await;
    assert_eq!(died.code, Some(1), "{}", died.stderr);
    delivered(&tq, 1).await;
    let heard = told(&server, &secret);
    let [of_death] = &heard[..] else {
        panic!("{heard:?}");
    };
    assert_eq!(of_death.attempt, 1);
    assert_eq!(of_death.body["type"], "task.dead");
    let data = &of_death.body["data"];
    assert_eq!(data["outcome"], "trap");
    assert_eq!(data["namespace"], "default");
    assert_eq!(data["payload"], Value::Null);
    let timestamp = of_death.body["timestamp"].as_str().unwrap();
    assert!(timestamp.ends_with('Z'), "{timestamp}");
    // It is the task as `/v1` shows it.
    let id = data["id"].as_str().unwrap();
    let address = format!("{}/v1/tasks/{id}", dev.url());
    let by_rest = tokio::task::spawn_blocking(move || {
        let mut answer = ureq::get(address).call().unwrap();
        let text = answer.body_mut().read_to_string().unwrap();
        serde_json::from_str::<Value>(&text).unwrap()
    });
    let mut by_rest = by_rest.await.unwrap();
    by_rest
        .as_object_mut()
        .unwrap()
        .retain(|field, _| field != "payload");
    assert_eq!(*data, by_rest);

    let tested = tq
        .run(["webhook", "test", "orders", "--output", "json"])
        .await;
    assert_eq!(tested.json()["status"], 200);
    let heard = told(&server, &secret);
    assert_eq!(heard.last().unwrap().body["type"], "ping");
    let listed = tq.run(["webhook", "list"]).await.text();
    assert!(
        listed.contains("orders") && !listed.contains(&secret),
        "{listed}"
    );
    let log = tq.run(["webhook", "deliveries", "orders"]).await.text();
    assert!(
        log.contains("task.dead") && log.contains(&of_death.id),
        "{log}"
    );

    // What was delivered is delivered again if someone wants that, as the same event.
    tq.run(["webhook", "redeliver", "orders", &of_death.id])
        .await
        .ok();
    delivered(&tq, 2).await;
    let last = told(&server, &secret).pop().unwrap();
    assert_eq!((&last.id, &last.body), (&of_death.id, &of_death.body));
    let missing = tq
        .run(["webhook", "redeliver", "orders", "msg_1_1_1"])
        .await;
    assert_eq!(missing.code, Some(3), "{}", missing.stderr);
    tq.run(["webhook", "delete", "orders"]).await.ok();
    assert_eq!(client.webhooks().await.unwrap(), Vec::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn delivery_that_fails_is_tried_again_under_its_id() {
    let folder = tempfile::tempdir().unwrap();
    let broker = broker(folder.path()).await;
    let (tq, client, server) = (
        broker.tq(),
        broker.client().await,
        HttpServer::start().await,
    );
    let secret = create(&client, &server, &[]).await;
    server.answer_with([500, 302]);
    cancelled(&client, 1).await;
    let shown = delivered(&tq, 1).await;
    assert_eq!(
        (&shown["given_up"], &shown["missed"]),
        (&0.into(), &0.into())
    );
    let heard = told(&server, &secret);
    let ids: BTreeSet<_> = heard.iter().map(|told| &told.id).collect();
    let attempts: Vec<_> = heard.iter().map(|told| told.attempt).collect();
    assert_eq!((ids.len(), attempts), (1, vec![1, 2, 3]), "{heard:?}");
    let bodies: BTreeSet<_> = heard.iter().map(|told| told.body.to_string()).collect();
    assert_eq!(bodies.len(), 1, "{bodies:?}");
    let log = client.deliveries("orders", false, 0).await.unwrap();
    let log: Vec<_> = log
        .iter()
        .map(|tried| {
            (
                tried.attempt,
                tried.status,
                &tried.error[..],
                tried.next_ms > 0,
            )
        })
        .collect();
    assert_eq!(
        log,
        [
            (3, 200, "", false),
            (
                2,
                302,
                "the endpoint answered 302, and redirects are not followed",
                true
            ),
            (1, 500, "the endpoint answered 500", true),
        ]
    );
    assert_eq!(client.deliveries("orders", true, 0).await.unwrap().len(), 2);
    let failed = "tq_webhook_attempts_total{outcome=\"failed\"}";
    assert_eq!(metrics::sample(broker.url(), failed).await as u64, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_event_arrives_although_the_broker_is_killed_and_a_repeat_is_known_by_its_id() {
    let folder = tempfile::tempdir().unwrap();
    let mut broker = broker(folder.path()).await;
    let (client, server) = (broker.client().await, HttpServer::start().await);
    let secret = create(&client, &server, &[]).await;
    server.hold(true);
    let ids = cancelled(&client, 200).await;
    // Each time some requests are under way that nobody answers, also those of the start after a kill.
    for answered_least in [0, 60, 120, 0] {
        eventually("so many are delivered", async || {
            (server.requests().len() >= answered_least).then_some(())
        })
        .await;
        let before = match answered_least {
            0 => 0,
            _ => {
                server.hold(true);
                server.requests().len()
            }
        };
        eventually("some are under way", async || {
            (server.requests().len() > before).then_some(())
        })
        .await;
        broker.kill9_and_restart().await;
        server.hold(false);
    }
    eventually("nothing is left to deliver", async || {
        let shown = broker.client().await.webhook("orders").await.unwrap();
        (shown.pending == 0 && shown.delivered >= 200).then_some(())
    })
    .await;
    let heard = told(&server, &secret);
    let mut by_task: BTreeMap<String, Vec<&Told>> = BTreeMap::new();
    for told in &heard {
        let task = told.body["data"]["id"].as_str().unwrap().to_owned();
        by_task.entry(task).or_default().push(told);
    }
    assert_eq!(by_task.keys().cloned().collect::<BTreeSet<_>>(), ids);
    let mut repeats = 0;
    for of_task in by_task.values() {
        let names: BTreeSet<_> = of_task.iter().map(|told| &told.id).collect();
        assert_eq!(names.len(), 1, "{of_task:?}");
        let attempts: BTreeSet<_> = of_task.iter().map(|told| told.attempt).collect();
        assert_eq!(attempts.len(), of_task.len(), "{of_task:?}");
        repeats += of_task.len() - 1;
    }
    assert!(repeats > 0, "no request was under way at a kill");
    let shown = broker.client().await.webhook("orders").await.unwrap();
    assert_eq!((shown.delivered, shown.given_up, shown.missed), (200, 0, 0));
    let log = broker.client().await.deliveries("orders", false, 500).await;
    assert!(log.unwrap().iter().any(|tried| tried.after_restart));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn paused_webhook_tells_what_ended_meanwhile_when_it_is_resumed() {
    let folder = tempfile::tempdir().unwrap();
    let mut broker = broker(folder.path()).await;
    let (tq, client, server) = (
        broker.tq(),
        broker.client().await,
        HttpServer::start().await,
    );
    let secret = create(&client, &server, &["task.cancelled"]).await;
    tq.run(["webhook", "pause", "orders"]).await.ok();
    let ids = cancelled(&client, 20).await;
    broker.kill9_and_restart().await;
    assert_eq!(shown(&tq).await["paused"], "someone paused it");
    assert_eq!(server.requests().len(), 0);
    tq.run(["webhook", "resume", "orders"]).await.ok();
    delivered(&tq, 20).await;
    let heard = told(&server, &secret);
    let heard = heard.iter().map(|told| told.body["data"]["id"].as_str());
    assert_eq!(
        heard.flatten().map(str::to_owned).collect::<BTreeSet<_>>(),
        ids
    );

    // One that wants no more is asked no more.
    server.answer_with([410]);
    cancelled(&broker.client().await, 1).await;
    let gone = eventually("it is paused", async || {
        let shown = shown(&tq).await;
        (shown["paused"] != "").then_some(shown)
    })
    .await;
    assert_eq!(
        gone["paused"],
        "the endpoint answered 410, which says that it wants no more"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_the_internet_is_reached_only_if_it_was_opened() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start(&folder.path().join("data")).await;
    let (tq, server) = (broker.tq(), HttpServer::start().await);
    let port = server.address.port();
    let create = async |name: &str, url: String| {
        let words = ["webhook", "create", name, "--url", &url];
        tq.run(words).await
    };
    let refused = create("clear", format!("http://localhost:{port}/")).await;
    assert_eq!(refused.code, Some(4), "{}", refused.stderr);
    assert!(
        refused.stderr.contains("events go by `https`"),
        "{}",
        refused.stderr
    );
    let refused = create("address", format!("https://127.0.0.1:{port}/")).await;
    assert!(
        refused.stderr.contains("it is loopback"),
        "{}",
        refused.stderr
    );
    // A name is looked up when something is sent.
    create("name", format!("https://localhost:{port}/"))
        .await
        .ok();
    let tested = tq.run(["webhook", "test", "name"]).await;
    assert_eq!(tested.code, Some(1), "{}", tested.stderr);
    let told = tested.stdout;
    let told = String::from_utf8_lossy(&told);
    assert!(
        told.contains("may not be reached: it is loopback"),
        "{told}"
    );
    assert_eq!(server.requests().len(), 0);
}
