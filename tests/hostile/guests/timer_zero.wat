(local $timer i32)
(local.set $timer (call $sleep (i64.const 0)))
(loop $again (call $block (local.get $timer)) (br $again))
