;; A list of 1 GiB where there are 128 KiB: its address is judged before its length.
(i32.store8 (i32.const 1024) (i32.const 0))
(i32.store (i32.const 1032) (i32.const 0))
(i32.store (i32.const 1036) (i32.const 0x40000000))
(return (i32.const 1024))
