;; The module that `tq bench` measures with: one function, `echo`, which returns its payload where it lies. It imports
;; nothing and computes nothing, so that the figures are tq's own. `echo.wasm` is this text assembled; a test compares them.
(component
  (core module $core
    (@custom "tq:functions" "{\"name\":\"echo\",\"doc\":\"Returns its payload.\",\"input\":\"bytes\",\"output\":\"bytes\"}\0a")
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
    ;; Writes `ok(payload)`: the discriminant at 16, and at 24, as a variant with a 64-bit field aligns it, the list.
    (func (export "run") (param $name i32) (param $name-size i32) (param $payload i32) (param $size i32) (result i32)
      (i32.store8 (i32.const 16) (i32.const 0))
      (i32.store (i32.const 24) (local.get $payload))
      (i32.store (i32.const 28) (local.get $size))
      (i32.const 16)))
  (core instance $core (instantiate $core))
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
