;; A thousand times the same timer in one list, again and again.
(local $timer i32) (local $at i32)
(local.set $timer (call $sleep (i64.const 0)))
(local.set $at (i32.const 4096))
(loop $fill
  (i32.store (local.get $at) (local.get $timer))
  (br_if $fill (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 4))) (i32.const 8192))))
(loop $again (call $poll (i32.const 4096) (i32.const 1024) (i32.const 1024)) (br $again))
