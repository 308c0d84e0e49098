//! `tq test`

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use tq_client::{
    Client, Component, Forced, Grants, NewTask, RetryOverrides, Task, TaskState, Upload, Usage,
};
use tq_core::TaskId;
use tq_host::egress::{Asking, Recorded};
use tq_host::{Isolation, Rehearsal};

use crate::args::TestArgs;
use crate::cases::{self, Baseline, Case, Change, Expected};
use crate::commands::deploy::{self, Deployable};
use crate::commands::run::{called, log_tail, submit_and_wait};
use crate::config::Config;
use crate::exit::{Exit, Failure};
use crate::nodes::{self, Passing, StopSignals};
use crate::output::{self, Format, json, table};
use crate::units::{Count, Size, nanoseconds};

/// Cases at once: what one measures is not to depend on the others.
const SLOTS: u32 = 1;
/// The id that every function sees as its task's. It begins with the time that clocks begin with, 2026-01-01T00:00:00Z.
const TASK_ID: TaskId = TaskId([
    0x01, 0x9b, 0x76, 0xda, 0xa8, 0x00, 0x70, 0, 0x80, 0, 0, 0, 0, 0, 0, 1,
]);

pub(crate) async fn run(config: &Config, args: TestArgs) -> anyhow::Result<Exit> {
    let TestArgs {
        path,
        filter,
        fuel_baseline,
        update_baseline,
    } = args;
    nodes::check_asks_for_no_broker(config, "`tq test`")?;
    let folder = folder(&path)?;
    // First, so that nobody waits for a build to be told of a mistake in a case.
    let all = cases::read(folder)?;
    let all_names: Vec<String> = all.iter().map(|case| case.name.clone()).collect();
    let cases = chosen(all, filter.as_deref())?;
    let baseline = baseline(folder, fuel_baseline, update_baseline)?;
    let mut stop = StopSignals::listen()?;
    let Deployable {
        component, upload, ..
    } = tokio::task::block_in_place(|| deploy::prepare_for_here(&path))?;
    let answers = Arc::new(Recorded::default());
    let rehearsal = Rehearsal {
        answers: Arc::clone(&answers),
        task_id: TASK_ID,
    };
    let pair = Passing::start(SLOTS, Isolation::Rehearsal(rehearsal), Vec::new()).await?;
    let url = pair.url();
    let running = async {
        let mut stage = Stage {
            client: Client::connect(&url).await?,
            component,
            upload,
            answers,
            env: None,
        };
        // What is wrong with the module itself is no case's fault.
        stage.deploy(&BTreeMap::new()).await?;
        let mut tested = Vec::new();
        let width = cases.iter().map(|case| case.name.len()).max().unwrap_or(0);
        for case in cases {
            let mut ended = stage.run(case).await?;
            if !update_baseline && let Some(baseline) = &baseline {
                ended.weigh(baseline);
            }
            if config.output.value == Format::Table {
                ended.print(width)?;
            }
            tested.push(ended);
        }
        if update_baseline && let Some(mut baseline) = baseline {
            baseline.keep(|name| all_names.iter().any(|known| known == name));
            for case in tested.iter().filter(|case| case.has_passed()) {
                baseline.set(&case.case.name, case.usage.fuel);
            }
            baseline.write()?;
            output::note(format!("wrote `{}`", baseline.path().display()));
        }
        conclude(config, &tested)
    };
    pair.during(&mut stop, Box::pin(running)).await
}

/// Where the cases are: in the module's folder, or beside the component.
fn folder(path: &Path) -> Result<&Path, Failure> {
    if path.is_dir() {
        return Ok(path);
    }
    if !path.is_file() {
        let missing = format!("there is no file or folder `{}`", path.display());
        return Err(Failure::not_found(missing).hint(
            "the first word is the module's folder; `tq test . WORD` runs the cases with that word in their names",
        ));
    }
    Ok(match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    })
}

/// The cases with this in their names.
fn chosen(mut cases: Vec<Case>, filter: Option<&str>) -> Result<Vec<Case>, Failure> {
    let Some(filter) = filter else {
        return Ok(cases);
    };
    let names: Vec<String> = cases.iter().map(|case| case.name.clone()).collect();
    cases.retain(|case| case.name.contains(filter));
    if cases.is_empty() {
        return Err(
            Failure::not_found(format!("no case has `{filter}` in its name"))
                .hint(format!("there are {}", names.join(", "))),
        );
    }
    Ok(cases)
}

/// What fuel is compared with, if it is, or where it is written.
fn baseline(
    folder: &Path,
    named: Option<PathBuf>,
    is_written: bool,
) -> Result<Option<Baseline>, Failure> {
    let is_named = named.is_some();
    let path = named.unwrap_or_else(|| folder.join(cases::BASELINE_FILE));
    match Baseline::read(&path)? {
        None if is_written => Ok(Some(Baseline::empty(&path))),
        None if is_named => Err(Failure::not_found(format!(
            "there is no baseline `{}`",
            path.display()
        ))
        .hint("`tq test --update-baseline` with the same --fuel-baseline writes it")),
        found => Ok(found),
    }
}

/// Where cases are run.
struct Stage {
    client: Client,
    component: Component,
    upload: Upload,
    answers: Arc<Recorded>,
    /// With which variables the module is deployed, if it is.
    env: Option<BTreeMap<String, String>>,
}

/// A case that was run.
struct Tested {
    case: Case,
    outcome: String,
    failures: Vec<String>,
    usage: Usage,
    log: String,
    change: Option<Change>,
}

impl Stage {
    /// Runs a case where there is what it says, and nothing else.
    async fn run(&mut self, mut case: Case) -> anyhow::Result<Tested> {
        self.answers.write_down(std::mem::take(&mut case.http));
        if let Err(error) = self.place(&case).await {
            let place = format!("{}: case `{}`", case.file.display(), case.name);
            return Err(match error {
                // By the same rules as everybody: what a bucket or a variable may be called, and how large it may be.
                tq_client::Error::Refused { message, .. } => {
                    Failure::usage(format!("{place}: {message}")).into()
                }
                error => anyhow::Error::from(error).context(place),
            });
        }
        let task = NewTask {
            function: called(&self.upload.name, case.function.as_deref()),
            payload: case.input.bytes.clone(),
            content_type: case.input.content_type.clone(),
            arguments: case.arguments.clone(),
            // What a case expects of one attempt is not to be had from three.
            retry: Some(RetryOverrides {
                max_attempts: Some(1),
                ..RetryOverrides::default()
            }),
            ..NewTask::default()
        };
        let mut tested = match submit_and_wait(&self.client, task, &mut None).await {
            Ok(task) => {
                let log = log_tail(&self.client, &task.id).await;
                Tested::ended(case, &task, log)
            }
            Err(error @ (tq_client::Error::Refused { .. } | tq_client::Error::NotFound { .. })) => {
                Tested::refused(case, &error)
            }
            Err(error) => return Err(error.into()),
        };
        tested.check_buckets(&self.client).await?;
        tested.check_requests(self.answers.strike());
        Ok(tested)
    }

    /// Deploys the module with these variables, unless it is there with them.
    async fn deploy(&mut self, env: &BTreeMap<String, String>) -> Result<(), tq_client::Error> {
        if self.env.as_ref() == Some(env) {
            return Ok(());
        }
        let component = self.component.clone();
        let upload = rehearsed(&self.upload, env);
        let answer = self.client.upload_module(component, upload, |_| {}).await?;
        for function in answer.module.iter().flat_map(|module| &module.functions) {
            // Cases may fail one after the other, as they are expected to.
            let function = called(&self.upload.name, Some(&function.name));
            let closed = Forced::Closed;
            self.client
                .force_breaker(&function, closed, "cases")
                .await?;
        }
        self.env = Some(env.clone());
        Ok(())
    }

    /// Puts everything there that the case says, in place of what the one before has left.
    async fn place(&mut self, case: &Case) -> Result<(), tq_client::Error> {
        self.deploy(&case.env).await?;
        let client = &self.client;
        for bucket in client.buckets().await?.buckets {
            client.delete_bucket(&bucket.name).await?;
        }
        for secret in client.secrets().await? {
            client.delete_secret(&secret.name).await?;
        }
        for (name, value) in &case.secrets {
            client.set_secret(name, value.clone()).await?;
        }
        for (bucket, keys) in &case.keyvalue {
            for (key, value) in keys {
                client.set_value(bucket, key, value.bytes()).await?;
            }
        }
        Ok(())
    }
}

/// A module as it is deployed for cases: deterministic, and with these variables over its own.
fn rehearsed(upload: &Upload, env: &BTreeMap<String, String>) -> Upload {
    let mut upload = upload.clone();
    let over = |grants: &mut Grants| {
        if let Some(own) = &mut grants.env {
            let env = env.iter();
            own.variables
                .extend(env.map(|(name, value)| (name.clone(), value.clone())));
        }
    };
    upload.grants.deterministic = Some(true);
    upload.grants.env.get_or_insert_default();
    over(&mut upload.grants);
    // What a function says is in place of what the module says.
    let functions = upload.functions.iter_mut();
    for grants in functions.filter_map(|function| function.grants.as_mut()) {
        grants.deterministic = None;
        over(grants);
    }
    upload
}

impl Tested {
    /// The task has run to its end.
    fn ended(case: Case, task: &Task, log: String) -> Self {
        let last = task.attempts.last();
        let usage = last.and_then(|attempt| attempt.usage).unwrap_or_default();
        let failure = last.and_then(table::failure).unwrap_or_default();
        let message = last.and_then(|attempt| attempt.failure.as_ref());
        let message = message.map_or("", |failure| &failure.message);
        let result = match task.state() {
            TaskState::Succeeded => Some(task.result.clone().unwrap_or_default()),
            _ => None,
        };
        let failures = judge(
            &case.expected,
            &task.outcome,
            result.as_ref(),
            message,
            &failure,
        );
        Self {
            case,
            outcome: task.outcome.clone(),
            failures,
            usage,
            log,
            change: None,
        }
    }

    /// The broker did not take the call.
    fn refused(case: Case, error: &tq_client::Error) -> Self {
        let message = error.to_string();
        let said = match error.hint() {
            Some(hint) => format!("{message}\nhint: {hint}"),
            None => message.clone(),
        };
        let failures = judge(&case.expected, cases::REFUSED, None, &message, &said);
        Self {
            case,
            outcome: cases::REFUSED.to_owned(),
            failures,
            usage: Usage::default(),
            log: String::new(),
            change: None,
        }
    }

    /// Compares the buckets with what is to be in them.
    async fn check_buckets(&mut self, client: &Client) -> anyhow::Result<()> {
        for (bucket, expected) in &self.case.keyvalue_after {
            let mut found: BTreeMap<String, Bytes> = BTreeMap::new();
            let mut after = None;
            loop {
                let page = client.keys(bucket, after).await?;
                for key in &page.keys {
                    let value = client.value(bucket, &key.key).await?;
                    found.insert(key.key.clone(), value.value);
                }
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
            for (key, content) in expected {
                let what = format!("key `{}` of bucket `{bucket}`", key.escape_debug());
                match found.remove(key) {
                    Some(value) => self.failures.extend(content.differences(&what, &value)),
                    None => self.failures.push(format!("{what} is not there")),
                }
            }
            let rest = found.iter().map(|(key, value)| {
                let (key, value) = (key.escape_debug(), cases::shown(value));
                format!("key `{key}` of bucket `{bucket}` is {value}, and was not expected")
            });
            self.failures.extend(rest);
        }
        Ok(())
    }

    /// Compares what was asked for with what there were answers to.
    fn check_requests(&mut self, asking: Asking) {
        let Asking { unanswered, unused } = asking;
        for asked in unanswered {
            let (method, url) = asked.split_once(' ').unwrap_or(("GET", &asked));
            self.failures.push(format!(
                "there is no answer to `{asked}`; add one to `http`: {{\"method\": \"{method}\", \"url\": \"{url}\", \"status\": 200, \"body\": {{}}}}"
            ));
        }
        for asked in unused {
            self.failures
                .push(format!("the answer to `{asked}` was not asked for"));
        }
    }

    /// Compares its fuel with what it used before.
    fn weigh(&mut self, baseline: &Baseline) {
        if !self.has_passed() {
            return;
        }
        let change = baseline.change(&self.case.name, self.usage.fuel);
        if let Change::Grown(before) = change {
            self.failures.push(format!(
                "it used {} of fuel, {} more than the {} of `{}`; `tq test --update-baseline` takes that for what it may use",
                Count(self.usage.fuel),
                percent(self.usage.fuel - before, before),
                Count(before),
                baseline.path().display()
            ));
        }
        self.change = Some(change);
    }

    fn has_passed(&self) -> bool {
        self.failures.is_empty()
    }

    fn print(&self, width: usize) -> anyhow::Result<()> {
        let Usage {
            fuel,
            memory_bytes_peak,
            wall_ns,
            cpu_ns: _,
            log_bytes: _,
        } = self.usage;
        let verdict = if self.has_passed() { "ok  " } else { "FAIL" };
        let change = match self.change {
            Some(Change::Fallen(before)) => format!(
                "   {} less than the {} of the baseline",
                percent(before.saturating_sub(fuel), before),
                Count(before)
            ),
            Some(Change::New) => "   not in the baseline".to_owned(),
            Some(Change::Same(_) | Change::Grown(_)) | None => String::new(),
        };
        let name = output::escaped(&self.case.name);
        let mut text = format!(
            "{verdict} {name:width$}  {:>8}  fuel {:>13}  memory {:>8}{change}\n",
            nanoseconds(wall_ns),
            Count(fuel).to_string(),
            Size(memory_bytes_peak).to_string(),
        );
        for failure in &self.failures {
            for (index, line) in failure.lines().enumerate() {
                let indent = if index == 0 { "     " } else { "       " };
                text.push_str(&format!("{indent}{line}\n"));
            }
        }
        if !self.has_passed() && !self.log.is_empty() {
            text.push_str("     last lines of its log:\n");
            for line in self.log.lines() {
                text.push_str(&format!("     {line}\n"));
            }
        }
        Ok(output::data(text.as_bytes())?)
    }

    fn json(&self) -> json::TestedCase<'_> {
        let fuel_baseline = match self.change {
            Some(Change::Grown(before) | Change::Fallen(before) | Change::Same(before)) => {
                Some(before)
            }
            Some(Change::New) | None => None,
        };
        json::TestedCase {
            name: &self.case.name,
            file: self.case.file.display().to_string(),
            passed: self.has_passed(),
            outcome: &self.outcome,
            failures: &self.failures,
            wall_ns: self.usage.wall_ns,
            fuel: self.usage.fuel,
            memory_bytes_peak: self.usage.memory_bytes_peak,
            fuel_baseline,
            log: if self.has_passed() { "" } else { &self.log },
        }
    }
}

/// What of an end was not expected. `message` is the failure's own, and `said` is all that there is to say of it.
fn judge(
    expected: &Expected,
    outcome: &str,
    result: Option<&Bytes>,
    message: &str,
    said: &str,
) -> Vec<String> {
    match (expected, result) {
        (Expected::Result(None), Some(_)) => Vec::new(),
        (Expected::Result(Some(content)), Some(result)) => content.differences("output", result),
        (Expected::Result(_), None) => vec![format!("it ended {outcome}: {said}")],
        (
            Expected::Failure {
                outcome: expected, ..
            },
            Some(result),
        ) => {
            let result = cases::shown(result);
            vec![format!(
                "it succeeded, expected {expected}; its output is {result}"
            )]
        }
        (
            Expected::Failure {
                outcome: expected, ..
            },
            None,
        ) if expected != outcome => {
            vec![format!("it ended {outcome}, expected {expected}: {said}")]
        }
        (
            Expected::Failure {
                message: Some(part),
                ..
            },
            None,
        ) if !message.contains(part.as_str()) => {
            let message = cases::shown(message.as_bytes());
            vec![format!(
                "its message is {message}, and has not {part:?} in it"
            )]
        }
        (Expected::Failure { .. }, None) => Vec::new(),
    }
}

/// A part of a whole: `12 %`.
fn percent(part: u64, whole: u64) -> String {
    let share = u128::from(part) * 100 / u128::from(whole.max(1));
    format!("{share} %")
}

/// Says what became of all of them.
fn conclude(config: &Config, tested: &[Tested]) -> anyhow::Result<Exit> {
    let passed = tested.iter().filter(|case| case.has_passed()).count();
    let failed = tested.len() - passed;
    match config.output.value {
        Format::Table => {
            let wall: u64 = tested.iter().map(|case| case.usage.wall_ns).sum();
            output::line(format!(
                "\n{passed} passed, {failed} failed; they ran for {}",
                nanoseconds(wall)
            ))?;
            let is_fallen = |case: &&Tested| matches!(case.change, Some(Change::Fallen(_)));
            if tested.iter().any(|case| is_fallen(&case)) {
                output::note(
                    "hint: fuel has fallen; `tq test --update-baseline` renews the baseline, so that it stays so",
                );
            }
        }
        Format::Json => json::print(&json::TestReport {
            cases: tested.iter().map(Tested::json).collect(),
            passed,
            failed,
        })?,
    }
    Ok(match failed {
        0 => Exit::Succeeded,
        _ => Exit::Ended,
    })
}
