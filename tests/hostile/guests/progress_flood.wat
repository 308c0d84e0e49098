(loop $more (call $progress (f64.const nan) (i32.const 16384) (i32.const 4096)) (br $more))
