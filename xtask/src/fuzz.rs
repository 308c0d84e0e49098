//! `cargo xtask evidence fuzz`: LLVM's fuzzer, on the stable toolchain.
//!
//! The fuzzer needs counters in the code that it drives. The compiler puts them in by flags that are stable, where
//! `RUSTC_WRAPPER` adds them: this program again, to the crates whose branches are of interest and to no others. The whole is
//! built apart, with the checks of a debug build.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;

use crate::tools::{self, FUZZ, Failed, cargo, root};

/// Its targets; `tests/fuzz/src/lib.rs` has them.
const TARGETS: &[&str] = &["uploads", "wire", "rows", "texts", "modules", "typed"];
/// For all of them together, in minutes, if no other is asked for: an hour of a processor and what others take of it.
const MINUTES: u64 = 75;
/// What tells this program that it stands in for the compiler.
const AS_COMPILER: &str = "TQ_FUZZ_COMPILER";
/// Crates that get counters, beside those that begin with `tq_`.
const COUNTED: &[&str] = &[
    "prost",
    "wasmparser",
    "wit_parser",
    "wit_component",
    "wasm_smith",
];
const COUNTERS: &[&str] = &[
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Ccodegen-units=1",
];

/// Compiles in place of the compiler, if that is what this program was started for.
pub(crate) fn compile() -> Option<ExitCode> {
    std::env::var_os(AS_COMPILER)?;
    let mut words = std::env::args_os().skip(1);
    let mut compiler = Command::new(words.next()?);
    let words: Vec<_> = words.collect();
    let name = words
        .iter()
        .skip_while(|word| *word != "--crate-name")
        .nth(1)
        .and_then(|name| name.to_str());
    // What runs in the compiler itself (macros) is built without naming a target, and nobody is there to count.
    let is_for_target = words.iter().any(|word| *word == "--target");
    let is_counted =
        |name: &str| name.starts_with("tq_") || name == "fuzz" || COUNTED.contains(&name);
    if is_for_target && name.is_some_and(is_counted) {
        compiler.args(COUNTERS);
    }
    let status = compiler.args(words).status();
    let code = status.ok().and_then(|status| status.code());
    let code = code.and_then(|code| u8::try_from(code).ok());
    Some(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

/// Fuzzes, in as many processes at once as there are processors.
///
/// # Errors
/// It does not build, or something broke; the input is in `tests/fuzz/cases` then.
pub(crate) fn run(arguments: &[&str]) -> Result<(), Failed> {
    let (targets, minutes) = parse(arguments)?;
    let folder = std::env::var_os("CARGO_TARGET_DIR").map_or(root().join("target"), PathBuf::from);
    let folder = folder.join("fuzz");
    let this = std::env::current_exe().map_err(|error| Failed(error.to_string()))?;
    let host = tools::host_target()?;
    let mut build = cargo(&[
        "build",
        "--release",
        "--package",
        FUZZ,
        "--features",
        "libfuzzer",
    ]);
    build
        .args(["--target", &host])
        .arg("--target-dir")
        .arg(&folder)
        .env("RUSTC_WRAPPER", this)
        .env(AS_COMPILER, "1")
        .env("CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS", "true")
        .env("CARGO_PROFILE_RELEASE_OVERFLOW_CHECKS", "true");
    tools::run(&mut build)?;
    let had_by_builder = processor_time_of_children();
    let program = folder.join(&host).join("release/fuzz");
    let seconds = minutes * 60 / targets.len() as u64;
    let waiting = Mutex::new(targets.clone());
    let results = Mutex::new(Vec::new());
    let at_once = std::thread::available_parallelism().map_or(1, usize::from);
    let next = || waiting.lock().ok()?.pop();
    std::thread::scope(|scope| {
        for _ in 0..at_once.min(targets.len()) {
            scope.spawn(|| {
                while let Some(target) = next() {
                    let result = fuzz(&program, &folder, target, seconds);
                    if let Ok(mut results) = results.lock() {
                        results.push((target, result));
                    }
                }
            });
        }
    });
    let results = results.into_inner().unwrap_or_default();
    let mut broken = Vec::new();
    for (target, result) in results {
        match result {
            Ok(said) => println!("{target:<10}{said}"),
            Err(Failed(why)) => broken.push(format!("{target}: {why}")),
        }
    }
    let had = processor_time_of_children().saturating_sub(had_by_builder);
    println!("{} minutes of processor time", had / 60);
    if broken.is_empty() {
        return Ok(());
    }
    Err(Failed(broken.join("\n")))
}

/// Seconds that the processes which this one waited for had: `cutime` and `cstime` of proc_pid_stat(5), which are in
/// hundredths on every Linux there is. 0 where there is no such file.
fn processor_time_of_children() -> u64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The program's name, in parentheses, may have spaces.
    let (_, fields) = stat.rsplit_once(") ").unwrap_or_default();
    let times = fields.split(' ').skip(13).take(2);
    times
        .filter_map(|ticks| ticks.parse::<u64>().ok())
        .sum::<u64>()
        / 100
}

fn parse<'a>(arguments: &[&'a str]) -> Result<(Vec<&'a str>, u64), Failed> {
    let usage = || {
        let targets = TARGETS.join(", ");
        Failed(format!(
            "usage: evidence fuzz [--minutes N] [TARGET …], where TARGET is one of {targets}"
        ))
    };
    let (minutes, targets) = match arguments {
        ["--minutes", minutes, targets @ ..] => (minutes.parse().map_err(|_| usage())?, targets),
        targets => (MINUTES, targets),
    };
    if minutes == 0 || targets.iter().any(|target| !TARGETS.contains(target)) {
        return Err(usage());
    }
    let targets = if targets.is_empty() { TARGETS } else { targets };
    // The last is taken first.
    Ok((targets.iter().rev().copied().collect(), minutes))
}

/// Fuzzes one target for so long, from what was found of interest before. Returns what came of it in a line.
fn fuzz(program: &Path, folder: &Path, target: &str, seconds: u64) -> Result<String, Failed> {
    let failed = |error: std::io::Error| Failed(error.to_string());
    let (corpus, cases) = (
        folder.join("corpus").join(target),
        root().join("tests/fuzz/cases").join(target),
    );
    for folder in [&corpus, &cases] {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    let log = folder.join(format!("{target}.log"));
    let file = fs::File::create(&log).map_err(failed)?;
    let mut fuzzer = Command::new(program);
    fuzzer.arg(&corpus).arg(&cases);
    if target == "uploads" {
        // What a component looks like.
        fuzzer.arg(root().join("cli/bench"));
    }
    fuzzer
        .arg(format!("-artifact_prefix={}/", cases.display()))
        .arg(format!("-max_total_time={seconds}"))
        // Beyond these it counts as broken too.
        .args(["-timeout=25", "-rss_limit_mb=4096"])
        // Of uploads the tables of types; of the others all that matters is far smaller.
        .args(["-max_len=65536", "-print_final_stats=1"])
        .env("TQ_FUZZ_TARGET", target)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(file);
    let status = fuzzer.status().map_err(failed)?;
    // Git does not keep it either.
    fs::remove_dir(&cases).ok();
    let said = fs::read_to_string(&log).unwrap_or_default();
    let last = |what: &str| {
        let line = said.lines().rev().find(|line| line.contains(what));
        line.unwrap_or("").trim().to_owned()
    };
    if !status.success() {
        return Err(Failed(format!(
            "{status}; {} (all of it is in {})",
            last("SUMMARY"),
            log.display()
        )));
    }
    let count = |what: &str| last(what).rsplit(' ').next().unwrap_or("").to_owned();
    let covered = last(" cov: ");
    let covered = covered
        .split_whitespace()
        .skip_while(|word| *word != "cov:")
        .nth(1)
        .unwrap_or("0");
    Ok(format!(
        "{seconds} s, {} inputs, {covered} branches reached, nothing broken",
        count("stat::number_of_executed_units")
    ))
}
