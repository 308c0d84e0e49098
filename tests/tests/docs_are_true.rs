//! What the documents say of the code, compared with the code.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use tq_core::limits::{self, Limits, Unit};
use tq_core::outcome::{Class, Outcome};
use tq_tests::help::{self, Argument, Help};

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn read(path: &str) -> anyhow::Result<String> {
    fs::read_to_string(root().join(path)).with_context(|| format!("reading {path}"))
}

/// Every document that is ours.
fn documents() -> anyhow::Result<Vec<PathBuf>> {
    let mut found = vec![
        root().join("README.md"),
        root().join("CONTRIBUTING.md"),
        root().join("CHANGELOG.md"),
        root().join("SECURITY.md"),
        root().join("clients/python/README.md"),
        root().join("clients/typescript/README.md"),
    ];
    let mut folders = vec![root().join("docs")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                found.push(path);
            }
        }
    }
    Ok(found)
}

/// What stands in backticks, outside of blocks of code.
fn quoted(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

/// The cells of a row of a table.
fn cells(line: &str) -> Vec<&str> {
    line.trim_matches('|').split('|').map(str::trim).collect()
}

#[test]
fn links_lead_to_files() -> anyhow::Result<()> {
    let mut broken = Vec::new();
    let mut count = 0;
    for document in documents()? {
        let text = fs::read_to_string(&document)?;
        let folder = document.parent().context("a document is in a folder")?;
        for link in text.split("](").skip(1) {
            let target = link.split(')').next().unwrap_or(link);
            let file = target.split('#').next().unwrap_or(target);
            if file.is_empty() || target.starts_with("https://") {
                continue;
            }
            count += 1;
            if !folder.join(file).try_exists()? {
                broken.push(format!("{}: {target}", document.display()));
            }
        }
    }
    ensure!(broken.is_empty(), "links that lead nowhere: {broken:#?}");
    ensure!(
        count > 10,
        "only {count} links were found: the search is broken"
    );
    Ok(())
}

#[test]
fn tests_that_hold_invariants_exist() -> anyhow::Result<()> {
    let text = read("docs/architecture.md")?;
    let mut numbers = Vec::new();
    let mut missing = Vec::new();
    for line in text.lines().filter(|line| line.starts_with("| INV-")) {
        numbers.push(cells(line)[0].to_owned());
        let mut file = String::new();
        for word in quoted(line) {
            if word.ends_with(".rs") {
                file = read(word)?;
            } else if !file.contains(&format!("fn {word}(")) {
                missing.push(word.to_owned());
            }
        }
    }
    ensure!(missing.is_empty(), "tests that are not there: {missing:#?}");
    let expected: Vec<_> = (1..=numbers.len())
        .map(|number| format!("INV-{number}"))
        .collect();
    ensure!(numbers == expected, "invariants are numbered {numbers:?}");
    // What is checked at run time is in the table under the same words.
    let rules = read("core/src/invariants.rs")?;
    for rule in rules.split("\"INV-").skip(1) {
        let (number, words) = rule
            .split_once(": ")
            .context("a rule has a number and words")?;
        let words = words.split('"').next().unwrap_or(words);
        let row = text
            .lines()
            .find(|line| line.starts_with(&format!("| INV-{number} |")))
            .context(number.to_owned())?;
        ensure!(
            row.contains("checked at run time"),
            "INV-{number} does not say that it is checked at run time ({words})"
        );
    }
    Ok(())
}

#[test]
fn outcomes_are_all_listed() -> anyhow::Result<()> {
    let text = read("docs/reference/outcomes.md")?;
    let rows = text.lines().filter(|line| line.starts_with("| `"));
    let listed: Vec<_> = rows
        .map(|line| {
            (
                cells(line)[0].trim_matches('`').to_owned(),
                cells(line)[1].to_owned(),
            )
        })
        .collect();
    let class = |outcome: &Outcome| match outcome.class() {
        Class::Success => "success",
        Class::Retryable => "retryable",
        Class::Permanent => "permanent",
        Class::Stopped => "stopped",
        Class::HostLost => "host lost",
        Class::Crash => "crash",
    };
    let expected: Vec<_> = Outcome::ALL
        .iter()
        .map(|outcome| (outcome.name().to_owned(), class(outcome).to_owned()))
        .collect();
    ensure!(
        listed == expected,
        "listed: {listed:#?}\nin the code: {expected:#?}"
    );
    Ok(())
}

/// The names under which a `metrics.rs` registers, with their units.
fn registered(source: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for call in source.split(".register").skip(1) {
        let (kind, arguments) = call.split_once('(').unwrap_or((call, ""));
        let Some(name) = arguments.split('"').nth(1) else {
            continue;
        };
        let unit = arguments
            .split("Unit::")
            .nth(1)
            .filter(|_| kind == "_with_unit");
        let unit = unit.map(|unit| {
            unit.chars()
                .take_while(char::is_ascii_alphabetic)
                .collect::<String>()
        });
        names.insert(match unit {
            Some(unit) => format!("tq_{name}_{}", unit.to_lowercase()),
            None => format!("tq_{name}"),
        });
    }
    names
}

#[test]
fn metrics_are_all_listed() -> anyhow::Result<()> {
    let text = read("docs/reference/metrics.md")?;
    let (broker, host) = text
        .split_once("\n## Host")
        .context("the page has a part for hosts")?;
    for (part, source) in [
        (broker, "broker/src/observe/metrics.rs"),
        (host, "host/src/metrics.rs"),
    ] {
        let rows = part.lines().filter(|line| line.starts_with("| `"));
        let listed = rows.map(|line| {
            let name = cells(line)[0].trim_matches('`');
            let name = name
                .strip_suffix("_total")
                .or_else(|| name.strip_suffix("_info"))
                .unwrap_or(name);
            name.to_owned()
        });
        let listed: BTreeSet<_> = listed.collect();
        let registered = registered(&read(source)?);
        ensure!(
            registered.len() > 5,
            "{source}: the search found only {registered:?}"
        );
        ensure!(
            listed == registered,
            "{source}: listed {listed:#?}\nregistered {registered:#?}"
        );
    }
    Ok(())
}

/// A value as people write it.
trait Shown {
    fn shown(&self, name: &str) -> String;
}

impl Shown for u64 {
    fn shown(&self, name: &str) -> String {
        let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
        match units.into_iter().find(|(shift, _)| {
            name.contains("BYTES") && *self > 0 && self.trailing_zeros() >= *shift
        }) {
            Some((shift, unit)) => format!("{} {unit}", self >> shift),
            None if name.contains("BYTES") => format!("{self} B"),
            None => grouped(*self),
        }
    }
}

impl Shown for u32 {
    fn shown(&self, name: &str) -> String {
        u64::from(*self).shown(name)
    }
}

impl Shown for usize {
    fn shown(&self, name: &str) -> String {
        (*self as u64).shown(name)
    }
}

impl Shown for Duration {
    fn shown(&self, _: &str) -> String {
        let ms = self.as_millis();
        if ms == 0 {
            return format!("{} µs", self.as_micros());
        }
        match [
            (86_400_000, "days"),
            (3_600_000, "h"),
            (60_000, "min"),
            (1_000, "s"),
        ]
        .into_iter()
        .find(|(unit, _)| ms.is_multiple_of(*unit) && ms / unit > 1)
        {
            Some((unit, word)) => format!("{} {word}", ms / unit),
            None => format!("{ms} ms"),
        }
    }
}

/// 1234567 as `1,234,567`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

macro_rules! values {
    ($($name:ident)*) => {
        &[$((stringify!($name), &limits::$name as &dyn Shown)),*]
    };
}

/// Every constant of `core/src/limits.rs`; the page is not generated while one is missing here.
const VALUES: &[(&str, &dyn Shown)] = values![
    NAME_BYTES_MAX PAYLOAD_BYTES_MAX RESULT_BYTES_MAX INLINE_BYTES_MAX MODULE_BYTES_MAX CUT_UPLOADS_MAX CUT_UPLOADS_NAMESPACE_MAX CUT_UPLOAD_KEPT CHUNK_BYTES ARGUMENTS_BYTES_MAX
    ARGUMENTS_MAX IDEMPOTENCY_KEY_BYTES_MAX IDEMPOTENCY_WINDOW IDEMPOTENCY_WINDOW_MIN IDEMPOTENCY_WINDOW_MAX CONTENT_TYPE_BYTES_MAX SUBMIT_BATCH_MAX WATCH_IDS_MAX
    CONCURRENCY_KEY_BYTES_MAX CONCURRENCY_MAX RATE_MAX RATE_SPAN_MAX QUEUES_MAX AGED_TURN
    MESSAGE_BYTES_MAX LIST_SCAN_MAX LIST_PAGE_MAX SEARCH_ENTRIES_MAX SORT_TASKS_MAX SEARCHES_MAX ID_AHEAD_MAX FILTER_BYTES_MAX FILTER_TESTS_MAX FILTER_DEPTH_MAX EXPORT_PAGE_TASKS EXPORT_PART_BYTES APPLY_BATCH_MAX REDRIVE_BATCH_MAX SIGNATURES_PAGE_MAX SIGNATURE_COUNT_MAX LOG_TAIL_LINES
    LOG_TAIL_BYTES CANCEL_BATCH_MAX CHANGES_AT_ONCE DELETE_BATCH_MAX LOG_ROWS_PER_STEP RETENTION_MIN RETENTION_MAX RETENTION_SLICE DELAY_MAX ATTEMPTS_MAX
    ATTEMPTS_KEPT LOSSES_MAX ERROR_MESSAGE_BYTES_MAX
    STRIKES_MAX BACKTRACE_BYTES_MAX BACKTRACE_FRAMES_MAX LOG_LINE_BYTES_MAX LOG_CHUNK_BYTES FLUSH_INTERVAL
    LOG_LATE CHECKPOINT_BYTES_MAX CHECKPOINT_FRAME_BYTES PROGRESS_NOTE_BYTES_MAX MEMORIES_MAX TABLES_MAX INSTANCES_MAX TABLE_ELEMENTS_MAX STACK_BYTES_MAX
    ENV_MAX ENV_BYTES_MAX CLOCK_RESOLUTION HOSTCALL_BYTES_MAX RANDOM_BYTES_MAX HTTP_FIELDS_BYTES_MAX
    SCRATCH_NODE_BYTES SCRATCH_BLOCK_BYTES SCRATCH_BLOCK_COST_BYTES SCRATCH_NAME_BYTES_MAX SCRATCH_PATH_BYTES_MAX SCRATCH_READ_BYTES_MAX SCRATCH_RENAME_DEPTH_MAX
    WEBHOOKS_MAX WEBHOOK_URL_BYTES_MAX WEBHOOK_FUNCTIONS_MAX WEBHOOK_PENDING_MAX WEBHOOK_TAKE_MAX WEBHOOK_LOG_MAX WEBHOOK_BODY_BYTES_MAX WEBHOOK_ANSWER_BYTES_MAX WEBHOOK_OPEN_MAX WEBHOOKS_OPEN_NAMESPACE_MAX WEBHOOK_TESTS_MAX WEBHOOKS_OPEN_MAX WEBHOOK_TIMEOUT WEBHOOK_ATTEMPTS_MAX WEBHOOK_BACKOFF WEBHOOK_BACKOFF_MAX WEBHOOK_FAILING_MAX WEBHOOK_ERROR_BYTES_MAX
    SECRETS_MAX SECRET_BYTES_MIN SECRET_BYTES_MAX SERVICE_TIMEOUT GRANTS_MAX REQUEST_ID_BYTES_MAX REST_BODY_TIME REST_SMALL_BODY_BYTES REST_LARGE_BODIES_MAX REST_VALUES_MAX
    ACCESS_KEYS_MAX ACCESS_KEYS_PER_NAMESPACE_MAX ACCESS_KEY_NAMESPACES_MAX ACCESS_KEY_EXPIRY_MAX ACCESS_KEY_GRACE_MAX ACCESS_RECHECK ACCESS_FAILURES_MAX ACCESS_FAILURE_EVERY ACCESS_ADDRESSES_MAX JWT_BYTES_MAX JWT_LEEWAY JWTS_VERIFIED_MAX JWKS_BYTES_MAX JWKS_EVERY JWKS_UNKNOWN_EVERY JWKS_TIMEOUT AUDIT_RECORDS_MAX AUDITED_CALLS_MAX AUDIT_RECORDS_AT_ONCE AUDIT_RECORD_EVERY AUDIT_BUDGETS_MAX
    KEYVALUE_KEY_BYTES_MAX KEYVALUE_VALUE_BYTES_MAX KEYVALUE_ENTRY_BYTES KEYVALUE_NAMESPACE_BYTES_MAX KEYVALUE_BUCKETS_MAX KEYVALUE_KEYS_MAX KEYVALUE_CALL_BYTES_MAX
    HTTP_HEADERS_MAX HTTP_HEAD_BYTES_MAX HTTP_PATH_BYTES_MAX HTTP_BODY_BYTES_MAX HTTP_OPEN_MAX HTTP_OPEN_HOST_MAX HTTP_LOOKUPS_MAX
    HTTP_LOOKUP_TIME HTTP_CONNECT_TIME HTTP_IDLE_MAX HTTP_IDLE_TIME HTTP_CHUNK_BYTES TCP_OPEN_MAX TCP_OPEN_HOST_MAX
    TCP_LOOKUPS_MAX TCP_ADDRESSES_MAX TCP_ADDRESSES_KEPT_MAX TCP_CONNECT_TIME TCP_LINGER_TIME TCP_PART_BYTES TCP_PARTS_AHEAD TCP_LINES_MAX
    CANCEL_GRACE EPOCH_TICK
    COMPILE_CPU COMPILE_WALL COMPILE_MEMORY_BYTES COMPILES_MAX COMPILE_THREADS_MAX COMPILED_BYTES_MAX
    COMPILE_MESSAGE_BYTES_MAX COMPILED_CACHE_BYTES READY_MODULES_MAX COMPILE_RETRY_AFTER FAILED_MODULES_MAX COMPILE_FAILURES_MAX LEASE HEARTBEAT
    LABELS_MAX LABEL_VALUE_BYTES_MAX HOST_MEMORY_BYTES_MAX DRAIN_DEADLINE_MAX QUARANTINE_FAILURES QUARANTINE_WINDOW
    QUARANTINE_PAUSE_MIN QUARANTINE_PAUSE_MAX BREAKER_WINDOW BREAKER_ATTEMPTS_MIN BREAKER_FAILURE_PERCENT BREAKER_PAUSE_MIN BREAKER_PAUSE_MAX
    BREAKER_PROBES BREAKER_CHANGES_MAX BREAKERS_MAX BREAKER_KEPT BREAKER_REASON_BYTES_MAX HOST_CHANGES_MAX COST_DAYS_MAX COST_FUNCTIONS_MAX COST_PAGE_MAX WAITING_MAX SUBMITS_BYTES_MAX SUBMIT_TASK_BYTES
    OVERLOAD_LOW_PERCENT OVERLOAD_NORMAL_PERCENT OVERLOAD_CALM OVERLOAD_CHANGES_MAX OVERLOAD_RETRY_MIN OVERLOAD_RETRY_MAX SLOTS_MAX RUNNER_ATTEMPTS RUNNER_AGE_MIN RUNNER_IDLE RUNNERS_IDLE_MAX RUNNER_START_WAIT RUNNER_STUCK_AFTER RUNNER_FILES_MAX RUNNER_WORDS_BYTES_MAX EVENTS_MAX ROOM_WAIT SHUTDOWN_WAIT OUTCOMES_KEPT_MAX FREE_BYTES_FLOOR INBOX_MAX BATCH_COMMANDS_MAX READY_WINDOW
    READY_WINDOW_PAYLOAD_BYTES MODULE_FUNCTIONS_MAX MODULE_PARTS_MAX MODULE_CORE_FUNCTIONS_MAX MODULE_IMPORTS_MAX
    MODULE_FUNCTION_BYTES_MAX MODULE_TYPE_DEPTH_MAX MODULE_TYPES_MAX MODULE_TYPE_COPIES_BYTES_MAX
    MODULE_LIFTED_VALUES_MAX
    MODULE_DESCRIPTIONS_BYTES_MAX MODULE_CORE_TYPES_MAX MODULE_ARITY_MAX MODULE_LINKS_MAX MODULE_NAME_BYTES_MAX MODULE_LOCALS_MAX
    MODULE_LOCALS_ALL_MAX MODULE_BLOCK_DEPTH_MAX MODULE_BRANCH_TARGETS_MAX MODULE_BRANCH_TARGETS_ALL_MAX
    TYPED_TYPES_MAX TYPED_DEPTH_MAX TYPED_NAMES_BYTES_MAX MODULE_TYPED_TYPES_MAX MODULE_TYPED_NAMES_BYTES_MAX TYPED_VALUES_MAX
];

/// The comment of a limit of an attempt.
fn doc_of_limit(source: &str, name: &str) -> anyhow::Result<String> {
    let lines: Vec<&str> = source.lines().map(str::trim_start).collect();
    let at = lines
        .iter()
        .position(|line| line.contains(&format!(": \"{name}\", ")));
    let at = at.with_context(|| format!("limit `{name}` is not in the source"))?;
    let comment = lines[..at].iter().rev();
    let mut comment: Vec<&str> = comment
        .map_while(|line| line.strip_prefix("/// "))
        .collect();
    comment.reverse();
    Ok(comment.join(" "))
}

/// The page, made of the constants and their comments.
fn limits_page(source: &str) -> anyhow::Result<String> {
    let mut page = String::from(
        "# Limits\n\nGenerated from `core/src/limits.rs` by `cargo xtask generate`; do not edit.\n\n\
         ## Of an attempt\n\nSet in `tq.toml` or by flags of `tq deploy`; a call may only lower them.\n\n\
         | | default | least | most | |\n|---|---|---|---|---|\n",
    );
    let bounds = Limits::MIN.rows().zip(Limits::MAX.rows());
    for ((name, unit, default), ((_, _, least), (_, _, most))) in Limits::DEFAULT.rows().zip(bounds)
    {
        let shown = |value: u64| match unit {
            Unit::Count => grouped(value),
            Unit::Bytes => value.shown("BYTES"),
            Unit::Millis => Duration::from_millis(value).shown(""),
        };
        let (default, least, most) = (shown(default), shown(least), shown(most));
        let what = doc_of_limit(source, name)?;
        writeln!(page, "| `{name}` | {default} | {least} | {most} | {what} |")?;
    }
    let head = "\n\n| | | why |\n|---|---|---|\n";
    let mut modules = format!(
        "\n## Of a module at upload\n\nCounted while it is read and before it is validated; the error names the limit and the value. Python is a component \
         by componentize-py, JavaScript one by componentize-js.{head}"
    );
    let mut others = format!(
        "\n## Of everything else\n\nEach is a constant. Where something is over one, the error names the limit and the value.{head}"
    );
    let mut comment = Vec::new();
    let mut listed = 0;
    for line in source.lines() {
        if let Some(words) = line.strip_prefix("/// ") {
            comment.push(words);
        } else if let Some(rest) = line.strip_prefix("pub const ") {
            let name = rest.split(':').next().unwrap_or(rest);
            let (_, value) = VALUES
                .iter()
                .find(|(known, _)| *known == name)
                .with_context(|| format!("{name} is not in VALUES"))?;
            let why = comment
                .join(" ")
                .replace("[`", "`")
                .replace("`]", "`")
                .replace("Limits::memory_bytes", "memory")
                .replace("Limits::handles", "handles");
            let table = if name.starts_with("MODULE_") {
                &mut modules
            } else {
                &mut others
            };
            writeln!(table, "| `{name}` | {} | {why} |", value.shown(name))?;
            listed += 1;
            comment.clear();
        } else {
            comment.clear();
        }
    }
    ensure!(
        listed == VALUES.len(),
        "{listed} constants are in the source, {} in VALUES",
        VALUES.len()
    );
    Ok(page + &modules + &others)
}

/// Compares a generated page with the one that is committed; `TQ_BLESS=1` writes it instead.
fn check_fresh(path: &str, page: String) -> anyhow::Result<()> {
    if std::env::var_os("TQ_BLESS").is_some() {
        return Ok(fs::write(root().join(path), page)?);
    }
    ensure!(
        read(path)? == page,
        "{path} is stale: run `cargo xtask generate`"
    );
    Ok(())
}

#[test]
fn limits_are_what_the_code_has() -> anyhow::Result<()> {
    let page = limits_page(&read("core/src/limits.rs")?)?;
    check_fresh("docs/reference/limits.md", page)
}

/// The exit codes with their meanings, from the enum that has them.
fn exit_codes(source: &str) -> anyhow::Result<Vec<(String, String)>> {
    let (_, rest) = source
        .split_once("enum Exit {")
        .context("there is an enum of exit codes")?;
    let mut codes = Vec::new();
    let mut meaning = Vec::new();
    for line in rest.lines().map(str::trim).take_while(|line| *line != "}") {
        if let Some(words) = line.strip_prefix("/// ") {
            meaning.push(words);
        } else if let Some((_, code)) = line.split_once(" = ") {
            codes.push((code.trim_end_matches(',').to_owned(), meaning.join(" ")));
            meaning.clear();
        }
    }
    ensure!(codes.len() > 5, "the search found only {codes:?}");
    Ok(codes)
}

/// A table of arguments and options.
fn options(arguments: &[Argument], page: &mut String) -> anyhow::Result<()> {
    page.push_str("\n| | |\n|---|---|\n");
    for Argument { name, text, values } in arguments {
        write!(page, "| `{name}` | {text}")?;
        for (at, (value, meaning)) in values.iter().enumerate() {
            let mut meaning = meaning.clone();
            meaning[..1].make_ascii_lowercase();
            write!(
                page,
                "{} `{value}`: {meaning}",
                if at == 0 { "." } else { ";" }
            )?;
        }
        page.push_str(" |\n");
    }
    Ok(())
}

/// The page, made of what each command says of itself.
fn commands_page(commands: &[Help], exit_codes: &[(String, String)]) -> anyhow::Result<String> {
    const GLOBAL: &str = "Global options";
    let (tq, commands) = commands.split_first().context("there is `tq`")?;
    let global = tq.sections.iter().find(|(heading, _)| heading == GLOBAL);
    let (_, global) = global.context("there are global options")?;
    let mut page = format!(
        "# Command line\n\nGenerated from `tq COMMAND --help` by `cargo xtask generate`; do not edit.\n\n{}.\n\n\
         ```text\n{}\n```\n\n## Exit codes\n\n| | |\n|---|---|\n",
        tq.about,
        tq.usage.join("\n")
    );
    for (code, meaning) in exit_codes {
        writeln!(page, "| {code} | {meaning} |")?;
    }
    page.push_str(
        "\n## Options of every command\n\nA flag wins over a `TQ_*` variable, that over `config.toml`, and that over the default; `tq config show` \
         says which it was. `-h` prints a command's help, `-V` the version.\n",
    );
    options(global, &mut page)?;
    for Help {
        command,
        about,
        usage,
        commands: _,
        sections,
        rest,
    } in commands
    {
        write!(
            page,
            "\n## `{command}`\n\n{about}.\n\n```text\n{}\n```\n",
            usage.join("\n")
        )?;
        let mut own: Vec<(&str, Vec<Argument>)> = Vec::new();
        for (heading, arguments) in sections {
            if heading == GLOBAL {
                // What a command has of the same name is its own, and stands in the place of the global one.
                let is_own = |argument: &Argument| {
                    let named = |other: &Argument| other.name == argument.name;
                    sections
                        .iter()
                        .any(|(other, arguments)| other != heading && arguments.iter().any(named))
                };
                let expected: Vec<_> = global.iter().filter(|argument| !is_own(argument)).collect();
                ensure!(
                    arguments.iter().collect::<Vec<_>>() == expected,
                    "global options of `{command}` are its own"
                );
                continue;
            }
            let of_every_command = ["-h, --help", "-V, --version"];
            let arguments = arguments
                .iter()
                .filter(|argument| !of_every_command.contains(&&argument.name[..]));
            let heading = match &heading[..] {
                "Arguments" | "Options" => "",
                heading => heading,
            };
            match own.last_mut() {
                Some((last, own)) if *last == heading => own.extend(arguments.cloned()),
                _ => own.push((heading, arguments.cloned().collect::<Vec<_>>())),
            }
        }
        for (heading, arguments) in own.iter().filter(|(_, own)| !own.is_empty()) {
            match *heading {
                "" => {}
                "Limits of an attempt" => write!(
                    page,
                    "\n{heading} ([ranges and defaults](limits.md#of-an-attempt)):\n"
                )?,
                heading => write!(page, "\n{heading}:\n")?,
            }
            options(arguments, &mut page)?;
        }
        if !rest.is_empty() {
            write!(page, "\n```text\n{rest}\n```\n")?;
        }
    }
    Ok(page)
}

#[tokio::test]
async fn commands_are_what_the_binary_has() -> anyhow::Result<()> {
    let codes = exit_codes(&read("cli/src/exit.rs")?)?;
    let page = commands_page(&help::every_command().await, &codes)?;
    check_fresh("docs/reference/cli.md", page)
}

/// A setting of the configuration file, with the variables that set it too.
struct Key {
    table: String,
    name: String,
    variables: Vec<String>,
}

/// The settings, in the order of the source that merges them: each is looked up there by `variables, table, name`.
fn keys(source: &str) -> anyhow::Result<Vec<Key>> {
    let listed = source
        .split_once("const KEYS")
        .and_then(|(_, rest)| rest.split_once("];\n\n"))
        .context("there is a list of keys")?
        .0;
    let merged = source
        .split_once("let layers = Layers")
        .and_then(|(_, rest)| rest.split_once("/// Every setting"))
        .context("there is a part that merges")?
        .0;
    let mut variables = BTreeMap::new();
    let mut gathered: Vec<String> = Vec::new();
    let texts: Vec<&str> = merged.split('"').skip(1).step_by(2).collect();
    for pair in texts.windows(2) {
        let of_variable = ["TQ_", "OTEL_"]
            .iter()
            .any(|start| pair[0].starts_with(start));
        if of_variable {
            if !gathered.iter().any(|known| known == pair[0]) {
                gathered.push(pair[0].to_owned());
            }
        } else if !gathered.is_empty() {
            let key = (pair[0].to_owned(), pair[1].to_owned());
            variables.insert(key, std::mem::take(&mut gathered));
        }
    }
    let mut keys = Vec::new();
    let mut table = String::new();
    for part in listed.split('(').skip(1) {
        let mut names = part.split('"').skip(1).step_by(2);
        names.next().unwrap_or_default().clone_into(&mut table);
        for name in names {
            let variables = variables.remove(&(table.clone(), name.to_owned()));
            keys.push(Key {
                table: table.clone(),
                name: name.to_owned(),
                variables: variables.with_context(|| format!("{table}.{name} is not looked up"))?,
            });
        }
    }
    ensure!(variables.is_empty(), "no keys of the file: {variables:?}");
    Ok(keys)
}

/// The comment of a field of the merged settings.
fn doc_of_setting(source: &str, key: &Key) -> Option<String> {
    let field = format!("pub(crate) {}_{}:", key.table, key.name);
    let lines: Vec<&str> = source.lines().map(str::trim_start).collect();
    let at = lines.iter().position(|line| line.starts_with(&field))?;
    let comment = lines[at.checked_sub(1)?].strip_prefix("/// ")?;
    Some(comment.trim_end_matches('.').to_owned())
}

/// Takes `[NAME: …]` out of what a help says of an option.
fn bracket(text: &str, name: &str) -> (String, Option<String>) {
    let found = text.split_once(&format!(" [{name}: "));
    let found = found.and_then(|(before, rest)| {
        let (value, after) = rest.split_once(']')?;
        Some((format!("{before}{after}"), value.to_owned()))
    });
    match found {
        Some((text, value)) => (text, Some(value)),
        None => (text.to_owned(), None),
    }
}

/// The page, made of what is looked up and of what each command says of its options.
fn config_page(source: &str, commands: &[Help]) -> anyhow::Result<String> {
    let mut page = String::from(
        "# Configuration\n\nGenerated from `cli/src/config.rs` and `tq COMMAND --help` by `cargo xtask generate`; do not edit.\n\n\
         The file is `tq/config.toml` in the user's configuration folder (`~/.config`, or `XDG_CONFIG_HOME`), or what `--config` or `TQ_CONFIG` names. \
         A flag wins over a variable, that over the file, and that over the default; `tq config show` says what holds, and where it comes from. \
         A key that is not listed here is an error. Values are texts, as they would stand behind the flag, or numbers; what is either so or not is `true` or `false`; \
         several of a kind have commas between them.\n\n\
         ```toml\n[broker]\ndata_dir = \"/var/lib/tq\"\nmax_waiting = 100000\n```\n",
    );
    let mut table = "";
    let keys = keys(source)?;
    for key in &keys {
        if key.table != table {
            table = &key.table;
            let of = match table {
                "client" => "What clients and hosts connect by",
                "log" => "What every node writes",
                "dev" => "`tq dev`",
                "broker" => "`tq broker`",
                "host" => "`tq host`",
                other => anyhow::bail!("a table `{other}`"),
            };
            write!(
                page,
                "\n## `[{table}]`\n\n{of}.\n\n| key | flag | variable | default | |\n|---|---|---|---|---|\n"
            )?;
        }
        let arguments = commands.iter().flat_map(|help| &help.sections);
        let arguments = arguments.flat_map(|(_, arguments)| arguments);
        let option = arguments.into_iter().find(|argument| {
            let (_, variables) = bracket(&argument.text, "env");
            let variables = variables.unwrap_or_default();
            let mut variables = variables.split(", ");
            variables.any(|variable| key.variables.iter().any(|known| known == variable))
        });
        let (flag, default, what) = match option {
            Some(Argument { name, text, values }) => {
                let (text, _) = bracket(text, "env");
                let (mut text, default) = bracket(&text, "default");
                for (at, (value, meaning)) in values.iter().enumerate() {
                    let mut meaning = meaning.clone();
                    meaning[..1].make_ascii_lowercase();
                    let between = if at == 0 { "." } else { ";" };
                    write!(text, "{between} `{value}`: {meaning}")?;
                }
                let flag = name.rsplit(", ").next().unwrap_or(name);
                (format!("`{flag}`"), default.unwrap_or_default(), text)
            }
            None => {
                let what = doc_of_setting(source, key);
                let what = what.with_context(|| format!("nothing is said of {}", key.name))?;
                (String::new(), String::new(), what)
            }
        };
        let variables = key.variables.iter();
        let variables: Vec<_> = variables.map(|name| format!("`{name}`")).collect();
        let (name, variables) = (&key.name, variables.join(", "));
        let flag = flag.replace('|', "\\|");
        writeln!(
            page,
            "| `{name}` | {flag} | {variables} | {default} | {what} |"
        )?;
    }
    ensure!(keys.len() > 20, "the search found only {} keys", keys.len());
    Ok(page)
}

#[tokio::test]
async fn settings_are_what_the_binary_has() -> anyhow::Result<()> {
    let source = read("cli/src/config.rs")?;
    let page = config_page(&source, &help::every_command().await)?;
    check_fresh("docs/reference/config.md", page)
}
