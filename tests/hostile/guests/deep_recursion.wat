(func $deeper (param i64) (result i64) (i64.add (local.get 0) (call $deeper (local.get 0))))
(func $run (param i32 i32 i32 i32) (result i32) (drop (call $deeper (i64.const 1))) (i32.const 0))
