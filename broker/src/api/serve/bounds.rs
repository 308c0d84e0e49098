//! What one connection, and all together, may hold and how long it may take. None of it can be set: it bounds what somebody can do who
//! has shown no key yet, and whoever needs more is served by another connection. `docs/security.md` has the same numbers.

use std::time::Duration;

/// Connections at once. Each costs the broker about 50 KB while it does nothing.
pub(super) const CONNECTIONS_MAX: usize = 4_096;
/// Connections from one address at once, or from one network /64 of IPv6, which one machine usually has. Not on loopback, where
/// everybody has the same, nor behind a proxy.
pub(super) const CONNECTIONS_PER_ADDRESS_MAX: usize = 256;
/// Streams that one connection may have open, each with one request.
pub(super) const STREAMS_MAX: u32 = 256;
/// What one stream may send ahead of being read.
pub(super) const STREAM_WINDOW_BYTES: u32 = 1 << 20;
/// What one connection may send ahead of being read.
pub(super) const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;
/// What is kept of one response, in parts, while it is not read. A part that is larger is kept alone.
pub(super) const SEND_BUFFER_BYTES: usize = 256 << 10;
/// All headers of one request. More than a few of these in frames without an end closes the connection.
pub(super) const HEADER_BYTES_MAX: u32 = 16 << 10;
/// Headers of one request by HTTP/1. Each costs more than its bytes.
pub(super) const HEADERS_MAX: usize = 100;
/// Requests that were given up before anything was done for them. Who has more of them at once asks for nothing but work
/// (CVE-2023-44487), and the connection is closed.
pub(super) const PENDING_RESETS_MAX: usize = 20;
/// Streams that had to be closed because of what the other end did wrong, in the life of a connection (CVE-2025-8671). A client that does
/// nothing wrong can have some, by sending on when it was refused already.
pub(super) const LOCAL_RESETS_MAX: usize = 256;
/// Refuses itself a second connection less often than a person would notice.
pub(super) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    /// From the connection, or its handshake, to its first request, and from one request by HTTP/1 to the headers of the next. A client
    /// that connects has something to ask.
    pub(super) first_request: Duration,
    /// Without any progress of a request that is being sent, or of a response that is there to be read. The connection of a client
    /// that was cut off without a word is found by pings instead.
    pub(super) stall: Duration,
    /// Without any request. Clients connect again by themselves.
    pub(super) idle: Duration,
    /// Between pings of HTTP/2.
    pub(super) ping_every: Duration,
    /// To answer a ping.
    pub(super) answer: Duration,
    /// To end, when it was said that this is the end.
    pub(super) farewell: Duration,
    /// Between looks at a connection.
    pub(super) look_every: Duration,
}

impl Times {
    pub(super) const DEFAULT: Self = Self {
        first_request: Duration::from_secs(10),
        stall: Duration::from_secs(15),
        idle: Duration::from_secs(300),
        ping_every: Duration::from_secs(30),
        answer: Duration::from_secs(10),
        farewell: Duration::from_secs(5),
        look_every: Duration::from_secs(1),
    };
}

/// A response is read if this much of it is gone, or its end, within [`Times::stall`]. Who reads a byte at a time does not read.
pub(super) const PROGRESS_BYTES: usize = 1 << 10;
