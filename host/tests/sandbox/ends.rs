//! Every way to end, and its name.

use std::time::{Duration, Instant};

use bytes::Bytes;
use tq_core::limits::{PAYLOAD_BYTES_MAX, RANDOM_BYTES_MAX, RESULT_BYTES_MAX};
use tq_core::{Grants, Limits, Outcome, TaskId};
use tq_host::runner::Attempt;

use crate::guests::{bare_program, cat, echo, handler, handler_that, program, spins, writes};
use crate::{Host, attempt, check, ready, run};

const DEFAULT: Limits = Limits::DEFAULT;

#[test]
fn handler_returns_its_result_and_its_usage() {
    let payload = Bytes::from_static(b"twelve bytes");
    let (finished, _) = run(Attempt {
        payload: payload.clone(),
        ..attempt(9, ready(echo()))
    });
    assert_eq!(finished.outcome, Outcome::Succeeded);
    assert_eq!(finished.epoch.0, 9);
    assert_eq!(finished.result, Some(payload));
    assert_eq!(finished.failure, None);
    let usage = finished.usage;
    assert!(usage.fuel > 0 && usage.fuel < 1_000, "{usage:?}");
    assert!(usage.memory_bytes_peak >= 2 << 16, "{usage:?}");
    assert!(usage.wall_ns > 0 && usage.cpu_ns > 0, "{usage:?}");
}

#[test]
fn fuel_of_the_same_work_is_the_same() {
    let fuel = || check(echo(), DEFAULT, Outcome::Succeeded, "").usage.fuel;
    assert_eq!(fuel(), fuel());
}

#[test]
fn largest_payload_comes_back() {
    let payload = Bytes::from(vec![b'z'; PAYLOAD_BYTES_MAX]);
    for component in [echo(), cat()] {
        let (finished, _) = run(Attempt {
            payload: payload.clone(),
            ..attempt(1, ready(component))
        });
        assert_eq!(
            finished.outcome,
            Outcome::Succeeded,
            "{:?}",
            finished.failure
        );
        assert_eq!(finished.result.as_ref(), Some(&payload));
    }
}

#[test]
fn program_that_says_nothing_succeeds_with_nothing() {
    let finished = check(
        program("(func $run (result i32) (i32.const 0))"),
        DEFAULT,
        Outcome::Succeeded,
        "",
    );
    assert_eq!(finished.result, Some(Bytes::new()));
}

#[test]
fn program_gets_its_arguments_and_no_environment() {
    // The number of arguments, then of variables.
    let wasm = program(
        "(func $run (result i32)
           (call $arguments (i32.const 1024))
           (call $environment (i32.const 1032))
           (i32.store8 (i32.const 2048) (i32.load (i32.const 1028)))
           (i32.store8 (i32.const 2049) (i32.load (i32.const 1036)))
           (call $write (call $get-stdout) (i32.const 2048) (i32.const 2) (i32.const 1040))
           (i32.const 0))",
    );
    let (finished, _) = run(Attempt {
        arguments: vec!["-v".to_owned(), "x y".to_owned()],
        ..attempt(1, ready(wasm))
    });
    assert_eq!(finished.result.as_deref(), Some([3, 0].as_slice()));
}

#[test]
fn exit_codes_are_verdicts() {
    let exits = |code: u32| format!("(call $exit (i32.const {code}))");
    let as_program = |code| {
        program(&format!(
            "(func $run (result i32) {} unreachable)",
            exits(code)
        ))
    };
    let as_handler = |code| handler_that(&exits(code));
    check(as_program(0), DEFAULT, Outcome::Succeeded, "");
    check(as_program(1), DEFAULT, Outcome::Exit, "exited with code 1");
    check(
        as_handler(0),
        DEFAULT,
        Outcome::NoResult,
        "instead of returning",
    );
    check(as_handler(1), DEFAULT, Outcome::Exit, "exited with code 1");
    check(
        program("(func $run (result i32) (i32.const 1))"),
        DEFAULT,
        Outcome::Exit,
        "exited with code 1",
    );
}

#[test]
fn errors_of_a_handler_keep_their_kind() {
    // The case of the error, and the text `no` for all of them.
    let fails = |case: u32| {
        handler_that(&format!(
            "(i32.store8 (i32.const 1024) (i32.const 1))
             (i32.store8 (i32.const 1032) (i32.const {case}))
             (i32.store16 (i32.const 2048) (i32.const 0x6f6e))
             (i32.store (i32.const 1040) (i32.const 2048))
             (i32.store (i32.const 1044) (i32.const 2))
             (i32.store8 (i32.const 1048) (i32.const 1))
             (i64.store (i32.const 1056) (i64.const 1500))
             (return (i32.const 1024))"
        ))
    };
    let invalid = check(fails(0), DEFAULT, Outcome::InvalidInput, "no");
    assert_eq!(invalid.retry_after, None);
    let retryable = check(fails(1), DEFAULT, Outcome::RetryableError, "no");
    assert_eq!(retryable.retry_after, Some(Duration::from_millis(1500)));
    check(fails(2), DEFAULT, Outcome::FatalError, "no");
}

#[test]
fn trap_says_where() {
    let wasm = handler(
        "(func $inner (unreachable))
         (func $run (param i32 i32 i32 i32) (result i32) (call $inner) (i32.const 0))",
    );
    let finished = check(wasm, DEFAULT, Outcome::Trap, "unreachable");
    let backtrace = finished.failure.unwrap().backtrace.unwrap();
    let lines: Vec<&str> = backtrace.lines().collect();
    assert_eq!(lines, ["inner", "run"]);
}

#[test]
fn recursion_is_a_stack_overflow() {
    let wasm = handler(
        "(func $deeper (param i64) (result i64) (i64.add (local.get 0) (call $deeper (local.get 0))))
         (func $run (param i32 i32 i32 i32) (result i32) (drop (call $deeper (i64.const 1))) (i32.const 0))",
    );
    let finished = check(wasm, DEFAULT, Outcome::StackOverflow, "524288 bytes");
    assert_eq!(
        finished.failure.unwrap().backtrace.as_deref(),
        Some("deeper\n    ... 64 times\n... and what called that\n")
    );
}

#[test]
fn loops_end_at_their_limits_while_others_go_on() {
    let (spins, echo) = (ready(spins()), ready(echo()));
    let mut host = Host::new();
    let limits = Limits {
        timeout_ms: 300,
        fuel: Limits::MAX.fuel,
        ..DEFAULT
    };
    let started = Instant::now();
    host.start(Attempt {
        limits,
        ..attempt(1, spins.clone())
    });
    let mut done = 0;
    loop {
        host.start(attempt(2, echo.clone()));
        let finished = host.finished();
        if finished.epoch.0 == 1 {
            assert_eq!(finished.outcome, Outcome::Timeout);
            let over = started.elapsed() - limits.timeout();
            assert!(over < Duration::from_millis(100), "{over:?}");
            assert!(finished.failure.unwrap().message.contains("300ms"));
            break;
        }
        assert_eq!(finished.outcome, Outcome::Succeeded);
        done += 1;
    }
    assert!(done > 100, "only {done} went on");
    let finished = check(
        crate::guests::spins(),
        Limits {
            fuel: 1_000_000,
            ..DEFAULT
        },
        Outcome::FuelExhausted,
        "1000000",
    );
    assert_eq!(finished.usage.fuel, 1_000_000);
}

#[test]
fn sleep_ends_at_the_timeout() {
    let limits = Limits {
        timeout_ms: 50,
        ..DEFAULT
    };
    let finished = check(crate::guests::sleeps(), limits, Outcome::Timeout, "50ms");
    assert!(finished.usage.cpu_ns < finished.usage.wall_ns);
    assert!(finished.usage.wall_ns < 150_000_000);
}

#[test]
fn loop_while_starting_ends_too() {
    let wasm = bare_program(
        "(core module $m (func $start (loop $again (br $again))) (start $start)
           (func (export \"run\") (result i32) (i32.const 0)))
         (core instance $main (instantiate $m))",
    );
    let limits = Limits {
        fuel: 10_000,
        ..DEFAULT
    };
    check(wasm, limits, Outcome::FuelExhausted, "10000");
}

/// Grows every memory in turn by a mebibyte, and then does `at_end`.
fn bomb(memories: &[&str], at_end: &str) -> String {
    let grow: String = memories
        .iter()
        .map(|memory| {
            format!("(br_if $more (i32.ne (i32.const -1) (memory.grow {memory} (i32.const 16))))")
        })
        .collect();
    format!("(func (export \"run\") (result i32) (loop $more {grow}) {at_end} (i32.const 1))")
}

#[test]
fn memory_bomb_is_a_memory_limit() {
    let limits = Limits {
        memory_bytes: 16 << 20,
        timeout_ms: 5_000,
        ..DEFAULT
    };
    let one = |at_end| {
        bare_program(&format!(
            "(core module $m (memory $a 1) {})
             (core instance $main (instantiate $m))",
            bomb(&["$a"], at_end)
        ))
    };
    for (at_end, said) in [
        ("", "exited with code 1"),
        ("unreachable", "unreachable"),
        ("(loop $again (br $again))", "time limit"),
    ] {
        let finished = check(one(at_end), limits, Outcome::MemoryLimit, said);
        let peak = finished.usage.memory_bytes_peak;
        assert!(peak <= 16 << 20 && peak > 14 << 20, "{peak}");
    }
    let several = bare_program(&format!(
        "(core module $m (memory $a 1) (memory $b 1) (memory $c 1) {})
         (core instance $main (instantiate $m))",
        bomb(&["$a", "$b", "$c"], "unreachable")
    ));
    let finished = check(
        several,
        limits,
        Outcome::MemoryLimit,
        "limited to 16777216 bytes",
    );
    assert!(finished.usage.memory_bytes_peak <= 16 << 20);
}

#[test]
fn memories_of_several_instances_are_one_sum() {
    // Eight instances of 4 MiB fit into 33 MiB, and not into 31.
    let instances: String = (0..8)
        .map(|index| format!("(core instance $i{index} (instantiate $m))"))
        .collect();
    let wasm = bare_program(&format!(
        "(core module $m (memory 64) (func (export \"run\") (result i32) (i32.const 0)))
         {instances} (alias core export $i0 \"run\" (core func $f))
         (core instance $main (export \"run\" (func $f)))"
    ));
    let limits = |mebibytes: u64| Limits {
        memory_bytes: mebibytes << 20,
        ..DEFAULT
    };
    let finished = check(wasm.clone(), limits(33), Outcome::Succeeded, "");
    assert_eq!(finished.usage.memory_bytes_peak, 32 << 20);
    check(wasm, limits(31), Outcome::MemoryLimit, "32505856 bytes");
}

#[test]
fn tables_are_memory_and_have_an_end() {
    let wasm = |elements: u32, times: u32| {
        bare_program(&format!(
            "(core module $m (table $t 1 funcref)
               (func (export \"run\") (result i32) (local $left i32)
                 (local.set $left (i32.const {times}))
                 (loop $more
                   (if (i32.eq (i32.const -1) (table.grow $t (ref.null func) (i32.const {elements})))
                     (then unreachable))
                   (br_if $more (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
                 (i32.const 0)))
             (core instance $main (instantiate $m))"
        ))
    };
    let small = Limits {
        memory_bytes: 64 << 10,
        ..DEFAULT
    };
    check(wasm(1_000, 20), small, Outcome::MemoryLimit, "65536 bytes");
    check(
        wasm(1_000_000, 1),
        DEFAULT,
        Outcome::MemoryLimit,
        "asked for",
    );
    check(wasm(1_000, 20), DEFAULT, Outcome::Succeeded, "");
}

#[test]
fn maximum_that_a_guest_sets_itself_is_its_own_affair() {
    let wasm = bare_program(&format!(
        "(core module $m (memory $a 1 20) {})
         (core instance $main (instantiate $m))",
        bomb(&["$a"], "unreachable")
    ));
    check(wasm, DEFAULT, Outcome::Trap, "unreachable");
}

#[test]
fn flood_of_results_is_an_output_limit() {
    let fits = (RESULT_BYTES_MAX / 4096) as u32;
    let finished = check(writes("$get-stdout", fits), DEFAULT, Outcome::Succeeded, "");
    assert_eq!(
        finished.result.map(|result| result.len()),
        Some(RESULT_BYTES_MAX)
    );
    check(
        writes("$get-stdout", fits + 1),
        DEFAULT,
        Outcome::OutputLimit,
        "8388608 bytes",
    );
    // A handler that returns a byte too much, a little more than a call may pass, and more than it has.
    for bytes in [RESULT_BYTES_MAX + 1, 20 << 20] {
        let wasm = handler_that(&format!(
            "(drop (memory.grow (i32.const 400)))
             (i32.store8 (i32.const 1024) (i32.const 0))
             (i32.store (i32.const 1032) (i32.const 0))
             (i32.store (i32.const 1036) (i32.const {bytes}))
             (return (i32.const 1024))"
        ));
        check(wasm, DEFAULT, Outcome::OutputLimit, "8388608 bytes");
    }
    let small = Limits {
        output_bytes: 4_095,
        ..DEFAULT
    };
    check(
        writes("$get-stdout", 1),
        small,
        Outcome::OutputLimit,
        "4095 bytes",
    );
    let beyond = handler_that(
        "(i32.store8 (i32.const 1024) (i32.const 0))
         (i32.store (i32.const 1032) (i32.const 65536))
         (i32.store (i32.const 1036) (i32.const -1))
         (return (i32.const 1024))",
    );
    check(beyond, DEFAULT, Outcome::Trap, "out of bounds");
}

#[test]
fn what_a_guest_makes_its_host_hold_is_limited() {
    let holds = handler_that("(loop $more (drop (call $get-stdout)) (br $more))");
    check(holds.clone(), DEFAULT, Outcome::HandleLimit, "1024 handles");
    let few = Limits {
        handles: 20,
        ..DEFAULT
    };
    check(holds, few, Outcome::HandleLimit, "20 handles");
    let random = |bytes: u64| {
        handler_that(&format!(
            "(call $random (i64.const {bytes}) (i32.const 1024))"
        ))
    };
    check(
        random(RANDOM_BYTES_MAX),
        DEFAULT,
        Outcome::Trap,
        "unreachable",
    );
    check(
        random(RANDOM_BYTES_MAX + 1),
        DEFAULT,
        Outcome::HostLimit,
        "65536 random bytes",
    );
    let passes = handler_that(
        "(drop (memory.grow (i32.const 400)))
         (call $save (i32.const 0) (i32.const 20000000) (i32.const 1024))",
    );
    check(passes, DEFAULT, Outcome::HostLimit, "16777216 bytes");
}

#[test]
fn what_a_guest_makes_its_host_do_is_limited() {
    // Each round is one call.
    let calls = |rounds: u32, call: &str| {
        handler_that(&format!(
            "(local.set $payload-len (i32.const {rounds}))
             (loop $more
               {call}
               (br_if $more (local.tee $payload-len (i32.sub (local.get $payload-len) (i32.const 1)))))
             (i32.store8 (i32.const 1024) (i32.const 0))
             (i32.store (i32.const 1032) (local.get $payload))
             (i32.store (i32.const 1036) (i32.const 0))
             (return (i32.const 1024))"
        ))
    };
    let progress = "(call $progress (f64.const 0.5) (i32.const 0) (i32.const 0))";
    let limits = Limits {
        host_calls: 1_000,
        random_bytes: 4_096,
        ..DEFAULT
    };
    check(calls(1_000, progress), limits, Outcome::Succeeded, "");
    // Also if it is over when that shows.
    for rounds in [1_001, 100_000_000] {
        check(
            calls(rounds, progress),
            limits,
            Outcome::HostCallLimit,
            "more than 1000 times",
        );
    }
    let random = "(call $random (i64.const 64) (i32.const 1024))";
    let limits = Limits {
        random_bytes: 64 * 5,
        ..DEFAULT
    };
    check(calls(5, random), limits, Outcome::Succeeded, "");
    let over = "384 random bytes in all, over the limit of 320";
    check(calls(6, random), limits, Outcome::RandomLimit, over);
    check(calls(1_000_000, random), limits, Outcome::RandomLimit, over);
}

#[test]
fn deterministic_function_has_the_randomness_of_its_task() {
    let random = handler_that(
        "(call $random (i64.const 16) (i32.const 1024))
         (i32.store8 (i32.const 2048) (i32.const 0))
         (i32.store (i32.const 2056) (i32.load (i32.const 1024)))
         (i32.store (i32.const 2060) (i32.load (i32.const 1028)))
         (return (i32.const 2048))",
    );
    let random = ready(random);
    let draw = |id: u8, is_deterministic: bool| {
        let (finished, _) = run(Attempt {
            task_id: TaskId([id; 16]),
            grants: Grants {
                is_deterministic,
                ..Grants::default()
            },
            ..attempt(1, random.clone())
        });
        finished.result.expect("it returns what it got")
    };
    assert_eq!(draw(1, true), draw(1, true));
    assert_ne!(draw(1, true), draw(2, true));
    assert_ne!(draw(1, false), draw(1, false));
}

#[test]
fn environment_is_what_was_granted() {
    // Fails unless there is exactly one variable, `A`.
    let wasm = handler_that(
        "(call $environment (i32.const 1024))
         (if (i32.ne (i32.load (i32.const 1028)) (i32.const 1)) (then unreachable))
         (i32.store8 (i32.const 2048) (i32.const 0))
         (i32.store (i32.const 2056) (i32.load offset=8 (i32.load (i32.const 1024))))
         (i32.store (i32.const 2060) (i32.load offset=12 (i32.load (i32.const 1024))))
         (return (i32.const 2048))",
    );
    let component = ready(wasm);
    let (finished, _) = run(attempt(1, component.clone()));
    assert_eq!(finished.outcome, Outcome::Trap, "nothing is inherited");
    let env = [("A".to_owned(), "value".to_owned())];
    let (finished, _) = run(Attempt {
        grants: Grants {
            env: env.into(),
            ..Grants::default()
        },
        ..attempt(1, component)
    });
    assert_eq!(finished.result.as_deref(), Some(b"value".as_slice()));
}

#[test]
fn handler_of_another_type_is_a_missing_export() {
    let wasm = wat::parse_str(
        "(component
           (core module $m (func (export \"run\")))
           (core instance $main (instantiate $m))
           (func $run (canon lift (core func $main \"run\")))
           (instance $run (export \"run\" (func $run)))
           (export \"tq:task/handler@0.1.0\" (instance $run)))",
    )
    .unwrap();
    check(wasm, DEFAULT, Outcome::MissingExport, "another type");
}

#[test]
fn deadline_that_passed_is_not_run() {
    let (finished, _) = run(Attempt {
        deadline: Some(tq_core::Timestamp(1)),
        ..attempt(1, ready(echo()))
    });
    assert_eq!(finished.outcome, Outcome::DeadlineExceeded);
    assert_eq!(finished.usage.fuel, 0);
}
