//! From what the engine says to what it means.

use std::collections::BTreeSet;

use tq_core::Outcome;
use tq_core::limits::{
    BACKTRACE_BYTES_MAX, BACKTRACE_FRAMES_MAX, ERROR_MESSAGE_BYTES_MAX, HOSTCALL_BYTES_MAX,
    HTTP_FIELDS_BYTES_MAX, Limits, RANDOM_BYTES_MAX, STACK_BYTES_MAX,
};
use wasmtime::{FrameInfo, FrameSymbol, Trap, WasmBacktrace};
use wasmtime_wasi::{I32Exit, ResourceTableError};

use super::Interrupt;
use crate::sandbox::OutputLimit;

/// Where an attempt was when it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Instantiate,
    Call,
}

/// How a failed attempt ended.
pub(super) struct Verdict {
    pub(super) outcome: Outcome,
    pub(super) message: String,
    pub(super) backtrace: Option<String>,
}

/// Says what an error of the engine means. An exit with 0 is the caller's to judge.
pub(super) fn judge(
    error: &wasmtime::Error,
    stage: Stage,
    limits: &Limits,
    recent_log: &str,
) -> Verdict {
    let backtrace = error.downcast_ref::<WasmBacktrace>();
    let (outcome, message) = cause(error, stage, limits, backtrace, recent_log);
    Verdict {
        outcome,
        message,
        backtrace: backtrace.and_then(render),
    }
}

fn cause(
    error: &wasmtime::Error,
    stage: Stage,
    limits: &Limits,
    backtrace: Option<&WasmBacktrace>,
    recent_log: &str,
) -> (Outcome, String) {
    let is_in_guest = backtrace.is_some();
    if let Some(interrupt) = error.downcast_ref::<Interrupt>() {
        return interrupted(*interrupt);
    }
    if let Some(I32Exit(code)) = error.downcast_ref() {
        return exited(*code, recent_log);
    }
    if let Some(limit) = error.downcast_ref::<OutputLimit>() {
        return (Outcome::OutputLimit, limit.to_string());
    }
    if let Some(ResourceTableError::Full) = error.downcast_ref() {
        return too_many_handles(limits);
    }
    match error.downcast_ref::<Trap>() {
        Some(Trap::OutOfFuel) => {
            return (
                Outcome::FuelExhausted,
                format!("all of the fuel is used: {}", limits.fuel),
            );
        }
        Some(Trap::StackOverflow) => {
            return (
                Outcome::StackOverflow,
                format!("the stack is over the limit of {STACK_BYTES_MAX} bytes"),
            );
        }
        Some(Trap::MemoryOutOfBounds) if backtrace.is_some_and(is_deep_recursion) => {
            return (
                Outcome::StackOverflow,
                "the stack that its language keeps in memory has overflowed".to_owned(),
            );
        }
        Some(trap) => return (Outcome::Trap, panicked(trap, recent_log)),
        None => {}
    }
    let text = error.root_cause().to_string();
    // The engine has no types for these.
    if text.contains("fuel allocated for hostcalls") {
        return if is_in_guest {
            (
                Outcome::HostLimit,
                format!("one call to the host passed more than {HOSTCALL_BYTES_MAX} bytes"),
            )
        } else {
            let limit = OutputLimit(limits.output_bytes);
            (Outcome::OutputLimit, limit.to_string())
        };
    }
    if text.contains("store handle limit exceeded") {
        return too_many_handles(limits);
    }
    if text.starts_with("requested len") && text.contains("exceeds limit") {
        return (
            Outcome::HostLimit,
            format!("one call asked for more than {RANDOM_BYTES_MAX} random bytes"),
        );
    }
    if text.contains("size of fields exceeds limit") {
        return (
            Outcome::HostLimit,
            format!("headers of one request take more than {HTTP_FIELDS_BYTES_MAX} bytes"),
        );
    }
    match stage {
        // Without guest code on the stack it is the host that could not make the instance.
        Stage::Instantiate if !is_in_guest => (Outcome::HostError, format!("{error:#}")),
        Stage::Instantiate | Stage::Call => (Outcome::Trap, with_log(text, recent_log)),
    }
}

pub(super) fn interrupted(interrupt: Interrupt) -> (Outcome, String) {
    match interrupt {
        Interrupt::Timeout(_) => (Outcome::Timeout, interrupt.to_string()),
        Interrupt::Stopped(why) => (why.outcome(), interrupt.to_string()),
        Interrupt::Exceeded(exceeded) => (exceeded.outcome(), exceeded.to_string()),
    }
}

pub(super) fn exited(code: i32, recent_log: &str) -> (Outcome, String) {
    (
        Outcome::Exit,
        with_log(format!("it exited with code {code}"), recent_log),
    )
}

fn too_many_handles(limits: &Limits) -> (Outcome, String) {
    (
        Outcome::HandleLimit,
        format!("it holds more than {} handles at once", limits.handles),
    )
}

/// A panic of Rust arrives as `unreachable`, after it told the standard error why.
fn panicked(trap: &Trap, recent_log: &str) -> String {
    const MARK: &str = "panicked at ";
    const NOTE: &str = "\nnote: run with `RUST_BACKTRACE=1`";
    if let Some(start) = recent_log.rfind(MARK) {
        let text = &recent_log[start..];
        let end = text.find(NOTE).unwrap_or(text.len());
        return cut(text[..end].trim_end().to_owned(), ERROR_MESSAGE_BYTES_MAX);
    }
    with_log(trap.to_string(), recent_log)
}

/// The last lines of the log often say what the exit code or the trap does not.
fn with_log(message: String, recent_log: &str) -> String {
    let log = recent_log.trim();
    if log.is_empty() {
        return message;
    }
    let head = format!("{message}; its log ends with:\n");
    let room = ERROR_MESSAGE_BYTES_MAX.saturating_sub(head.len());
    let start = log.ceil_char_boundary(log.len().saturating_sub(room));
    head + &log[start..]
}

/// The beginning of a text, of at most so many bytes.
pub(crate) fn cut(mut text: String, bytes_max: usize) -> String {
    text.truncate(text.floor_char_boundary(bytes_max));
    text
}

/// Innermost function first, each with its file and line where the component carries them. A function that calls itself
/// is named once.
fn render(backtrace: &WasmBacktrace) -> Option<String> {
    let lines: Vec<String> = backtrace.frames().iter().map(frame).collect();
    let mut text = String::new();
    for same in lines.chunk_by(|a, b| a == b) {
        let (Some(line), times) = (same.first(), same.len()) else {
            continue;
        };
        text.push_str(line);
        if times > 1 {
            text.push_str(&format!("\n    ... {times} times"));
        }
        text.push('\n');
    }
    if lines.len() == BACKTRACE_FRAMES_MAX {
        text.push_str("... and what called that\n");
    }
    (!text.is_empty()).then(|| cut(text, BACKTRACE_BYTES_MAX))
}

fn frame(frame: &FrameInfo) -> String {
    let plain = |name: Option<&str>| match name {
        // Without the hashes that the compiler appends.
        Some(name) => format!("{:#}", rustc_demangle::demangle(name)),
        None => format!("function {}", frame.func_index()),
    };
    if frame.symbols().is_empty() {
        return plain(frame.func_name());
    }
    let symbol = |symbol: &FrameSymbol| {
        let mut text = plain(symbol.name().or(frame.func_name()));
        if let Some(file) = symbol.file() {
            text.push_str(&format!("\n    at {file}"));
            if let Some(line) = symbol.line() {
                text.push_str(&format!(":{line}"));
            }
        }
        text
    };
    let symbols: Vec<String> = frame.symbols().iter().map(symbol).collect();
    symbols.join("\n")
}

/// Compiled languages keep a stack of their own in linear memory. It lies at the bottom, so that its overflow arrives as
/// an access out of bounds, from deep inside of a few functions that call each other.
fn is_deep_recursion(backtrace: &WasmBacktrace) -> bool {
    const FUNCTIONS_MAX: usize = 8;
    let functions: BTreeSet<u32> = backtrace
        .frames()
        .iter()
        .map(FrameInfo::func_index)
        .collect();
    backtrace.frames().len() == BACKTRACE_FRAMES_MAX && functions.len() <= FUNCTIONS_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panic_carries_its_message() {
        let log = "working\n\nthread 'main' (1) panicked at src/lib.rs:7:5:\nno such colour: Mauve\nnote: run with `RUST_BACKTRACE=1` environment variable to display a backtrace\n";
        let message = panicked(&Trap::UnreachableCodeReached, log);
        assert_eq!(
            message,
            "panicked at src/lib.rs:7:5:\nno such colour: Mauve"
        );
    }

    #[test]
    fn messages_are_bounded_and_end_with_the_log() {
        let log = "ä".repeat(ERROR_MESSAGE_BYTES_MAX) + "end";
        let (_, message) = exited(3, &log);
        assert!(message.starts_with("it exited with code 3; its log ends with:\n"));
        assert!(message.ends_with("end"));
        assert!(message.len() <= ERROR_MESSAGE_BYTES_MAX);
        assert_eq!(exited(1, "").1, "it exited with code 1");
    }
}
