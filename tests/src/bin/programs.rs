//! Programs that others wrote, deployed as cargo builds them and run on what is in this repository: `programs [NAME …]`. What
//! each prints is compared with what is known otherwise. `cargo xtask evidence programs` calls it.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use tokio::time::Instant;
use tq_tests::{Dev, guest};

/// A crate of crates.io with a program.
struct Program {
    name: &'static str,
    version: &'static str,
    /// What it is called as, without `.wasm`.
    binary: &'static str,
    arguments: &'static [&'static str],
    /// The file that it reads, from the top of the repository.
    input: &'static str,
    /// What it has to print.
    expected: fn(&str) -> String,
}

const PROGRAMS: &[Program] = &[
    Program {
        name: "jsonxf",
        version: "1.1.1",
        binary: "jsonxf",
        arguments: &["--minimize"],
        input: "docs/performance/costs.json",
        expected: minimized,
    },
    Program {
        name: "choose",
        version: "1.3.7",
        binary: "choose",
        arguments: &["0"],
        input: "LICENSE-APACHE",
        expected: first_words,
    },
    Program {
        name: "ripgrep",
        version: "15.2.0",
        binary: "rg",
        arguments: &["--line-number", "^name = \"tq-", "-"],
        input: "Cargo.lock",
        expected: lines_of_own_crates,
    },
    Program {
        name: "pulldown-cmark",
        version: "0.13.6",
        binary: "pulldown-cmark",
        arguments: &[],
        input: "LICENSE-MIT",
        expected: paragraphs,
    },
    Program {
        name: "shellharden",
        version: "4.3.2",
        binary: "shellharden",
        arguments: &["--transform", ""],
        input: ".ci/run",
        expected: compared,
    },
];

fn minimized(input: &str) -> String {
    let (mut is_string, mut is_escaped) = (false, false);
    let kept = |at: &char| {
        let is_kept = is_string || !at.is_ascii_whitespace();
        is_string ^= *at == '"' && !is_escaped;
        is_escaped = *at == '\\' && !is_escaped;
        is_kept
    };
    input.chars().filter(kept).collect()
}

fn first_words(input: &str) -> String {
    let words = input.lines().map(|line| line.split_whitespace().next());
    words
        .map(|word| format!("{}\n", word.unwrap_or_default()))
        .collect()
}

fn lines_of_own_crates(input: &str) -> String {
    let lines = (1..).zip(input.lines());
    let lines = lines.filter(|(_, line)| line.starts_with("name = \"tq-"));
    lines
        .map(|(number, line)| format!("{number}:{line}\n"))
        .collect()
}

fn paragraphs(input: &str) -> String {
    let paragraphs = input.trim().split("\n\n");
    paragraphs
        .map(|text| format!("<p>{}</p>\n", text.trim()))
        .collect()
}

/// Its guide prefers a comparison to `-n`; the quotes are there already.
fn compared(input: &str) -> String {
    input.replace("[ -n \"$current\" ]", "[ \"$current\" != \"\" ]")
}

/// What came of one.
struct Seen {
    bytes: u64,
    deployed: Duration,
    cold: Duration,
    warm: Duration,
}

fn main() -> anyhow::Result<()> {
    let asked: Vec<String> = std::env::args().skip(1).collect();
    let known = |name: &String| PROGRAMS.iter().any(|program| program.name == name);
    if let Some(unknown) = asked.iter().find(|name| !known(name)) {
        let names: Vec<&str> = PROGRAMS.iter().map(|program| program.name).collect();
        bail!("`{unknown}` is none of {}", names.join(", "));
    }
    let is_asked =
        |program: &&Program| asked.is_empty() || asked.iter().any(|name| name == program.name);
    let this = std::env::current_exe().context("this program's own path is not known")?;
    // Built once: they are beside what cargo builds here.
    let cache = this.with_file_name("programs-of-others");
    let runtime = tokio::runtime::Runtime::new()?;
    let mut out = io::stdout();
    writeln!(
        out,
        "{:<16}{:<10}{:>8}{:>12}{:>10}{:>10}",
        "program", "version", "KiB", "deploy ms", "cold ms", "warm ms"
    )?;
    runtime.block_on(async {
        let folder = tempfile::tempdir()?;
        let dev = Dev::start(&folder.path().join("data"), 1).await;
        for program in PROGRAMS.iter().filter(is_asked) {
            let built = tokio::task::block_in_place(|| built(program, &cache))?;
            let seen = run(&dev, program, &built).await;
            let seen = seen.with_context(|| format!("{} went wrong", program.name))?;
            writeln!(
                out,
                "{:<16}{:<10}{:>8}{:>12}{:>10}{:>10}",
                program.name,
                program.version,
                seen.bytes / 1024,
                seen.deployed.as_millis(),
                seen.cold.as_millis(),
                seen.warm.as_millis()
            )?;
        }
        dev.process.stop().await;
        anyhow::Ok(())
    })
}

/// Builds a program as its users do, but for another machine.
fn built(program: &Program, cache: &Path) -> anyhow::Result<PathBuf> {
    let Program {
        name,
        version,
        binary,
        ..
    } = program;
    let root = cache.join(format!("{name}-{version}"));
    let path = root.join(format!("bin/{binary}.wasm"));
    if path.is_file() {
        return Ok(path);
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["install", "--quiet", "--locked", name, "--version", version])
        .args(["--target", "wasm32-wasip2", "--no-track", "--root"])
        .arg(&root)
        .arg("--target-dir")
        .arg(cache.join("target"))
        // What most of a component is otherwise.
        .env("CARGO_PROFILE_RELEASE_STRIP", "debuginfo")
        .status()
        .context("cargo cannot be started")?;
    ensure!(
        status.success(),
        "{name} {version} does not build: {status}"
    );
    ensure!(path.is_file(), "`{}` was not built", path.display());
    Ok(path)
}

async fn run(dev: &Dev, program: &Program, built: &Path) -> anyhow::Result<Seen> {
    let input = guest::source().join(program.input);
    let text = std::fs::read_to_string(&input)
        .with_context(|| format!("`{}` cannot be read", input.display()))?;
    let before = Instant::now();
    dev.tq().deploy(built, program.name, &[]).await;
    let deployed = before.elapsed();
    let payload = format!("@{}", input.display());
    let words = ["run", program.name, payload.as_str(), "--"];
    let words = words.iter().chain(program.arguments);
    let mut took = Vec::new();
    for _ in 0..2 {
        let before = Instant::now();
        let ran = dev.tq().run(words.clone()).await;
        took.push(before.elapsed());
        ensure!(
            ran.code == Some(0),
            "it ended with {:?}: {}",
            ran.code,
            ran.stderr
        );
        let printed = String::from_utf8_lossy(&ran.stdout);
        let expected = (program.expected)(&text);
        let differs = printed.lines().zip(expected.lines()).find(|(a, b)| a != b);
        ensure!(
            printed == expected,
            "it printed {} bytes where {} were expected; the first line that differs, and what it should be: {differs:?}",
            printed.len(),
            expected.len()
        );
    }
    Ok(Seen {
        bytes: std::fs::metadata(built)?.len(),
        deployed,
        cold: took[0],
        warm: took[1],
    })
}
