//! The attempts that may ask for something, and the connection by which it is asked for.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::{Code, ConnectError, Response, Status};
use tq_core::grant::{BucketName, Destination, SecretName};
use tq_core::limits::SERVICE_TIMEOUT;
use tq_core::{Epoch, Grants};
use tq_proto::v1::host_link_client::HostLinkClient;
use tq_proto::v1::key_value_answer::Came;
use tq_proto::v1::key_value_call::What;
use tq_proto::v1::{Assignment, GetSecretRequest, HeldAttempt, KeyValueCall, KeyValueRequest};

use super::redaction::redacted;
use super::{Refusal, Services};
use crate::agent::Backoff;
use crate::agent::convert;
use crate::agent::link::Wire;
use crate::metrics::Metrics;
use crate::runner::Event;

/// The attempts of a host that were granted what the broker has. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Holders(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    client: HostLinkClient<Wire>,
    metrics: Arc<Metrics>,
    /// What drives the work: guests are driven by threads that do no I/O.
    runtime: Handle,
    tasks: TaskTracker,
    stopped: CancellationToken,
    /// How long an answer is waited for.
    patience: Duration,
    held: Mutex<HashMap<Epoch, Holder>>,
}

#[derive(Debug)]
struct Holder {
    attempt: HeldAttempt,
    grants: Arc<Grants>,
    /// What it was given, or what was sent for it.
    secrets: BTreeMap<SecretName, Secret>,
}

/// A value, which does not show itself.
#[derive(Clone)]
struct Secret(Bytes);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[redacted]")
    }
}

impl Holders {
    /// With a connection of their own, which is made when it is first needed. To be called in the run time that drives it.
    pub(crate) fn new(
        client: HostLinkClient<Wire>,
        metrics: Arc<Metrics>,
        tasks: TaskTracker,
        stopped: CancellationToken,
    ) -> Self {
        Self::with_patience(client, metrics, tasks, stopped, SERVICE_TIMEOUT)
    }

    fn with_patience(
        client: HostLinkClient<Wire>,
        metrics: Arc<Metrics>,
        tasks: TaskTracker,
        stopped: CancellationToken,
        patience: Duration,
    ) -> Self {
        Self(Arc::new(Shared {
            client,
            metrics,
            runtime: Handle::current(),
            tasks,
            stopped,
            patience,
            held: Mutex::default(),
        }))
    }

    /// Takes note of an attempt, if it may ask for anything.
    pub(crate) fn begin(&self, assignment: &Assignment) {
        let Some(granted) = &assignment.grants else {
            return;
        };
        if granted.secrets.is_none() && granted.keyvalue.is_none() {
            return;
        }
        // One that cannot be read is not run.
        let Ok(grants) = convert::grants(Some(granted)) else {
            return;
        };
        let holder = Holder {
            attempt: HeldAttempt {
                task_id: assignment.task_id.clone(),
                namespace: assignment.namespace.clone(),
                epoch: assignment.epoch,
                token: assignment.token.clone(),
            },
            grants: Arc::new(grants),
            secrets: BTreeMap::new(),
        };
        self.held().insert(Epoch(assignment.epoch), holder);
    }

    /// The attempt is over, and all was told of it.
    pub(crate) fn end(&self, epoch: Epoch) {
        self.held().remove(&epoch);
    }

    /// Takes the secrets that an attempt was given out of what is told of it.
    ///
    /// A checkpoint is left as it is: it is the guest's own state, and shown to nobody.
    pub(crate) fn redact(&self, event: &mut Event) {
        let held = self.held();
        if held.is_empty() {
            return;
        }
        let values = |epoch| {
            let holder: Option<&Holder> = held.get(&epoch);
            let secrets = holder
                .into_iter()
                .flat_map(|holder| holder.secrets.values());
            let values: Vec<Bytes> = secrets.map(|secret| secret.0.clone()).collect();
            (!values.is_empty()).then_some(values)
        };
        let redact_text = |text: &mut String, values: &[Bytes]| {
            if let Some(redacted) = redacted(text.as_bytes(), values) {
                *text = String::from_utf8_lossy(&redacted).into_owned();
            }
        };
        match event {
            Event::Log { epoch, text } => {
                if let Some(redacted) = values(*epoch).and_then(|values| redacted(text, &values)) {
                    *text = redacted;
                }
            }
            Event::Progress { epoch, note, .. } => {
                if let Some(values) = values(*epoch) {
                    redact_text(note, &values);
                }
            }
            Event::Checkpoint { .. } => {}
            Event::Finished(finished) => {
                let Some(values) = values(finished.epoch) else {
                    return;
                };
                if let Some(result) = &mut finished.result
                    && let Some(redacted) = redacted(result, &values)
                {
                    *result = redacted;
                }
                if let Some(failure) = &mut finished.failure {
                    redact_text(&mut failure.message, &values);
                    if let Some(backtrace) = &mut failure.backtrace {
                        redact_text(backtrace, &values);
                    }
                }
            }
        }
    }

    /// The value of a secret that is to go into the header of a request with this method to there.
    pub(super) async fn secret_for(
        &self,
        epoch: Epoch,
        name: SecretName,
        method: &str,
        destination: &Destination,
    ) -> Result<Bytes, Refusal> {
        let granted = self.grants(epoch).is_some_and(|grants| {
            let mut secrets = grants.secrets.iter();
            secrets.any(|grant| grant.name == name && grant.goes_to(method, destination))
        });
        let fetched = match granted {
            true => self.fetched(epoch, name).await,
            false => Err(Refusal::NotGranted(format!(
                "secret `{name}` is not granted for {method} {destination}; `[capabilities] secrets` in tq.toml grants it like `{name} for {destination}`"
            ))),
        };
        self.count(&fetched);
        fetched
    }

    fn count(&self, fetched: &Result<Bytes, Refusal>) {
        self.0.metrics.asked_for_secret(match fetched {
            Ok(_) => "given",
            Err(Refusal::NotGranted(_)) => "not_granted",
            Err(Refusal::Missing(_)) => "missing",
            Err(Refusal::Invalid(_) | Refusal::Unavailable(_)) => "unavailable",
        });
    }

    fn grants(&self, epoch: Epoch) -> Option<Arc<Grants>> {
        let held = self.held();
        held.get(&epoch).map(|holder| Arc::clone(&holder.grants))
    }

    /// A secret that the attempt was granted in one way or another: it has the same value to the end of the attempt.
    async fn fetched(&self, epoch: Epoch, name: SecretName) -> Result<Bytes, Refusal> {
        let over = || Refusal::Unavailable("the attempt is over".to_owned());
        let attempt = {
            let held = self.held();
            let holder = held.get(&epoch).ok_or_else(over)?;
            if let Some(secret) = holder.secrets.get(&name) {
                return Ok(secret.0.clone());
            }
            holder.attempt.clone()
        };
        let request = GetSecretRequest {
            attempt: Some(attempt),
            name: name.to_string(),
        };
        let asked = self.ask(epoch, Repeat::Always, |mut client| {
            let request = request.clone();
            async move { client.get_secret(request).await }
        });
        let value = asked.await.map_err(|status| refusal(&status, "secrets"))?;
        let value = value.value;
        let mut held = self.held();
        let holder = held.get_mut(&epoch).ok_or_else(over)?;
        let secret = holder.secrets.entry(name).or_insert(Secret(value));
        Ok(secret.0.clone())
    }

    /// Reads or changes a bucket for an attempt that was granted it.
    async fn call(&self, epoch: Epoch, call: KeyValueCall) -> Result<Came, Refusal> {
        let bucket = call.bucket.parse::<BucketName>();
        let bucket = bucket.map_err(|error| Refusal::Invalid(error.to_string()))?;
        let attempt = {
            let held = self.held();
            let holder = held.get(&epoch);
            let holder = holder.filter(|holder| holder.grants.keyvalue.contains(&bucket));
            let holder = holder.ok_or_else(|| Refusal::bucket_not_granted(&bucket))?;
            holder.attempt.clone()
        };
        let repeat = match &call.what {
            Some(What::Get(_) | What::List(_)) => Repeat::Always,
            // Somebody else may have changed the same in between.
            Some(What::Set(_) | What::Delete(_) | What::Increment(_) | What::Swap(_)) | None => {
                Repeat::IfUnsent
            }
        };
        let request = KeyValueRequest {
            attempt: Some(attempt),
            call: Some(call),
        };
        let asked = self.ask(epoch, repeat, |mut client| {
            let request = request.clone();
            async move { client.key_value(request).await }
        });
        let answer = asked.await.map_err(|status| refusal(&status, "buckets"))?;
        let came = answer.answer.and_then(|answer| answer.came);
        came.ok_or_else(|| Refusal::Unavailable("the broker's answer was empty".to_owned()))
    }

    /// Asks until there is an answer, for as long as a broker takes to restart, as far as it may be asked again.
    async fn ask<T, Fut>(
        &self,
        epoch: Epoch,
        repeat: Repeat,
        ask: impl Fn(HostLinkClient<Wire>) -> Fut,
    ) -> Result<T, Status>
    where
        Fut: Future<Output = Result<Response<T>, Status>>,
    {
        let until = Instant::now() + self.0.patience;
        let mut backoff = Backoff::new(epoch.0);
        loop {
            let status = match timeout_at(until, ask(self.0.client.clone())).await {
                Ok(Ok(answer)) => return Ok(answer.into_inner()),
                Ok(Err(status)) => status,
                Err(_) => Status::unavailable("the broker did not answer"),
            };
            let (may_repeat, text) = match (lost(&status), repeat) {
                (None, _) => return Err(status),
                (Some(Lost::Unsent), _) => (true, "the broker cannot be reached".to_owned()),
                (Some(Lost::Unknown(text)), Repeat::Always) => (true, text),
                (Some(Lost::Unknown(text)), Repeat::IfUnsent) => {
                    (false, format!("{text}; it may have been done all the same"))
                }
            };
            let pause = backoff.pause();
            if !may_repeat || Instant::now() + pause >= until {
                return Err(Status::unavailable(text));
            }
            tokio::time::sleep(pause).await;
        }
    }

    fn held(&self) -> MutexGuard<'_, HashMap<Epoch, Holder>> {
        self.0.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the work done where there is a run time for it. Nobody waits for the answer when the attempt was stopped.
    fn drive<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Refusal>> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, Refusal>> {
        let (mut sender, answer) = oneshot::channel();
        let work = async move {
            tokio::select! {
                came = work => drop(sender.send(came)),
                () = sender.closed() => {}
            }
        };
        let stopped = self.0.stopped.clone();
        let work = stopped.run_until_cancelled_owned(work);
        self.0.tasks.spawn_on(work, &self.0.runtime);
        Box::pin(async move {
            let stopped = || Refusal::Unavailable("the host stopped".to_owned());
            answer.await.unwrap_or_else(|_| Err(stopped()))
        })
    }
}

impl Services for Holders {
    fn keyvalue(
        &self,
        epoch: Epoch,
        call: KeyValueCall,
    ) -> BoxFuture<'static, Result<Came, Refusal>> {
        let holders = self.clone();
        self.drive(async move {
            let came = holders.call(epoch, call).await;
            holders.0.metrics.called_keyvalue(match &came {
                Ok(_) => "done",
                Err(Refusal::NotGranted(_)) => "not_granted",
                Err(Refusal::Missing(_) | Refusal::Invalid(_)) => "invalid",
                Err(Refusal::Unavailable(_)) => "unavailable",
            });
            came
        })
    }

    fn secret(&self, epoch: Epoch, name: SecretName) -> BoxFuture<'static, Result<Bytes, Refusal>> {
        let holders = self.clone();
        self.drive(async move {
            let grants = holders.grants(epoch).unwrap_or_default();
            let mut of_name = grants.secrets.iter().filter(|grant| grant.name == name);
            let fetched = match of_name.clone().any(|grant| grant.is_readable()) {
                true => holders.fetched(epoch, name).await,
                false => Err(match of_name.next() {
                    None => Refusal::not_granted(&name),
                    Some(grant) => Refusal::NotGranted(format!(
                        "the guest may not read it: it is granted as `{grant}`, so write `{{{{secret:{name}}}}}` into a header of the request"
                    )),
                }),
            };
            holders.count(&fetched);
            fetched
        })
    }
}

/// When something may be asked again that got no answer.
#[derive(Clone, Copy, Debug)]
enum Repeat {
    /// It changes nothing.
    Always,
    /// Only if the broker cannot have got it.
    IfUnsent,
}

/// What is known of a call that got no answer.
enum Lost {
    /// There was no connection on which it could have been sent.
    Unsent,
    /// The broker may have got it; the reason.
    Unknown(String),
}

/// How a call was lost, unless the broker answered it.
fn lost(status: &Status) -> Option<Lost> {
    // What came from the broker has no source.
    let first = std::error::Error::source(status);
    let mut source = first;
    while let Some(error) = source {
        if error.is::<ConnectError>() {
            return Some(Lost::Unsent);
        }
        source = error.source();
    }
    match (first, status.code()) {
        (Some(_), _) => Some(Lost::Unknown(
            "the connection to the broker was lost".to_owned(),
        )),
        (None, Code::Unavailable) => Some(Lost::Unknown(status.message().to_owned())),
        (None, _) => None,
    }
}

fn refusal(status: &Status, what: &str) -> Refusal {
    let message = status.message();
    // What follows is for whoever sits at a terminal.
    let message = message.split('\n').next().unwrap_or(message).to_owned();
    match status.code() {
        Code::NotFound => Refusal::Missing(message),
        Code::PermissionDenied => Refusal::NotGranted(message),
        Code::InvalidArgument | Code::FailedPrecondition | Code::ResourceExhausted => {
            Refusal::Invalid(message)
        }
        Code::Unimplemented => Refusal::Unavailable(format!(
            "the broker is older than this host, and has no {what}"
        )),
        _ => Refusal::Unavailable(message),
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpSocket};
    use tq_proto::Bearer;
    use tq_proto::v1::{self, GrantList, KeyValueGet, KeyValueIncrement};

    use super::*;
    use crate::agent::link;

    /// Enough to try more than once.
    const PATIENCE: Duration = Duration::from_millis(1_500);

    /// Those of a host whose broker is there, with one attempt that was granted the bucket `cache`.
    fn holders(broker: std::net::SocketAddr) -> Holders {
        let uri = format!("http://{broker}").parse().unwrap();
        let client = link::client(link::endpoint(uri).connect_lazy(), Bearer::default());
        let metrics = Arc::new(Metrics::new(1));
        let (tasks, stopped) = (TaskTracker::new(), CancellationToken::new());
        let holders = Holders::with_patience(client, metrics, tasks, stopped, PATIENCE);
        let list = GrantList {
            grants: vec!["cache".to_owned()],
        };
        holders.begin(&Assignment {
            epoch: 1,
            grants: Some(v1::Grants {
                keyvalue: Some(list),
                ..v1::Grants::default()
            }),
            ..Assignment::default()
        });
        holders
    }

    async fn call(holders: &Holders, bucket: &str, what: What) -> Refusal {
        let call = KeyValueCall {
            bucket: bucket.to_owned(),
            what: Some(what),
        };
        let came = holders.keyvalue(Epoch(1), call).await;
        came.expect_err("there is no broker")
    }

    fn get() -> What {
        What::Get(KeyValueGet::default())
    }

    fn increment() -> What {
        What::Increment(KeyValueIncrement::default())
    }

    #[tokio::test]
    async fn a_broker_that_does_not_answer_is_waited_for_so_long() {
        // Connections come to be, and nobody says anything on them.
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let holders = holders(listener.local_addr().unwrap());
        let began = Instant::now();
        let silent = "the broker did not answer".to_owned();
        assert_eq!(
            call(&holders, "cache", get()).await,
            Refusal::Unavailable(silent)
        );
        let unknown = "the broker did not answer; it may have been done all the same".to_owned();
        assert_eq!(
            call(&holders, "cache", increment()).await,
            Refusal::Unavailable(unknown)
        );
        assert!(began.elapsed() >= 2 * PATIENCE);
    }

    #[tokio::test]
    async fn what_could_not_be_sent_was_not_done() {
        // The port is taken by a socket that does not listen, so that nobody else can answer there.
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
        let holders = holders(socket.local_addr().unwrap());
        let began = Instant::now();
        let away = "the broker cannot be reached".to_owned();
        let refusal = call(&holders, "cache", increment()).await;
        assert_eq!(refusal, Refusal::Unavailable(away));
        assert!(began.elapsed() > PATIENCE / 4, "it was tried again");
    }

    #[tokio::test]
    async fn nobody_is_asked_for_what_was_not_granted() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let holders = holders(listener.local_addr().unwrap());
        let refused = call(&holders, "other", get()).await;
        assert!(matches!(refused, Refusal::NotGranted(_)), "{refused:?}");
        holders.end(Epoch(1));
        let refused = call(&holders, "cache", get()).await;
        assert!(matches!(refused, Refusal::NotGranted(_)), "{refused:?}");
        let text = holders.0.metrics.text().unwrap();
        let counted = "tq_keyvalue_calls_total{outcome=\"not_granted\"} 2";
        assert!(text.contains(counted), "{text}");
    }
}
