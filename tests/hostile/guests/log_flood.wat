(loop $more (call $log (i32.const 4) (i32.const 16384) (i32.const 4096)) (br $more))
