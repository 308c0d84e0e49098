//! The broker: a process that comes and goes, and what outlives it.

use std::collections::VecDeque;
use std::time::Duration;

use tq_broker::ledger::{Answers, Command, Config, Error, Ledger, Now};
use tq_broker::observe::Metrics;
use tq_broker::store::Syncer;
use tq_broker::store::memory::{Crash, Disk};
use tq_core::Timestamp;

/// Steps that may wait for the sync after the one that is under way, as in `ledger/syncing.rs`.
const WAITING_MAX: usize = 2;
/// When a world begins, by the wall clock: in the midst of a day, or so that another day begins while things go wrong.
pub(crate) const EPOCHS: [Timestamp; 2] = [
    Timestamp(1_700_000_000_000),
    Timestamp(1_700_006_400_000 - 115_000),
];

/// The broker.
pub(crate) struct Broker {
    pub(crate) disk: Disk,
    pub(crate) config: Config,
    pub(crate) process: Option<Process>,
    /// When the world began, by the wall clock.
    began: Timestamp,
    /// How far the wall clock is off, in milliseconds.
    pub(crate) skew_ms: i64,
    /// It stands still until then.
    pub(crate) frozen_until: Duration,
    /// The next sync takes so much longer.
    pub(crate) slow_sync: Duration,
    /// Processes so far.
    pub(crate) life: u64,
    /// The highest time that a ledger was called with: its own time may be that.
    pub(crate) time: Timestamp,
}

/// A process of the broker.
pub(crate) struct Process {
    pub(crate) ledger: Ledger,
    pub(crate) syncer: Box<dyn Syncer>,
    pub(crate) inbox: Vec<Command>,
    /// What it has to say of steps that are committed, in their order.
    pub(crate) unsaid: VecDeque<Answers>,
    /// How many of them the sync that is under way is for.
    pub(crate) syncing: usize,
    /// The sequence that outlives a loss of power.
    pub(crate) durable_seq: u64,
    /// When it steps next.
    pub(crate) step_at: Option<Duration>,
    /// How long it stood still since the last step.
    pub(crate) stood: Duration,
}

impl Broker {
    pub(crate) fn new(config: Config, began: Timestamp) -> Self {
        Self {
            began,
            disk: Disk::new(),
            config,
            process: None,
            skew_ms: 0,
            frozen_until: Duration::ZERO,
            slow_sync: Duration::ZERO,
            life: 0,
            time: began,
        }
    }

    /// What its clocks say.
    pub(crate) fn now(&mut self, now: Duration) -> Now {
        let wall = self.began.after(now);
        let wall = Timestamp(wall.0.saturating_add_signed(self.skew_ms));
        self.time = self.time.max(wall);
        Now { wall, mono: now }
    }

    /// Puts the wall clock to the highest time that it has shown. Behind that, the ledger's time stands still.
    pub(crate) fn put_clock_right(&mut self, now: Duration) {
        let ahead = self.time.0.saturating_sub(self.began.after(now).0);
        self.skew_ms = ahead.cast_signed();
    }

    /// Starts a process on what is on the disk. `false` if the disk failed meanwhile.
    ///
    /// # Panics
    /// If the ledger does not open for another reason.
    pub(crate) fn start(&mut self, now: Duration) -> bool {
        self.life += 1;
        let store = Box::new(self.disk.open().expect("the store opens"));
        // Ids that a loss of power forgot must not come again when the clock is put back.
        let config = Config {
            seed: self.config.seed.wrapping_add(self.life),
            ..self.config
        };
        let ledger = match Ledger::open(store, config, self.now(now), Metrics::default()) {
            Ok(ledger) => ledger,
            Err(Error::Commit | Error::Store(_)) => {
                self.disk.clear_faults();
                self.disk.crash(Crash::Process);
                return false;
            }
            Err(error) => panic!("the ledger does not open: {error}"),
        };
        let mut syncer = ledger.syncer();
        self.process = Some(Process {
            // Whatever it found is durable by now.
            durable_seq: syncer.sync().unwrap_or(0),
            syncer,
            ledger,
            inbox: Vec::new(),
            unsaid: VecDeque::new(),
            syncing: 0,
            step_at: None,
            stood: Duration::ZERO,
        });
        true
    }
}

impl Process {
    /// Whether it may step: it is not too far ahead of the disk.
    pub(crate) fn may_step(&self) -> bool {
        self.unsaid.len() - self.syncing < WAITING_MAX
    }
}
