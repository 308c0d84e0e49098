//! Cancel, deadline, shutdown.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tokio::sync::mpsc::Receiver;
use tq_core::limits::{CANCEL_GRACE, SHUTDOWN_WAIT};
use tq_core::{Epoch, Limits, Outcome, Timestamp};
use tq_host::runner::{Attempt, Config, Event, Finished, Pool, StopReason};

use crate::guests::{echo, handler_that, listens, sleeps, spins};
use crate::{ENGINE, Host, attempt, ready};

/// Starts a guest that first says that it runs, stops it, and returns how it ended and how long that took.
#[track_caller]
fn stop(wasm: Vec<u8>, why: StopReason) -> (Finished, Duration) {
    let mut host = Host::new();
    host.start(Attempt {
        payload: Bytes::from_static(b"stopped"),
        ..attempt(1, ready(wasm))
    });
    while host.pool.waiting() > 0 {
        std::thread::yield_now();
    }
    assert!(host.pool.stop(Epoch(1), why).is_none());
    let started = Instant::now();
    let finished = host.finished();
    (finished, started.elapsed())
}

#[test]
fn cancelled_guest_has_its_grace() {
    for wasm in [spins(), sleeps()] {
        let (finished, took) = stop(wasm, StopReason::Cancelled);
        assert_eq!(finished.outcome, Outcome::Cancelled);
        assert!(took < CANCEL_GRACE + Duration::from_millis(100), "{took:?}");
    }
}

#[test]
fn guest_that_listens_ends_by_itself() {
    let (finished, took) = stop(listens(), StopReason::Cancelled);
    // It may have been stopped before it ran.
    if finished.outcome == Outcome::Succeeded {
        assert_eq!(finished.result.as_deref(), Some(b"stopped".as_slice()));
    } else {
        assert_eq!(finished.outcome, Outcome::Cancelled);
    }
    assert!(took < CANCEL_GRACE, "{took:?}");
}

#[test]
fn abandoned_guest_ends_at_once() {
    for wasm in [spins(), sleeps()] {
        let (finished, took) = stop(wasm, StopReason::Abandoned);
        assert_eq!(finished.outcome, Outcome::Cancelled);
        assert!(took < Duration::from_millis(100), "{took:?}");
    }
}

#[test]
fn deadline_needs_no_command() {
    let mut host = Host::new();
    let components = [(1, ready(sleeps())), (2, ready(spins()))];
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let started = Instant::now();
    for (epoch, component) in components {
        host.start(Attempt {
            deadline: Some(Timestamp(now.as_millis() as u64 + 100)),
            ..attempt(epoch, component)
        });
    }
    for _ in 0..2 {
        let finished = host.finished();
        assert_eq!(finished.outcome, Outcome::DeadlineExceeded);
    }
    // A deadline is a whole millisecond, so that it can come a little early by the other clock.
    let over = started
        .elapsed()
        .saturating_sub(Duration::from_millis(100) + CANCEL_GRACE);
    assert!(over < Duration::from_millis(300), "{over:?}");
}

#[test]
fn waiting_attempt_is_stopped_without_a_slot() {
    let (spins, echo) = (ready(spins()), ready(echo()));
    let host = Host::new();
    for epoch in [1, 2] {
        host.start(attempt(epoch, spins.clone()));
    }
    while host.pool.waiting() > 0 {
        std::thread::yield_now();
    }
    host.start(attempt(3, echo));
    let finished = host.pool.stop(Epoch(3), StopReason::Cancelled).unwrap();
    assert_eq!(
        (finished.epoch.0, finished.outcome),
        (3, Outcome::Cancelled)
    );
    assert_eq!(host.pool.waiting(), 0);
    assert!(host.pool.stop(Epoch(3), StopReason::Cancelled).is_none());
}

#[test]
fn one_stop_leaves_the_next_attempt_alone() {
    let (sleeps, echo) = (ready(sleeps()), ready(echo()));
    let config = Config {
        slots: 1,
        queue_max: 8,
    };
    let (pool, mut events) = Pool::start(config, &ENGINE).unwrap();
    for round in 0..20 {
        let run = |epoch, component| pool.run(Box::new(attempt(epoch, component))).unwrap();
        run(2 * round, sleeps.clone());
        run(2 * round + 1, echo.clone());
        let unrun = pool.stop(Epoch(2 * round), StopReason::Abandoned);
        let stopped = unrun.unwrap_or_else(|| ended(&mut events));
        assert_eq!(stopped.outcome, Outcome::Cancelled);
        assert_eq!(ended(&mut events).outcome, Outcome::Succeeded);
    }
}

fn ended(events: &mut Receiver<Event>) -> Finished {
    match events.blocking_recv() {
        Some(Event::Finished(finished)) => *finished,
        _ => panic!("no end"),
    }
}

#[test]
fn pool_that_is_full_says_so() {
    let spins = ready(spins());
    let config = Config {
        slots: 1,
        queue_max: 1,
    };
    let (pool, _events) = Pool::start(config, &ENGINE).unwrap();
    pool.run(Box::new(attempt(1, spins.clone()))).unwrap();
    while pool.waiting() > 0 {
        std::thread::yield_now();
    }
    pool.run(Box::new(attempt(2, spins.clone()))).unwrap();
    let refused = pool.run(Box::new(attempt(3, spins))).unwrap_err();
    assert_eq!(refused.attempt.epoch, Epoch(3));
    assert_eq!(pool.shutdown(), 0);
}

#[test]
fn shutdown_interrupts_and_answers_for_everything() {
    let (spins, sleeps) = (ready(spins()), ready(sleeps()));
    let Host {
        pool, mut events, ..
    } = Host::new();
    for epoch in 0..10 {
        let component = if epoch % 2 == 0 { &spins } else { &sleeps };
        pool.run(Box::new(attempt(epoch, component.clone())))
            .unwrap();
    }
    let started = Instant::now();
    assert_eq!(pool.shutdown(), 0);
    assert!(started.elapsed() < SHUTDOWN_WAIT);
    let mut ended = Vec::new();
    while let Some(event) = events.blocking_recv() {
        if let Event::Finished(finished) = event {
            assert_eq!(finished.outcome, Outcome::HostLost);
            ended.push(finished.epoch.0);
        }
    }
    ended.sort_unstable();
    assert_eq!(ended, (0..10).collect::<Vec<_>>());
}

#[test]
fn failure_after_a_stop_is_the_stop() {
    let wasm = handler_that(
        "(loop $again
           (call $block (call $sleep (i64.const 1000000)))
           (br_if $again (i32.eqz (call $is-cancelled))))",
    );
    let (finished, _) = stop(wasm, StopReason::Cancelled);
    assert_eq!(finished.outcome, Outcome::Cancelled);
}

#[test]
fn attempts_beyond_the_memory_pool_wait_for_room() {
    // More memories than the pool has for all slots at once.
    let engine = tq_host::sandbox::Engine::new(2).unwrap();
    let memories: String = (0..30).map(|_| "(memory 1)").collect();
    let wasm = crate::guests::bare_program(&format!(
        "(core module $m {memories} (func (export \"run\") (result i32) (i32.const 0)))
         (core instance $main (instantiate $m))"
    ));
    let directory = tempfile::TempDir::new().unwrap();
    let cache = tq_host::component::Cache::open(
        tq_host::component::Config {
            directory: directory.path().to_owned(),
            compiler: crate::compiler(),
            bytes_max: u64::MAX,
        },
        engine.clone(),
    )
    .unwrap();
    let digest = crate::digest(&wasm);
    let component = crate::RUNTIME
        .block_on(cache.prepare(digest, wasm.into()))
        .unwrap();
    let config = Config {
        slots: 2,
        queue_max: 200,
    };
    let (pool, mut events) = Pool::start(config, &engine).unwrap();
    for epoch in 0..200 {
        pool.run(Box::new(Attempt {
            limits: Limits::DEFAULT,
            ..attempt(epoch, component.clone())
        }))
        .unwrap();
    }
    for _ in 0..200 {
        let Some(Event::Finished(finished)) = events.blocking_recv() else {
            panic!("no end");
        };
        assert_eq!(
            finished.outcome,
            Outcome::Succeeded,
            "{:?}",
            finished.failure
        );
    }
}
