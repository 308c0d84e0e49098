//! `cargo xtask instructions`: how many instructions the workloads of the micro-benchmarks take, against what was
//! recorded.
//!
//! Times of a shared machine differ by tenths from one run to the next; instructions differ by ten thousandths, so that a
//! change which makes a path dearer is seen when it is made. They are no times: a cache miss counts as much as an
//! addition, and waiting for a disk as nothing. `cargo xtask evidence micro` and `bench` have the times.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::tools::{self, Failed, WORKSPACE, cargo, is_installed};

/// Benches whose workloads are timed and counted.
pub(crate) const BENCHES: &[&str] = &["transitions", "codecs", "steps", "frames"];

/// A bench that times in a form of its own, and has a workload to be counted.
const SANDBOX: &str = "sandbox";

/// Where the counts are recorded.
const RECORD: &str = "tests/instructions.toml";

/// How far a count may rise, and fall without being recorded anew. Two runs of one binary differ by 0.02 % at most, by
/// the random keys of the standard library's hash tables, and where guests run by 0.2 %, by the clock that stops them.
/// Where code lies that was not touched, and so what is inlined into what, changes by a percent or two with code beside
/// it, and so does what a newer libc takes for a copy.
const TOLERANCE: f64 = 0.03;

/// What the processor can do decides how libc copies, so that counts would belong to a machine. Valgrind hides the newest
/// extensions; this has libc not use the older ones either, nor copies that callgrind counts by the byte. Names that a
/// version of libc does not know are ignored.
const LIBC: &str = "glibc.cpu.hwcaps=-AVX2,-AVX2_Usable,-AVX,-AVX_Fast_Unaligned_Load,-ERMS,-FSRM";

/// What is asked for on the command line.
struct Asked<'a> {
    /// Record what is counted.
    bless: bool,
    /// Have valgrind installed if it is not there.
    strict: bool,
    /// Workloads whose names begin so; all if it is empty.
    names: Vec<&'a str>,
}

/// What a bench says of a workload.
#[derive(Debug, PartialEq, Eq)]
struct Workload {
    name: String,
    /// How many are counted together.
    tasks: u64,
}

/// What was recorded, by workload: instructions a task.
type Counts = BTreeMap<String, u64>;

/// Counts, compares and, with `--bless`, records.
///
/// # Errors
/// Valgrind is not there, a workload does not run, or a count has risen.
pub(crate) fn run(arguments: &[&str]) -> Result<(), Failed> {
    let asked = asked(arguments)?;
    let path = tools::root().join(RECORD);
    let recorded = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if asked.bless && error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(Failed(format!("{RECORD} cannot be read: {error}"))),
    };
    let mut record = read(&recorded)?;
    if !asked.bless && !is_of_this_machine(&recorded) {
        println!("{RECORD} was recorded on another architecture, and says nothing of this one");
        return Ok(());
    }
    if asked.strict {
        tools::install("valgrind")?;
    }
    if !is_installed("valgrind") {
        return Err(Failed(
            "valgrind is not there; install it with\n  apt-get install valgrind".to_owned(),
        ));
    }
    let is_asked = |name: &str| {
        asked.names.is_empty() || asked.names.iter().any(|start| name.starts_with(start))
    };
    let folder = tools::programs()?.join("instructions");
    fs::create_dir_all(&folder)
        .map_err(|error| Failed(format!("`{}`: {error}", folder.display())))?;
    let mut counted = Vec::new();
    for bench in build()? {
        for workload in workloads(&bench)? {
            if is_asked(&workload.name) {
                let count = count(&bench, &workload, &folder)?;
                counted.push((workload, count));
            }
        }
    }
    if counted.is_empty() {
        return Err(Failed(format!("no workload begins with {:?}", asked.names)));
    }

    let rows: Vec<Row> = (counted.iter())
        .map(|(workload, now)| Row::new(workload, record.get(&workload.name).copied(), *now))
        .collect();
    print(&rows);
    println!("profiles: callgrind_annotate {}/NAME", folder.display());
    let gone: Vec<String> = (record.keys())
        .filter(|name| is_asked(name) && rows.iter().all(|row| row.name != **name))
        .cloned()
        .collect();
    if asked.bless {
        record.retain(|name, _| !gone.contains(name));
        record.extend(rows.iter().map(|row| (row.name.clone(), row.now)));
        let written = fs::write(&path, written(&record)?);
        written.map_err(|error| Failed(format!("{RECORD} cannot be written: {error}")))?;
        println!("recorded in {RECORD}");
        return Ok(());
    }
    verdict(&rows, &gone)
}

fn asked<'a>(arguments: &[&'a str]) -> Result<Asked<'a>, Failed> {
    let mut asked = Asked {
        bless: false,
        strict: false,
        names: Vec::new(),
    };
    for argument in arguments {
        match *argument {
            "--bless" => asked.bless = true,
            "--strict" => asked.strict = true,
            flag if flag.starts_with('-') => {
                return Err(Failed(format!(
                    "`{flag}` is not a flag; there are --bless and --strict"
                )));
            }
            name => asked.names.push(name),
        }
    }
    Ok(asked)
}

/// Builds the benches, in the profile of everything else, and returns their programs.
fn build() -> Result<Vec<PathBuf>, Failed> {
    let mut command = cargo(&["bench", "--no-run"]);
    command.args(WORKSPACE);
    for bench in BENCHES.iter().chain([&SANDBOX]) {
        command.args(["--bench", bench]);
    }
    let mut programs = Vec::new();
    let is_built = tools::read(&mut command, |line| {
        match executable(line) {
            Some(program) => programs.push(tools::root().join(program)),
            None => eprintln!("{line}"),
        };
    })?;
    if !is_built || programs.len() != BENCHES.len() + 1 {
        return Err(Failed("the benches do not build".to_owned()));
    }
    Ok(programs)
}

/// The program in `  Executable benches/steps.rs (target/release/deps/steps-0123456789abcdef)`.
fn executable(line: &str) -> Option<&str> {
    let (_, program) = line
        .trim_start()
        .strip_prefix("Executable ")?
        .split_once('(')?;
    program.strip_suffix(')')
}

/// What a bench can be asked to run.
fn workloads(bench: &Path) -> Result<Vec<Workload>, Failed> {
    let output = Command::new(bench).arg("--workloads").output();
    let output = output.map_err(|error| Failed(format!("`{}`: {error}", bench.display())))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let listed: Option<Vec<Workload>> = text.lines().map(workload).collect();
    listed
        .filter(|listed| !listed.is_empty())
        .ok_or_else(|| Failed(format!("`{}` lists no workloads", bench.display())))
}

fn workload(line: &str) -> Option<Workload> {
    let (name, tasks) = line.split_once('\t')?;
    Some(Workload {
        name: name.to_owned(),
        tasks: tasks.parse().ok().filter(|tasks| *tasks > 0)?,
    })
}

/// Instructions a task. The profile stays in `folder`.
fn count(bench: &Path, workload: &Workload, folder: &Path) -> Result<u64, Failed> {
    let Workload { name, tasks } = workload;
    let profile = folder.join(name.replace('/', "-"));
    let mut command = Command::new("valgrind");
    command
        .args(["--quiet", "--tool=callgrind", "--collect-atstart=no"])
        .arg("--toggle-collect=*tq_micro*counted*")
        .arg(format!("--callgrind-out-file={}", profile.display()))
        .arg(bench)
        .args(["--count", name])
        .current_dir(tools::root())
        .env("GLIBC_TUNABLES", LIBC)
        // The allocator gives pages back by the clock.
        .env("MIMALLOC_PURGE_DELAY", "-1");
    let mut said = String::new();
    let is_done = tools::read(&mut command, |line| {
        said.push_str(line);
        said.push('\n');
    })?;
    let failed = |why: &str| Failed(format!("workload `{name}`: {why}\n{said}"));
    if !is_done {
        return Err(failed("it did not run under valgrind"));
    }
    let text = fs::read_to_string(&profile)
        .map_err(|error| failed(&format!("its profile cannot be read: {error}")))?;
    match total(&text) {
        Some(total) if total > 0 => Ok(total.div_ceil(*tasks)),
        Some(_) | None => Err(failed(
            "nothing was counted: callgrind did not find the frame's function `counted`",
        )),
    }
}

/// All that was counted, as the profile says it: `totals: 10573063`.
fn total(profile: &str) -> Option<u64> {
    let line = profile
        .lines()
        .find_map(|line| line.strip_prefix("totals:"))?;
    line.trim().parse().ok()
}

/// A line of the table.
struct Row {
    name: String,
    before: Option<u64>,
    now: u64,
}

impl Row {
    fn new(workload: &Workload, before: Option<u64>, now: u64) -> Self {
        Self {
            name: workload.name.clone(),
            before,
            now,
        }
    }

    /// What the count has become, as a part of the one that was recorded.
    fn ratio(&self) -> Option<f64> {
        let before = self.before.filter(|before| *before > 0)?;
        Some(self.now as f64 / before as f64)
    }

    fn has_risen(&self) -> bool {
        self.ratio().is_none_or(|ratio| ratio > 1.0 + TOLERANCE)
    }

    fn has_fallen(&self) -> bool {
        self.ratio().is_some_and(|ratio| ratio < 1.0 - TOLERANCE)
    }
}

fn print(rows: &[Row]) {
    println!(
        "\n{:<30}{:>12}{:>12}{:>10}",
        "instructions a task", "recorded", "now", "ratio"
    );
    for row in rows {
        let name = &row.name;
        let before = row.before.map_or("-".to_owned(), |count| count.to_string());
        let ratio = row
            .ratio()
            .map_or("-".to_owned(), |ratio| format!("{ratio:.3}"));
        let verdict = match (row.has_risen(), row.has_fallen()) {
            (true, _) if row.before.is_none() => "  not recorded",
            (true, _) => "  RISEN",
            (_, true) => "  fallen",
            (false, false) => "",
        };
        println!("{name:<30}{before:>12}{:>12}{ratio:>10}{verdict}", row.now);
    }
}

fn verdict(rows: &[Row], gone: &[String]) -> Result<(), Failed> {
    const BLESS: &str = "cargo xtask instructions --bless";
    let percent = TOLERANCE * 100.0;
    if let Some(name) = gone.first() {
        return Err(Failed(format!(
            "{RECORD} has `{name}`, which is no workload; `{BLESS}` leaves it out"
        )));
    }
    if rows.iter().any(Row::has_risen) {
        return Err(Failed(format!(
            "what is marked takes over {percent} % more instructions than are recorded. If that is worth it, say why in \
             the commit, and record it with `{BLESS}`"
        )));
    }
    if rows.iter().any(Row::has_fallen) {
        println!(
            "what is marked takes over {percent} % less than is recorded: `{BLESS}` keeps it so"
        );
    }
    Ok(())
}

/// Reads the record: `"name" = count` lines; what else is there is for people.
fn read(text: &str) -> Result<Counts, Failed> {
    let lines = text.lines().filter(|line| line.starts_with('"'));
    let parsed = lines.map(|line| {
        let (name, count) = line.split_once('=')?;
        let name = name.trim().trim_matches('"').to_owned();
        Some((name, count.trim().parse().ok()?))
    });
    let counts: Option<Counts> = parsed.collect();
    counts.ok_or_else(|| {
        Failed(format!(
            "{RECORD} has a line that is not `\"name\" = count`"
        ))
    })
}

/// Whether counts can be compared: other processors have other instructions.
fn is_of_this_machine(record: &str) -> bool {
    let made = format!(", {}\"", std::env::consts::ARCH);
    record
        .lines()
        .any(|line| line.starts_with("recorded_with") && line.ends_with(&made))
}

fn written(record: &Counts) -> Result<String, Failed> {
    let compiler = Command::new("rustc")
        .arg("--version")
        .current_dir(tools::root())
        .output()
        .map_err(|error| Failed(format!("rustc does not say its version: {error}")))?;
    let compiler = String::from_utf8_lossy(&compiler.stdout);
    let lines: String = record
        .iter()
        .map(|(name, count)| format!("\"{name}\" = {count}\n"))
        .collect();
    Ok(format!(
        "# Instructions of one task in each workload of the micro-benchmarks, counted by callgrind. Written by\n\
         # `cargo xtask instructions --bless`, compared by `cargo xtask instructions`.\n\
         recorded_with = \"{}, {}\"\n\n[instructions]\n{lines}",
        compiler.trim(),
        std::env::consts::ARCH,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(before: Option<u64>, now: u64) -> Row {
        Row {
            name: "ledger/batch_500".to_owned(),
            before,
            now,
        }
    }

    #[test]
    fn rise_over_the_tolerance_fails_and_a_fall_does_not() {
        for (before, now, passes) in [
            (Some(1_000), 1_030, true),
            (Some(1_000), 1_031, false),
            (Some(1_000), 500, true),
            (None, 1_000, false),
            (Some(0), 1_000, false),
        ] {
            let passed = verdict(&[row(before, now)], &[]).is_ok();
            assert_eq!(passed, passes, "{before:?} -> {now}");
        }
        assert!(verdict(&[], &["gone".to_owned()]).is_err());
    }

    #[test]
    fn record_is_read_as_it_was_written() {
        let record: Counts = [("a/b".to_owned(), 1), ("c".to_owned(), 22)].into();
        let text = written(&record).expect("rustc runs");
        assert_eq!(read(&text).expect("it was written here"), record);
        assert!(is_of_this_machine(&text));
        assert!(read("\"a\" = many\n").is_err());
    }

    #[test]
    fn what_cargo_callgrind_and_benches_say_is_understood() {
        let line = "  Executable benches/steps.rs (target/release/deps/steps-0123456789abcdef)";
        let program = "target/release/deps/steps-0123456789abcdef";
        assert_eq!(executable(line), Some(program));
        assert_eq!(executable("   Compiling tq-core v0.1.0 (/core)"), None);
        assert_eq!(total("events: Ir\n\ntotals: 10573063\n"), Some(10_573_063));
        let listed = Workload {
            name: "a/b".to_owned(),
            tasks: 8_000,
        };
        assert_eq!(workload("a/b\t8000"), Some(listed));
        assert_eq!(workload("a/b\t0"), None);
    }
}
