//! Functions that do not return, or return what a host has to bound.

use std::hint::black_box;
use std::io::{self, Write as _};
use std::time::Duration;

use tq_sdk::{Context, Error, Result};

/// Panics with the payload as its message.
#[tq_sdk::task]
fn panic(message: &str) {
    panic!("{message}");
}

/// Loops without end and without a call to the host.
#[tq_sdk::task]
fn spin() {
    let mut turns = 0_u64;
    loop {
        turns = black_box(turns.wrapping_add(1));
    }
}

/// Allocates and touches memory, a mebibyte at a time, until there is no more.
#[tq_sdk::task]
fn grow() {
    let mut held = Vec::new();
    loop {
        held.push(black_box(vec![1_u8; 1 << 20]));
    }
}

/// Calls itself without end.
#[tq_sdk::task]
fn recurse() -> String {
    #[expect(unconditional_recursion, reason = "the point of it")]
    fn deeper(depth: u64) -> u64 {
        // The frame has to be there after the call, or the compiler makes a loop of it.
        let frame = black_box([depth; 64]);
        deeper(depth + 1).wrapping_add(frame[1])
    }
    deeper(black_box(0)).to_string()
}

/// Exits as a program does, with the code 3.
#[tq_sdk::task]
fn exit() {
    std::process::exit(3);
}

/// Sleeps for the number of milliseconds in the payload, then returns it.
#[tq_sdk::task]
fn sleep(milliseconds: String) -> Result<String> {
    std::thread::sleep(Duration::from_millis(number(&milliseconds)?));
    Ok(milliseconds)
}

/// Writes as many mebibytes as the payload says to standard output and to standard error, in lines of 64 bytes.
#[tq_sdk::task]
fn chatty(mebibytes: &str) -> Result<()> {
    let line = [&[b'.'; 63][..], b"\n"].concat();
    for _ in 0..number(mebibytes)? * (1 << 20) / 64 {
        io::stdout().write_all(&line)?;
        io::stderr().write_all(&line)?;
    }
    Ok(())
}

/// Returns as many bytes as the payload says.
#[tq_sdk::task]
fn big_result(bytes: &str) -> Result<Vec<u8>> {
    let bytes = usize::try_from(number(bytes)?).map_err(Error::invalid_input)?;
    Ok(vec![b'x'; bytes])
}

/// Saves a checkpoint of as many bytes as the payload says, and returns what the host answered.
#[tq_sdk::task]
fn big_checkpoint(cx: Context, bytes: &str) -> Result<String> {
    let bytes = usize::try_from(number(bytes)?).map_err(Error::invalid_input)?;
    Ok(match cx.save_checkpoint(&vec![b'x'; bytes]) {
        Ok(()) => "saved".to_owned(),
        Err(refused) => refused.to_string(),
    })
}

fn number(text: &str) -> Result<u64> {
    text.trim()
        .parse()
        .map_err(|error| Error::invalid_input(format!("payload `{text}` is not a number: {error}")))
}
