//! Namespaces and their settings.

use tonic::{Request, Response, Status};
use tq_core::limits::LimitOverrides;
use tq_core::retry::RetryOverrides;
use tq_core::{Limits, RetryPolicy};
use tq_proto::v1;
use tq_proto::v1::namespace_service_server::NamespaceService;

use super::{Context, convert};
use crate::access::Caller;
use crate::api::status::{ApiError, invalid};
use crate::ledger::{Command, NamespaceSettings, SetNamespace, read};

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
        Ok(Response::new(settings_out(name, &settings)))
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
        } = request.into_inner();
        let name = caller.namespace(name)?;
        let retry = convert::retry(retry.as_ref())?;
        let ceilings = convert::limit_overrides(ceilings.as_ref());
        ceilings.over(&Limits::DEFAULT).check().map_err(invalid)?;
        let (of_ceilings, of_retry): (Vec<String>, Vec<String>) = reset
            .into_iter()
            .partition(|name| name.starts_with(OF_CEILING));
        let without = ceilings_to_reset(&of_ceilings, &ceilings)?;
        let kept = kept(&of_retry, &retry)?;
        let is_empty = of_retry.is_empty() && without.is_empty();
        if is_empty && (retry, ceilings) == Default::default() {
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
                }),
                reply,
            })
        });
        let settings = set.await.map_err(ApiError::from)?;
        Ok(Response::new(settings_out(name, &settings)))
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
                    "`{}` is no setting that can be reset; there is `max_attempts`, `backoff`, `cap`, and `ceiling.` with the name of a limit",
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

fn settings_out(name: String, settings: &NamespaceSettings) -> v1::NamespaceSettings {
    let NamespaceSettings { retry, ceilings } = settings;
    v1::NamespaceSettings {
        name,
        retry: Some(convert::overrides_out(retry)),
        retry_default: Some(convert::retry_out(&retry.over(RetryPolicy::DEFAULT))),
        ceilings: Some(convert::limit_overrides_out(ceilings)),
    }
}
