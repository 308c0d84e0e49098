;; Succeeds if making a socket fails with `access-denied`, the second case.
(import "wasi:sockets/network@0.2.0" (instance $network
  (type $f (enum "ipv4" "ipv6")) (export "ip-address-family" (type (eq $f)))
  (type $e (enum "unknown" "access-denied" "not-supported" "invalid-argument" "out-of-memory" "timeout"
    "concurrency-conflict" "not-in-progress" "would-block" "invalid-state" "new-socket-limit"
    "address-not-bindable" "address-in-use" "remote-unreachable" "connection-refused" "connection-reset"
    "connection-aborted" "datagram-too-large" "name-unresolvable" "temporary-resolver-failure"
    "permanent-resolver-failure"))
  (export "error-code" (type (eq $e)))))
(alias export $network "ip-address-family" (type $family))
(alias export $network "error-code" (type $error))
(import "wasi:sockets/tcp@0.2.0" (instance $tcp (export "tcp-socket" (type (sub resource)))))
(alias export $tcp "tcp-socket" (type $socket))
(import "wasi:sockets/tcp-create-socket@0.2.0" (instance $create
  (alias outer 1 $family (type $f)) (export "ip-address-family" (type $family (eq $f)))
  (alias outer 1 $error (type $e)) (export "error-code" (type $error (eq $e)))
  (alias outer 1 $socket (type $s)) (export "tcp-socket" (type $socket (eq $s)))
  (export "create-tcp-socket" (func (param "address-family" $family)
    (result (result (own $socket) (error $error)))))))
(core module $memory (memory (export "memory") 1))
(core instance $memory (instantiate $memory))
(alias core export $memory "memory" (core memory $m))
(core func $create (canon lower (func $create "create-tcp-socket") (memory $m)))
(core instance $host (export "memory" (memory $m)) (export "create" (func $create)))
(core module $main
  (import "host" "memory" (memory 1))
  (import "host" "create" (func $create (param i32 i32)))
  (func (export "run") (result i32)
    (call $create (i32.const 0) (i32.const 0))
    (i32.or (i32.ne (i32.load8_u (i32.const 0)) (i32.const 1))
      (i32.ne (i32.load8_u (i32.const 4)) (i32.const 1)))))
(core instance $main (instantiate $main (with "host" (instance $host))))
