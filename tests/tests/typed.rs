//! Functions with types of their own: deployed, described and called with JSON through the binary, in one process and in runner
//! processes.

use serde_json::{Value, json};
use tempfile::TempDir;
use tq_tests::{Broker, Dev, Ran, failure, guest, within};

const ORDER: &str = r#"{"order":{
    "items":[{"name":"tea","price":2.5,"quantity":4},{"name":"cup","price":10,"quantity":1}],
    "currency":"eur","discount":{"percent":10},"wishes":["express"]}}"#;

/// A node that runs guests there (`none` is in its own process), with the example deployed.
async fn node(isolation: &str) -> (TempDir, Dev) {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let flags = ["--isolation", isolation];
    let dev = Dev::start_with(&folder.path().join("data"), 2, &flags).await;
    let place = guest::placed(folder.path(), "typed", "");
    dev.tq().run(["deploy", &place]).await.ok();
    (folder, dev)
}

async fn call(dev: &Dev, function: &str, payload: &str) -> Ran {
    let function = format!("typed/{function}");
    dev.tq().run(["run", &function, payload]).await
}

async fn result(dev: &Dev, function: &str, payload: &str) -> Value {
    let ran = call(dev, function, payload).await;
    ran.ok();
    ran.json()
}

async fn values_are_mapped_both_ways(isolation: &str) {
    let (_folder, dev) = node(isolation).await;
    assert_eq!(result(&dev, "add", r#"{"a":2,"b":-5}"#).await, json!(-3));
    assert_eq!(
        result(&dev, "reverse", r#"{"data":"AQID"}"#).await,
        json!("AwIB")
    );
    assert_eq!(
        result(&dev, "sum", r#"{"numbers":[1,"2"]}"#).await,
        json!(3)
    );
    let large = r#"{"numbers":["9007199254740993",0]}"#;
    assert_eq!(result(&dev, "sum", large).await, json!("9007199254740993"));
    let over = r#"{"numbers":["18446744073709551615",1]}"#;
    assert_eq!(result(&dev, "sum", over).await, Value::Null);
    let receipt = json!({
        "total": 25.5,
        "currency": "eur",
        "lines": [["tea", 10.0], ["cup", 10.0], ["express", 7.5]],
        "note": null,
    });
    assert_eq!(result(&dev, "total", ORDER).await, receipt);
    // By its other name it is the same function.
    let full = "demo:shop/orders@0.1.0#total";
    assert_eq!(result(&dev, full, ORDER).await, receipt);
    within("it stops", dev.process.stop()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_are_mapped_both_ways_in_one_process() {
    values_are_mapped_both_ways("none").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_are_mapped_both_ways_in_runner_processes() {
    values_are_mapped_both_ways("process").await;
}

async fn an_error_is_the_tasks_failure(isolation: &str) {
    let (_folder, dev) = node(isolation).await;
    let ended = async |order: &str| {
        let words = ["run", "--output", "json", "typed/total", order];
        let ran = dev.tq().run(words).await;
        assert_eq!(ran.code, Some(1), "{}", ran.stderr);
        ran.json()
    };
    let order = |items: &str, discount: &str| {
        format!(
            r#"{{"order":{{"items":[{items}],"currency":"usd","discount":{discount},"wishes":[]}}}}"#
        )
    };
    let empty = ended(&order("", "\"none\"")).await;
    assert_eq!(
        (&empty["outcome"], failure(&empty)),
        (&json!("fatal_error"), "\"no-items\"")
    );
    assert_eq!(
        empty["attempts"].as_array().map(Vec::len),
        Some(1),
        "{empty}"
    );
    let item = r#"{"name":"tea","price":1,"quantity":1}"#;
    let high = ended(&order(item, r#"{"percent":90}"#)).await;
    assert_eq!(failure(&high), r#"{"discount-too-high":90}"#);
    within("it stops", dev.process.stop()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_is_the_tasks_failure_in_one_process() {
    an_error_is_the_tasks_failure("none").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_is_the_tasks_failure_in_runner_processes() {
    an_error_is_the_tasks_failure("process").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn payload_that_cannot_fit_is_refused_at_submit_with_its_place() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    // Without a host: nothing has to run to refuse it.
    let broker = Broker::start(&folder.path().join("broker")).await;
    let place = guest::placed(folder.path(), "typed", "");
    broker.tq().run(["deploy", &place]).await.ok();
    for (function, payload, expected) in [
        (
            "add",
            r#"{"a":2}"#,
            "at `$.b`: expected s32 (a whole number from -2147483648 to 2147483647), got nothing",
        ),
        (
            "add",
            "2",
            "at `$`: expected an object with the arguments `a`, `b`, got 2",
        ),
        (
            "add",
            "[1,2]",
            "at `$`: expected an object with the arguments `a`, `b`, got an array",
        ),
        (
            "reverse",
            r#"{"data":[1]}"#,
            "at `$.data`: expected a string in base64, with padding, got an array",
        ),
        (
            "total",
            r#"{"order":{"items":[{"name":"tea","price":"2.5","quantity":4}]}}"#,
            r#"at `$.order.items[0].price`: expected f64 (a number, "NaN", "Infinity" or "-Infinity"), got "2.5""#,
        ),
        (
            "total",
            r#"{"order":{"items":[],"currency":"gbp"}}"#,
            r#"at `$.order.currency`: expected one of "eur", "usd", "jpy", got "gbp""#,
        ),
    ] {
        let name = format!("typed/{function}");
        let refused = broker.tq().run(["submit", &name, payload]).await;
        assert_eq!(refused.code, Some(4), "{}", refused.stderr);
        let expected = format!(
            "payload does not fit `typed/{function}`: {expected}\nhint: `tq describe typed@1` shows what it takes"
        );
        assert!(refused.stderr.contains(&expected), "{}", refused.stderr);
    }
    let missing = broker.tq().run(["submit", "typed/totl", "{}"]).await;
    assert_eq!(missing.code, Some(3));
    assert!(
        missing.stderr.contains("did you mean `total`"),
        "{}",
        missing.stderr
    );
    // What fits waits for a host, over a restart of the broker too, which reads the types again.
    let mut broker = broker;
    broker.kill9_and_restart().await;
    broker.tq().run(["submit", "typed/total", ORDER]).await.ok();
    let refused = broker.tq().run(["submit", "typed/total", "{}"]).await;
    assert!(
        refused.stderr.contains("at `$.order`"),
        "{}",
        refused.stderr
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn functions_are_described_with_a_line_that_runs() {
    let (_folder, dev) = node("none").await;
    let described = dev.tq().run(["describe", "typed"]).await.text();
    assert_eq!(
        described,
        r#"typed@1  typed

add: func(a: s32, b: s32) -> s32
  payload  {"a":1,"b":1}
  run it   tq run typed/add '{"a":1,"b":1}'

reverse: func(data: list<u8>) -> list<u8>
  payload  {"data":"Ynl0ZXM="}
  run it   tq run typed/reverse '{"data":"Ynl0ZXM="}'

sum: func(numbers: list<u64>) -> option<u64>
  payload  {"numbers":[1]}
  run it   tq run typed/sum '{"numbers":[1]}'

total: func(order: order) -> result<receipt, problem>
  record order { items: list<item>, currency: currency, discount: discount, wishes: wishes, note: option<string> }
  record item { name: string, price: f64, quantity: u32 }
  enum currency { eur, usd, jpy }
  variant discount { none, percent(u8), voucher(string) }
  flags wishes { gift-wrap, express }
  record receipt { total: f64, currency: currency, lines: list<tuple<string, f64>>, note: option<string> }
  variant problem { no-items, unknown-voucher(string), discount-too-high(u8) }
  name     total
  or       demo:shop/orders@0.1.0#total
  payload  {"order":{"items":[{"name":"text","price":1.5,"quantity":1}],"currency":"eur","discount":"none","wishes":["gift-wrap"],"note":"text"}}
  run it   tq run typed/total '{"order":{"items":[{"name":"text","price":1.5,"quantity":1}],"currency":"eur","discount":"none","wishes":["gift-wrap"],"note":"text"}}'
"#
    );
    // Each of these lines is what it says.
    let lines = described
        .lines()
        .filter_map(|line| line.strip_prefix("  run it   tq run "));
    let lines: Vec<_> = lines.collect();
    assert_eq!(lines.len(), 4);
    for line in lines {
        let (function, payload) = line.split_once(" '").expect("there is a payload");
        dev.tq()
            .run(["run", function, payload.trim_end_matches('\'')])
            .await
            .ok();
    }
    let one = dev
        .tq()
        .run(["describe", "typed@1/add", "--output", "json"])
        .await
        .json();
    assert_eq!(one["entry"], "typed");
    let functions = one["functions"].as_array().expect("there are functions");
    assert_eq!(functions.len(), 1);
    let add = &functions[0];
    let signature = &add["typed"]["signature"];
    assert_eq!(signature, "add: func(a: s32, b: s32) -> s32");
    assert_eq!(add["example"], json!({ "a": 1, "b": 1 }));
    let s32 = json!({ "type": "integer", "minimum": i32::MIN, "maximum": i32::MAX });
    assert_eq!(
        add["input_schema"],
        json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "properties": { "a": s32, "b": s32 },
            "required": ["a", "b"],
            "additionalProperties": false,
        })
    );
    assert_eq!(add["output_schema"]["maximum"], i32::MAX);
    assert_eq!(add["error_schema"], Value::Null);
    let missing = dev.tq().run(["describe", "typed/nothing"]).await;
    assert_eq!(missing.code, Some(3), "{}", missing.stderr);
    within("it stops", dev.process.stop()).await;
}

/// A component with a function, and one that takes a resource.
const HANDLES: &str = r#"(component
    (core module $main (func (export "count") (result i32) (i32.const 3)) (func (export "close") (param i32)))
    (core instance $m (instantiate $main))
    (type $file' (resource (rep i32)))
    (export $file "file" (type $file'))
    (func (export "count") (result u32) (canon lift (core func $m "count")))
    (func (export "close") (param "file" (own $file)) (canon lift (core func $m "close"))))"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn function_that_cannot_be_called_says_why() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let broker = Broker::start(&folder.path().join("broker")).await;
    let tq = broker.tq();
    let handles = guest::written(folder.path(), "handles", HANDLES);
    let handles = handles.display().to_string();
    let deployed = tq.run(["deploy", &handles]).await.text();
    let why = "it has a resource in its types, which no JSON stands for";
    let listed = format!("exported, and cannot be called:\n  close: {why}");
    assert!(deployed.contains(&listed), "{deployed}");
    let described = tq.run(["describe", "handles"]).await.text();
    assert!(described.contains(&listed), "{described}");
    let refused = tq.run(["submit", "handles/close", "{}"]).await;
    assert_eq!(refused.code, Some(4));
    let said = format!("function `close` of module `handles` cannot be called: {why}");
    assert!(refused.stderr.contains(&said), "{}", refused.stderr);
    tq.run(["submit", "handles/count"]).await.ok();
    // With nothing else there is nothing to deploy.
    let only = HANDLES.replace(
        "(func (export \"count\") (result u32) (canon lift (core func $m \"count\")))",
        "",
    );
    let only = guest::written(folder.path(), "only", &only)
        .display()
        .to_string();
    let refused = tq.run(["deploy", &only]).await;
    assert_eq!(refused.code, Some(4));
    assert!(
        refused.stderr.contains(&format!("`close`: {why}")),
        "{}",
        refused.stderr
    );
}

/// A component with one typed function, which gives its argument back.
fn identity(name: &str, ty: &str, core: &str) -> String {
    format!(
        r#"(component
            (core module $m (func (export "f") (param {core}) (result {core}) local.get 0))
            (core instance $i (instantiate $m))
            (func $f (param "n" {ty}) (result {ty}) (canon lift (core func $i "f")))
            (export "{name}" (func $f)))"#
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deploy_warns_when_what_tasks_wait_for_has_other_types() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    // Without a host, so that tasks wait.
    let broker = Broker::start(&folder.path().join("broker")).await;
    let deploy = async |name: &str, ty: &str, core: &str| {
        let path = guest::written(folder.path(), "m", &identity(name, ty, core));
        let path = path.display().to_string();
        let ran = broker.tq().run(["deploy", "--output", "json", &path]).await;
        ran.ok();
        (ran.json(), ran.stderr)
    };
    deploy("f", "u32", "i32").await;
    let (unwaited, _) = deploy("f", "s32", "i32").await;
    assert_eq!(unwaited["retyped"], json!([]), "nothing waits");
    for payload in [r#"{"n":1}"#, r#"{"n":2}"#] {
        broker.tq().run(["submit", "m/f", payload]).await.ok();
    }
    let (same, told) = deploy("f", "s32", "i32").await;
    assert_eq!((&same["retyped"], told.as_str()), (&json!([]), ""));
    let (wider, told) = deploy("f", "s64", "i64").await;
    assert_eq!(
        wider["retyped"],
        json!([{
            "function": "f",
            "before": "f: func(n: s32) -> s32",
            "after": "f: func(n: s64) -> s64",
            "waiting": 2,
            "are_more": false,
        }])
    );
    assert_eq!(
        told,
        "warning: `f` takes or gives something else now, and 2 tasks wait for it\n  \
         before: f: func(n: s32) -> s32\n  \
         now:    f: func(n: s64) -> s64\n\
         hint: they run on the version that they were submitted for; `tq module rollback m` makes that the current one again\n"
    );
    let (gone, told) = deploy("g", "s64", "i64").await;
    assert_eq!(gone["retyped"][0]["after"], Value::Null);
    assert!(
        told.starts_with("warning: `f` is gone, and 2 tasks wait for it\n"),
        "{told}"
    );
}
