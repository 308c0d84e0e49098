//! Functions that end well, or fail in the ways that a task may.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use tq_sdk::{Context, Error, Json, Level, Result};

/// Returns its payload.
#[tq_sdk::task]
fn echo(payload: Vec<u8>) -> Vec<u8> {
    payload
}

/// Fails retryably with the payload as its message.
#[tq_sdk::task]
fn fail_retryable(message: String) -> Result<()> {
    Err(Error::retryable(message))
}

#[derive(Deserialize)]
struct Delay {
    message: String,
    after_ms: u64,
}

/// Fails retryably and asks for the next attempt `after_ms` milliseconds later.
#[tq_sdk::task]
fn fail_after(Json(Delay { message, after_ms }): Json<Delay>) -> Result<()> {
    Err(Error::retryable(message).after(Duration::from_millis(after_ms)))
}

/// Fails for good with the payload as its message.
#[tq_sdk::task]
fn fail_fatal(message: String) -> Result<()> {
    Err(Error::fatal(message))
}

/// Fails retryably until the attempt whose number is the payload, then returns that number.
#[tq_sdk::task]
fn flaky(cx: Context, Json(succeeds_at): Json<u32>) -> Result<Json<u32>> {
    match cx.attempt() {
        attempt if attempt < succeeds_at => Err(Error::retryable(format!(
            "attempt {attempt} fails, attempt {succeeds_at} will not"
        ))),
        attempt => Ok(Json(attempt)),
    }
}

/// Sleeps 10 ms at a time until the task is cancelled, then returns how often it slept.
#[tq_sdk::task]
fn cancel_aware(cx: Context) -> Json<u64> {
    let mut naps = 0;
    while !cx.is_cancelled() {
        std::thread::sleep(Duration::from_millis(10));
        naps += 1;
    }
    Json(naps)
}

/// Goes one step from the last checkpoint, saves where it is and fails retryably; at the step whose number is the payload it
/// returns `steps/attempt`.
#[tq_sdk::task]
fn checkpoint(cx: Context, Json(last): Json<u8>) -> Result<String> {
    let step = cx
        .load_checkpoint()
        .and_then(|state| state.first().copied())
        .unwrap_or(0)
        .saturating_add(1);
    cx.save_checkpoint(&[step])?;
    cx.progress(
        f64::from(step) / f64::from(last.max(1)),
        format!("step {step}"),
    );
    if step < last {
        return Err(Error::retryable(format!(
            "stopped after step {step} of {last}"
        )));
    }
    Ok(format!("{step}/{}", cx.attempt()))
}

#[derive(Deserialize)]
struct Steps {
    count: u32,
    step_ms: u64,
    /// The first attempt goes no further than this one.
    hold_at: Option<u32>,
}

/// Goes from the last checkpoint to step `count`, one step every `step_ms` milliseconds; logs and saves each. Returns after which
/// step the last attempt began.
#[tq_sdk::task]
fn steps(
    cx: Context,
    Json(Steps {
        count,
        step_ms,
        hold_at,
    }): Json<Steps>,
) -> Result<Json<u32>> {
    let saved = cx.load_checkpoint();
    let saved = saved.and_then(|state| state.try_into().ok());
    let done = saved.map_or(0, u32::from_be_bytes);
    for step in done + 1..=count {
        std::thread::sleep(Duration::from_millis(step_ms));
        eprintln!("step {step}");
        cx.save_checkpoint(&step.to_be_bytes())?;
        let fraction = f64::from(step) / f64::from(count);
        cx.progress(fraction, format!("step {step} of {count}"));
        if hold_at == Some(step) && done == 0 {
            std::thread::sleep(Duration::from_secs(3600));
        }
    }
    Ok(Json(done))
}

/// Writes the payload to the log, once at each level, and to standard output and standard error.
#[tq_sdk::task]
fn log(cx: Context, message: &str) {
    for level in [
        Level::Trace,
        Level::Debug,
        Level::Info,
        Level::Warn,
        Level::Error,
    ] {
        cx.log(level, message);
    }
    println!("{message}");
    eprintln!("{message}");
}

#[derive(Serialize)]
struct Known {
    task_id: String,
    attempt: u32,
    max_attempts: u32,
    namespace: String,
    content_type: Option<String>,
    deadline_ms: Option<u128>,
    traceparent: Option<String>,
    is_cancelled: bool,
    checkpoint: Option<Vec<u8>>,
}

/// Returns all that a task knows of its call.
#[tq_sdk::task]
fn context(cx: Context) -> Result<Json<Known>> {
    let deadline_ms = cx
        .deadline()
        .map(|at| at.duration_since(SystemTime::UNIX_EPOCH))
        .transpose()?;
    Ok(Json(Known {
        task_id: cx.task_id(),
        attempt: cx.attempt(),
        max_attempts: cx.max_attempts(),
        namespace: cx.namespace(),
        content_type: cx.content_type(),
        deadline_ms: deadline_ms.map(|at| at.as_millis()),
        traceparent: cx.traceparent(),
        is_cancelled: cx.is_cancelled(),
        checkpoint: cx.load_checkpoint(),
    }))
}

/// Returns the environment variable whose name is the payload; nothing if there is none.
#[tq_sdk::task]
fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_default()
}

/// Draws a random number and looks at the clocks in each of two attempts, and returns what it saw if that was the same in both:
/// it is for a function that is deployed as `deterministic`.
#[tq_sdk::task]
#[expect(clippy::disallowed_methods, reason = "the clock is what it is about")]
fn randomness(cx: Context) -> Result<String> {
    let drawn = RandomState::new().hash_one(0);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    let seen = format!("{drawn:016x} {}", now.as_nanos());
    match cx.load_checkpoint() {
        None => {
            cx.save_checkpoint(seen.as_bytes())?;
            Err(Error::retryable("it looks twice").after(Duration::from_millis(1)))
        }
        Some(before) if before == seen.as_bytes() => Ok(seen),
        Some(before) => Err(Error::fatal(format!(
            "{seen} and not {}",
            String::from_utf8_lossy(&before)
        ))),
    }
}
