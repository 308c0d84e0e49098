//! What a task costs in each language: `languages [--runs N]`. A small module of each is built and deployed by the binary to a
//! node of its own, run, run again, and run once more after the node has started anew. Prints a table in Markdown.
//! `cargo xtask evidence languages` calls it.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::Value;
use tokio::time::Instant;
use tq_tests::toolchains::{self, FIX, Language};
use tq_tests::{Dev, Tq, guest, only_number};

/// How many times longer than another command a build, or the first start of an interpreter, may take.
const SLOWNESS: u32 = 10;

/// Where a module comes from.
enum Source {
    /// `tq new --lang`, with the tools of a language that are installed for tests; `None` for Rust.
    New(&'static str, Option<Language>),
    /// An example in Rust.
    Example(&'static str),
}

struct Module {
    language: &'static str,
    source: Source,
    /// What `tq run` is given behind the name of the module.
    words: &'static [&'static str],
    /// What is known of a function before it runs.
    typed: &'static str,
}

const ADA: &str = r#"{"name":"Ada"}"#;

const MODULES: &[Module] = &[
    Module {
        language: "Rust, SDK",
        source: Source::New("rust", None),
        words: &[ADA],
        typed: "Rust's types, checked when it runs",
    },
    Module {
        language: "Rust, program",
        source: Source::Example("json-query"),
        words: &[ADA, "--", ".name"],
        typed: "bytes",
    },
    Module {
        language: "Rust, typed",
        source: Source::Example("typed"),
        words: &[r#"{"a":1,"b":2}"#],
        typed: "WIT, checked at submit",
    },
    Module {
        language: "TypeScript",
        source: Source::New("js", Some(Language::TypeScript)),
        words: &[ADA],
        typed: "WIT, checked at submit",
    },
    Module {
        language: "Python",
        source: Source::New("python", Some(Language::Python)),
        words: &[ADA],
        typed: "WIT, checked at submit",
    },
    Module {
        language: "C",
        source: Source::New("c", Some(Language::C)),
        words: &["Ada"],
        typed: "bytes",
    },
    Module {
        language: "Go",
        source: Source::New("go", Some(Language::Go)),
        words: &[ADA],
        typed: "bytes",
    },
];

/// What was measured of a module.
struct Row {
    bytes: u64,
    build: Option<Duration>,
    cold: Duration,
    warm: Duration,
    restarted: Duration,
    wall: Duration,
    memory_bytes: u64,
}

fn main() -> anyhow::Result<()> {
    let runs = usize::try_from(only_number("--runs", 20)?)?;
    ensure!(runs > 0, "--runs is 0; it is at least 1");
    for module in MODULES {
        if let Source::New(lang, Some(language)) = module.source {
            ensure!(
                language.is_installed(),
                "what builds {lang} is not there: {FIX}"
            );
        }
    }
    writeln!(
        io::stdout(),
        "| | built with | component | build | first run | run | of it in the sandbox | first run after a restart | memory | types |\n|---|---|--:|--:|--:|--:|--:|--:|--:|---|"
    )?;
    tokio::runtime::Runtime::new()?.block_on(async {
        for module in MODULES {
            let Row {
                bytes,
                build,
                cold,
                warm,
                restarted,
                wall,
                memory_bytes,
            } = measure(module, runs).await?;
            writeln!(
                io::stdout(),
                "| {} | {} | {} | {} | {} | {} | {} | {} | {:.1} MiB | {} |",
                module.language,
                tools(&module.source)?,
                size(bytes),
                build.map_or_else(|| "-".to_owned(), time),
                time(cold),
                time(warm),
                time(wall),
                time(restarted),
                memory_bytes as f64 / f64::from(1 << 20),
                module.typed
            )?;
        }
        Ok(())
    })
}

async fn measure(module: &Module, runs: usize) -> anyhow::Result<Row> {
    let folder = tempfile::tempdir()?;
    let (component, build) = build(module, folder.path()).await?;
    let bytes = fs::metadata(&component)?.len();
    let data = folder.path().join("data");
    let dev = Dev::start(&data, 2).await;
    let tq = dev.tq().slowly(SLOWNESS);
    let name = match module.source {
        Source::Example("typed") => "module/add",
        Source::New(..) | Source::Example(_) => "module",
    };
    let started = Instant::now();
    tq.deploy(&component, "module", &[]).await;
    run(&tq, name, module.words).await?;
    let cold = started.elapsed();
    let mut took = Vec::new();
    let mut walls = Vec::new();
    let mut memory_bytes = 0;
    for _ in 0..runs {
        let started = Instant::now();
        let usage = run(&tq, name, module.words).await?;
        took.push(started.elapsed());
        walls.push(Duration::from_nanos(number(&usage, "wall_ns")?));
        memory_bytes = memory_bytes.max(number(&usage, "memory_bytes_peak")?);
    }
    dev.process.stop().await;
    let dev = Dev::start(&data, 2).await;
    let started = Instant::now();
    run(&dev.tq().slowly(SLOWNESS), name, module.words).await?;
    let restarted = started.elapsed();
    dev.process.stop().await;
    Ok(Row {
        bytes,
        build,
        cold,
        warm: median(took),
        restarted,
        wall: median(walls),
        memory_bytes,
    })
}

/// Builds a module by deploying its folder to a node that is given up then. Returns its component and how long that took,
/// unless it was built already.
async fn build(module: &Module, folder: &Path) -> anyhow::Result<(PathBuf, Option<Duration>)> {
    let (lang, language) = match module.source {
        Source::Example(name) => return Ok((guest::example(name), None)),
        Source::New(lang, language) => (lang, language),
    };
    let dev = Dev::start(&folder.join("elsewhere"), 1).await;
    let tq = toolchains::with_go(&dev.tq())
        .slowly(SLOWNESS)
        .inside(folder);
    tq.run(["new", "greet", "--lang", lang]).await.ok();
    let place = folder.join("greet");
    if let Some(language) = language {
        language.link(&place);
    }
    let started = Instant::now();
    tq.run(["deploy", "greet"]).await.ok();
    let took = started.elapsed();
    dev.process.stop().await;
    let component = match language {
        None => "target/wasm32-wasip2/release/greet.wasm",
        Some(_) => "build/module.wasm",
    };
    Ok((place.join(component), Some(took)))
}

/// Runs one task and returns what its attempt used.
async fn run(tq: &Tq, name: &str, words: &[&str]) -> anyhow::Result<Value> {
    let run = ["run", "--output", "json", name];
    let ran = tq.run(run.iter().chain(words)).await;
    ran.ok();
    Ok(ran.json()["attempts"][0]["usage"].take())
}

fn number(usage: &Value, name: &str) -> anyhow::Result<u64> {
    usage[name]
        .as_u64()
        .with_context(|| format!("usage has no `{name}`: {usage}"))
}

/// What a module is built with, with the version.
fn tools(source: &Source) -> anyhow::Result<String> {
    let language = match source {
        Source::Example(_) | Source::New(_, None) => return first_line("rustc", &["--version"]),
        Source::New(_, Some(language)) => language,
    };
    let read = |path: &str| {
        let path = guest::source().join("cli/templates").join(path);
        fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
    };
    match language {
        Language::TypeScript => {
            let package: Value = serde_json::from_str(&read("js/package.json")?)?;
            let tools = package["devDependencies"].as_object();
            let tools = tools.context("package.json names tools")?;
            let named = tools.iter().map(|(name, version)| {
                let name = name.rsplit('/').next().unwrap_or(name);
                format!("{name} {}", version.as_str().unwrap_or_default())
            });
            Ok(named.collect::<Vec<_>>().join(", "))
        }
        Language::Python => Ok(read("python/requirements.txt")?.trim().replace("==", " ")),
        Language::C => first_line("clang-19", &["--version"]),
        Language::Go => {
            let go = toolchains::go().context("go is installed")?;
            first_line(go, &["version"])
        }
    }
}

fn first_line(program: impl AsRef<std::ffi::OsStr>, arguments: &[&str]) -> anyhow::Result<String> {
    let output = Command::new(program).args(arguments).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().next().unwrap_or_default().trim().to_owned())
}

fn median(mut values: Vec<Duration>) -> Duration {
    values.sort();
    values.get(values.len() / 2).copied().unwrap_or_default()
}

fn time(took: Duration) -> String {
    match took.as_secs_f64() {
        seconds if seconds >= 1.0 => format!("{seconds:.1} s"),
        seconds => format!("{:.1} ms", seconds * 1e3),
    }
}

fn size(bytes: u64) -> String {
    match bytes as f64 / 1e6 {
        mega if mega >= 1.0 => format!("{mega:.1} MB"),
        mega => format!("{:.0} KB", mega * 1e3),
    }
}
