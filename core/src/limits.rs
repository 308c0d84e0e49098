//! Every bound of the system, each with its reason.

use std::time::Duration;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

macro_rules! limits {
    // What comes first is a dollar, which a macro that is made by a macro cannot have of its own.
    (($d:tt) $(
        $(#[doc = $doc:literal])+
        $field:ident: $name:literal, $unit:ident, $default:expr, $min:expr, $max:expr;
    )+) => {
        /// What one attempt may use. All of it is whole numbers, in the unit that the field is named after.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct Limits {
            $($(#[doc = $doc])+ pub $field: u64,)+
        }

        impl Limits {
            /// What a function has that sets no limits.
            pub const DEFAULT: Self = Self { $($field: $default,)+ };
            /// The most that a function may ask for.
            pub const MAX: Self = Self { $($field: $max,)+ };
            /// The least that makes sense.
            pub const MIN: Self = Self { $($field: $min,)+ };

            /// Those that are not the default, which is what is written of limits: most tasks have no others.
            #[must_use]
            pub fn named(&self) -> LimitOverrides {
                let unless = |value, default| (value != default).then_some(value);
                LimitOverrides { $($field: unless(self.$field, Self::DEFAULT.$field),)+ }
            }

            /// Name, unit and value of each, in the order in which people are shown them. The names are those of `tq.toml`.
            pub fn rows(&self) -> impl Iterator<Item = (&'static str, Unit, u64)> + use<> {
                [$(($name, Unit::$unit, self.$field),)+].into_iter()
            }
        }

        /// Limits of which only some are named.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct LimitOverrides {
            $(
                #[doc = concat!("[`Limits::", stringify!($field), "`].")]
                pub $field: Option<u64>,
            )+
        }

        impl LimitOverrides {
            /// What is named here, in place of the same in `limits`.
            #[must_use]
            pub fn over(&self, limits: &Limits) -> Limits {
                Limits { $($field: self.$field.unwrap_or(limits.$field),)+ }
            }

            /// What is named here, or else what `other` names.
            #[must_use]
            pub fn or(self, other: Self) -> Self {
                Self { $($field: self.$field.or(other.$field),)+ }
            }

            /// The same without the limits of these names.
            #[must_use]
            pub fn without(self, names: &[String]) -> Self {
                let is_kept = |name: &str| !names.iter().any(|other| other == name);
                Self { $($field: self.$field.filter(|_| is_kept($name)),)+ }
            }

            /// Names of those that are named, in their order.
            pub fn names(&self) -> impl Iterator<Item = &'static str> + use<> {
                let named = [$(($name, self.$field.is_some()),)+].into_iter();
                named.filter(|(_, is_named)| *is_named).map(|(name, _)| name)
            }
        }

        /// Passes the fields of [`Limits`] on to a macro, for code that does the same with each.
        #[macro_export]
        macro_rules! each_limit {
            ($d then:ident) => { $d then! { $($field)+ } };
        }
    };
}

limits! {
    ($)
    /// Fuel, about one for each WebAssembly instruction. The default is about 10 s of computing.
    fuel: "fuel", Count, 10_000_000_000, 1, 100_000_000_000_000;
    /// The sum of all linear memories and tables. The default is enough for every language's runtime: Go does not start
    /// below 64 MiB.
    memory_bytes: "memory", Bytes, 128 * MIB, 64 * KIB, 4096 * MIB;
    /// Wall time, from instantiation to the result.
    timeout_ms: "timeout", Millis, 30_000, 1, 24 * 3600 * 1000;
    /// The result. Larger data belongs in a store of its own, with a reference in the result.
    output_bytes: "output", Bytes, RESULT_BYTES_MAX as u64, 1, RESULT_BYTES_MAX as u64;
    /// What is kept of the log: standard error, `log`, and a handler's standard output. What is more is cut out of the
    /// middle, and a notice says how much: the first and the last lines tell most.
    log_bytes: "log", Bytes, 256 * KIB, 32 * KIB, 4 * MIB;
    /// A checkpoint.
    checkpoint_bytes: "checkpoint", Bytes, CHECKPOINT_BYTES_MAX as u64, 1, CHECKPOINT_BYTES_MAX as u64;
    /// Handles (streams, pollables and the like) that it holds at once.
    handles: "handles", Count, 1_024, 16, 16_384;
    /// Calls of the host's functions: each costs the host up to some microseconds that fuel does not count. The default lets a
    /// program write 800 MB to its log line by line, with two or three calls each.
    host_calls: "host_calls", Count, 100_000_000, 100, 1_000_000_000_000;
    /// Random bytes, all together: making them is the host's work.
    random_bytes: "random", Bytes, 16 * MIB, 1, 1024 * MIB;
    /// HTTP requests that it sends, where any are granted.
    http_requests: "http_requests", Count, 100, 1, 100_000;
    /// What these requests and their responses have in headers and bodies, all together.
    http_bytes: "http_bytes", Bytes, 64 * MIB, KIB, 4096 * MIB;
    /// Wall time of one request, from its beginning to the end of its response.
    http_time_ms: "http_time", Millis, 30_000, 1, 3600 * 1000;
    /// What its directory `/scratch` takes of the host's memory, where one is granted: contents, names, and
    /// `SCRATCH_NODE_BYTES` for each file and directory.
    scratch_bytes: "scratch", Bytes, 16 * MIB, 64 * KIB, 256 * MIB;
}

/// What a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Pieces.
    Count,
    /// Bytes.
    Bytes,
    /// Milliseconds.
    Millis,
}

impl Unit {
    /// As it stands behind a number; empty if that counts pieces.
    fn suffix(self) -> &'static str {
        match self {
            Self::Count => "",
            Self::Bytes => " bytes",
            Self::Millis => " ms",
        }
    }
}

impl Limits {
    /// Wall time, from instantiation to the result.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }

    /// Checks each limit against [`Limits::MIN`] and [`Limits::MAX`].
    ///
    /// # Errors
    /// [`OutOfRange`] names the first limit that is outside.
    pub fn check(&self) -> Result<(), OutOfRange> {
        let bounds = Self::MIN.rows().zip(Self::MAX.rows());
        self.rows().zip(bounds).try_for_each(
            |((limit, unit, value), ((_, _, min), (_, _, max)))| {
                check_range(limit, unit.suffix(), value, min, max)
            },
        )
    }

    /// The first limit that is higher than the other's: its name and unit, its value and the other's.
    #[must_use]
    pub fn above(&self, most: &Self) -> Option<(&'static str, &'static str, u64, u64)> {
        self.rows()
            .zip(most.rows())
            .find(|((_, _, value), (_, _, most))| value > most)
            .map(|((limit, unit, value), (_, _, most))| (limit, unit.suffix(), value, most))
    }

    /// These limits, none of them above `ceiling`.
    #[must_use]
    pub fn min(self, ceiling: &Self) -> Self {
        macro_rules! lower {
            ($($field:ident)+) => { Self { $($field: self.$field.min(ceiling.$field),)+ } };
        }
        each_limit!(lower)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// A limit that is set lower or higher than it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{limit} is {value}{unit}; it may be {min} to {max}{unit}")]
pub struct OutOfRange {
    limit: &'static str,
    unit: &'static str,
    value: u64,
    min: u64,
    max: u64,
}

/// Checks the memory that a host offers: at least what the smallest attempt may use, at most [`HOST_MEMORY_BYTES_MAX`].
///
/// # Errors
/// [`OutOfRange`] says what it may be.
pub fn check_host_memory(bytes: u64) -> Result<(), OutOfRange> {
    let (min, max) = (Limits::MIN.memory_bytes, HOST_MEMORY_BYTES_MAX);
    check_range("memory of a host", " bytes", bytes, min, max)
}

/// Checks how long a drain may let attempts run on, in milliseconds: at most [`DRAIN_DEADLINE_MAX`].
///
/// # Errors
/// [`OutOfRange`] says what it may be.
pub fn check_drain_deadline(ms: u64) -> Result<(), OutOfRange> {
    check_range(
        "deadline of a drain",
        " ms",
        ms,
        0,
        millis(DRAIN_DEADLINE_MAX),
    )
}

fn check_range(
    limit: &'static str,
    unit: &'static str,
    value: u64,
    min: u64,
    max: u64,
) -> Result<(), OutOfRange> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    Err(OutOfRange {
        limit,
        unit,
        value,
        min,
        max,
    })
}

/// Checks a span, to the millisecond.
pub(crate) fn check_span(
    limit: &'static str,
    span: Duration,
    min: Duration,
    max: Duration,
) -> Result<(), OutOfRange> {
    check_range(limit, " ms", millis(span), millis(min), millis(max))
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// Names: long enough for `demo:images/ops@1.0.0#resize`, short enough for a key.
pub const NAME_BYTES_MAX: usize = 128;
/// A payload. Larger data belongs in a store of its own, with a reference in the payload.
pub const PAYLOAD_BYTES_MAX: usize = 8 * MIB as usize;
/// A result, on the same ground.
pub const RESULT_BYTES_MAX: usize = 8 * MIB as usize;
/// Payloads and results up to this size are rows of the store and travel inside the messages of the session; larger
/// ones are files, and travel on the bulk connection.
pub const INLINE_BYTES_MAX: usize = 64 * KIB as usize;
/// An uploaded module: a Python component has 18 to 35 MB.
pub const MODULE_BYTES_MAX: usize = 64 * MIB as usize;
/// Uploads that were cut, of which the broker keeps what came so that the next one goes on from there. The oldest makes room for
/// another one. Each has up to [`MODULE_BYTES_MAX`] on disk.
pub const CUT_UPLOADS_MAX: usize = 16;
/// Those of one namespace.
pub const CUT_UPLOADS_NAMESPACE_MAX: usize = 4;
/// How long they are kept: long enough to notice, and to find another network.
pub const CUT_UPLOAD_KEPT: Duration = Duration::from_mins(10);
/// One chunk of a streamed upload or download.
pub const CHUNK_BYTES: usize = 256 * KIB as usize;
/// Arguments of a plain program, all together.
pub const ARGUMENTS_BYTES_MAX: usize = 16 * KIB as usize;
/// Arguments of a plain program, in number.
pub const ARGUMENTS_MAX: usize = 256;
/// An idempotency key, and a unique key.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 256;
/// How long an idempotency key is remembered after the submit that brought it, if that does not say.
pub const IDEMPOTENCY_WINDOW: Duration = Duration::from_secs(24 * 3600);
/// The shortest time for which one can be remembered.
pub const IDEMPOTENCY_WINDOW_MIN: Duration = Duration::from_secs(1);
/// The longest: a task is kept at least so long.
pub const IDEMPOTENCY_WINDOW_MAX: Duration = Duration::from_secs(30 * 24 * 3600);
/// A media type.
pub const CONTENT_TYPE_BYTES_MAX: usize = 128;
/// Tasks that one submit may bring. A message of this many small payloads stays under [`MESSAGE_BYTES_MAX`].
pub const SUBMIT_BATCH_MAX: usize = 1_000;
/// Tasks that one watch may name.
pub const WATCH_IDS_MAX: usize = 10_000;
/// One gRPC message: a payload and a result at their limits, and room for the rest.
pub const MESSAGE_BYTES_MAX: usize = 20 * MIB as usize;
/// The id that a caller may give a request to `/v1`: it stands in the log.
pub const REQUEST_ID_BYTES_MAX: usize = 128;
/// How long the body of a request to `/v1` may take to arrive.
pub const REST_BODY_TIME: Duration = Duration::from_secs(60);
/// Bodies of JSON up to this size are read as they come.
pub const REST_SMALL_BODY_BYTES: usize = 64 * KIB as usize;
/// Larger ones that are held at once; a further one waits.
pub const REST_LARGE_BODIES_MAX: usize = 4;
/// Values in a body of JSON. In memory each takes some hundred bytes, however short it is.
pub const REST_VALUES_MAX: usize = 500_000;
/// Rows that one listing looks at before it hands back a cursor, so that a rare state costs a bounded time.
pub const LIST_SCAN_MAX: usize = 10_000;
/// Tasks of an export that are read at once.
pub const EXPORT_PAGE_TASKS: usize = 500;
/// Bytes of one message of an export, before its last task: a task may have a hundred kilobytes of attempts and arguments.
pub const EXPORT_PART_BYTES: usize = 256 * KIB as usize;
/// Entries of the index of ended tasks that one page of a search looks at before it hands back a cursor.
pub const SEARCH_ENTRIES_MAX: usize = 200_000;
/// Ended tasks that a search may go over to sort them by something else than their times.
pub const SORT_TASKS_MAX: usize = 2_000_000;
/// Searches at once: each keeps a processor busy, for up to some hundred milliseconds.
pub const SEARCHES_MAX: usize = 4;
/// How far an id may be ahead of when its task was submitted: an id is given when the ledger takes the task in.
pub const ID_AHEAD_MAX: Duration = Duration::from_secs(60);
/// A filter of a search, in bytes.
pub const FILTER_BYTES_MAX: usize = 4 * KIB as usize;
/// Tests in it.
pub const FILTER_TESTS_MAX: usize = 64;
/// Parentheses and negations in each other in it.
pub const FILTER_DEPTH_MAX: usize = 16;
/// Tasks on one page of a listing.
pub const LIST_PAGE_MAX: usize = 1_000;
/// Dead tasks that one request redrives: they are one commit.
pub const REDRIVE_BATCH_MAX: usize = 500;
/// Signatures of dead tasks on one page of a listing.
pub const SIGNATURES_PAGE_MAX: usize = 100;
/// Up to here the dead tasks of one signature are counted; beyond it there are at least so many.
pub const SIGNATURE_COUNT_MAX: usize = 1_000;
/// Lines of its log that are shown of a dead task's last attempt.
pub const LOG_TAIL_LINES: usize = 20;
/// Bytes of its log that are looked at for them.
pub const LOG_TAIL_BYTES: usize = 16 * KIB as usize;
/// Tasks that one request changes of those that a filter takes.
pub const APPLY_BATCH_MAX: usize = 1_000;
/// Tasks that one request cancels.
pub const CANCEL_BATCH_MAX: usize = 1_000;
/// Of those, how many the ledger is asked for at once: as many fit into one commit beside other work.
pub const CHANGES_AT_ONCE: usize = 128;
/// Ended tasks that one request may remove: one such request is half of a commit.
pub const DELETE_BATCH_MAX: usize = 1_000;
/// Rows of logs that one step of the ledger removes: with the largest chunks, reading them takes a few milliseconds. What
/// is left goes in the steps after it.
pub const LOG_ROWS_PER_STEP: usize = 256;
/// The shortest time for which what has ended is kept: whoever waits for a task reads its result when it is told.
pub const RETENTION_MIN: Duration = Duration::from_secs(1);
/// The longest time for which what has ended is kept: 10 years. An error in the unit should not be forever.
pub const RETENTION_MAX: Duration = Duration::from_secs(3_660 * 24 * 3600);
/// Tasks that one step of the ledger looks at to see whether their time is over, beside as many as have ended in it: so
/// that it keeps up at any rate, and removes the backlog of a day in slices of a few milliseconds.
pub const RETENTION_SLICE: usize = 256;
/// How far ahead a task may be scheduled, and its deadline set: an error in the unit should not wait for a century.
pub const DELAY_MAX: Duration = Duration::from_secs(366 * 24 * 3600);

/// A concurrency key: long enough for a URL or an address, short enough to be held for each that runs.
pub const CONCURRENCY_KEY_BYTES_MAX: usize = 256;

/// The highest concurrency limit of a queue or a key; more than all hosts together run at once.
pub const CONCURRENCY_MAX: u32 = 1_000_000;

/// Starts in one span of a rate, and its burst.
pub const RATE_MAX: u32 = 1_000_000;

/// The longest span of a rate.
pub const RATE_SPAN_MAX: Duration = Duration::from_secs(24 * 3600);

/// Queues of one namespace.
pub const QUEUES_MAX: usize = 1_000;

/// One in so many tasks that a tier hands out is the one that has waited longest, whatever its priority, so that none
/// starves.
pub const AGED_TURN: u32 = 8;

/// Attempts that a retry policy may allow.
pub const ATTEMPTS_MAX: u32 = 100;
/// Attempts of which a task keeps the record; the newest stay.
pub const ATTEMPTS_KEPT: usize = 20;
/// Times that a task goes back to its queue because a host was lost with it, in one round.
pub const LOSSES_MAX: u32 = 10;
/// Times in one round that a task may crash the process that runs it while it runs there alone: one crash may have been
/// chance, and each costs a process.
pub const STRIKES_MAX: u32 = 3;
/// The message of an attempt that failed.
pub const ERROR_MESSAGE_BYTES_MAX: usize = 4 * KIB as usize;
/// The guest's backtrace of an attempt that failed.
pub const BACKTRACE_BYTES_MAX: usize = 8 * KIB as usize;
/// Frames of a guest's backtrace.
pub const BACKTRACE_FRAMES_MAX: usize = 64;

/// One line of the log.
pub const LOG_LINE_BYTES_MAX: usize = 16 * KIB as usize;
/// What is passed on of a running attempt's log at once.
pub const LOG_CHUNK_BYTES: usize = 16 * KIB as usize;
/// How often a running attempt's log, progress and checkpoints are passed on at most.
pub const FLUSH_INTERVAL: Duration = Duration::from_millis(100);
/// How long the end of a log may come after its attempt's before it counts as missing: they take different ways to the broker.
pub const LOG_LATE: Duration = Duration::from_secs(5);
/// A checkpoint.
pub const CHECKPOINT_BYTES_MAX: usize = MIB as usize;
/// What a checkpoint may have more as it is kept: a frame around what cannot be compressed.
pub const CHECKPOINT_FRAME_BYTES: usize = KIB as usize;
/// The note of a progress report.
pub const PROGRESS_NOTE_BYTES_MAX: usize = 512;
/// Memories of one attempt; the sum of their sizes is limited by [`Limits::memory_bytes`]. Generous, so that it is
/// the sum that decides.
pub const MEMORIES_MAX: usize = 32;
/// Tables of one attempt. A component of a dynamic language has one for each of its core modules.
pub const TABLES_MAX: usize = 64;
/// Core instances of one attempt.
pub const INSTANCES_MAX: usize = 64;
/// Elements of one table.
pub const TABLE_ELEMENTS_MAX: usize = 100_000;
/// WebAssembly stack of one attempt.
pub const STACK_BYTES_MAX: usize = 512 * KIB as usize;
/// Bytes that a guest passes to its host in one call, but for the result.
pub const HOSTCALL_BYTES_MAX: usize = 16 * MIB as usize;
/// What a file or directory of `/scratch` counts beside its name and contents: its times, its place among the others, and
/// what the maps around it keep free. A million empty files would otherwise cost a guest nothing.
pub const SCRATCH_NODE_BYTES: u64 = KIB;
/// The pieces in which contents of `/scratch` are held. What was never written takes none, a small file takes a part of one,
/// and a large one grows without being copied.
pub const SCRATCH_BLOCK_BYTES: usize = 16 * KIB as usize;
/// What a piece counts beside its bytes: its place among the others.
pub const SCRATCH_BLOCK_COST_BYTES: u64 = 128;
/// The name of a file or directory of `/scratch`, as on most file systems.
pub const SCRATCH_NAME_BYTES_MAX: usize = 255;
/// A path below `/scratch`, as on Linux.
pub const SCRATCH_PATH_BYTES_MAX: usize = 4 * KIB as usize;
/// What one call reads of a file of `/scratch`; the rest takes further ones.
pub const SCRATCH_READ_BYTES_MAX: usize = 64 * KIB as usize;
/// How deep in `/scratch` a directory may be moved to. The way up from there is looked at, so that none is moved into itself.
pub const SCRATCH_RENAME_DEPTH_MAX: usize = 1_024;
/// Webhooks of one namespace. The broker goes through all of them for every commit with ends.
pub const WEBHOOKS_MAX: usize = 20;
/// The URL of a webhook.
pub const WEBHOOK_URL_BYTES_MAX: usize = 2 * KIB as usize;
/// Functions that a webhook names.
pub const WEBHOOK_FUNCTIONS_MAX: usize = 50;
/// Deliveries of a webhook that are under way or to be tried again. While there are so many, it picks up no further events;
/// those wait in the record of what has ended.
pub const WEBHOOK_PENDING_MAX: u64 = 1_000;
/// Events that one commit makes deliveries of.
pub const WEBHOOK_TAKE_MAX: usize = 200;
/// Attempts that the log of a webhook keeps, the newest.
pub const WEBHOOK_LOG_MAX: u64 = 500;
/// What is sent of one event. Of a task with more to it, attempts are left out.
pub const WEBHOOK_BODY_BYTES_MAX: usize = 64 * KIB as usize;
/// Of what an endpoint answers, so much is read and nothing is kept: it is for the connection to be used again.
pub const WEBHOOK_ANSWER_BYTES_MAX: u64 = 16 * KIB;
/// Requests of one webhook at once. One whose last attempt failed has one.
pub const WEBHOOK_OPEN_MAX: usize = 8;
/// Requests of all webhooks of one namespace at once.
pub const WEBHOOKS_OPEN_NAMESPACE_MAX: usize = 16;
/// Tests of webhooks at once: whoever asks waits for the endpoint, on a thread.
pub const WEBHOOK_TESTS_MAX: usize = 8;
/// Requests of all webhooks at once: each has a thread.
pub const WEBHOOKS_OPEN_MAX: usize = 64;
/// For an endpoint to be found, reached and to have answered.
pub const WEBHOOK_TIMEOUT: Duration = Duration::from_secs(10);
/// Attempts of a delivery, over less than a day.
pub const WEBHOOK_ATTEMPTS_MAX: u32 = 16;
/// The longest pause before the second attempt of a delivery; each further one may be twice as long.
pub const WEBHOOK_BACKOFF: Duration = Duration::from_secs(10);
/// The longest pause between two attempts of a delivery.
pub const WEBHOOK_BACKOFF_MAX: Duration = Duration::from_secs(4 * 3600);
/// A webhook of which every attempt has failed for so long is paused.
pub const WEBHOOK_FAILING_MAX: Duration = Duration::from_secs(24 * 3600);
/// Why an attempt of a delivery failed, as it is kept.
pub const WEBHOOK_ERROR_BYTES_MAX: usize = 200;
/// Secrets of one namespace. The broker holds them in memory, sealed.
pub const SECRETS_MAX: usize = 100;
/// A secret. Shorter ones would be found everywhere, and could not be kept out of logs.
pub const SECRET_BYTES_MIN: usize = 8;
/// A secret. The longest keys in use are of a few KiB.
pub const SECRET_BYTES_MAX: usize = 8 * KIB as usize;
/// Keys that let callers in. The broker holds them in memory, and lists them in one answer.
pub const ACCESS_KEYS_MAX: usize = 10_000;
/// Those of them that are for one namespace, whoever has made them: its administrators leave room for others.
pub const ACCESS_KEYS_PER_NAMESPACE_MAX: usize = 1_000;
/// Namespaces of one such key.
pub const ACCESS_KEY_NAMESPACES_MAX: usize = 100;
/// How long a key may hold that ends by itself.
pub const ACCESS_KEY_EXPIRY_MAX: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// How long the text before holds on when a key is given another one.
pub const ACCESS_KEY_GRACE_MAX: Duration = Duration::from_secs(30 * 24 * 3600);
/// How often the credential of a call that goes on is looked at again: what was revoked ends within this.
pub const ACCESS_RECHECK: Duration = Duration::from_secs(2);
/// Credentials that are none which an address may try before it waits, and every how often it gets one of them back.
pub const ACCESS_FAILURES_MAX: u32 = 10;
/// See [`ACCESS_FAILURES_MAX`].
pub const ACCESS_FAILURE_EVERY: Duration = Duration::from_secs(1);
/// Addresses whose failures are remembered. They take some 40 bytes each.
pub const ACCESS_ADDRESSES_MAX: usize = 10_000;
/// A token of an issuer. Those in use have one or two KiB.
pub const JWT_BYTES_MAX: usize = 8 * KIB as usize;
/// How much the clocks of an issuer and a broker may differ.
pub const JWT_LEEWAY: Duration = Duration::from_secs(60);
/// Tokens that are not checked again when they come again.
pub const JWTS_VERIFIED_MAX: usize = 10_000;
/// The keys of an issuer.
pub const JWKS_BYTES_MAX: u64 = MIB;
/// How often they are asked for.
pub const JWKS_EVERY: Duration = Duration::from_secs(300);
/// How often they are asked for since a token names a key that is not among them.
pub const JWKS_UNKNOWN_EVERY: Duration = Duration::from_secs(10);
/// How long that may take.
pub const JWKS_TIMEOUT: Duration = Duration::from_secs(5);
/// Records that the audit log keeps, of some 300 bytes each; the oldest go first.
pub const AUDIT_RECORDS_MAX: u64 = 1_000_000;
/// Calls under way at once that are audited. They go on when their callers go away, so that the bounds of connections are none for them;
/// further ones wait.
pub const AUDITED_CALLS_MAX: usize = 4_096;
/// Records that one principal may cause at once by what is not always recorded: calls that were denied, and what submitters do.
pub const AUDIT_RECORDS_AT_ONCE: u32 = 600;
/// How often a principal gets one of [`AUDIT_RECORDS_AT_ONCE`] back.
pub const AUDIT_RECORD_EVERY: Duration = Duration::from_secs(1);
/// Principals whose records are counted. They take some 100 bytes each.
pub const AUDIT_BUDGETS_MAX: usize = 10_000;
/// A key of a bucket.
pub const KEYVALUE_KEY_BYTES_MAX: usize = 512;
/// The value of a key. What is larger is a result, or belongs into a store of objects.
pub const KEYVALUE_VALUE_BYTES_MAX: usize = 64 * KIB as usize;
/// What a key counts beside its own bytes and those of its value and its bucket's name: about what the store adds to it. So
/// many keys without values are bounded too.
pub const KEYVALUE_ENTRY_BYTES: u64 = 64;
/// What the buckets of one namespace may have together. The broker is no database: it copies them with everything else that
/// it has, and every write waits for its disk.
pub const KEYVALUE_NAMESPACE_BYTES_MAX: u64 = 64 * MIB;
/// Buckets of one namespace. The broker holds their names and sizes in memory.
pub const KEYVALUE_BUCKETS_MAX: usize = 256;
/// Keys in one call, and on one page of a list.
pub const KEYVALUE_KEYS_MAX: usize = 1_000;
/// Keys and values in one call, or in its answer.
pub const KEYVALUE_CALL_BYTES_MAX: usize = MIB as usize;
/// How long a host asks its broker for something on behalf of a guest.
pub const SERVICE_TIMEOUT: Duration = Duration::from_secs(10);
/// Environment variables of a function.
pub const ENV_MAX: usize = 64;
/// Their names and values, all together.
pub const ENV_BYTES_MAX: usize = 16 * KIB as usize;
/// How fine guests see the time. A finer clock tells them what the processor's caches hold, and so of their neighbours.
pub const CLOCK_RESOLUTION: Duration = Duration::from_micros(100);
/// Random bytes in one call.
pub const RANDOM_BYTES_MAX: u64 = 64 * KIB;
/// Headers or trailers of one HTTP message, with what holding them takes.
pub const HTTP_FIELDS_BYTES_MAX: usize = 32 * KIB as usize;
/// Entries of one capability of a function: destinations, buckets or secrets.
pub const GRANTS_MAX: usize = 64;
/// Headers of one HTTP message, in number.
pub const HTTP_HEADERS_MAX: usize = 128;
/// The head of a response, with its line, its names and its values.
pub const HTTP_HEAD_BYTES_MAX: usize = 64 * KIB as usize;
/// Path and query of a request.
pub const HTTP_PATH_BYTES_MAX: usize = 8 * KIB as usize;
/// The body of a request, which the host holds until it is sent. The one of a response is handed on as it comes.
pub const HTTP_BODY_BYTES_MAX: usize = 8 * MIB as usize;
/// Requests that one attempt has open at once; further ones wait.
pub const HTTP_OPEN_MAX: usize = 16;
/// Requests that one host has open at once; further ones wait.
pub const HTTP_OPEN_HOST_MAX: usize = 256;
/// Names that one host looks up at once: each takes a thread, and one that nobody answers takes it for long.
pub const HTTP_LOOKUPS_MAX: usize = 32;
/// How long a look-up may take.
pub const HTTP_LOOKUP_TIME: Duration = Duration::from_secs(10);
/// How long a connection may take to be made, TLS included.
pub const HTTP_CONNECT_TIME: Duration = Duration::from_secs(10);
/// Connections that wait for the next request of their namespace to the same address.
pub const HTTP_IDLE_MAX: usize = 64;
/// How long they wait. Servers commonly close theirs after a minute.
pub const HTTP_IDLE_TIME: Duration = Duration::from_secs(15);
/// One write to the body of an HTTP request. A guest may hold [`Limits::handles`] bodies, each with one write in it.
pub const HTTP_CHUNK_BYTES: usize = 16 * KIB as usize;
/// TCP connections that one attempt has open at once; a further one is refused.
pub const TCP_OPEN_MAX: usize = 16;
/// TCP connections that one host has open at once. Each is a descriptor of its process, of which many systems give 1,024.
pub const TCP_OPEN_HOST_MAX: usize = 256;
/// Names that one attempt looks up at once for its TCP connections; a further one is refused.
pub const TCP_LOOKUPS_MAX: usize = 4;
/// Addresses of one name that are handed to a guest: no client tries more.
pub const TCP_ADDRESSES_MAX: usize = 16;
/// Addresses, with their ports, that one attempt was given and may connect to; the oldest are forgotten.
pub const TCP_ADDRESSES_KEPT_MAX: usize = 256;
/// How long a TCP connection may take to be made.
pub const TCP_CONNECT_TIME: Duration = Duration::from_secs(10);
/// How long what a guest has written to a TCP connection may take to be sent, after the guest has closed it.
pub const TCP_LINGER_TIME: Duration = Duration::from_secs(1);
/// What is read from or written to a TCP connection in one part.
pub const TCP_PART_BYTES: usize = 64 * KIB as usize;
/// Parts, for each direction of a TCP connection, that wait on either side of the pipe of a runner process.
pub const TCP_PARTS_AHEAD: usize = 4;
/// Lines about TCP connections in the log of an attempt, of which no two are the same.
pub const TCP_LINES_MAX: usize = 16;
/// What an attempt that was told to stop has to return by itself before it is interrupted.
pub const CANCEL_GRACE: Duration = Duration::from_millis(500);
/// How often a running guest is asked whether its time is over.
pub const EPOCH_TICK: Duration = Duration::from_millis(5);

/// Processor time that compiling one module may take: JavaScript on StarlingMonkey takes 20 s.
pub const COMPILE_CPU: Duration = Duration::from_secs(120);
/// Wall time that compiling one module may take.
pub const COMPILE_WALL: Duration = Duration::from_secs(300);
/// Memory that compiling one module may take.
pub const COMPILE_MEMORY_BYTES: u64 = 2048 * MIB;
/// Modules compiled at once: a second one, so that a small one does not wait for JavaScript's 20 s.
pub const COMPILES_MAX: usize = 2;
/// Threads that compile one module. More of them save little and take memory each.
pub const COMPILE_THREADS_MAX: usize = 4;
/// A compiled form; StarlingMonkey's has 43 MB, and unoptimised ones reach eight times their module.
pub const COMPILED_BYTES_MAX: u64 = 1024 * MIB;
/// What the compiler may say of a module that it refuses.
pub const COMPILE_MESSAGE_BYTES_MAX: usize = 4 * KIB as usize;
/// Compiled forms that a host keeps on its disk, all together.
pub const COMPILED_CACHE_BYTES: u64 = 8 * 1024 * MIB;
/// Modules that a host keeps ready in memory; further ones are loaded from its disk in milliseconds.
pub const READY_MODULES_MAX: usize = 256;
/// How long a host does not compile a module again whose compilation went over a limit. It would again, and this often it
/// costs little: [`COMPILE_CPU`] an hour is 3 % of a processor.
pub const COMPILE_RETRY_AFTER: Duration = Duration::from_secs(3600);
/// Modules whose failure to compile a host remembers, each with up to [`COMPILE_MESSAGE_BYTES_MAX`].
pub const FAILED_MODULES_MAX: usize = 1_024;
/// Failures to compile a module after which its tasks are dead.
pub const COMPILE_FAILURES_MAX: u32 = 2;

/// A host that was silent for this long has lost its attempts. A restarted broker waits as long for the hosts that its
/// rows name.
pub const LEASE: Duration = Duration::from_secs(10);
/// How often an otherwise silent session carries a sign of life; three of them fit well into [`LEASE`].
pub const HEARTBEAT: Duration = Duration::from_secs(2);
/// Labels of one host, and labels that one task asks for: what a host runs on, where it stands and what it has fit well
/// into it.
pub const LABELS_MAX: usize = 32;
/// The value of a label, as long as a name may be.
pub const LABEL_VALUE_BYTES_MAX: usize = 128;
/// The memory that one host may offer, 1 PiB: more is an error in the unit.
pub const HOST_MEMORY_BYTES_MAX: u64 = 1024 * 1024 * 1024 * MIB;
/// How long a drain may let attempts run on: as long as the longest timeout of one.
pub const DRAIN_DEADLINE_MAX: Duration = Duration::from_secs(24 * 3600);
/// Failures through a host's own fault, without a success among them, after which it is quarantined. One or two happen
/// to any host, by a network that blinks; so many in a row mean that the next one will fail too.
pub const QUARANTINE_FAILURES: usize = 5;
/// How close together these failures are. Those of a host that fails once an hour have nothing to do with each other.
pub const QUARANTINE_WINDOW: Duration = Duration::from_secs(5 * 60);
/// The first pause of a quarantined host before it gets an attempt as a probe; doubled after each probe that fails.
pub const QUARANTINE_PAUSE_MIN: Duration = Duration::from_secs(10);
/// The longest such pause: a host that was mended is back at work so soon at the latest, and each probe of one that was
/// not costs one task one loss of [`LOSSES_MAX`].
pub const QUARANTINE_PAUSE_MAX: Duration = Duration::from_secs(10 * 60);
/// How far back a circuit breaker looks: long enough for a function that is called every few seconds to come to
/// [`BREAKER_ATTEMPTS_MIN`], short enough for what was a minute ago not to speak against it.
pub const BREAKER_WINDOW: Duration = Duration::from_secs(60);
/// Attempts that have to have ended in that time before the breaker opens: of fewer, half may fail by chance.
pub const BREAKER_ATTEMPTS_MIN: u32 = 20;
/// Of a hundred of them, so many have to have failed. A function of which fewer fail gets more done by retries than by
/// waiting.
pub const BREAKER_FAILURE_PERCENT: u32 = 50;
/// The first pause of a breaker that opened before a task of its function may start as a probe; doubled after each probe
/// that fails.
pub const BREAKER_PAUSE_MIN: Duration = Duration::from_secs(5);
/// The longest such pause: a function that was mended runs again so soon at the latest, and one that was not costs its
/// tasks one attempt in that time.
pub const BREAKER_PAUSE_MAX: Duration = Duration::from_secs(5 * 60);
/// Probes that have to succeed one after the other before the breaker closes: one may by chance.
pub const BREAKER_PROBES: u32 = 3;
/// Changes of a breaker that are remembered.
pub const BREAKER_CHANGES_MAX: usize = 50;
/// Breakers of one namespace: functions that failed lately, or whose breaker somebody has forced. What fails beyond it has
/// none. Each takes up to 20 KiB of the broker's memory.
pub const BREAKERS_MAX: usize = 1_000;
/// How long a breaker is remembered after its last change, to show what it did.
pub const BREAKER_KEPT: Duration = Duration::from_secs(24 * 3600);
/// Why somebody forces a breaker, in their words.
pub const BREAKER_REASON_BYTES_MAX: usize = 256;
/// Changes of a host's health that are remembered.
pub const HOST_CHANGES_MAX: usize = 50;
/// Days that costs are kept for: a year, and a month to compare it with the year before.
pub const COST_DAYS_MAX: u32 = 400;
/// Functions of a namespace that costs of one day are kept apart for; what the others cost is kept together.
pub const COST_FUNCTIONS_MAX: usize = 1_000;
/// Rows of costs in one answer.
pub const COST_PAGE_MAX: usize = 1_000;
/// Tasks that may wait, over all namespaces, unless a broker is told otherwise: 12 GB of rows. It is there for the disk, and
/// far beyond what a queue that is worked on has.
pub const WAITING_MAX: u64 = 20_000_000;
/// Memory for submits that are being taken in, from when they are read until they are committed.
pub const SUBMITS_BYTES_MAX: u64 = 256 * MIB;
/// What a task counts in that, beside its payload and its arguments.
pub const SUBMIT_TASK_BYTES: u64 = KIB;
/// Of a hundred parts of what may run short, so many may be taken before tasks of the low tier are refused.
pub const OVERLOAD_LOW_PERCENT: u64 = 80;
/// The same for the normal tier. The high one has all of it.
pub const OVERLOAD_NORMAL_PERCENT: u64 = 90;
/// A tier counts as refused until none of it was for so long: clients that were told to come back in a second do not make
/// the level flicker.
pub const OVERLOAD_CALM: Duration = Duration::from_secs(10);
/// Changes of the level of overload that are remembered.
pub const OVERLOAD_CHANGES_MAX: usize = 100;
/// The shortest time after which a client that was refused is told to try again.
pub const OVERLOAD_RETRY_MIN: Duration = Duration::from_secs(1);
/// The longest: what an overload that is over keeps clients away at most.
pub const OVERLOAD_RETRY_MAX: Duration = Duration::from_secs(10);
/// Slots that one host may offer.
pub const SLOTS_MAX: u32 = 4_096;
/// A runner process is replaced after so many attempts, so that what one of them may have left in it does not last.
pub const RUNNER_ATTEMPTS: u64 = 1_000;
/// It is not replaced before, so that many short attempts cost few processes.
pub const RUNNER_AGE_MIN: Duration = Duration::from_secs(60);
/// A runner process that runs nothing for so long is ended.
pub const RUNNER_IDLE: Duration = Duration::from_secs(60);
/// Runner processes that a host keeps though they run nothing. Of more, those that were idle for longest are ended.
pub const RUNNERS_IDLE_MAX: usize = 16;
/// How long a runner process may take to be ready, or to load a component.
pub const RUNNER_START_WAIT: Duration = Duration::from_secs(30);
/// What an attempt may take beyond its timeout before its runner process counts as stuck and is ended.
pub const RUNNER_STUCK_AFTER: Duration = Duration::from_secs(60);
/// Files that a runner process may have open: its pipes, and the image of each memory of each component that it holds.
pub const RUNNER_FILES_MAX: u64 = 4_096;
/// What a host keeps of the last words of a runner process.
pub const RUNNER_WORDS_BYTES_MAX: usize = 2 * KIB as usize;
/// Events of running attempts that wait for their session; a slot beyond that waits.
pub const EVENTS_MAX: usize = 1_024;
/// How long an attempt waits for room in the memory pool before the host gives it back.
pub const ROOM_WAIT: Duration = Duration::from_secs(10);
/// How long a host that stops waits for guests that it has interrupted.
pub const SHUTDOWN_WAIT: Duration = Duration::from_secs(2);
/// Outcomes that a host keeps for a broker that it cannot reach; beyond it, the oldest attempts will be run again.
pub const OUTCOMES_KEPT_MAX: usize = 10_000;

/// Submits and uploads refused below this much free space, so that settlements and compaction keep room to work: journals
/// and tables that are being rewritten take up to 512 MiB.
pub const FREE_BYTES_FLOOR: u64 = 576 * MIB;
/// Requests that wait for the ledger at once, of each kind; a caller beyond that waits in its connection.
pub const INBOX_MAX: usize = 1_024;
/// Commands that go into one commit: more would hold up the answers of the first.
pub const BATCH_COMMANDS_MAX: usize = 2_000;
/// Ready tasks held in memory, over all lanes; the others are index rows.
pub const READY_WINDOW: usize = 8_192;
/// Bytes of payload held in memory beside them.
pub const READY_WINDOW_PAYLOAD_BYTES: usize = 32 * MIB as usize;

/// Functions of one module.
pub const MODULE_FUNCTIONS_MAX: usize = 1_000;
/// Nested components and core modules of one upload.
pub const MODULE_PARTS_MAX: usize = 64;
/// Core functions of one upload, over all its parts. Python and JavaScript have 13,000, interpreter included.
pub const MODULE_CORE_FUNCTIONS_MAX: usize = 50_000;
/// Imports of one upload.
pub const MODULE_IMPORTS_MAX: usize = 200;
/// The code of one core function of an upload. Compiling takes longer than linearly in it; the interpreter loops of
/// Python and JavaScript, the largest functions that people do upload, stay well below.
pub const MODULE_FUNCTION_BYTES_MAX: usize = MIB as usize;
/// Core types of one upload, over all its parts; Python has 1,100.
pub const MODULE_CORE_TYPES_MAX: usize = 20_000;
/// Parameters and results of one core function, together; Python's largest has 19. The validator goes over them at each call,
/// which takes two bytes: with 1,000 and 1,000, an upload of 64 MiB kept it busy for a minute.
pub const MODULE_ARITY_MAX: usize = 64;
/// Imports and exports of the core modules of one upload, together; Python has 6,400.
pub const MODULE_LINKS_MAX: usize = 100_000;
/// A name in an upload of what is imported or exported. Those that compilers make of C++ templates are the longest.
pub const MODULE_NAME_BYTES_MAX: usize = 4 * KIB as usize;
/// Locals of one core function beside its parameters. Compilers that optimise declare hundreds, those that do not thousands.
pub const MODULE_LOCALS_MAX: usize = 10_000;
/// Locals of all core functions of one upload; Python and JavaScript have 50,000. A few bytes declare thousands, and the
/// compiler looks at each.
pub const MODULE_LOCALS_ALL_MAX: usize = 1_000_000;
/// How deep blocks are nested in one core function; 800 in the interpreter loop of Python. Go writes a block for each place
/// at which a function may be resumed.
pub const MODULE_BLOCK_DEPTH_MAX: usize = 10_000;
/// Targets of one `br_table`, which is what a `switch` becomes; Python's largest has 3,200.
pub const MODULE_BRANCH_TARGETS_MAX: usize = 20_000;
/// Targets of all `br_table` of one upload; Python and JavaScript have 44,000. What the compiler does for one grows with what
/// else is in its function.
pub const MODULE_BRANCH_TARGETS_ALL_MAX: usize = 1_000_000;
/// How deep component types of an upload are nested. Toolchains write about 4 levels; the parser recurses on them.
pub const MODULE_TYPE_DEPTH_MAX: usize = 32;
/// Component types of an upload and the declarations inside them. All of WASI 0.2 has about 850.
pub const MODULE_TYPES_MAX: usize = 20_000;
/// Bytes of component types of an upload, each counted as often as it is used, since the validator copies it then. All
/// of WASI 0.2 has 1.4 MB, programs in Rust 50 kB; at the limit, validating takes up to 2 s and 250 MB.
pub const MODULE_TYPE_COPIES_BYTES_MAX: usize = 4 * MIB as usize;
/// Values in the types of the functions that an upload lifts and lowers, each counted wherever it stands, since the validator
/// walks over all of them: 0.3 s at the limit.
pub const MODULE_LIFTED_VALUES_MAX: usize = 10_000_000;
/// The descriptions that a module carries of its functions (the section `tq:functions`), all together.
pub const MODULE_DESCRIPTIONS_BYTES_MAX: usize = 256 * KIB as usize;

/// Types in the signature of one typed function, each counted wherever it stands. A component asks for a tree of any size
/// with few bytes; hosts and the broker write it out.
pub const TYPED_TYPES_MAX: usize = 1_000;
/// How deep they are nested. One level is up to two in JSON, of which the parser takes 127.
pub const TYPED_DEPTH_MAX: usize = 32;
/// Names in the signature of one typed function: of its types, parameters, fields, cases and flags.
pub const TYPED_NAMES_BYTES_MAX: usize = 16 * KIB as usize;
/// Types of all typed functions of one upload. The broker holds them in memory.
pub const MODULE_TYPED_TYPES_MAX: usize = 20_000;
/// Names of all typed functions of one upload.
pub const MODULE_TYPED_NAMES_BYTES_MAX: usize = 256 * KIB as usize;
/// Values in the payload of a typed function, each byte of a `list<u8>` counted: the engine takes each by itself, in up to 64
/// bytes of the host's memory, so that these are as much as a guest may pass to its host ([`HOSTCALL_BYTES_MAX`]).
pub const TYPED_VALUES_MAX: usize = HOSTCALL_BYTES_MAX / 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(limits: Limits, expected: Result<(), &str>) {
        let got = limits.check().map_err(|error| error.to_string());
        assert_eq!(got.as_ref().copied().map_err(String::as_str), expected);
    }

    #[test]
    fn limits_say_which_one_is_out_of_range() {
        check(Limits::DEFAULT, Ok(()));
        check(Limits::MAX, Ok(()));
        check(
            Limits {
                fuel: 0,
                ..Limits::DEFAULT
            },
            Err("fuel is 0; it may be 1 to 100000000000000"),
        );
        check(
            Limits {
                memory_bytes: 1,
                ..Limits::DEFAULT
            },
            Err("memory is 1 bytes; it may be 65536 to 4294967296 bytes"),
        );
        check(
            Limits {
                timeout_ms: u64::MAX,
                ..Limits::DEFAULT
            },
            Err("timeout is 18446744073709551615 ms; it may be 1 to 86400000 ms"),
        );
    }

    #[test]
    fn several_heartbeats_fit_into_a_lease() {
        assert!(HEARTBEAT * 3 < LEASE);
    }
}
