(drop (memory.grow (i32.const 32)))
(loop $more (call $save (i32.const 65536) (i32.const 1048576) (i32.const 1024)) (br $more))
