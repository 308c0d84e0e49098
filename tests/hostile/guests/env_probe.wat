;; Traps if there is any variable.
(call $environment (i32.const 1032))
(if (i32.load (i32.const 1036)) (then (unreachable)))
(i32.store8 (i32.const 1024) (i32.const 0))
(return (i32.const 1024))
