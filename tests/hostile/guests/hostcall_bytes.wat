;; A checkpoint that is larger than one call may pass.
(drop (memory.grow (i32.const 400)))
(call $save (i32.const 0) (i32.const 20000000) (i32.const 1024))
