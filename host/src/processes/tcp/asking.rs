//! In a runner process: it asks its host to look up and connect.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};
use tq_core::limits::TCP_PARTS_AHEAD;

use super::wire::{Answer, Answered, Ask, Asked, Connect, Resolve};
use crate::egress::Flow;
use crate::egress::tcp::{Connection, Dial, Failure, Outgoing, Part, Scope, Window};
use crate::processes::child::Output;
use crate::processes::wire::put_tcp_ask;

/// Asks the host, and hands on its answers. Cheap to clone.
#[derive(Clone)]
pub(in crate::processes) struct Asking(Arc<Shared>);

struct Shared {
    output: Arc<Output>,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    last: u64,
    calls: HashMap<u64, Call>,
}

/// What comes over a connection, and how much may go.
type Ends = (mpsc::Receiver<Part>, Arc<Window>);

/// Who waits for what becomes of a call.
enum Call {
    Resolving(oneshot::Sender<Result<Vec<IpAddr>, Failure>>),
    Connecting(oneshot::Sender<Result<Ends, Failure>>),
    Connected {
        parts: mpsc::Sender<Part>,
        window: Arc<Window>,
    },
}

impl Open {
    /// There is room for as many parts as the host may send.
    fn hand_on(&self, id: u64, part: Part) {
        if let Some(Call::Connected { parts, .. }) = self.calls.get(&id) {
            parts.try_send(part).ok();
        }
    }
}

impl Asking {
    pub(in crate::processes) fn new(output: Arc<Output>) -> Self {
        Self(Arc::new(Shared {
            output,
            open: Mutex::default(),
        }))
    }

    /// Hands on what the host says. One that nobody waits for has been given up, and the host does not know yet.
    pub(in crate::processes) fn answered(&self, answer: Answer) {
        let Answer { id, answered } = answer;
        let mut open = self.open();
        match answered {
            Some(Answered::Addresses(addresses)) => {
                if let Some(Call::Resolving(answer)) = open.calls.remove(&id) {
                    answer.send(Ok(addresses.read())).ok();
                }
            }
            Some(Answered::Connected(())) => {
                if let Some(Call::Connecting(answer)) = open.calls.remove(&id) {
                    // One more, for the end, which needs no permission.
                    let (parts, incoming) = mpsc::channel(TCP_PARTS_AHEAD + 1);
                    let window = Arc::new(Window::new(TCP_PARTS_AHEAD));
                    let call = Call::Connected {
                        parts,
                        window: Arc::clone(&window),
                    };
                    open.calls.insert(id, call);
                    answer.send(Ok((incoming, window))).ok();
                }
            }
            Some(Answered::Data(data)) => open.hand_on(id, Part::Data(data)),
            Some(Answered::End(())) => open.hand_on(id, Part::End),
            Some(Answered::Failed(failure)) => {
                let failure = failure.read();
                if let Some(Call::Connected { window, .. }) = open.calls.get(&id) {
                    window.close(failure.clone());
                    open.hand_on(id, Part::Failed(failure));
                    return;
                }
                match open.calls.remove(&id) {
                    Some(Call::Resolving(answer)) => drop(answer.send(Err(failure))),
                    Some(Call::Connecting(answer)) => drop(answer.send(Err(failure))),
                    Some(Call::Connected { .. }) | None => {}
                }
            }
            Some(Answered::Room(())) => {
                if let Some(Call::Connected { window, .. }) = open.calls.get(&id) {
                    window.give();
                }
            }
            Some(Answered::Broken(failure)) => {
                if let Some(Call::Connected { window, .. }) = open.calls.get(&id) {
                    window.close(failure.read());
                }
            }
            None => {}
        }
    }

    pub(in crate::processes) fn dial(&self, scope: &Scope) -> Dialling {
        Dialling {
            asking: self.clone(),
            epoch: scope.epoch.0,
        }
    }

    fn begin(&self, call: Call) -> u64 {
        let mut open = self.open();
        open.last += 1;
        let id = open.last;
        open.calls.insert(id, call);
        id
    }

    fn guard(&self, id: u64) -> Named {
        Named {
            asking: self.clone(),
            id,
        }
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call, by its name.
struct Named {
    asking: Asking,
    id: u64,
}

impl Named {
    fn say(&self, asked: Asked) {
        let ask = Ask {
            id: self.id,
            asked: Some(asked),
        };
        let output = &self.asking.0.output;
        output.put(|buffer| put_tcp_ask(ask, buffer));
    }
}

/// Gives a call up, unless it is over.
struct Guard(Named);

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Guard").field(&self.0.id).finish()
    }
}

impl Flow for Guard {
    fn taken(&self) {
        self.0.say(Asked::Taken(()));
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let open = self.0.asking.open().calls.remove(&self.0.id);
        if open.is_some() {
            self.0.say(Asked::GivenUp(()));
        }
    }
}

/// The way out.
struct Way(Named);

impl Outgoing for Way {
    fn send(&self, data: Bytes) {
        self.0.say(Asked::Data(data));
    }
}

impl Drop for Way {
    fn drop(&mut self) {
        self.0.say(Asked::End(()));
    }
}

/// What asks for one attempt.
pub(in crate::processes) struct Dialling {
    asking: Asking,
    epoch: u64,
}

impl Dial for Dialling {
    fn resolve(&self, name: String) -> BoxFuture<'static, Result<Vec<IpAddr>, Failure>> {
        let (answer, answered) = oneshot::channel();
        let id = self.asking.begin(Call::Resolving(answer));
        let guard = Guard(self.asking.guard(id));
        let epoch = self.epoch;
        guard.0.say(Asked::Resolve(Resolve { epoch, name }));
        Box::pin(async move {
            let answered = answered.await.unwrap_or(Err(Failure::Stopped));
            drop(guard);
            answered
        })
    }

    fn connect(&self, address: SocketAddr) -> BoxFuture<'static, Result<Connection, Failure>> {
        let (answer, answered) = oneshot::channel();
        let id = self.asking.begin(Call::Connecting(answer));
        let guard = Guard(self.asking.guard(id));
        let connect = Connect::new(self.epoch, address);
        guard.0.say(Asked::Connect(connect));
        let way = self.asking.guard(id);
        Box::pin(async move {
            let answered = answered.await.unwrap_or(Err(Failure::Stopped));
            let (incoming, window) = answered?;
            Ok(Connection {
                incoming,
                outgoing: Box::new(Way(way)),
                window,
                flow: Box::new(guard),
            })
        })
    }
}
