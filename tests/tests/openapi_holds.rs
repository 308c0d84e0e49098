//! What `/v1/openapi.json` promises holds: a stranger's program (schemathesis) makes thousands of requests of it, good and bad ones, and
//! compares the answers with it.

use std::io::Write as _;
use std::path::Path;

use tq_tests::toolchains::{FIX, run_client};
use tq_tests::{Broker, Guarded, requirement};

/// What a schema cannot say is refused too: which letters a name has, that one of two is given.
const NOT_SAID: &str = "positive_data_acceptance";

/// Of what is drawn, so that a failure comes again.
const SEED: u32 = 20_261_128;

/// Has a broker tested: with so many random requests for each operation beside those of the other phases, with further `flags`, and
/// without the checks `but`.
async fn check(test: &str, url: &str, examples: u32, flags: &[&str], but: &str, folder: &Path) {
    let (seed, examples) = (SEED.to_string(), examples.to_string());
    let document = format!("{url}/v1/openapi.json");
    let mut words = vec![
        "run",
        &document,
        "--seed",
        &seed,
        "--max-examples",
        &examples,
        "--phases",
        "examples,coverage,fuzzing,stateful",
        "--checks",
        "all",
        "--exclude-checks",
        but,
        // Has no end.
        "--exclude-path",
        "/v1/tasks/events",
        "--request-timeout",
        "30",
        "--warnings",
        "off",
        "--no-color",
    ];
    words.extend(flags);
    let Some(ran) = run_client("schemathesis", words, folder).await else {
        return requirement::skip(test, &format!("schemathesis is not there: {FIX}"));
    };
    let told = String::from_utf8_lossy(&ran.stdout);
    assert_eq!(ran.code, Some(0), "seed {SEED}: {told}{}", ran.stderr);
    let cases = told
        .lines()
        .find_map(|line| line.trim().split_once(" generated"))
        .and_then(|(cases, _)| cases.parse::<u32>().ok())
        .unwrap_or_default();
    // Nothing is left to be done about a standard error that is gone.
    drop(writeln!(
        std::io::stderr(),
        "{test}: {cases} requests, seed {SEED}"
    ));
    assert!(cases > 1_000, "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn document_says_what_an_open_broker_answers() {
    let test = "document_says_what_an_open_broker_answers";
    let folder = tempfile::tempdir().expect("a folder can be made");
    let broker = Broker::start(&folder.path().join("data")).await;
    check(test, broker.url(), 25, &[], NOT_SAID, folder.path()).await;
    broker.process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn document_says_what_a_broker_with_access_control_answers() {
    let test = "document_says_what_a_broker_with_access_control_answers";
    let folder = tempfile::tempdir().expect("a folder can be made");
    let guarded = Guarded::start(&folder.path().join("data")).await;
    let key = guarded.key("admin", &[]).await;
    let header = format!("Authorization: Bearer {key}");
    // Those would end the very key that is shown.
    let flags = ["--header", &header, "--exclude-path-regex", "^/v1/keys/"];
    // Nor is asked for anything else than a credential, by who has shown too many wrong ones: that is a 429.
    let but = format!("{NOT_SAID},missing_required_header");
    let url = guarded.broker.url();
    check(test, url, 10, &flags, &but, folder.path()).await;
    // Or most of it was about refusals.
    guarded.tq(&key).run(["whoami"]).await.ok();
    guarded.broker.process.stop().await;
}
