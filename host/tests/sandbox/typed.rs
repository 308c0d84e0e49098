//! Functions that are called with JSON, and what a hostile one can do.

use bytes::Bytes;
use tq_core::{Limits, Outcome};
use tq_host::runner::{Attempt, Finished};

use crate::{attempt, ready, run};

/// What `realloc` does: it gives out what is from 65,536 on, and grows the memory by what is missing.
const REALLOC: &str = "(local $at i32)
    (local.set $at (i32.and (i32.add (global.get $next) (i32.const 7)) (i32.const -8)))
    (global.set $next (i32.add (local.get $at) (local.get 3)))
    (drop (memory.grow (i32.shr_u (i32.add (i32.sub (global.get $next) (i32.shl (memory.size) (i32.const 16))) (i32.const 65535)) (i32.const 16))))
    (local.get $at)";

/// A component that exports functions. `core` is what its core module has; `$m` is that module's instance.
fn with(core: &str, realloc: &str, functions: &str) -> Vec<u8> {
    let text = format!(
        "(component
           (core module $main
             (memory (export \"memory\") 2)
             (global $next (mut i32) (i32.const 65536))
             (func (export \"realloc\") (param i32 i32 i32 i32) (result i32) {realloc})
             {core})
           (core instance $m (instantiate $main))
           (alias core export $m \"memory\" (core memory $memory))
           (alias core export $m \"realloc\" (core func $realloc))
           {functions})"
    );
    wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}"))
}

/// A component with one function `f`, of `params` and with a result. `body` is the inside of the core function, which has
/// these core parameters and gives the address of the result.
fn one(params: &str, core_params: &str, result: &str, body: &str) -> Vec<u8> {
    with(
        &format!("(func (export \"f\") {core_params} (result i32) {body})"),
        REALLOC,
        &format!(
            "(func (export \"f\") {params} (result {result})
               (canon lift (core func $m \"f\") (memory $memory) (realloc $realloc)))"
        ),
    )
}

/// Gives an address and a length back: a list or a string of any kind.
fn gives(ty: &str, address: u32, len: u32) -> Vec<u8> {
    let body = format!(
        "(i32.store (i32.const 1024) (i32.const {address})) (i32.store (i32.const 1028) (i32.const {len})) (i32.const 1024)"
    );
    one("", "", ty, &body)
}

fn call(wasm: Vec<u8>, function: &str, payload: &str, limits: Limits) -> Finished {
    let (finished, _) = run(Attempt {
        function: function.to_owned(),
        payload: Bytes::copy_from_slice(payload.as_bytes()),
        limits,
        ..attempt(1, ready(wasm))
    });
    finished
}

#[track_caller]
fn check(wasm: Vec<u8>, payload: &str, expected: &str) -> Finished {
    let finished = call(wasm, "f", payload, Limits::DEFAULT);
    assert_eq!(
        finished.outcome,
        Outcome::Succeeded,
        "{:?}",
        finished.failure
    );
    let result = finished.result.clone().unwrap_or_default();
    assert_eq!(String::from_utf8_lossy(&result), expected);
    finished
}

#[track_caller]
fn check_fails(wasm: Vec<u8>, payload: &str, outcome: Outcome, message: &str) {
    // Enough for what ends by itself, and soon used up by what does not.
    let limits = Limits {
        fuel: 10_000_000,
        ..Limits::DEFAULT
    };
    let finished = call(wasm, "f", payload, limits);
    let said = finished
        .failure
        .map(|failure| failure.message)
        .unwrap_or_default();
    assert_eq!(finished.outcome, outcome, "{said}");
    assert!(said.contains(message), "{said}");
}

/// Gives back what it is given: an address and a length.
fn echo(ty: &str) -> Vec<u8> {
    one(
        &format!("(param \"value\" {ty})"),
        "(param i32 i32)",
        ty,
        "(i32.store (i32.const 1024) (local.get 0)) (i32.store (i32.const 1028) (local.get 1)) (i32.const 1024)",
    )
}

#[test]
fn values_come_back_as_they_were() {
    let bytes = check(
        echo("(list u8)"),
        "{\"value\":\"AQID/w==\"}",
        "\"AQID/w==\"",
    );
    assert!(
        bytes.usage.fuel > 0 && bytes.usage.memory_bytes_peak >= 2 << 16,
        "{:?}",
        bytes.usage
    );
    check(echo("string"), "{\"value\":\"Zoë \\\"\"}", "\"Zoë \\\"\"");
    check(
        echo("(list (list string))"),
        "{\"value\":[[],[\"a\",\"b\"]]}",
        "[[],[\"a\",\"b\"]]",
    );
    check(
        echo("(list (tuple u64 f32 bool char))"),
        "{\"value\":[[\"18446744073709551615\",\"NaN\",true,\"é\"],[1,0.1,false,\"\\u0000\"]]}",
        "[[\"18446744073709551615\",\"NaN\",true,\"é\"],[1,0.1,false,\"\\u0000\"]]",
    );
    check(
        echo("(list (option (option s8)))"),
        "{\"value\":[null,{\"some\":null},{\"some\":-128}]}",
        "[null,{\"some\":null},{\"some\":-128}]",
    );
    check(
        echo("(list (result string (error u16)))"),
        "{\"value\":[{\"ok\":\"x\"},{\"err\":7}]}",
        "[{\"ok\":\"x\"},{\"err\":7}]",
    );
}

#[test]
fn types_with_names_come_back_too() {
    let wasm = with(
        "(func (export \"f\") (param i32 i32 i32) (result i32)
           (i32.store (i32.const 1024) (local.get 0)) (i32.store (i32.const 1028) (local.get 1))
           (i32.store8 (i32.const 1032) (local.get 2)) (i32.const 1024))",
        REALLOC,
        "(type $colour-type (enum \"red\" \"dark-blue\"))
         (export $colour \"colour\" (type $colour-type))
         (type $rights-type (flags \"read\" \"write\"))
         (export $rights \"rights\" (type $rights-type))
         (type $shape-type (variant (case \"none\") (case \"circle\" f64)))
         (export $shape \"shape\" (type $shape-type))
         (type $item-type (record (field \"of-colour\" $colour) (field \"shape\" $shape)))
         (export $item \"item\" (type $item-type))
         (func (export \"f\") (param \"value\" (tuple (list $item) $rights)) (result (tuple (list $item) $rights))
           (canon lift (core func $m \"f\") (memory $memory) (realloc $realloc)))",
    );
    let items = r#"[[{"of-colour":"dark-blue","shape":{"circle":1.5}},{"of-colour":"red","shape":"none"}],["write"]]"#;
    check(wasm, &format!("{{\"value\":{items}}}"), items);
}

#[test]
fn functions_have_the_names_that_the_broker_has_for_them() {
    let wasm = with(
        "(func (export \"one\") (result i32) (i32.const 1))
         (func (export \"two\") (result i32) (i32.const 2))
         (func (export \"nothing\"))",
        REALLOC,
        "(func $one (result u8) (canon lift (core func $m \"one\")))
         (func $two (result u8) (canon lift (core func $m \"two\")))
         (func (export \"nothing\") (canon lift (core func $m \"nothing\")))
         (export \"get\" (func $one))
         (instance $ops (export \"get\" (func $two)) (export \"only\" (func $two)))
         (export \"a:b/ops@1.0.0\" (instance $ops))",
    );
    for (function, payload, expected) in [
        ("get", "{}", "1"),
        ("a:b/ops@1.0.0#get", "", "2"),
        ("only", "", "2"),
        ("nothing", "{}", "null"),
    ] {
        let finished = call(wasm.clone(), function, payload, Limits::DEFAULT);
        assert_eq!(
            finished.result.as_deref(),
            Some(expected.as_bytes()),
            "{function}"
        );
    }
    let missing = call(wasm, "two", "{}", Limits::DEFAULT);
    assert_eq!(missing.outcome, Outcome::MissingExport);
}

#[test]
fn result_that_is_an_error_is_the_tasks_failure() {
    let fails = |case: u32, ty: &str| {
        let body = format!(
            "(i32.store8 (i32.const 1024) (i32.const {case}))
             (i32.store (i32.const 1028) (i32.const 2048)) (i32.store (i32.const 1032) (i32.const 2))
             (i32.store16 (i32.const 2048) (i32.const 0x6f6e)) (i32.const 1024)"
        );
        one("", "", ty, &body)
    };
    check(fails(0, "(result string (error string))"), "", "\"no\"");
    check_fails(
        fails(1, "(result string (error string))"),
        "",
        Outcome::FatalError,
        "\"no\"",
    );
    check_fails(
        fails(1, "(result string (error (tuple u32 u32)))"),
        "",
        Outcome::FatalError,
        "[2048,2]",
    );
    check_fails(
        fails(1, "(result string)"),
        "",
        Outcome::FatalError,
        "the function returned an error, which says no more",
    );
}

#[test]
fn payload_that_does_not_fit_is_named_with_its_place() {
    check_fails(
        echo("(list s8)"),
        "{\"value\":[1,300]}",
        Outcome::InvalidInput,
        "payload does not fit: at `$.value[1]`: expected s8 (a whole number from -128 to 127), got 300",
    );
    let many = format!("{{\"value\":[{}0]}}", "0,".repeat(300_000));
    check_fails(
        echo("(list u16)"),
        &many,
        Outcome::InvalidInput,
        "more than 262144 values",
    );
}

#[test]
fn lies_about_lengths_and_cases_end_the_attempt() {
    for (wasm, message) in [
        (gives("(list u8)", 0, u32::MAX), "out of bounds"),
        (gives("(list u64)", 0, u32::MAX), "out of bounds"),
        (gives("(list u8)", u32::MAX, 1), "out of bounds"),
        (gives("string", 0, u32::MAX), "out of bounds"),
        (gives("(list u32)", 1, 1), "not aligned"),
        // An option is 0 or 1, a character no surrogate, and a string UTF-8.
        (gives("(option u32)", 7, 0), "discriminant"),
        (
            one(
                "",
                "",
                "(tuple char u8)",
                "(i32.store (i32.const 1024) (i32.const 0xd800)) (i32.const 1024)",
            ),
            "",
        ),
        (
            one(
                "",
                "",
                "string",
                "(i32.store (i32.const 1024) (i32.const 2048)) (i32.store (i32.const 1028) (i32.const 1)) (i32.store8 (i32.const 2048) (i32.const 255)) (i32.const 1024)",
            ),
            "",
        ),
        // Where the result is to lie.
        (one("", "", "(list u8)", "(i32.const -4)"), ""),
        (one("", "", "(list u8)", "(i32.const 1025)"), ""),
    ] {
        let finished = call(wasm, "f", "", Limits::DEFAULT);
        let said = finished
            .failure
            .map(|failure| failure.message)
            .unwrap_or_default();
        if message.is_empty() && finished.outcome == Outcome::Succeeded {
            panic!("a lie was believed: {:?}", finished.result);
        }
        assert_eq!(finished.outcome, Outcome::Trap, "{said}");
        assert!(said.contains(message), "{said}");
    }
}

#[test]
fn results_beyond_what_the_host_takes_end_the_attempt() {
    let grow = "(drop (memory.grow (i32.const 512)))";
    let large = |ty: &str, len: u32| {
        let body = format!(
            "{grow} (i32.store (i32.const 1024) (i32.const 65536)) (i32.store (i32.const 1028) (i32.const {len})) (i32.const 1024)"
        );
        one("", "", ty, &body)
    };
    // Each byte takes some tens of them in the host.
    check_fails(
        large("(list u8)", 32 << 20),
        "",
        Outcome::OutputLimit,
        "more than 16777216 bytes in the host",
    );
    check_fails(
        large("(list (list u8))", 1 << 20),
        "",
        Outcome::OutputLimit,
        "more than 16777216 bytes in the host",
    );
    // Six characters of JSON for each byte.
    check_fails(
        large("string", 2 << 20),
        "",
        Outcome::OutputLimit,
        "8388608 bytes",
    );
    // A thousand times the same megabyte.
    let again = format!(
        "{grow} (local $i i32)
         (loop $more
           (i32.store (i32.add (i32.const 8192) (i32.shl (local.get $i) (i32.const 3))) (i32.const 131072))
           (i32.store (i32.add (i32.const 8196) (i32.shl (local.get $i) (i32.const 3))) (i32.const 1048576))
           (local.set $i (i32.add (local.get $i) (i32.const 1)))
           (br_if $more (i32.lt_u (local.get $i) (i32.const 1000))))
         (i32.store (i32.const 1024) (i32.const 8192)) (i32.store (i32.const 1028) (i32.const 1000)) (i32.const 1024)"
    );
    let again = again.replacen(grow, "", 1).replacen(
        "(local $i i32)",
        &format!("(local $i i32) {grow}"),
        1,
    );
    check_fails(
        one("", "", "(list string)", &again),
        "",
        Outcome::OutputLimit,
        "",
    );
    let limits = Limits {
        output_bytes: 5,
        ..Limits::DEFAULT
    };
    let finished = call(echo("string"), "f", "{\"value\":\"four\"}", limits);
    assert_eq!(finished.outcome, Outcome::OutputLimit);
    let finished = call(echo("string"), "f", "{\"value\":\"two\"}", limits);
    assert_eq!(finished.result.as_deref(), Some(b"\"two\"".as_slice()));
}

#[test]
fn what_the_host_calls_to_pass_values_is_limited_like_the_rest() {
    let lifted = "(func (export \"f\") (param \"value\" string) (result u32)
        (canon lift (core func $m \"f\") (memory $memory) (realloc $realloc)))";
    let core = "(func (export \"f\") (param i32 i32) (result i32) (local.get 1))";
    let given = "{\"value\":\"four\"}";
    check(with(core, REALLOC, lifted), given, "4");
    for (realloc, outcome) in [
        (
            "(loop $again (br $again)) (unreachable)",
            Outcome::FuelExhausted,
        ),
        ("(unreachable)", Outcome::Trap),
        ("(i32.const -8)", Outcome::Trap),
    ] {
        check_fails(with(core, realloc, lifted), given, outcome, "");
    }
    let spins = "(func (export \"f\") (param i32 i32) (result i32) (loop $again (br $again)) (unreachable))";
    check_fails(
        with(spins, REALLOC, lifted),
        given,
        Outcome::FuelExhausted,
        "",
    );
    let grows = "(func (export \"f\") (param i32 i32) (result i32)
        (if (i32.eq (memory.grow (i32.const 60000)) (i32.const -1)) (then unreachable)) (i32.const 0))";
    check_fails(
        with(grows, REALLOC, lifted),
        given,
        Outcome::MemoryLimit,
        "",
    );
}

#[test]
fn function_is_called_for_what_comes_after_its_result() {
    let lifted = "(func (export \"f\") (result string)
        (canon lift (core func $m \"f\") (memory $memory) (realloc $realloc) (post-return (core func $m \"after\"))))";
    let after = |after: &str| {
        let core = format!(
            "(func (export \"f\") (result i32) (i32.store (i32.const 1024) (i32.const 2048)) (i32.store (i32.const 1028) (i32.const 1)) (i32.store8 (i32.const 2048) (i32.const 65)) (i32.const 1024))
             (func (export \"after\") (param i32) {after})"
        );
        with(&core, REALLOC, lifted)
    };
    // It is given the address of the result.
    let right = "(if (i32.ne (local.get 0) (i32.const 1024)) (then unreachable))";
    check(after(right), "", "\"A\"");
    check_fails(after("(unreachable)"), "", Outcome::Trap, "");
    check_fails(
        after("(loop $again (br $again))"),
        "",
        Outcome::FuelExhausted,
        "",
    );
}
