//! Components in the text format, small enough to say exactly what they do.

/// Interfaces that every guest here imports, lowered into the instance `host` of its core module, which also has the
/// memory. From address 1024 on lies what calls return; from 65,536 on what `realloc` gives out.
const IMPORTS: &str = include_str!("../../../tests/hostile/imports.wat");

/// The same, as the core module sees it.
const CORE_IMPORTS: &str = include_str!("../../../tests/hostile/core-imports.wat");

fn component(body: &str, exports: &str) -> Vec<u8> {
    let text = format!(
        "(component {IMPORTS}
           (core module $main {CORE_IMPORTS} {body})
           (core instance $main (instantiate $main (with \"host\" (instance $host))))
           {exports})"
    );
    wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}"))
}

/// A program. `body` is what its core module has, with a function `$run` that returns 0 for success and 1 for failure.
pub(crate) fn program(body: &str) -> Vec<u8> {
    let body = format!("{body} (export \"run\" (func $run))");
    component(
        &body,
        "(func $run (result (result)) (canon lift (core func $main \"run\")))
         (instance $run (export \"run\" (func $run)))
         (export \"wasi:cli/run@0.2.0\" (instance $run))",
    )
}

/// A handler. `$run` takes the function's name and the payload, each by address and length, and returns the address of
/// its result: 0 or 1 in the first byte, then, from the eighth on, the list or the error.
pub(crate) fn handler(body: &str) -> Vec<u8> {
    let body = format!("{body} (export \"run\" (func $run))");
    component(
        &body,
        "(func $run (param \"function\" string) (param \"payload\" (list u8))
           (result (result (list u8) (error $task-error)))
           (canon lift (core func $main \"run\") (memory $m) (realloc $realloc)))
         (instance $run (export \"run\" (func $run)))
         (export \"tq:task/handler@0.1.0\" (instance $run))",
    )
}

/// A handler whose `$run` does not return a result; `body` is the inside of it.
pub(crate) fn handler_that(body: &str) -> Vec<u8> {
    handler(&format!(
        "(func $run (param $function i32) (param $function-len i32) (param $payload i32) (param $payload-len i32)
           (result i32) {body} unreachable)"
    ))
}

/// Returns its payload.
pub(crate) fn echo() -> Vec<u8> {
    handler_that(
        "(i32.store8 (i32.const 1024) (i32.const 0))
         (i32.store (i32.const 1032) (local.get $payload))
         (i32.store (i32.const 1036) (local.get $payload-len))
         (return (i32.const 1024))",
    )
}

/// Copies its standard input to its standard output.
pub(crate) fn cat() -> Vec<u8> {
    program(
        "(func $run (result i32) (local $in i32) (local $out i32)
           (local.set $in (call $get-stdin))
           (local.set $out (call $get-stdout))
           (loop $more
             (call $read (local.get $in) (i64.const 4096) (i32.const 1024))
             (if (i32.load8_u (i32.const 1024)) (then (return (i32.const 0))))
             (call $write (local.get $out) (i32.load (i32.const 1028)) (i32.load (i32.const 1032)) (i32.const 1040))
             (br $more))
           unreachable)",
    )
}

/// Writes 4 KiB to the stream that `get` opens, `times` times, and ends well.
pub(crate) fn writes(get: &str, times: u32) -> Vec<u8> {
    program(&format!(
        "(func $run (result i32) (local $stream i32) (local $left i32)
           (memory.fill (i32.const 8192) (i32.const 120) (i32.const 4096))
           (i32.store8 (i32.const 12287) (i32.const 10))
           (local.set $stream (call {get}))
           (local.set $left (i32.const {times}))
           (loop $more
             (call $write (local.get $stream) (i32.const 8192) (i32.const 4096) (i32.const 1024))
             (br_if $more (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
           (i32.const 0))"
    ))
}

/// Loops without end.
pub(crate) fn spins() -> Vec<u8> {
    handler_that("(loop $again (br $again))")
}

/// Sleeps for an hour in one call to its host.
pub(crate) fn sleeps() -> Vec<u8> {
    handler_that("(call $block (call $sleep (i64.const 3600000000000)))")
}

/// Sleeps 1 ms at a time until it is told to stop, and then returns its payload.
pub(crate) fn listens() -> Vec<u8> {
    handler_that(
        "(loop $again
           (call $block (call $sleep (i64.const 1000000)))
           (br_if $again (i32.eqz (call $is-cancelled))))
         (i32.store8 (i32.const 1024) (i32.const 0))
         (i32.store (i32.const 1032) (local.get $payload))
         (i32.store (i32.const 1036) (local.get $payload-len))
         (return (i32.const 1024))",
    )
}

/// A program without imports, of core modules and instances that are given whole.
pub(crate) fn bare_program(core: &str) -> Vec<u8> {
    let text = format!(
        "(component {core}
           (func $run (result (result)) (canon lift (core func $main \"run\")))
           (instance $run (export \"run\" (func $run)))
           (export \"wasi:cli/run@0.2.0\" (instance $run)))"
    );
    wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}"))
}
