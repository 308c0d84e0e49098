//! Modules in other languages than Rust: the examples, and what `tq new --lang` makes, built and deployed by `tq deploy FOLDER`
//! and run, with an input that is good and one that is not.

use std::path::Path;

use tempfile::TempDir;
use tq_tests::toolchains::{self, FIX, Language};
use tq_tests::{Dev, Tq, guest, requirement};

/// How many times longer than another command a build, or the first start of an interpreter, may take.
const SLOWNESS: u32 = 4;

struct Node {
    folder: TempDir,
    dev: Dev,
    tq: Tq,
}

/// A node, if the language's tools are there; otherwise the test is skipped.
async fn node(test: &str, language: Language) -> Option<Node> {
    if !language.is_installed() {
        requirement::skip(
            test,
            &format!("what builds {language:?} is not there: {FIX}"),
        );
        return None;
    }
    let folder = tempfile::tempdir().expect("a folder can be made");
    let dev = Dev::start(&folder.path().join("data"), 2).await;
    let tq = toolchains::with_go(&dev.tq()).slowly(SLOWNESS);
    Some(Node { folder, dev, tq })
}

impl Node {
    async fn deploy(&self, place: &Path) -> String {
        let deployed = self.tq.run([Path::new("deploy"), place]).await;
        deployed.text()
    }

    async fn check_runs(&self, words: &[&str], expected: &str) {
        let ran = self.tq.run(["run"].iter().chain(words)).await;
        assert_eq!(ran.text().trim_end(), expected);
    }

    async fn check_fails(&self, words: &[&str], outcome: &str, told: &str) {
        let ran = self.tq.run(["run"].iter().chain(words)).await;
        assert_eq!(ran.code, Some(1), "{}", ran.stderr);
        assert!(
            ran.stderr.contains(&format!(": {outcome}\n")),
            "{}",
            ran.stderr
        );
        assert!(ran.stderr.contains(told), "{}", ran.stderr);
    }

    async fn check_does_not_fit(&self, words: &[&str], told: &str) {
        let refused = self.tq.run(["run"].iter().chain(words)).await;
        assert_eq!(refused.code, Some(4), "{}", refused.stderr);
        assert!(refused.stderr.contains(told), "{}", refused.stderr);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn example_in_typescript() {
    let Some(node) = node("example_in_typescript", Language::TypeScript).await else {
        return;
    };
    let deployed = node
        .deploy(&Language::TypeScript.placed(node.folder.path()))
        .await;
    assert!(deployed.starts_with("markdown@1  sha256:"), "{deployed}");
    node.check_runs(
        &["markdown", r##"{"text":"# *Tea*\n\nwith [milk](https://example.com)"}"##],
        r##"{"html":"<h1><em>Tea</em></h1>\n<p>with <a href=\"https://example.com\">milk</a></p>\n","headings":[{"level":1,"text":"*Tea*"}],"words":3}"##,
    )
    .await;
    let told = "\"there is no text to render\"";
    node.check_fails(&["markdown", r#"{"text":" "}"#], "fatal_error", told)
        .await;
    let told = "at `$.text`: expected a string, got 1";
    node.check_does_not_fit(&["markdown", r#"{"text":1}"#], told)
        .await;
    node.dev.process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn example_in_python() {
    let Some(node) = node("example_in_python", Language::Python).await else {
        return;
    };
    let deployed = node
        .deploy(&Language::Python.placed(node.folder.path()))
        .await;
    assert!(
        deployed.starts_with("csv-statistics@1  sha256:"),
        "{deployed}"
    );
    let csv = |cell: &str| {
        format!(r#"{{"csv":"city,people\nUlm,100\nBonn,{cell}\n","column":"people"}}"#)
    };
    node.check_runs(
        &["csv-statistics", &csv("300")],
        r#"{"rows":2,"mean":200.0,"median":200.0,"deviation":141.4213562373095,"least":100.0,"most":300.0}"#,
    )
    .await;
    let told = r#"{"not-a-number":{"line":3,"text":"many"}}"#;
    node.check_fails(&["csv-statistics", &csv("many")], "fatal_error", told)
        .await;
    let told = "at `$.column`: expected a string, got nothing";
    node.check_does_not_fit(&["csv-statistics", r#"{"csv":""}"#], told)
        .await;
    node.dev.process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn example_in_c() {
    let Some(node) = node("example_in_c", Language::C).await else {
        return;
    };
    let deployed = node.deploy(&Language::C.placed(node.folder.path())).await;
    assert!(deployed.starts_with("checksum@1  sha256:"), "{deployed}");
    // What POSIX's `cksum` says of these bytes.
    node.check_runs(&["checksum", "123456789", "--", "930766865"], "930766865 9")
        .await;
    let told = "checksum is 930766865, not 7";
    node.check_fails(&["checksum", "123456789", "--", "7"], "exit", told)
        .await;
    node.dev.process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn example_in_go() {
    let Some(node) = node("example_in_go", Language::Go).await else {
        return;
    };
    let deployed = node.deploy(&Language::Go.placed(node.folder.path())).await;
    assert!(deployed.starts_with("report@1  sha256:"), "{deployed}");
    let data = r#"{"items":["tea","cup"]}"#;
    let list = "{{range .items}}<{{.}}>{{end}}";
    node.check_runs(&["report", data, "--", list], "<tea><cup>")
        .await;
    let told = "map has no entry for key \"price\"";
    node.check_fails(&["report", data, "--", "{{.price}}"], "exit", told)
        .await;
    node.dev.process.stop().await;
}

/// What `tq new` makes is deployed as it is, and greets as the guide says.
async fn new_module_greets(
    test: &str,
    language: Language,
    lang: &str,
    payload: &str,
    greeting: &str,
) {
    let Some(node) = node(test, language).await else {
        return;
    };
    let here = node.tq.inside(node.folder.path());
    here.run(["new", "greet", "--lang", lang]).await.ok();
    let place = node.folder.path().join("greet");
    language.link(&place);
    let deployed = node.deploy(&place).await;
    assert!(deployed.starts_with("greet@1  sha256:"), "{deployed}");
    node.check_runs(&["greet", payload], greeting).await;
    node.dev.process.stop().await;
}

const ADA: &str = r#"{"name":"Ada"}"#;
const HELLO: &str = r#"{"greeting":"Hello, Ada!"}"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_module_in_javascript_greets() {
    let test = "new_module_in_javascript_greets";
    new_module_greets(test, Language::TypeScript, "js", ADA, HELLO).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_module_in_python_greets() {
    let test = "new_module_in_python_greets";
    new_module_greets(test, Language::Python, "python", ADA, HELLO).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_module_in_c_greets() {
    new_module_greets(
        "new_module_in_c_greets",
        Language::C,
        "c",
        "Ada",
        "Hello, Ada!",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_module_in_go_greets() {
    new_module_greets("new_module_in_go_greets", Language::Go, "go", ADA, HELLO).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tool_that_is_not_there_is_named_with_how_to_get_it() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let dev = Dev::start(&folder.path().join("data"), 1).await;
    let nowhere = dev
        .tq()
        .inside(folder.path())
        .with_env("PATH", "/nonexistent")
        .with_env("WASI_SDK_PATH", "");
    for (lang, told) in [
        (
            "js",
            "error: failed to run `npm`: No such file or directory (os error 2)\nhint: install Node.js",
        ),
        (
            "python",
            "error: failed to run `python3`: No such file or directory (os error 2)\nhint: install Python",
        ),
        (
            "c",
            "error: there is no clang that builds for WebAssembly with wasi-libc\nhint: run `sudo apt-get install ",
        ),
    ] {
        nowhere.run(["new", lang, "--lang", lang]).await.ok();
        let refused = nowhere.run(["deploy", lang]).await;
        assert_eq!(refused.code, Some(1), "{}", refused.stderr);
        assert!(refused.stderr.contains(told), "{}", refused.stderr);
    }
    dev.process.stop().await;
}

/// The versions of what builds a module are those that the examples are tested with.
#[test]
fn new_modules_and_examples_have_the_same_tools() {
    let read = |path: &str| {
        let path = guest::source().join(path);
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    let python = "requirements.txt";
    assert_eq!(
        read(&format!("cli/templates/python/{python}")),
        read(&format!("guest-examples/csv-statistics/{python}"))
    );
    let package = |folder: &str| -> serde_json::Value {
        serde_json::from_str(&read(&format!("{folder}/package.json"))).expect("it is JSON")
    };
    let (template, example) = (
        package("cli/templates/js"),
        package("guest-examples/markdown"),
    );
    for key in ["type", "scripts", "devDependencies", "overrides"] {
        assert_eq!(template[key], example[key], "{key}");
        assert!(!template[key].is_null(), "{key}");
    }
}
