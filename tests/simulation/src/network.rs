//! Connections between hosts and the broker. Each is a pair of lines, one for each direction, that keep their order, as
//! TCP does, and may stand still by themselves.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tq_broker::dispatch::SessionId;
use tq_broker::dispatch::hosts::Link;
use tq_broker::dispatch::message::ToHost;
use tq_broker::ledger::HelloRefused;
use tq_proto::v1::{BrokerMessage, HostMessage};

/// Messages that the broker may leave lying before it gives a connection up. The real number is higher; here slow hosts
/// are to be met often.
const OUTBOUND_MAX: usize = 32;
/// Messages that are under way in one direction at most.
pub(crate) const UNDER_WAY_MAX: usize = 8;

/// A connection.
pub(crate) struct Connection {
    pub(crate) host: usize,
    /// The life of the host's process that made it.
    pub(crate) life: u32,
    /// The host's end stands.
    pub(crate) at_host: bool,
    /// The broker's end stands.
    pub(crate) at_broker: bool,
    pub(crate) to_broker: Line<HostMessage>,
    pub(crate) to_host: Line<BrokerMessage>,
    pub(crate) wire: Arc<Wire>,
    pub(crate) hello: Option<oneshot::Receiver<Result<SessionId, HelloRefused>>>,
    pub(crate) session: Option<SessionId>,
}

/// One direction of a connection.
pub(crate) struct Line<T> {
    pub(crate) messages: VecDeque<T>,
    /// When the last message that is under way arrives.
    pub(crate) last: Duration,
    /// Nothing arrives until then.
    pub(crate) stopped_until: Duration,
}

impl<T> Default for Line<T> {
    fn default() -> Self {
        Self {
            messages: VecDeque::new(),
            last: Duration::ZERO,
            stopped_until: Duration::ZERO,
        }
    }
}

/// Where the ledger leaves messages for a host.
pub(crate) struct Wire {
    messages: Mutex<VecDeque<ToHost>>,
    is_open: AtomicBool,
}

impl Wire {
    pub(crate) fn pop(&self) -> Option<ToHost> {
        let mut messages = self.messages.lock().unwrap_or_else(PoisonError::into_inner);
        messages.pop_front()
    }
}

impl Link for Wire {
    fn send(&self, message: ToHost) -> bool {
        let mut messages = self.messages.lock().unwrap_or_else(PoisonError::into_inner);
        let takes = self.is_open() && messages.len() < OUTBOUND_MAX;
        if takes {
            messages.push_back(message);
        } else {
            self.is_open.store(false, Ordering::Relaxed);
        }
        takes
    }

    fn is_open(&self) -> bool {
        self.is_open.load(Ordering::Relaxed)
    }
}

impl Connection {
    pub(crate) fn new(host: usize, life: u32) -> Self {
        Self {
            host,
            life,
            at_host: true,
            at_broker: true,
            to_broker: Line::default(),
            to_host: Line::default(),
            wire: Arc::new(Wire {
                messages: Mutex::default(),
                is_open: AtomicBool::new(true),
            }),
            hello: None,
            session: None,
        }
    }

    /// Whether the broker has let go of its end.
    pub(crate) fn is_dropped(&self) -> bool {
        self.session.is_some() && self.hello.is_none() && Arc::strong_count(&self.wire) == 1
    }
}
