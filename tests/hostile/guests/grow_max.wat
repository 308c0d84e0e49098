;; All 4 GiB at once, which fails and says so; then a MiB at a time to the limit.
(if (i32.ne (i32.const -1) (memory.grow (i32.const 65535))) (then (return (i32.const 0))))
(loop $more (br_if $more (i32.ne (i32.const -1) (memory.grow (i32.const 16)))))
