//! Requests of guests, on the host's side: what a runner process asks for is sent, within what the attempt was given.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tq_core::grant::{HttpGrant, Scheme};
use tq_core::limits::HTTP_OPEN_MAX;
use tq_core::{Epoch, Limits, TaskId};
use tq_proto::v1::Assignment;

use super::asking::PARTS_AHEAD;
use super::orders::{Item, Orders};
use super::wire::{Answered, Ask, HttpFailure, ResponseHead, Violation, headers_out};
use crate::agent::convert;
use crate::egress::{Egress, Failure, Part, Response, Scope, head_bytes, shown};

/// What an attempt may ask for, and has asked for.
#[derive(Debug)]
pub(super) struct Account {
    epoch: Epoch,
    task_id: TaskId,
    namespace: String,
    grants: Arc<BTreeSet<HttpGrant>>,
    limits: Limits,
    requests: AtomicU64,
    bytes: AtomicU64,
    has_warned: AtomicBool,
}

impl Account {
    /// Of an assignment.
    ///
    /// # Errors
    /// The text says what in it cannot be.
    pub(super) fn new(assignment: &Assignment, limits: Limits) -> Result<Self, String> {
        let task_id = assignment.task_id.parse();
        Ok(Self {
            epoch: Epoch(assignment.epoch),
            task_id: task_id.map_err(|error: tq_core::id::ParseError| error.to_string())?,
            namespace: assignment.namespace.clone(),
            grants: Arc::new(convert::grants(assignment.grants.as_ref())?.http),
            limits,
            requests: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            has_warned: AtomicBool::new(false),
        })
    }

    /// Counts bytes of requests and responses. Returns what may still come.
    fn count(&self, bytes: u64) -> u64 {
        let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let sum = before.saturating_add(bytes);
        self.limits.http_bytes.saturating_sub(sum)
    }
}

/// The requests of one runner process that are open, by what it calls them.
#[derive(Debug, Default)]
pub(super) struct Requests(HashMap<u64, Request>);

#[derive(Debug)]
struct Request {
    epoch: Epoch,
    /// Parts of its body that may be sent.
    window: Arc<Semaphore>,
    given_up: CancellationToken,
}

impl Drop for Request {
    fn drop(&mut self) {
        self.given_up.cancel();
    }
}

/// A request that is to be sent.
pub(super) struct Exchange {
    pub(super) id: u64,
    ask: Ask,
    account: Arc<Account>,
    window: Arc<Semaphore>,
    given_up: CancellationToken,
}

impl Requests {
    /// Takes note of what is asked for.
    ///
    /// # Errors
    /// A runner process of ours would not have asked.
    pub(super) fn begin(
        &mut self,
        ask: Ask,
        account: &Arc<Account>,
    ) -> Result<Exchange, Violation> {
        let of_attempt = self.0.values().filter(|open| open.epoch == account.epoch);
        if of_attempt.count() >= HTTP_OPEN_MAX {
            return Err(Violation::OutOfPlace("it asks for too much at once"));
        }
        if account.requests.fetch_add(1, Ordering::Relaxed) >= account.limits.http_requests {
            return Err(Violation::OutOfPlace("it asks for too many requests"));
        }
        let exchange = Exchange {
            id: ask.id,
            ask,
            account: Arc::clone(account),
            window: Arc::new(Semaphore::new(PARTS_AHEAD)),
            given_up: CancellationToken::new(),
        };
        let request = Request {
            epoch: account.epoch,
            window: Arc::clone(&exchange.window),
            given_up: exchange.given_up.clone(),
        };
        match self.0.insert(exchange.id, request) {
            None => Ok(exchange),
            Some(_) => Err(Violation::OutOfPlace("it asks twice by one name")),
        }
    }

    /// A part of a body was taken, so that another one may be sent.
    pub(super) fn taken(&self, id: u64) {
        if let Some(request) = self.0.get(&id)
            && request.window.available_permits() < PARTS_AHEAD
        {
            request.window.add_permits(1);
        }
    }

    /// Ends a request, if it is open.
    pub(super) fn end(&mut self, id: u64) {
        self.0.remove(&id);
    }

    /// Ends the requests of an attempt.
    pub(super) fn end_of(&mut self, epoch: Epoch) {
        self.0.retain(|_, request| request.epoch != epoch);
    }
}

impl Exchange {
    /// Sends it, and says what becomes of it, until the runner process gives it up. `over` is called before the last word, since
    /// another request may be asked for upon that.
    pub(super) async fn run(
        self,
        egress: Arc<dyn Egress>,
        orders: Arc<Orders>,
        over: impl FnOnce(),
    ) {
        let Self {
            id,
            ask,
            account,
            window,
            given_up,
        } = self;
        let say = |answered| orders.push(Item::Answer(id, answered));
        let work = async {
            match exchange(ask, &account, egress, &window, &say).await {
                Ok(()) => Answered::End(()),
                Err(failure) => Answered::Failed(HttpFailure::new(&failure)),
            }
        };
        let last = given_up.run_until_cancelled(work).await;
        over();
        if let Some(last) = last {
            say(last);
        }
    }
}

async fn exchange(
    ask: Ask,
    account: &Account,
    egress: Arc<dyn Egress>,
    window: &Semaphore,
    say: &(impl Fn(Answered) + Send + Sync),
) -> Result<(), Failure> {
    let response_bytes = ask.response_bytes;
    let (request, mut timeouts) = ask.read();
    let whole = Duration::from_millis(account.limits.http_time_ms);
    timeouts.total = timeouts.total.min(whole);
    let left = account.count(head_bytes(&request.headers) + request.body.len() as u64);
    let scheme = match request.scheme {
        Scheme::Http => "http",
        Scheme::Https => "https",
    };
    let destination = shown(scheme, &request.authority);
    let scope = Scope {
        epoch: account.epoch,
        namespace: account.namespace.clone(),
        task_id: account.task_id,
        grants: Arc::clone(&account.grants),
        timeouts,
        response_bytes: response_bytes.min(left),
    };
    let sent = egress.send(scope, request).await.inspect_err(|failure| {
        // Runner processes have no log, and one warning for an attempt is enough.
        if failure.is_refusal() && !account.has_warned.swap(true, Ordering::Relaxed) {
            failure.warn(account.task_id, &account.namespace, &destination);
        }
    });
    let Response {
        status,
        headers,
        mut body,
        flow: _,
    } = sent?;
    account.count(head_bytes(&headers));
    say(Answered::Head(ResponseHead {
        status: u32::from(status),
        headers: headers_out(headers),
    }));
    loop {
        match body.recv().await {
            Some(Part::Data(data)) => {
                account.count(data.len() as u64);
                let permit = window.acquire().await;
                permit.map_err(|_| Failure::Stopped)?.forget();
                say(Answered::Data(data));
            }
            Some(Part::End) => return Ok(()),
            Some(Part::Failed(failure)) => return Err(failure),
            None => return Err(Failure::Stopped),
        }
    }
}
