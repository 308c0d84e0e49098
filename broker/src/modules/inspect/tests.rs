use proptest::prelude::*;
use tq_core::limits::{
    MODULE_ARITY_MAX, MODULE_BLOCK_DEPTH_MAX, MODULE_BRANCH_TARGETS_ALL_MAX,
    MODULE_BRANCH_TARGETS_MAX, MODULE_CORE_FUNCTIONS_MAX, MODULE_CORE_TYPES_MAX,
    MODULE_FUNCTION_BYTES_MAX, MODULE_LINKS_MAX, MODULE_LOCALS_ALL_MAX, MODULE_LOCALS_MAX,
    MODULE_NAME_BYTES_MAX, MODULE_TYPE_DEPTH_MAX, MODULE_TYPES_MAX,
};

use super::*;

/// A core module with the functions that both entries are lifted from.
const CORE: &str = r#"
    (core module $m
        (memory (export "memory") 1)
        (func (export "realloc") (param i32 i32 i32 i32) (result i32) unreachable)
        (func (export "handle") (param i32 i32 i32 i32) (result i32) unreachable)
        (func (export "main") (result i32) i32.const 0))
    (core instance $i (instantiate $m))
    (alias core export $i "memory" (core memory $memory))
    (alias core export $i "realloc" (core func $realloc))"#;

const PROGRAM: &str = r#"
    (func $main (result (result)) (canon lift (core func $i "main")))
    (instance $run (export "run" (func $main)))
    (export "wasi:cli/run@0.2.0" (instance $run))"#;

/// What toolchains write: types are named by a component that takes them in and passes them on.
const HANDLER: &str = r#"
    (type $retry (record (field "message" string) (field "after-ms" (option u64))))
    (type $task-error (variant (case "invalid-input" string) (case "retryable" $retry) (case "fatal" string)))
    (func $handle (param "function" string) (param "payload" (list u8)) (result (result (list u8) (error $task-error)))
        (canon lift (core func $i "handle") (memory $memory) (realloc $realloc)))
    (component $shim
        (type $retry-type (record (field "message" string) (field "after-ms" (option u64))))
        (import "retry" (type $retry (eq $retry-type)))
        (type $error-type (variant (case "invalid-input" string) (case "retryable" $retry) (case "fatal" string)))
        (import "task-error" (type $task-error (eq $error-type)))
        (import "handle" (func $handle (param "function" string) (param "payload" (list u8))
            (result (result (list u8) (error $task-error)))))
        (export $retry-out "retry" (type $retry))
        (type $error-out-type (variant (case "invalid-input" string) (case "retryable" $retry-out) (case "fatal" string)))
        (export $error-out "task-error" (type $task-error) (type (eq $error-out-type)))
        (export "run" (func $handle) (func (param "function" string) (param "payload" (list u8))
            (result (result (list u8) (error $error-out))))))
    (instance $handler (instantiate $shim
        (with "retry" (type $retry)) (with "task-error" (type $task-error)) (with "handle" (func $handle))))
    (export "tq:task/handler@0.1.0" (instance $handler))"#;

const DESCRIBED: &str = r#"
    (core module (@custom "tq:functions" "{\"name\":\"resize\",\"doc\":\"Makes an image smaller.\",\"input\":\"json\",\"output\":\"bytes\"}\n"))
    (component (core module (@custom "tq:functions" "{\"name\":\"crop\"}\n")))"#;

fn component(parts: &[&str]) -> Vec<u8> {
    wat::parse_str(format!("(component {})", parts.concat())).unwrap()
}

/// Reduces what was found to one line.
fn summary(bytes: &[u8], declared: &[&str]) -> Result<String, String> {
    let declared: Vec<String> = declared.iter().map(|&name| name.to_owned()).collect();
    let Inspected {
        entry,
        functions,
        uncallable: _,
        not_granted,
        adapted: _,
    } = inspect(bytes, &declared).map_err(|error| error.to_string())?;
    let names: Vec<&str> = functions.iter().map(|f| f.name.as_str()).collect();
    Ok(format!("{entry:?} {names:?} {not_granted:?}"))
}

#[track_caller]
fn check(bytes: &[u8], expected: Result<&str, &str>) {
    let got = summary(bytes, &[]);
    assert_eq!(
        got.as_ref().map(String::as_str).map_err(String::as_str),
        expected
    );
}

#[track_caller]
fn check_wat(parts: &[&str], expected: Result<&str, &str>) {
    check(&component(parts), expected);
}

#[test]
fn programs_and_handlers_are_told_apart() {
    check_wat(&[CORE, PROGRAM], Ok(r#"Program ["main"] []"#));
    check_wat(
        &[CORE, HANDLER, DESCRIBED],
        Ok(r#"Handler ["crop", "resize"] []"#),
    );
    // A binary that uses the SDK has both.
    check_wat(
        &[CORE, PROGRAM, HANDLER, DESCRIBED],
        Ok(r#"Handler ["crop", "resize"] []"#),
    );
    let handler = component(&[CORE, HANDLER]);
    assert_eq!(
        summary(&handler, &["resize"]),
        Ok(r#"Handler ["resize"] []"#.to_owned())
    );
    assert_eq!(
        summary(&handler, &[]),
        Ok(r#"Handler ["main"] []"#.to_owned())
    );
}

#[test]
fn descriptions_are_kept() {
    let found = inspect(&component(&[CORE, HANDLER, DESCRIBED]), &[]).unwrap();
    let resize = Function {
        name: "resize".to_owned(),
        doc: "Makes an image smaller.".to_owned(),
        input: Kind::Json,
        output: Kind::Bytes,
        schemas: Schemas::default(),
        typed: None,
    };
    assert!(found.functions.contains(&resize), "{found:?}");
}

#[test]
fn other_files_are_named_for_what_they_are() {
    check(b"", Err("module is empty"));
    check(
        b"#!/bin/sh\necho hello\n",
        Err(
            "module is not WebAssembly: it is text, beginning with `#!/bin/sh\\necho hello\\n`; upload the component in its binary form",
        ),
    );
    check(
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
        Err("module is not WebAssembly: it begins with the bytes 89 50 4e 47 0d 0a 1a 0a"),
    );
    check(
        b"\x1f\x8b\x08\0\0\0\0\0",
        Err(
            "module is not WebAssembly: it is a compressed archive; upload the .wasm file inside it",
        ),
    );
    check(
        b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0",
        Err(
            "module is not WebAssembly: it is a native program or library (ELF); build it for wasm32-wasip2",
        ),
    );
    check(
        b"\x7fELF\x02\x01\x01\xc8\0\0\0\0\0\0\0\0",
        Err(
            "module is a compiled form (`.cwasm`), which hosts make for themselves; upload the component itself",
        ),
    );
    check(
        b"\0asm",
        Err("module is cut off or damaged: it ends in the middle of what begins at byte 0x0"),
    );
    check(
        b"\0asm\x02\0\0\0",
        Err("module has the WebAssembly version 0x00000002; a component has 0x0001000d"),
    );
}

/// A core module with what a command for preview 1 has, and more.
fn core(more: &str) -> Vec<u8> {
    let text = format!(
        r#"(module
            (import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "proc_exit" (func (param i32)))
            {more}
            (memory (export "memory") 1))"#
    );
    wat::parse_str(text).unwrap()
}

#[test]
fn program_for_preview_1_is_made_a_component() {
    let program = core(r#"(func (export "_start"))"#);
    check(
        &program,
        Ok("Program [\"main\"] [\"wasi:filesystem/preopens\"]"),
    );
    let found = inspect(&program, &[]).unwrap();
    let made = found.adapted.as_deref().unwrap();
    assert_eq!(inspect(made, &[]).unwrap().adapted, None);
    assert_eq!(summary(made, &[]), summary(&program, &[]));
    // What was deployed once is found again.
    assert_eq!(inspect(&program, &[]), Ok(found));
}

#[test]
fn core_module_that_is_no_program_is_refused_with_what_it_lacks() {
    check(
        &core(r#"(func (export "start")) (func (export "stop"))"#),
        Err(
            "core module exports no `_start`, so it is no program of WASI preview 1; it exports `start`, `stop`, `memory`; give it a main function, or build it for wasm32-wasip2",
        ),
    );
    check(
        &core(
            r#"(import "env" "now" (func)) (import "wasi_unstable" "fd_read" (func)) (func (export "_start"))"#,
        ),
        Err(
            "core module imports what WASI preview 1 does not have: `env.now`, `wasi_unstable.fd_read`; build it for wasm32-wasip2, or without what imports that",
        ),
    );
    let got = summary(
        &core(r#"(import "wasi_snapshot_preview1" "fd_open" (func)) (func (export "_start"))"#),
        &[],
    );
    let told = "no component can be made of the core module: ";
    assert!(
        got.as_ref().is_err_and(|error| error.starts_with(told)),
        "{got:?}"
    );
    let got = summary(&core(r#"(func (export "_start") (param i32))"#), &[]);
    assert!(got.is_err(), "{got:?}");
    let got = summary(&core(r#"(func (export "_start") (result i32))"#), &[]);
    assert!(got.is_err(), "{got:?}");
}

/// A core module that is bound to a world.
fn bound(world: &str, core: &str) -> Vec<u8> {
    let mut resolve = wit_parser::Resolve::default();
    let text = format!("package a:b; world w {{ {world} }}");
    let package = resolve.push_str("w.wit", &text).unwrap();
    let world = resolve.select_world(&[package], Some("w")).unwrap();
    let mut bytes = wat::parse_str(core).unwrap();
    let encoding = wit_component::StringEncoding::UTF8;
    wit_component::embed_component_metadata(&mut bytes, &resolve, world, encoding).unwrap();
    bytes
}

#[test]
fn world_is_read_by_the_author_alone() {
    let double =
        r#"(func (export "double") (param i32) (result i32) local.get 0 local.get 0 i32.add)"#;
    let module = bound(
        "export double: func(n: u32) -> u32;",
        &format!("(module {double})"),
    );
    check(
        &module,
        Err(
            "core module has a world of its own (section `component-type`), with which the broker makes no component; deploy it with `tq deploy`, or make one with `wasm-tools component new`",
        ),
    );
    let made = adapt_world(&module).unwrap().unwrap();
    check(&made, Ok("Typed [\"double\"] []"));
    let other = bound(
        "export triple: func(n: u32) -> u32;",
        &format!("(module {double})"),
    );
    assert!(matches!(adapt_world(&other), Err(Error::Adapt { .. })));
    for other in [&made[..], b"", b"text", &core(""), b"\0asm\x01\0\0\0"] {
        assert_eq!(adapt_world(other), Ok(None));
    }
    assert!(adapt_world(b"\0asm\x01\0\0\0\x01").is_err());
}

#[test]
fn damage_is_refused_with_its_place() {
    let whole = component(&[CORE, PROGRAM]);
    let half = &whole[..whole.len() / 2];
    let got = summary(half, &[]).unwrap_err();
    assert!(
        got.starts_with(
            "module is cut off or damaged: it ends in the middle of what begins at byte 0x"
        ),
        "{got}"
    );
    check_wat(
        &["(core module (func (result i32)))"],
        Err(
            "module is not a valid component: type mismatch: expected i32 but nothing on stack (at byte 0x22)",
        ),
    );
}

#[test]
fn imports_that_nobody_offers_are_all_named() {
    check_wat(
        &[
            r#"(import "wasi:cli/environment@0.2.6" (instance))
            (import "acme:db/query@1.0.0" (instance))
            (import "wasi:clock/wall-clock@0.2.0" (instance))
            (import "wasi:io/streams@0.3.0" (instance))
            (import "fetch" (func))
            (import "lib" (core module))"#,
            CORE,
            PROGRAM,
        ],
        Err(
            "module imports what tq does not offer: `acme:db/query@1.0.0`, `wasi:clock/wall-clock@0.2.0` (did you mean \
             `wasi:clocks/wall-clock`?), `wasi:io/streams@0.3.0` (offered are 0.2.0 to 0.2.12), `fetch` (a function; only \
             interfaces are offered), `lib` (a core module; only interfaces are offered)",
        ),
    );
}

#[test]
fn types_of_a_world_are_no_imports_that_somebody_has_to_offer() {
    const TYPE: &str = r#"(type $colour-type (enum "red" "green")) (import "colour" (type $colour (eq $colour-type)))"#;
    check_wat(&[TYPE, CORE, PROGRAM], Ok(r#"Program ["main"] []"#));
    const INTERFACE: &str = r#"(import "demo:shop/types@0.1.0" (instance
        (type $t (record (field "price" f64))) (export "item" (type (eq $t)))))"#;
    check_wat(&[INTERFACE, CORE, PROGRAM], Ok(r#"Program ["main"] []"#));
    let with_function = INTERFACE.replace(
        "(export \"item\"",
        "(export \"sell\" (func)) (export \"item\"",
    );
    check_wat(
        &[&with_function, CORE, PROGRAM],
        Err("module imports what tq does not offer: `demo:shop/types@0.1.0`"),
    );
    let with_resource = INTERFACE.replace("(type (eq $t))", "(type (sub resource))");
    check_wat(
        &[&with_resource, CORE, PROGRAM],
        Err("module imports what tq does not offer: `demo:shop/types@0.1.0`"),
    );
    check_wat(
        &[r#"(import "file" (type (sub resource)))"#, CORE, PROGRAM],
        Err(
            "module imports what tq does not offer: `file` (a resource; only interfaces are offered)",
        ),
    );
}

#[test]
fn long_list_of_imports_stays_a_short_message() {
    let imports: String = (0..150)
        .map(|n| format!("(import \"acme:{}/i{n}\" (instance))", "long".repeat(50)))
        .collect();
    let got = summary(&component(&[&imports, CORE, PROGRAM]), &[]).unwrap_err();
    assert!(got.len() < 4096, "{} bytes", got.len());
    assert!(got.ends_with("and 130 more"), "{got}");
}

#[test]
fn capabilities_are_listed_and_not_refused() {
    check_wat(
        &[
            r#"(import "wasi:sockets/tcp@0.2.9" (instance))
            (import "wasi:http/outgoing-handler@0.2.3" (instance))
            (import "wasi:http/outgoing-handler@0.2.4" (instance))
            (import "wasi:filesystem/preopens@0.2.0" (instance))
            (import "wasi:filesystem/types@0.2.0" (instance))
            (import "tq:task/runtime@0.1.0" (instance))"#,
            CORE,
            PROGRAM,
        ],
        Ok(
            r#"Program ["main"] ["wasi:filesystem/preopens", "wasi:http/outgoing-handler", "wasi:sockets/tcp"]"#,
        ),
    );
}

#[test]
fn imports_inside_are_nobody_elses_business() {
    check_wat(
        &[
            r#"(component (import "acme:db/query@1.0.0" (instance)))"#,
            CORE,
            PROGRAM,
        ],
        Ok(r#"Program ["main"] []"#),
    );
}

#[test]
fn component_without_an_entry_is_refused_with_its_exports() {
    const NEITHER: &str = "module exports neither `tq:task/handler@0.1.0` nor `wasi:cli/run@0.2.0`, and no function that can be called with JSON; it exports ";
    let refused = |parts: &[&str], exports: &str| {
        check_wat(parts, Err(&format!("{NEITHER}{exports}")));
    };
    refused(&[], "nothing");
    // A program for another version is no function to be called by name.
    let other = PROGRAM.replace("wasi:cli/run@0.2.0", "wasi:cli/run@0.1.0");
    refused(&[CORE, &other], "`wasi:cli/run@0.1.0`");
    refused(
        &[
            CORE,
            r#"(type $r (resource (rep i32))) (export $file "file" (type $r))
            (func (export "open") (result (own $file)) (canon lift (core func $i "main")))"#,
        ],
        "`file`, `open`; of the functions in it, `open`: it has a resource in its types, which no JSON stands for",
    );
    check_wat(
        &[CORE, &other, r#"(export "answer" (func $main))"#],
        Ok(r#"Typed ["answer"] []"#),
    );
}

/// Functions of the component itself and of two interfaces, with types that have names.
const TYPED: &str = r#"
    (core module $t
        (memory (export "memory") 1)
        (func (export "realloc") (param i32 i32 i32 i32) (result i32) unreachable)
        (func (export "add") (param i32 i32) (result i32) unreachable)
        (func (export "size") (param i32 i32) (result i32) unreachable))
    (core instance $c (instantiate $t))
    (alias core export $c "memory" (core memory $mem))
    (alias core export $c "realloc" (core func $re))
    (func $add (param "a" s32) (param "b" s32) (result s32) (canon lift (core func $c "add")))
    (func $text (param "of" string) (result (result u32)) (canon lift (core func $c "size") (memory $mem) (realloc $re)))
    (export "add" (func $add))
    (instance $one (export "add" (func $add)) (export "text" (func $text)))
    (export "demo:a/one@1.0.0" (instance $one))
    (instance $two (export "other" (func $add)))
    (export "demo:a/two" (instance $two))"#;

#[test]
fn exports_of_a_component_without_an_entry_are_its_functions() {
    let found = inspect(&component(&[TYPED]), &["text".to_owned()]).unwrap();
    assert_eq!(found.entry, Entry::Typed);
    let shown = found.functions.iter().map(|function| {
        let typed = function.typed.as_ref().unwrap();
        format!(
            "{} = {} = {}",
            function.name,
            typed.full_name(),
            typed.signature()
        )
    });
    assert_eq!(
        shown.collect::<Vec<_>>(),
        [
            "add = add = add: func(a: s32, b: s32) -> s32",
            "demo:a/one@1.0.0#add = demo:a/one@1.0.0#add = add: func(a: s32, b: s32) -> s32",
            "other = demo:a/two#other = other: func(a: s32, b: s32) -> s32",
            "text = demo:a/one@1.0.0#text = text: func(of: string) -> result<u32>",
        ]
    );
    assert!(found.uncallable.is_empty());
    // Where there is an entry, it is called.
    check_wat(&[TYPED, CORE, PROGRAM], Ok(r#"Program ["main"] []"#));
    assert_eq!(
        summary(&component(&[TYPED]), &["ad".to_owned().as_str()]).unwrap_err(),
        "tq.toml has a section for the function `ad`, which is not in the module; did you mean `add`?"
    );
}

/// Types that double with each line: 2^16 in a function, from a few hundred bytes.
#[test]
fn types_that_grow_when_they_are_written_out_are_not_called() {
    let doubled: String = (1..16)
        .map(|n| format!("(type $t{n} (tuple $t{0} $t{0}))", n - 1))
        .collect();
    let function = |name: &str, ty: &str| {
        format!(
            r#"(func (export "{name}") (param "x" {ty}) (canon lift (core func $g "f") (memory $gm) (realloc $gr)))"#
        )
    };
    let core = r#"(core module $gc (memory (export "m") 1) (func (export "r") (param i32 i32 i32 i32) (result i32) unreachable)
            (func (export "f") (param i32)))
        (core instance $g (instantiate $gc)) (alias core export $g "m" (core memory $gm)) (alias core export $g "r" (core func $gr))"#;
    let text = format!(
        "{core} (type $t0 (tuple u8 u8)) {doubled} {}",
        function("f", "$t15")
    );
    let bytes = component(&[
        &text,
        r#"(core module $k (func (export "k"))) (core instance $ki (instantiate $k)) (func (export "k") (canon lift (core func $ki "k")))"#,
    ]);
    let found = inspect(&bytes, &[]).unwrap();
    assert_eq!(found.functions.len(), 1);
    assert_eq!(
        found.uncallable,
        [Uncallable {
            name: "f".to_owned(),
            why: "it has more than 1000 types, each counted wherever it stands".to_owned(),
        }]
    );
}

#[test]
fn entry_of_another_type_is_refused() {
    let handler = "module exports `tq:task/handler@0.1.0`, but not as tq calls it: it has no `run: func(function: string, \
                   payload: list<u8>) -> result<list<u8>, task-error>`";
    check_wat(
        &[
            CORE,
            &PROGRAM.replace("wasi:cli/run@0.2.0", "tq:task/handler@0.1.0"),
        ],
        Err(handler),
    );
    check_wat(
        &[CORE, &HANDLER.replace("fatal", "final"), DESCRIBED],
        Err(handler),
    );
    check_wat(
        &[r#"(instance $i) (export "tq:task/handler@0.1.0" (instance $i))"#],
        Err(handler),
    );
    check_wat(
        &[
            CORE,
            r#"(func $main (result u32) (canon lift (core func $i "main")))
            (instance $run (export "run" (func $main)))
            (export "wasi:cli/run@0.2.0" (instance $run))"#,
        ],
        Err(
            "module exports `wasi:cli/run@0.2.0`, but not as tq calls it: it has no `run: func() -> result`",
        ),
    );
}

#[test]
fn parts_of_webassembly_that_hosts_do_not_run_are_refused_by_name() {
    let refused = |part: &str, proposal: &str| {
        let got = summary(&component(&[part]), &[]).unwrap_err();
        assert!(
            got.starts_with(&format!("module uses `{proposal}`, a part of WebAssembly")),
            "{part}: {got}"
        );
    };
    refused("(core module (type (struct (field i32))))", "gc");
    refused("(core module (func (param externref)))", "gc types");
    refused(
        "(core module (type $f (func)) (func (param (ref $f))))",
        "function references",
    );
    refused("(core module (tag))", "exceptions");
    refused("(core module (memory 1 1 shared))", "threads");
    refused(
        "(core module (memory 1) (func (drop (i32.atomic.load (i32.const 0)))))",
        "threads",
    );
    refused("(core module (memory i64 1))", "memory64");
    refused("(core module (func $f (return_call $f)))", "tail call");
    refused(
        "(core module (func (param i64 i64) (result i64 i64) (i64.mul_wide_u (local.get 0) (local.get 1))))",
        "wide arithmetic",
    );
    refused("(core module (memory 1 (pagesize 1)))", "custom page sizes");
    refused(
        "(core module (type $f (func)) (type $c (cont $f)))",
        "stack switching",
    );
    refused("(type (stream u8))", "component model async");
    refused("(type (func async))", "component model async");
    refused("(type (list u8 4))", "component model fixed length lists");
    refused("(type (map string u8))", "component model map");
    refused("(type error-context)", "component model error context");
}

#[test]
fn what_compilers_emit_is_accepted() {
    for part in [
        "(core module (memory 1) (memory 1) (table 1 funcref) (table 1 funcref))",
        "(core module (func (result i32 i32) i32.const 1 i32.const 2))",
        "(core module (func (param v128) (result v128) local.get 0 local.get 0 i8x16.add))",
        "(core module (func (param v128) (result v128) local.get 0 local.get 0 i8x16.relaxed_swizzle))",
        "(core module (memory 1) (func (memory.fill (i32.const 0) (i32.const 0) (i32.const 9))))",
        "(core module (global i32 (i32.add (i32.const 1) (i32.const 2))))",
        "(core module (func (param f32) (result i64) local.get 0 i64.trunc_sat_f32_s i64.extend8_s))",
    ] {
        check_wat(&[part, CORE, PROGRAM], Ok(r#"Program ["main"] []"#));
    }
}

#[track_caller]
fn check_limit(parts: &[&str], what: &str, max: usize) {
    let got = summary(&component(parts), &[]).unwrap_err();
    let expected = format!("module has {} {what}, over the limit of {max}", max + 1);
    assert_eq!(got, expected);
}

#[test]
fn amounts_are_limited() {
    check_limit(
        &["(core module)".repeat(MODULE_PARTS_MAX + 1).as_str()],
        "parts (core modules and nested components)",
        MODULE_PARTS_MAX,
    );
    let imports: String = (0..=MODULE_IMPORTS_MAX)
        .map(|n| format!("(import \"a:b/c{n}\" (instance))"))
        .collect();
    check_limit(&[&imports], "imports", MODULE_IMPORTS_MAX);
    let half = format!(
        "(core module {})",
        "(func)".repeat(MODULE_CORE_FUNCTIONS_MAX / 2)
    );
    check_limit(
        &[&half, &half, "(core module (func))"],
        "core functions",
        MODULE_CORE_FUNCTIONS_MAX,
    );
    // One byte declares that there are no locals, and one ends the function.
    let long = format!(
        "(core module (func {}))",
        "nop ".repeat(MODULE_FUNCTION_BYTES_MAX - 1)
    );
    check_limit(
        &[&long],
        "bytes in one core function",
        MODULE_FUNCTION_BYTES_MAX,
    );
    let types = "(type (func (param i32)))".repeat(MODULE_CORE_TYPES_MAX / 2);
    check_limit(
        &[
            &format!("(core module {types})"),
            &format!("(core module {types} (type (func)))"),
        ],
        "core types",
        MODULE_CORE_TYPES_MAX,
    );
    let (params, results) = ("i32 ".repeat(MODULE_ARITY_MAX), "(result i32)");
    check_limit(
        &[&format!(
            "(core module (type (func (param {params}) {results})))"
        )],
        "parameters and results of one core function",
        MODULE_ARITY_MAX,
    );
    let exports: String = (0..=MODULE_LINKS_MAX)
        .map(|n| format!("(export \"{n}\" (func $f))"))
        .collect();
    check_limit(
        &[&format!("(core module (func $f) {exports})")],
        "imports and exports of core modules",
        MODULE_LINKS_MAX,
    );
    for named in [
        "(core module (import \"NAME\" \"f\" (func)))",
        "(core module (import \"a\" \"NAME\" (func)))",
        "(core module (func (export \"NAME\")))",
        "(import \"NAME\" (func))",
        "(type $t u8) (export \"NAME\" (type $t))",
    ] {
        check_limit(
            &[&named.replace("NAME", &"n".repeat(MODULE_NAME_BYTES_MAX + 1))],
            "bytes in a name of an import or export",
            MODULE_NAME_BYTES_MAX,
        );
    }
    let big = vec![0; MODULE_BYTES_MAX + 1];
    check(
        &big,
        Err("module has 67108865 bytes, over the limit of 67108864 bytes"),
    );
}

#[test]
fn what_makes_code_dear_to_compile_is_limited() {
    let locals = |count: usize| format!("(local {})", "i32 ".repeat(count));
    check_limit(
        &[&format!(
            "(core module (func {}))",
            locals(MODULE_LOCALS_MAX + 1)
        )],
        "locals in one core function",
        MODULE_LOCALS_MAX,
    );
    let function = format!("(func {})", locals(MODULE_LOCALS_MAX));
    let functions = function.repeat(MODULE_LOCALS_ALL_MAX / MODULE_LOCALS_MAX);
    check_limit(
        &[&format!("(core module {functions} (func (local i32)))")],
        "locals in all core functions",
        MODULE_LOCALS_ALL_MAX,
    );
    // The function itself is the outermost block.
    let depth = MODULE_BLOCK_DEPTH_MAX;
    let nested = format!("\n{}{}", "block\n".repeat(depth), "end\n".repeat(depth));
    check_limit(
        &[&format!("(core module (func {nested}))")],
        "levels of nested blocks",
        MODULE_BLOCK_DEPTH_MAX,
    );
    // One target of each is the default, which is not counted.
    let branches = |count: usize| format!("i32.const 0 br_table {} 0\n", "0 ".repeat(count));
    check_limit(
        &[&format!(
            "(core module (func {}))",
            branches(MODULE_BRANCH_TARGETS_MAX + 1)
        )],
        "targets of one `br_table`",
        MODULE_BRANCH_TARGETS_MAX,
    );
    let function = format!("(func {})", branches(MODULE_BRANCH_TARGETS_MAX));
    let functions = function.repeat(MODULE_BRANCH_TARGETS_ALL_MAX / MODULE_BRANCH_TARGETS_MAX);
    check_limit(
        &[&format!("(core module {functions} (func {}))", branches(1))],
        "targets of all `br_table`",
        MODULE_BRANCH_TARGETS_ALL_MAX,
    );
}

/// A component that lifts a function so often, whose parameter is of the last of these types.
fn lifting(types: &[String], params: &str, lifts: usize) -> Vec<u8> {
    let last = types.len() - 1;
    let types = types.iter().enumerate();
    let types: String = types
        .map(|(index, ty)| format!("(type $t{index} {ty})"))
        .collect();
    let lift = "(func (type $f) (canon lift (core func $i \"f\")))".repeat(lifts);
    component(&[
        &types,
        &format!("(type $f (func (param \"x\" $t{last})))"),
        &format!("(core module $m (func (export \"f\") (param {params})))"),
        "(core instance $i (instantiate $m))",
        &lift,
    ])
}

#[test]
fn functions_of_types_that_grow_with_each_level_are_refused() {
    let mut types = vec!["(enum \"a\")".to_owned()];
    types.extend((0..11).map(|of| {
        let cases = ["a", "b", "c"].map(|case| format!("(case \"{case}\" $t{of})"));
        format!("(variant {})", cases.concat())
    }));
    let bytes = lifting(&types, &"i32 ".repeat(12), 200);
    let got = summary(&bytes, &[]).unwrap_err();
    let told = "values in the types of functions that are lifted or lowered, each counted wherever it stands, over the limit of 10000000";
    assert!(got.contains(told), "{got}");
}

#[test]
fn values_nested_in_values_are_refused_before_anything_recurses_on_them() {
    let mut types = vec!["(record (field \"a\" u8))".to_owned()];
    types.extend((0..MODULE_TYPES_MAX - 10).map(|of| format!("(record (field \"a\" $t{of}))")));
    let bytes = lifting(&types, "i32", 1);
    let got = summary(&bytes, &[]).unwrap_err();
    let told = "module is not a valid component: type nesting is too deep (at byte 0x";
    assert!(got.starts_with(told), "{got}");
}

/// A component with one section of types in which each holds the next.
fn nested_types(depth: usize) -> Vec<u8> {
    const TYPE_SECTION: u8 = 7;
    // An instance type with one declaration, which is a type.
    let mut contents = vec![1];
    contents.extend([0x42, 1, 1].repeat(depth - 1));
    contents.extend([0x42, 0]);
    let mut bytes = b"\0asm\x0d\0\x01\0".to_vec();
    bytes.push(TYPE_SECTION);
    let mut len = contents.len();
    while len > 0x7f {
        bytes.push(len as u8 | 0x80);
        len >>= 7;
    }
    bytes.push(len as u8);
    bytes.extend(contents);
    bytes
}

#[test]
fn nested_types_do_not_overflow_the_stack() {
    let no_entry = summary(&component(&[]), &[]);
    assert_eq!(summary(&nested_types(MODULE_TYPE_DEPTH_MAX), &[]), no_entry);
    for depth in [MODULE_TYPE_DEPTH_MAX + 1, 1_000_000] {
        check(
            &nested_types(depth),
            Err("module has 33 levels of nested types, over the limit of 32"),
        );
    }
    let many =
        "(type (instance (type u8) (type u8) (export \"a\" (func)) (alias outer 1 0 (type))))"
            .repeat(5_000);
    check_limit(
        &["(type u8)", &many],
        "component types and declarations",
        MODULE_TYPES_MAX,
    );
}

#[test]
fn cut_component_is_never_taken_for_another() {
    let whole = component(&[DESCRIBED, CORE, HANDLER]);
    let found = inspect(&whole, &[]).unwrap();
    let mut passed = 0;
    for len in 0..whole.len() {
        // At the very end stand the names of things, which a component does without.
        if let Ok(cut) = inspect(&whole[..len], &[]) {
            assert_eq!(cut, found, "the first {len} bytes");
            passed += 1;
        }
    }
    assert!(passed <= 1, "{passed} cuts pass");
}

#[test]
fn types_that_are_copied_often_are_refused() {
    let refused = |part: &str| {
        let got = summary(&component(&[part]), &[]).unwrap_err();
        assert!(
            got.contains(
                "bytes of types, each counted as often as it is used, over the limit of 4194304"
            ),
            "{got}"
        );
    };
    let repeat =
        |count: usize, item: &dyn Fn(usize) -> String| (0..count).map(item).collect::<String>();
    let exports = repeat(10_000, &|n| format!("(export \"e{n}\" (func $f))"));
    let instances = "(instance (instantiate $c (with \"f\" (func $f))))".repeat(999);
    refused(&format!(
        "(component $c (import \"f\" (func $f)) {exports}) (import \"f\" (func $f)) {instances}"
    ));
    let resources = repeat(4_000, &|n| {
        format!("(export \"r{n}\" (type (sub resource)))")
    });
    let imports = repeat(200, &|n| {
        format!("(import \"a:b/c{n}\" (instance (type $t)))")
    });
    refused(&format!("(type $t (instance {resources})) {imports}"));
    let fields = repeat(9_000, &|n| format!("(field \"f{n}\" u8)"));
    let copies = repeat(5_000, &|n| format!("(export \"e{n}\" (type (eq $t)))"));
    refused(&format!(
        "(type (component (type $t (record {fields})) {copies}))"
    ));
}

/// The sections of real components, with every kind of declaration that there is.
fn samples() -> Vec<Vec<u8>> {
    let types = r#"
        (type (component (import "a" (func (param "x" string))) (type $r (record (field "y" (tuple u8 char))))
            (export "b" (type (eq $r))) (type (instance (export "c" (type (sub resource)))))
            (core type (module (import "m" "f" (func)) (export "g" (memory 1))))))
        (type (resource (rep i32)))
        (core type (func (param i64)))
        (component (type $t (flags "a" "b")) (export "t" (type $t)))"#;
    vec![
        component(&[CORE, PROGRAM]),
        component(&[CORE, HANDLER, DESCRIBED]),
        component(&[
            r#"(import "wasi:io/streams@0.2.0" (instance (export "input-stream" (type (sub resource)))))"#,
            types,
            CORE,
            PROGRAM,
        ]),
    ]
}

#[test]
fn samples_are_valid() {
    for sample in samples() {
        assert!(inspect(&sample, &[]).is_ok());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_096))]

    #[test]
    fn damaged_components_do_not_panic(
        sample in 0..3_usize,
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..4_u8), 1..6),
    ) {
        let mut bytes = samples().swap_remove(sample);
        for (at, byte, kind) in edits {
            let at = at.index(bytes.len());
            match kind {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                2 => drop(bytes.remove(at)),
                // A run of the component again, somewhere else.
                _ => {
                    let run = bytes[at..(at + usize::from(byte)).min(bytes.len())].to_vec();
                    bytes.splice(8..8, run);
                }
            }
        }
        // Either answer will do.
        drop(inspect(&bytes, &[]));
    }

    #[test]
    fn any_bytes_do_not_panic(bytes: Vec<u8>) {
        prop_assert!(inspect(&bytes, &[]).is_err());
        prop_assert!(inspect(&[b"\0asm\x0d\0\x01\0", &bytes[..]].concat(), &[]).is_err());
    }
}
