//! The modules that are called.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tq_client::{Client, Component, NewTask, Task, TaskState, Upload};

use super::random::Random;
use crate::exit::{Exit, Failure};
use crate::traceparent;

/// A component that returns its payload: `bench/echo.wat`, assembled.
pub(crate) const ECHO: &[u8] = include_bytes!("../../../bench/echo.wasm");
/// A component that waits, computes, or changes its payload: `bench/work.wat`, assembled.
const WORK: &[u8] = include_bytes!("../../../bench/work.wasm");
/// The function of [`ECHO`].
pub(crate) const ECHO_FUNCTION: &str = "echo";
/// What most tasks carry: as much as many small tasks do.
pub(crate) const PAYLOAD: &[u8] =
    br#"{"name":"Ada","note":"a payload of the size that many small tasks have"}"#;

const ECHO_MODULE: &str = "tq-bench-echo";
const WORK_MODULE: &str = "tq-bench-work";

/// Uploads the echo.
pub(crate) async fn deploy_echo(client: &Client) -> anyhow::Result<()> {
    deploy(client, ECHO_MODULE, Bytes::from_static(ECHO)).await
}

/// Uploads the one that works.
pub(crate) async fn deploy_work(client: &Client) -> anyhow::Result<()> {
    deploy(client, WORK_MODULE, Bytes::from_static(WORK)).await
}

/// Uploads a component under a name.
pub(crate) async fn deploy(client: &Client, name: &str, wasm: Bytes) -> anyhow::Result<()> {
    let upload = Upload {
        name: name.to_owned(),
        ..Upload::default()
    };
    client
        .upload_module(Component::from_bytes(wasm)?, upload, |_| {})
        .await?;
    Ok(())
}

/// A call that returns its payload.
pub(crate) fn echo() -> anyhow::Result<NewTask> {
    echo_of(ECHO_MODULE)
}

/// The same, of a module with another name.
pub(crate) fn echo_of(module: &str) -> anyhow::Result<NewTask> {
    task(module, ECHO_FUNCTION, Bytes::from_static(PAYLOAD))
}

/// A call that waits so long in its sandbox, and computes nothing.
pub(crate) fn sleep(span: Duration) -> anyhow::Result<NewTask> {
    let nanoseconds = u64::try_from(span.as_nanos())?;
    let payload = nanoseconds.to_le_bytes().to_vec();
    task(WORK_MODULE, "sleep", payload.into())
}

/// A call that goes around a loop so many times.
pub(crate) fn spin(rounds: u64) -> anyhow::Result<NewTask> {
    task(WORK_MODULE, "spin", rounds.to_le_bytes().to_vec().into())
}

/// A call that changes the first byte of its payload and returns it.
pub(crate) fn mark(payload: Bytes) -> anyhow::Result<NewTask> {
    task(WORK_MODULE, "mark", payload)
}

fn task(module: &str, function: &str, payload: Bytes) -> anyhow::Result<NewTask> {
    Ok(NewTask {
        function: format!("{module}/{function}"),
        payload,
        content_type: "application/octet-stream".to_owned(),
        traceparent: traceparent::current()?,
        ..NewTask::default()
    })
}

/// Tasks that are all alike but for what is drawn for each of them.
pub(crate) type Make = Arc<dyn Fn() -> NewTask + Send + Sync>;

/// Makes the same task again and again.
pub(crate) fn all_alike(task: NewTask) -> Make {
    Arc::new(move || task.clone())
}

/// An error if a task has not succeeded, or not with this result.
pub(crate) fn check(task: &Task, result: Option<&[u8]>) -> Result<(), Failure> {
    if task.state() != TaskState::Succeeded {
        let why = task
            .attempts
            .last()
            .and_then(crate::output::table::failure)
            .unwrap_or_default();
        let message = format!(
            "task {} of the measurement ended {}: {why}",
            task.id, task.outcome
        );
        return Err(Failure::new(Exit::Ended, message));
    }
    if result.is_some_and(|expected| task.result.as_deref() != Some(expected)) {
        let message = format!("task {} of the measurement has a wrong result", task.id);
        return Err(Failure::new(Exit::Ended, message));
    }
    Ok(())
}

/// The echo with about so many bytes of further code, drawn from `random`: a module that no host has seen. All of it is
/// compiled, and none of it is called.
pub(crate) fn large(code_bytes: usize, random: &mut Random) -> Bytes {
    let mut wasm = ECHO.to_vec();
    let module = core_module(code_bytes, random);
    // A core module, and an instance of it: the second of this component, without imports.
    section(&mut wasm, 1, &module);
    section(&mut wasm, 2, &[1, 0, 1, 0]);
    wasm.into()
}

/// A core module of functions from two numbers to one (WebAssembly core specification, chapter 5).
fn core_module(code_bytes: usize, random: &mut Random) -> Vec<u8> {
    const FUNCTION_BYTES: usize = 500;
    const I32: u8 = 0x7f;
    let functions = code_bytes.div_ceil(FUNCTION_BYTES).max(1);
    let mut module = b"\0asm\x01\0\0\0".to_vec();
    section(&mut module, 1, &[1, 0x60, 2, I32, I32, 1, I32]);
    let mut types = Vec::new();
    number(&mut types, functions);
    types.resize(types.len() + functions, 0);
    section(&mut module, 3, &types);
    let mut code = Vec::new();
    number(&mut code, functions);
    for index in 0..functions {
        // Six locals beside the two parameters.
        let mut body = vec![1, 6, I32];
        while body.len() < FUNCTION_BYTES {
            statement(&mut body, index, random);
        }
        // The result is the last local.
        body.extend([LOCAL_GET, 7, END]);
        number(&mut code, body.len());
        code.extend(body);
    }
    section(&mut module, 10, &code);
    module
}

const LOCAL_GET: u8 = 0x20;
const LOCAL_SET: u8 = 0x21;
const CALL: u8 = 0x10;
const IF: u8 = 0x04;
const NO_RESULT: u8 = 0x40;
const END: u8 = 0x0b;
/// Addition, subtraction, multiplication, and, or, exclusive or, shifts and a rotation of 32-bit numbers.
const OPERATORS: [u8; 9] = [0x6a, 0x6b, 0x6c, 0x71, 0x72, 0x73, 0x74, 0x76, 0x77];

/// Sets a local to what an operator, or an earlier function, makes of two others; at times only if a third is not 0.
fn statement(body: &mut Vec<u8>, index: usize, random: &mut Random) {
    let mut local = || u8::try_from(random.below(8)).unwrap_or(0);
    let [condition, left, right, target] = [local(), local(), local(), local()];
    let is_conditional = random.below(8) == 0;
    if is_conditional {
        body.extend([LOCAL_GET, condition, IF, NO_RESULT]);
    }
    body.extend([LOCAL_GET, left, LOCAL_GET, right]);
    if index > 0 && random.below(16) == 0 {
        body.push(CALL);
        number(body, random.below(index as u64) as usize);
    } else {
        body.push(OPERATORS[random.below(OPERATORS.len() as u64) as usize]);
    }
    body.extend([LOCAL_SET, target]);
    if is_conditional {
        body.push(END);
    }
}

fn section(out: &mut Vec<u8>, id: u8, content: &[u8]) {
    out.push(id);
    number(out, content.len());
    out.extend(content);
}

/// Unsigned LEB128.
fn number(out: &mut Vec<u8>, mut value: usize) {
    loop {
        let low = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[track_caller]
    fn check_assembled(name: &str, committed: &[u8]) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("bench")
            .join(name);
        let assembled = wat::parse_file(path.with_extension("wat")).expect("the text is valid");
        if std::env::var_os("TQ_BLESS").is_some() {
            let written = std::fs::write(path.with_extension("wasm"), &assembled);
            written.expect("the tree can be written");
            return;
        }
        assert!(
            assembled == committed,
            "bench/{name}.wasm is stale; run this test with TQ_BLESS=1"
        );
    }

    #[test]
    fn committed_components_are_their_texts_assembled() {
        check_assembled("echo", ECHO);
        check_assembled("work", WORK);
    }

    #[test]
    fn numbers_are_encoded_as_leb128() {
        for (value, expected) in [
            (0, &[0][..]),
            (127, &[127]),
            (128, &[0x80, 1]),
            (50_000, &[0xd0, 0x86, 3]),
        ] {
            let mut out = Vec::new();
            number(&mut out, value);
            assert_eq!(out, expected);
        }
    }

    #[test]
    fn large_modules_are_valid_and_their_seed_decides_them() {
        let wasm = large(50_000, &mut Random::new(3));
        assert!((50_000..60_000).contains(&wasm.len()), "{}", wasm.len());
        assert_eq!(wasm, large(50_000, &mut Random::new(3)));
        assert_ne!(wasm, large(50_000, &mut Random::new(4)));
        let compiled = tq_host::floor::compile(&wasm);
        assert!(compiled.is_ok(), "{compiled:?}");
    }
}
