;; Hands its host four million records at once, each of which the host would hold in a larger form.
(import "wasi:http/types@0.2.0" (instance $http
  (export "fields" (type $fields (sub resource)))
  (type $e (variant (case "invalid-syntax") (case "forbidden") (case "immutable")))
  (export "header-error" (type $error (eq $e)))
  (export "[static]fields.from-list" (func (param "entries" (list (tuple string (list u8))))
    (result (result (own $fields) (error $error)))))))
(core module $memory (memory (export "memory") 1100))
(core instance $memory (instantiate $memory))
(alias core export $memory "memory" (core memory $m))
(core func $from-list (canon lower (func $http "[static]fields.from-list") (memory $m)))
(core instance $host (export "from-list" (func $from-list)))
(core module $main
  (import "host" "from-list" (func $from-list (param i32 i32 i32)))
  (func (export "run") (result i32)
    (call $from-list (i32.const 4096) (i32.const 4000000) (i32.const 0))
    (unreachable)))
(core instance $main (instantiate $main (with "host" (instance $host))))
