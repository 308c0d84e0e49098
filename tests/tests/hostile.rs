//! The hostile corpus: guests and uploads that attack the node that takes them. Each has a number and a name, and an
//! end that is named exactly. Of every case it is also checked that an honest neighbour's tasks go on meanwhile, that
//! the node's memory comes back to what it was, and that nothing in it panicked.
//!
//! Guests are in `tests/hostile/guests`; files that are no guests are made here. The numbers that are missing have tests of
//! their own: 21 to 28 are requests (`egress.rs`), 34 crashes its runner (`runners.rs`), 43 swaps what a digest names
//! (`host/tests/sandbox/cache.rs`), and 44 to 46 attack the API, no sandbox.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::AssertUnwindSafe;

use bytes::Bytes;
use futures_util::FutureExt as _;
use tempfile::TempDir;
use tq_client::{Client, Component, NewTask, Task, Upload, Watch, Watching};
use tq_proto::v1::{LimitOverrides, RetryOverrides};
use tq_tests::{Dev, eventually, within};

/// What hosts offer, lowered into the instance `$host`, and the same as a core module imports it.
const IMPORTS: &str = include_str!("../hostile/imports.wat");
const CORE_IMPORTS: &str = include_str!("../hostile/core-imports.wat");

/// Tasks of the neighbour that have to succeed beside each case.
const NEIGHBOURS: usize = 20;
/// What a node may hold more, after all that a case made it hold is gone, than before the first case. Allocators keep
/// some of what they had; a payload or a guest's memory (128 MiB) kept for good would show.
const GROWTH_BYTES_MAX: u64 = 64 << 20;

const HANDLER: &str = r#"
  (func $run (param "function" string) (param "payload" (list u8)) (result (result (list u8) (error $task-error)))
    (canon lift (core func $main "run") (memory $m) (realloc $realloc)))
  (instance $run (export "run" (func $run)))
  (export "tq:task/handler@0.1.0" (instance $run))"#;
const PROGRAM: &str = r#"
  (func $run (result (result)) (canon lift (core func $main "run")))
  (instance $run (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $run))"#;
/// The error of a handler, for components that import nothing.
const TASK_ERROR: &str = r#"
  (import "tq:task/types@0.1.0" (instance $types
    (type $r (record (field "message" string) (field "after-ms" (option u64)))) (export "retry" (type $retry (eq $r)))
    (type $t (variant (case "invalid-input" string) (case "retryable" $retry) (case "fatal" string)))
    (export "task-error" (type (eq $t)))))
  (alias export $types "task-error" (type $task-error))"#;

/// What a file in `guests` is a part of.
#[derive(Clone, Copy)]
enum Form {
    /// The inside of the core function that a handler is lifted from; `unreachable` follows it.
    Body,
    /// The inside of a handler's core module.
    Handler,
    /// The inside of a program's core module.
    Program,
    /// The inside of a program that is a component without the usual imports.
    BareProgram,
    /// Likewise of a handler.
    BareHandler,
}

fn component(form: Form, text: &str) -> Bytes {
    let with_imports = |body: &str, entry: &str| {
        format!(
            "(component {IMPORTS} (core module $main {CORE_IMPORTS} {body} (export \"run\" (func $run)))
             (core instance $main (instantiate $main (with \"host\" (instance $host)))) {entry})"
        )
    };
    let whole = match form {
        Form::Body => {
            let body = format!(
                "(func $run (param $function i32) (param $function-len i32) (param $payload i32)
                   (param $payload-len i32) (result i32) {text} unreachable)
                 (data (i32.const 8192) \"\\1b[2J\\0d\\0a{{\\22level\\22:\\22ERROR\\22}}\\00\\e2\\80\\ae\\ff\\fe<script>\")"
            );
            with_imports(&body, HANDLER)
        }
        Form::Handler => with_imports(text, HANDLER),
        Form::Program => with_imports(text, PROGRAM),
        Form::BareProgram => format!("(component {text} {PROGRAM})"),
        Form::BareHandler => format!("(component {TASK_ERROR} {text} {HANDLER})"),
    };
    wat::parse_str(&whole)
        .unwrap_or_else(|error| panic!("{error}"))
        .into()
}

/// How a case has to end.
enum End {
    /// Deployed and run, it ends with this outcome.
    Outcome(&'static str),
    /// It is not even taken, and this is in the reason.
    Refused(&'static str),
}

/// Which end of the corpus a case is from.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    /// At run time.
    Guest,
    /// By what is uploaded.
    Upload,
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Guest => "guests",
            Self::Upload => "uploads",
        })
    }
}

struct Case {
    number: u32,
    name: &'static str,
    class: Class,
    bytes: Bytes,
    limited: Limited,
    end: End,
}

/// What a case is limited by, beside the defaults.
#[derive(Clone, Copy)]
enum Limited {
    /// It ends by its fuel, or by what it does before.
    Fuel,
    /// It ends by its time: it waits for its host most of it, or a call takes so long that little fuel is used.
    Time,
    /// It ends by the calls that it makes of its host.
    Calls,
}

impl Limited {
    fn limits(self) -> LimitOverrides {
        let none = LimitOverrides::default();
        match self {
            Self::Fuel => LimitOverrides {
                fuel: Some(20_000_000),
                ..none
            },
            Self::Time => LimitOverrides {
                timeout_ms: Some(300),
                ..none
            },
            Self::Calls => LimitOverrides {
                host_calls: Some(10_000),
                ..none
            },
        }
    }
}

macro_rules! guest {
    ($number:literal, $name:literal, $form:ident, $limited:expr, $end:expr) => {
        Case {
            number: $number,
            name: $name,
            class: Class::Guest,
            bytes: component(
                Form::$form,
                include_str!(concat!("../hostile/guests/", $name, ".wat")),
            ),
            limited: $limited,
            end: $end,
        }
    };
}

fn guests() -> Vec<Case> {
    use End::Outcome;
    use Limited::{Calls, Fuel, Time};
    vec![
        guest!(1, "spin", Body, Fuel, Outcome("fuel_exhausted")),
        guest!(
            2,
            "spin_in_start",
            BareProgram,
            Fuel,
            Outcome("fuel_exhausted")
        ),
        guest!(
            3,
            "spin_in_realloc",
            BareHandler,
            Fuel,
            Outcome("fuel_exhausted")
        ),
        guest!(5, "bulk_copy", Body, Fuel, Outcome("fuel_exhausted")),
        guest!(6, "grow_max", Body, Fuel, Outcome("memory_limit")),
        guest!(
            7,
            "many_memories",
            BareProgram,
            Fuel,
            Outcome("memory_limit")
        ),
        guest!(8, "table_bomb", BareProgram, Calls, Outcome("memory_limit")),
        guest!(
            8,
            "table_minimum",
            BareProgram,
            Fuel,
            Outcome("compile_failed")
        ),
        guest!(
            9,
            "deep_recursion",
            Handler,
            Fuel,
            Outcome("stack_overflow")
        ),
        guest!(
            10,
            "deep_hostcall",
            Handler,
            Fuel,
            Outcome("stack_overflow")
        ),
        guest!(11, "handle_flood", Body, Fuel, Outcome("handle_limit")),
        guest!(11, "timer_flood", Body, Fuel, Outcome("handle_limit")),
        guest!(12, "poll_flood", Body, Calls, Outcome("handle_limit")),
        guest!(12, "poll_empty", Body, Time, Outcome("trap")),
        guest!(12, "timer_zero", Body, Calls, Outcome("host_call_limit")),
        guest!(13, "timer_far", Body, Time, Outcome("timeout")),
        guest!(14, "rand_bomb", Body, Fuel, Outcome("host_limit")),
        guest!(14, "rand_drip", Body, Calls, Outcome("random_limit")),
        guest!(15, "stdout_flood", Program, Time, Outcome("output_limit")),
        guest!(15, "stderr_flood", Body, Calls, Outcome("host_call_limit")),
        guest!(15, "log_flood", Body, Calls, Outcome("host_call_limit")),
        guest!(
            15,
            "progress_flood",
            Body,
            Calls,
            Outcome("host_call_limit")
        ),
        guest!(
            15,
            "checkpoint_flood",
            Body,
            Calls,
            Outcome("host_call_limit")
        ),
        guest!(16, "empty_writes", Body, Calls, Outcome("host_call_limit")),
        guest!(17, "ansi_log", Body, Fuel, Outcome("succeeded")),
        guest!(18, "big_result", Body, Fuel, Outcome("trap")),
        guest!(18, "result_beyond", Body, Fuel, Outcome("trap")),
        guest!(18, "result_misplaced", Body, Fuel, Outcome("trap")),
        guest!(18, "hostcall_bytes", Body, Fuel, Outcome("host_limit")),
        guest!(
            19,
            "records_flood",
            BareProgram,
            Fuel,
            Outcome("host_limit")
        ),
        guest!(20, "error_not_utf8", Body, Fuel, Outcome("trap")),
        guest!(29, "fs_escape", BareProgram, Fuel, Outcome("succeeded")),
        guest!(30, "sock_open", BareProgram, Fuel, Outcome("succeeded")),
        guest!(31, "env_probe", Body, Fuel, Outcome("succeeded")),
        guest!(33, "spectre_timer", BareProgram, Fuel, Outcome("succeeded")),
        guest!(36, "late_result", Body, Time, Outcome("timeout")),
        guest!(37, "big_error", Body, Fuel, Outcome("fatal_error")),
        guest!(37, "exit_without_result", Body, Fuel, Outcome("no_result")),
    ]
}

/// An upload that is refused, and by which words.
fn upload(number: u32, name: &'static str, bytes: impl Into<Bytes>, refused: &'static str) -> Case {
    Case {
        number,
        name,
        class: Class::Upload,
        bytes: bytes.into(),
        limited: Limited::Fuel,
        end: End::Refused(refused),
    }
}

fn text(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap_or_else(|error| panic!("{error}"))
}

/// A component that is one section of types, in which each holds the next.
fn nested_types(depth: usize) -> Vec<u8> {
    const TYPE_SECTION: u8 = 7;
    let mut contents = vec![1];
    // An instance type with one declaration, which is a type.
    contents.extend([0x42, 1, 1].repeat(depth - 1));
    contents.extend([0x42, 0]);
    let mut bytes = b"\0asm\x0d\0\x01\0".to_vec();
    bytes.push(TYPE_SECTION);
    let mut len = contents.len();
    while len > 0x7f {
        bytes.push((len & 0x7f) as u8 | 0x80);
        len >>= 7;
    }
    bytes.push(len as u8);
    bytes.extend(contents);
    bytes
}

fn uploads() -> Vec<Case> {
    let cut = {
        let whole = component(Form::Body, "unreachable");
        whole.slice(..whole.len() / 2)
    };
    let aliases: String = (1..40)
        .map(|n| format!("(type $t{n} (tuple $t{0} $t{0}))", n - 1))
        .collect();
    vec![
        upload(
            4,
            "fuel_callref",
            text(
                "(component (core module (type $f (func)) (func (param (ref null $f)) (call_ref $f (local.get 0)))))",
            ),
            "`function references`",
        ),
        upload(38, "empty", Bytes::new(), "module is empty"),
        upload(38, "random", vec![0x5a; 4096], "module is not WebAssembly"),
        upload(38, "truncated", cut, "cut off or damaged"),
        upload(
            38,
            "core_module",
            text("(module (func))"),
            "core module exports no `_start`",
        ),
        upload(
            38,
            "wrong_version",
            &b"\0asm\x02\0\0\0"[..],
            "version 0x00000002",
        ),
        upload(
            38,
            "compiled",
            &b"\x7fELF\x02\x01\x01\xc8\0\0\0\0\0\0\0\0"[..],
            "compiled form",
        ),
        upload(
            39,
            "many_functions",
            text(&format!(
                "(component (core module {}))",
                "(func)".repeat(200_001)
            )),
            "core functions, over the limit",
        ),
        upload(
            39,
            "long_function",
            text(&format!(
                "(component (core module (func {})))",
                "nop ".repeat(1 << 20)
            )),
            "bytes in one core function, over the limit",
        ),
        upload(
            39,
            "many_locals",
            text(&format!(
                "(component (core module (func (local {}))))",
                "i64 ".repeat(50_001)
            )),
            "locals in one core function, over the limit",
        ),
        upload(
            40,
            "deep_types",
            nested_types(100_000),
            "levels of nested types",
        ),
        upload(
            40,
            "many_types",
            text(&format!("(component {})", "(type u8)".repeat(20_001))),
            "component types and declarations, over the limit",
        ),
        upload(
            40,
            "doubled_types",
            text(&format!("(component (type $t0 (tuple u8 u8)) {aliases})")),
            "type",
        ),
        upload(
            40,
            "huge_name",
            text(&format!(
                "(component (import \"a:b/{}\" (instance)))",
                "c".repeat(1_000_000)
            )),
            "string size out of bounds",
        ),
        upload(
            41,
            "import_probe",
            text(
                "(component (import \"acme:db/query@1.0.0\" (instance)) (import \"wasi:io/streams@0.3.0\" (instance)))",
            ),
            "`acme:db/query@1.0.0`, `wasi:io/streams@0.3.0` (offered are",
        ),
        upload(
            42,
            "gzip",
            &b"\x1f\x8b\x08\0\0\0\0\0"[..],
            "compressed archive",
        ),
        upload(
            42,
            "zip",
            &b"PK\x03\x04\x14\0\0\0"[..],
            "compressed archive",
        ),
        upload(
            42,
            "zstd",
            &b"\x28\xb5\x2f\xfd\x04\0"[..],
            "module is not WebAssembly",
        ),
    ]
}

/// A node that the corpus is let loose on.
struct Node {
    dev: Dev,
    client: Client,
    base_bytes: u64,
    _folder: TempDir,
}

impl Node {
    /// Starts `tq dev` with further flags, which say how it runs guests.
    async fn start(flags: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let dev = Dev::start_with(&folder.path().join("data"), 2, flags).await;
        let client = dev.client().await;
        let node = Self {
            base_bytes: 0,
            dev,
            client,
            _folder: folder,
        };
        let echo = component(
            Form::Body,
            "(i32.store8 (i32.const 1024) (i32.const 0))
             (i32.store (i32.const 1032) (local.get $payload))
             (i32.store (i32.const 1036) (local.get $payload-len))
             (return (i32.const 1024))",
        );
        let uploaded = node.upload("honest", echo).await;
        uploaded.unwrap_or_else(|error| panic!("{error}"));
        // Whatever is made once is made before memory is measured.
        node.neighbour().await;
        let base_bytes = node.dev.process.family_resident_bytes();
        Self { base_bytes, ..node }
    }

    async fn upload(&self, name: &str, bytes: Bytes) -> Result<(), tq_client::Error> {
        let component = Component::from_bytes(bytes)?;
        let upload = Upload {
            name: name.to_owned(),
            retry: RetryOverrides {
                max_attempts: Some(1),
                ..RetryOverrides::default()
            },
            ..Upload::default()
        };
        let uploaded = self.client.upload_module(component, upload, |_| {}).await;
        uploaded.map(drop)
    }

    async fn submit(&self, tasks: Vec<NewTask>) -> Watching {
        let submitted = self.client.submit(tasks).await;
        let submitted = submitted.unwrap_or_else(|error| panic!("{error}"));
        let ids = submitted.into_iter().map(|task| task.id).collect();
        self.client.watch(Watch::Ids(ids), true)
    }

    /// Runs tasks of the neighbour, each of which has to succeed with its own payload.
    async fn neighbour(&self) {
        let payloads: Vec<Bytes> = (0..NEIGHBOURS)
            .map(|n| Bytes::from(format!("honest {n}")))
            .collect();
        let task = |payload: &Bytes| NewTask {
            function: "honest".to_owned(),
            payload: payload.clone(),
            ..NewTask::default()
        };
        let mut ends = self.submit(payloads.iter().map(task).collect()).await;
        let mut results: Vec<Bytes> = all(&mut ends)
            .await
            .into_iter()
            .map(|task| {
                assert_eq!(task.outcome, "succeeded", "{task:?}");
                task.result.expect("it succeeded")
            })
            .collect();
        let mut expected = payloads;
        expected.sort();
        results.sort();
        assert_eq!(results, expected);
    }

    async fn check(&self, case: Case) {
        let Case {
            number,
            name,
            bytes,
            limited,
            end,
            ..
        } = case;
        let what = format!("{number} {name}");
        // Ones with a number too, because a name may be a word that modules cannot have.
        let module = format!("hostile-{number}-{}", name.replace('_', "-"));
        let uploaded = self.upload(&module, bytes).await;
        match end {
            End::Refused(reason) => {
                let error = match uploaded {
                    Ok(()) => panic!("{what} is accepted"),
                    Err(error) => error.to_string(),
                };
                assert!(error.contains(reason), "{what}: {error}");
                assert!(error.len() < 4096, "{what}: {} bytes", error.len());
                self.neighbour().await;
            }
            End::Outcome(outcome) => {
                uploaded.unwrap_or_else(|error| panic!("{what}: {error}"));
                let task = NewTask {
                    function: module.clone(),
                    payload: Bytes::from_static(b"to be copied into the guest"),
                    limits: Some(limited.limits()),
                    ..NewTask::default()
                };
                let mut ends = self.submit(vec![task]).await;
                let (ended, ()) = tokio::join!(all(&mut ends), self.neighbour());
                let ended = &ended[0];
                assert_eq!(ended.outcome, outcome, "{what}: {ended:?}");
                let failure = ended.attempts.last().and_then(|last| last.failure.as_ref());
                let said = failure.map_or(0, |failure| failure.message.len());
                assert!(said <= 4096, "{what}: {said} bytes of message");
            }
        }
        let most = self.base_bytes + GROWTH_BYTES_MAX;
        let held = || self.dev.process.family_resident_bytes();
        eventually(
            &format!("{what}: memory comes back to {most} bytes"),
            async || (held() <= most).then_some(()),
        )
        .await;
        let log = self.dev.process.log();
        assert!(!log.contains("panicked at"), "{what}: {log}");
        // A guest's bytes in the log of its node are data: nothing there may command a terminal.
        assert!(!log.contains("\x1b[2J"), "{what}: {log}");
    }
}

/// Waits for the ends of all that is watched.
async fn all(ends: &mut Watching) -> Vec<Task> {
    let mut ended = Vec::new();
    let next = async {
        while let Some(tasks) = ends.next().await.unwrap_or_else(|error| panic!("{error}")) {
            ended.extend(tasks);
        }
    };
    within("the ends of tasks", next).await;
    ended
}

/// Lets the whole corpus loose on one node, and prints what it held.
#[expect(
    clippy::print_stdout,
    reason = "counts and memory are for whoever runs it by itself"
)]
async fn corpus(isolation: &str) {
    let node = Node::start(&["--isolation", isolation]).await;
    let mut counts = BTreeMap::<Class, usize>::new();
    let mut highest = 0;
    let mut failed = Vec::new();
    for case in guests().into_iter().chain(uploads()) {
        *counts.entry(case.class).or_default() += 1;
        let what = format!("{} {}", case.number, case.name);
        // One that fails does not hide what the others do.
        let checked = AssertUnwindSafe(node.check(case)).catch_unwind().await;
        if checked.is_err() {
            failed.push(what);
        }
        highest = highest.max(node.dev.process.family_resident_bytes());
    }
    let counts: Vec<String> = counts
        .iter()
        .map(|(class, count)| format!("{count} {class}"))
        .collect();
    println!(
        "hostile corpus, isolation {isolation}: {}; resident {} KiB before, {} KiB at most after a case",
        counts.join(", "),
        node.base_bytes >> 10,
        highest >> 10,
    );
    node.dev.process.stop().await;
    assert!(failed.is_empty(), "failed: {}", failed.join(", "));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_case_has_its_end_and_harms_nobody_in_one_process() {
    corpus("none").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_case_has_its_end_and_harms_nobody_in_runner_processes() {
    corpus("process").await;
}
