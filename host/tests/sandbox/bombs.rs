//! Small components that are dear to compile: each costs one child, within its limits.

use std::time::Duration;

use bytes::Bytes;
use tempfile::TempDir;
use tq_host::component::{Cache, CompileLimits, Config};

use crate::guests::echo;
use crate::{ENGINE, RUNTIME, compiler, digest};

/// A component around one core module, which is not even instantiated.
fn bomb(module: &str) -> Bytes {
    let text = format!("(component (core module {module}))");
    Bytes::from(wat::parse_str(text).unwrap())
}

/// One `br_table` out of many nested blocks, each of which changes a local that the next one reads.
fn branches(blocks: usize, locals: usize) -> Bytes {
    let table: String = (0..blocks).map(|depth| format!("{depth} ")).collect();
    let changes: String = (0..blocks)
        .map(|n| {
            let (to, from) = (1 + n % locals, 1 + (n + 1) % locals);
            format!("end local.get {from} i32.const 1 i32.add local.set {to}\n")
        })
        .collect();
    let uses: String = (1..=locals)
        .map(|local| format!("local.get {local} drop "))
        .collect();
    bomb(&format!(
        "(func (param i32) (local {})\n{}local.get 0 br_table {table}0\n{changes}{uses})",
        "i32 ".repeat(locals),
        "block\n".repeat(blocks)
    ))
}

/// Nested loops around locals that all change in the innermost.
fn loops(loops: usize, locals: usize) -> Bytes {
    let changes: String = (1..=locals)
        .map(|local| format!("local.get {local} i32.const 1 i32.add local.set {local}\n"))
        .collect();
    bomb(&format!(
        "(func (param i32) (local {})\n{}{changes}{})",
        "i32 ".repeat(locals),
        "loop\n".repeat(loops),
        "local.get 0 br_if 0 end\n".repeat(loops)
    ))
}

/// Calls that carry many values in and out.
fn calls(count: usize, values: usize) -> Bytes {
    let types = "i32 ".repeat(values);
    bomb(&format!(
        "(func $f (param {types}) (result {types})\n{}{})",
        "i32.const 0\n".repeat(values),
        "call $f\n".repeat(count)
    ))
}

/// Functions of nothing but locals: eight bytes each, as no text could say it.
fn locals(functions: usize, locals: usize) -> Bytes {
    let section = |id: u8, content: &[u8]| {
        let mut section = vec![id];
        section.extend(number(content.len()));
        section.extend(content);
        section
    };
    let vector = |count: usize, item: &[u8]| {
        let mut vector = number(count);
        vector.extend(item.repeat(count));
        vector
    };
    // One group of locals, of type i32, and the end.
    let mut body = vec![1];
    body.extend(number(locals));
    body.extend([0x7f, 0x0b]);
    let mut sized = number(body.len());
    sized.extend(body);
    let module = [
        b"\0asm\x01\0\0\0".to_vec(),
        section(1, &[1, 0x60, 0, 0]),
        section(3, &vector(functions, &[0])),
        section(10, &vector(functions, &sized)),
    ];
    let component = [b"\0asm\x0d\0\x01\0".to_vec(), section(1, &module.concat())];
    Bytes::from(component.concat())
}

/// A number as WebAssembly writes them, seven bits in a byte.
fn number(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number > 0x7f {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

/// Each is several times over what the test allows, so that it ends alike on any machine.
#[test]
fn compile_bomb_costs_one_child_within_its_limits() {
    let nested = 400_000;
    let bombs = [
        ("branches", branches(3_000, 200)),
        ("loops", loops(1_000, 500)),
        ("calls", calls(200_000, 500)),
        ("locals", locals(4_000, 49_999)),
        (
            "nested blocks",
            bomb(&format!(
                "(func\n{}{})",
                "block\n".repeat(nested),
                "end\n".repeat(nested)
            )),
        ),
        ("functions", bomb(&"(func)".repeat(200_000))),
    ];
    let directory = TempDir::new().unwrap();
    let mut config = Config {
        directory: directory.path().to_owned(),
        compiler: compiler(),
        bytes_max: u64::MAX,
    };
    config.compiler.limits = CompileLimits {
        cpu: Duration::from_secs(1),
        memory_bytes: 128 << 20,
        ..CompileLimits::default()
    };
    let cache = Cache::open(config, ENGINE.clone()).unwrap();
    let prepare = |wasm: &Bytes| RUNTIME.block_on(cache.prepare(digest(wasm), wasm.clone()));
    let named = [
        "compiling it took more than 134217728 bytes of memory",
        "compiling it took more than 1 s of processor time",
    ];
    for (what, wasm) in &bombs {
        let error = prepare(wasm).unwrap_err();
        assert!(
            named.contains(&error.to_string().as_str()),
            "{what}: {error}"
        );
        // And no second one.
        let again = prepare(wasm).unwrap_err().to_string();
        assert!(again.ends_with("tries again in 60 min"), "{what}: {again}");
    }
    prepare(&Bytes::from(echo())).unwrap();
    assert_eq!(cache.compiled(), 1);
    assert_eq!(cache.digests(), [digest(&echo())]);
}
