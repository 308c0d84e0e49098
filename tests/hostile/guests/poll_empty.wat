;; An empty list would wait for ever.
(call $poll (i32.const 0) (i32.const 0) (i32.const 1024))
