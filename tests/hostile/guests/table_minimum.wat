(core module $m
  (table 4294967295 funcref)
  (func (export "run") (result i32) (i32.const 0)))
(core instance $main (instantiate $m))
