//! The client libraries: their examples against a real broker, refusals as their errors, and streams of ends over a restart.

use std::path::Path;

use tempfile::TempDir;
use tq_tests::clients::{Python, TypeScript};
use tq_tests::toolchains::FIX;
use tq_tests::{Dev, Guarded, Ran, Tq, eventually, guest, requirement};

#[expect(dead_code, reason = "its `main` has no one to call it here")]
#[path = "../../client/examples/top_words.rs"]
mod top_words;
#[expect(dead_code, reason = "likewise")]
#[path = "../../client/examples/top_words_blocking.rs"]
mod top_words_blocking;

const REFUSED: &str = "refused: module `word-count` has no function `topp`; did you mean `top`";
const COUNTED: &str = r#"{"lines":1,"words":10,"bytes":41}"#;

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder can be made")
}

fn component() -> String {
    guest::example("word-count").display().to_string()
}

#[track_caller]
fn check_says(ran: &Ran, expected: &[&str]) {
    let text = ran.text();
    assert_eq!(text.lines().collect::<Vec<_>>(), expected);
}

fn skip(test: &str, client: &str) {
    requirement::skip(
        test,
        &format!("what builds the client in {client} is not there: {FIX}"),
    );
}

const RUST: [&str; 5] = [
    "deployed word-count@1",
    r#"succeeded [{"word":"be","count":2},{"word":"to","count":2}]"#,
    r#"{"lines":1,"words":1,"bytes":3}"#,
    r#"{"lines":1,"words":2,"bytes":7}"#,
    REFUSED,
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rust_example() {
    let folder = folder();
    let dev = Dev::start(folder.path(), 2).await;
    let said = top_words::top_words(dev.url(), &guest::example("word-count")).await;
    assert_eq!(said.expect("nothing is refused but what is to be"), RUST);
    dev.process.stop().await;
}

/// Called in asynchronous code, where it blocks, and does not panic.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blocking_rust_example() {
    let folder = folder();
    let dev = Dev::start(folder.path(), 2).await;
    let said = top_words_blocking::top_words(dev.url(), &guest::example("word-count"));
    assert_eq!(said.expect("nothing is refused but what is to be"), RUST);
    dev.process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn python_examples() {
    let folder = folder();
    let Some(python) = Python::install(folder.path()).await else {
        return skip("python_examples", "Python");
    };
    let types = "-m mypy --strict --scripts-are-modules -p tq -m examples.top_words -m examples.asynchronous";
    let types: Vec<_> = types.split(' ').collect();
    python.run(&Tq::default(), &types).await.ok();

    let dev = Dev::start(&folder.path().join("data"), 2).await;
    let words = ["examples/top_words.py", &component()];
    let ran = python.run(&dev.tq(), &words).await;
    let counted = format!("succeeded {COUNTED}");
    check_says(
        &ran,
        &[
            "deployed word-count@1",
            "queue mail runs 4 at once",
            "2 be",
            "2 to",
            &counted,
            REFUSED,
        ],
    );
    let words = ["examples/asynchronous.py"];
    let ran = python.run(&dev.tq(), &words).await;
    check_says(
        &ran,
        &[
            r#"['{"lines":1,"words":1,"bytes":3}', '{"lines":1,"words":2,"bytes":7}', '{"lines":1,"words":3,"bytes":13}']"#,
            "3 have ended",
        ],
    );
    dev.process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn typescript_example() {
    let folder = folder();
    let Some(typescript) = TypeScript::build(folder.path()).await else {
        return skip("typescript_example", "TypeScript");
    };
    let dev = Dev::start(&folder.path().join("data"), 2).await;
    let words = ["dist/examples/top-words.js", &component()];
    let ran = typescript.run(&dev.tq(), &words).await;
    let counted = format!("succeeded {COUNTED}");
    check_says(
        &ran,
        &[
            "deployed word-count@1",
            "queue mail runs 4 at once",
            "2 be",
            "2 to",
            &counted,
            "2 have ended",
            REFUSED,
        ],
    );
    dev.process.stop().await;
}

/// A broker with access control and a module, of which tasks can end without being run.
struct Cancelling {
    guarded: Guarded,
}

impl Cancelling {
    async fn start(data: &Path) -> Self {
        let guarded = Guarded::start(data).await;
        let tq = guarded.tq(&guarded.admin_key);
        let component = guest::example("word-count");
        tq.deploy(&component, "word-count", &[]).await;
        Self { guarded }
    }

    fn tq(&self) -> Tq {
        self.guarded.tq(&self.guarded.admin_key)
    }

    /// Submits a task and cancels it. Returns its id.
    async fn end(&self) -> String {
        let submitted = self.tq().run(["submit", "word-count/count", "a"]).await;
        let id = submitted.text().trim().to_owned();
        self.tq().run(["task", "cancel", &id]).await.ok();
        id
    }

    /// Ends a task, restarts the broker and ends another one, while a program watches: it makes a file `seen` when it has seen the
    /// first, and says what has ended of its own accord when it has seen two. Returns their ids, a line each.
    async fn two_ends_around_a_restart(&mut self, folder: &Path) -> String {
        let appears = async |name: &str| {
            let file = folder.join(name);
            eventually(name, async || file.is_file().then_some(())).await;
        };
        appears("open").await;
        let first = self.end().await;
        appears("seen").await;
        self.guarded.broker.kill9_and_restart().await;
        format!("{first}\n{}\n", self.end().await)
    }
}

/// Says who it is, and who it is without a key; then what ends, until that is two.
const WATCH_IN_PYTHON: &str = r#"
import pathlib, tq
print(tq.Client().call("GET", "/v1/whoami", tq.types.Identity)["role"])
try:
    tq.Client(key="").submit("word-count/count")
except tq.Refused as error:
    print(error.status, error.code)
ended = []
for message in tq.Client().events():
    ended += [task["id"] for task in message["ended"]]
    pathlib.Path("seen" if ended else "open").touch()
    if len(ended) == 2:
        break
for id in ended:
    print(id)
"#;

const WATCH_IN_JAVASCRIPT: &str = r#"
import { writeFileSync } from "node:fs";
import { Client, Refused } from "tq-client";
const client = new Client();
console.log((await client.answer(client.http.GET("/v1/whoami"))).role);
try {
  await new Client(undefined, { key: "" }).submit("word-count/count");
} catch (error) {
  if (!(error instanceof Refused)) throw error;
  console.log(error.status, error.code);
}
const ended = [];
for await (const message of client.events()) {
  ended.push(...message.ended.map((task) => task.id));
  writeFileSync(ended.length ? "seen" : "open", "");
  if (ended.length === 2) break;
}
for (const id of ended) console.log(id);
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_in_python_go_on_over_a_restart_of_the_broker() {
    let folder = folder();
    let Some(python) = Python::install(folder.path()).await else {
        return skip(
            "events_in_python_go_on_over_a_restart_of_the_broker",
            "Python",
        );
    };
    let mut broker = Cancelling::start(&folder.path().join("data")).await;
    let tq = broker.tq();
    let place = folder.path().join("clients/python");
    let words = ["-c", WATCH_IN_PYTHON];
    let (ran, ended) = tokio::join!(
        python.run(&tq, &words),
        broker.two_ends_around_a_restart(&place)
    );
    let expected = format!("admin\n401 unauthenticated\n{ended}");
    assert_eq!(ran.text(), expected);
    broker.guarded.broker.process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_in_typescript_go_on_over_a_restart_of_the_broker() {
    let folder = folder();
    let Some(typescript) = TypeScript::build(folder.path()).await else {
        return skip(
            "events_in_typescript_go_on_over_a_restart_of_the_broker",
            "TypeScript",
        );
    };
    let mut broker = Cancelling::start(&folder.path().join("data")).await;
    let tq = broker.tq();
    let place = folder.path().join("clients/typescript");
    let (ran, ended) = tokio::join!(
        typescript.run_text(&tq, WATCH_IN_JAVASCRIPT),
        broker.two_ends_around_a_restart(&place)
    );
    let expected = format!("admin\n401 unauthenticated\n{ended}");
    assert_eq!(ran.text(), expected);
    broker.guarded.broker.process.stop().await;
}
