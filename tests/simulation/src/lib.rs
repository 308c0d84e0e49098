//! tq in one thread, on one clock: the real ledger with its tables, dispatch and conversions, and the real session of
//! hosts, over a store in memory. Around them are a network, disks, runners, clients and clocks that fail as real ones do.
//!
//! Everything random is drawn from one seed, and time is made up, so that a seed is a history: it can be run again, and
//! it takes milliseconds for minutes. What was promised in it is kept apart ([`promises`]), and compared with what is there.
//!
//! | module | what it is |
//! |---|---|
//! | [`world`] | time, and what happens next |
//! | [`broker`] | the broker's process, its disk, its clock |
//! | [`host`] | a host's process, its disk, and a runner whose attempts take time and end somehow |
//! | [`network`] | connections, each way by itself: late, stopped, cut with or without notice |
//! | [`clients`] | who submits, cancels, redrives and watches, and asks again when no answer came |
//! | [`chaos`] | what fails, and what operators do to hosts, and when |
//! | [`promises`] | what was acknowledged, told or forbidden, and whether it holds |
//!
//! Faults stop in the end, and then every task that was acknowledged has to end.

mod broker;
mod chaos;
mod clients;
mod host;
mod network;
mod promises;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use tq_core::planted::{Bug, plant};

pub use world::Report;

/// How a history is run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// The bug that is planted.
    pub bug: Option<Bug>,
    /// Who is told what happens, and when. Then everything is looked at after every step, too.
    pub watcher: Option<fn(Duration, &str)>,
}

/// Runs the history of a seed.
///
/// # Errors
/// Why it is not what was promised.
pub fn run(seed: u64, options: Options) -> Result<Report, String> {
    plant(options.bug);
    let ran = catch_unwind(AssertUnwindSafe(|| world::World::new(seed, options).run()));
    plant(None);
    ran.map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        text.unwrap_or("a panic without a message").to_owned()
    })
}
