;; Timers that are never waited for.
(loop $more (drop (call $sleep (i64.const 3600000000000))) (br $more))
