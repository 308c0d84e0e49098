;; Sleeps 1 ms at a time past its time limit and means to return a result then.
(local $left i32)
(local.set $left (i32.const 100000))
(loop $again
  (call $block (call $sleep (i64.const 1000000)))
  (br_if $again (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
(i32.store8 (i32.const 1024) (i32.const 0))
(return (i32.const 1024))
