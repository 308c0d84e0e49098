(loop $more (call $log (i32.const 4) (i32.const 8192) (i32.const 4096)) (br $more))
