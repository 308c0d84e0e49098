use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status, Streaming};
use tq_core::limits::{CHUNK_BYTES, MODULE_BYTES_MAX};
use tq_core::retry::RetryOverrides;
use tq_core::{Digest, Grants, Limits, RetryPolicy, Timestamp};
use tq_proto::v1;
use tq_proto::v1::module_service_server::ModuleService;

use super::arriving::Arriving;
use super::blocking::blocking;
use super::{Context, convert, typed};
use crate::access::Caller;
use crate::api::status::{ApiError, invalid};
use crate::blobs::{Checked, Hold};
use crate::ledger::{Command, Deploy, read};
use crate::modules::inspect::{self, Inspected};
use crate::modules::placement::FunctionPlacement;
use crate::modules::registry::{Function, Module};

/// One message of an upload: a chunk, or a header with the settings of as many functions as a module may have.
pub(super) const UPLOAD_MESSAGE_BYTES_MAX: usize = 4 * CHUNK_BYTES;
/// Uploads whose bytes arrive at once, each with a file open and a chunk in memory. A further one waits.
const UPLOADS_MAX: usize = 64;
/// How long the next chunk may take to arrive, so that clients that have stalled do not keep out others for ever.
const CHUNK_WAIT: Duration = Duration::from_secs(60);
/// Inspections under way at once: each may hold some hundred megabytes and a processor for seconds.
const INSPECTIONS_MAX: usize = 2;

pub(super) struct Modules {
    context: Context,
    uploads: Semaphore,
    inspections: Arc<Semaphore>,
}

#[tonic::async_trait]
impl ModuleService for Modules {
    async fn upload_module(
        &self,
        request: Request<Streaming<v1::UploadModuleRequest>>,
    ) -> Result<Response<v1::UploadModuleResponse>, Status> {
        use v1::upload_module_request::Part;
        let caller = Caller::of(&request)?;
        let mut incoming = request.into_inner();
        let Some(Part::Header(header)) = incoming.message().await?.and_then(|message| message.part)
        else {
            return Err(invalid(
                "the first message of an upload has to be its header",
            ));
        };
        let namespace = caller.namespace(header.namespace.clone())?;
        caller.is_about("module", &header.name);
        tq_core::name::check("module name", &header.name).map_err(invalid)?;
        if header.size_bytes > MODULE_BYTES_MAX as u64 {
            return Err(invalid(format_args!(
                "module of {} bytes is over the limit of {MODULE_BYTES_MAX} bytes",
                header.size_bytes
            )));
        }
        let settings = Settings::new(&header)?;
        let ceilings = self.context.ledger.shared().settings(&namespace).ceilings;
        check_under(&header, &ceilings.over(&Limits::MAX))?;
        let digest = convert::digest(&header.digest)?;
        let announced_bytes = header.size_bytes;
        let arriving = Arriving::begin(
            self.context.blobs.clone(),
            namespace.clone(),
            digest,
            announced_bytes,
            header.offset_bytes,
        );
        let checked = self.receive(arriving, incoming).await?;
        let declared: Vec<String> = header
            .functions
            .iter()
            .map(|function| function.name.clone())
            .collect();
        // Moved into the thread, so that a call that is dropped does not let another one in beside what still runs.
        let permit = Arc::clone(&self.inspections).acquire_owned().await;
        let permit = permit.map_err(|_| Status::unavailable("the broker is stopping"))?;
        // Looked at before it has a name, so that a refused upload leaves nothing behind.
        let blobs = self.context.blobs.clone();
        let kept = blocking(move || {
            let _permit = permit;
            let mut inspected = inspect::inspect(&checked.read()?, &declared)?;
            let Some(component) = inspected.adapted.take() else {
                return Ok(Kept {
                    inspected,
                    size_bytes: announced_bytes,
                    hold: checked.keep()?,
                    is_adapted: false,
                });
            };
            let size_bytes = component.len() as u64;
            let digest = Digest(Sha256::digest(&component).into());
            let mut upload = blobs.begin_new(digest, size_bytes)?;
            upload.write(&component)?;
            Ok(Kept {
                inspected,
                size_bytes,
                hold: upload.finish()?,
                is_adapted: true,
            })
        });
        let Kept {
            inspected,
            size_bytes,
            hold,
            is_adapted,
        } = kept.await?;
        let deny_new_grants = header.deny_new_grants;
        let functions: Vec<Function> = inspected
            .functions
            .into_iter()
            .map(|function| settings.function(function))
            .collect();
        let mut not_granted = inspected.not_granted;
        not_granted.retain(|interface| !is_granted(interface, &functions));
        let module = Module {
            name: header.name.clone(),
            version: 0,
            digest: hold.digest(),
            size_bytes,
            entry: inspected.entry,
            functions,
            uploaded_at: Timestamp::EPOCH,
            retired_at: Timestamp::EPOCH,
            not_granted: not_granted.clone(),
            uncallable: inspected.uncallable,
        };
        let deployed = {
            let namespace = namespace.clone();
            self.context
                .ledger
                .ask(|reply| {
                    Command::Deploy(Box::new(Deploy {
                        namespace,
                        module,
                        deny_new_grants,
                        reply,
                    }))
                    .holding(vec![hold])
                })
                .await
        };
        let deployed = deployed.map_err(ApiError::from)?.map_err(ApiError::from)?;
        let module = self.show(&namespace, &header.name).await?;
        Ok(Response::new(v1::UploadModuleResponse {
            module: Some(module),
            unchanged: deployed.is_unchanged,
            not_granted,
            newly_granted: deployed.newly_granted,
            adapted: is_adapted,
            retyped: deployed.retyped.into_iter().map(convert::retyped).collect(),
        }))
    }

    async fn get_upload(
        &self,
        request: Request<v1::GetUploadRequest>,
    ) -> Result<Response<v1::GetUploadResponse>, Status> {
        let caller = Caller::of(&request)?;
        let v1::GetUploadRequest {
            namespace,
            digest,
            size_bytes,
        } = request.into_inner();
        let namespace = caller.namespace(namespace)?;
        let digest = convert::digest(&digest)?;
        let received_bytes = self.context.blobs.received(&namespace, digest, size_bytes);
        Ok(Response::new(v1::GetUploadResponse { received_bytes }))
    }

    async fn get_module(
        &self,
        request: Request<v1::GetModuleRequest>,
    ) -> Result<Response<v1::Module>, Status> {
        let caller = Caller::of(&request)?;
        let v1::GetModuleRequest { namespace, name } = request.into_inner();
        Ok(Response::new(
            self.show(&caller.namespace(namespace)?, &name).await?,
        ))
    }

    async fn list_modules(
        &self,
        request: Request<v1::ListModulesRequest>,
    ) -> Result<Response<v1::ListModulesResponse>, Status> {
        let caller = Caller::of(&request)?;
        let namespace = caller.namespace(request.into_inner().namespace)?;
        let inherited = self.inherited(&namespace);
        let modules: Vec<_> = {
            let registry = read(&self.context.ledger.shared().registry);
            let modules = registry.list(&namespace).filter_map(|versions| {
                let module = versions.all.get(&versions.current)?;
                let shown = convert::module_out(
                    &namespace,
                    module,
                    inherited,
                    versions.current,
                    versions.all.keys().copied().collect(),
                );
                Some((module.digest, shown))
            });
            modules.collect()
        };
        // All at once, so that the ledger answers them in one go.
        let modules = modules
            .into_iter()
            .map(|(digest, shown)| self.with_readiness(digest, shown));
        let modules = futures_util::future::try_join_all(modules).await?;
        Ok(Response::new(v1::ListModulesResponse { modules }))
    }

    async fn rollback_module(
        &self,
        request: Request<v1::RollbackModuleRequest>,
    ) -> Result<Response<v1::Module>, Status> {
        let caller = Caller::of(&request)?;
        let v1::RollbackModuleRequest {
            namespace,
            name,
            version,
        } = request.into_inner();
        let namespace = caller.namespace(namespace)?;
        caller.is_about("module", &name);
        let (of_namespace, of_name) = (namespace.clone(), name.clone());
        let command = |reply| Command::Rollback {
            namespace: of_namespace,
            name: of_name,
            version,
            reply,
        };
        self.context
            .ledger
            .ask(command)
            .await
            .map_err(ApiError::from)?
            .map_err(ApiError::from)?;
        Ok(Response::new(self.show(&namespace, &name).await?))
    }

    async fn delete_module(
        &self,
        request: Request<v1::DeleteModuleRequest>,
    ) -> Result<Response<v1::DeleteModuleResponse>, Status> {
        let caller = Caller::of(&request)?;
        let v1::DeleteModuleRequest {
            namespace,
            name,
            version,
        } = request.into_inner();
        let namespace = caller.namespace(namespace)?;
        caller.is_about("module", &name);
        let command = |reply| Command::DeleteModule {
            namespace,
            name,
            version,
            reply,
        };
        let deleted = self.context.ledger.ask(command).await;
        let deleted = deleted.map_err(ApiError::from)?.map_err(ApiError::from)?;
        Ok(Response::new(v1::DeleteModuleResponse {
            versions: u32::try_from(deleted).unwrap_or(u32::MAX),
        }))
    }
}

/// An upload that was looked at and is on disk.
struct Kept {
    inspected: Inspected,
    size_bytes: u64,
    hold: Hold,
    /// Whether what is on disk was made of what was uploaded.
    is_adapted: bool,
}

impl Modules {
    pub(super) fn new(context: Context) -> Self {
        Self {
            context,
            uploads: Semaphore::new(UPLOADS_MAX),
            inspections: Arc::new(Semaphore::new(INSPECTIONS_MAX)),
        }
    }

    /// The retry policy of functions that say nothing of theirs.
    fn inherited(&self, namespace: &str) -> RetryPolicy {
        let settings = self.context.ledger.shared().settings(namespace);
        settings.retry.over(RetryPolicy::DEFAULT)
    }

    /// Writes the bytes of an upload to disk as they arrive, and compares them with what was announced. They are in memory a
    /// chunk at a time, and kept for the next upload when the call is dropped.
    async fn receive(
        &self,
        arriving: impl Future<Output = Result<Arriving, Status>>,
        mut incoming: Streaming<v1::UploadModuleRequest>,
    ) -> Result<Checked, Status> {
        use v1::upload_module_request::Part;
        let permit = self.uploads.acquire().await;
        let _permit = permit.map_err(|_| Status::unavailable("the broker is stopping"))?;
        let mut arriving = arriving.await?;
        loop {
            let message = tokio::time::timeout(CHUNK_WAIT, incoming.message()).await;
            let message = message.map_err(|_| {
                Status::deadline_exceeded(format!(
                    "nothing came of the upload for {} s",
                    CHUNK_WAIT.as_secs()
                ))
            })?;
            let Some(message) = message? else {
                return arriving.check().await;
            };
            let Some(Part::Chunk(chunk)) = message.part else {
                return Err(invalid("an upload has one header"));
            };
            arriving = arriving.write(chunk).await?;
        }
    }

    /// A module with what hosts say of it.
    async fn show(&self, namespace: &str, name: &str) -> Result<v1::Module, Status> {
        let (module, shown) = {
            let registry = read(&self.context.ledger.shared().registry);
            let module = Arc::clone(registry.module(namespace, name).map_err(ApiError::from)?);
            let versions = registry
                .versions(namespace, &module.name)
                .map_err(ApiError::from)?;
            let shown = convert::module_out(
                namespace,
                &module,
                self.inherited(namespace),
                versions.current,
                versions.all.keys().copied().collect(),
            );
            (module, shown)
        };
        let digest = module.digest;
        // The schemas of a module with as many types as it may have take milliseconds.
        let described = blocking(move || Ok(typed::described(shown, &module))).await?;
        self.with_readiness(digest, described).await
    }

    async fn with_readiness(
        &self,
        digest: Digest,
        mut shown: v1::Module,
    ) -> Result<v1::Module, Status> {
        let readiness = self
            .context
            .ledger
            .ask(|reply| Command::Readiness(digest, reply))
            .await
            .map_err(ApiError::from)?;
        shown.ready_on = readiness.hosts;
        shown.compile_error = readiness.error.unwrap_or_default();
        Ok(shown)
    }
}

/// Whether a function may use an interface, at least for some of what it asks there.
fn is_granted(interface: &str, functions: &[Function]) -> bool {
    let is_of = |package| interface.starts_with(package);
    functions.iter().any(|function| {
        let grants = &function.grants;
        is_of("wasi:http/") && !grants.http.is_empty()
            || is_of("wasi:keyvalue/") && !grants.keyvalue.is_empty()
            || is_of("wasi:sockets/") && !grants.tcp.is_empty()
            || is_of("wasi:filesystem/") && grants.has_scratch
    })
}

/// Refuses limits that are named and that the namespace does not allow. What is not named is lowered when a task is
/// submitted.
fn check_under(header: &v1::UploadHeader, ceilings: &Limits) -> Result<(), Status> {
    let of_all = std::iter::once((None, &header.limits));
    let functions = header.functions.iter();
    let functions = functions.map(|function| (Some(&function.name), &function.limits));
    for (function, named) in of_all.chain(functions) {
        let named = convert::overridden(&Limits::MIN, named.as_ref());
        if let Some((limit, unit, value, most)) = named.above(ceilings) {
            let of = function.map_or_else(String::new, |name| format!("function `{name}`: "));
            return Err(invalid(format_args!(
                "{of}{limit} is {value}{unit}, over the namespace's ceiling of {most}{unit}\nhint: `tq namespace show` lists the ceilings"
            )));
        }
    }
    Ok(())
}

/// What a module says of its functions, and what those of them say that have their own: those have what they inherit from
/// the module too.
struct Settings {
    of_all: OfFunction,
    functions: HashMap<String, OfFunction>,
}

#[derive(Clone)]
struct OfFunction {
    limits: Limits,
    retry: RetryOverrides,
    placement: FunctionPlacement,
    grants: Arc<Grants>,
    result_ttl: Option<Duration>,
}

impl Settings {
    fn new(header: &v1::UploadHeader) -> Result<Self, Status> {
        let limits = convert::overridden(&Limits::DEFAULT, header.limits.as_ref());
        limits.check().map_err(invalid)?;
        let retry = convert::retry(header.retry.as_ref())?;
        let placement =
            convert::function_placement(&FunctionPlacement::default(), header.placement.as_ref())?;
        let grants = convert::grants(&Grants::default(), header.grants.as_ref())?;
        let mut functions = HashMap::new();
        for function in &header.functions {
            if !tq_core::name::is_function(&function.name) {
                return Err(invalid(format_args!(
                    "`{}` cannot be the name of a function",
                    function.name.escape_debug()
                )));
            }
            let own = convert::overridden(&limits, function.limits.as_ref());
            own.check()
                .map_err(|error| invalid(format_args!("function `{}`: {error}", function.name)))?;
            let of_function = |status: Status| {
                invalid(format_args!(
                    "function `{}`: {}",
                    function.name,
                    status.message()
                ))
            };
            let own = OfFunction {
                limits: own,
                retry: convert::retry(function.retry.as_ref())
                    .map_err(of_function)?
                    .or(retry),
                placement: convert::function_placement(&placement, function.placement.as_ref())
                    .map_err(of_function)?,
                grants: convert::grants(&grants, function.grants.as_ref())
                    .map_err(of_function)?
                    .into(),
                result_ttl: convert::result_ttl(function.result_ttl_ms).map_err(of_function)?,
            };
            functions.insert(function.name.clone(), own);
        }
        let of_all = OfFunction {
            limits,
            retry,
            placement,
            grants: grants.into(),
            result_ttl: None,
        };
        Ok(Self { of_all, functions })
    }

    fn function(&self, function: inspect::Function) -> Function {
        let own = self.functions.get(&function.name);
        let OfFunction {
            limits,
            retry,
            placement,
            grants,
            result_ttl,
        } = own.unwrap_or(&self.of_all).clone();
        let inspect::Function {
            name,
            doc,
            input,
            output,
            schemas,
            typed,
        } = function;
        Function {
            name,
            doc,
            input: input.as_str().to_owned(),
            output: output.as_str().to_owned(),
            limits,
            retry,
            placement,
            grants,
            result_ttl,
            schemas: Arc::new(schemas),
            typed: typed.map(Arc::new),
        }
    }
}
