(call $block (call $sleep (i64.const -1)))
