//! On the host's side: what a runner process asks for is looked up and connected, within what the attempt was granted.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tq_core::Epoch;
use tq_core::limits::{
    TCP_LINGER_TIME, TCP_LOOKUPS_MAX, TCP_OPEN_HOST_MAX, TCP_OPEN_MAX, TCP_PART_BYTES,
    TCP_PARTS_AHEAD,
};
use tq_proto::v1::Assignment;

use super::wire::{Addresses, Answer, Answered, Ask, Asked, TcpFailure};
use crate::agent::convert;
use crate::egress::tcp::{Connection, Dial, Failure, Outgoing, Part, Scope, Window};
use crate::processes::orders::{Item, Orders};
use crate::processes::wire::Violation;

/// What waits for a process that reads what it is told: at most the parts of all connections of a host, and little beside them.
pub(in crate::processes) const WAITING_BYTES_MAX: usize =
    2 * TCP_OPEN_HOST_MAX * TCP_PARTS_AHEAD * TCP_PART_BYTES;

/// Look-ups and connections of one runner process that are open, by what it calls them.
#[derive(Debug, Default)]
pub(in crate::processes) struct Calls(HashMap<u64, Call>);

#[derive(Debug)]
struct Call {
    epoch: Epoch,
    /// Where the data of a connection goes; none for a look-up, and when no more comes.
    data: Option<mpsc::Sender<Bytes>>,
    is_lookup: bool,
    /// Parts of what comes that may be sent.
    room: Arc<Semaphore>,
    given_up: CancellationToken,
}

impl Drop for Call {
    fn drop(&mut self) {
        self.given_up.cancel();
    }
}

/// One that is to be made.
pub(in crate::processes) struct Begun {
    pub(in crate::processes) id: u64,
    what: What,
    dial: Arc<dyn Dial>,
    room: Arc<Semaphore>,
    given_up: CancellationToken,
}

enum What {
    Resolve(String),
    Connect(SocketAddr, mpsc::Receiver<Bytes>),
}

impl Calls {
    /// Takes note of what is asked about one call; returns what is to be made. `dial` is what connects for an attempt of this
    /// process.
    ///
    /// # Errors
    /// A runner process of ours would not have asked.
    pub(in crate::processes) fn asked(
        &mut self,
        ask: Ask,
        dial: impl FnOnce(Epoch) -> Result<Arc<dyn Dial>, Violation>,
    ) -> Result<Option<Begun>, Violation> {
        let Ask { id, asked } = ask;
        let asked = asked.ok_or(Violation::OutOfPlace("it asks for nothing"))?;
        // What is said about a call that is over was said before its end was heard of.
        let call = self.0.get_mut(&id);
        match asked {
            Asked::Resolve(resolve) => {
                let epoch = Epoch(resolve.epoch);
                let (what, dial) = (What::Resolve(resolve.name), dial(epoch)?);
                return self.begin(id, epoch, dial, what, None).map(Some);
            }
            Asked::Connect(connect) => {
                let epoch = Epoch(connect.epoch);
                let (data, sent) = mpsc::channel(TCP_PARTS_AHEAD);
                let (what, dial) = (What::Connect(connect.address()?, sent), dial(epoch)?);
                return self.begin(id, epoch, dial, what, Some(data)).map(Some);
            }
            Asked::Data(data) => {
                if data.is_empty() || data.len() > TCP_PART_BYTES {
                    let (len, max) = (data.len(), TCP_PART_BYTES);
                    return Err(Violation::TooLong { len, max });
                }
                if let Some(Call {
                    data: Some(sent), ..
                }) = call
                    && let Err(mpsc::error::TrySendError::Full(_)) = sent.try_send(data)
                {
                    return Err(Violation::OutOfPlace(
                        "it sends more than there is room for",
                    ));
                }
            }
            Asked::End(()) => {
                if let Some(call) = call {
                    call.data = None;
                }
            }
            Asked::Taken(()) => {
                if let Some(call) = call
                    && call.room.available_permits() < TCP_PARTS_AHEAD
                {
                    call.room.add_permits(1);
                }
            }
            Asked::GivenUp(()) => self.end(id),
        }
        Ok(None)
    }

    fn begin(
        &mut self,
        id: u64,
        epoch: Epoch,
        dial: Arc<dyn Dial>,
        what: What,
        data: Option<mpsc::Sender<Bytes>>,
    ) -> Result<Begun, Violation> {
        let is_lookup = data.is_none();
        let same = |call: &&Call| call.epoch == epoch && call.is_lookup == is_lookup;
        let max = if is_lookup {
            TCP_LOOKUPS_MAX
        } else {
            TCP_OPEN_MAX
        };
        if self.0.values().filter(same).count() >= max {
            return Err(Violation::OutOfPlace("it asks for too much at once"));
        }
        let begun = Begun {
            id,
            what,
            dial,
            room: Arc::new(Semaphore::new(TCP_PARTS_AHEAD)),
            given_up: CancellationToken::new(),
        };
        let call = Call {
            epoch,
            data,
            is_lookup,
            room: Arc::clone(&begun.room),
            given_up: begun.given_up.clone(),
        };
        match self.0.insert(id, call) {
            None => Ok(begun),
            Some(_) => Err(Violation::OutOfPlace("it asks twice by one name")),
        }
    }

    /// Ends a call, if it is open.
    pub(in crate::processes) fn end(&mut self, id: u64) {
        self.0.remove(&id);
    }

    /// Ends the calls of an attempt.
    pub(in crate::processes) fn end_of(&mut self, epoch: Epoch) {
        self.0.retain(|_, call| call.epoch != epoch);
    }
}

/// For whom an attempt's connections are made, and what it was granted.
///
/// # Errors
/// The text says what in the assignment cannot be.
pub(in crate::processes) fn scope(assignment: &Assignment) -> Result<Scope, String> {
    let task_id = assignment.task_id.parse();
    Ok(Scope {
        epoch: Epoch(assignment.epoch),
        namespace: assignment.namespace.clone(),
        task_id: task_id.map_err(|error: tq_core::id::ParseError| error.to_string())?,
        grants: Arc::new(convert::grants(assignment.grants.as_ref())?.tcp),
    })
}

impl Begun {
    /// Makes it, and says what becomes of it, until the runner process gives it up. `over` is called before the last word about
    /// what there is no connection for, since another one may be asked for upon that.
    pub(in crate::processes) async fn run(self, orders: Arc<Orders>, over: impl FnOnce() + Send) {
        let Self {
            id,
            what,
            dial,
            room,
            given_up,
        } = self;
        let say = |answered| {
            let answered = Some(answered);
            orders.push(Item::Tcp(Answer { id, answered }));
        };
        let failed = |failure: &Failure| Answered::Failed(TcpFailure::new(failure));
        match what {
            What::Resolve(name) => {
                let found = given_up.run_until_cancelled(dial.resolve(name)).await;
                over();
                match found {
                    Some(Ok(addresses)) => say(Answered::Addresses(Addresses::new(addresses))),
                    Some(Err(failure)) => say(failed(&failure)),
                    None => {}
                }
            }
            What::Connect(address, data) => {
                let connected = given_up.run_until_cancelled(dial.connect(address)).await;
                match connected {
                    Some(Ok(connection)) => {
                        say(Answered::Connected(()));
                        relay(connection, data, &room, &given_up, &say).await;
                    }
                    Some(Err(failure)) => {
                        over();
                        say(failed(&failure));
                    }
                    None => {}
                }
            }
        }
    }
}

/// Hands on what comes and what goes, until the connection is given up. Then what was sent before that is still handed on.
async fn relay(
    connection: Connection,
    data: mpsc::Receiver<Bytes>,
    room: &Semaphore,
    given_up: &CancellationToken,
    say: &(impl Fn(Answered) + Send + Sync),
) {
    let Connection {
        mut incoming,
        outgoing,
        window,
        flow,
    } = connection;
    let coming = async {
        loop {
            let last = match incoming.recv().await {
                Some(Part::Data(data)) => {
                    let Ok(permit) = room.acquire().await else {
                        return;
                    };
                    permit.forget();
                    flow.taken();
                    say(Answered::Data(data));
                    continue;
                }
                Some(Part::End) => Answered::End(()),
                Some(Part::Failed(failure)) => Answered::Failed(TcpFailure::new(&failure)),
                None => Answered::Failed(TcpFailure::new(&Failure::Stopped)),
            };
            say(last);
            return;
        }
    };
    let going = async {
        // Dropped where this ends: the other end is told that there is no more.
        let (mut data, outgoing) = (data, outgoing);
        while let Some(part) = data.recv().await {
            if let Err(failure) = hand_on(part, &*outgoing, &window).await {
                say(Answered::Broken(TcpFailure::new(&failure)));
                return;
            }
            say(Answered::Room(()));
        }
    };
    let going = async {
        tokio::pin!(going);
        tokio::select! {
            () = &mut going => {}
            () = given_up.cancelled() => {
                // It is no news to anybody that this took too long.
                timeout(TCP_LINGER_TIME, going).await.ok();
            }
        }
    };
    let coming = given_up.run_until_cancelled(async {
        coming.await;
        // Open until it is given up.
        std::future::pending::<()>().await;
    });
    tokio::join!(coming, going);
}

/// Sends one part, and waits until it is on its way, so that no more parts are held than the runner process knows of.
async fn hand_on(part: Bytes, outgoing: &dyn Outgoing, window: &Window) -> Result<(), Failure> {
    window.ready().await?;
    if window.take() {
        outgoing.send(part);
    }
    window.flushed().await
}
