//! What somebody is told who does the first steps in the wrong order, or with the wrong words.

use tq_tests::{Broker, Dev, Host, guest};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_for_a_task_is_told_that_there_is_no_host() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start(folder.path()).await;
    let tq = broker.tq();
    tq.deploy(&guest::example("faults"), "faults", &[]).await;
    // The deadline ends the wait.
    for words in [
        &["run", "faults/echo", "x", "--deadline", "4s"][..],
        &["submit", "faults/echo", "x", "--deadline", "4s", "--wait"],
    ] {
        let waited = tq.run(words).await;
        assert_eq!(waited.code, Some(1), "{}", waited.stderr);
        let told = format!(
            "still waiting: broker at `{url}` has no host, so nothing runs\n\
             hint: start one with `tq host --broker {url}` in another terminal",
            url = broker.url()
        );
        assert!(waited.stderr.contains(&told), "{}", waited.stderr);
    }
    broker.process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn host_tells_that_its_broker_is_away() {
    let folder = tempfile::tempdir().unwrap();
    let mut broker = Broker::start(&folder.path().join("broker")).await;
    broker.process.kill9().await;
    let mut host = Host::launch(&broker, &folder.path().join("host"), "early", 1);
    let told = host.process.line("still waiting: no session").await;
    assert!(told.contains(broker.url()), "{told}");
    host.process
        .line("hint: if none runs there, start one with `tq broker`")
        .await;
    // It was right to wait.
    broker.restart().await;
    host.process.line("is ready to work").await;
    host.process.stop().await;
    broker.process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn payload_that_a_function_refuses_is_shown() {
    let folder = tempfile::tempdir().unwrap();
    let dev = Dev::start(folder.path(), 2).await;
    let tq = dev.tq();
    tq.deploy(&guest::example("word-count"), "word-count", &[])
        .await;
    let refused = tq.run(["run", "word-count/top", "{text:a,n:1}"]).await;
    assert_eq!(refused.code, Some(1), "{}", refused.stderr);
    for told in [
        "after 1 attempt: invalid_input\npayload is not the expected JSON: ",
        "\nhint: it was given `{text:a,n:1}` (text/plain), which is no JSON; a shell leaves JSON alone in single quotes; correct that",
    ] {
        assert!(refused.stderr.contains(told), "{}", refused.stderr);
    }
    dev.process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn crate_without_the_attribute_is_refused_with_what_it_lacks() {
    let folder = tempfile::tempdir().unwrap();
    let dev = Dev::start(&folder.path().join("data"), 2).await;
    let here = dev.tq().inside(folder.path());
    here.run(["new", "greet"]).await.ok();
    let source = folder.path().join("greet/src/main.rs");
    let text = std::fs::read_to_string(&source).unwrap();
    std::fs::write(&source, text.replace("#[tq_sdk::task]", "")).unwrap();
    let refused = here.run(["deploy", "greet"]).await;
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    let told = "error: crate in `greet` has no function that can be called\n\
                hint: put `#[tq_sdk::task]` over each function that tasks may call";
    assert!(refused.stderr.contains(told), "{}", refused.stderr);
    dev.process.stop().await;
}
