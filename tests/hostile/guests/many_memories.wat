;; Each far below the limit, and each grown to touch it.
(core module $m
  (memory $a 1) (memory $b 1) (memory $c 1) (memory $d 1) (memory $e 1) (memory $f 1) (memory $g 1) (memory $h 1)
  (func (export "run") (result i32)
    (loop $more
      (br_if $more (i32.ne (i32.const -1) (memory.grow $a (i32.const 16))))
      (br_if $more (i32.ne (i32.const -1) (memory.grow $b (i32.const 16))))
      (br_if $more (i32.ne (i32.const -1) (memory.grow $c (i32.const 16))))
      (br_if $more (i32.ne (i32.const -1) (memory.grow $d (i32.const 16))))
      (br_if $more (i32.ne (i32.const -1) (memory.grow $e (i32.const 16))))
      (br_if $more (i32.ne (i32.const -1) (memory.grow $f (i32.const 16))))
      (br_if $more (i32.ne (i32.const -1) (memory.grow $g (i32.const 16))))
      (br_if $more (i32.ne (i32.const -1) (memory.grow $h (i32.const 16)))))
    (unreachable)))
(core instance $main (instantiate $m))
