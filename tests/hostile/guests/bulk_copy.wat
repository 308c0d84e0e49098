(drop (memory.grow (i32.const 1000)))
(loop $again
  (memory.copy (i32.const 0) (i32.const 65536) (i32.const 60000000))
  (memory.fill (i32.const 65536) (i32.const 1) (i32.const 60000000))
  (br $again))
