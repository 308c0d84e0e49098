;; A call to the host at every depth, so that one of them is made at the last bytes of the stack.
(func $deeper (param i64) (result i64)
  (drop (call $is-cancelled))
  (call $progress (f64.const 0.5) (i32.const 0) (i32.const 8))
  (i64.add (local.get 0) (call $deeper (local.get 0))))
(func $run (param i32 i32 i32 i32) (result i32) (drop (call $deeper (i64.const 1))) (i32.const 0))
