;; Succeeds if no folder is there to escape from.
(import "wasi:filesystem/types@0.2.0" (instance $types (export "descriptor" (type (sub resource)))))
(alias export $types "descriptor" (type $descriptor))
(import "wasi:filesystem/preopens@0.2.0" (instance $preopens
  (alias outer 1 $descriptor (type $d)) (export "descriptor" (type $descriptor (eq $d)))
  (export "get-directories" (func (result (list (tuple (own $descriptor) string)))))))
(core module $memory
  (memory (export "memory") 1)
  (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 4096)))
(core instance $memory (instantiate $memory))
(alias core export $memory "memory" (core memory $m))
(alias core export $memory "realloc" (core func $realloc))
(core func $get (canon lower (func $preopens "get-directories") (memory $m) (realloc $realloc)))
(core instance $host (export "memory" (memory $m)) (export "get" (func $get)))
(core module $main
  (import "host" "memory" (memory 1))
  (import "host" "get" (func $get (param i32)))
  (func (export "run") (result i32) (call $get (i32.const 0)) (i32.ne (i32.load (i32.const 4)) (i32.const 0))))
(core instance $main (instantiate $main (with "host" (instance $host))))
