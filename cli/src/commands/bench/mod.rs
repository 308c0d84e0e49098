//! `tq bench`

mod arrivals;
mod compare;
mod floor;
mod guests;
mod load;
mod nodes;
mod plan;
mod process;
mod random;
mod report;
mod sample;
mod scenario;
mod setting;

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use clap::ValueEnum as _;
use serde::Serialize;
use tempfile::TempDir;
use tq_client::Client;

use self::compare::Comparison;
use self::floor::Floors;
use self::plan::Plan;
use self::process::Machine;
use self::report::Report;
use self::scenario::Stage;
use self::setting::Setting;
use crate::args::{BenchArgs, BenchScenario};
use crate::commands::connect;
use crate::config::{Config, Origin};
use crate::exit::{Exit, Failure};
use crate::output::{self, Format, json, table};

/// How long nothing may happen before a measurement is given up.
const STALL: Duration = Duration::from_secs(30);

/// A report, and what it is compared with.
#[derive(Serialize)]
struct Compared {
    #[serde(flatten)]
    report: Report,
    comparison: Comparison,
}

pub(crate) async fn run(config: &Config, args: BenchArgs) -> anyhow::Result<Exit> {
    if args.list {
        return list(config.output.value);
    }
    // Before anything is measured, which takes minutes.
    let old = args.compare.as_deref().map(Report::read).transpose()?;
    let report = match &args.read {
        Some(path) => Report::read(path)?,
        None => {
            let is_own = matches!(config.broker.origin, Origin::Default);
            let plan = Plan::of(&args, is_own, config.host_slots.value, old.as_ref())?;
            match measure(config, &args, plan).await? {
                Some(report) => report,
                None => return Ok(Exit::Interrupted),
            }
        }
    };
    match (old, config.output.value) {
        (None, Format::Json) => json::print(&report)?,
        (None, Format::Table) => report.print()?,
        (Some(old), format) => {
            let comparison = Comparison::of(&old, &report);
            match format {
                Format::Json => json::print(&Compared { report, comparison })?,
                Format::Table => comparison.print()?,
            }
        }
    }
    Ok(Exit::Succeeded)
}

/// `None` if it was interrupted.
async fn measure(config: &Config, args: &BenchArgs, plan: Plan) -> anyhow::Result<Option<Report>> {
    let base = args.dir.clone().unwrap_or_else(std::env::temp_dir);
    let folder = tempfile::Builder::new()
        .prefix("tq-bench-")
        .tempdir_in(&base)
        .with_context(|| format!("failed to make a folder in `{}`", base.display()))?;
    let others = match plan.is_own {
        true => None,
        false => Some(connect(config).await?),
    };
    let measured = tokio::select! {
        report = Box::pin(measure_in(folder.path(), others, plan)) => report.map(Some),
        interrupted = tokio::signal::ctrl_c() => interrupted.map(|()| None).map_err(Into::into),
    };
    let removed = remove(folder).await;
    let report = measured?;
    removed?;
    Ok(report)
}

/// Nodes that were killed, because something failed or was interrupted, may write for another moment.
async fn remove(folder: TempDir) -> anyhow::Result<()> {
    const TRIES: u32 = 20;
    const PAUSE: Duration = Duration::from_millis(50);
    let path = folder.keep();
    let mut tries = 0;
    loop {
        tries += 1;
        match std::fs::remove_dir_all(&path) {
            Ok(()) => return Ok(()),
            Err(error) if tries == TRIES => {
                return Err(error)
                    .with_context(|| format!("failed to remove `{}`", path.display()));
            }
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

async fn measure_in(folder: &Path, others: Option<Client>, plan: Plan) -> anyhow::Result<Report> {
    let url = others.as_ref().map(Client::url);
    let setting = Setting::of_this_machine(folder, url, &plan);
    // The processes of a broker that is another's cannot be told from other work.
    let before = plan.is_own.then(Machine::now).flatten();
    let spinner = output::spinner("the floors");
    let floors = Floors::measure(folder, &plan).await?;
    spinner.finish_and_clear();
    let mut report = Report {
        setting,
        seed: plan.seed,
        figures: floors.figures.clone(),
    };
    let stage = Stage {
        folder,
        others,
        floors,
        plan: &plan,
    };
    for scenario in &plan.scenarios {
        let name = name(*scenario);
        let spinner = output::spinner(name.clone());
        let figures = stage.play(*scenario, &report).await;
        spinner.finish_and_clear();
        let figures = figures.with_context(|| format!("scenario `{name}` failed"))?;
        report.figures.extend(figures);
    }
    report.setting.others_processors = before
        .zip(Machine::now())
        .map(|(then, now)| now.others_since(then, report.setting.processors));
    Ok(report)
}

fn list(format: Format) -> anyhow::Result<Exit> {
    let scenarios = BenchScenario::value_variants().iter();
    let listed = scenarios.map(|scenario| plan::Listed::of(*scenario));
    match format {
        Format::Json => json::print(&listed.collect::<Vec<_>>())?,
        Format::Table => table::print(
            ["scenario", "flags", "measures"],
            listed.map(|listed| [listed.name, listed.flags.join(" "), listed.measures]),
        )?,
    }
    Ok(Exit::Succeeded)
}

/// A scenario as it is typed.
fn name(scenario: BenchScenario) -> String {
    scenario
        .to_possible_value()
        .map(|value| value.get_name().to_owned())
        .unwrap_or_default()
}

/// Waits for something that has to come within a time.
///
/// # Errors
/// What it came to, or that it did not come.
async fn within<T>(
    what: &str,
    bound: Duration,
    work: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    match tokio::time::timeout(bound, work).await {
        Ok(done) => done,
        Err(_) => {
            let message = format!("waited {} s for {what}, in vain", bound.as_secs());
            Err(Failure::new(Exit::Ended, message).into())
        }
    }
}
