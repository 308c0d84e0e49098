//! Requests and calls of guests, in a runner process: it has no network, so it asks its host to send them.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};
use tq_core::Epoch;
use tq_core::grant::SecretName;
use tq_proto::v1::KeyValueCall;
use tq_proto::v1::key_value_answer::Came;

use super::child::Output;
use super::tcp;
use super::wire::{
    Answer, Answered, Ask, Asked, Call, Returned, headers_in, put_ask, put_call, put_given_up,
    put_taken,
};
use crate::egress::{self, Egress, Failure, Flow, Part, Request, Response, Scope};
use crate::services::{Refusal, Services};

/// Parts of a body that the host sends before one was taken. The end of the body needs no permission.
pub(super) const PARTS_AHEAD: usize = 4;

/// Asks the host, and hands on its answers. Cheap to clone.
#[derive(Clone)]
pub(super) struct Asking(Arc<Shared>);

struct Shared {
    output: Arc<Output>,
    open: Mutex<Open>,
    tcp: tcp::Asking,
}

#[derive(Default)]
struct Open {
    last: u64,
    requests: HashMap<u64, Waiting>,
    calls: HashMap<u64, oneshot::Sender<Returned>>,
}

/// Who waits for what becomes of a request.
struct Waiting {
    head: Option<oneshot::Sender<Result<Response, Failure>>>,
    parts: Option<mpsc::Sender<Part>>,
}

impl Asking {
    pub(super) fn new(output: Arc<Output>) -> Self {
        Self(Arc::new(Shared {
            tcp: tcp::Asking::new(Arc::clone(&output)),
            output,
            open: Mutex::default(),
        }))
    }

    /// Asks for connections.
    pub(super) fn tcp(&self) -> &tcp::Asking {
        &self.0.tcp
    }

    /// Hands on what the host says. One that nobody waits for has been given up, and the host does not know yet.
    pub(super) fn answered(&self, answer: Answer) {
        let Answer { id, answered } = answer;
        let mut open = self.open();
        let Some(waiting) = open.requests.get_mut(&id) else {
            return;
        };
        // Who no longer waits gives the request up. There is room for as many parts as the host may send.
        match answered {
            Some(Answered::Head(head)) => {
                let (parts, body) = mpsc::channel(PARTS_AHEAD + 1);
                waiting.parts = Some(parts);
                let response = Response {
                    status: u16::try_from(head.status).unwrap_or(0),
                    headers: headers_in(head.headers),
                    body,
                    flow: None,
                };
                if let Some(head) = waiting.head.take() {
                    head.send(Ok(response)).ok();
                }
            }
            Some(Answered::Data(data)) => {
                if let Some(parts) = &waiting.parts {
                    parts.try_send(Part::Data(data)).ok();
                }
            }
            Some(Answered::End(())) => {
                if let Some(Waiting { parts, .. }) = open.requests.remove(&id)
                    && let Some(parts) = parts
                {
                    parts.try_send(Part::End).ok();
                }
            }
            Some(Answered::Failed(failure)) => {
                let failure = failure.read();
                match open.requests.remove(&id) {
                    Some(Waiting {
                        head: Some(head), ..
                    }) => drop(head.send(Err(failure))),
                    Some(Waiting {
                        parts: Some(parts), ..
                    }) => drop(parts.try_send(Part::Failed(failure))),
                    _ => {}
                }
            }
            None => {}
        }
    }

    /// Hands on what came of a call, if anybody waits for it.
    pub(super) fn returned(&self, returned: Returned) {
        let waiting = self.open().calls.remove(&returned.id);
        if let Some(waiting) = waiting {
            waiting.send(returned).ok();
        }
    }

    /// Asks the host for what the broker has.
    fn call(
        &self,
        epoch: Epoch,
        asked: Asked,
    ) -> impl Future<Output = Result<Returned, Refusal>> + use<> {
        let (sender, answer) = oneshot::channel();
        let id = {
            let mut open = self.open();
            open.last += 1;
            let id = open.last;
            open.calls.insert(id, sender);
            id
        };
        let call = Call {
            id,
            epoch: epoch.0,
            asked: Some(asked),
        };
        self.0.output.put(|buffer| put_call(call, buffer));
        async move {
            let stopped = |_| Refusal::Unavailable("the host stopped".to_owned());
            answer.await.map_err(stopped)
        }
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Egress for Asking {
    fn send(
        &self,
        scope: Scope,
        request: Request,
    ) -> BoxFuture<'static, Result<Response, Failure>> {
        let (head, answer) = oneshot::channel();
        let id = {
            let mut open = self.open();
            open.last += 1;
            let id = open.last;
            let waiting = Waiting {
                head: Some(head),
                parts: None,
            };
            open.requests.insert(id, waiting);
            id
        };
        let guard = Guard {
            asking: self.clone(),
            id,
        };
        let ask = Ask::new(id, &scope, request);
        self.0.output.put(|buffer| put_ask(ask, buffer));
        Box::pin(async move {
            let answered = answer.await.unwrap_or(Err(Failure::Stopped));
            answered.map(|response| Response {
                flow: Some(Box::new(guard)),
                ..response
            })
        })
    }

    fn dial(&self, scope: egress::tcp::Scope) -> Arc<dyn egress::tcp::Dial> {
        Arc::new(self.0.tcp.dial(&scope))
    }
}

impl Services for Asking {
    fn secret(&self, epoch: Epoch, name: SecretName) -> BoxFuture<'static, Result<Bytes, Refusal>> {
        let returned = self.call(epoch, Asked::Secret(name.to_string()));
        Box::pin(async move { returned.await?.read_secret() })
    }

    fn keyvalue(
        &self,
        epoch: Epoch,
        call: KeyValueCall,
    ) -> BoxFuture<'static, Result<Came, Refusal>> {
        let returned = self.call(epoch, Asked::KeyValue(call));
        Box::pin(async move { returned.await?.read_keyvalue() })
    }
}

/// Gives a request up, unless it is over.
struct Guard {
    asking: Asking,
    id: u64,
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").field("id", &self.id).finish()
    }
}

impl Flow for Guard {
    fn taken(&self) {
        let id = self.id;
        self.asking.0.output.put(|buffer| put_taken(id, buffer));
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let open = self.asking.open().requests.remove(&self.id);
        if open.is_some() {
            let id = self.id;
            self.asking.0.output.put(|buffer| put_given_up(id, buffer));
        }
    }
}
