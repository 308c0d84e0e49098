;; An error with a message of a MiB.
(drop (memory.grow (i32.const 32)))
(memory.fill (i32.const 65536) (i32.const 120) (i32.const 1048576))
(i32.store8 (i32.const 1024) (i32.const 1))
(i32.store8 (i32.const 1032) (i32.const 2))
(i32.store (i32.const 1040) (i32.const 65536))
(i32.store (i32.const 1044) (i32.const 1048576))
(return (i32.const 1024))
