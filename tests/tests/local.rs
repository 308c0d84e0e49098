//! Functions that are tried before anybody deploys them: `tq run --local`, `tq test` and `tq dev --watch`.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tq_tests::{Dev, Ran, Tq, guest, within};

/// What `faults` is granted and limited to here.
const MANIFEST: &str = r#"
[limits]
fuel = "20M"
[capabilities]
keyvalue = ["b"]
secrets = ["key"]
env = { A = "1" }
# No host has it, which is of no interest where there is one.
[placement]
require = { gpu = "a100" }
"#;

/// Writes the cases of a module.
fn write_cases(place: &str, cases: &Value) {
    let folder = Path::new(place).join("cases");
    fs::create_dir_all(&folder).expect("the folder can be made");
    fs::write(folder.join("t.json"), cases.to_string()).expect("the disk takes it");
}

/// Runs the cases of a module, and returns what is printed for programs.
async fn tested(place: &str, flags: &[&str]) -> (Option<i32>, Value) {
    let words = ["test", "--output", "json", place];
    let ran = Tq::default().run(words.iter().chain(flags)).await;
    (ran.code, ran.json())
}

/// What was wrong with a case.
fn failures(report: &Value, name: &str) -> String {
    let cases = report["cases"].as_array().expect("it is a list");
    let case = cases.iter().find(|case| case["name"] == name);
    let case = case.unwrap_or_else(|| panic!("there is no `{name}` in {report}"));
    let failures = case["failures"].as_array().expect("it is a list");
    let texts = failures.iter().filter_map(Value::as_str);
    texts.collect::<Vec<_>>().join("\n")
}

async fn local(place: &str, words: &[&str]) -> Ran {
    let all = ["run", "--local", place];
    Tq::default().run(all.iter().chain(words)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn functions_run_where_there_is_no_broker() {
    let folder = tempfile::tempdir().unwrap();
    let place = guest::placed(folder.path(), "faults", MANIFEST);
    let echo = format!("{place}/echo");
    assert_eq!(local(&echo, &["hello"]).await.text(), "hello");
    // The limits of the manifest hold, and a call lowers them.
    let spin = format!("{place}/spin");
    let spun = local(&spin, &["--output", "json", "--fuel", "10M"]).await;
    assert_eq!(spun.code, Some(1), "{}", spun.stderr);
    let task = spun.json();
    assert_eq!(task["outcome"], "fuel_exhausted");
    assert_eq!(task["attempts"][0]["usage"]["fuel"], 10_000_000);
    assert!(!spun.stderr.contains("hint: `tq task"), "{}", spun.stderr);
    // A component has no manifest, and its grants are none.
    let component = guest::example("faults").display().to_string();
    let variable = format!("{component}/variable");
    assert_eq!(local(&variable, &["A"]).await.text(), "");
    let variable = format!("{place}/variable");
    assert_eq!(local(&variable, &["A"]).await.text(), "1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_no_meaning_without_a_broker_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let place = guest::placed(folder.path(), "faults", "");
    let broker = local(&place, &["--broker", "http://127.0.0.1:1"]).await;
    assert_eq!(broker.code, Some(2), "{}", broker.stderr);
    let told = "error: --broker has no meaning for `tq run --local`";
    assert!(broker.stderr.contains(told), "{}", broker.stderr);
    let queue = local(&place, &["--queue", "q"]).await;
    assert_eq!(queue.code, Some(2), "{}", queue.stderr);
    let nowhere = local("nowhere/f", &[]).await;
    assert_eq!(nowhere.code, Some(3), "{}", nowhere.stderr);
    // So is a case that cannot be as it says, with its place.
    let cases = json!({"function": "echo", "keyvalue": {"b b": {"k": "v"}}});
    write_cases(&place, &cases);
    let misnamed = Tq::default().run(["test", &place]).await;
    assert_eq!(misnamed.code, Some(2), "{}", misnamed.stderr);
    let told = "cases/t.json: case `t`: bucket name `b b` has the character ` `";
    assert!(misnamed.stderr.contains(told), "{}", misnamed.stderr);
    let unknown = local(&format!("{place}/ecko"), &[]).await;
    assert_eq!(unknown.code, Some(3), "{}", unknown.stderr);
    assert!(unknown.stderr.contains("echo"), "{}", unknown.stderr);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_module_passes_its_cases() {
    let folder = tempfile::tempdir().unwrap();
    let here = Tq::default().inside(folder.path());
    here.run(["new", "greet"]).await.ok();
    let inside = Tq::default().inside(&folder.path().join("greet"));
    let printed = inside.run(["test"]).await.text();
    let lines: Vec<&str> = printed.lines().collect();
    assert!(
        lines[0].starts_with("ok   greet/greets-by-name "),
        "{printed}"
    );
    assert!(
        lines[0].contains("fuel") && lines[0].contains("memory"),
        "{printed}"
    );
    assert!(printed.contains("\n2 passed, 0 failed;"), "{printed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_case_has_what_it_says_around_it_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let place = guest::placed(folder.path(), "faults", MANIFEST);
    let pair = json!({"bucket": "b", "key": "k", "value": "v"});
    let mut cases = vec![
        json!({"name": "echo", "function": "echo", "input_base64": "/wA=", "output_base64": "/wA="}),
        json!({"name": "fatal", "function": "fail_fatal", "input_text": "not today", "outcome": "fatal_error", "message": "today"}),
        json!({"name": "spin", "function": "spin", "outcome": "fuel_exhausted"}),
        json!({"name": "unknown", "function": "ecko", "outcome": "refused", "message": "ecko"}),
        json!({"name": "set", "function": "set_key", "input": pair, "keyvalue": {"b": {"old": "o"}},
            "keyvalue_after": {"b": {"old": "o", "k": "v"}}}),
        // What the case before has set is gone.
        json!({"name": "missing", "function": "get_key", "input": pair, "outcome": "fatal_error", "message": "it is not there"}),
        json!({"name": "get", "function": "get_key", "input": pair, "keyvalue": {"b": {"k": {"json": [1]}}}, "output": [1.0]}),
        json!({"name": "secret", "function": "tell_secret", "input_text": "key", "secrets": {"key": "s3cret-1"},
            "output_text": "8 bytes: [redacted]"}),
        json!({"name": "no-secret", "function": "tell_secret", "input_text": "key", "outcome": "fatal_error"}),
        json!({"name": "granted", "function": "variable", "input_text": "A", "output_text": "1"}),
        json!({"name": "variable", "function": "variable", "input_text": "A", "env": {"A": "2"}, "output_text": "2"}),
    ];
    // Many that fail, as they are expected to, do not keep the next from starting.
    for index in 0..30 {
        let name = format!("retried-{index}");
        cases.push(json!({"name": name, "function": "fail_retryable", "input_text": "x", "outcome": "retryable_error"}));
    }
    let count = cases.len();
    write_cases(&place, &Value::Array(cases));
    let (code, report) = tested(&place, &[]).await;
    assert_eq!(
        (code, &report["passed"]),
        (Some(0), &json!(count)),
        "{report:#}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_not_expected_is_told_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let place = guest::placed(folder.path(), "faults", MANIFEST);
    let cases = json!([
        {"name": "output", "function": "echo", "input": {"a": [1, 2]}, "output": {"a": [1, 3], "b": 0}},
        {"name": "outcome", "function": "fail_fatal", "input_text": "no", "outcome": "trap"},
        {"name": "message", "function": "fail_fatal", "input_text": "no", "outcome": "fatal_error", "message": "yes"},
        {"name": "success", "function": "echo", "outcome": "fatal_error"},
        {"name": "after", "function": "echo", "keyvalue": {"b": {"k": "v"}}, "keyvalue_after": {"b": {"l": "v"}}},
        {"name": "panic", "function": "panic", "input_text": "no such colour"},
    ]);
    write_cases(&place, &cases);
    let (code, report) = tested(&place, &[]).await;
    assert_eq!(
        (code, &report["failed"]),
        (Some(1), &json!(6)),
        "{report:#}"
    );
    for (name, expected) in [
        (
            "output",
            "output.a[1] is 2, expected 3\noutput.b is missing, expected 0",
        ),
        ("outcome", "it ended fatal_error, expected trap: no"),
        (
            "message",
            "its message is \"no\", and has not \"yes\" in it",
        ),
        (
            "success",
            "it succeeded, expected fatal_error; its output is \"\"",
        ),
        (
            "after",
            "key `l` of bucket `b` is not there\nkey `k` of bucket `b` is \"v\", and was not expected",
        ),
    ] {
        assert_eq!(failures(&report, &format!("t/{name}")), expected);
    }
    let panic = failures(&report, "t/panic");
    assert!(panic.starts_with("it ended trap: panicked at "), "{panic}");
    assert_eq!(
        report["cases"][5]["log"]
            .as_str()
            .map(|log| log.contains("no such colour")),
        Some(true)
    );

    // People see the same, and a filter leaves the others out.
    let shown = Tq::default().run(["test", &place, "output"]).await;
    assert_eq!(shown.code, Some(1), "{}", shown.stderr);
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    let failed = "\n     output.a[1] is 2, expected 3\n     output.b is missing, expected 0\n\n0 passed, 1 failed;";
    assert!(
        shown.starts_with("FAIL t/output ") && shown.contains(failed),
        "{shown}"
    );
    let none = Tq::default().run(["test", &place, "nothing"]).await;
    assert_eq!(none.code, Some(3), "{}", none.stderr);
    assert!(
        none.stderr
            .contains("hint: there are t/output, t/outcome, "),
        "{}",
        none.stderr
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_are_answered_by_the_case_and_reach_no_network() {
    let folder = tempfile::tempdir().unwrap();
    let grants = "[capabilities]\nhttp = [\"GET https://a.invalid\"]\n";
    let place = guest::placed(folder.path(), "fetch", grants);
    let answer = json!({"url": "https://a.invalid/x", "status": 404, "headers": {"x-a": "1"}, "body_text": "gone"});
    let cases = json!([
        {"name": "answered", "input": {"url": "https://a.invalid/x"}, "http": [answer],
            "output": {"status": 404, "headers": [["x-a", "1"]], "body": "gone"}},
        {"name": "unanswered", "input": {"url": "https://a.invalid/y"}, "http": [answer], "outcome": "fatal_error"},
        {"name": "ungranted", "input": {"url": "https://b.invalid/"}, "outcome": "fatal_error", "message": "HttpRequestDenied"},
    ]);
    write_cases(&place, &cases);
    let (code, report) = tested(&place, &[]).await;
    assert_eq!(
        (code, &report["passed"]),
        (Some(1), &json!(2)),
        "{report:#}"
    );
    let expected = "there is no answer to `GET https://a.invalid/y`; add one to `http`: \
        {\"method\": \"GET\", \"url\": \"https://a.invalid/y\", \"status\": 200, \"body\": {}}\n\
        the answer to `GET https://a.invalid/x` was not asked for";
    assert_eq!(failures(&report, "t/unanswered"), expected);
    let log = report["cases"][1]["log"].as_str().expect("it has one");
    let told = "tq: request to https://a.invalid failed: there is no network here, and no answer to `GET https://a.invalid/y`";
    assert!(log.contains(told), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fuel_is_the_same_each_time_and_is_held_to_what_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let place = guest::placed(folder.path(), "faults", "");
    // Clocks, randomness and the id of the task are in what they use.
    write_cases(
        &place,
        &json!([{"name": "context", "function": "context"}, {"name": "random", "function": "randomness", "outcome": "retryable_error"}]),
    );
    let (code, _) = tested(&place, &["--update-baseline"]).await;
    assert_eq!(code, Some(0));
    let baseline = Path::new(&place).join("fuel.json");
    let fuel: Value = serde_json::from_slice(&fs::read(&baseline).unwrap()).unwrap();
    let (code, report) = tested(&place, &[]).await;
    assert_eq!(code, Some(0), "{report:#}");
    for case in ["t/context", "t/random"] {
        let cases = report["cases"].as_array().unwrap();
        let ran = cases.iter().find(|ran| ran["name"] == case).unwrap();
        assert_eq!(
            (&ran["fuel"], &ran["fuel_baseline"]),
            (&fuel[case], &fuel[case])
        );
    }

    let used = fuel["t/context"].as_u64().unwrap();
    let lowered = json!({"t/context": used * 9 / 10, "t/random": 1_000_000_000});
    fs::write(&baseline, lowered.to_string()).unwrap();
    let ran = Tq::default().run(["test", &place]).await;
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    let shown = String::from_utf8_lossy(&ran.stdout).into_owned();
    assert!(shown.contains("of fuel, 11 % more than the "), "{shown}");
    assert!(
        shown.contains("less than the 1,000,000,000 of the baseline"),
        "{shown}"
    );
    assert!(ran.stderr.contains("renews the baseline"), "{}", ran.stderr);
    // One case is renewed, and the other stays.
    let (code, _) = tested(&place, &["context", "--update-baseline"]).await;
    assert_eq!(code, Some(0));
    let renewed: Value = serde_json::from_slice(&fs::read(&baseline).unwrap()).unwrap();
    assert_eq!(
        renewed,
        json!({"t/context": used, "t/random": 1_000_000_000})
    );
    let missing = Tq::default()
        .run(["test", &place, "--fuel-baseline", "nowhere.json"])
        .await;
    assert_eq!(missing.code, Some(3), "{}", missing.stderr);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn saved_source_is_deployed_and_a_failed_build_waits_for_the_next_save() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("module");
    fs::create_dir(&place).unwrap();
    // Builds the second of two components if the source says so.
    fs::copy(guest::example("word-count"), place.join("one.wasm")).unwrap();
    fs::copy(guest::example("faults"), place.join("two.wasm")).unwrap();
    let manifest = "[module]\nname = \"m\"\nbuild = \"mkdir -p target && cp $(cat source.txt).wasm target/m.wasm\"\nartifact = \"target/m.wasm\"\n";
    fs::write(place.join("tq.toml"), manifest).unwrap();
    // As editors save: there is no moment at which half of it is there.
    let save = |text: &str| {
        fs::write(place.join("source.txt.tmp"), text).unwrap();
        fs::rename(place.join("source.txt.tmp"), place.join("source.txt")).unwrap();
    };
    save("one");
    let watched = place.display().to_string();
    let flags = ["--watch", &watched];
    let mut dev = Dev::start_with(&folder.path().join("data"), 2, &flags).await;
    let told = dev.process.line("deployed m@1: ").await;
    assert!(told.contains("top"), "{told}");

    save("three");
    dev.process.line("source.txt changed").await;
    dev.process
        .line("not deployed; waiting for the next change")
        .await;
    // What is no source does not count: the next line is about the next save.
    fs::create_dir_all(place.join("target")).unwrap();
    fs::write(place.join("target/other"), "").unwrap();
    fs::write(place.join("source.txt~"), "").unwrap();
    save("two");
    let told = dev.process.line("deployed m@2: ").await;
    assert!(told.contains("echo"), "{told}");
    let echoed = dev.tq().run(["run", "m/echo", "hello"]).await;
    assert_eq!(echoed.text(), "hello");
    let changed = dev.process.log().matches(" changed").count();
    assert_eq!(changed, 2, "{}", dev.process.log());
    within("it stops", dev.process.stop()).await;
}
