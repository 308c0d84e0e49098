//! `tq namespace set`

use tq_client::{LimitOverrides, Quotas};

use crate::args::{NamespaceSetArgs, NamespaceSetting, QuotaArgs};
use crate::commands::{call, connect};
use crate::config::Config;
use crate::exit::{Exit, Failure};
use crate::limits;

pub(crate) async fn run(config: &Config, args: NamespaceSetArgs) -> anyhow::Result<Exit> {
    let NamespaceSetArgs {
        name,
        reset,
        ceiling,
        no_ceiling,
        quotas,
        retry,
    } = args;
    let QuotaArgs {
        max_waiting,
        max_running,
        max_stored,
        submit_rate,
        fuel_per_day,
    } = quotas;
    let quotas = Quotas {
        waiting: max_waiting.map(|count| count.0),
        running: max_running,
        stored_bytes: max_stored.map(|size| size.0),
        submits_per_second: submit_rate.map(|rate| rate.0),
        fuel_per_day: fuel_per_day.map(|count| count.0),
    };
    let mut ceilings = LimitOverrides::default();
    limits::gather(&ceiling, &mut ceilings).map_err(Failure::usage)?;
    let reset = reset.into_iter().map(|setting| {
        match setting {
            NamespaceSetting::MaxAttempts => "max_attempts",
            NamespaceSetting::Backoff => "backoff",
            NamespaceSetting::BackoffCap => "cap",
            NamespaceSetting::QuotaWaiting => "quota.waiting",
            NamespaceSetting::QuotaRunning => "quota.running",
            NamespaceSetting::QuotaStored => "quota.stored",
            NamespaceSetting::QuotaSubmitRate => "quota.submit_rate",
            NamespaceSetting::QuotaFuelPerDay => "quota.fuel_per_day",
        }
        .to_owned()
    });
    let no_ceiling = no_ceiling.iter().map(|name| format!("ceiling.{name}"));
    let client = connect(config).await?;
    let settings = client
        .set_namespace(
            &name,
            call::retry(retry),
            ceilings,
            quotas,
            reset.chain(no_ceiling).collect(),
        )
        .await?;
    super::print(config, &settings)?;
    Ok(Exit::Succeeded)
}
