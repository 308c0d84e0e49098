(loop $more (call $progress (f64.const nan) (i32.const 8192) (i32.const 4096)) (br $more))
