;; The result itself is at an address that is not aligned.
(return (i32.const 1025))
