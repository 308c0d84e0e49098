;; The longest list that there is, at an address where there is nothing.
(i32.store8 (i32.const 1024) (i32.const 0))
(i32.store (i32.const 1032) (i32.const -8))
(i32.store (i32.const 1036) (i32.const -1))
(return (i32.const 1024))
