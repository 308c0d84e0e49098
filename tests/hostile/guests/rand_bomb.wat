(call $random (i64.const 0x8000000000000000) (i32.const 1024))
