//! Namespaces and their settings.

use tonic::{Request, Response, Status};
use tq_core::limits::LimitOverrides;
use tq_core::quota::{Quota, Used};
use tq_core::retry::RetryOverrides;
use tq_core::{Cost, Day, Limits, Quotas, RetryPolicy};
use tq_proto::v1;
use tq_proto::v1::namespace_service_server::NamespaceService;

use super::blocking::blocking;
use super::reads::Reads;
use super::{Context, convert};
use crate::access::Caller;
use crate::api::status::{ApiError, invalid};
use crate::ledger::{Command, NamespaceSettings, QuotaView, SetNamespace, read};
use crate::tables::row;

pub(super) struct Namespaces(pub(super) Context);

#[tonic::async_trait]
impl NamespaceService for Namespaces {
    async fn get_namespace(
        &self,
        request: Request<v1::GetNamespaceRequest>,
    ) -> Result<Response<v1::NamespaceSettings>, Status> {
        let caller = Caller::of(&request)?;
        let name = caller.namespace(request.into_inner().name)?;
        let shared = self.0.ledger.shared();
        if !read(&shared.namespaces).contains_key(&name) {
            return Err(Status::not_found(format!(
                "there is no namespace `{name}`\nhint: it is made by the first deploy into it, or by `tq namespace set {name}`"
            )));
        }
        let settings = shared.settings(&name);
        self.0.ledger.on_disk().await.map_err(ApiError::from)?;
        self.show(name, &settings).await
    }

    async fn set_namespace(
        &self,
        request: Request<v1::SetNamespaceRequest>,
    ) -> Result<Response<v1::NamespaceSettings>, Status> {
        let caller = Caller::of(&request)?;
        let v1::SetNamespaceRequest {
            name,
            retry,
            reset,
            ceilings,
            quotas,
        } = request.into_inner();
        let name = caller.namespace(name)?;
        let retry = convert::retry(retry.as_ref())?;
        let ceilings = convert::limit_overrides(ceilings.as_ref());
        ceilings.over(&Limits::DEFAULT).check().map_err(invalid)?;
        let quotas = quotas_in(quotas);
        quotas.check().map_err(invalid)?;
        let (of_ceilings, others): (Vec<String>, Vec<String>) = reset
            .into_iter()
            .partition(|name| name.starts_with(OF_CEILING));
        let (of_quotas, of_retry): (Vec<String>, Vec<String>) = others
            .into_iter()
            .partition(|name| name.starts_with(OF_QUOTA));
        let without = ceilings_to_reset(&of_ceilings, &ceilings)?;
        let gone = quotas_to_reset(&of_quotas, &quotas)?;
        let kept = kept(&of_retry, &retry)?;
        let is_empty = of_retry.is_empty() && without.is_empty() && gone.is_empty();
        if is_empty && (retry, ceilings, quotas) == Default::default() {
            return Err(invalid(
                "no setting is named; name one to set, or one to go back to its default",
            ));
        }
        let of_name = name.clone();
        let set = self.0.ledger.ask(|reply| {
            Command::SetNamespace(SetNamespace {
                namespace: of_name,
                change: Box::new(move |before| NamespaceSettings {
                    retry: retry.or(kept(before.retry)),
                    ceilings: ceilings.or(before.ceilings.without(&without)),
                    quotas: quotas.or(before.quotas.without(&gone)),
                }),
                reply,
            })
        });
        let settings = set.await.map_err(ApiError::from)?;
        self.show(name, &settings).await
    }

    async fn get_cost(
        &self,
        request: Request<v1::GetCostRequest>,
    ) -> Result<Response<v1::GetCostResponse>, Status> {
        let caller = Caller::of(&request)?;
        let v1::GetCostRequest {
            namespace,
            from,
            to,
            cursor,
        } = request.into_inner();
        let namespace = caller.namespace(namespace)?;
        let from = day_in("from", &from, Day(0))?;
        let of_name = namespace.clone();
        let asked = self.0.ledger.ask(|reply| Command::Quotas(of_name, reply));
        let today = asked.await.map_err(ApiError::from)?.day;
        let to = day_in("to", &to, today)?;
        if to < from {
            return Err(invalid(format_args!(
                "the last day, {to}, is before the first one, {from}"
            )));
        }
        let after = after_in(cursor)?;
        let reads = Reads::new(&self.0, &namespace);
        let page = blocking(move || {
            let Some(number) = reads.namespace else {
                return Ok(row::CostPage::default());
            };
            // Later ones have none, and only so many are looked at.
            let to = to.min(today);
            let after = after.as_ref().map(|(day, name)| (*day, name.as_str()));
            row::list_costs::<ApiError>(&*reads.store, number, (from, to), after)
        });
        let row::CostPage { rows, is_full } = page.await?;
        self.0.ledger.on_disk().await.map_err(ApiError::from)?;
        let last = rows.last().filter(|_| is_full);
        let next = last.map_or_else(String::new, |(day, name, _)| format!("{day} {name}"));
        let costs = rows.into_iter().map(cost_out).collect();
        Ok(Response::new(v1::GetCostResponse { costs, next }))
    }
}

impl Namespaces {
    /// Settings, with what the namespace has of what its quotas count.
    async fn show(
        &self,
        name: String,
        settings: &NamespaceSettings,
    ) -> Result<Response<v1::NamespaceSettings>, Status> {
        let of_name = name.clone();
        let view = self
            .0
            .ledger
            .ask(|reply| Command::Quotas(of_name, reply))
            .await;
        let view = view.map_err(ApiError::from)?;
        Ok(Response::new(settings_out(name, settings, view)))
    }
}

/// A day, or another one if none is named.
fn day_in(field: &str, text: &str, other: Day) -> Result<Day, Status> {
    if text.is_empty() {
        return Ok(other);
    }
    let shown = || text.chars().take(80).collect::<String>();
    text.parse().map_err(|why| {
        invalid(format_args!(
            "{field} is `{}`: {why}",
            shown().escape_debug()
        ))
    })
}

/// The row after which a page begins.
fn after_in(cursor: String) -> Result<Option<(Day, String)>, Status> {
    if cursor.is_empty() {
        return Ok(None);
    }
    let split = cursor.split_once(' ');
    let after = split.and_then(|(day, name)| Some((day.parse().ok()?, name.to_owned())));
    let none = || invalid("the cursor is none that the broker has given");
    after.map(Some).ok_or_else(none)
}

fn cost_out((day, function, cost): (Day, String, Cost)) -> v1::Cost {
    let memory_byte_seconds = cost.memory_byte_seconds();
    let Cost {
        attempts,
        fuel,
        memory_byte_us: _,
        wall_ns,
        cpu_ns,
        bytes_in,
        bytes_out,
    } = cost;
    v1::Cost {
        day: day.to_string(),
        function,
        attempts,
        fuel,
        memory_byte_seconds,
        wall_ns,
        cpu_ns,
        bytes_in,
        bytes_out,
    }
}

/// What the name of a quota begins with, among the settings that can be reset.
const OF_QUOTA: &str = "quota.";

/// The quotas that are to go.
fn quotas_to_reset(reset: &[String], set: &Quotas) -> Result<Vec<Quota>, Status> {
    let quotas = reset.iter().map(|name| {
        let name = name.strip_prefix(OF_QUOTA).unwrap_or(name);
        let known = Quota::ALL.iter().find(|quota| quota.name() == name);
        let Some(quota) = known else {
            let names: Vec<_> = Quota::ALL.iter().map(|quota| quota.name()).collect();
            return Err(invalid(format_args!(
                "`{}` is no quota that can be reset; there is {}",
                name.chars().take(80).collect::<String>().escape_debug(),
                names.join(", ")
            )));
        };
        if set.has(*quota) {
            return Err(invalid(format_args!(
                "quota `{name}` is both set and reset; leave one of them out"
            )));
        }
        Ok(*quota)
    });
    quotas.collect()
}

fn quotas_in(quotas: Option<v1::Quotas>) -> Quotas {
    let v1::Quotas {
        waiting,
        running,
        stored_bytes,
        submits_per_second,
        fuel_per_day,
    } = quotas.unwrap_or_default();
    Quotas {
        waiting,
        running,
        stored_bytes,
        submits_per_second,
        fuel_per_day,
    }
}

fn quotas_out(quotas: &Quotas) -> v1::Quotas {
    let Quotas {
        waiting,
        running,
        stored_bytes,
        submits_per_second,
        fuel_per_day,
    } = *quotas;
    v1::Quotas {
        waiting,
        running,
        stored_bytes,
        submits_per_second,
        fuel_per_day,
    }
}

fn use_out(view: QuotaView) -> v1::QuotaUse {
    let QuotaView {
        used,
        day,
        reason,
        holds_back,
    } = view;
    let Used {
        waiting,
        running,
        stored_bytes,
        fuel,
        fuel_reserved,
    } = used;
    v1::QuotaUse {
        waiting,
        running,
        stored_bytes,
        fuel,
        fuel_reserved,
        fuel_resets_ms: day.next().begins_at().0,
        reason,
        holds_back,
    }
}

/// What the name of a ceiling begins with, among the settings that can be reset.
const OF_CEILING: &str = "ceiling.";

/// The limits whose ceilings are to go.
fn ceilings_to_reset(reset: &[String], set: &LimitOverrides) -> Result<Vec<String>, Status> {
    let names = reset.iter().map(|name| {
        let name = name.strip_prefix(OF_CEILING).unwrap_or(name);
        let mut known = Limits::DEFAULT.rows().map(|(known, _, _)| known);
        if !known.any(|known| known == name) {
            return Err(invalid(format_args!(
                "`{}` is no limit whose ceiling can be reset",
                name.chars().take(80).collect::<String>().escape_debug()
            )));
        }
        if set.names().any(|set| set == name) {
            return Err(invalid(format_args!(
                "the ceiling of `{name}` is both set and reset; leave one of them out"
            )));
        }
        Ok(name.to_owned())
    });
    names.collect()
}

/// What is left of a policy when some of its settings go back to their defaults.
fn kept(
    reset: &[String],
    set: &RetryOverrides,
) -> Result<impl Fn(RetryOverrides) -> RetryOverrides + Send + 'static, Status> {
    let mut resets = [false; 3];
    for name in reset {
        let (at, is_set) = match name.as_str() {
            "max_attempts" => (0, set.max_attempts.is_some()),
            "backoff" => (1, set.backoff.is_some()),
            "cap" => (2, set.cap.is_some()),
            other => {
                return Err(invalid(format_args!(
                    "`{}` is no setting that can be reset; there is `max_attempts`, `backoff`, `cap`, `ceiling.` with the name of a limit, and `quota.` with that of a quota",
                    other.chars().take(80).collect::<String>().escape_debug()
                )));
            }
        };
        if is_set {
            return Err(invalid(format_args!(
                "`{name}` is both set and reset; leave one of them out"
            )));
        }
        resets[at] = true;
    }
    let [max_attempts, backoff, cap] = resets;
    Ok(move |before: RetryOverrides| RetryOverrides {
        max_attempts: before.max_attempts.filter(|_| !max_attempts),
        backoff: before.backoff.filter(|_| !backoff),
        cap: before.cap.filter(|_| !cap),
    })
}

fn settings_out(
    name: String,
    settings: &NamespaceSettings,
    view: QuotaView,
) -> v1::NamespaceSettings {
    let NamespaceSettings {
        retry,
        ceilings,
        quotas,
    } = settings;
    v1::NamespaceSettings {
        name,
        retry: Some(convert::overrides_out(retry)),
        retry_default: Some(convert::retry_out(&retry.over(RetryPolicy::DEFAULT))),
        ceilings: Some(convert::limit_overrides_out(ceilings)),
        quotas: Some(quotas_out(quotas)),
        quota_use: Some(use_out(view)),
    }
}
