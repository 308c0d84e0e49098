//! Components in the text format, small enough to say exactly what they do.

/// Interfaces that every guest here imports, lowered into the instance `host` of its core module, which also has the
/// memory. From address 1024 on lies what calls return; from 65,536 on what `realloc` gives out.
const IMPORTS: &str = r#"
  (import "wasi:io/error@0.2.0" (instance $error (export "error" (type (sub resource)))))
  (alias export $error "error" (type $io-error))
  (import "wasi:io/poll@0.2.0" (instance $poll
    (export "pollable" (type $pollable (sub resource)))
    (export "[method]pollable.block" (func (param "self" (borrow $pollable))))))
  (alias export $poll "pollable" (type $pollable))
  (import "wasi:io/streams@0.2.0" (instance $streams
    (export "output-stream" (type $output (sub resource)))
    (export "input-stream" (type $input (sub resource)))
    (alias outer 1 $io-error (type $io-error))
    (export "error" (type $error (eq $io-error)))
    (type $failed (variant (case "last-operation-failed" (own $error)) (case "closed")))
    (export "stream-error" (type $stream-error (eq $failed)))
    (export "[method]output-stream.blocking-write-and-flush" (func (param "self" (borrow $output))
      (param "contents" (list u8)) (result (result (error $stream-error)))))
    (export "[method]input-stream.blocking-read" (func (param "self" (borrow $input)) (param "len" u64)
      (result (result (list u8) (error $stream-error)))))))
  (alias export $streams "output-stream" (type $output))
  (alias export $streams "input-stream" (type $input))
  (import "wasi:cli/stdout@0.2.0" (instance $stdout
    (alias outer 1 $output (type $outer)) (export "output-stream" (type $output (eq $outer)))
    (export "get-stdout" (func (result (own $output))))))
  (import "wasi:cli/stderr@0.2.0" (instance $stderr
    (alias outer 1 $output (type $outer)) (export "output-stream" (type $output (eq $outer)))
    (export "get-stderr" (func (result (own $output))))))
  (import "wasi:cli/stdin@0.2.0" (instance $stdin
    (alias outer 1 $input (type $outer)) (export "input-stream" (type $input (eq $outer)))
    (export "get-stdin" (func (result (own $input))))))
  (import "wasi:cli/exit@0.2.0" (instance $exit
    (export "exit" (func (param "status" (result))))))
  (import "wasi:cli/environment@0.2.0" (instance $environment
    (export "get-environment" (func (result (list (tuple string string)))))
    (export "get-arguments" (func (result (list string))))))
  (import "wasi:random/random@0.2.0" (instance $random
    (export "get-random-bytes" (func (param "len" u64) (result (list u8))))))
  (import "wasi:clocks/monotonic-clock@0.2.0" (instance $clock
    (alias outer 1 $pollable (type $outer)) (export "pollable" (type $pollable (eq $outer)))
    (export "subscribe-duration" (func (param "when" u64) (result (own $pollable))))))
  (import "wasi:filesystem/preopens@0.2.0" (instance $files))
  (import "tq:task/types@0.1.0" (instance $types
    (type $r (record (field "message" string) (field "after-ms" (option u64))))
    (export "retry" (type $retry (eq $r)))
    (type $t (variant (case "invalid-input" string) (case "retryable" $retry) (case "fatal" string)))
    (export "task-error" (type (eq $t)))
    (type $c (variant (case "too-large" u64) (case "unavailable" string)))
    (export "checkpoint-error" (type (eq $c)))
    (type $l (enum "trace" "debug" "info" "warn" "error"))
    (export "level" (type (eq $l)))))
  (alias export $types "task-error" (type $task-error))
  (alias export $types "checkpoint-error" (type $checkpoint-error))
  (alias export $types "level" (type $level))
  (import "tq:task/runtime@0.1.0" (instance $runtime
    (alias outer 1 $checkpoint-error (type $c)) (export "checkpoint-error" (type $checkpoint-error (eq $c)))
    (alias outer 1 $level (type $l)) (export "level" (type $level (eq $l)))
    (export "attempt" (func (result u32)))
    (export "progress" (func (param "fraction" f64) (param "note" string)))
    (export "checkpoint-save" (func (param "state" (list u8)) (result (result (error $checkpoint-error)))))
    (export "checkpoint-load" (func (result (option (list u8)))))
    (export "is-cancelled" (func (result bool)))
    (export "log" (func (param "level" $level) (param "message" string)))))

  (core module $memory
    (memory (export "memory") 2)
    (global $next (mut i32) (i32.const 65536))
    (func (export "realloc") (param i32 i32 i32) (param $size i32) (result i32)
      (local $at i32)
      (local.set $at (i32.and (i32.add (global.get $next) (i32.const 7)) (i32.const -8)))
      (global.set $next (i32.add (local.get $at) (local.get $size)))
      (if (i32.gt_u (global.get $next) (i32.shl (memory.size) (i32.const 16)))
        (then (if (i32.eq (i32.const -1) (memory.grow
                (i32.add (i32.shr_u (local.get $size) (i32.const 16)) (i32.const 1))))
          (then unreachable))))
      (local.get $at)))
  (core instance $memory (instantiate $memory))
  (alias core export $memory "memory" (core memory $m))
  (alias core export $memory "realloc" (core func $realloc))
  (core func $get-stdout (canon lower (func $stdout "get-stdout")))
  (core func $get-stderr (canon lower (func $stderr "get-stderr")))
  (core func $get-stdin (canon lower (func $stdin "get-stdin")))
  (core func $write (canon lower (func $streams "[method]output-stream.blocking-write-and-flush") (memory $m)))
  (core func $read (canon lower (func $streams "[method]input-stream.blocking-read") (memory $m) (realloc $realloc)))
  (core func $exit (canon lower (func $exit "exit")))
  (core func $arguments (canon lower (func $environment "get-arguments") (memory $m) (realloc $realloc)))
  (core func $environment (canon lower (func $environment "get-environment") (memory $m) (realloc $realloc)))
  (core func $random (canon lower (func $random "get-random-bytes") (memory $m) (realloc $realloc)))
  (core func $sleep (canon lower (func $clock "subscribe-duration")))
  (core func $block (canon lower (func $poll "[method]pollable.block")))
  (core func $attempt (canon lower (func $runtime "attempt")))
  (core func $progress (canon lower (func $runtime "progress") (memory $m)))
  (core func $save (canon lower (func $runtime "checkpoint-save") (memory $m) (realloc $realloc)))
  (core func $load (canon lower (func $runtime "checkpoint-load") (memory $m) (realloc $realloc)))
  (core func $is-cancelled (canon lower (func $runtime "is-cancelled")))
  (core func $log (canon lower (func $runtime "log") (memory $m)))
  (core instance $host
    (export "memory" (memory $m)) (export "realloc" (func $realloc))
    (export "get-stdout" (func $get-stdout)) (export "get-stderr" (func $get-stderr)) (export "get-stdin" (func $get-stdin))
    (export "write" (func $write)) (export "read" (func $read)) (export "exit" (func $exit))
    (export "arguments" (func $arguments)) (export "environment" (func $environment)) (export "random" (func $random))
    (export "sleep" (func $sleep)) (export "block" (func $block)) (export "attempt" (func $attempt))
    (export "progress" (func $progress)) (export "save" (func $save)) (export "load" (func $load))
    (export "is-cancelled" (func $is-cancelled)) (export "log" (func $log)))
"#;

/// The same, as the core module sees it.
const CORE_IMPORTS: &str = r#"
    (import "host" "memory" (memory $memory 2))
    (import "host" "realloc" (func $realloc (param i32 i32 i32 i32) (result i32)))
    (import "host" "get-stdout" (func $get-stdout (result i32)))
    (import "host" "get-stderr" (func $get-stderr (result i32)))
    (import "host" "get-stdin" (func $get-stdin (result i32)))
    (import "host" "write" (func $write (param $stream i32) (param $at i32) (param $len i32) (param $returned i32)))
    (import "host" "read" (func $read (param $stream i32) (param $len i64) (param $returned i32)))
    (import "host" "exit" (func $exit (param $is-err i32)))
    (import "host" "arguments" (func $arguments (param $returned i32)))
    (import "host" "environment" (func $environment (param $returned i32)))
    (import "host" "random" (func $random (param $len i64) (param $returned i32)))
    (import "host" "sleep" (func $sleep (param $nanoseconds i64) (result i32)))
    (import "host" "block" (func $block (param $pollable i32)))
    (import "host" "attempt" (func $attempt (result i32)))
    (import "host" "progress" (func $progress (param $fraction f64) (param $at i32) (param $len i32)))
    (import "host" "save" (func $save (param $at i32) (param $len i32) (param $returned i32)))
    (import "host" "load" (func $load (param $returned i32)))
    (import "host" "is-cancelled" (func $is-cancelled (result i32)))
    (import "host" "log" (func $log (param $level i32) (param $at i32) (param $len i32)))
"#;

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
