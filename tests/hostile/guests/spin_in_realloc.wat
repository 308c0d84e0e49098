;; The host calls `realloc` to hand the payload over, before the handler has run at all.
(core module $m
  (memory (export "memory") 1)
  (func (export "realloc") (param i32 i32 i32 i32) (result i32) (loop $again (br $again)) (unreachable))
  (func (export "run") (param i32 i32 i32 i32) (result i32) (unreachable)))
(core instance $main (instantiate $m))
(alias core export $main "memory" (core memory $m))
(alias core export $main "realloc" (core func $realloc))
