;; As much as one call gives, again and again, over the same memory.
(loop $again (drop (memory.grow (i32.const 1))) (call $random (i64.const 65536) (i32.const 1024)) (br $again))
