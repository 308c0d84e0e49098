;; Clears a terminal, forges a line, and has NUL, a bidirectional override, a script and bytes that are no UTF-8.
(call $write (call $get-stderr) (i32.const 8192) (i32.const 81) (i32.const 1024))
(i32.store8 (i32.const 1024) (i32.const 0))
(return (i32.const 1024))
