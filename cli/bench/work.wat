;; The second module that `tq bench` measures with. Its functions read a number of 64 bits, the low byte first, from their
;; payload: `sleep` waits so many nanoseconds, `spin` goes around a loop so many times. Both return their payload; `mark`
;; returns its payload with the first byte changed, so that its result is not the same bytes. `work.wasm` is this text
;; assembled; a test compares them.
(component
  (import "wasi:io/poll@0.2.0" (instance $poll
    (export "pollable" (type $pollable (sub resource)))
    (export "[method]pollable.block" (func (param "self" (borrow $pollable))))))
  (alias export $poll "pollable" (type $pollable))
  (import "wasi:clocks/monotonic-clock@0.2.0" (instance $clock
    (alias outer 1 $pollable (type $outer)) (export "pollable" (type $pollable (eq $outer)))
    (export "subscribe-duration" (func (param "when" u64) (result (own $pollable))))))
  (core func $sleep (canon lower (func $clock "subscribe-duration")))
  (core func $block (canon lower (func $poll "[method]pollable.block")))
  (core instance $host (export "sleep" (func $sleep)) (export "block" (func $block)))

  (core module $core
    (@custom "tq:functions" "{\"name\":\"sleep\",\"doc\":\"Waits.\",\"input\":\"bytes\",\"output\":\"bytes\"}\0a{\"name\":\"spin\",\"doc\":\"Computes.\",\"input\":\"bytes\",\"output\":\"bytes\"}\0a{\"name\":\"mark\",\"doc\":\"Returns its payload, changed.\",\"input\":\"bytes\",\"output\":\"bytes\"}\0a")
    (import "host" "sleep" (func $sleep (param $nanoseconds i64) (result i32)))
    (import "host" "block" (func $block (param $pollable i32)))
    (memory (export "memory") 1)
    ;; Bytes below 64 are the return area.
    (global $free (mut i32) (i32.const 64))
    ;; An instance serves one call, so nothing is ever freed. Every argument is bytes: alignment does not matter.
    (func (export "realloc") (param $old i32) (param $old-size i32) (param $align i32) (param $size i32) (result i32)
      (local $start i32)
      (local $missing i32)
      (local.set $start (global.get $free))
      (global.set $free (i32.add (global.get $free) (local.get $size)))
      (local.set $missing
        (i32.sub
          (i32.shr_u (i32.add (global.get $free) (i32.const 65535)) (i32.const 16))
          (memory.size)))
      (if (i32.gt_s (local.get $missing) (i32.const 0))
        (then
          (if (i32.lt_s (memory.grow (local.get $missing)) (i32.const 0))
            (then unreachable))))
      (local.get $start))
    (func $spin (param $left i64)
      (loop $again
        (if (i64.ne (local.get $left) (i64.const 0))
          (then
            (local.set $left (i64.sub (local.get $left) (i64.const 1)))
            (br $again)))))
    ;; The second letter tells the functions apart. Writes `ok(payload)`: the discriminant at 16, and at 24 the list.
    (func (export "run") (param $name i32) (param $name-size i32) (param $payload i32) (param $size i32) (result i32)
      (local $letter i32)
      (local.set $letter (i32.load8_u offset=1 (local.get $name)))
      (if (i32.eq (local.get $letter) (i32.const 0x61)) ;; a: mark
        (then
          (i32.store8 (local.get $payload) (i32.xor (i32.load8_u (local.get $payload)) (i32.const 0xff))))
        (else
          (if (i32.lt_u (local.get $size) (i32.const 8)) (then unreachable))
          (if (i32.eq (local.get $letter) (i32.const 0x6c)) ;; l: sleep
            (then (call $block (call $sleep (i64.load align=1 (local.get $payload)))))
            (else (call $spin (i64.load align=1 (local.get $payload)))))))
      (i32.store8 (i32.const 16) (i32.const 0))
      (i32.store (i32.const 24) (local.get $payload))
      (i32.store (i32.const 28) (local.get $size))
      (i32.const 16)))
  (core instance $core (instantiate $core (with "host" (instance $host))))
  (alias core export $core "memory" (core memory $memory))
  (alias core export $core "realloc" (core func $realloc))

  (type $retry (record (field "message" string) (field "after-ms" (option u64))))
  (type $task-error (variant (case "invalid-input" string) (case "retryable" $retry) (case "fatal" string)))
  (func $run (param "function" string) (param "payload" (list u8)) (result (result (list u8) (error $task-error)))
    (canon lift (core func $core "run") (memory $memory) (realloc $realloc)))

  ;; The types of an exported function need names of their own in the instance that exports it.
  (component $named
    (type $retry-shape (record (field "message" string) (field "after-ms" (option u64))))
    (import "retry-in" (type $retry-in (eq $retry-shape)))
    (type $error-shape (variant (case "invalid-input" string) (case "retryable" $retry-in) (case "fatal" string)))
    (import "error-in" (type $error-in (eq $error-shape)))
    (import "run-in" (func $run-in (param "function" string) (param "payload" (list u8)) (result (result (list u8) (error $error-in)))))
    (export $retry-out "retry" (type $retry-in))
    (type $error-named (variant (case "invalid-input" string) (case "retryable" $retry-out) (case "fatal" string)))
    (export $error-out "task-error" (type $error-in) (type (eq $error-named)))
    (export "run" (func $run-in)
      (func (param "function" string) (param "payload" (list u8)) (result (result (list u8) (error $error-out))))))
  (instance $handler (instantiate $named
    (with "retry-in" (type $retry))
    (with "error-in" (type $task-error))
    (with "run-in" (func $run))))
  (export "tq:task/handler@0.1.0" (instance $handler)))
